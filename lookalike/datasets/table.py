"""Reading a catalog (CSV, TSV, Parquet, FITS, VOTable, ECSV) into named columns with their units."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import check_id
from lookalike.datasets.contract import Ledger
from lookalike.datasets.csv_numbers import Ragged, passing_over
from lookalike.datasets.lost_numbers import note_lost_numbers, numbers_of
from lookalike.errors import InputError, NotFoundError, unknown
from lookalike.samples import Column

# What a name alone says, where the table itself says nothing.
KNOWN = {
    "ra": Column("deg", "right ascension, ICRS", "pos.eq.ra;meta.main"),
    "dec": Column("deg", "declination, ICRS", "pos.eq.dec;meta.main"),
}

RESERVED = ("id", "masked_fraction")


@dataclass
class Table:
    """Columns (N,) of one kind each, float64, int64 or str, and what they hold."""

    name: str
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def column(self, name: str) -> NDArray[Any]:
        if name not in self.values:
            raise unknown(f"column of {self.name}", name, self.values)
        return self.values[name]

    def add(self, name: str, values: NDArray[Any], column: Column) -> None:
        self.values[name] = values
        self.columns[name] = column

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        return {name: values[rows] for name, values in self.values.items()}

    def texts(self, name: str) -> list[str]:
        return [str(value) for value in self.column(name).tolist()]

    def ids(self, id_column: str) -> list[str]:
        """Ids (N,) from one column, or from several whose names are joined by `:`, as their values are then."""
        parts = [id_column] if id_column in self.values else id_column.split(":")
        for part in parts:
            if self.column(part).dtype.kind == "f":
                raise InputError(f"Ids are texts or whole numbers, but column {part!r} of {self.name} holds fractions.")
        joined = [":".join(row) for row in zip(*(self.texts(part) for part in parts), strict=True)]
        return [check_id(text) for text in joined]

    def numbers(self, names: Sequence[str], ledger: Ledger) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
        """Columns (N,) that must hold numbers, and which rows (N,) have a text among them, NaN where left out.

        Such a row is bad by the ledger's rule, once, by the first of its texts.
        """
        found, odd = [], np.zeros(len(self), bool)
        for name in names:
            values = self.column(name)
            if values.dtype.kind in "fiu":
                found.append(values.astype(np.float64))
                continue
            numbers, bad = numbers_of(values)
            if len(bad) == len(values):
                raise InputError(f"Column {name!r} of {self.name} must hold numbers, but holds texts.")
            for row in bad:
                if not odd[row]:
                    where, text = f"{self.name}, row {row + 1:,} (counted from 1)", str(values[row])[:40]
                    ledger.bad(where, f"{name} is no number, but {text!r}.", objects=1)
            odd[bad] = True
            found.append(numbers)
        return found, odd


def read_table(path: Path, ledger: Ledger, texts: Sequence[str] = ()) -> Table:
    """A catalog by its ending; columns named in `texts` are kept as text, so that long ids lose no digit.

    A row of a CSV or TSV file with too few or too many cells is bad by the ledger's rule.
    """
    if not path.exists():
        raise NotFoundError(f"No such file: {path}")
    ending = path.suffix.lower()
    if ending not in (*CSV, *READERS):
        raise InputError(f"A catalog ends in {', '.join((*CSV, *READERS))}, but {path} was given.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and keywords astropy does not know
            found, ragged = _read_csv(path, texts) if ending in CSV else (READERS[ending](path), [])
    except InputError:
        raise
    except Exception as error:  # each reader raises its own
        raise InputError(f"{path} cannot be read as a catalog: {_first_line(error)}") from None
    table = Table(path.name)
    for each in ragged:
        ledger.bad(
            f"{path.name}, row {each.row + 1:,} (counted from 1)",
            f"it cannot be read as a catalog's: {each.told}",
            objects=1,
        )
    for name, values, column in found:
        _add(table, name, values, column, ledger)
    for name, kept in table.values.items():
        if name not in texts:
            note_lost_numbers(name, kept, table.name, ledger)
    if not table.values or not len(table):
        raise InputError(f"{path} holds no rows.")
    return table


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


Found = tuple[str, Any, Column]


def _read_csv(path: Path, texts: Sequence[str]) -> tuple[list[Found], list[Ragged]]:
    """The columns, and the rows of another number of cells, which are passed over."""
    import pyarrow
    from pyarrow import csv

    for threads in (True, False):  # on several threads, such rows have no number
        ragged: list[Ragged] = []
        parsing = passing_over(ragged)
        parsing.delimiter = CSV[path.suffix.lower()]
        read = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=threads),
            parse_options=parsing,
            convert_options=csv.ConvertOptions(column_types={name: pyarrow.string() for name in texts}),
        )
        if not ragged:
            break
    columns = zip(read.column_names, read.columns, strict=True)
    return [(name, _from_arrow(column), Column()) for name, column in columns], ragged


def _read_parquet(path: Path) -> list[Found]:
    from pyarrow import parquet, types

    file = parquet.ParquetFile(path)
    # Columns of lists are left out unread: vectors may lie beside the catalog, many times its size.
    plain = [field.name for field in file.schema_arrow if not types.is_nested(field.type)]
    read = file.read(columns=plain)
    columns = dict(zip(read.column_names, read.columns, strict=True))
    return [
        (name, _from_arrow(columns[name]) if name in columns else None, Column()) for name in file.schema_arrow.names
    ]


def _from_arrow(column: Any) -> NDArray[Any] | None:
    """An Arrow column as float64, int64 or str; None where it holds lists or records."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_nested(kind):
        return None
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_boolean(kind):
        column, kind = column.cast(pyarrow.int8()), pyarrow.int8()
    if types.is_integer(kind) and not column.null_count:
        return np.asarray(column.to_numpy())
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return np.asarray(column.cast(pyarrow.float64()).to_numpy(), dtype=np.float64)  # null becomes NaN
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=str)


