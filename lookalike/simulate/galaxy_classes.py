"""What the simulated galaxies look like: one function for each class, from random numbers to light in a scene.

Colors are those of nearby galaxies in g, r, z: bulges and ellipticals old and red, disks in between, arms, rings and
arcs young and blue. Shares are of the light in r.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.simulate.dice import Dice
from lookalike.simulate.encounters import STARS
from lookalike.simulate.galaxy_light import Grid, Plane, Waves, deposit, sersic
from lookalike.simulate.galaxy_shapes import Arms, Disk, Lens, arcs, arms, bar, edge_on, ring, unit

KNOTS = 24  # bright young clusters of a spiral or ring
DUST = np.array([1.3, 1.0, 0.6])  # optical depth of an edge-on disk's dust in g, r, z, at most

Bands = NDArray[np.float64]  # (3,) of g, r, z


class Scene:
    """Light (3, P, F) in Fourier space, in g, r, z, with its total flux."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.waves: Waves = np.zeros((3, len(grid.ky), len(grid.kx)), np.complex64)
        self.flux: Bands = np.zeros(3)

    def add(self, flux: Bands, waves: Waves) -> None:
        """Light of total 1 as it lies in the padded picture, times the flux in each band."""
        for band in range(3):
            self.waves[band] += np.float32(flux[band]) * waves
        self.flux = self.flux + flux

    def sersic(self, flux: Bands, at: tuple[float, float], n: float, radius: float, ratio: float, angle: float) -> None:
        self.add(flux, self.grid.phase(*at) * sersic(self.grid, n, radius, ratio, angle))

    def picture(self, flux: Bands, light: Plane) -> None:
        self.add(flux, self.grid.waves(light))

    def scale(self, factor: Bands | float) -> None:
        factors = np.broadcast_to(np.asarray(factor, np.float64), 3)
        self.waves *= factors.astype(np.float32)[:, None, None]
        self.flux = self.flux * factors


@dataclass(frozen=True)
class Galaxy:
    """What every class starts from: center in px, half-light radius in px, how much redder than nearby, a remnant.

    stars : (3, 2, STARS) and the second center (3,), in disk radii; of mergers only.
    """

    x: float
    y: float
    radius: float
    redder: float
    stars: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @property
    def at(self) -> tuple[float, float]:
        return self.x, self.y

    def colored(self, share: float, g_r: float, r_z: float) -> Bands:
        """Fluxes of a component with so much of the light in r."""
        return share * np.array([10 ** (-0.4 * (g_r + self.redder)), 1.0, 10 ** (0.4 * (r_z + 0.5 * self.redder))])

    def old(self, share: float, dice: Dice) -> Bands:
        return self.colored(share, dice.normal(0.92, 0.05), dice.normal(0.64, 0.04))

    def mixed(self, share: float, dice: Dice) -> Bands:
        return self.colored(share, dice.normal(0.60, 0.07), dice.normal(0.42, 0.06))

    def young(self, share: float, dice: Dice) -> Bands:
        return self.colored(share, dice.normal(0.28, 0.07), dice.normal(0.16, 0.06))


@dataclass(frozen=True)
class Shape:
    """What the catalog says of the main body: minor over major axis, and the major axis' angle from +x to +y, rad."""

    ratio: float
    angle: float


