"""Foregrounds against their stated distributions, and against one picture at a time by NumPy and SciPy.

Draws are keyed, so every test is deterministic; 1e-6 is the odds at which a right implementation with another seed
would fail one statistical test. There are 14 of them: together below 2e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, ndimage, stats

from lookalike.augmentations.bank import Bank, bank_of, own_pixels, read_bank
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.foreground import (
    Placed,
    added,
    linear,
    own_flux,
    paste,
    placed,
    psf,
    shown,
    stars_at,
    with_foreground,
    without_sky,
)
from lookalike.augmentations.galaxy import GALAXY, view
from lookalike.augmentations.galaxy_settings import Foreground, GalaxySettings, default_settings
from lookalike.errors import InputError
from lookalike.samples import Samples

Write = Callable[..., Path]
ODDS = 1e-6
N = 20_000
BANDS = ("g", "r", "z")
SIZE, WIDTH, HEIGHT = 32, 40, 37


def on(dtype: str = "float32", **changes: Any) -> GalaxySettings:
    """Settings for views of 32 px with a foreground."""
    given = {"size": SIZE, "dtype": dtype, "foreground": {"enabled": True, **changes}}
    return GalaxySettings().changed(given)


def a_bank(M: int = 7, shape: tuple[int, int] = (HEIGHT, WIDTH), first: int = 0) -> Bank:
    """Objects that no other has the shape of."""
    random = np.random.default_rng(1)
    down, across = (np.arange(size) - (size - 1) / 2 for size in shape)
    pictures = np.zeros((M, 3, *shape))
    for m in range(M):
        x, y = across[None, :] - random.uniform(-2, 2), down[:, None] - random.uniform(-2, 2)
        blob = np.exp(-0.5 * ((x / random.uniform(1, 3)) ** 2 + (y / random.uniform(1, 3)) ** 2))
        pictures[m] = blob * random.uniform(20, 120, (3, 1, 1))
    colors = torch.from_numpy(random.uniform(0.3, 1.7, (M, 3))).float()
    rows = torch.arange(first, first + M)
    return Bank(rows, torch.from_numpy(pictures).float(), colors / colors.mean(1, keepdim=True))


def draw(settings: GalaxySettings, bank: Bank | None = None, n: int = N, first: int = 1000) -> Placed:
    return placed(Draws(0, 0, torch.arange(first, first + n), 0), settings, bank or a_bank())


def pvalue(x: torch.Tensor, distribution: object) -> float:
    return float(stats.kstest(x.flatten().numpy(), distribution).pvalue)


def pictures(n: int = 5, dtype: str = "float32") -> torch.Tensor:
    random = np.random.default_rng(2)
    sky = random.uniform(5, 20, (n, 3, 1, 1))
    x = sky + random.normal(0, 1, (n, 3, HEIGHT, WIDTH))
    x[:, :, HEIGHT // 2 - 2 : HEIGHT // 2 + 3, WIDTH // 2 - 2 : WIDTH // 2 + 2] += random.uniform(20, 90, (n, 3, 1, 1))
    return torch.from_numpy(np.clip(np.round(x), 0, 255) if dtype == "uint8" else x).float()


# Distributions: `placed` is what `with_foreground` pastes, as test_each_picture_… shows.


@pytest.mark.parametrize("probability", [0.2, 0.5])
def test_a_stated_share_of_views_has_a_foreground(probability: float) -> None:
    p = draw(on(probability=probability))
    assert p.on.shape == (N, 1)
    assert stats.binomtest(int(p.on.sum()), N, probability).pvalue > ODDS


def test_numbers_up_to_the_largest_are_equally_likely() -> None:
    count = draw(on(probability=1, number=4)).on.sum(1)
    assert count.unique().tolist() == [1, 2, 3, 4]
    assert stats.chisquare(count.bincount()[1:].numpy()).pvalue > ODDS


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_stated_share_is_stars(share: float) -> None:
    assert stats.binomtest(int(draw(on(stars=share)).star.sum()), N, share).pvalue > ODDS


def test_places_are_uniform_over_the_ring() -> None:
    near, far = 0.25 * SIZE, 0.6 * SIZE
    p = draw(on(near=0.25, far=0.6, number=2))
    r = (p.x.square() + p.y.square()).sqrt()
    assert near <= r.min() + 1e-9
    assert r.max() <= far + 1e-9
    assert pvalue(r, lambda x: np.clip((x**2 - near**2) / (far**2 - near**2), 0, 1)) > ODDS
    assert pvalue(torch.atan2(p.y, p.x), stats.uniform(-math.pi, 2 * math.pi).cdf) > ODDS


def test_angles_and_mirrors_are_even() -> None:
    p = draw(on())
    assert pvalue(p.angle, stats.uniform(0, 2 * math.pi).cdf) > ODDS
    assert stats.binomtest(int(p.mirrored.sum()), N, 0.5).pvalue > ODDS


def test_fluxes_follow_their_truncated_lognormal() -> None:
    whole = stats.lognorm(1.0, 0.0, 2.0)
    bottom, top = whole.cdf(0.2), whole.cdf(20.0)
    flux = draw(on()).flux
    assert pvalue(flux, lambda x: (whole.cdf(x) - bottom) / (top - bottom)) > ODDS
    assert 0.2 <= flux.min() <= flux.max() <= 20.0


def test_objects_of_the_bank_are_equally_likely() -> None:
    assert stats.chisquare(draw(on()).other.flatten().bincount(minlength=7).numpy()).pvalue > ODDS


def test_no_object_is_pasted_on_itself() -> None:
    bank = a_bank(2, first=1000)
    p = draw(on(), bank)
    assert p.other[:2, 0].tolist() == [1, 0]
    bank = a_bank(7, first=1000)
    many = [placed(Draws(seed, 0, torch.tensor([1004]), 0), on(), bank).other.item() for seed in range(200)]
    assert set(many) == {0, 1, 2, 3, 5, 6}


def test_draws_are_independent_of_each_other_and_between_views() -> None:
    p = draw(on(probability=0.5))
    q = placed(Draws(0, 0, torch.arange(1000, 1000 + N), 1), on(probability=0.5), a_bank())
    numbers = [getattr(each, name).double().flatten() for each in (p, q) for name in Placed.__dataclass_fields__]
    correlation = np.corrcoef(torch.stack(numbers).numpy())
    # 120 correlations of √N standard normal each: none beyond 6σ but with odds of 3e-7.
    assert np.abs(correlation[np.triu_indices(len(numbers), 1)]).max() * math.sqrt(N) < 6


# The definition, one picture at a time.


def one_picture(image: np.ndarray, p: Placed, b: int, sigma: np.ndarray, settings: GalaxySettings, bank: Bank) -> Any:
    """Picture b with its foregrounds, from the definition."""
    step, H, W = settings.foreground, *image.shape[1:]
    y, x = np.mgrid[:H, :W] - np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    edge = np.ones((H, W), bool)
    edge[1:-1, 1:-1] = False

    def middle(values: np.ndarray) -> Any:
        return np.sort(values)[(values.size - 1) // 2]  # torch's median of an even number is the lower one

    out = image.astype(float)
    for s in range(p.on.shape[1]):
        if not p.on[b, s]:
            continue
        px, py, other = float(p.x[b, s]), float(p.y[b, s]), int(p.other[b, s])
        light = np.empty_like(out)
        if p.star[b, s]:
            plain = image if settings.dtype == "float32" else -np.log(1 - np.minimum(image, 254.5) / 255)
            above = np.mean([band - middle(band[edge]) for band in plain.astype(float)], axis=0)
            inside = x**2 + y**2 <= (step.near * settings.size) ** 2
            scatter = 1.4826 * middle(np.abs(above[edge] - middle(above[edge])))
            own = max(above[inside].sum(), 5 * scatter * np.sqrt(inside.sum()))
            for c in range(3):
                fwhm = 2.3548 * sigma[b, c]
                alpha = fwhm / 2 / np.sqrt(2 ** (1 / step.beta) - 1)
                profile = (1 + ((x - px) ** 2 + (y - py) ** 2) / alpha**2) ** -step.beta
                profile *= (step.beta - 1) / (np.pi * alpha**2)
                light[c] = own * float(p.flux[b, s]) * float(bank.colors[other, c]) * profile
            if settings.dtype == "uint8":
                light = 255 * (1 - np.exp(-light))
        else:
            cos, sin = np.cos(float(p.angle[b, s])), np.sin(float(p.angle[b, s]))
            u = cos * (x - px) + sin * (y - py)
            v = -sin * (x - px) + cos * (y - py)
            at = np.stack([v + (H - 1) / 2, (-u if p.mirrored[b, s] else u) + (W - 1) / 2])
            for c in range(3):
                # One pixel of zeros around the object: what grid_sample finds beyond the edge.
                padded = np.pad(bank.pictures[other, c].double().numpy(), 1)
                light[c] = ndimage.map_coordinates(padded, at + 1, order=1, mode="constant")
        out = out + light if settings.dtype == "float32" else 255 - (255 - out) * (255 - light) / 255
    return out


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_each_picture_is_what_the_definition_gives(dtype: str) -> None:
    settings, bank, images = on(dtype, probability=0.8, number=3), a_bank(), pictures(12, dtype)
    rows, kept = torch.arange(12), images.clone()
    catalog = {f"psfsize_{band}": torch.linspace(0.8, 1.6, 12, dtype=torch.float64) for band in BANDS}
    p = placed(Draws(5, 0, rows, 0), settings, bank)
    kinds = torch.stack([~p.on, p.on & p.star, p.on & ~p.star]).sum((1, 2))
    assert kinds.min() > 3, "the draws do not show all kinds"
    seen = with_foreground(images, catalog, Draws(5, 0, rows, 0), settings, bank)
    assert torch.equal(images, kept), "what is stored was changed"
    sigma = psf(catalog, rows, settings).numpy()
    for b in range(12):
        expected = one_picture(images[b].numpy(), p, b, sigma, settings, bank)
        np.testing.assert_allclose(seen[b].numpy(), expected, rtol=2e-5, atol=2e-3)
        if not p.on[b].any():
            assert torch.equal(seen[b], images[b])


@pytest.mark.parametrize("profile", ["moffat", "gaussian"])
def test_a_star_has_its_flux_its_place_and_its_width(profile: str) -> None:
    step = Foreground(profile=profile, beta=2.5)
    sigma = torch.tensor([[1.0, 1.7]], dtype=torch.float64)
    wide = torch.zeros(1, 2, 801, 801)
    star = stars_at(torch.tensor([3.25]), torch.tensor([-2.5]), torch.tensor([[5.0, 8.0]]), sigma, step, wide)[0]
    # What a Moffat star of β = 2.5 has beyond 397 px: (1 + r²/α²)^−1.5 ≈ 4e-8·α³.
    np.testing.assert_allclose(star.double().sum((1, 2)), [5.0, 8.0], rtol=1e-3)
    place = np.arange(801) - 400
    inside = slice(400 - 40, 400 + 41)
    for band, s in zip(star.double().numpy(), (1.0, 1.7), strict=True):
        assert np.unravel_index(band.argmax(), band.shape) in [(397, 403), (398, 403)]
        near = band[inside, inside]
        assert np.average(place[inside], weights=near.sum(0)) == pytest.approx(3.25, abs=0.02)
        assert np.average(place[inside], weights=near.sum(1)) == pytest.approx(-2.5, abs=0.02)
        # Half of the maximum lies FWHM/2 from the center, in either profile.
        x, y = torch.tensor([2.3548 * s / 2]), torch.tensor([0.0])
        at = torch.tensor([[s]], dtype=torch.float64)
        one = torch.zeros(1, 1, 1, 1)
        half = stars_at(x, y, torch.ones(1, 1), at, step, one) / stars_at(0 * x, y, torch.ones(1, 1), at, step, one)
        assert half.item() == pytest.approx(0.5, abs=1e-4)


def test_profiles_hold_unit_flux() -> None:
    """The same by an integral over the radius."""
    for step in (Foreground(profile="gaussian"), Foreground(beta=3.5), Foreground(beta=2.0)):

        def at(r: float, step: Foreground = step) -> float:
            place, sigma = torch.tensor([r]), torch.tensor([[1.3]], dtype=torch.float64)
            zeros = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
            return 2 * math.pi * r * float(stars_at(place, 0 * place, torch.ones(1, 1), sigma, step, zeros))

        total = integrate.quad(at, 0, 10, limit=200)[0] + integrate.quad(at, 10, 20_000, limit=400)[0]
        assert total == pytest.approx(1, abs=1e-4)


levels = st.floats(0, 255)


@given(a=levels, b=levels, c=levels)
def test_screening_lies_between_the_larger_and_the_sum(a: float, b: float, c: float) -> None:
    def screen(below: float, light: float) -> float:
        both = torch.tensor([below, light], dtype=torch.float64)
        return float(added(both[0], both[1], "uint8"))

    assert max(a, b) - 1e-9 <= screen(a, b) <= min(a + b, 255) + 1e-9
    assert screen(a, b) == pytest.approx(screen(b, a))
    assert screen(screen(a, b), c) == pytest.approx(screen(a, screen(b, c)))
    assert screen(a, 0) == a


@given(a=st.floats(0, 5), b=st.floats(0, 5))
def test_screening_adds_light_where_the_stretch_is_exponential(a: float, b: float) -> None:
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    both = added(shown(x, "uint8"), shown(y, "uint8"), "uint8")
    assert float(both) == pytest.approx(float(shown(x + y, "uint8")), abs=1e-9)
    assert float(linear(shown(x, "uint8"), "uint8")) == pytest.approx(a, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_adding_the_sky_back_gives_the_picture(dtype: str) -> None:
    images = pictures(4, dtype)
    images[:, :, 0] = images[:, :, -1] = 12.0
    images[..., 0] = images[..., -1] = 12.0
    light = without_sky(images.clamp_min(12), dtype)
    sky = torch.full_like(images, 12.0)
    torch.testing.assert_close(added(sky, light, dtype), images.clamp_min(12), rtol=1e-5, atol=1e-3)


def test_a_star_on_an_empty_picture_is_no_fainter_than_the_noise() -> None:
    random = np.random.default_rng(0)
    empty = torch.from_numpy(random.normal(0, 2, (200, 3, HEIGHT, WIDTH))).float()
    flux = own_flux(empty, on())
    inside = math.pi * (0.2 * SIZE) ** 2
    scatter = 2 / math.sqrt(3)  # of the mean of three bands
    assert (flux > 0).all()
    assert flux.median().item() == pytest.approx(5 * scatter * math.sqrt(inside), rel=0.1)


# The bank.


def test_the_bank_holds_each_object_alone() -> None:
    random = np.random.default_rng(3)
    size = 48
    down, across = np.mgrid[:size, :size] - (size - 1) / 2
    own = 60 * np.exp(-0.5 * (across**2 + down**2) / 4)
    neighbor = 90 * np.exp(-0.5 * ((across - 13) ** 2 + (down + 9) ** 2) / 4)
    noise = random.normal(0, 1, (1, 3, size, size))
    color = np.array([1.5, 1.0, 0.5])[:, None, None]
    image = torch.from_numpy(7 + noise + color * own + neighbor).float()
    bank = bank_of(torch.tensor([9]), image, "float32")
    assert bank.rows.tolist() == [9]
    total = bank.pictures[0].sum((1, 2)).numpy()
    np.testing.assert_allclose(total, 2 * math.pi * 4 * 60 * color.ravel(), rtol=0.1)
    np.testing.assert_allclose(bank.colors[0].numpy(), [1.5, 1.0, 0.5], atol=0.05)
    far = np.hypot(across - 13, down + 9) < 5
    assert np.abs(bank.pictures[0].numpy()[:, far]).max() < 2, "the neighbor came along"
    assert not bank.pictures[0, :, 0].any()
    assert bank.pictures[0, :, :, -1].abs().max() == 0


def test_what_is_not_seen_at_the_center_is_left_out() -> None:
    random = np.random.default_rng(3)
    images = random.normal(0, 1, (3, 3, 40, 40))
    images[1, :, 17:23, 17:23] += 20
    images[2, :, 3:9, 3:9] += 20
    bank = bank_of(torch.tensor([4, 5, 6]), torch.from_numpy(images).float(), "float32")
    assert bank.rows.tolist() == [5]
    assert not own_pixels(np.zeros((20, 20))).any()
    # Noise inside a border of one value: more parts than sep takes, which it says by a bare Exception.
    noise = np.zeros((512, 512))
    noise[1:-1, 1:-1] = np.random.default_rng(0).normal(0, 1, (510, 510))
    assert not own_pixels(noise).any()


def test_an_object_in_an_8_bit_picture_comes_without_its_sky() -> None:
    """Sky of 10 ± 3 counts in all bands alike, an object of σ = 3 px: what is cut out is about the object's size."""
    random, (H, W) = np.random.default_rng(0), (56, 56)
    y, x = np.mgrid[:H, :W] - 27.5
    pictures = 150 * np.exp(-(x**2 + y**2) / 18) + random.normal(10, 3, (16, 1, H, W))
    pictures = np.repeat(np.rint(pictures.clip(0, 255)), 3, axis=1)  # (M, C, H, W)
    bank = bank_of(torch.arange(16), torch.from_numpy(pictures).float(), "uint8")
    assert len(bank.rows) == 16
    covered = (bank.pictures > 0).double().mean((1, 2, 3))  # a circle of 4σ covers 0.14
    assert float(covered.max()) < 0.45


