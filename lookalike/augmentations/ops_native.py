"""Blur and resampling of `ops` on a CPU, picture by picture: only what a view shows is blurred, and stays in cache."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lookalike.native import native

TRUNCATE = 4.0  # Gaussian kernels end at 4σ, scipy.ndimage's default

# Of one type with what they are combined with, or the loops would be done in float64 and not in vectors.
f32, i32, u64 = np.float32, np.int32, np.uint64
Plane = NDArray[np.float32]


@native
def blurred(images: Plane, sigma: NDArray[np.float64], out: Plane) -> None:
    """Fill out with images (B, C, H, W), each band blurred by its sigma (B, C): see `ops.blur`."""
    B, C, H, W = images.shape
    space = _space(H, W)
    for b in range(B):
        for c in range(C):
            if _blurs(sigma[b, c]):
                _blur(images[b, c], sigma[b, c], (0, 0, H, W), (0, 0), space, out[b, c])
            else:
                out[b, c] = images[b, c]


@native
def resampled(images: Plane, sigma: NDArray[np.float64], affine: NDArray[np.float64], border: bool, out: Plane) -> None:
    """Fill out (B, C, size, size) with images (B, C, H, W), blurred, then interpolated: see `ops.resample`.

    sigma : (B, C) px. affine : (B, 6), of which (x0, y0, dx_j, dy_j, dx_i, dy_i) say that the output pixel in column
    j and row i is at column x0 + j·dx_j + i·dx_i of the picture, and at the row likewise.
    """
    B, C, H, W = images.shape
    space, bands = _space(H, W), np.empty(C * (H + 2) * (W + 2), f32)
    for b in range(B):
        left, right = _reach(affine[b, 0], affine[b, 2], affine[b, 4], out.shape[2], W)
        top, bottom = _reach(affine[b, 1], affine[b, 3], affine[b, 5], out.shape[2], H)
        rows, columns = bottom - top, right - left
        # What lies within the picture; around it is a rim of one px, of zeros or like the outermost px.
        x0, x1, y0, y1 = max(left, 0), min(right, W), max(top, 0), min(bottom, H)
        box = bands[: C * rows * columns].reshape((C, rows, columns))
        for c in range(C):
            if _blurs(sigma[b, c]):
                _blur(images[b, c], sigma[b, c], (y0, x0, y1, x1), (top, left), space, box[c])
            else:
                for y in range(y0, y1):
                    _set(box[c, y - top, x0 - left : x1 - left], f32(1), images[b, c, y, x0:x1])
            _rim(box[c], y0 - top, y1 - top, x0 - left, x1 - left, border)
        _interpolate(box, affine[b], left, top, out[b])


@native
def _reach(start: float, along_j: float, along_i: float, size: int, length: int) -> tuple[int, int]:
    """Which px of one axis, of −1 … length, an output of size × size px is interpolated from: first, last + 1."""
    to_j, to_i = along_j * (size - 1), along_i * (size - 1)
    low = start + min(to_j, 0.0) + min(to_i, 0.0)
    high = start + max(to_j, 0.0) + max(to_i, 0.0)
    # One px more than is needed, against rounding; at least two px, however far outside, and of NaN, which loses every
    # comparison, all. What is rounded stays a float until it is small, since no integer holds any number.
    first = int(min(length - 1.0, max(-1.0, np.floor(low) - 1.0)))
    last = int(max(first + 1.0, min(float(length), np.floor(high) + 2.0)))
    return first, last + 1


@native
def _interpolate(box: Plane, affine: NDArray[np.float64], left: int, top: int, out: Plane) -> None:
    """Fill out (C, size, size) from box (C, rows, columns), whose first px is at row `top` and column `left`.

    What lies outside the box is like its outermost px: where the picture ends, those are its rim.
    """
    C, rows, columns = box.shape
    size = out.shape[1]
    flat = box.reshape(-1)
    at, u, v = np.empty(size, np.uint64), np.empty(size, f32), np.empty(size, f32)
    dx, dy = f32(affine[2]), f32(affine[3])
    high_x, high_y = f32(columns - 1), f32(rows - 1)
    last_x, last_y, width = i32(columns - 2), i32(rows - 2), i32(columns)
    for i in range(size):
        x0, y0 = f32(affine[0] + i * affine[4] - left), f32(affine[1] + i * affine[5] - top)
        for j in range(size):
            # No number leads out of the box; NaN, which loses the first comparison, leads to its start.
            x = min(max(f32(0), x0 + f32(i32(j)) * dx), high_x)
            y = min(max(f32(0), y0 + f32(i32(j)) * dy), high_y)
            column, row = min(i32(x), last_x), min(i32(y), last_y)
            u[j], v[j] = x - f32(column), y - f32(row)
            at[j] = u64(row * width + column)
        # Band by band within a pixel: compiled as gathers of many pixels it takes twice as long.
        for j in range(size):
            here = at[j]
            for c in range(C):
                below = here + u64(columns)
                upper = flat[here] + u[j] * (flat[here + u64(1)] - flat[here])
                lower = flat[below] + u[j] * (flat[below + u64(1)] - flat[below])
                out[c, i, j] = upper + v[j] * (lower - upper)
                here += u64(rows * columns)


@native
def _rim(box: Plane, y0: int, y1: int, x0: int, x1: int, border: bool) -> None:
    """Fill what of box (rows, columns) is outside rows y0 … y1 and columns x0 … x1."""
    rows, columns = box.shape
    for y in range(y0, y1):
        for x in range(x0):
            box[y, x] = box[y, x0] if border else f32(0)
        for x in range(x1, columns):
            box[y, x] = box[y, x1 - 1] if border else f32(0)
    for y in range(y0):
        for x in range(columns):
            box[y, x] = box[y0, x] if border else f32(0)
    for y in range(y1, rows):
        for x in range(columns):
            box[y, x] = box[y1 - 1, x] if border else f32(0)


@native
def _blurs(sigma: float) -> bool:
    return sigma > 0 and math.isfinite(sigma)


@native
def _space(H: int, W: int) -> tuple[Plane, Plane, Plane]:
    """Room for a kernel, for a row with its mirror images, and for the picture blurred along its rows."""
    longest = max(H, W)
    return np.empty(longest + 1, f32), np.empty(W + 2 * longest, f32), np.empty(H * W, f32)


@native
def _blur(
    plane: Plane,
    sigma: float,
    part: tuple[int, int, int, int],
    corner: tuple[int, int],
    space: tuple[Plane, Plane, Plane],
    out: Plane,
) -> None:
    """Blur the part (first row and column, last + 1) of plane (H, W); out's first px is at `corner`."""
    H, W = plane.shape
    y0, x0, y1, x1 = part
    n = x1 - x0
    taps, line, half_done = space
    R = _fill_taps(taps, sigma, max(H, W))
    # Mirror images of rows are blurred as the rows themselves are.
    first, last = max(y0 - R, 0), min(y1 + R, H)
    along_rows = half_done[: (last - first) * n].reshape((last - first, n))
    for y in range(first, last):
        _mirror(plane[y], x0 - R, line[: n + 2 * R])
        done = along_rows[y - first]
        _set(done, taps[0], line[R : R + n])
        for t in range(1, R + 1):
            _add(done, taps[t], line[R - t : R - t + n], line[R + t : R + t + n])
    for y in range(y0, y1):
        done = out[y - corner[0], x0 - corner[1] : x1 - corner[1]]
        _set(done, taps[0], along_rows[y - first])
        for t in range(1, R + 1):
            above, below = _mirrored(y - t, H) - first, _mirrored(y + t, H) - first
            _add(done, taps[t], along_rows[above], along_rows[below])


