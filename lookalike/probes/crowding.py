"""How much of the light in a picture is not the object's own: which cutouts are crowded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEAR = 0.2  # of the picture's width: what lies nearer to the center is the object's own
NOISE = 3.0  # σ of the border's pixels, above which a pixel holds light
CROWDED = 1 / 3  # of the objects, those with the largest shares


def off_center(images: NDArray[np.generic]) -> NDArray[np.float64]:
    """The share of the light that lies off the center of each picture (B, C, H, W), (B,) from 0 to 1; 0 without light.

    Light is what exceeds the median of the border's pixels by more than NOISE times their scatter (1.4826 times the
    median absolute deviation), in the mean of the bands.
    """
    mean = images.astype(np.float64).mean(axis=1)  # (B, H, W)
    H, W = mean.shape[1:]
    inner = np.zeros((H, W), bool)
    inner[1:-1, 1:-1] = True
    edge = mean[:, ~inner]  # (B, P)
    sky = np.median(edge, axis=1)
    sigma = 1.4826 * np.median(np.abs(edge - sky[:, None]), axis=1)
    light = mean - sky[:, None, None]
    light = np.where(light > NOISE * sigma[:, None, None], light, 0.0)
    y, x = np.arange(H) - (H - 1) / 2, np.arange(W) - (W - 1) / 2
    far = np.hypot(y[:, None], x) > NEAR * min(H, W)
    total = light.sum(axis=(1, 2))
    off = (light * far).sum(axis=(1, 2))
    shares: NDArray[np.float64] = np.divide(off, total, out=np.zeros_like(off), where=total > 0)
    return shares


def crowded(shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The third (N,) with the largest shares, of ties the first; nobody without light off the center."""
    count = max(1, round(CROWDED * len(shares)))
    chosen = np.zeros(len(shares), bool)
    chosen[np.argsort(-shares, kind="stable")[:count]] = True
    chosen &= shares > 0
    return chosen
