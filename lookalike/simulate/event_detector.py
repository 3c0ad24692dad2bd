"""A simple detector of collision events: leptons, jets and hadronic taus of Pythia's particles, and what is missing.

Momenta are measured with the resolutions that views of events change them by (`augmentations.event`). Efficiencies are
single numbers, rounded from what ATLAS and CMS state for working points in common use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.augmentations.event import Directions, Energy, PileUp
from lookalike.datasets import pythia
from lookalike.datasets.jet_blocks import Floats, Ints, wrapped
from lookalike.events import PARTICLE, TYPES
from lookalike.simulate.collisions import measured_again
from lookalike.simulate.draws import Draws

MET, JET, TAU, ELECTRON, MUON = (TYPES.index(name) for name in ("met", "jet", "tau", "electron", "muon"))
LEPTON_PT, TAU_PT, JET_PT = 10.0, 20.0, 30.0  # GeV, measured, of what is an object
TRACKED, FORWARD = 2.5, 4.5  # |η| of leptons, taus and tags, and of jets
RADIUS = 0.4  # of anti-kT
CLUSTERED = 15.0  # GeV: jets of less, before they are measured, are not looked at
DRESSED, CONE, ISOLATED = 0.1, 0.3, 0.15  # ΔR of photons that are the lepton's; ΔR and share of pT of what is not
FOUND = {11: 0.90, 13: 0.95}  # of isolated electrons and muons
TAU_FOUND, TAU_FAKED, TAU_NEAR = 0.6, 0.01, 0.3  # of hadronic taus, of other jets; ΔR of a tau and its jet
TAGGED = (0.01, 0.15, 0.70)  # of jets of light partons, c and b
HADRON_PT, HADRON_NEAR = 5.0, 0.4  # GeV, ΔR: hadrons that make a jet one of c or b
ENERGY, DIRECTIONS, MISSING = Energy(), Directions(), PileUp().missing


@dataclass(frozen=True)
class Truth:
    """One event's visible particles (m,): momenta px, py, pz, E (m, 4) in GeV and kinds, |PDG code|.

    taus : px, py, pz (t, 3) of the visible parts of hadronic taus. heavy : η, φ and flavor (4 or 5) of c and b hadrons
    (h, 3).
    """

    momenta: Floats
    kinds: Ints
    taus: Floats
    heavy: Floats


def has_lepton(generator: Any, pt: float) -> bool:
    """Whether Pythia's last event has an electron or muon of this pT, GeV: a quick look."""
    final = (each for each in generator.event.particles() if each.isFinal())
    return any(each.idAbs() in (11, 13) and each.pT() > pt for each in final)


def truth_of(generator: Any) -> Truth:
    """What a detector could see of Pythia's last event, |η| < REACH, and what it is not told."""
    visible, taus, heavy = [], [], []
    event = generator.event
    for each in event.particles():
        kind = each.idAbs()
        if each.isFinal():
            if each.isVisible():
                visible.append((each.px(), each.py(), each.pz(), each.e(), kind))
        elif kind == 15:
            made = [event.at(place) for place in each.daughterList()]
            if not any(other.idAbs() in (11, 13, 15) for other in made):
                parts = [
                    (other.px(), other.py(), other.pz()) for other in made if other.isVisible() or other.isHadron()
                ]
                taus.append(np.sum(parts, axis=0) if parts else np.zeros(3))
        elif (flavor := _flavor(kind)) and each.pT() > HADRON_PT:
            heavy.append((each.eta(), each.phi(), flavor))
    x = np.array(visible, np.float64).reshape(-1, 5)
    x = x[np.abs(x[:, 2]) < np.hypot(x[:, 0], x[:, 1]) * np.sinh(pythia.REACH)]
    return Truth(
        x[:, :4],
        x[:, 4].astype(np.int64),
        np.array(taus, np.float64).reshape(-1, 3),
        np.array(heavy, np.float64).reshape(-1, 3),
    )


