"""Pictures for people: colors, stretches, orientation, and that drawing needs no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.augmentations.drawing import STRETCHES, draw, stretches_for, to_colors, wavelength, zscale
from lookalike.errors import InputError
from lookalike.samples import About

RGB = About(domain="image", bands=("R", "G", "B"))
LEGACY = About(domain="galaxy", bands=("g", "r", "z"), unit="nanomaggies", origin="lower")


def test_domains_and_drawing_import_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lookalike.augmentations import DOMAINS\n"
        "from lookalike.samples import About\n"
        "from lookalike.events import PARTICLE\n"
        "from lookalike.tracks import HIT\n"
        "color = 'images', ('R', 'G', 'B'), np.zeros((3, 52, 52), np.uint8)\n"
        "jets = 'particles', ('pt', 'eta', 'phi', 'jet'), np.ones((9, 4), np.float32)\n"
        "event = 'particles', tuple(PARTICLE), np.ones((9, len(PARTICLE)), np.float32)\n"
        "track = 'particles', tuple(HIT), np.ones((9, len(HIT)), np.float32)\n"
        "own = {'jet': jets, 'event': event, 'track': track}\n"
        "for domain in DOMAINS.values():\n"
        "    layout, bands, stored = own.get(domain.name, color)\n"
        "    about = About(domain=domain.name, bands=bands, layout=layout, survey={'sample': 'hits'})\n"
        "    domain.preprocess(about, domain.settings(about, 52, frozenset(), str(stored.dtype))[0])\n"
        "    domain.draw(stored, about, domain.stretches[0], 64)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_native_pictures_are_the_stored_pixels_and_enlarged_pixels_stay_squares() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 10, 10), dtype=np.uint8)
    assert np.array_equal(np.asarray(draw(image, RGB, "auto", 10)), image.transpose(1, 2, 0))
    large = np.asarray(draw(image, RGB, "native", 40))
    assert np.array_equal(large, image.transpose(1, 2, 0).repeat(4, 0).repeat(4, 1))


def test_origin_lower_puts_row_0_at_the_bottom() -> None:
    image = np.zeros((1, 4, 4), np.uint8)
    image[0, 0] = 255
    upper, lower = (
        np.asarray(draw(image, About(domain="image", bands=("gray",), origin=origin), "auto", 4))
        for origin in ("upper", "lower")
    )
    assert upper[0].min() == 255
    assert lower[-1].min() == 255
    assert lower[0].max() == 0


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (("g", "r", "z"), "z r g"),
        (("z", "g", "r"), "z r g"),
        (("B", "G", "R"), "R G B"),
        (("g", "r", "i", "z", "y"), "i r g"),
        (("u", "g", "r", "i", "z"), "i r g"),
        (("g", "r", "z", "W1", "W2"), "z r g"),
        (("F160W", "F606W", "F814W"), "F160W F814W F606W"),
        (("a", "b", "c", "d"), "a b c"),
        (("only",), "only"),
    ],
)
def test_bands_go_to_colors_by_wavelength(bands: tuple[str, ...], shown: str) -> None:
    image = np.arange(len(bands), dtype=np.float32)[:, None, None].repeat(2, 1).repeat(2, 2)
    assert [bands[int(plane[0, 0])] for plane in to_colors(image, bands)] == shown.split()


def test_two_bands_share_green() -> None:
    image = np.array([[[0.0]], [[4.0]]], np.float32)
    assert to_colors(image, ("r", "g")).ravel().tolist() == [0.0, 2.0, 4.0]


def test_hubble_filters_tell_their_wavelength() -> None:
    assert [wavelength(band) for band in ("F435W", "F850LP", "F105W", "F160W", "odd")] == [435, 850, 1050, 1600, None]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bands=st.sampled_from([("g", "r", "z"), ("R", "G", "B"), ("gray",), ("u", "g", "r", "i", "z"), ("a", "b")]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 90),
    kind=st.sampled_from(["uint8", "noise", "constant", "negative", "huge"]),
)
def test_every_stretch_draws_everything(
    seed: int, bands: tuple[str, ...], shape: tuple[int, int], size: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    full = (len(bands), *shape)
    image = {
        "uint8": lambda: rng.integers(0, 256, full, dtype=np.uint8),
        "noise": lambda: rng.normal(0, 0.01, full).astype(np.float32),
        "constant": lambda: np.full(full, 0.3, np.float32),
        "negative": lambda: -rng.random(full, np.float32),
        "huge": lambda: (rng.random(full) * 1e30).astype(np.float32),
    }[kind]()
    about = About(domain="galaxy", bands=bands, unit="" if kind == "uint8" else "nanomaggies")
    for stretch in stretches_for(about, image.dtype):
        picture = draw(image, about, stretch, size)
        assert max(picture.size) == size
        assert picture.mode == ("L" if len(bands) == 1 else "RGB")


def test_auto_is_lupton_for_fluxes_native_for_8_bits_and_asinh_elsewhere() -> None:
    flux = np.random.default_rng(0).random((3, 8, 8), np.float32)
    assert draw(flux, LEGACY, "auto", 8) == draw(flux, LEGACY, "lupton", 8)
    plain = LEGACY.model_copy(update={"unit": "electron/s"})
    assert draw(flux, plain, "auto", 8) == draw(flux, plain, "asinh", 8)
    assert set(STRETCHES) == set(stretches_for(LEGACY, np.float32)) | set(stretches_for(RGB, np.uint8))


def test_stretches_brighten_the_faint_in_order() -> None:
    ramp = np.linspace(0, 1, 400, dtype=np.float32).reshape(1, 20, 20)
    about = About(domain="galaxy", bands=("r",), unit="count")
    linear, asinh, log = (
        np.asarray(draw(ramp, about, s, 20)).astype(int).ravel()[40] for s in ("linear", "asinh", "log")
    )
    assert 0 < linear < asinh < log < 255


def test_zscale_keeps_sky_noise_in_range_and_ignores_a_star() -> None:
    sky = np.random.default_rng(0).normal(100, 2, (1, 50, 50)).astype(np.float32)
    sky[0, 20:23, 20:23] = 1e5
    low, high = zscale(sky)
    assert 90 < low < 97
    assert 103 < high < 130


def test_wrong_stretches_sizes_and_bands_are_refused() -> None:
    image = np.zeros((3, 8, 8), np.uint8)
    with pytest.raises(InputError, match=r"Unknown stretch 'lupon'\. Did you mean 'lupton'\?"):
        draw(image, RGB, "lupon", 8)
    with pytest.raises(InputError, match=r"Unknown stretch for these data 'lupton'.*native"):
        draw(image, RGB, "lupton", 8)
    with pytest.raises(InputError, match="size 0"):
        draw(image, RGB, "auto", 0)
    with pytest.raises(InputError, match=r"\(2, 8, 8\) was given"):
        draw(image[:2], RGB, "auto", 8)
