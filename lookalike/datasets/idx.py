"""idx files, the format of MNIST and its successors: pictures of one band in 8 bits, labels in a file of their own.

A file is two zero bytes, a type, the number of dimensions, each dimension as a big-endian 32-bit number, then the
values in row order (LeCun, Cortes & Burges); gzipped or not, by its first bytes. Files are read front to back.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.arrays import Array, check_array, ingest_arrays
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.pictures import GRAY, MAX_PIXELS
from lookalike.errors import InputError
from lookalike.files import existing_files, reading_order
from lookalike.samples import Column
from lookalike.wording import counted

GZIP = b"\x1f\x8b"
UBYTE = 0x08
TYPES = {0x08: "unsigned bytes", 0x09: "signed bytes", 0x0B: "16-bit", 0x0C: "32-bit", 0x0D: "floats", 0x0E: "doubles"}
MAX_DIMENSIONS = 4
LABEL = Column("", "class, as the labels file numbers it", "src.class")


@dataclass(frozen=True)
class IdxArray(Array):
    """The pictures of an idx file, (N, H, W) uint8."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        with _opened(self.path) as file:
            read_header(file, self.path)
            for start in range(0, self.shape[0], self.rows):
                count = min(self.rows, self.shape[0] - start)
                yield _values(file, self.path, count * self.row_bytes).reshape(count, *self.shape[1:])
            _check_end(file, self.path)


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every header, read the labels, then copy the pictures block by block."""
    if not files:
        raise InputError("At least one idx file of pictures is needed, none was given.")
    if options.labels and len(options.labels) != len(files):
        raise InputError(
            f"One --labels is needed for each file of pictures, in their order: {counted(len(files), 'file')}, "
            f"{len(options.labels)} of labels."
        )
    existing_files(files)
    if options.labels:
        existing_files(list(options.labels))
    labels = dict(zip(files, options.labels, strict=True)) if options.labels else {}
    arrays, columns = [], []
    for path in sorted(files, key=reading_order):
        arrays.append(_pictures(path, options))
        columns.append({"label": _labels(labels[path], arrays[-1])} if labels else {})
    ingest_arrays(arrays, columns, out, _one_band(options), ledger, source="idx files", known={"label": LABEL})


def _one_band(options: Options) -> Options:
    """The options with the one band named that idx files hold."""
    return replace(options, bands=options.bands or GRAY)


def _pictures(path: Path, options: Options) -> IdxArray:
    with _opened(path) as file:
        shape = read_header(file, path)
    if len(shape) != 3:
        what = " It looks like a file of labels, which --labels takes." if len(shape) == 1 else ""
        raise InputError(f"Pictures in idx files have the dimensions (N, H, W), but {path} has {shape}.{what}")
    if math.prod(shape[1:]) > MAX_PIXELS:
        raise InputError(f"{path} declares pictures of {shape[2]} × {shape[1]} px, more than {MAX_PIXELS:,} pixels.")
    _check_length(path, shape)
    array = IdxArray(path, None, shape, np.dtype(np.uint8))
    check_array(array, _one_band(options))
    return array


def _labels(path: Path, pictures: Array) -> NDArray[np.int64]:
    """The labels (N,) of as many pictures."""
    with _opened(path) as file:
        shape = read_header(file, path)
        if len(shape) != 1:
            raise InputError(f"Labels in idx files have the dimension (N,), but {path} has {shape}.")
        if shape[0] != pictures.shape[0]:
            raise InputError(
                f"{path} holds {counted(shape[0], 'label')}, but {pictures.where} holds "
                f"{counted(pictures.shape[0], 'picture')}."
            )
        values = _values(file, path, shape[0])
        _check_end(file, path)
    return values.astype(np.int64)


def read_header(file: IO[bytes], path: Path) -> tuple[int, ...]:
    """The dimensions of an idx file of unsigned bytes, leaving `file` at its first value."""
    start = _read(file, path, 4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        raise InputError(
            f"{path} is not an idx file: it begins with {start.hex(' ') or 'nothing'}, where 00 00 08 and the number "
            "of dimensions are expected.",
            code="bad_file",
        )
    if start[2] != UBYTE:
        raise InputError(f"{path} holds {TYPES[start[2]]} (type {start[2]:#04x}); unsigned bytes (0x08) are read.")
    if not 1 <= start[3] <= MAX_DIMENSIONS:
        raise InputError(f"{path} is not an idx file: it declares {start[3]} dimensions.", code="bad_file")
    sizes = _read(file, path, 4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise InputError(f"{path} ends within its header.", code="bad_file")
    return tuple(int(size) for size in np.frombuffer(sizes, ">u4"))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where it is gzipped."""
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as file:
            yield file  # type: ignore[misc]  # it reads like any other


def _read(file: IO[bytes], path: Path, count: int) -> bytes:
    """Up to so many bytes; InputError where they cannot be unpacked."""
    try:
        return file.read(count)
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path} cannot be unpacked: {error}", code="bad_file") from None


def _values(file: IO[bytes], path: Path, count: int) -> NDArray[np.uint8]:
    data = _read(file, path, count)
    if len(data) != count:
        raise InputError(f"{path} ends before the last of the values that its header declares.", code="bad_file")
    return np.frombuffer(data, np.uint8)


def _check_length(path: Path, shape: Sequence[int]) -> None:
    """InputError at once where a file that is not gzipped is too short or too long; the other shows when it is read."""
    with path.open("rb") as raw:
        if raw.read(2) == GZIP:
            return
    declared, held = math.prod(shape), path.stat().st_size - 4 - 4 * len(shape)
    if declared != held:
        raise InputError(f"{path} declares {declared:,} bytes of values, but holds {held:,}.", code="bad_file")


def _check_end(file: IO[bytes], path: Path) -> None:
    if _read(file, path, 1):
        raise InputError(f"{path} goes on after the last of the values that its header declares.", code="bad_file")
