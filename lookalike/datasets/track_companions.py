"""The companions of every hit: those most likely to lie with it on a helix from near the origin."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lookalike.helix import curvature_of, discrepancy
from lookalike.tracks import FIELD

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

CURVATURE = curvature_of(0.7, FIELD)  # 1/mm: one σ is a particle of 0.7 GeV
LENGTH = 8.0  # mm: σ of where along the beam axis particles come from
SIZE = 2.0  # mm, by which a hit may miss its helix: resolution and scattering
TURN, ETA = 0.4, 1.0  # no companion is further in azimuth (rad) or in the pseudorapidity of its place
SLICES = 64  # of the azimuth, in which candidates are looked up
AT_ONCE = 128  # hits whose companions are sought together


def companions(r: Floats, phi: Floats, z: Floats, most: int) -> Rows:
    """The `most` best companions (N, most) of the hits (N,) of an event, best first, padded with −1.

    r, z in mm, φ in rad. Best is the smallest `helix.discrepancy` with CURVATURE, LENGTH and SIZE, ties by row; those
    beyond TURN or ETA are none.
    """
    found = np.full((len(r), most), -1, np.int64)
    eta = np.arcsinh(z / r)
    for rows, candidates in _blocks(phi, eta):
        apart = np.abs(np.mod(phi[candidates] - phi[rows, None] + math.pi, 2 * math.pi) - math.pi)  # (b, c)
        unlike = discrepancy(
            np,
            (r[rows, None], phi[rows, None], z[rows, None]),
            (r[candidates], phi[candidates], z[candidates]),
            CURVATURE,
            LENGTH,
            SIZE,
        )
        out = (apart > TURN) | (np.abs(eta[candidates] - eta[rows, None]) > ETA) | (candidates == rows[:, None])
        unlike[out] = np.inf
        kept = np.argsort(unlike, axis=1, kind="stable")[:, :most]  # candidates are in rising order
        best = candidates[kept]
        best[~np.isfinite(np.take_along_axis(unlike, kept, axis=1))] = -1
        found[rows, : best.shape[1]] = best
    return found


def _blocks(phi: Floats, eta: Floats) -> Iterator[tuple[Rows, Rows]]:
    """Some hits (b,) at a time, near each other, with all hits (c,) that can be companions of any, in rising order."""
    place = np.minimum(((phi + math.pi) / (2 * math.pi) * SLICES).astype(np.int64), SLICES - 1)
    slices = [np.flatnonzero(place == number) for number in range(SLICES)]
    slices = [rows[np.argsort(eta[rows], kind="stable")] for rows in slices]
    reach = math.ceil(TURN / (2 * math.pi) * SLICES)
    for number, rows in enumerate(slices):
        near = [slices[(number + step) % SLICES] for step in range(-reach, reach + 1)]
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            low, high = eta[some[0]] - ETA, eta[some[-1]] + ETA
            parts = [each[np.searchsorted(eta[each], low) : np.searchsorted(eta[each], high, "right")] for each in near]
            yield some, np.sort(np.concatenate(parts))
