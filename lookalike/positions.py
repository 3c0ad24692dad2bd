"""Positions in a table: which of its columns they are, and their values in degrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.coordinates import parse_position
from lookalike.datasets.contract import Ledger
from lookalike.datasets.table import Table, clean_name, read_table
from lookalike.errors import InputError
from lookalike.indexer.footprints import DEGREES
from lookalike.indexer.sphere import check_positions

UCDS = ("pos.eq.ra;meta.main", "pos.eq.dec;meta.main")
PAIRS = (  # in whatever case
    ("ra", "dec"),
    ("ra_icrs", "de_icrs"),
    ("ra_icrs", "dec_icrs"),
    ("ra_deg", "dec_deg"),
    ("radeg", "dedeg"),
    ("raj2000", "dej2000"),
    ("_raj2000", "_dej2000"),
    ("alpha_j2000", "delta_j2000"),
)

Values = NDArray[np.float64]


class _Strict(Ledger):
    """A row that cannot be read is an error: results are told by the table's rows, so that none can be passed over."""

    def bad(self, name: str, reason: str, *, objects: int | None = None) -> None:
        raise InputError(f"{name}: {reason}")


def read_positions(
    path: Path, ra: str | None = None, dec: str | None = None
) -> tuple[Table, tuple[str, str], str, Values, Values]:
    """A table (.csv, .tsv, .parquet, .fits, .vot, .ecsv), its two columns, how they were chosen, ra and dec (N,).

    ra, dec : names of columns; by default those of the main UCDs, or else of a usual name. Numbers are degrees, texts
    are read as positions are. Both are NaN where either is missing. InputError where one is out of its range.
    """
    table = read_table(path, _Strict())
    names, how = choose_columns(table, ra, dec)
    values = [table.column(name) for name in names]
    for name, column in zip(names, values, strict=True):
        unit = table.columns[name].unit
        if column.dtype.kind != "U" and unit not in (*DEGREES, ""):
            raise InputError(f"Positions are in deg, but column {name!r} of {table.name} is in {unit}.")
    across, along = _degrees(table, values)
    there = check_positions(across, along, names, 0, table.name)
    return table, names, how, np.where(there, across, np.nan), np.where(there, along, np.nan)


def choose_columns(table: Table, ra: str | None, dec: str | None) -> tuple[tuple[str, str], str]:
    """The columns of right ascension and declination, and how they were chosen."""
    if (ra is None) != (dec is None):
        raise InputError(f"Both columns of a position are named, or neither, but only {ra or dec!r} was given.")
    if ra is not None and dec is not None:
        names = clean_name(ra), clean_name(dec)
        for name in names:
            table.column(name)  # errors name what there is
        return names, "as named"
    marked = [[name for name, column in table.columns.items() if column.ucd.lower() == ucd] for ucd in UCDS]
    if all(len(names) == 1 for names in marked):
        return (marked[0][0], marked[1][0]), f"by the UCDs {' and '.join(UCDS)}"
    named = {name.lower(): name for name in reversed(table.values)}
    for one, other in PAIRS:
        if one in named and other in named:
            return (named[one], named[other]), "by their names"
    raise InputError(
        f"{table.name} has no columns known to be positions: ra and dec, RA_ICRS and DE_ICRS and their likes, or those "
        f"of the UCDs {' and '.join(UCDS)}. Name them; it has: {', '.join(table.values)}.",
        code="no_positions",
    )


def _degrees(table: Table, values: list[NDArray[Any]]) -> tuple[Values, Values]:
    """Two columns (N,) of numbers or texts as degrees, NaN where there is none."""
    if all(column.dtype.kind in "fiu" for column in values):
        return values[0].astype(np.float64), values[1].astype(np.float64)
    across, along = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for row, (one, other) in enumerate(zip(*(_texts(column) for column in values), strict=True)):
        if one and other:
            try:
                found = parse_position(f"{one}, {other}")
            except InputError as error:
                raise InputError(f"Row {row:,} (counted from 0) of {table.name}: {error.message}") from None
            across[row], along[row] = found.ra, found.dec
    return across, along


def _texts(column: NDArray[Any]) -> list[str]:
    """Values (N,) as texts, "" where there is none."""
    if column.dtype.kind == "f":
        return ["" if np.isnan(value) else repr(value) for value in column.tolist()]
    return [str(value).strip() for value in column.tolist()]
