"""What augmentations do, measured from outside: drawn test pictures go through a domain's view, and their pixels say
which angle, scale, shift, blur, noise or reddening was applied.

A ramp shows the whole affine map (bilinear interpolation keeps a plane a plane), a point the width of a Gaussian, an
empty picture the noise, a flat one the extinction. Nothing is taken from the code that draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, pi

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations.domain import Domain
from lookalike.augmentations.draws import Draws
from lookalike.config import Config
from lookalike.probes.published import FWHM
from lookalike.probes.steps import alone

Values = NDArray[np.float64]
OBJECTS = 4096  # views of each test picture
EPOCH = -2  # neither training's (0, 1, …) nor that of the copies that are retrieved
BATCH = 256
NARROWEST = 0.3  # px; σ below it show too little in the next pixel to be told from none


class Phantoms:
    """One domain's view with given settings, applied to test pictures. N = OBJECTS, C bands."""

    def __init__(self, domain: Domain, settings: Config, bands: tuple[str, ...], seed: int = 0) -> None:
        self.domain, self.settings, self.bands, self.seed = domain, settings, bands, seed

    def views(self, picture: Values, size: int, step: str, catalog: Mapping[str, float]) -> Values:
        """OBJECTS views (N, C, size, size) of one picture (C, H, W) with one step on; all have the same catalog."""
        settings = alone(self.settings, step).changed({"size": size, "clip": None})
        present = frozenset(catalog)
        read = self.domain.columns(settings, self.bands, present)
        image = torch.from_numpy(picture).float()
        out = []
        for start in range(0, OBJECTS, BATCH):
            rows = torch.arange(start, start + BATCH)
            own = {name: torch.full((BATCH,), catalog[name], dtype=torch.float64) for name in read}
            images = image.expand(BATCH, -1, -1, -1).contiguous()  # (B, C, H, W)
            view = self.domain.view(images, own, Draws(self.seed, EPOCH, rows, view=0), settings)
            out.append(view.double().numpy())
        return np.concatenate(out)

    def reddening(self, ebv: float, coefficients: Mapping[str, float]) -> Values:
        """E_new − E_old (N, C) in mag of objects with the tabulated E(B−V); NaN in a band that does not redden."""
        factor = self.views(np.ones((len(self.bands), 8, 8)), 8, "extinction", {"ebv": ebv}).mean(axis=(2, 3))
        c = np.array([coefficients[band] for band in self.bands])
        return np.log10(factor) / np.where(np.abs(c) > 1e-6, c, np.nan)  # type: ignore[no-any-return]

    def affine(self, step: str, reach: int) -> tuple[Values, Values]:
        """M (N, 2, 2) and t (N, 2): the output pixel u px from the center shows what lay at M·u + t, in (x, y).

        reach : px that the step may move the picture by.
        """
        size = 16
        side = size + 2 * (reach + size)
        grid = np.arange(side) - (side - 1) / 2
        shown = []
        for ramp in np.meshgrid(grid, grid):  # x, y
            picture = np.broadcast_to(ramp, (len(self.bands), side, side)).copy()
            shown.append(self.views(picture, size, step, {}).mean(axis=1))  # (N, h, w)
        middle = slice(size // 2 - 3, size // 2 + 3)
        u = np.arange(size)[middle] - (size - 1) / 2
        design = np.stack([*(axis.ravel() for axis in np.meshgrid(u, u)), np.ones(len(u) ** 2)], axis=1)  # (P, 3)
        solve = np.linalg.pinv(design)  # (3, P)
        plane = np.stack([solve @ part[:, middle, middle].reshape(OBJECTS, -1).T for part in shown])  # (2, 3, N)
        return plane[:, :2].transpose(2, 0, 1), plane[:, 2].T

    def blur(self, sigma_old: float, widest: float, pixel_scale: float) -> tuple[Values, Values]:
        """σ in px along x and y, (N, C) each, of the blur that objects with this PSF get; 0 below NARROWEST.

        widest : px, the largest σ to expect, so that the picture's edges lie beyond it.
        """
        size = 16
        side = size + 2 * min(ceil(4 * widest), 128)
        picture = np.zeros((len(self.bands), side, side))
        picture[:, side // 2, side // 2] = 1.0
        fwhm = sigma_old * FWHM * pixel_scale
        out = self.views(picture, size, "blur", {f"psfsize_{band}": fwhm for band in self.bands})
        center, along_x, along_y = out[..., 8, 8], out[..., 8, 9], out[..., 9, 8]  # (N, C)
        return _sigma(along_x / center), _sigma(along_y / center)

    def noise(self, sigma_old: float, pixel_scale: float) -> tuple[Values, int]:
        """σ (N, C) per px, in stored units, of the noise that objects with this noise get, each from so many pixels."""
        size = 32
        catalog = {f"psfsize_{band}": FWHM * pixel_scale for band in self.bands}  # a PSF of σ = 1 px
        catalog |= {f"psfdepth_{band}": 1 / (sigma_old**2 * 4 * pi) for band in self.bands}
        out = self.views(np.zeros((len(self.bands), size, size)), size, "noise", catalog)
        return np.sqrt(np.square(out).mean(axis=(2, 3))), size * size


def _sigma(ratio: Values) -> Values:
    """The σ in px of a sampled Gaussian whose next pixel has this ratio to its center."""
    safe = np.clip(ratio, 1e-12, 1 - 1e-9)
    sigma: Values = np.sqrt(-0.5 / np.log(safe))
    return np.where(sigma < NARROWEST, 0.0, sigma)


def distance(sample: Values, stated: Values) -> float:
    """The largest difference between the distribution functions of two samples (Kolmogorov and Smirnov)."""
    unit = float(np.abs(stated).max()) or 1.0
    a, b = (np.sort(np.round(values / unit, 4)) for values in (sample, stated))  # equal numbers stay equal
    at = np.concatenate([a, b])
    parts = [np.searchsorted(values, at, side="right") / len(values) for values in (a, b)]
    return float(np.abs(parts[0] - parts[1]).max())


def distance_from_uniform(sample: Values) -> float:
    """The same, to the uniform distribution over the sample's own range."""
    return distance(sample, np.linspace(sample.min(), sample.max(), 10_001))


def limit(n: int, odds: float) -> float:
    """The distance that a right sample of n exceeds with at most these odds (Dvoretzky, Kiefer, Wolfowitz; Massart)."""
    return float(np.sqrt(np.log(2 / odds) / (2 * n)))
