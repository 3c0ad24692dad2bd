"""What of jets is refused, left out or changed, by rule: units, momenta that are none, angles, empty objects."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger
from lookalike.datasets.jet_blocks import Block, Part, four_momenta, wrapped
from lookalike.errors import InputError, unknown
from lookalike.wording import counted

UNITS = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}
HARDEST = 7000.0  # GeV: half of the LHC's 14 TeV, more than which no jet can have
SOFTEST = 2.0  # GeV: a jet of less is none
GHOST = 1e-4  # GeV: particles of less were put in to measure areas, and are none
STEEPEST = 10.0  # |η|: no detector sees as far
HUGE = 1e9  # GeV: beyond any unit of anything, and before squares overflow
TURN = 2 * pi + 1e-3
SHOWN = 100  # objects that show what a file's columns are
LISTED = 1000  # objects of one reason that are named
REASONS = (
    "a momentum or angle that is not finite",
    "a negative pT",
    f"a pT above {HUGE:g} GeV",
    f"|η| above {STEEPEST:g}",
    "φ beyond a full turn",
    "no constituent",
)


def unit_of(part: Part, given: str | None, ledger: Ledger) -> str:
    """The unit of a part's momenta: as the file says, else as the option says, else GeV, which is then told."""
    names = {name.lower(): name for name in UNITS}
    if given is not None and given.lower() not in names:
        raise unknown("unit of momentum", given, UNITS)
    if part.unit is not None and part.unit.lower() not in names:
        raise InputError(f"{part.where} has momenta in {part.unit!r}; units of momentum are {', '.join(UNITS)}.")
    said = None if part.unit is None else names[part.unit.lower()]
    wanted = None if given is None else names[given.lower()]
    if said is not None and wanted is not None and said != wanted:
        raise InputError(f"{part.where} says that its momenta are in {said}, but --unit {wanted} was given.")
    if said is None and wanted is None:
        ledger.note("Momenta are taken to be in GeV, as nothing says otherwise; --unit MeV says so.")
    return said or wanted or "GeV"


def check_scale(block: Block, part: Part, unit: str, *, told: bool) -> None:
    """InputError where the momenta (in GeV by now) of most objects can only be of another unit.

    told : whether the option or the file says which unit they are in.
    """
    if not len(block):
        return
    p = four_momenta(replace(block, jet=None), 1)[:, 0]
    pt = np.bincount(block.of, block.pt, len(block)) / 2 if part.events else np.hypot(p[:, 1], p[:, 2])
    typical = float(np.median(pt))
    what = "half of all pT in an event" if part.events else "pT of a jet"
    if unit == "GeV" and not told and typical > HARDEST:
        raise InputError(
            f"The typical {what} in {part.where} is {typical:,.0f} if it is in GeV, more than the {HARDEST:,.0f} that "
            "the LHC's beams have; say --unit MeV if it is in MeV, or --unit GeV to insist."
        )
    if unit == "MeV" and typical < SOFTEST:
        raise InputError(
            f"The typical {what} in {part.where} is {typical:.3g} GeV if it is in MeV, too little for a jet; "
            "give --unit GeV if it is in GeV."
        )


def cleaned(block: Block, part: Part, ledger: Ledger) -> Block:
    """The objects that can be used, φ within (−π, π], particles without momentum and ghosts left out.

    InputError where more than half of a part's first block, or of SHOWN objects, cannot be used though they hold
    something: then the columns are others than was thought.
    """
    finite = np.isfinite(block.pt) & np.isfinite(block.eta) & np.isfinite(block.phi)
    ghost = finite & (block.pt >= 0) & (block.pt < GHOST)
    if ghosts := int((ghost & (block.pt > 0)).sum()):
        ledger.counts[f"constituents below {GHOST * 1000:g} MeV left out"] += ghosts
    steep, beyond = ~ghost & (np.abs(block.eta) > STEEPEST), ~ghost & (np.abs(block.phi) > TURN)
    faults = np.select([~finite, block.pt < 0, block.pt > HUGE, steep, beyond], range(5), len(REASONS))
    worst = np.full(len(block), len(REASONS))
    np.minimum.at(worst, block.of, faults)
    some = np.bincount(block.of, ~ghost, len(block)) > 0
    worst[~some & (worst == len(REASONS))] = REASONS.index("no constituent")
    _tell(block, part, worst, ledger)
    kept = block.particles(~ghost).objects(worst == len(REASONS))
    return replace(kept, phi=wrapped(kept.phi))


def _tell(block: Block, part: Part, worst: NDArray[np.integer], ledger: Ledger) -> None:
    bad = np.flatnonzero(worst < len(REASONS))
    odd = bad[worst[bad] != REASONS.index("no constituent")]  # an event may well have no jet
    if len(odd) > max(1, len(block) // 2) and (block.first == 0 or len(block) >= SHOWN):
        commonest = REASONS[int(np.bincount(worst[odd]).argmax())]
        raise InputError(
            f"{part.where}: {len(odd):,} of {counted(len(block), 'object')} from row {block.first} on cannot be used, "
            f"most with {commonest}: are these the numbers that were meant? --bands names them in stored order.",
            code="bad_file",
        )
    for place in bad.tolist():
        reason = REASONS[int(worst[place])]
        leave_out(f"{part.where} row {block.row[place]}", reason, ledger)


def leave_out(name: str, reason: str, ledger: Ledger) -> None:
    """An object left out by rule: counted, and named among the first of its reason."""
    count = f"objects left out: {reason}"
    if ledger.counts[count] < LISTED:
        ledger.drop(name, reason, count)
    else:
        ledger.counts[count] += 1
