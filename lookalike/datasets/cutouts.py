"""Cutting squares out of pictures, and the account of masked pixels, alike for every source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import MASKED_LIMIT, fill_masked
from lookalike.datasets.contract import Ledger
from lookalike.samples import Column

MASKED = Column("", "fraction of pixels that were masked or not finite and are stored as 0")
MASKED_COUNT = f"left out, more than {MASKED_LIMIT:.0%} masked"


def first_pixel(center: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """The index at which a cutout of `size` px starts so that `center` is within half a pixel of its middle."""
    # Rounded first, so that a position that falls between two pixels goes the same way on every machine.
    return np.floor(np.round(center - (size - 1) / 2 + 0.5, 6)).astype(np.int64)


def inside(x: NDArray[np.float64], y: NDArray[np.float64], size: int, height: int, width: int) -> NDArray[np.bool_]:
    """Whether the cutout of `size` px around each 0-based position (N,) lies wholly within (height, width)."""
    left, top = first_pixel(x, size), first_pixel(y, size)
    return (left >= 0) & (top >= 0) & (left + size <= width) & (top + size <= height)


def center_crop(images: NDArray[Any], size: int) -> NDArray[Any]:
    """The central `size` × `size` px of (…, H, W); H and W must be at least `size`."""
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels of any real type as native float32; what float32 cannot hold becomes infinite, thus masked."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(np.float32)


def measured(
    images: NDArray[np.float32], names: Sequence[str], ledger: Ledger
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Fill masked pixels of (N, C, H, W), and count the objects with some; those with too many are left out.

    Returns the images and masked fractions (n,) of the objects kept, and which are kept (N,).
    """
    filled, fraction = fill_masked(images)
    keep = fraction <= MASKED_LIMIT
    for row in np.flatnonzero(~keep).tolist():
        reason = f"{fraction[row]:.1%} of its pixels are masked, more than the {MASKED_LIMIT:.0%} allowed"
        ledger.drop(names[row], reason, MASKED_COUNT)
    ledger.masked += int(np.count_nonzero(fraction[keep]))
    return filled[keep], fraction[keep], keep


def stored_as(size: int, dtype: str, fit: str) -> dict[str, Any]:
    """The part of About.preprocess every source records: stored size, type, and how an upload is made to fit.

    fit: `crop` (a larger picture's center is taken, since the pixel scale matters), `exact` (only that size),
    `resize` (the shorter side is resized, then the center is taken).
    """
    return {"size": size, "dtype": dtype, "fit": fit}
