"""Mass sculpting: seen where the similarity knows the mass, not seen where it does not, beside the window's own."""

from __future__ import annotations

import json
from collections.abc import Callable
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
