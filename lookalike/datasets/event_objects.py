"""Objects of a block of events, whether columns or lists hold them, and the way to zero-padded arrays of particles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.event_blocks import Block, EventTable, Jagged
from lookalike.datasets.event_map import CARTESIAN, POLAR, EventMap, MetColumns, ObjectColumns
from lookalike.datasets.event_rules import FARTHEST, HUGE, SOFTEST, Bools, Faults, Floats, azimuths, by_row
from lookalike.errors import InputError
from lookalike.events import PARTICLE, TYPES
from lookalike.wording import a

Owners = NDArray[np.int64]
MET = TYPES.index("met")
CUT = "events with more particles than are stored, of which the softest are left out"
LIGHT = "masses below 0, stored as 0"
STILL = "events without missing momentum, which is then no particle"
ABSENT = "objects that are undefined, and so not there"


@dataclass(frozen=True)
class Particles:
    """Objects (M,) of a block of events: the row of the block that each belongs to, and PARTICLE's numbers."""

    owner: Owners
    numbers: Floats  # (M, 6)

    @property
    def pt(self) -> Floats:
        found: Floats = self.numbers[:, 0]
        return found

    @property
    def is_met(self) -> Bools:
        return np.asarray(self.numbers[:, 4] == MET)

    def of(self, good: Bools) -> Particles:
        """Those of some rows (n,) of the block."""
        return self.take(np.flatnonzero(good[self.owner]))

    def take(self, places: NDArray[np.integer[Any]]) -> Particles:
        """Those at some places (m,)."""
        return Particles(self.owner[places], self.numbers[places])

    def sum_pt(self, n: int) -> Floats:
        """Σ pT (n,) of each event's objects."""
        return np.bincount(self.owner, np.where(self.is_met, 0.0, self.pt), n).astype(np.float64)

    def mass(self, n: int) -> Floats:
        """The invariant mass (n,) of each event's objects."""
        pt, eta, phi, m = self.numbers[:, :4].T
        pz = pt * np.sinh(eta)
        energy = np.sqrt(pt**2 + pz**2 + m**2)
        seen = ~self.is_met
        sums = [np.bincount(self.owner, part * seen, n) for part in (energy, pt * np.cos(phi), pt * np.sin(phi), pz)]
        square = sums[0] ** 2 - sums[1] ** 2 - sums[2] ** 2 - sums[3] ** 2
        found: Floats = np.sqrt(np.maximum(square, 0.0))
        return found


def multiplicity(table: EventTable, chosen: EventMap) -> int:
    """The most particles of any event of a file, as the lengths of its lists say."""
    met = int(chosen.met is not None)
    names = [each.columns[0] for each in chosen.objects]
    if table.ending == ".csv":
        return len(names) + met
    most = 1
    for block in table.blocks(names):
        count: Owners = np.zeros(1, np.int64)
        for name in names:
            values = block[name]
            count = count + (values.counts if isinstance(values, Jagged) else 1)
        most = max(most, int(count.max(initial=0)) + met)
    return most


def listed_objects(block: Block, chosen: EventMap, scale: float, faults: Faults) -> Particles:
    """Every object of a block of rows, momenta in GeV; rows with impossible ones are refused."""
    found = [_objects(block, each, chosen.undefined, scale, faults) for each in chosen.objects]
    if chosen.met is not None:
        found.append(_met(block, chosen.met, chosen.undefined, scale, faults))
    return Particles(
        np.concatenate([each.owner for each in found]), np.concatenate([each.numbers for each in found], axis=0)
    )


def packed(particles: Particles, n: int, places: int, faults: Faults) -> NDArray[np.float32]:
    """Zero-padded events (n, places, 6) float32, each in falling order of pT; good rows only.

    Of an event with more particles the softest are left out, but never the missing momentum.
    """
    there = np.flatnonzero(faults.good[particles.owner] & (particles.pt > 0))
    made, cut = placed(particles.take(there), n, places)
    if cut:
        faults.ledger.counts[CUT] += cut
    return made


def placed(particles: Particles, n: int, places: int) -> tuple[NDArray[np.float32], int]:
    """The same of particles that all are to be there, and how many events lost some."""
    owner, numbers = particles.owner, particles.numbers
    order = np.lexsort((-numbers[:, 0], numbers[:, 4] != MET, owner))  # the missing momentum first
    owner, numbers = owner[order], numbers[order]
    beyond = _ranks(owner) >= places
    cut = len(np.unique(owner[beyond]))
    owner, numbers = owner[~beyond], numbers[~beyond]
    order = np.lexsort((-numbers[:, 0], owner))
    owner, numbers = owner[order], numbers[order]
    made = np.zeros((n, places, len(PARTICLE)), np.float32)
    made[owner, _ranks(owner)] = numbers
    return made, cut


def _ranks(owner: Owners) -> Owners:
    """The place (M,) of each among those of its own row, where rows stand together."""
    if not len(owner):
        return owner
    first = np.flatnonzero(np.diff(owner, prepend=owner[0] - 1))
    lengths = np.diff(first, append=len(owner))
    ranks: Owners = np.arange(len(owner)) - np.repeat(first, lengths)
    return ranks


