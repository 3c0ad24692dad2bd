"""`--resize` of arrays: whole square pictures made larger or smaller, as `ingest images --size` does with files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.cutouts import center_crop
from lookalike.datasets.pictures import FILTER
from lookalike.errors import InputError

LARGEST = 256 * 1024**2  # bytes of one stored picture
BLOCK_BYTES = 64 * 1024**2  # of pictures made at once
# Keys of About.preprocess: the center kept first, the side it is resized to, and how.
CROP, RESIZE, KIND = "crop", "resize", "filter"


def recorded(size: int | None, resize: int | None) -> dict[str, Any]:
    """The part of About.preprocess that says how arrays were resized, and an upload is; empty where they were not."""
    if resize is None:
        return {}
    return {RESIZE: resize, KIND: FILTER} | ({CROP: size} if size is not None else {})


def rows_at_once(flag: str, side: int, bands: int, dtype: str) -> int:
    """How many pictures (C, side, side) are made at once, in BLOCK_BYTES; InputError where one alone is too large."""
    needed = bands * side * side * np.dtype(dtype).itemsize
    if needed > LARGEST:
        raise InputError(
            f"A stored picture takes at most {LARGEST:,} bytes, but {flag} {side} makes {needed:,} bytes of each."
        )
    return max(1, BLOCK_BYTES // needed)


def resized(images: NDArray[Any], side: int) -> NDArray[Any]:
    """Square pictures (N, C, S, S) of uint8 or finite float32 as (N, C, side, side): bicubic, antialiased (Pillow).

    A pixel becomes the mean of what it covers, so a float32 keeps its unit per old pixel; at edges of high contrast
    bicubic interpolation goes a little beyond the range of the values, which uint8 clips.
    """
    from PIL import Image

    if images.shape[-2:] == (side, side):
        return images
    found = np.empty((*images.shape[:2], side, side), images.dtype)
    for place in np.ndindex(images.shape[:2]):
        plane = Image.fromarray(np.ascontiguousarray(images[place]))
        found[place] = np.asarray(plane.resize((side, side), Image.Resampling.BICUBIC))
    return found


def to_resize(picture: NDArray[Any], preprocess: dict[str, Any]) -> NDArray[Any] | None:
    """The square center (C, S, S) of an uploaded array that is to be resized as the stored ones were.

    None where they were not, where it has their side already, or where it cannot be.
    """
    side, crop = preprocess.get(RESIZE), preprocess.get(CROP)
    if side is None or picture.shape[1:] == (side, side):
        return None
    if crop is not None:
        if min(picture.shape[1:]) < crop:
            return None  # the stored ones were refused then: stretched to the same side it would have another scale
        picture = center_crop(picture, crop)
    return picture if picture.shape[1] == picture.shape[2] else None
