"""MoCo v2's augmentations: crops against their definition, color changes against torchvision's."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from scipy import stats

from lookalike.augmentations import image
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.galaxy import GALAXY
from lookalike.augmentations.image import crop_boxes, default_settings, preprocess, turns, view
from lookalike.augmentations.image_settings import Crop, ImageSettings
from lookalike.augmentations.inputs import encoder_input
from lookalike.errors import InputError
from lookalike.samples import About

COLOR = About(domain="image", bands=("R", "G", "B"))
GRAY = About(domain="image", bands=("gray",))
ODDS = 1e-6
STEPS = ("crop", "turn", "flip", "negative", "jitter", "gray", "blur")


def only(*steps: str, size: int = 32, **changes: object) -> ImageSettings:
    values = {step: {"enabled": step in steps} for step in STEPS}
    return ImageSettings.checked({"bands": ("R", "G", "B"), "size": size, **values, **changes})


def draws(n: int, epoch: int = 0) -> Draws:
    return Draws(0, epoch, torch.arange(n), 0)


def test_crops_have_torchvisions_distribution() -> None:
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    n, size = 4000, 1000  # large, so that torchvision's rounding to whole px does not show
    boxes = crop_boxes(draws(n), Crop(), size, size)
    picture = torch.empty(1, size, size)
    theirs = torch.tensor([RandomResizedCrop.get_params(picture, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    top, left, height, width = theirs.double().unbind(1)
    x, y, w, h = boxes.unbind(1)
    for ours, other in ((w, width), (h, height), (x + size / 2 - w / 2, left), (y + size / 2 - h / 2, top)):
        assert stats.ks_2samp(ours.numpy(), other.numpy()).pvalue > ODDS
    assert ((x.abs() + w / 2) <= size / 2 + 1e-9).all()
    assert ((y.abs() + h / 2) <= size / 2 + 1e-9).all()


def test_a_crop_that_never_fits_becomes_the_largest_central_one() -> None:
    boxes = crop_boxes(draws(20), Crop(area=(1.0, 1.0), ratio=(3.0, 4.0)), 60, 60)
    assert (boxes[:, 2] <= 60).all()
    assert (boxes[:, :2] == 0).all()
    torch.testing.assert_close(boxes[:, 2] / boxes[:, 3], torch.full((20,), 3.0, dtype=torch.float64))


def test_crop_shows_the_part_of_the_picture_in_its_box() -> None:
    ramp = torch.arange(32.0).expand(32, 32)
    pictures = torch.stack([ramp, ramp.T, ramp * 0])[None].expand(50, 3, 32, 32)
    boxes = crop_boxes(draws(50), Crop(), 32, 32)
    seen = view(pictures, {}, draws(50), only("crop")).double()
    inner = (torch.arange(32) - 15.5)[4:-4]  # interpolation at the border repeats its pixels
    for axis in (0, 1):
        expected = boxes[:, axis, None] + inner * boxes[:, 2 + axis, None] / 32 + 15.5
        found = seen[:, axis].mean(1 if axis == 0 else 2)[:, 4:-4]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_half_of_the_pictures_are_flipped() -> None:
    pictures = torch.rand(1, 3, 8, 8).expand(4000, 3, 8, 8)
    seen = view(pictures, {}, draws(4000), only("flip", size=8))
    flipped = (seen - pictures.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    kept = (seen - pictures).abs().amax((1, 2, 3)) < 1e-4
    assert (flipped ^ kept).all()
    assert stats.binomtest(int(flipped.sum()), 4000, 0.5).pvalue > ODDS


def test_a_turned_picture_is_turned_about_its_middle_by_every_angle() -> None:
    at = torch.arange(33.0) - 16
    x, y = at.expand(33, 33), at[:, None].expand(33, 33)
    ramps = torch.stack([x, y, x * 0])[None].expand(2000, 3, 33, 33)
    seen = view(ramps, {}, draws(2000), only("turn", size=33, turn={"enabled": True, "degrees": 40})).double()
    inside = x.square() + y.square() < 12**2
    along, across = (seen[:, band][:, inside] for band in (0, 1))  # (2000, px)
    angle = torch.atan2(
        (along * y[inside] - across * x[inside]).sum(1), (along * x[inside] + across * y[inside]).sum(1)
    )
    for angles in (angle, -angle):  # whichever way round is counted as positive
        assert stats.kstest(torch.rad2deg(angles).numpy(), stats.uniform(-40, 80).cdf).pvalue > ODDS
    radius = (along.square() + across.square()).sqrt()
    wanted = (x.square() + y.square()).sqrt()[inside].double()
    torch.testing.assert_close(radius, wanted.expand_as(radius), rtol=0, atol=1e-3)


def test_negatives_swap_dark_and_bright_of_half_of_the_pictures() -> None:
    pictures = torch.rand(1, 3, 4, 4).mul(255).expand(4000, 3, 4, 4)
    seen = view(pictures, {}, draws(4000), only("negative", size=4, clip=(0.0, 255.0)))
    swapped = (seen - (255 - pictures)).abs().amax((1, 2, 3)) < 1e-3
    kept = (seen - pictures).abs().amax((1, 2, 3)) < 1e-3
    assert (swapped ^ kept).all()
    assert stats.binomtest(int(swapped.sum()), 4000, 0.5).pvalue > ODDS
    with pytest.raises(InputError, match="clip"):
        only("negative", size=4)


def test_views_show_the_center_that_the_encoder_is_given() -> None:
    pictures = torch.rand(3, 1, 41, 50) * 255
    settings, _ = default_settings(GRAY, 41, frozenset(), "uint8")
    off = settings.changed({"size": 20, **{step: {"enabled": False} for step in STEPS}})
    seen = preprocess(GRAY, off)
    copies = view(pictures, {}, draws(3), off)
    torch.testing.assert_close(encoder_input(copies, seen), encoder_input(pictures, seen), rtol=0, atol=1e-4)


def test_pictures_have_no_up_where_views_are_turned_all_round() -> None:
    assert not turns(only("turn", "flip", turn={"enabled": True, "degrees": 90}))
    assert not turns(only("turn"))
    assert turns(only("turn", "flip"))
    assert not turns(default_settings(COLOR, 64, frozenset(), "uint8")[0])


def test_color_changes_are_torchvisions() -> None:
    x = torch.rand(8, 3, 16, 16)
    for factor in (0.6, 1.0, 1.4):
        f = torch.full((8, 1, 1, 1), factor)
        for ours, theirs in (
            (image._brighten, TF.adjust_brightness),
            (image._contrast, TF.adjust_contrast),
            (image._saturate, TF.adjust_saturation),
        ):
            # torchvision rounds the weights of gray to four digits.
            torch.testing.assert_close(ours(x, f).clamp(0, 1), theirs(x, factor), rtol=0, atol=2e-4)
    for turn in (-0.1, 0.0, 0.03, 0.5):
        ours = image._turn_hue(x, torch.full((8, 1, 1, 1), turn))
        torch.testing.assert_close(ours, TF.adjust_hue(x, turn), rtol=0, atol=1e-5)


def test_jitter_changes_four_fifths_of_the_pictures_within_its_factors() -> None:
    pictures = torch.full((4000, 3, 4, 4), 100.0)
    seen = view(pictures, {}, draws(4000), only("jitter", size=4, clip=(0.0, 255.0)))
    changed = (seen - pictures).abs().amax((1, 2, 3)) > 1e-3
    assert stats.binomtest(int(changed.sum()), 4000, 0.8).pvalue > ODDS
    # Of a flat gray picture only the brightness can change.
    factor = (seen[changed, 0, 0, 0] / 100).numpy()
    assert stats.kstest(factor, stats.uniform(0.6, 0.8).cdf).pvalue > ODDS


def test_jitter_steps_come_in_every_order() -> None:
    # Brightness clips, so doing it before or after contrast differs: both orders must occur with equal parameters.
    pictures = torch.tensor([0.0, 255.0]).repeat(8).expand(2000, 3, 16, 16).contiguous()
    jitter = {"probability": 1.0, "saturation": 0.0, "hue": 0.0}
    seen = view(pictures, {}, draws(2000), only("jitter", size=16, jitter=jitter, clip=(0.0, 255.0)))
    factors = 2 * draws(2000).uniform("jitter_factors", 4) - 1
    brightness, contrast = (1 + 0.4 * factors[:, :2]).unbind(1)

    def both(first: str) -> torch.Tensor:
        values = torch.tensor([0.0, 255.0], dtype=torch.float64).expand(2000, 2)
        for step in (first, "contrast" if first == "brightness" else "brightness"):
            if step == "brightness":
                values = values * brightness[:, None]
            else:
                middle = values.mean(1, keepdim=True)
                values = middle + (values - middle) * contrast[:, None]
            values = values.clamp(0, 255)
        return values

    found = seen[:, 0, 0, :2].double()
    as_first = [(found - both(first)).abs().amax(1) < 0.05 for first in ("brightness", "contrast")]
    assert (as_first[0] | as_first[1]).all()
    assert (as_first[0] & ~as_first[1]).sum() > 300
    assert (as_first[1] & ~as_first[0]).sum() > 300


def test_a_fifth_of_the_pictures_become_gray() -> None:
    seen = view(torch.rand(1, 3, 4, 4).expand(4000, 3, 4, 4), {}, draws(4000), only("gray", size=4))
    gray = (seen.amax(1) - seen.amin(1)).amax((1, 2)) < 1e-6
    assert stats.binomtest(int(gray.sum()), 4000, 0.2).pvalue > ODDS


@pytest.mark.parametrize("size", [32, 64])
def test_blur_is_scaled_with_the_size(size: int) -> None:
    source = torch.zeros(300, 3, size, size)
    source[:, :, size // 2, size // 2] = 1.0
    settings = only("blur", size=size, blur={"low": 10.0, "high": 10.0})
    seen = view(source, {}, draws(300), settings)[:, 0].double()
    at = torch.arange(size) - size // 2
    width = ((seen.sum(1) * at**2).sum(1) / seen.sum((1, 2))).sqrt()
    blurred = width > 0.1
    assert stats.binomtest(int(blurred.sum()), 300, 0.5).pvalue > ODDS
    torch.testing.assert_close(width[blurred], torch.full_like(width[blurred], 10 * size / 224), rtol=0.02, atol=0)


def test_defaults_are_mocos_and_gray_pictures_keep_their_band() -> None:
    settings, notes = default_settings(COLOR, 64, frozenset(), "uint8")
    assert notes == []
    assert settings.clip == (0.0, 255.0)
    assert settings.crop.area == (0.2, 1.0)
    assert math.isclose(settings.crop.ratio[0] * settings.crop.ratio[1], 1)
    settings, notes = default_settings(GRAY, 28, frozenset(), "uint8")
    assert len(notes) == 1
    assert view(torch.rand(3, 1, 28, 28) * 255, {}, draws(3), settings).shape == (3, 1, 28, 28)
    settings, notes = default_settings(GRAY, 28, frozenset(), "float32")
    assert "divisor" in notes[-1]
    assert (preprocess(GRAY, settings).divisor, preprocess(GRAY, settings).dtype) == (1.0, "float32")
    with pytest.raises(InputError, match="have the bands gray, but 3"):
        view(torch.rand(3, 3, 28, 28), {}, draws(3), settings)


def test_bands_may_have_a_mean_and_std_each() -> None:
    """As torchvision's ImageNet weights expect; in galaxies' settings too."""
    numbers = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    color = ImageSettings(bands=("R", "G", "B"), size=4).changed(numbers)
    galaxy = GALAXY.settings(COLOR, 32, frozenset(), "uint8")[0].changed({"input": numbers, "size": 4})
    pixels = torch.full((1, 3, 4, 4), 102.0)
    for seen in (preprocess(COLOR, color), GALAXY.preprocess(COLOR, galaxy)):
        found = encoder_input(pixels, seen)[0, :, 2, 1]
        torch.testing.assert_close(found, (0.4 - torch.tensor(numbers["mean"])) / torch.tensor(numbers["std"]))
    with pytest.raises(InputError, match=r"input\.mean is one number or one per band, but 2 for 3 bands"):
        galaxy.changed({"input": {"mean": (0.4, 0.5)}})


@pytest.mark.parametrize(
    "change",
    [
        {"crop": {"ratio": [0, 1]}},
        {"crop": {"area": [2, 3]}},
        {"crop": {"area": [0.5, 0.2]}},
        {"blur": {"low": 5}},
        {"divisor": 0},
        {"mean": [0.4, 0.5]},
        {"std": [0.2, 0.0, 0.2]},
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused_with_their_path(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        ImageSettings(bands=("R", "G", "B"), size=32).changed(change)
