"""How a build shares out the memory that it is to keep to."""

from __future__ import annotations

import math

from lookalike.errors import InputError
from lookalike.sizes import size_text
from lookalike.wording import counted

LIBRARIES = 320 * 2**20  # loops that are loaded, threads and their buffers, what a page of a library takes
PER_OBJECT = 320  # bytes: ids, the window's order and ranges, checksums, and what is held while they are made
SHARE = 1.5  # of what a builder is told: vectors, scores, open lists, tiles and samples together
LEAST_ROWS = 64 * 8  # queries of the smallest tile, which is given an eighth


def fixed_bytes(n: int) -> int:
    """What is held however little a builder is told."""
    return LIBRARIES + PER_OBJECT * n


def least_budget(n: int, dimensions: int, k: int) -> int:
    """The smallest budget that a build can keep to."""
    return budget_of(LEAST_ROWS * (8 * dimensions + 40 * k + 8192), n)


def budget_of(memory_bytes: int, n: int) -> int:
    """The budget of which a builder is told so many bytes."""
    return math.ceil(SHARE * memory_bytes) + fixed_bytes(n)


def working_bytes(budget: int, n: int, dimensions: int, k: int) -> int:
    """What to tell a builder so that the process keeps to a budget of bytes; InputError where that is too small."""
    if budget < (least := least_budget(n, dimensions, k)):
        raise InputError(
            f"{counted(n, 'object')}, vectors of {dimensions:,} numbers and k = {k:,} need at least "
            f"{size_text(least)} of memory, but --memory {size_text(budget)} was given."
        )
    return int((budget - fixed_bytes(n)) / SHARE)
