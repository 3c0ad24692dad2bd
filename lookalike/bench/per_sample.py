"""The six galaxy augmentations one galaxy at a time, with NumPy and scikit-image: how they are usually written.

The reference system did each step on each sample in the loader's workers. Written from the published description;
the numbers are those of `galaxy_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from skimage.filters import gaussian
from skimage.transform import rescale, rotate

from lookalike.augmentations.galaxy_settings import EXTINCTION_COEFFICIENTS, FWHM, LEGACY_PIXEL, NOISE, PSF
from lookalike.augmentations.galaxy_settings import Distribution as Fit

Image = NDArray[np.float32]


def view_of_one(
    image: Image, catalog: Mapping[str, float], bands: tuple[str, ...], size: int, random: np.random.Generator
) -> Image:
    """One augmented view (C, size, size) of one galaxy (C, H, W) in nanomaggies."""
    image = _redden(image, catalog, bands, random)
    image = _turn(image, random)
    image = _scale(image, random)
    image = _blur(image, catalog, bands, random)
    image = _jitter_crop(image, size, random)
    return _add_noise(image, catalog, bands, random)


def views_one_by_one(task: tuple[Image, list[dict[str, float]], int]) -> Image:
    """Two views each of galaxies (B, C, H, W) with their catalog rows: (2·B, C, size, size)."""
    images, catalogs, size = task
    random = np.random.default_rng()
    bands = tuple(name.removeprefix("psfsize_") for name in catalogs[0] if name.startswith("psfsize_"))
    return np.stack(
        [
            view_of_one(image, catalog, bands, size, random)
            for image, catalog in zip(images, catalogs, strict=True)
            for _ in range(2)
        ]
    )


def _lognormal(fit: Fit, random: np.random.Generator) -> float:
    """One draw, repeated until it lies within the fit's range."""
    while True:
        value = float(fit.loc + fit.scale * np.exp(fit.s * random.standard_normal()))
        if (fit.low is None or value >= fit.low) and (fit.high is None or value <= fit.high):
            return value


def _redden(image: Image, catalog: Mapping[str, float], bands: tuple[str, ...], random: np.random.Generator) -> Image:
    ebv = _lognormal(Fit(s=0.67306, loc=0.001146, scale=0.03338), random)
    factors = [10 ** (EXTINCTION_COEFFICIENTS[band] * (ebv - catalog["ebv"])) for band in bands]
    return image * np.array(factors, np.float32)[:, None, None]


def _turn(image: Image, random: np.random.Generator) -> Image:
    if random.random() < 0.5:
        image = image[:, ::-1]
    if random.random() < 0.5:
        image = image[:, :, ::-1]
    turned: Image = rotate(  # type: ignore[no-untyped-call]
        np.moveaxis(image, 0, -1), random.uniform(0, 360), order=1, mode="constant"
    )
    return np.moveaxis(turned, -1, 0)


def _scale(image: Image, random: np.random.Generator) -> Image:
    scaled = rescale(np.moveaxis(image, 0, -1), random.uniform(0.9, 1.1), order=1, channel_axis=-1)
    return np.moveaxis(scaled, -1, 0)


def _blur(image: Image, catalog: Mapping[str, float], bands: tuple[str, ...], random: np.random.Generator) -> Image:
    blurred = np.empty_like(image)
    for i, band in enumerate(bands):
        old = catalog[f"psfsize_{band}"] / LEGACY_PIXEL / FWHM
        wider = _lognormal(PSF[band], random) ** 2 - old**2
        blurred[i] = image[i]
        if wider > 0:
            blurred[i] = gaussian(image[i], sigma=np.sqrt(wider))  # type: ignore[no-untyped-call]
    return blurred


def _jitter_crop(image: Image, size: int, random: np.random.Generator) -> Image:
    top = (image.shape[1] - size) // 2 + random.integers(-7, 8)
    left = (image.shape[2] - size) // 2 + random.integers(-7, 8)
    return image[:, top : top + size, left : left + size]


def _add_noise(
    image: Image, catalog: Mapping[str, float], bands: tuple[str, ...], random: np.random.Generator
) -> Image:
    noisy = image.copy()
    for i, band in enumerate(bands):
        area = 4 * np.pi * (catalog[f"psfsize_{band}"] / FWHM / LEGACY_PIXEL) ** 2
        more = _lognormal(NOISE[band], random) ** 2 - 1 / (catalog[f"psfdepth_{band}"] * area)
        if more > 0:
            noisy[i] += random.normal(0, np.sqrt(more), image.shape[1:]).astype(np.float32)
    return noisy
