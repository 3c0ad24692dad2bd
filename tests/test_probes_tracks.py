"""The scores of the TrackML challenge on cases worked out by hand, and against a slow definition."""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import InputError
from lookalike.probes.tracks import matched, throughput_score, track_score


def slow_score(track: list[int], particle: list[int], weight: list[float]) -> float:
    """One track at a time, as the rules are written."""
    total, score = math.fsum(weight), 0.0
    for number in set(track) - {-1}:
        mine = [hit for hit, each in enumerate(track) if each == number]
        most, shared = Counter(particle[hit] for hit in mine).most_common(1)[0]
        if most != 0 and shared > len(mine) / 2 and shared > particle.count(most) / 2:
            score += sum(weight[hit] for hit in mine if particle[hit] == most) / total
    return score


def score(track: list[int], particle: list[int], weight: list[float] | None = None) -> float:
    return track_score(np.array(track), np.array(particle), np.array(weight or [1.0] * len(track)))


A, B = [7] * 4, [9] * 6  # two particles, of 4 and 6 hits


@pytest.mark.parametrize(
    ("track", "particle", "wanted"),
    [
        ([1] * 4 + [2] * 6, A + B, 1.0),  # perfect
        ([5] * 4 + [0] * 6, A + B, 1.0),  # the tracks' numbers mean nothing
        ([1] * 10, A + B, 0.6),  # merged: the larger particle has more than half
        ([1] * 10, [7] * 5 + [9] * 5, 0.0),  # merged halves
        ([1, 1, 2, 2, 3, 3, 3, 3, 3, 3], A + B, 0.6),  # exactly half of a particle in each of two tracks
        ([1, 1, 1, 2, 3, 3, 3, 3, 3, 3], A + B, 0.9),  # three of four hits; the fourth is lost
        ([1, 1, 1, 1, 1, 1, 1, 1, 2, 2], [7] * 4 + [8] * 4 + [9] * 2, 0.2),  # exactly half of a track's hits
        ([-1] * 4 + [2] * 6, A + B, 0.6),  # hits of no track
        ([-1] * 10, A + B, 0.0),
        ([1] * 4 + [2] * 6, [0] * 4 + B, 0.6),  # noise is no particle
        ([1, 1, 1, 1, 1], [7, 7, 7, 0, 0], 0.6),  # noise in a track that still counts
        ([1, 1, 1, 1, 1, 1], [7, 7, 7, 0, 0, 0], 0.0),  # and in one that does not
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),  # single hits
        (list(range(10)), A + B, 0.0),  # every hit on its own
    ],
)
def test_cases_by_hand(track: list[int], particle: list[int], wanted: float) -> None:
    assert score(track, particle) == pytest.approx(wanted)


def test_weights_are_those_of_the_shared_hits_and_only_their_proportions_matter() -> None:
    track, particle, weight = [1, 1, 1, 2, 2, 2], [7, 7, 7, 7, 9, 9], [5.0, 1, 1, 2, 0, 1]
    assert score(track, particle, weight) == pytest.approx(0.7 + 0.1)
    assert score(track, particle, [3 * w for w in weight]) == pytest.approx(0.8)
    found = matched(np.array(track), np.array(particle), np.array(weight))
    assert found.particle.tolist() == [7, 9]
    assert (found.hits.tolist(), found.shared.tolist(), found.made.tolist()) == ([3, 3], [3, 2], [4, 2])


def test_random_tracks_are_worth_next_to_nothing() -> None:
    """1,000 particles of 10 hits in as many random tracks: that any counts has a chance below 1e-9."""
    random = np.random.default_rng(0)
    particle = np.repeat(np.arange(1, 1001), 10)
    assert track_score(random.integers(0, 1000, 10_000), particle, np.ones(10_000)) == 0


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4), st.floats(0.01, 5)), min_size=1, max_size=25))
def test_it_is_its_definition(hits: list[tuple[int, int, float]]) -> None:
    track, particle, weight = (list(each) for each in zip(*hits, strict=True))
    assert score(track, particle, weight) == pytest.approx(slow_score(track, particle, weight), abs=1e-12)


def test_the_real_events_truth_is_perfect_and_its_weights_are_normalized(shared_data: Path) -> None:
    file = shared_data / "trackml_small" / "event000000001-truth.csv.gz"
    if not file.exists():
        pytest.skip("no event of the TrackML challenge")
    with gzip.open(file, "rt") as lines:
        rows = list(csv.DictReader(lines))
    # The numbers of particles have more digits than a float64.
    particle = np.array([int(row["particle_id"]) for row in rows])
    weight = np.array([float(row["weight"]) for row in rows])
    assert track_score(particle, particle, weight) == pytest.approx(1.0)
    # Dealt out to three tracks each, no particle of three hits and more has most of them in one.
    number, made = np.unique(particle, return_inverse=True, return_counts=True)[1:]
    thirds = np.empty(len(rows), np.int64)
    thirds[np.argsort(particle, kind="stable")] = np.arange(len(rows)) % 3
    large = (made[number] > 2) & (particle != 0)
    assert track_score(number * 3 + thirds, particle, weight * large) == 0


def test_the_throughput_score_is_the_published_one() -> None:
    assert throughput_score(0.944, 0.56) == pytest.approx(1.1727, abs=2e-3)
    assert throughput_score(0.944, 0.56) == pytest.approx(math.sqrt(math.log(1 + 600 / 0.56) * 0.444**2))
    assert throughput_score(0.5, 1.0) == throughput_score(0.3, 1.0) == throughput_score(0.9, 600.0) == 0
    assert throughput_score(0.9, 1.0) > throughput_score(0.9, 2.0) > throughput_score(0.8, 2.0) > 0


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(InputError, match=r"but \(2,\), \(3,\) and \(2,\)"):
        track_score(np.zeros(2, int), np.zeros(3, int), np.ones(2))
    with pytest.raises(InputError, match="whole, but float64"):
        track_score(np.zeros(2), np.zeros(2, int), np.ones(2))
    for bad in ([1.0, -1], [math.nan, 1], [0.0, 0]):
        with pytest.raises(InputError, match="Weights of hits"):
            track_score(np.zeros(2, int), np.ones(2, int), np.array(bad))
    with pytest.raises(InputError, match="between 0 and 1"):
        throughput_score(1.2, 1.0)
    with pytest.raises(InputError, match="above 0 s"):
        throughput_score(0.9, 0.0)


def test_weights_of_any_size_count_by_their_proportions() -> None:
    track, particle = np.array([0, 0, 0, 1, 1]), np.array([7, 7, 7, 8, 8])
    for size in (1e308, 1e-308):
        assert track_score(track, particle, np.full(5, size)) == pytest.approx(1.0)
