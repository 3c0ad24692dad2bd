"""The CSV files of an event of the TrackML challenge, found by name, read whole and checked by rule with row numbers.

hits (hit_id, x, y, z in mm, volume_id, layer_id, module_id); cells (hit_id, ch0, ch1, value); particles (particle_id,
vx, vy, vz in mm, px, py, pz in GeV, q, nhits); truth (hit_id, particle_id, tx, ty, tz, tpx, tpy, tpz, weight). Of these
only hits must be there. Numbers of particles have more digits than a float64, so whole numbers are read as such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, listed
from lookalike.datasets.csv_numbers import OddCells, Ragged, numbers, passing_over
from lookalike.datasets.event_rules import UNITS, Bools, Faults
from lookalike.errors import InputError, NotFoundError
from lookalike.files import reading_order

Table = dict[str, NDArray[Any]]

NAME = re.compile(r"event(\d{1,18})-(hits|cells|particles|truth)\.csv(?:\.gz)?")
HITS, CELLS, PARTICLES, TRUTH = "hits", "cells", "particles", "truth"
WHOLE = frozenset({"hit_id", "volume_id", "layer_id", "module_id", "ch0", "ch1", "particle_id", "q", "nhits"})
COLUMNS = {
    HITS: ("hit_id", "x", "y", "z", "volume_id", "layer_id", "module_id"),
    CELLS: ("hit_id", "ch0", "ch1", "value"),
    PARTICLES: ("particle_id", "vx", "vy", "vz", "px", "py", "pz", "q", "nhits"),
    TRUTH: ("hit_id", "particle_id", "tx", "ty", "tz", "tpx", "tpy", "tpz", "weight"),
}
FARTHEST = (5_000.0, 10_000.0)  # mm: r and |z| that no tracking detector reaches
AXIS = 1e-6  # mm: nearer to the beam axis there is no detector, and float32 loses the squares of distances
NEAREST = 20.0  # mm: the median r of an event's hits is above, that of one in cm or m below
HARDEST = 100.0  # GeV: the median pT of an event's particles is below, that of one in MeV above
MADE = "simulated.json"  # beside events that `lookalike simulate tracks` made


@dataclass(frozen=True)
class EventFiles:
    """The files of one event by their kind; `name` is `event` with its number as in their names."""

    name: str
    number: int
    files: dict[str, Path]

    @property
    def simulated(self) -> bool:
        return (self.files[HITS].parent / MADE).exists()


def find_events(paths: Sequence[Path]) -> list[EventFiles]:
    """The events of some folders, or of files named one by one, in order of their numbers.

    InputError where a folder holds none, a file is named otherwise, an event is there twice or has no hits.
    """
    found: dict[str, dict[str, Path]] = {}
    if not paths:
        raise InputError("At least one folder of events is needed, none was given.")
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"No such file or folder: {path}")
        files = sorted(path.iterdir(), key=reading_order) if path.is_dir() else [path]
        known = [(file, match) for file in files if (match := NAME.fullmatch(file.name)) and file.is_file()]
        if not known:
            raise InputError(
                f"Events of the TrackML challenge are files event000000001-hits.csv and -cells, -particles, -truth "
                f"(.csv or .csv.gz), but {path} {'holds none' if path.is_dir() else 'is none'}."
            )
        for file, match in known:
            kinds = found.setdefault(match[1], {})
            if match[2] in kinds:
                raise InputError(f"The {match[2]} of event {match[1]} are given twice: {kinds[match[2]]} and {file}.")
            kinds[match[2]] = file
    for number, kinds in found.items():
        if HITS not in kinds:
            raise InputError(f"Every event has hits, but of event {number} there are only {', '.join(sorted(kinds))}.")
    numbers: dict[int, str] = {}
    for number in found:
        if (other := numbers.setdefault(int(number), number)) != number:
            raise InputError(f"An event is numbered once, but {other} and {number} are the same number.")
    return [EventFiles(f"event{found_as}", number, found[found_as]) for number, found_as in sorted(numbers.items())]


@dataclass(frozen=True)
class Event:
    """What is known of an event: hits (N,), and, one value for each of them, truth; the particles; the cells summed.

    cells : charge, cells_u and cells_v (N,). particle : particle_id (N,) and weight (N,); None without truth.
    """

    files: EventFiles
    hits: Table
    cells: Table | None
    truth: Table | None
    particles: Table | None


def read_event(files: EventFiles, ledger: Ledger, unit: str | None = None) -> Event:
    """Read and check an event; a row that breaks a rule is an error, or with --skip-bad left out.

    unit : of momenta, GeV or MeV; None where it was not said, which is GeV unless numbers tell otherwise.
    """
    hits = _checked_hits(files.files[HITS], ledger)
    cells = truth = particles = None
    if path := files.files.get(PARTICLES):
        particles = _checked_particles(path, ledger, unit)
    if path := files.files.get(TRUTH):
        truth = _checked_truth(path, ledger, hits, particles)
        told = truth.pop("told")
        if not told.all():  # left out by rule, or --skip-bad would have no effect
            hits = {name: values[told] for name, values in hits.items()}
            truth = {name: values[told] for name, values in truth.items()}
    if path := files.files.get(CELLS):
        cells = _summed_cells(path, ledger, hits["hit_id"])
    return Event(files, hits, cells, truth, particles)


def read_table(path: Path, kind: str) -> tuple[Table, list[OddCells], list[Ragged]]:
    """The columns of one file, each (n,) int64 or float64, and their cells that are no such numbers.

    Last the rows of another number of cells, which are passed over. Other columns are not read. InputError for columns
    that are missing.
    """
    import pyarrow
    from pyarrow import csv

    wanted, ragged = COLUMNS[kind], list[Ragged]()
    try:
        header = csv.open_csv(path, parse_options=passing_over([])).schema.names
        absent = [name for name in wanted if name not in header]
        if absent or len(set(header)) < len(header):
            said = f"{listed(absent)} {'is' if len(absent) == 1 else 'are'} not there" if absent else "one is twice"
            raise InputError(f"{path} needs the columns {', '.join(wanted)}; {said}. It has {listed(header)}.")
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False),  # on one thread, faults are named with their rows
            parse_options=passing_over(ragged),
            convert_options=csv.ConvertOptions(
                include_columns=list(wanted), column_types=dict.fromkeys(wanted, pyarrow.binary())
            ),
        )
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}", code="bad_file") from None
    read = {name: numbers(table.column(name), name, whole=name in WHOLE) for name in wanted}
    odd = [cells for _, cells in read.values() if cells is not None]
    return {name: values for name, (values, _) in read.items()}, odd, ragged


def _kept(table: Table, faults: Faults) -> Table:
    faults.end()
    return {name: values[faults.good] for name, values in table.items()}


def _begin(path: Path, ledger: Ledger, noun: str, kind: str) -> tuple[Table, Faults]:
    """A file's columns, and the account of its rows, in which those with a cell that is no number are refused."""
    table, odd, ragged = read_table(path, kind)
    faults = Faults(path, ledger, noun, ragged)
    faults.begin(len(table[COLUMNS[kind][0]]))
    faults.refuse_cells(odd)
    return table, faults


