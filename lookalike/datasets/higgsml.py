"""The ATLAS Higgs challenge of 2014: both releases' CSV files, the contest's and that of the open data portal.

A row is an event of 17 primitives, 13 variables derived from them, and, but in the contest's test file, its weight and
label; the open data adds which part of the contest it was in and its weight there. −999 is undefined. The primitives
are stored, as records or as particles; what is derived becomes columns of the catalog, and with it the signed weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import FEATURES, PARTICLES, About, Column
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.event_blocks import Block, EventTable, Jagged
from lookalike.datasets.event_rules import (
    FARTHEST,
    HUGE,
    SOFTEST,
    Bools,
    Faults,
    Floats,
    azimuths,
    energy_unit,
)
from lookalike.errors import InputError, unknown
from lookalike.events import ALL_DERIVED, PARTICLE, PRIMITIVES, TYPES, units
from lookalike.files import existing_files
from lookalike.progress import progress
from lookalike.samples_writer import SamplesWriter, write_samples

UNDEFINED = -999.0
LAYOUTS = (FEATURES, PARTICLES)
TEXTS = ("EventId", "Label", "KaggleSet")
EXTRA = {
    "Weight": ("weight", Column("", "how many events of the recorded data it stands for; may be negative")),
    "Label": ("label", Column("", "s signal, b background")),
    "KaggleSet": ("kaggle_set", Column("", "t training, b public and v private test set, u unused")),
    "KaggleWeight": ("kaggle_weight", Column("", "the weight within its part of the contest")),
}
OBJECTS = (("tau", "tau", 0), ("lepton", "lep", 0), ("jet", "jet_leading", 1), ("jet", "jet_subleading", 2))
MOMENTA = [name for name, column in PRIMITIVES.items() if column.unit == "GeV"]
LISTED = 3  # the files' largest number of jets, which stands for more


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every file's columns, then copy block by block."""
    layout = options.layout or FEATURES
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    tables = [EventTable(path, TEXTS) for path in existing_files(files)]
    for table in tables:
        table.need(["EventId", *PRIMITIVES])
    extra = _shared([*ALL_DERIVED, *EXTRA], tables, ledger)
    columns = {name: ALL_DERIVED[name] for name in extra if name in ALL_DERIVED}
    columns |= {EXTRA[name][0]: EXTRA[name][1] for name in extra if name in EXTRA}
    stored = PRIMITIVES if layout == FEATURES else PARTICLE
    about = About(
        domain=options.domain,
        layout="features" if layout == FEATURES else "particles",
        bands=tuple(stored),
        units=units(stored),
        source="ATLAS Higgs machine learning challenge 2014",
    )
    total = sum(table.rows for table in tables)
    with (
        write_samples(out, about, columns, replace=options.overwrite) as writer,
        progress("higgsml", total, "events", quiet=options.quiet) as advance,
    ):
        for table in tables:
            faults = Faults(table.path, ledger, ragged=table.ragged)
            unit = energy_unit(options.unit, {table.unit(name) for name in MOMENTA}, table.path)
            for block in table.blocks(["EventId", *PRIMITIVES, *extra]):
                faults.begin(len(block["EventId"]))  # type: ignore[arg-type]
                faults.refuse_cells(block.odd)
                _append(writer, block, extra, unit, faults, layout)
                advance(len(faults.good))
            faults.end()


def _shared(names: list[str], tables: list[EventTable], ledger: Ledger) -> list[str]:
    """Which columns all files have; those of some alone are told."""
    kept = [name for name in names if all(name in table.columns for table in tables)]
    lost = [name for name in names if name not in kept and any(name in table.columns for table in tables)]
    if lost:
        ledger.note(f"Left out, since not all files have them: {', '.join(lost)}.")
    odd = sorted({name for table in tables for name in table.columns} - {"EventId", *PRIMITIVES, *names})
    if odd:
        ledger.note(f"Left out, since they are no columns of the challenge: {', '.join(odd[:12])}.")
    return kept


def _append(
    writer: SamplesWriter,
    block: Block,
    extra: list[str],
    unit: tuple[str | None, float],
    faults: Faults,
    layout: str,
) -> None:
    """Store a block's events, those that keep to the rules."""
    ids, scale = np.asarray(block["EventId"]).astype(str), unit[1]
    faults.refuse(np.char.str_len(ids) == 0, "EventId is blank.")
    faults.refuse_ids(ids.tolist())
    given = {name: in_gev(_number(block, name), PRIMITIVES[name], scale) for name in PRIMITIVES}
    records = checked_records(given, faults)
    taken = np.concatenate([given[f"PRI_{name}_pt"][faults.good] for name in ("tau", "lep")])
    faults.check_unit(taken / scale, *unit)
    catalog: dict[str, NDArray[Any]] = {}
    for name in extra:
        if name in ALL_DERIVED:
            catalog[name] = in_gev(_number(block, name), ALL_DERIVED[name], scale)
        else:
            catalog[EXTRA[name][0]] = np.asarray(block[name]) if name in TEXTS else _number(block, name)
    if "weight" in catalog:
        faults.refuse(~np.isfinite(catalog["weight"]), "Weight is no finite number.")
    if "label" in catalog:
        faults.refuse(~np.isin(catalog["label"], ("s", "b")), "Label is neither s nor b.")
    good = faults.good
    objects = records if layout == FEATURES else particles(records)
    if good.any():
        kept = {name: values[good] for name, values in catalog.items()}
        writer.append([str(name) for name in ids[good]], objects[good], kept, faults.kept)


