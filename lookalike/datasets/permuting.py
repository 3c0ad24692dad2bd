"""The control `--permute`: one fixed shuffle of all pixels, the same for every picture, stored or uploaded.

An encoder that treats every pixel alike (`mlp`) learns as much from shuffled pictures; a convolution, which works
because neighboring pixels belong together, loses. The shuffle follows from the seed and the number of pixels alone,
on any machine and with any version of NumPy, so a file needs to hold the seed only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lookalike.about import About

KEY = "permute"  # of About.preprocess
GOLDEN, MIX_1, MIX_2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def recorded(seed: int | None) -> dict[str, Any]:
    """The part of About.preprocess that says how pixels are shuffled; empty where they are not."""
    return {} if seed is None else {KEY: seed}


def permuted(images: NDArray[Any], about: About) -> NDArray[Any]:
    """Pictures (…, H, W) with their pixels shuffled as the data set's are, every band alike; as they are if none is."""
    seed = about.preprocess.get(KEY)
    if seed is None:
        return images
    *others, height, width = images.shape
    order = permutation(int(seed), height * width)
    return images.reshape(*others, height * width)[..., order].reshape(images.shape)


@lru_cache(maxsize=8)
def permutation(seed: int, n: int) -> NDArray[np.int64]:
    """A shuffle (n,) of 0 to n − 1: pixel i of a shuffled picture is pixel permutation[i] of the original.

    The order of n numbers of a splitmix64 sequence (Steele, Lea & Flood 2014), whose state starts at the mixed seed.
    """
    start = _mix(np.array([seed % 2**64], np.uint64) * GOLDEN)
    keys = _mix(start + np.arange(1, n + 1, dtype=np.uint64) * GOLDEN)
    order = np.argsort(keys, kind="stable")
    order.flags.writeable = False  # it is shared by all who ask for it
    return order


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function."""
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))
