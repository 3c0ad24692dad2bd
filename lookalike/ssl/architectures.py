"""Which encoders there are, and what is needed to build one; importing this needs no torch."""

from __future__ import annotations

from typing import Annotated, Any

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
    """What is needed to build an encoder before its weights are loaded; `mlp` for an mlp, and for it alone."""

    name: str = "resnet18"
    channels: int = 3
    small_stem: bool = False
    projection: int = 128
    mlp: MlpShape | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A ResNet is described, and so hashed, as it was before there was an mlp."""
        values: dict[str, Any] = handler(self)
        return values if self.mlp is not None else {name: v for name, v in values.items() if name != "mlp"}