def _read_fits(path: Path) -> list[Found]:
    from astropy.io import fits
    from astropy.table import Table as AstropyTable

    from lookalike.datasets.fits_open import open_fits

    with open_fits(path, str(path)) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and hdu.header["TFIELDS"]]
        tables = [hdu for hdu in tables if not isinstance(hdu, fits.CompImageHDU)]
        if len(tables) != 1:
            raise InputError(f"A catalog in FITS has one table, but {path} has {len(tables)}.")
        return _from_astropy(AstropyTable.read(tables[0]))


def _read_votable(path: Path) -> list[Found]:
    from astropy.table import Table as AstropyTable

    return _from_astropy(AstropyTable.read(path, format="votable"))


def _read_ecsv(path: Path) -> list[Found]:
    from astropy.table import Table as AstropyTable

    return _from_astropy(AstropyTable.read(path, format="ascii.ecsv"))


def _from_astropy(table: Any) -> list[Found]:
    found: list[Found] = []
    for name in table.colnames:
        data = table[name]
        unit = str(data.unit) if getattr(data, "unit", None) is not None else ""
        ucd = str((getattr(data, "meta", None) or {}).get("ucd", ""))
        described = Column(unit, str(getattr(data, "description", None) or ""), ucd)
        values = np.ma.asarray(data)
        masked = np.ma.getmaskarray(values)
        plain = values.data
        if masked.any():
            plain = plain.astype(np.float64) if plain.dtype.kind in "iub" else plain.copy()
            if plain.dtype.kind in "fUS":
                plain[masked] = np.nan if plain.dtype.kind == "f" else ""
        found.append((name, plain, described))
    return found


CSV = {".csv": ",", ".tsv": "\t"}
READERS: dict[str, Callable[[Path], list[Found]]] = {
    ".parquet": _read_parquet,
    ".fits": _read_fits,
    ".fit": _read_fits,
    ".vot": _read_votable,
    ".xml": _read_votable,
    ".ecsv": _read_ecsv,
}


