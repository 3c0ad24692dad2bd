"""Jet images against their definition, event by event, and what they must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.jet_image import BANDS, SIZE, JetImage, wrapped
from lookalike.errors import InputError

Rows = NDArray[np.float64]


def seen(**values: object) -> JetImage:
    return JetImage.checked({"kind": "jet", **values})


def wrap(angle: float) -> float:
    """The angle within (−π, π]."""
    while angle > math.pi:
        angle -= 2 * math.pi
    while angle <= -math.pi:
        angle += 2 * math.pi
    return angle


def image_of(constituents: Rows, *, align: bool, size: int = SIZE, half_width: float = 1.0) -> Rows:
    """The definition: one jet's constituents (n, 3) of pT, η, φ -> (size, size) GeV, rows φ′, columns η′."""
    image = np.zeros((size, size))
    if not len(constituents):
        return image
    pt = constituents[:, 0]
    start = constituents[pt.argmax(), 2]
    phi_mean = start + sum(p * wrap(phi - start) for p, _, phi in constituents) / pt.sum()
    eta_mean = sum(p * eta for p, eta, _ in constituents) / pt.sum()
    points = np.array([[eta - eta_mean, wrap(phi - phi_mean)] for _, eta, phi in constituents])
    if align:
        moments = sum(p * np.outer(point, point) for p, point in zip(pt, points, strict=True))
        values, vectors = np.linalg.eigh(moments)
        major = vectors[:, values.argmax()]
        points = np.array([[major @ point, major[0] * point[1] - major[1] * point[0]] for point in points])
        sums = {
            (u, v): sum(p for p, (x, y) in zip(pt, points, strict=True) if (x >= 0) == (u > 0) and (y >= 0) == (v > 0))
            for u in (1, -1)
            for v in (1, -1)
        }
        points = points * np.array(max(sums, key=lambda quadrant: sums[quadrant]))
    for p, (x, y) in zip(pt, points, strict=True):
        if abs(x) <= half_width and abs(y) <= half_width:
            column = min(int((x + half_width) / (2 * half_width) * size), size - 1)
            row = min(int((y + half_width) / (2 * half_width) * size), size - 1)
            image[row, column] += p
    return image


def drawn(rng: np.random.Generator, n: int, jet: int = 0) -> Rows:
    """A jet of n constituents (n, 4) somewhere in the detector, often across φ = ±π."""
    axis = rng.uniform(-2, 2), rng.choice([rng.uniform(-math.pi, math.pi), math.pi])
    found = np.empty((n, 4))
    found[:, 0] = rng.exponential(20, n) + 0.1
    found[:, 1] = axis[0] + rng.normal(0, 0.3, n)
    found[:, 2] = [wrap(axis[1] + away) for away in rng.normal(0, 0.3, n)]
    found[:, 3] = jet
    return found


def stacked(events: list[Rows], places: int) -> torch.Tensor:
    batch = np.zeros((len(events), places, 4), np.float32)
    for row, event in enumerate(events):
        batch[row, : len(event)] = event
    return torch.from_numpy(batch)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("size", "half_width"), [(75, 1.0), (32, 0.8)])
def test_a_batch_is_the_definition_event_by_event(align: bool, size: int, half_width: float) -> None:
    rng = np.random.default_rng(0)
    events = [
        np.concatenate([drawn(rng, n, 0), drawn(rng, m, 1)]) for n, m in [(1, 1), (5, 40), (30, 2), (12, 0), (0, 3)]
    ]
    events = [rng.permutation(event) for event in events]
    batch = stacked(events, 50)
    found = encoder_input(batch, seen(align=align, size=size, half_width=half_width, value="pt"))
    assert found.shape == (5, 2, size, size)
    assert found.dtype == torch.float32
    for row, event in enumerate(batch.double().numpy()):
        for jet in (0, 1):
            own = event[(event[:, 3] == jet) & (event[:, 0] > 0)][:, :3]
            wanted = image_of(own, align=align, size=size, half_width=half_width)
            np.testing.assert_allclose(found[row, jet], wanted, rtol=1e-5, atol=1e-6)


def test_values_are_mapped_by_the_stated_rule() -> None:
    batch = stacked([drawn(np.random.default_rng(3), 20)], 25)
    gev = encoder_input(batch, seen(jets=1, value="pt"))
    torch.testing.assert_close(encoder_input(batch, seen(jets=1)), torch.log1p(gev))
    torch.testing.assert_close(encoder_input(batch, seen(jets=1, scale=5)), torch.log1p(gev / 5))
    total = batch[0, :, 0].sum()
    torch.testing.assert_close(encoder_input(batch, seen(jets=1, value="share", scale=0.1)), gev / total / 0.1)


def test_one_jet_data_fill_one_channel_and_an_empty_event_none() -> None:
    batch = stacked([drawn(np.random.default_rng(1), 9), np.empty((0, 4))], 12)
    one, two = (encoder_input(batch, seen(jets=jets, align=True)) for jets in (1, 2))
    assert one.shape == (2, 1, SIZE, SIZE)
    torch.testing.assert_close(one[:, 0], two[:, 0])
    assert not two[:, 1].any()
    assert not two[1].any()
    assert two.isfinite().all()


