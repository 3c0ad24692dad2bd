"""What an encoder sees of an event of particles: each one in the frame of the event, and each pair of the hardest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from lookalike.about import PARTICLES
from lookalike.augmentations.numbers import Numbers
from lookalike.augmentations.preprocess import Seen
from lookalike.events import PARTICLE, TYPES

if TYPE_CHECKING:
    import numpy as np
    import torch

# Of a particle, or of the sum of two: the numbers of PARTICLE, the transverse mass with the missing momentum, the
# distance of two in rapidity and azimuth, 0 of one; how many of each type there are follow.
ELEMENT = ("pt", "eta", "phi", "mass", "mt", "apart", "btag")
SCALES = ("log", "linear", "angle", "log", "log", "linear", "linear")
STORED = ("log", "linear", "angle", "log", f"one of {len(TYPES)}", "linear")  # of PARTICLE's numbers
COUNTS = tuple(f"n_{name}" for name in TYPES)
MET = TYPES.index("met")
LEAST_PT = 1e-6  # GeV: what is there has a momentum above 0
FARTHEST = 10.0  # |η|


class EventParticles(Seen):
    """Particles in the event's own frame, then the sums of all pairs of the `paired` hardest but the missing momentum.

    The frame is turned so that the missing momentum, or where there is none the hardest particle, is at φ = 0, boosted
    so that the mean rapidity of the others, by pT, is 0, and mirrored so that their means of η and sin φ, by pT², are
    above 0. So what the encoder is given does not change when an event is turned, mirrored or boosted, nor with the
    order of its particles. A pair has the mass that two particles have together, which no sum over single ones gives.

    element : how the numbers of ELEMENT and COUNTS are given.
    """

    kind: Literal["event particles"]
    element: Numbers
    paired: int = Field(6, ge=0, le=64)

    @model_validator(mode="after")
    def _follows(self) -> Self:
        if self.bands != tuple(PARTICLE) or self.element.bands != (*ELEMENT, *COUNTS):
            raise ValueError("bands are the numbers of a particle, element those of what is made of them")
        return self

    @property
    def layout(self) -> str:
        return PARTICLES

    @property
    def numbers(self) -> int:
        return self.element.numbers

    @property
    def told(self) -> str:
        return f"events of particles ({', '.join(self.bands)}) and the pairs of the {self.paired} hardest"

    @property
    def encoders(self) -> tuple[str, ...]:
        return self.element.encoders

    def length(self, shape: tuple[int, ...]) -> int:
        hard = min(shape[0], self.paired)
        return self.numbers * (shape[0] + hard * (hard - 1) // 2)

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        stored = {"size": self.size, "bands": self.bands, "scales": ("log",) * self.size}
        self.element.model_copy(update=stored).check(shape, dtype)

    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """(B, P, 6) in GeV and rad -> (B, P + pairs, V + 1)."""
        return self.element.given(self.complete(objects))

    def complete(self, objects: torch.Tensor) -> torch.Tensor:
        """Particles and pairs (B, P + pairs, 15) of particles (B, P, 6), zeros where there is none; in their dtype."""
        import torch

        from lookalike.augmentations.event_variables import rapidities, wrapped
        from lookalike.augmentations.functions import hypot

        x = in_own_frame(objects.double())  # (B, P, 6)
        met = _missing(x)[0]  # (B,), at φ = 0
        single = _elements(_four(x), x[..., 5], torch.zeros_like(met)[:, None], _types(x), met)
        single = torch.cat([single[..., :3], x[..., 3:4], single[..., 4:]], dim=-1) * (x[..., :1] > 0)
        visible = torch.where(x[..., 4] == MET, 0.0, x[..., 0])  # (B, P)
        hard = visible.topk(min(visible.shape[1], self.paired), dim=1).indices  # (B, h)
        y = x.gather(1, hard[..., None].expand(-1, -1, x.shape[2]))  # (B, h, 6)
        one, two = torch.triu_indices(y.shape[1], y.shape[1], 1, device=x.device)  # (pairs,) each
        there = visible.gather(1, hard)[:, two] > 0  # (B, pairs)
        first, second = y[:, one], y[:, two]
        y_one, y_two = (rapidities(each[..., 0], each[..., 1], each[..., 3]) for each in (first, second))
        apart = hypot(y_one - y_two, wrapped(first[..., 2] - second[..., 2]))
        pairs = _elements(
            _four(first) + _four(second), first[..., 5] + second[..., 5], apart, _types(first) + _types(second), met
        )
        return torch.cat([single, pairs * there[..., None]], dim=1).to(objects.dtype)


def in_own_frame(x: torch.Tensor) -> torch.Tensor:
    """Events (B, P, 6) float64 turned, boosted and mirrored as `EventParticles` says."""
    import torch

    from lookalike.augmentations.event_variables import boosted, rapidities, wrapped

    pt, eta, phi = x[..., 0], x[..., 1], x[..., 2]  # (B, P)
    visible = torch.where(x[..., 4] == MET, 0.0, pt)
    hardest = visible.argmax(dim=1, keepdim=True)  # (B, 1)
    met, met_phi = _missing(x)
    at = torch.where(met > 0, met_phi, phi.gather(1, hardest)[:, 0])  # (B,)
    phi = wrapped(phi - at[:, None])
    y = rapidities(pt, eta, x[..., 3])
    middle = (visible * y).sum(1, keepdim=True) / visible.sum(1, keepdim=True).clamp_min(LEAST_PT)  # (B, 1)
    eta = torch.where(x[..., 4] == MET, 0.0, boosted(pt, eta, x[..., 3], -middle))
    eta, phi = (
        each * (1 - 2.0 * ((visible.square() * size).sum(1, keepdim=True) < 0))
        for each, size in ((eta, eta), (phi, torch.sin(phi)))
    )
    return torch.cat([torch.stack([pt, eta, phi], dim=-1), x[..., 3:]], dim=-1) * (pt > 0)[..., None]


def _missing(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Size and azimuth (B,) of the missing momentum, 0 where there is none."""
    is_met = (x[..., 4] == MET) & (x[..., 0] > 0)
    return (x[..., 0] * is_met).sum(1), (x[..., 2] * is_met).sum(1)


