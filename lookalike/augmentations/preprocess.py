"""What the encoder sees of a stored image: the same in training, embedding and queries, saved in the checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from lookalike.config import Config

if TYPE_CHECKING:
    import torch


class Preprocess(Config):
    """A central crop to `size` px, then a pixel mapping.

    kind `lupton`: the color image of Lupton et al. (2004) as the Legacy Surveys viewer draws it, unclipped:
    I = mean over bands of max(0, scale·flux + m); out = (scale·flux + m)·asinh(Q·I)/(√Q·I).
    kind `scaled`: (pixel / divisor − mean) / std, with one mean and std for all bands or one for each. kind `flux`:
    stored values as they are.
    `bands`, `unit`, `dtype` and `pixel_scale` (arcsec/px) say what pictures the encoder accepts.
    """

    kind: Literal["lupton", "scaled", "flux"]
    size: int
    bands: tuple[str, ...]
    dtype: Literal["float32", "uint8"]
    unit: str = ""
    pixel_scale: float | None = None
    m: float = 0.03
    Q: float = 20.0
    scales: tuple[float, ...] = ()
    divisor: float = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    @model_validator(mode="after")
    def _one_per_band(self) -> Self:
        one_per_band(self.bands, mean=self.mean, std=self.std)
        return self


def one_per_band(bands: tuple[str, ...], **values: float | tuple[float, ...]) -> None:
    """ValueError where numbers are neither one for all bands nor one for each."""
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) != len(bands):
            msg = f"{name} is one number or one per band, but {len(value)} for {len(bands)} bands were given"
            raise ValueError(msg)


def encoder_input(images: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Map stored images to what the encoder is given.

    images : (B, C, H, W), float32 or uint8, stored units. Returns (B, C, size, size) float32, same device.
    """
    top = (images.shape[2] - preprocess.size) // 2
    left = (images.shape[3] - preprocess.size) // 2
    x = images[:, :, top : top + preprocess.size, left : left + preprocess.size].float()  # (B, C, h, w)
    if preprocess.kind == "lupton":
        return lupton(x, preprocess.scales, preprocess.m, preprocess.Q)
    if preprocess.kind == "scaled":
        return (x / preprocess.divisor - by_band(preprocess.mean, x)) / by_band(preprocess.std, x)
    return x


def by_band(value: float | tuple[float, ...], like: torch.Tensor) -> torch.Tensor | float:
    """A number as it is; one per band as a tensor (1, C, 1, 1) of the same type and device."""
    return like.new_tensor(value).view(1, -1, 1, 1) if isinstance(value, tuple) else value


def lupton(flux: torch.Tensor, scales: tuple[float, ...], m: float, Q: float) -> torch.Tensor:
    """The unclipped color image (B, C, H, W) of fluxes in nanomaggies, bands kept in their stored order."""
    scaled = flux * flux.new_tensor(scales).view(1, -1, 1, 1) + m  # (B, C, H, W)
    intensity = scaled.clamp_min(0).mean(dim=1, keepdim=True)  # (B, 1, H, W)
    # asinh(QI)/(√Q·I) tends to √Q as I goes to 0.
    safe = intensity.clamp_min(1e-12)
    stretched: torch.Tensor = scaled * (asinh(Q * safe) / (Q**0.5 * safe))
    return stretched


def asinh(x: torch.Tensor) -> torch.Tensor:
    """asinh x of numbers ≥ 0, to a few roundings; torch's own takes five times as long on a CPU.

    asinh x = log(1 + u) with u = x + x/(1/x + √(1 + 1/x²)), and log(1 + u) from the rounded w = 1 + u as
    log w·u/(w − 1) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 1.14.1).
    """
    import torch

    r = x.reciprocal()
    u = x + x / (r + torch.sqrt(r.square() + 1))
    w = u + 1
    return torch.where(w == 1, u, torch.log(w) * (u / (w - 1)))
