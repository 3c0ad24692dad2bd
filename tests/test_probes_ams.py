"""The significance of selections, against the challenge's formula by hand, its own numbers, and a search by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lookalike.probes.ams import BACKGROUND, SIGNAL, ams, ams_terms, amses, threshold, whole


def slow(s: float, b: float) -> float:
    """Equation 7 of the challenge's documentation."""
    return math.sqrt(2 * ((s + b + 10) * math.log(1 + s / (b + 10)) - s))


def test_it_is_the_formula() -> None:
    for s, b in ((1.0, 0.0), (100, 1000), (230.5, 4200.25), (SIGNAL, BACKGROUND)):
        assert ams(s, b) == pytest.approx(slow(s, b), rel=1e-9)


def test_cases_by_hand() -> None:
    """s/√(b + b_r) where s is small beside b; with b = 0 and s = 10, √(2·(20·ln 2 − 10)) = 2.7795…"""
    assert ams(10, 0) == pytest.approx(2.7795, abs=1e-4)
    assert ams(1, 9990) == pytest.approx(0.01, rel=1e-4)
    # All events of the challenge selected: the spec's sums give 1.0791, less than any contestant's.
    assert ams(SIGNAL, BACKGROUND) == pytest.approx(SIGNAL / math.sqrt(BACKGROUND + 10), rel=1e-3)
    assert ams(SIGNAL, BACKGROUND) == pytest.approx(1.0791, abs=1e-4)
    # As much signal as the winner would have needed among 5,000 of background for 3.80581.
    assert 271 < next(s for s in range(1, 700) if ams(s, 5000) >= 3.80581) < 274


def test_less_than_nothing_is_nothing() -> None:
    """Signed weights may sum up to less than 0: no discovery, and no less background than none."""
    assert ams(-3, 100) == 0
    assert ams(5, -20) == ams(5, 0)
    assert ams(0, 0) == 0


def test_a_part_has_the_sums_of_the_whole() -> None:
    signal = np.array([True, False, True, False])
    scaled = whole(signal, np.array([1.0, 3, 2, -1]))
    assert scaled[signal].sum() == pytest.approx(SIGNAL)
    assert scaled[~signal].sum() == pytest.approx(BACKGROUND)
    assert scaled[3] < 0


def test_a_selection_without_enough_background_is_luck() -> None:
    """Three signal events with votes above all others would have AMS from b = 0; of few events all are selected."""
    signal = np.arange(100) < 50
    votes = np.where(np.arange(100) < 3, 1.0, 0.5)
    assert threshold(votes, signal, np.ones(100))[0] == 0.5
    assert threshold(np.array([0.9, 0.1, 0.2]), np.array([True, False, False]), np.ones(3))[0] == 0.1


def test_the_threshold_is_the_best_of_all_and_sums_give_its_significance() -> None:
    random = np.random.default_rng(0)
    signal = random.random(300) < 0.4
    votes = np.round(random.normal(signal, 1.0), 1)
    weights = np.where(random.random(300) < 0.1, -0.3, 1.0) * random.uniform(0.5, 2, 300)
    scale = SIGNAL / weights[signal].sum(), BACKGROUND / weights[~signal].sum()
    found = {}
    for least in set(votes.tolist()):
        s = sum(weights[i] * scale[0] for i in range(300) if votes[i] >= least and signal[i])
        b = sum(weights[i] * scale[1] for i in range(300) if votes[i] >= least and not signal[i])
        if sum(votes[i] >= least and not signal[i] for i in range(300)) >= 25:
            found[least] = slow(max(s, 0), max(b, 0))
    best = max(found.values())
    least, value = threshold(votes, signal, weights)
    assert value == pytest.approx(best)
    assert least == max(each for each in found if found[each] > best * (1 - 1e-12))
    terms = ams_terms(votes >= least, signal, weights)
    assert amses(terms.sum(0, keepdims=True))[0] == pytest.approx(best)
    assert np.isnan(amses(terms[signal].sum(0, keepdims=True))[0])  # no background was drawn
