"""Which objects' lists are exported: all of a data set, or those whose ids a file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger
from lookalike.datasets.table import CSV, READERS, read_table
from lookalike.errors import InputError, NotFoundError, unknown
from lookalike.samples import Samples
from lookalike.wording import counted

SHOWN = 5  # unknown ids that a message names


@dataclass(frozen=True)
class Wanted:
    """Rows of the data set, in the order asked for, each once; a range stands for all of them."""

    rows: range | NDArray[np.int64]
    notes: tuple[str, ...] = ()


def wanted_rows(path: Path | None, samples: Samples, skip_unknown: bool) -> Wanted:
    """The rows of the ids in a file, of all objects without one.

    An id that no object has is an InputError that counts and names them, or with `skip_unknown` left out and told; one
    that is there twice is taken once, and told.
    """
    if path is None:
        return Wanted(range(len(samples)))
    names = _read(Path(path))
    if not names:
        raise InputError(f"{path} holds no ids; one a line is needed.")
    samples.row(samples.id(0))  # refuses an id that two shards share
    rows = _rows(names, samples)  # (n,) −1 where unknown
    notes = []
    lost = [names[place] for place in np.flatnonzero(rows < 0).tolist()]
    if lost:
        shown = ", ".join(map(repr, lost[:SHOWN])) + (", …" if len(lost) > SHOWN else "")
        told = f"{len(lost):,} of {counted(len(names), 'id')} in {path} {'is' if len(lost) == 1 else 'are'} no object's"
        if not skip_unknown or len(lost) == len(names):
            way = "" if len(lost) == len(names) else " (--skip-unknown leaves them out.)"
            raise InputError(f"{told}: {shown}.{way}", code="unknown_id")
        notes.append(f"{told} and left out: {shown}.")
        rows = rows[rows >= 0]
    _, first = np.unique(rows, return_index=True)
    if len(first) < len(rows):
        notes.append(f"{counted(len(rows) - len(first), 'id')} in {path} stood there before and counted once.")
        rows = rows[np.sort(first)]
    return Wanted(rows, tuple(notes))


def _read(path: Path) -> list[str]:
    """The ids of a table's column `id`, or of a text file's lines."""
    if not path.is_file():
        raise NotFoundError(f"No such file: {path}")
    if path.suffix.lower() in (*CSV, *READERS):
        table = read_table(path, Ledger(), texts=["id"])
        if "id" not in table.values:
            raise unknown(f"column of {path}", "id", table.values)
        return table.texts("id")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is no text file: ids are given one a line, or as the column `id` of a table."
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _rows(names: Sequence[str], samples: Samples) -> NDArray[np.int64]:
    """The row of each name, −1 where no object has it."""
    ids = samples.ids
    asked = np.array([name.encode("utf-8", "surrogatepass") for name in names])  # (n,)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids, asked, sorter=order), len(ids) - 1)
    found: NDArray[np.int64] = np.where(ids[order[place]] == asked, order[place], -1)
    return found
