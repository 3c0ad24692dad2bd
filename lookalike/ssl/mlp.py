"""A multilayer perceptron: for records of numbers, and for pictures so small that a convolution gains little."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from lookalike.errors import InputError
from lookalike.ssl.architectures import MlpShape
from lookalike.ssl.layers import SubBatchNorm2d


class SubBatchNorm1d(SubBatchNorm2d):
    """SubBatchNorm2d of vectors (B, D), by the same rule: each part of a training batch by its own statistics."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 2:
            raise ValueError(f"SubBatchNorm1d takes vectors (B, D), but {tuple(input.shape)} was given.")


class Layer(nn.Module):
    """y = ReLU(norm(W x)), or x + y with a residual connection (He et al. 2016), which needs equal lengths."""

    def __init__(self, before: int, after: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.linear = nn.Linear(before, after, bias=False)  # the norm has one
        self.norm = SubBatchNorm1d(after)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.linear(x)))  # (B, after)
        return x + y if self.residual else cast(Tensor, y)


class Mlp(nn.Module):
    """Hidden layers with residual connections where their widths are equal, then one layer to D.

    The last one is normalized and cut off at 0 like a ResNet's features: after a plain linear layer one direction
    takes nearly all the variance (effective rank 1.4 in place of 15, after 12 epochs on 3,000 digits).
    """

    def __init__(self, shape: MlpShape) -> None:
        super().__init__()
        self.shape = shape
        # No connection leads past the first layer, even if it is as wide as the input: pixels are no features yet.
        layers = [Layer(shape.features, shape.hidden[0], residual=False)]
        layers += [Layer(before, after, residual=before == after) for before, after in pairwise(shape.hidden)]
        self.layers = nn.Sequential(*layers)
        self.out = Layer(shape.hidden[-1], shape.dimensions, residual=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, features) -> (B, D); InputError where an object has another number of features."""
        found = math.prod(x.shape[1:])
        if found != self.shape.features:
            raise InputError(
                f"This mlp takes {self.shape.features:,} numbers of each object, but {found:,} "
                f"({' × '.join(map(str, x.shape[1:]))}) were given."
            )
        return cast(Tensor, self.out(self.layers(x.flatten(1))))
