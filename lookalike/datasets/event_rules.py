"""The rules that events of every source keep to: which numbers are possible, and what becomes of other rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.about import is_id
from lookalike.datasets.contract import Ledger
from lookalike.datasets.csv_numbers import OddCells, Ragged
from lookalike.errors import InputError
from lookalike.origins import Rows, rows_of

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

RAGGED = "it cannot be read: it has another number of cells than there are columns."
NAMED = 5  # rows of each kind that are named
ROUNDING = 0.01  # rad, by which azimuths rounded to two digits may pass π
FARTHEST = 10.0  # |η|: beyond, a particle of the beam's momentum has less than 1 GeV across it
TYPICAL = (0.5, 3000.0)  # GeV: the median momentum of any experiment's objects lies between
HARDEST = 7000.0  # GeV: half of the LHC's 14 TeV, which hardly an object can have
SOFTEST, HUGE = 1e-6, 1e9  # GeV: beyond, a float32 would make 0 or infinity of a momentum or its square
MEV = 1e-3  # GeV
UNITS = {"GeV": 1.0, "MeV": MEV}
WRAPPED = "azimuths brought between -π and π"


class Faults:
    """The rows of a file that break a rule: an error at the first, or with --skip-bad left out, counted and named.

    ragged : those that its reader passed over, which it adds to as it reads.
    """

    def __init__(self, path: Path, ledger: Ledger, noun: str = "events", ragged: Sequence[Ragged] = ()) -> None:
        self.path, self.ledger, self.noun, self.ragged = path, ledger, noun, ragged
        self.good: Bools = np.ones(0, bool)  # of the block at hand
        self._start = 0
        self._found: dict[str, tuple[int, list[int]]] = {}  # by rule: how many, and the first rows
        self._judged = False  # whether the unit of momenta was

    def begin(self, rows: int) -> None:
        """The next block of rows (n,)."""
        self._refuse_ragged()
        self._start += len(self.good)
        self.good = np.ones(rows, bool)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows (n,) of the block as the file counts them, from 0; those that were passed over have numbers too."""
        read = self._start + np.arange(len(self.good))
        passed = np.array(sorted(each.row for each in tuple(self.ragged)), np.int64)  # the reader may be adding to them
        before = passed - np.arange(len(passed))
        return read + np.searchsorted(before, read, side="right")

    @property
    def kept(self) -> Rows:
        """The rows of the block that are not refused, as the file counts them."""
        return Rows(self.rows[self.good], rows_of(self.path, 1))

    def _refuse_ragged(self) -> None:
        """InputError that names the first row that was passed over, unless such rows are left out."""
        if self.ragged and not self.ledger.skip_bad:
            first = self.ragged[0]
            raise self._broken(first.row + 1, f"it cannot be read: {first.told}")

    def _broken(self, row: int, reason: str) -> InputError:
        return InputError(
            f"{self.path}, row {row:,} (counted from 1): {reason} (--skip-bad leaves such {self.noun} out.)",
            code="bad_file",
        )

    def refuse(self, bad: Bools, reason: str) -> None:
        """Leave out rows (n,) of the block by a rule; each counts for the first that it breaks."""
        rows = np.flatnonzero(bad & self.good)
        if not len(rows):
            return
        named = [int(row) + 1 for row in self.rows[rows[:NAMED]]]
        if not self.ledger.skip_bad:
            raise self._broken(named[0], reason)
        self.good[rows] = False
        number, first = self._found.get(reason, (0, []))
        self._found[reason] = number + len(rows), [*first, *named][:NAMED]

    def refuse_cells(self, odd: Iterable[OddCells]) -> None:
        """Leave out rows (n,) of the block with a cell that should be a number and is none."""
        for cells in odd:
            example = "" if self.ledger.skip_bad else f", but {cells.first!r}"  # one reason for all such cells
            self.refuse(cells.rows, f"{cells.column} cannot be read: it is no {cells.wanted}{example}.")

    def refuse_ids(self, ids: Sequence[str]) -> None:
        """Leave out rows (n,) whose id breaks the rule of ids."""
        bad = np.array([not is_id(name) for name in ids], bool)
        if bad.any():
            example = ids[int(bad.argmax())][:80]
            self.refuse(bad, f"the id is not 1 to 64 characters of A-Z a-z 0-9 . _ : + -, but {example!r}.")

    def check_unit(self, pt: Floats, unit: str | None, scale: float) -> None:
        """Refuse a file whose momenta (n,), as stored, are of another unit: by its first block that has any."""
        if not self._judged:
            self._judged = refuse_unit(pt, unit, scale, self.path)

    def end(self) -> None:
        """Tell what was left out of the file."""
        self._refuse_ragged()
        if self.ragged:
            self._found[RAGGED] = len(self.ragged), [each.row + 1 for each in self.ragged[:NAMED]]
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
    with np.errstate(invalid="ignore"):  # of infinite ones, which are refused
        wrapped: Floats = math.pi - np.mod(math.pi - phi, 2 * math.pi)
    return np.where(np.abs(phi) <= math.pi, phi, wrapped)


