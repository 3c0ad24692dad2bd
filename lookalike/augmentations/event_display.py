"""A collision event drawn for people: its objects in the plane of pseudorapidity η and azimuth φ. Pillow only.

Every object is a disc at its direction, with an area as its transverse momentum; the missing momentum, which has no η,
is a dashed line at its φ. A legend names the types and gives the largest momenta of each in GeV.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lookalike.errors import InputError, unknown
from lookalike.events import PRIMITIVES, TYPES
from lookalike.samples import About

STRETCH = "display"
PAPER, GRID, INK = (250, 250, 248), (214, 214, 210), (40, 40, 44)
# Of equal brightness steps where that can be, for those who see few colors (after Okabe & Ito 2008).
COLORS = {
    "met": (20, 20, 20),
    "jet": (0, 114, 178),
    "tau": (213, 94, 0),
    "lepton": (0, 140, 100),
    "electron": (0, 158, 115),
    "muon": (204, 90, 150),
    "photon": (214, 160, 0),
    "other": (130, 130, 130),
}
SHORT = {"met": "MET", "lepton": "lep", "electron": "e", "muon": "µ", "photon": "γ", "tau": "τ"}
ETA = 5.0  # the plane's half width, the reach of the detectors' forward parts; what lies beyond is drawn at its edge
LARGEST = 0.13  # radius of a disc of FULL GeV over the plane's height
FULL = 200.0  # GeV
LEAST, AXES, LEGEND = 16, 64, 112  # px, of the smallest plane and of what is written around it
OVER = 3  # drawn so many times as large, then averaged, for smooth edges


class Object(NamedTuple):
    """One object: GeV and rad."""

    type: str
    pt: float
    eta: float
    phi: float


def draw(event: NDArray[np.generic], about: About, stretch: str, size: int) -> Image.Image:
    """An event (F,) of primitives or (P, 6) of particles as a square RGB picture of `size` px.

    stretch : `display`, the only one. Axes are written from AXES px on, momenta from LEGEND px on.
    """
    if stretch != STRETCH:
        raise unknown("stretch for these data", stretch, (STRETCH,))
    if size < 1:
        raise InputError(f"A picture is at least 1 px wide, but size {size} was given.")
    objects = objects_of(event, about)
    if size < LEAST:
        return _plane(objects, (1, 1, LEAST - 2, LEAST - 2), LEAST).resize((size, size), Image.Resampling.BOX)
    letters = max(9, size // 14)
    lines = _wrapped(_legend(objects), letters, size - 4) if size >= LEGEND else []
    box = (1, 1, size - 2, size - 2)  # of the plane: left, top, right, bottom
    if written := size >= AXES:
        below = letters * (1.6 + 1.12 * len(lines))
        box = (round(1.75 * letters), letters // 3, size - letters // 3, min(round(size - below), size - 2))
    picture = _plane(objects, box, size)
    if written:
        pen = ImageDraw.Draw(picture)
        _axes(pen, box, letters)
        _write(pen, lines, letters, size)
    return picture


def objects_of(event: NDArray[np.generic], about: About) -> list[Object]:
    """The objects of a stored event, those of the highest momentum first."""
    if event.ndim == 2:
        rows = [[float(number) for number in row] for row in np.asarray(event, np.float64) if row[0] > 0]
        found = [Object(TYPES[int(kind)] if 0 <= kind < len(TYPES) else "other", *row) for *row, _, kind, _ in rows]
    else:
        if event.shape != (len(about.bands),):
            raise InputError(f"An event has {len(about.bands)} numbers, but {event.shape} was given.")
        number = dict(zip(about.bands, (float(value) for value in event), strict=True))
        names = (("tau", "tau"), ("lepton", "lep"), ("jet", "jet_leading"), ("jet", "jet_subleading"))
        found = [Object(kind, *(number[f"PRI_{name}_{part}"] for part in ("pt", "eta", "phi"))) for kind, name in names]
        found.append(Object("met", number["PRI_met"], 0.0, number["PRI_met_phi"]))
        assert set(number) <= set(PRIMITIVES)
    return sorted((each for each in found if each.pt > 0 and math.isfinite(each.eta + each.phi)), key=lambda o: -o.pt)


def _plane(objects: list[Object], box: tuple[int, int, int, int], size: int) -> Image.Image:
    """The plane with its grid and the objects, the smaller ones on top."""
    picture = Image.new("RGB", (size * OVER, size * OVER), PAPER)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = (edge * OVER for edge in box)
    width, height = right - left, bottom - top

    def place(eta: float, phi: float) -> tuple[float, float]:
        across = (min(max(eta, -ETA), ETA) + ETA) / (2 * ETA)
        return left + across * width, bottom - (phi + math.pi) / (2 * math.pi) * height

    for eta in (-2.5, 0.0, 2.5):
        pen.line((place(eta, -math.pi), place(eta, math.pi)), GRID, OVER)
    for phi in (-math.pi / 2, 0.0, math.pi / 2):
        pen.line((place(-ETA, phi), place(ETA, phi)), GRID, OVER)
    for each in objects:
        x, y = place(each.eta, each.phi)
        if each.type == "met":
            _dashes(pen, left, right, y, max(2 * OVER, round(height * 0.012)))
            continue
        radius = max(1.5 * OVER, LARGEST * height * math.sqrt(min(each.pt, 4 * FULL) / FULL))
        # φ has no ends: a disc at one edge of the plane is seen at the other too.
        for turn in (-height, 0, height):
            disc = (x - radius, y + turn - radius, x + radius, y + turn + radius)
            pen.ellipse(disc, COLORS[each.type], PAPER, OVER)
    end = size * OVER
    for outside in ((0, 0, end, top - 1), (0, bottom + 1, end, end), (0, 0, left - 1, end), (right + 1, 0, end, end)):
        pen.rectangle(outside, PAPER)
    pen.rectangle((left, top, right, bottom), None, INK, OVER)
    return picture.resize((size, size), Image.Resampling.BOX)


def _dashes(pen: ImageDraw.ImageDraw, left: float, right: float, y: float, thick: int) -> None:
    step = (right - left) / 11
    for start in range(0, 11, 2):
        pen.line((left + start * step, y, left + (start + 1) * step, y), COLORS["met"], thick)


def _axes(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], letters: int) -> None:
    """What is drawn along each side, and the ends of its range."""
    left, top, right, bottom = box
    face = font(letters)
    for text, x, anchor in ((f"−{ETA:g}", left, "la"), ("η", (left + right) / 2, "ma"), (f"{ETA:g}", right, "ra")):
        pen.text((x, bottom + 1), text, INK, face, anchor)
    for text, y, anchor in (("π", top, "ra"), ("φ", (top + bottom) / 2, "rm"), ("−π", bottom, "rs")):
        pen.text((left - 2, y), text, INK, face, anchor)


def _legend(objects: list[Object]) -> list[tuple[str, str]]:
    """(type, text) of every type there is: its short name, its two largest momenta, how many more."""
    entries = []
    for kind in TYPES:
        own = [each for each in objects if each.type == kind]
        if own:
            more = f" +{len(own) - 2}" if len(own) > 2 else ""
            values = " ".join(f"{each.pt:.0f}" for each in own[:2])
            entries.append((kind, f"{SHORT.get(kind, kind)} {values}{more}"))
    return [*entries, ("", "pT, GeV")]


def _wrapped(entries: list[tuple[str, str]], letters: int, width: float) -> list[list[tuple[str, str]]]:
    """The legend in lines that fit."""
    lines: list[list[tuple[str, str]]] = []
    used = math.inf  # of the last line
    for entry in entries:
        wide = _wide(entry, letters)
        if used + wide > width:
            lines.append([])
            used = 0.0
        lines[-1].append(entry)
        used += wide
    return lines


def _wide(entry: tuple[str, str], letters: int) -> float:
    return float(font(letters).getlength(entry[1])) + (1.2 if entry[0] else 0.4) * letters


def _write(pen: ImageDraw.ImageDraw, lines: list[list[tuple[str, str]]], letters: int, size: int) -> None:
    for number, line in enumerate(reversed(lines)):
        x, y = 2.0, size - 0.3 * letters - number * 1.12 * letters
        for kind, text in line:
            start = x
            if kind:
                side = 0.62 * letters
                pen.rectangle((x, y - 0.8 * letters, x + side, y - 0.8 * letters + side), COLORS[kind])
                start += 0.8 * letters
            pen.text((start, y), text, INK, font(letters), "ls")
            x += _wide((kind, text), letters)


@functools.lru_cache(maxsize=8)
def font(letters: int) -> Any:
    """The sans serif with Greek letters that Matplotlib brings along."""
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), letters)
