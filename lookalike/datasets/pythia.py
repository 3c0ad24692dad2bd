"""Pythia 8.3 (Bierlich et al. 2022, arXiv:2203.11601): generators of events, and what a detector could see of each."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np

from lookalike.datasets.jet_blocks import Floats
from lookalike.errors import InputError
from lookalike.installing import install_extra

REACH = 5.0  # |η| of a detector
SEEDS = 900_000_000  # Pythia's generator of random numbers has so many sequences, from 1 on
QUIET = ("Print:quiet = on", "Random:setSeed = on", "Random:seed = 1")


def require() -> None:
    """InputError with what installs Pythia where it is missing."""
    try:
        import pythia8mc  # noqa: F401
    except ImportError:
        raise InputError(f"Events are made by Pythia, which is not installed: {install_extra('simulate')}.") from None


def version() -> str:
    """Of Pythia, on which events depend."""
    return importlib.metadata.version("pythia8mc")


def generator(settings: Sequence[str]) -> Any:
    """A Pythia ready to make events; InputError where a setting is none of its own, or it cannot start with them."""
    import pythia8mc

    made = pythia8mc.Pythia("", False)
    for line in (*QUIET, *settings):
        if not made.readString(line):
            raise InputError(f"Pythia knows no such setting: {line}")
    if not made.init():
        raise InputError(f"Pythia could not start with: {'; '.join(settings)}")
    return made


def seeded(pythia: Any, number: int) -> None:
    """Start one of Pythia's sequences of random numbers, so that the next event follows from `number` alone."""
    pythia.rndm.init(1 + number % SEEDS)  # 0 would be the time of day


def visible(pythia: Any) -> Floats:
    """px, py, pz (m, 3) in GeV of the last event's final particles that a detector sees, within |η| < REACH."""
    final = (each for each in pythia.event.particles() if each.isFinal() and each.isVisible())
    p = np.array([(each.px(), each.py(), each.pz()) for each in final], np.float64).reshape(-1, 3)
    seen: Floats = p[np.abs(p[:, 2]) < np.hypot(p[:, 0], p[:, 1]) * np.sinh(REACH)]
    return seen