def by_row(bad: Bools, faults: Faults, owner: NDArray[np.int64] | None) -> Bools:
    """The rows of the block that own something bad."""
    if owner is None:
        return bad
    rows = np.zeros(len(faults.good), bool)
    rows[owner[bad]] = True
    return rows


def refuse_unit(pt: Floats, unit: str | None, scale: float, path: Path) -> bool:
    """InputError where momenta (n,) as stored cannot be in the unit they are taken for; nothing is guessed.

    unit : the one that was given or that the file names; None where GeV was assumed. scale : its size in GeV.
    Returns whether there was a momentum to judge by, which those that are undefined or not above 0 are not.
    """
    pt = pt[np.isfinite(pt) & (pt > 0)]
    if not len(pt):
        return False
    median, large = (float(each) * scale for each in np.quantile(pt, [0.5, 0.99]))
    if unit is None and (median > TYPICAL[1] or large > HARDEST):
        share, above = ("half", median) if median > TYPICAL[1] else ("one in a hundred", large)
        raise InputError(
            f"Momenta are in GeV unless said otherwise, but {share} of those in {path} are above "
            f"{above:,.0f}: if they are in MeV say --unit MeV, else --unit GeV."
        )
    if unit == "MeV" and median < TYPICAL[0]:
        raise InputError(
            f"Momenta of {path} are said to be in MeV, but half of them would be below {median:.2g} GeV; "
            "if they are in GeV say --unit GeV."
        )
    return True


def energy_unit(given: str | None, stated: set[str], path: Path) -> tuple[str | None, float]:
    """The unit of momenta and its size in GeV: as given, or as the file's own attributes say, else None and 1.

    InputError where a file names several units of energy, or one that is not read, or another than was given.
    """
    names = {name.lower(): name for name in UNITS}
    if given is not None and given.lower() not in names:
        raise InputError(f"Momenta are in {' or '.join(UNITS)}, but the unit {given!r} was given.")
    known = {name for name in stated if re.fullmatch(r"[kMGTP]?eV(/c2?)?", name, re.IGNORECASE)}
    said = {names.get(name.lower().partition("/")[0], name) for name in known}
    if odd := sorted(said - set(UNITS)):
        raise InputError(f"{path} says that its momenta are in {odd[0]!r}; momenta are in {' or '.join(UNITS)}.")
    wanted = None if given is None else names[given.lower()]
    if len(said) > 1:
        raise InputError(f"{path} says {' and '.join(sorted(said))} of its momenta, which are to be in one unit.")
    unit = next(iter(said), wanted)
    if wanted is not None and wanted != unit:
        raise InputError(f"{path} says that its momenta are in {unit}, but the unit {wanted} was given.")
    return unit, 1.0 if unit is None else UNITS[unit]
