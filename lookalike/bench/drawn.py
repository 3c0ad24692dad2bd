"""Galaxies drawn for measurements: float fluxes with every column the six augmentations read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.samples import About, Column
from lookalike.samples_writer import write_samples

BANDS = ("g", "r", "z")
PIXEL = 0.262  # arcsec/px
BLOCK = 64
# Typical values in the survey's catalogs: FWHM in arcsec, depth in nanomaggies⁻², noise in nanomaggies per px.
PSFSIZE = {"g": 1.5, "r": 1.4, "z": 1.3}
PSFDEPTH = {"g": 1000.0, "r": 400.0, "z": 120.0}
NOISE = {"g": 0.003, "r": 0.005, "z": 0.012}


def draw_galaxies(path: Path, n: int, size: int, seed: int = 0) -> None:
    """Write n exponential disks of random shape and color, (3, size, size) in nanomaggies, to a samples file."""
    random = np.random.default_rng(seed)
    columns = {"ebv": Column(unit="mag", description="E(B-V)")}
    columns |= {f"psfsize_{band}": Column(unit="arcsec", description="PSF FWHM") for band in BANDS}
    columns |= {f"psfdepth_{band}": Column(unit="1/nanomaggy2", description="PSF depth") for band in BANDS}
    about = About(domain="galaxy", bands=BANDS, unit="nanomaggies", pixel_scale=PIXEL, source="drawn for a measurement")
    with write_samples(path, about, columns) as writer:
        for start in range(0, n, BLOCK):
            count = min(BLOCK, n - start)
            values: dict[str, NDArray[np.generic]] = {"ebv": random.uniform(0.01, 0.1, count)}
            values |= {f"psfsize_{band}": np.full(count, PSFSIZE[band]) for band in BANDS}
            values |= {f"psfdepth_{band}": np.full(count, PSFDEPTH[band]) for band in BANDS}
            ids = [f"drawn-{row:06d}" for row in range(start, start + count)]
            writer.append(ids, _disks(random, count, size), values)


def _disks(random: np.random.Generator, n: int, size: int) -> NDArray[np.float32]:
    """Exponential disks (n, 3, size, size) with the survey's noise."""
    at = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    angle, ratio = random.uniform(0, np.pi, n), random.uniform(0.2, 1, n)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    along, across = cos * at + sin * at[:, None], (cos * at[:, None] - sin * at) / ratio[:, None, None]
    length = np.exp(random.uniform(np.log(2), np.log(size / 12), n))[:, None, None]  # px
    disk = np.exp(-np.hypot(along, across) / length)  # (n, H, W)
    brightness = np.exp(random.uniform(np.log(0.02), np.log(0.5), (n, 3)))  # nanomaggies per px at the center
    images: NDArray[np.float64] = brightness[:, :, None, None] * disk[:, None]
    noise = np.array(list(NOISE.values()))[:, None, None]
    return (images + noise * random.normal(size=images.shape)).astype(np.float32)


def as_pictures(images: NDArray[np.float32]) -> list[Image.Image]:
    """The same objects (N, 3, H, W) as 8-bit color pictures, for tools that take no others."""
    shown = np.arcsinh(images[:, ::-1] / 0.02) / np.arcsinh(0.5 / 0.02)  # (N, 3, H, W), r for red is z
    pixels = np.rint(255 * shown.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    return [Image.fromarray(picture) for picture in np.ascontiguousarray(pixels)]
