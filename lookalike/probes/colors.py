"""Whether the encoder is given the colors that people are shown."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.about import About
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.drawing import is_flux, stretches_for, to_colors
from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.preprocess import Preprocess
from lookalike.probes.checks import Check
from lookalike.probes.published import COLOR_SCALES, viewer_colors

ROUNDING = 1.0  # of the 256 levels of a drawn picture
BRIGHTEST = 0.03  # nanomaggies, shown unclipped
PATTERN = 64  # px, of as many different colors


def color_checks(domain: Domain, preprocess: Preprocess, about: About) -> list[Check]:
    """Compare the encoder's input with the drawn picture, and for g, r, z fluxes with the published colors.

    The two may differ by one line a + b·x that is common to all colors, since the encoder's input is shifted and
    scaled. Data that are drawn with a stretch of their own for each picture have no colors to compare.
    """
    side = preprocess.size
    stretch = stretches_for(about, preprocess.dtype)[1]  # type: ignore[arg-type]
    published = is_flux(about) and preprocess.dtype == "float32" and set(about.bands) == set(COLOR_SCALES)
    if stretch not in ("native", "lupton"):
        return []
    top = 255.0 if preprocess.dtype == "uint8" else BRIGHTEST
    line = np.random.default_rng(0).uniform(0, top, (len(about.bands), 1, max(side, PATTERN)))
    # Rows are alike, so that it does not matter which end of the picture is drawn on top.
    image = np.repeat(line, line.shape[2], axis=1).astype(preprocess.dtype)  # (C, H, W)
    given = encoder_input(torch.from_numpy(image)[None], preprocess)[0].numpy()  # (C, h, w)
    low = (image.shape[1] - side) // 2
    seen = slice(low, low + side)
    drawn = np.asarray(domain.draw(image, about, stretch, image.shape[1]), np.float64)
    drawn = drawn.reshape(*drawn.shape[:2], -1).transpose(2, 0, 1)[:, seen, seen]  # (1 or 3, h, w)
    checks = [Check("input", "the encoder's colors are the viewer's", "colors", _apart(given, drawn, about), ROUNDING)]
    if published:
        away = _from_published(preprocess, about)
        checks.append(Check("input", "the encoder's colors are the published ones", "colors", away, ROUNDING))
    return checks


def _apart(given: NDArray[np.float32], drawn: NDArray[np.float64], about: About) -> float:
    """The largest residual, in levels, of the best line from the encoder's input to the drawn picture."""
    colors = to_colors(given, about.bands).astype(np.float64)  # (1 or 3, h, w)
    inside = (drawn > 0) & (drawn < 255)
    x, y = colors[inside], drawn[inside]
    slope, start = np.polyfit(x, y, 1)
    return float(np.abs(start + slope * x - y).max()) if slope > 0 else np.inf


def _from_published(preprocess: Preprocess, about: About) -> float:
    """The largest difference in levels, less a thousandth of the value, for fluxes from below 0 to bright stars."""
    random, shape = np.random.default_rng(1), (len(about.bands), preprocess.size, preprocess.size)
    flux = 10 ** random.uniform(-4, 1.5, shape) - 0.004  # nanomaggies, of which each band's color is above 0
    given = encoder_input(torch.from_numpy(flux).float()[None], preprocess)[0].double().numpy()
    wanted = viewer_colors(flux, about.bands)
    return float((255 * np.abs(given - wanted) / (1 + 0.255 * np.abs(wanted))).max())
