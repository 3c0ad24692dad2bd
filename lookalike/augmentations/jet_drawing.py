"""Jets drawn for people: pT over η′ and φ′ about each jet's axis, two jets side by side. NumPy and Pillow only."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from math import pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lookalike.errors import InputError, unknown
from lookalike.samples import About

STRETCHES = ("log", "linear", "aligned")
PIXELS = 75  # of the image that an encoder is given
PARTS = (75, 25, 15)  # pixels that are shown, the most of which each is VISIBLE px wide: whole numbers of the encoder's
VISIBLE = 2
REACH = 1.0  # half the width shown, in η and φ
LOWEST = 1e-3  # of the brightest pixel, the faintest that log shows
WITH_AXES = 56  # px for each jet, below which there is no room for text
SMALLEST_TEXT = 9  # px
INK, FRAME, GROUND = (225, 225, 230), (120, 120, 130), (0, 0, 0)
# Brightness along a path from black through blue and red to pale yellow, even to the eye.
COLORS = np.array(
    [[0, 0, 0], [40, 15, 90], [120, 30, 120], [200, 60, 85], [245, 130, 45], [250, 205, 80], [255, 255, 210]], float
)

Floats = NDArray[np.float64]


def draw(image: NDArray[np.generic], about: About, stretch: str, size: int) -> Image.Image:
    """The jets of an event, side by side, `size` px wide.

    image : (P, 4) float32 of pt in GeV, eta, phi, jet. stretch : `log` (the brightest pixel to a thousandth of it),
    `linear`, or `aligned` (log, after the principal axis was turned along η and the brightest quadrant made the
    first). η′ runs to the right and φ′ up.
    """
    if stretch not in STRETCHES:
        raise unknown("stretch", stretch, STRETCHES)
    if image.ndim != 2 or image.shape[1] != 4:
        raise InputError(f"The constituents of an event are (P, 4), but {image.shape} was given.")
    if size < 1:
        raise InputError(f"A picture is at least 1 px wide, but size {size} was given.")
    x = np.asarray(image, np.float64)
    x = x[x[:, 0] > 0]
    jets = 1 if about.survey.get("jets") == 1 else 2
    return _sheet([_Panel(x[x[:, 3] == jet, :3], stretch) for jet in range(jets)], size)


class _Panel:
    """One jet: the pT of its pixels (PIXELS, PIXELS), row 0 at the lowest φ′, and its own pT, in GeV."""

    def __init__(self, jet: Floats, stretch: str) -> None:
        pt, eta, phi = jet.T
        self.pt = float(np.hypot((pt * np.cos(phi)).sum(), (pt * np.sin(phi)).sum()))
        u, v = _centered(pt, eta, phi)
        if stretch == "aligned":
            u, v = _aligned(pt, u, v)
        self.linear = stretch == "linear"
        self.pixels = np.histogram2d(v, u, PIXELS, ((-REACH, REACH), (-REACH, REACH)), weights=pt)[0]

    def picture(self, side: int) -> Image.Image:
        """The panel as `side` px, φ′ upward."""
        parts = next((parts for parts in PARTS if side >= VISIBLE * parts), PARTS[-1])
        step = PIXELS // parts
        summed = self.pixels.reshape(parts, step, parts, step).sum((1, 3))[::-1]
        place = self._levels(summed) * (len(COLORS) - 1)
        colors = np.stack([np.interp(place, np.arange(len(COLORS)), color) for color in COLORS.T], axis=-1)
        drawn = Image.fromarray(np.rint(colors).astype(np.uint8))
        return drawn.resize((side, side), Image.Resampling.NEAREST)

    def _levels(self, pixels: Floats) -> Floats:
        """Brightness from 0 to 1."""
        top = pixels.max()
        levels: Floats = pixels / top if top > 0 else pixels
        if self.linear or not top > 0:
            return levels
        with np.errstate(divide="ignore"):
            logged: Floats = (1 - np.log(levels) / np.log(LOWEST)).clip(0, 1)
        return logged


def _wrapped(angle: Floats) -> Floats:
    """The same angles within (−π, π]."""
    found: Floats = angle - 2 * pi * np.ceil((angle - pi) / (2 * pi))
    return found


def _centered(pt: Floats, eta: Floats, phi: Floats) -> tuple[Floats, Floats]:
    """η′ and φ′ (n,) from the pT-weighted axis, as `jet_image` has them."""
    if not len(pt):
        return eta, phi
    start = phi[pt.argmax()]
    away = _wrapped(phi - start)
    return eta - np.average(eta, weights=pt), _wrapped(away - np.average(away, weights=pt))


def _aligned(pt: Floats, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """The principal axis along η′, the brightest quadrant the first, as `jet_image` has them."""
    angle = 0.5 * np.arctan2(2 * (pt * u * v).sum(), (pt * (u**2 - v**2)).sum())
    u, v = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
    signs = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
    brightest = max(signs, key=lambda sign: pt[((u >= 0) == (sign[0] > 0)) & ((v >= 0) == (sign[1] > 0))].sum())
    return u * brightest[0], v * brightest[1]


def _sheet(panels: list[_Panel], size: int) -> Image.Image:
    """Panels side by side with their axes, and above each its pT."""
    text = max(SMALLEST_TEXT, size // 16)
    axes = size // len(panels) >= WITH_AXES
    left, right, gap = (2 * text - 2, text // 2, text // 2) if axes else (0, 0, 1)
    top, bottom = (text + 3, text + 5) if axes else (0, 0)
    side = max(1, (size - left - right - gap * (len(panels) - 1)) // len(panels))
    if len(panels) == 1 and axes:
        side = min(side, size - top - bottom)  # a single panel is as high as the picture at most
    sheet = Image.new("RGB", (size, min(size, top + side + bottom)), GROUND)
    pen = ImageDraw.Draw(sheet)
    for place, panel in enumerate(panels):
        x = left + place * (side + gap)
        sheet.paste(panel.picture(side), (x, top))
        if axes:
            pen.rectangle((x - 1, top - 1, x + side, top + side), outline=FRAME)
            _label(pen, panel, x, top, side, text, first=place == 0)
    return sheet


def _label(pen: ImageDraw.ImageDraw, panel: _Panel, x: int, y: int, side: int, text: int, *, first: bool) -> None:
    """Ticks at −1 and 1, the names of the axes between them, and the jet's pT above."""
    font = _font(text)
    pen.text((x + side / 2, y - 3), _told(panel.pt, side, font), INK, font, "ms")
    below = y + side + text + 1
    pen.text((x, below), "−1", INK, font, "ls")
    pen.text((x + side / 2, below), "η′", INK, font, "ms")
    pen.text((x + side, below), "1", INK, font, "rs")
    if first:
        pen.text((x - 3, y + side), "−1", INK, font, "rs")
        pen.text((x - 3, y + side / 2), "φ′", INK, font, "rm")
        pen.text((x - 3, y), "1", INK, font, "rt")


def _told(pt: float, side: int, font: ImageFont.FreeTypeFont) -> str:
    """The pT in as many words as fit."""
    number = f"{pt:.0f}" if pt >= 10 else f"{pt:.1f}"
    choices = (f"pT {number} GeV", f"{number} GeV", number)
    return next((choice for choice in choices if font.getlength(choice) <= side), number)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font with Greek letters, which Pillow's own lacks: the one that matplotlib brings."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size)
