"""Exporting neighbor lists as one long table: a row for each neighbor of each object that was asked for.

Blocks of lists are read from the index, flattened to rows of numbers, and given to the format's writer; no row is ever
a Python object. Memory holds a block, and ids and the columns asked for of all objects.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import lookalike
from lookalike.about import Column
from lookalike.errors import CorruptError, InputError, unknown
from lookalike.files import atomic_path, file_output, lock
from lookalike.indexer.export_columns import OWN, Rows, Sheet
from lookalike.indexer.export_formats import WRITERS, metadata_path, write_metadata
from lookalike.indexer.export_ids import Wanted, wanted_rows
from lookalike.indexer.lists_file import ARRAYS, NEIGHBORS
from lookalike.indexer.store import Index, repair_hint
from lookalike.progress import progress
from lookalike.provenance import WAYS_OUT, refuse_input
from lookalike.samples import Samples

BLOCK_ROWS = 2**20  # rows of the table made at once


@dataclass(frozen=True)
class ExportReport:
    """What was written: rows of `objects` lists, of which `without` had no neighbor to export; what to tell."""

    out: Path
    objects: int
    rows: int
    without: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"out": str(self.out), "notes": list(self.notes)}


@dataclass(frozen=True)
class _Asked:
    """Which part of each list is exported."""

    k: int
    least: np.float32 | None
    wanted: Wanted
    columns: tuple[str, ...]


def export_lists(
    index: Path,
    out: Path,
    *,
    ids: Path | None = None,
    k: int | None = None,
    min_similarity: float | None = None,
    columns: Sequence[str] = (),
    skip_unknown: bool = False,
    samples: Sequence[Path] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> ExportReport:
    """Write the stored lists of some or all objects to `out`, by its ending as Parquet, CSV, HDF5, FITS or VOTable.

    ids : a file of ids, one a line, or a table with a column `id`; None for all objects. k : neighbors of each, at
    most as many as are stored, by default all. min_similarity : leave out neighbors that are less similar, −1 to 1.
    columns : catalog columns of the neighbor. skip_unknown : leave out ids that no object has, which else are an
    error. samples : where they are now. Rows are in the order of the ids, or of the data set, and in a list by rank.

    The file appears complete or not at all. Errors: InputError, NotFoundError, CorruptError, LockedError.
    """
    began = time.monotonic()
    out = file_output(Path(out))
    if out.suffix.lower() not in WRITERS:
        raise InputError(f"A table ends in {', '.join(WRITERS)}, but {out.name} was given.")
    opened = Index(Path(index))
    data = opened.open_samples([Path(path) for path in samples] if samples else None)
    asked = _Asked(
        _checked_k(k, opened), _checked_least(min_similarity), wanted_rows(ids, data, skip_unknown), tuple(columns)
    )
    sheet = _sheet(opened, data, asked)
    refuse_input(out, [*([Path(ids)] if ids else []), *data.paths])
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already and was left as it was. {WAYS_OUT}")
    rows = without = 0
    ending = out.suffix.lower()
    with lock(out):
        with atomic_path(out) as temporary:
            with (
                WRITERS[ending](temporary, sheet) as writer,
                progress("export", len(asked.wanted.rows), "objects", quiet=quiet) as advance,
            ):
                for block in _blocks(opened, asked):
                    writer.write(block)
                    rows += len(block.rank)
                    without += int((block.counts == 0).sum())
                    advance(len(block.counts))
            if ending == ".csv":  # what lies beside it must not describe another file, were this one killed here
                metadata_path(out).unlink(missing_ok=True)
        if ending == ".csv":
            write_metadata(out, sheet)
    seconds = time.monotonic() - began
    return ExportReport(out, len(asked.wanted.rows), rows, without, out.stat().st_size, seconds, asked.wanted.notes)


def _checked_k(k: int | None, index: Index) -> int:
    if k is None:
        return index.k
    if not 1 <= k <= index.k:
        raise InputError(
            f"{index.folder} stores {index.k:,} neighbors of each object, so k is 1 to {index.k:,}, but {k:,} was "
            "given; build it again with a larger k for more."
        )
    return k


def _checked_least(least: float | None) -> np.float32 | None:
    """The smallest similarity exported, as similarities are stored: what is shown as 0.8 is not below 0.8."""
    if least is None:
        return None
    if not (math.isfinite(least) and -1 <= least <= 1):
        raise InputError(f"A similarity is -1 to 1, but {least} was given.")
    return np.float32(least)


def _sheet(index: Index, data: Samples, asked: _Asked) -> Sheet:
    """What the table holds besides its rows: ids and columns of all objects, and what is said of them."""
    for name in asked.columns:
        if name not in data.columns:
            raise unknown("column", name, data.columns)
        if name in OWN:
            raise InputError(
                f"The table holds its own {', '.join(OWN)}, so a column called {name!r} cannot stand beside them; "
                "leave it out, or rename it and ingest again."
            )
    if len(set(asked.columns)) < len(asked.columns):
        raise InputError(f"Each column is given once, but {', '.join(asked.columns)} was given.")
    described = {name: _of_neighbor(data.columns[name]) for name in asked.columns}
    manifest = index.manifest
    about = {
        "kind": "lookalike neighbors",
        "index": manifest.content_hash,
        "index_version": manifest.version,
        "samples": manifest.samples.content_hash,
        "objects": len(asked.wanted.rows),
        "k": asked.k,
        "window": None if index.window is None else str(index.window),
        "min_similarity": None if asked.least is None else float(str(asked.least)),
        "software": lookalike.__version__,
    }
    return Sheet(data.ids, {name: data.column(name) for name in asked.columns}, OWN | described, about)


def _of_neighbor(column: Column) -> Column:
    told = f"of the neighbor: {column.description}" if column.description else "of the neighbor"
    return Column(column.unit, told, column.ucd)


def _blocks(index: Index, asked: _Asked) -> Iterator[Rows]:
    """The lists asked for, block by block, as rows of the table."""
    step, chosen = max(1, BLOCK_ROWS // asked.k), asked.wanted.rows
    with (index.path / NEIGHBORS).open("rb") as file:  # held open, should the version be collected meanwhile
        yield from (_block(index, file, objects, asked) for objects in _runs(chosen, step))


def _runs(chosen: range | NDArray[np.int64], step: int) -> Iterator[NDArray[np.int64]]:
    """The rows asked for, `step` at a time."""
    for start in range(0, len(chosen), step):
        stop = min(start + step, len(chosen))
        yield np.arange(start, stop) if isinstance(chosen, range) else chosen[start:stop]


def _block(index: Index, file: BinaryIO, objects: NDArray[np.int64], asked: _Asked) -> Rows:
    """The lists of some objects (n,) as rows of the table."""
    lists, similarity = _read(index, file, objects, asked.k)  # (n, k) each
    there = lists >= 0
    if asked.least is not None:
        there &= similarity >= asked.least
    counts = there.sum(axis=1)  # (n,)
    rank = np.broadcast_to(np.arange(1, asked.k + 1, dtype=np.int32), there.shape)[there]  # (m,)
    return Rows(objects, counts, rank, lists[there], similarity[there])


def _read(index: Index, file: BinaryIO, objects: NDArray[np.int64], k: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The first k of some lists (n, k): rows and similarities. Runs of lists are read, since a map's pages are held."""
    run = objects[-1] - objects[0] == len(objects) - 1 and bool((np.diff(objects) == 1).all())
    rows, similarity = _read_run(index, file, objects, k) if run else index.checked(objects, k)
    if rows.size and (rows.max() >= index.n or rows.min() < -1):
        raise _altered(index)
    return rows, similarity