def safe(event: Rows, turn: float = 0.0) -> bool:
    """Whether no rounding to float32 can move a constituent to another pixel, or the steps to another choice."""
    pt, start = event[:, 0], event[event[:, 0].argmax(), 2]
    phi = np.array([wrap(value - start) for value in event[:, 2]])
    points = np.stack([event[:, 1] - (pt @ event[:, 1]) / pt.sum(), phi - (pt @ phi) / pt.sum()], axis=1)
    moments = (pt[:, None] * points).T @ points
    values, vectors = np.linalg.eigh(moments)
    if values[1] < 1.05 * values[0] + 1e-3:
        return False
    along = points @ vectors[:, ::-1]
    sums = sorted(
        pt[(along[:, 0] >= 0) == u][((along[:, 1] >= 0)[(along[:, 0] >= 0) == u]) == v].sum()
        for u in (0, 1)
        for v in (0, 1)
    )
    edges = [(p + 1) * SIZE / 2 for p in (points, along)]
    near = min(float(np.abs(edge - np.rint(edge)).min()) for edge in edges)
    return bool(near > 1e-3 and np.abs(along).min() > 1e-4 and sums[-1] > 1.001 * sums[-2])


@given(seed=st.integers(0, 10**6), n=st.integers(3, 12), eta=st.floats(-2, 2), phi=st.floats(-7, 7))
@settings(max_examples=60)
def test_the_image_does_not_depend_on_where_the_jet_is(seed: int, n: int, eta: float, phi: float) -> None:
    event = drawn(np.random.default_rng(seed), n)
    assume(safe(event))
    moved = event.copy()
    moved[:, 1] += eta
    moved[:, 2] = [wrap(value + phi) for value in moved[:, 2]]
    for align in (False, True):
        here, there = encoder_input(stacked([event, moved], n), seen(jets=1, align=align, value="pt"))
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 10**6), n=st.integers(3, 12), angle=st.floats(-math.pi, math.pi), mirrored=st.booleans())
@settings(max_examples=60)
def test_the_aligned_image_does_not_depend_on_how_the_jet_lies(seed: int, n: int, angle: float, mirrored: bool) -> None:
    event = drawn(np.random.default_rng(seed), n)
    assume(safe(event))
    pt, start = event[:, 0], event[event[:, 0].argmax(), 2]
    phi = np.array([wrap(value - start) for value in event[:, 2]])
    eta_mean, phi_mean = (pt @ event[:, 1]) / pt.sum(), (pt @ phi) / pt.sum()
    u, v = event[:, 1] - eta_mean, (phi - phi_mean) * (-1 if mirrored else 1)
    turned = event.copy()
    turned[:, 1] = eta_mean + np.cos(angle) * u - np.sin(angle) * v
    turned[:, 2] = [wrap(start + phi_mean + value) for value in np.sin(angle) * u + np.cos(angle) * v]
    here, there = encoder_input(stacked([event, turned], n), seen(jets=1, align=True, value="pt"))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 20))
@settings(max_examples=30)
def test_the_order_of_constituents_does_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    event = drawn(rng, n)
    both = stacked([event, rng.permutation(event)], n)
    here, there = encoder_input(both, seen(jets=1))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


def test_no_momentum_within_reach_is_lost() -> None:
    batch = stacked([drawn(np.random.default_rng(row), 30) for row in range(8)], 30)
    image = encoder_input(batch, seen(jets=1, value="pt", half_width=4.0))
    torch.testing.assert_close(image.sum((1, 2, 3)), batch[..., 0].sum(1), rtol=1e-5, atol=1e-4)


def test_angles_are_wrapped_with_pi_inside() -> None:
    angles = torch.tensor([math.pi, -math.pi, 0.0, 3 * math.pi, 4.0, -4.0], dtype=torch.float64)
    wanted = torch.tensor([wrap(value) for value in angles.tolist()], dtype=torch.float64)
    torch.testing.assert_close(wrapped(angles), wanted)
    assert float(wrapped(angles)[1]) == math.pi


def test_settings_and_objects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="the numbers of a constituent are pt, eta, phi, jet"):
        seen(bands=("pt", "eta", "phi"))
    with pytest.raises(InputError, match=r"takes constituents \(P, 4\) of pt, eta, phi, jet, but \(5, 3\)"):
        seen().check((5, 3), np.dtype(np.float32))
    with pytest.raises(InputError, match="trained on float32 constituents, but uint8"):
        seen().check((5, 4), np.dtype(np.uint8))
    seen().check((5, 4), np.dtype(np.float32))
    assert seen().bands == BANDS
    assert JetImage.model_validate_json(seen(align=True).model_dump_json()) == seen(align=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_image_is_the_same_on_a_gpu() -> None:
    batch = stacked([drawn(np.random.default_rng(row), 30, row % 2) for row in range(8)], 30)
    here, there = (encoder_input(batch.to(device), seen(align=True)).cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
