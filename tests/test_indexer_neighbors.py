"""Windows and exact neighbors against a double loop written from the definition.

pytest tests/test_indexer_neighbors.py
"""

from __future__ import annotations

import contextlib
import math
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.errors import InputError, LookalikeError
from lookalike.indexer import blocks, hints, lists, pairs, pairs_native
from lookalike.indexer.devices import CpuDevice
from lookalike.indexer.neighbors import exact_neighbors
from lookalike.indexer.ordered import Sorted, longest
from lookalike.indexer.pairs import PairBuilder
from lookalike.indexer.scores import BFloat16, Float32, Prefix, Room, Scores, principal, scores_for
from lookalike.indexer.similarity import exact, similarities
from lookalike.indexer.windows import Window, everyone, ranges

Lists = tuple[NDArray[np.int64], NDArray[np.float32]]


def slow_lists(vectors: NDArray[Any], k: int, x: NDArray[np.float64] | None, w: float) -> Lists:
    """Every object's k best by (−similarity, row) among the others within w, one pair at a time."""
    n = len(vectors)
    rows, values = np.full((n, k), -1, np.int64), np.full((n, k), np.nan, np.float32)
    numbers = vectors.astype(float).tolist()
    for i in range(n):
        # A float64 product of float32 numbers is exact, and so is the sum: only the end is rounded, here twice,
        # which differs from once for none of the (seeded) cases below with odds of about 2⁻²⁹ per pair.
        found = [
            (-float(np.float32(math.fsum(p * q for p, q in zip(numbers[i], numbers[j], strict=True)))), j)
            for j in range(n)
            if j != i and (x is None or abs(float(x[j]) - float(x[i])) <= w)
        ]
        for place, (minus, j) in enumerate(sorted(found)[:k]):
            rows[i, place], values[i, place] = j, np.float32(-minus) + np.float32(0)
    return rows, values


def fast_lists(vectors: NDArray[Any], k: int, x: NDArray[np.float64] | None, w: float, **options: Any) -> Lists:
    n = len(vectors)
    rows, values = np.full((n, k), -1, np.int64), np.full((n, k), np.nan, np.float32)
    for found in exact_neighbors(vectors, everyone(n) if x is None else ranges(x, w), k, **options):
        rows[found.rows], values[found.rows] = found.neighbor_row, found.similarity
    return rows, values