def _read_run(
    index: Index, file: BinaryIO, objects: NDArray[np.int64], k: int
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The first k of consecutive lists (n, k), so few whole lists at once that these are no more than a block."""
    found = [np.empty((len(objects), k), index.manifest.arrays[name].dtype) for name in ARRAYS]
    step = max(1, BLOCK_ROWS // index.k)
    for start in range(0, len(objects), step):
        part = objects[start : start + step]
        lists = [_whole(index, file, name, part) for name in ARRAYS]
        index.refuse_altered(part, *lists)
        for out, whole in zip(found, lists, strict=True):
            out[start : start + step] = whole[:, :k]
    return found[0], found[1]


def _whole(index: Index, file: BinaryIO, name: str, objects: NDArray[np.int64]) -> NDArray[Any]:
    """Consecutive lists (n, K) as they are stored."""
    stored = index.manifest.arrays[name]
    dtype, width = np.dtype(stored.dtype), stored.shape[1]
    file.seek(stored.offset + int(objects[0]) * width * dtype.itemsize)
    read = np.fromfile(file, dtype, len(objects) * width)
    if len(read) < len(objects) * width:
        raise _altered(index)
    return read.reshape(-1, width)


def _altered(index: Index) -> CorruptError:
    return CorruptError(f"{index.path / NEIGHBORS} was altered; {repair_hint(index.folder)}.")
