"""The companions of every hit: those most likely to lie with it on a helix from near the origin.

All pairs that may be companions are looked at roughly first, in float32; the few that may be among the best by that are
then measured in float64. A list that this does not prove is made again of all pairs. So the lists are those of float64
throughout, in a sixth of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lookalike.helix import LARGEST, curvature_of, discrepancy
from lookalike.tracks import FIELD

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Rows = NDArray[np.int64]

CURVATURE = curvature_of(0.7, FIELD)  # 1/mm: one σ is a particle of 0.7 GeV
LENGTH = 8.0  # mm: σ of where along the beam axis particles come from
SIZE = 2.0  # mm, by which a hit may miss its helix: resolution and scattering
TURN, ETA = 0.4, 1.0  # no companion is further in azimuth (rad) or in the pseudorapidity of its place
SLICES = 128  # of the azimuth, in which candidates are looked up
AT_ONCE = 32  # hits whose companions are sought together, so that their pairs stay in a core's cache
MARGIN = 0.05  # σ: what float32 may be off; of 4 million pairs of a full event none was by more than 0.002
LEAST = 1e-12  # of a square, below which it is taken for this
ROOMS = 7  # numbers of every pair that are there at a time

Triple = tuple[Floats, Floats, Floats]  # r in mm, φ in rad, z in mm


class Hits:
    """The hits of an event, (N,) each: r and z in mm, φ in rad, and the pseudorapidity η of their places."""

    def __init__(self, r: Floats, phi: Floats, z: Floats) -> None:
        self.r, self.phi, self.z = r, phi, z
        self.eta = np.arcsinh(z / r)
        self._room = np.empty(0, np.float32)

    def room(self, first: int, second: int) -> Singles:
        """(ROOMS, first, second) to calculate in, of the same memory every time: the system takes long to give more."""
        if self._room.size < (needed := ROOMS * first * second):
            self._room = np.empty(needed, np.float32)
        return self._room[:needed].reshape(ROOMS, first, second)

    def at(self, rows: Rows) -> Triple:
        return self.r[rows], self.phi[rows], self.z[rows]

    def unlike(self, first: Rows, second: Rows) -> Floats:
        """The discrepancy (m,) of pairs of hits (m,), infinite where they cannot be companions."""
        turn = np.mod(self.phi[second] - self.phi[first] + math.pi, 2 * math.pi) - math.pi
        possible = (np.abs(turn) <= TURN) & (np.abs(self.eta[second] - self.eta[first]) <= ETA) & (first != second)
        return np.where(possible, discrepancy(np, self.at(first), self.at(second), CURVATURE, LENGTH, SIZE), np.inf)


def companions(r: Floats, phi: Floats, z: Floats, most: int, advance: Callable[[int], None] | None = None) -> Rows:
    """The `most` best companions (N, most) of the hits (N,) of an event, best first, padded with −1.

    r, z in mm, φ in rad. Best is the smallest `helix.discrepancy` with CURVATURE, LENGTH and SIZE, and of equal ones
    the first hit; those beyond TURN or ETA are none. advance is called with how many hits are done.
    """
    hits = Hits(r, phi, z)
    found = np.full((len(r), most), -1, np.int64)
    done = 0
    for rows, candidates in _blocks(phi, hits.eta) if most else ():
        at, other, beyond = _few(hits, rows, candidates, most)
        found[rows], worst = _ranked(hits, rows, at, candidates[other], most)
        for unproven in rows[worst > beyond]:
            every = np.zeros(len(candidates), np.int64)
            found[unproven] = _ranked(hits, np.array([unproven]), every, candidates, most)[0]
        done += len(rows)
        if advance is not None:
            advance(done)
    return found


def _few(hits: Hits, rows: Rows, candidates: Rows, most: int) -> tuple[Rows, Rows, Floats]:
    """Which pairs of hits (b,) with candidates (c,) to measure: their places (m,) in both, by hit.

    And what any other pair of each hit has more than (b,), if float32 is off by MARGIN at most.
    """
    room = hits.room(len(rows), len(candidates))
    rough = _roughly(hits.at(rows), hits.at(candidates), room)  # (b, c), the hit itself among them
    limit = np.full(len(rows), np.inf)
    if most + 1 < len(candidates):
        limit = (np.sqrt(np.partition(rough, most, axis=1)[:, most].astype(np.float64)) + 2 * MARGIN) ** 2
    at, other = np.nonzero(rough <= np.minimum(limit, np.finfo(np.float32).max).astype(np.float32)[:, None])
    return at, other, (np.sqrt(limit) - MARGIN) ** 2


def _roughly(hit: Triple, other: Triple, room: Singles | None = None) -> Singles:
    """`helix.discrepancy` of hits (b,) with others (c,) in float32, (b, c), infinite beyond TURN.

    With h = κ/2 the arc is s = asin(h·r)/h, of which the discrepancy has only ratios; its denominator
    L²(s′ − s)² + 4σ²(s² + s′²) is written as 8σ²·((1 + e)/(2e)·(s′ − s)² + s·s′) with e = 4σ²/L². Azimuths are
    counted from the middle of the hits and in units of half the curvature, so that there is less to do for each pair.

    room : (ROOMS, b, c) to calculate in, of which the result is a part.
    """
    unit, e = CURVATURE / 2, (2 * SIZE / LENGTH) ** 2
    middle = hit[1][len(hit[1]) // 2]

    def single(r: Floats, phi: Floats, z: Floats) -> list[Singles]:
        azimuth = (np.mod(phi - middle + math.pi, 2 * math.pi) - math.pi) / unit
        return [each.astype(np.float32) for each in (r, azimuth, z / (math.sqrt(8) * SIZE), (SIZE / unit / r) ** 2)]

    with np.errstate(over="ignore"):  # of hits a hair's breadth from the axis
        r, phi, z, blur = (each[:, None] for each in single(*hit))
        other_r, other_phi, other_z, other_blur = single(*other)
    if room is None:
        room = np.empty((ROOMS, len(hit[0]), len(other[0])), np.float32)
    found, apart, h, over, s, other_s, spare = room  # (b, c), as all that follows

    def arc(r: Singles, s: Singles) -> None:
        """s of the distances r, up to a factor that all have."""
        np.multiply(h, r * np.float32(unit), out=s)
        np.arcsin(np.minimum(s, np.float32(LARGEST), out=s), out=s)
        s *= np.maximum(over, r * np.float32(unit / LARGEST), out=spare)

    turn = np.subtract(other_phi, phi, out=found)
    beyond = np.abs(turn, out=spare) > TURN / unit * (1 + 1e-5)
    turn *= turn
    np.subtract(other_r, r, out=apart)
    apart *= apart
    np.divide(turn, np.maximum(apart, np.float32(4 * SIZE**2), out=h), out=h)
    np.sqrt(np.maximum(h, np.float32(LEAST), out=h), out=h)
    apart += blur
    apart += other_blur
    found /= apart  # how unlike in the bending plane
    np.divide(np.float32(1), h, out=over)
    arc(r, s)
    arc(other_r, other_s)
    cross = np.multiply(z, other_s, out=apart)
    cross -= np.multiply(other_z, s, out=spare)
    cross *= cross
    between = np.subtract(other_s, s, out=spare)
    between *= between
    between *= np.float32((1 + e) / (2 * e))
    s *= other_s
    s += between
    cross /= s
    found += cross
    result: Singles = found
    result[beyond] = np.inf
    return result


def _ranked(hits: Hits, rows: Rows, at: Rows, second: Rows, most: int) -> tuple[Rows, Floats]:
    """The best companions (b, most) of hits (b,), padded with −1, among the second of some pairs (m,).

    at : place (m,) of the first among the hits, rising. With the discrepancy (b,) of the last of each, infinite where
    there are fewer.
    """
    made = np.bincount(at, minlength=len(rows))
    place = np.arange(len(at)) - np.repeat(np.cumsum(made) - made, made)  # of each pair among those of its hit
    shape = (len(rows), max(most, int(made.max())))
    unlike, which = np.full(shape, np.inf), np.full(shape, -1)
    unlike[at, place], which[at, place] = hits.unlike(rows[at], second), second
    which[~np.isfinite(unlike)] = -1
    order = np.lexsort((which, unlike), axis=1)[:, :most]
    return np.take_along_axis(which, order, axis=1), np.take_along_axis(unlike, order, axis=1)[:, -1]


def _blocks(phi: Floats, eta: Floats) -> Iterator[tuple[Rows, Rows]]:
    """Some hits (b,) at a time, near each other, with all hits (c,) that can be companions of any."""
    place = np.minimum(((phi + math.pi) / (2 * math.pi) * SLICES).astype(np.int64), SLICES - 1)
    slices = [np.flatnonzero(place == number) for number in range(SLICES)]
    slices = [rows[np.argsort(eta[rows], kind="stable")] for rows in slices]
    heights = [eta[rows] for rows in slices]
    reach = math.ceil(TURN / (2 * math.pi) * SLICES)
    for number, rows in enumerate(slices):
        near = [(number + step) % SLICES for step in range(-reach, reach + 1)]
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            low, high = eta[some[0]] - ETA, eta[some[-1]] + ETA
            parts = [
                slices[each][np.searchsorted(heights[each], low) : np.searchsorted(heights[each], high, "right")]
                for each in near
            ]
            yield some, np.concatenate(parts)
