"""What every format of an exported table is made from: a sheet of ids and columns, and blocks of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.about import Column

if TYPE_CHECKING:
    import pyarrow as pa

OWN = {
    "id": Column("", "object whose list this is", "meta.id;meta.main"),
    "neighbor_id": Column("", "one of the objects most similar to it", "meta.id"),
    "rank": Column("", "place in the list, from 1; equally similar ones by their rows", "meta.number"),
    "similarity": Column("", "dot product of the two stored vectors, -1 to 1", "stat.value"),
}


@dataclass(frozen=True)
class Rows:
    """A block of the table.

    objects : (n,) rows of the objects whose lists these are. counts : (n,) neighbors of each. rank, neighbor,
    similarity : (m,) one after the other, m = sum of counts; `neighbor` are rows.
    """

    objects: NDArray[np.int64]
    counts: NDArray[np.int64]
    rank: NDArray[np.int32]
    neighbor: NDArray[Any]
    similarity: NDArray[np.float32]


@dataclass(frozen=True)
class Sheet:
    """What a table is made from besides its rows.

    ids : (N,) of all objects. values : by column (N,) float64, int64 or str. columns : of the whole table, in order.
    about : what was exported, as JSON.
    """

    ids: NDArray[np.bytes_]
    values: dict[str, NDArray[Any]]
    columns: dict[str, Column]
    about: dict[str, Any]

    def described(self) -> dict[str, Any]:
        """What was exported and what the columns hold, as JSON."""
        texts = {name: {"unit": c.unit, "description": c.description, "ucd": c.ucd} for name, c in self.columns.items()}
        return {**self.about, "columns": texts}


class Writer(ABC):
    """Writes a table to a path block by block; a `with` block completes the file."""

    def __init__(self, path: Path, sheet: Sheet) -> None:
        self.path, self.sheet = path, sheet

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *failure: object) -> None: ...

    @abstractmethod
    def write(self, rows: Rows) -> None: ...


class Arrow:
    """Blocks as Arrow tables: texts are made once for each object, and a block's columns hold their numbers."""

    def __init__(self, sheet: Sheet, escape: Any = None) -> None:
        """escape : applied to all texts (N,) of a column once."""
        import pyarrow as pa

        self.sheet, keep = sheet, escape or (lambda texts: texts)
        # Large: those of 42 million objects may be more than the 2 GiB that plain ones hold.
        self.ids = keep(pa.array(sheet.ids, pa.large_binary()).cast(pa.large_string()))
        self.texts = {
            name: keep(pa.array(values, pa.large_string()))
            for name, values in sheet.values.items()
            if values.dtype.kind == "U"
        }

    def table(self, rows: Rows) -> pa.Table:
        """A block as a table; texts are dictionary arrays, undefined numbers are null."""
        import pyarrow as pa

        of_object = np.repeat(np.arange(len(rows.objects), dtype=np.int32), rows.counts)  # (m,)
        neighbors = pa.array(rows.neighbor).dictionary_encode()
        made = {
            "id": pa.DictionaryArray.from_arrays(of_object, self.ids.take(pa.array(rows.objects)).cast(pa.string())),
            "neighbor_id": _texts(self.ids, neighbors),
            "rank": pa.array(rows.rank),
            "similarity": pa.array(rows.similarity),
        }
        for name, values in self.sheet.values.items():
            if name in self.texts:
                made[name] = _texts(self.texts[name], neighbors)
            else:
                made[name] = pa.array(values[rows.neighbor], from_pandas=True)  # NaN becomes null
        return pa.table(made)


def _texts(texts: Any, rows: Any) -> Any:
    """The texts of dictionary-encoded rows."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(rows.indices, texts.take(rows.dictionary).cast(pa.string()))