def test_the_bank_follows_from_the_seed_and_the_set(blob_samples: Write) -> None:
    samples = Samples([blob_samples(n=64, size=40)])
    settings, _ = default_settings(samples.about, 40, frozenset(samples.columns), "uint8")
    assert read_bank(samples, settings, 0) is None
    settings = settings.changed({"foreground": {"enabled": True, "bank": 16}})
    one, same, other, late = (read_bank(samples, settings, *key) for key in ((0,), (0, 0), (1,), (0, -1)))
    assert one is not None
    assert same is not None
    assert other is not None
    assert late is not None
    assert torch.equal(one.pictures, same.pictures)
    assert 8 < len(one.rows) <= 16
    assert one.pictures.shape[1:] == (3, 40, 40)
    assert one.rows.tolist() != other.rows.tolist()
    assert one.rows.tolist() != late.rows.tolist()
    whole = read_bank(samples, settings.changed({"foreground": {"bank": 500}}), 0)
    assert whole is not None
    assert set(one.rows.tolist()) < set(whole.rows.tolist())


def test_a_set_of_which_nothing_is_seen_has_no_bank(tmp_path: Path) -> None:
    from lookalike.samples import About
    from lookalike.samples_writer import write_samples

    about = About(domain="galaxy", bands=("R", "G", "B"), survey={"psf_sigma": dict.fromkeys("RGB", 1.0)})
    with write_samples(tmp_path / "empty.h5", about, {}) as writer:
        writer.append([f"e{i}" for i in range(5)], np.full((5, 3, 40, 40), 9, np.uint8), {})
    samples = Samples([tmp_path / "empty.h5"])
    settings, _ = default_settings(about, 40, frozenset(), "uint8")
    with pytest.raises(InputError, match=r"at least 2 must be seen at the center.* but of 5 there were 0"):
        read_bank(samples, settings.changed({"foreground": {"enabled": True}}), 0)


