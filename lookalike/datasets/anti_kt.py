"""Clustering of events into jets with anti-kT (Cacciari, Salam & Soyez 2008, arXiv:0802.1189), by FastJet
(Cacciari, Salam & Soyez 2012, arXiv:1111.6097).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.jet_blocks import Block, Floats, Ints
from lookalike.errors import InputError
from lookalike.installing import install_extra

RADIUS = 0.8
SOFTEST = 20.0  # GeV: jets of less are not looked at


def require() -> None:
    """InputError with what installs FastJet where it is missing."""
    try:
        import awkward  # noqa: F401
        import fastjet  # noqa: F401
    except ImportError:
        raise InputError(f"Events are clustered by FastJet, which is not installed: {install_extra('hep')}.") from None


def leading_jets(
    block: Block, radius: float = RADIUS, min_pt: float | None = None, max_eta: float | None = None
) -> tuple[Block, NDArray[np.bool_]]:
    """The constituents of each event's two leading jets, and which events (n,) have two that pass.

    The two jets of highest pT are looked for first; `min_pt` (GeV) and `max_eta` (|η|) must then hold for both.
    """
    import awkward as ak

    px, py = block.pt * np.cos(block.phi), block.pt * np.sin(block.phi)
    pz, energy = block.pt * np.sinh(block.eta), block.pt * np.cosh(block.eta)
    with _banner_aside():
        clustered = _clustered(np.stack([px, py, pz, energy], axis=1), block.counts, radius)
        found, members = clustered.inclusive_jets(SOFTEST), clustered.constituent_index(SOFTEST)
    pt = np.hypot(found.px, found.py)
    order = ak.argsort(pt, ascending=False, axis=1)[:, :2]
    found, members = found[order], members[order]
    passing = np.hypot(found.px, found.py) >= (min_pt or 0.0)
    if max_eta is not None:
        passing = passing & (np.abs(np.arcsinh(found.pz / np.hypot(found.px, found.py))) < max_eta)
    two = np.asarray(ak.sum(passing, axis=1) == 2)
    return _members(block, members, two), two


def all_jets(momenta: Floats, counts: Ints, radius: float, min_pt: float) -> tuple[Floats, Ints]:
    """The jets of pT ≥ `min_pt` of each event, the hardest first: px, py, pz, E (M, 4), and how many (n,) it has.

    momenta : px, py, pz, E (m, 4) in GeV of the particles of all events, one event after the other. counts : how many
    (n,) each event has.
    """
    import awkward as ak

    with _banner_aside():
        found = _clustered(momenta, counts, radius).inclusive_jets(min_pt)
    found = found[ak.argsort(np.hypot(found.px, found.py), ascending=False, axis=1)]
    jets = np.stack([ak.to_numpy(ak.flatten(found[name])) for name in ("px", "py", "pz", "E")], axis=1)
    return jets.astype(np.float64), ak.to_numpy(ak.num(found)).astype(np.int64)


def _clustered(momenta: Floats, counts: Ints, radius: float) -> Any:
    """FastJet's clustering of the particles (m, 4) of some events."""
    import awkward as ak
    import fastjet

    parts = dict(zip(("px", "py", "pz", "E"), momenta.T, strict=True))
    particles = ak.unflatten(ak.zip(parts), counts)
    return fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))


def _members(block: Block, members: Any, two: NDArray[np.bool_]) -> Block:
    """The events that have two jets, with the particles of those alone and which jet each is of."""
    import awkward as ak

    starts = np.cumsum(block.counts) - block.counts
    jet = np.full(len(block.pt), -1, np.int64)
    for which in (0, 1):
        own = members[two][:, which]
        place = np.repeat(starts[two], ak.to_numpy(ak.num(own))) + ak.to_numpy(ak.flatten(own))
        jet[place] = which
    return replace(block, jet=jet).particles(jet >= 0).objects(two)


@contextmanager
def _banner_aside() -> Iterator[None]:
    """FastJet greets on standard output, once in each process: what is written there meanwhile is dropped."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # no standard output at all
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
