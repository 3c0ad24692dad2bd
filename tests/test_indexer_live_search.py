"""Searches by examples, in several windows, with filters and by an approximate first stage, against slow definitions.

pytest tests/test_indexer_live_search.py
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.indexer.approximate import Cells, build_approximate
from lookalike.indexer.conditions import Placed, kept
from lookalike.indexer.index import build_index
from lookalike.indexer.live import prepared, ranking
from lookalike.indexer.recipe import Recipe, fit_linear
from lookalike.indexer.search import Searcher
from lookalike.indexer.windows import Window

Write = Callable[..., tuple[Path, list[Path]]]
Run = Callable[..., subprocess.CompletedProcess[str]]
N, K, D = 160, 12, 8


def catalog() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    mag = np.round(rng.normal(20, 0.5, N), 3)
    mag[[4, 50]] = np.nan
    size = np.exp(rng.normal(1, 0.3, N))
    size[7] = -1
    x, y = rng.uniform(0, 60, N), rng.uniform(0, 60, N)
    return {"mag": mag, "size": size, "x": x, "y": y, "kind": np.array(["a", "b", ""])[rng.integers(0, 3, N)]}


COLUMNS = catalog()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of N random vectors with ties, in windows mag:0.4; treat it as read-only."""
    from lookalike.embeddings import write_embeddings
    from lookalike.samples import About, Column, Samples
    from lookalike.samples_writer import write_samples

    place = tmp_path_factory.mktemp("live")
    made = np.random.default_rng(1).normal(size=(N, D))
    made[20:26] = made[20]
    ids = [f"o{row}" for row in range(N)]
    columns = {name: Column("px" if name in "xy" else "") for name in COLUMNS}
    with write_samples(place / "samples.h5", About(domain="image", bands=("v",)), columns) as writer:
        writer.append(ids, np.full((N, 1, 16, 16), 7, np.uint8), COLUMNS)
    stored = Samples(place / "samples.h5")
    made_from = {"samples": stored.content_hash}
    write_embeddings(place / "e.h5", stored.ids, iter([made]), dimensions=D, made_from=made_from)
    build_index(place / "e.h5", [place / "samples.h5"], place / "index", k=K, window="mag:0.4", quiet=True)
    return place / "index"


@pytest.fixture(scope="module")
def searcher(folder: Path) -> Searcher:
    return Searcher(folder)


def slow_ranking(searcher: Searcher, query: NDArray[Any], candidates: list[int], k: int) -> list[tuple[int, float]]:
    stored = searcher.embeddings().vectors
    found = [(-float(np.float32(math.fsum(stored[j].astype(float) * query.astype(float)))), j) for j in candidates]
    return [(j, -similarity) for similarity, j in sorted(found)[:k]]


def slow_inside(window: str, centers: list[float], j: int) -> bool:
    column, width = window.split(":")
    logged = column.startswith("log(")
    value = float(COLUMNS[column[4:-1] if logged else column][j])

    def scaled(number: float) -> float:
        return (math.log(number) if number > 0 else math.nan) if logged else number

    return any(abs(scaled(value) - scaled(center)) <= float(width) for center in centers)


def listed(answer: Any) -> list[tuple[int, float]]:
    return [(result.row, float(np.float32(result.similarity))) for result in answer.results]


def mag_below_20(j: int) -> bool:
    return bool(COLUMNS["mag"][j] < 20)


# windows and filters


@pytest.mark.parametrize("where", [None, "mag < 20", "kind = 'a' or size > 4"])
@pytest.mark.parametrize(
    "within", [None, [], ["mag:0.4"], ["mag:0.2"], ["mag:0.9"], ["mag:0.3", "log(size):0.2"], ["size:1"]]
)
def test_windows_and_filters_apply_before_ranking(
    searcher: Searcher, within: list[str] | None, where: str | None
) -> None:
    windows = None if within is None else [Window.parse(text) for text in within]
    applied = ["mag:0.4"] if within is None else within
    sources = set()
    for row in range(0, N, 3):
        answer = searcher.neighbors(f"o{row}", 5, within=windows, where=where)
        inside = [
            j
            for j in range(N)
            if j != row
            and all(slow_inside(w, [float(COLUMNS[Window.parse(w).column][row])], j) for w in applied)
            and (where != "mag < 20" or mag_below_20(j))
            and (where is None or "kind" not in where or COLUMNS["kind"][j] == "a" or COLUMNS["size"][j] > 4)
        ]
        assert listed(answer) == slow_ranking(searcher, searcher.embeddings().vectors[row], inside, 5)
        assert answer.where == where
        assert len(answer.windows) == len(applied)
        assert len(answer.results) == 5 or answer.notes
        sources.add(answer.source)
    wider = within is not None and not any(text in ("mag:0.4", "mag:0.2", "mag:0.3") for text in within)
    if wider:
        assert "stored" not in sources
    elif where is None and applied == ["mag:0.4"]:
        assert sources == {"stored"}
    elif where is not None:
        assert sources == {"stored", "live"}  # lists that the filter leaves long enough, and others