def _refuse_repeated(table: Table, name: str, faults: Faults) -> None:
    """Refuse the rows whose number was there before."""
    _, first, of = np.unique(table[name], return_index=True, return_inverse=True)
    again = first[of] != np.arange(len(of))
    reason = f"{name} was there before"
    if (again & faults.good).any() and not faults.ledger.skip_bad:
        reason += f", in row {int(first[of][again & faults.good][0]) + 1:,}"
    faults.refuse(again, f"{reason}.")


def _checked_hits(path: Path, ledger: Ledger) -> Table:
    hits, faults = _begin(path, ledger, "hits", HITS)
    r = np.hypot(hits["x"], hits["y"])
    faults.refuse(hits["hit_id"] < 0, "hit_id is negative.")
    _refuse_repeated(hits, "hit_id", faults)
    finite = np.isfinite(r) & np.isfinite(hits["z"])
    faults.refuse(~finite, "x, y or z is no finite number.")
    faults.refuse(r < AXIS, f"A hit lies on the beam axis, within {AXIS:g} mm.")
    far = (r > FARTHEST[0]) | (np.abs(hits["z"]) > FARTHEST[1])
    faults.refuse(far, f"A hit lies beyond {FARTHEST[0]:g} mm across or {FARTHEST[1]:g} mm along the beam axis.")
    for name in ("volume_id", "layer_id", "module_id"):
        faults.refuse((hits[name] < 0) | (hits[name] >= 2**24), f"{name} is none of 0 to 2^24 - 1.")
    hits = _kept(hits, faults)
    if not len(hits["hit_id"]):
        raise InputError(f"{path} holds no hit.")
    if (middle := float(np.median(np.hypot(hits["x"], hits["y"])))) < NEAREST:
        raise InputError(
            f"Positions are in mm, but half of the hits of {path} lie within {middle:.3g} of the beam axis; "
            "are they in cm or m?"
        )
    return hits