# Views.


def test_off_by_default_and_then_views_are_the_same_to_the_last_bit() -> None:
    images, rows = pictures(6), torch.arange(6)
    settings = GalaxySettings().changed({"size": SIZE})
    assert not settings.foreground.enabled
    plain = view(images, {}, Draws(0, 0, rows, 0), settings)
    assert torch.equal(plain, view(images, {}, Draws(0, 0, rows, 0), settings, a_bank()))
    never = on(probability=0)
    assert torch.equal(plain, view(images, {}, Draws(0, 0, rows, 0), never, a_bank()))
    seen = view(images, {}, Draws(0, 0, rows, 0), on(probability=1), a_bank())
    assert ((seen - plain).abs().amax((1, 2, 3)) > 1e-3).all()


def test_a_view_is_that_of_the_pasted_picture() -> None:
    """The foreground comes before all six steps."""
    images, rows, settings = pictures(6), torch.arange(6), on(probability=1)
    draws = Draws(0, 0, rows, 0)
    pasted = with_foreground(images, {}, draws, settings, a_bank())
    off = settings.changed({"foreground": {"enabled": False}})
    assert torch.equal(view(images, {}, draws, settings, a_bank()), view(pasted, {}, draws, off))


def test_a_row_has_its_foreground_in_any_batch() -> None:
    images, rows, settings = pictures(6), torch.tensor([40, 7, 11, 900, 3, 5]), on(probability=0.7, number=2)
    whole = with_foreground(images, {}, Draws(1, 2, rows, 0), settings, a_bank())
    part = torch.tensor([4, 0, 3])
    fewer = with_foreground(images[part], {}, Draws(1, 2, rows[part], 0), settings, a_bank())
    torch.testing.assert_close(fewer, whole[part], rtol=1e-6, atol=1e-5)


