"""Simulated analog clocks, gray, up to 150 px, with the time each shows: a labeled set whose truth is continuous.

A dial is turned, tilted and moved; its face, rim, marks, numerals and hands are of many styles; light falls from one
side, glass reflects, hands cast shadows; then blur, contrast and noise. Edges are smooth, since each shape is drawn
from the distance of every pixel to its outline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.about import About, Column
from lookalike.datasets.cutouts import stored_as
from lookalike.errors import InputError
from lookalike.simulate.clock_faces import HANDS, MARKS, NUMERALS, Style, dial_layers
from lookalike.simulate.draws import MOST_ROWS, Draws

SIZE = 150  # px, of the photograph; what is stored may be smaller
SMALLEST = 28
HOURS, MINUTES = 12, 60

COLUMNS = {
    "hour": Column("", "hour shown, 1 to 12"),
    "minute": Column("", "minute shown, 0 to 59"),
    "angle": Column("deg", "time on the 12-hour circle: 0 at 12:00, 0.5 for each minute"),
    "turn": Column("deg", "by how much the dial is turned, clockwise"),
    "numerals": Column("", f"style of the numerals: {', '.join(NUMERALS)}"),
    "marks": Column("", f"style of the marks: {', '.join(MARKS)}"),
    "hands": Column("", f"style of the hands: {', '.join(HANDS)}"),
}

Floats = NDArray[np.float64]
Picture = NDArray[np.float32]


class Clocks:
    """A set of clocks of a seed; `block` makes any of its rows, each from the seed and its row alone."""

    noun = "clocks"
    rows_at_once = 32
    most = MOST_ROWS

    def __init__(self, seed: int, turn: float = 25.0, size: int = SIZE) -> None:
        if not 0 <= turn <= 180:
            raise InputError(f"Dials are turned by up to 0 to 180 degrees, but {turn:g} was given.")
        if not SMALLEST <= size <= SIZE:
            raise InputError(f"Clocks are {SMALLEST} to {SIZE} px wide, but {size} was given.")
        self.seed, self.turn, self.size = seed, turn, size
        self.settings: dict[str, Any] = {"turn": turn, "size": size}
        self.columns = COLUMNS
        self.about = About(
            domain="image",
            bands=("gray",),
            origin="upper",
            source="SIMULATED analog clocks, not photographs (lookalike simulate clocks)",
            license="drawn by a program, so nobody's data",
            survey={"name": "simulated", "simulated": True},
            preprocess=stored_as(size, "uint8", "exact" if size == SIZE else "resize"),
        )

    def block(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.uint8], dict[str, NDArray[Any]]]:
        """Ids, pictures (n, 1, size, size) and catalog columns (n,) of some rows."""
        draws = Draws(self.seed, rows)
        minutes = np.minimum((draws.uniform("time") * HOURS * MINUTES).astype(np.int64), HOURS * MINUTES - 1)
        turn = draws.uniform("turn", low=-self.turn, high=self.turn)
        style = Style.drawn(draws)
        images = _shrunk(_photographed(_dial(draws, style, minutes, np.deg2rad(turn)), draws), self.size)
        catalog = {
            "hour": (minutes // MINUTES - 1) % HOURS + 1,
            "minute": minutes % MINUTES,
            "angle": minutes * (360.0 / (HOURS * MINUTES)),
            "turn": turn,
            "numerals": np.array(NUMERALS)[style.numerals],
            "marks": np.array(MARKS)[style.marks],
            "hands": np.array(HANDS)[style.hands],
        }
        return [f"sim{self.seed}-{row:07d}" for row in rows.tolist()], images[:, None], catalog


def _dial(draws: Draws, style: Style, minutes: NDArray[np.int64], turn: Floats) -> Picture:
    """Brightness (n, S, S), 0 to 1, of dials on their walls under even light."""
    x, y, pixel = _plane(draws, turn)
    hour, minute = minutes * (2 * np.pi / (HOURS * MINUTES)), (minutes % MINUTES) * (2 * np.pi / MINUTES)
    picture = np.broadcast_to(style.wall[:, None, None], x.shape).astype(np.float32)
    for cover, shade in dial_layers(style, x, y, pixel, hour.astype(np.float32), minute.astype(np.float32)):
        picture = picture + cover * (shade[:, None, None] - picture)
    return picture


def _plane(draws: Draws, turn: Floats) -> tuple[Picture, Picture, Picture]:
    """Where every pixel lies on its dial's plane: x to 3 o'clock, y to 12, the face's edge at radius 1.

    Returns x, y (n, S, S), and the size (n, 1, 1) of a pixel there.
    """
    radius = SIZE * draws.uniform("radius", low=0.36, high=0.47)  # px
    center = (SIZE - 1) / 2 + draws.uniform("center", 2, low=-1, high=1) * np.maximum(0.5 * SIZE - radius, 1)[
        :, None
    ] * 0.5
    tilt, toward = np.arccos(draws.uniform("tilt", low=0.86, high=1.0)), 2 * np.pi * draws.uniform("toward")
    near = 0.25 * np.sin(tilt)  # how much the nearer side looks larger
    at = np.arange(SIZE)
    u = (at - center[:, :1])[:, None, :] / radius[:, None, None]  # (n, 1, S), to the right
    v = (center[:, 1:] - at)[:, :, None] / radius[:, None, None]  # (n, S, 1), upward
    cos, sin = np.cos(toward)[:, None, None], np.sin(toward)[:, None, None]
    along, across = u * cos + v * sin, v * cos - u * sin
    depth = 1 + near[:, None, None] * along
    along, across = along / np.cos(tilt)[:, None, None] / depth, across / depth
    x, y = along * cos - across * sin, along * sin + across * cos
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    plane_x, plane_y = x * cos - y * sin, x * sin + y * cos
    return plane_x.astype(np.float32), plane_y.astype(np.float32), (1 / radius)[:, None, None].astype(np.float32)


def _photographed(picture: Picture, draws: Draws) -> NDArray[np.uint8]:
    """The picture (n, S, S) as a camera has it: uneven light, a reflection, blur, contrast, noise; 8 bits."""
    n = len(picture)
    across = np.linspace(-1, 1, SIZE)
    light = draws.uniform("light", 4)  # strength, direction; strength and corner darkening
    toward = 2 * np.pi * light[:, 1]
    slope = (0.45 * light[:, 0] ** 1.5)[:, None, None]
    side = np.cos(toward)[:, None, None] * across + np.sin(toward)[:, None, None] * across[:, None]
    corner = 1 - (0.35 * light[:, 2] ** 2)[:, None, None] * (across**2 + across[:, None] ** 2) / 2
    picture = picture * ((1 + slope * side) * corner).astype(np.float32)
    glare = draws.uniform("glare", 5)
    gx, gy = 1.2 * glare[:, 0, None, None] - 0.6, 1.2 * glare[:, 1, None, None] - 0.6
    width = (0.1 + 0.3 * glare[:, 2])[:, None, None]
    stretched = np.where(glare[:, 3] < 0.5, 1.0, 3.0)[:, None, None]
    spot = np.exp(-(((across - gx) * stretched) ** 2 + (across[:, None] - gy) ** 2) / (2 * width**2))
    shine = np.where(glare[:, 4] < 0.35, 0.5 * (glare[:, 4] / 0.35), 0.0)[:, None, None]
    picture = picture + (shine * spot).astype(np.float32) * (1 - picture)
    picture = _blurred(picture, 0.45 + 0.9 * draws.uniform("blur") ** 2)
    tone = draws.uniform("tone", 3)
    black, white = 0.12 * tone[:, 0, None, None], 0.8 + 0.2 * tone[:, 1, None, None]
    gamma = (0.75 + 0.6 * tone[:, 2])[:, None, None]
    toned = black + (white - black) * np.clip(picture, 0, 1) ** gamma.astype(np.float32)
    noise = (0.003 + 0.035 * draws.uniform("noisy") ** 2)[:, None, None].astype(np.float32)
    seen = toned + noise * draws.normal("noise", SIZE, SIZE)
    levels: NDArray[np.uint8] = np.rint(255 * np.clip(seen, 0, 1)).astype(np.uint8)
    return levels.reshape(n, SIZE, SIZE)


def _shrunk(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Pictures (n, S, S) resized as `ingest images --size` does."""
    if size == images.shape[-1]:
        return images
    made = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in made])


def _blurred(picture: Picture, sigma: Floats) -> Picture:
    """Each picture (n, S, S) blurred by its own Gaussian, σ in px, the edge repeated outward."""
    reach = 5
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))  # (n, 11)
    kernel = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
    for axis in (1, 2):
        padded = np.pad(picture, [(0, 0) if a != axis else (reach, reach) for a in range(3)], mode="edge")
        parts = (np.take(padded, range(i, i + SIZE), axis=axis) for i in range(2 * reach + 1))
        picture = np.zeros_like(picture)
        for i, part in enumerate(parts):
            picture += kernel[:, i, None, None] * part
    return picture
