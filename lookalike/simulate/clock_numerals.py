"""Numerals of dials, Arabic and Roman, drawn with strokes of our own: maps of the distance to their outlines."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NUMERALS = ("arabic", "roman", "quarters", "none")  # `quarters`: Arabic 3, 6, 9 and 12 alone
CELL = 96  # px of a distance map
HALF = 1.7  # half its side, in half heights of a numeral
PEN = 0.13  # half the width of a stroke
GAP = 0.28  # between signs

Points = list[tuple[float, float]]


def _oval(x: float, y: float, a: float, b: float, start: float = 0, stop: float = 360) -> Points:
    """Part of an ellipse, angles in degrees from the right, counterclockwise."""
    t = np.deg2rad(np.linspace(start, stop, 17))
    return [(float(u), float(v)) for u, v in zip(x + a * np.cos(t), y + b * np.sin(t), strict=True)]


# Strokes of each sign in a box from 0 to its width, and from −1 to 1 upward.
SIGNS: dict[str, tuple[float, list[Points]]] = {
    "0": (1.0, [_oval(0.5, 0, 0.5, 1)]),
    "1": (0.45, [[(0, 0.55), (0.4, 1), (0.4, -1)]]),
    "2": (1.0, [[*_oval(0.5, 0.5, 0.46, 0.5, 165, -35), (0.02, -1), (1, -1)]]),
    "3": (0.95, [[*_oval(0.45, 0.5, 0.43, 0.5, 150, -80), (0.35, 0.02)], _oval(0.45, -0.47, 0.5, 0.53, 85, -150)]),
    "4": (1.0, [[(0.72, -1), (0.72, 1), (0, -0.4), (1, -0.4)]]),
    "5": (0.95, [[(0.88, 1), (0.15, 1), (0.08, 0.1), *_oval(0.45, -0.37, 0.5, 0.6, 115, -145)]]),
    "6": (1.0, [_oval(0.5, -0.42, 0.5, 0.58), [(0.02, -0.3), (0.1, 0.25), (0.35, 0.75), (0.75, 1)]]),
    "7": (0.95, [[(0, 1), (0.95, 1), (0.32, -1)]]),
    "8": (1.0, [_oval(0.5, 0.5, 0.42, 0.48), _oval(0.5, -0.48, 0.5, 0.52)]),
    "9": (1.0, [_oval(0.5, 0.42, 0.5, 0.58), [(0.98, 0.3), (0.9, -0.25), (0.65, -0.75), (0.25, -1)]]),
    "I": (0.1, [[(0.05, -1), (0.05, 1)]]),
    "V": (1.0, [[(0, 1), (0.5, -1), (1, 1)]]),
    "X": (1.0, [[(0, 1), (1, -1)], [(1, 1), (0, -1)]]),
}
ROMAN = ("I", "II", "III", "IIII", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")  # IIII, as on most dials
NARROW = {"arabic": 0.85, "roman": 0.62}  # width of the signs over their height


@lru_cache(maxsize=1)
def atlas() -> NDArray[np.float32]:
    """Distance (3, 12, CELL, CELL) to the outlines of 1 to 12 in Arabic, Roman and Arabic, in half heights."""
    arabic = np.stack([_distances(str(hour), NARROW["arabic"]) for hour in range(1, 13)])
    roman = np.stack([_distances(text, NARROW["roman"]) for text in ROMAN])
    return np.stack([arabic, roman, arabic])


def _distances(text: str, narrow: float) -> NDArray[np.float32]:
    """Distance (CELL, CELL) of each point of a cell from the strokes of a text, less the pen's half width."""
    strokes, right = [], 0.0
    for sign in text:
        width, lines = SIGNS[sign]
        strokes += [[(right + narrow * x, y) for x, y in line] for line in lines]
        right += narrow * width + GAP
    middle = (right - GAP) / 2
    across = np.linspace(-HALF, HALF, CELL)
    x, y = across[None, :] + middle, -across[:, None]
    nearest = np.full((CELL, CELL), np.inf)
    for line in strokes:
        for (ax, ay), (bx, by) in pairwise(line):
            length2 = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-12)
            t = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, 0, 1)
            nearest = np.minimum(nearest, np.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)))
    return (nearest - PEN).astype(np.float32)
