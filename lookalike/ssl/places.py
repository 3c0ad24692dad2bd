"""A description that keeps where in the picture things are.

The mean over a ResNet's last maps forgets it, as training asks for. Of pictures that are centered and upright it says
much of what they show, and the earlier stages, whose maps are finer, have learned from the same training.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lookalike.ssl.architectures import Places


def by_place(resnet: Any, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """A ResNet's pooled features (B, width), and a stage's maps averaged over the places, (B, D).

    x : (B, C, H, W). D is the stage's channels times grid², in that order: channel, row, column.
    """
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(x))))
    for number in range(1, 5):
        x = getattr(resnet, f"layer{number}")(x)  # (B, channels, h, w)
        if number == places.stage:
            maps = F.adaptive_avg_pool2d(x, places.grid)  # (B, channels, grid, grid)
    return resnet.avgpool(x).flatten(1), maps.flatten(1)


def length(resnet: Any, places: Places) -> int:
    """D: the numbers of a description."""
    last = getattr(resnet, f"layer{places.stage}")[-1]
    channels = (last.conv3 if hasattr(last, "conv3") else last.conv2).out_channels
    return int(channels) * places.grid**2
