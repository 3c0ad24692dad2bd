"""What the galaxy augmentations should be, typed from the paper and not taken from the code that is measured.

Stein et al. (2021), arXiv:2110.13151. Distributions are lognormal as scipy has it, loc + scale·exp(s·N(0, 1)), within
low–high. The viewer's colors are those of the Legacy Surveys' own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
POINTS = 20_000  # quantiles that stand for a distribution


@dataclass(frozen=True)
class Stated:
    """One number's distribution as stated: lognormal(s, loc, scale) or uniform, within low–high."""

    kind: str
    s: float
    loc: float
    scale: float
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def of(cls, distribution: Any) -> Stated:
        """From the numbers of a checkpoint's settings."""
        low = -math.inf if distribution.low is None else distribution.low
        high = math.inf if distribution.high is None else distribution.high
        return cls(distribution.kind, distribution.s, distribution.loc, distribution.scale, low, high)

    def quantiles(self) -> Values:
        """The values (POINTS,) at evenly spaced probabilities, increasing."""
        u = (np.arange(POINTS) + 0.5) / POINTS
        if self.kind == "uniform":
            return self.low + u * (self.high - self.low)
        below, above = self._cdf(self.low), self._cdf(self.high)
        normal = NormalDist()
        z = np.array([normal.inv_cdf(p) for p in (below + u * (above - below)).tolist()])
        values: Values = self.loc + self.scale * np.exp(self.s * z)
        return values

    def _cdf(self, x: float) -> float:
        if x <= self.loc:
            return 0.0
        return 1.0 if math.isinf(x) else NormalDist().cdf(math.log((x - self.loc) / self.scale) / self.s)


EBV = Stated("lognormal", 0.67306, 0.001146, 0.03338)  # mag
PSF = {  # σ in px of 0.262 arcsec
    "g": Stated("lognormal", 0.2109966, 1.0807153, 1.3153171, 1.3233109, 5.0),
    "r": Stated("lognormal", 0.3008485, 1.2394326, 0.9164757, 1.2667341, 4.5),
    "z": Stated("lognormal", 0.3471172, 1.1928363, 0.8233702, 1.2126263, 4.25),
}
NOISE = {  # σ in nanomaggies per px
    "g": Stated("lognormal", 0.2264926, -0.0006735, 0.0037602, 0.001094, 0.013),
    "r": Stated("lognormal", 0.2431146, -0.0023663, 0.0067417, 0.001094, 0.018),
    "z": Stated("lognormal", 0.1334844, -0.0143416, 0.0260779, 0.001094, 0.061),
}
FWHM = 2.3548  # of a Gaussian, in σ
# Lupton et al. (2004) as the survey's viewer draws it: bands to (B, G, R).
COLOR_M, COLOR_Q = 0.03, 20.0
COLOR_SCALES = {"g": 6.0, "r": 3.4, "z": 2.2}


def viewer_colors(flux: Values, bands: tuple[str, ...]) -> Values:
    """The unclipped color image (C, ...) of fluxes (C, ...) in nanomaggies, bands in stored order."""
    scaled = np.stack([COLOR_SCALES[band] * flux[place] + COLOR_M for place, band in enumerate(bands)])
    intensity = np.maximum(scaled, 0).mean(axis=0)
    colors: Values = scaled * np.arcsinh(COLOR_Q * intensity) / (math.sqrt(COLOR_Q) * intensity)
    return colors
