"""Two indexes side by side: overlap and rank-biased overlap against their definitions and cases by hand.

pytest tests/test_indexer_compare.py
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lookalike.embeddings import write_embeddings
from lookalike.errors import InputError
from lookalike.indexer import compare as module
from lookalike.indexer.compare import BINS, binned, compare
from lookalike.indexer.index import build_index
from lookalike.indexer.overlap import Matched, overlap_at, rank_biased_overlap
from lookalike.indexer.store import Index
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples

Lists = list[int]
rankings = st.lists(st.integers(0, 12), max_size=9, unique=True)


def slow_rbo(a: Lists, b: Lists, p: float) -> float:
    """The sum to infinity: past the longer list agreement stays, past the shorter its own agreement is carried on."""
    short, long = sorted((a, b), key=len)
    s, ell = len(short), len(long)
    if not ell:
        return float("nan")

    def x(depth: int) -> int:
        return len(set(a[:depth]) & set(b[:depth]))

    def agreement(depth: int) -> float:
        carried = x(s) * (depth - s) / s if s and depth > s else 0.0
        return (x(depth) + carried) / depth

    total = sum((1 - p) * p ** (d - 1) * agreement(d) for d in range(1, ell + 1))
    tail = agreement(ell)
    return total + sum((1 - p) * p ** (d - 1) * tail for d in range(ell + 1, ell + 400))


def slow_overlap(a: list[Any], b: list[Any], k: int) -> float:
    """The share of the first k that both name, of the longer list's length where that is less."""
    longer = min(k, max(len(a), len(b)))
    return len(set(a[:k]) & set(b[:k])) / longer if longer else float("nan")


def stored(folder: Path, name: str, rows: Any, vectors: Any, mag: Any) -> tuple[Path, Path]:
    """Embeddings and samples of objects named after their rows of a larger set."""
    folder.mkdir()
    place, path = folder / "embeddings.h5", folder / f"{name}.h5"
    with write_samples(path, About(domain="image", bands=("v",)), {"mag": Column("mag")}) as writer:
        writer.append([f"o{row}" for row in rows], np.full((len(rows), 1, 4, 4), 7, np.uint8), {"mag": mag[rows]})
    write_embeddings(place, Samples(path).ids, iter([vectors[rows]]), dimensions=vectors.shape[1])
    return place, path


def one(ranking: Lists) -> Any:
    return np.array([[*ranking, -1]], np.int64)


@given(rankings, rankings, st.sampled_from([0.3, 0.8, 0.9]), st.integers(1, 12))
def test_agrees_with_the_definition(a: Lists, b: Lists, p: float, k: int) -> None:
    matched = Matched.of(one(a), one(b))
    found = rank_biased_overlap(matched, p)[0]
    assert found == pytest.approx(slow_rbo(a, b, p), abs=1e-9, nan_ok=True)
    assert overlap_at(matched, k)[0] == pytest.approx(slow_overlap(a, b, k), nan_ok=True)


