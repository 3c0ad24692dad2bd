"""Encoders: a ResNet of any number of bands, its pooled features, and the projection head trained on top of them.

The embedding (before the head) is what is searched; the projection is what the contrastive loss sees.
ResNet: He et al. 2016, https://arxiv.org/abs/1512.03385. Head: Chen et al. 2020, https://arxiv.org/abs/2003.04297.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from lookalike.config import Config
from lookalike.errors import InputError, unknown
from lookalike.ssl.layers import SubBatchNorm2d, use_fast_convolutions


def resnet10(weights: None = None, **options: Any) -> nn.Module:
    """A ResNet of one basic block a stage (D = 512): half of ResNet-18's work, and 44 % of its weights."""
    return cast(nn.Module, ResNet(BasicBlock, [1, 1, 1, 1], **options))


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "resnet10": resnet10,  # D = 512
    "resnet18": torchvision.models.resnet18,  # D = 512
    "resnet34": torchvision.models.resnet34,  # D = 512
    "resnet50": torchvision.models.resnet50,  # D = 2048
    "resnet101": torchvision.models.resnet101,  # D = 2048
}


class EncoderConfig(Config):
    """What is needed to build an encoder before its weights are loaded."""

    name: str = "resnet18"
    channels: int = 3
    small_stem: bool = False
    projection: int = 128


class Encoder(nn.Module):
    """A picture's embedding and its projection.

    config : which ResNet, how many bands, whether the stem suits small pictures (3×3 stride 1 without pooling,
             so that a 32-px view keeps 32 px into the first block; about 8 times the work), and the
             projection's length.
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
        backbone = cast(Any, ENCODERS[config.name](weights=None, norm_layer=SubBatchNorm2d))
        self.dimensions = int(backbone.fc.in_features)  # D
        if config.small_stem:
            backbone.conv1 = nn.Conv2d(config.channels, 64, 3, stride=1, padding=1, bias=False)
            backbone.maxpool = nn.Identity()
        elif config.channels != 3:
            backbone.conv1 = nn.Conv2d(config.channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        backbone.fc = nn.Identity()
        use_fast_convolutions(backbone)
        self.backbone: nn.Module = backbone
        self.head = nn.Sequential(
            nn.Linear(self.dimensions, self.dimensions),
            nn.ReLU(inplace=True),
            nn.Linear(self.dimensions, config.projection),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder input (B, C, H, W) float32 -> embedding (B, D), L2-normalized projection (B, projection)."""
        embedding = self.backbone(x.contiguous(memory_format=torch.channels_last))  # (B, D)
        return embedding, F.normalize(self.head(embedding), dim=1)

    def set_sub_batches(self, sub_batches: int) -> None:
        """Into how many parts batch norm divides a training batch."""
        for module in self.modules():
            if isinstance(module, SubBatchNorm2d):
                module.sub_batches = sub_batches


def parameter_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the encoder a description asks for, without allocating any."""
    with torch.device("meta"):
        encoder = Encoder(config)
    return {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
