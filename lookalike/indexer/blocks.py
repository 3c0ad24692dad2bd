"""Exact neighbors by devices that find the k nearest ones to a block of queries, as faiss does on a GPU.

Queries go in order of the window's column, so a block of them shares most of its candidates: that interior is searched,
of the edges each query sees its own part. Devices may round (devices.py has the proven bound): every candidate that
lies within the bound of the k-th best is ranked by its canonical similarity, (−similarity, row). Where that cannot
prove that no better one was left out, all candidates of the query are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError
from lookalike.indexer.devices import Device, DeviceError
from lookalike.indexer.keys import END, entries_of, keys_of
from lookalike.indexer.ordered import Found, Sorted, Vectors
from lookalike.indexer.pairs import PairBuilder, Standing
from lookalike.indexer.pairs_native import settle
from lookalike.indexer.shares import Candidates, Shares
from lookalike.indexer.similarity import SAFETY, U64, Similarities, gamma
from lookalike.indexer.windows import Places, Ranges
from lookalike.parallel import in_parts, processors
from lookalike.wording import counted

MARGIN = 32  # neighbors looked for beyond k, at least
MOST_QUERIES = 1024  # per block: more only widens the edges

Block = tuple[int, int]  # places from the first to before the second


class _Best:
    """The running best of a block of queries: scores (q, width) and their places, in no order.

    left : (q,) what was left out scores at most this.
    """

    def __init__(self, queries: int, width: int) -> None:
        self.width = width
        self.score = np.full((queries, 0), -np.inf, np.float32)
        self.place = np.zeros((queries, 0), np.int64)
        self.left = np.full(queries, -np.inf, np.float32)

    def add(self, found: Candidates, own: Places) -> None:
        """Merge candidates (q, n), except the queries themselves, at the places `own` (q,)."""
        score, place, left = found
        score = np.concatenate([self.score, np.where(place == own[:, None], np.float32(-np.inf), score)], axis=1)
        place = np.concatenate([self.place, place], axis=1)
        self.left = np.maximum(self.left, left)
        if score.shape[1] > self.width:
            order = np.argpartition(-score, self.width - 1, axis=1)
            keep, rest = order[:, : self.width], order[:, self.width :]
            self.left = np.maximum(self.left, np.take_along_axis(score, rest, 1).max(axis=1))
            score, place = np.take_along_axis(score, keep, 1), np.take_along_axis(place, keep, 1)
        self.score, self.place = score, place

    def within(self, k: int, error: float) -> tuple[Similarities, Places, Places]:
        """Scores and places (q, w) from the best down, and how many of each query may be among its k best."""
        best = np.argsort(-self.score, axis=1, kind="stable")
        score, place = np.take_along_axis(self.score, best, 1), np.take_along_axis(self.place, best, 1)
        worst = np.full((len(score), 1), -np.inf)
        if score.shape[1] >= k:  # the k-th best similarity is at least its score − error, others' at most + error
            worst = score[:, k - 1 : k].astype(np.float64) - 2 * error
        count = ((score >= worst) & (score > -np.inf)).sum(axis=1)
        return score[:, : count.max()], place[:, : count.max()], count


class BlockBuilder:
    """What all blocks share. A place is a position in the sorted order; length : an upper bound of the vectors'.

    done : the lists of places before it were given out. Nothing else is held from block to block, so that `otherwise`,
    where it is given, goes on where a device fails; notes then says so.
    """

    open_bytes = 0

    def __init__(
        self,
        near: Sorted,
        ranges: Ranges,
        k: int,
        devices: Sequence[Device],
        memory_bytes: int,
        length: float,
        otherwise: Callable[[], PairBuilder] | None = None,
    ) -> None:
        self.near, self.ranges, self.k = near, ranges, k
        self.width = k + max(MARGIN, k // 8)
        d = near.dimensions
        self.queries = int(np.clip(memory_bytes // 16 // (8 * d + 128 * self.width), 1, MOST_QUERIES))
        self.tile = int(max(memory_bytes // 8 // (8 * d + 32 * self.queries), 1))  # candidates whose scores are held
        self.settled = int(max(memory_bytes // 8 // (4 * d), 1))  # vectors held while pairs are settled
        self.kept = memory_bytes // 8 // 8  # places that scoring all candidates may keep, if every one ties
        self.exact = SAFETY * gamma(d, U64) * length * length  # bound of a float64 sum's error
        self.shares = Shares(near, devices, self.width + 1, memory_bytes, length)
        self.error = self.shares.error
        self.notes: list[str] = []
        self._otherwise, self._begin = otherwise, 0
        self._after: PairBuilder | None = None

    @property
    def step(self) -> int:
        return self.queries

    @property
    def stripe(self) -> int:
        return len(self.ranges.order)

    @property
    def done(self) -> int:
        return self._begin if self._after is None else self._after.done

    @property
    def standing(self) -> Standing | None:
        return None if self._after is None else self._after.standing

    def blocks(self, begin: int = 0, standing: object = None) -> Iterator[Found]:
        """The lists of all places from `begin` on, block by block."""
        self._begin = begin
        try:
            for block, found in self._found(_tiles(begin, len(self.ranges.order), self.queries)):
                self._begin = block[1]
                yield found
        except DeviceError as error:
            if self._otherwise is None:
                raise
            all_of_them = counted(len(self.ranges.order), "object")
            self.notes.append(
                f"A device failed after {self._begin:,} of {all_of_them} ({error}): the others were searched pair by "
                "pair on the CPU."
            )
            self._after = self._otherwise()
            yield from self._after.blocks(self._begin)

    def at(self, places: Places) -> Iterator[Found]:
        """The lists of some places, ascending."""
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1) if len(places) else []
        tiles = (tile for run in runs for tile in _tiles(int(run[0]), int(run[-1]) + 1, self.queries))
        for _, found in self._found(tiles):
            yield found

    def _found(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, Found]]:
        """The lists of blocks, one by one; while one is ranked, the next is searched."""
        with ThreadPoolExecutor(1, "search") as ahead:
            before: tuple[Block, Any] | None = None
            for block in blocks:
                searched = ahead.submit(self._search, *block)
                if before is not None:
                    yield before[0], self.block(*before[0], before[1].result())
                before = block, searched
            if before is not None:
                yield before[0], self.block(*before[0], before[1].result())

    def block(self, start: int, stop: int, best: _Best) -> Found:
        """The lists of the queries at places start..stop, from what the devices found for them."""
        score, place, count = best.within(self.k, self.error)
        queries = self.near.run(start, stop)  # (q, D)
        similarity = self._settle(queries, place, count)  # (q, w), NaN from `count` on
        if (np.abs(similarity.astype(np.float64) - score) > self.error).any():
            msg = f"A device is off by more than the proven error {self.error:.2e}; this block was not ranked."
            raise LookalikeError(msg)
        rows, values = self._ranked(place, similarity)
        last = values[:, -1].astype(np.float64)  # NaN where there are fewer than k
        proven = (best.left == -np.inf) | (best.left + self.error < last)
        unproven = np.flatnonzero(~proven)
        limit = np.where(np.isnan(last), -np.inf, last) - self.error
        low, high = self.ranges.low[start:stop], self.ranges.high[start:stop]
        group = max(1, self.kept // int((high - low).max()))
        for first in range(0, len(unproven), group):
            which = unproven[first : first + group]
            every = self._exhaustive(queries[which], start + which, low[which], high[which], limit[which])
            for q, candidates in zip(which, every, strict=True):
                canonical = self.near.canonical(candidates, start + q)
                rows[q], values[q] = self._ranked(candidates[None], canonical[None])
        return Found(self.near.order[start:stop], rows, values, len(unproven))

    def _search(self, start: int, stop: int) -> _Best:
        """The best of each query by score, from the interior and both edges."""
        low, high, own = self.ranges.low[start:stop], self.ranges.high[start:stop], np.arange(start, stop)
        queries = self.near.run(start, stop)  # (q, D)
        best = _Best(len(queries), self.width)
        self.shares.needs(int(low[0]))
        inner = int(low[-1])
        outer = max(inner, int(high[0]))  # [inner, outer) lies in every query's window
        for a, b in _tiles(int(low[0]), inner, self.tile):
            best.add(self.shares.masked(queries, a, b, low, high), own)
        if inner < outer:
            best.add(self.shares.search(queries, inner, outer), own)
        for a, b in _tiles(outer, int(high[-1]), self.tile):
            best.add(self.shares.masked(queries, a, b, low, high), own)
        return best

    def _settle(self, queries: Vectors, place: Places, count: Places) -> Similarities:
        """Canonical similarities of the first count[q] of place[q], NaN for the others."""
        similarity = np.full(place.shape, np.nan, np.float32)
        group = max(1, self.settled // max(place.shape[1], 1))
        for first in range(0, len(queries) if place.size else 0, group):
            some = slice(first, first + group)
            wanted = np.where(np.arange(place.shape[1]) < count[some, None], place[some], place[first, 0])
            unique, column = np.unique(wanted, return_inverse=True)
            vectors, column = self.near.at(unique), column.reshape(wanted.shape)
            data = queries[some], vectors, column, count[some], self.exact, similarity[some]
            _settle(data, slice(0))  # which compiles it: only one thread at a time may
            in_parts(partial(_settle, data), len(data[0]), processors())
        return similarity

    def _ranked(self, place: Places, similarity: Similarities) -> tuple[Places, Similarities]:
        """Rows and similarities (q, k) of the best by (−similarity, row); −1 and NaN where a list ends."""
        rows = np.where(np.isnan(similarity), -1, self.near.order[place])
        keys = np.sort(keys_of(rows, similarity), axis=1)[:, : self.k]
        ends = ((0, 0), (0, self.k - keys.shape[1]))
        return entries_of(np.pad(keys, ends, constant_values=END))

    def _exhaustive(
        self, queries: Vectors, own: Places, low: Places, high: Places, limit: NDArray[np.float64]
    ) -> list[Places]:
        """For each query (u, D) all places within its window that score at least its limit (u,)."""
        kept: list[list[Places]] = [[] for _ in own]
        for a, b in _tiles(int(low.min()), int(high.max()), self.tile):
            for score, place in self.shares.scores(queries, a, b):
                inside = (place >= low[:, None]) & (place < high[:, None]) & (place != own[:, None])
                for u, candidates in enumerate(inside & (score >= limit[:, None])):
                    kept[u].append(place[candidates])
        return [np.concatenate(places) for places in kept]


def _settle(data: tuple[Any, Any, Any, Any, float, Any], part: slice) -> None:
    queries, vectors, column, count, error, out = data
    settle(queries, vectors, column, count, error, out, part.start or 0, part.stop)


def _tiles(start: int, stop: int, size: int) -> Iterator[Block]:
    for a in range(start, stop, size):
        yield a, min(a + size, stop)
