"""PNG and JPEG pictures made arrays, alike for ingestion and for uploaded queries.

What cannot be kept as 8-bit gray or RGB without a guess (16 bits, CMYK, transparency, several frames) is refused
with the reason; palettes become RGB and a camera's orientation is applied.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.cutouts import center_crop
from lookalike.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from lookalike.samples import About

MAX_PIXELS = 16_000_000
MAX_RESIZED = 20 * MAX_PIXELS  # before the center is kept, of a long narrow one
GRAY = ("gray",)
RGB = ("R", "G", "B")
FILTER = "bicubic"
REASONS = {
    "CMYK": "it is CMYK, whose colors depend on a printer's profile; convert it to RGB.",
    "YCbCr": "it is YCbCr; convert it to RGB.",
    "LAB": "it is LAB; convert it to RGB.",
}
DEEP = "it has 16 bits per channel, and pictures are stored with 8; convert it, or ingest the numbers as FITS or NumPy."


class BadPictureError(InputError):
    """A picture that is refused; the message is the reason alone, without the file's name."""

    code = "bad_picture"


@contextmanager
def open_picture(source: Path | bytes) -> Iterator[Image.Image]:
    """Yield a checked, not yet decoded PNG or JPEG; BadPictureError with the reason otherwise."""
    from PIL import Image

    with _decoding():
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG", "JPEG"))
    with image:
        with _decoding():
            _check(image, _png_depth(source))
        yield image


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what Pillow raises or warns of into a BadPictureError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except BadPictureError:
        raise
    except UnidentifiedImageError:
        raise BadPictureError("it is no PNG or JPEG picture.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPictureError(f"it has more than {MAX_PIXELS:,} pixels.") from None
    except FileNotFoundError:
        raise
    except Exception as error:  # on hostile bytes nearly any type comes out of a decoder
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise BadPictureError(f"it cannot be decoded ({text}).") from None


def _check(image: Image.Image, depth: int) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadPictureError(f"it has {width} × {height} pixels, more than {MAX_PIXELS:,}.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise BadPictureError(f"it holds {frames} frames; one picture is needed.")
    if image.mode.startswith("I") or image.mode == "F" or depth == 16:
        raise BadPictureError(DEEP)
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise BadPictureError(REASONS.get(image.mode, f"its color mode is {image.mode}; convert it to RGB."))


def _png_depth(source: Path | bytes) -> int:
    """Bits per channel as a PNG's header says, since Pillow opens 16-bit RGB as 8-bit without a word."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            start = file.read(25)
    else:
        start = source[:25]
    return start[24] if start.startswith(b"\x89PNG") and len(start) == 25 else 8


def is_gray(image: Image.Image) -> bool:
    """Whether a picture has one channel, by its kind; a colored file of gray pixels counts as color."""
    return image.mode in ("1", "L", "LA")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in px after the camera's orientation is applied."""
    with _decoding():
        sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    width, height = image.size
    return (width, height) if sideways else (height, width)


def to_array(
    image: Image.Image, bands: tuple[str, ...], *, size: int | None, crop: int | None = None
) -> NDArray[np.uint8]:
    """Decode an opened picture to (C, H, W) uint8, row 0 on top.

    bands : GRAY or RGB; gray becomes three equal bands, a colored picture never becomes gray.
    crop  : only the central so many px on each axis are kept, before resizing.
    size  : shorter side resized to this many px and the center cropped; None leaves the picture as it is.
    """
    from PIL import Image, ImageOps

    with _decoding():
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("LA", "RGBA", "PA") or "transparency" in upright.info:
            alpha = upright.convert("RGBA").getchannel("A")
            if alpha.getextrema()[0] != 255:
                raise BadPictureError("it has transparent pixels; flatten it onto a background first.")
        if len(bands) == 1 and not is_gray(upright):
            raise BadPictureError("it is in color, but this data set holds gray pictures.")
        plain = upright.convert("L" if len(bands) == 1 else "RGB")
        if crop is not None:
            plain = plain.crop(_center(plain.size, crop))
        if size is not None and min(plain.size) != size:
            scale = size / min(plain.size)
            shape = (max(size, round(plain.width * scale)), max(size, round(plain.height * scale)))
            if shape[0] * shape[1] > MAX_RESIZED:
                raise BadPictureError(
                    f"resized to {shape[0]} × {shape[1]} px it has more than {MAX_RESIZED:,} pixels; --crop makes it "
                    "square."
                )
            plain = plain.resize(shape, Image.Resampling.BICUBIC)
        pixels = np.asarray(plain, dtype=np.uint8)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (C, H, W)
    return np.ascontiguousarray(planes if size is None else center_crop(planes, size))


def _center(sides: tuple[int, int], crop: int) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of the central px; BadPictureError where there are not so many."""
    width, height = sides
    if min(sides) < crop:
        raise BadPictureError(f"it is {width} × {height} px, and the central {crop} × {crop} px are asked for.")
    left, top = (width - crop) // 2, (height - crop) // 2
    return left, top, left + crop, top + crop


def prepare_picture(image: Image.Image, about: About) -> NDArray[np.uint8]:
    """A picture opened with open_picture as the data set stores it: (C, H, W) uint8.

    The same function makes the stored pictures and an uploaded one: bands, resizing and cropping as recorded in
    `about.preprocess`. BadPictureError where it does not fit.
    """
    if tuple(about.bands) not in (GRAY, RGB):
        raise BadPictureError(
            f"it is a PNG or JPEG, but this data set's bands are {', '.join(about.bands)}"
            f"{f' in {about.unit}' if about.unit else ''}; give FITS or NumPy with those."
        )
    kept: dict[str, Any] = about.preprocess
    return to_array(image, tuple(about.bands), size=kept.get("resize"), crop=kept.get("crop"))
