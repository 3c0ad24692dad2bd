"""Collapse: measured against slow definitions, noticed when it lasts, never at the start."""

from __future__ import annotations

import math

import pytest
import torch

from lookalike.errors import CollapsedError, LookalikeError
from lookalike.ssl.collapse import PATIENCE, CollapseWatch, effective_rank, spread, std_of_unit


def test_spread_is_one_minus_the_mean_cosine_of_all_pairs() -> None:
    vectors = torch.randn(7, 5, dtype=torch.float64)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    cosines = [float(unit[i] @ unit[j]) for i in range(7) for j in range(7)]
    assert spread(vectors) == pytest.approx(1 - sum(cosines) / 49)
    assert spread(torch.ones(9, 4) * 3) == pytest.approx(0, abs=1e-12)


def test_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(torch.tensor([[1.0, 1, 1]]).T * torch.tensor([[1.0, 2, 3]])) == 0  # all the same
    assert effective_rank(torch.arange(5.0)[:, None] * torch.tensor([[1.0, 2, 3]])) == pytest.approx(1)
    corners = torch.cat([torch.eye(4), -torch.eye(4)])  # 4 directions of equal variance
    assert effective_rank(corners) == pytest.approx(4)


def test_std_of_unit_is_one_for_isotropic_vectors() -> None:
    assert std_of_unit(torch.randn(4000, 64)) == pytest.approx(1, abs=0.02)
    assert std_of_unit(torch.ones(10, 4)) == pytest.approx(0, abs=1e-6)


def watched(steps: int, projection: torch.Tensor, loss: float = 1.0, K: int = 64) -> CollapseWatch:
    watch = CollapseWatch(K=K, batch_size=16, lr=0.009)
    for step in range(1, steps + 1):
        watch.check(step, loss, projection)
    return watch


def test_one_way_projections_are_a_collapse_only_when_they_last() -> None:
    same = torch.ones(16, 8) + 1e-5 * torch.randn(16, 8)
    assert watched(3 + PATIENCE - 1, same).streak == PATIENCE - 1  # the first 3 steps replace the queue's start
    with pytest.raises(CollapsedError, match=r"has collapsed: for 30 steps on end.*Try a smaller lr"):
        watched(3 + PATIENCE, same)


def test_guessing_on_a_line_is_a_collapse() -> None:
    line = torch.linspace(-1, 1, 16)[:, None] * torch.tensor([[3.0, 4.0]])
    with pytest.raises(CollapsedError):
        watched(100, line, loss=math.log(65))
    watched(100, line, loss=1.0)  # it tells objects apart
    watched(100, torch.randn(16, 8), loss=math.log(65))  # guessing, but not collapsed


def test_one_good_step_starts_the_count_anew() -> None:
    watch = watched(20, torch.ones(16, 8))
    watch.check(21, 1.0, torch.randn(16, 8))
    assert watch.streak == 0


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(loss: float) -> None:
    with pytest.raises(LookalikeError, match=r"at step 1: training diverged\..* than 0.009 \(--set lr=0.003\)"):
        watched(1, torch.randn(16, 8), loss=loss)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_an_overflow_of_float16_is_not_put_down_to_the_rate_alone(precision: str) -> None:
    watch = CollapseWatch(K=64, batch_size=16, lr=0.009, precision=precision)
    with pytest.raises(LookalikeError, match=r"a smaller lr than 0.009") as caught:
        watch.check(1, math.inf, torch.randn(16, 8))
    advised = "precision=bfloat16 or precision=float32" in caught.value.message
    assert advised == (precision == "float16")
    assert "\n" not in caught.value.message
