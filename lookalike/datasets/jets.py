"""Jets: constituents of single jets, or of events clustered with anti-kT, from HDF5, NumPy,
Parquet, ROOT, HepMC and LHE.

Stored are the constituents (P, 4) of pt, eta, phi, jet by falling pT, zeros after the last, with pt, eta, phi, mass of
each jet and m_jj as columns. Each format has a module of its own that gives `jet_blocks.Part`s.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.datasets import anti_kt
from lookalike.datasets.contract import Ledger, Options, listed
from lookalike.datasets.jet_blocks import Block, Part, described, kinematics
from lookalike.datasets.jet_rules import UNITS, check_scale, cleaned, unit_of
from lookalike.datasets.table import Table
from lookalike.errors import InputError, unknown
from lookalike.files import existing_files
from lookalike.origins import Rows, rows_of
from lookalike.progress import progress
from lookalike.samples import About, Column
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

FORMATS = {
    ".h5": "jet_hdf5",
    ".hdf5": "jet_hdf5",
    ".hdf": "jet_hdf5",
    ".npz": "jet_numpy",
    ".npy": "jet_numpy",
    ".parquet": "jet_parquet",
    ".root": "jet_root",
    ".hepmc": "jet_hepmc",
    ".hepmc2": "jet_hepmc",
    ".hepmc3": "jet_hepmc",
    ".lhe": "jet_lhe",
    ".lhe.gz": "jet_lhe",
}
MODES = ("jets", "events")
BANDS, BAND_UNITS = ("pt", "eta", "phi", "jet"), ("GeV", "", "rad", "")
MOST = 128  # constituents stored of a jet, by default
ROOM = 8  # places left free for each jet, for what augmentations split
SOURCE = Column("", "file or group that the jet came from")


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Look at every file, then read, check, cluster and store block by block."""
    if options.domain != "jet":
        raise InputError(f"`ingest jets` makes samples of the domain jet, but --domain {options.domain} was given.")
    if options.mode is not None and options.mode not in MODES:
        raise unknown("mode", options.mode, MODES)
    paths = existing_files(files)
    parts = [part for path in paths for part in _parts(path, options, ledger)]
    if len(paths) == 1:  # whose groups are told apart without its name
        parts = [replace(part, name=part.name.removeprefix(f"{id_from_name(paths[0].name)}-")) for part in parts]
    if len({part.name for part in parts}) < len(parts):
        raise InputError(f"Two files or groups make the same ids: {listed(part.name for part in parts)}; rename one.")
    _refuse_cuts(parts, options)
    if any(part.events for part in parts):
        anti_kt.require()
    _write(_Plan.of(parts, options, ledger), out, options, ledger)


def _parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    ending = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).lower()
    if ending not in FORMATS:
        raise InputError(f"Jets come in files that end in {', '.join(FORMATS)}, but {path} was given.")
    module = importlib.import_module(f"lookalike.datasets.{FORMATS[ending]}")
    found: list[Part] = module.parts(path, options, ledger)
    return found


def _refuse_cuts(parts: Sequence[Part], options: Options) -> None:
    """InputError for options of clustering that would do nothing, or can hold for nothing."""
    given = [name for name in ("radius", "min_pt", "max_eta") if getattr(options, name) is not None]
    whole = {part.events for part in parts}
    if len(whole) > 1:
        raise InputError("Events and jets cannot be stored in one file; ingest them one after the other.")
    if given and whole == {False}:
        flag = "--" + given[0].replace("_", "-")
        raise InputError(f"{flag} is of events that are clustered, but {parts[0].where} holds jets (--mode events).")
    for name in given:
        if not getattr(options, name) > 0:
            raise InputError(f"--{name.replace('_', '-')} is above 0, but {getattr(options, name)} was given.")


@dataclass(frozen=True)
class _Plan:
    """What all parts share. jets : of each object. places : P, of which `room` are left free. columns : of the files,
    under their stored names."""

    parts: list[Part]
    jets: int
    places: int
    room: int
    columns: dict[str, str]  # stored name -> the file's
    described: dict[str, Column]

    @classmethod
    def of(cls, parts: list[Part], options: Options, ledger: Ledger) -> _Plan:
        jets = 2 if parts[0].events or _has_two(parts) else 1
        longest = max(MOST * jets if part.most is None else part.most for part in parts)
        places = min(MOST * jets, longest) + ROOM * jets
        own = described(jets)
        shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        lost = sorted({name for part in parts for name in part.columns} - set(shared))
        if lost:
            ledger.note(f"Left out, since not every file has them: {listed(lost)}.")
        taken = {*own, *shared, "id", "masked_fraction", "source"}
        columns: dict[str, str] = {}
        for name in shared:
            clash = name in own or name in ("id", "masked_fraction") or (name == "source" and len(parts) > 1)
            stored = name
            while clash and stored in taken:
                stored += "_file"
            columns[stored] = name
        if renamed := [f"{name} as {stored}" for stored, name in columns.items() if name != stored]:
            ledger.note(f"The files' own columns of names that are made here are kept under others: {listed(renamed)}.")
        texts = {stored: parts[0].columns[name] for stored, name in columns.items()}
        source = {"source": SOURCE} if len(parts) > 1 else {}
        room = 0 if options.size else ROOM * jets
        return cls(parts, jets, options.size or places, room, columns, own | texts | source)