def pair_lists(
    vectors: NDArray[Any], k: int, x: NDArray[np.float64] | None, w: float, kind: str, memory_bytes: int = 2**30
) -> tuple[Lists, PairBuilder | None]:
    """The lists that a kind of scores leads to, and what built them; None where no object has a window."""
    n = len(vectors)
    rows, values = np.full((n, k), -1, np.int64), np.full((n, k), np.nan, np.float32)
    within = everyone(n) if x is None else ranges(x, w)
    if not len(within.order):
        return (rows, values), None
    near, length = Sorted(vectors, within.order, memory_bytes // 4), longest(vectors)
    scores: Scores
    if kind == "float32":
        scores = Float32(vectors.shape[1], length)
    elif kind == "bfloat16":
        scores = BFloat16(near, length)
    else:
        directions, m = principal(near), max(1, vectors.shape[1] // 3)
        scores = Prefix(near, directions[:, :m], length, directions[:, : 2 * m] if n % 2 else None)
    builder = PairBuilder(near, within, k, scores, memory_bytes, length)
    for found in builder.blocks():
        rows[found.rows], values[found.rows] = found.neighbor_row, found.similarity
    return (rows, values), builder


def same(one: Lists, other: Lists) -> bool:
    return one[0].tobytes() == other[0].tobytes() and one[1].tobytes() == other[1].tobytes()


def unit(vectors: NDArray[Any], dtype: str = "float32") -> NDArray[Any]:
    wide = vectors.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(dtype)


def small_case(seed: int) -> tuple[NDArray[Any], int, NDArray[np.float64] | None, float, dict[str, Any]]:
    """A random small data set that is full of what goes wrong: duplicates, ties, NaN, empty windows, grid values."""
    rng = np.random.default_rng(seed)
    n, d, k = int(rng.integers(1, 40)), int(rng.integers(1, 9)), int(rng.integers(1, 12))
    kind = seed % 4
    if kind == 0:  # few directions: many exact ties
        vectors = rng.integers(-1, 2, (n, d)).astype(float)
        vectors[~vectors.any(axis=1), 0] = 1
    elif kind == 1:  # duplicates of a few objects
        vectors = rng.normal(size=(max(1, n // 4), d))[rng.integers(0, max(1, n // 4), n)]
    else:
        vectors = rng.normal(size=(n, d))
    x: NDArray[np.float64] | None = np.round(rng.normal(18, 0.02, n), 3)  # on a 0.001 grid
    w = float(rng.choice([0.0, 0.001, 0.003, 0.005, 0.01, 0.05, 1.0]))
    if seed % 3 == 0:
        x = rng.choice(np.array([1.0, 2.0, 2.0005]), n)
    if x is not None:
        x[rng.random(n) < 0.15] = np.nan
    if seed % 5 == 0:
        x = None
    memory = int(rng.choice([1, 2_000, 20_000, 2**30]))
    return unit(vectors, "float16" if seed % 7 == 0 else "float32"), k, x, w, {"memory_bytes": memory}


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_equals_the_double_loop_on_random_small_cases(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MARGIN", 1)  # so that small cases reach the exhaustive pass
    monkeypatch.setattr(hints, "SURE", 0.0)  # and every other object is searched by itself
    monkeypatch.setattr(hints, "PIECE", 5)
    monkeypatch.setattr(pairs, "SMALL", 7)  # and there are several tiles and stripes
    monkeypatch.setattr(pairs, "NARROW", 7)
    for seed in range(first, first + 50):
        vectors, k, x, w, options = small_case(seed)
        expected = slow_lists(vectors, k, x, w)
        for devices in ([CpuDevice(2**20)], [CpuDevice(400, short=True, most=5), CpuDevice(90, most=6)]):
            searched = fast_lists(vectors, k, x, w, devices=devices, **options)
            assert same(searched, expected), f"seed {seed}, by {devices}"
        for kind in ("float32", "bfloat16", "prefix"):
            assert same(pair_lists(vectors, k, x, w, kind, **options)[0], expected), f"seed {seed}, {kind}"


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "prefix"])
@pytest.mark.parametrize("memory", [40_000, 2**22, 2**30])
def test_tiles_stripes_and_samples_do_not_matter(kind: str, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of many tiles, whose lists are cut, closed while others are open, or built stripe by stripe."""
    monkeypatch.setattr(pairs, "SMALL", 32)
    monkeypatch.setattr(pairs, "NARROW", 48)
    monkeypatch.setattr(pairs, "TILE", 96)
    rng = np.random.default_rng(8)
    vectors = unit(rng.normal(size=(900, 40)) * np.linspace(3, 0.1, 40))
    for x in (None, np.round(rng.normal(18, 0.5, 900), 3)):
        expected = fast_lists(vectors, 25, x, 0.2, devices=[CpuDevice(2**20)])
        found, builder = pair_lists(vectors, 25, x, 0.2, kind, memory)
        assert same(found, expected)
        assert builder is not None
        assert builder.rolling == (memory >= 2**22)


def test_each_pair_is_scored_once_and_few_are_settled() -> None:
    vectors = unit(np.random.default_rng(9).normal(size=(4000, 48)))
    _, builder = pair_lists(vectors, 40, None, 0, "float32")
    assert builder is not None
    assert builder.tally.scored == 4000 * 3999 // 2
    assert builder.tally.settled < 4 * 40 * 4000
    assert builder.tally.alone < 40


def test_the_bounds_of_scores_hold() -> None:
    """No score is further off than is said, and none of a prefix too low."""
    rng = np.random.default_rng(10)
    vectors = unit(rng.normal(size=(200, 70)) * np.geomspace(1, 1e-3, 70))
    near, length, rows = Sorted(vectors, np.arange(200), 2**30), longest(vectors), np.arange(200)
    exact = np.array([similarities(vectors, rows, vectors[row]) for row in rows])
    plain = Float32(70, length)
    assert np.abs(plain.tile(near, 0, 200, 0, 200, Room()) - exact.astype(np.float64)).max() <= plain.error
    half = BFloat16(near, length)
    assert (half.tile(near, 0, 200, 0, 200, Room()) >= half.floor(exact)).all()
    for m in (1, 7, 40):
        short = Prefix(near, principal(near)[:, :m], length)
        over = short.tile(near, 0, 200, 0, 200, Room()) - exact.astype(np.float64)
        assert over.min() >= -short.error
        assert m < 40 or over.max() < 5e-3


def test_places_are_scored_as_in_a_tile() -> None:
    """And what is told about similarities is about right, by however many directions."""
    vectors = unit(np.random.default_rng(11).normal(size=(90, 24)) * np.geomspace(1, 1e-3, 24))
    near, length, places = Sorted(vectors, np.arange(90)[::-1], 2**30), longest(vectors), np.array([3, 50, 51, 89])
    directions = principal(near)
    kinds: list[Scores] = [Float32(24, length), BFloat16(near, length), Prefix(near, directions[:, :4], length)]
    kinds.append(Prefix(near, directions[:, :4], length, directions[:, :12]))
    exact = vectors[::-1] @ vectors[::-1].T
    for scores in kinds:
        tile = scores.tile(near, 0, 90, 20, 80, Room()).astype(np.float64)
        some = scores.some(near, places, 20, 80, Room()).astype(np.float64)
        np.testing.assert_allclose(some, tile[places], rtol=0.01 if scores.name == "bfloat16" else 1e-5, atol=1e-6)
        np.testing.assert_allclose(scores.of(near, 10, 30, places), exact[10:30, places], atol=0.02)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "prefix"])
def test_what_is_told_by_a_sample_takes_no_more_memory_of_a_larger_set(kind: str) -> None:
    """Of few neighbors a tenth of the window would be looked at, whose scores grow with the number of objects."""
    vectors = unit(np.random.default_rng(12).normal(size=(60_000, 16)))
    vectors.flags.writeable = False  # as those are that are mapped from a file
    near, within, length, budget = Sorted(vectors, np.arange(60_000), 2**30), everyone(60_000), longest(vectors), 2**25
    scores: Scores = Float32(16, length)
    if kind != "float32":
        scores = BFloat16(near, length) if kind == "bfloat16" else Prefix(near, principal(near)[:, :4], length)
    builder = PairBuilder(near, within, 5, scores, budget, length)
    tracemalloc.start()
    needed = builder._needed(0, builder.rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = 60_000 // 10 * builder.rows * 4
    print(f"peak {peak / 2**20:.0f} MiB, budget {budget / 2**20:.0f} MiB; a tenth: {whole / 2**20:.0f} MiB of scores")
    assert np.isfinite(needed).all()
    assert peak < budget / 2


def test_scores_that_are_too_low_are_noticed_though_no_pair_reaches_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(50, 8)))

    def low(self: Float32, near: Sorted, a: int, b: int, c: int, d: int, room: Room) -> NDArray[Any]:
        return np.full((b - a, d - c), -2, np.float32)

    monkeypatch.setattr(Float32, "tile", low)
    with pytest.raises(LookalikeError, match="proven error"):
        list(exact_neighbors(vectors, everyone(50), 3))


def test_scores_that_err_more_than_is_proven_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(50, 8)))

    def wrong(self: Float32, near: Sorted, a: int, b: int, c: int, d: int, room: Room) -> NDArray[Any]:
        score: NDArray[Any] = near.run(a, b) @ near.run(c, d).T + np.float32(0.01)
        return score

    monkeypatch.setattr(Float32, "tile", wrong)
    with pytest.raises(LookalikeError, match="proven error"):
        list(exact_neighbors(vectors, everyone(50), 3))


@pytest.mark.parametrize("memory", [2**14, 2**30])
def test_objects_searched_again_are_scored_by_threads_that_work_alone(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait for each other took seconds on a busy machine, where this takes milliseconds."""
    monkeypatch.setattr(hints, "SURE", -1.0)  # too much is asked for, so that many are searched again
    monkeypatch.setattr(pairs, "processors", lambda: 3)
    alone: set[int] = set()
    used: set[int] = set()
    taken = Float32.some

    def some(self: Float32, near: Sorted, *place: Any) -> NDArray[Any]:
        used.add(threading.get_ident())
        assert threading.get_ident() in alone
        return taken(self, near, *place)

    monkeypatch.setattr(Float32, "alone", lambda self: alone.add(threading.get_ident()))
    monkeypatch.setattr(Float32, "some", some)
    monkeypatch.setattr(pairs, "one_blas_thread", lambda: _forgetting(alone))
    vectors = unit(np.random.default_rng(2).normal(size=(600, 16)))
    found, builder = pair_lists(vectors, 20, None, 0, "float32", memory_bytes=memory)
    assert builder is not None
    assert builder.tally.alone > 100
    assert (len(used) > 1) == (memory > 2**20)
    assert same(found, slow_lists(vectors, 20, None, 0))


@contextlib.contextmanager
def _forgetting(alone: set[int]) -> Iterator[None]:
    """As threadpoolctl does, which gives every library its threads back."""
    alone.clear()
    yield
    alone.clear()


def test_the_scores_that_cost_least_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.indexer.scores.WORTH", 0)
    rng = np.random.default_rng(11)
    wide = unit(rng.normal(size=(3000, 256)))
    flat = unit(rng.normal(size=(3000, 256)) * np.geomspace(1, 1e-4, 256))

    def name(vectors: NDArray[Any], room: int = 2**30, *, short: bool, k: int = 20) -> str:
        near = Sorted(vectors, np.arange(len(vectors)), 2**30)
        return scores_for(near, everyone(len(vectors)), k, 1.0, room, short=short).name

    assert name(wide, short=False) == "float32"
    assert name(wide, short=True) == "bfloat16"
    assert name(wide, short=True, k=1600) == "float32"  # lists end below 0, where bfloat16 tells nothing
    assert name(flat, short=True).startswith("the first")
    assert name(flat, room=1000, short=True) == "float32"


@settings(max_examples=300)
@given(st.lists(st.floats(-2, 2, width=32, allow_subnormal=True).map(lambda s: s + 0.0), min_size=1, max_size=20))
def test_keys_sort_from_the_highest_similarity_down(values: list[float]) -> None:
    similarity = np.array(values, np.float32) + np.float32(0)
    halves = lists.upper(similarity)
    assert (lists.lower(halves) == similarity).all()
    assert (similarity[np.argsort(halves, kind="stable")] == np.sort(similarity)[::-1]).all()


def test_similarities_of_0_have_no_sign() -> None:
    """Those of sparse vectors, by canceling too."""
    vectors = unit(
        np.concatenate([np.eye(8), -np.eye(8), np.array([[1, 1, -1, 1, 0, 0, 0, 0], [1, 1, 1, -1, 0, 0, 0, 0]])])
    )
    found, _ = pair_lists(vectors, 17, None, 0, "float32")
    assert same(found, slow_lists(vectors, 17, None, 0))
    assert (found[1] == 0).any()
    assert not np.signbit(found[1][found[1] == 0]).any()


@pytest.mark.parametrize("d", [1, 5, 127, 128, 129, 700])
def test_the_loops_settle_similarities_as_their_definition_does(d: int) -> None:
    """Also where the products cancel, so that float64 alone could not tell."""
    rng = np.random.default_rng(d)
    vectors = unit(rng.normal(size=(60, d)))
    vectors[30:, : d // 2 * 2] = np.repeat(vectors[30:, : d // 2], 2, axis=1) * np.tile([1, -1], d // 2)
    rows = np.arange(60)
    for row in rows:
        expected = similarities(vectors, rows, vectors[row])
        found = np.array([pairs_native.rounded(vectors, row, vectors, other) for other in rows], np.float32)
        assert (found + np.float32(0) == expected).all()


@settings(max_examples=300, deadline=None)
@given(st.integers(2**23, 2**24 - 1), st.sampled_from([-1, 0, 1]), st.integers(-60, 0), st.integers(30, 100))
def test_sums_at_the_middle_of_two_numbers_go_to_the_even_one(whole: int, side: int, scale: int, less: int) -> None:
    """And those beside it to their own side, be it by ever so little: (whole + 1/2)·2**scale ± 2**(scale − less)."""
    one, other = math.ldexp(1, scale // 2), math.ldexp(1, scale - scale // 2)
    a = np.array([[whole * one, one / 2, side * math.ldexp(one, -less)]], np.float32)
    b = np.full((1, 3), other, np.float32)
    found = np.float32(pairs_native.rounded(a, 0, b, 0))
    assert found == exact(a[0].astype(np.float64) * b[0].astype(np.float64))
    up = side > 0 or (side == 0 and whole % 2 == 1)
    assert found == np.float32(math.ldexp(whole + up, scale))
    assert pairs_native.rounded(-a, 0, b, 0) == -found


def test_a_sum_of_many_parts_has_room() -> None:
    """Bits set far apart, each of which is a part of its own until larger numbers have come and gone."""
    factors = [
        (math.ldexp(0x555555, half), math.ldexp(1, s - half)) for s in range(-298, -102, 26) for half in [s // 2]
    ]
    for e in range(-245, -23, 2):
        factors += [(math.ldexp(1, e // 2), sign * math.ldexp(1, e - e // 2)) for sign in (1, -1)]
    factors += [(1, 1), (2**-12, 2**-12)]  # together at the middle of two float32 numbers
    a, b = (np.array([numbers], np.float32) for numbers in zip(*factors, strict=True))
    products = a[0].astype(np.float64) * b[0].astype(np.float64)
    assert products.tolist() == [x * y for x, y in factors]
    careful: Any = pairs_native.side_of
    assert careful.py_func(a, 0, b, 0, 1.0) == math.fsum([*products, -1.0])  # Python's own looks at bounds
    assert pairs_native.rounded(a, 0, b, 0) == exact(products)
    assert pairs_native.rounded(a, 0, -b, 0) == -exact(products)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("windowed", [False, True])
def test_the_number_of_threads_of_a_build_does_not_matter(
    threads: int, windowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "processors", lambda: threads)
    monkeypatch.setattr(pairs, "NARROW", 16)
    monkeypatch.setattr(pairs, "TILE", 32)
    rng = np.random.default_rng(17)
    vectors = unit(rng.normal(size=(700, 12)))
    x = np.round(rng.normal(18, 0.5, 700), 2) if windowed else None
    assert same(fast_lists(vectors, 12, x, 0.2), fast_lists(vectors, 12, x, 0.2, devices=[CpuDevice(2**20)]))


@pytest.mark.parametrize("memory", [1, 30_000, 300_000, 2**30])
@pytest.mark.parametrize("most", [1, 7, 64, 1024])
def test_block_sizes_do_not_matter(memory: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    vectors = unit(rng.normal(size=(300, 16)))
    x = np.round(rng.normal(18, 0.5, 300), 3)
    expected = fast_lists(vectors, 20, x, 0.25)
    monkeypatch.setattr(blocks, "MOST_QUERIES", most)
    assert same(fast_lists(vectors, 20, x, 0.25, memory_bytes=memory, devices=[CpuDevice(2**20)]), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_matter(threads: int) -> None:
    import faiss

    rng = np.random.default_rng(7)
    vectors = unit(rng.normal(size=(150, 16)))
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        assert same(fast_lists(vectors, 12, None, 0.0, devices=[CpuDevice(2**20)]), slow_lists(vectors, 12, None, 0.0))
    finally:
        faiss.omp_set_num_threads(before)


def test_memory_stays_within_a_few_budgets_whatever_n() -> None:
    rng = np.random.default_rng(6)
    vectors = unit(rng.normal(size=(8000, 32)))
    x = np.round(rng.normal(18, 0.5, 8000), 3)
    budget = 2**23
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in exact_neighbors(vectors, ranges(x, 0.5), 20, memory_bytes=budget):
        pass
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    print(f"peak {peak / 2**20:.0f} MiB with a budget of {budget / 2**20:.0f} MiB; all scores would be 244 MiB")
    assert peak < 4 * budget


def test_5_padding_is_not_object_zero() -> None:
    """Rows with too few candidates, or with negative similarities only, must not fill up with object 0."""
    vectors = unit(np.array([[1, 0], [-1, 0], [-1, 0.1], [0, 1]]))
    rows, values = fast_lists(vectors, 3, np.array([1.0, 1.0, 9.0, 5.0]), 0.5)
    assert rows.tolist() == [[1, -1, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert values[0, 0] == -1
    assert np.isnan(values[rows < 0]).all()
    assert not np.isnan(values[rows >= 0]).any()


def test_6_the_window_is_each_objects_own_and_nan_has_none() -> None:
    """A window applied per block of queries would let object 0 reach object 2 here; a NaN would break it."""
    vectors = unit(np.ones((5, 3)))
    x = np.array([18.0, 18.4, 18.8, np.nan, 19.2])
    rows, _ = fast_lists(vectors, 4, x, 0.5)
    assert rows.tolist() == [[1, -1, -1, -1], [0, 2, -1, -1], [1, 4, -1, -1], [-1] * 4, [2, -1, -1, -1]]


def test_ties_go_to_the_lower_row_and_duplicates_come_first() -> None:
    vectors = unit(np.array([[1, 0], [1, 1], [1, 0], [1, -1], [1, 0]]))
    rows, _ = fast_lists(vectors, 4, None, 0)
    assert rows[0].tolist() == [2, 4, 1, 3]
    assert rows[2].tolist() == [0, 4, 1, 3]


def test_a_whole_set_of_one_vector_is_ranked_by_row() -> None:
    vectors = unit(np.tile(np.random.default_rng(0).normal(size=(1, 64)), (2500, 1)))
    counted = sum(found.exhaustive for found in exact_neighbors(vectors, everyone(2500), 5, devices=[CpuDevice(2**20)]))
    assert counted == 2500
    rows, _ = fast_lists(vectors[:700], 5, None, 0)
    assert rows[0].tolist() == [1, 2, 3, 4, 5]
    assert rows[3].tolist() == [0, 1, 2, 4, 5]
    assert rows[699].tolist() == [0, 1, 2, 3, 4]


def test_near_ties_below_float32_resolution_are_ranked_exactly() -> None:
    """Candidates whose similarities differ by less than a float32 product can tell."""
    rng = np.random.default_rng(2)
    base = rng.normal(size=256)
    vectors = unit(base + 1e-4 * rng.normal(size=(400, 256)))
    expected = slow_lists(vectors[:60], 7, None, 0)
    assert same(fast_lists(vectors[:60], 7, None, 0), expected)


def test_a_search_that_drops_the_last_place_is_completed() -> None:
    """The certificate must not trust the fast search to return more than it did."""
    vectors = unit(np.random.default_rng(3).normal(size=(200, 8)))
    x = np.round(np.random.default_rng(4).normal(18, 0.1, 200), 3)
    assert same(fast_lists(vectors, 150, x, 0.05, devices=[CpuDevice(2**20)]), slow_lists(vectors, 150, x, 0.05))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 3.0])
def test_vectors_that_are_not_normalized_are_refused_by_row(bad: float) -> None:
    vectors = unit(np.ones((4, 2)))
    vectors[2] = bad
    with pytest.raises(InputError, match="rows 2 "):
        longest(vectors)


# windows


@settings(deadline=None)
@given(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,20}", fullmatch=True),
    st.floats(0, 1e300, allow_nan=False),
    st.booleans(),
)
def test_a_window_survives_its_own_text(column: str, half_width: float, log: bool) -> None:
    window = Window(column, half_width, log)
    assert Window.parse(str(window)) == window
    assert Window.from_json(window.to_json()) == window


def test_windows_are_read_as_written() -> None:
    assert Window.parse("mag:0.5") == Window("mag", 0.5)
    assert Window.parse("log(pt):0.1") == Window("pt", 0.1, log=True)


@pytest.mark.parametrize(
    "text", ["", "mag", "mag:", ":0.5", "mag:x", "mag:-1", "mag:nan", "mag:inf", "log(mag:1", "a b:1"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="window"):
        Window.parse(text)


def test_log_of_what_is_not_positive_is_undefined() -> None:
    x = Window("pt", 0.1, log=True).scale(np.array([-1.0, 0.0, 1.0, np.nan, np.inf]))
    assert np.isnan(x[[0, 1, 3, 4]]).all()
    assert x[2] == 0


def slow_members(x: NDArray[np.float64], w: float) -> list[set[int]]:
    return [{j for j in range(len(x)) if abs(float(x[j]) - float(x[i])) <= w} for i in range(len(x))]


def fast_members(x: NDArray[np.float64], w: float) -> list[set[int]]:
    found = ranges(x, w)
    members: list[set[int]] = [set() for _ in x]
    for row, low, high in zip(found.order, found.low, found.high, strict=True):
        members[row] = set(found.order[low:high].tolist())
    return members


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.floats(), st.integers(-40, 40).map(lambda i: i / 1000)), max_size=30),
    st.one_of(st.floats(0, 1e308), st.integers(0, 40).map(lambda i: i / 1000)),
)
def test_ranges_equal_the_predicate(values: list[float], w: float) -> None:
    x = np.array(values, dtype=np.float64)
    x[~np.isfinite(x)] = np.nan
    assert fast_members(x, w) == slow_members(x, w)


def test_adding_the_half_width_would_be_wrong_on_a_grid() -> None:
    """On values rounded to 0.001, x + w and the predicate disagree in about 1 % of the objects."""
    rng = np.random.default_rng(0)
    x = np.round(rng.uniform(14, 22, 2000), 3)
    for w in (0.5, 0.1):
        members = fast_members(x, w)
        assert members == slow_members(x, w)
        added = [set(np.flatnonzero((x >= xi - w) & (x <= xi + w)).tolist()) for xi in x]
        disagree = sum(one != other for one, other in zip(added, members, strict=True))
        print(f"w = {w}: x ± w errs in {disagree} of {len(x)} objects")
        if w == 0.1:
            assert disagree > 0
