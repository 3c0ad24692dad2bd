"""Structure that no Sérsic profile has: arms, bars, rings, disks from the side, arcs; as pictures of total flux 1.

Each is drawn on the padded grid of `Grid` around a center (x, y) in px; `u`, `v` are places in the disk's own plane,
u along the major axis. Structures are a pixel wide or wider, and the point-spread function blurs them after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.simulate.galaxy_light import Grid, Plane

OVERSAMPLED = 3  # samples of an arc per px and axis


@dataclass(frozen=True)
class Disk:
    """A disk on the sky: center in px of the padded picture, axis ratio, angle of the major axis from +x to +y, rad."""

    x: float
    y: float
    ratio: float
    angle: float

    def plane(self, grid: Grid) -> tuple[Plane, Plane]:
        """Places (P, P) in the disk's plane, seen face on."""
        return self.turned(grid.at - np.float32(self.x), (grid.at - np.float32(self.y))[:, None])

    def turned(self, dx: Plane, dy: Plane) -> tuple[Plane, Plane]:
        cos, sin = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        u = np.asarray(dx * cos + dy * sin, np.float32)
        v = np.asarray((dy * cos - dx * sin) / np.float32(self.ratio), np.float32)
        return u, v

    def on_sky(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels x, y (n,) of places in the plane."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.x + u * cos - v * self.ratio * sin, self.y + u * sin + v * self.ratio * cos


def unit(picture: Plane) -> Plane:
    """The picture with a total of 1."""
    return picture / np.float32(max(float(picture.sum(dtype=np.float64)), 1e-30))


@dataclass(frozen=True)
class Arms:
    """Logarithmic arms of a pitch angle (rad, its sign is the handedness), from radius `inner` px on."""

    count: int
    pitch: float
    start: float  # angle at radius `inner`, rad
    inner: float
    sharpness: float
    length: float  # scale length of their light, px
    ragged: tuple[float, float, float]  # strength and two phases of uneven brightness along the arms

    def ridge(self, r: NDArray[np.float64], arm: NDArray[np.int64]) -> NDArray[np.float64]:
        """The angle of the middle of an arm at radii r."""
        return self.start + np.log(r / self.inner) / math.tan(self.pitch) + 2 * math.pi * arm / self.count


def arms(grid: Grid, disk: Disk, shape: Arms) -> Plane:
    """Spiral arms: bright where the angle is that of a ridge, fading in at `inner` and out with the disk."""
    u, v = disk.plane(grid)
    r = np.hypot(u, v) + np.float32(1e-3)
    theta = np.arctan2(v, u)
    along = np.log(r / np.float32(shape.inner)) * np.float32(1 / math.tan(shape.pitch)) + np.float32(shape.start)
    ridge = np.exp(np.float32(shape.sharpness) * (np.cos(np.float32(shape.count) * (theta - along)) - 1))
    strength, first, second = shape.ragged
    uneven = 1 + np.float32(strength) * np.cos(2.3 * along + np.float32(first)) * np.cos(theta + np.float32(second))
    fade = _step((r - np.float32(shape.inner)) / np.float32(0.15 * shape.inner + 0.3))
    end = _step((np.float32(4.2 * shape.length) - r) / np.float32(0.5 * shape.length))
    return unit(np.asarray(ridge * uneven * fade * end * np.exp(-r / np.float32(shape.length)), np.float32))


def _step(x: Plane) -> Plane:
    """A soft step from 0 to 1, 1/(1 + e^(−x)), which no x overflows."""
    return np.asarray(np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x)), np.float32)


def bar(grid: Grid, disk: Disk, length: float, width: float, start: float) -> Plane:
    """A bar of half length and half width in px at an angle in the disk's plane; boxy, with a soft end."""
    u, v = disk.plane(grid)
    cos, sin = np.float32(math.cos(start)), np.float32(math.sin(start))
    along, across = (u * cos + v * sin) / np.float32(length), (v * cos - u * sin) / np.float32(width)
    return unit(np.exp(-np.float32(1.2) * (along**4 + across**2)))


