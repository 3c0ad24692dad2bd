"""Keyed random draws: the generator against its definition, independence of the batch, and the distributions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lookalike.augmentations.draws import Draws, _mix, truncated_lognormal

MASK = (1 << 64) - 1
ODDS = 1e-6  # false-alarm odds of each statistical test here; about 10 of them


def splitmix64(state: int) -> tuple[int, int]:
    """The published generator, one step at a time: next state and output."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return state, z ^ (z >> 31)


def finish(z: int) -> int:
    """splitmix64's output function alone."""
    return splitmix64((z - 0x9E3779B97F4A7C15) & MASK)[1]


def slow_uniform(seed: int, epoch: int, row: int, view: int, name: str, n: int) -> list[float]:
    """The uniforms of one row, from the definition in Python integers."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{view}/{name}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "little")
    state = finish(finish((row * 0x9E3779B97F4A7C15 + key) & MASK) ^ key)
    out = []
    for _ in range(n):
        state, bits = splitmix64(state)
        out.append(((bits >> 12) + 0.5) * 2.0**-52)
    return out


def test_generator_gives_splitmix64s_published_values() -> None:
    # The first outputs for the seed 1234567, as printed with many implementations of the generator.
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + golden * i) & MASK for i in (1, 2, 3)]
    signed = torch.tensor([s - (1 << 64) if s >> 63 else s for s in states])
    assert [int(v) & MASK for v in _mix(signed)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 10**6),
    row=st.integers(0, 2**40),
    view=st.integers(0, 3),
    name=st.text(max_size=12).filter(lambda text: text.isprintable()),
)
def test_uniform_matches_the_slow_definition(seed: int, epoch: int, row: int, view: int, name: str) -> None:
    fast = Draws(seed, epoch, torch.tensor([row, row + 1]), view).uniform(name, 5)
    assert fast.dtype == torch.float64
    assert fast[0].tolist() == slow_uniform(seed, epoch, row, view, name, 5)


def test_a_rows_draws_do_not_depend_on_its_batch() -> None:
    whole = Draws(7, 3, torch.arange(200), 1)
    part = Draws(7, 3, torch.tensor([150, 3, 3, 64]), 1)
    for made in (lambda d: d.uniform("a"), lambda d: d.uniform("a", 3, 2), lambda d: d.normal("n", 3, 33, 33)):
        assert torch.equal(made(whole)[[150, 3, 3, 64]], made(part))


def test_draws_change_with_every_part_of_their_key() -> None:
    base = {"seed": 0, "epoch": 0, "rows": torch.arange(50), "view": 0}
    numbers = [Draws(**base).uniform("angle"), Draws(**base).uniform("scale")]
    for change in ({"seed": 1}, {"epoch": 1}, {"view": 1}, {"rows": torch.arange(50, 100)}):
        numbers.append(Draws(**(base | change)).uniform("angle"))
    assert len(torch.cat(numbers).unique()) == 50 * len(numbers)


def test_uniform_is_uniform_over_rows_and_over_elements() -> None:
    over_rows = Draws(0, 0, torch.arange(100_000), 0).uniform("u")
    over_elements = Draws(0, 0, torch.tensor([5]), 0).uniform("u", 100_000)[0]
    for u in (over_rows, over_elements):
        assert u.min() > 0
        assert u.max() < 1
        assert stats.kstest(u.numpy(), "uniform").pvalue > ODDS


def test_neighboring_rows_and_epochs_are_uncorrelated() -> None:
    rows = torch.arange(100_000)
    first, second = (Draws(0, epoch, rows, 0).uniform("u").numpy() for epoch in (0, 1))
    for a, b in ((first, second), (first[1:], first[:-1])):
        assert stats.pearsonr(a, b).pvalue > ODDS


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 32, 32)])
def test_normal_has_the_asked_shape_for_odd_and_even_sizes(shape: tuple[int, ...]) -> None:
    x = Draws(0, 0, torch.arange(4), 0).normal("n", *shape)
    assert x.shape == (4, *shape)
    assert x.dtype == torch.float32
    assert len(x.unique()) == x.numel()


def test_normal_is_normal_and_its_halves_are_independent() -> None:
    x = Draws(0, 0, torch.arange(64), 0).normal("n", 3, 64, 64)
    flat = x.flatten().double().numpy()
    assert stats.kstest(flat, "norm").pvalue > ODDS
    assert stats.kstest(flat[np.abs(flat) > 3], stats_tail).pvalue > ODDS
    cosines, sines = x.view(64, 2, -1).unbind(1)  # the two normals of each hash
    assert stats.pearsonr(cosines.flatten(), sines.flatten()).pvalue > ODDS
    assert stats.pearsonr(cosines.flatten().square(), sines.flatten().square()).pvalue > ODDS


def stats_tail(x: np.ndarray) -> np.ndarray:
    """The distribution function of a normal number known to lie beyond ±3."""
    return np.where(x < 0, stats.norm.cdf(x), stats.norm.cdf(x) - stats.norm.cdf(3) + stats.norm.cdf(-3)) / (
        2 * stats.norm.cdf(-3)
    )


@pytest.mark.parametrize(("low", "high"), [(None, None), (1.3, None), (None, 3.0), (1.3, 2.0), (0.5, 5.0)])
def test_truncated_lognormal_equals_redrawing(low: float | None, high: float | None) -> None:
    s, loc, scale = 0.4, 1.1, 1.0
    u = Draws(0, 0, torch.arange(20_000), 0).uniform("x")
    x = truncated_lognormal(u, s, loc, scale, low, high).numpy()
    redrawn = stats.lognorm(s, loc, scale).rvs(200_000, random_state=1)
    redrawn = redrawn[(redrawn >= (low or -9e9)) & (redrawn <= (high or 9e9))]
    assert x.min() >= (low or loc)
    assert x.max() <= (high or 9e9)
    assert stats.ks_2samp(x, redrawn).pvalue > ODDS


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(-(2**70), 2**70), first=st.integers(0, 2**40), n=st.integers(1, 3000), view=st.integers(0, 1))
def test_what_a_cpu_draws_natively_is_what_torch_draws(seed: int, first: int, n: int, view: int) -> None:
    draws = Draws(seed, 0, torch.arange(first, first + 7), view)
    assert torch.equal(draws.uniform("u", n), draws.uniform_by_torch("u", n))
    torch.testing.assert_close(draws.normal("n", n), draws.normal_by_torch("n", n), rtol=1e-5, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_draws_are_the_same_on_a_gpu() -> None:
    draws = Draws(3, 1, torch.arange(64), 0)
    there = draws.to("cuda")
    assert torch.equal(draws.uniform("u", 5), there.uniform("u", 5).cpu())
    torch.testing.assert_close(draws.normal("n", 3, 96, 96), there.normal("n", 3, 96, 96).cpu(), rtol=1e-5, atol=1e-5)
