"""Canonical similarity against exact rational arithmetic.

pytest tests/test_indexer_similarity.py
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lookalike.indexer.similarity import exact, float32_error, gamma, similarities


def nearest_float32(value: Fraction) -> np.float32:
    """Round a rational number once to float32, ties to even, from the definition."""
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    exponent = max(math.floor(math.log2(magnitude)) if magnitude > Fraction(1, 2**1000) else -1000, -126)
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > -126 and magnitude < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (exponent - 23)
    result = float(round(magnitude / step) * step)  # round() of a Fraction is to even
    return np.float32(result if value > 0 else -result)


def slow(a: NDArray[np.generic], b: NDArray[np.generic]) -> np.float32:
    terms = zip(a.tolist(), b.tolist(), strict=True)
    return np.float32(nearest_float32(sum((Fraction(x) * Fraction(y) for x, y in terms), Fraction(0))) + np.float32(0))


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.tobytes() == b.tobytes()


FLOAT32 = st.floats(-2, 2, width=32, allow_subnormal=True)
# Few bits: sums land on float32 midpoints often.
COARSE = st.sampled_from([0.0, -0.0, 0.5, -0.5, 0.25, 1.0, -1.0, 2.0**-12, -(2.0**-12), 2.0**-24, 1 + 2.0**-23])
TINY = st.sampled_from([2.0**-149, -(2.0**-149), 2.0**-126, 2.0**-75, -(2.0**-75), 2.0**-60, 1.5 * 2.0**-70, 0.0])


@settings(max_examples=400, deadline=None)
@given(st.data(), st.integers(1, 24), st.sampled_from([FLOAT32, COARSE, TINY, FLOAT32 | COARSE | TINY]))
def test_equals_the_exact_sum_rounded_once(data: st.DataObject, d: int, numbers: st.SearchStrategy[float]) -> None:
    vectors = data.draw(hnp.arrays(np.float32, (4, d), elements=numbers))
    query = data.draw(hnp.arrays(np.float32, (d,), elements=numbers))
    expected = np.array([slow(query, row) for row in vectors], np.float32)
    assert same_bits(similarities(vectors, np.arange(4), query), expected)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 12))
def test_cancellation_leaves_the_small_rest(data: st.DataObject, d: int) -> None:
    half = data.draw(hnp.arrays(np.float32, (d,), elements=FLOAT32 | COARSE))
    rest = data.draw(FLOAT32 | TINY)
    query = np.concatenate([half, half, [np.float32(1)]]).astype(np.float32)
    vector = np.concatenate([half, -half, [np.float32(rest)]]).astype(np.float32)
    got = similarities(vector[None], np.arange(1), query)
    assert same_bits(got, np.array([np.float32(rest) + np.float32(0)]))


def test_half_precision_vectors_are_summed_exactly_too() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 33)).astype(np.float16)
    query = rng.normal(size=33).astype(np.float16)
    expected = np.array([slow(query, row) for row in vectors], np.float32)
    assert same_bits(similarities(vectors, np.arange(200), query), expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rest", [0.0, 2.0**-120, -(2.0**-120), 2.0**-60, -(2.0**-60)])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_float64_on_a_float32_midpoint_is_decided_by_the_exact_rest(sign: int, rest: float, odd: int) -> None:
    # 1 + odd·2⁻²³ + 2⁻²⁴ is a midpoint; a rest this small is lost in the nearest float64.
    terms = sign * np.array([1 + odd * 2.0**-23, 2.0**-24, rest])
    expected = nearest_float32(sum((Fraction(float(x)) for x in terms), Fraction(0)))
    assert exact(terms) == expected
    assert expected == np.float32(sign * (1 + odd * 2.0**-23 + (2.0**-23 if rest > 0 or (rest == 0 and odd) else 0)))


def test_minus_zero_becomes_zero() -> None:
    got = similarities(np.array([[-0.0], [0.0]], np.float32), np.arange(2), np.array([1.0], np.float32))
    assert not np.signbit(got).any()
    assert not np.signbit(exact(np.array([-(2.0**-200)])))


def test_the_order_of_the_terms_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(300, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shuffled = rng.permutation(512)
    one = similarities(vectors, np.arange(300), vectors[7])
    other = similarities(np.ascontiguousarray(vectors[:, shuffled]), np.arange(300), vectors[7, shuffled])
    assert same_bits(one, other)
    assert one[7] == np.float32(1) or abs(one[7] - 1) < 1e-6


@pytest.mark.parametrize("d", [1, 16, 512, 2048])
def test_float32_products_lie_within_their_stated_error(d: int) -> None:
    rng = np.random.default_rng(d)
    vectors = np.abs(rng.normal(size=(500, d))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    canonical = similarities(vectors, np.arange(500), vectors[0]).astype(np.float64)
    fast = (vectors @ vectors[0]).astype(np.float64)
    naive = np.zeros(500, np.float32)  # the worst order: one term after the other
    for i in range(d):
        naive += vectors[:, i] * vectors[0, i]
    bound = float32_error(d, 1 + 1e-6, 1 + 1e-6)
    assert np.abs(fast - canonical).max() <= bound
    assert np.abs(naive - canonical).max() <= bound
    assert gamma(d, 2.0**-24) > d * 2.0**-24
