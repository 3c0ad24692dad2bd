"""Which encoders there are, and what is needed to build one; importing this needs no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lookalike.config import Config

RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")
MLP = "mlp"
ENCODERS = (*RESNETS, MLP)
MAX_WIDTH, MAX_LAYERS = 65_536, 64

Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]


class MlpSettings(Config):
    """The widths of an mlp's hidden layers, and the length D of its embedding."""

    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_LAYERS)] = (512, 512, 512)
    dimensions: Width = 256


class MlpShape(MlpSettings):
    """An mlp whole: it takes as many numbers as one object has, C·H·W of a picture or the columns of a record."""

    features: Annotated[int, Field(ge=1)]


class EncoderConfig(Config):
    """What is needed to build an encoder before its weights are loaded; `mlp` for an mlp, and for it alone.

    orientations : 8 to describe a picture by the mean over its four quarter turns, each mirrored and not, which no
    turn or mirror image of that kind changes; 1 to describe it as it is stored.
    """

    name: str = "resnet18"
    channels: int = 3
    small_stem: bool = False
    projection: int = 128
    mlp: MlpShape | None = None
    orientations: Literal[1, 8] = 1

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What came later is left out where it is not used, so that a ResNet is hashed as it was before."""
        values: dict[str, Any] = handler(self)
        unused = {"mlp": None, "orientations": 1}
        return {name: v for name, v in values.items() if name not in unused or v != unused[name]}