def _flavor(kind: int) -> int:
    """5 of a b hadron, 4 of a c hadron, else 0, by the digits of its code."""
    if kind < 100 or kind > 9_999_999:
        return 0
    quark = kind // 1000 % 10 or kind // 100 % 10
    return quark if quark in (4, 5) else 0


@dataclass(frozen=True)
class Leptons:
    """Isolated leptons that were found: pt, eta, phi (l, 3) with their photons, and types (l,).

    rest : which particles (m,) are left for jets. lost : which isolated muons (m,) were not found or are beyond the
    tracker, and leave nothing.
    """

    polar: Floats
    types: Ints
    rest: NDArray[np.bool_]
    lost: NDArray[np.bool_]


def leptons_of(truth: Truth, draws: Draws, attempt: int) -> Leptons:
    """The leptons of an event that a detector finds; draws are those of the event's row alone."""
    polar = polar_of(truth.momenta)  # (m, 3)
    rest, lost = np.ones(len(polar), bool), np.zeros(len(polar), bool)
    soft = LEPTON_PT / 2  # may be above the cut once measured, with their photons
    hard, tracked = polar[:, 0] > soft, np.abs(polar[:, 1]) < TRACKED
    found = np.flatnonzero(np.isin(truth.kinds, (11, 13)) & hard & tracked)
    u = draws.uniform(f"leptons {attempt}", len(found))[0]
    kept, types = [], []
    for place, chance in zip(found.tolist(), u.tolist(), strict=True):
        own, dressed, isolated = _dressed(truth, polar, place)
        if not isolated:
            continue
        kind = int(truth.kinds[place])
        if chance < FOUND[kind]:
            rest[own] = False
            kept.append(dressed)
            types.append(ELECTRON if kind == 11 else MUON)
        elif kind == 13:
            rest[place], lost[place] = False, True
    for place in np.flatnonzero((truth.kinds == 13) & hard & ~tracked).tolist():
        if _dressed(truth, polar, place)[2]:  # a calorimeter stops none, so it is no jet
            rest[place], lost[place] = False, True
    return Leptons(np.array(kept, np.float64).reshape(-1, 3), np.array(types, np.int64), rest, lost)


def _dressed(truth: Truth, polar: Floats, place: int) -> tuple[NDArray[np.bool_], Floats, bool]:
    """Which particles (m,) are a lepton and its photons, their pt, eta and phi (3,), and whether they are isolated."""
    apart = distances(polar[place, 1:], polar[:, 1:])
    own = (truth.kinds == 22) & (apart < DRESSED)
    own[place] = True
    dressed = polar_of(truth.momenta[own].sum(0)[None])[0]
    return own, dressed, bool(polar[(apart < CONE) & ~own, 0].sum() <= ISOLATED * dressed[0])


def objects_of(truth: Truth, leptons: Leptons, jets: Floats, draws: Draws, attempt: int) -> Floats:
    """The numbers PARTICLE (k, 6) of an event's objects as they are measured, the missing momentum last.

    jets : px, py, pz, E (j, 4) of the jets of the particles that are no leptons.
    """
    made = np.concatenate([_leptons(leptons, draws, attempt), _jets(truth, jets, draws, attempt)])
    true = np.concatenate([leptons.polar, polar_of(jets)])  # (k, 3)
    kind, pt, eta = made[:, 4], made[:, 0], np.abs(made[:, 1])
    least = np.select([kind == JET, kind == TAU], [JET_PT, TAU_PT], LEPTON_PT)
    keep = (pt > least) & (eta < np.where(kind == JET, FORWARD, TRACKED))
    seen = truth.momenta[~leptons.lost]
    missing = -seen[:, :2].sum(0)
    missing -= (_plane(made[keep]) - _plane(true[keep])).sum(0)
    missing += draws.normal(f"missing {attempt}", 2)[0] * MISSING * np.sqrt(np.hypot(seen[:, 0], seen[:, 1]).sum())
    met = [np.hypot(*missing), 0.0, np.arctan2(missing[1], missing[0]), 0.0, MET, 0.0]
    return np.concatenate([made[keep], np.array(met)[None]])