def elliptical(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """One old Sérsic profile, steep and rather round."""
    shape = Shape(dice.uniform(0.55, 1.0), dice.angle())
    scene.sersic(
        galaxy.old(1.0, dice), galaxy.at, dice.uniform(2.5, 5.5), 0.85 * galaxy.radius, shape.ratio, shape.angle
    )
    return shape


def disk(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """A smooth exponential disk with a bulge."""
    shape, bulge = Shape(dice.uniform(0.3, 0.95), dice.angle()), dice.uniform(0.15, 0.45)
    _bulge(scene, galaxy, dice, bulge, shape)
    scene.sersic(galaxy.mixed(1 - bulge, dice), galaxy.at, 1.0, 1.25 * galaxy.radius, shape.ratio, shape.angle)
    return shape


def edge(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """A disk from the side, with a bulge and, mostly, a lane of dust that darkens g most."""
    grid, angle = scene.grid, dice.angle()
    length = galaxy.radius * dice.uniform(1.0, 1.3)
    height = max(1.0, length * dice.uniform(0.09, 0.16))
    light, dust = edge_on(grid, Disk(galaxy.x, galaxy.y, 1.0, angle), length, height)
    bulge, depth = dice.uniform(0.08, 0.35), dice.uniform(0.3, 1.2) if dice.often(0.8) else 0.0
    round_part = np.fft.irfft2(
        grid.phase(*galaxy.at) * sersic(grid, 1.5, max(1.2, 0.4 * length), dice.uniform(0.5, 0.8), angle),
        s=(grid.padded, grid.padded),
    )
    disk_flux, bulge_flux = galaxy.mixed(1 - bulge, dice), galaxy.old(bulge, dice)
    for band in range(3):
        left = np.exp(np.float32(-depth * DUST[band]) * dust)
        seen = (np.float32(disk_flux[band]) * light + np.float32(bulge_flux[band]) * round_part) * left
        only = np.zeros(3)
        only[band] = float(seen.sum(dtype=np.float64))
        scene.waves[band] += grid.waves(seen.astype(np.float32))
        scene.flux = scene.flux + only
    return Shape(height / length, angle)


def spiral(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """A disk with two to four arms, young clusters along them, and a bulge."""
    shape, bulge = Shape(dice.uniform(0.45, 1.0), dice.angle()), dice.uniform(0.06, 0.25)
    length = 0.95 * galaxy.radius
    count = 2 if dice.often(0.6) else 3 + int(dice.often(0.4))
    pitch = math.radians(dice.uniform(13, 28)) * (1 if dice.often(0.5) else -1)
    winding = _arms(dice, count, pitch, dice.angle(), 0.5 * length, length)
    _bulge(scene, galaxy, dice, bulge, shape)
    scene.sersic(galaxy.mixed(0.45, dice), galaxy.at, 1.0, 1.68 * 0.85 * length, shape.ratio, shape.angle)
    _winding(scene, galaxy, dice, winding, shape, 0.47 - bulge + 0.08)
    return shape


def barred(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """A disk with an old bar, from whose ends two arms start."""
    shape, start = Shape(dice.uniform(0.5, 1.0), dice.angle()), dice.angle()
    length = 0.95 * galaxy.radius
    half = length * dice.uniform(0.8, 1.2)
    pitch = math.radians(dice.uniform(14, 26)) * (1 if dice.often(0.5) else -1)
    light = bar(scene.grid, Disk(*galaxy.at, shape.ratio, shape.angle), half, max(1.3, 0.28 * half), start)
    _bulge(scene, galaxy, dice, dice.uniform(0.06, 0.15), shape)
    scene.picture(galaxy.old(dice.uniform(0.2, 0.3), dice), light)
    scene.sersic(galaxy.mixed(0.3, dice), galaxy.at, 1.0, 1.68 * 0.95 * length, shape.ratio, shape.angle)
    _winding(scene, galaxy, dice, _arms(dice, 2, pitch, start, half, 1.1 * length), shape, 0.35)
    return shape


def ringed(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """A bulge within a detached young ring."""
    shape, core = Shape(dice.uniform(0.5, 1.0), dice.angle()), dice.uniform(0.3, 0.5)
    radius = galaxy.radius * dice.uniform(1.3, 1.7)
    plane = Disk(*galaxy.at, shape.ratio, shape.angle)
    lopsided = (dice.uniform(0.0, 0.5), dice.angle())
    scene.sersic(
        galaxy.old(core, dice), galaxy.at, dice.uniform(1.5, 3.5), 0.32 * radius, max(shape.ratio, 0.7), shape.angle
    )
    scene.sersic(galaxy.mixed(0.12, dice), galaxy.at, 1.0, 0.9 * radius, shape.ratio, shape.angle)
    width = max(1.2, radius * dice.uniform(0.1, 0.18))
    scene.picture(galaxy.young(0.78 - core, dice), ring(scene.grid, plane, radius, width, lopsided))
    turn = np.array([dice.angle() for _ in range(KNOTS)])
    away = np.array([dice.normal(radius, 0.4 * width) for _ in range(KNOTS)])
    _knots(scene, galaxy, dice, plane, away * np.cos(turn), away * np.sin(turn), np.ones(KNOTS), 0.1)
    return shape


def merger(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """Two disks after a close passage, with their tails and bridges, each around its own bulge."""
    assert galaxy.stars is not None, "mergers come with their stars"
    stars, second = galaxy.stars
    tilt, turn, scale = math.acos(dice.uniform(0.4, 1.0)), dice.angle(), 1.3 * galaxy.radius
    x, y = _seen(stars.reshape(3, -1), tilt, turn, scale)
    other_x, other_y = _seen(second[:, None], tilt, turn, scale)
    bulges = dice.uniform(0.25, 0.4)
    mass = dice.uniform(0.45, 0.75)  # of the light, in the first
    light = np.repeat([mass, 1 - mass], STARS)
    places = deposit(scene.grid, galaxy.x + x, galaxy.y + y, light / STARS)
    inside = float(places.sum(dtype=np.float64))  # tails reach out of the picture
    soft = scene.grid.waves(unit(places)) * sersic(scene.grid, 0.5, 1.3, 1.0, 0.0)
    body = 0.55 * galaxy.mixed(1.0, dice) + 0.45 * galaxy.young(1.0, dice)
    scene.add((1 - bulges) * inside * body, soft)
    centers = ((galaxy.x, galaxy.y, mass), (galaxy.x + float(other_x[0]), galaxy.y + float(other_y[0]), 1 - mass))
    for at_x, at_y, share in centers:
        size = 0.45 * galaxy.radius * math.sqrt(share / mass)
        flux = galaxy.old(bulges * share, dice)
        scene.sersic(flux, (at_x, at_y), dice.uniform(1.5, 3.0), max(1.2, size), dice.uniform(0.6, 1.0), dice.angle())
    return Shape(1.0, 0.0)


def lens(scene: Scene, galaxy: Galaxy, dice: Dice) -> Shape:
    """A massive elliptical, and the blue arcs it makes of a small galaxy far behind it."""
    shape = Shape(dice.uniform(0.65, 0.95), dice.angle())
    radius = max(9.5, galaxy.radius * dice.uniform(1.15, 1.6))
    away, toward = radius * dice.uniform(0.02, 0.42), dice.angle()
    source = (
        away * math.cos(toward),
        away * math.sin(toward),
        dice.uniform(0.8, 1.8),
        dice.uniform(0.5, 1.0),
        dice.angle(),
    )
    seen = Lens(radius, dice.uniform(0.0, 0.08), dice.angle(), source)
    image = arcs(scene.grid, Disk(*galaxy.at, shape.ratio, shape.angle), seen)
    red = Galaxy(galaxy.x, galaxy.y, galaxy.radius, galaxy.redder + 0.35)
    scene.sersic(red.old(1.0, dice), galaxy.at, dice.uniform(3.0, 5.0), 0.36 * radius, shape.ratio, shape.angle)
    scene.picture(galaxy.colored(dice.uniform(0.25, 0.5), dice.normal(0.15, 0.15), dice.normal(0.2, 0.1)), image)
    return shape


CLASSES: dict[str, Callable[[Scene, Galaxy, Dice], Shape]] = {
    "elliptical": elliptical,
    "disk": disk,
    "edge-on": edge,
    "spiral": spiral,
    "barred": barred,
    "ring": ringed,
    "merger": merger,
    "lens": lens,
}


def _bulge(scene: Scene, galaxy: Galaxy, dice: Dice, share: float, shape: Shape) -> None:
    """A bulge, rounder than its disk."""
    n, radius = dice.uniform(1.5, 4.0), max(0.8, galaxy.radius * dice.uniform(0.2, 0.35))
    scene.sersic(galaxy.old(share, dice), galaxy.at, n, radius, math.sqrt(shape.ratio), shape.angle)


def _arms(dice: Dice, count: int, pitch: float, start: float, inner: float, length: float) -> Arms:
    ragged = (dice.uniform(0.1, 0.5), dice.angle(), dice.angle())
    return Arms(count, pitch, start, inner, dice.uniform(2.0, 4.5), length, ragged)


def _winding(scene: Scene, galaxy: Galaxy, dice: Dice, winding: Arms, shape: Shape, share: float) -> None:
    """Arms with so much of the light, a sixth of it in clusters along them."""
    plane = Disk(*galaxy.at, shape.ratio, shape.angle)
    scene.picture(galaxy.young(share * 5 / 6, dice), arms(scene.grid, plane, winding))
    r = np.array([dice.log(winding.inner, 3.2 * winding.length) for _ in range(KNOTS)])
    theta = winding.ridge(r, np.arange(KNOTS) % winding.count) + np.array([dice.normal(0, 0.12) for _ in range(KNOTS)])
    light = np.exp(-r / (1.3 * winding.length))
    _knots(scene, galaxy, dice, plane, r * np.cos(theta), r * np.sin(theta), light, share / 6)


def _knots(
    scene: Scene,
    galaxy: Galaxy,
    dice: Dice,
    plane: Disk,
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    light: NDArray[np.float64],
    share: float,
) -> None:
    """Point-like young clusters at places in the disk's plane, some much brighter than others."""
    bright = light * np.array([dice.log(0.3, 3.0) for _ in range(KNOTS)])
    scene.picture(galaxy.young(share, dice), unit(deposit(scene.grid, *plane.on_sky(u, v), bright)))


def _seen(
    place: NDArray[np.float32], tilt: float, turn: float, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels from the first center at which places (3, n) are seen from a direction."""
    x, y, z = place.astype(np.float64)
    depth = y * math.cos(tilt) - z * math.sin(tilt)
    cos, sin = math.cos(turn), math.sin(turn)
    return scale * (x * cos - depth * sin), scale * (x * sin + depth * cos)
