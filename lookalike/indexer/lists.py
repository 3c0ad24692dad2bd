"""The open lists of an all-objects build: keys that sort as neighbors do, and what may still enter each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.pairs_native import LAST, close, opened
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.windows import Places
from lookalike.parallel import in_parts

SIGN, REST = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)


def upper(similarity: Similarities) -> NDArray[np.uint32]:
    """Similarities (n,) as numbers that sort from the highest down; −0 must not be among them."""
    bits = similarity.view(np.uint32)
    return np.where(bits & SIGN, bits, ~bits & REST)


def lower(halves: NDArray[np.uint32]) -> Similarities:
    """What `upper` made back to similarities."""
    return np.where(halves & SIGN, halves, ~halves & REST).astype(np.uint32).view(np.float32)


def room(k: int) -> int:
    """Entries of a list before it is cut to its k best."""
    return k + max(64, k // 2)


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

    def close(self, start: int, stop: int, threads: int) -> tuple[Places, Similarities, Places]:
        """Rows and similarities (n, k) of places start..stop, −1 and NaN where a list has ended, and their lengths."""
        which = self.slots(start, stop)
        keys = np.empty((stop - start, self.k), np.uint64)
        rows, value = np.empty(keys.shape, np.int64), np.empty(keys.shape, np.float32)

        def finish(part: slice) -> None:
            close(which, self.keys, self.count, self.k, part.start, part.stop, keys)
            keys[part].sort(axis=1)
            opened(keys, part.start, part.stop, rows, value)

        in_parts(finish, stop - start, threads)
        return rows, value, self.count[which]
