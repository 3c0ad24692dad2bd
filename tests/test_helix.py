"""Helices from the beam line, in NumPy and torch: against points computed along one, and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lookalike.helix import arc, curvature_of, discrepancy, misses, through


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


KINDS = pytest.mark.parametrize(("xp", "array"), [(np, np.array), (torch, tensor)], ids=["numpy", "torch"])


def test_a_particle_of_one_gev_in_two_tesla_has_a_radius_of_five_thirds_of_a_meter() -> None:
    assert 1 / curvature_of(1.0, 2.0) == pytest.approx(1666.7, abs=0.1)
    assert curvature_of(0.5, 2.0) == pytest.approx(2 * curvature_of(1.0, 2.0))


@given(
    st.floats(0.3, 20), st.sampled_from([-1, 1]), st.floats(-3, 3), st.floats(-5, 5), st.floats(-20, 20), st.booleans()
)
def test_two_hits_of_a_helix_give_it_back(
    pt: float, charge: int, phi: float, cot: float, z: float, outward: bool
) -> None:
    """Points are stepped along the circle by its angle, with no formula of the module."""
    kappa = charge * curvature_of(pt, 2.0)
    radius = 1 / kappa
    s = np.array([40.0, 200.0, 500.0])
    x = radius * (np.sin(phi + kappa * s) - math.sin(phi))
    y = radius * (math.cos(phi) - np.cos(phi + kappa * s))
    r, azimuth, along = np.hypot(x, y), np.arctan2(y, x), z + cot * s
    order = [0, 2] if outward else [2, 0]
    first, second = ((r[i], azimuth[i], along[i]) for i in order)
    for xp, array in ((np, np.array), (torch, tensor)):
        found = through(xp, *(array(value) for value in (*first, *second)))
        assert float(found.kappa) == pytest.approx(kappa, rel=1e-6)
        assert math.cos(float(found.phi) - phi) == pytest.approx(1, abs=1e-10)
        assert float(found.cot) == pytest.approx(cot, abs=1e-6)
        assert float(found.z) == pytest.approx(z, abs=1e-4)
        across, off = misses(xp, found, array(r[1]), array(azimuth[1]), array(along[1]))
        assert max(abs(float(across)), abs(float(off))) < 1e-3


@KINDS
def test_the_arc_of_a_straight_track_is_its_distance(xp: Any, array: Any) -> None:
    r = array([30.0, 1000.0])
    np.testing.assert_allclose(arc(xp, r, 0 * r), r)
    np.testing.assert_allclose(arc(xp, r, array([1e-3, -1e-3])), [2000 * math.asin(0.015), 2000 * math.asin(0.5)])


@KINDS
def test_a_miss_is_measured_across_and_at_a_right_angle_along(xp: Any, array: Any) -> None:
    straight = through(xp, array(100.0), array(0.0), array(100.0), array(300.0), array(0.0), array(300.0))  # cot θ = 1
    across, along = misses(xp, straight, array(200.0), array(0.01), array(205.0))
    assert float(across) == pytest.approx(2.0)
    assert float(along) == pytest.approx(5 / math.sqrt(2))


@KINDS
def test_hits_of_one_straight_line_from_the_origin_are_not_unlike(xp: Any, array: Any) -> None:
    here, there = (array(100.0), array(3.1), array(50.0)), (array(400.0), array(-3.1 - 2e-16), array(200.0))
    turn = 2 * math.pi - 6.2
    bend = turn**2 / ((1e-3 * 300 / 2) ** 2 + 1 / 100**2 + 1 / 400**2)
    assert float(discrepancy(xp, here, there, 1e-3, 8.0, 1.0)) == pytest.approx(bend, rel=1e-3)
    level = (array(400.0), array(3.1), array(200.0))
    assert float(discrepancy(xp, here, level, 1e-3, 8.0, 1.0)) == pytest.approx(0, abs=1e-20)


def test_two_hits_in_one_place_make_no_number_undefined() -> None:
    place = [torch.tensor(value) for value in (50.0, 1.0, 20.0)]
    found = through(torch, *place, *place)
    assert all(bool(torch.isfinite(each)) for each in found)
    assert float(found.cot) == pytest.approx(0.4)
