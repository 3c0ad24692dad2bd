"""The rules that events of every source keep to: which numbers are possible, and what becomes of other rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger
from lookalike.errors import InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

NAMED = 5  # rows of each kind that are named
ROUNDING = 0.01  # rad, by which azimuths rounded to two digits may pass π
FARTHEST = 10.0  # |η|: beyond, a particle of the beam's momentum has less than 1 GeV across it
TYPICAL = (0.5, 3000.0)  # GeV: the median momentum of any experiment's objects lies between
MEV = 1e-3  # GeV
UNITS = {"GeV": 1.0, "MeV": MEV}
WRAPPED = "azimuths brought between -π and π"


class Faults:
    """The rows of a file that break a rule: an error at the first, or with --skip-bad left out, counted and named."""

    def __init__(self, path: Path, ledger: Ledger, noun: str = "events") -> None:
        self.path, self.ledger, self.noun = path, ledger, noun
        self.good: Bools = np.ones(0, bool)  # of the block at hand
        self._start = 0
        self._found: dict[str, tuple[int, list[int]]] = {}  # by rule: how many, and the first rows

    def begin(self, rows: int) -> None:
        """The next block of rows (n,)."""
        self._start += len(self.good)
        self.good = np.ones(rows, bool)

    def refuse(self, bad: Bools, reason: str) -> None:
        """Leave out rows (n,) of the block by a rule; each counts for the first that it breaks."""
        rows = np.flatnonzero(bad & self.good)
        if not len(rows):
            return
        named = [int(row) + self._start + 1 for row in rows[:NAMED]]
        if not self.ledger.skip_bad:
            raise InputError(
                f"{self.path}, row {named[0]:,} (counted from 1): {reason} (--skip-bad leaves such {self.noun} out.)",
                code="bad_file",
            )
        self.good[rows] = False
        number, first = self._found.get(reason, (0, []))
        self._found[reason] = number + len(rows), [*first, *named][:NAMED]

    def end(self) -> None:
        """Tell what was left out of the file."""
        for reason, (number, rows) in self._found.items():
            more = f" and {number - len(rows):,} more" if number > len(rows) else ""
            text = f"{self.path}, {'row' if number == 1 else 'rows'} {', '.join(f'{row:,}' for row in rows)}{more}"
            self.ledger.skipped.append((text, reason))
            self.ledger.counts[f"{self.noun} left out"] += number


def azimuths(phi: Floats, name: str, faults: Faults, owner: NDArray[np.int64] | None = None) -> Floats:
    """Azimuths (n,) in (−π, π], those of [0, 2π) counted; beyond 2π they are no radians. NaN stays.

    owner : the row of the block that each belongs to, where they are not one a row.
    """
    beyond = np.abs(phi) > 2 * math.pi + ROUNDING
    faults.refuse(by_row(beyond, faults, owner), f"{name} is an azimuth in rad, but lies beyond 2π; is it in degrees?")
    moved = np.abs(phi) > math.pi + ROUNDING
    if number := int(np.count_nonzero(moved & ~beyond)):
        faults.ledger.counts[WRAPPED] += number
    wrapped: Floats = math.pi - np.mod(math.pi - phi, 2 * math.pi)
    return np.where(np.abs(phi) <= math.pi, phi, wrapped)


def by_row(bad: Bools, faults: Faults, owner: NDArray[np.int64] | None) -> Bools:
    """The rows of the block that own something bad."""
    if owner is None:
        return bad
    rows = np.zeros(len(faults.good), bool)
    rows[owner[bad]] = True
    return rows


def refuse_unit(pt: Floats, unit: str | None, scale: float, path: Path) -> None:
    """InputError where momenta (n,) as stored cannot be in the unit they are taken for; nothing is guessed.

    unit : the one that was given or that the file names; None where GeV was assumed. scale : its size in GeV.
    """
    if not len(pt):
        return
    median = float(np.median(pt)) * scale
    if unit is None and median > TYPICAL[1]:
        raise InputError(
            f"Momenta are in GeV unless said otherwise, but half of those in {path} are above "
            f"{median:,.0f}: if they are in MeV say --unit MeV, else --unit GeV."
        )
    if unit == "MeV" and median < TYPICAL[0]:
        raise InputError(
            f"Momenta of {path} are said to be in MeV, but half of them would be below {median:.2g} GeV; "
            "if they are in GeV say --unit GeV."
        )


def energy_unit(given: str | None, stated: set[str], path: Path) -> tuple[str | None, float]:
    """The unit of momenta and its size in GeV: as given, or as the file's own attributes say, else None and 1."""
    known = {name for name in stated if name in UNITS}
    unit = given or (next(iter(known)) if len(known) == 1 else None)
    if unit is None and known:
        raise InputError(f"{path} says {' and '.join(sorted(known))} of its momenta; say which with --unit.")
    if unit is not None and unit not in UNITS:
        raise InputError(f"Momenta are in {' or '.join(UNITS)}, but the unit {unit!r} was given.")
    return unit, 1.0 if unit is None else UNITS[unit]
