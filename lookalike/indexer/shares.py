"""All vectors of a build, dealt out by turns to the devices that search them: each lies on one of them only.

A query's window is a run of places, of which each share then has the same part, so that all devices work at once. Of
its share a device holds a run that moves up with the windows, as long as there is room for; a window that is longer
than that is searched piece by piece.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lookalike.indexer.devices import Best, Device, DeviceError, Part, score_error
from lookalike.indexer.ordered import Sorted, Vectors
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.windows import Places

SURE = 4.0  # standard deviations by which a share may hold more than its part of the best
LOADED = 2**26  # bytes of vectors read and brought to a device at once, at most

Candidates = tuple[
    Similarities, Places, Similarities
]  # scores and places (q, n), and a bound (q,) of what was left out


@dataclass
class _Share:
    """One share: vectors number, number + n, number + 2 n, …, of which first..stop are in its part."""

    number: int
    size: int
    part: Part
    first: int = 0
    stop: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Shares:
    """The vectors on their devices; width : how many of the best are looked for. error : bound of all scores'."""

    def __init__(self, near: Sorted, devices: Sequence[Device], width: int, memory_bytes: int, length: float) -> None:
        n, d = len(near.order), near.dimensions
        self.near, self.width, self._needed = near, width, 0
        stored_half = near.dtype == np.float16
        self.error = max(score_error(device, d, length, stored_half=stored_half) for device in devices)
        half = [stored_half or device.short for device in devices]
        self._loaded = max(1, min(LOADED, memory_bytes // 8) // (4 * d))
        # So many that none is asked for more than its device can select.
        self.count = len(devices)
        self._most = min(device.most for device in devices)
        while self._likely() > self._most and self.count < n:
            self.count += len(devices)
        each = self.count // len(devices)  # of a device
        fit = [device.room() // each // (d * (2 if half[t] else 4)) for t, device in enumerate(devices)]
        with _failing():
            self.shares = [
                _Share(number, size, devices[t].part(max(1, min(size, fit[t])), d, half[t]))
                for number in range(self.count)
                for t, size in [(number % len(devices), len(range(number, n, self.count)))]
            ]
        self._devices = ThreadPoolExecutor(len(devices), "device") if len(devices) > 1 else None

    def needs(self, a: int) -> None:
        """Say that what lies before the place a is no longer needed, but what lies after it is."""
        self._needed = a

    def search(self, queries: Vectors, a: int, b: int) -> Candidates:
        """Some of the best of the places a..b for each query (q, D): as many as are likely to hold the best `width`."""
        return self._ask(a, b, lambda share, start, stop: self._search(share, queries, start, stop))

    def masked(self, queries: Vectors, a: int, b: int, low: Places, high: Places) -> Candidates:
        """The same where query i sees only the places low[i]..high[i]."""
        return self._ask(a, b, lambda share, start, stop: self._masked(share, queries, start, stop, low, high))

    def scores(self, queries: Vectors, a: int, b: int) -> Iterator[tuple[Similarities, Places]]:
        """All scores (q, c) of the places a..b, and these places (c,), piece by piece."""
        for share in self.shares:
            for start, stop in self._pieces(share, a, b):
                with share.lock, _failing():
                    self._hold(share, start, stop)
                    score = share.part.scores(queries, start - share.first, stop - share.first)
                yield score, self._places(share, np.arange(start, stop))

    def _likely(self) -> int:
        """How many of the best are in one share, at most, with high odds."""
        mean = self.width / self.count
        return min(self.width, math.ceil(mean + SURE * math.sqrt(mean) + 1)) if self.count > 1 else self.width

    def _ask(self, a: int, b: int, ask: Callable[[_Share, int, int], Candidates]) -> Candidates:
        """What all shares answer, side by side."""

        def answers(first: int, step: int) -> list[Candidates]:
            with _failing():
                return [ask(share, *piece) for share in self.shares[first::step] for piece in self._pieces(share, a, b)]

        if self._devices is None:
            found = answers(0, 1)
        else:  # each thread asks the shares of one device
            n = self._devices._max_workers
            found = [one for some in self._devices.map(lambda t: answers(t, n), range(n)) for one in some]
        scores, places, left = zip(*found, strict=True)
        return np.concatenate(scores, axis=1), np.concatenate(places, axis=1), np.maximum.reduce(left)

    def _search(self, share: _Share, queries: Vectors, start: int, stop: int) -> Candidates:
        k = min(self._likely(), self._most, stop - start)
        with share.lock:
            self._hold(share, start, stop)
            found = share.part.search(queries, start - share.first, stop - share.first, k)
            return self._told(share, found, k < stop - start)

    def _masked(self, share: _Share, queries: Vectors, start: int, stop: int, low: Places, high: Places) -> Candidates:
        k = min(self._likely(), self._most, stop - start)
        first, last = self._first_of(share, low), self._first_of(share, high)
        with share.lock:
            self._hold(share, start, stop)
            found = share.part.masked(
                queries, start - share.first, stop - share.first, first - share.first, last - share.first, k
            )
            return self._told(share, found, k < stop - start)

    def _told(self, share: _Share, found: Best, more: bool) -> Candidates:
        score, column = found
        left = score[:, -1] if more else np.full(len(score), -np.inf, np.float32)
        return score, self._places(share, column + share.first), left

    def _places(self, share: _Share, vectors: Places) -> Places:
        return vectors * self.count + share.number

    def _first_of(self, share: _Share, place: Any) -> Any:
        """A share's first vector that is not before a place, or each of some places."""
        return -(-(place - share.number) // self.count)

    def _pieces(self, share: _Share, a: int, b: int) -> Iterator[tuple[int, int]]:
        """The vectors of a share that have the places a..b, in runs that fit its part."""
        start, stop = self._first_of(share, a), self._first_of(share, b)
        for first in range(start, stop, share.part.rows):
            yield first, min(first + share.part.rows, stop)

    def _hold(self, share: _Share, start: int, stop: int) -> None:
        """Have the vectors start..stop of a share in its part, and as many after them as there is room for."""
        if share.first <= start and stop <= share.stop:
            return
        begin = min(start, self._first_of(share, self._needed))
        if stop - begin <= share.part.rows:
            start = begin
        kept = 0
        if share.first <= start < share.stop:
            kept = share.stop - start
            share.part.move(start - share.first, kept)
        share.first, share.stop = start, start + kept
        until = min(start + share.part.rows, stop + (stop - start), share.size)
        while share.stop < until:
            some = np.arange(share.stop, min(share.stop + self._loaded, until))
            share.part.load(share.stop - start, self.near.at(self._places(share, some)))
            share.stop = int(some[-1]) + 1


@contextmanager
def _failing() -> Iterator[None]:
    """Tells a device's failure, which torch and faiss say by a RuntimeError, from all others."""
    try:
        yield
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DeviceError(lines[0]) from error
