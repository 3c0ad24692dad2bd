"""Tables of events read a block of rows at a time: CSV, Parquet, and trees of ROOT files, jagged columns among them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.csv_numbers import OddCells, Ragged, numbers, passing_over
from lookalike.errors import InputError, unknown
from lookalike.installing import install_extra
from lookalike.wording import in_one_line

BLOCK_ROWS = 20_000
CSV_BYTES = 8 * 1024**2
ENDINGS = (".csv", ".csv.gz", ".parquet", ".root")


@dataclass(frozen=True)
class Jagged:
    """A column of lists: how many values each row has (N,), and the values one row after the other (M,)."""

    counts: NDArray[np.int64]
    values: NDArray[Any]


Values = NDArray[Any] | Jagged


class Block(dict[str, Values]):
    """A block of rows by their columns; `odd` are a CSV file's cells that should be numbers and are not, NaN here."""

    def __init__(self, columns: Iterable[tuple[str, Values]] = (), odd: Sequence[OddCells] = ()) -> None:
        super().__init__(columns)
        self.odd = tuple(odd)


class EventTable:
    """One file of events: its columns, rows, what it says of units, and its blocks.

    texts : columns that are read as text, of a CSV file, where all others are numbers.
    tree  : the tree of a ROOT file, where it has several.
    """

    def __init__(self, path: Path, texts: Collection[str] = (), tree: str | None = None) -> None:
        self.path, self.texts = path, frozenset(texts)
        self.name = path.name
        self.ragged: list[Ragged] = []  # rows of a CSV file that the last or present reading passed over
        ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
        if ending is None:
            raise InputError(f"Events come in files that end in {', '.join(ENDINGS)}, but {path} was given.")
        self.ending = ".csv" if ending == ".csv.gz" else ending
        with reading(path):
            if self.ending == ".csv":
                self.columns, self._rows = _csv_header(path), -1
            elif self.ending == ".parquet":
                self._open_parquet()
            else:
                self._open_tree(tree)
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise InputError(f"{path} has two columns named {twice[0]!r}.")

    @property
    def rows(self) -> int:
        if self._rows < 0:
            with reading(self.path):
                self._rows = _csv_rows(self.path)
        return self._rows

    def unit(self, name: str) -> str:
        """What the file says of a column's unit: Parquet's field metadata `unit`, or `[GeV]` in a branch's title."""
        return self._units.get(name, "") if self.ending != ".csv" else ""

    def need(self, names: Sequence[str]) -> None:
        """InputError that names the first column that is not there."""
        for name in names:
            if name not in self.columns:
                wrong = unknown("column", name, self.columns)
                choices = f" Choices: {', '.join(self.columns[:40])}{', …' if len(self.columns) > 40 else ''}."
                raise InputError(f"{self.path}: {wrong.message.partition(' Choices:')[0]}{choices}", code=wrong.code)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """The named columns, some rows at a time; texts (n,) str, numbers as they are stored, lists as Jagged."""
        self.need(names)
        wanted = list(dict.fromkeys(names))
        source = {".csv": self._csv, ".parquet": self._parquet, ".root": self._root}[self.ending](wanted)
        while True:
            with reading(self.path):
                block = next(source, None)
            if block is None:
                return
            yield block

    def _csv(self, names: list[str]) -> Iterator[Block]:
        import pyarrow
        from pyarrow import csv

        types = {name: pyarrow.string() if name in self.texts else pyarrow.binary() for name in names}
        self.ragged.clear()
        reader = csv.open_csv(
            self.path,
            # On one thread, a row of too few cells is known by its number.
            read_options=csv.ReadOptions(block_size=CSV_BYTES, use_threads=False),
            parse_options=passing_over(self.ragged),
            convert_options=csv.ConvertOptions(include_columns=names, column_types=types),
        )
        for batch in reader:
            if batch.num_rows:
                read = {name: self._cells(batch.column(name), name) for name in names}
                yield Block(
                    ((name, values) for name, (values, _) in read.items()),
                    [odd for _, odd in read.values() if odd is not None],
                )

    def _cells(self, column: Any, name: str) -> tuple[Values, OddCells | None]:
        """A column of a CSV file as texts, or as numbers and the cells that are none."""
        return (_from_arrow(column, name), None) if name in self.texts else numbers(column, name)

    def _open_parquet(self) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(self.path)
        schema = self._file.schema_arrow
        self.columns, self._rows = list(schema.names), self._file.metadata.num_rows
        self._units = {
            field.name: (field.metadata or {}).get(b"unit", b"").decode("utf-8", "replace") for field in schema
        }

    def _parquet(self, names: list[str]) -> Iterator[Block]:
        for batch in self._file.iter_batches(BLOCK_ROWS, columns=names):
            yield Block((name, _from_arrow(batch.column(name), name)) for name in names)

    def _open_tree(self, tree: str | None) -> None:
        uproot = hep("uproot")
        file = uproot.open(self.path)
        kinds = file.classnames(recursive=True, cycle=False)
        trees = [name for name, kind in kinds.items() if kind in ("TTree", "ROOT::RNTuple")]
        usual = [name for name in trees if name.lower() == "events"]
        chosen = tree or (usual[0] if usual else trees[0] if len(trees) == 1 else None)
        if chosen is None or chosen not in trees:
            given = f"{chosen!r} was given" if chosen else "none was named"
            raise InputError(f"{self.path} has the trees {', '.join(trees) or '(none)'}, but {given}.")
        self._tree = file[chosen]
        self.columns, self._rows = list(self._tree.keys()), int(self._tree.num_entries)
        titles = {name: str(getattr(self._tree[name], "title", "")) for name in self.columns}
        self._units = {name: found[1] for name, title in titles.items() if (found := re.search(r"\[(\w+)\]", title))}

    def _root(self, names: list[str]) -> Iterator[Block]:
        awkward = hep("awkward")
        for start in range(0, self._rows, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self._rows)
            block = Block()
            for name in names:
                array = self._tree[name].array(entry_start=start, entry_stop=stop, library="ak")
                if array.ndim > 2:
                    raise InputError(f"{self.path}: {name!r} holds lists of lists, not numbers or lists of numbers.")
                if array.ndim == 2:
                    counts = awkward.to_numpy(awkward.num(array)).astype(np.int64)
                    block[name] = Jagged(counts, awkward.to_numpy(awkward.flatten(array)))
                else:
                    block[name] = np.asarray(awkward.to_numpy(array))
            yield block


