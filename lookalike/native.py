"""Loops compiled for the processor by numba, and shared by threads.

Compiled once a machine: the result is kept beside the source, or in the user's cache folder where that is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])

# Sums may be taken with fused multiply-adds and zeros lose their sign; NaN and infinity keep their meaning.
LOOSE = {"contract", "nsz"}


def native(loop: Loop) -> Loop:
    """Compile a function of numbers and arrays when it is first called; it runs without Python's lock.

    Functions that it calls must be native and of the same file, or a change of theirs would not be noticed.
    """
    try:
        compiled = numba.njit(nogil=True, cache=True, fastmath=LOOSE, error_model="numpy")(loop)
    except RuntimeError:  # there is no folder to keep the result in
        compiled = numba.njit(nogil=True, fastmath=LOOSE, error_model="numpy")(loop)
    return cast(Loop, compiled)


def in_parts(work: Callable[[slice], object], count: int, threads: int) -> None:
    """Do work(part) for parts that make up 0 … count, in so many threads, this one among them."""
    threads = max(1, min(threads, count))
    parts = [slice(count * t // threads, count * (t + 1) // threads) for t in range(threads)]
    others = [_pool(threads).submit(work, part) for part in parts[1:]]
    try:
        work(parts[0])
    finally:
        for other in others:
            other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="lookalike-native")


# A forked process has its parent's pool without the threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
