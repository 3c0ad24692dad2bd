"""Crossmatch: the objects of an index nearest to the positions of a table, and the neighbors stored for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.coordinates import parse_angle
from lookalike.datasets.table import clean_name
from lookalike.errors import InputError
from lookalike.files import atomic_path, file_output, lock
from lookalike.indexer.sky import SkyIndex
from lookalike.indexer.store import Index
from lookalike.positions import read_positions
from lookalike.progress import progress
from lookalike.provenance import WAYS_OUT, refuse_input
from lookalike.samples import Samples
from lookalike.spreadsheets import escaped_all

AT_ONCE = 2**12  # rows of the table
ENDINGS = (".csv", ".parquet")
MATCHED, MISSED, NO_POSITION = "matched", "missed", "no position"
SHARE = 50  # ids are looked up one by one where these are fewer than one in so many

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CrossmatchReport:
    """What was found: rows of the table with an object, without one, and without a position; lines written.

    columns : the table's two, and `chosen` says how they were chosen. missed : rows (from 0) without an object.
    """

    index_version: str
    rows: int
    matched: int
    missed: tuple[int, ...]
    without_position: int
    lines: int
    columns: tuple[str, str]
    chosen: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"missed": list(self.missed), "columns": list(self.columns)}


def crossmatch(
    folder: Path,
    table: Path,
    out: Path,
    *,
    radius: str,
    k: int = 0,
    matches: int = 1,
    ra: str | None = None,
    dec: str | None = None,
    columns: Sequence[str] = (),
    samples: Sequence[Path] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> CrossmatchReport:
    """Write, for each row of a table, the nearest objects within a radius and their k most similar neighbors.

    table : .csv, .tsv, .parquet, .fits, .vot or .ecsv; ra, dec name its columns, else they are guessed and told.
    radius : an angle with its unit. matches : nearest objects of each row. k : of each of these the first stored
    neighbors. columns : the table's, to be carried along as `table_<name>`. out : .csv or .parquet, one line for each
    object: rank 0 is a match, ranks from 1 are its neighbors, and a row that has none has one line that says so.
    InputError, NotFoundError, CorruptError as for `cone`; LockedError where another process writes `out`.
    """
    began = time.monotonic()
    out, degrees = file_output(Path(out)), parse_angle(radius)
    if out.suffix.lower() not in ENDINGS:
        raise InputError(f"A crossmatch is written to {' or '.join(ENDINGS)}, but {out.name} was given.")
    refuse_input(out, [Path(table)])
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already and was left as it was. {WAYS_OUT}")
    if matches < 1:
        raise InputError(f"At least 1 object is taken for each row, but matches = {matches} was given.")
    index = Index(Path(folder))
    if not 0 <= k <= index.k:
        raise InputError(f"k is 0 to the {index.k:,} neighbors stored for each object, but {k:,} was given.")
    sky = SkyIndex.of(index)
    data = index.open_samples([Path(path) for path in samples] if samples else None)
    read, names, how, across, along = read_positions(Path(table), ra, dec)
    carried = {f"table_{name}": read.column(name) for name in map(clean_name, columns)}
    there = ~np.isnan(across)
    ids = _ids(data, len(read) * matches * (1 + k))
    missed: list[int] = []
    lines = 0
    with (
        lock(out),
        atomic_path(out) as temporary,
        _writer(temporary, out.suffix.lower(), carried) as write,
        progress("crossmatch", len(read), "rows", quiet=quiet) as advance,
    ):
        for start in range(0, len(read), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(read)))
            placed = rows[there[rows]]
            found = sky.within(across[placed], along[placed], degrees, most=matches)
            block = _lines(index, rows, there[rows], placed[found.query], found.row, found.separation, k)
            missed += np.setdiff1d(placed, placed[found.query]).tolist()
            write(_table(block, across, along, ids) | {name: v[block.input_row] for name, v in carried.items()})
            lines += len(block.input_row)
            advance(len(rows))
    count = int(there.sum())
    return CrossmatchReport(
        index.version,
        len(read),
        count - len(missed),
        tuple(missed),
        len(read) - count,
        lines,
        names,
        how,
        time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Lines:
    """Lines (m,) of the result: the table's row, match from 1 and rank, −1 for none; the object's row, −1 for none."""

    input_row: Rows
    status: NDArray[np.str_]
    match: Rows
    rank: Rows
    row: Rows
    separation: NDArray[np.float64]  # arcsec, of matches
    similarity: NDArray[np.float32]  # of neighbors, to the match


def _lines(
    index: Index,
    rows: Rows,
    there: NDArray[np.bool_],
    input_row: Rows,
    row: Rows,
    separation: NDArray[np.float64],
    k: int,
) -> _Lines:
    """Matches (m,) with their neighbors, and the rows that have none, by row of the table, match and rank."""
    first = np.searchsorted(input_row, input_row)
    match = np.arange(len(input_row)) - first + 1
    stored, similarity = index.checked(row if k else row[:0], k)  # without neighbors no list is read
    neighbors = stored.astype(np.int64)  # (m, k)
    m, some = len(row), neighbors >= 0
    alone = np.setdiff1d(rows, input_row)
    status = np.where(there[alone - rows[0]], MISSED, NO_POSITION)
    of_neighbor = np.nonzero(some)[0]
    rank = np.nonzero(some)[1] + 1
    blank = np.full(len(alone), -1)
    joined = _Lines(
        np.concatenate([input_row, input_row[of_neighbor], alone]),
        np.concatenate([np.full(m + len(rank), MATCHED), status]),
        np.concatenate([match, match[of_neighbor], blank]),
        np.concatenate([np.zeros(m, np.int64), rank, blank]),
        np.concatenate([row, neighbors[some], blank]),
        np.concatenate([separation * 3600, np.full(len(rank) + len(alone), np.nan)]),
        np.concatenate([np.full(m, np.nan), similarity[some], np.full(len(alone), np.nan)]).astype("f4"),
    )
    order = np.lexsort((joined.rank, joined.match, joined.input_row))
    return _Lines(*(getattr(joined, name)[order] for name in _Lines.__dataclass_fields__))


def _table(
    lines: _Lines, ra: NDArray[np.float64], dec: NDArray[np.float64], ids: Callable[[Rows], Sequence[str]]
) -> dict[str, Any]:
    """The columns of the result by name; undefined is None or NaN."""
    some = lines.row >= 0
    distinct, place = np.unique(lines.row[some], return_inverse=True)
    names = np.full(len(some), None, object)
    names[some] = np.array(ids(distinct), object)[place] if len(distinct) else []
    return {
        "input_row": lines.input_row,
        "ra": ra[lines.input_row],
        "dec": dec[lines.input_row],
        "status": lines.status,
        "match": lines.match,
        "rank": lines.rank,
        "id": names,
        "row": lines.row,
        "separation_arcsec": lines.separation,
        "similarity": lines.similarity,
    }


def _ids(samples: Samples, lines: int) -> Callable[[Rows], Sequence[str]]:
    """How ids of rows are found: from all ids where many are asked for, else each from its file."""
    if lines * SHARE < len(samples):
        return samples.ids_at
    whole = samples.ids
    return lambda rows: whole[rows].astype(str).tolist()


@contextmanager
def _writer(path: Path, ending: str, carried: dict[str, NDArray[Any]]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that adds columns of lines to a CSV or Parquet file; −1 and NaN are written as no value."""
    import pyarrow
    from pyarrow import csv, parquet

    whole, number, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    kinds = {"input_row": whole, "ra": number, "dec": number, "status": text, "match": whole, "rank": whole}
    kinds |= {"id": text, "row": whole, "separation_arcsec": number, "similarity": pyarrow.float32()}
    kinds |= {name: {"f": number, "i": whole}.get(values.dtype.kind, text) for name, values in carried.items()}
    schema = pyarrow.schema(list(kinds.items()))
    optional = {name for name, kind in kinds.items() if kind == whole and name not in carried and name != "input_row"}
    with path.open("wb") as file:
        opened = csv.CSVWriter(file, schema) if ending == ".csv" else parquet.ParquetWriter(file, schema)
        with opened as writer:

            def write(columns: dict[str, Any]) -> None:
                arrays = []
                for name, kind in kinds.items():
                    values = columns[name]
                    missing = values < 0 if name in optional else None
                    if kind in (number, pyarrow.float32()):
                        missing = np.isnan(values)
                    array = pyarrow.array(values.tolist() if kind == text else values, kind, mask=missing)
                    arrays.append(escaped_all(array) if kind == text and ending == ".csv" else array)
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))

            yield write
