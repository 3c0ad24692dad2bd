"""How a build shares out the memory that it is to keep to."""

from __future__ import annotations

from lookalike.errors import InputError
from lookalike.sizes import size_text
from lookalike.wording import counted

LIBRARIES = 320 * 2**20  # loops that are loaded, threads and their buffers, what a page of a library takes
PER_OBJECT = 320  # bytes: ids, the window's order and ranges, checksums, and what is held while they are made
SHARE = 1.5  # of what a builder is told: vectors, scores, open lists, tiles and samples together
LEAST_ROWS = 64 * 8  # queries of the smallest tile, which is given an eighth


def working_bytes(budget: int, n: int, dimensions: int, k: int) -> int:
    """What to tell a builder so that the process keeps to a budget of bytes; InputError where that is too small."""
    rest = budget - LIBRARIES - PER_OBJECT * n
    least = LEAST_ROWS * (8 * dimensions + 40 * k + 8192)
    if rest < SHARE * least:
        needed = int(SHARE * least) + LIBRARIES + PER_OBJECT * n
        raise InputError(
            f"{counted(n, 'object')}, vectors of {dimensions:,} numbers and k = {k:,} need at least "
            f"{size_text(needed)} of memory, but --memory {size_text(budget)} was given."
        )
    return int(rest / SHARE)