def hep(module: str) -> Any:
    """uproot or awkward; InputError that says how to install them."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"ROOT files are read with {module}, which is not installed: {install_extra('hep')}") from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each reader raises its own
        text = re.sub(r"\bRow #(\d+)", r"line \1", in_one_line(error))  # which counts the line of names
        raise InputError(f"{path} cannot be read: {text[:300]}", code="bad_file") from None


def _csv_header(path: Path) -> list[str]:
    """The names in a CSV file's first line."""
    import csv

    import pyarrow

    with pyarrow.input_stream(str(path), compression="detect") as stream:
        first = stream.read(1 << 20).partition(b"\n")[0].decode("utf-8-sig")
    names = next(csv.reader([first.rstrip("\r")]), [])
    if not names:
        raise InputError(f"{path} holds no rows.")
    return names


def _csv_rows(path: Path) -> int:
    """Lines after the header, counted without being read."""
    import pyarrow

    lines, last = 0, b"\n"
    with pyarrow.input_stream(str(path), compression="detect") as stream:
        while part := stream.read(1 << 22):
            lines, last = lines + part.count(b"\n"), part[-1:]
    return max(0, lines + (last != b"\n") - 1)


def _from_arrow(column: Any, name: str) -> Values:
    """An Arrow column as numbers, NaN for null, as texts, or as Jagged."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_list(kind) or types.is_large_list(kind):
        flat = _from_arrow(column.flatten(), name)
        if isinstance(flat, Jagged):
            raise InputError(f"Column {name!r} holds lists of lists, not numbers or lists of numbers.")
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return Jagged(counts, flat)
    if types.is_dictionary(kind):  # as a table's categories are stored
        return _from_arrow(column.dictionary_decode(), name)
    if types.is_boolean(kind):
        return _from_arrow(column.cast(pyarrow.int8()), name)
    if types.is_integer(kind) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if types.is_integer(kind) or types.is_floating(kind):
        return np.asarray(column.cast(pyarrow.float64()).to_numpy(zero_copy_only=False))
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(["" if value is None else value.strip() for value in column.to_pylist()], dtype=str)
    raise InputError(f"Column {name!r} holds {kind}, not numbers, texts or lists of numbers.")