def _number(block: Block, name: str) -> Floats:
    found = block[name]
    if isinstance(found, Jagged) or found.dtype.kind == "U":
        raise InputError(f"Column {name!r} must hold a number for each event, but holds others.")
    values = np.array(found, np.float64)
    values[values == UNDEFINED] = np.nan
    return values


def in_gev(values: Floats, column: Column, scale: float) -> Floats:
    """Momenta and masses (n,) in GeV, where `scale` is the size of the file's unit; anything else as it is."""
    return values * scale if column.unit == "GeV" else values


def checked_records(given: dict[str, Floats], faults: Faults) -> NDArray[np.float32]:
    """Records (n, 17) float32 of primitives (n,) in GeV and rad, NaN where undefined; rows that cannot be are refused.

    Of the jets as many are defined as PRI_jet_num says, up to two, the leading one first; everything else always is.
    """
    found = dict(given)
    jets = found["PRI_jet_num"]
    for name, values in found.items():
        if not name.startswith(("PRI_jet_leading", "PRI_jet_subleading")) and name != "PRI_jet_all_pt":
            faults.refuse(~np.isfinite(values), f"{name} is undefined (-999, NaN or infinite).")
    faults.refuse((jets != np.rint(jets)) | (jets < 0) | (jets > LISTED), f"PRI_jet_num is none of 0 to {LISTED}.")
    found["PRI_jet_all_pt"] = np.where((jets == 0) & np.isnan(found["PRI_jet_all_pt"]), 0.0, found["PRI_jet_all_pt"])
    faults.refuse(~np.isfinite(found["PRI_jet_all_pt"]), "PRI_jet_all_pt is undefined (-999, NaN or infinite).")
    for kind, name, least in OBJECTS:
        there = jets >= least
        parts = {part: found[f"PRI_{name}_{part}"] for part in ("pt", "eta", "phi")}
        for part, values in parts.items():
            faults.refuse(
                (np.isfinite(values) != there) | np.isinf(values),
                f"PRI_{name}_{part} is not defined where PRI_jet_num says that there is such a {kind}, or the reverse.",
            )
        faults.refuse(there & (parts["pt"] < SOFTEST), f"PRI_{name}_pt is not above 0.")
        faults.refuse(there & (np.abs(parts["eta"]) > FARTHEST), f"PRI_{name}_eta is beyond ±{FARTHEST:g}.")
        found[f"PRI_{name}_phi"] = azimuths(parts["phi"], f"PRI_{name}_phi", faults)
    found["PRI_met_phi"] = azimuths(found["PRI_met_phi"], "PRI_met_phi", faults)
    for name in ("PRI_met", "PRI_met_sumet", "PRI_jet_all_pt"):
        if name in found:
            faults.refuse(found[name] < 0, f"{name} is negative.")
    for name in MOMENTA:
        if name in found:
            faults.refuse(found[name] > HUGE, f"{name} is above {HUGE:g} GeV.")
    swapped: Bools = found["PRI_jet_subleading_pt"] > found["PRI_jet_leading_pt"]
    faults.refuse(swapped, "PRI_jet_subleading_pt is above PRI_jet_leading_pt.")
    good = faults.good[:, None]  # what is refused may be too large for a float32
    return np.where(good, np.stack([found[name] for name in PRIMITIVES if name in found], axis=1), 0).astype(np.float32)


def particles(records: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same events as lists (n, 5, 6) of particles in falling order of pT; jets beyond the second are not listed."""
    at = {name: place for place, name in enumerate(PRIMITIVES)}
    made = np.zeros((len(records), len(OBJECTS) + 1, len(PARTICLE)), np.float32)
    for place, (kind, name, _) in enumerate(OBJECTS):
        for part, number in enumerate(("pt", "eta", "phi")):
            made[:, place, part] = records[:, at[f"PRI_{name}_{number}"]]
        made[:, place, 4] = TYPES.index(kind)
    made[:, -1, 0], made[:, -1, 2] = records[:, at["PRI_met"]], records[:, at["PRI_met_phi"]]
    made[:, -1, 4] = TYPES.index("met")
    made[~(made[..., 0] > 0)] = 0  # a jet, or missing momentum, that is not there
    order = np.argsort(-made[..., 0], axis=1, kind="stable")
    return np.take_along_axis(made, order[..., None], axis=1)
