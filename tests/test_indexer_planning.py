"""What an index would take: the sums against real builds and hand-made cases; times only that they follow the rates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lookalike.cli import main
from lookalike.embeddings import write_embeddings
from lookalike.errors import InputError
from lookalike.indexer.neighbors import pair_builder
from lookalike.indexer.planning import Rates, measure_rates, plan, read_sample
from lookalike.indexer.store import ListWriter
from lookalike.indexer.windows import everyone, ranges


def test_the_paper_s_index() -> None:
    """42,272,646 galaxies of 2048 numbers, 999 neighbors of 4 + 4 bytes."""
    found = plan(42_272_646, 2048, 999, window_fraction=0.15, gpus=8, tflops=50)
    assert found.neighbors_bytes == 42_272_646 * 999 * 8
    assert found.embeddings_bytes == pytest.approx(42_272_646 * 2048 * 4, rel=0.01)
    assert found.pairs == pytest.approx(42_272_646**2 * 0.15 * (1 - 0.0375) / 2, rel=0.001)
    assert found.flop == 2 * 2048 * found.pairs
    assert found.gpu_seconds == pytest.approx(2 * found.flop / (8 * 50e12 * 0.5))
    assert found.seconds is None
    assert plan(2**31, 8, 10).neighbors_bytes == 2**31 * 10 * 12


@pytest.mark.parametrize("fraction", [0.1, 0.3, 1.0])
def test_pairs_are_those_a_build_scores(fraction: float) -> None:
    n = 2000
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    within = everyone(n) if fraction == 1 else ranges(np.arange(n, dtype=np.float64), fraction * n / 2)
    builder = pair_builder(vectors, within, 5)
    list(builder.blocks())
    assert plan(n, 8, 5, window_fraction=fraction).pairs == pytest.approx(builder.tally.scored, rel=0.01)


def test_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([f"object-{row:06d}".encode() for row in range(3000)])
    write_embeddings(tmp_path / "e.h5", ids, [vectors], dimensions=64)
    ListWriter(tmp_path / "n.h5", 3000, 50).close()
    found = plan(3000, 64, 50)
    assert found.embeddings_bytes == pytest.approx((tmp_path / "e.h5").stat().st_size, rel=0.1)
    assert found.neighbors_bytes == pytest.approx((tmp_path / "n.h5").stat().st_size, rel=0.1)


def test_time_follows_the_rates() -> None:
    one = plan(100_000, 128, 100, rates=Rates(1e-9, 0, "float32"))
    assert one.seconds == pytest.approx(one.pairs * 1e-9, rel=0.2)
    assert one.scores == "float32"
    assert plan(100_000, 128, 100, rates=Rates(0, 1e-7, "float32")).seconds == pytest.approx(1.0)


def test_rates_are_measured_on_what_is_given() -> None:
    rates = measure_rates(16, 10)
    assert rates.pair >= 0
    assert rates.entry >= 0
    assert rates.pair + rates.entry > 0
    assert rates.scores == "float32"
    flat = np.random.default_rng(0).normal(size=(3000, 256)) * np.geomspace(1, 1e-4, 256)
    assert measure_rates(256, 10, work=1e15, vectors=flat).scores.startswith("the first")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"objects": 1, "k": 1}, "at least 2 objects"),
        ({"dimensions": 0}, "at least 1 dimension"),
        ({"k": 0}, "k is 1 to 99"),
        ({"k": 100}, "but 100 was given"),
        ({"window_fraction": 0.0}, "above 0"),
        ({"window_fraction": 1.5}, "up to 1"),
        ({"gpus": -1}, "not negative"),
        ({"tflops": float("inf")}, "positive number"),
    ],
)
def test_what_no_index_can_be_of_is_refused(arguments: dict[str, float], words: str) -> None:
    asked = {"objects": 100, "dimensions": 8, "k": 10} | arguments
    with pytest.raises(InputError, match=words):
        plan(**asked)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["lookalike", "plan", "--objects", "1000000", "--dim", "512", "--gpus", "2", "--no-measure"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "neighbors       7.99 GB" in out
    assert "say what each computes with --tflops" in out
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["pairs"] == (10**12 - 10**6) // 2
    vectors = np.eye(8, dtype=np.float32)
    write_embeddings(tmp_path / "e.h5", np.array([b"%d" % row for row in range(8)]), [vectors], dimensions=8)
    for dimensions, words in ((8, "1,000 vectors are needed"), (9, "have 8 numbers")):
        with pytest.raises(InputError, match=words):
            read_sample(tmp_path / "e.h5", dimensions)
