"""Which encoders there are, and what is needed to build one; importing this needs no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lookalike.config import Config

RESNET = "resnet"
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")
MLP = "mlp"
SET = "set"
ENCODERS = (*RESNETS, MLP, SET)
MAX_WIDTH, MAX_LAYERS = 65_536, 64

Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]


class MlpSettings(Config):
    """The widths of an mlp's hidden layers, and the length D of its embedding."""

    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_LAYERS)] = (512, 512, 512)
    dimensions: Width = 256


class MlpShape(MlpSettings):
    """An mlp whole: it takes as many numbers as one object has, C·H·W of a picture or the columns of a record."""

    features: Annotated[int, Field(ge=1)]


class SetSettings(Config):
    """The widths of a set encoder: of the layers over each particle, of those over the sum, and D."""

    particle: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_LAYERS)] = (256,)
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_LAYERS)] = (256,)
    dimensions: Width = 256


class SetShape(SetSettings):
    """A set encoder whole: it takes so many numbers of each particle, the last of which says that it is one."""

    features: Annotated[int, Field(ge=2)]


class Places(Config):
    """Which stage of a ResNet, 1 to 4, describes a picture, and over how many places a side its maps are averaged."""

    stage: Annotated[int, Field(ge=1, le=4)] = 2
    grid: Annotated[int, Field(ge=1, le=16)] = 4


class EncoderConfig(Config):
    """What is needed to build an encoder before its weights are loaded; `mlp` and `set` for just these encoders.

    orientations : 8 to describe a picture by the mean over its four quarter turns, each mirrored and not, which no
    turn or mirror image of that kind changes; 1 to describe it as it is stored.
    places : a ResNet's description keeps where things are; None for the mean over the last stage's maps.
    untrained_half : whether half of the embedding is that of another such encoder, which is never trained.
    """

    name: str = "resnet18"
    channels: int = 3
    small_stem: bool = False
    projection: int = 128
    mlp: MlpShape | None = None
    set: SetShape | None = None
    orientations: Literal[1, 8] = 1
    untrained_half: bool = False
    places: Places | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What came later is left out where it is not used, so that a ResNet is hashed as it was before."""
        values: dict[str, Any] = handler(self)
        unused = {"mlp": None, "set": None, "orientations": 1, "untrained_half": False, "places": None}
        return {name: v for name, v in values.items() if name not in unused or v != unused[name]}

    def takes(self, channels: int, numbers: int) -> bool:
        """Whether it is whole, and made for an input of so many channels, and numbers of each object or particle."""
        shape = {MLP: self.mlp, SET: self.set}.get(self.name)
        if sum(each is not None for each in (self.mlp, self.set)) != (shape is not None):
            return False
        if kind_of(self.name) == RESNET:
            return self.channels == channels
        return shape is not None and shape.features == numbers and not self.small_stem


def kind_of(name: str) -> str:
    """resnet, mlp or set, of an encoder's name."""
    return name if name in (MLP, SET) else RESNET
