"""Numbers of CSV files: read as they are written and converted a column at a time, so that a cell that is no number
is known by its row; and so is a row of too few or too many cells.

Arrow's own conversion ends at the first such cell or row, with the whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.wording import counted

# What Arrow's CSV reader takes for "no value".
NAN = ("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
NO_VALUE = ("", "#N/A", "#N/A N/A", "#NA", "N/A", "n/a", "NA", "NULL", "null", *NAN)


@dataclass(frozen=True)
class OddCells:
    """Cells of a column that are no numbers: in which rows (n,) of a block, the first of them, and what is needed."""

    column: str
    rows: NDArray[np.bool_]
    first: str
    wanted: str


@dataclass(frozen=True)
class Ragged:
    """A row of another number of cells than there are columns: which, counted from 0 after the names, and its text."""

    row: int
    cells: int
    columns: int
    text: str

    @property
    def told(self) -> str:
        cells, columns = counted(self.cells, "cell"), counted(self.columns, "column")
        return f"it has {cells}, but there are {columns}: {self.text!r}."


def passing_over(found: list[Ragged]) -> Any:
    """How Arrow is to parse a CSV file so that rows of another number of cells are passed over, and noted in `found`.

    Their numbers are known on one thread alone, -1 on several.
    """
    from pyarrow import csv

    def note(row: Any) -> str:
        number = -1 if row.number is None else row.number - 2  # Arrow counts from 1, and the names too
        found.append(Ragged(number, row.actual_columns, row.expected_columns, row.text[:40]))
        return "skip"

    return csv.ParseOptions(invalid_row_handler=note)


def numbers(column: Any, name: str, *, whole: bool = False) -> tuple[NDArray[Any], OddCells | None]:
    """An Arrow column of bytes (n,) as float64, NaN where there is no value, or as int64 with `whole`.

    Cells that are no numbers are NaN (-1 with `whole`, for which a cell without a value is one too), and told.
    """
    import pyarrow
    from pyarrow import compute

    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    kind = pyarrow.int64() if whole else pyarrow.float64()
    texts = column.cast(pyarrow.string(), safe=False)
    try:
        return np.asarray(texts.cast(kind)), None  # a column without blanks
    except pyarrow.ArrowInvalid:
        texts = compute.ascii_trim_whitespace(texts)
    blank = compute.is_in(texts, value_set=pyarrow.array(NO_VALUE))
    odd = np.array(blank) if whole else np.zeros(len(texts), bool)
    odd[list(_failing(_without(texts, blank), kind, 0))] = True
    found = _without(_without(texts, blank), pyarrow.array(odd)).cast(kind)
    values = np.asarray(found.fill_null(-1 if whole else np.nan))
    if not odd.any():
        return values, None
    first = column[int(odd.argmax())].as_py().decode("utf-8", "replace")
    return values, OddCells(name, odd, first[:80], "whole number" if whole else "number")


def _without(texts: Any, some: Any) -> Any:
    """The texts with null in some places."""
    import pyarrow
    from pyarrow import compute

    return compute.if_else(some, pyarrow.scalar(None, pyarrow.string()), texts)


def _failing(texts: Any, kind: Any, start: int) -> Iterator[int]:
    """The places of the texts that cannot be cast, found by halving; `start` is that of the first."""
    import pyarrow

    try:
        texts.cast(kind)
    except pyarrow.ArrowInvalid:
        if len(texts) == 1:
            yield start
            return
        half = len(texts) // 2
        yield from _failing(texts[:half], kind, start)
        yield from _failing(texts[half:], kind, start + half)
