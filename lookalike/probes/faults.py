"""What is wrong with a checkpoint's augmentations, as flags: one for each kind of fault, naming the augmentations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.about import About
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.preprocess import Preprocess
from lookalike.probes.checks import KINDS, OF_NUMBERS, Check, galaxy_checks, settings_checks
from lookalike.probes.colors import color_checks
from lookalike.probes.published import EBV, NOISE, PSF, Stated
from lookalike.samples import Samples
from lookalike.ssl.batches import Batches
from lookalike.ssl.checkpoint import CheckpointConfig

DEAD = 1e-3  # of a picture's own contrast
DEAD_NUMBERS = 1e-6  # of a number's spread: a hit is measured to a millionth of how far hits lie apart
DESTROYED = 0.75  # half-way between no better than chance (0.5) and always ahead (1)
READ = 1000  # objects whose catalog values are compared
LEGACY = About(domain="galaxy", bands=("g", "r", "z"), unit="nanomaggies", pixel_scale=0.262)


@dataclass(frozen=True)
class Flag:
    """One kind of fault (a key of checks.KINDS), the augmentations that have it, and a sentence with the numbers."""

    kind: str
    augmentations: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Judged:
    """The tests made of the augmentations themselves, and what could not be tested."""

    checks: list[Check]
    notes: list[str]


def judged(
    domain: Domain,
    samples: Samples,
    rows: NDArray[np.int64],
    config: CheckpointConfig,
    settings: Any,
    steps: Sequence[str],
) -> Judged:
    """Test the steps that are on against what is stated of them, and the encoder's input against the viewer."""
    about, notes = samples.about, []
    seen = config.preprocess
    checks = color_checks(domain, seen, about) if isinstance(seen, Preprocess) else []
    if not checks and isinstance(seen, Preprocess):
        notes.append("colors: not compared, since these data are drawn with a stretch of each picture's own.")
    if domain.name != "galaxy":
        notes.append(
            f"draws: not compared with a distribution, which is done for the domain galaxy, not {domain.name}."
        )
        return Judged(checks, notes)
    defaults, _ = domain.settings(LEGACY, 152, frozenset())
    checks += settings_checks(settings, defaults, steps)
    checks += galaxy_checks(domain, settings, about.bands, steps)
    checks += _columns_read(domain, samples, rows, settings)
    if "extinction" in steps and "ebv" not in samples.columns:
        notes.append("extinction: the samples have no column ebv; no object's own E(B−V) is taken off.")
    return Judged(checks, notes + _other_numbers(settings, steps))


def _columns_read(domain: Domain, samples: Samples, rows: NDArray[np.int64], settings: Any) -> list[Check]:
    """Whether training's own reader hands the augmentations what the catalog holds."""
    names = domain.columns(settings, samples.about.bands, frozenset(samples.columns))
    if not names:
        return []
    some = rows[:READ]
    _, catalog = Batches(samples, names, torch.device("cpu")).fetch(some)
    checks = []
    for name in names:
        step = {"ebv": "extinction", "psfsize": "blur", "psfdepth": "noise"}[name.split("_")[0]]
        held, given = samples.column(name)[some].astype(np.float64), catalog[name].numpy()
        differ = float((~((held == given) | (np.isnan(held) & np.isnan(given)))).mean())
        checks.append(Check(step, f"column {name} is read", "unread", differ, 0.0))
    return checks


def _other_numbers(settings: Any, steps: Sequence[str]) -> list[str]:
    """A note for each step whose lognormal is one of the published bands' but has other numbers."""
    notes = []
    for step, published in (("extinction", {"": EBV}), ("blur", PSF), ("noise", NOISE)):
        if step not in steps:
            continue
        part = getattr(settings, step)
        drawn = {"": part.ebv} if step == "extinction" else part.bands
        bands = [band for band, wanted in published.items() if band in drawn and Stated.of(drawn[band]) != wanted]
        if bands:
            notes.append(
                f"{step}: its numbers are not the published ones{' in ' if bands[0] else ''}{', '.join(bands)}."
            )
    return notes


def flags_of(
    change: Mapping[str, float],
    separation: Mapping[str, float],
    checks: Sequence[Check],
    steps: Sequence[str],
    *,
    of_numbers: bool = False,
) -> list[Flag]:
    """One flag for each kind of fault.

    change     : how much each augmentation changes the pixels (of_numbers: the numbers); below DEAD (DEAD_NUMBERS) it
                 is dead, and what else is wrong with its draws follows from that.
    separation : how often the own original is more similar than another object's, under the best of all descriptions;
                 below DESTROYED the augmentation is destructive. “All” is named only where no single one is.
    """
    least, over = (DEAD_NUMBERS, "spread") if of_numbers else (DEAD, "contrast")
    kinds = KINDS | (OF_NUMBERS if of_numbers else {})
    dead = [step for step in steps if change[step] < least]
    destructive = [step for step in steps if step not in dead and separation[step] < DESTROYED]
    if not destructive and separation.get("all", 1.0) < DESTROYED:
        destructive = ["all"]
    flags = []
    if dead:
        numbers = ", ".join(f"{step} changes them by {change[step]:.1e} of the {over}" for step in dead)
        flags.append(Flag("dead", tuple(dead), f"{_names(dead)}: {kinds['dead']} ({numbers}; {least:g} is expected)."))
    if destructive:
        numbers = ", ".join(f"{step}: {separation[step]:.3f}" for step in destructive)
        says = f"an own original is ahead of another's too seldom under every description ({numbers}; {DESTROYED:g} is"
        flags.append(
            Flag("destructive", tuple(destructive), f"{_names(destructive)}: {kinds['destructive']}; {says} expected).")
        )
    failed = [check for check in checks if not check.passed and check.augmentation not in dead]
    for kind in dict.fromkeys(check.kind for check in failed):
        of_kind = [check for check in failed if check.kind == kind]
        names = tuple(dict.fromkeys(check.augmentation for check in of_kind))
        numbers = "; ".join(
            f"{check.augmentation}, {check.name}: {check.value:.3g} over {check.limit:.3g}" for check in of_kind
        )
        flags.append(Flag(kind, names, f"{_names(names)}: {KINDS[kind]} ({numbers})."))
    return flags


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)
