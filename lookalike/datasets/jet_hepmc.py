"""Generated events in HepMC 2 or 3 (ASCII), read by pyhepmc: what a detector could see of each, to be clustered.

Taken are the final particles (status 1) within |η| < 5 that are visible by the rule of `visibility`. The events' own
numbers and first weights are catalog columns. Momenta are in the unit that each event names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.about import id_from_name
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.jet_blocks import Block, Floats, Part, reading, with_angles
from lookalike.datasets.visibility import visible
from lookalike.errors import InputError
from lookalike.installing import install_extra
from lookalike.samples import Column

EVENTS = 200  # read at once
FINAL = 1  # status
REACH = 5.0  # |η| of a detector
GEV = {"MEV": 1e-3, "GEV": 1.0}
COLUMNS = {"event": Column("", "number of the event"), "weight": Column("", "first weight of the event")}
END = "-END_EVENT_LISTING"


def parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    """The one part of a HepMC file; InputError where it is none, is cut off, or pyhepmc is missing."""
    if options.mode == "jets":
        raise InputError(f"{path} holds whole events, which are clustered, but --mode jets was given.")
    try:
        import pyhepmc  # noqa: F401
    except ImportError:
        raise InputError(f"HepMC files are read by pyhepmc, which is not installed: {install_extra('hep')}.") from None
    n = _count(path)
    ledger.note(
        f"Of each event the final particles within |η| < {REACH:g} are taken, but neutrinos, neutralinos, dark matter "
        "and others that no detector sees."
    )

    def blocks() -> Iterator[Block]:
        first, read = 0, 0
        with reading(path, "HepMC"):
            waiting: list[tuple[Floats, int, float]] = []
            for event in _events(path):
                waiting.append(event)
                read += 1
                if len(waiting) == EVENTS:
                    yield _block(first, waiting)
                    first, waiting = read, []
            if waiting:
                yield _block(first, waiting)
        if read != n:
            raise InputError(f"{path} lists {n:,} events, of which {read:,} can be read.", code="bad_file")

    return [Part(id_from_name(path.name), str(path), n, None, blocks, events=True, unit="GeV", columns=COLUMNS)]


def _count(path: Path) -> int:
    """How many events a file lists, which must be whole: its last line says that it is."""
    n, last = 0, ""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                n += line.startswith("E ")
                last = line if line.strip() else last
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as HepMC: {error}", code="bad_file") from None
    if not last.startswith("HepMC::") or END not in last:
        raise InputError(f"{path} does not end as HepMC files do, so it is none or was cut off.", code="bad_file")
    if not n:
        raise InputError(f"{path} lists no events.")
    return n


def _events(path: Path) -> Iterator[tuple[Floats, int, float]]:
    """px, py, pz (m, 3) in GeV of each event's particles, its number and weight."""
    import pyhepmc

    with pyhepmc.open(str(path)) as file:
        for event in file:
            particles = event.numpy.particles
            p = np.stack([particles.px, particles.py, particles.pz], axis=1)  # (m, 3)
            seen = (particles.status == FINAL) & visible(particles.pid)
            with np.errstate(divide="ignore", invalid="ignore"):
                steep = np.abs(p[:, 2]) >= np.hypot(p[:, 0], p[:, 1]) * np.sinh(REACH)
            unit = GEV[event.momentum_unit.name]
            weights: Any = event.weights
            yield p[seen & ~steep] * unit, int(event.event_number), float(weights[0]) if len(weights) else 1.0


def _block(first: int, events: list[tuple[Floats, int, float]]) -> Block:
    p = np.concatenate([momenta for momenta, _, _ in events])
    flat = with_angles({name: p[:, place] for place, name in enumerate(("px", "py", "pz"))})
    counts = np.array([len(momenta) for momenta, _, _ in events], np.int64)
    columns = {
        "event": np.array([number for _, number, _ in events], np.int64),
        "weight": np.array([weight for _, _, weight in events], np.float64),
    }
    return Block(first, counts, flat["pt"], flat["eta"], flat["phi"], columns=columns)
