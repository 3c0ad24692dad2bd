"""Simulated collision events with a lepton, of several processes, made by Pythia and seen by a simple detector.

Each event is showered and hadronized, its leptons, jets, hadronic taus and missing momentum measured, and kept where it
passes the selection; else another one takes its place. Stored as `ingest events` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import About, Column
from lookalike.datasets import anti_kt, pythia
from lookalike.datasets.event_objects import Particles, placed
from lookalike.datasets.events import MADE, MASS, SUM_PT
from lookalike.datasets.jet_blocks import Floats, Ints
from lookalike.errors import InputError, unknown
from lookalike.events import DOMAIN, PARTICLE, units
from lookalike.simulate.collisions import LICENSE, MOST_EVENTS, TRIES, check_places, collision
from lookalike.simulate.draws import Draws
from lookalike.simulate.event_detector import (
    CLUSTERED,
    ELECTRON,
    JET,
    MET,
    MUON,
    RADIUS,
    TAU,
    Leptons,
    Truth,
    has_lepton,
    leptons_of,
    objects_of,
    truth_of,
)
from lookalike.simulate.event_physics import PROCESSES, settings_of

TRIGGER = 20.0  # GeV of pT that the leading lepton has at least
FEWEST = 2  # leptons, taus and jets
PLACES = 12  # of objects stored, the missing momentum among them
FEWEST_PLACES = 3
LARGEST_SHARE = 1_000_000

COLUMNS = {
    "class": Column("", f"what was made: {', '.join(PROCESSES)}"),
    **MADE,
    "met": Column("GeV", "missing transverse momentum"),
    "ht": Column("GeV", "sum of the transverse momenta of the jets"),
    "pt_lepton": Column("GeV", "transverse momentum of the leading lepton"),
    "mt_lepton": Column("GeV", "transverse mass of the leading lepton and the missing momentum"),
    "mass_pair": Column("GeV", "mass of the two leading of leptons and taus, the leptons first; NaN of one alone"),
    "n_leptons": Column("", "electrons and muons"),
    "n_taus": Column("", "hadronic taus"),
    "n_jets": Column("", "jets"),
    "n_btags": Column("", "jets tagged as of a b quark"),
    "tries": Column("", "events made until one passed"),
}


class Events:
    """A set of events of a seed; `block` makes any of its rows, each from the seed and its row alone.

    classes : names of PROCESSES, each with its share of the events (`ttbar:2`), 1 where it has none; all of them where
    there is none. underlying : whether further partons of the two protons collide too. places : for the objects of an
    event, the softest of more are left out.
    """

    noun = "events"
    rows_at_once = 100
    most = MOST_EVENTS

    def __init__(
        self, seed: int, classes: Sequence[str] = (), *, underlying: bool = False, places: int = PLACES
    ) -> None:
        self.shares = shares_of(classes)
        check_places(places, FEWEST_PLACES, "objects")
        pythia.require()
        anti_kt.require()
        self.seed, self.places = seed, places
        self.physics = {name: settings_of(name, underlying) for name in self.shares}
        self.settings: dict[str, Any] = {
            "classes": self.shares,
            "underlying": underlying,
            "size": places,
            "pythia": pythia.version(),
        }
        self.columns = COLUMNS
        self.about = About(
            domain=DOMAIN,
            bands=tuple(PARTICLE),
            units=units(PARTICLE),
            layout="particles",
            source="SIMULATED events, not recorded ones (Pythia 8; lookalike simulate events)",
            license=LICENSE,
            survey={"algorithm": "anti-kT", "radius": RADIUS, "name": "simulated", "simulated": True},
        )

    def block(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Ids, objects (n, P, 6) and catalog columns (n,) of some rows."""
        names = np.array(list(self.shares))
        kinds = names[Draws(self.seed, rows).choice("class", np.array(list(self.shares.values())))]
        found: dict[int, Floats] = {}
        tries = np.zeros(len(rows), np.int64)
        waiting = np.arange(len(rows))
        for attempt in range(TRIES):
            tries[waiting] += 1
            made = self._made(rows[waiting], kinds[waiting], attempt)
            found |= {int(place): each for place, each in zip(waiting, made, strict=True) if passes(each)}
            waiting = np.array([place for place in waiting.tolist() if place not in found], np.int64)
            if not len(waiting):
                break
        else:
            raise InputError(f"Of {TRIES} events of {kinds[waiting[0]]} none passed the selection.")
        whole = _joined([found[place] for place in range(len(rows))])
        catalog = {"class": kinds, **described(whole, len(rows)), "tries": tries}
        ids = [f"sim{self.seed}-{row:07d}" for row in rows.tolist()]
        return ids, placed(whole, len(rows), self.places)[0], {name: catalog[name] for name in COLUMNS}

    def _made(self, rows: Ints, kinds: NDArray[np.str_], attempt: int) -> list[Floats]:
        """The objects (k, 6) of the rows' events of this attempt as a detector sees them, none where no lepton is."""
        objects = [np.zeros((0, len(PARTICLE)))] * len(rows)
        seen: list[tuple[int, Truth, Leptons, Draws]] = []
        for place, (row, kind) in enumerate(zip(rows.tolist(), kinds.tolist(), strict=True)):
            made = collision(self.physics[kind], self.seed, row, attempt)
            if made is None or not has_lepton(made, TRIGGER / 2):  # its photons and resolution may lift it
                continue
            draws, truth = Draws(self.seed, np.array([row])), truth_of(made)
            leptons = leptons_of(truth, draws, attempt)
            if len(leptons.polar):
                seen.append((place, truth, leptons, draws))
        if seen:
            rest = [truth.momenta[leptons.rest] for _, truth, leptons, _ in seen]
            counts = np.array([len(each) for each in rest], np.int64)
            jets, own = anti_kt.all_jets(np.concatenate(rest), counts, RADIUS, CLUSTERED)
            for (place, truth, leptons, draws), few in zip(seen, np.split(jets, own.cumsum()[:-1]), strict=True):
                objects[place] = objects_of(truth, leptons, few, draws, attempt)
        return objects


