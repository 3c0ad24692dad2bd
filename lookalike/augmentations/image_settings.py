"""The numbers of plain pictures' augmentations: those of MoCo v2 (Chen et al. 2020, arXiv:2003.04297), and two more."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lookalike.augmentations.preprocess import one_per_band
from lookalike.config import Config

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Crop(Config):
    """A random part of the picture, by area and by width over height, enlarged to the whole size."""

    enabled: bool = True
    area: tuple[Share, Share] = (0.2, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.area[0] > self.area[1] or self.ratio[0] > self.ratio[1]:
            raise ValueError("area and ratio are (low, high) with low at most high")
        return self


class Jitter(Config):
    """Brightness, contrast, saturation (factors U(1 − x, 1 + x)) and hue (turned by U(−x, x) of a circle)."""

    enabled: bool = True
    probability: Annotated[float, Field(ge=0, le=1)] = 0.8
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class Gray(Config):
    """Colors dropped with the given probability."""

    enabled: bool = True
    probability: Annotated[float, Field(ge=0, le=1)] = 0.2


class Blur(Config):
    """Gaussian blur with σ from U(low, high) px, stated for pictures of 224 px and scaled with the size."""

    enabled: bool = True
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    low: Annotated[float, Field(ge=0)] = 0.1
    high: Annotated[float, Field(ge=0)] = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is at most high")
        return self


class Flip(Config):
    """Left and right swapped with the given probability."""

    enabled: bool = True
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5


class Turn(Config):
    """The picture turned by U(−degrees, degrees) about the middle of its crop; not of MoCo v2, off by default."""

    enabled: bool = False
    degrees: Annotated[float, Field(gt=0, le=180)] = 180.0


class Negative(Config):
    """Dark and bright swapped within `clip` with the given probability; not of MoCo v2, off by default."""

    enabled: bool = False
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5


class ImageSettings(Config):
    """How a plain picture becomes a view. Colors are changed where the three bands are R, G, B (`color`).

    size : side in px of the picture's center, which is all that is seen. clip : the range of stored values.
    """

    bands: tuple[str, ...]
    dtype: Literal["float32", "uint8"] = "uint8"
    size: int = Field(gt=0)
    color: bool = True
    clip: tuple[float, float] | None = None
    crop: Crop = Crop()
    jitter: Jitter = Jitter()
    gray: Gray = Gray()
    blur: Blur = Blur()
    flip: Flip = Flip()
    turn: Turn = Turn()
    negative: Negative = Negative()
    divisor: Positive = 255.0
    mean: float | tuple[float, ...] = 0.45  # of all bands or of each; as is std
    std: Positive | tuple[Positive, ...] = 0.25

    @model_validator(mode="after")
    def _one_per_band(self) -> Self:
        one_per_band(self.bands, mean=self.mean, std=self.std)
        return self

    @model_validator(mode="after")
    def _with_a_range(self) -> Self:
        if self.negative.enabled and self.clip is None:
            raise ValueError("negative swaps dark and bright within clip = [low, high], which is not given")
        return self
