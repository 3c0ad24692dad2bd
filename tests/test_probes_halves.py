"""What each object of a half may find, by weight, against sums of just those."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.probes.halves import _to_find

NUMBERS = {
    "ones": lambda rng, n: np.ones(n),
    "some are 0": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, rng.lognormal(0, 3, n)),
    "one outweighs all": lambda rng, n: np.where(np.arange(n) == 0, 1e16, 1.0),
    "signed": lambda rng, n: rng.normal(size=n),
}


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(NUMBERS)), n=st.integers(1, 40), classes=st.integers(1, 5), barred=st.booleans(),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_sums_are_of_what_may_be_found(kind: str, n: int, classes: int, barred: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    of, amounts = rng.integers(0, classes, n), NUMBERS[kind](rng, n)
    left_out: list[Any] | None = None
    if barred:
        left_out = [np.setdiff1d(np.flatnonzero(rng.random(n) < 0.6), [row]) for row in range(n)]
    same, every = _to_find(of, amounts, left_out)
    size = float(np.abs(amounts).sum())
    for row in range(n):
        others = [other for other in range(n) if other != row and (left_out is None or other not in left_out[row])]
        alike = [other for other in others if of[other] == of[row]]
        for found, among in ((same[row], alike), (every[row], others)):
            # What bars take away is subtracted, at the rounding of all; without bars nothing is.
            away = 1e-13 * size if barred else 1e-13 * float(np.abs(amounts[among]).sum())
            assert found == pytest.approx(math.fsum(amounts[among]), abs=away, rel=0)
            if not amounts[among].any():
                assert found == 0
