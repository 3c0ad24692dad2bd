"""Whether the augmentations do what they state, judged from outside by what comes out of them.

Every statistical test compares thousands of measured draws with the stated distribution; ODDS is the probability that a
right augmentation fails one of them. The faults of the first release of the reference system each have their own kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.augmentations.domain import Domain
from lookalike.probes.phantoms import NARROWEST, Phantoms, distance, distance_from_uniform, limit
from lookalike.probes.published import Stated

Values = NDArray[np.float64]
ODDS = 1e-6
ALIKE = 2e-3  # by which two lengths may differ and be called equal
NEARLY_UNIFORM = 0.03

KINDS = {
    "dead": "has no effect on the pixels",
    "destructive": "leaves too little of the picture to tell whose copy it is",
    "uniform_draws": "draws from a uniform distribution, and not from the published fit",
    "distribution": "does not draw from the stated distribution",
    "unread": "does not read the object's own value in the catalog",
    "stretched": "does not treat both axes alike",
    "correlated": "draws the same for several bands, which are independent",
    "coefficients": "does not change the bands in the stated ratio",
    "colors": "gives the encoder other colors than the viewer shows",
}

OF_NUMBERS = {
    "dead": "has no effect on the numbers",
    "destructive": "leaves too little of the object to tell whose copy it is",
}  # the same of records and lists of particles


@dataclass(frozen=True)
class Check:
    """One test of one augmentation: `value` beyond `limit` fails it, and `kind` says what that means."""

    augmentation: str
    name: str
    kind: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit  # NaN fails


def galaxy_checks(domain: Domain, settings: Any, bands: tuple[str, ...], steps: Sequence[str]) -> list[Check]:
    """Tests of the galaxy augmentations among `steps`, in the published order."""
    phantoms = Phantoms(domain, settings, bands)
    tests = {
        "extinction": _extinction,
        "orientation": _orientation,
        "scaling": _scaling,
        "blur": _blur,
        "jitter": _jitter,
        "noise": _noise,
    }
    return [check for step, test in tests.items() if step in steps for check in test(phantoms)]


def _extinction(phantoms: Phantoms) -> Iterator[Check]:
    step: Any = phantoms.settings.extinction  # type: ignore[attr-defined]
    low, high = 0.0, 0.05  # mag, two tabulated values
    first, second = (phantoms.reddening(ebv, step.coefficients) for ebv in (low, high))  # (N, C)
    if np.isnan(first).all():  # no band reddens: it is dead, which the pixels say
        return
    difference = np.nanmedian(first - second)
    yield Check("extinction", "tabulated E(B−V) is taken off", "unread", _away(difference, high - low), 0.01)
    spread = np.nanmax(np.abs(first - np.nanmean(first, axis=1, keepdims=True)))
    yield Check("extinction", "one E(B−V) for all bands", "coefficients", float(spread), 1e-3)
    stated = Stated.of(step.ebv).quantiles()
    # Where the table is not read, something stands in for it.
    taken_off = [low] if _away(difference, high - low) <= 0.01 else [low, float(np.median(stated))]
    new = np.nanmean(first, axis=1)  # (N,)
    yield _drawn("extinction", "E(B−V)", new, [stated - old for old in taken_off], step.ebv.kind)


def _orientation(phantoms: Phantoms) -> Iterator[Check]:
    step: Any = phantoms.settings.orientation  # type: ignore[attr-defined]
    M, _ = phantoms.affine("orientation", 0)
    yield _both_axes("orientation", M)
    p = step.flip_probability
    if not step.rotate:
        for axis, name in enumerate(("columns", "rows")):
            share = float((M[:, axis, axis] < 0).mean())
            yield Check("orientation", f"share mirrored, {name}", "distribution", abs(share - p), limit(len(M), ODDS))
        return
    share = float((np.linalg.det(M) < 0).mean())
    yield Check("orientation", "share mirrored", "distribution", abs(share - 2 * p * (1 - p)), limit(len(M), ODDS))
    angle = np.arctan2(M[:, 0, 1], M[:, 0, 0])
    yield _drawn("orientation", "angle", angle, [np.linspace(-np.pi, np.pi, 20_000)], "uniform")


def _scaling(phantoms: Phantoms) -> Iterator[Check]:
    step: Any = phantoms.settings.scaling  # type: ignore[attr-defined]
    M, _ = phantoms.affine("scaling", 0)
    alike = _both_axes("scaling", M)
    yield alike
    if alike.passed:  # else the scale of one axis says nothing of the draws
        scale = 1 / np.sqrt(np.abs(np.linalg.det(M)))  # (N,)
        yield _drawn("scaling", "scale", scale, [np.linspace(step.low, step.high, 20_000)], "uniform")


def _jitter(phantoms: Phantoms) -> Iterator[Check]:
    pixels: int = phantoms.settings.jitter.pixels  # type: ignore[attr-defined]
    _, t = phantoms.affine("jitter", pixels)
    shifts = np.arange(-pixels, pixels + 1).astype(np.float64)
    for axis, name in enumerate("xy"):
        yield _drawn("jitter", f"shift in {name}", t[:, axis], [shifts], "uniform")


def _blur(phantoms: Phantoms) -> Iterator[Check]:
    settings: Any = phantoms.settings
    stated = {band: Stated.of(settings.blur.bands[band]).quantiles() for band in phantoms.bands}
    middle = float(np.median([np.median(values) for values in stated.values()]))
    widest = max(float(values[-1]) for values in stated.values())
    low, high = 0.3 * middle, 0.6 * middle  # σ_old in px, two tabulated values
    (across, along), (second, _) = (phantoms.blur(old, widest, settings.pixel_scale) for old in (low, high))
    seen = (across > 0) & (along > 0)
    uneven = np.abs(across / np.where(seen, along, 1) - 1)[seen].max(initial=0.0)
    yield Check("blur", "both axes alike", "stretched", float(uneven), 0.02)
    used = (across > 0) & (second > 0)
    difference = np.median((across**2 - second**2)[used]) if used.any() else high**2 - low**2
    yield Check("blur", "the object's own PSF is taken off", "unread", _away(difference, high**2 - low**2), 0.1)
    read = _away(difference, high**2 - low**2) <= 0.1
    for place, band in enumerate(phantoms.bands):
        olds = [low] if read else [0.0, settings.blur.measured.get(band, float(np.median(stated[band])))]
        expected = [_added(stated[band], old) for old in olds]
        expected = [np.where(values < NARROWEST, 0.0, values) for values in expected]
        kind = settings.blur.bands[band].kind
        yield _drawn("blur", f"PSF in {band}", across[:, place], expected, kind)
    yield from _independent("blur", across)


def _noise(phantoms: Phantoms) -> Iterator[Check]:
    settings: Any = phantoms.settings
    stated = {band: Stated.of(settings.noise.bands[band]).quantiles() for band in phantoms.bands}
    middle = float(np.median([np.median(values) for values in stated.values()]))
    low, high = 0.3 * middle, 0.6 * middle  # σ_old in stored units
    (first, pixels), (second, _) = (phantoms.noise(old, settings.pixel_scale) for old in (low, high))
    used = (first > 0) & (second > 0)
    difference = (first**2 - second**2)[used].mean() if used.any() else high**2 - low**2
    yield Check("noise", "the object's own noise is taken off", "unread", _away(difference, high**2 - low**2), 0.1)
    read = _away(difference, high**2 - low**2) <= 0.1
    # A σ measured from so many pixels scatters by itself.
    scatter = 1 + np.random.default_rng(0).standard_normal(20_000) / np.sqrt(2 * pixels)
    for place, band in enumerate(phantoms.bands):
        olds = [low] if read else [0.0, settings.noise.measured.get(band, float(np.median(stated[band])))]
        expected = [_added(stated[band], old) * scatter for old in olds]
        kind = settings.noise.bands[band].kind
        yield _drawn("noise", f"noise in {band}", first[:, place], expected, kind)
    yield from _independent("noise", first)


def _drawn(augmentation: str, what: str, sample: Values, stated: Sequence[Values], kind: str) -> Check:
    """Whether a sample follows one of the stated distributions, given as their quantiles."""
    # The stated quantiles are a sample themselves where they carry the measurement's scatter.
    bound = limit(len(sample), ODDS) + 0.01
    away = min(distance(sample, values) for values in stated)
    uniform = kind != "uniform" and away > bound and distance_from_uniform(sample) <= bound + NEARLY_UNIFORM
    return Check(augmentation, f"distribution of {what}", "uniform_draws" if uniform else "distribution", away, bound)


def _both_axes(augmentation: str, M: Values) -> Check:
    stretch = np.linalg.svd(M, compute_uv=False)  # (N, 2)
    uneven = float(np.abs(stretch[:, 0] / stretch[:, 1] - 1).max())
    return Check(augmentation, "both axes alike", "stretched", uneven, ALIKE)


def _independent(augmentation: str, sigma: Values) -> Iterator[Check]:
    if sigma.shape[1] > 1 and (sigma.std(axis=0) > 0).all():
        together = np.corrcoef(sigma.T) - np.eye(sigma.shape[1])
        value = float(np.abs(together).max())
        yield Check(augmentation, "bands independent", "correlated", value, correlation_limit(*sigma.shape))


def correlation_limit(n: int, bands: int, odds: float = ODDS) -> float:
    """What the largest correlation of n independent draws in several bands exceeds with odds below `odds`.

    A correlation is normal with a standard error of 1/√n, and any pair of bands, on either side, can be the largest;
    half the odds are kept for draws that are a little skew.
    """
    pairs = bands * (bands - 1) // 2
    return -NormalDist().inv_cdf(odds / 2 / (2 * pairs)) / sqrt(n)


def _added(new: Values, old: float) -> Values:
    """What is added in quadrature to bring σ_old to σ_new."""
    return np.sqrt(np.maximum(0.0, new * np.abs(new) - old**2))


def _away(value: Any, wanted: float) -> float:
    return abs(float(value) / wanted - 1)


def settings_checks(settings: Any, defaults: Any, steps: Sequence[str]) -> list[Check]:
    """Whether the numbers of a galaxy checkpoint, and this version's own defaults, are fits and not uniform ranges."""
    checks = []
    for name, whose in (("the checkpoint's settings", settings), ("the defaults", defaults)):
        for step in ("extinction", "blur", "noise"):
            part = getattr(whose, step)
            drawn = [part.ebv] if step == "extinction" else list(part.bands.values())
            if step in steps:
                uniform = sum(distribution.kind == "uniform" for distribution in drawn)
                checks.append(Check(step, f"{name} name a fit", "uniform_draws", float(uniform), 0.0))
    return checks
