"""Objects that one event lists twice, as NanoAOD an electron also as a photon, a tau and a jet: the second is left out.

Kept is what says more: an electron or muon before a tau, an electron before a photon, all of these before a jet. One
is the double of another where it lies in the same place and the other has at least half its pT, so that a muon from a
decay within a jet takes no jet away.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from lookalike.datasets.contract import Ledger
from lookalike.datasets.event_objects import Particles
from lookalike.datasets.event_rules import Bools
from lookalike.events import TYPES

KEEP, DROP = "keep", "drop"
CHOICES = (KEEP, DROP)
SHARE = 0.5  # of the pT of what is left out that the kept one has at least
# What is left out, of what, and within which ΔR = √(Δη² + Δφ²), in this order.
RULES = (
    ("photon", ("electron", "lepton"), 0.1),
    ("tau", ("electron", "muon", "lepton"), 0.4),
    ("jet", ("electron", "muon", "lepton", "tau", "photon"), 0.4),
)


def possible(kinds: Collection[str]) -> bool:
    """Whether objects of these kinds could be listed twice."""
    return any(kind in kinds and not set(others).isdisjoint(kinds) for kind, others, _ in RULES)


def without_doubles(particles: Particles, ledger: Ledger) -> Particles:
    """The objects (M,) of a block, all of finite numbers, but those that others of their event are too; counted."""
    for kind, others, radius in RULES:
        left = np.flatnonzero(particles.numbers[:, 4] == TYPES.index(kind))
        kept = np.flatnonzero(np.isin(particles.numbers[:, 4], [TYPES.index(other) for other in others]))
        double = np.zeros(len(particles.owner), bool)
        double[left] = _doubles(particles.take(left), particles.take(kept), radius)
        if number := int(np.count_nonzero(double)):
            ledger.counts[f"{kind}s that are another object too, left out"] += number
        particles = particles.take(np.flatnonzero(~double))
    return particles


def _doubles(some: Particles, others: Particles, radius: float) -> Bools:
    """Which of some objects (m,) have one of the others of their event within ΔR, of at least SHARE of their pT."""
    order = np.argsort(others.owner, kind="stable")
    first = np.searchsorted(others.owner[order], some.owner, "left")
    count = np.searchsorted(others.owner[order], some.owner, "right") - first
    one = np.repeat(np.arange(len(some.owner)), count)  # (pairs,), and its partners one after the other
    other = order[np.repeat(first, count) + np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)]
    a, b = some.numbers[one], others.numbers[other]
    turn = np.mod(a[:, 2] - b[:, 2] + np.pi, 2 * np.pi) - np.pi
    same = (np.hypot(a[:, 1] - b[:, 1], turn) < radius) & (b[:, 0] >= SHARE * a[:, 0])
    found = np.zeros(len(some.owner), bool)
    found[one[same]] = True
    return found
