"""Random numbers of simulated objects: those of the augmentations, for any block of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lookalike.augmentations.draws import Draws as TorchDraws
from lookalike.simulate.dice import Dice
from lookalike.simulate.draws import Draws

ROWS = np.array([0, 5, 2**40])


def test_numbers_are_those_of_the_augmentations() -> None:
    ours, theirs = Draws(7, ROWS), TorchDraws(7, 0, torch.from_numpy(ROWS), 0)
    assert (ours.uniform("a", 3, 4) == theirs.uniform("a", 3, 4).numpy()).all()
    np.testing.assert_allclose(ours.normal("b", 5, 7), theirs.normal("b", 5, 7).numpy(), rtol=2e-5, atol=2e-6)


def test_a_row_draws_the_same_beside_any_others() -> None:
    all_rows = Draws(1, np.arange(9))
    for row in range(9):
        alone = Draws(1, np.array([row]))
        assert (alone.normal("n", 11)[0] == all_rows.normal("n", 11)[row]).all()
        assert alone.choice("c", np.array([1.0, 2.0]))[0] == all_rows.choice("c", np.array([1.0, 2.0]))[row]
    assert not (Draws(2, np.arange(9)).uniform("u") == all_rows.uniform("u")).any()


@pytest.mark.parametrize("n", [1, 2, 5, 11, 4000, 40_000])
def test_many_rows_draw_bit_by_bit_what_each_draws_alone(n: int) -> None:
    """Whatever is made together: rows are grouped until they fill the cache."""
    rows = np.arange(7) * 2**33 + 5
    together = Draws(3, rows).normal("n", n)
    for row, number in enumerate(rows.tolist()):
        assert (Draws(3, np.array([number])).normal("n", n)[0] == together[row]).all()
    many = Draws(3, np.arange(40_000)).normal("n", 2)
    assert (many[[0, 8191, 8192, 39_999]] == Draws(3, np.array([0, 8191, 8192, 39_999])).normal("n", 2)).all()
    assert Draws(3, np.arange(0)).normal("n", n).shape == (0, n)


def test_choices_come_as_often_as_their_weights() -> None:
    """Of 20,000, each count lies within 5 σ of its share."""
    weights = np.array([0.1, 0.0, 0.6, 0.3])
    counts = np.bincount(Draws(0, np.arange(20_000)).choice("c", weights), minlength=4)
    assert counts[1] == 0
    assert (np.abs(counts - 20_000 * weights) <= 5 * np.sqrt(20_000 * weights * (1 - weights))).all()


def test_dice_take_their_numbers_in_turn() -> None:
    dice = Dice(np.array([0.25, 0.5, 0.5, 0.0, 0.1]))
    assert dice.uniform(2, 6) == 3
    assert dice.log(1, 100) == pytest.approx(10)
    assert dice.normal(5, 2) == 5 + 2 * np.sqrt(2 * np.log(2))
    assert dice.often(0.2)