def ring(grid: Grid, disk: Disk, radius: float, width: float, lopsided: tuple[float, float]) -> Plane:
    """A ring of radius and Gaussian width in px, brighter to one side: (strength, angle)."""
    u, v = disk.plane(grid)
    r = np.hypot(u, v)
    side = 1 + np.float32(lopsided[0]) * np.cos(np.arctan2(v, u) - np.float32(lopsided[1]))
    return unit(side * np.exp(-((r - np.float32(radius)) ** 2) / np.float32(2 * width**2)))


def edge_on(grid: Grid, disk: Disk, length: float, height: float) -> tuple[Plane, Plane]:
    """A thin disk from the side, exp(−|u|/length)·sech²(w/height), total 1; and the dust in its plane, 0 to 1 deep."""
    along, across = Disk(disk.x, disk.y, 1.0, disk.angle).plane(grid)
    run = np.exp(-np.abs(along) / np.float32(length))
    light = run / np.cosh(np.clip(across / np.float32(height), -30, 30)) ** 2
    below = across - np.float32(0.25 * height)  # seen a little from above, the dust lies in front of one side
    dust = np.exp(-np.abs(along) / np.float32(1.6 * length)) * np.exp(-((below / np.float32(0.6 * height)) ** 2) / 2)
    return unit(light), np.asarray(dust, np.float32)


@dataclass(frozen=True)
class Lens:
    """A singular isothermal ellipsoid with shear, and the disk of a source behind it; lengths in px.

    radius : Einstein radius. shear, shear_angle : of the outer field. source : x, y, scale length, ratio, angle.
    """

    radius: float
    shear: float
    shear_angle: float
    source: tuple[float, float, float, float, float]


def arcs(grid: Grid, mass: Disk, lens: Lens) -> Plane:
    """The images of a source: its brightness where the lens sends each line of sight, which lensing keeps.

    Deflection of the ellipsoid after Kormann, Schneider & Bartelmann (1994), in Keeton's (2001) form.
    """
    reach = min(math.ceil(2.6 * lens.radius + 4 * lens.source[2]), grid.padded // 2 - 2)
    left, top = round(mass.x) - reach, round(mass.y) - reach
    side = 2 * reach + 1
    fine: Plane = ((np.arange(side * OVERSAMPLED) + 0.5) / OVERSAMPLED - 0.5).astype(np.float32)
    dx, dy = fine + np.float32(left - mass.x), (fine + np.float32(top - mass.y))[:, None]
    x, y = Disk(0, 0, 1.0, mass.angle).turned(dx, dy)  # (F, F), along the axes of the mass
    q = min(mass.ratio, 0.98)
    root = math.sqrt(1 - q * q)
    psi = np.sqrt(np.float32(q * q) * (x * x + np.float32(0.01)) + y * y)
    scale = np.float32(lens.radius / math.sqrt(q) * q / root)
    toward_x = scale * np.arctan(np.float32(root) * x / (psi + np.float32(0.1)))
    toward_y = scale * np.arctanh(np.float32(root) * y / (psi + np.float32(0.1 * q * q)))
    twist = 2 * (lens.shear_angle - mass.angle)
    g1, g2 = np.float32(lens.shear * math.cos(twist)), np.float32(lens.shear * math.sin(twist))
    behind_x, behind_y = x - toward_x - g1 * x - g2 * y, y - toward_y - g2 * x + g1 * y
    at_x, at_y, length, ratio, angle = lens.source
    along, across = Disk(0, 0, ratio, angle).turned(behind_x - np.float32(at_x), behind_y - np.float32(at_y))
    light = np.exp(-np.hypot(along, across) / np.float32(length))
    binned = light.reshape(side, OVERSAMPLED, side, OVERSAMPLED).sum(axis=(1, 3))
    picture = np.zeros((grid.padded, grid.padded), np.float32)
    picture[top : top + side, left : left + side] = binned
    return unit(picture)
