"""Simulated galaxies: their light, blur and noise are what their catalog says, whatever block they are made in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lookalike.augmentations.galaxy_settings import LEGACY_PIXEL, default_settings
from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.simulate import write
from lookalike.simulate.dice import Dice
from lookalike.simulate.draws import Draws
from lookalike.simulate.encounters import STARS, Encounters, run
from lookalike.simulate.galaxies import COLUMNS, NUMBERS, Galaxies, noise_sigma
from lookalike.simulate.galaxy_classes import CLASSES, Galaxy, Scene
from lookalike.simulate.galaxy_light import (
    MOFFAT,
    STEP,
    Grid,
    deposit,
    gaussians,
    half_light_b,
    moffat,
    sersic,
    sersic_profile,
)

GRID = Grid(152)
MIDDLE = GRID.first + 75.5
ROWS = np.arange(160)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Galaxies alone, without noise."""
    return Galaxies(0).draw(ROWS, field=False)


def direct(n: float, radius: float, ratio: float, angle: float, fwhm: float, fine: int = 6) -> np.ndarray:
    """A Sérsic profile blurred by a Moffat one, by summing over a fine grid: the slow definition, 64 px wide."""
    side = 64 * fine
    at = (np.arange(side) + 0.5) / fine - 32
    x, y = at[None, :], at[:, None]
    u = x * math.cos(angle) + y * math.sin(angle)
    v = (y * math.cos(angle) - x * math.sin(angle)) / ratio
    light = sersic_profile(np.hypot(u, v) / radius, n) / (radius**2 * ratio * fine**2)
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / MOFFAT) - 1))
    psf = (MOFFAT - 1) / (np.pi * alpha**2) * (1 + (x**2 + y**2) / alpha**2) ** -MOFFAT
    blurred: np.ndarray = np.fft.ifft2(np.fft.fft2(light) * np.fft.fft2(np.fft.ifftshift(psf))).real
    # Both are centered between fine pixels, so their convolution's pixel k lies at (k + 1) / fine − 32.
    return blurred[fine // 2 - 1 :: fine, fine // 2 - 1 :: fine]  # at half-integer places from −31.5 on


@pytest.mark.parametrize("n", [1.0, 1.5, 2.5, 4.0, 5.6])
def test_half_the_light_of_a_profile_lies_within_its_radius(n: float) -> None:
    r = np.geomspace(1e-6, 1e4, 200_000)
    flux = 2 * np.pi * r**2 * sersic_profile(r, n)  # per ln r
    grown = np.cumsum(flux) * np.log(r[1] / r[0])
    assert grown[-1] == pytest.approx(1, abs=2e-3)
    assert np.interp(0, np.log(r), grown) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("n", [1.5, 2.0, 3.25, 4.0, 5.0])
def test_a_profile_is_its_mixture_of_gaussians(n: float) -> None:
    shares, sigma = gaussians(round(n / STEP))
    r = np.geomspace(0.01, 30, 200)
    wanted = 2 * np.pi * r**2 * sersic_profile(r, n)
    made = ((r[:, None] / sigma) ** 2 * np.exp(-((r[:, None] / sigma) ** 2) / 2)) @ shares
    assert np.abs(made - wanted).max() < 0.003 * wanted.max()
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize(("n", "radius"), [(1.0, 5.0), (2.3, 4.0), (4.0, 4.0)])
def test_a_blurred_profile_is_the_sum_over_a_fine_grid(n: float, radius: float) -> None:
    ratio, angle, fwhm = 0.6, 0.7, 4.5
    slow = direct(n, radius, ratio, angle, fwhm)[12:52, 12:52]  # at −19.5 to 19.5
    waves = GRID.phase(MIDDLE, MIDDLE) * sersic(GRID, n, radius, ratio, angle) * moffat(GRID, fwhm)
    fast = GRID.picture(waves)[56:96, 56:96]  # its middle lies between pixels 75 and 76
    np.testing.assert_allclose(fast, slow, atol=(0.004 if n == 1 else 0.012) * slow.max())


@pytest.mark.parametrize("fwhm", [3.1, 4.5, 7.0])
def test_a_star_is_as_wide_as_said(fwhm: float) -> None:
    star = np.fft.irfft2(moffat(GRID, fwhm) * GRID.phase(96, 96), s=(GRID.padded, GRID.padded))
    assert star.sum() == pytest.approx(1, abs=1e-5)
    line = star[96, 96:] / star[96, 96]
    fine = np.fft.irfft2(moffat(GRID, fwhm) * GRID.phase(96 - fwhm / 2, 96), s=(GRID.padded, GRID.padded))
    assert fine[96, 96] / star[96, 96] == pytest.approx(0.5, abs=0.005)  # half its peak at half its width
    assert (np.diff(line[:8]) < 0).all()


def test_total_flux_is_exact_and_the_picture_holds_what_lies_within(
    drawn: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    images, catalog = drawn
    true = np.stack([catalog[f"flux_{band}"] for band in "grz"], axis=1)  # (n, 3)
    share = images.sum(axis=(2, 3), dtype=np.float64) / true
    compact = np.isin(catalog["class"], ("disk", "spiral", "barred", "ring", "edge-on"))
    assert np.abs(share[compact] - 1).max() < 0.02
    assert (share > 0.75).all(), "steep profiles and tails reach out of the picture"
    assert (share < 1.01).all()
    np.testing.assert_allclose(catalog["mag_r"], 22.5 - 2.5 * np.log10(catalog["flux_r"]))


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_exactly_its_flux_before_the_picture_is_cut_out(name: str) -> None:
    numbers = Draws(5, np.arange(4)).uniform("shape", NUMBERS)
    stars = (np.zeros((3, 2, STARS), np.float32), np.array([1.5, 0, 0], np.float32))
    for row in numbers:
        scene = Scene(GRID)
        CLASSES[name](scene, Galaxy(MIDDLE, MIDDLE, 8.0, 0.0, stars if name == "merger" else None), Dice(row))
        np.testing.assert_allclose(scene.waves[:, 0, 0].real, scene.flux, rtol=1e-5)
        assert (scene.flux > 0).all()


def test_magnitudes_are_spread_evenly_before_extinction(drawn: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    _, catalog = drawn
    clear = catalog["mag_z"] - 2.5 * 0.4844 * catalog["ebv"]
    assert clear.min() > 15.5
    assert clear.max() < 19.0
    counts = np.histogram(clear, 4, (15.5, 19.0))[0]
    assert (np.abs(counts - 40) < 5 * math.sqrt(40 * 0.75)).all()


def test_reddened_galaxies_are_redder_by_the_law() -> None:
    galaxies = Galaxies(1)
    _, catalog = galaxies.draw(np.arange(8), field=False)
    for i in range(8):
        clear = [
            catalog[f"flux_{b}"][i] * 10 ** (c * catalog["ebv"][i])
            for b, c in zip("grz", (1.2856, 0.866, 0.4844), strict=True)
        ]
        assert clear[2] == pytest.approx(10 ** (0.4 * (22.5 - _clear_mag(galaxies, i))), rel=1e-6)
        assert -1 < -2.5 * math.log10(clear[0] / clear[1]) < 2


def _clear_mag(galaxies: Galaxies, row: int) -> float:
    return float(Draws(galaxies.seed, np.array([row])).uniform("mag", low=15.5, high=19.0)[0])


def test_noise_is_what_depth_and_seeing_say() -> None:
    """Over 23,104 pixels the measured σ lies within 5 standard errors, 2.3 %."""
    galaxies = Galaxies(2)
    rows = np.arange(12)
    clean, catalog = galaxies.draw(rows)
    _, noisy, _ = galaxies.block(rows)
    found = (noisy - clean).std(axis=(2, 3))
    np.testing.assert_allclose(found, noise_sigma(catalog), rtol=0.024)
    depth, psf = catalog["psfdepth_r"], catalog["psfsize_r"] / 2.3548 / LEGACY_PIXEL
    np.testing.assert_allclose(noise_sigma(catalog)[:, 1], (depth * 4 * np.pi * psf**2) ** -0.5, rtol=1e-6)
    assert np.abs(np.corrcoef((noisy - clean)[0].reshape(3, -1))[np.triu_indices(3, 1)]).max() < 0.04


def test_every_class_occurs_about_alike_and_looks_otherwise(drawn: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    images, catalog = drawn
    names, counts = np.unique(catalog["class"], return_counts=True)
    assert set(names) == set(CLASSES)
    assert (np.abs(counts - 20) < 5 * math.sqrt(20)).all()
    blue = {name: np.median((catalog["mag_g"] - catalog["mag_r"])[catalog["class"] == name]) for name in CLASSES}
    assert blue["spiral"] < blue["disk"] < blue["elliptical"]
    assert (catalog["axis_ratio"][catalog["class"] == "edge-on"] < 0.3).all()
    # A ring is darkest between its bulge and itself: brightness does not fall all the way out.
    rings = np.flatnonzero((catalog["class"] == "ring") & (catalog["radius"] > 9 * LEGACY_PIXEL))
    at = np.arange(152) - 75.5
    r = np.hypot(at, at[:, None])
    for i in rings:
        wide = math.radians(catalog["angle"][i])
        u, v = (
            at[None, :] * math.cos(wide) + at[:, None] * math.sin(wide),
            at[:, None] * math.cos(wide) - at[None, :] * math.sin(wide),
        )
        along = images[i, 0][(np.abs(v) < 1.5) & (u > 0)][np.argsort(u[(np.abs(v) < 1.5) & (u > 0)])]
        smooth = np.convolve(along, np.ones(9) / 9, "valid")
        assert (np.diff(smooth[:60]) > 0).any()
    assert r.max() > 100


def test_an_object_follows_from_seed_and_row_alone() -> None:
    ids, images, catalog = Galaxies(3).block(np.arange(20))
    for row in (0, 7, 13, 19, int(np.flatnonzero(catalog["class"] == "merger")[0])):
        alone_ids, alone, alone_catalog = Galaxies(3).block(np.array([row]))
        assert alone_ids[0] == ids[row]
        assert (alone[0] == images[row]).all()
        assert all(np.all(alone_catalog[name][0] == values[row]) for name, values in catalog.items())
    assert (Galaxies(4).block(np.arange(20))[1] != images).any(axis=(1, 2, 3)).all()


def test_an_undisturbed_disk_keeps_turning() -> None:
    """With the other galaxy far away and light, stars stay on their circles and the orbit keeps its energy."""
    one = np.ones(1, np.float32)
    placed = Draws(0, np.arange(1)).uniform("s", 2, 2, STARS).astype(np.float32)
    quiet = Encounters(
        1e-6 * one,
        40 * one,
        3 * one,
        np.zeros((1, 2), np.float32),
        np.zeros((1, 2), np.float32),
        placed[:, 0],
        placed[:, 1],
    )
    stars, second = run(quiet)
    wanted = 0.12 + 0.88 * placed[0, 1, 0] ** 1.3
    np.testing.assert_allclose(np.sqrt((stars[:, 0, 0] ** 2).sum(axis=0)), wanted, rtol=0.04)
    assert 39 < float(np.sqrt((second**2).sum())) < 45


def test_a_close_passage_throws_stars_out() -> None:
    one = np.ones(1, np.float32)
    placed = Draws(0, np.arange(1)).uniform("s", 2, 2, STARS).astype(np.float32)
    close = Encounters(
        one, 0.7 * one, 3 * one, np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), placed[:, 0], placed[:, 1]
    )
    stars, _ = run(close)
    away = np.sqrt((stars[:, 0, 0] ** 2).sum(axis=0))
    assert (away > 1.3).mean() > 0.05
    assert np.isfinite(stars).all()


def test_points_keep_their_light_and_their_place() -> None:
    picture = deposit(GRID, np.array([50.25, 300.0]), np.array([60.5, 60.0]), np.array([2.0, 5.0]))
    assert picture.sum() == pytest.approx(2)
    y, x = np.indices(picture.shape)
    assert (picture * x).sum() / 2 == pytest.approx(50.25)
    assert (picture * y).sum() / 2 == pytest.approx(60.5)


def test_half_light_constants() -> None:
    assert half_light_b(4) == pytest.approx(7.669, abs=1e-3)
    assert half_light_b(1) == pytest.approx(1.678, abs=1e-3)


def test_the_file_has_what_the_galaxy_domain_reads(tmp_path: Path) -> None:
    made = write(Galaxies(0, size=64), tmp_path / "g.h5", 70, quiet=True)
    samples = Samples(tmp_path / "g.h5")
    assert (len(samples), samples.shape) == (70, (3, 64, 64))
    assert set(samples.columns) == set(COLUMNS)
    _, notes = default_settings(samples.about, samples.size, frozenset(samples.columns))
    assert len(notes) == 1, "every step has its numbers and every object its own values"
    assert samples.about.source.startswith("SIMULATED galaxies, not observations")
    assert samples.id(69) == "sim0-0000069"
    again = write(Galaxies(0, size=64), tmp_path / "h.h5", 70, quiet=True)
    assert again.content_hash == made.content_hash
    with pytest.raises(InputError, match="made otherwise"):
        write(Galaxies(1, size=64), tmp_path / "g.h5", 70, quiet=True)
    with pytest.raises(InputError, match="64 to 512 px"):
        Galaxies(0, size=32)
