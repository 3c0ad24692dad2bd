"""Vectors of anyone's own: one array (N, D) of numbers in a .npy, .npz, HDF5 or Parquet file, read by blocks of rows.

In Parquet it is a column of lists of one length. Pickled objects are never loaded.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.arrays import Array, native
from lookalike.datasets.hdf5 import Hdf5Array, datasets_of
from lookalike.datasets.hdf5_guard import guarded
from lookalike.datasets.numpy_arrays import NumpyArray, read_header, reading
from lookalike.errors import InputError, NotFoundError, unknown

HDF5 = (".h5", ".hdf5", ".he5")
ENDINGS = (".npy", ".npz", ".parquet", *HDF5)


@dataclass(frozen=True)
class ParquetVectors(Array):
    """A column of lists in a Parquet file."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Consecutive rows (n, D); InputError that names the first row whose list has another length, or is none."""
        from pyarrow import parquet

        row = 0
        with _parquet(self.path), parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=self.rows, columns=[self.member]):
                yield native(_rows(batch.column(0), self.shape[1], row, self.where))
                row += len(batch)


def open_vectors(path: Path, array: str | None = None) -> Array:
    """The vectors of a file, described by its header alone: shape (N, D), dtype, and blocks of rows.

    array : which one, where an .npz, HDF5 or Parquet file holds several. Errors: NotFoundError, and InputError for
    another ending, another shape, what is not numbers, or a file that is shorter than it says.
    """
    if not path.exists():
        raise NotFoundError(f"No such file: {path}")
    ending = path.suffix.lower()
    if path.is_dir() or ending not in ENDINGS:
        raise InputError(f"Vectors of your own come in {', '.join(ENDINGS)}, but {path} was given.")
    if array is not None and ending == ".npy":
        raise InputError(f"{path} holds one array, so --array {array} has nothing to choose; leave it out.")
    found: Array
    if ending == ".npy":
        found = _npy(path)
    elif ending == ".npz":
        found = _npz(path, array)
    elif ending == ".parquet":
        found = _parquet_column(path, array)
    else:
        found = _hdf5(path, array)
    _check(found)
    return found


def _check(array: Array) -> None:
    shape, dtype = array.shape, array.dtype
    if dtype.kind not in "fiu":
        raise InputError(f"Vectors are numbers (float16, float32, float64 or whole), but {array.where} holds {dtype}.")
    if len(shape) != 2:
        raise InputError(f"Vectors have the shape (N, D), but {array.where} is {shape}.")
    if 0 in shape:
        raise InputError(f"Vectors have the shape (N, D), but {array.where} is empty: {shape}.")


def _npy(path: Path) -> NumpyArray:
    with path.open("rb") as file:
        array = NumpyArray(path, None, *read_header(file, str(path)))
        held = path.stat().st_size - file.tell()
    if (needed := math.prod(array.shape) * array.dtype.itemsize) != held:
        raise InputError(f"{path} declares {needed:,} bytes of values, but holds {held:,}.", code="bad_file")
    return array


def _npz(path: Path, wanted: str | None) -> NumpyArray:
    found, names = {}, []
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                continue
            member = name.removesuffix(".npy")
            names.append(member)
            with reading(f"{path}[{member}]"), archive.open(name) as file:
                try:
                    found[member] = NumpyArray(path, member, *read_header(file, f"{path}[{member}]"))
                except InputError:  # one of several that cannot be read is no matter, unless it is asked for
                    if member == wanted:
                        raise
    name = _chosen(path, {name: array.shape for name, array in found.items()}, wanted, names)
    if found[name].fortran:
        raise InputError(f"{found[name].where} is saved in Fortran order; save np.ascontiguousarray of it.")
    return found[name]


def _hdf5(path: Path, wanted: str | None) -> Hdf5Array:
    with guarded(path) as file:
        held = datasets_of(file)
        name = _chosen(path, {name: data.shape for name, data in held.items()}, wanted, held)
        data = held[name]
        return Hdf5Array(path, name, data.shape, data.dtype, data.chunks[0] if data.chunks else 1)


def _chosen(path: Path, shapes: Mapping[str, tuple[int, ...]], wanted: str | None, names: Collection[str]) -> str:
    """The array that is asked for, else the only one of two dimensions."""
    if wanted is not None:
        if wanted not in shapes:
            raise unknown(f"array of {path}", wanted, names)
        return wanted
    flat = [name for name, shape in shapes.items() if len(shape) == 2]
    if len(flat) != 1:
        raise InputError(
            f"{path} needs just one array of the shape (N, D), or --array with the name of one; it holds: "
            f"{', '.join(names) or 'none'}."
        )
    return flat[0]


def _parquet_column(path: Path, wanted: str | None) -> ParquetVectors:
    from pyarrow import parquet, types

    with _parquet(path), parquet.ParquetFile(path) as file:
        schema, n = file.schema_arrow, file.metadata.num_rows
        lists = [
            field.name
            for field in schema
            if types.is_list(field.type) or types.is_large_list(field.type) or types.is_fixed_size_list(field.type)
        ]
        if wanted is not None and wanted not in schema.names:
            raise unknown(f"column of {path}", wanted, schema.names)
        chosen = [wanted] if wanted is not None else lists
        if len(chosen) != 1 or chosen[0] not in lists:
            raise InputError(
                f"{path} needs just one column of lists, or --array with the name of one; its columns of lists: "
                f"{', '.join(lists) or 'none'}."
            )
        name = chosen[0]
        dtype = np.dtype(schema.field(name).type.value_type.to_pandas_dtype())
        first = next(iter(file.iter_batches(batch_size=1, columns=[name])), None)
        length = 0 if first is None or first.column(0).null_count else len(first.column(0)[0])
    return ParquetVectors(path, name, (n, length), dtype)


def _rows(column: Any, length: int, first_row: int, where: str) -> NDArray[Any]:
    """A block of lists as an array (n, length)."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)  # (n,)
    odd = np.flatnonzero(lengths != length)
    if len(odd):
        found = int(lengths[odd[0]])
        held = "holds no list" if found < 0 else f"holds {found:,}"
        raise InputError(
            f"Vectors have one length, {length:,} in row 0 of {where}, but row {first_row + odd[0]:,} {held}."
        )
    # An undefined number is NaN, which is refused as such.
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values).reshape(len(column), length)


@contextmanager
def _parquet(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged Parquet file into an InputError that names it."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, NotImplementedError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as Parquet: {told}", code="bad_file") from None
