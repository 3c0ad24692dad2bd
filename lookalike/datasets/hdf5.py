"""Pictures in HDF5: one data set (N, C, H, W), with the file's other data sets of N values as columns.

What arrays may be, and how they are stored: `arrays`. Files are opened through `hdf5_guard`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.arrays import MEMBER, Array, Columns, check_array, ingest_arrays, native, read_each
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.hdf5_guard import guarded, is_plain
from lookalike.datasets.lost_numbers import note_lost_numbers
from lookalike.datasets.table import plain_values
from lookalike.errors import InputError, unknown

LONGEST_TEXT = 1024  # characters of a text value


@dataclass(frozen=True)
class Hdf5Array(Array):
    """A data set of an HDF5 file; `chunk` is how many rows are stored together."""

    chunk: int

    def blocks(self) -> Iterator[NDArray[Any]]:
        rows = max(self.chunk, self.rows // self.chunk * self.chunk)  # whole chunks, so that none is read twice
        with guarded(self.path) as file:
            for start in range(0, self.shape[0], rows):
                with _reading(self.path):
                    block = np.asarray(file[self.member or ""][start : start + rows])
                yield native(block)


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every file's data sets, then copy block by block."""

    def read(path: Path) -> tuple[Array, Columns]:
        with guarded(path) as file:
            array = _array(path, file, options)
            return array, _columns(file, array, ledger)

    ingest_arrays(*read_each(files, ledger, read), out, options, ledger, source="HDF5 arrays")


def _array(path: Path, file: h5py.File, options: Options) -> Hdf5Array:
    """The data set that is asked for, else the one named `images`, else the only one of four dimensions."""
    held = datasets_of(file)
    if options.array is not None and options.array not in held:
        raise unknown(f"data set of {path}", options.array, held)
    chosen = options.array or MEMBER
    names = [chosen] if chosen in held else [name for name, data in held.items() if len(data.shape) == 4]
    if len(names) != 1:
        raise InputError(
            f"{path} needs a data set named {MEMBER!r}, or just one of four dimensions, or --array with the name of "
            f"one; it holds: {', '.join(held) or 'none'}."
        )
    data = held[names[0]]
    array = Hdf5Array(path, names[0], data.shape, data.dtype, data.chunks[0] if data.chunks else 1)
    check_array(array, options)
    return array


def datasets_of(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every data set that is an array, by its path within the file."""
    found: dict[str, h5py.Dataset] = {}

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found[name] = item

    file.visititems(look)
    return found


def _columns(file: h5py.File, array: Hdf5Array, ledger: Ledger) -> Columns:
    """Other data sets (N,) or (N, 1) beside the pictures, as columns."""
    found: Columns = {}
    for name, data in datasets_of(file).items():
        if name == array.member:
            continue
        plain = None
        if is_plain(data.dtype) and data.shape in ((array.shape[0],), (array.shape[0], 1)):
            with _reading(array.path):
                plain = plain_values(_values(data).reshape(-1))
        column = name.rpartition("/")[2]
        if plain is None or column in found:
            reason = "its name is taken" if plain is not None else f"it is no column of {array.shape[0]:,} values"
            ledger.note(f"Data set {name!r} of {array.path.name} is left out: {reason}.")
            continue
        note_lost_numbers(column, plain, array.path.name, ledger)
        found[column] = plain
    return found


def _values(data: h5py.Dataset) -> NDArray[Any]:
    if h5py.check_string_dtype(data.dtype) is None:
        return np.asarray(data[:])
    texts = data.asstr("utf-8", "replace")[:]
    longest = max((len(text) for text in texts.flat), default=0)
    if longest > LONGEST_TEXT:
        raise InputError(f"{data.file.filename}: {data.name} holds a text of {longest:,} characters.", code="bad_file")
    return np.asarray(texts).astype(str)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises on a damaged file into an InputError that names it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise InputError(f"{path} cannot be read: {error}", code="bad_file") from None
