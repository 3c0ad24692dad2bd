"""`lookalike bench index`: what it measures and prints, on small sets; no time is compared with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookalike.bench import indexing
from lookalike.bench.index_plot import draw
from lookalike.bench.index_vectors import describe, given_vectors, random_vectors
from lookalike.cli import main
from lookalike.errors import InputError
from lookalike.indexer.windows import everyone, ranges


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compared with anything here, so that no contender need come to rest."""
    monkeypatch.setattr("lookalike.bench.turns.REST", 0)


def test_a_case_has_every_figure_and_equals_its_definition(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(1).normal(size=(400, 24)) * 7)
    report = indexing.bench_indexing(
        n=300, vectors=tmp_path / "mine.npy", cases=((16, 10), (40, 20)), rounds=1, quiet=True
    )
    assert [(case["vectors"], case["n"], case["d"], case["k"]) for case in report["cases"][::3]] == [
        ("random", 300, 16, 10), ("random", 300, 40, 20), ("real", 400, 24, 10), ("real", 400, 24, 20)
    ]  # fmt: skip
    for case in report["cases"]:
        assert case["equal"] is True
        assert min(case[name] for name in ("seconds", "faiss_seconds", "sklearn_seconds", "half_gemm_seconds")) > 0
        assert case["speedup_vs_faiss"] == case["faiss_seconds"] / case["seconds"]
        assert 0 <= case["pruned_share"] < 1
    speedups = [case["speedup_vs_faiss"] for case in report["cases"] if case["vectors"] == "random"]
    assert report["geomean_speedup_random"] == pytest.approx(np.prod(speedups) ** (1 / 6))
    assert report["vectors"]["real"]["n"] == 400
    draw(json.loads(json.dumps(report)), tmp_path / "index.png")
    with Image.open(tmp_path / "index.png") as picture:
        assert picture.width > 800


def test_a_wrong_list_is_not_called_equal() -> None:
    vectors, within = random_vectors(200, 8), everyone(200)
    builder = indexing.pair_builder(vectors, within, 5)
    lists = [(found.rows, found.neighbor_row, found.similarity) for found in builder.blocks()]
    assert indexing._as_defined(vectors, within, 5, lists)
    similarity = next(values for rows, _, values in lists if len(rows))
    similarity[0, 2] = np.nextafter(similarity[0, 2], np.float32(2))
    assert not indexing._as_defined(vectors, within, 5, lists)


def test_the_rivals_see_the_whole_window_of_every_query() -> None:
    within = ranges(np.arange(1000.0), 90.0)
    for a, b, c, d in indexing._blocks(within, 128):
        assert c <= within.low[a:b].min()
        assert d >= within.high[a:b].max()


def test_what_describes_a_set_tells_a_collapsed_one() -> None:
    spread = describe(random_vectors(3000, 32))
    assert 31 < spread.effective_rank <= 32
    assert abs(spread.mean_cosine) < 0.01
    flat = np.zeros((500, 32), np.float32)
    flat[:, 0], flat[:, 1] = 1, np.random.default_rng(0).normal(0, 1e-3, 500)
    told = describe(flat)
    assert told.effective_rank == pytest.approx(1)
    assert told.mean_cosine == pytest.approx(1)
    assert describe(np.ones((4, 1), np.float32)).mean_cosine == pytest.approx(1)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), r"\(3,\) float64"),
        (np.array([[1.0, np.nan]]), "finite"),
        (np.array([[1, 2]]), "int64"),
        (np.array([[1.0, 2.0], [0.0, 0.0]]), "row 1 is one"),
    ],
)
def test_vectors_that_cannot_be_searched_are_refused(array: NDArray[Any], words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", array)
    with pytest.raises(InputError, match=words):
        given_vectors(tmp_path / "mine.npy")


def test_the_command_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(indexing, "CASES", ((8, 5),))
    np.save(tmp_path / "mine.npy", np.random.default_rng(1).normal(size=(200, 8)))
    command = ["lookalike", "bench", "index", "--vectors", str(tmp_path / "mine.npy"), "-n", "200", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--plot", str(tmp_path / "index.png")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "real: 200 × 8, effective rank" in out
    assert "geometric mean × faiss: random" in out
    assert (tmp_path / "index.png").exists()
    monkeypatch.setattr("sys.argv", [*command, "-n", "100"])
    monkeypatch.setattr(indexing, "CASES", ((8, 50),))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "too small for k = 50" in capsys.readouterr().err
