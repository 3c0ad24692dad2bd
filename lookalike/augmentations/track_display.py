"""Hits drawn for people in two planes: r against z, and y against x, in mm. Pillow only.

The sample's own hit is an orange disc, its companions are gray dots, blue where the truth says that they are of the
same particle. The hits of a track are joined in their order, from the first, in orange.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lookalike.augmentations.event_display import AXES, GRID, INK, LEAST, OVER, PAPER, font
from lookalike.errors import InputError, unknown
from lookalike.samples import About
from lookalike.tracks import HIT, SAME, TRACKS

STRETCH = "planes"
OWN, ALIKE, OTHER = (213, 94, 0), (0, 114, 178), (120, 120, 120)
R_ENDS = (50.0, 100.0, 200.0, 400.0, 700.0, 1100.0, 2000.0, 5000.0)  # mm, where an axis may end
Z_ENDS = (50.0, 100.0, 200.0, 500.0, 1100.0, 1600.0, 3100.0, 10000.0)
UPPER = 0.42  # of the picture's height, for the plane of r and z

Box = tuple[float, float, float, float]  # left, top, right, bottom in px
Points = NDArray[np.float64]


def draw(hits: NDArray[np.generic], about: About, stretch: str, size: int) -> Image.Image:
    """A sample (P, F) as a square RGB picture of `size` px; axes are written from AXES px on.

    stretch : `planes`, the only one.
    """
    if stretch != STRETCH:
        raise unknown("stretch for these data", stretch, (STRETCH,))
    if size < 1:
        raise InputError(f"A picture is at least 1 px wide, but size {size} was given.")
    if hits.ndim != 2 or hits.shape[1] != len(about.bands) or about.bands[: len(HIT)] != tuple(HIT):
        raise InputError(f"Hits are (P, {len(about.bands)}), but {hits.shape} was given.")
    if size < LEAST:
        return draw(hits, about, stretch, LEAST).resize((size, size), Image.Resampling.BOX)
    x = np.asarray(hits, np.float64)
    x = x[x[:, 0] > 0]  # (n, F)
    r, phi, z = x[:, 0], x[:, 1], x[:, 2]
    colors = _colors(x, about)
    joined = about.survey.get("sample") == TRACKS
    r_end, z_end = _end(r, R_ENDS), _end(np.abs(z), Z_ENDS)
    letters = max(9, size // 18)
    upper, lower = _boxes(size, letters)
    picture = Image.new("RGB", (size * OVER, size * OVER), PAPER)
    pen = ImageDraw.Draw(picture)
    _plane(pen, upper, _placed(z, r, upper, (-z_end, z_end), (0.0, r_end)), colors, joined)
    plane = _placed(r * np.cos(phi), r * np.sin(phi), lower, (-r_end, r_end), (-r_end, r_end))
    _plane(pen, lower, plane, colors, joined)
    small = picture.resize((size, size), Image.Resampling.BOX)
    if size >= AXES:
        _written(ImageDraw.Draw(small), upper, (-z_end, z_end), (0.0, r_end), ("z", "r"), letters)
        _written(ImageDraw.Draw(small), lower, (-r_end, r_end), (-r_end, r_end), ("x", "y"), letters)
    return small


def _colors(x: Points, about: About) -> list[tuple[int, int, int]]:
    same = x[:, about.bands.index(SAME)] > 0 if SAME in about.bands else np.zeros(len(x), bool)
    if about.survey.get("sample") == TRACKS:
        same = np.ones(len(x), bool)
    colors = [ALIKE if each else OTHER for each in same.tolist()]
    return [OWN, *colors[1:]] if colors else []


def _end(values: Points, ends: tuple[float, ...]) -> float:
    """The first of the ends that no value exceeds."""
    most = float(values.max(initial=0.0))
    return next((end for end in ends if end >= most), most)


def _boxes(size: int, letters: int) -> tuple[Box, Box]:
    """Where the two planes lie, the lower one a square, with room for what is written beside them."""
    if size < AXES:
        return (1, 1, size - 2, UPPER * size), (size * (0.5 - 0.25), UPPER * size + 2, size * 0.75, size - 2)
    left, below = 3.4 * letters, 1.5 * letters
    upper = (left, 0.4 * letters, size - 0.4 * letters, UPPER * size - below)
    side = size - UPPER * size - 0.4 * letters - below
    middle = (left + size - 0.4 * letters) / 2
    top = UPPER * size + 0.4 * letters
    return upper, (middle - side / 2, top, middle + side / 2, top + side)


def _placed(x: Points, y: Points, box: Box, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> Points:
    """Where points lie in the picture (n, 2), px; y upward."""
    left, top, right, bottom = box
    across = left + (x - x_ends[0]) / (x_ends[1] - x_ends[0]) * (right - left)
    return np.stack([across, bottom - (y - y_ends[0]) / (y_ends[1] - y_ends[0]) * (bottom - top)], axis=1)


def _plane(
    pen: ImageDraw.ImageDraw, box: Box, points: Points, colors: list[tuple[int, int, int]], joined: bool
) -> None:
    left, top, right, bottom = (edge * OVER for edge in box)
    middle = (left + right) / 2
    pen.line((middle, top, middle, bottom), GRID, OVER)
    pen.line((left, (top + bottom) / 2, right, (top + bottom) / 2), GRID, OVER)
    at = [(float(x) * OVER, float(y) * OVER) for x, y in points]
    radius = max(1.2 * OVER, (right - left) / 90)
    if joined and len(at) > 1:
        pen.line(at, ALIKE, OVER)
    # The own hit last, on top of the others.
    for (x, y), color in list(zip(at, colors, strict=True))[::-1]:
        reach = radius * (1.8 if color == OWN else 1.0)
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), color, PAPER if color == OWN else None, OVER // 2)
    pen.rectangle((left, top, right, bottom), None, INK, OVER)


def _written(
    pen: ImageDraw.ImageDraw,
    box: Box,
    x_ends: tuple[float, float],
    y_ends: tuple[float, float],
    names: tuple[str, str],
    letters: int,
) -> None:
    """What is drawn along each side, and the ends of its range."""
    left, top, right, bottom = box
    face = font(letters)
    low, high = (f"{end:g}".replace("-", "−") for end in x_ends)
    below = f"{names[0]}, mm"
    if sum(face.getlength(text) for text in (low, below, high)) > right - left - letters:
        below = names[0]  # the unit is at the other side too
    for text, x, anchor in ((low, left, "la"), (below, (left + right) / 2, "ma"), (high, right, "ra")):
        pen.text((x, bottom + 1), text, INK, face, anchor)
    low, high = (f"{end:g}".replace("-", "−") for end in y_ends)
    for text, y, anchor in ((high, top, "ra"), (f"{names[1]}, mm", (top + bottom) / 2, "rm"), (low, bottom, "rs")):
        pen.text((left - 2, y), text, INK, face, anchor)