def test_cases_by_hand() -> None:
    def rbo(a: Lists, b: Lists, p: float) -> float:
        return float(rank_biased_overlap(Matched.of(one(a), one(b)), p)[0])

    assert rbo([1, 2, 3], [1, 2, 3], 0.9) == pytest.approx(1)
    assert rbo([1, 2, 3], [4, 5, 6], 0.9) == 0
    # Two swapped: agreements 0, 1; (1 − p)/p · p² · 1 + 1 · p² = p
    assert rbo([1, 2], [2, 1], 0.6) == pytest.approx(0.6)
    # First in common alone: (1 − p)/p · (p + p²/2) + p²/2 = 1 − p/2
    assert rbo([1, 2], [1, 3], 0.5) == pytest.approx(0.75)
    assert rbo([], [1], 0.5) == 0
    assert np.isnan(rbo([], [], 0.5))
    with pytest.raises(InputError, match="p lies above 0 and below 1"):
        rbo([1], [1], 1.0)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Indexes of objects 0–49 and 10–59 of one set, by other vectors."""
    rng = np.random.default_rng(0)
    mag = rng.normal(20, 0.5, 60)
    mag[20] = np.nan
    for name, rows, k in (("a", np.arange(50), 5), ("b", np.arange(10, 60)[::-1], 7)):
        place, samples = stored(tmp_path / name, name, rows, rng.normal(size=(60, 4)), mag)
        build_index(place, [samples], tmp_path / f"{name}-index", k=k, window="mag:0.2", quiet=True)
    return tmp_path / "a-index", tmp_path / "b-index"


def names(index: Path) -> dict[str, list[str]]:
    opened = Index(index)
    ids = opened.open_samples().ids.astype(str)
    return {ids[row]: [ids[j] for j in found if j >= 0] for row, found in enumerate(opened.neighbor_row)}


@pytest.mark.parametrize("block", [1, 2**25])
def test_indexes_are_matched_by_id(two: tuple[Path, Path], tmp_path: Path, monkeypatch: Any, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    table = tmp_path / "t.csv"
    report = compare(*two, depths=[1, 3, 5, 7, 99], p=0.8, out=table, plot=tmp_path / "p.png", quiet=True)
    a, b = names(two[0]), names(two[1])
    common = [f"o{row}" for row in range(10, 50)]
    assert (report.common, report.only_a, report.only_b, report.depth) == (40, 10, 10, 5)
    assert list(report.overlap) == [1, 3, 5]  # a's lists have no more
    for depth, mean in report.overlap.items():
        shares = [slow_overlap(a[name], b[name], depth) for name in common]
        assert mean == pytest.approx(np.nanmean(shares))
    code = {name: place for place, name in enumerate(sorted({*a, *b}))}
    rbo = [slow_rbo([code[n] for n in a[name]], [code[n] for n in b[name]], 0.8) for name in common]
    assert report.rbo == pytest.approx(np.nanmean(rbo))
    assert report.without == np.isnan(rbo).sum() > 0
    with table.open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert list(rows) == common
    for name in common:
        gained = [other for other in b[name][:5] if other not in a[name][:5]]
        lost = [other for other in a[name][:5] if other not in b[name][:5]]
        assert rows[name]["gained_ids"].split() == gained
        assert rows[name]["lost_ids"].split() == lost
        assert (int(rows[name]["gained"]), int(rows[name]["lost"])) == (len(gained), len(lost))
    every = [other for name in common for other in b[name][:5] if other not in a[name][:5]]
    assert (report.gained, report.gained_new) == (len(every), sum(int(other[1:]) >= 50 for other in every))
    gone = [other for name in common for other in a[name][:5] if other not in b[name][:5]]
    assert (report.lost, report.lost_gone) == (len(gone), sum(int(other[1:]) < 10 for other in gone))
    assert report.unchanged == sum(set(a[name][:5]) == set(b[name][:5]) for name in common)
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size[0] > 600
    assert sum(report.histogram["rbo"]) == 40 - report.without


def test_shares_on_an_edge_are_counted_above_it() -> None:
    for depth in (1, 3, 7, 10, 20, 50, 100, 999, 4096):
        common = np.arange(depth + 1)
        slow = [0] * BINS
        for count in range(depth + 1):
            slow[min(count * BINS // depth, BINS - 1)] += 1
        assert binned(common / depth).tolist() == slow


def test_an_index_equals_itself(two: tuple[Path, Path]) -> None:
    report = compare(two[0], two[0], quiet=True)
    assert (report.rbo, report.overlap, report.unchanged) == (pytest.approx(1), {1: 1.0}, 50)


def test_the_command_and_what_it_refuses(two: tuple[Path, Path], command: Callable[..., Any], tmp_path: Path) -> None:
    done = command("compare", *two, "-k", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["overlap"].keys() == {"3"}
    assert "rank-biased overlap, p = 0.9" in command("compare", *two).stdout
    for wrong, words in (
        (("-p", 1), "below 1"), (("--out", tmp_path / "t.parquet"), ".csv"), (("--plot", tmp_path / "t.svg"), ".png")
    ):  # fmt: skip
        done = command("compare", *two, *wrong)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert not [*tmp_path.glob("t.*")]
    other = stored(tmp_path / "x", "x", np.arange(60, 63), np.random.default_rng(0).normal(size=(63, 4)), np.zeros(63))
    build_index(other[0], [other[1]], tmp_path / "x-index", k=1, window=None, quiet=True)
    with pytest.raises(InputError, match="no id in common"):
        compare(two[0], tmp_path / "x-index", quiet=True)


def test_no_cell_is_run_by_a_spreadsheet(tmp_path: Path) -> None:
    """Ids may begin with a sign; numbers are left as they are."""
    ids = ["+a", "-x", "-1", "b"]
    samples = tmp_path / "samples.h5"
    with write_samples(samples, About(domain="image", bands=("v",)), {}) as writer:
        writer.append(ids, np.full((4, 1, 4, 4), 7, np.uint8), {})
    for name, vectors in (("one", np.eye(4) + 0.1), ("two", np.eye(4)[::-1] + np.triu(np.ones((4, 4))))):
        path = tmp_path / f"{name}.h5"
        write_embeddings(path, Samples(samples).ids, iter([vectors]), dimensions=4)
        build_index(path, [samples], tmp_path / name, k=1, window=None, quiet=True)
    compare(tmp_path / "one", tmp_path / "two", out=tmp_path / "t.csv", quiet=True)
    with (tmp_path / "t.csv").open(newline="") as file:
        cells = [cell for line in list(csv.reader(file))[1:] for cell in line]
    assert {"'+a", "'-x", "-1", "b"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(("+", "=", "@")) or cell == "-x"]
