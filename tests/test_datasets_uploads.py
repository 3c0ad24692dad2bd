"""Query pictures are made exactly what the data set stores, or refused with what they should be."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from lookalike.datasets import ingest
from lookalike.datasets.cutouts import stored_as
from lookalike.datasets.uploads import read_picture
from lookalike.errors import InputError, NotFoundError
from lookalike.samples import About, Samples

FLUX = About(
    domain="galaxy",
    bands=("g", "r", "z"),
    unit="nanomaggies",
    pixel_scale=0.262,
    origin="lower",
    preprocess=stored_as(16, "float32", "crop"),
)
COLOR = About(domain="image", bands=("R", "G", "B"), preprocess=stored_as(16, "uint8", "exact"))


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def fits_bytes(*arrays: Any, names: str = "") -> bytes:
    hdus = fits.HDUList([fits.PrimaryHDU(arrays[0])] + [fits.ImageHDU(array) for array in arrays[1:]])
    for hdu, name in zip(hdus, names, strict=False):
        hdu.header["FILTER"] = name
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def flux(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def test_fits_and_npy_of_the_right_bands_are_taken_as_they_are() -> None:
    picture = flux(3, 16, 16)
    for data in (
        npy(picture),
        npy(picture[None]),
        npy(picture.astype(">f8")),
        fits_bytes(picture),
        gzip.compress(fits_bytes(picture)),
        fits_bytes(*picture),
        fits_bytes(picture[2], picture[0], picture[1], names="zgr"),
    ):
        read = read_picture(data, "q", FLUX)
        assert read.dtype == np.float32
        assert (read == picture).all()


def test_a_larger_cutout_is_cropped_and_masked_pixels_filled() -> None:
    picture = flux(3, 20, 21)
    picture[0, 10, 10] = np.nan
    read = read_picture(npy(picture), "q", FLUX)
    assert (read == np.nan_to_num(picture, nan=0)[:, 2:18, 2:18]).all()
    picture[:] = np.nan
    with pytest.raises(InputError, match=r"q: 100.0% of its pixels are masked"):
        read_picture(npy(picture), "q", FLUX)


def test_a_picture_without_flux_is_told_what_is_needed() -> None:
    with pytest.raises(InputError) as caught:
        read_picture(png(np.zeros((16, 16, 3), np.uint8)), "me.png", FLUX)
    assert caught.value.message == (
        "me.png is a PNG or JPEG, which holds no flux; this data set needs FITS or .npy with 3 bands (g, r, z) in "
        "nanomaggies as float32."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(flux(5, 16, 16)), r"the shape \(5, 16, 16\); this data set needs \(C, H, W\) with 3 bands \(g, r, z\)"),
        (npy(flux(16, 16)), r"the shape \(1, 16, 16\)"),
        (npy(flux(3, 12, 16)), r"q is 16 × 12 px; this data set needs at least 16 × 16 px at 0.262 arcsec/px"),
        (npy(np.zeros((3, 16, 16), complex)), "pixels are real numbers"),
        (npy(flux(3, 16, 16))[:-8], "does not hold the values its header declares"),
        (fits_bytes(flux(16, 16), flux(16, 16)), r"holds 2 images; one \(band, y, x\) cube is needed"),
        (fits_bytes(flux(3, 16, 16))[:-2880], "but the file ends"),
        (fits_bytes(flux(16, 16), flux(17, 17), flux(16, 16)), "bands of different sizes"),
        (b"hello", "none of PNG, JPEG, FITS and .npy"),
        (b"", "none of PNG, JPEG, FITS and .npy"),
        (gzip.compress(bytes(100_000_000)), "expands to more than 67,108,864 bytes"),
    ],
)
def test_what_does_not_fit_is_refused_exactly(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_picture(data, "q", FLUX)


def test_pictures_for_color_data_sets() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert (read_picture(png(picture), "q", COLOR) == picture.transpose(2, 0, 1)).all()
    assert (read_picture(npy(picture.transpose(2, 0, 1)), "q", COLOR) == picture.transpose(2, 0, 1)).all()
    gray = read_picture(png(picture[..., 0]), "q", COLOR)
    assert (gray == picture[..., 0]).all()
    with pytest.raises(InputError, match="q is 20 × 20 px; this data set needs 16 × 16 px"):
        read_picture(png(np.zeros((20, 20, 3), np.uint8)), "q", COLOR)
    with pytest.raises(InputError, match="q holds float32; this data set needs 3 bands"):
        read_picture(npy(flux(3, 16, 16)), "q", COLOR)
    with pytest.raises(InputError, match="q: it has transparent pixels"):
        read_picture(png(np.zeros((16, 16, 4), np.uint8)), "q", COLOR)


def test_stored_rows_keep_their_meaning_whichever_end_is_row_0() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    low = COLOR.model_copy(update={"origin": "lower"})
    assert (read_picture(png(picture), "q", low) == picture.transpose(2, 0, 1)[:, ::-1]).all()
    image = flux(3, 16, 16)
    high = FLUX.model_copy(update={"origin": "upper"})
    assert (read_picture(fits_bytes(image), "q", high) == image[:, ::-1]).all()


def test_the_stored_shape_and_type_can_be_given() -> None:
    about = About(domain="image", bands=("gray",))
    read = read_picture(npy(flux(9, 9)), "q", about, shape=(1, 9, 9), dtype=np.float32)
    assert read.shape == (1, 9, 9)
    with pytest.raises(InputError, match="needs 9 × 9 px"):
        read_picture(npy(flux(8, 9)), "q", about, shape=(1, 9, 9), dtype=np.float32)


def test_a_file_that_is_missing_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError):
        read_picture(tmp_path / "q.png", "q.png", COLOR)
    monkeypatch.setattr("lookalike.datasets.uploads.LIMIT", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        read_picture(npy(flux(3, 16, 16)), "q", FLUX)


def test_stored_hubble_cutouts_come_back_as_uploads(tmp_path: Path) -> None:
    ingest("hubble", [], tmp_path / "h.h5", quiet=True)
    samples = Samples(tmp_path / "h.h5")
    image = samples.objects([5])[0]
    assert (read_picture(png(image.transpose(1, 2, 0)), "q", samples.about) == image).all()
    wide = np.pad(image, ((0, 0), (10, 10), (10, 10)))
    assert (read_picture(png(wide.transpose(1, 2, 0)), "q", samples.about) == image).all()
