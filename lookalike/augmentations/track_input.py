"""What an encoder sees of a hit and its companions, or of a track: each hit's place, and the helix it proposes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from lookalike.about import PARTICLES
from lookalike.augmentations.numbers import some_of
from lookalike.augmentations.preprocess import Seen
from lookalike.errors import InputError
from lookalike.tracks import CELLS, HIT, HITS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lookalike.samples import About, Samples

TURNS = (1, 2, 4, 8, 16)  # the azimuth a particle starts in is given as sines and cosines of so many times it
FITTED = 2000  # samples whose mean and spread are taken, of those of `some_of`
OWN = ("r", "z", "slope", "layer")  # of every hit
OF_PAIR = ("apart", "turn", "curvature", "beam", "direction", "votes")  # of it and the first
OF_BEST = ("best_curvature", "best_beam", "best_direction", "best_votes")  # of the helix with most support


class TrackHits(Seen):
    """Hits (B, P) as stored, the first of which is the sample's own: absolute places, and what each says with it.

    Every hit proposes the helix from the beam line through itself and the first, on which the others vote (see
    `track_votes`). Given of it: r, z, z/r, its layer, charge and size where cells are stored; how far and at what turn
    it is from the first; curvature, origin on the beam axis, direction and votes of its helix, and of the best one.
    Of hits also the azimuth in which those helices start, as sines and cosines; tracks have none, for they are the
    same wherever they point to. Then each value less its mean, over its spread; the last number is 1 for a hit.
    """

    kind: Literal["track hits"]
    sample: Literal["hits", "tracks"]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _one_per_value(self) -> Self:
        if len(self.bands) != self.size or self.bands[: len(HIT)] != tuple(HIT):
            raise ValueError(f"hits are stored as {', '.join(HIT)} and more, but {', '.join(self.bands)} were given")
        if any(len(each) not in (0, self.scaled) for each in (self.mean, self.std)):
            raise ValueError(f"mean and std have one number for each of {self.scaled} values, or none")
        return self

    @property
    def cells(self) -> list[int]:
        """Where the numbers of the cells are stored."""
        return [self.bands.index(name) for name in CELLS if name in self.bands]

    @property
    def scaled(self) -> int:
        """How many values are given less their mean, over their spread."""
        return len(OWN) + len(self.cells) + len(OF_PAIR) + len(OF_BEST)

    @property
    def layout(self) -> str:
        return PARTICLES

    @property
    def numbers(self) -> int:
        return self.scaled + (4 * len(TURNS) if self.sample == HITS else 0) + 2

    def length(self, shape: tuple[int, ...]) -> int:
        return self.numbers * shape[0]

    @property
    def told(self) -> str:
        return "hits with their companions" if self.sample == HITS else "tracks as their hits"

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("set",)

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if len(shape) != 2 or shape[-1] != self.size:
            raise InputError(
                f"This encoder takes hits (P, F) with F = {self.size} ({', '.join(self.bands)}), "
                f"but {tuple(shape)} was given."
            )
        if dtype != self.dtype:
            raise InputError(f"This encoder was trained on {self.dtype} numbers, but {dtype} was given.")

    def check_about(self, about: About) -> None:
        if (sample := about.survey.get("sample")) != self.sample:
            raise InputError(f"This encoder was trained on samples that are {self.sample}, but these are {sample}.")

    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """(B, P, F) in mm and rad -> (B, P, numbers)."""
        import torch

        values, angles, there = self._values(objects.float())
        if self.mean:
            values = (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)
            values = values.clamp(-5, 5)  # two hits that make no track may propose anything
        first = torch.zeros_like(there)
        first[:, 0] = there[:, 0]
        return torch.cat([values, *angles, first[..., None], there[..., None]], dim=-1) * there[..., None]

    def _values(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """What is scaled (B, P, scaled), sines and cosines (B, P, ·) each, and a flag (B, P) of the hits there are."""
        import torch

        from lookalike.augmentations.track_votes import Hits, best, proposed, support

        r, phi, z, _, layer = (x[..., place] for place in range(len(HIT)))
        hits = Hits(r, phi, z, r > 0)
        helix = proposed(hits)
        votes = support(hits, helix)  # (B, P, P)
        number = votes.sum(dim=2)  # (B, P)
        place = best(votes)[:, None]  # (B, 1)
        safe = torch.where(hits.there, r, torch.ones_like(r))
        # Spreads of what comes of the data differ a thousandfold: each is brought near 1 before the asinh.
        pair = (helix.kappa / 3e-4, helix.z / 10, helix.cot)
        own = [r, z, torch.asinh(z / safe), layer]
        own += [torch.log1p(x[..., cell].clamp_min(0)) for cell in self.cells]
        own += [r - r[:, :1], 30 * torch.sin(phi - phi[:, :1])]
        own = [*own[:-1], torch.asinh(own[-1]), *(torch.asinh(each) for each in pair), torch.log1p(number)]
        chosen = [torch.asinh(each.gather(1, place)).expand_as(r) for each in pair]
        chosen.append(torch.log1p(number.gather(1, place)).expand_as(r))
        angles = []
        if self.sample == HITS:
            starts = (helix.phi, helix.phi.gather(1, place).expand_as(r))
            angles = [f(turn * start)[..., None] for start in starts for turn in TURNS for f in (torch.sin, torch.cos)]
        return torch.stack([*own, *chosen], dim=-1), angles, hits.there.float()


def fit(samples: Samples, seen: Seen) -> Seen:
    """The same input with the mean and spread of the data's values, to few digits."""
    import numpy as np

    assert isinstance(seen, TrackHits)
    some = some_of(samples)
    some = some[:: -(-len(some) // FITTED)]
    values, _, there = seen.model_copy(update={"mean": (), "std": ()})._values(some.float())
    own = values[there > 0].double().clamp(-1e4, 1e4).numpy()  # (n, scaled)
    mean = tuple(float(f"{each:.5g}") for each in own.mean(axis=0))
    std = tuple(float(f"{each:.5g}") or 1.0 for each in own.std(axis=0))
    assert np.isfinite([mean, std]).all()
    return seen.model_copy(update={"mean": mean, "std": std})
