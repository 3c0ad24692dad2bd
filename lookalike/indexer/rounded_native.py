"""The loops of rounded vectors: rounding them, and the bounds of their similarities with a query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.native import native_sum

u64, f32, f64, i8 = np.uint64, np.float32, np.float64, np.int8

MOST = 127
LEAST_STEP = 2.0**-120  # below which a vector is its center for all that codes can say
SAFETY = 1 + 1e-6


@native_sum
def round_off(
    vectors: NDArray[np.float32],
    center: NDArray[np.float32],
    gamma: float,
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
) -> None:
    """Codes (n, D), steps and errors (n, 2) of vectors (n, D). gamma : of a float32 sum of D products."""
    d = u64(vectors.shape[1])
    for n in range(u64(len(vectors))):
        most = 0.0
        for c in range(d):
            most = max(most, abs(f64(vectors[n, c]) - f64(center[c])))
        step = f32(most / MOST)
        per_step = 1 / f64(step) if step >= LEAST_STEP else 0.0
        if per_step == 0:
            step = f32(0)
        rest = length = 0.0
        for c in range(d):
            away = f64(vectors[n, c]) - f64(center[c])
            code = np.rint(away * per_step)
            code = min(max(code, -MOST), MOST)  # a step that was rounded down may leave 127.000004
            codes[n, c] = i8(code)
            held = f64(step) * code
            rest += (away - held) * (away - held)
            length += held * held
        scales[n, 0] = step
        scales[n, 1] = f32((np.sqrt(rest) + gamma * np.sqrt(length)) * SAFETY)


@native_sum
def bounds(
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    rows: NDArray[np.int64] | None,
    query: NDArray[np.float32],
    base: float,
    length: float,
    rest: float,
    score: NDArray[np.float32],
    width: NDArray[np.float32],
) -> None:
    """Scores and widths (n,) of the first n rounded vectors, or of those at `rows` (n,): no similarity of them lies
    above its score, or further below than its width.

    base : the query (D,) times the center. length : its own. rest : what the scores may be off besides the errors.
    """
    d = u64(codes.shape[1])
    for n in range(u64(len(score))):
        row = n if rows is None else u64(rows[n])
        total = f32(0)
        for c in range(d):
            total += f32(codes[row, c]) * query[c]
        off = f64(scales[row, 1]) * length + rest
        score[n] = f32(base + f64(scales[row, 0]) * f64(total) + off)
        width[n] = f32(2 * off * SAFETY)
