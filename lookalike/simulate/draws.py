"""Random numbers keyed by what they are for: (seed, row, name, element), in NumPy.

The numbers of `augmentations.draws` for epoch 0 and view 0, without torch: an object's follow from the seed and its row
alone, whatever block it is made in, and no version of NumPy changes them.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

GOLDEN, MIX_1, MIX_2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

MOST_ROWS = 2**63 - 1  # rows are numbers of 64 bits
AT_ONCE = 16384  # numbers that are made together: they stay in a core's cache

Floats = NDArray[np.float64]


class Draws:
    """The random numbers of some objects: rows (B,) of the whole set."""

    def __init__(self, seed: int, rows: NDArray[np.int64]) -> None:
        self.seed, self.rows = seed, np.asarray(rows, np.int64)

    def uniform(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """Uniform numbers (B, *shape) float64 between low and high, neither of which comes out."""
        bits = _mix(self._counters(name, math.prod(shape)))  # (B, n)
        u = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return (low + u * (high - low)).reshape(len(self.rows), *shape)

    def normal(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Standard normal numbers (B, *shape) float32, two from each 64-bit hash by Box and Muller (1958)."""
        n = math.prod(shape)
        half = (n + 1) // 2
        out = np.empty((len(self.rows), 2 * half), np.float32)
        counters = self._counters(name, half)  # (B, n/2)
        step = max(1, AT_ONCE // max(half, 1))
        for start in range(0, len(counters), step):
            some = slice(start, start + step)
            words = _mix(counters[some]).view(np.uint32).reshape(len(counters[some]), half, 2)
            radius = (words[..., 0] & np.uint32(0x7FFFFFFF)).astype(np.float32)
            radius += np.float32(0.5)
            radius *= np.float32(2.0**-31)  # in (0, 1]
            np.log(radius, out=radius)
            radius *= np.float32(-2.0)
            np.sqrt(radius, out=radius)
            angle = words[..., 1].view(np.int32).astype(np.float32)
            angle *= np.float32(math.pi * 2.0**-31)
            np.multiply(np.cos(angle), radius, out=out[some, :half])
            np.multiply(np.sin(angle), radius, out=out[some, half:])
        return out[:, :n].reshape(len(self.rows), *shape)

    def choice(self, name: str, weights: NDArray[np.float64]) -> NDArray[np.int64]:
        """A number (B,) from 0 to len(weights) − 1, each as often as its share of the weights."""
        edges = np.cumsum(weights) / np.sum(weights)
        return np.minimum(np.searchsorted(edges, self.uniform(name), side="right"), len(edges) - 1).astype(np.int64)

    def _counters(self, name: str, n: int) -> NDArray[np.uint64]:
        """States 1 to n of each row's own splitmix64 sequence (B, n)."""
        text = f"{self.seed}/0/0/{name}".encode()
        key = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
        start = _mix(_mix(self.rows.astype(np.uint64) * GOLDEN + key) ^ key)  # (B,)
        return start[:, None] + np.arange(1, n + 1, dtype=np.uint64) * GOLDEN  # (B, n)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function (Steele, Lea & Flood 2014), on a fresh array."""
    z = z ^ (z >> np.uint64(30))
    z *= MIX_1
    z ^= z >> np.uint64(27)
    z *= MIX_2
    z ^= z >> np.uint64(31)
    return z
