"""What dials are made of: rims, marks, numerals and hands, as layers of cover and brightness.

Places are on the dial's plane: x to 3 o'clock, y to 12, the face's edge at radius 1. A shape is where the distance
`d` to its outline is negative; `cover` turns that into a share of the pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.simulate.clock_numerals import CELL, HALF, NUMERALS, atlas
from lookalike.simulate.draws import Draws

MARKS = ("lines", "blocks", "dots", "railway", "none")
HANDS = ("straight", "tapered", "pointed", "leaf")

Picture = NDArray[np.float32]
Numbers = NDArray[np.float64]
Choices = NDArray[np.int64]
Layer = tuple[Picture, Picture]  # cover (n, S, S) from 0 to 1, brightness (n,)

__all__ = ["HANDS", "MARKS", "NUMERALS", "Style", "dial_layers"]


@dataclass(frozen=True)
class Style:
    """How each dial (n,) looks: brightness of its parts, 0 to 1, sizes in its radius, and kinds of its parts."""

    wall: Picture
    face: Picture
    ink: Picture
    rim: Picture
    hand: Picture
    rim_width: Picture
    square: NDArray[np.bool_]
    marks: Choices
    numerals: Choices
    upright: NDArray[np.bool_]
    numeral_size: Picture
    numeral_at: Picture
    hands: Choices
    hour: Picture  # (n, 3): length, width, tail of the hour hand
    minute: Picture
    second: Picture  # angle of a thin third hand, NaN where there is none
    inner_ring: NDArray[np.bool_]
    shadow: Picture

    @classmethod
    def drawn(cls, draws: Draws) -> Style:
        """Styles at random."""
        u = draws.uniform("style", 24).astype(np.float32)  # (n, 24)
        dark = u[:, 0] < 0.25
        face = np.where(dark, 0.05 + 0.2 * u[:, 1], 0.75 + 0.25 * u[:, 1])
        ink = np.where(dark, 0.75 + 0.25 * u[:, 2], 0.02 + 0.25 * u[:, 2])
        hand = np.where(u[:, 3] < 0.75, ink, face + 0.55 * (ink - face))
        marks = draws.choice("marks", np.array([0.35, 0.2, 0.12, 0.18, 0.15]))
        # A dial with neither marks nor numerals has no orientation that one could see.
        weights = np.array([0.45, 0.2, 0.15, 0.2])
        numerals = draws.choice("numerals", weights)
        numerals = np.where((marks == MARKS.index("none")) & (numerals == NUMERALS.index("none")), 0, numerals)
        length = 0.45 + 0.13 * u[:, 4]
        width = 0.022 + 0.035 * u[:, 5]
        return cls(
            wall=u[:, 6],
            face=face,
            ink=ink,
            rim=np.where(u[:, 7] < 0.5, 0.3 * u[:, 8], 0.4 + 0.6 * u[:, 8]),
            hand=hand,
            rim_width=0.02 + 0.13 * u[:, 9] ** 2,
            square=u[:, 10] < 0.1,
            marks=marks,
            numerals=numerals,
            upright=u[:, 11] < 0.65,
            numeral_size=0.085 + 0.035 * u[:, 12],
            numeral_at=np.where(marks == MARKS.index("none"), 0.74, 0.64).astype(np.float32)
            + np.float32(0.05) * u[:, 13],
            hands=draws.choice("hands", np.array([0.35, 0.3, 0.15, 0.2])),
            hour=np.stack([length, 1.3 * width, 0.16 * u[:, 14]], axis=1),
            minute=np.stack([length + 0.22 + 0.12 * u[:, 15], 0.85 * width, 0.18 * u[:, 14]], axis=1),
            second=np.where(u[:, 16] < 0.25, 2 * np.float32(np.pi) * u[:, 17], np.float32(np.nan)),
            inner_ring=u[:, 18] < 0.3,
            shadow=np.where(u[:, 19] < 0.6, 0.45 * u[:, 20], 0).astype(np.float32),
        )


def dial_layers(
    style: Style, x: Picture, y: Picture, pixel: Picture, hour: Picture, minute: Picture
) -> Iterator[Layer]:
    """From the back to the front: rim, face, rings, marks, numerals, hands with their shadows, the pin.

    x, y : (n, S, S) on the plane. pixel : (n, 1, 1), size of a pixel there. hour, minute : (n,) angles from 12, rad.
    """
    r: Picture = np.asarray(np.hypot(x, y), np.float32)
    body = np.where(style.square[:, None, None], np.maximum(np.abs(x), np.abs(y)) * np.float32(1.05), r)
    rim = style.rim_width[:, None, None]
    yield _cover(body - 1, pixel), style.rim
    yield _cover(body - (1 - rim), pixel), style.face
    reach: Picture = np.float32(1) - rim
    ring = np.abs(r / reach - np.float32(0.56)) * reach - np.float32(0.006)
    yield _cover(ring, pixel) * style.inner_ring[:, None, None] * np.float32(0.7), style.ink
    yield _marks(style, x / reach, y / reach, np.asarray(r / reach, np.float32), pixel / reach), style.ink
    yield _numerals(style, x / reach, y / reach, pixel / reach), style.ink
    for angle, shape in ((hour, style.hour), (minute, style.minute)):
        offset = np.float32(0.025)
        shadow = _hand(style, x - offset, y + offset, angle, shape, reach)
        yield _cover(shadow, 4 * pixel) * style.shadow[:, None, None], np.zeros_like(style.hand)
        yield _cover(_hand(style, x, y, angle, shape, reach), pixel), style.hand
    there = np.isfinite(style.second)
    thin = np.tile(np.array([0.85, 0.008, 0.2], np.float32), (len(r), 1))
    second = _hand(style, x, y, np.where(there, style.second, 0), thin, reach, plain=True)
    yield _cover(second, pixel) * there[:, None, None] * np.float32(0.85), np.float32(0.5) * (style.hand + style.face)
    yield _cover(r - np.float32(0.045), pixel), style.hand


def _cover(d: Picture, pixel: Picture) -> Picture:
    """The share of each pixel within a shape, from the distance d to its outline (negative inside)."""
    covered: Picture = np.clip(np.float32(0.5) - d / pixel, 0, 1)
    return covered


def _marks(style: Style, x: Picture, y: Picture, r: Picture, pixel: Picture) -> Picture:
    """Marks of the hours and of the minutes; that of 12 is wider where there are no numerals."""
    theta = np.arctan2(x, y)  # from 12 o'clock, clockwise
    kind = style.marks[:, None, None]
    lines, blocks, dots, railway = (kind == MARKS.index(name) for name in MARKS[:4])
    hourly, minutely = _across(theta, r, 12), _across(theta, r, 60)
    first = (np.abs(theta) < np.float32(np.pi / 12)) & (style.numerals == NUMERALS.index("none"))[:, None, None]
    width = np.where(blocks, np.float32(0.032), np.float32(0.014)) * np.where(first, np.float32(2.2), np.float32(1))
    length = np.where(blocks, np.float32(0.08), np.float32(0.055)) * np.where(first, np.float32(1.5), np.float32(1))
    outer = np.float32(0.955)
    stroke = np.maximum(np.abs(hourly) - width, np.abs(r - (outer - length)) - length)
    dot = np.hypot(hourly, r - np.float32(0.91)) - np.float32(0.024) * np.where(first, np.float32(1.8), np.float32(1))
    fine = np.maximum(np.abs(minutely) - np.float32(0.006), np.abs(r - np.float32(0.93)) - np.float32(0.025))
    tracks = np.minimum(np.abs(r - np.float32(0.955)), np.abs(r - np.float32(0.905))) - np.float32(0.005)
    far = np.float32(9)
    d = np.where(lines | blocks | railway, stroke, np.where(dots, dot, far))
    d = np.where(lines | railway, np.minimum(d, fine), d)
    return _cover(np.where(railway, np.minimum(d, tracks), d), pixel)


def _across(theta: Picture, r: Picture, count: int) -> Picture:
    """Distance (n, S, S) from the nearest of so many spokes, one of which points to 12; signed."""
    part = np.float32(2 * np.pi / count)
    off = theta - part * np.rint(theta / part)
    away: Picture = r * np.sin(off)
    return away


def _numerals(style: Style, x: Picture, y: Picture, pixel: Picture) -> Picture:
    """The numerals: every pixel looks into the distance map of the numeral of its own twelfth of the dial."""
    theta = np.arctan2(x, y)
    part = np.float32(np.pi / 6)
    sector = np.rint(theta / part)  # −6 to 6
    middle = sector * part
    at, size = style.numeral_at[:, None, None], style.numeral_size[:, None, None]
    dx, dy = x - at * np.sin(middle), y - at * np.cos(middle)
    turn = np.where(style.upright[:, None, None], np.float32(0), middle)
    cos, sin = np.cos(turn), np.sin(turn)
    right, up = (dx * cos - dy * sin) / size, (dx * sin + dy * cos) / size  # in half heights of a numeral
    which = ((sector.astype(np.int64) - 1) % 12).astype(np.int64)  # 0 for 1, 11 for 12
    maps = atlas()  # (kinds, 12, CELL, CELL)
    kind = np.minimum(style.numerals, len(maps) - 1)[:, None, None]
    scale = np.float32((CELL - 1) / (2 * HALF))
    column = np.clip((right + np.float32(HALF)) * scale, 0, CELL - 1.001)
    row = np.clip((np.float32(HALF) - up) * scale, 0, CELL - 1.001)
    i, j = row.astype(np.int64), column.astype(np.int64)
    a, b = row - i, column - j
    d = (maps[kind, which, i, j] * (1 - a) + maps[kind, which, i + 1, j] * a) * (1 - b) + (
        maps[kind, which, i, j + 1] * (1 - a) + maps[kind, which, i + 1, j + 1] * a
    ) * b
    outside = (np.abs(right) > HALF) | (np.abs(up) > HALF)
    quarters = (style.numerals == NUMERALS.index("quarters"))[:, None, None] & (which % 3 != 2)
    none = (style.numerals == NUMERALS.index("none"))[:, None, None]
    return np.where(outside | quarters | none, np.float32(0), _cover((d * size).astype(np.float32), pixel))


def _hand(
    style: Style, x: Picture, y: Picture, angle: Picture, shape: Picture, reach: Picture, *, plain: bool = False
) -> Picture:
    """Distance (n, S, S) to the outline of a hand at an angle from 12: shape (n, 3) is length, half width, tail."""
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    along, across = x * sin + y * cos, np.abs(x * cos - y * sin)
    length, width, tail = (shape[:, i, None, None] * reach for i in range(3))
    place = np.clip(along / length, 0, 1)  # from the pin to the tip
    kind = np.full((len(x), 1, 1), HANDS.index("straight")) if plain else style.hands[:, None, None]
    tapered, pointed, leaf = (kind == HANDS.index(name) for name in HANDS[1:])
    half = width * np.where(tapered, np.float32(1.3) - place, np.float32(1))
    half = np.where(pointed, width * np.minimum(1, (1 - place) * 4), half)
    bulge = np.float32(0.35) + np.float32(1.2) * np.sin(np.float32(np.pi) * np.clip(place, 0, 1)) ** 2
    half = np.where(leaf, width * bulge * np.minimum(1, (1 - place) * 6), half)
    ends = np.abs(along - (length - tail) / 2) - (length + tail) / 2
    return np.asarray(np.maximum(across - half, ends), np.float32)
