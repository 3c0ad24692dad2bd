"""Jet images: constituents (pT, η, φ) as the pictures of one or two jets that a ResNet is given.

Per jet: (1) centered on the pT-weighted mean, φ differences wrapped; (2) turned so that the principal axis lies along
η; (3) flipped so that the brightest quadrant is the first; (4) pT summed in pixels. Steps 2 and 3 are optional.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lookalike.about import PARTICLES
from lookalike.augmentations.preprocess import Seen
from lookalike.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lookalike.about import About

BANDS = ("pt", "eta", "phi", "jet")
SIZE = 75  # px

Positive = Annotated[float, Field(gt=0)]


class JetImage(Seen):
    """The image (B, jets, size, size) of particles (B, P, 4): pt in GeV, eta, phi in radians, jet 0 or 1.

    Row 0 is φ′ = −half_width and column 0 is η′ = −half_width; what lies beyond half_width is left out.

    align : whether steps 2 and 3 are done.
    value : `log` is log(1 + pT / scale), `share` is pT / (scale · pT of the jet), `pt` is pT / scale, with the pT of a
            pixel in GeV.
    """

    kind: Literal["jet"]
    size: int = Field(SIZE, ge=1)
    bands: tuple[str, ...] = BANDS
    dtype: Literal["float32"] = "float32"
    jets: Literal[1, 2] = 2
    half_width: Positive = 1.0
    align: bool = False
    value: Literal["log", "share", "pt"] = "log"
    scale: Positive = 1.0

    @model_validator(mode="after")
    def _particles_of_jets(self) -> Self:
        if self.bands != BANDS:
            raise ValueError(f"the numbers of a constituent are {', '.join(BANDS)}, not {', '.join(self.bands)}")
        return self

    @property
    def layout(self) -> str:
        return PARTICLES

    @property
    def channels(self) -> int:
        return self.jets

    @property
    def blind(self) -> tuple[str, ...]:
        return ("splits",)  # both parts of a constituent lie in one pixel, until they are smeared

    @property
    def numbers(self) -> int:
        return self.jets * self.size**2

    @property
    def told(self) -> str:
        which = "the leading jet" if self.jets == 1 else "the two leading jets"
        return f"images of {which}, {self.size} px over ±{self.half_width:g} in η and φ"

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("resnet", "mlp")

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if len(shape) != 2 or shape[1] != len(BANDS):
            raise InputError(
                f"This encoder takes constituents (P, {len(BANDS)}) of {', '.join(BANDS)}, "
                f"but {tuple(shape)} was given."
            )
        if dtype != self.dtype:
            raise InputError(f"This encoder was trained on {self.dtype} constituents, but {dtype} was given.")

    def check_about(self, about: About) -> None:
        if self.jets == 2 and about.survey.get("jets") == 1:
            raise InputError(
                "This encoder takes the two leading jets of each object, but these samples hold one jet of each."
            )

    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """(B, P, 4) -> (B, jets, size, size) float32."""
        import torch

        x = objects.double()
        pt = by_jet(x, self.jets)  # (B, J, P) GeV, 0 where the constituent is of another jet
        eta, phi = centered(x, pt)
        if self.align:
            eta, phi = aligned(pt, eta, phi)
        image = pixelated(pt, eta, phi, self.size, self.half_width)  # (B, J, size, size) GeV
        if self.value == "log":
            image = torch.log1p(image / self.scale)
        elif self.value == "share":
            image = image / (self.scale * pt.sum(2).clamp_min(1e-300))[..., None, None]
        else:
            image = image / self.scale
        return image.float()


def wrapped(angle: torch.Tensor) -> torch.Tensor:
    """The same angle within (−π, π]."""
    turned: torch.Tensor = angle - 2 * pi * ((angle - pi) / (2 * pi)).ceil()
    return turned


def by_jet(x: torch.Tensor, jets: int) -> torch.Tensor:
    """pT (B, J, P) of the constituents (B, P, 4) of each jet, 0 where one is of another jet or there is none."""
    import torch

    own = x[:, None, :, 3] == torch.arange(jets, device=x.device, dtype=x.dtype)[:, None]  # (B, J, P)
    return x[:, None, :, 0] * own


def axis(x: torch.Tensor, pt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """η and φ (B, J) of each jet's pT-weighted mean, φ within (−π, π]; 0 of a jet without constituents.

    A mean of angles needs a place to unroll them at: that of the hardest constituent, where a jet surely is.
    """
    total = pt.sum(2).clamp_min(1e-300)  # (B, J)
    eta = (pt * x[:, None, :, 1]).sum(2) / total
    hardest = x[:, :, 2].gather(1, pt.argmax(2))  # (B, J)
    away = wrapped(x[:, None, :, 2] - hardest[..., None])  # (B, J, P)
    phi = hardest + (pt * away).sum(2) / total
    return eta, wrapped(phi)


def centered(x: torch.Tensor, pt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Step 1: η′ and φ′ (B, J, P) of every constituent from the axis of each jet."""
    eta, phi = axis(x, pt)
    return x[:, None, :, 1] - eta[..., None], wrapped(x[:, None, :, 2] - phi[..., None])


def aligned(pt: torch.Tensor, eta: torch.Tensor, phi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps 2 and 3: the principal axis of the second moments along η, the brightest quadrant first; all (B, J, P)."""
    import torch

    # The major axis of a symmetric 2×2 matrix makes the angle ½·atan2(2·Sxy, Sxx − Syy) with the first coordinate.
    along, across = (pt * (eta**2 - phi**2)).sum(2), 2 * (pt * eta * phi).sum(2)  # (B, J)
    angle = (0.5 * torch.atan2(across, along))[..., None]
    cos, sin = angle.cos(), angle.sin()
    eta, phi = cos * eta + sin * phi, cos * phi - sin * eta
    right, up = eta >= 0, phi >= 0
    quadrants = torch.stack([pt.mul(right & up), pt.mul(~right & up), pt.mul(right & ~up), pt.mul(~right & ~up)])
    brightest = quadrants.sum(3).argmax(0)[..., None]  # (B, J, 1): 0 the first, 1 left of it, 2 below, 3 across
    return eta * (1 - 2 * (brightest % 2)), phi * (1 - 2 * (brightest // 2))


def pixelated(pt: torch.Tensor, eta: torch.Tensor, phi: torch.Tensor, size: int, half_width: float) -> torch.Tensor:
    """Step 4: pT (B, J, P) summed in (B, J, size, size) pixels, rows along φ′ and columns along η′."""
    column = ((eta + half_width) * (size / (2 * half_width))).floor().long()  # (B, J, P)
    row = ((phi + half_width) * (size / (2 * half_width))).floor().long()
    inside = (eta.abs() <= half_width) & (phi.abs() <= half_width)
    place = row.clamp(0, size - 1) * size + column.clamp(0, size - 1)
    image = pt.new_zeros((*pt.shape[:2], size * size))
    return image.scatter_add_(2, place, pt * inside).view(*pt.shape[:2], size, size)
