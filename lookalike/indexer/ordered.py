"""The vectors in the order of the window's column, and the lists that a build yields."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings_folder import Joined, release
from lookalike.errors import CorruptError, InputError
from lookalike.indexer.similarity import BLOCK_BYTES, Similarities, similarities
from lookalike.indexer.windows import Places

LENGTH_TOLERANCE = 0.01  # stored vectors are normalized, up to the rounding of float16

Vectors = NDArray[Any]  # (N, D) float32 or float16


@dataclass(frozen=True)
class Found:
    """The lists of one block: rows (q,), neighbor_row (q, k) padded with −1, similarity (q, k) padded with NaN."""

    rows: Places
    neighbor_row: Places
    similarity: Similarities
    exhaustive: int  # queries the fast search could not prove complete


class FileRows:
    """Rows of a mapped array read from its file instead: of what is mapped each row would count as memory, and the
    system maps up to some MiB around it. CorruptError where the file is another by now.
    """

    def __init__(self, mapped: np.memmap[Any, Any]) -> None:
        self._name = str(mapped.filename)
        self._file = os.open(self._name, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._offset, self._dtype, self._tail = mapped.offset, mapped.dtype, mapped.shape[1:]
        self.shape, self.ndim, self.dtype, self.itemsize = mapped.shape, mapped.ndim, mapped.dtype, mapped.itemsize
        self._width = mapped.itemsize * int(np.prod(self._tail))
        some = np.linspace(0, len(mapped) - 1, 3).astype(np.int64) if len(mapped) else np.empty(0, np.int64)
        if self[some].tobytes() != mapped[some].tobytes():
            raise CorruptError(f"{mapped.filename} was replaced while it was read; start again.")

    def __getitem__(self, rows: Places | slice) -> Vectors:
        """Vectors (s, D) as stored; rows that follow each other are read at once."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.shape[0]))
        out = np.empty((len(rows), *self._tail), self._dtype)
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for start, stop in zip([0, *ends], [*ends, len(rows)], strict=True):
            view = out[start:stop].data.cast("B") if stop > start else memoryview(b"")
            place = self._offset + int(rows[start]) * self._width if len(view) else 0
            while len(view):
                count = os.preadv(self._file, [view], place)
                if not count:
                    raise CorruptError(f"{self._name} was cut short while it was read; start again.")
                place, view = place + count, view[count:]
        return out


def rows_of(vectors: Any) -> Any:
    """What gives the rows of mapped vectors, in one file or in several, without mapping them; others themselves."""
    if isinstance(vectors, np.memmap):
        return FileRows(vectors)
    return vectors.read_by(rows_of) if isinstance(vectors, Joined) else vectors


def longest(vectors: Vectors) -> float:
    """An upper bound of all lengths; InputError names rows that are not normalized, zero or not finite."""
    most, step = 0.0, max(1, 2**17 // vectors.shape[1])  # a block that a processor holds close by
    for start in range(0, len(vectors), step):
        if start % (8 * step) == 0:
            release(vectors)
        block = vectors[start : start + step].astype(np.float64)
        length = np.sqrt(np.einsum("nd,nd->n", block, block))
        bad = np.flatnonzero(~(np.abs(length - 1) <= LENGTH_TOLERANCE))
        if len(bad):
            rows = ", ".join(str(start + row) for row in bad[:5]) + (", …" if len(bad) > 5 else "")
            raise InputError(f"Embeddings have length 1, but rows {rows} do not; write them with write_embeddings.")
        most = max(most, float(length.max(initial=0.0)))
    return most * (1 + 1e-9)


class Sorted:
    """The vectors in window order: a copy in memory where it fits, else read from the file as needed."""

    def __init__(self, vectors: Vectors, order: Places, memory_bytes: int) -> None:
        self.order = order
        self.dimensions, self.dtype = vectors.shape[1], vectors.dtype
        self._held: Vectors | None = None
        if not isinstance(vectors, np.memmap | Joined) and np.array_equal(order, np.arange(len(vectors))):
            self._held = vectors  # in memory already, and in order
        elif len(order) * vectors.shape[1] * vectors.itemsize <= memory_bytes:
            self._held = vectors[order]
        self._file: Any = rows_of(vectors)
        release(vectors)

    def run(self, start: int, stop: int) -> Vectors:
        """Vectors (stop − start, D) as contiguous float32."""
        rows = self._file[self.order[start:stop]] if self._held is None else self._held[start:stop]
        return np.ascontiguousarray(rows, dtype=np.float32)

    def at(self, places: Places) -> Vectors:
        """Vectors (s, D) at some places as contiguous float32."""
        rows = self._file[self.order[places]] if self._held is None else self._held[places]
        return np.ascontiguousarray(rows, dtype=np.float32)

    def canonical(self, places: Places, query: int) -> Similarities:
        """Canonical similarities of the vector at place `query` with those at `places`."""
        if self._held is not None:
            return similarities(self._held, places, self._held[query])
        own = self._file[self.order[query : query + 1]][0]
        step = max(1, BLOCK_BYTES // (4 * self.dimensions))
        found = [
            similarities(rows := self._file[self.order[places[start : start + step]]], np.arange(len(rows)), own)
            for start in range(0, len(places), step)
        ]
        return np.concatenate(found) if found else np.empty(0, np.float32)
