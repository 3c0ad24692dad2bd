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
AT_ONCE = 64  # hits whose companions are sought together


def companions(r: Floats, phi: Floats, z: Floats, most: int) -> Rows:
    """The `most` best companions (N, most) of the hits (N,) of an event, best first, padded with −1.

    r, z in mm, φ in rad. Best is the smallest `helix.discrepancy` with CURVATURE, LENGTH and SIZE; those beyond TURN
    or ETA are none.
    """
    found = np.full((len(r), most), -1, np.int64)
    eta = np.arcsinh(z / r)
    for rows, candidates in _blocks(phi, eta):
        turn = np.mod(phi[candidates] - phi[rows, None] + math.pi, 2 * math.pi) - math.pi  # (b, c)
        possible = (np.abs(turn) <= TURN) & (np.abs(eta[candidates] - eta[rows, None]) <= ETA)
        possible &= candidates != rows[:, None]
        at, other = np.nonzero(possible)  # (m,) each, a half of the pairs or fewer
        first, second = rows[at], candidates[other]
        unlike = np.full(possible.shape, np.inf)
        unlike[at, other] = discrepancy(
            np, (r[first], phi[first], z[first]), (r[second], phi[second], z[second]), CURVATURE, LENGTH, SIZE
        )
        kept = min(most, len(candidates))
        nearest = np.argpartition(unlike, kept - 1, axis=1)[:, :kept]
        order = np.take_along_axis(unlike, nearest, axis=1).argsort(axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, axis=1)
        best = candidates[nearest]
        best[~np.isfinite(np.take_along_axis(unlike, nearest, axis=1))] = -1
        found[rows, :kept] = best
    return found


def _blocks(phi: Floats, eta: Floats) -> Iterator[tuple[Rows, Rows]]:
    """Some hits (b,) at a time, near each other, with all hits (c,) that can be companions of any."""
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
            yield some, np.concatenate(parts)
