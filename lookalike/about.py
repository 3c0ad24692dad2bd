"""What the stored objects of a data set are: their columns, bands, survey; and the rule of ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lookalike.config import Config
from lookalike.errors import InputError

ID_LENGTH = 64
ID_PATTERN = re.compile(rf"[A-Za-z0-9._:+-]{{1,{ID_LENGTH}}}")
IMAGES, PARTICLES, FEATURES = "images", "particles", "features"
# The layout and the domain of objects of which no more is stored than their ids and columns.
CATALOG, TABLE = "catalog", "table"
MASKED_LIMIT = 0.05  # an object with more masked or NaN pixels than this is left out


@dataclass(frozen=True)
class Column:
    """What a catalog column holds: its unit (`""` for none), one sentence, and a UCD where one exists."""

    unit: str = ""
    description: str = ""
    ucd: str = ""


class About(Config):
    """What the stored arrays are; saved as attributes, and part of the content hash.

    `layout` says what is stored of each object: `images` (C, H, W); `particles` (P, F), a list of up to P particles of
    F numbers each, the first of which is above 0 (a momentum, or whatever makes a particle one), zeros after the last;
    or `features` (F,), numbers of which NaN ones are undefined; or `catalog`, where nothing but ids and columns is
    known, as of vectors from elsewhere. `bands` names the C bands or the F numbers, and `units` gives each of the F
    numbers its unit.
    `origin` says whether image row 0 is drawn at the bottom (`lower`, FITS) or top (`upper`, PNG and JPEG).
    `pixel_scale` is in arcsec/px, None where unknown. `survey` holds what the source knows of its own noise and
    blur, for the domain's default augmentations. `preprocess` is what ingestion did to the pixels (resizing),
    so that it can be done to an uploaded picture.
    """

    domain: str
    bands: tuple[str, ...]
    unit: str = ""
    pixel_scale: float | None = None
    origin: Literal["lower", "upper"] = "upper"
    source: str = ""
    license: str = ""
    survey: dict[str, Any] = Field(default_factory=dict)
    preprocess: dict[str, Any] = Field(default_factory=dict)
    layout: Literal["images", "particles", "features", "catalog"] = "images"
    units: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether a program drew the objects."""
        return bool(self.survey.get("simulated"))

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Pictures are described, and so hashed, as they were before there was anything else."""
        values: dict[str, Any] = handler(self)
        unsaid = {"layout": values["layout"] == IMAGES, "units": not values["units"]}
        return {name: value for name, value in values.items() if not unsaid.get(name)}


def is_id(text: str) -> bool:
    """Whether a text follows the rule of ids."""
    return bool(ID_PATTERN.fullmatch(text)) and set(text) != {"."}  # an address would swallow `.` and `..`


def check_id(text: str) -> str:
    """The id itself if it follows the rule, else an InputError."""
    if not is_id(text):
        raise InputError(f"An id is 1 to 64 characters of A-Z a-z 0-9 . _ : + -, but {text!r} was given.")
    return text


def id_from_name(name: str) -> str:
    """A file's relative path made an id: its ending dropped, other characters replaced by `_`.

    InputError that names the file where none can be made of it.
    """
    path = Path(name)
    stem = str(path.with_suffix("")) if path.name else name
    made = re.sub(r"[^A-Za-z0-9._:+-]", "_", stem)
    if not is_id(made):
        raise InputError(
            f"An id is 1 to {ID_LENGTH} characters, but the name {name!r} makes one of {len(made)}; name a catalog "
            "column with --id-column, or give shorter names."
        )
    return made


def fill_masked(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Set non-finite pixels of (N, C, H, W) to 0; also return each object's masked fraction (N,)."""
    bad = ~np.isfinite(images)
    return np.where(bad, np.float32(0), images), bad.mean(axis=(1, 2, 3), dtype=np.float64)
