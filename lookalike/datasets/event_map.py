"""What the columns of a table of events are: the map that `--columns` names, and the one NanoAOD needs no file for.

    id = ["run", "luminosityBlock", "event"]      # joined by `:`
    weight = "genWeight"
    unit = "GeV"                                  # of columns of momenta, masses and energies, or MeV
    undefined = [-999]
    overlaps = "drop"                             # of objects listed twice; or keep, the default
    [[objects]]                                   # one for each kind of object
    type = "jet"                                  # met, jet, tau, lepton, electron, muon, photon or other
    pt = "Jet_pt"                                 # a column of numbers, or of lists of them
    eta = "Jet_eta"
    phi = "Jet_phi"
    mass = "Jet_mass"                             # a column, a number in GeV, or left out: neglected
    btag = "Jet_btagDeepFlavB"                    # only where there is one
    [met]
    pt = "MET_pt"
    phi = "MET_phi"
    [catalog]                                     # further columns to keep, by their new names
    n_vertices = "PV_npvs"
    mass = { column = "M", unit = "GeV", description = "invariant mass" }

px, py, pz and energy may stand in place of pt, eta, phi and mass. [features] in place of [[objects]] and [met] names
the columns of the Higgs challenge's primitives, and events are stored as its records.
"""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from lookalike.config import Config, read_settings
from lookalike.datasets.contract import ROW, listed
from lookalike.datasets.event_blocks import EventTable
from lookalike.errors import InputError
from lookalike.events import PRIMITIVES
from lookalike.wording import a

Kind = Literal["met", "jet", "tau", "lepton", "electron", "muon", "photon", "other"]
POLAR, CARTESIAN = ("pt", "eta", "phi"), ("px", "py", "pz", "energy")
IDS = (("run", "luminosityBlock", "event"), ("run", "lumi", "event"), ("Run", "Event"), ("run", "event"), ("EventId",))
# How NanoAOD calls the collections; only what the file has is taken.
NANO = {"Jet": "jet", "Tau": "tau", "Electron": "electron", "Muon": "muon", "Photon": "photon"}
NANO_BTAG = ("Jet_btagDeepFlavB", "Jet_btagPNetB")
LIGHT, LIGHTEST_HEAVY = ("tau", "lepton", "electron", "muon", "photon"), 2.0  # GeV, more than any of them has
NANO_MET = ("MET", "PuppiMET", "PFMET")


class ObjectColumns(Config):
    """Where one kind of object is found."""

    type: Kind
    pt: str | None = None
    eta: str | None = None
    phi: str | None = None
    mass: str | float | None = None
    px: str | None = None
    py: str | None = None
    pz: str | None = None
    energy: str | None = None
    btag: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        polar, cartesian = self.named(POLAR), self.named(CARTESIAN)
        if not (len(polar) == len(POLAR) and not cartesian) and not (len(cartesian) == len(CARTESIAN) and not polar):
            raise ValueError(f"objects have {', '.join(POLAR)}, or else {', '.join(CARTESIAN)}")
        if cartesian and self.mass is not None:
            raise ValueError("the mass follows from px, py, pz and energy")
        if self.type == "met":
            raise ValueError("the missing momentum is named under [met]")
        if isinstance(self.mass, float) and not 0 <= self.mass <= (LIGHTEST_HEAVY if self.type in LIGHT else inf):
            raise ValueError(f"the mass of {a(self.type)} is a number in GeV, and {self.mass:g} GeV is none of it")
        return self

    def named(self, parts: tuple[str, ...]) -> list[str]:
        return [value for part in parts if isinstance(value := getattr(self, part), str)]

    @property
    def columns(self) -> list[str]:
        return self.named((*POLAR, "mass", *CARTESIAN, "btag"))


class MetColumns(Config):
    """Where the missing momentum is found."""

    pt: str | None = None
    phi: str | None = None
    px: str | None = None
    py: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.columns not in ([self.pt, self.phi], [self.px, self.py]):
            raise ValueError("the missing momentum has pt and phi, or else px and py")
        return self

    @property
    def columns(self) -> list[str]:
        return [value for value in (self.pt, self.phi, self.px, self.py) if value is not None]


class CatalogColumn(Config):
    """A column that is kept in the catalog; `text` where a CSV file's is no number."""

    column: str
    unit: str = ""
    description: str = ""
    text: bool = False


