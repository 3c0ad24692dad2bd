"""The objects of a set that may be pasted beside others: each alone, without its sky and without its neighbors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lookalike.errors import InputError
from lookalike.samples import Samples

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from lookalike.augmentations.galaxy_settings import GalaxySettings

THRESHOLD = 2.0  # σ of the border's pixels; what an object's own pixels exceed
MIN_AREA = 5  # px above the threshold
CENTER = 2  # px from the picture's center within which the object itself has some light
MARGIN = 2  # px around an object that are kept
EDGE = 0.75  # of the way to the picture's edge, where an object that reaches it begins to fade


@dataclass(frozen=True)
class Bank:
    """M objects of a set: rows (M,) int64, pictures (M, C, H, W) float32 in stored units, colors (M, C), mean 1."""

    rows: torch.Tensor
    pictures: torch.Tensor
    colors: torch.Tensor

    def to(self, device: torch.device | str) -> Bank:
        """The same on another device."""
        parts = {name: getattr(self, name).to(device) for name in ("rows", "pictures", "colors")}
        return replace(self, **parts)


def read_bank(samples: Samples, settings: GalaxySettings, seed: int, epoch: int = 0) -> Bank | None:
    """At most settings.foreground.bank objects, drawn by (seed, epoch) from the whole set; None if the step is off.

    The same for all processes and after resuming, since it depends on nothing else. Objects of which nothing is seen
    at the center of their picture are left out.
    """
    if not settings.foreground.enabled:
        return None
    import torch

    random = np.random.default_rng([seed % 2**32, epoch % 2**32, *b"bank"])
    wanted = min(len(samples), settings.foreground.bank)
    rows = np.sort(random.choice(len(samples), wanted, replace=False))
    bank = bank_of(torch.from_numpy(rows), torch.from_numpy(samples.objects(rows)).float(), settings.dtype)
    if len(bank.rows) < 2:
        raise InputError(
            f"Foregrounds are other objects of the set, of which at least 2 must be seen at the center of their "
            f"picture, but of {wanted:,} there were {len(bank.rows)}. Set foreground.enabled=false."
        )
    return bank


def bank_of(rows: torch.Tensor, images: torch.Tensor, dtype: str) -> Bank:
    """The objects alone of pictures (M, C, H, W) in stored units; those that are not seen are left out."""
    import torch

    from lookalike.augmentations.foreground import border, linear, without_sky
    from lookalike.augmentations.ops import blur

    light = without_sky(images, dtype)  # (M, C, H, W)
    # Detected with the sky's noise whole: light of 8-bit pictures is cut off at 0, which would hide half of it.
    above = images - border(images).median(-1).values[..., None, None]  # (M, C, H, W)
    found = np.stack([own_pixels(picture) for picture in above.mean(1).double().numpy()])  # (M, H, W) bool
    seen = torch.from_numpy(found.any(axis=(1, 2)))  # (M,)
    mask = torch.from_numpy(found)[seen, None].float()  # (M', 1, H, W)
    mask = torch.nn.functional.max_pool2d(mask, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    mask = blur(mask, torch.ones(len(mask), 1)) * fade(*images.shape[2:])  # soft at its rim
    light = light[seen] * mask
    total = linear(light, dtype).sum((2, 3)).clamp_min(0) + 1e-12  # (M', C)
    share = total / total.mean(1, keepdim=True)
    # A band too faint to measure is taken for a tenth of the mean, and not for black.
    colors = share.clamp_min(0.1)
    return Bank(rows[seen], light, colors / colors.mean(1, keepdim=True))


def own_pixels(picture: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The pixels (H, W) of the object at the center of a picture (H, W) above its sky, parted from its neighbors.

    All False where nothing is seen there. SExtractor's detection and deblending (Bertin & Arnouts 1996) as implemented
    by sep (Barbary 2016).
    """
    import sep

    edge = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    sigma = 1.4826 * float(np.median(np.abs(edge - np.median(edge))))
    sigma = max(sigma, 1e-3 * float(picture.max()))  # a border of one value has no scatter
    if not sigma > 0:
        return np.zeros(picture.shape, bool)
    try:
        _, segments = sep.extract(
            np.ascontiguousarray(picture), THRESHOLD, err=sigma, minarea=MIN_AREA, segmentation_map=True
        )
    except Exception:  # sep has no class of its own for "too many pixels or parts above the threshold"
        return np.zeros(picture.shape, bool)
    H, W = picture.shape
    top, left = H // 2 - CENTER, W // 2 - CENTER
    window = (slice(top, H - top), slice(left, W - left))
    middle = np.where(segments[window] > 0, picture[window], -np.inf)
    if not np.isfinite(middle).any():
        return np.zeros(picture.shape, bool)
    label = segments[window].ravel()[int(np.argmax(middle))]
    return np.asarray(segments == label)


def fade(H: int, W: int) -> torch.Tensor:
    """A weight (H, W) of 1 that falls along a cosine to 0 at the circle through the nearest edge."""
    import torch

    down, across = torch.arange(H) - (H - 1) / 2, torch.arange(W) - (W - 1) / 2
    r = (down[:, None].square() + across.square()).sqrt() / (min(H, W) / 2)
    return 0.5 + 0.5 * torch.cos(torch.pi * ((r - EDGE) / (1 - EDGE)).clamp(0, 1))
