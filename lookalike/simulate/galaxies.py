"""Simulated galaxies in g, r, z with the catalog of the published Legacy Surveys files, and the class each truly has.

Flux in nanomaggies at 0.262 arcsec/px, with a point-spread function, Galactic extinction and noise from the published
fits (Stein et al. 2021), other galaxies and stars in the field, and noise of the sky alone, not of the objects' light.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import About, Column
from lookalike.augmentations.galaxy_settings import (
    EXTINCTION_COEFFICIENTS,
    FWHM,
    LEGACY_PIXEL,
    NOISE,
    PSF,
    Distribution,
    Extinction,
)
from lookalike.datasets.cutouts import stored_as
from lookalike.datasets.legacysurvey import BANDS, SWEEP, magnitude
from lookalike.errors import InputError
from lookalike.simulate.dice import Dice
from lookalike.simulate.draws import MOST_ROWS, Draws
from lookalike.simulate.encounters import STARS, Encounters, run
from lookalike.simulate.galaxy_classes import CLASSES, Bands, Galaxy, Scene
from lookalike.simulate.galaxy_light import Grid, moffat

SMALLEST, LARGEST = 64, 512  # px
NUMBERS = 256  # random numbers for a galaxy's shape, more than any class takes
FIELD_NUMBERS = 64
BRIGHT, FAINT = 15.5, 19.0  # z magnitude before extinction, uniform between
MOST_EBV = 0.3  # mag
MERGER = list(CLASSES).index("merger")
DRAWN = (*(f"flux_{band}" for band in BANDS), "radius", "axis_ratio", "angle")

Stars = tuple[NDArray[np.float32], NDArray[np.float32]]  # places of a merger's stars and of its second center
Catalog = dict[str, NDArray[Any]]

COLUMNS = {
    "inds": Column("", "row of the object in the simulated set", SWEEP["inds"].ucd),
    "ebv": SWEEP["ebv"],
    "ra": Column("deg", "right ascension, ICRS, of a place on the sky drawn at random", SWEEP["ra"].ucd),
    "dec": Column("deg", "declination, ICRS, of a place on the sky drawn at random", SWEEP["dec"].ucd),
    **{
        f"flux_{band}": Column("nanomaggy", f"true flux of the galaxy alone, not dereddened, {band}", "phot.flux")
        for band in BANDS
    },
    **{f"mag_{band}": Column("mag", f"AB magnitude 22.5 - 2.5 log10 flux_{band}", "phot.mag") for band in BANDS},
    **{
        f"{name}_{band}": Column(SWEEP[name].unit, f"{SWEEP[name].description}, {band}", SWEEP[name].ucd)
        for name in ("psfsize", "psfdepth")
        for band in BANDS
    },
    "class": Column("", f"what was drawn: {', '.join(CLASSES)}", "src.class"),
    "radius": Column("arcsec", "size the galaxy was drawn with, about its half-light radius", "phys.angSize"),
    "axis_ratio": Column("", "minor over major axis of the main body; 1 for mergers", ""),
    "angle": Column(
        "deg", "the major axis' angle from the rows' direction upward, 0 to 180; 0 for mergers", "pos.posAng"
    ),
}


class Galaxies:
    """A set of galaxies of a seed; `block` makes any of its rows, each from the seed and its row alone."""

    noun = "galaxies"
    rows_at_once = 64
    most = MOST_ROWS

    def __init__(self, seed: int, size: int = 152) -> None:
        if not SMALLEST <= size <= LARGEST:
            raise InputError(f"Simulated galaxies are {SMALLEST} to {LARGEST} px wide, but {size} was given.")
        self.seed, self.size, self.grid = seed, size, Grid(size)
        self.settings = {"size": size}
        self.columns = COLUMNS
        self.about = About(
            domain="galaxy",
            bands=BANDS,
            unit="nanomaggies",
            pixel_scale=LEGACY_PIXEL,
            origin="lower",
            source="SIMULATED galaxies, not observations (lookalike simulate galaxies)",
            license="drawn by a program, so nobody's data",
            survey={"name": "simulated", "simulated": True, "footprint": size},
            preprocess=stored_as(size, "float32", "crop"),
        )

    def block(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float32], Catalog]:
        """Ids, pictures (n, 3, S, S) and catalog columns (n,) of some rows."""
        images, catalog = self.draw(rows)
        noise = Draws(self.seed, rows).normal("noise", 3, self.size, self.size)
        images += noise_sigma(catalog)[:, :, None, None] * noise
        return [f"sim{self.seed}-{row:07d}" for row in rows.tolist()], images, catalog

    def draw(self, rows: NDArray[np.int64], *, field: bool = True) -> tuple[NDArray[np.float32], Catalog]:
        """Pictures (n, 3, S, S) without noise, and their catalog; `field` : with other objects around them."""
        draws = Draws(self.seed, rows)
        classes = draws.choice("class", np.ones(len(CLASSES)))
        names = np.array(list(CLASSES))[classes]
        numbers, around = draws.uniform("shape", NUMBERS), draws.uniform("field", FIELD_NUMBERS)
        catalog = _survey(draws)
        mag_z = draws.uniform("mag", low=BRIGHT, high=FAINT)
        stars = _encounters(self.seed, rows, classes)
        images = np.empty((len(rows), 3, self.size, self.size), np.float32)
        drawn = []
        for i, name in enumerate(names.tolist()):
            dice = Dice(numbers[i])
            galaxy = self._galaxy(mag_z[i], dice, stars.get(i))
            scene = Scene(self.grid)
            shape = CLASSES[name](scene, galaxy, dice)
            scene.scale(10 ** (0.4 * (22.5 - mag_z[i])) / scene.flux[2])
            dimmed = 10 ** (_coefficients() * catalog["ebv"][i])
            scene.scale(dimmed)
            drawn.append((*scene.flux, galaxy.radius * LEGACY_PIXEL, shape.ratio, math.degrees(shape.angle) % 180))
            if field:
                _add_field(scene, self.size, Dice(around[i]), dimmed)
            for band, of in enumerate(BANDS):
                fwhm = float(catalog[f"psfsize_{of}"][i]) / LEGACY_PIXEL
                images[i, band] = self.grid.picture(scene.waves[band] * moffat(self.grid, fwhm))
        made = dict(zip(DRAWN, np.array(drawn).reshape(-1, len(DRAWN)).T, strict=True))
        mags = {f"mag_{band}": magnitude(made[f"flux_{band}"]) for band in BANDS}
        return images, catalog | made | mags | {"inds": np.asarray(rows, np.int64), "class": names}

    def _galaxy(self, mag_z: float, dice: Dice, stars: Stars | None) -> Galaxy:
        """Where in the middle a galaxy is, how large, and how red: fainter ones are farther, so smaller and redder."""
        middle = self.grid.first + (self.size - 1) / 2
        at = (middle + dice.uniform(-0.5, 0.5), middle + dice.uniform(-0.5, 0.5))
        arcsec = 10 ** (0.62 - 0.1 * (mag_z - 15)) * math.exp(dice.normal(0, 0.18))
        radius = min(max(arcsec / LEGACY_PIXEL, 4.0), self.size / 11)
        return Galaxy(*at, radius, 0.05 * (mag_z - 17) + dice.normal(0, 0.03), stars)


def noise_sigma(catalog: Catalog) -> NDArray[np.float32]:
    """Noise (n, 3) per pixel in nanomaggies, from the depth and width of the point-spread function."""
    sigma = []
    for band in BANDS:
        psf = np.asarray(catalog[f"psfsize_{band}"], np.float64) / LEGACY_PIXEL / FWHM  # px
        sigma.append(1 / np.sqrt(np.asarray(catalog[f"psfdepth_{band}"], np.float64) * 4 * np.pi * psf**2))
    return np.stack(sigma, axis=1).astype(np.float32)


def _survey(draws: Draws) -> Catalog:
    """Place, extinction, seeing and depth: the columns that do not depend on what the galaxy is."""
    ebv = _lognormal(draws.normal("ebv"), Extinction().ebv)
    up = draws.uniform("dec", low=math.sin(math.radians(-15)), high=math.sin(math.radians(32)))
    catalog: Catalog = {
        "ra": draws.uniform("ra", high=360.0),
        "dec": np.rad2deg(np.arcsin(up)),
        "ebv": np.minimum(ebv, MOST_EBV),
    }
    seeing, depth = draws.normal("seeing", 3), draws.normal("depth", 3)
    for i, band in enumerate(BANDS):
        psf = _lognormal(seeing[:, i], PSF[band])  # σ in px
        catalog[f"psfsize_{band}"] = psf * FWHM * LEGACY_PIXEL
        catalog[f"psfdepth_{band}"] = 1 / (_lognormal(depth[:, i], NOISE[band]) ** 2 * 4 * np.pi * psf**2)
    return catalog


def _lognormal(normal: NDArray[np.float32], of: Distribution) -> NDArray[np.float64]:
    """loc + scale·exp(s·N(0, 1)), what lies outside the range set to its end."""
    return np.clip(of.loc + of.scale * np.exp(of.s * normal.astype(np.float64)), of.low, of.high)


def _coefficients() -> Bands:
    return np.array([EXTINCTION_COEFFICIENTS[band] for band in BANDS])


def _encounters(seed: int, rows: NDArray[np.int64], classes: NDArray[np.int64]) -> dict[int, Stars]:
    """The stars and second centers of the mergers among the rows, by their place in the block."""
    which = np.flatnonzero(classes == MERGER)
    if not len(which):
        return {}
    draws = Draws(seed, rows[which])
    of = draws.uniform("encounter", 7).astype(np.float32)
    placed = draws.uniform("stars", 2, 2, STARS).astype(np.float32)
    pi = np.float32(np.pi)
    stars, second = run(
        Encounters(
            mass=0.4 + 0.6 * of[:, 0],
            closest=0.5 + 0.5 * of[:, 1],
            since=1.2 + 1.8 * of[:, 2],
            tilt=of[:, 3:5] * np.array([0.4, 0.75], np.float32) * pi,  # the first always turns along: a long tail
            node=2 * pi * of[:, 5:7],
            phase=placed[:, 0],
            radius=placed[:, 1],
        )
    )
    return {int(i): (stars[:, j], second[:, j]) for j, i in enumerate(which)}


def _add_field(scene: Scene, size: int, dice: Dice, dimmed: Bands) -> None:
    """Up to five faint galaxies and stars anywhere in the picture, and at times a bright star off its center."""
    first = scene.grid.first
    for _ in range(int(dice.uniform(0, 6) * dice.uniform(0.2, 1.0))):
        at = (first + dice.uniform(0, size - 1), first + dice.uniform(0, size - 1))
        star = dice.often(0.4)
        colored = Galaxy(*at, 1.0, 0.0).colored(1.0, dice.uniform(0.3, 1.4), dice.uniform(0.2, 1.0))
        flux = colored / colored[2] * 10 ** (0.4 * (22.5 - dice.uniform(19.8, 23.0))) * dimmed
        width, ratio, angle = dice.log(1.2, 3.5), dice.uniform(0.4, 1.0), dice.angle()
        if star:
            scene.add(flux, scene.grid.phase(*at))
        else:
            scene.sersic(flux, at, 1.0, width, ratio, angle)
    if dice.often(0.08):
        far, toward = dice.uniform(0.2, 0.48) * size, dice.angle()
        middle = first + (size - 1) / 2
        at = (middle + far * math.cos(toward), middle + far * math.sin(toward))
        colored = Galaxy(*at, 1.0, 0.0).colored(1.0, dice.uniform(0.4, 1.4), dice.uniform(0.2, 0.9))
        scene.add(
            colored / colored[2] * 10 ** (0.4 * (22.5 - dice.uniform(15.5, 18.5))) * dimmed, scene.grid.phase(*at)
        )
