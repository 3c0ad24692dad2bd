"""Scores of rankings against scikit-learn, against double loops with ties, and against hand-worked lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import decomposition, metrics, neighbors

from lookalike.probes import ranking
from lookalike.probes.bootstrap import estimate, mean_terms, means, r2_terms, r2s, resampled_sums
from lookalike.probes.principal import principal_components
from lookalike.probes.ranking import (
    average_precision,
    ndcg_at_k,
    neighbor_means,
    neighbor_votes,
    precision_at_k,
    r2,
    rankings,
    unit_vectors,
    weighted_mean,
)


def drawn(n: int = 120, classes: int = 4, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of few different directions, so that ties abound, and labels that go with them somewhat."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    vectors = random.integers(-2, 3, (n, 3)) + np.eye(classes, 3)[labels]
    vectors[:, 0] += 0.5  # none is zero
    return unit_vectors(vectors), labels


def slow_order(unit: NDArray[np.float32], query: int, left_out: list[int]) -> list[int]:
    """By the definition: falling similarity as float32, then row; without the query and what it may not find."""
    pairs = []
    for row in range(len(unit)):
        if row != query and row not in left_out:
            exact = sum(float(a) * float(b) for a, b in zip(unit[query], unit[row], strict=True))
            pairs.append((-float(np.float32(exact)), row))
    return [row for _, row in sorted(pairs)]


@pytest.mark.parametrize("cells", [1, 500, 1 << 20])
def test_rankings_are_those_of_a_double_loop(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(ranking, "CELLS", cells)
    monkeypatch.setattr(ranking, "BASE", 50)
    unit, _ = drawn()
    random = np.random.default_rng(1)
    left_out = [random.choice(120, 7, replace=False) for _ in range(120)]
    left_out[3] = np.array([3, 5])  # naming the query itself changes nothing
    queries = np.array([3, 0, 119, 57])
    for barred in (None, left_out):
        asked, orders = [], []
        for block in rankings(unit, queries, barred):
            asked += block.queries.tolist()
            orders += [row[:count].tolist() for row, count in zip(block.order, block.count, strict=True)]
        assert asked == queries.tolist()
        for query, order in zip(asked, orders, strict=True):
            expected = slow_order(unit, query, [] if barred is None else barred[query].tolist())
            similarity = np.array([unit[query].astype(float) @ unit[row].astype(float) for row in expected])
            assert sorted(order) == sorted(expected)
            # The order of a sum is free, so only similarities that differ by more than rounding must be in order.
            assert (np.diff([unit[query].astype(float) @ unit[row].astype(float) for row in order]) < 1e-6).all()
            assert order[0] in np.array(expected)[similarity > similarity[0] - 1e-6]


def test_ties_go_by_row() -> None:
    unit = unit_vectors(np.array([[1.0, 0], [2, 0], [0, 1], [3, 0], [-1, 0], [0, 5]]))
    (block,) = rankings(unit, np.arange(6))
    assert block.order[0].tolist() == [1, 3, 2, 5, 4, 0]
    assert block.order[5, :5].tolist() == [2, 0, 1, 3, 4]


def every_relevance(
    unit: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    (block,) = rankings(unit, np.arange(len(unit)))
    return (labels[block.order] == labels[:, None]) & block.candidate(), block.order


def test_ranked_scores_are_scikit_learns() -> None:
    unit, labels = drawn()
    relevant, order = every_relevance(unit, labels)
    count = np.full(len(unit), len(unit) - 1)
    precision, average, ndcg = precision_at_k(relevant, count, 10), average_precision(relevant), ndcg_at_k(relevant, 10)
    for query in range(len(unit)):
        rank = order[query, :-1]
        truth, score = labels[rank] == labels[query], -np.arange(len(rank), dtype=float)  # ties are broken by row
        assert average[query] == pytest.approx(metrics.average_precision_score(truth, score))
        assert ndcg[query] == pytest.approx(metrics.ndcg_score([truth], [score], k=10))
        assert precision[query] == pytest.approx(truth[:10].mean())


def test_without_ties_scikit_learn_ranks_by_similarity_itself() -> None:
    random = np.random.default_rng(3)
    unit, labels = unit_vectors(random.standard_normal((60, 8))), random.integers(0, 3, 60)
    relevant, _ = every_relevance(unit, labels)
    average, ndcg = average_precision(relevant), ndcg_at_k(relevant, 10)
    for query in range(60):
        others = np.delete(np.arange(60), query)
        truth, score = labels[others] == labels[query], unit[others].astype(float) @ unit[query]
        assert average[query] == pytest.approx(metrics.average_precision_score(truth, score))
        assert ndcg[query] == pytest.approx(metrics.ndcg_score([truth], [score], k=10))


def test_votes_and_means_are_scikit_learns_left_one_out() -> None:
    random = np.random.default_rng(4)
    unit, labels = unit_vectors(random.standard_normal((80, 6))), random.integers(0, 5, 80)
    values = random.standard_normal(80)
    (block,) = rankings(unit, np.arange(80))
    ks = (10, 1, 3, 20)
    votes = neighbor_votes(labels[block.order], block.count, ks, 5)
    predicted = neighbor_means(values[block.order], block.count, ks)
    for query in range(80):
        others = np.delete(np.arange(80), query)
        for place, k in enumerate(ks):
            options = {"n_neighbors": k, "metric": "cosine", "algorithm": "brute"}
            voting = neighbors.KNeighborsClassifier(**options).fit(unit[others], labels[others])
            assert votes[query, place] == voting.predict(unit[[query]])[0]
            averaging = neighbors.KNeighborsRegressor(**options).fit(unit[others], values[others])
            assert predicted[query, place] == pytest.approx(averaging.predict(unit[[query]])[0])


def test_r2_and_weighted_means_are_scikit_learns() -> None:
    random = np.random.default_rng(5)
    truth, weights = random.normal(1000, 1, 50), random.uniform(0, 3, 50)
    predicted = truth + random.standard_normal(50)
    expected = metrics.r2_score(truth, predicted, sample_weight=weights)
    assert r2(truth, predicted, weights) == pytest.approx(expected)
    assert r2s(resampled_sums(r2_terms(truth, predicted, weights), 5))[0] == pytest.approx(expected)
    right = predicted > truth
    accuracy = metrics.accuracy_score(np.ones(50, bool), right, sample_weight=weights)
    assert weighted_mean(right.astype(float), weights) == pytest.approx(accuracy)
    assert means(resampled_sums(mean_terms(right.astype(float), weights), 5))[0] == pytest.approx(accuracy)


def test_scores_are_those_of_a_double_loop_where_some_may_not_be_found() -> None:
    unit, labels = drawn(60, 3, seed=6)
    random = np.random.default_rng(7)
    left_out = [random.choice(60, random.integers(0, 55), replace=False) for _ in range(60)]
    (block,) = rankings(unit, np.arange(60), left_out)
    relevant = (labels[block.order] == labels[:, None]) & block.candidate()
    precision, average = precision_at_k(relevant, block.count, 10), average_precision(relevant)
    ndcg = ndcg_at_k(relevant, 10)
    votes = neighbor_votes(labels[block.order], block.count, (7,), 3)
    for query in range(60):
        order = [row for row in block.order[query].tolist() if row != query and row not in left_out[query]]
        assert order == block.order[query, : block.count[query]].tolist()
        same = [labels[row] == labels[query] for row in order]
        found = same[:10]
        assert precision[query] == pytest.approx(sum(found) / len(found))
        gains = sum(1 / np.log2(rank + 2) for rank, hit in enumerate(found) if hit)
        best = sum(1 / np.log2(rank + 2) for rank in range(min(10, sum(same))))
        at_hits = [sum(same[: rank + 1]) / (rank + 1) for rank, hit in enumerate(same) if hit]
        if at_hits:
            assert ndcg[query] == pytest.approx(gains / best)
            assert average[query] == pytest.approx(sum(at_hits) / len(at_hits))
        else:
            assert np.isnan(ndcg[query])
            assert np.isnan(average[query])
        heard = [int(labels[row]) for row in order[:7]]
        assert votes[query, 0] == min(range(3), key=lambda c: (-heard.count(c), c))


def test_a_list_worked_out_by_hand() -> None:
    relevant, count = np.array([[True, False, True, False], [False] * 4]), np.array([4, 4])
    assert precision_at_k(relevant, count, 3).tolist() == [2 / 3, 0]
    assert average_precision(relevant)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert ndcg_at_k(relevant, 3)[0] == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))
    assert np.isnan(average_precision(relevant)[1])
    assert neighbor_votes(np.array([[2, 1, 1, 2]]), np.array([4]), (1, 2, 3, 4), 3).tolist() == [[2, 1, 1, 1]]
    means = neighbor_means(np.array([[1.0, 3, 8, 99]]), np.array([3]), (1, 2, 4))
    assert means.tolist() == [[1, 2, 4]]  # the fourth is no candidate
    assert np.isnan(neighbor_means(np.array([[1.0]]), np.array([0]), (1,))).all()


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 40))
def test_scores_lie_between_0_and_1_and_a_perfect_list_has_1(hits: list[bool], k: int) -> None:
    relevant, count = np.array([hits]), np.array([len(hits)])
    for score in (precision_at_k(relevant, count, k), average_precision(relevant), ndcg_at_k(relevant, k)):
        assert np.isnan(score[0]) or 0 <= score[0] <= 1
    if any(hits):
        perfect = np.sort(relevant)[:, ::-1]
        assert average_precision(perfect)[0] == pytest.approx(1)
        assert ndcg_at_k(perfect, k)[0] == pytest.approx(1)
        assert average_precision(relevant)[0] <= 1 + 1e-12


def test_a_zero_vector_stays_zero_and_the_rest_get_length_1() -> None:
    unit = unit_vectors(np.array([[0.0, 0], [3, 4], [1e-100, 0]]))
    np.testing.assert_allclose(unit, [[0, 0], [0.6, 0.8], [1, 0]], atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (30, 31)])
def test_principal_components_are_those_of_the_singular_values(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(8)
    pixels = (random.standard_normal((shape[0], 6)) @ random.standard_normal((6, shape[1])) + 5).astype(np.float32)
    pixels += 0.01 * random.standard_normal(shape).astype(np.float32)
    found = principal_components(pixels.copy(), 6)
    centered = pixels.astype(float) - pixels.mean(axis=0, dtype=float)
    _, values, axes = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(found.axes * axes[:6].T, axis=0)), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.scores(pixels), axis=0), values[:6], rtol=1e-4)


def test_principal_components_are_scikit_learns() -> None:
    pixels = np.random.default_rng(9).standard_normal((50, 20)).astype(np.float32) * np.arange(1, 21, dtype=np.float32)
    expected = decomposition.PCA(5, svd_solver="full").fit_transform(pixels.astype(float))
    np.testing.assert_allclose(
        np.abs(principal_components(pixels.copy(), 5).scores(pixels)), np.abs(expected), atol=1e-2
    )


def test_equal_pictures_have_no_component() -> None:
    assert principal_components(np.full((5, 7), 3, np.float32), 4).axes.shape[1] == 0


def test_resampled_sums_are_sums_of_drawn_rows_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike.probes import bootstrap

    terms = np.random.default_rng(10).standard_normal((30, 2))
    whole = resampled_sums(terms, 40, seed=1)
    monkeypatch.setattr(bootstrap, "CELLS", 70)  # two resamples at a time
    np.testing.assert_allclose(resampled_sums(terms, 40, seed=1), whole)
    random = np.random.default_rng(1)
    for resample in whole[1:]:
        np.testing.assert_allclose(resample, terms[random.integers(0, 30, 30)].sum(axis=0))
    assert not np.array_equal(resampled_sums(terms, 40, seed=2), whole)


def test_equal_scores_differ_by_exactly_nothing() -> None:
    values, weights = np.random.default_rng(11).uniform(size=40), np.ones(40)
    sums = resampled_sums(np.hstack([mean_terms(values, weights), mean_terms(values + 0.25, weights)]), 200)
    apart = estimate(means(sums[:, 2:]) - means(sums[:, :2]))
    assert (apart.value, apart.low, apart.high) == pytest.approx((0.25, 0.25, 0.25))


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """400 samples of 80: 95 % intervals miss 0.5 in 20 on average; over 45 would happen once in a million."""
    random = np.random.default_rng(12)
    missed = {"mean": 0, "r2": 0}
    for seed in range(400):
        truth = random.standard_normal(80)
        predicted = 0.5 * truth + random.normal(0, 0.5, 80)  # R² = 1 − (0.25 + 0.25) = 0.5
        hits = (random.uniform(size=80) < 0.5).astype(float)
        mean = estimate(means(resampled_sums(mean_terms(hits, np.ones(80)), 300, seed)))
        share = estimate(r2s(resampled_sums(r2_terms(truth, predicted, np.ones(80)), 300, seed)))
        missed["mean"] += not mean.low <= 0.5 <= mean.high
        missed["r2"] += not share.low <= 0.5 <= share.high
    assert 5 <= missed["mean"] <= 45, missed
    assert 5 <= missed["r2"] <= 55, missed  # percentile intervals of a ratio are a little short


def test_an_undefined_resample_is_left_out() -> None:
    truth, ones = np.array([1.0, 2.0]), np.ones(2)
    drawn = r2s(resampled_sums(r2_terms(truth, truth, ones), 50))
    assert np.isnan(drawn).any()  # both draws the same query
    assert estimate(drawn).interval == [1, 1]


@pytest.mark.parametrize("outlier", [1e10, 1e14])
def test_an_outlier_that_weighs_nothing_takes_no_digits(outlier: float) -> None:
    rng = np.random.default_rng(0)
    truth, weights = rng.normal(size=200), np.ones(200)
    predicted = truth + 0.5 * rng.normal(size=200)
    truth[0], weights[0] = outlier, 1e-40
    predicted[0] = outlier
    found = r2s(resampled_sums(r2_terms(truth, predicted, weights), 5))[0]
    assert found == pytest.approx(r2(truth, predicted, weights))
