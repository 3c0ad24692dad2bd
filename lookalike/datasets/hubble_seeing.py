"""How noisy and how blurred a picture is, measured from the picture itself: sky noise and point-spread width."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

SKY_MARGIN = 4  # px around each detection that are not sky
STAMP = 6  # px on each side of a source
ISOLATION = 2 * STAMP - 5  # px to the nearest neighbor
PEAK = (60, 230)  # display counts: bright enough to measure, not saturated
NARROWEST = 0.45  # px: below this only single-pixel spikes converge
COMPACT = 10  # percentile of the widths that stands for point sources


def sky_noise(picture: NDArray[np.uint8], segments: NDArray[np.int32]) -> list[float]:
    """Noise σ per px of the sky in each band of (H, W, C), in counts, from pixels away from every source."""
    import sep

    masked = dilated(segments > 0, SKY_MARGIN)
    sigmas = []
    for band in range(picture.shape[2]):
        counts = np.ascontiguousarray(picture[..., band], dtype=np.float64)
        sky = sep.Background(counts, mask=masked, bw=64, bh=64)
        sigmas.append(round(clipped_std((counts - sky)[~masked]), 3))
    return sigmas


def dilated(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    """A mask (H, W) grown by one pixel up, down, left and right, `times` times."""
    for _ in range(times):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def clipped_std(values: NDArray[np.float64]) -> float:
    """Standard deviation after clipping at 3 σ until nothing changes; undetected sources fall outside."""
    while True:
        center, sigma = np.median(values), values.std()
        near = values[np.abs(values - center) <= 3 * sigma]
        if len(near) == len(values):
            return float(sigma)
        values = near


def psf_sigma(
    picture: NDArray[np.uint8], segments: NDArray[np.int32], catalog: Mapping[str, NDArray[np.float64]]
) -> list[float]:
    """Gaussian σ in px of point-like sources in each band of (H, W, C).

    Adaptive second moments of isolated, unsaturated sources; the narrowest tenth stands for the point-spread
    function, since a deep field holds few stars and many unresolved galaxies.
    """
    import sep

    height, width, bands = picture.shape
    x, y = catalog["x"], catalog["y"]
    distance = np.hypot(x[:, None] - x, y[:, None] - y)  # (n, n)
    np.fill_diagonal(distance, np.inf)
    room = (np.minimum(x, width - 1 - x) > STAMP + 1) & (np.minimum(y, height - 1 - y) > STAMP + 1)
    alone = np.flatnonzero(room & (distance.min(axis=1) > ISOLATION))
    steps = np.arange(-STAMP, STAMP + 1)
    rows = np.rint(y[alone]).astype(np.int64)[:, None, None] + steps[:, None]  # (m, s, 1)
    cols = np.rint(x[alone]).astype(np.int64)[:, None, None] + steps  # (m, 1, s)
    sigmas = []
    for band in range(bands):
        counts = np.ascontiguousarray(picture[..., band], dtype=np.float64)
        flat = counts - np.asarray(sep.Background(counts, mask=segments > 0, bw=64, bh=64))
        core = counts[rows, cols][:, STAMP - 2 : STAMP + 3, STAMP - 2 : STAMP + 3].max(axis=(1, 2))
        usable = (core > PEAK[0]) & (core < PEAK[1])
        widths = adaptive_sigma(flat[rows, cols][usable])
        widths = widths[widths > NARROWEST]  # NaN compares false
        sigmas.append(round(float(np.percentile(widths, COMPACT)), 3))
    return sigmas


def adaptive_sigma(stamps: NDArray[np.float64], steps: int = 60) -> NDArray[np.float64]:
    """Gaussian σ in px of each source in stamps (m, s, s); NaN where the iteration does not settle.

    Moments under a circular Gaussian weight whose center and width follow the source (Bernstein & Jarvis 2002):
    for a Gaussian source of variance v under weight w the weighted variance is t = v·w / (v + w).
    """
    half = (stamps.shape[1] - 1) / 2
    grid = np.arange(stamps.shape[1]) - half
    cx, cy = np.zeros(len(stamps)), np.zeros(len(stamps))
    variance = np.ones(len(stamps))
    change = np.full(len(stamps), np.inf)
    with np.errstate(all="ignore"):  # a diverging source turns NaN and stays so
        for _ in range(steps):
            dx = grid - cx[:, None]  # (m, s)
            dy = grid - cy[:, None]
            radius2 = dy[:, :, None] ** 2 + dx[:, None, :] ** 2  # (m, s, s)
            weighted = stamps * np.exp(-radius2 / (2 * variance[:, None, None]))
            total = weighted.sum(axis=(1, 2))
            # Twice the first moment, since the weight pulls the centroid half way back.
            cx = cx + 2 * (weighted * dx[:, None, :]).sum(axis=(1, 2)) / total
            cy = cy + 2 * (weighted * dy[:, :, None]).sum(axis=(1, 2)) / total
            t = (weighted * radius2).sum(axis=(1, 2)) / total / 2
            new = t * variance / (variance - t)
            change, variance = np.abs(new - variance), np.where(new > 0, new, np.nan)
    settled = (change < 1e-3) & (np.hypot(cx, cy) < 2) & (variance < 16)
    return np.where(settled, np.sqrt(variance), np.nan)
