"""Noticing an encoder that gives every object nearly the same vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lookalike.errors import CollapsedError, LookalikeError

COLLAPSED_SPREAD = 1e-4  # an untrained ResNet lies at 1e-2 to 1e-1, a trained one above 0.5
PATIENCE = 30  # consecutive steps


def spread(vectors: Tensor) -> float:
    """1 − |mean unit vector|² of (B, D): 0 if all point one way, towards 1 if they point everywhere."""
    unit = F.normalize(vectors.double(), dim=1)  # (B, D)
    return max(0.0, 1.0 - float(unit.mean(dim=0).square().sum()))


def effective_rank(vectors: Tensor) -> float:
    """Participation ratio tr(C)²/tr(C²) of the covariance C of (B, D): 1 if all lie on a line."""
    centered = vectors.double() - vectors.double().mean(dim=0)  # (B, D)
    gram = centered @ centered.T  # (B, B), which has the covariance's non-zero eigenvalues
    squares = float(gram.square().sum())
    return float(gram.trace()) ** 2 / squares if squares > 0 else 0.0


@dataclass
class CollapseWatch:
    """Counts consecutive steps that look collapsed; `streak` is part of the saved state.

    A step looks collapsed if the projections of a batch point one way (spread below COLLAPSED_SPREAD), or if the
    loss is that of guessing while they lie on a line. Only PATIENCE such steps on end are an error, and only
    once the queue's random start has been replaced `K / B` steps in.
    """

    K: int
    batch_size: int
    lr: float  # as set, for the advice
    precision: str = "float32"  # likewise
    streak: int = 0

    def check(self, step: int, loss: float, projection: Tensor) -> float:
        """Look at the loss and query projections (B, D) of a step, counted from 1; returns their spread.

        CollapsedError after PATIENCE collapsed steps on end, LookalikeError for a loss that is not finite.
        """
        if not math.isfinite(loss):
            # Scaling the loss keeps gradients in range, but not what the encoder computes forward.
            narrow = (
                " In float16 numbers above 65,504 overflow whatever the lr: if that does not help, say --set "
                "precision=bfloat16 or precision=float32."
                if self.precision == "float16"
                else ""
            )
            raise LookalikeError(
                f"The loss is {loss} at step {step:,}: training diverged. Train to another --out with a smaller lr "
                f"than {self.lr:g} (--set lr={self.lr / 3:.1g}).{narrow}",
                code="diverged",
            )
        spread_now = spread(projection)
        one_way = spread_now < COLLAPSED_SPREAD
        guessing = loss > math.log(self.K + 1) - 0.01 and effective_rank(projection) < 1.5
        settled = step >= math.ceil(self.K / self.batch_size)
        self.streak = self.streak + 1 if settled and (one_way or guessing) else 0
        if self.streak >= PATIENCE:
            raise CollapsedError(
                f"The encoder has collapsed: for {self.streak} steps on end it gave all objects of a batch nearly "
                f"the same projection (spread {spread_now:.1e}, loss {loss:.3f}; guessing gives "
                f"{math.log(self.K + 1):.3f}). Try a smaller lr, a larger batch_size, a shorter queue, or milder "
                "augmentations; look at the pictures: are they different from each other?"
            )
        return spread_now


@torch.no_grad()
def std_of_unit(vectors: Tensor) -> float:
    """Mean standard deviation per dimension of normalized vectors (B, D), times √D: 1 if spread evenly."""
    unit = F.normalize(vectors.float(), dim=1)
    return float(unit.std(dim=0, unbiased=False).mean()) * math.sqrt(vectors.shape[1])
