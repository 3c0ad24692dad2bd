"""Hand-made descriptions of an image, as baselines an encoder has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HISTOGRAM_BINS = 16


def raw_pixels(images: NDArray[Any]) -> NDArray[np.float64]:
    """Pixels (N, C, H, W) as vectors (N, C·H·W)."""
    return images.reshape(len(images), -1).astype(np.float64)


def hand_features(images: NDArray[Any], top: float = 255.0) -> NDArray[np.float64]:
    """What rotation cannot change of (N, C, H, W): radial profile and color histogram, (N, C·(R + bins)).

    The profile is each band's mean in rings one pixel wide around the center; the histogram counts each band's
    pixels within the largest ring in 16 equal steps of the square root of its brightness from 0 to `top`, so that
    the faint outskirts do not share one bin.
    """
    return np.hstack([radial_profile(images), color_histogram(images, top)])


def radial_profile(images: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each band in rings one pixel wide: (N, C, H, W) → (N, C·R)."""
    ring, rings = _rings(images.shape[2:])
    pixels = images.reshape(*images.shape[:2], -1)  # (N, C, H·W)
    member = (ring.ravel()[:, None] == np.arange(rings)).astype(np.float64)  # (H·W, R)
    profile: NDArray[np.float64] = pixels.astype(np.float64) @ (member / member.sum(axis=0))  # (N, C, R)
    return profile.reshape(len(images), -1)


def color_histogram(images: NDArray[Any], top: float = 255.0) -> NDArray[np.float64]:
    """Share of each band's pixels per brightness step inside the largest ring: (N, C, H, W) → (N, C·bins)."""
    ring, rings = _rings(images.shape[2:])
    inside = images[:, :, ring < rings]  # (N, C, P)
    step = np.sqrt(np.clip(inside, 0, top) / top) * HISTOGRAM_BINS
    step = np.minimum(step.astype(np.int64), HISTOGRAM_BINS - 1)
    n, c, pixels = step.shape
    flat = np.arange(n * c)[:, None] * HISTOGRAM_BINS + step.reshape(n * c, pixels)
    counts = np.bincount(flat.ravel(), minlength=n * c * HISTOGRAM_BINS)
    shares: NDArray[np.float64] = counts.reshape(n, c * HISTOGRAM_BINS) / pixels
    return shares


def standardized(stored: NDArray[np.float64], queries: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both sets with the stored set's mean removed and its spread set to one, component by component."""
    mean, spread = stored.mean(axis=0), stored.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return (stored - mean) / spread, (queries - mean) / spread


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Each pixel's ring number around the center, and how many rings are complete."""
    height, width = shape
    y, x = np.ogrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)  # (H, W)
    return radius.astype(np.int64), min(height, width) // 2
