"""Collision events from Parquet, CSV or ROOT files, by a map of their columns: as particles or as records.

An object is a row's column (a jet that is undefined is not there) or one of a list of them, as in NanoAOD. The missing
momentum becomes a particle of its own type. Momenta are in GeV but where an option, the map or the file's own
attributes say MeV; numbers that would be off by that factor are refused, not converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import FEATURES, About, Column, id_from_name
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.event_blocks import Block, EventTable, Jagged
from lookalike.datasets.event_map import EventMap, id_columns, nano_map, read_map
from lookalike.datasets.event_objects import listed_objects, multiplicity, packed
from lookalike.datasets.event_overlaps import CHOICES, DROP, possible, without_doubles
from lookalike.datasets.event_rules import Faults, Floats, energy_unit
from lookalike.datasets.higgsml import LISTED, checked_records, in_gev
from lookalike.datasets.table import first_repeated
from lookalike.errors import InputError, unknown
from lookalike.events import PARTICLE, PRIMITIVES, units
from lookalike.files import existing_files
from lookalike.progress import progress
from lookalike.samples_writer import SamplesWriter, write_samples

SUM_PT, MASS = "sum_pt", "mass_visible"
MADE = {
    SUM_PT: Column("GeV", "sum of the transverse momenta of the objects"),
    MASS: Column("GeV", "invariant mass of the objects"),
}


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every file's columns, find out the most particles of an event, then copy block by block."""
    if options.overlaps is not None and options.overlaps not in CHOICES:
        raise unknown("choice of --overlaps", options.overlaps, CHOICES)
    tables = [EventTable(path) for path in existing_files(files)]
    chosen = read_map(options.columns) if options.columns is not None else nano_map(tables[0])
    if chosen.features and options.overlaps is not None:
        raise InputError("--overlaps is for objects, but the map names [features].")
    if options.columns is None and options.overlaps is None and possible({each.type for each in chosen.objects}):
        ledger.note(
            "NanoAOD lists electrons, muons, taus and photons also as jets, and some as one another; all are stored. "
            "--overlaps drop leaves the doubles out, --overlaps keep says that they are meant."
        )
    if chosen.tree is not None:
        tables = [EventTable(table.path, tree=chosen.tree) for table in tables]
    kept = chosen.kept
    for table in tables:
        table.texts = frozenset(each.column for each in kept.values() if each.text)
        table.texts |= frozenset(id_columns(table, chosen, options.id_column))
        table.need([*chosen.columns, *id_columns(table, chosen, options.id_column)])
    _refuse_same_names([table for table in tables if not id_columns(table, chosen, options.id_column)])
    gaps = _with_gaps(tables, chosen)
    columns = {name: Column(each.unit, each.description) for name, each in kept.items()}
    if chosen.objects:
        columns |= {name: column for name, column in MADE.items() if name not in columns}
    stored = {name: PRIMITIVES[name] for name in PRIMITIVES if name in chosen.features} or PARTICLE
    about = About(
        domain=options.domain,
        layout="features" if chosen.features else "particles",
        bands=tuple(stored),
        units=units(stored),
        source="collision events",
    )
    places = 0 if chosen.features else options.size or max(multiplicity(table, chosen) for table in tables)
    writer_of = write_samples(out, about, columns, replace=options.overwrite)
    total = sum(table.rows for table in tables)
    with writer_of as writer, progress("events", total, "events", quiet=options.quiet) as advance:
        for table in tables:
            faults = Faults(table.path, ledger, ragged=table.ragged)
            for objects, ids, catalog in _events(table, chosen, options, faults, places, gaps, len(tables) > 1):
                if faults.good.any():
                    good = faults.good
                    named = {name: values[good] for name, values in catalog.items() if name in columns}
                    writer.append([ids[row] for row in np.flatnonzero(good)], objects[good], named, faults.kept)
                advance(len(faults.good))
            faults.end()
    _tell(writer, ledger)


def _refuse_same_names(tables: list[EventTable]) -> None:
    """InputError where files whose rows are numbered would make the same ids."""
    if (twice := first_repeated(id_from_name(table.path.name) for table in tables)) is not None:
        raise InputError(
            f"Two files make the same ids, {twice}:0 and on; rename one, or name columns with --id-column."
        )


def _with_gaps(tables: list[EventTable], chosen: EventMap) -> frozenset[str]:
    """Catalog columns of whole numbers where some are undefined or missing: kept as fractions, with NaN for those."""
    found: set[str] = set()
    names = [each.column for each in chosen.kept.values()]
    for table in tables:
        if names and table.ending != ".csv":  # whose numbers are all fractions
            for block in table.blocks(names):
                for name, values in block.items():
                    if not isinstance(values, Jagged) and (
                        values.dtype.kind == "f" or (values.dtype.kind in "iu" and _is_undefined(values, chosen).any())
                    ):
                        found.add(name)
    return frozenset(found)


def _tell(writer: SamplesWriter, ledger: Ledger) -> None:
    if writer.about.layout == FEATURES:
        ledger.note(f"{len(writer):,} events are stored as records of {len(writer.about.bands)} primitives.")