def test_the_center_keeps_its_own_light() -> None:
    """Nothing is centered nearer than near·size; an object's half-light radius lies within that."""
    settings, bank = on(probability=1, stars=1), a_bank()
    images = torch.zeros(300, 3, HEIGHT, WIDTH)
    images[:, :, HEIGHT // 2 - 1 : HEIGHT // 2 + 2, WIDTH // 2 - 1 : WIDTH // 2 + 1] = 10.0
    p = placed(Draws(0, 0, torch.arange(300), 0), settings, bank)
    seen = paste(images, p, psf({}, torch.arange(300), settings), settings, bank)
    y, x = torch.meshgrid(torch.arange(HEIGHT) - (HEIGHT - 1) / 2, torch.arange(WIDTH) - (WIDTH - 1) / 2, indexing="ij")
    brightest = (seen - images).mean(1).flatten(1).argmax(1)
    r = (x.square() + y.square()).sqrt().flatten()[brightest]
    assert r.min() > 0.2 * SIZE - 1


# Settings.


def test_settings_are_checked() -> None:
    for change, message in (
        ({"near": 0.6}, "near is below far, but they are 0.6, 0.5"),
        ({"flux": {"kind": "uniform", "low": -1.0, "high": 2.0}}, "flux: no draw may be negative"),
        ({"probability": 1.5}, "probability"),
        ({"bank": 1}, "bank"),
        ({"profile": "airy"}, "profile"),
    ):
        with pytest.raises(InputError, match=message):
            on(**change)
    no_numbers = {"bands": ["u"], "extinction": {"enabled": False}, "blur": {"enabled": False, "bands": {"g": {}}}}
    no_numbers |= {"noise": {"enabled": False}, "input": {"kind": "flux"}}
    GalaxySettings.checked(no_numbers)
    with pytest.raises(
        InputError, match=r"foreground\.psf has no numbers for u; give them or set augment.foreground\.enabled"
    ):
        GalaxySettings.checked(no_numbers | {"foreground": {"enabled": True}})
    settings = GalaxySettings.checked(no_numbers | {"foreground": {"enabled": True, "psf": {"u": 2.0}}})
    assert psf({}, torch.arange(2), settings).tolist() == [[2.0], [2.0]]


def test_stars_are_as_wide_as_the_objects_own_psf() -> None:
    rows = torch.arange(4)
    catalog = {"psfsize_g": torch.tensor([1.2, math.nan, 0.0, -1.0], dtype=torch.float64)}
    sigma = psf(catalog, rows, on())
    usual = GalaxySettings().blur.bands["g"].median()
    assert sigma[:, 0].tolist() == pytest.approx([1.2 / 0.262 / 2.3548, usual, usual, usual])
    read = GALAXY.columns(on().changed({"blur": {"enabled": False}}), BANDS, frozenset({"psfsize_g", "mag"}))
    assert read == ("psfsize_g",)
