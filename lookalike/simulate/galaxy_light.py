"""Light in Fourier space, where a profile's total flux and its blurring by a point-spread function are exact.

A profile's transform is 1 at frequency 0, so its picture holds exactly its flux; the product with the transform of the
point-spread function is their convolution. Frequencies k are in cycles per px, lengths in px, x to the right (the last
axis), y along the rows.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Waves = NDArray[np.complex64]

GOOD = (32, 48, 64, 72, 80, 96, 108, 128, 144, 160, 192, 216, 256, 288, 320, 384, 432, 512, 576, 640)
MARGIN = 32  # px around the picture, so that what is outside does not come back in from the other side
MOFFAT = 3.5  # exponent of the point-spread function
NODES = 5  # Gaussians that it is made of
STEP = 0.25  # of the Sérsic indices whose mixtures are worked out
TERMS = 20  # Gaussians of a Sérsic profile


class Grid:
    """The frequencies of a square picture with its margin: `kx` (F,), `ky` (P,), as of rfft2 of (P, P)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.padded = next(side for side in GOOD if side >= size + MARGIN)
        self.kx = np.fft.rfftfreq(self.padded).astype(np.float32)
        self.ky = np.fft.fftfreq(self.padded).astype(np.float32)
        self.first = (self.padded - size) // 2  # where the picture begins within the padded one
        self.at = np.arange(self.padded, dtype=np.float32)

    def phase(self, x: float, y: float) -> Waves:
        """What moves a profile centered on pixel (0, 0) to x, y of the padded picture, (P, F)."""
        along = np.exp(-2j * math.pi * self.kx.astype(np.float64) * x)
        down = np.exp(-2j * math.pi * self.ky.astype(np.float64) * y)
        moved: Waves = (down[:, None] * along).astype(np.complex64)
        return moved

    def waves(self, picture: Plane) -> Waves:
        """The transform (P, F) of a padded picture (P, P)."""
        return np.asarray(np.fft.rfft2(picture), np.complex64)

    def picture(self, waves: Waves) -> Plane:
        """The stored part (S, S) of the picture of a transform (P, F)."""
        inside = slice(self.first, self.first + self.size)
        return np.asarray(np.fft.irfft2(waves, s=(self.padded, self.padded)), np.float32)[inside, inside]


def half_light_b(n: float) -> float:
    """b of a Sérsic profile exp(−b·(r/r_e)^(1/n)), so that r_e holds half the light (Ciotti & Bertin 1999)."""
    return 2 * n - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2) + 131 / (1148175 * n**3)


def sersic_profile(r: NDArray[np.float64], n: float) -> NDArray[np.float64]:
    """Surface brightness at radii r (in r_e) of a Sérsic profile of total flux 1."""
    b = half_light_b(n)
    total = 2 * math.pi * n * b ** (-2 * n) * math.gamma(2 * n)
    brightness: NDArray[np.float64] = np.exp(-b * r ** (1 / n)) / total
    return brightness


