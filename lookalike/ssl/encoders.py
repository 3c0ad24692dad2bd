"""Encoders: a ResNet of any number of bands, an mlp or a set encoder, and the projection head trained on top of it.

The embedding (before the head) is what is searched; the projection is what the contrastive loss sees.
ResNet: He et al. 2016, https://arxiv.org/abs/1512.03385. Head: Chen et al. 2020, https://arxiv.org/abs/2003.04297.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from lookalike.errors import InputError, unknown
from lookalike.ssl.architectures import ENCODERS, MLP, RESNET, SET, EncoderConfig, kind_of
from lookalike.ssl.layers import SubBatchNorm2d, use_fast_convolutions
from lookalike.ssl.mlp import Mlp
from lookalike.ssl.places import by_place, length
from lookalike.ssl.sets import SetEncoder
from lookalike.ssl.untrained_half import UntrainedHalf

__all__ = ["ENCODERS", "RESNETS", "Encoder", "EncoderConfig", "parameter_shapes"]


def resnet10(weights: None = None, **options: Any) -> nn.Module:
    """A ResNet of one basic block a stage (D = 512): half of ResNet-18's work, and 44 % of its weights."""
    return cast(nn.Module, ResNet(BasicBlock, [1, 1, 1, 1], **options))


RESNETS: dict[str, Callable[..., nn.Module]] = {
    "resnet10": resnet10,  # D = 512
    "resnet18": torchvision.models.resnet18,  # D = 512
    "resnet34": torchvision.models.resnet34,  # D = 512
    "resnet50": torchvision.models.resnet50,  # D = 2048
    "resnet101": torchvision.models.resnet101,  # D = 2048
}


class Encoder(nn.Module):
    """A picture's, or a record's, embedding and its projection.

    config : which ResNet, how many bands, whether the stem suits small pictures (3×3 stride 1 without pooling,
             so that a 32-px view keeps 32 px into the first block; about 8 times the work), and the
             projection's length. Of an mlp or a set encoder: how many numbers it is given, and its widths. Whether
             its embedding has an untrained half.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.name not in ENCODERS:
            raise unknown("encoder", config.name, ENCODERS)
        if config.channels < 1 or config.projection < 1:
            raise InputError(
                f"An encoder has at least 1 channel and 1 projection dimension, but channels = {config.channels} "
                f"and projection = {config.projection} were given."
            )
        self.config = config
        build = {RESNET: _resnet, MLP: _mlp, SET: _set}[kind_of(config.name)]
        self.backbone, width = build(config)
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, config.projection),
        )
        described = width if config.places is None else length(self.backbone, config.places)
        self.untrained_half = UntrainedHalf(build(config)[0], described) if config.untrained_half else None
        self.dimensions = 2 * described if config.untrained_half else described  # D
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder input float32 -> embedding (B, D), L2-normalized projection (B, projection).

        x : (B, C, H, W); an mlp of one orientation takes (B, features) too, a set encoder (B, P, features). In
        evaluation mode, where the encoder has eight orientations, both are means over those, one after the other.
        """
        if self.training or self.config.orientations == 1:
            return self.one_orientation(x)
        found = [self.one_orientation(turned) for turned in eight_orientations(x)]
        embedding, projection = (torch.stack(each).mean(dim=0) for each in zip(*found, strict=True))
        if self.untrained_half is not None:  # the halves differ in how alike their orientations are
            embedding = torch.cat([F.normalize(half, dim=1) for half in embedding.chunk(2, dim=1)], dim=1)
        return embedding, F.normalize(projection, dim=1)

    def one_orientation(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the pictures as they lie; what training sees, and an eighth of the work."""
        if self.config.name in RESNETS:
            x = x.contiguous(memory_format=torch.channels_last)
        features, embedding = self._described(self.backbone, x)  # (B, width), (B, D or D/2)
        if self.untrained_half is not None:
            with _without_float16(x.device.type):
                _, untrained = self._described(self.untrained_half.untrained, x)
            embedding = self.untrained_half(embedding, untrained)  # (B, D)
        return embedding, F.normalize(self.head(features), dim=1)

    def _described(self, backbone: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the head is given, and what an object is described by."""
        if self.config.places is not None:
            return by_place(backbone, x, self.config.places)
        features = backbone(x)  # (B, width)
        return features, features

    def set_sub_batches(self, sub_batches: int) -> None:
        """Into how many parts batch norm divides a training batch."""
        for module in self.modules():
            if isinstance(module, SubBatchNorm2d):
                module.sub_batches = sub_batches


def _without_float16(device: str) -> torch.autocast:
    """Leaves float16, whose largest number an untrained encoder of many layers exceeds; bfloat16 stays."""
    dtype = torch.get_autocast_dtype(device)
    on = torch.is_autocast_enabled(device) and dtype != torch.float16
    return torch.autocast(device, dtype=dtype, enabled=on)


def eight_orientations(x: Tensor) -> Iterator[Tensor]:
    """The pictures (B, C, H, W) and their mirror images, each turned by 0, 90, 180 and 270 degrees."""
    for mirrored in (x, x.flip(3)):
        for quarters in range(4):
            yield torch.rot90(mirrored, quarters, (2, 3))


def _resnet(config: EncoderConfig) -> tuple[nn.Module, int]:
    """A ResNet without its classifier, and the length D of its pooled features."""
    if config.mlp is not None:
        raise InputError(f"Widths are an mlp's, but mlp = {config.mlp.hidden} was given for {config.name}.")
    backbone = cast(Any, RESNETS[config.name](weights=None, norm_layer=SubBatchNorm2d))
    dimensions = int(backbone.fc.in_features)  # D
    if config.small_stem:
        backbone.conv1 = nn.Conv2d(config.channels, 64, 3, stride=1, padding=1, bias=False)
        backbone.maxpool = nn.Identity()
    elif config.channels != 3:
        backbone.conv1 = nn.Conv2d(config.channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    backbone.fc = nn.Identity()
    use_fast_convolutions(backbone)
    return backbone, dimensions


def _mlp(config: EncoderConfig) -> tuple[nn.Module, int]:
    """An mlp, and the length D of its last layer."""
    _refuse_places(config)
    if config.mlp is None:
        raise InputError("An mlp is built for so many numbers of each object, but mlp.features was not given.")
    if config.small_stem:
        raise InputError("A stem is a ResNet's: an mlp has none, so small_stem must be false.")
    return Mlp(config.mlp), config.mlp.dimensions


def _set(config: EncoderConfig) -> tuple[nn.Module, int]:
    """A set encoder, and the length D of its last layer."""
    _refuse_places(config)
    if config.set is None:
        raise InputError("A set encoder is built for so many numbers of each particle, but none were given.")
    if config.small_stem:
        raise InputError("A stem is a ResNet's: a set encoder has none, so small_stem must be false.")
    return SetEncoder(config.set), config.set.dimensions


def _refuse_places(config: EncoderConfig) -> None:
    if config.places is not None:
        raise InputError(f"Places are of a ResNet's maps: the encoder {config.name} has none.")


def parameter_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the encoder a description asks for, without allocating any."""
    with torch.device("meta"):
        encoder = Encoder(config)
    return {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
