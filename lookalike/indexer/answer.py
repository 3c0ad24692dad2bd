"""What a search gives back: one frozen Answer, the same from a stored list and from a live search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.wording import counted

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
class Used:
    """What an approximate search looked at: so many of all objects, in so many of all cells, and the recall it has.

    recall : {"k", "value", "low", "high", "queries"} as measured when the approximate stage was built, of the least k
    measured that is not below what was asked for, else of the largest.
    """

    objects: int
    of_objects: int
    cells: int
    of_cells: int
    recall: Mapping[str, Any]

    @property
    def words(self) -> str:
        measured = self.recall
        return (
            f"Approximate: {counted(self.objects, 'object')} of {self.of_objects:,} were looked at "
            f"({self.cells:,} of {counted(self.of_cells, 'cell')}), and ranked exactly. recall@{measured['k']} was "
            f"{measured['value']:.3f} ({measured['low']:.3f}–{measured['high']:.3f}) when this was built, of "
            f"{counted(measured['queries'], 'held-out query', 'held-out queries')} without windows or filters."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "objects": self.objects,
            "of_objects": self.of_objects,
            "cells": self.cells,
            "of_cells": self.of_cells,
            "recall": dict(self.recall),
        }


@dataclass(frozen=True)
class Found:
    """What one search found, before it is told: rows (n,) by rank, from the first on, and their similarities (n,).

    left_out : as in Answer. candidates : objects that met all conditions, where a search counted them. used : of an
    approximate search, what it looked at.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    left_out: int
    source: Literal["stored", "live"]
    candidates: int | None = None
    used: Used | None = None


@dataclass(frozen=True)
class Answer:
    """The ranked results of one query, and under which conditions they were found.

    index_version : version of the index that answered, as `v000001`.
    query         : {"id": …} or {"vector_dimensions": D, "at": …}, or what the caller named it.
    windows       : {"column", "log", "center", "half_width"} of each that was applied before ranking. `center` is
                    the column's own value (before any log), None where the query's is undefined; a list of them for
                    several examples.
    source        : "stored" for a precomputed list, "live" for a search of the vectors, exact unless `approximate`.
    k             : number of results asked for, at most that of all objects; fewer come where the window holds fewer.
    left_out      : objects that would have ranked above the last result but whose footprint overlaps the
                    query's by more than `max_overlap`; 0 with max_overlap None.
    notes         : sentences a person should see.
    where         : the filter that was applied before ranking; None if none was.
    approximate   : how few objects were looked at, and the measured recall; None where the answer is exact.
    """

    index_version: str
    query: Mapping[str, Any]
    windows: tuple[Mapping[str, Any], ...]
    source: Literal["stored", "live"]
    k: int
    results: tuple[Result, ...]
    offset: int = 0
    left_out: int = 0
    max_overlap: float | None = None
    notes: tuple[str, ...] = ()
    where: str | None = None
    approximate: Mapping[str, Any] | None = None

    @property
    def window(self) -> Mapping[str, Any] | None:
        """The first of the windows, which is the only one unless several were asked for."""
        return self.windows[0] if self.windows else None

    def to_json(self) -> dict[str, Any]:
        """The answer as plain Python for a JSON document."""
        return {
            "index_version": self.index_version,
            "query": dict(self.query),
            "window": None if self.window is None else dict(self.window),
            "windows": [dict(window) for window in self.windows],
            "where": self.where,
            "source": self.source,
            "approximate": None if self.approximate is None else dict(self.approximate),
            "k": self.k,
            "offset": self.offset,
            "results": [result.to_json() for result in self.results],
            "left_out": {"overlapping": self.left_out, "max_overlap": self.max_overlap},
            "notes": list(self.notes),
        }


def results(
    samples: Samples, found: Found, offset: int, columns: Sequence[str], shares: Sequence[tuple[float | None, bool]]
) -> tuple[Result, ...]:
    """What was found from rank offset + 1 on, with some columns of the catalog and the random shares (n,) of those."""
    rows = found.rows[offset:]  # (n,)
    values = {name: samples.values(name, rows) for name in columns}
    return tuple(
        Result(
            offset + place + 1,
            samples.id(row),
            row,
            shortest(found.similarity[offset + place]),
            {name: plain(values[name][place]) for name in columns},
            *shares[place],
        )
        for place, row in enumerate(rows.tolist())
    )
