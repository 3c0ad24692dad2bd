"""NumPy arrays: .npy files, or one array of an .npz file, with its other arrays of N values as columns.

Pickled objects are never loaded. What arrays may be, and how they are stored: `arrays`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.arrays import MEMBER, Array, Columns, check_array, ingest_arrays, native, read_each
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.lost_numbers import note_lost_numbers
from lookalike.datasets.table import plain_values
from lookalike.errors import InputError, unknown

MAGIC = b"\x93NUMPY"
SMALL_MEMBER = 256 * 1024**2  # bytes of another array of an .npz file


@dataclass(frozen=True)
class NumpyArray(Array):
    """An array of a .npy file, or a member of an .npz file."""

    fortran: bool

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Consecutive rows (n, …) in native byte order, read rather than mapped: pages of a map count as memory held.

        In Fortran order a row's values lie all over the file, so that there nothing but a map will do.
        """
        if self.fortran:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            for start in range(0, len(mapped), self.rows):
                yield native(np.ascontiguousarray(mapped[start : start + self.rows]))
            return
        with ExitStack() as stack:
            with reading(self.where):
                file = stack.enter_context(self._opened(stack))
                read_header(file, self.where)
            for start in range(0, self.shape[0], self.rows):
                count = min(self.rows, self.shape[0] - start)
                with reading(self.where):
                    data = file.read(count * self.row_bytes)
                if len(data) != count * self.row_bytes:
                    raise InputError(f"{self.where} ends before its last row.", code="bad_file")
                yield native(np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:]))

    def _opened(self, stack: ExitStack) -> IO[bytes]:
        if self.member is None:
            return self.path.open("rb")
        return stack.enter_context(zipfile.ZipFile(self.path)).open(f"{self.member}.npy")


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every array's header, then copy block by block."""

    def read(path: Path) -> tuple[Array, Columns]:
        array = _array(path, options)
        return array, _columns(path, array, ledger)

    ingest_arrays(*read_each(files, ledger, read), out, options, ledger, source="NumPy arrays")


def _array(path: Path, options: Options) -> NumpyArray:
    if path.suffix.lower() == ".npz":
        array = _npz_array(path, options.array)
    elif path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            array = NumpyArray(path, None, *read_header(file, str(path)))
            length = path.stat().st_size - file.tell()
            needed = math.prod(array.shape) * array.dtype.itemsize
        if needed != length:
            raise InputError(f"{path} declares {needed:,} bytes of values, but holds {length:,}.", code="bad_file")
    else:
        raise InputError(f"Arrays come in .npy or .npz files, but {path} was given.")
    check_array(array, options)
    return array


def _npz_array(path: Path, wanted: str | None) -> NumpyArray:
    """The array that is asked for, else the one named `images`, else the only one of four dimensions."""
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        arrays = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        if wanted is not None and wanted not in arrays:
            raise unknown(f"array of {path}", wanted, arrays)
        chosen = wanted or MEMBER
        found = {}
        for member, name in arrays.items():
            if member == chosen or chosen not in arrays:
                try:
                    with reading(f"{path}[{member}]"), archive.open(name) as file:
                        shape, dtype, fortran = read_header(file, f"{path}[{member}]")
                except InputError:
                    if member == chosen:
                        raise
                    continue
                if member == chosen or len(shape) == 4:
                    found[member] = NumpyArray(path, member, shape, dtype, fortran)
    if len(found) != 1:
        raise InputError(
            f"{path} needs an array named {MEMBER!r}, or just one of four dimensions, or --array with the name of one; "
            f"it holds: {', '.join(arrays) or 'none'}."
        )
    array = next(iter(found.values()))
    if array.fortran and math.prod(array.shape) > 0:
        raise InputError(f"{array.where} is saved in Fortran order; save np.ascontiguousarray of it.")
    return array


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a damaged .npz file makes zipfile and its decoders raise into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # zlib, lzma, struct, header and text errors among them
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} cannot be read as .npz: {text}", code="bad_file") from None


def read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, dtype and whether Fortran order of an array in .npy format, leaving `file` at its first value."""
    begin = file.read(len(MAGIC))
    if begin != MAGIC:
        raise InputError(
            f"{where} is not a NumPy array: it does not begin as the .npy files of numpy.save do.", code="bad_file"
        )
    try:
        version = (file.read(1)[0], file.read(1)[0])
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # the header is a Python literal, and what it is read from may be damaged
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{where} is not a NumPy array: {text}", code="bad_file") from None
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled objects, which are never loaded.", code="bad_file")
    if any(side < 0 for side in shape):
        raise InputError(f"{where} has the impossible shape {shape}.", code="bad_file")
    return shape, dtype, fortran


def _columns(path: Path, array: NumpyArray, ledger: Ledger) -> Columns:
    """Other arrays (N,) or (N, 1) of an .npz file, as catalog columns."""
    if array.member is None:
        return {}
    found = {}
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            member = name.removesuffix(".npy")
            if member == array.member or archive.getinfo(name).file_size > SMALL_MEMBER:
                continue
            try:
                with reading(f"{path}[{member}]"), archive.open(name) as file:
                    shape, dtype, _ = read_header(file, f"{path}[{member}]")
                    one_each = shape in ((array.shape[0],), (array.shape[0], 1))
                    values = file.read(math.prod(shape) * dtype.itemsize) if one_each else None
            except InputError:
                values = None
            plain = None
            if values is not None and len(values) == math.prod(shape) * dtype.itemsize:
                plain = plain_values(np.frombuffer(values, dtype)) if dtype.kind in "fiubSU" else None
            if plain is None:
                ledger.note(
                    f"Array {member!r} of {path.name} is left out: it is no column of {array.shape[0]:,} values."
                )
            else:
                column = member.rpartition("/")[2]
                if not column or column in found:
                    ledger.note(f"Array {member!r} of {path.name} is left out: its name is taken.")
                    continue
                note_lost_numbers(column, plain, path.name, ledger)
                found[column] = plain
    return found
