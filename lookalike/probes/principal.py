"""Principal components of pictures, the plainest description an encoder has to beat; in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OBJECTS, BYTES = 2048, 1 << 29  # at most so many pictures, and so much of them, are fitted
RANK = 1e-9  # variance, as a share of the largest, below which a component is rounding
STRIPE = 4096  # pixels widened to float64 at once


@dataclass(frozen=True)
class Principal:
    """mean : (D,) float32. axes : (D, c) float32 orthonormal columns, of falling variance."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    def scores(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Components (B, c) of pixels (B, D)."""
        centered: NDArray[np.float32] = np.asarray(pixels, np.float32) - self.mean  # (B, D)
        found: NDArray[np.float32] = centered @ self.axes
        return found


def objects_fitted(n: int, pixels: int) -> int:
    """Of n pictures of so many pixels and bands, how many are fitted."""
    return min(n, OBJECTS, max(BYTES // (4 * pixels), 2))


def principal_components(pixels: NDArray[np.float32], most: int) -> Principal:
    """The `most` components of largest variance of pictures (n, D), or as many as there are; `pixels` is centered.

    They are the eigenvectors of the covariance (D, D) or, where that is larger, follow from those of the products
    of the pictures with each other (n, n) (Turk and Pentland 1991).
    """
    n, D = pixels.shape
    mean: NDArray[np.float32] = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    pixels -= mean
    few = n < D
    side = n if few else D
    products = np.zeros((side, side))
    step = STRIPE if few else max(1, STRIPE * 64 // D)
    for start in range(0, D if few else n, step):
        part = (pixels[:, start : start + step] if few else pixels[start : start + step].T).astype(np.float64)
        products += part @ part.T  # (n, n) over pixels, or (D, D) over pictures
    variance, vectors = np.linalg.eigh(products)
    kept = np.arange(side)[::-1][:most]
    kept = kept[variance[kept] > RANK * max(variance[-1], np.finfo(np.float64).tiny)]
    if not few:
        return Principal(mean, vectors[:, kept].astype(np.float32))
    axes = np.empty((D, len(kept)), np.float32)
    scaled = vectors[:, kept] / np.sqrt(variance[kept])  # (n, c)
    for start in range(0, D, STRIPE):
        axes[start : start + STRIPE] = pixels[:, start : start + STRIPE].astype(np.float64).T @ scaled
    return Principal(mean, axes)
