"""Two disk galaxies passing each other: tails and bridges by the restricted three-body method (Toomre & Toomre 1972).

Stars are test particles in the softened gravity of two centers, which move on a parabola. Units: gravity's constant 1,
the first galaxy's mass 1 and its disk's edge at 1, where a star takes 2π for a turn. Coordinates are the first axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STARS = 900  # of each galaxy
STEPS = 80
BEFORE = 3.5  # time from the start to the closest approach
HALF = np.float32(0.5)
SOFT2 = np.float32(0.25**2)


@dataclass(frozen=True)
class Encounters:
    """Encounters (B,), each with the second galaxy's mass, the closest distance, the time since, and orientations.

    tilt, node : (B, 2) of the two disks' planes against the orbit's, rad; a tilt below π/2 turns along with the orbit.
    phase, radius : (B, 2, STARS) uniform numbers that place the stars.
    """

    mass: Floats
    closest: Floats
    since: Floats
    tilt: Floats
    node: Floats
    phase: Floats
    radius: Floats


def run(given: Encounters) -> tuple[Floats, Floats]:
    """Places of the stars (3, B, 2, STARS) and of the second center (3, B), the first center being at 0."""
    dt = ((BEFORE + given.since) / STEPS).astype(np.float32)  # (B,)
    apart, speed = _start(given)  # (3, B) each, of the second center from the first
    share = given.mass / (1 + given.mass)  # (B,)
    place, velocity = _disks(given)  # (3, B, 2, S)
    place += _centers(apart, share)[..., None]
    velocity += _centers(speed, share)[..., None]
    half, whole = (HALF * dt)[:, None, None], dt[:, None, None]
    for _ in range(STEPS):  # leapfrog: drift, kick, drift
        place += half * velocity
        apart = apart + HALF * dt * speed
        _kick(velocity, place, _centers(apart, share), given.mass, whole)
        speed = speed + dt * _mutual(apart, given.mass)
        place += half * velocity
        apart = apart + HALF * dt * speed
    return place - _centers(apart, share)[:, :, :1, None], apart


def _centers(apart: Floats, share: Floats) -> Floats:
    """Places or velocities (3, B, 2) of the two centers about their common one."""
    return np.stack([-share * apart, (1 - share) * apart], axis=-1)


def _start(given: Encounters) -> tuple[Floats, Floats]:
    """Where the second center is, and how it moves, BEFORE the closest approach: the orbit followed backwards."""
    zero, step = np.zeros_like(given.closest), np.float32(BEFORE / STEPS)
    apart = np.stack([given.closest, zero, zero])
    escape = np.sqrt(2 * (1 + given.mass) / np.sqrt(given.closest**2 + SOFT2))
    speed = np.stack([zero, escape, zero])
    for _ in range(STEPS):
        apart = apart - step / 2 * speed
        speed = speed - step * _mutual(apart, given.mass)
        apart = apart - step / 2 * speed
    return apart, speed


def _disks(given: Encounters) -> tuple[Floats, Floats]:
    """Stars on circles around their own centers, denser inward: places and velocities (3, B, 2, S)."""
    mass = np.stack([np.ones_like(given.mass), given.mass], axis=1)[:, :, None]  # (B, 2, 1)
    r = np.sqrt(mass) * (0.12 + 0.88 * given.radius ** np.float32(1.3))  # a lighter galaxy is a smaller one
    v = np.sqrt(mass) * r / (r**2 + SOFT2) ** np.float32(0.75)
    turn = np.float32(2 * np.pi) * given.phase
    cos, sin = np.cos(turn), np.sin(turn)
    return _tilted(given, r * cos, r * sin), _tilted(given, -v * sin, v * cos)


def _tilted(given: Encounters, x: Floats, y: Floats) -> Floats:
    """Vectors (3, B, 2, S) of a disk's plane, tilted about its x axis and turned by `node` within the orbit's plane."""
    ci, si, cn, sn = (f(a)[..., None] for a in (given.tilt, given.node) for f in (np.cos, np.sin))
    return np.stack([cn * x - sn * ci * y, sn * x + cn * ci * y, si * y]).astype(np.float32)


def _kick(velocity: Floats, place: Floats, centers: Floats, mass: Floats, dt: Floats) -> None:
    """Change the stars' velocities in place by both centers' pull for a time dt."""
    # Every operation is on single elements, so that an encounter comes out the same beside any others.
    for which, heavy in ((0, np.float32(1)), (1, mass[:, None, None])):
        x, y, z = (place[axis] - centers[axis, :, which, None, None] for axis in range(3))
        r2 = x * x + y * y + z * z + SOFT2
        pull = dt * heavy / (r2 * np.sqrt(r2))
        for axis, away in enumerate((x, y, z)):
            velocity[axis] -= pull * away


def _mutual(apart: Floats, mass: Floats) -> Floats:
    """Acceleration (3, B) of the second center relative to the first."""
    r2 = apart[0] ** 2 + apart[1] ** 2 + apart[2] ** 2 + SOFT2
    pull: Floats = -apart * ((1 + mass) / (r2 * np.sqrt(r2)))
    return pull
