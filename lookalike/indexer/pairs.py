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

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.indexer.ordered import Found, Sorted, Vectors
from lookalike.indexer.pairs_native import Keys, cut, enter, pairs
from lookalike.indexer.scores import Scores
from lookalike.indexer.similarity import SAFETY, U64, Similarities, exact, float32_error, gamma
from lookalike.indexer.windows import Places, Ranges
from lookalike.native import in_parts

SMALL, TILE = 64, 2048  # queries and candidates of a tile, at least and at most
NARROW = 512  # that of narrow windows, at most
PAIRS = 2**18  # collected by a thread before they are entered
SAMPLE = (1 / 32, 1 / 10)  # of a window, from which it is told what a list needs: usually, and at most
EXPECTED = 6  # neighbors that the sample should hold
SURE = 3.0  # standard deviations by which more than k are to reach what a list is said to need
MOST = 2**32  # rows that a key can tell apart
LAST = np.uint64(2**64 - 1)
SIGN, REST = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)


def threads() -> int:
    """How many of the machine's processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def upper(similarity: Similarities) -> NDArray[np.uint32]:
    """Similarities (n,) as numbers that sort from the highest down; −0 must not be among them."""
    bits = similarity.view(np.uint32)
    return np.where(bits & SIGN, bits, ~bits & REST)


def lower(halves: NDArray[np.uint32]) -> Similarities:
    """What `upper` made back to similarities."""
    return np.where(halves & SIGN, halves, ~halves & REST).astype(np.uint32).view(np.float32)


class Lists:
    """The open lists: keys (M, room), how long each is, and the last key that may still enter it.

    A list of the object at place p of the window's order is in slot p % M.
    """

    def __init__(self, slots: int, k: int) -> None:
        self.k, self.room = k, room(k)
        self.keys = np.empty((slots, self.room), np.uint64)
        self.count = np.zeros(slots, np.int64)
        self.worst = np.full(slots, LAST)

    def slots(self, start: int, stop: int) -> Places:
        return np.arange(start, stop) % len(self.keys)

    def open(self, start: int, stop: int, needed: Similarities) -> None:
        """Begin the lists of places start..stop with what each is said to need; −inf for anything."""
        which = self.slots(start, stop)
        self.count[which] = 0
        first = upper(needed).astype(np.uint64) << np.uint64(32) | np.uint64(2**32 - 1)
        self.worst[which] = np.where(np.isneginf(needed), LAST, first)

    def floor(self, start: int, stop: int) -> Similarities:
        """The least similarity (n,) that may still enter each list."""
        worst = self.worst[self.slots(start, stop)]
        value = lower((worst >> np.uint64(32)).astype(np.uint32))
        return np.where(worst == LAST, np.float32(-np.inf), value)

    def close(self, start: int, stop: int) -> tuple[Keys, Places]:
        """Sorted keys (n, k) of places start..stop, LAST where a list is shorter, and how long each is."""
        which = self.slots(start, stop)
        out = np.empty((stop - start, self.k), np.uint64)
        count = np.minimum(self.count[which], self.k)

        def sort(part: slice) -> None:
            for n in range(part.start, part.stop):
                keys, found = self.keys[which[n]], int(self.count[which[n]])
                if found > self.k:
                    cut(keys, found, self.k)
                out[n, : count[n]] = np.sort(keys[: count[n]])
                out[n, count[n] :] = LAST

        in_parts(sort, stop - start, threads())
        return out, count


def room(k: int) -> int:
    """Entries of a list before it is cut to its k best."""
    return k + max(64, k // 2)


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


class PairBuilder:
    """What all tiles of a build share; a place is a position in the window's order.

    standing : after each block that `blocks` yields, where the build is; it fits to builders of equal `slots`, `step`
    and `stripe`. done : the lists of places before it were given out.
    """

    standing: Standing | None = None

    def __init__(self, near: Sorted, ranges: Ranges, k: int, scores: Scores, memory_bytes: int, length: float) -> None:
        self.near, self.ranges, self.k, self.scores, self.length = near, ranges, k, scores, length
        self.tally = Tally()
        n, d = len(ranges.order), near.dimensions
        if n and int(ranges.order.max()) >= MOST:
            raise InputError(f"An index is of at most {MOST:,} objects, but row {ranges.order.max():,} was given.")
        self.memory_bytes = memory_bytes
        self.error = SAFETY * gamma(d, U64) * length * length
        self.found = [
            (np.empty(PAIRS, np.int32), np.empty(PAIRS, np.int32), np.empty(PAIRS, np.float32))
            for _ in range(threads())
        ]
        # Tiles stick out of narrow windows, the less the smaller they are.
        most = np.clip(np.median(ranges.high - ranges.low) // 8 if n else 0, min(NARROW, TILE), TILE)
        self.rows = int(np.clip(memory_bytes // 8 // (4 * d + 40 * k + scores.bytes_per_row), SMALL, most))
        ends = np.minimum(np.arange(self.rows, n + self.rows, self.rows), n)
        reach = int((ranges.high[ends - 1] - np.arange(0, n, self.rows)).max(initial=0)) + self.rows
        fit = max(self.rows, memory_bytes // 2 // (8 * room(k) + 16))
        self.rolling = min(reach, n) <= fit
        self.slots = min(reach, n) if self.rolling else fit
        self.stripe = n if self.rolling else fit
        self.step = self.rows  # queries between two times at which the build could be taken up again

    def blocks(self, begin: int = 0, standing: Standing | None = None) -> Iterator[Found]:
        """The lists of all objects from place `begin` on, block by block; after some steps a block has no lists.

        standing : of an equal builder, to go on from. Without one a stripe begins at `begin` or, so that
        no more lists are open than there is room for, at the step before.
        """
        n = len(self.ranges.order)
        self._look_at_scores(min(n, SMALL))
        if standing is not None:
            yield from self._stripe(standing)
            begin = standing.stop
        elif self.rolling:
            begin -= begin % self.step
        for start in range(begin, n, max(self.stripe, 1)):
            yield from self._stripe(self.begun(start, min(start + self.stripe, n)))

    @property
    def done(self) -> int:
        return 0 if self.standing is None else self.standing.done

    @property
    def open_bytes(self) -> int:
        """How much the open lists can take."""
        return self.slots * (8 * room(self.k) + 16)

    def begun(self, start: int, stop: int) -> Standing:
        """The beginning of a stripe."""
        return Standing(start, stop, start, start, start, Lists(self.slots, self.k))

    def _look_at_scores(self, n: int) -> None:
        """Whether the scores of a small tile keep their bound: of other pairs only those good enough are looked at."""
        score = self.scores.tile(self.near, 0, n, 0, n)
        for place in range(n):
            self.scores.check(score[place], self.near.canonical(np.arange(n), place))

    def _stripe(self, at: Standing) -> Iterator[Found]:
        """The lists of a stripe from where it stands; they are closed as soon as they are complete."""
        start, stop, lists = at.start, at.stop, at.lists
        self.standing = at
        yield from self._finished(at)
        for a, b in _tiles(at.asked, stop, self.rows):
            inside = min(int(self.ranges.high[b - 1]), stop)  # candidates beyond it have no open list
            while at.opened < inside:
                to = min(at.opened + self.rows, stop)
                lists.open(at.opened, to, self._needed(at.opened, to))
                at.opened = to
            for c, d in _tiles(min(int(self.ranges.low[a]), start), start, self.rows):
                self._tile(lists, (a, b), (c, d), sides=1)
            for c, d in _tiles(a, inside, self.rows):
                self._tile(lists, (a, b), (c, d), sides=2)
            for c, d in _tiles(inside, int(self.ranges.high[b - 1]), self.rows):
                self._tile(lists, (a, b), (c, d), sides=1)
            at.asked = b
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

    def _needed(self, start: int, stop: int) -> Similarities:
        """What similarity the lists of places start..stop are likely to end at, or somewhat less, by a sample."""
        low, high = self.ranges.low[start:stop], self.ranges.high[start:stop]
        a, b = int(low[0]), int(high[-1])
        share = np.clip(EXPECTED / self.k, *SAMPLE)
        # Scores, their order and masks of the sample, and its vectors, are held at once.
        most = max(SMALL, self.memory_bytes // 8 // (16 * self.rows + 8 * self.near.dimensions))
        size = min(b - a, most, max(256, int(share * (b - a))))
        sample = np.random.default_rng(start).choice(b - a, size, replace=False, shuffle=False)
        place = np.sort(sample) + a
        score = self.scores.of(self.near, start, stop, place)  # (n, s)
        own = np.arange(start, stop)[:, None]
        inside = (place >= low[:, None]) & (place < high[:, None]) & (place != own)
        score[~inside] = -np.inf
        score.sort(axis=1)
        candidates = high - low - 1
        seen = inside.sum(axis=1)
        among = self.k * seen / np.maximum(candidates, 1)
        wanted = np.ceil(among + SURE * np.sqrt(among) + 1).astype(np.int64)
        known = (wanted < seen) & (candidates > self.k)
        value = score[np.arange(stop - start), np.where(known, score.shape[1] - wanted, 0)]
        return np.where(known, value, np.float32(-np.inf))

    def _tile(self, lists: Lists, queries: tuple[int, int], candidates: tuple[int, int], *, sides: int) -> None:
        """Enter the pairs of a tile into the lists of its queries and, of two sides, of its candidates."""
        (a, b), (c, d) = queries, candidates
        score = self.scores.tile(self.near, a, b, c, d)  # (q, c)
        x, y = self.near.run(a, b), self.near.run(c, d)
        own = np.arange(a, b)
        # Of two sides each pair is met once: with the query before the candidate.
        first = np.maximum(self.ranges.low[a:b] if sides == 1 else own + 1, c) - c
        last = np.minimum(self.ranges.high[a:b], d) - c
        self.tally.scored += int(np.maximum(last - first, 0).sum())
        floor = self.scores.floor(lists.floor(a, b))
        other = self.scores.floor(lists.floor(c, d)) if sides == 2 else np.full(d - c, self.scores.never, score.dtype)
        n = len(self.found)
        cursors = [np.array([0, (b - a) * t // n, (b - a) * t // n, (b - a) * (t + 1) // n]) for t in range(n)]
        count = np.zeros(n, np.int64)
        i_slot, j_slot = lists.slots(a, b), lists.slots(c, d)
        i_row, j_row = self.near.order[a:b], self.near.order[c:d]

        def collect(part: slice) -> None:
            for t in range(part.start, part.stop):
                count[t] = pairs(score, x, y, first, last, floor, other, self.error, cursors[t], *self.found[t])

        def put(part: slice) -> None:
            for t in range(part.start, part.stop):
                for m, (i_of, j_of, _) in enumerate(self.found):
                    enter(
                        i_of, j_of, keys_of[m], int(count[m]), i_slot, j_slot, i_row, j_row, sides,
                        lists.keys, lists.count, lists.worst, self.k, t, n,
                    )  # fmt: skip

        while any(cursor[0] < d - c for cursor in cursors):
            in_parts(collect, n, n)
            for m, (i_of, j_of, similarity) in enumerate(self.found):
                self._complete(x, y, i_of, j_of, similarity[: count[m]], score)
            keys_of = [upper(self.found[m][2][: count[m]]) for m in range(n)]
            in_parts(put, n, n)
            self.tally.settled += int(count.sum())

    def _complete(
        self,
        x: Vectors,
        y: Vectors,
        i_of: NDArray[np.int32],
        j_of: NDArray[np.int32],
        similarity: Similarities,
        score: NDArray[np.generic],
    ) -> None:
        """Sum exactly what the loop could not tell, and look at some pairs whether the scores keep their bound."""
        for n in np.flatnonzero(np.isnan(similarity)):
            similarity[n] = exact(x[i_of[n]].astype(np.float64) * y[j_of[n]].astype(np.float64))
        similarity += np.float32(0)  # −0 becomes 0
        some = slice(0, len(similarity), max(1, len(similarity) // 64))
        i, j = i_of[: len(similarity)][some], j_of[: len(similarity)][some]
        self.scores.check(score[i, j], similarity[some])

    def _closed(self, lists: Lists, start: int, stop: int) -> Found:
        """The finished lists of places start..stop; those that were said to need too much are searched again."""
        keys, count = lists.close(start, stop)  # (n, k), (n,)
        none = keys == LAST
        rows = np.where(none, -1, (keys & np.uint64(2**32 - 1)).astype(np.int64))
        values = lower((keys >> np.uint64(32)).astype(np.uint32))
        values[none] = np.nan
        low, high = self.ranges.low[start:stop], self.ranges.high[start:stop]
        short = np.flatnonzero(count < np.minimum(high - low - 1, self.k))
        self.tally.alone += len(short)
        if len(short):
            self._alone(start + short, rows, values, short)
        return Found(self.near.order[start:stop], rows, values, len(short))

    def _alone(self, places: Places, rows: Places, values: Similarities, into: Places) -> None:
        """The lists of some places, by a search of their whole windows."""
        low, high = self.ranges.low[places], self.ranges.high[places]
        a, b = int(low.min()), int(high.max())
        queries = self.near.at(places)  # (s, D)
        error = float32_error(self.near.dimensions, self.length, self.length)
        group = max(1, 2**24 // (b - a))
        for first in range(0, len(places), group):
            which = slice(first, first + group)
            score = np.empty((len(queries[which]), b - a), np.float32)
            for c, d in _tiles(a, b, TILE):
                score[:, c - a : d - a] = queries[which] @ self.near.run(c, d).T
            for n, found in enumerate(score, start=first):
                inside = found[low[n] - a : high[n] - a]
                inside[places[n] - low[n]] = -np.inf
                wanted = min(self.k, len(inside) - 1)
                last = float(np.partition(inside, len(inside) - wanted)[len(inside) - wanted])
                others = np.flatnonzero(inside >= np.float64(last - 2 * error)) + low[n]
                similarity = self.near.canonical(others, int(places[n]))
                row = self.near.order[others]
                best = np.lexsort((row, -similarity))[:wanted]
                rows[into[n], :wanted], values[into[n], :wanted] = row[best], similarity[best]


def _tiles(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for a in range(start, stop, size):
        yield a, min(a + size, stop)
