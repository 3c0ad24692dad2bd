"""Footprints: how much of the square an object is seen in is also seen in another's.

In a crowded field neighboring cutouts share pixels, so an object's most similar ones are often its own neighbors on
the sky. Results that overlap the query by more than a set share can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.samples import Samples

DEFAULT_LIMIT = 0.25  # share of the query's footprint another may cover
VIEW, STORED = 96, 152  # px: the ratio of view to stored cutout where no checkpoint says otherwise

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


def view_size(stored: tuple[int, int]) -> tuple[int, str]:
    """The side in px of the views of cutouts stored as (H, W), without a checkpoint; and where it comes from."""
    side = min(stored)
    size = min(side, max(8, round(side * VIEW / STORED / 8) * 8))
    return size, f"{VIEW}/{STORED} of the stored {side} px, in multiples of 8"


@dataclass(frozen=True)
class Footprints:
    """Axis-aligned squares of one size around positions.

    across, along : (N,) x and y in px, or right ascension and declination in degrees with `sky`; NaN has none.
    size : side of the square, in the same unit.
    """

    across: Values
    along: Values
    size: float
    sky: bool

    @classmethod
    def of(cls, samples: Samples, size_px: int) -> Footprints | None:
        """From columns ra, dec (with a known pixel scale) or else x, y; None where the catalog has neither."""
        scale = samples.about.pixel_scale
        if scale is not None and {"ra", "dec"} <= samples.columns.keys():
            return cls(_column(samples, "ra"), _column(samples, "dec"), size_px * scale / 3600, sky=True)
        if {"x", "y"} <= samples.columns.keys():
            return cls(_column(samples, "x"), _column(samples, "y"), float(size_px), sky=False)
        return None

    def share(self, row: int, others: Rows) -> Values:
        """The share of the footprint of `row` that each of `others` (n,) covers, 0 to 1; small-angle on the sky."""
        dx, dy = self.across[others] - self.across[row], self.along[others] - self.along[row]
        if self.sky:
            dx = (dx + 180) % 360 - 180  # across 0h, the short way round
            dx = dx * np.cos(np.deg2rad((self.along[others] + self.along[row]) / 2))
        width, height = np.clip(self.size - np.abs(dx), 0, None), np.clip(self.size - np.abs(dy), 0, None)
        share: Values = np.nan_to_num(width * height / self.size**2)
        return share

    def overlapping(self, row: int, limit: float = DEFAULT_LIMIT) -> Rows:
        """Rows, increasing and without `row`, that cover more than `limit` of its footprint."""
        near = np.flatnonzero(np.abs(self.along - self.along[row]) < self.size)
        near = near[near != row]
        found: Rows = near[self.share(row, near) > limit]
        return found


def _column(samples: Samples, name: str) -> Values:
    column = samples.column(name)
    if column.dtype.kind not in "fi":
        raise InputError(f"Footprints need positions as numbers, but column {name!r} holds text.")
    return column.astype(np.float64)
