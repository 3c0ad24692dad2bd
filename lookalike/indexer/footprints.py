"""Footprints: how much of the square an object is seen in is also seen in another's.

In a crowded field neighboring cutouts share pixels, so an object's most similar ones are often its own neighbors on
the sky. Results that overlap the query by more than a set share can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.about import IMAGES
from lookalike.samples import Samples

DEFAULT_LIMIT = 0.25  # share of the query's footprint another may cover
VIEW, STORED = 96, 152  # px: the ratio of view to stored cutout where no checkpoint says otherwise

DEGREES, PIXELS = ("deg", "degree", "degrees"), ("px", "pix", "pixel", "pixels")  # as catalogs write them

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


def view_size(side: int) -> tuple[int, str]:
    """The side in px of the views of cutouts of `side` px, without a checkpoint; and where it comes from."""
    if not side:
        return 0, "no pictures are stored"
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
    def of(cls, samples: Samples, size_px: int) -> tuple[Footprints | None, str]:
        """From ra and dec in degrees (with a known pixel scale), else x and y in px of one picture.

        Where the catalog has neither, there are no footprints, and the sentence says why; else it is empty.
        """
        if samples.layout != IMAGES:
            return None, "Which objects overlap is not known: they are no pictures."
        sky, why_not_sky = _positions(samples, ("ra", "dec"), (*DEGREES, ""))
        scale = samples.about.pixel_scale
        if sky is not None and scale is not None:
            return cls(*sky, size_px * scale / 3600, sky=True), ""
        if sky is not None:
            why_not_sky = "the data set has no pixel scale to go with ra and dec"
        flat, why_not_flat = _positions(samples, ("x", "y"), PIXELS)
        if flat is not None and not _one_picture(samples):
            flat, why_not_flat = None, "x and y are places in several pictures (column file)"
        if flat is None:
            return None, f"Which objects overlap is not known: {why_not_sky}, and {why_not_flat}."
        return cls(*flat, float(size_px), sky=False), ""

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


def unfit(samples: Samples, names: tuple[str, str], units: tuple[str, ...]) -> str:
    """Why two columns are no positions in one of some units; empty where they are."""
    for name in names:
        if name not in samples.columns:
            return f"there is no column {name}"
        unit = samples.columns[name].unit
        if unit not in units:
            return f"column {name} is in {unit or 'no unit'}, not {units[0]}"
        if samples.kinds[name] not in "fi":
            return f"column {name} holds text"
    return ""


def _positions(
    samples: Samples, names: tuple[str, str], units: tuple[str, ...]
) -> tuple[tuple[Values, Values] | None, str]:
    """Two columns as numbers, or None and why they are no positions."""
    if why_not := unfit(samples, names, units):
        return None, why_not
    across, along = (samples.column(name).astype(np.float64, copy=False) for name in names)
    return (across, along), ""


def _one_picture(samples: Samples) -> bool:
    """Whether all objects were cut out of one picture, as far as a column `file` says."""
    if "file" not in samples.columns:
        return True
    first, last = samples.values("file", [0, len(samples) - 1])
    return bool(first == last and (samples.column("file") == first).all())
