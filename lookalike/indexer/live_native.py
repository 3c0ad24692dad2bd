"""The loops of a live search: float32 scores of one query with the mapped vectors, read where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.native import native_sum

u32, u64, f32 = np.uint32, np.uint64, np.float32

SIGN, REST = u32(0x8000), u32(0x7FFF)  # of a float16's bits
NORMAL = u32(0x0400)  # the least of REST that is no subnormal number
UP = u32(112 << 23)  # from float16's exponents to float32's
ONE_UP = u32(113 << 23)
ONE = ONE_UP.view(np.float32)


@native_sum
def scores(
    vectors: NDArray[np.float32], rows: NDArray[np.int64] | None, query: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Dot products (n,) of vectors[rows], of (N, D), with the query (D,); of the first n vectors where rows is None."""
    # Unsigned, or each index would be checked for being negative, and the loop not be done in vectors.
    d = u64(vectors.shape[1])
    for n in range(u64(len(out))):
        row = n if rows is None else u64(rows[n])  # decided when compiled, once for either type of rows
        total = f32(0)
        for c in range(d):
            total += vectors[row, c] * query[c]
        out[n] = total


@native_sum
def widened(bits: np.uint32) -> Any:
    """A float16, given as its bits in a uint32, as the float32 of the same value; finite ones only."""
    # Numbers of 32 bits become 64 when they are added, unless told otherwise.
    shifted = u32((bits & REST) << u32(13))
    # A subnormal number has no leading 1 of its own: it is put behind one, which is taken off again.
    small = np.float32(u32(shifted + ONE_UP).view(np.float32) - ONE).view(np.uint32)
    value = small if (bits & REST) < NORMAL else u32(shifted + UP)
    return u32(value | u32((bits & SIGN) << u32(16))).view(np.float32)


@native_sum
def half_scores(
    vectors: NDArray[np.uint16], rows: NDArray[np.int64] | None, query: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """The same as `scores` of float16 vectors (N, D), given as their bits."""
    d = u64(vectors.shape[1])
    for n in range(u64(len(out))):
        row = n if rows is None else u64(rows[n])
        total = f32(0)
        for c in range(d):
            total += widened(u32(vectors[row, c])) * query[c]
        out[n] = total
