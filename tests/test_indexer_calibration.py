"""The share of random pairs that are as similar: against the full distribution, and wherever it is shown.

pytest tests/test_indexer_calibration.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import CorruptError
from lookalike.files import read_json
from lookalike.indexer.calibration import FILE, Calibration, Cell, counts, drawn_cells
from lookalike.indexer.index import build_index
from lookalike.indexer.ordered import Sorted
from lookalike.indexer.recipe import Recipe, RecipeWindow
from lookalike.indexer.search import Searcher
from lookalike.indexer.store import Index
from lookalike.indexer.windows import Ranges, Window, everyone, ranges
from lookalike.wording import top_share

Write = Callable[..., tuple[Path, list[Path]]]


def unit(n: int, d: int, seed: int) -> Any:
    vectors = np.random.default_rng(seed).normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def all_pairs(vectors: Any, within: Ranges, places: Any) -> tuple[Any, Any]:
    """Every similarity of some places with their candidates, and its weight: objects count alike, then candidates."""
    values, weights = [], []
    for p in places:
        others = np.delete(within.order[within.low[p] : within.high[p]], p - within.low[p])
        values.append(vectors[others].astype(np.float64) @ vectors[within.order[p]].astype(np.float64))
        weights.append(np.full(len(others), 1 / max(len(others), 1)))
    return np.concatenate(values).astype(np.float32), np.concatenate(weights) / sum(len(each) > 0 for each in values)


@pytest.mark.parametrize("windowed", [True, False])
def test_shares_agree_with_the_full_distribution(windowed: bool) -> None:
    """In every cell, from 30 % to 1 in 1000, within 4 standard deviations and the 5 % that are rounded up."""
    n, drawn = 800, 20_000
    vectors, x = unit(n, 5, 0), np.random.default_rng(1).normal(20, 1, n)
    vectors[:, 0] += (x > 20) * 0.5  # the faint ones are more alike, so that cells differ
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    within = ranges(x, 0.3) if windowed else everyone(n)
    near = Sorted(vectors, within.order, 2**30)
    total = 4 * drawn if windowed else drawn
    cells = drawn_cells(near, within, x if windowed else None, seed=3, total=total)
    assert [cell.drawn for cell in cells] == ([10_000] * 8 if windowed else [drawn])
    found = Calibration(tuple(cells))
    for places, cell in zip(np.array_split(np.arange(n), len(cells)), cells, strict=True):
        values, weights = all_pairs(vectors, within, places)
        order = np.argsort(-values)
        for wanted in (0.3, 0.1, 0.01, 0.001):
            similarity = values[order][np.searchsorted(np.cumsum(weights[order]), wanted)]
            true = weights[values >= similarity].sum()
            middle = float(x[within.order[places]].mean()) if windowed else None
            share = found.shares(middle, np.array([similarity]))[0]
            assert share is not None
            noise = 4 * np.sqrt(true / cell.drawn)
            assert true - noise <= share.share <= 1.05 * (true + noise) + 1 / cell.drawn


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=300), st.integers(-21, 21))
def test_a_share_is_the_empirical_one_or_up_to_5_percent_more(drawn: list[int], asked: int) -> None:
    values = np.sort(np.array(drawn, np.float32) / 20)[::-1]
    cell = Cell(start=None, drawn=len(values), similarity=tuple(values[counts(len(values)) - 1].tolist()))
    share = Calibration((cell,)).shares(None, np.array([asked / 20], np.float32))[0]
    assert share is not None
    true = int((values >= np.float32(asked / 20)).sum())
    if true == 0:
        assert (share.share, share.below) == (1 / len(values), True)
    else:
        assert not share.below
        assert true <= round(share.share * len(values)) <= max(true, 1.05 * (true + 1))


def test_draws_are_the_same_again_and_no_object_is_its_own_candidate() -> None:
    vectors, x = unit(300, 4, 2), np.round(np.random.default_rng(3).normal(20, 1, 300), 1)
    x[:5] = [np.nan, 90, 91, 91, 95]  # none, alone, two of one value, alone
    within = ranges(x, 0.0)
    near = Sorted(vectors, within.order, 2**30)
    one, two = (drawn_cells(near, within, x, total=30_000) for _ in range(2))
    assert one == two
    assert one != drawn_cells(near, within, x, seed=6, total=30_000)
    assert max(cell.similarity[0] for cell in one) < 0.99999  # of itself it would be 1
    assert drawn_cells(Sorted(vectors[:1], np.arange(1), 2**30), everyone(1), None) == []


def test_a_build_stores_it_and_answers_carry_it(vector_set: Write, tmp_path: Path) -> None:
    vectors, mag = unit(120, 4, 0), np.linspace(20, 22, 120)
    mag[3] = np.nan
    out = tmp_path / "index"
    embeddings, samples = vector_set(vectors, {"mag": mag})
    first = build_index(embeddings, samples, out, k=20, window="mag:0.5", quiet=True)
    path = out / "extras" / "v000001" / FILE
    kept = path.read_bytes()
    found = Searcher(out).neighbors("o60", 20).results
    shares = [result.random_share for result in found]
    assert None not in shares
    assert shares == sorted(shares)
    assert found[0].to_json()["random_share"] == shares[0]
    # The nearest of about 60 is one in 60, within what one object's lot can make of it.
    assert 1 / 6000 < shares[0] < 1 / 6  # type: ignore[operator]
    assert Searcher(out).by_vector(vectors[60], 5).results[0].random_share is None  # no window was applied
    assert Searcher(out).by_vector(vectors[60], 5, at={"mag": 21}).results[0].random_share is not None
    path.unlink()  # an index of an earlier version has none
    assert Searcher(out).neighbors("o60", 3).results[0].random_share is None
    again = build_index(embeddings, samples, out, k=20, window="mag:0.5", quiet=True)
    assert again.reused
    assert again.content_hash == first.content_hash
    assert path.read_bytes() == kept


def test_a_share_is_told_only_of_just_the_index_s_own_window(vector_set: Write, tmp_path: Path) -> None:
    n = 120
    columns = {"mag": np.linspace(20, 22, n), "size": np.linspace(1, 3, n)}
    embeddings, samples = vector_set(unit(n, 4, 0), columns)
    for window, out in (("mag:0.5", tmp_path / "windowed"), (None, tmp_path / "open")):
        build_index(embeddings, samples, out, k=20, window=window, quiet=True)
    windowed, free = Searcher(tmp_path / "windowed"), Searcher(tmp_path / "open")
    mag, size = Window.parse("mag:0.5"), Window.parse("size:1")

    def told(answer: Any) -> bool:
        known = {result.random_share is not None for result in answer.results}
        assert len(known) == 1
        return bool(known.pop())

    def recipe(searcher: Searcher, *positives: str, negatives: tuple[str, ...] = ()) -> Any:
        windows = () if searcher.window is None else (RecipeWindow(column="mag", half_width=0.5),)
        asked = Recipe(
            schema=1, index=searcher.content_hash, positives=positives, negatives=negatives, windows=windows, k=5
        )
        return searcher.by_recipe(asked)

    filtered = windowed.neighbors("o60", 5, where="size > 2")
    assert told(filtered)
    shares = {result.id: result.random_share for result in windowed.neighbors("o60", 50).results}
    assert all(shares[result.id] == result.random_share for result in filtered.results)
    assert told(windowed.neighbors("o60", 5, within=[mag]))
    assert told(windowed.neighbors("o60", 5, at={"mag": 20.5}))
    assert not told(windowed.neighbors("o60", 5, within=[Window.parse("mag:0.3")]))
    assert not told(windowed.neighbors("o60", 5, within=[size]))
    assert not told(windowed.neighbors("o60", 5, within=[mag, size]))
    assert not told(windowed.neighbors("o60", 5, within=[]))
    assert told(free.neighbors("o60", 5))
    assert told(free.neighbors("o60", 5, where="size > 2"))
    assert not told(free.neighbors("o60", 5, within=[mag]))
    for searcher in (windowed, free):
        assert told(recipe(searcher, "o60"))
        assert not told(recipe(searcher, "o60", "o61"))
        assert not told(recipe(searcher, "o60", negatives=("o7",)))


def test_a_damaged_or_foreign_one_is_said(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(unit(20, 3, 0), {"mag": np.full(20, 20.0)})
    out = tmp_path / "index"
    build_index(embeddings, samples, out, k=3, window=None, quiet=True)
    path = out / "extras" / "v000001" / FILE
    value = read_json(path)
    path.write_text(json.dumps(value | {"content_hash": "0" * 64}))
    with pytest.raises(CorruptError, match="does not belong"):
        Calibration.of(Index(out))
    value["cells"][0]["similarity"].pop()
    for text in (json.dumps(value), "{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(CorruptError, match=r"calibration\.json"):
            Calibration.of(Index(out))
    build_index(embeddings, samples, out, k=3, window=None, quiet=True)  # makes it again
    assert Calibration.of(Index(out)) is not None


def test_how_a_share_is_said() -> None:
    assert [top_share(share) for share in (None, 1.0, 0.371, 0.1, 0.00101, 0.001)] == [
        "", "top 100 %", "top 38 %", "top 10 %", "top 0.11 %", "top 0.1 %"
    ]  # fmt: skip
    assert top_share(1 / 15_625, below=True) == "top < 0.0064 %"
    assert top_share(1e-6, below=True) == "top < 0.0001 %"
