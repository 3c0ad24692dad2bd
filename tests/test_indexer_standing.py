"""A build that goes on from where another stood, at any step, ends in the same lists.

pytest tests/test_indexer_standing.py
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.indexer import pairs
from lookalike.indexer.ordered import Found, Sorted, longest
from lookalike.indexer.pairs import PairBuilder, Standing
from lookalike.indexer.scores import Float32
from lookalike.indexer.windows import Ranges, everyone, ranges

Lists = tuple[NDArray[np.int64], NDArray[np.float32]]


class Case:
    """A set of many tiles, and its lists by an unbroken build."""

    def __init__(self, x: NDArray[np.float64] | None, memory: int) -> None:
        rng = np.random.default_rng(4)
        wide = rng.normal(size=(400, 12))
        self.vectors: NDArray[Any] = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
        self.memory, self.k = memory, 9
        self.within: Ranges = everyone(400) if x is None else ranges(x, 0.2)
        self.whole = self.lists(self.builder().blocks())

    def builder(self) -> PairBuilder:
        near, length = Sorted(self.vectors, self.within.order, self.memory // 4), longest(self.vectors)
        return PairBuilder(near, self.within, self.k, Float32(12, length), self.memory, length)

    def empty(self) -> Lists:
        return np.full((400, self.k), -1, np.int64), np.full((400, self.k), np.nan, np.float32)

    def lists(self, blocks: Any, into: Lists | None = None) -> Lists:
        rows, values = into or self.empty()
        for found in blocks:
            put(found, (rows, values))
        return rows, values


def put(found: Found, into: Lists) -> None:
    into[0][found.rows], into[1][found.rows] = found.neighbor_row, found.similarity


@pytest.fixture(params=[(None, 2**30), (None, 20_000), ("window", 2**30), ("window", 20_000), ("window", 1)])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(pairs, "SMALL", 16)
    monkeypatch.setattr(pairs, "TILE", 48)
    monkeypatch.setattr(pairs, "NARROW", 48)
    kind, memory = request.param
    return Case(None if kind is None else np.random.default_rng(1).normal(18, 0.5, 400), memory)


def test_a_build_goes_on_from_every_step(case: Case) -> None:
    before, builder = case.empty(), case.builder()
    steps = stripes = 0
    for found in builder.blocks():
        put(found, before)
        assert builder.standing is not None
        left: Standing = copy.deepcopy(builder.standing)
        stripes = max(stripes, left.start)
        done = case.within.order[: left.done]
        assert (before[0][done] == case.whole[0][done]).all()  # what a standing calls done was given out
        after = case.lists(case.builder().blocks(standing=left), case.empty())
        for part in (0, 1):
            after[part][done] = before[part][done]
            assert after[part].tobytes() == case.whole[part].tobytes()
        steps += 1
    assert steps > 5
    assert (stripes > 0) == (not builder.rolling)


@pytest.mark.parametrize("begin", [0, 1, 47, 200, 399, 400])
def test_a_build_that_begins_anywhere_gives_the_lists_from_there_on(case: Case, begin: int) -> None:
    found = case.lists(case.builder().blocks(begin=begin))
    rest = case.within.order[begin:]
    for part in (0, 1):
        assert found[part][rest].tobytes() == case.whole[part][rest].tobytes()
