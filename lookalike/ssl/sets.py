"""A set encoder: what it makes of an object does not depend on the order of its particles."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from lookalike.errors import InputError
from lookalike.ssl.architectures import SetShape
from lookalike.ssl.mlp import Layer


class SetEncoder(nn.Module):
    """φ of every particle, then sum and maximum over the particles, then ρ (Zaheer et al. 2017, eq. 4).

    https://arxiv.org/abs/1703.06114; for jets Komiske et al. 2019, https://arxiv.org/abs/1810.05165. Sums are over up
    to hundreds of particles, so they are divided by √(1 + their number), which is among what ρ sees. Batch norm is over
    objects alone, in the parts of a batch that every other encoder has.
    """

    def __init__(self, shape: SetShape) -> None:
        super().__init__()
        self.shape = shape
        widths = (shape.features - 1, *shape.particle)
        self.phi = nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(widths)))
        pooled = 2 * shape.particle[-1] + 1
        layers = [Layer(pooled, shape.hidden[0], residual=False)]
        layers += [Layer(before, after, residual=before == after) for before, after in pairwise(shape.hidden)]
        self.layers = nn.Sequential(*layers)
        self.out = Layer(shape.hidden[-1], shape.dimensions, residual=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, features), the last of which is 1 for a particle and 0 after the last one -> (B, D)."""
        if x.dim() != 3 or x.shape[2] != self.shape.features:
            raise InputError(
                f"This set encoder takes {self.shape.features} numbers of each particle, but "
                f"{' × '.join(map(str, x.shape[1:]))} were given."
            )
        real = x[..., -1:]  # (B, P, 1)
        y = x[..., :-1]
        for layer in self.phi:
            y = torch.relu(layer(y))  # (B, P, width)
        number = real.sum(dim=1)  # (B, 1)
        total = (y * real).sum(dim=1) / torch.sqrt(1 + number)  # (B, width)
        # ReLU leaves nothing below 0, so that no particle is a place with zeros.
        largest = (y * real).amax(dim=1)
        pooled = torch.cat([total, largest, torch.log1p(number)], dim=1)  # (B, 2·width + 1)
        return cast(Tensor, self.out(self.layers(pooled)))
