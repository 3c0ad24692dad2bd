"""Which vectors can be among the best of a live search, told by the rounded ones.

For a query q and a vector x = center + step · codes + rest, by Cauchy and Schwarz, q·x differs from
q·center + step · (q·codes) by at most |q| · |rest|. What can be among the best by these bounds is ranked by the vectors
as they are stored, so that the answer is the one without them, to the last bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CorruptError
from lookalike.indexer.reach import Rows, in_reach
from lookalike.indexer.rounded import AGAIN, Rounded
from lookalike.indexer.rounded_native import bounds
from lookalike.indexer.similarity import SAFETY, U32, Similarities

BLOCK_BYTES = 2**22  # of codes scored between two looks at which of them may be among the best


def rounded_in_reach(
    rounded: Rounded, candidates: Rows | None, query: NDArray[Any], wanted: int, max_length: float
) -> Rows:
    """Rows among which the `wanted` best of more candidates are, of all where None; query (D,).

    max_length : what no vector is longer than. CorruptError where an altered error leaves fewer than `wanted`.
    """
    wide, center, narrow = query.astype(np.float64), rounded.center.astype(np.float64), query.astype(np.float32)
    length = math.sqrt(wide @ wide) * SAFETY
    base = float(wide @ center)
    # Roundings besides: of the canonical similarity, the base, the score and the error. Each is at most half a
    # float32 step of a number that is no larger than this sum. Then what processors may flush to 0.
    largest = max_length + math.sqrt(center @ center) + rounded.about.largest_error
    rest = 8 * U32 * length * largest + len(query) * 2.0**-118 * (1 + length)

    def of(rows: slice | Rows) -> tuple[Similarities, Similarities]:
        if isinstance(rows, slice):
            codes, scales, which = rounded.codes[rows], rounded.scales[rows], None
        else:
            codes, scales, which = rounded.codes, rounded.scales, rows
        n = len(codes) if which is None else len(which)
        score, width = np.empty(n, np.float32), np.empty(n, np.float32)
        bounds(codes, scales, which, narrow, base, length, rest, score, width)
        return score, width

    n = len(rounded.codes) if candidates is None else len(candidates)
    found = in_reach(of, n, candidates, wanted, max(1, BLOCK_BYTES // rounded.codes.shape[1]))
    if len(found) < min(wanted, n):
        raise CorruptError(f"{rounded.folder / 'scales.bin'} was altered; {AGAIN}")
    return found
