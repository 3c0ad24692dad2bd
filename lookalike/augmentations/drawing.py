"""Stored pictures drawn for people: bands to colors, values to brightness. NumPy and Pillow only.

Colors: bands of known wavelength go from blue to red as B, G, R; of more than three the first three from blue to red,
without u; of two, green is their mean; bands of unknown wavelength are R, G, B in stored order; one band is gray.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import InputError, unknown
from lookalike.samples import About

STRETCHES = ("auto", "native", "lupton", "linear", "asinh", "log", "zscale")
LUPTON_SCALES = {"g": 6.0, "r": 3.4, "z": 2.2}  # the Legacy Surveys viewer's, for fluxes in nanomaggies
LUPTON_M, LUPTON_Q = 0.03, 20.0
NANOMETERS = {
    "u": 360,
    "g": 480,
    "r": 620,
    "i": 755,
    "z": 870,
    "y": 960,
    "Y": 1030,
    "J": 1240,
    "H": 1650,
    "K": 2200,
    "Ks": 2150,
    "W1": 3400,
    "W2": 4600,
    "W3": 12000,
    "W4": 22000,
    "B": 445,
    "V": 550,
    "R": 660,
    "G": 530,
    "I": 800,
}
ASINH_SOFTENING = 0.1  # of the range shown
LOG_CONTRAST = 1000.0

Picture = NDArray[np.float32]


def draw(image: NDArray[np.generic], about: About, stretch: str, size: int) -> Image.Image:
    """A stored object as a picture whose longer side is `size` px, north or row 0 where `about.origin` puts it.

    image : (C, H, W) float32 or uint8 in stored units. stretch : `auto` (native for 8-bit pictures, lupton for
    g, r, z fluxes in nanomaggies, asinh elsewhere), `native` (8-bit values as they are), `lupton` (the color image of
    the Legacy Surveys viewer), `linear`, `asinh` and `log` between the picture's 1st and 99.7th percentile, `zscale`
    (linear within IRAF's limits). Returns an RGB or gray ("L") picture. InputError for a stretch that the data do not
    have.
    """
    if stretch not in STRETCHES:
        raise unknown("stretch", stretch, STRETCHES)
    if image.ndim != 3 or len(image) != len(about.bands):
        raise InputError(f"A picture of the bands {', '.join(about.bands)} is (C, H, W), but {image.shape} was given.")
    if size < 1:
        raise InputError(f"A picture is at least 1 px wide, but size {size} was given.")
    available = stretches_for(about, image.dtype)
    chosen = available[1] if stretch == "auto" else stretch
    if chosen not in available:
        raise unknown("stretch for these data", stretch, available)
    shown = _lupton(image, about.bands) if chosen == "lupton" else np.asarray(image, np.float32)
    colors = to_colors(shown, about.bands)  # (1 or 3, H, W)
    if chosen not in ("native", "lupton"):
        colors = _stretched(colors, chosen)
    levels = colors if chosen == "native" else colors * 255
    pixels = np.rint(levels.clip(0, 255)).astype(np.uint8)
    if about.origin == "lower":
        pixels = pixels[:, ::-1]
    picture = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    return _resized(picture, size)


def stretches_for(about: About, dtype: np.dtype[np.generic] | type[np.generic]) -> tuple[str, ...]:
    """The stretches these data can be drawn with; the second is what `auto` means."""
    if np.dtype(dtype) == np.uint8:
        return ("auto", "native", "linear", "asinh", "log", "zscale")
    if is_flux(about) and set(about.bands) == set(LUPTON_SCALES):
        return ("auto", "lupton", "linear", "asinh", "log", "zscale")
    return ("auto", "asinh", "linear", "log", "zscale")


def is_flux(about: About) -> bool:
    """Whether the stored pixels are fluxes in nanomaggies."""
    return about.unit.lower().startswith(("nanomagg", "nmgy"))


def to_colors(image: Picture, bands: tuple[str, ...]) -> Picture:
    """The bands (C, H, W) that are shown, as gray (1, H, W) or R, G, B (3, H, W)."""
    if len(bands) == 1:
        return image
    if set(bands) == {"R", "G", "B"}:
        return image[[bands.index(color) for color in "RGB"]]
    lengths = [wavelength(band) for band in bands]
    if None in lengths:
        order = list(range(len(bands)))[2::-1]
    else:
        order = sorted(range(len(bands)), key=lambda band: lengths[band] or 0)
    if len(order) > 3:
        order = [band for band in order if bands[band] != "u"]
    if len(order) == 2:
        blue, red = image[order]
        return np.stack([red, (blue + red) / 2, blue])
    return image[order[:3][::-1]]


def wavelength(band: str) -> float | None:
    """The central wavelength in nm of a band's usual filter; Hubble's names (F814W, F160W) hold it. None if unknown."""
    if hubble := re.fullmatch(r"[Ff](\d{3})(?:W|LP|M|N|X|w|lp|m|n|x)", band):
        # Infrared names count in 10 nm, and start where no optical filter ends.
        digits = int(hubble[1])
        return digits * 10 if digits < 200 else digits
    return NANOMETERS.get(band)


def _lupton(image: NDArray[np.generic], bands: tuple[str, ...]) -> Picture:
    """The color image of Lupton et al. (2004) as the survey's viewer draws it, bands in stored order, not clipped."""
    scales = np.array([LUPTON_SCALES[band] for band in bands], np.float32)
    scaled = image.astype(np.float32) * scales[:, None, None] + np.float32(LUPTON_M)  # (C, H, W)
    intensity = np.maximum(scaled.clip(0, None).mean(axis=0), np.float32(1e-12))  # (H, W)
    stretched: Picture = scaled * (np.arcsinh(LUPTON_Q * intensity) / (np.sqrt(np.float32(LUPTON_Q)) * intensity))
    return stretched


def _stretched(colors: Picture, stretch: str) -> Picture:
    """Values as brightness from 0 to 1, all colors within the same limits."""
    low, high = zscale(colors) if stretch == "zscale" else np.percentile(colors, [1.0, 99.7])
    if not high > low:  # one value nearly everywhere
        low, high = float(colors.min()), float(colors.max())
    t = ((colors - low) / (high - low if high > low else 1.0)).clip(0, 1).astype(np.float32)
    if stretch == "asinh":
        t = np.arcsinh(t / ASINH_SOFTENING) / np.float32(np.arcsinh(1 / ASINH_SOFTENING))
    if stretch == "log":
        t = np.log1p(LOG_CONTRAST * t) / np.float32(np.log1p(LOG_CONTRAST))
    return t


def zscale(values: Picture, contrast: float = 0.25, samples: int = 1000) -> tuple[float, float]:
    """IRAF's display limits: a line fitted to the sorted values, made steeper by the contrast, around the median."""
    flat = np.sort(values.ravel()[:: max(1, values.size // samples)].astype(np.float64))
    at = np.arange(len(flat)) - (len(flat) - 1) / 2
    kept = np.ones(len(flat), bool)
    slope = 0.0
    for _ in range(5):  # outliers beyond 2.5σ of the line are left out
        if kept.sum() < max(5, len(flat) // 2):
            return float(flat[0]), float(flat[-1])
        slope, start = np.polyfit(at[kept], flat[kept], 1)
        away = flat - (slope * at + start)
        inside = np.abs(away) <= 2.5 * away[kept].std()
        if (inside == kept).all():
            break
        kept = inside
    middle = float(np.median(flat))
    reach = slope / contrast * (len(flat) - 1) / 2
    return max(float(flat[0]), middle - reach), min(float(flat[-1]), middle + reach)


def _resized(picture: Image.Image, size: int) -> Image.Image:
    """Scaled so that the longer side is `size` px: enlarged pixels stay even squares, reduced ones are averaged."""
    longer = max(picture.size)
    width, height = (max(1, round(side * size / longer)) for side in picture.size)
    if size > longer:
        whole = -(-size // longer)
        picture = picture.resize((picture.width * whole, picture.height * whole), Image.Resampling.NEAREST)
    return picture.resize((width, height), Image.Resampling.BOX)
