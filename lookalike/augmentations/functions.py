"""Functions of float64 made of those that onnxruntime computes in float64 too: √, exp, log and sin.

Of numbers as momenta, angles and pseudorapidities are, none too large to be squared; absolute errors of some 1e-16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def hypot(x: Tensor, y: Tensor) -> Tensor:
    """√(x² + y²)."""
    return (x.square() + y.square()).sqrt()


def cos(x: Tensor) -> Tensor:
    return torch.sin(x + math.pi / 2)


def cosh(x: Tensor) -> Tensor:
    return (torch.exp(x) + torch.exp(-x)) / 2


def sinh(x: Tensor) -> Tensor:
    return (torch.exp(x) - torch.exp(-x)) / 2


def asinh(x: Tensor) -> Tensor:
    size = x.abs()
    return torch.sign(x) * torch.log(size + (size.square() + 1).sqrt())
