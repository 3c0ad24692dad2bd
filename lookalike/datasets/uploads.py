"""A picture given as a query (PNG, JPEG, FITS or NumPy), made what the data set stores.

Decoding is bounded (16 million pixels, 64 MiB) and what does not fit is refused by name: a PNG has no flux, a
picture of other bands or of a smaller field cannot be compared.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lookalike.about import MASKED_LIMIT, fill_masked
from lookalike.datasets.cutouts import as_float32, center_crop
from lookalike.datasets.permuting import permuted
from lookalike.datasets.resizing import CROP, RESIZE, resized, to_resize
from lookalike.errors import InputError, NotFoundError
from lookalike.samples import About

LIMIT = 64 * 1024**2  # bytes of a query, before and after it is expanded
PNG, JPEG, NPY = b"\x89PNG", b"\xff\xd8\xff", b"\x93NUMPY"


def read_picture(
    source: Path | bytes,
    name: str,
    about: About,
    *,
    shape: tuple[int, int, int] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """One query picture (C, H, W) as the data set stores its own: uint8, or float32 in the data set's unit.

    source : a file, or its bytes. PNG and JPEG for 8-bit gray or RGB data sets; FITS ((y, x), (band, y, x) or one
             image per band) and .npy ((C, H, W), or (H, W) for one band) for any.
    name   : what errors call it.
    shape, dtype : of the stored images; by default as ingestion recorded them in `about.preprocess`.

    Larger pictures are cropped or resized, and pixels shuffled, as the data set's own were. NaN pixels
    become 0. InputError where the type, bands or size do not fit.
    """
    size = int(about.preprocess["size"]) if "size" in about.preprocess else None
    side = (shape[1], shape[2]) if shape is not None else (size, size) if size is not None else None
    wanted = np.dtype(
        dtype if dtype is not None else about.preprocess.get("dtype", "float32" if about.unit else "uint8")
    )
    data = _bytes(source, name)
    if data.startswith((PNG, JPEG)):
        picture = _from_picture(data, name, about, wanted)
    elif data.startswith(NPY):
        picture = _typed(_from_npy(data, name), name, about, wanted)
    elif data.startswith((b"SIMPLE", b"\x1f\x8b")):
        picture = _typed(_from_fits(data, name, about), name, about, wanted)
    else:
        raise InputError(f"{name} is none of PNG, JPEG, FITS and .npy.", code="bad_picture")
    return permuted(_fitted(picture, name, about, side), about)


def _bytes(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, Path):
        if not source.is_file():
            raise NotFoundError(f"No such file: {source}")
        with source.open("rb") as file:
            source = file.read(LIMIT + 1)
    if len(source) > LIMIT:
        raise InputError(f"{name} has more than {LIMIT:,} bytes.", code="bad_picture")
    return source


def needs(about: About, dtype: np.dtype[Any]) -> str:
    """What a query picture must be, in words."""
    unit = f" in {about.unit}" if about.unit else ""
    count = len(about.bands)
    return f"{count} band{'s' if count > 1 else ''} ({', '.join(about.bands)}){unit} as {dtype}"


def _from_picture(data: bytes, name: str, about: About, wanted: np.dtype[Any]) -> NDArray[np.uint8]:
    from lookalike.datasets.pictures import BadPictureError, open_picture, prepare_picture

    if wanted != np.uint8:
        raise InputError(
            f"{name} is a PNG or JPEG, which holds no flux; this data set needs FITS or .npy with "
            f"{needs(about, wanted)}.",
            code="bad_picture",
        )
    try:
        with open_picture(data) as image:
            picture = prepare_picture(image, about)
    except BadPictureError as error:
        raise InputError(f"{name}: {error.message}", code="bad_picture") from None
    return picture if about.origin == "upper" else np.ascontiguousarray(picture[:, ::-1])


def _from_npy(data: bytes, name: str) -> NDArray[Any]:
    from lookalike.datasets.numpy_arrays import read_header

    file = io.BytesIO(data)
    shape, dtype, _ = read_header(file, name)
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise InputError(f"{name} does not hold the values its header declares.", code="bad_picture")
    file.seek(0)
    picture: NDArray[Any] = np.load(file, allow_pickle=False)
    return picture[0] if picture.ndim == 4 and len(picture) == 1 else picture


def _from_fits(data: bytes, name: str, about: About) -> NDArray[Any]:
    """The one image, the cube, or one image per band (by name where the headers name them), row 0 as stored."""
    from lookalike.datasets.fits_open import is_image, open_fits, reading

    with open_fits(data, name, limit=LIMIT) as hdus, reading(name):
        images = [hdu for hdu in hdus if is_image(hdu)]
        if len(images) == 1:
            picture = np.asarray(images[0].data)
        elif len(images) == len(about.bands) and all(len(hdu.shape) == 2 for hdu in images):
            if len({hdu.shape for hdu in images}) > 1:
                raise InputError(f"{name} holds bands of different sizes.", code="bad_picture")
            picture = np.stack([hdu.data for hdu in _in_order(images, about.bands)])
        else:
            raise InputError(
                f"{name} holds {len(images)} images; one (band, y, x) cube is needed, or one image for each of "
                f"{', '.join(about.bands)}.",
                code="bad_picture",
            )
    return picture if about.origin == "lower" else picture[..., ::-1, :]


def _in_order(images: Sequence[Any], bands: Sequence[str]) -> list[Any]:
    for key in ("FILTER", "BAND", "EXTNAME"):
        named = {str(hdu.header.get(key, "")).strip(): hdu for hdu in images}
        if set(named) == set(bands):
            return [named[band] for band in bands]
    return list(images)


def _typed(picture: NDArray[Any], name: str, about: About, wanted: np.dtype[Any]) -> NDArray[Any]:
    """Check kind and shape of numbers from FITS or NumPy and give them the stored type."""
    if picture.ndim == 2:
        picture = picture[None]
    if picture.ndim != 3 or picture.shape[0] != len(about.bands):
        raise InputError(
            f"{name} has the shape {picture.shape}; this data set needs (C, H, W) with {needs(about, wanted)}.",
            code="bad_picture",
        )
    if picture.dtype.kind not in "fiub":
        raise InputError(f"{name} holds {picture.dtype}; pixels are real numbers.", code="bad_picture")
    if wanted == np.uint8:
        if picture.dtype != np.uint8:
            raise InputError(
                f"{name} holds {picture.dtype}; this data set needs {needs(about, wanted)}.", code="bad_picture"
            )
        return np.ascontiguousarray(picture)
    return as_float32(picture)


def _fitted(picture: NDArray[Any], name: str, about: About, side: tuple[int, int] | None) -> NDArray[Any]:
    """Cropped or resized to the stored size where the data set's own were; masked pixels filled and limited."""
    if (whole := to_resize(picture, about.preprocess)) is not None:
        ready: NDArray[Any] = resized(_filled(whole, name)[None], about.preprocess[RESIZE])[0]
        return ready
    height, width = picture.shape[1:]
    if side is not None and (height, width) != side:
        exact = about.preprocess.get("fit", "exact") != "crop"
        if exact or height < side[0] or width < side[1] or side[0] != side[1]:
            least = "" if exact else "at least "
            crop = about.preprocess.get(CROP) if RESIZE in about.preprocess else None
            raise InputError(
                f"{name} is {width} × {height} px; this data set needs {least}{side[1]} × {side[0]} px"
                f"{f' at {about.pixel_scale:g} arcsec/px' if about.pixel_scale else ''}"
                f"{f', or at least {crop} × {crop} px to be resized' if crop else ''}.",
                code="bad_picture",
            )
        picture = center_crop(picture, side[0])
    return _filled(picture, name)


def _filled(picture: NDArray[Any], name: str) -> NDArray[Any]:
    """The picture (C, H, W) with masked pixels as 0; InputError where they are too many."""
    if picture.dtype != np.float32:
        return np.ascontiguousarray(picture)
    filled, fraction = fill_masked(picture[None])
    if fraction[0] > MASKED_LIMIT:
        raise InputError(
            f"{name}: {fraction[0]:.1%} of its pixels are masked, more than the {MASKED_LIMIT:.0%} allowed.",
            code="bad_picture",
        )
    whole: NDArray[Any] = filled[0]
    return whole
