"""The galaxy augmentations against their stated distributions, their definition, and the faults of the released code.

Draws are keyed, so every test is deterministic; 1e-6 is the odds at which a correct implementation with another seed
would fail one statistical test. There are 24 of them: together below 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from lookalike.augmentations.drawing import draw
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.galaxy import GALAXY, Parameters, apply, columns, parameters, preprocess, view
from lookalike.augmentations.galaxy_settings import Distribution, GalaxySettings, default_settings
from lookalike.augmentations.inputs import encoder_input
from lookalike.errors import InputError
from lookalike.samples import About

ODDS = 1e-6
N = 20_000
BANDS = ("g", "r", "z")
LEGACY = About(domain="galaxy", bands=BANDS, unit="nanomaggies", pixel_scale=0.262, origin="lower")
HUBBLE = About(
    domain="galaxy",
    bands=("R", "G", "B"),
    survey={"name": "hubble-xdf", "noise": {"R": 3.0, "G": 2.5, "B": 4.0}, "psf_sigma": {"R": 1.3, "G": 1.2, "B": 1.1}},
)
# The published table, typed anew: s, loc, scale, low, high.
EBV = (0.67306, 0.001146, 0.03338, -math.inf, math.inf)
PSF = {
    "g": (0.2109966, 1.0807153, 1.3153171, 1.3233109, 5.0),
    "r": (0.3008485, 1.2394326, 0.9164757, 1.2667341, 4.5),
    "z": (0.3471172, 1.1928363, 0.8233702, 1.2126263, 4.25),
}
NOISE = {
    "g": (0.2264926, -0.0006735, 0.0037602, 0.001094, 0.013),
    "r": (0.2431146, -0.0023663, 0.0067417, 0.001094, 0.018),
    "z": (0.1334844, -0.0143416, 0.0260779, 0.001094, 0.061),
}
COEFFICIENTS = {"g": -1.2856, "r": -0.866, "z": -0.4844}
STEPS = ("extinction", "orientation", "scaling", "blur", "jitter", "noise")


def only(*steps: str, **changes: object) -> GalaxySettings:
    """The published settings with just these steps on."""
    values = {step: {"enabled": step in steps} for step in STEPS}
    return GalaxySettings.checked({**values, **changes})


def drawn(settings: GalaxySettings | None = None, n: int = N, epoch: int = 0, **catalog: torch.Tensor) -> Parameters:
    return parameters(catalog, Draws(0, epoch, torch.arange(n), 0), settings or GalaxySettings())


def truncated(s: float, loc: float, scale: float, low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    """The stated distribution function: scipy's lognormal, redrawn outside low to high."""
    whole = stats.lognorm(s, loc, scale)
    bottom, top = whole.cdf(low), whole.cdf(high)
    return lambda x: np.clip((whole.cdf(x) - bottom) / (top - bottom), 0, 1)


def pvalue(x: torch.Tensor, distribution: object) -> float:
    return float(stats.kstest(x.numpy(), distribution).pvalue)


# Distributions: `parameters` is what `view` applies, as test_view_applies_the_parameters shows.


def test_angles_are_uniform_over_the_circle() -> None:
    assert pvalue(drawn().angle, stats.uniform(0, 2 * math.pi).cdf) > ODDS


def test_scales_are_uniform_from_0_9_to_1_1() -> None:
    assert pvalue(drawn().scale, stats.uniform(0.9, 0.2).cdf) > ODDS


def test_ebv_follows_its_lognormal() -> None:
    assert pvalue(drawn().ebv_new, truncated(*EBV)) > ODDS


@pytest.mark.parametrize("band", BANDS)
def test_psf_follows_its_truncated_lognormal(band: str) -> None:
    sigma = drawn().psf_new[:, BANDS.index(band)]
    assert pvalue(sigma, truncated(*PSF[band])) > ODDS
    assert PSF[band][3] <= sigma.min()
    assert sigma.max() <= PSF[band][4]


