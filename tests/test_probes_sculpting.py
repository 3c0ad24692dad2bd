"""Mass sculpting: seen where the similarity knows the mass, not seen where it does not, beside the window's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.errors import InputError
from lookalike.indexer.index import build_index
from lookalike.probes.sculpting import as_json, as_text, draw, measure

Write = Callable[..., tuple[Path, list[Path]]]


def indexed(vector_set: Write, folder: Path, vectors: Any, columns: dict[str, Any], window: str | None) -> Path:
    embeddings, samples = vector_set(vectors, columns)
    build_index(embeddings, samples, folder / "index", k=20, window=window, quiet=True)
    return folder / "index"


@pytest.fixture
def drawn() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """600 objects: vectors that know the mass, and columns mass, pt (which goes with it) and free."""
    rng = np.random.default_rng(0)
    mass = rng.uniform(100, 200, 600)
    angle = (mass - 100) / 100 * 1.5
    vectors = np.stack([np.cos(angle), np.sin(angle), rng.normal(0, 0.02, 600)], axis=1).astype(np.float32)
    columns = {"mass": mass, "pt": mass + rng.normal(0, 20, 600), "free": rng.normal(size=600)}
    return vectors, columns


def test_a_similarity_that_knows_the_mass_sculpts_it(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    found = measure(indexed(vector_set, tmp_path, vectors, columns, None), "mass")
    assert found.neighbors.value > 0.99
    assert found.window.low < 0 < found.window.high
    assert found.excess.low > 0.8
    assert found.queries == 600
    for each in found.bins:
        assert each.queries == 60
        assert each.low - 5 < each.neighbors[1] < each.high + 5
        assert 120 < each.window[1] < 180


def test_a_similarity_that_does_not_know_a_column_leaves_it(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    found = measure(indexed(vector_set, tmp_path, vectors, columns, None), "free", k=20)
    assert found.excess.low < 0 < found.excess.high


def test_what_the_window_does_is_no_sculpting(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    """Vectors at random within a window on pt, which goes with the mass: both find the mass alike."""
    _, columns = drawn
    vectors = np.random.default_rng(1).normal(size=(600, 8)).astype(np.float32)
    folder = indexed(vector_set, tmp_path, vectors, columns, "pt:5")
    found = measure(folder, "mass")
    assert found.window.value > 0.6
    assert abs(found.excess.value) < 0.05
    assert measure(folder, "pt").notes
    assert "pt ± 5" in as_text(found)


def test_random_objects_are_of_the_window_and_never_the_query(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    from lookalike.indexer.store import Index
    from lookalike.probes.sculpting import _pairs

    vectors, columns = drawn
    index = Index(indexed(vector_set, tmp_path, vectors, columns, "mass:3"))
    mass = columns["mass"]
    of, found, other = _pairs(index, index.open_samples(), mass, 20, 600, np.random.default_rng(0))
    for each in (found, other):
        assert (np.abs(mass[of] - mass[each]) <= 3).all()
        assert (of != each).all()


def test_undefined_values_take_no_part(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    holes = columns["mass"].copy()
    holes[::3] = np.nan
    found = measure(indexed(vector_set, tmp_path, vectors, columns | {"holes": holes}, None), "holes")
    assert 390 <= found.queries <= 400  # a few have no pair of which both have a value
    assert np.isfinite([each.neighbors for each in found.bins]).all()


def test_queries_count_by_their_weights() -> None:
    """A weight of 2 is an event twice, one of -1 takes away what an event of 1 adds; no weight, no part."""
    from lookalike.probes.sculpting import _correlations

    rng = np.random.default_rng(3)
    x, near, other = rng.normal(size=(3, 50))
    near += x
    twice = np.arange(50) % 3 == 0
    expected = [np.corrcoef(np.append(x, x[twice]), np.append(each, each[twice]))[0, 1] for each in (near, other)]
    found = _correlations(x, near, other, 1.0 + twice, 50, 0)
    assert [each.value for each in found] == pytest.approx([*expected, expected[0] - expected[1]])
    gone = [np.append(each, each[twice]) for each in (x, near, other)]  # those once more, with the opposite weight
    rest = np.append(np.ones(50), -np.ones(int(twice.sum())))
    expected = [np.corrcoef(x[~twice], each[~twice])[0, 1] for each in (near, other)]
    found = _correlations(*gone, rest, 50, 0)
    assert [each.value for each in found] == pytest.approx([*expected, expected[0] - expected[1]])


def test_report_and_plot(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    folder = indexed(vector_set, tmp_path, vectors, columns, None)
    found = measure(folder, "mass", max_queries=100)
    assert found.queries == 100
    assert measure(folder, "mass", max_queries=100).excess == found.excess
    read = json.loads(json.dumps(as_json(found)))
    assert read["neighbors"]["value"] == pytest.approx(found.neighbors.value)
    assert len(read["bins"]) == len(found.bins)
    draw(found, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 10_000


@pytest.mark.parametrize("window", [None, "pt:30"])
def test_the_plot_says_what_neighbors_are_compared_with(
    vector_set: Write, tmp_path: Path, drawn: Any, window: str | None
) -> None:
    vectors, columns = drawn
    found = measure(indexed(vector_set, tmp_path, vectors, columns, window), "mass", resamples=20)
    for simulated in (False, True):
        draw(replace(found, simulated=simulated), tmp_path / "s.svg")
        text = " ".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "s.svg").read_text()))  # what the letters spell
        assert ("objects of the window: median and 16 to 84 %" in text) == (window is not None)
        assert ("all objects: median and 16 to 84 %" in text) == (window is None)
        assert ("simulated objects, 10 neighbors each" in text) == simulated
        assert ("simulated objects" in as_text(replace(found, simulated=simulated))) == simulated


def test_what_cannot_be_compared_is_refused(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    name = np.array([f"n{i}" for i in range(600)])
    folder = indexed(vector_set, tmp_path, vectors, columns | {"name": name}, "mass:1e-9")
    with pytest.raises(InputError, match="Unknown column 'm_jj'"):
        measure(folder, "m_jj")
    with pytest.raises(InputError, match="'name' holds text"):
        measure(folder, "name")
    with pytest.raises(InputError, match="k is from 1 to the 20 neighbors"):
        measure(folder, "mass", k=21)
    with pytest.raises(InputError, match=r"At least 20 objects .* but there are 0"):
        measure(folder, "pt")


def slow_quantile(values: list[float], weights: list[float], at: float) -> float:
    """The first value, in rising order, by which the weights so far have reached their share."""
    so_far = 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        so_far += weight
        if so_far >= at * sum(weights):
            return value
    return max(values)


def test_signed_weights_enter_every_sum(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    """Against loops from the definition; lists are as they are stored."""
    from lookalike.indexer.store import Index

    vectors, columns = drawn
    rng = np.random.default_rng(2)
    weight = np.where(rng.random(600) < 0.1, -0.4, 1.0) * rng.uniform(0.5, 2, 600)
    folder = indexed(vector_set, tmp_path, vectors, columns | {"w": weight}, None)
    found = measure(folder, "pt", weights="w", k=5)
    rows, pt = Index(folder).neighbor_row, columns["pt"]
    queries = list(range(600))
    average = sum(weight[q] * pt[q] for q in queries) / sum(weight[q] for q in queries)
    near, pairs = [], []
    for query in queries:
        kept = rows[query, :5].tolist()
        total = sum(weight[row] for row in kept)
        cancel = total <= 0 or total < 0.5 * sum(abs(weight[row]) for row in kept)
        near.append(average if cancel else sum(weight[row] * pt[row] for row in kept) / total)
        pairs += [(pt[query], pt[row], weight[query] * weight[row]) for row in kept]
    w = weight[queries]

    def moment(values: np.ndarray) -> float:
        return float((w * values).sum() / w.sum())

    x, y = pt[queries], np.array(near)
    above = moment(x * y) - moment(x) * moment(y)
    spread = (moment(x * x) - moment(x) ** 2) * (moment(y * y) - moment(y) ** 2)
    assert found.neighbors.value == pytest.approx(above / np.sqrt(spread))
    first = found.bins[0]
    low = [(value, each) for query, value, each in pairs if query < np.quantile(x, 0.1)]
    for place, at in enumerate((0.16, 0.5, 0.84)):
        wanted = slow_quantile([value for value, _ in low], [each for _, each in low], at)
        assert first.neighbors[place] == pytest.approx(wanted)
    plain = measure(folder, "pt", k=5)
    ones = measure(
        indexed(vector_set, tmp_path / "1", vectors, columns | {"w": np.ones(600)}, None), "pt", weights="w", k=5
    )
    assert ones.excess.value == pytest.approx(plain.excess.value)
    holes = columns | {"w": np.where(np.arange(600) % 3 == 0, np.nan, weight)}
    some = measure(indexed(vector_set, tmp_path / "2", vectors, holes, None), "pt", weights="w", k=5)
    assert 380 <= some.queries <= 400  # what has no weight takes no part
    draw(found, tmp_path / "weighted.png")
    assert "Weighted by w." in as_text(found)
    assert "weights" not in as_json(found)


def test_a_resample_in_which_no_value_differs_says_nothing() -> None:
    """Three of 200 differ: in some resamples none is drawn, and these are left out, as `estimate` says."""
    from lookalike.probes.sculpting import _correlations

    rng = np.random.default_rng(0)
    x = np.zeros(200)
    x[:3] = 1, 2, 3
    near, other = x + 0.01 * rng.normal(size=200), rng.normal(size=200)
    for each in _correlations(x, near, other, np.ones(200), 300, 0):
        assert -2 <= each.low <= each.value <= each.high <= 2
    alike, by_window, excess = _correlations(x, np.full(200, 0.1) + 1e-17, other, np.ones(200), 300, 0)
    assert np.isnan(alike.value)
    assert np.isnan(excess.value)
    assert np.isfinite(by_window.value)
    assert str(alike) == "undefined"


def test_a_column_that_does_not_differ_is_refused(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    folder = indexed(vector_set, tmp_path, vectors, columns | {"same": np.full(600, 0.1)}, None)
    with pytest.raises(InputError, match=r"'same' is 0\.1 for 600 objects, all"):
        measure(folder, "same", resamples=20)


def test_no_number_depends_on_the_unit(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    more = {f"e{power}": columns["pt"] * 2.0**power for power in (600, -600)}
    folder = indexed(vector_set, tmp_path, vectors, columns | more, None)
    plain = measure(folder, "pt", resamples=50)
    for name in more:
        found = measure(folder, name, resamples=50)
        assert (found.neighbors, found.window, found.excess) == (plain.neighbors, plain.window, plain.excess)
        draw(found, tmp_path / "unit.png")


def test_what_weighs_nothing_takes_no_part(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    weights = {"none": np.zeros(600), "few": np.where(np.arange(600) < 3, 1.0, 0.0)}
    half = {"half": np.where(np.arange(600) % 2, 1.0, 0.0)}
    folder = indexed(vector_set, tmp_path, vectors, columns | weights | half, None)
    for name in weights:
        with pytest.raises(InputError, match=r"At least 20 objects .*, but there (are 0|are 3|is 1|are 2)\."):
            measure(folder, "mass", weights=name, resamples=20)
    assert 260 <= measure(folder, "mass", weights="half", resamples=20).queries <= 300  # some have no such pair


def test_ties_share_a_bin_and_others_have_their_own(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    two = (columns["mass"] > 150).astype(np.float64)
    folder = indexed(vector_set, tmp_path, vectors, columns | {"two": two}, None)
    bins = measure(folder, "two", resamples=20).bins
    assert [(each.low, each.middle, each.high) for each in bins] == [(0, 0, 0), (1, 1, 1)]
    assert [each.queries for each in bins] == [int((two == 0).sum()), int((two == 1).sum())]


def test_the_ratio_is_that_of_the_shares_above_it() -> None:
    """Neighbors that weigh a third of what was drawn, and are distributed alike: a ratio of 1."""
    from lookalike.probes.sculpting import _ratio

    edges = np.linspace(0, 10, 11)
    values = np.random.default_rng(0).uniform(0, 10, 4000)
    near, drawn, ratio, error = _ratio((values, values), (np.full(4000, 0.5), np.full(4000, 1.5)), edges)
    assert near == pytest.approx(drawn)
    assert near.sum() == pytest.approx(1)
    assert ratio == pytest.approx(np.ones(10))
    counts = np.histogram(values, edges)[0]
    assert error == pytest.approx(np.sqrt(2 / counts))


def test_signs_of_formulas_in_a_name_are_letters(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    folder = indexed(vector_set, tmp_path, vectors, columns | {"$p_{T": columns["pt"]}, None)
    draw(measure(folder, "$p_{T", resamples=20), tmp_path / "s.svg")
    assert "$p_{T of the query" in (tmp_path / "s.svg").read_text()


def test_weights_that_cancel_are_refused(vector_set: Write, tmp_path: Path, drawn: Any) -> None:
    vectors, columns = drawn
    folder = indexed(vector_set, tmp_path, vectors, columns | {"w": np.resize([1.0, -0.9], 600)}, None)
    with pytest.raises(InputError, match="they cancel"):
        measure(folder, "mass", weights="w")
