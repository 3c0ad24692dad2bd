"""The lists of a set of objects that grew or shrank, from those it had before.

An old list stays as it is but for three things: rows are renumbered; a new object enters where it beats the last
neighbor; and a list that lost neighbors, or is to be longer, is searched anew unless it held every candidate there
was. Lists are exact at every step, so the result is that of a full build.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.keys import END, Keys, entries_of, keys_of
from lookalike.indexer.lists_file import ListWriter
from lookalike.indexer.ordered import FileRows, Sorted
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.some_against_all import FULL, SomeAgainstAll, Tile
from lookalike.indexer.store import Index
from lookalike.indexer.windows import Places, Ranges

Mapped = np.memmap[Any, Any]


@dataclass(frozen=True)
class Change:
    """Which rows there were and are.

    now : (N_old,) the row each old object has now, −1 for one that left; kept ones stay in order. added : (n,) rows of
    the new objects.
    """

    now: Places
    added: Places


class ChangedLists:
    """The lists of the new set while they are made.

    worst : (M,) the last key of the list at each place, END where it is not full.
    """

    def __init__(self, near: Sorted, ranges: Ranges, k: int, writer: ListWriter, memory_bytes: int) -> None:
        self.near, self.ranges, self.k, self.writer, self.memory_bytes = near, ranges, k, writer, memory_bytes
        n = writer.n
        self.place = np.full(n, -1, np.int64)  # of each row in the window's order
        self.place[ranges.order] = np.arange(len(ranges.order))
        self.worst: Keys = np.full(len(ranges.order), END)
        self.entered = np.zeros(n, np.bool_)  # lists that a new object entered

    def carry_over(self, index: Index, change: Change, before: Places) -> Places:
        """Copy what the old lists tell, renumbered; returns the places whose lists are to be searched.

        before : (N_old,) how many candidates each old object had. The files of the index were just found intact, so
        that its lists are not checked one by one.
        """
        anew = [change.added]
        neighbor_row, similarity = (FileRows(cast(Mapped, one)) for one in (index.neighbor_row, index.similarity))
        step = max(1, self.memory_bytes // 8 // (32 * (index.k + self.k)))
        for start in range(0, index.n, step):
            kept = start + np.flatnonzero(change.now[start : start + step] >= 0)
            stored = neighbor_row[kept]  # (r, k_old)
            rows = np.where(stored < 0, -1, change.now[stored])
            length = (rows >= 0).sum(axis=1)
            had = (stored >= 0).sum(axis=1)
            done = (had == before[kept]) | (length >= self.k)  # they held every candidate there was, or enough
            anew.append(change.now[kept[~done]])
            self._put(change.now[kept[done]], *_closed_up(rows[done], similarity[kept[done]], length[done] < had[done]))
        changed = np.concatenate(anew)
        placed = self.place[changed] >= 0
        without = changed[~placed]  # they have no window value, and so no neighbors
        for start in range(0, len(without), step):
            part = without[start : start + step]
            self._put(part, np.empty((len(part), 0), np.int64), np.empty((len(part), 0), np.float32))
        return np.sort(self.place[changed[placed]])

    def _put(self, rows: Places, neighbor_row: Places, similarity: Similarities) -> None:
        """Write the lists (r, …) of some rows, cut or padded to k."""
        width = min(self.k, neighbor_row.shape[1])
        if width < self.k:
            padding = ((0, 0), (0, self.k - width))
            neighbor_row = np.pad(neighbor_row, padding, constant_values=-1)
            similarity = np.pad(similarity, padding, constant_values=np.nan)
        self.writer.write(rows, neighbor_row[:, : self.k], similarity[:, : self.k])
        place = self.place[rows]
        self.worst[place[place >= 0]] = keys_of(neighbor_row[:, self.k - 1], similarity[:, self.k - 1])[place >= 0]

    def search(self, which: Places, added: Places, length: float, advance: Callable[[int], None]) -> int:
        """Search the lists of places `which` among all, and let the `added` rows into the others; products made."""
        new = np.zeros(len(self.place), np.bool_)
        new[added] = True
        is_new = new[self.ranges.order]  # (M,)
        self.worst[which] = FULL  # they meet the new ones in their own search
        some = SomeAgainstAll(self.near, self.ranges, self.k, length, self.memory_bytes)
        entrants, lock = _Entrants(self.memory_bytes // 8, self._merge), threading.Lock()

        def meet(tile: Tile) -> None:
            mine = np.flatnonzero(is_new[tile.own])
            if len(mine):
                found = some.entrants(tile, mine, self.worst[tile.start : tile.stop].copy())
                with lock:
                    entrants.add(*found)

        for found in some.lists(which, meet):
            self.writer.write(found.rows, found.neighbor_row, found.similarity)
            advance(len(found.rows))
        entrants.flush()
        return some.scored

    def _merge(self, places: Places, keys: Keys) -> None:
        """Add keys (e,) to the lists of places (e,), of which one may be named several times."""
        rows = self.ranges.order[places]
        order = np.lexsort((keys, rows))
        rows, keys = rows[order], keys[order]
        named, first, count = np.unique(rows, return_index=True, return_counts=True)
        self.entered[named] = True
        most = int(count.max(initial=0))
        step = max(1, self.memory_bytes // 8 // (24 * (self.k + most)))
        for start in range(0, len(named), step):
            part = named[start : start + step]
            fresh = np.full((len(part), most), END)
            for column in range(most):
                has = count[start : start + step] > column
                fresh[has, column] = keys[first[start : start + step][has] + column]
            stored = keys_of(*self.writer.lists(part))
            merged = np.sort(np.concatenate([stored, fresh], axis=1), axis=1)
            self._put(part, *entries_of(merged[:, : self.k]))


class _Entrants:
    """What is to be added to stored lists, held up to so many bytes: a list that many enter is then written once."""

    def __init__(self, most_bytes: int, merge: Callable[[Places, Keys], None]) -> None:
        self._most, self._merge, self._held = most_bytes // 64, merge, 0  # an entry is sorted and copied
        self._parts: list[tuple[Places, Keys]] = []

    def add(self, places: Places, keys: Keys) -> None:
        """Hold places and keys (e,), and merge all that is held where it is too much."""
        self._parts.append((places, keys))
        self._held += len(keys)
        if self._held > self._most:
            self.flush()

    def flush(self) -> None:
        """Merge what is held."""
        if self._held:
            self._merge(*(np.concatenate(part) for part in zip(*self._parts, strict=True)))
        self._parts, self._held = [], 0


def _closed_up(rows: Places, similarity: Similarities, gaps: NDArray[np.bool_]) -> tuple[Places, Similarities]:
    """Lists (r, k) whose neighbors that left, −1 among others, are moved behind their ends; gaps : (r,) which have any.

    What is left stays in its order: renumbering keeps that of rows, and with it that of equal similarities.
    """
    order = np.argsort(rows[gaps] < 0, axis=1, kind="stable")
    rows[gaps] = np.take_along_axis(rows[gaps], order, axis=1)
    similarity[gaps] = np.take_along_axis(similarity[gaps], order, axis=1)
    similarity[rows < 0] = np.nan
    return rows, similarity