@pytest.mark.parametrize("band", BANDS)
def test_noise_follows_its_truncated_lognormal(band: str) -> None:
    sigma = drawn().noise_new[:, BANDS.index(band)]
    assert pvalue(sigma, truncated(*NOISE[band])) > ODDS
    assert NOISE[band][3] <= sigma.min()
    assert sigma.max() <= NOISE[band][4]


@pytest.mark.parametrize("axis", ["shift_x", "shift_y"])
def test_the_15_shifts_of_an_axis_are_equally_likely(axis: str) -> None:
    shifts, counts = getattr(drawn(), axis).unique(return_counts=True)
    assert shifts.tolist() == list(range(-7, 8))
    assert stats.chisquare(counts.numpy()).pvalue > ODDS


@pytest.mark.parametrize("axis", ["flip_x", "flip_y"])
def test_half_of_the_pictures_are_flipped(axis: str) -> None:
    assert stats.binomtest(int(getattr(drawn(), axis).sum()), N, 0.5).pvalue > ODDS


def test_bands_and_steps_are_drawn_independently() -> None:
    p = drawn()
    numbers = [p.ebv_new, p.angle, p.scale, p.shift_x.double(), p.shift_y.double(), p.flip_x.double()]
    numbers += [*p.psf_new.unbind(1), *p.noise_new.unbind(1)]
    correlation = np.corrcoef(torch.stack(numbers).numpy())
    apart = correlation[np.triu_indices(len(numbers), 1)]
    # 66 correlations of √N standard normal each: none beyond 6σ but with odds of 1e-7.
    assert np.abs(apart).max() * math.sqrt(N) < 6


# Faults 1 to 4 of the released code.


def test_fault_1_lognormal_by_default_and_uniform_only_when_asked() -> None:
    asked = GalaxySettings().overridden(assignments=["blur.bands.g.kind=uniform", "noise.bands.g.kind=uniform"])
    for default, uniform, numbers in (
        (drawn().psf_new[:, 0], drawn(asked).psf_new[:, 0], PSF["g"]),
        (drawn().noise_new[:, 0], drawn(asked).noise_new[:, 0], NOISE["g"]),
    ):
        low, high = numbers[3:]
        flat = stats.uniform(low, high - low).cdf
        assert pvalue(default, truncated(*numbers)) > ODDS > pvalue(default, flat)
        assert pvalue(uniform, flat) > ODDS > pvalue(uniform, truncated(*numbers))
    assert pvalue(drawn().ebv_new, stats.uniform(0, 0.2).cdf) < ODDS


def test_fault_2_tabulated_ebv_is_read() -> None:
    settings = only("extinction", size=16)
    assert "ebv" in columns(settings, BANDS, frozenset({"ebv", "mag_r"}))
    flat = torch.ones(3, 3, 16, 16)
    ebv = torch.tensor([0.0, 0.05, 0.4], dtype=torch.float64)
    draws = Draws(0, 0, torch.arange(3), 0)
    p = parameters({"ebv": ebv}, draws, settings)
    assert torch.equal(p.ebv_old, ebv)
    seen = view(flat, {"ebv": ebv}, draws, settings)
    for b in range(3):
        for c, band in enumerate(BANDS):
            factor = 10 ** (COEFFICIENTS[band] * (float(p.ebv_new[b]) - float(ebv[b])))
            np.testing.assert_allclose(seen[b, c], factor, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_fault_3_views_scale_both_axes_alike(scale: float) -> None:
    settings = only("scaling", size=64, scaling={"low": scale, "high": scale})
    at = torch.arange(64) - 31.5
    source = torch.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 4.0**2)).expand(1, 3, 64, 64)
    seen = view(source, {}, Draws(0, 0, torch.arange(1), 0), settings)[0, 0].double()
    widths = [float((seen.sum(axis) * at**2).sum() / seen.sum()) for axis in (0, 1)]
    assert widths[0] == pytest.approx(widths[1], rel=1e-5)
    assert widths[0] == pytest.approx((4.0 * scale) ** 2, rel=0.03)


