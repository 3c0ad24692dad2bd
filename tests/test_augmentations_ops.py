"""Picture operations against scipy.ndimage and against arithmetic done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lookalike.augmentations import ops
from lookalike.errors import InputError


def warp(image: torch.Tensor, size: int, **changes: float) -> torch.Tensor:
    """`ops.warp` of one picture (H, W), neutral but for the changes named."""
    neutral = {"flip_x": 0, "flip_y": 0, "angle": 0.0, "scale": 1.0, "shift_x": 0, "shift_y": 0} | changes
    arguments = {
        name: torch.tensor([bool(value)]) if name.startswith("flip") else torch.tensor([value], dtype=torch.float64)
        for name, value in neutral.items()
    }
    return ops.warp(image[None, None], size, **arguments)[0, 0]


def blob(size: int, x: float, y: float, sigma: float = 2.0) -> torch.Tensor:
    """A round Gaussian source (size, size) at offset x, y px from the center."""
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.exp(-((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2) / (2 * sigma**2)).float()


def moments(image: torch.Tensor) -> tuple[float, float, float, float]:
    """Centroid x, y from the center and variance in x, y of a picture (H, W), in px."""
    image = image.double()
    at = torch.arange(len(image), dtype=torch.float64) - (len(image) - 1) / 2
    total, columns, rows = image.sum(), image.sum(0), image.sum(1)
    x, y = (columns * at).sum() / total, (rows * at).sum() / total
    return (
        float(x),
        float(y),
        float((columns * (at - x) ** 2).sum() / total),
        float((rows * (at - y) ** 2).sum() / total),
    )


def test_neutral_warp_is_the_central_crop_of_encoder_input() -> None:
    for stored, size in ((52, 32), (53, 32), (52, 31), (40, 40)):
        image = torch.rand(stored, stored)
        start = (stored - size) // 2
        torch.testing.assert_close(
            warp(image, size), image[start : start + size, start : start + size], rtol=0, atol=2e-5
        )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_move_pixels_exactly(turns: int) -> None:
    image = torch.rand(20, 20)
    # +x toward +y, which np.rot90 calls a turn from the second axis to the first.
    expected = torch.from_numpy(np.rot90(image.numpy(), -turns).copy())
    torch.testing.assert_close(warp(image, 20, angle=turns * math.pi / 2), expected, rtol=0, atol=2e-5)


def test_flips_mirror_columns_and_rows() -> None:
    image = torch.rand(20, 20)
    torch.testing.assert_close(warp(image, 20, flip_x=1), image.flip(1), rtol=0, atol=2e-5)
    torch.testing.assert_close(warp(image, 20, flip_y=1), image.flip(0), rtol=0, atol=2e-5)


def test_shift_moves_the_content_by_whole_pixels() -> None:
    image = torch.rand(30, 30)
    moved = warp(image, 20, shift_x=3, shift_y=-2)
    torch.testing.assert_close(moved, image[7:27, 2:22], rtol=0, atol=2e-5)


@settings(max_examples=50, deadline=None)
@given(
    flip_x=st.booleans(),
    flip_y=st.booleans(),
    angle=st.floats(0, 2 * math.pi),
    scale=st.floats(0.9, 1.1),
    shift_x=st.integers(-4, 4),
    shift_y=st.integers(-4, 4),
    radius=st.floats(0, 8),
    direction=st.floats(0, 2 * math.pi),
)
def test_a_source_lands_where_the_steps_in_order_send_it(
    flip_x: bool, flip_y: bool, angle: float, scale: float, shift_x: int, shift_y: int, radius: float, direction: float
) -> None:
    x, y = radius * math.cos(direction), radius * math.sin(direction)
    view = warp(
        blob(64, x, y), 48, flip_x=flip_x, flip_y=flip_y, angle=angle, scale=scale, shift_x=shift_x, shift_y=shift_y
    )
    x, y = (-x if flip_x else x), (-y if flip_y else y)
    x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    found_x, found_y, *_ = moments(view)
    # Bilinear interpolation may move a narrow source by a few hundredths of a px; half a px off would be a mistake.
    assert found_x == pytest.approx(x * scale + shift_x, abs=0.08)
    assert found_y == pytest.approx(y * scale + shift_y, abs=0.08)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_fault_3_size_scaling_stretches_both_axes_alike(scale: float) -> None:
    _, _, width, height = moments(warp(blob(64, 0, 0, sigma=3.0), 64, scale=scale))
    assert width == pytest.approx(height, rel=1e-4)
    assert width == pytest.approx((3.0 * scale) ** 2, rel=0.05)  # bilinear interpolation widens by at most 1/4 px²


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 60),
    width=st.integers(8, 60),
    sigmas=st.lists(st.floats(0.01, 12.0), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_blur_is_scipys_gaussian_filter_with_reflected_edges(
    height: int, width: int, sigmas: list[float], seed: int
) -> None:
    # Kernels reach at most one picture away.
    sigma = [min(s, (min(height, width) - 1) / ops.TRUNCATE) for s in sigmas]
    images = np.random.default_rng(seed).random((2, len(sigma), height, width), np.float32)
    fast = ops.blur(torch.from_numpy(images), torch.tensor([sigma, sigma[::-1]], dtype=torch.float64))
    for b, order in enumerate((sigma, sigma[::-1])):
        for c, s in enumerate(order):
            slow = ndimage.gaussian_filter(images[b, c].astype(np.float64), s, mode="reflect", truncate=ops.TRUNCATE)
            np.testing.assert_allclose(fast[b, c], slow, rtol=0, atol=2e-6)


def test_blur_on_large_pictures_goes_by_bands_and_agrees_with_scipy() -> None:
    images = np.random.default_rng(0).random((3, 2, 152, 141), np.float32)
    sigma = torch.tensor([[0.0, 0.4], [2.0, 5.0], [1.0, 0.0]])
    fast = ops.blur(torch.from_numpy(images), sigma)
    for b, c in np.ndindex(3, 2):
        s = float(sigma[b, c])
        slow = ndimage.gaussian_filter(images[b, c].astype(np.float64), s, mode="reflect") if s else images[b, c]
        np.testing.assert_allclose(fast[b, c], slow, rtol=0, atol=2e-6)


def test_blur_of_a_source_adds_variances_and_keeps_its_flux() -> None:
    images = torch.stack([blob(64, 0, 0, sigma=1.5), blob(64, 3, -2, sigma=2.0)])[None]
    blurred = ops.blur(images, torch.tensor([[2.0, 3.0]]))
    for before, after, sigma in zip(images[0], blurred[0], (2.0, 3.0), strict=True):
        for axis in (2, 3):
            assert moments(after)[axis] == pytest.approx(moments(before)[axis] + sigma**2, rel=3e-3)
        assert float(after.sum()) == pytest.approx(float(before.sum()), rel=1e-5)


def test_blur_leaves_its_input_and_bands_of_no_sigma_alone() -> None:
    images = torch.rand(2, 2, 20, 20)
    kept = images.clone()
    blurred = ops.blur(images, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert torch.equal(images, kept)
    assert torch.equal(blurred[0, 0], images[0, 0])
    assert torch.equal(blurred[1], images[1])
    assert not torch.equal(blurred[0, 1], images[0, 1])


def test_transmission_is_ten_to_the_c_times_e() -> None:
    factor = ops.transmission(torch.tensor([0.0, 0.1]), torch.tensor([-1.2856, -0.866]))
    torch.testing.assert_close(factor, torch.tensor([[1.0, 1.0], [10**-0.12856, 10**-0.0866]]))


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (5, 9), (16, 3)])
@pytest.mark.parametrize("sigma", [0.3, 1.7, 6.0, 40.0])
def test_kernels_wider_than_the_picture_are_mirrored_as_often_as_it_takes(shape: tuple[int, int], sigma: float) -> None:
    H, W = shape
    image = np.random.default_rng(0).normal(size=shape)
    reach = min(int(4 * sigma + 0.5), max(H, W))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()

    def slow(line: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        n, period = len(line), np.concatenate([line, line[::-1]])
        return np.array(
            [
                sum(t * period[(i + d) % (2 * n)] for d, t in zip(range(-reach, reach + 1), taps, strict=True))
                for i in range(n)
            ]
        )

    expected = np.apply_along_axis(slow, 0, np.apply_along_axis(slow, 1, image))
    got = ops.blur(torch.from_numpy(image).float()[None, None], torch.tensor([[sigma]]))
    np.testing.assert_allclose(got[0, 0], expected, atol=1e-5)


def test_widths_that_are_no_widths_leave_the_band() -> None:
    images = torch.randn(1, 4, 6, 6)
    blurred = ops.blur(images, torch.tensor([[torch.nan, torch.inf, -1.0, 0.5]]))
    assert torch.equal(blurred[0, :3], images[0, :3])
    assert not torch.equal(blurred[0, 3], images[0, 3])
    assert torch.isfinite(blurred).all()


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 40),
    reach=st.floats(0.0, 60.0),
    outside=st.sampled_from(["zeros", "border"]),
    blurred=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_a_cpu_does_natively_is_what_torch_does(
    shape: tuple[int, int, int, int], size: int, reach: float, outside: str, blurred: bool, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, generator=random)
    matrix = 2 * torch.randn(len(images), 2, 2, generator=random, dtype=torch.float64)
    offset = reach * torch.randn(len(images), 2, generator=random, dtype=torch.float64)  # far outside, too
    sigma = 3 * torch.randn(shape[:2], generator=random) if blurred else None
    slow = ops.resample_by_torch(
        images if sigma is None else ops.blur_by_torch(images, sigma), matrix, offset, size, outside
    )
    fast = ops.resample(images, matrix, offset, size, outside=outside, sigma=sigma)
    # Places are in float32 of px up to some hundreds, and neighboring px differ by up to 1.
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-3)
    if sigma is not None:
        torch.testing.assert_close(ops.blur(images, sigma), ops.blur_by_torch(images, sigma), rtol=0, atol=2e-6)


def test_places_that_are_no_numbers_read_nothing_outside_the_picture() -> None:
    images, size = torch.rand(3, 2, 9, 9), 7
    matrix = torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    matrix[0] *= torch.nan
    matrix[1] *= 1e300
    offset = torch.tensor([[0, 0], [0, 0], [-torch.inf, torch.nan]], dtype=torch.float64)
    for outside in ("zeros", "border"):
        found = ops.resample(images, matrix, offset, size, outside=outside)
        assert found.shape == (3, 2, size, size)
        assert ((found >= 0) & (found <= 1)).all()


def test_places_that_no_integer_holds_are_outside_the_picture() -> None:
    images, matrix = torch.rand(2, 1, 9, 9), torch.eye(2, dtype=torch.float64).repeat(2, 1, 1)
    offset = torch.tensor([[1e30, -1e30], [-1e30, 1e30]], dtype=torch.float64)
    assert (ops.resample(images, matrix, offset, 7) == 0).all()
    found = ops.resample(images, matrix, offset, 7, outside="border")
    assert (found[0] == images[0, 0, 0, 8]).all()
    assert (found[1] == images[1, 0, 8, 0]).all()


def test_rounding_of_long_steps_invents_no_brightness() -> None:
    step = torch.linspace(1e8, 2e8, 50, dtype=torch.float64)
    matrix = step[:, None, None] * torch.eye(2, dtype=torch.float64)
    offset = (1.5 - 3 * step)[:, None].expand(-1, 2)  # of the last column and row of 7, the others are outside
    for outside in ("zeros", "border"):
        found = ops.resample(torch.rand(50, 1, 9, 9), matrix, offset, 7, outside=outside)
        assert ((found >= 0) & (found <= 1)).all()


def test_shapes_that_are_not_those_of_the_pictures_are_refused() -> None:
    images, offset = torch.rand(3, 2, 9, 9), torch.zeros(3, 2, dtype=torch.float64)
    matrix = torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    for wrong in ({"matrix": matrix[:1]}, {"offset": offset[:2]}, {"sigma": torch.ones(3, 1)}):
        with pytest.raises(ValueError, match="but must have"):
            ops.resample(images, **({"matrix": matrix, "offset": offset, "size": 7} | wrong))
    with pytest.raises(ValueError, match="but must have"):
        ops.blur(images, torch.ones(1, 2))


def test_pictures_are_shared_by_threads_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images, sigma = torch.rand(5, 3, 20, 20), torch.rand(5, 3) * 3
    neutral = {"flip_x": torch.zeros(5), "flip_y": torch.zeros(5), "scale": torch.ones(5), "angle": torch.arange(5.0)}
    shifts = {"shift_x": torch.zeros(5), "shift_y": torch.ones(5)}
    made = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        made.append((ops.blur(images, sigma), ops.warp(images, 12, sigma=sigma, **neutral, **shifts)))
    for blurred, warped in made[1:]:
        assert torch.equal(blurred, made[0][0])
        assert torch.equal(warped, made[0][1])


def test_a_gradient_reaches_the_pictures() -> None:
    images = torch.rand(2, 3, 9, 9, requires_grad=True)
    views = ops.resample(
        images, torch.eye(2).repeat(2, 1, 1), torch.zeros(2, 2), 7, sigma=torch.tensor([[0.0, 1.0, 0.5]] * 2)
    )
    views.sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def test_another_rule_for_what_lies_outside_is_refused() -> None:
    with pytest.raises(InputError, match=r"'reflection'.* Choices: zeros, border"):
        ops.resample(torch.rand(1, 1, 4, 4), torch.eye(2)[None], torch.zeros(1, 2), 4, outside="reflection")
