"""neighbors.h5: the lists as contiguous arrays, and a checksum of each that is looked at where a list is read.

It is an HDF5 file whose data lie at known places. All its space is taken at the beginning and its header never
changes, so a process that is killed leaves a readable file, in which only lists are missing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import set_texts
from lookalike.config import Config
from lookalike.hashing import ArrayHash
from lookalike.progress import progress

KIND = "lookalike index"
SCHEMA = 2  # of neighbors.h5 and the manifest; 1 had no checksums
ARRAYS = ("neighbor_row", "similarity")  # what the content hash is of
CHECK = "check"
NEIGHBORS = "neighbors.h5"
BLOCK_BYTES = 2**22  # read at once

Rows = NDArray[np.integer]  # (q,)


class StoredArray(Config):
    """One array of neighbors.h5: where it lies and the SHA-256 of its little-endian bytes in row order."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    sha256: str


def checksums(rows: Rows, neighbor_row: NDArray[np.integer], similarity: NDArray[np.float32]) -> NDArray[np.uint32]:
    """CRC-32 (q,) of the stored bytes of some lists (q, k), which are contiguous.

    Each begins with the row of its list, so that a list in another's place is noticed too.
    """
    if not len(rows):
        return np.empty(0, np.uint32)
    first, second = neighbor_row.data.cast("B"), similarity.data.cast("B")
    a, b = neighbor_row[0].nbytes, similarity[0].nbytes
    begun = (
        zlib.crc32(first[place * a : (place + 1) * a], row) for place, row in enumerate((rows & 0xFFFFFFFF).tolist())
    )
    whole = (zlib.crc32(second[place * b : (place + 1) * b], check) for place, check in enumerate(begun))
    return np.fromiter(whole, np.uint32, len(rows))


def row_type(n: int) -> np.dtype[np.signedinteger]:
    """How rows of n objects are stored."""
    return np.dtype("<i4") if n < 2**31 else np.dtype("<i8")


def file_bytes(n: int, k: int) -> int:
    """About how large neighbors.h5 of n objects with k neighbors is."""
    return n * (k * (row_type(n).itemsize + 4) + 4) + 2**14


