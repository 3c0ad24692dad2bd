"""Canonical similarity: the exact real dot product of two stored vectors, rounded once to float32.

It depends on no order of summation, machine or library, so any two correct indexes of the same vectors agree to
the last bit. Products of float32 (or float16) numbers are exact in float64, and a float64 sum of D of them, in
any order, is within γ_D·Σ|a_i·b_i| of the truth (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
ed., section 3.1). Where that interval rounds to one float32 the work is done; the few others are summed exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Similarities = NDArray[np.float32]

U32 = 2.0**-24  # unit roundoff of float32
U64 = 2.0**-53
SAFETY = 1 + 1e-6  # covers the rounding of the bounds themselves
BLOCK_BYTES = 4 * 2**20  # float64 copies held at once, small enough for the cache


def gamma(d: int, unit: float) -> float:
    """γ_d = d·u / (1 − d·u), with one rounding more than the d of a dot product, for the products' sake."""
    n = (d + 1) * unit
    return SAFETY * n / (1 - n)


def float32_error(d: int, length_a: float, length_b: float) -> float:
    """How far a float32 dot product, in any order of summation, can lie from the canonical similarity.

    length_a, length_b : upper bounds of the two vectors' lengths, so that Σ|a_i·b_i| ≤ length_a·length_b. The
    second term covers the canonical rounding, the third what is lost where subnormal numbers are flushed to 0.
    """
    scale = length_a * length_b
    return SAFETY * (gamma(d, U32) * scale + U32 * scale + d * 2.0**-124 * (1 + length_a + length_b))


def similarities(vectors: NDArray[Any], rows: NDArray[np.integer[Any]], query: NDArray[Any]) -> Similarities:
    """Canonical similarity of one query (D,) with vectors[rows], float32 or float16 (N, D); returns (len(rows),)."""
    a = query.astype(np.float64)  # (D,)
    g, length = gamma(len(a), U64), math.sqrt(a @ a)
    out = np.empty(len(rows), np.float32)
    step = max(1, BLOCK_BYTES // (8 * max(1, len(a))))
    for start in range(0, len(rows), step):
        b = vectors[rows[start : start + step]].astype(np.float64)  # (n, D)
        s = b @ a  # (n,)
        # Cauchy and Schwarz bound Σ|a_i·b_i| cheaply; where that is too loose, the sum itself is taken.
        error = (SAFETY * g * length) * np.sqrt(np.einsum("nd,nd->n", b, b))
        value, sure = _settled(s, error)
        for n in np.flatnonzero(~sure):
            value[n] = _careful(a * b[n], s[n], g)
        out[start : start + step] = value
    return out


def _settled(s: NDArray[np.float64], error: NDArray[np.float64]) -> tuple[Similarities, NDArray[np.bool_]]:
    """Round s (…) to float32, and say where every number within `error` of it rounds to the same one."""
    with np.errstate(over="ignore", under="ignore"):
        # Widening by one float64 step covers the rounding of s − error and s + error.
        below = np.nextafter(s - error, -np.inf).astype(np.float32)
        above = np.nextafter(s + error, np.inf).astype(np.float32)
    return above + np.float32(0), below == above  # + 0 turns −0 into 0


def _careful(products: NDArray[np.float64], s: np.float64, g: float) -> np.float32:
    """One similarity from its exact products (D,): 24 and 24 bits fit into float64's 53."""
    value, sure = _settled(np.array([s]), np.array([g * np.abs(products).sum()]))
    return np.float32(value[0]) if sure[0] else exact(products)


def exact(products: NDArray[np.float64]) -> np.float32:
    """The exact sum of float64 numbers, rounded once to the nearest float32, ties to even; −0 becomes 0."""
    terms = products.tolist()
    near = math.fsum(terms)  # the float64 nearest to the sum
    with np.errstate(over="ignore", under="ignore"):
        value = np.float32(near)
    if float(value) == near:
        return np.float32(value + np.float32(0))
    # `near` lies strictly between two float32 numbers. Rounding it errs only where it is their midpoint while
    # the sum itself is not: then the sum's side of the midpoint decides.
    other = np.nextafter(value, np.float32(np.inf if near > float(value) else -np.inf))
    if (float(value) + float(other)) / 2 == near:
        rest = math.fsum([*terms, -near])
        if rest:
            value = max(value, other) if rest > 0 else min(value, other)
    return np.float32(value + np.float32(0))
