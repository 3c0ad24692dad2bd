"""Half an embedding that is never trained.

Training makes an encoder blind to what its views change, and evens out what is left, so that some of what an untrained
encoder tells apart is lost. Where both know something that the other does not, the two together find more than either.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookalike.ssl.mlp import SubBatchNorm1d


class UntrainedHalf(nn.Module):
    """What an untrained encoder says of an object, beside what the trained one does.

    untrained : an encoder of descriptions (B, D), which stays as it is. Each half is standardized by what training has
                seen of it and scaled to length 1, so that a cosine is the mean of both halves'. Nothing here has a
                gradient.
    """

    def __init__(self, untrained: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.untrained = untrained.requires_grad_(False)
        self.of_trained = SubBatchNorm1d(dimensions, affine=False)
        self.of_untrained = SubBatchNorm1d(dimensions, affine=False)

    def train(self, mode: bool = True) -> Self:
        """Only the two standardizations learn: batch norm inside is as it was before training."""
        super().train(mode)
        self.untrained.eval()
        return self

    @torch.no_grad()
    def forward(self, trained: Tensor, untrained: Tensor) -> Tensor:
        """Both encoders' descriptions (B, D) -> (B, 2·D) float32."""
        halves = ((self.of_trained, trained), (self.of_untrained, untrained))
        # Of unit vectors: what batch norm adds to a variance is small next to any direction's that counts.
        return torch.cat([F.normalize(norm(F.normalize(half.float(), dim=1)), dim=1) for norm, half in halves], dim=1)
