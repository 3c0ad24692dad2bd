"""The lists of a set of objects that grew or shrank, from those it had before.

An old list stays as it is but for three things: rows are renumbered; a new object enters where it beats the last
neighbor; and a list that lost neighbors, or is to be longer, is searched anew unless it held every candidate there
was. Lists are exact at every step, so the result is that of a full build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.keys import END, Keys, entries_of, keys_of
from lookalike.indexer.lists_file import ListWriter
from lookalike.indexer.ordered import Sorted
from lookalike.indexer.some_against_all import SomeAgainstAll, Tile, settled
from lookalike.indexer.store import Index
from lookalike.indexer.windows import Places, Ranges

OPEN = -4.0  # below every similarity: a list that is not full takes anything


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

    before : how many candidates each old object had, (N_old,). worst : (M,) the last key of the list at each place.
    """

    def __init__(self, near: Sorted, ranges: Ranges, k: int, writer: ListWriter, memory_bytes: int) -> None:
        self.near, self.ranges, self.k, self.writer, self.memory_bytes = near, ranges, k, writer, memory_bytes
        n = writer.n
        self.place = np.full(n, -1, np.int64)  # of each row in the window's order
        self.place[ranges.order] = np.arange(len(ranges.order))
        self.worst: Keys = np.full(len(ranges.order), END)
        self.entered = np.zeros(n, np.bool_)  # lists that a new object entered

    def carry_over(self, index: Index, change: Change, before: Places) -> Places:
        """Copy what the old lists tell, renumbered; returns the places whose lists are to be searched."""
        anew = [change.added]
        step = max(1, self.memory_bytes // 8 // (32 * (index.k + self.k)))
        for start in range(0, index.n, step):
            kept = start + np.flatnonzero(change.now[start : start + step] >= 0)
            stored, similarity = index.checked(kept)  # (r, k_old) each
            stored = stored.astype(np.int64)
            rows = np.where(stored < 0, -1, change.now[stored])
            keys = np.sort(keys_of(rows, similarity), axis=1)
            length = (keys != END).sum(axis=1)
            whole = (stored >= 0).sum(axis=1) == before[kept]  # they held every candidate
            done = whole | (length >= self.k)
            anew.append(change.now[kept[~done]])
            self._put(change.now[kept[done]], keys[done])
        changed = np.concatenate(anew)
        placed = self.place[changed] >= 0
        without = changed[~placed]  # they have no window value, and so no neighbors
        for start in range(0, len(without), step):
            part = without[start : start + step]
            self._put(part, np.empty((len(part), 0), np.uint64))
        return np.sort(self.place[changed[placed]])

    def _put(self, rows: Places, keys: Keys) -> None:
        """Write lists (r, …) from their sorted keys, cut or padded to k."""
        out = np.full((len(rows), self.k), END)
        width = min(self.k, keys.shape[1])
        out[:, :width] = keys[:, :width]
        self.writer.write(rows, *entries_of(out))
        place = self.place[rows]
        self.worst[place[place >= 0]] = out[place >= 0, -1]

    def search(self, which: Places, added: Places, length: float, advance: Callable[[int], None]) -> int:
        """Search the lists of places `which` among all, and let the `added` rows into the others; products made."""
        new = np.zeros(len(self.place), np.bool_)
        new[added] = True
        is_new = new[self.ranges.order]  # (M,)
        others = np.ones(len(self.worst), np.bool_)
        others[which] = False  # they meet the new ones in their own search

        def meet(tile: Tile) -> None:
            mine = np.flatnonzero(is_new[tile.own])
            if len(mine):
                self._enter(tile, mine, others[tile.start : tile.start + tile.score.shape[1]])

        some = SomeAgainstAll(self.near, self.ranges, self.k, length, self.memory_bytes)
        for found in some.lists(which, meet):
            self.writer.write(found.rows, found.neighbor_row, found.similarity)
            advance(len(found.rows))
        return some.scored

    def _enter(self, tile: Tile, mine: Places, others: NDArray[np.bool_]) -> None:
        """Let the new objects among a tile's queries into the lists of its candidates."""
        until = tile.start + tile.score.shape[1]
        worst = self.worst[tile.start : until]  # (c,)
        last = np.where(worst == END, np.float32(OPEN), entries_of(worst)[1]).astype(np.float64)
        limit = np.where(others, last - tile.error, np.inf)
        rows, keys = [], []
        for q in mine:
            chosen = np.flatnonzero(tile.score[q] >= limit)  # float32 to float64 is exact
            if not len(chosen):
                continue
            key = keys_of(np.full(len(chosen), self.near.order[tile.own[q]]), settled(self.near, tile, q, chosen))
            better = key < worst[chosen]
            rows.append(self.near.order[tile.start + chosen[better]])
            keys.append(key[better])
        if rows:
            self._merge(np.concatenate(rows), np.concatenate(keys))

    def _merge(self, rows: Places, keys: Keys) -> None:
        """Add keys (e,) to the lists of rows (e,), of which one may be named several times."""
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
            self._put(part, np.sort(np.concatenate([stored, fresh], axis=1), axis=1))
