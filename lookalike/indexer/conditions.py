"""What a result has to meet before it is ranked: windows around the query's values, all of them, and a filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, unknown
from lookalike.indexer.answer import Value
from lookalike.indexer.where import Bools, Lookup, Where
from lookalike.indexer.windows import Values, Window

MOST = 16  # windows that are intersected


@dataclass(frozen=True)
class Placed:
    """A window around one or more values of its column, before any log: within it of any of them. None is in none."""

    window: Window
    centers: tuple[Value, ...]

    @property
    def scaled(self) -> Values:
        """The defined centers (c,) on the window's own scale, each once."""
        given = np.array([np.nan if value is None else value for value in self.centers], np.float64)
        x = np.unique(self.window.scale(given))
        found: Values = x[~np.isnan(x)]
        return found

    def holds(self, x: Values) -> Bools:
        """Which values (n,), on the window's scale, lie within it."""
        centers = self.scaled  # (c,) increasing
        if not len(centers):
            return np.zeros(len(x), np.bool_)
        # A rounded difference never shrinks with the distance: if any center is near enough, so is the next one on
        # its side. Examples may be thousands, so that a look at each would take that many passes.
        above = np.searchsorted(centers, x)
        inside = self.window.inside(centers[np.minimum(above, len(centers) - 1)], x)
        return inside if len(centers) == 1 else inside | self.window.inside(centers[np.maximum(above - 1, 0)], x)

    def to_json(self) -> dict[str, Any]:
        own = self.window.to_json()
        center = self.centers[0] if len(self.centers) == 1 else list(self.centers)
        return {"column": own["column"], "log": own["log"], "center": center, "half_width": own["half_width"]}


@dataclass(frozen=True)
class Conditions:
    """Windows to lie in, all of them, and a filter to pass."""

    windows: tuple[Placed, ...] = ()
    where: Where | None = None

    def __bool__(self) -> bool:
        return bool(self.windows) or self.where is not None

    @property
    def words(self) -> str:
        """As people read them: `within mag ± 0.5 and size ± 1, such that label = 'x'`."""
        within = " and ".join(placed.window.words for placed in self.windows)
        where = "" if self.where is None else f"such that {self.where.text}"
        return ", ".join(part for part in (f"within {within}" if within else "", where) if part)

    def holds(self, lookup: Lookup, scaled: Callable[[Window], Values]) -> Bools:
        """Which of some objects meet all: `lookup` gives a column's values (n,), `scaled` a window's on its scale."""
        parts = [placed.holds(scaled(placed.window)) for placed in self.windows]
        if self.where is not None:
            parts.append(self.where.holds(lookup))
        found: Bools = np.logical_and.reduce(parts)
        return found

    def lie_in(self, window: Window | None, center: Value) -> bool:
        """Whether whatever meets them is in this window around this value, so that a list made with it holds all."""
        if window is None:
            return True
        return any(
            (placed.window.column, placed.window.log) == (window.column, window.log)
            and placed.centers == (center,)
            and placed.window.half_width <= window.half_width
            for placed in self.windows
        )


def check_windows(windows: Sequence[Window], at: Mapping[str, float], kinds: Mapping[str, str]) -> None:
    """InputError for windows of no column of numbers, or twice of one, and for places in none of them.

    kinds : of the columns there are, as Samples has them.
    """
    if len(windows) > MOST:
        raise InputError(f"At most {MOST} windows are intersected, but {len(windows)} were given.")
    named = [window.column for window in windows]
    for window in windows:
        if window.column not in kinds:
            raise unknown("column", window.column, kinds)
        if kinds[window.column] == "S":
            raise InputError(f"A window needs a column of numbers, but {window.column!r} holds text.")
        if named.count(window.column) > 1:
            raise InputError(f"A column has one window, but {window.column} was given {named.count(window.column)}.")
    for name in at:
        if name not in named:
            raise unknown("window column", name, named)


def center_given(window: Window, value: float) -> float:
    """A center as it was asked for; InputError where it is in no window."""
    if not np.isfinite(window.scale(np.array(float(value)))):
        raise InputError(f"{window.column} = {value:g} is in no window {window.words}; give a defined value.")
    return float(value)


def kept(candidates: NDArray[np.int64], excluded: NDArray[np.int64]) -> NDArray[np.int64]:
    """Candidates (n,), increasing, without the excluded ones (m,) among them."""
    if not len(excluded) or not len(candidates):
        return candidates
    place = np.minimum(np.searchsorted(candidates, excluded), len(candidates) - 1)
    found: NDArray[np.int64] = np.delete(candidates, place[candidates[place] == excluded])
    return found
