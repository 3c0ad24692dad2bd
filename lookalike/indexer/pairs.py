"""Exact k nearest neighbors of every object within its own window, by looking at each pair once.

Similarity is symmetric, so a tile of queries by candidates serves the lists of both. It is first scored by a matrix
product that is cheap and off by no more than a proven bound (scores.py); only a pair whose score can still enter a
list gets its canonical similarity. From what a list needs is told beforehand by a sample of its window: where that
was too much, which shows, since fewer than k were found, the object is searched again by itself.

Queries go in order of the window's column. An object's list is open from the first query that is within its window
until it has itself been one, or, where the lists of a whole window do not fit in memory, stripe by stripe; then pairs
of two stripes are scored twice.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from lookalike.errors import InputError
from lookalike.indexer.hints import PIECE, by_themselves, needed
from lookalike.indexer.keys import MOST
from lookalike.indexer.lists import Lists, room
from lookalike.indexer.ordered import Found, Sorted
from lookalike.indexer.pairs_native import enter_tile
from lookalike.indexer.scores import Room, Scores
from lookalike.indexer.similarity import SAFETY, U64, Similarities, gamma
from lookalike.indexer.windows import Ranges
from lookalike.parallel import in_parts, processors

SMALL, TILE = 64, 512  # queries, and candidates, of a tile, at least and at most
NARROW = 128  # that of narrow windows, at least
PER_WINDOW = 8  # tiles in a window, at least, where that leaves no fewer
BLOCKS = 4  # of queries for each thread, between two times at which all wait for each other
SEEN = 64  # pairs of a tile that are looked at whether the scores keep their bound

Block = tuple[int, int]  # places from the first to before the second


@dataclass
class Tally:
    """What a build did: pairs that were scored, that were settled canonically, and objects searched by themselves."""

    scored: int = 0
    settled: int = 0
    alone: int = 0


@dataclass
class Standing:
    """Where a build stands between two steps, enough to go on from there.

    start, stop : places of the stripe. done : the lists of places before it were given out. asked : those before it
    have been queries. opened : lists of places done..opened are open, in `lists`.
    """

    start: int
    stop: int
    done: int
    asked: int
    opened: int
    lists: Lists


@dataclass
class _Held:
    """What a thread keeps from tile to tile: memory, and what it counted."""

    room: Room = field(default_factory=Room)
    seen: NDArray[np.int32] = field(default_factory=lambda: np.empty((SEEN, 2), np.int32))
    value: Similarities = field(default_factory=lambda: np.empty(SEEN, np.float32))
    scored: int = 0
    settled: int = 0


@dataclass
class _Stripe:
    """Lists that are filled together: their places, where they are held, and who may write to a block of them."""

    start: int
    stop: int
    lists: Lists
    locks: list[threading.Lock]


class PairBuilder:
    """What all tiles of a build share; a place is a position in the window's order.

    standing : after each block that `blocks` yields, where the build is; it fits to builders of equal `slots`, `step`
    and `stripe`. done : the lists of places before it were given out.
    """

    standing: Standing | None = None
    notes: Sequence[str] = ()
    _begin = 0

    def __init__(self, near: Sorted, ranges: Ranges, k: int, scores: Scores, memory_bytes: int, length: float) -> None:
        self.near, self.ranges, self.k, self.scores, self.length = near, ranges, k, scores, length
        n, d = len(ranges.order), near.dimensions
        if n and int(ranges.order.max()) >= MOST:
            raise InputError(f"An index is of at most {MOST:,} objects, but row {ranges.order.max():,} was given.")
        self.memory_bytes, self.alone = memory_bytes, 0
        self.error = SAFETY * gamma(d, U64) * length * length
        self.held = [_Held() for _ in range(processors())]
        # Tiles stick out of narrow windows, the less the smaller they are.
        most = np.clip(np.median(ranges.high - ranges.low) // PER_WINDOW if n else 0, NARROW, TILE)
        per_row = 8 * d + scores.bytes_per_row
        self.rows = int(np.clip(memory_bytes // 8 // (len(self.held) * per_row), SMALL, most))
        fit = max(self.rows, memory_bytes // 2 // (8 * room(k) + 16))
        self.together = len(self.held) * BLOCKS
        while self.together > 1 and self._reach() > fit:
            self.together = 1 if self.together <= len(self.held) else len(self.held)
        self.rolling = self._reach() <= fit
        self.slots, self.stripe = (self._reach(), n) if self.rolling else (fit, fit)
        self.step = self.rows * self.together  # queries between two times at which the build could be taken up again

    def _reach(self) -> int:
        """How many lists are open at once, at most, for the blocks of queries that are gone through together."""
        n, step = len(self.ranges.order), self.rows * self.together
        ends = np.minimum(np.arange(step, n + step, step), n)
        return min(n, int((self.ranges.high[ends - 1] - np.arange(0, n, step)).max(initial=0)) + self.rows)

    @property
    def tally(self) -> Tally:
        """What all threads did."""
        return Tally(sum(held.scored for held in self.held), sum(held.settled for held in self.held), self.alone)

    @property
    def done(self) -> int:
        return self._begin if self.standing is None else self.standing.done

    @property
    def open_bytes(self) -> int:
        """How much the open lists can take."""
        return self.slots * (8 * room(self.k) + 16)

    def begun(self, start: int, stop: int) -> Standing:
        """The beginning of a stripe."""
        return Standing(start, stop, start, start, start, Lists(self.slots, self.k))

    def blocks(self, begin: int = 0, standing: Standing | None = None) -> Iterator[Found]:
        """The lists of all objects from place `begin` on, block by block; after some steps a block has no lists.

        standing : of an equal builder, to go on from. Without one a stripe begins at `begin` or, so that no more lists
        are open than there is room for, at the step before.
        """
        n = len(self.ranges.order)
        self._begin = begin
        if begin >= n and standing is None:
            return
        self._look_at_scores(min(n, SMALL))
        if standing is not None:
            yield from self._stripe(standing)
            begin = standing.stop
        elif self.rolling:
            begin -= begin % self.step
        for start in range(begin, n, max(self.stripe, 1)):
            for found in self._stripe(self.begun(start, min(start + self.stripe, n))):
                yield _from(self._begin - (self.done - len(found.rows)), found)

    def _look_at_scores(self, n: int) -> None:
        """Whether the scores of a small tile keep their bound: of other pairs only those good enough are looked at.

        Besides, the loops are compiled for them, which only one thread at a time may do.
        """
        score = self.scores.tile(self.near, 0, n, 0, n, Room())
        for place in range(n):
            self.scores.check(score[place], self.near.canonical(np.arange(n), place))
        stripe = _Stripe(0, n, Lists(n, self.k), [threading.Lock()])
        self._tile(stripe, (0, n), (0, n), 2, _Held())
        stripe.lists.close(0, n, 1)

    def _stripe(self, at: Standing) -> Iterator[Found]:
        """The lists of a stripe from where it stands; they are closed as soon as they are complete."""
        grid = list(_tiles(at.start, at.stop, self.rows))
        stripe = _Stripe(at.start, at.stop, at.lists, [threading.Lock() for _ in grid])
        self.standing = at
        yield from self._finished(at)
        for first in range((at.asked - at.start) // self.rows, len(grid), self.together):
            if at.asked == at.stop:  # its last block may be narrower than the others
                break
            queries = grid[first : first + self.together]
            inside = min(int(self.ranges.high[queries[-1][1] - 1]), at.stop)  # candidates beyond it have no open list
            opened, until = (-(-(place - at.start) // self.rows) for place in (at.opened, inside))
            self._share(grid[opened:until], lambda block, _: at.lists.open(*block, self._needed(*block)))
            at.opened = max(at.opened, min(at.start + until * self.rows, at.stop))
            self._share(queries, lambda block, held: self._queries(stripe, block, held))
            at.asked = queries[-1][1]
            yield from self._finished(at)

    def _finished(self, at: Standing) -> Iterator[Found]:
        """Give out the lists that are complete; a block without any where none is yet."""
        until = at.asked if self.rolling or at.asked == at.stop else at.done
        if until == at.done:
            yield Found(self.near.order[:0], np.empty((0, self.k), np.int64), np.empty((0, self.k), np.float32), 0)
        for a, b in _tiles(at.done, until, self.rows):
            found = self._closed(at.lists, a, b)
            at.done = b
            yield found

    def _share(self, blocks: Sequence[Block], work: Callable[[Block, _Held], None]) -> None:
        """Do the work of all blocks, each thread taking another when it has done one."""
        n, lock = len(self.held), threading.Lock()
        # Each has its own part, for neighboring blocks want the same lists, and helps the others when that is done.
        parts = [deque(blocks[len(blocks) * t // n : len(blocks) * (t + 1) // n]) for t in range(n)]

        def next_of(own: int) -> Block | None:
            with lock:
                if parts[own]:
                    return parts[own].popleft()
                longest = max(parts, key=len)
                return longest.pop() if longest else None

        def take(part: slice) -> None:
            self.scores.alone()
            for t in range(part.start, part.stop):
                while (block := next_of(t)) is not None:
                    work(block, self.held[t])

        with one_blas_thread():  # threads of its own would get in each other's way
            in_parts(take, n, n)

    def _needed(self, start: int, stop: int) -> Similarities:
        # Scores, masks, and the vectors of the sample are held at once.
        share = self.memory_bytes // 8 // len(self.held)
        most = max(SMALL, share // (16 * self.rows + 8 * self.near.dimensions))
        return needed(self.near, self.ranges, self.scores, self.k, start, stop, most)

    def _queries(self, stripe: _Stripe, block: Block, held: _Held) -> None:
        """All tiles of a block of queries: each pair of the stripe is met once, others only for the queries' sake."""
        a, b = block
        low, high = int(self.ranges.low[a]), int(self.ranges.high[b - 1])
        inside = min(high, stripe.stop)
        tiles = [(c, d, 1) for c, d in _tiles(min(low, stripe.start), stripe.start, self.rows)]
        tiles += [(c, d, 2) for c, d in _tiles(a, inside, self.rows)]
        tiles += [(c, d, 1) for c, d in _tiles(inside, high, self.rows)]
        # Each thread begins elsewhere, so that they seldom want the same lists.
        turn = len(tiles) * self.held.index(held) // len(self.held)
        for c, d, sides in tiles[turn:] + tiles[:turn]:
            self._tile(stripe, block, (c, d), sides, held)

    def _tile(self, stripe: _Stripe, queries: Block, candidates: Block, sides: int, held: _Held) -> None:
        """Enter the pairs of a tile into the lists of its queries and, of two sides, of its candidates."""
        (a, b), (c, d) = queries, candidates
        own = np.arange(a, b)
        # Of two sides each pair is met once: with the query before the candidate.
        first = np.maximum(self.ranges.low[a:b] if sides == 1 else own + 1, c) - c
        last = np.minimum(self.ranges.high[a:b], d) - c
        pairs = int(np.maximum(last - first, 0).sum())
        if not pairs:
            return
        score = self.scores.tile(self.near, a, b, c, d, held.room)  # (q, c)
        lists, where = stripe.lists, {(a - stripe.start) // self.rows}
        if sides == 2:
            where.add((c - stripe.start) // self.rows)
        with ExitStack() as entered:
            for place in sorted(where):  # in one order, or two threads could wait for each other
                entered.enter_context(stripe.locks[place])
            floor = self.scores.floor(lists.floor(a, b))
            other = np.full(d - c, self.scores.never, score.dtype)
            if sides == 2:
                other = self.scores.floor(lists.floor(c, d))
            settled, seen = enter_tile(
                score, self.near.run(a, b), self.near.run(c, d), first, last, floor, other, self.error,
                lists.slots(a, b), lists.slots(c, d), self.near.order[a:b], self.near.order[c:d], sides,
                lists.keys, lists.count, lists.worst, self.k, held.seen, held.value,
            )  # fmt: skip
        i, j = held.seen[:seen].T
        self.scores.check(score[i, j], held.value[:seen])
        held.scored += pairs
        held.settled += settled

    def _closed(self, lists: Lists, start: int, stop: int) -> Found:
        """The finished lists of places start..stop; those that were said to need too much are searched again."""
        rows, values, count = lists.close(start, stop, len(self.held))
        low, high = self.ranges.low[start:stop], self.ranges.high[start:stop]
        short = np.flatnonzero(count < np.minimum(high - low - 1, self.k))
        self.alone += len(short)

        def again(part: slice) -> None:
            self.scores.alone()
            some = short[part]
            rows[some], values[some] = by_themselves(
                self.near, self.ranges, self.k, start + some, self.scores, self.error
            )

        if len(short):
            pieces = self.memory_bytes // 8 // (8 * PIECE * self.near.dimensions)  # of candidates that are held
            with one_blas_thread():
                in_parts(again, len(short), int(np.clip(pieces, 1, len(self.held))))
        return Found(self.near.order[start:stop], rows, values, len(short))


def _from(first: int, found: Found) -> Found:
    """A block's lists without those before its `first` one."""
    some = slice(max(first, 0), None)
    return Found(found.rows[some], found.neighbor_row[some], found.similarity[some], found.exhaustive)


def one_blas_thread() -> AbstractContextManager[object]:
    """While it is entered, each matrix product is done by the thread that asks for it."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _tiles(start: int, stop: int, size: int) -> Iterator[Block]:
    for a in range(start, stop, size):
        yield a, min(a + size, stop)