@lru_cache(maxsize=64)
def gaussians(index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares (J,) and widths σ (J,) in r_e of the Gaussians that make up the Sérsic profile n = STEP · index.

    Least squares of the flux between radii, on a logarithmic scale, as Hogg & Lang (2013) do for two of the indices.
    """
    n = STEP * index
    sigma = np.geomspace(0.006, 30, TERMS)  # (J,)
    r = np.geomspace(1e-3, 120, 600)  # (R,)
    wanted = 2 * math.pi * r**2 * sersic_profile(r, n)  # flux per unit of ln r
    basis = (r[:, None] / sigma) ** 2 * np.exp(-((r[:, None] / sigma) ** 2) / 2)  # (R, J), each of total 1
    steady = 1e-3 * np.eye(TERMS)  # without it, neighbors of opposite signs would cancel
    shares = np.linalg.lstsq(np.vstack([basis, steady]), np.concatenate([wanted, np.zeros(TERMS)]), rcond=None)[0]
    return shares / shares.sum(), sigma


def sersic(grid: Grid, n: float, radius: float, ratio: float, angle: float) -> Plane:
    """The transform (P, F) of a Sérsic profile of total 1, centered.

    radius : r_e along the major axis, px. ratio : minor over major axis. angle : of the major axis from +x to +y, rad.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    along = grid.kx * np.float32(radius * cos) + (grid.ky * np.float32(radius * sin))[:, None]
    across = grid.ky[:, None] * np.float32(radius * ratio * cos) - grid.kx * np.float32(radius * ratio * sin)
    q2 = along * along + across * across  # (P, F), in 1/r_e²
    if n == 1:
        h = 2 * math.pi / half_light_b(1.0)
        return np.asarray((1 + np.float32(h * h) * q2) ** np.float32(-1.5))
    low = min(int(n / STEP), int(6 / STEP) - 1)
    part = n / STEP - low
    (below, sigma), (above, _) = gaussians(low), gaussians(low + 1)
    shares = (1 - part) * below + part * above
    farthest = float(q2.max())
    total = np.zeros_like(q2)
    for share, width in zip(shares.tolist(), sigma.tolist(), strict=True):
        c = 2 * math.pi**2 * width**2
        if c * farthest < 1e-4:  # so narrow that its transform is flat
            total += np.float32(share)
        else:
            total += np.float32(share) * np.exp(np.float32(-c) * q2)
    summed: Plane = total
    return summed


@lru_cache(maxsize=1)
def _moffat_nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes t and weights of the Gauss–Laguerre rule for t^(β−2)·e^(−t), by Golub and Welsch (1969).

    (1 + r²/α²)^(−β) is a mixture of Gaussians of σ² = α²/(2t), with t of a gamma distribution.
    """
    a = MOFFAT - 2
    i = np.arange(NODES)
    matrix = (
        np.diag(2 * i + a + 1) + np.diag(np.sqrt(i[1:] * (i[1:] + a)), 1) + np.diag(np.sqrt(i[1:] * (i[1:] + a)), -1)
    )
    t, vectors = np.linalg.eigh(matrix)
    return t, vectors[0] ** 2


@lru_cache(maxsize=1)
def _half_width() -> float:
    """The radius, in α, at which the mixture is half as bright as in its middle: near Moffat's √(2^(1/β) − 1)."""
    t, weights = _moffat_nodes()
    low, high = 0.1, 1.0
    for _ in range(60):
        r = (low + high) / 2
        low, high = (r, high) if (weights * t * np.exp(-t * r**2)).sum() > 0.5 * (weights * t).sum() else (low, r)
    return low


def moffat(grid: Grid, fwhm: float) -> Plane:
    """The transform (P, F) of a Moffat point-spread function of exponent 3.5; fwhm in px."""
    alpha = fwhm / (2 * _half_width())
    total = np.zeros((len(grid.ky), len(grid.kx)), np.float32)
    for t, weight in zip(*_moffat_nodes(), strict=True):
        c = np.float32(-2 * math.pi**2 * alpha**2 / (2 * t))
        total += np.exp(c * grid.ky**2)[:, None] * (np.float32(weight) * np.exp(c * grid.kx**2))
    return total


def deposit(grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64], light: NDArray[np.float64]) -> Plane:
    """Points (n,) at x, y of the padded picture shared among the four pixels around each; those outside are lost."""
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, below = x - left, y - top
    side = grid.padded
    picture = np.zeros(side * side)
    for down, share_y in ((0, 1 - below), (1, below)):
        for aside, share_x in ((0, 1 - right), (1, right)):
            column, row = left + aside, top + down
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            places = (row * side + column)[inside]
            picture += np.bincount(places, (light * share_x * share_y)[inside], side * side)
    return picture.reshape(side, side).astype(np.float32)