def _events(
    table: EventTable,
    chosen: EventMap,
    options: Options,
    faults: Faults,
    places: int,
    gaps: frozenset[str],
    many: bool,
) -> Iterator[tuple[NDArray[np.float32], list[str], dict[str, NDArray[Any]]]]:
    """Blocks of a file: objects (n, *shape), ids and columns (n,) of all rows, good ones and bad."""
    unit, scale = energy_unit(_given_unit(options, chosen), {table.unit(name) for name in chosen.momenta}, table.path)
    names = id_columns(table, chosen, options.id_column)
    if not names and options.id_column is None:
        faults.ledger.note(
            f"{table.path} names no run and event: ids are rows, counted from 0. --id-column says what makes an id."
        )
    overlaps = options.overlaps or chosen.overlaps
    for block in table.blocks([*chosen.columns, *names]):
        n = _length(block)
        faults.begin(n)
        faults.refuse_cells(block.odd)
        ids = _ids(block, names, faults.rows, table.path if many else None)
        faults.refuse_ids(ids)
        catalog = _catalog(block, chosen, gaps, faults)
        if chosen.features:
            objects = _records(block, chosen, (unit, scale), faults)
        else:
            found = listed_objects(block, chosen, scale, faults)
            faults.check_unit(found.pt[~found.is_met & faults.good[found.owner]] / scale, unit, scale)
            if overlaps == DROP:
                found = without_doubles(found.of(faults.good), faults.ledger)
            objects = packed(found, n, places, faults)
            faults.refuse(objects[:, 0, 0] == 0, "the event has no object at all.")
            found = found.of(faults.good)
            catalog = {SUM_PT: found.sum_pt(n), MASS: found.mass(n)} | catalog
        yield objects, ids, catalog


def _given_unit(options: Options, chosen: EventMap) -> str | None:
    """The unit of momenta that --unit or the map says; InputError where they disagree."""
    if options.unit and chosen.unit and options.unit.lower() != chosen.unit.lower():
        raise InputError(
            f"{options.columns} says that momenta are in {chosen.unit}, but --unit {options.unit} was given."
        )
    return options.unit or chosen.unit


def _length(block: Block) -> int:
    first = next(iter(block.values()))
    return len(first.counts) if isinstance(first, Jagged) else len(first)


def _ids(block: Block, names: tuple[str, ...], rows: NDArray[np.int64], path: Path | None) -> list[str]:
    """An id of each row: its run, section and event joined by `:`, else its number, after the file's name."""
    if not names:
        before = f"{id_from_name(path.name)}:" if path is not None else ""
        return [f"{before}{row}" for row in rows.tolist()]
    parts = []
    for name in names:
        values = block[name]
        if isinstance(values, Jagged) or values.dtype.kind not in "iuU":
            raise InputError(f"Ids are texts or whole numbers, but column {name!r} holds others.")
        parts.append(values.astype(str).tolist())
    return [":".join(row) for row in zip(*parts, strict=True)]


def _catalog(block: Block, chosen: EventMap, gaps: frozenset[str], faults: Faults) -> dict[str, NDArray[Any]]:
    """The catalog's columns (n,); numbers that the map calls undefined are NaN, and every weight is a number."""
    found: dict[str, NDArray[Any]] = {}
    for name, each in chosen.kept.items():
        values = block[each.column]
        if isinstance(values, Jagged):
            raise InputError(f"A catalog column has one value for each event, but {each.column!r} holds lists.")
        whole = values.dtype.kind in "iu" and each.column not in gaps
        found[name] = values if whole or values.dtype.kind == "U" else defined(values, chosen)
    if "weight" in found and found["weight"].dtype.kind != "U":
        faults.refuse(~np.isfinite(found["weight"].astype(np.float64)), "The weight is no finite number.")
    return found


def defined(values: NDArray[Any], chosen: EventMap) -> Floats:
    """Numbers with NaN in place of those that stand for nothing."""
    numbers = np.array(values, np.float64)
    numbers[_is_undefined(numbers, chosen)] = np.nan
    return numbers


def _is_undefined(values: NDArray[Any], chosen: EventMap) -> NDArray[np.bool_]:
    """Which numbers the map calls undefined."""
    return np.isin(values.astype(np.float64), chosen.undefined)


def _records(block: Block, chosen: EventMap, unit: tuple[str | None, float], faults: Faults) -> NDArray[np.float32]:
    """The challenge's records (n, F) of a block."""
    given = {}
    for name, column in chosen.features.items():
        values = block[column]
        if isinstance(values, Jagged) or values.dtype.kind == "U":
            raise InputError(f"A primitive has one number for each event, but {column!r} holds others.")
        given[name] = in_gev(defined(values, chosen), PRIMITIVES[name], unit[1])
    if more := int(np.count_nonzero(given["PRI_jet_num"] > LISTED)):
        faults.ledger.counts[f"events of more than {LISTED} jets, stored as {LISTED}"] += more
        given["PRI_jet_num"] = np.minimum(given["PRI_jet_num"], LISTED)
    records = checked_records(given, faults)
    taken = np.concatenate([given[f"PRI_{name}_pt"][faults.good] for name in ("tau", "lep")])
    faults.check_unit(taken / unit[1], *unit)
    return records