@native
def _set(row: Plane, tap: np.float32, line: Plane) -> None:
    for x in range(len(row)):
        row[x] = tap * line[x]


@native
def _add(row: Plane, tap: np.float32, before: Plane, after: Plane) -> None:
    for x in range(len(row)):
        row[x] += tap * (before[x] + after[x])


@native
def _fill_taps(taps: Plane, sigma: float, limit: int) -> int:
    """Fill in half of a Gaussian kernel, from its middle, and return its radius R, at most limit."""
    R = int(min(TRUNCATE * sigma + 0.5, float(limit)))
    total = 1.0
    for t in range(1, R + 1):
        total += 2.0 * math.exp(-0.5 * (t / sigma) ** 2)
    for t in range(R + 1):
        taps[t] = math.exp(-0.5 * (t / sigma) ** 2) / total
    return R


@native
def _mirror(row: Plane, start: int, out: Plane) -> None:
    """Fill out with the numbers of row from place `start` on, which may be before it, and go on beyond it."""
    W, n = len(row), len(out)
    inner, outer = min(max(-start, 0), n), max(min(W - start, n), 0)
    for i in range(inner):
        out[i] = row[_mirrored(start + i, W)]
    out[inner:outer] = row[start + inner : start + outer]
    for i in range(outer, n):
        out[i] = row[_mirrored(start + i, W)]


@native
def _mirrored(place: int, length: int) -> int:
    """The place within 0 … length that is seen at any place, mirrored about the outer edges as often as it takes."""
    place %= 2 * length
    return min(place, 2 * length - 1 - place)