def _leptons(leptons: Leptons, draws: Draws, attempt: int) -> Floats:
    """The numbers (l, 6) of leptons as they are measured."""
    made = np.zeros((len(leptons.polar), len(PARTICLE)))
    made[:, :3], made[:, 4] = leptons.polar, leptons.types
    u = draws.uniform(f"lepton energies {attempt}", len(made))[0]
    made[:, 0] *= measured_again(np.full(len(made), ENERGY.leptons), u)
    return made


def _jets(truth: Truth, jets: Floats, draws: Draws, attempt: int) -> Floats:
    """The numbers (j, 6) of jets as they are measured, some of them taken for taus, some tagged."""
    made = np.zeros((len(jets), len(PARTICLE)))
    made[:, :3] = polar_of(jets)
    square = jets[:, 3] ** 2 - (jets[:, :3] ** 2).sum(1)
    u = draws.uniform(f"jets {attempt}", len(jets), 3)[0]  # (j, 3)
    turn = draws.normal(f"directions {attempt}", len(jets), 2)[0] * (DIRECTIONS.scale / made[:, :1])
    is_tau = _near(made, polar_of(truth.taus), TAU_NEAR) & (np.abs(made[:, 1]) < TRACKED)
    chance = np.where(is_tau, TAU_FOUND, TAU_FAKED)
    made[:, 4] = np.where((u[:, 0] < chance) & (np.abs(made[:, 1]) < TRACKED), TAU, JET)
    flavor = np.zeros(len(jets), np.int64)
    for place, quark in ((1, 4), (2, 5)):  # a jet with both is one of b
        flavor[_near(made, truth.heavy[truth.heavy[:, 2] == quark][:, [2, 0, 1]], HADRON_NEAR)] = place
    tagged = (u[:, 1] < np.array(TAGGED)[flavor]) & (made[:, 4] == JET) & (np.abs(made[:, 1]) < TRACKED)
    made[:, 5] = tagged
    relative = np.sqrt(ENERGY.constant**2 + ENERGY.stochastic**2 / made[:, 0])
    factor = measured_again(relative, u[:, 2])
    made[:, 0] *= factor
    made[:, 3] = np.sqrt(np.maximum(square, 0)) * factor
    made[:, 1] += turn[:, 0]
    made[:, 2] = wrapped(made[:, 2] + turn[:, 1])
    return made


def polar_of(momenta: Floats) -> Floats:
    """pt, eta, phi (m, 3) of px, py, pz, … (m, ≥ 3), none of which is along the beam."""
    px, py, pz = momenta[:, 0], momenta[:, 1], momenta[:, 2]
    pt = np.hypot(px, py)
    return np.stack([pt, np.arcsinh(pz / np.maximum(pt, 1e-9)), np.arctan2(py, px)], axis=1)


def distances(one: Floats, others: Floats) -> Floats:
    """ΔR (…,) of a direction (2,), or (n, 1, 2), to others (…, 2): η and φ."""
    apart = others - one
    found: Floats = np.hypot(apart[..., 0], wrapped(apart[..., 1]))
    return found


def _near(objects: Floats, others: Floats, radius: float) -> NDArray[np.bool_]:
    """Which objects (n, ≥ 3) have one of others (m, 3) within ΔR; both are pt, eta, phi, …"""
    apart = distances(objects[:, None, 1:3], others[None, :, 1:3])
    return np.asarray((apart < radius).any(axis=1))


def _plane(polar: Floats) -> Floats:
    """px, py (n, 2) of pt, eta, phi, … (n, ≥ 3)."""
    plane: Floats = polar[:, :1] * np.stack([np.cos(polar[:, 2]), np.sin(polar[:, 2])], axis=1)
    return plane