def _checked_particles(path: Path, ledger: Ledger, unit: str | None) -> Table:
    table, faults = _begin(path, ledger, "particles", PARTICLES)
    faults.refuse(table["particle_id"] <= 0, "particle_id is not above 0.")
    _refuse_repeated(table, "particle_id", faults)
    finite = np.all([np.isfinite(table[name]) for name in ("vx", "vy", "vz", "px", "py", "pz")], axis=0)
    faults.refuse(~finite, "A vertex or momentum is no finite number.")
    pt = np.hypot(table["px"], table["py"])
    faults.refuse(pt == 0, "A particle moves along the beam axis, px = py = 0.")
    faults.refuse(np.abs(table["q"]) > 10, "q is no charge.")
    faults.refuse(table["nhits"] < 0, "nhits is negative.")
    table = _kept(table, faults)
    pt = np.hypot(table["px"], table["py"])
    if unit is None and len(pt) and (middle := float(np.median(pt))) > HARDEST:
        raise InputError(
            f"Momenta are in GeV unless said otherwise, but half of the particles of {path} have a pT above "
            f"{middle:,.0f}: if they are in MeV say --unit MeV, else --unit GeV."
        )
    return table | {name: table[name] * UNITS[unit or "GeV"] for name in ("px", "py", "pz")}


def _checked_truth(path: Path, ledger: Ledger, hits: Table, particles: Table | None) -> Table:
    """The truth of every hit in the order of the hits, and `told`, whether there is any."""
    truth, faults = _begin(path, ledger, "rows of truth", TRUTH)
    _refuse_repeated(truth, "hit_id", faults)
    if not ledger.skip_bad:  # else a hit may have been left out
        faults.refuse(~np.isin(truth["hit_id"], hits["hit_id"]), "hit_id is none of the event's hits.")
    faults.refuse(truth["particle_id"] < 0, "particle_id is negative.")
    if particles is not None:
        known = np.isin(truth["particle_id"], particles["particle_id"]) | (truth["particle_id"] == 0)
        faults.refuse(~known, "particle_id is none of the event's particles.")
    weight = truth["weight"]
    faults.refuse(~(np.isfinite(weight) & (weight >= 0)), "weight is no number of 0 or more.")
    finite = np.all([np.isfinite(truth[name]) for name in ("tx", "ty", "tz", "tpx", "tpy", "tpz")], axis=0)
    faults.refuse(~finite, "A true position or momentum is no finite number.")
    truth = _kept(truth, faults)
    place, told = _places(truth["hit_id"], hits["hit_id"])
    if not told.all():
        absent = hits["hit_id"][~told]
        ledger.bad(
            str(path),
            f"every hit has its truth, but hit {absent[0]} and {len(absent) - 1:,} more have none."
            if len(absent) > 1
            else f"every hit has its truth, but hit {absent[0]} has none.",
            objects=len(absent),
        )
    return {name: values[place] for name, values in truth.items()} | {"told": told}


def _summed_cells(path: Path, ledger: Ledger, ids: NDArray[np.int64]) -> Table:
    """What the cells of every hit come to, in the order of the hits: charge, and the rows and columns spanned."""
    cells, faults = _begin(path, ledger, "cells", CELLS)
    value = cells["value"]
    faults.refuse(~(np.isfinite(value) & (value >= 0)), "value is no number of 0 or more.")
    if not ledger.skip_bad:
        faults.refuse(~np.isin(cells["hit_id"], ids), "hit_id is none of the event's hits.")
    cells = _kept(cells, faults)
    place, own = _places(ids, cells["hit_id"])
    place = place[own]
    charge = np.bincount(place, cells["value"][own], len(ids))
    spans = []
    for name in ("ch0", "ch1"):
        low, high = np.full(len(ids), np.iinfo(np.int64).max), np.full(len(ids), np.iinfo(np.int64).min)
        np.minimum.at(low, place, cells[name][own])
        np.maximum.at(high, place, cells[name][own])
        spans.append(np.where(high >= low, high - low + 1, 0).astype(np.float64))
    return {"charge": charge, "cells_u": spans[0], "cells_v": spans[1]}


def _places(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], Bools]:
    """Where each of the wanted numbers (n,) is among ids, and whether it is there at all."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    order = np.argsort(ids, kind="stable")
    place = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    return place, ids[place] == wanted
