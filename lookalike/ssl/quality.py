"""What is watched of an encoder in training beside the loss: alignment, uniformity, and labels where there are any.

Alignment and uniformity: Wang & Isola 2020, https://arxiv.org/abs/2005.10242. Nothing here changes the training.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.preprocess import Seen
from lookalike.samples import Samples
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.labels import NEIGHBORS, watched_objects

EVALUATIONS = 20  # in a run
BLOCK = 256


def alignment(positive: Tensor) -> Tensor:
    """Mean squared distance of the two views of an object, from their cosines (B,): 0 if every pair coincides."""
    return (2 - 2 * positive).mean()


def uniformity(projection: Tensor) -> float:
    """log of the mean of exp(−2 d²) over the pairs of unit vectors (B, D): 0 if all are one, −4 at best on a sphere."""
    distance = torch.pdist(projection.float())
    return float(torch.logsumexp(-2 * distance.square(), dim=0) - np.log(len(distance)))


def queue_age(step: int, K: int, B: int) -> float:
    """Mean age of the queue's keys in steps after `step` steps; those it started with count from the start."""
    ages = np.minimum(np.arange(K) // B, step)
    return float(ages.mean())


class LabelWatch:
    """Does the embedding tell apart what a catalog column does? The kNN accuracy of a part of the objects.

    The objects are those of `watched_objects`, each classified by the majority of its 10 nearest among the others
    (cosine), of classes with equal votes that of the nearest.
    """

    def __init__(self, samples: Samples, column: str, preprocess: Seen, device: torch.device) -> None:
        self.rows, classes = watched_objects(samples, column)  # (n,) each
        self.samples, self.preprocess, self.device = samples, preprocess, device
        self.classes = torch.from_numpy(classes)
        self.chance = float(np.bincount(classes).max() / len(classes))

    @torch.inference_mode()
    def accuracy(self, encoder: Encoder) -> float:
        """The share of objects whose neighbors name their class; the encoder keeps its mode."""
        training = encoder.training
        encoder.eval()
        parts = []
        for start in range(0, len(self.rows), BLOCK):
            images = torch.from_numpy(self.samples.objects(self.rows[start : start + BLOCK])).to(self.device)
            parts.append(
                F.normalize(encoder.one_orientation(encoder_input(images, self.preprocess))[0].float(), dim=1).cpu()
            )
        encoder.train(training)
        return knn_accuracy(torch.cat(parts), self.classes)


def knn_accuracy(unit: Tensor, classes: Tensor, k: int = NEIGHBORS) -> float:
    """Leave-one-out accuracy of the majority of the k nearest, unit vectors (n, D) and classes (n,) int64."""
    similarity = unit @ unit.T  # (n, n)
    similarity.fill_diagonal_(-torch.inf)
    votes = F.one_hot(classes[similarity.topk(k).indices], int(classes.max()) + 1).double()  # (n, k, classes)
    # A vote counts for a trifle more than all farther ones' trifles, so of equal numbers the nearest decides.
    weights = 1 + 0.1 * 2.0 ** -torch.arange(1, k + 1, dtype=torch.float64)
    return float(((votes * weights[:, None]).sum(dim=1).argmax(dim=1) == classes).double().mean())