def shares_of(classes: Sequence[str]) -> dict[str, float]:
    """The share of each class of `NAME` or `NAME:SHARE`, in PROCESSES' order; equal ones of all where none is given.

    InputError for names that are none of PROCESSES or stand twice, and for shares that are not above 0 or are above
    LARGEST_SHARE.
    """
    found: dict[str, float] = {}
    for text in classes or PROCESSES:
        name, colon, share = text.partition(":")
        if name not in PROCESSES:
            raise unknown("class", name, PROCESSES)
        if name in found:
            raise InputError(f"--class {name} was given twice.")
        try:
            found[name] = float(share if colon else 1)
        except ValueError:
            raise InputError(f"A share is a number above 0, but --class {text} was given.") from None
        if not 0 < found[name] <= LARGEST_SHARE:
            raise InputError(f"A share is above 0 and at most {LARGEST_SHARE:,}, but --class {text} was given.")
    whole = sum(found.values())
    # Not in the order given, which would make other events of the same shares.
    return {name: found[name] / whole for name in PROCESSES if name in found}


def passes(objects: Floats) -> bool:
    """Whether an event's objects (k, 6) have a lepton of TRIGGER, and FEWEST but the missing momentum."""
    is_lepton = np.isin(objects[:, 4], (ELECTRON, MUON))
    others = np.count_nonzero(objects[:, 4] != MET)
    return bool((objects[is_lepton, 0] > TRIGGER).any() and others >= FEWEST)


def described(whole: Particles, n: int) -> dict[str, NDArray[Any]]:
    """The catalog columns (n,) that follow from the objects of events, each of which has a lepton."""
    kind, pt = whole.numbers[:, 4], whole.pt

    def sum_of(values: NDArray[Any]) -> Floats:
        return np.bincount(whole.owner, values, n).astype(np.float64)

    is_lepton = np.isin(kind, (ELECTRON, MUON))
    # Leptons first, then taus, each in falling order of pT.
    order = np.lexsort((-pt, ~is_lepton, whole.owner))
    order = order[(is_lepton | (kind == TAU))[order]]
    first = np.searchsorted(whole.owner[order], np.arange(n))
    count = np.bincount(whole.owner[order], minlength=n)
    leading, two = order[first], np.flatnonzero(count > 1)
    pairs = whole.take(np.sort(np.concatenate([leading[two], order[first[two] + 1]])))
    mass = np.full(n, np.nan)
    mass[two] = pairs.mass(n)[two]
    met = whole.take(np.flatnonzero(whole.is_met))  # one of each event
    turn = met.numbers[:, 2] - whole.numbers[leading, 2]
    return {
        SUM_PT: whole.sum_pt(n),
        MASS: whole.mass(n),
        "met": met.pt,
        "ht": sum_of(np.where(kind == JET, pt, 0.0)),
        "pt_lepton": pt[leading],
        "mt_lepton": np.sqrt(2 * met.pt * pt[leading] * (1 - np.cos(turn))),
        "mass_pair": mass,
        "n_leptons": sum_of(is_lepton).astype(np.int64),
        "n_taus": sum_of(kind == TAU).astype(np.int64),
        "n_jets": sum_of(kind == JET).astype(np.int64),
        "n_btags": sum_of((kind == JET) & (whole.numbers[:, 5] > 0)).astype(np.int64),
    }


def _joined(events: list[Floats]) -> Particles:
    """Events one after the other."""
    counts = [len(each) for each in events]
    return Particles(np.repeat(np.arange(len(events)), counts), np.concatenate(events))
