"""Helices from the beam line: what two hits say of the particle that made them, in NumPy or torch alike.

In a field along the beam axis a charged particle from that axis moves on a circle through it: at the distance r its
azimuth is φ(r) = φ_b + asin(κr/2), and z(r) = z_b + s·cot θ along the arc s = (2/κ)·asin(κr/2). κ = 1/R is in 1/mm,
above 0 where φ rises outward; pT = 0.3·B·R/1000 GeV for a field B in T and R in mm.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

LARGEST = 0.95  # of |κr/2|, the sine of an angle: beyond, the particle is about to turn back
STRAIGHT = 1e-3  # |κr/2| below which the arc is its series
LEAST = 1e-3  # mm, between two hits


class Helix(NamedTuple):
    """κ (1/mm), the azimuth φ_b it starts in, cot θ and z_b (mm); arrays of one shape."""

    kappa: Any
    phi: Any
    cot: Any
    z: Any


def curvature_of(pt: float, field: float) -> float:
    """κ in 1/mm of a particle of charge 1 and pT in GeV, in a field in T."""
    return 0.3e-3 * field / pt


def wrapped(xp: Any, angle: Any) -> Any:
    """Angles within [−π, π). xp : the module numpy or torch, as everywhere here."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def arc(xp: Any, r: Any, kappa: Any) -> Any:
    """The length s in mm along the circle from the beam line to the distance r, for κ of any sign."""
    x = xp.clip(xp.abs(kappa * r) / 2, 0, LARGEST)
    safe = xp.where(x < STRAIGHT, xp.ones_like(x), x)
    return r * xp.where(x < STRAIGHT, 1 + x * x / 6, xp.arcsin(safe) / safe)


def through(xp: Any, r: Any, phi: Any, z: Any, other_r: Any, other_phi: Any, other_z: Any) -> Helix:
    """The helix from the beam line through two hits each, which broadcast: mm and rad.

    A chord of length d is seen from another point of its circle, here the beam line, under an angle whose sine is
    κd/2. Two hits at one distance say nothing of cot θ: there it is that of the line from the origin.
    """
    turn = wrapped(xp, other_phi - phi)
    outward = other_r - r
    d = xp.sqrt(xp.clip(outward**2 + 4 * r * other_r * xp.sin(turn / 2) ** 2, LEAST**2, None))
    kappa = xp.where(outward < 0, -2.0, 2.0) * xp.sin(turn) / d
    s, other_s = arc(xp, r, kappa), arc(xp, other_r, kappa)
    between = other_s - s
    level = xp.abs(between) < LEAST
    cot = xp.where(level, z / s, (other_z - z) / xp.where(level, xp.ones_like(between), between))
    start = phi - xp.arcsin(xp.clip(kappa * r / 2, -LARGEST, LARGEST))
    return Helix(kappa, wrapped(xp, start), cot, z - s * cot)


def misses(xp: Any, helix: Helix, r: Any, phi: Any, z: Any) -> tuple[Any, Any]:
    """By how many mm helices pass hits at their distance from the axis: across in the bending plane, and along.

    The second is measured at a right angle to the track, so that a disk's hits, whose z is known but not where the
    track reaches their r, are judged as a barrel's are.
    """
    at = helix.phi + xp.arcsin(xp.clip(helix.kappa * r / 2, -LARGEST, LARGEST))
    along = z - helix.z - helix.cot * arc(xp, r, helix.kappa)
    return r * wrapped(xp, phi - at), along / xp.sqrt(1 + helix.cot**2)


def discrepancy(
    xp: Any, hit: tuple[Any, Any, Any], other: tuple[Any, Any, Any], curvature: float, length: float, size: float
) -> Any:
    """How unlike two hits (r, φ, z) are to lie on one helix from near the origin: a sum of two squares, in σ².

    curvature : spread of κ in 1/mm. length : spread of z_b in mm. size : how well a hit is where its helix is, mm.
    The azimuths of hits Δr apart differ by κΔr/2; lines from (0, z_b) keep z·s′ − z′·s = z_b·(s′ − s).
    """
    (r, phi, z), (other_r, other_phi, other_z) = hit, other
    turn, apart = wrapped(xp, other_phi - phi), other_r - r
    bend = turn**2 / ((curvature * apart / 2) ** 2 + size**2 * (1 / r**2 + 1 / other_r**2))
    kappa = xp.abs(turn) / xp.clip(xp.abs(apart) / 2, size, None)
    s, other_s = arc(xp, r, kappa), arc(xp, other_r, kappa)
    cross = z * other_s - other_z * s
    slope = cross**2 / ((length * (other_s - s)) ** 2 + (2 * size) ** 2 * (s**2 + other_s**2))
    return bend + slope
