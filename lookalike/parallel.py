"""Work shared out among threads, one for each processor that this process may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

_thread = threading.local()


def processors() -> int:
    """How many of the machine's processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def in_parts(work: Callable[[slice], object], count: int, threads: int) -> None:
    """Do work(part) for parts that make up 0 … count, in so many threads, this one among them.

    An error of a part is raised when all have ended. Work that is itself shared out by a part is done by its thread.
    """
    n = 1 if _alone() else max(1, min(threads, count))
    parts = [slice(count * t // n, count * (t + 1) // n) for t in range(n)]
    others = [_pool(threads).submit(work, part) for part in parts[1:]]
    try:
        work(parts[0])
    finally:
        wait(others)
    for other in others:
        other.result()


def _alone() -> bool:
    """Whether no other thread can help: one of a pool might wait for itself, and Python begins none while it ends."""
    return getattr(_thread, "of_pool", False) or not threading.main_thread().is_alive()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # By the threads that are asked for, not by those that a small batch needs, or there would be a pool of each number.
    return ThreadPoolExecutor(threads - 1, "lookalike", _begin)


def _begin() -> None:
    _thread.of_pool = True


# A forked process has its parent's pool without the threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
