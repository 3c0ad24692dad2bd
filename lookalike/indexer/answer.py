"""What a search gives back: one frozen Answer, the same from a stored list and from a live search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lookalike.errors import InputError

RESERVED = ("rank", "id", "row", "similarity", "random_share", "random_share_below")
Value = float | int | str | None  # a catalog value as JSON has it: undefined is None, never NaN


def shortest(similarity: Any) -> float:
    """A float32 similarity as the float with its shortest decimal, so that JSON shows 0.9, not 0.8999999762."""
    return float(str(np.float32(similarity)))


def plain(value: Any) -> Value:
    """A catalog value as plain Python: NaN and infinities, which JSON lacks, become None."""
    if isinstance(value, str | np.str_):
        return str(value)
    if isinstance(value, np.integer | int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def check_names(columns: Iterable[str]) -> None:
    """InputError for columns that a result cannot carry beside its own fields, RESERVED."""
    for name in columns:
        if name in RESERVED:
            raise InputError(
                f"A result holds its own {', '.join(RESERVED)}, so a column called {name!r} cannot stand beside them; "
                "leave it out here, or rename it and ingest again.",
                code="reserved_column",
            )


@dataclass(frozen=True)
class Result:
    """One found object: rank from 1, id, row, cosine similarity (shortest float32), the columns asked for.

    random_share : the share of random pairs within such a window that are at least as similar, None where unknown;
    with random_share_below it is less than that, which is the least that can be told.
    """

    rank: int
    id: str
    row: int
    similarity: float
    columns: Mapping[str, Value] = field(default_factory=dict)
    random_share: float | None = None
    random_share_below: bool = False

    def to_json(self) -> dict[str, Any]:
        """One flat object; InputError for a column whose name is one of the result's own fields."""
        check_names(self.columns)
        own = {name: getattr(self, name) for name in RESERVED}
        return own | dict(self.columns)


@dataclass(frozen=True)
class Answer:
    """The ranked results of one query, and under which conditions they were found.

    index_version : version of the index that answered, as `v000001`.
    query         : {"id": …} or {"vector_dimensions": D, "at": …}, or what the caller named it.
    window        : {"column", "log", "center", "half_width"} that was applied before ranking; None if none was.
                    `center` is the column's own value (before any log), None where the query's is undefined.
    source        : "stored" for a precomputed list, "live" for an exhaustive exact search.
    k             : number of results asked for, at most that of all objects; fewer come where the window holds fewer.
    left_out      : objects that would have ranked above the last result but whose footprint overlaps the
                    query's by more than `max_overlap`; 0 with max_overlap None.
    notes         : sentences a person should see.
    """

    index_version: str
    query: Mapping[str, Any]
    window: Mapping[str, Any] | None
    source: Literal["stored", "live"]
    k: int
    results: tuple[Result, ...]
    offset: int = 0
    left_out: int = 0
    max_overlap: float | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The answer as plain Python for a JSON document."""
        return {
            "index_version": self.index_version,
            "query": dict(self.query),
            "window": None if self.window is None else dict(self.window),
            "source": self.source,
            "k": self.k,
            "offset": self.offset,
            "results": [result.to_json() for result in self.results],
            "left_out": {"overlapping": self.left_out, "max_overlap": self.max_overlap},
            "notes": list(self.notes),
        }
