"""What the encoder sees of a stored object: the same in training, embedding and queries, saved in the checkpoint.

`Seen` is what every kind of input has in common; `Preprocess` is that of pictures, `Numbers` that of records and lists
of particles. `inputs.py` names them all.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from lookalike.about import IMAGES
from lookalike.config import Config
from lookalike.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lookalike.about import About


class Seen(Config):
    """A kind of encoder input, and what stored objects it is made of.

    `bands`, `unit`, `dtype` and `pixel_scale` (arcsec/px) say what stored objects the encoder accepts, `layout` how
    they are stored; `size` is the side of a picture in px, or how many numbers a record or particle has.
    """

    kind: str
    size: int
    bands: tuple[str, ...]
    dtype: Literal["float32", "uint8"]
    unit: str = ""
    pixel_scale: float | None = None

    @property
    def layout(self) -> str:
        return IMAGES

    @property
    def channels(self) -> int:
        """C of a picture that the encoder is given; 1 of anything else."""
        return 1

    @property
    def blind(self) -> tuple[str, ...]:
        """The augmentations that, done alone, cannot change the input, because of how it is made."""
        return ()

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many numbers an mlp is given of one object, or a set encoder of one particle."""

    def length(self, shape: tuple[int, ...]) -> int:
        """How many numbers the encoder is given of one object of this stored shape."""
        return self.numbers

    @property
    @abstractmethod
    def told(self) -> str:
        """The input in a few words, such as "views of 32 px in R, G, B"."""

    @property
    @abstractmethod
    def encoders(self) -> tuple[str, ...]:
        """The kinds of encoder that take it: resnet, mlp, set; the first is the usual one."""

    @abstractmethod
    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """InputError where stored objects of one shape and type are not what the encoder was trained on."""

    def check_about(self, about: About) -> None:
        """InputError where what a data set says of itself, beyond bands, unit and scale, is not what was trained on."""
        return

    @abstractmethod
    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """Stored objects (B, *shape) as the encoder is given them, float32, on the same device."""


class Preprocess(Seen):
    """A central crop to `size` px, then a pixel mapping.

    kind `lupton`: the color image of Lupton et al. (2004) as the Legacy Surveys viewer draws it, unclipped:
    I = mean over bands of max(0, scale·flux + m); out = (scale·flux + m)·asinh(Q·I)/(√Q·I).
    kind `scaled`: (pixel / divisor − mean) / std, with one mean and std for all bands or one for each. kind `flux`:
    stored values as they are.
    """

    kind: Literal["lupton", "scaled", "flux"]
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

    @property
    def channels(self) -> int:
        return len(self.bands)

    @property
    def numbers(self) -> int:
        return len(self.bands) * self.size**2

    @property
    def told(self) -> str:
        return f"views of {self.size} px in {', '.join(self.bands)}"

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("resnet", "mlp")

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if len(shape) != 3 or shape[0] != len(self.bands):
            raise InputError(
                f"This encoder takes pictures (C, H, W) in {len(self.bands)} bands ({', '.join(self.bands)}), "
                f"but {tuple(shape)} was given."
            )
        if dtype != self.dtype:
            raise InputError(f"This encoder was trained on {self.dtype} pixels, but {dtype} was given.")
        if min(shape[1:]) < self.size:
            raise InputError(
                f"This encoder sees the central {self.size}×{self.size} px, but pictures of {shape[2]}×{shape[1]} px "
                "(width × height) were given."
            )

    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """The central crop, mapped: (B, C, H, W) float32 or uint8 in stored units -> (B, C, size, size)."""
        x = central(objects, self.size).float()  # (B, C, h, w)
        if self.kind == "lupton":
            return lupton(x, self.scales, self.m, self.Q)
        if self.kind == "scaled":
            return (x / self.divisor - by_band(self.mean, x)) / by_band(self.std, x)
        return x


def central(images: torch.Tensor, size: int) -> torch.Tensor:
    """The central size × size px of pictures (B, C, H, W), of the two middles of an even rest the upper left."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]


def of_pictures(seen: Seen, what: str) -> Preprocess:
    """The input of an encoder of pictures; InputError that names `what` is done with such alone."""
    if not isinstance(seen, Preprocess):
        raise InputError(f"{what} is done with encoders of pictures, but this one takes {seen.told}.")
    return seen


def one_per_band(bands: tuple[str, ...], **values: float | tuple[float, ...]) -> None:
    """ValueError where numbers are neither one for all bands nor one for each."""
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) != len(bands):
            msg = f"{name} is one number or one per band, but {len(value)} for {len(bands)} bands were given"
            raise ValueError(msg)


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
