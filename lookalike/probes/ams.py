"""The score of the ATLAS Higgs challenge, the approximate median significance, of events that neighbors vote for.

Adam-Bourdarios et al. 2014, "Learning to discover: the Higgs boson machine learning challenge", equation 7:
AMS = √(2·((s + b + b_r)·ln(1 + s/(b + b_r)) − s)), with s and b the weights of the selected signal and background and
b_r = 10. Weights are scaled so that a part of the data has the sums of the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REGULAR = 10.0  # b_r
SIGNAL, BACKGROUND = 691.988607712, 410999.847  # sums of all weights of the challenge's 2012 data
CLASSES = ("b", "s")
FEWEST = 25  # background events of a selection, below which its b is not measured but luck


def ams(s: Any, b: Any) -> Floats:
    """The approximate median significance of selected sums of weights s and b (any shapes that fit), in σ.

    Signed weights may leave less than nothing: of signal that is no discovery, 0; of background none at all, b = 0.
    """
    s, b = np.maximum(s, 0.0), np.maximum(b, 0.0) + REGULAR
    # (s + b)·ln(1 + s/b) − s, whose rounding may leave less than 0 where s is small.
    found: Floats = np.sqrt(2 * np.maximum((s + b) * np.log1p(s / b) - s, 0.0))
    return found


def whole(signal: NDArray[np.bool_], weights: Floats) -> Floats:
    """Weights (Q,) scaled so that signal and background have the sums of the whole challenge."""
    scaled: Floats = weights * np.where(signal, SIGNAL / weights[signal].sum(), BACKGROUND / weights[~signal].sum())
    return scaled


def threshold(votes: Floats, signal: NDArray[np.bool_], weights: Floats) -> tuple[float, float]:
    """The least vote (Q,) to select by that gives the largest AMS, and that AMS; of equals the higher one.

    Only selections that keep FEWEST events of background, or all there are, are looked at.
    """
    values, place = np.unique(-votes, return_inverse=True)  # falling votes
    scaled = whole(signal, weights)
    s, b = (np.bincount(place, scaled * of, len(values)).cumsum() for of in (signal, ~signal))
    kept = np.bincount(place, ~signal, len(values)).cumsum()
    found = np.where(kept >= min(FEWEST, np.count_nonzero(~signal)), ams(s, b), -1.0)
    best = int(found.argmax())
    return float(-values[best]), float(found[best])


def ams_terms(selected: NDArray[np.bool_], signal: NDArray[np.bool_], weights: Floats) -> Floats:
    """What each event adds to the sums that AMS is made of, (Q, 4): selected signal and background, and all of each."""
    return np.stack([weights * part for part in (selected & signal, selected & ~signal, signal, ~signal)], axis=1)


def amses(sums: Floats) -> Floats:
    """The AMS (1 + resamples,) of the sums of `ams_terms`; NaN where a class has no weight left."""
    s, b, all_s, all_b = sums.T
    there = (all_s > 0) & (all_b > 0)
    parts = (
        part * full / np.where(there, every, 1) for part, full, every in ((s, SIGNAL, all_s), (b, BACKGROUND, all_b))
    )
    return np.where(there, ams(*parts), np.nan)