class EventMap(Config):
    """What the columns of a table of events are."""

    id: tuple[str, ...] = ()
    weight: str | None = None
    label: str | None = None
    unit: Literal["GeV", "MeV"] | None = None
    undefined: tuple[float, ...] = (-999.0,)
    tree: str | None = None
    overlaps: Literal["keep", "drop"] = "keep"
    objects: tuple[ObjectColumns, ...] = ()
    met: MetColumns | None = None
    features: dict[str, str] = Field(default_factory=dict)
    catalog: dict[str, str | CatalogColumn] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        if bool(self.objects) == bool(self.features) or (self.features and self.met is not None):
            raise ValueError("a map names [[objects]], with [met] where there is one, or else [features]")
        if odd := sorted(set(self.features) - set(PRIMITIVES)):
            raise ValueError(f"features are primitives of the Higgs challenge, and {odd[0]} is none")
        if odd := [name for name in self.catalog if not re.fullmatch(r"[A-Za-z0-9_]+", name)]:
            raise ValueError(f"a name in the catalog has letters, digits and _ alone, but {odd[0]!r} was given")
        if self.features and self.overlaps != "keep":
            raise ValueError("overlaps are of [[objects]], and [features] have none")
        missing = [name for name in PRIMITIVES if name not in self.features and name != "PRI_met_sumet"]
        if self.features and missing:
            raise ValueError(f"features need all primitives but PRI_met_sumet, and {missing[0]} is missing")
        return self

    @property
    def kept(self) -> dict[str, CatalogColumn]:
        """The catalog's columns by their new names, weight and label among them."""
        found: dict[str, CatalogColumn] = {}
        if self.weight is not None:
            found["weight"] = CatalogColumn(column=self.weight, description="signed weight of the event")
        if self.label is not None:
            found["label"] = CatalogColumn(column=self.label, description="class of the event", text=True)
        for name, given in self.catalog.items():
            found[name] = CatalogColumn(column=given) if isinstance(given, str) else given
        return found

    @property
    def momenta(self) -> list[str]:
        """The columns that hold momenta, masses and energies."""
        parts = ("pt", "mass", *CARTESIAN)
        found = [name for each in self.objects for name in each.named(parts)]
        if self.met is not None:
            found += [name for name in (self.met.pt, self.met.px, self.met.py) if name is not None]
        return found + [column for name, column in self.features.items() if PRIMITIVES[name].unit == "GeV"]

    @property
    def columns(self) -> list[str]:
        """Every column that is read, but for the ids'."""
        found = [name for each in self.objects for name in each.columns]
        found += [] if self.met is None else self.met.columns
        return [*found, *self.features.values(), *(each.column for each in self.kept.values())]


def read_map(file: Path) -> EventMap:
    """The map in a TOML or JSON file; an id of one column may be a text."""
    values = read_settings(file)
    if isinstance(values.get("id"), str):
        values["id"] = values["id"].split(":")
    if isinstance(values.get("undefined"), int | float):
        values["undefined"] = [values["undefined"]]
    return EventMap.checked(values)


def nano_map(table: EventTable) -> EventMap:
    """The map of NanoAOD's branches; InputError where the file has none of them."""
    there = set(table.columns)
    objects = []
    for collection, kind in NANO.items():
        parts = {part: f"{collection}_{part}" for part in (*POLAR, "mass")}
        if all(parts[part] in there for part in POLAR):
            btag = next((name for name in NANO_BTAG if kind == "jet" and name in there), None)
            known = {part: name for part, name in parts.items() if name in there}
            objects.append({"type": kind, **known, "btag": btag})
    if not objects:
        raise InputError(
            f"{table.path} has no objects under NanoAOD's names (Jet_pt, Muon_pt, …): say with --columns what its "
            "columns are, in a TOML or JSON file (docs/domains.md, Collision events, has one). It has: "
            f"{listed(table.columns)}."
        )
    met = next((name for name in NANO_MET if {f"{name}_pt", f"{name}_phi"} <= there), None)
    named = {"pt": f"{met}_pt", "phi": f"{met}_phi"} if met else None
    weight = "genWeight" if "genWeight" in there else None
    return EventMap.checked({"objects": objects, "met": named, "weight": weight})


def id_columns(table: EventTable, chosen: EventMap, given: str | None) -> tuple[str, ...]:
    """The columns an id is made of: as given, as the map says, or as run, section and event are usually called.

    None where rows are numbered, as they are if that was asked for.
    """
    if given is not None:
        if given not in table.columns:
            return () if given == ROW else tuple(given.split(":"))
        return (given,)
    if chosen.id:
        return chosen.id
    return next((names for names in IDS if set(names) <= set(table.columns)), ())
