"""What simulated collisions have in common: an event of Pythia by seed, row and try, and a momentum measured again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from lookalike.datasets import pythia
from lookalike.datasets.jet_blocks import Floats
from lookalike.errors import InputError
from lookalike.simulate.draws import Draws

BEAM = 6500.0  # GeV, of each of the two
COLLIDER = (f"Beams:eCM = {2 * BEAM:g}",)
LICENSE = "made by a program, so nobody's data"
TRIES = 256  # events made for one that passes
MOST_EVENTS = pythia.SEEDS // TRIES  # of one seed, each with sequences of random numbers of its own
MOST_PLACES = 10_000  # for what is stored of an event: blocks of many more would not fit into memory


def collision(settings: Sequence[str], seed: int, row: int, attempt: int) -> Any | None:
    """Pythia after the event of this row and try, which follows from these alone; None where it gives the event up."""
    assert row < MOST_EVENTS, "sequences of another row would be used again"
    generator = _generator(tuple(settings))
    # Every try has a sequence of its own, from a place that the seed says.
    start = int(Draws(seed, np.zeros(1, np.int64)).uniform("pythia")[0] * pythia.SEEDS)
    pythia.seeded(generator, start + row * TRIES + attempt)
    return generator if generator.next() else None  # it gives up one event in many thousands


def check_places(places: int, fewest: int, noun: str) -> None:
    """InputError where an event has too few places for what is stored of it, or too many."""
    if not fewest <= places <= MOST_PLACES:
        raise InputError(f"{fewest} to {MOST_PLACES:,} {noun} of an event are stored, but --size {places} was given.")


def measured_again(relative: Floats, u: Floats) -> Floats:
    """pT′/pT for pT′ ~ N(pT, σ), given that it is above 0, by inverse distribution function.

    relative : σ/pT, of any shape. u : as many uniform numbers.
    """
    normal = NormalDist()
    flat = zip(relative.ravel().tolist(), u.ravel().tolist(), strict=True)
    made = [1 - each * normal.inv_cdf(share * normal.cdf(1 / each)) for each, share in flat]
    return np.array(made, np.float64).reshape(relative.shape)


@cache
def _generator(settings: tuple[str, ...]) -> Any:
    """Pythia with these settings, one in each process."""
    return pythia.generator(settings)
