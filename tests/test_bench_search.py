"""The benchmark of one query, run small: what it reports, and that nothing of it is left behind.

pytest tests/test_bench_search.py
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.bench.search import bench_search
from lookalike.errors import InputError, NotFoundError

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compared with anything here, so that no contender need come to rest."""
    monkeypatch.setattr("lookalike.bench.turns.REST", 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_report_holds_every_contender_and_its_ratio(tmp_path: Path, dtype: str) -> None:
    report = bench_search(objects=3000, dimensions=16, k=7, rounds=2, dtype=dtype, scratch=tmp_path)
    names = {"lookalike", "unrounded", "numpy", "torch"} | ({"faiss"} if dtype == "float32" else set())
    assert set(report["seconds"]) == names
    assert all(0 < taken["best"] <= taken["median"] for taken in report["seconds"].values())
    fastest = min(report["seconds"][name]["median"] for name in ("numpy", "torch"))
    assert report["of_matvec"] == report["seconds"]["lookalike"]["median"] / fastest
    assert report["unrounded_of_matvec"] == report["seconds"]["unrounded"]["median"] / fastest
    assert set(report["cold_seconds"]) == {"lookalike", "unrounded"}
    assert min(report["cold_seconds"].values()) > 0
    assert 7 <= report["rows_read_unrounded"] < 3000
    assert report["equal"] is True
    assert set(report["not_measured"]) == {"usearch", "lancedb"}
    assert list(tmp_path.iterdir()) == []


def test_a_rival_that_cannot_run_is_not_measured_and_says_why(tmp_path: Path) -> None:
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    python = venv / "python"
    python.write_text(
        '#!/bin/sh\n[ "$3" = usearch ] && echo "no module named usearch" >&2 && exit 1\n'
        'echo \'{"version": "9.9", "seconds": [2.0, 1.0, 3.0]}\'\n'
    )
    python.chmod(0o755)
    report = bench_search(objects=100, dimensions=4, k=3, rounds=1, scratch=tmp_path, rivals=tmp_path / "venv")
    assert report["not_measured"] == {"usearch": "no module named usearch"}
    assert report["versions"] == {"lancedb": "9.9"}
    assert report["seconds"]["lancedb"] == {"median": 2.0, "best": 1.0}
    assert report["speedup_vs_lancedb"] == 2.0 / report["seconds"]["lookalike"]["median"]


def test_an_answer_that_misses_the_best_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike.bench import search

    whole = search.ranking

    def wrong(vectors: Any, candidates: Any, query: Any, wanted: int, *others: Any) -> object:
        rows, similarity = whole(vectors, candidates, query, wanted + 1, *others)
        return rows[1:], similarity[1:]

    monkeypatch.setattr(search, "ranking", wrong)
    assert search.bench_search(objects=500, dimensions=8, k=3, rounds=1, scratch=tmp_path)["equal"] is False


def test_the_command_prints_the_report(command: Run, tmp_path: Path) -> None:
    small = ["--objects", 2000, "--dimensions", 8, "-k", 5, "--rounds", 1, "--scratch", tmp_path]
    done = command("bench", "search", *small)
    assert done.returncode == 0, done.stderr
    assert "of the faster matrix-vector product" in done.stdout
    assert "usearch            not measured: no --rivals folder was given" in done.stdout
    assert json.loads(command("bench", "search", *small, "--json").stdout)["n"] == 2000
    refused = command("bench", "search", "--objects", 10, "-k", 10)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    with pytest.raises(InputError, match="float32 or float16, but int8"):
        bench_search(objects=100, dimensions=4, k=3, dtype="int8")
    with pytest.raises(NotFoundError, match="written to a folder, but"):
        bench_search(objects=100, dimensions=4, k=3, scratch=tmp_path / "nowhere")


def test_each_turn_begins_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("lookalike.bench.turns.REST", 0.125)
    monkeypatch.setattr("lookalike.bench.turns.time.sleep", waited.append)
    bench_search(objects=100, dimensions=4, k=3, rounds=2, scratch=tmp_path)
    assert waited.count(0.125) == 2 * 5  # rounds, contenders