class ListWriter:
    """neighbors.h5 while it is written: all arrays at their full size, filled by rows in any order.

    `path` is made, or gone on with where it is there. OSError where the disk is full, before anything is computed.
    """

    def __init__(self, path: Path, n: int, k: int) -> None:
        self.n, self.k = n, k
        self._types = {"neighbor_row": row_type(n), "similarity": np.dtype("<f4"), CHECK: np.dtype("<u4")}
        if not path.exists():
            self._make(path)
        with h5py.File(path, "r", locking=False) as file:
            self._places = {name: file[name].id.get_offset() for name in self._types}
            shapes = {name: file[name].shape for name in self._types}
        if shapes != self._shapes():
            msg = f"{path} is of {shapes}, not of {self._shapes()}"
            raise ValueError(msg)
        self._file = os.open(path, os.O_RDWR)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: (self.n, self.k) if name in ARRAYS else (self.n,) for name in self._types}

    def _make(self, path: Path) -> None:
        # Page-aligned, so that the arrays map; what is never read before it is written needs no fill value.
        with h5py.File(path, "w", alignment_threshold=1, alignment_interval=4096) as file:
            for name, shape in self._shapes().items():
                early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                file.create_dataset(name, shape, self._types[name], dcpl=early)
            file.attrs["schema"] = SCHEMA
            set_texts(file, {"kind": KIND})
        if hasattr(os, "posix_fallocate"):  # elsewhere a full disk shows while lists are written
            with path.open("r+b") as plain:
                os.posix_fallocate(plain.fileno(), 0, path.stat().st_size)

    def write(self, rows: Rows, neighbor_row: NDArray[np.integer], similarity: NDArray[np.float32]) -> None:
        """Store the lists (q, k) of some rows (q,), −1 and NaN where one has ended, and their checksums."""
        neighbor_row = np.ascontiguousarray(neighbor_row, self._types["neighbor_row"])
        similarity = np.ascontiguousarray(similarity, self._types["similarity"])
        check = checksums(rows, neighbor_row, similarity).astype("<u4", copy=False)
        for run in _runs(rows):
            self._put("neighbor_row", int(rows[run.start]), neighbor_row[run])
            self._put("similarity", int(rows[run.start]), similarity[run])
            self._put(CHECK, int(rows[run.start]), check[run])

    def _put(self, name: str, row: int, data: NDArray[np.generic]) -> None:
        place, left = self._places[name] + row * data[0].nbytes, data.data.cast("B")
        while left:  # a write may be cut short
            written = os.pwrite(self._file, left, place)
            place, left = place + written, left[written:]

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows start..stop of an array, read rather than mapped: what is mapped counts as this process's memory."""
        shape = (stop - start, *self._shapes()[name][1:])
        out = np.empty(shape, self._types[name])
        width = out.nbytes // max(1, stop - start)
        view, place = out.data.cast("B"), self._places[name] + start * width
        while view:
            count = os.preadv(self._file, [view], place)
            if not count:
                msg = "neighbors.h5 ends before its arrays do"
                raise ValueError(msg)
            place, view = place + count, view[count:]
        return out

    def lists(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The lists (q, k) of some rows (q,) as `write` stored them."""
        neighbor_row, similarity = np.empty((len(rows), self.k), np.int64), np.empty((len(rows), self.k), np.float32)
        for run in _runs(rows):
            start, stop = int(rows[run.start]), int(rows[run.stop - 1]) + 1
            neighbor_row[run], similarity[run] = (self.read(name, start, stop) for name in ARRAYS)
        return neighbor_row, similarity

    def runs(self) -> Iterator[tuple[int, int]]:
        """All rows in runs of bounded size."""
        step = max(1, BLOCK_BYTES // (self.k * 4))
        for start in range(0, self.n, step):
            yield start, min(start + step, self.n)

    def checks(self) -> NDArray[np.uint32]:
        """The stored checksums (N,)."""
        return self.read(CHECK, 0, self.n).astype(np.uint32)

    def damaged(self, *, quiet: bool = True) -> NDArray[np.int64]:
        """The rows whose lists are not those that their checksums are of."""
        found = []
        with progress("check", self.n, "lists", quiet=quiet) as advance:
            for start, stop in self.runs():
                found.append(start + self._damaged(start, stop))
                advance(stop - start)
        return np.concatenate(found)

    def _damaged(self, start: int, stop: int) -> NDArray[np.int64]:
        lists = (self.read("neighbor_row", start, stop), self.read("similarity", start, stop))
        return np.flatnonzero(self.read(CHECK, start, stop) != checksums(np.arange(start, stop), *lists))

    def lengths(self) -> NDArray[np.int64]:
        """How many neighbors each list holds (N,)."""
        found = [(self.read("neighbor_row", start, stop) >= 0).sum(axis=1) for start, stop in self.runs()]
        return np.concatenate(found).astype(np.int64)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file)

    def close(self) -> tuple[dict[str, StoredArray], dict[str, ArrayHash]]:
        """Bring everything to the disk, describe all arrays, and hash those that the content hash is of."""
        self.sync()
        stored, hashes = {}, {}
        for name, shape in self._shapes().items():
            hashes[name] = ArrayHash()
            for start, stop in self.runs():
                hashes[name].update(self.read(name, start, stop))
            digest = hashes[name].line(name).rsplit(" ", 1)[1]
            kind = self._types[name].str
            stored[name] = StoredArray(dtype=kind, shape=shape, offset=self._places[name], sha256=digest)
        self.__exit__()
        return stored, {name: hashes[name] for name in ARRAYS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file as it is."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _runs(rows: Rows) -> Iterator[slice]:
    """Where rows (q,) follow each other, which are written or read at once: without a window all do."""
    if len(rows):
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        yield from map(slice, [0, *ends.tolist()], [*ends.tolist(), len(rows)])
