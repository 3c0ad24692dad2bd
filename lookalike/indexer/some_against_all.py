"""Exact lists of some objects among all: what changes where a few come to an index or leave it.

Queries go block by block against tiles of their windows. As in an all-objects build (pairs.py) a tile is scored by a
float32 matrix product, which lies within a proven error of the canonical similarity, and only a pair whose score can
still enter a list is settled canonically; but queries are any places, and each pair is looked at for them alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from lookalike.indexer.keys import Keys
from lookalike.indexer.lists import Lists, room
from lookalike.indexer.ordered import Found, Sorted
from lookalike.indexer.pairs import one_blas_thread
from lookalike.indexer.pairs_native import enter_tile
from lookalike.indexer.scores import Float32, Room, product
from lookalike.indexer.similarity import SAFETY, U64, Similarities, gamma
from lookalike.indexer.windows import Places, Ranges
from lookalike.parallel import in_parts, processors

MOST_QUERIES, MOST_CANDIDATES = 256, 1024  # of one tile, which is done by one thread
WIDER = 1.5  # times the first query's window, that the windows of one block may span together
SEEN = 64  # pairs of a tile that are looked at whether the scores keep their bound
FULL = np.uint64(0)  # the last key of a list that nothing may enter


@dataclass(frozen=True)
class Tile:
    """Scores (q, c) of queries at places `own` with candidates at places start … stop, NaN of an object with itself.

    queries (q, D), candidates (c, D) : their vectors. first, last : (q,) columns of each query's window.
    """

    own: Places
    start: int
    stop: int
    score: Similarities
    queries: Similarities
    candidates: Similarities
    first: Places
    last: Places


class SomeAgainstAll:
    """Searches the lists of any places; a place is a position in the window's order. `scored` counts products."""

    def __init__(self, near: Sorted, ranges: Ranges, k: int, length: float, memory_bytes: int) -> None:
        self.near, self.ranges, self.k, self.scored = near, ranges, k, 0
        self.scores = Float32(near.dimensions, length)
        self.error = SAFETY * gamma(near.dimensions, U64) * length * length  # of a sum in float64
        self.threads, self._lock = processors(), threading.Lock()
        share, d = memory_bytes // 4 // self.threads, near.dimensions
        self.queries = int(np.clip(share // (8 * d + 20 * room(k)), 1, MOST_QUERIES))
        per_candidate = 8 * d + 16 * self.queries + 8 * room(self.queries)
        self.candidates = int(np.clip(share // per_candidate, 1, MOST_CANDIDATES))

    def lists(self, which: Places, meet: Callable[[Tile], None] = lambda tile: None) -> Iterator[Found]:
        """Yield the lists of the places `which` (increasing), block by block.

        meet : is shown every tile on the way, by several threads at once.
        """
        self._compile(which[:1])
        for own in self._blocks(which):
            lists = Lists(len(own), self.k)
            with one_blas_thread():  # or the product of a tile would be shared out among threads that are busy
                in_parts(partial(self._search, own, lists, meet), len(own), self.threads)
            rows, similarity, _ = lists.close(0, len(own), self.threads)
            yield Found(self.near.order[own], rows, similarity, 0)

    def entrants(self, tile: Tile, queries: Places, worst: Keys) -> tuple[Places, Keys]:
        """Which of a tile's queries, by their places in it, enter the lists of its candidates, as places and keys (e,).

        worst : (c,) the last key of each candidate's list, FULL where none is to enter.
        """
        c, q = len(worst), len(tile.own)
        lists = Lists(c + 1, q)  # none takes more than all queries; the last one stands for the queries' own
        lists.worst[:c], lists.worst[c] = worst, FULL
        floor = np.where(worst == FULL, self.scores.never, self.scores.floor(lists.floor(0, c)))
        last = tile.first.copy()  # of the other queries no column is looked at
        last[queries] = tile.last[queries]
        floors, slots = (np.full(q, self.scores.never), floor), (np.full(q, c), np.arange(c))
        self._settle(tile, last, floors, slots, lists, 2)
        slot, column = np.nonzero(np.arange(lists.room) < lists.count[:c, None])
        return tile.start + slot, lists.keys[slot, column]

    def _blocks(self, which: Places) -> Iterator[Places]:
        """Queries whose windows overlap so far that few scores of a block are of no use to any of them."""
        low, high = self.ranges.low, self.ranges.high
        start = 0
        while start < len(which):
            first = which[start]
            until = low[first] + WIDER * (high[first] - low[first])
            stop = start + int(
                np.searchsorted(high[which[start : start + self.queries * self.threads]], until, "right")
            )
            stop = max(stop, start + 1)
            yield which[start:stop]
            start = stop

    def _compile(self, some: Places) -> None:
        """Go through one tile: the loops are compiled for it, which only one thread at a time may do."""
        for tile in islice(self._tiles(some), len(some)):
            lists = Lists(1, self.k)
            floors = self.scores.floor(lists.floor(0, 1)), np.full(tile.stop - tile.start, self.scores.never)
            self._settle(tile, tile.last, floors, (np.zeros(1, np.int64),) * 2, lists, 1)
            lists.close(0, 1, 1)

    def _search(self, own: Places, lists: Lists, meet: Callable[[Tile], None], part: slice) -> None:
        """Fill the lists of some of the places `own`, which are in the slots of the same numbers."""
        slots, scored = np.arange(part.start, part.stop), 0
        for tile in self._tiles(own[part]):
            never = np.full(tile.stop - tile.start, self.scores.never)
            floors = self.scores.floor(lists.floor(part.start, part.stop)), never
            self._settle(tile, tile.last, floors, (slots, slots), lists, 1)
            meet(tile)
            scored += tile.score.size
        with self._lock:
            self.scored += scored

    def _tiles(self, own: Places) -> Iterator[Tile]:
        low, high = self.ranges.low[own], self.ranges.high[own]
        queries, held = self.near.at(own), Room()  # (q, D)
        for a in range(int(low[0]), int(high[-1]), self.candidates):
            b = min(a + self.candidates, int(high[-1]))
            candidates = self.near.run(a, b)  # (c, D)
            score = product(queries, candidates, held)  # (q, c)
            itself = np.flatnonzero((own >= a) & (own < b))
            score[itself, own[itself] - a] = np.nan
            yield Tile(own, a, b, score, queries, candidates, np.clip(low, a, b) - a, np.clip(high, a, b) - a)

    def _settle(
        self,
        tile: Tile,
        last: Places,
        floors: tuple[Similarities, Similarities],
        slots: tuple[Places, Places],
        lists: Lists,
        sides: int,
    ) -> None:
        """Enter the pairs of a tile, up to the queries' last columns, that reach either side's floor.

        floors, slots : the queries' and the candidates'; of one side only the queries' lists are entered.
        LookalikeError where a score is off by more than is proven.
        """
        seen, value = np.empty((SEEN, 2), np.int32), np.empty(SEEN, np.float32)
        rows = self.near.order
        _, looked = enter_tile(
            tile.score, tile.queries, tile.candidates, tile.first, last, *floors, self.error, *slots,
            rows[tile.own], rows[tile.start : tile.stop], sides, lists.keys, lists.count, lists.worst, lists.k,
            seen, value,
        )  # fmt: skip
        i, j = seen[:looked].T
        self.scores.check(tile.score[i, j], value[:looked])