def test_fault_4_training_colors_are_the_viewers_colors() -> None:
    flat = torch.full((1, 3, 152, 152), 0.01)
    given = encoder_input(flat, preprocess(LEGACY, GalaxySettings()))
    blue, green, red = given[0, :, 48, 48].tolist()  # g, r, z
    assert (red, green, blue) == pytest.approx((0.19, 0.23, 0.33), abs=0.005)
    picture = np.asarray(draw(flat[0].numpy(), LEGACY, "lupton", 96))
    np.testing.assert_allclose(picture[48, 48] / 255, [red, green, blue], atol=1 / 255)
    varied = torch.rand(1, 3, 96, 96) * 0.05 - 0.02  # some below −m/scale
    given = encoder_input(varied, preprocess(LEGACY, GalaxySettings()))[0].flip(0).permute(1, 2, 0)
    picture = np.asarray(draw(varied[0].numpy(), LEGACY, "lupton", 96))[::-1]  # the viewer's row 0 is at the top
    np.testing.assert_allclose(picture / 255, given.clamp(0, 1), atol=0.51 / 255)


# What an object's own values do.


def test_own_psf_and_noise_are_taken_off_in_quadrature() -> None:
    psfsize = torch.tensor([1.2, 1.7, 3.5], dtype=torch.float64)
    psfdepth = torch.tensor([800.0, 300.0, 5000.0], dtype=torch.float64)
    catalog = {f"{name}_{b}": v for b in BANDS for name, v in (("psfsize", psfsize), ("psfdepth", psfdepth))}
    p = drawn(n=3, **catalog)
    psf = psfsize / 0.262 / 2.3548
    noise = 1 / torch.sqrt(psfdepth * 4 * math.pi * (psfsize / 2.3548 / 0.262) ** 2)
    for c in range(3):
        torch.testing.assert_close(p.psf_old[:, c], psf)
        torch.testing.assert_close(p.noise_old[:, c], noise)
    torch.testing.assert_close(p.psf_add, (p.psf_new**2 - p.psf_old**2).clamp_min(0).sqrt())
    torch.testing.assert_close(p.noise_add, (p.noise_new**2 - p.noise_old**2).clamp_min(0).sqrt())
    assert (p.psf_add[2] == 0).all()  # σ_old of 5.7 px is beyond every σ_new


def test_median_stands_in_for_undefined_and_absent_values() -> None:
    bad = torch.tensor([math.nan, 0.0, -1.0, math.inf], dtype=torch.float64)
    p = drawn(n=4, psfsize_g=bad, psfdepth_g=bad.flip(0), ebv=torch.tensor([math.nan, 0.0, 0.1, math.inf]))
    for c, band in enumerate(BANDS):
        for old, numbers in ((p.psf_old, PSF[band]), (p.noise_old, NOISE[band])):
            whole = stats.lognorm(*numbers[:3])
            median = whole.ppf((whole.cdf(numbers[3]) + whole.cdf(numbers[4])) / 2)
            np.testing.assert_allclose(old[:, c], median, rtol=1e-9)
    median = stats.lognorm(*EBV[:3]).median()
    np.testing.assert_allclose(p.ebv_old, [median, 0.0, 0.1, median], rtol=1e-6)


def test_measured_value_comes_before_the_median() -> None:
    settings, _ = default_settings(HUBBLE, 52, frozenset())
    p = parameters({}, Draws(0, 0, torch.arange(N), 0), settings)
    assert p.psf_old[0].tolist() == [1.3, 1.2, 1.1]
    assert p.noise_old[0].tolist() == [3.0, 2.5, 4.0]
    # The published scatter in r, as a share of its median, around what was measured; 1e-6 false alarms a test.
    for old, new, numbers in ((p.psf_old, p.psf_new, PSF["r"]), (p.noise_old, p.noise_new, NOISE["r"])):
        whole = stats.lognorm(*numbers[:3])
        low, high = whole.cdf(numbers[3]), whole.cdf(numbers[4])
        median = whole.ppf((low + high) / 2)

        def share(ratio: np.ndarray, whole=whole, low=low, high=high, median=median) -> np.ndarray:
            return (whole.cdf(ratio * median) - low) / (high - low)

        for band in range(3):
            assert stats.kstest((new[:, band] / old[:, band]).numpy(), share).pvalue > 1e-6


