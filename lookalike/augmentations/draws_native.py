"""The random numbers of `draws` on a CPU, in one pass where the definition takes a pass over the whole array a step."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lookalike.native import native

GOLDEN, MIX_1, MIX_2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
BLOCK = 1024  # numbers that are made together: they stay in the innermost cache

# Of one type with what they are combined with, or the loops would be done in float64 and not in vectors.
f32, i32, u64 = np.float32, np.int32, np.uint64
LOG_2, SQRT_HALF_BITS = f32(math.log(2)), i32(0x3F3504F3)


@native
def _mix(z: np.uint64) -> np.uint64:
    """splitmix64's output function."""
    z = (z ^ (z >> u64(30))) * MIX_1
    z = (z ^ (z >> u64(27))) * MIX_2
    return z ^ (z >> u64(31))


@native
def _start(row: np.int64, key: np.uint64) -> np.uint64:
    """The state before the first number of a row."""
    return _mix(_mix(u64(row) * GOLDEN + key) ^ key)


@native
def uniforms(rows: NDArray[np.int64], key: np.uint64, out: NDArray[np.float64]) -> None:
    """Fill out (B, n) with uniforms in (0, 1) of rows (B,): see `Draws.uniform`."""
    for b in range(len(rows)):
        state = _start(rows[b], key)
        for i in range(out.shape[1]):
            out[b, i] = (float(_mix(state + u64(i + 1) * GOLDEN) >> u64(12)) + 0.5) * 2.0**-52


@native
def normals(rows: NDArray[np.int64], key: np.uint64, out: NDArray[np.float32]) -> None:
    """Fill out (B, 2n) with standard normals of rows (B,), cosines first, then sines: see `Draws.normal`."""
    half = out.shape[1] // 2
    radius, bits = np.empty(BLOCK, f32), np.empty(BLOCK, i32)
    words = radius.view(i32)  # the same memory, as the bits of its numbers
    for b in range(len(rows)):
        state = _start(rows[b], key)
        for first in range(0, half, BLOCK):
            count = min(BLOCK, half - first)
            state_here = state + u64(first + 1) * GOLDEN
            for i in range(count):
                z = _mix(state_here + u64(i) * GOLDEN)
                radius[i] = (f32(i32(z & u64(0x7FFFFFFF))) + f32(0.5)) * f32(2.0**-31)
                bits[i] = i32(z >> u64(32))
            for i in range(count):
                # u = 2^e·m with m from √½ to √2; log m = 2·artanh((m − 1)/(m + 1)), whose series ends at 10⁻⁹.
                e = (words[i] - SQRT_HALF_BITS) >> i32(23)
                words[i] -= e << i32(23)
                m = radius[i]
                s = (m - f32(1)) / (m + f32(1))
                q = s * s
                log_m = f32(2) * s * (f32(1) + q * (f32(1 / 3) + q * (f32(1 / 5) + q * (f32(1 / 7) + q * f32(1 / 9)))))
                radius[i] = np.sqrt(max(f32(-2) * (log_m + f32(e) * LOG_2), f32(0)))
            cosines, sines = out[b, first : first + count], out[b, half + first : half + first + count]
            for i in range(count):
                # π·bits/2³¹ = quadrant·π/2 + x with x from −π/4 to π/4, where the series end at 10⁻⁹.
                quadrant = ((bits[i] >> i32(29)) + i32(1)) >> i32(1)
                x = f32(bits[i] - (quadrant << i32(30))) * f32(math.pi * 2.0**-31)
                q = x * x
                sin = x * (f32(1) - q * (f32(1 / 6) - q * (f32(1 / 120) - q * (f32(1 / 5040) - q * f32(1 / 362880)))))
                cos = f32(1) - q * (
                    f32(1 / 2) - q * (f32(1 / 24) - q * (f32(1 / 720) - q * (f32(1 / 40320) - q * f32(1 / 3628800))))
                )
                odd = (quadrant & i32(1)) != 0
                cosine, sine = (sin, cos) if odd else (cos, sin)
                cosines[i] = radius[i] * (-cosine if (quadrant + i32(1)) & i32(2) else cosine)
                sines[i] = radius[i] * (-sine if quadrant & i32(2) else sine)
