"""Records and lists of particles: what describes them without training, and how much views change them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sums_and_maxima(x: NDArray[Any]) -> Floats:
    """Of an encoder's input (N, P, V) what no order of the particles changes, (N, 2·V); records (N, V) as they are."""
    return (x if x.ndim == 2 else np.hstack([x.sum(axis=1), x.max(axis=1)])).astype(np.float64)


def spreads(objects: NDArray[Any]) -> Floats:
    """The standard deviation (F,) of each number of records (N, F) or particles (N, P, F); 1 where there is none.

    Undefined numbers, and places without a particle, do not count.
    """
    flat = objects.reshape(-1, objects.shape[-1]).astype(np.float64)
    if objects.ndim == 3:
        flat = flat[flat[:, 0] > 0]
    found = np.array([column[np.isfinite(column)].std() if np.isfinite(column).any() else 0.0 for column in flat.T])
    return np.where(found > 0, found, 1.0)


def number_change(copies: torch.Tensor, plain: torch.Tensor, spread: Floats) -> Floats:
    """How far each copy's stored numbers are from the plain view's, (B,): root mean square, each over its spread (F,).

    copies, plain : records (B, F), of the numbers defined in either; or particles (B, P, F), of the places with a
    particle in either, in their order. NaN where there is none.
    """
    apart = (copies.double() - plain.double()).nan_to_num(0.0) / torch.from_numpy(spread).to(plain.device)
    there = copies.isfinite() | plain.isfinite()
    if plain.dim() == 3:
        there = ((copies[..., :1] > 0) | (plain[..., :1] > 0)).expand_as(plain)
    axes = tuple(range(1, plain.dim()))
    count = there.sum(dim=axes)  # (B,)
    square = (apart.square() * there).sum(dim=axes)
    return torch.where(count > 0, (square / count.clamp(min=1)).sqrt(), torch.nan).cpu().numpy()
