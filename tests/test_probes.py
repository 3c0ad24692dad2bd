"""Scores and hand-made baselines against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from lookalike.probes.features import color_histogram, hand_features, radial_profile, standardized
from lookalike.probes.retrieval import found_again, share
from lookalike.proportions import wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 7), (10, 10), (450, 1000)])
def test_the_interval_is_wilsons(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    share = wilson(hits, n)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_self_retrieval_counts_by_hand() -> None:
    stored = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    copies = np.array([[2.0, 0.1], [1.0, 1.1], [0.9, 1.0], [-1.0, 0.0]])  # the second looks like the third
    assert found_again(stored, copies).tolist() == [True, False, True, True]
    left_out = [np.array([], int), np.array([2]), np.array([], int), np.array([], int)]
    assert found_again(stored, copies, left_out).all()


def test_a_tie_is_a_miss() -> None:
    assert not found_again(np.ones((3, 2)), np.ones((3, 2))).any()


def test_self_retrieval_equals_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((700, 5))
    copies = stored + rng.standard_normal((700, 5))
    left_out = [rng.choice(np.delete(np.arange(700), row), 5, replace=False) for row in range(700)]
    hits = []
    for i in range(700):
        cosine = [q @ copies[i] / np.linalg.norm(q) / np.linalg.norm(copies[i]) for q in stored]
        rivals = [cosine[j] for j in range(700) if j != i and j not in left_out[i]]
        hits.append(cosine[i] > max(rivals))
    found = found_again(stored, copies, left_out)
    assert found.tolist() == hits
    assert (share(found).hits, share(found).n) == (sum(hits), 700)


def test_hand_features_do_not_see_quarter_turns_and_flips() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 9, 9)).astype(np.uint8)
    for turned in (np.rot90(images, axes=(2, 3)), images[..., ::-1]):
        np.testing.assert_allclose(hand_features(turned), hand_features(images), atol=1e-12)


def test_the_radial_profile_is_the_mean_of_each_ring() -> None:
    y, x = np.mgrid[:8, :8]
    ring = np.hypot(y - 3.5, x - 3.5).astype(int)
    image = np.where(ring < 4, ring * 10, 99)[None, None]
    np.testing.assert_allclose(radial_profile(image), [[0, 10, 20, 30]])


def test_the_histogram_counts_every_pixel_inside_once() -> None:
    image = np.zeros((1, 2, 8, 8), np.uint8)
    image[0, 1] = 255
    counts = color_histogram(image).reshape(2, 16)
    assert counts[0, 0] == counts[1, 15] == 1
    assert counts.sum() == 2


def test_standardizing_uses_the_stored_set_alone() -> None:
    stored, queries = standardized(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 6.0]]))
    np.testing.assert_array_equal(stored, [[-1, 0], [1, 0]])
    np.testing.assert_array_equal(queries, [[0, 1]])
