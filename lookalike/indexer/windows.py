"""Windows: which objects are candidates for which, by one catalog column (or its log) and a half-width.

j is a candidate for i iff j ≠ i and |x_j − x_i| ≤ w, evaluated in float64. Ranges are found by bisecting exactly
that predicate: x + w rounds, and on values kept to 0.001 the two disagree in about 1 % of the objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import as_text
from lookalike.augmentations import DOMAINS
from lookalike.errors import InputError, unknown
from lookalike.samples import Samples

Values = NDArray[np.float64]
Places = NDArray[np.int64]

USUAL = "usual"  # stands for the domain's default window
_PATTERN = re.compile(r"(?:log\((?P<logged>[^():\s]+)\)|(?P<plain>[^():\s]+)):(?P<width>[^:\s]+)")


@dataclass(frozen=True)
class Window:
    """Objects within `half_width` of each other in `column`, or in its natural logarithm with `log`."""

    column: str
    half_width: float
    log: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^():\s]+", self.column):
            raise InputError(f"A window's column is a name without spaces, colons or brackets, not {self.column!r}.")
        if not (math.isfinite(self.half_width) and self.half_width >= 0):
            raise InputError(f"A window's half-width is finite and not negative, but {self.half_width} was given.")

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read `mag:0.5` or `log(pt):0.1`; InputError for anything else."""
        found = _PATTERN.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"A window is column:half-width or log(column):half-width, e.g. mag:0.5, but {text!r} was given."
            )
        try:
            half_width = float(found["width"])
        except ValueError:
            raise InputError(f"A window's half-width is a number, but {found['width']!r} was given.") from None
        return cls(found["logged"] or found["plain"], half_width, found["logged"] is not None)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Window | None:
        """The window a manifest describes, None for none."""
        return None if value is None else cls(value["column"], value["half_width"], value["log"])

    def to_json(self) -> dict[str, Any]:
        return {"column": self.column, "half_width": self.half_width, "log": self.log}

    @property
    def name(self) -> str:
        """What is compared: `mag`, `log(pt)`."""
        return f"log({self.column})" if self.log else self.column

    def __str__(self) -> str:
        return f"{self.name}:{self.half_width!r}"

    @property
    def words(self) -> str:
        """The window as people read it: `mag ± 0.5`, `log(pt) ± 0.1`."""
        return f"{self.name} ± {self.half_width!r}".removesuffix(".0")

    def scale(self, values: NDArray[Any]) -> Values:
        """Column values (…) as float64 on the window's own scale; undefined ones, and logs of ≤ 0, are NaN."""
        x = np.array(values, dtype=np.float64)
        if self.log:
            x[~(x > 0)] = np.nan
            np.log(x, out=x)
        x[~np.isfinite(x)] = np.nan
        return x

    def values(self, samples: Samples) -> Values:
        """The window's values (N,) of a data set; InputError where the column is missing or holds text."""
        if self.column not in samples.columns:
            raise unknown("column", self.column, samples.columns)
        return self.of(samples.column(self.column))

    def of(self, column: NDArray[Any]) -> Values:
        """The window's values (N,) of its column's; InputError where these are texts."""
        if column.dtype.kind not in "fiub":
            row, text = next((r, t) for r, t in enumerate([*map(as_text, column), "no number"]) if not _is_number(t))
            found = f", as {text!r} in row {row}" if row < len(column) else ""
            raise InputError(f"A window needs a column of numbers, but {self.column!r} holds text{found}.")
        return self.scale(column)

    def refuse_undefined(self, x: Values) -> None:
        """InputError where no object has a value (N,), so that none would have a neighbor."""
        if not np.isfinite(x).any():
            which = f"a number above 0 in {self.column!r}" if self.log else f"a number in {self.column!r}"
            raise InputError(
                f"A window needs objects that lie in it, but none of {len(x):,} has {which}; choose another --window, "
                "or none.",
                code="window_undefined",
            )

    def inside(self, center: float | Values, x: Values) -> NDArray[np.bool_]:
        """Where |x − center| ≤ half-width for values x (n,) and a center or (n,), on its scale; NaN is in nothing."""
        with np.errstate(over="ignore"):
            found: NDArray[np.bool_] = np.abs(x - center) <= self.half_width
        return found


def _applies(window: Window, samples: Samples) -> bool:
    """Whether the column is there and any object has a defined number in it."""
    if window.column not in samples.columns or samples.column(window.column).dtype.kind not in "fiub":
        return False
    return bool(np.isfinite(window.values(samples)).any())


def usual_windows(samples: Samples) -> tuple[str, ...]:
    """The windows that the domain prefers, the first the most."""
    domain = DOMAINS.get(samples.about.domain)
    return domain.windows if domain is not None else ()


def usual_window(samples: Samples) -> str | None:
    """The domain's default window, the first that any object has a number for; None where there is none."""
    return next((text for text in usual_windows(samples) if _applies(Window.parse(text), samples)), None)


@dataclass(frozen=True)
class Ranges:
    """Every object's window as a run of the sorted order.

    order : (M,) rows with a defined value, by value, equal values by row.
    low, high : (M,) positions in `order`; the objects order[low[p]:high[p]] are within the window of order[p],
    itself included. Both never decrease with p.
    """

    order: Places
    low: Places
    high: Places


def ranges(x: Values, half_width: float) -> Ranges:
    """Sort the defined values of x (N,) and bisect the window predicate from each of them."""
    defined = np.flatnonzero(np.isfinite(x))
    order = defined[np.argsort(x[defined], kind="stable")].astype(np.int64)
    s = x[order]  # (M,)
    place = np.arange(len(s), dtype=np.int64)
    with np.errstate(over="ignore"):
        # A rounded difference grows with the distance in the sorted order, so each side has one boundary.
        low = _first(np.zeros_like(place), place, lambda q: s - s[q] <= half_width)
        high = _first(place + 1, np.full_like(place, len(s)), lambda q: s[np.minimum(q, len(s) - 1)] - s > half_width)
    return Ranges(order, low, high)


def everyone(n: int) -> Ranges:
    """The ranges without a window: each object's run is the whole set, in row order."""
    return Ranges(np.arange(n, dtype=np.int64), np.zeros(n, np.int64), np.full(n, n, np.int64))


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _first(start: Places, stop: Places, holds: Any) -> Places:
    """The first place in [start, stop) from which a monotone predicate holds, `stop` where it never does."""
    low, high = start.copy(), stop.copy()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        true = holds(middle)
        high = np.where(open_ & true, middle, high)
        low = np.where(open_ & ~true, middle + 1, low)
    return low