def _four(x: torch.Tensor) -> torch.Tensor:
    """Four-momenta (…, 4) as px, py, pz, E of particles (…, 6)."""
    import torch

    from lookalike.augmentations.functions import cos, sinh

    pt, eta, phi, mass = x[..., 0], x[..., 1], x[..., 2], x[..., 3]
    pz = pt * sinh(eta)
    energy = (pt.square() + pz.square() + mass.square()).sqrt()
    return torch.stack([pt * cos(phi), pt * torch.sin(phi), pz, energy], dim=-1)


def _types(x: torch.Tensor) -> torch.Tensor:
    """1 in the place of each particle's type, (…, 8)."""
    import torch

    return (x[..., 4:5] == torch.arange(len(TYPES), device=x.device)).to(x.dtype)


def _elements(
    four: torch.Tensor, btag: torch.Tensor, apart: torch.Tensor, types: torch.Tensor, met: torch.Tensor
) -> torch.Tensor:
    """The numbers (B, n, 15) of four-momenta (B, n, 4); met (B,) lies at φ = 0."""
    import torch

    from lookalike.augmentations.functions import asinh, hypot

    px, py, pz, energy = four.unbind(-1)
    pt = hypot(px, py)
    mass = (energy.square() - pt.square() - pz.square()).clamp_min(0).sqrt()
    mt = (2 * met[:, None] * (pt - px)).clamp_min(0).sqrt()  # √(2·pT·MET·(1 − cos φ))
    eta = asinh(pz / pt.clamp_min(LEAST_PT)).clamp(-FARTHEST, FARTHEST)  # of two back to back it has no bound
    values = torch.stack(
        [
            pt.clamp_min(LEAST_PT),
            eta,
            torch.atan2(py.float(), px.float()).double(),
            mass,
            mt,
            apart.expand_as(pt),
            btag,
        ],
        dim=-1,
    )
    return torch.cat([values, types], dim=-1)