def _objects(
    block: Block, each: ObjectColumns, undefined: tuple[float, ...], scale: float, faults: Faults
) -> Particles:
    """The objects of one kind."""
    rows = len(faults.good)
    jagged = [isinstance(block[name], Jagged) for name in each.columns]
    if any(jagged) and not all(jagged):
        raise InputError(
            f"All numbers of {a(each.type)} are in lists, or none is; mixed are {', '.join(each.columns)}."
        )
    lists = bool(jagged[0])
    owner, values = _aligned(block, each.columns, faults) if lists else (np.arange(rows), _flat(block, each.columns))
    for numbers in values.values():
        numbers[np.isin(numbers, undefined)] = np.nan
    if each.px is not None:
        pt, eta, phi, mass = _polar(*(values[name] for name in each.named(CARTESIAN)))
    else:
        pt, eta, phi = (values[str(name)] for name in (each.pt, each.eta, each.phi))
        mass = values[each.mass] if isinstance(each.mass, str) else np.full(len(pt), (each.mass or 0.0) / scale)
    btag = values[each.btag] if each.btag is not None else np.zeros(len(pt))
    if not lists:  # an object that is undefined throughout is not there
        there = ~np.all([np.isnan(values[name]) for name in each.named(CARTESIAN) or each.named(POLAR)], axis=0)
        if absent := int(np.count_nonzero(~there)):
            faults.ledger.counts[ABSENT] += absent
        owner = owner[there]
        pt, eta, phi, mass, btag = (part[there] for part in (pt, eta, phi, mass, btag))
    name = each.columns[0]
    btag = np.where(btag > 0, btag, 0.0)  # taggers write -1 and less where they say nothing
    whole = np.isfinite(pt) & np.isfinite(eta) & np.isfinite(phi) & np.isfinite(mass) & np.isfinite(btag)
    faults.refuse(by_row(~whole, faults, owner), f"{a(each.type)} ({name}) has an undefined momentum.")
    faults.refuse(by_row(pt * scale < SOFTEST, faults, owner), f"{a(each.type)} ({name}) has a pT that is not above 0.")
    beyond = (pt * scale > HUGE) | (mass * scale > HUGE) | (btag > HUGE)
    faults.refuse(by_row(beyond, faults, owner), f"{a(each.type)} ({name}) has a momentum, mass or tag above {HUGE:g}.")
    faults.refuse(by_row(np.abs(eta) > FARTHEST, faults, owner), f"{a(each.type)} ({name}) is beyond |η| = 10.")
    phi = azimuths(phi, f"{each.phi or each.py} of {a(each.type)}", faults, owner)
    if light := int(np.count_nonzero(mass < 0)):
        faults.ledger.counts[LIGHT] += light
    kind = np.full(len(pt), float(TYPES.index(each.type)))
    return Particles(owner, np.stack([pt * scale, eta, phi, np.maximum(mass, 0) * scale, kind, btag], axis=1))


def _met(block: Block, met: MetColumns, undefined: tuple[float, ...], scale: float, faults: Faults) -> Particles:
    """The missing momentum of each row, as a particle at η = 0."""
    values = _flat(block, met.columns)
    one, two = (np.where(np.isin(values[name], undefined), np.nan, values[name]) for name in met.columns)
    pt, phi = (one, two) if met.pt is not None else (np.hypot(one, two), np.arctan2(two, one))
    faults.refuse(~np.isfinite(pt) | ~np.isfinite(phi), "the missing momentum is undefined.")
    faults.refuse(pt < 0, "the missing momentum is negative.")
    faults.refuse(pt * scale > HUGE, f"the missing momentum is above {HUGE:g} GeV.")
    phi = azimuths(phi, f"{met.phi or met.py} of the missing momentum", faults)
    if still := int(np.count_nonzero((pt >= 0) & (pt * scale < SOFTEST))):
        faults.ledger.counts[STILL] += still
    there = np.flatnonzero(pt * scale >= SOFTEST)
    numbers = np.zeros((len(there), len(PARTICLE)))
    numbers[:, 0], numbers[:, 2], numbers[:, 4] = pt[there] * scale, phi[there], MET
    return Particles(there, numbers)


def _flat(block: Block, names: list[str]) -> dict[str, Floats]:
    found = {}
    for name in names:
        values = block[name]
        if isinstance(values, Jagged) or values.dtype.kind not in "fiub":
            raise InputError(f"A number for each event is needed, but column {name!r} holds others.")
        found[name] = np.array(values, np.float64)
    return found


def _aligned(block: Block, names: list[str], faults: Faults) -> tuple[Owners, dict[str, Floats]]:
    """The rows (M,) that lists' values belong to, and the values; rows whose lists differ in length are refused."""
    lists = {name: values for name in names if isinstance(values := block[name], Jagged)}
    if odd := [name for name, values in lists.items() if values.values.dtype.kind not in "fiub"]:
        raise InputError(f"Lists of numbers are needed, but those of column {odd[0]!r} hold others.")
    first = lists[names[0]].counts
    same: Bools = np.ones(len(first), bool)
    for name in names:
        same &= lists[name].counts == first
    faults.refuse(~same, f"{', '.join(names)} are lists of different lengths.")
    found = {}
    for name, values in lists.items():
        keep = np.repeat(same, values.counts)
        found[name] = np.array(values.values[keep], np.float64)
    return np.repeat(np.arange(len(first))[same], first[same]), found


def _polar(px: Floats, py: Floats, pz: Floats, energy: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """pT, η, φ and mass of four-momenta; rounding may leave a square of the mass below 0."""
    pt = np.hypot(px, py)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = np.arcsinh(pz / pt)
    eta = np.where(pt > 0, eta, 0.0)  # refused for its pT
    square = energy**2 - px**2 - py**2 - pz**2
    return pt, eta, np.arctan2(py, px), np.sqrt(np.maximum(square, 0.0))