def _add(table: Table, name: str, values: Any, column: Column, ledger: Ledger) -> None:
    """One source column as one or, where it is (N, m), several columns of the table."""
    kept = plain_values(values)
    if kept is None or kept.ndim not in (1, 2):
        ledger.note(f"Column {name!r} of {table.name} is left out: it holds no plain numbers or texts.")
        return
    clean = clean_name(name)
    if clean != name:
        why = "" if clean == name.lower() else ": a name has letters, digits and _ alone"
        ledger.note(f"Column {name!r} of {table.name} is stored as {clean!r}{why}.")
    parts = {clean: kept} if kept.ndim == 1 else {f"{clean}_{i}": kept[:, i] for i in range(kept.shape[1])}
    for part, part_values in parts.items():
        if part in table.values:
            raise InputError(f"{table.name} has two columns named {part!r}.")
        table.add(part, part_values, column if column != Column() else KNOWN.get(part, column))


def plain_values(values: Any) -> NDArray[Any] | None:
    """Numbers as float64 or int64, integers too large for that and bytes as text; None for anything else."""
    if values is None:
        return None
    array = np.asarray(values)
    kind = array.dtype.kind
    if kind == "f":
        return array.astype(np.float64)
    if kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        return array.astype(str)
    if kind in "iub":
        return array.astype(np.int64)
    if kind == "S":
        return np.char.strip(np.char.decode(array, "utf-8", "replace"))
    if kind == "U":
        return np.char.strip(array)
    if kind == "O" and all(isinstance(value, str) for value in array.flat):
        return np.char.strip(array.astype(str))
    return None


def clean_name(name: str) -> str:
    """A column name of A-Z a-z 0-9 _, as filters and files need it; RA and DEC in the case the rest expects."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name.strip()) or "column"
    return clean.lower() if clean.lower() in KNOWN else clean


def clean_names(names: Iterable[str], where: str) -> dict[str, str]:
    """The column's name of each name; InputError where two become one, of which one would be lost."""
    found = {name: clean_name(name) for name in names}
    if (twice := first_repeated(found.values())) is not None:
        both = [name for name, clean in found.items() if clean == twice]
        raise InputError(
            f"{where}: the columns {both[0]!r} and {both[1]!r} would both be called {twice!r}; rename one."
        )
    return found


def merged(own: Table, catalog: Table | None, ledger: Ledger) -> Table:
    """The catalog's columns after a source's own; a name both have keeps the source's, the other gets `_catalog`."""
    if catalog is None:
        return own
    both = Table(own.name, dict(own.values), dict(own.columns))
    for name, values in catalog.values.items():
        new = name if name not in own.values else _free(name, {*both.values, *catalog.values})
        if new != name:
            ledger.note(
                f"Column {name!r} of {catalog.name} is stored as {new!r}: ingestion makes a {name!r} of its own."
            )
        both.add(new, values, catalog.columns[name])
    return both


def _free(name: str, taken: Collection[str]) -> str:
    """The name with `_catalog` after it, as often as it takes to be no other column's."""
    while name in taken:
        name += "_catalog"
    return name


def without_reserved(table: Table, ids: Sequence[str], ledger: Ledger) -> Table:
    """The same table without the names ingestion gives itself, `id` and `masked_fraction`.

    A column `id` that holds the ids is left out, since they are stored anyway; any other is renamed.
    """
    kept = Table(table.name)
    for name, values in table.values.items():
        new = _free(name, {*kept.values, *table.values}) if name in RESERVED else name
        if name == "id" and table.texts("id") == list(ids):
            continue
        if new != name:
            ledger.note(f"Column {name!r} of {table.name} is stored as {new!r}: ingestion makes a {name!r} of its own.")
        kept.add(new, values, table.columns[name])
    return kept


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