def test_a_filtered_answer_that_runs_short_is_finished_live_and_says_so(searcher: Searcher) -> None:
    short = [row for row in range(N) if searcher.neighbors(f"o{row}", K, where="mag < 20").source == "live"]
    assert short
    answer = searcher.neighbors(f"o{short[0]}", K, where="mag < 20").to_json()
    assert (answer["source"], answer["where"], answer["approximate"]) == ("live", "mag < 20", None)
    none = searcher.neighbors("o0", 3, where="mag < 0")
    assert none.results == ()
    assert none.notes == ("Only 0 objects are within mag ± 0.4, such that mag < 0 and not left out.",)


def test_a_vector_is_placed_in_every_window(searcher: Searcher) -> None:
    vector = np.random.default_rng(3).normal(size=D)
    windows = [Window.parse("mag:0.3"), Window.parse("log(size):0.2")]
    answer = searcher.by_vector(vector, 20, at={"mag": 20.0, "size": 3.0}, within=windows, where="kind != 'a'")
    inside = [
        j
        for j in range(N)
        if slow_inside("mag:0.3", [20.0], j) and slow_inside("log(size):0.2", [3.0], j) and COLUMNS["kind"][j] == "b"
    ]
    query = prepared(vector, D, np.dtype(np.float32))
    assert listed(answer) == slow_ranking(searcher, query, inside, 20)
    assert [window["column"] for window in answer.to_json()["windows"]] == ["mag", "size"]
    with pytest.raises(InputError, match=r"no size of its own .*give it one: --at size=VALUE"):
        searcher.by_vector(vector, 3, at={"mag": 20.0}, within=windows)
    with pytest.raises(InputError, match="no size of its own"):  # before a vector is made at some cost
        searcher.check(3, at={"mag": 20.0}, within=windows)


@pytest.mark.parametrize(
    ("windows", "at", "rule"),
    [
        (["mga:1"], {}, "Unknown column 'mga'. Did you mean 'mag'?"),
        (["kind:1"], {}, "needs a column of numbers, but 'kind' holds text"),
        (["mag:1", "log(mag):1"], {}, "A column has one window, but mag was given 2"),
        (["mag:1"], {"size": 1.0}, "Unknown window column 'size'"),
        ([], {"mag": 1.0}, "without a window here, so no mag can place the query"),
        (["log(size):1"], {"size": -1.0}, "size = -1 is in no window log(size) ± 1; give a defined value"),
    ],
)
def test_windows_that_cannot_be(searcher: Searcher, windows: list[str], at: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError) as caught:
        searcher.neighbors("o1", 3, within=[Window.parse(text) for text in windows], at=at)
    assert rule in caught.value.message


@given(
    st.lists(st.none() | st.integers(0, 60).map(lambda i: i / 10), max_size=6),
    st.lists(st.just(math.nan) | st.integers(0, 60).map(lambda i: i / 10), max_size=20),
    st.sampled_from([0.0, 0.1, 0.7, 0.3]),
)
def test_a_window_around_several_values_is_within_its_half_width_of_any(
    centers: list[float | None], values: list[float], half_width: float
) -> None:
    x = np.array(values, np.float64)
    found = Placed(Window("mag", half_width), tuple(centers)).holds(x)
    assert found.tolist() == [any(c is not None and abs(v - c) <= half_width for c in centers) for v in values]


def test_a_window_around_thousands_of_values_takes_few_passes() -> None:
    rng = np.random.default_rng(0)
    centers, x = rng.normal(size=5000), rng.normal(size=50_000)
    began = time.process_time()
    assert Placed(Window("mag", 0.5), tuple(centers.tolist())).holds(x).any()
    assert time.process_time() - began < 0.15  # a pass a center takes ten times that


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_kept_is_the_difference_of_sets(candidates: set[int], excluded: set[int]) -> None:
    left = kept(np.array(sorted(candidates), np.int64), np.array(sorted(excluded), np.int64))
    assert left.tolist() == sorted(candidates - excluded)


