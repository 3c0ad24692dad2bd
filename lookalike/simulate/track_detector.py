"""The detector of simulated tracks: layers of a barrel and disks at both ends, as those of the TrackML challenge lie.

Radii, lengths and numbers of volumes and layers follow the challenge's public geometry; layers here are whole cylinders
and disks, with neither modules nor material.
"""

from __future__ import annotations

from typing import NamedTuple


class Layer(NamedTuple):
    """A cylinder at `at` = r with |z| up to `high`, or a disk at `at` = z with r from `low` to `high`, in mm.

    sigma : resolution in mm, across (rφ) and along (z of a cylinder, r of a disk). pitch : size of a cell, mm.
    """

    volume: int
    layer: int
    barrel: bool
    at: float
    low: float
    high: float
    sigma: tuple[float, float]
    pitch: tuple[float, float]


PIXEL, SHORT, LONG = ((0.012, 0.02), (0.05, 0.056)), ((0.02, 0.3), (0.08, 1.2)), ((0.03, 3.0), (0.12, 10.8))
BARRELS = (
    (8, (32.0, 72.0, 116.0, 172.0), 490.0, PIXEL),
    (13, (260.0, 360.0, 500.0, 660.0), 1080.0, SHORT),
    (17, (820.0, 1020.0), 1080.0, LONG),
)
DISKS = (
    ((7, 9), (600.0, 700.0, 820.0, 960.0, 1120.0, 1300.0, 1500.0), (30.0, 176.0), PIXEL),
    ((12, 14), (1220.0, 1500.0, 1800.0, 2150.0, 2550.0, 2950.0), (240.0, 700.0), SHORT),
    ((16, 18), (1220.0, 1500.0, 1800.0, 2150.0, 2550.0, 2950.0), (755.0, 1020.0), LONG),
)


def layers() -> tuple[Layer, ...]:
    """All layers; those of a volume are numbered 2, 4, … outward, or along the beam axis."""
    made = []
    for volume, radii, length, (sigma, pitch) in BARRELS:
        made += [Layer(volume, 2 * n + 2, True, r, 0.0, length, sigma, pitch) for n, r in enumerate(radii)]
    for (backward, forward), places, (low, high), (sigma, pitch) in DISKS:
        for n, z in enumerate(places):
            made.append(Layer(forward, 2 * n + 2, False, z, low, high, sigma, pitch))
            made.append(Layer(backward, 2 * (len(places) - n), False, -z, low, high, sigma, pitch))
    return tuple(made)
