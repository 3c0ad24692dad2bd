"""What the encoder sees of records and of lists of particles: each number on its own scale, what is undefined said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lookalike.about import FEATURES, PARTICLES
from lookalike.augmentations.preprocess import Seen
from lookalike.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lookalike.samples import Samples

Scale = Annotated[str, Field(pattern=r"linear|log|asinh|angle|unseen|one of [1-9]\d?")]
FITTED = 50_000  # most objects whose mean and spread are taken
PARTICLES_FITTED = 2_000_000  # most places of particles that these may have together


class Numbers(Seen):
    """The numbers of a record, or of each particle, made comparable.

    scales : how each of the stored numbers is given. `linear` as it is; `log` log(1 + x), of numbers ≥ 0; `asinh` the
             like of both signs; `angle` its sine and cosine, in radians; `one of n` one value of n for a whole number
             from 0 to n − 1; `unseen` not at all.
    mean, std : of each value that comes of it (V,), over what is defined; set by `fitted`.

    An undefined (NaN) number of a record is given as 0, the mean, and a flag of each number seen says whether it was
    defined. A particle is given with a flag 1, the places after the last with zeros throughout.
    """

    kind: Literal["record", "particles"]
    scales: tuple[Scale, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _one_per_number(self) -> Self:
        if not len(self.scales) == len(self.bands) == self.size:
            raise ValueError(f"scales is one per number, but {len(self.scales)} for {len(self.bands)} were given")
        if any(len(each) not in (0, self.values) for each in (self.mean, self.std)):
            raise ValueError(f"mean and std have one number for each of {self.values} values, or none")
        return self

    @property
    def layout(self) -> str:
        return FEATURES if self.kind == "record" else PARTICLES

    @property
    def values(self) -> int:
        """V: how many values the numbers give, without flags."""
        return sum(width(scale) for scale in self.scales)

    @property
    def seen(self) -> list[int]:
        """Which of the stored numbers are given."""
        return [place for place, scale in enumerate(self.scales) if scale != "unseen"]

    @property
    def numbers(self) -> int:
        return self.values + (len(self.seen) if self.kind == "record" else 1)

    def length(self, shape: tuple[int, ...]) -> int:
        return self.numbers * (1 if self.kind == "record" else shape[0])

    @property
    def told(self) -> str:
        given = ", ".join(self.bands[place] for place in self.seen)
        return f"{'records' if self.kind == 'record' else 'particles'} of {given}"

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("mlp",) if self.kind == "record" else ("set",)

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        axes = "(F,)" if self.kind == "record" else "(P, F)"
        if len(shape) != axes.count(",") + (self.kind != "record") or shape[-1] != self.size:
            raise InputError(
                f"This encoder takes {self.layout} {axes} with F = {self.size} ({', '.join(self.bands)}), "
                f"but {tuple(shape)} was given."
            )
        if dtype != self.dtype:
            raise InputError(f"This encoder was trained on {self.dtype} numbers, but {dtype} was given.")

    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, V + flags), or (B, P, F) -> (B, P, V + 1)."""
        import torch

        values = self._values(objects.float())  # (B, ..., V)
        if self.mean:
            values = (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)
        if self.kind == "record":
            defined = torch.isfinite(objects[:, self.seen]).float()  # (B, flags)
            return torch.cat([values.nan_to_num(0.0), defined], dim=-1)
        real = (objects[..., :1] > 0).float()  # (B, P, 1)
        return torch.cat([values * real, real], dim=-1)

    def _values(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ..., F) -> (B, ..., V), NaN where undefined."""
        import torch

        parts = []
        for place in self.seen:
            number, scale = x[..., place : place + 1], self.scales[place]
            if scale == "angle":
                parts += [number.sin(), number.cos()]
            elif scale.startswith("one of"):
                choices = torch.arange(width(scale), device=x.device, dtype=x.dtype)
                parts.append((number == choices).to(x.dtype) + 0 * number)
            else:
                parts.append({"linear": lambda v: v, "log": torch.log1p, "asinh": torch.asinh}[scale](number))
        return torch.cat(parts, dim=-1)


def width(scale: str) -> int:
    """How many values a number on this scale gives."""
    if chosen := re.fullmatch(r"one of (\d+)", scale):
        return int(chosen[1])
    return {"angle": 2, "unseen": 0}.get(scale, 1)


def fitted(samples: Samples, seen: Seen) -> Seen:
    """The same input with the mean and spread of these objects' values, of FITTED of them, evenly spread, at most."""
    assert isinstance(seen, Numbers)
    return fitted_to(some_of(samples), seen)


def some_of(samples: Samples) -> torch.Tensor:
    """FITTED stored objects at most, fewer where they are long lists, evenly spread, in float64."""
    import numpy as np
    import torch

    most = FITTED if len(samples.shape) == 1 else min(FITTED, max(1, PARTICLES_FITTED // samples.shape[0]))
    rows = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), most)).astype(np.int64))
    return torch.from_numpy(samples.objects(rows)).double()


def fitted_to(x: torch.Tensor, seen: Numbers) -> Numbers:
    """The same input with the mean and spread of the values of objects (n, F) or (n, P, F) in float64.

    Sines, cosines and choices stay as they are, as does a value that never varies but for its mean.
    """
    import numpy as np

    plain = seen.model_copy(update={"mean": (), "std": ()})
    values = plain._values(x).reshape(-1, plain.values).numpy()  # (n or n·P, V)
    if seen.kind == "particles":
        values = values[(x[..., 0] > 0).reshape(-1).numpy()]
    mean, std = [], []
    for column, scale in zip(values.T, (s for s in seen.scales for _ in range(width(s))), strict=True):
        own = column[np.isfinite(column)]
        moves = scale in ("linear", "log", "asinh") and len(own)
        # Few digits, so that a set of any order of sums gives the same settings.
        mean.append(float(f"{own.mean():.5g}") if moves else 0.0)
        std.append(float(f"{own.std():.5g}") or 1.0 if moves else 1.0)
    return seen.model_copy(update={"mean": tuple(mean), "std": tuple(std)})