# ranking


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_fast_ranking_equals_sorting(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dtype = data.draw(st.sampled_from(["float32", "float16"]))
    made = rng.integers(-2, 3, size=(n, d)) if data.draw(st.booleans()) else rng.normal(size=(n, d))
    made = made * data.draw(st.sampled_from([1.0, 1e-5]))  # float16 has few digits there
    made[:, 0] += 1e-3
    stored = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(dtype)
    if dtype == "float16":
        stored[:, d // 2] = np.float16(3e-7)  # a subnormal number
    query, wanted = stored[0], data.draw(st.integers(1, n + 2))
    candidates = np.flatnonzero(rng.random(n) < 0.6) if data.draw(st.booleans()) else None
    rows, similarity = ranking(stored, candidates, query, wanted, 1.02)
    every = range(n) if candidates is None else candidates.tolist()
    slow = sorted((-float(np.float32(math.fsum(stored[j].astype(float) * query.astype(float)))), j) for j in every)
    assert list(zip((-similarity).tolist(), rows.tolist(), strict=True)) == slow[:wanted]


def test_vectors_of_several_files_are_ranked_as_one_array() -> None:
    from lookalike.embeddings_folder import Joined

    stored = np.random.default_rng(2).normal(size=(900, 7)).astype(np.float32)
    parts = [stored[:400], stored[400:401], stored[401:]]
    joined: Any = Joined([len(part) for part in parts], lambda part: parts[part])
    for candidates in (None, np.arange(3, 900, 2)):
        whole = ranking(stored, candidates, stored[5], 20, 9.0)
        assert [found.tolist() for found in ranking(joined, candidates, stored[5], 20, 9.0)] == [
            found.tolist() for found in whole
        ]


def test_float16_is_widened_exactly() -> None:
    from lookalike.indexer.live_native import half_scores

    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[np.isfinite(bits.view(np.float16))]
    out, one = np.empty(len(bits), np.float32), np.ones(1, np.float32)
    half_scores(bits[:, None], None, one, out)
    assert (out == bits.view(np.float16).astype(np.float32)).all()
    back = np.arange(len(bits))[::-1].copy()
    half_scores(bits[:, None], back, one, out)
    assert (out[::-1] == bits.view(np.float16).astype(np.float32)).all()


def test_scores_that_only_rise_or_are_all_alike_are_ranked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike.indexer import live

    monkeypatch.setattr(live, "BLOCK_BYTES", 64)  # two rows at a time
    angle = np.linspace(1.5, 0, 2000)
    rising = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    rows, _ = ranking(rising, None, np.array([1, 0], np.float32), 10, 1.01)
    assert rows.tolist() == list(range(1999, 1989, -1))
    rows, _ = ranking(np.ones((2000, 1), np.float32), None, np.ones(1, np.float32), 10, 1.01)
    assert rows.tolist() == list(range(10))


# recipes


def recipe(searcher: Searcher, **values: Any) -> Recipe:
    return Recipe.checked({"schema": 1, "index": searcher.content_hash, "k": 9, **values})


def slow_direction(searcher: Searcher, positives: list[int], negatives: list[int], beta: float) -> NDArray[np.float64]:
    stored = searcher.embeddings().vectors.astype(float)
    direction = np.array([math.fsum(stored[positives, d]) / len(positives) for d in range(D)])
    if negatives:
        direction -= beta * np.array([math.fsum(stored[negatives, d]) / len(negatives) for d in range(D)])
    return direction


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("negatives", [[], [3], [3, 90, 11]])
@pytest.mark.parametrize("positives", [[1], [30, 2, 5]])
def test_mean_equals_the_definition(
    searcher: Searcher, positives: list[int], negatives: list[int], beta: float
) -> None:
    asked = recipe(
        searcher,
        positives=[f"o{row}" for row in positives],
        negatives=[f"o{row}" for row in negatives],
        beta=beta,
        windows=[{"column": "mag", "half_width": 0.2}, {"column": "log(size)", "center": 3.0, "half_width": 0.4}],
        where="kind is not null",
    )
    answer = searcher.by_recipe(asked)
    centers = [float(COLUMNS["mag"][row]) for row in positives]
    inside = [
        j
        for j in range(N)
        if j not in positives + negatives
        and slow_inside("mag:0.2", centers, j)
        and slow_inside("log(size):0.4", [3.0], j)
        and COLUMNS["kind"][j]
    ]
    direction = slow_direction(searcher, positives, negatives, beta)
    assert listed(answer) == slow_ranking(searcher, prepared(direction, D, np.dtype(np.float32)), inside, 9)
    assert answer.source == "live"
    assert answer.query == {"recipe": asked.to_json()}
    again = searcher.by_recipe(Recipe.checked({**asked.to_json(), "positives": asked.to_json()["positives"][::-1]}))
    assert again.results == answer.results  # the order in which examples are named is no part of the question


def test_one_positive_finds_what_its_object_finds(searcher: Searcher) -> None:
    window = [{"column": "mag", "half_width": 0.4}]
    for row in (0, 21, 60):
        found = searcher.by_recipe(recipe(searcher, positives=[f"o{row}"], windows=window))
        assert found.results == searcher.neighbors(f"o{row}", 9).results


def test_linear_is_at_the_minimum_of_its_objective(searcher: Searcher) -> None:
    rng = np.random.default_rng(0)
    for p, m, d in [(1, 1, 3), (5, 2, 8), (3, 9, 2), (20, 30, 5)]:
        good, bad = rng.normal(size=(p, d)), rng.normal(size=(m, d))
        w = fit_linear(good, bad)
        x, y = np.concatenate([good, bad]), np.repeat([1.0, -1.0], [p, m])
        low, high = -100.0, 100.0
        for _ in range(200):  # b, at which Σ y·(1 − P(y)) vanishes
            b = (low + high) / 2
            low, high = (b, high) if np.sum(y / (1 + np.exp(y * (x @ w + b)))) > 0 else (low, b)
        gradient = w - (y / (1 + np.exp(y * (x @ w + b)))) @ x
        assert np.abs(gradient).max() < 1e-8
    asked = recipe(searcher, positives=["o1", "o2"], negatives=["o3"], method="linear")
    stored = searcher.embeddings().vectors
    direction = prepared(fit_linear(stored[[1, 2]].astype(float), stored[[3]].astype(float)), D, stored.dtype)
    expected = slow_ranking(searcher, direction, [j for j in range(N) if j not in (1, 2, 3)], 9)
    assert listed(searcher.by_recipe(asked)) == expected


def test_overlaps_of_any_positive_are_left_out(searcher: Searcher) -> None:
    asked = recipe(searcher, positives=["o1", "o2", "o9"], k=40)
    over = {int(j) for row in (1, 2, 9) for j in searcher.overlapping(row, 0.1)} - {1, 2, 9}
    every, left = searcher.by_recipe(asked), searcher.by_recipe(asked, max_overlap=0.1)
    assert over
    assert {result.row for result in left.results}.isdisjoint(over)
    whole = searcher.by_recipe(recipe(searcher, positives=["o1", "o2", "o9"], k=N)).results
    place = [result.row for result in whole].index(left.results[-1].row)
    assert left.left_out == sum(result.row in over for result in whole[:place])
    assert [r.row for r in whole if r.row not in over][:40] == [r.row for r in left.results]
    assert len(every.results) == 40


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"positives": []}, "positives must hold at least 1 value"),
        ({"positives": ["o1", "o1"]}, "'o1' is named twice"),
        ({"positives": ["o1"], "negatives": ["o1"]}, "'o1' is named twice"),
        ({"positives": ["o1"], "method": "linear"}, "no negative was given"),
        ({"positives": ["o1"], "method": "median"}, "must be 'mean' or 'linear'"),
        ({"positives": ["o1"], "beta": -1}, "beta must be at least 0"),
        ({"positives": ["o1"], "k": 0}, "k must be at least 1"),
        ({"positives": ["o1"], "schema": 2}, "schema must be 1"),
        ({"positives": ["o1"], "windows": [{"column": "mag", "half_width": -1}]}, "not negative"),
        ({"positives": ["o1"], "kay": 3}, "Unknown setting 'kay'"),
    ],
)
def test_recipes_that_are_none(searcher: Searcher, tmp_path: Path, values: dict[str, Any], rule: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema": 1, "index": searcher.content_hash, "k": 9, **values}))
    with pytest.raises(InputError) as caught:
        Recipe.read(path)
    assert rule in caught.value.message
    assert str(path) in caught.value.message


def test_recipes_of_other_indexes_and_broken_files_are_refused(searcher: Searcher, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The recipe is for the index of content hash 000000000000…"):
        searcher.by_recipe(recipe(searcher, positives=["o1"], index="0" * 64))
    with pytest.raises(NotFoundError, match="No object has the id 'nobody'"):
        searcher.by_recipe(recipe(searcher, positives=["nobody"]))
    with pytest.raises(InputError, match="cancel out"):
        searcher.by_recipe(recipe(searcher, positives=["o20"], negatives=["o21"], beta=1.0))
    with pytest.raises(InputError, match="cancel out"):  # the fit's weights are 0 but for rounding
        searcher.by_recipe(recipe(searcher, positives=["o20", "o22"], negatives=["o21"], method="linear"))
    path = tmp_path / "r.json"
    with pytest.raises(NotFoundError, match="No such recipe"):
        Recipe.read(path)
    for content, rule in [("{", "is no JSON document"), ("[1]", "is no recipe"), ("[" * 10**6, "no JSON document")]:
        path.write_text(content)
        with pytest.raises(InputError, match=rule):
            Recipe.read(path)


# approximate


@pytest.fixture
def large(vector_set: Write, tmp_path: Path) -> Path:
    """An index of 3,000 clustered vectors in windows of mag:1."""
    rng = np.random.default_rng(5)
    n = 3000
    made = rng.normal(size=(40, 16))[rng.integers(0, 40, n)] + 0.6 * rng.normal(size=(n, 16))
    embeddings, samples = vector_set(made, {"mag": rng.uniform(18, 22, n)})
    build_index(embeddings, samples, tmp_path / "index", k=5, window="mag:1", quiet=True)
    return tmp_path / "index"


def test_the_recall_is_measured_told_and_true(large: Path) -> None:
    searcher = Searcher(large)
    vector = searcher.embeddings().vectors[17]
    with pytest.raises(NotFoundError, match=r"no approximate stage; make one with `lookalike approximate"):
        searcher.by_vector(vector, 10, approximate=True)
    report = build_approximate(large, queries=300, target=0.9, quiet=True)
    assert [one.k for one in report.recall] == [1, 10, 100, 1000]
    assert 1 <= report.probes < report.cells
    answer = searcher.by_vector(vector, 10, approximate=True)
    assert answer.approximate is not None
    assert answer.approximate["recall"] == report.recall[1].model_dump()
    assert answer.approximate["objects"] < searcher.n
    assert "recall@10 was" in answer.notes[-1]
    assert searcher.by_vector(vector, 10).approximate is None  # never unless asked for
    # The recall of other queries lies within the interval, widened by that of this measurement itself.
    rows = np.random.default_rng(9).integers(0, searcher.n, 200)
    shares = []
    for row in rows.tolist():
        exact = {r.row for r in searcher.neighbors(f"o{row}", 100, within=[]).results}
        near = {r.row for r in searcher.neighbors(f"o{row}", 100, within=[], approximate=True).results}
        shares.append(len(exact & near) / 100)
    told = report.recall[2]
    slack = 4 * np.std(shares) / math.sqrt(len(shares))
    assert told.low - slack <= np.mean(shares) <= told.high + slack


def test_candidates_of_the_cells_are_ranked_exactly_within_the_conditions(large: Path) -> None:
    build_approximate(large, queries=50, quiet=True)
    searcher = Searcher(large)
    cells = Cells.read(searcher.index)
    mag = searcher.samples.column("mag")
    query = searcher.embeddings().vectors[3]
    answer = searcher.by_vector(query, 30, at={"mag": 20.0}, exclude=["o3"], approximate=True)
    inside = {j for j in range(searcher.n) if abs(mag[j] - 20.0) <= 1 and j != 3}
    looked: list[int] = []
    for place, cell in enumerate(cells.nearest(query)):
        if place >= cells.about.probes and len(looked) >= 30:
            break
        looked += [int(j) for j in cells.rows[cells.starts[cell] : cells.starts[cell + 1]] if int(j) in inside]
    assert listed(answer) == slow_ranking(searcher, query, looked, 30)
    assert answer.approximate is not None
    assert answer.approximate["objects"] == len(looked)
    few = searcher.by_vector(query, 3000, at={"mag": 20.0}, approximate=True)  # cells are added until all are found
    assert listed(few) == listed(searcher.by_vector(query, 3000, at={"mag": 20.0}))


def test_every_object_is_in_one_cell_and_the_seed_decides(large: Path) -> None:
    first = build_approximate(large, queries=50, seed=3, quiet=True)
    cells = Cells.read(Searcher(large).index)
    assert sorted(cells.rows.tolist()) == list(range(3000))
    assert cells.starts[0] == 0
    assert cells.starts[-1] == 3000
    assert build_approximate(large, queries=50, seed=3, quiet=True) == first


def test_an_altered_or_foreign_approximate_stage_is_refused(large: Path) -> None:
    build_approximate(large, queries=50, quiet=True)
    path = large / "extras" / "v000001" / "approximate.h5"
    with h5py.File(path, "r+") as file:
        file["rows"][0] += 1
    with pytest.raises(CorruptError, match="was altered"):
        Cells.read(Searcher(large).index)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptError, match="cannot be read"):
        Cells.read(Searcher(large).index)
    for wrong, rule in [({"target": 0.0}, "target"), ({"queries": 3}, "10 queries"), ({"cells": 2000}, "cells must")]:
        with pytest.raises(InputError, match=rule):
            build_approximate(large, quiet=True, **wrong)


# command line


def test_the_command_takes_examples_windows_filters_and_recipes(
    command: Run, folder: Path, searcher: Searcher, tmp_path: Path
) -> None:
    examples = ["--positive", "o1", "--positive", "o2", "--negative", "o3", "--beta", "0.25"]
    conditions = ["--within", "mag:0.3", "--within", "log(size):0.4", "--where", "kind = 'a'", "-k", "7"]
    path = tmp_path / "recipe.json"
    asked = ["search", folder, *examples, *conditions, "--at", "size=3"]
    done = command(*asked, "--save-recipe", path, "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert written == {
        "schema": 1,
        "index": searcher.content_hash,
        "positives": ["o1", "o2"],
        "negatives": ["o3"],
        "method": "mean",
        "beta": 0.25,
        "windows": [
            {"column": "mag", "center": None, "half_width": 0.3},
            {"column": "log(size)", "center": 3.0, "half_width": 0.4},
        ],
        "where": "kind = 'a'",
        "k": 7,
    }
    assert json.loads(command("search", folder, "--recipe", path, "--json").stdout) == json.loads(done.stdout)
    assert json.loads(done.stdout) == searcher.by_recipe(Recipe.read(path)).to_json()
    header = command("search", folder, "--recipe", path).stderr.splitlines()[-1]
    assert "within mag ± 0.3 of mag = any of 2 values and within log(size) ± 0.4 of size = 3.0" in header
    assert header.endswith("such that kind = 'a', from a live search")
    alone = command("search", folder, "--id", "o5", "-k", "4", "--save-recipe", path, "--json")
    assert alone.returncode == 2  # it holds another one
    assert "another recipe" in alone.stderr
    assert json.loads(path.read_text()) == written
    for _ in range(2):
        alone = command("search", folder, "--id", "o5", "-k", "4", "--save-recipe", tmp_path / "alone.json", "--json")
    by_recipe = command("search", folder, "--recipe", tmp_path / "alone.json", "--json")
    assert json.loads(by_recipe.stdout)["results"] == json.loads(alone.stdout)["results"]
    everyone = json.loads(command("search", folder, "--id", "o5", "--within", "none", "--json", "-k", N).stdout)
    assert len(everyone["results"]) == N - 1


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ("--recipe r.json -k 3", "A --recipe is the whole question"),
        ("--recipe r.json", "No such recipe"),
        ("--id o1 --negative o2", "--negative goes with --positive, but --id was given"),
        ("--id o1 --positive o2", "but --id, --positive was given"),
        ("--vector v.npy --save-recipe r.json", "A recipe holds ids"),
        ("--id o1 --within none --within mag:1", "--within none stands alone"),
        ("--id o1 --within mag", "column:half-width"),
        ("--id o1 --where mag<", "The filter cannot be read at its end"),
        ("--id o1 --where mga<1 --save-recipe r.json", "Unknown column 'mga'"),
        ("--positive o1 --method linear", "no negative was given"),
        ("--id o1 --within mag:9 --approximate", "no approximate stage"),
    ],
)
def test_what_is_wrong_writes_nothing(command: Run, folder: Path, tmp_path: Path, arguments: str, rule: str) -> None:
    np.save(tmp_path / "v.npy", np.ones(D))
    done = command("search", folder, *arguments.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert rule in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]


def test_the_command_builds_the_approximate_stage(command: Run, large: Path) -> None:
    done = command("approximate", large, "--queries", "50", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = command("search", large, "--id", "o1", "--within", "none", "-k", "9", "--approximate", "--json")
    assert json.loads(found.stdout)["approximate"]["recall"] == report["recall"][1]
    told = command("search", large, "--id", "o1", "--within", "none", "-k", "9", "--approximate")
    assert "recall@10 was" in told.stderr