def _has_two(parts: Sequence[Part]) -> bool:
    """Whether constituents say which jet they are of."""
    first = (next(part.blocks(), None) for part in parts)
    return any(block is not None and block.jet is not None for block in first)


def _write(plan: _Plan, out: Path, options: Options, ledger: Ledger) -> None:
    survey: dict[str, Any] = {"jets": plan.jets}
    if plan.parts[0].events:
        radius = options.radius or anti_kt.RADIUS
        survey |= {"algorithm": "anti-kT", "radius": radius}
        ledger.note(f"Clustered with anti-kT, R = {radius:g}, by FastJet (cite arXiv:1111.6097).")
    about = About(
        domain="jet",
        bands=BANDS,
        units=BAND_UNITS,
        layout="particles",
        source="jets",
        survey=survey,
        preprocess={"most": plan.places},
    )
    cut = Cut()
    with (
        write_samples(out, about, plan.described, replace=options.overwrite) as writer,
        progress("jets", sum(part.n for part in plan.parts), "objects", quiet=options.quiet) as advance,
    ):
        for part in plan.parts:
            for read, block in _blocks(part, plan, options, ledger):
                if len(block):
                    constituents = stored(block, plan.places, cut, plan.room)
                    rows = Rows(block.row, rows_of(part.where, 0))
                    writer.append(_ids(block, part, plan, options), constituents, _catalog(block, part, plan), rows)
                advance(read)
    if cut.objects:
        more = counted(cut.objects, "object has", "objects have")
        ledger.tell(
            "objects with constituents left out",
            cut.objects,
            f"{more} more than {plan.places - plan.room} constituents: the softest, {cut.share:.2%} of their pT, are "
            "not stored (--size stores more).",
        )


def _blocks(part: Part, plan: _Plan, options: Options, ledger: Ledger) -> Iterator[tuple[int, Block]]:
    """Blocks in GeV that can be stored, each with how many objects were read for it."""
    unit = unit_of(part, options.unit, ledger)
    told = part.unit is not None or options.unit is not None
    first = True
    for raw in part.blocks():
        block = cleaned(replace(raw, pt=raw.pt * UNITS[unit]), part, ledger)
        if first and len(block):
            check_scale(block, part, unit, told=told)
            first = False
        if part.events and len(block):
            block, two = anti_kt.leading_jets(block, options.radius or anti_kt.RADIUS, options.min_pt, options.max_eta)
            if few := int((~two).sum()):
                ledger.counts["events without two jets that pass left out"] += few
        elif block.jet is not None:
            block = _two_leading(block, ledger)
        yield len(raw), block


def _two_leading(block: Block, ledger: Ledger) -> Block:
    """The constituents of jets 0 and 1; events without any of jet 0 are left out."""
    assert block.jet is not None
    kept = block.particles((block.jet == 0) | (block.jet == 1))
    assert kept.jet is not None
    has_first = np.bincount(kept.of, kept.jet == 0, len(kept)) > 0
    if few := int((~has_first).sum()):
        ledger.counts["events without constituents of jet 0 left out"] += few
    return kept.objects(has_first)


def _ids(block: Block, part: Part, plan: _Plan, options: Options) -> list[str]:
    if options.id_column:
        return Table(part.where, block.columns).ids(options.id_column)
    prefix = f"{part.name}-" if len(plan.parts) > 1 else ""
    return [f"{prefix}{row}" for row in block.row.tolist()]


def _catalog(block: Block, part: Part, plan: _Plan) -> dict[str, NDArray[Any]]:
    found = kinematics(block, plan.jets)
    found |= {stored: block.columns[name] for stored, name in plan.columns.items()}
    return found | ({"source": np.full(len(block), part.name)} if len(plan.parts) > 1 else {})


@dataclass
class Cut:
    """How many objects had more constituents than places, and how much of their pT was not stored."""

    objects: int = 0
    lost: float = 0.0
    total: float = 0.0

    @property
    def share(self) -> float:
        return self.lost / self.total if self.total else 0.0


def stored(block: Block, places: int, cut: Cut, room: int = 0) -> NDArray[np.float32]:
    """The constituents (n, P, 4) by falling pT, P = `places`, of which `room` are left free.

    The softest are left out where there are more, and added to `cut`.
    """
    of = block.of
    jet = block.jet if block.jet is not None else np.zeros(len(of))
    order = np.lexsort((-block.pt, of))
    rank = np.arange(len(of)) - np.repeat(np.cumsum(block.counts) - block.counts, block.counts)
    kept = rank < places - room
    if not kept.all():
        over = block.counts > places - room
        cut.objects += int(over.sum())
        cut.lost += float(block.pt[order][~kept].sum())
        cut.total += float(block.pt[over[of]].sum())
    rows = np.stack([block.pt, block.eta, block.phi, jet], axis=1)[order]
    found = np.zeros((len(block), places, len(BANDS)), np.float32)
    found[of[kept], rank[kept]] = rows[kept]
    return found