# End to end, on pictures.


def test_view_applies_the_parameters() -> None:
    images, draws = torch.rand(6, 3, 152, 152), Draws(0, 0, torch.arange(6), 0)
    p = parameters({}, draws, GalaxySettings())
    assert torch.equal(view(images, {}, draws, GalaxySettings()), apply(images, p, draws, GalaxySettings()))


def test_flat_sky_gets_noise_of_sigma_add() -> None:
    rows = torch.arange(32)
    seen = view(torch.full((32, 3, 152, 152), 0.5), {}, Draws(0, 0, rows, 0), only("noise")).double() - 0.5
    added = drawn(only("noise"), n=32).noise_add
    n = 96 * 96
    for b, c in np.argwhere(added.numpy() > 0):
        chi2 = float((seen[b, c] / added[b, c]).square().sum())
        assert stats.chi2(n).cdf(chi2) == pytest.approx(0.5, abs=0.5 - 1e-9)  # 48 of them
    assert float(seen[added == 0].abs().max()) < 1e-4  # float32 noise of the interpolation
    assert 0 < int((added == 0).sum()) < added.numel()


def test_source_gets_the_new_psf_in_quadrature() -> None:
    at = torch.arange(152) - 75.5
    psfsize = torch.full((8,), 1.3 * 0.262 * 2.3548, dtype=torch.float64)  # σ of 1.3 px
    source = torch.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.3**2)).expand(8, 3, 152, 152)
    catalog = {f"psfsize_{b}": psfsize for b in BANDS}
    settings = only("blur")
    draws = Draws(0, 0, torch.arange(8), 0)
    p = parameters(catalog, draws, settings)
    seen = view(source, catalog, draws, settings).double()
    inner = torch.arange(96) - 47.5
    variance = (seen.sum(2) * inner**2).sum(-1) / seen.sum((2, 3))  # (B, C)
    expected = torch.maximum(p.psf_new, p.psf_old).square()
    np.testing.assert_allclose(variance, expected, rtol=5e-3)


def slow_view(
    image: np.ndarray, own: dict[str, float], p: Parameters, b: int, noise: np.ndarray, size: int
) -> np.ndarray:
    """One galaxy's view from the definition, in float64, with scipy and one band at a time."""
    height, width = image.shape[1:]
    cos, sin = math.cos(p.angle[b]), math.sin(p.angle[b])
    rotation = np.array([[cos, -sin], [sin, cos]])  # on (x, y)
    forward = float(p.scale[b]) * rotation @ np.diag([-1.0 if p.flip_x[b] else 1.0, -1.0 if p.flip_y[b] else 1.0])
    back = np.linalg.inv(forward)
    top, left = (height - size) // 2, (width - size) // 2
    rows, cols = np.mgrid[:size, :size]
    x = left + cols - (width - 1) / 2 - int(p.shift_x[b])
    y = top + rows - (height - 1) / 2 - int(p.shift_y[b])
    source_x = back[0, 0] * x + back[0, 1] * y + (width - 1) / 2
    source_y = back[1, 0] * x + back[1, 1] * y + (height - 1) / 2
    out = np.empty((len(image), size, size))
    for c, band in enumerate(BANDS):
        flux = image[c].astype(np.float64)
        flux = flux * 10 ** (-COEFFICIENTS[band] * own["ebv"])  # dust off
        flux = flux * 10 ** (COEFFICIENTS[band] * float(p.ebv_new[b]))  # dust on
        psf = own[f"psfsize_{band}"] / 0.262 / 2.3548
        blur = math.sqrt(max(0.0, float(p.psf_new[b, c]) ** 2 - psf**2)) / float(p.scale[b])
        flux = ndimage.gaussian_filter(flux, blur, mode="reflect", truncate=4.0)
        flux = ndimage.map_coordinates(flux, [source_y, source_x], order=1, mode="grid-constant", cval=0.0)
        noise_old = 1 / math.sqrt(own[f"psfdepth_{band}"] * 4 * math.pi * psf**2)
        out[c] = flux + noise[c] * math.sqrt(max(0.0, float(p.noise_new[b, c]) ** 2 - noise_old**2))
    return out


