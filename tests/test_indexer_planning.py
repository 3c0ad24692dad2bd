"""What an index would take: the sums against real builds and hand-made cases; times only that they follow the rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.cli import main
from lookalike.embeddings import write_embeddings
from lookalike.errors import InputError
from lookalike.indexer import neighbors
from lookalike.indexer.lists_file import ListWriter
from lookalike.indexer.memory import budget_of, working_bytes
from lookalike.indexer.neighbors import builder_of, pair_builder
from lookalike.indexer.pairs import PairBuilder
from lookalike.indexer.planning import Rates, _fitted, bytes_open, measure_rates, plan, read_sample
from lookalike.indexer.windows import everyone, ranges


def unit(n: int, d: int) -> Any:
    """Vectors (n, D) of length 1."""
    vectors = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_paper_s_index() -> None:
    """42,272,646 galaxies of 2048 numbers, 999 neighbors of 4 + 4 bytes."""
    found = plan(42_272_646, 2048, 999, window_fraction=0.15, gpus=8, tflops=50)
    assert found.neighbors_bytes == pytest.approx(42_272_646 * (999 * 8 + 4), rel=1e-6)
    assert found.embeddings_bytes == pytest.approx(42_272_646 * 2048 * 4, rel=0.01)
    assert found.pairs == pytest.approx(42_272_646**2 * 0.15 * (1 - 0.0375) / 2, rel=0.001)
    assert found.flop == 2 * 2048 * found.pairs_scored
    assert found.gpu_seconds == pytest.approx(4 * 2048 * found.pairs / (8 * 50e12 * 0.5))
    # The lists of half a window, of 12 KB each, have no room in the memory of a laptop.
    assert found.pairs_scored / found.pairs == pytest.approx(2, rel=0.01)
    assert found.memory_bytes_per_process == pytest.approx(2**30 + 42_272_646 * 320, rel=0.05)
    once = plan(42_272_646, 2048, 999, window_fraction=0.15, budget=found.memory_bytes_once)
    assert (once.pairs_scored, once.pairs) == (found.pairs, found.pairs)
    assert found.seconds is None
    assert plan(2**31, 8, 10).neighbors_bytes == pytest.approx(2**31 * (10 * 12 + 4))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 1.0])
def test_pairs_are_those_a_build_scores(fraction: float) -> None:
    n = 2000
    vectors = unit(n, 8)
    within = everyone(n) if fraction == 1 else ranges(np.arange(n, dtype=np.float64), fraction * n / 2)
    builder = pair_builder(vectors, within, 5)
    list(builder.blocks())
    found = plan(n, 8, 5, window_fraction=fraction)
    assert found.pairs == pytest.approx(builder.tally.scored, rel=0.01)
    assert found.pairs_scored == found.pairs


@pytest.mark.parametrize("fraction", [0.3, 1.0])
@pytest.mark.parametrize("lists", [1500, 2100, 2900])
def test_pairs_are_scored_twice_where_lists_are_filled_in_stripes(fraction: float, lists: int) -> None:
    n, k = 6000, 300
    vectors = unit(n, 8)
    within = everyone(n) if fraction == 1 else ranges(np.arange(n, dtype=np.float64), fraction * n / 2)
    memory = 2 * lists * bytes_open(k) + 1
    builder = builder_of(vectors, within, k, memory_bytes=memory)
    assert isinstance(builder, PairBuilder)
    found = plan(n, 8, k, window_fraction=fraction, budget=budget_of(memory, n))
    if not builder.rolling:
        assert builder.stripe == lists
        list(builder.blocks())
        assert builder.tally.scored > 1.1 * found.pairs
        assert found.pairs_scored == pytest.approx(builder.tally.scored, rel=0.02)
    else:
        assert found.pairs_scored == found.pairs
    assert builder.rolling == (found.pairs_scored == found.pairs)
    once = builder_of(vectors, within, k, memory_bytes=working_bytes(found.memory_bytes_once, n, 8, k))
    assert isinstance(once, PairBuilder)
    assert once.rolling


def test_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    vectors = unit(3000, 64)
    ids = np.array([f"object-{row:06d}".encode() for row in range(3000)])
    write_embeddings(tmp_path / "e.h5", ids, [vectors], dimensions=64)
    ListWriter(tmp_path / "n.h5", 3000, 50).close()
    found = plan(3000, 64, 50)
    assert found.disk_bytes >= found.embeddings_bytes + 2 * found.neighbors_bytes
    assert found.embeddings_bytes == pytest.approx((tmp_path / "e.h5").stat().st_size, rel=0.1)
    assert found.neighbors_bytes == pytest.approx((tmp_path / "n.h5").stat().st_size, rel=0.02)


def test_time_follows_the_rates() -> None:
    one = plan(100_000, 128, 100, rates=Rates(1e-9, 0, 0, "float32"))
    assert one.seconds == pytest.approx(one.pairs * 1e-9, rel=0.2)
    assert one.scores == "float32"
    assert plan(100_000, 128, 100, rates=Rates(0, 1e-7, 0, "float32")).seconds == pytest.approx(1.0)
    assert plan(100_000, 128, 100, rates=Rates(0, 1e-7, 3, "float32")).seconds == pytest.approx(4.0)
    small = plan(100_000, 128, 100, window_fraction=0.001, rates=Rates(1, 0, 0, "float32"))
    assert small.seconds == pytest.approx(small.pairs + 100_000 * 100)  # no sample is larger than its window


def test_rates_are_measured_on_what_is_given() -> None:
    rates = measure_rates(plan(20_000, 16, 10))
    assert rates.pair >= 0
    assert rates.entry >= 0
    assert rates.start >= 0
    assert rates.pair + rates.entry > 0
    assert rates.scores == "float32"
    flat = np.random.default_rng(0).normal(size=(3000, 256)) * np.geomspace(1, 1e-4, 256)
    assert measure_rates(plan(10**6, 256, 10), vectors=flat).scores.startswith("the first")
    # Where the memory holds no copy of the vectors, a build scores by them themselves.
    assert measure_rates(plan(10**8, 256, 10), vectors=flat).scores == "float32"


def test_lists_are_as_long_as_those_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an entry takes depends on how many a list has: by lists of 100, those of 999 were held to take thrice it."""
    asked = []

    def watched(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments[2])
        return pair_builder(*arguments, **options)

    monkeypatch.setattr(neighbors, "pair_builder", watched)
    few = unit(1200, 8)
    measure_rates(plan(10**6, 8, 120), vectors=few)
    measure_rates(plan(10**6, 8, 999), vectors=few)
    assert set(asked[:6]) == {120}
    assert set(asked[6:]) == {150}  # an eighth of what there is to measure with


def test_what_takes_nothing_within_the_noise_is_not_negative() -> None:
    counted = np.array([[100.0, 10.0], [25.0, 10.0]])
    assert _fitted(counted, counted @ [2.0, 3.0]) == pytest.approx((2, 3))
    assert _fitted(counted, counted @ [2.0, -1.0]) == pytest.approx((1.75, 0))
    assert _fitted(counted, counted @ [-0.1, 3.0]) == pytest.approx((0, 2.375))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"objects": 1, "k": 1}, "at least 2 objects"),
        ({"objects": 2**32 + 1}, "at most 4,294,967,296 objects"),
        ({"dimensions": 0}, "at least 1 dimension"),
        ({"k": 0}, "k is 1 to 99"),
        ({"k": 100}, "but 100 was given"),
        ({"window_fraction": 0.0}, "above 0"),
        ({"window_fraction": 1.5}, "up to 1"),
        ({"gpus": -1}, "not negative"),
        ({"tflops": float("inf")}, "positive number"),
        ({"budget": 2**20}, "at least .* MiB of memory, but --memory 1.0 MiB was given"),
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
    assert "neighbors       8 GB" in out
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
