"""Hits of a tracking detector with their companions, and tracks: what a particle's helix keeps.

A detector that is the same all around the beam and at both ends sees the same particle turned or mirrored. Of tracks
these are views like any other. Hits are to be near the hits of their own particle and of no other, which may only point
elsewhere; so all of an epoch are turned and mirrored alike, as whole events would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from lookalike.about import PARTICLES
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.track_display import STRETCH, draw
from lookalike.augmentations.track_input import TrackHits, fit
from lookalike.config import Config
from lookalike.errors import InputError, unknown
from lookalike.samples import About
from lookalike.tracks import DOMAIN, HIT, HITS, SAME, SAMPLES, TRACKS

if TYPE_CHECKING:
    import torch

    from lookalike.augmentations.bank import Bank
    from lookalike.augmentations.draws import Draws

Probability = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0, le=1000)]
Sizes = tuple[Size, Size, Size]
# mm, of rφ, z and r, by volume: measured on an event of the challenge, recorded less true positions.
RESOLUTION: dict[str, Sizes] = {
    "7": (0.013, 0.0, 0.009),
    "8": (0.006, 0.012, 0.001),
    "9": (0.013, 0.0, 0.009),
    "12": (0.02, 0.0, 0.3),
    "13": (0.017, 0.26, 0.003),
    "14": (0.02, 0.0, 0.3),
    "16": (0.12, 0.0, 2.8),
    "17": (0.024, 3.1, 0.004),
    "18": (0.12, 0.0, 2.8),
}


class Follow(Config):
    """A view stands on another hit of the particle, with the probability `share`.

    by : `helix`, a hit on the helix through the own hit that most companions bear out, one of several by their
         support; or `truth`, a hit of the same particle by the truth that was ingested, where it is known: then the
         training is a supervised one.
    """

    enabled: bool = True
    by: Literal["helix", "truth"] = "helix"
    share: Probability = 0.8


class Isolate(Config):
    """Companions off that helix (or not of that particle) left out of one of an object's two views, each by `share`.

    What the views have in common is then the particle alone: were only their azimuths changed, the places of all the
    companions along r and z would still tell one neighborhood from the others, and no track need be found in it. The
    other view has companions as they are, which is what the encoder will meet.
    """

    enabled: bool = True
    share: Probability = 1.0


class Drop(Config):
    """Hits missed, each with the probability `share`; the sample's own, or a track's first, never."""

    enabled: bool = True
    share: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Noise(Config):
    """Hits added: up to `most` free places, each half the time, have a companion turned by U(−reach, reach), in rad."""

    enabled: bool = True
    most: Annotated[int, Field(ge=0, le=1000)] = 6
    reach: Annotated[float, Field(ge=0, le=3.1415927)] = 0.3


class Smearing(Config):
    """Positions measured again, N(0, σ) in mm of rφ, z and r by volume, times `scale`."""

    enabled: bool = True
    scale: Annotated[float, Field(ge=0)] = 1.0
    volumes: dict[Annotated[str, Field(pattern=r"\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5]")], Sizes] = RESOLUTION
    other: Sizes = (0.1, 0.5, 0.1)


class Turn(Config):
    """The whole sample turned about the beam axis by U(0, 2π); `shared`: all of an epoch by one angle."""

    enabled: bool = True
    shared: bool = True


class Mirror(Config):
    """The whole sample mirrored, φ → −φ (which turns charges around) and z → −z; `shared`: all of an epoch alike."""

    enabled: bool = True
    phi: Probability = 0.5
    z: Probability = 0.5
    shared: bool = True


class TrackSettings(Config):
    """How a sample becomes a view."""

    sample: Literal["hits", "tracks"]
    bands: tuple[str, ...]
    follow: Follow = Follow()
    isolate: Isolate = Isolate()
    drop: Drop = Drop()
    noise: Noise = Noise()
    smearing: Smearing = Smearing()
    turn: Turn = Turn()
    mirror: Mirror = Mirror()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.follow.enabled and self.follow.by == "truth" and SAME not in self.bands:
            raise ValueError("follow.by = truth needs samples that were ingested with truth, but these were not")
        return self


def default_settings(
    about: About, stored_size: int, columns: frozenset[str], dtype: str | None = None
) -> tuple[TrackSettings, list[str]]:
    """Of hits all steps, of tracks those without companions; InputError for samples that are neither."""
    sample = about.survey.get("sample", HITS)
    if about.layout != PARTICLES or about.bands[: len(HIT)] != tuple(HIT):
        raise InputError(
            f"Samples of tracks are {PARTICLES} of {', '.join(HIT)} and more, but these are {about.layout} of "
            f"{', '.join(about.bands)}; make them with `lookalike ingest trackml`."
        )
    if sample not in SAMPLES:
        raise unknown("sample", sample, SAMPLES)
    settings: dict[str, object] = {"sample": sample, "bands": about.bands}
    if sample == TRACKS:
        off = {"enabled": False}
        settings |= {
            "follow": off,
            "isolate": off,
            "noise": off,
            "turn": {"shared": False},
            "mirror": {"shared": False},
        }
    return TrackSettings.checked(settings), []


def view(
    hits: torch.Tensor,
    catalog: Mapping[str, torch.Tensor],
    draws: Draws,
    settings: TrackSettings,
    bank: Bank | None = None,
) -> torch.Tensor:
    """One augmented view (B, P, F) float32 in stored units of samples (B, P, F)."""
    from lookalike.augmentations.track_views import track_view

    if hits.dim() != 3 or hits.shape[-1] != len(settings.bands):
        raise InputError(f"Hits have the numbers {', '.join(settings.bands)}, but {tuple(hits.shape[1:])} was given.")
    return track_view(hits, draws.to(hits.device), settings)


def columns(settings: TrackSettings, bands: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    """No catalog column is read."""
    return ()


def preprocess(about: About, settings: TrackSettings) -> TrackHits:
    """Hits as places and proposed helices; the truth is not among what is seen."""
    return TrackHits(
        kind="track hits", size=len(settings.bands), bands=settings.bands, dtype="float32", sample=settings.sample
    )


TRACK = Domain(
    name=DOMAIN,
    settings_type=TrackSettings,
    settings=default_settings,
    columns=columns,
    view=view,
    preprocess=preprocess,
    draw=draw,
    stretches=(STRETCH,),
    default_encoder="set",
    fit=fit,
)