@pytest.mark.parametrize(("stored", "size"), [(52, 32), (61, 40)])
def test_view_agrees_with_its_slow_definition(stored: int, size: int) -> None:
    B, rng = 12, np.random.default_rng(3)
    images = torch.from_numpy(rng.exponential(1.0, (B, 3, stored, stored)).astype(np.float32))
    catalog = {"ebv": torch.from_numpy(rng.uniform(0, 0.3, B))}
    for band in BANDS:
        catalog[f"psfsize_{band}"] = torch.from_numpy(rng.uniform(0.8, 1.8, B))
        catalog[f"psfdepth_{band}"] = torch.from_numpy(rng.uniform(50, 3000, B))
    settings = GalaxySettings(size=size)
    draws = Draws(5, 2, torch.arange(100, 100 + B), 1)
    p = parameters(catalog, draws, settings)
    noise = draws.normal("noise", 3, size, size).numpy()
    fast = view(images, catalog, draws, settings)
    for b in range(B):
        own = {name: float(values[b]) for name, values in catalog.items()}
        slow = slow_view(images[b].numpy(), own, p, b, noise[b], size)
        np.testing.assert_allclose(fast[b], slow, rtol=0, atol=1e-4)


# Settings.


def test_every_step_can_be_switched_off() -> None:
    images = torch.rand(2, 3, 152, 152)
    draws = Draws(0, 0, torch.arange(2), 0)
    torch.testing.assert_close(view(images, {}, draws, only()), images[:, :, 28:124, 28:124], rtol=0, atol=1e-4)
    for step in STEPS:
        assert (view(images, {}, draws, only(step)) - images[:, :, 28:124, 28:124]).abs().max() > 1e-3, step


@pytest.mark.parametrize(
    ("stored", "size", "shift"), [(152, 96, 7), (52, 32, 2), (64, 40, 3), (8, 8, 1), (256, 160, 12)]
)
def test_view_and_shift_keep_their_share_of_the_stored_size(stored: int, size: int, shift: int) -> None:
    settings, notes = default_settings(LEGACY, stored, frozenset())
    assert (settings.size, settings.jitter.pixels) == (size, shift)
    assert f"{size} of {stored} px" in notes[0]


def test_published_numbers_are_the_defaults_for_legacy_fluxes() -> None:
    everything = frozenset({"ebv"} | {f"{name}_{b}" for name in ("psfsize", "psfdepth") for b in BANDS})
    settings, notes = default_settings(LEGACY, 152, everything)
    assert settings == GalaxySettings()
    assert len(notes) == 1
    assert columns(settings, BANDS, everything | {"ra"}) == (
        "ebv", "psfsize_g", "psfsize_r", "psfsize_z", "psfdepth_g", "psfdepth_r", "psfdepth_z",
    )  # fmt: skip
    made = preprocess(LEGACY, settings)
    assert (made.kind, made.scales, made.m, made.Q, made.size) == ("lupton", (6.0, 3.4, 2.2), 0.03, 20.0, 96)


def test_missing_columns_are_noted_with_what_stands_in() -> None:
    _, notes = default_settings(LEGACY, 152, frozenset({"psfsize_g", "psfsize_r", "psfsize_z"}))
    text = "\n".join(notes)
    assert "no column ebv; its median 0.0345 mag" in text
    assert "psfdepth_g, psfdepth_r, psfdepth_z" in text
    assert "blur" not in text


