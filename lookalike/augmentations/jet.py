"""Jets: what leaves a jet the same to infrared- and collinear-safe physics, done to its constituents.

In this order: collinear splits, soft emissions, η–φ smearing, pT smearing, rotation and reflection about each jet's
axis, translation in η–φ. The image is made once, last, by `jet_image`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from lookalike.about import PARTICLES
from lookalike.augmentations.domain import Domain, Pace
from lookalike.augmentations.jet_drawing import STRETCHES, draw
from lookalike.augmentations.jet_image import BANDS, SIZE, JetImage
from lookalike.config import Config
from lookalike.errors import InputError
from lookalike.samples import About

if TYPE_CHECKING:
    import torch

    from lookalike.augmentations.bank import Bank
    from lookalike.augmentations.draws import Draws

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Most = Annotated[int, Field(ge=0, le=64)]


class Splits(Config):
    """Up to `most` times a constituent, chosen by its pT, becomes two in its own direction: z·pT and (1 − z)·pT.

    How often is uniform from 0 to `most`, z from U(low, high). Where an event has no free place left, none is split.
    """

    enabled: bool = True
    most: Most = 4
    low: Share = 0.0
    high: Share = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is at most high")
        return self


class Soft(Config):
    """Up to `most` times a constituent, chosen by its pT, emits a soft one, whose momentum it loses.

    pT of the emission is z times its emitter's with log z from U(log low, log high), at a distance in η–φ whose log is
    from U(log near, log far), in any direction.
    """

    enabled: bool = True
    most: Most = 4
    low: Annotated[float, Field(gt=0, lt=1)] = 0.001
    high: Annotated[float, Field(gt=0, lt=1)] = 0.02
    near: Positive = 0.01
    far: Positive = 0.4

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high or self.near > self.far:
            raise ValueError("low is at most high, and near at most far")
        return self


class Smearing(Config):
    """η′ ~ N(η, Λ/pT) and φ′ ~ N(φ, Λ/pT) of each constituent, Λ in GeV."""

    enabled: bool = True
    scale: NotNegative = 0.1


class Resolution(Config):
    """pT′ ~ N(pT, f(pT)), f(pT) = √((constant·pT)² + stochastic²·pT) GeV, truncated at > 0 (Delphes' CMS card).

    of : `jets` scales all of a jet's constituents by its own pT′/pT; `constituents` draws for each of them, as a
    calorimeter does for each tower.
    """

    enabled: bool = True
    of: Literal["jets", "constituents"] = "jets"
    constant: NotNegative = 0.05
    stochastic: NotNegative = 1.5


class Rotation(Config):
    """Each jet turned about its axis by its own U(0, 2π), and mirrored (φ′ to −φ′) with the given probability."""

    enabled: bool = True
    reflection: Share = 0.5


class Translation(Config):
    """The event moved by U(−eta, eta) in η and U(−phi, phi) in φ. Off, since the image is centered on each jet."""

    enabled: bool = False
    eta: NotNegative = 0.5
    phi: Annotated[float, Field(ge=0, le=pi)] = pi


class Picture(Config):
    """The image that the encoder is given; see `JetImage`. `align` goes without rotation, which it would undo."""

    size: int = Field(SIZE, ge=8, le=1024)
    half_width: Positive = 1.0
    align: bool = False
    value: Literal["log", "share", "pt"] = "log"
    scale: Positive = 1.0


class JetSettings(Config):
    """How a jet, or the two of an event, becomes a view. All momenta in GeV."""

    jets: Literal[1, 2] = 2
    splits: Splits = Splits()
    soft: Soft = Soft()
    smearing: Smearing = Smearing()
    resolution: Resolution = Resolution()
    rotation: Rotation = Rotation()
    translation: Translation = Translation()
    image: Picture = Picture()

    @model_validator(mode="after")
    def _not_undone(self) -> Self:
        if self.image.align and self.rotation.enabled:
            raise ValueError("image.align undoes the rotation of views, so it goes with rotation.enabled = false")
        return self


def default_settings(
    about: About, stored_size: int, columns: frozenset[str], dtype: str | None = None
) -> tuple[JetSettings, list[str]]:
    """The settings above, for as many jets of an event as are stored; InputError for anything but constituents."""
    if about.layout != PARTICLES or about.bands != BANDS:
        raise InputError(
            f"Jets are stored as particles of {', '.join(BANDS)}, but {about.layout} of {', '.join(about.bands)} "
            "were given; `lookalike ingest jets` makes them."
        )
    if about.units and about.units[0] != "GeV":
        raise InputError(f"Jets are stored in GeV, but pt in {about.units[0] or 'no unit'} was given.")
    return JetSettings(jets=1 if about.survey.get("jets") == 1 else 2), []


def view(
    images: torch.Tensor,
    catalog: Mapping[str, torch.Tensor],
    draws: Draws,
    settings: JetSettings,
    bank: Bank | None = None,
) -> torch.Tensor:
    """One augmented view (B, P, 4) float32 of the constituents (B, P, 4) of each event."""
    from lookalike.augmentations import jet_views

    if images.ndim != 3 or images.shape[2] != len(BANDS):
        raise InputError(f"Constituents are (B, P, {len(BANDS)}), but {tuple(images.shape)} was given.")
    draws = draws.to(images.device)
    x = images.double()  # a copy: (B, P, 4)
    if settings.splits.enabled:
        jet_views.split_(x, draws, settings.splits)
    if settings.soft.enabled:
        jet_views.emit_(x, draws, settings.soft)
    real = x[..., 0] > 0  # (B, P)
    if settings.smearing.enabled:
        jet_views.smear_(x, draws, settings.smearing)
    if settings.resolution.enabled:
        jet_views.rescale_(x, draws, settings.resolution)
    if settings.rotation.enabled:
        jet_views.rotate_(x, draws, settings.rotation)
    if settings.translation.enabled:
        jet_views.translate_(x, draws, settings.translation)
    return (x * real[..., None]).float()


def columns(settings: JetSettings, bands: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    """No catalog column is read."""
    return ()


def preprocess(about: About, settings: JetSettings) -> JetImage:
    """The image of one or two jets."""
    return JetImage(kind="jet", unit=about.unit, jets=settings.jets, **settings.image.model_dump())


def turns(settings: JetSettings) -> bool:
    """About its axis a jet has neither up nor down, and is as likely as its mirror image."""
    return settings.rotation.enabled and settings.rotation.reflection > 0


JET = Domain(
    name="jet",
    settings_type=JetSettings,
    settings=default_settings,
    columns=columns,
    view=view,
    preprocess=preprocess,
    draw=draw,
    stretches=STRETCHES,
    windows=("log(pt):0.1", "m_jj:100"),
    turns=turns,
    default_encoder="resnet10",
    pace=Pace(viewed=60_000, fewest=5),
    orientations=1,  # eight gained nothing: docs/training.md
)