def test_hubble_settings_start_from_what_was_measured() -> None:
    settings, notes = default_settings(HUBBLE, 52, frozenset())
    assert settings.dtype == "uint8"
    assert settings.clip == (0.0, 255.0)
    assert not settings.extinction.enabled
    assert settings.blur.enabled
    assert settings.noise.enabled
    assert any("extinction: off" in note for note in notes)
    assert preprocess(HUBBLE, settings).divisor == 255.0
    seen = view(torch.full((4, 3, 52, 52), 250.0), {}, Draws(0, 0, torch.arange(4), 0), settings)
    assert seen.min() >= 0
    assert seen.max() <= 255


@pytest.mark.parametrize(
    ("about", "dtype"),
    [
        (About(domain="galaxy", bands=("R", "G", "B")), "uint8"),
        (About(domain="galaxy", bands=("u", "g", "r", "i", "z"), unit="nanomaggies", pixel_scale=0.396), "float32"),
        (About(domain="galaxy", bands=("F814W",), unit="electron/s"), "float32"),
        (LEGACY.model_copy(update={"pixel_scale": 0.168}), "float32"),
    ],
)
def test_steps_without_numbers_are_off_and_the_note_says_how_to_switch_them_on(about: About, dtype: str) -> None:
    settings, notes = default_settings(about, 64, frozenset(), dtype)
    assert not settings.blur.enabled
    assert not settings.noise.enabled
    assert settings.dtype == dtype
    for step in ("blur", "noise"):
        assert any(
            note.startswith(f"{step}: off")
            and f"--set augment.{step}.bands.BAND=" in note
            and f"--set augment.{step}.enabled=true" in note
            for note in notes
        )
    band = '{"s": 0.3, "loc": 1.2, "scale": 0.9}'
    given = [f"blur.bands.{name}={band}" for name in about.bands]
    assert settings.overridden(assignments=[*given, "blur.enabled=true"]).blur.enabled
    with pytest.raises(
        InputError, match=r"blur\.bands has no numbers for .*; give them or set augment\.blur\.enabled=false"
    ):
        settings.overridden(assignments=["blur.enabled=true"])


def test_odd_settings_are_one_line_errors() -> None:
    for assignment, pattern in (
        ("blur.bands.g.sigma=2", "Unknown setting 'sigma'"),
        ("scaling.low=2", r"scaling\.low is at most scaling\.high, but they are 2\.0, 1\.1"),
        ("noise.bands.g.low=1", "low-high holds no value"),
        ("noise.bands.g.low=-0.001", r"noise\.bands\.g: no draw may be negative: give it a low of at least 0"),
        ('blur.bands.g={"kind": "uniform", "low": -1, "high": 1}', r"blur\.bands\.g: no draw may be negative"),
        ("blur.measured.g=-1", r"blur\.measured\.g"),
        ("extinction.ebv.kind=uniform", "needs low and high"),
        ("size=0", "size"),
    ):
        with pytest.raises(InputError, match=pattern) as caught:
            GalaxySettings().overridden(assignments=[assignment])
        assert "\n" not in caught.value.message
    with pytest.raises(InputError, match="at least 8 px"):
        default_settings(LEGACY, 6, frozenset())
    with pytest.raises(InputError, match="cannot be cut"):
        view(torch.zeros(1, 3, 52, 52), {}, Draws(0, 0, torch.arange(1), 0), GalaxySettings())


def test_uniform_distribution_may_lie_anywhere() -> None:
    d = Distribution(kind="uniform", low=-3.0, high=-1.0)
    assert d.median() == -2.0
    assert d.draw(torch.tensor([0.25])).item() == -2.5


def test_settings_survive_json() -> None:
    settings, _ = default_settings(HUBBLE, 52, frozenset())
    assert GalaxySettings.model_validate_json(settings.model_dump_json()) == settings
    assert isinstance(settings, GALAXY.settings_type)


def test_parameters_of_steps_that_are_off_are_neutral() -> None:
    p = drawn(only(), n=3)
    for field in fields(p):
        value = getattr(p, field.name).double()
        assert (value == (1 if field.name == "scale" else 0)).all(), field.name
