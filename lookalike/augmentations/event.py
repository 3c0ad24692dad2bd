"""Collision events: as records of the Higgs challenge's primitives, or as lists of particles with the missing momentum.

Numbers after F.-Y. Hsieh's note on classification without labels and the card of CMS in Delphes (de Favereau et al.
2014, https://arxiv.org/abs/1307.6346): jets and taus are measured to √((5 %·pT)² + 1.5² GeV·pT), leptons to 2 % at
most, directions to Λ/pT. The note's Λ of Higgs candidates is 10 GeV, which is 0.25 rad of a tau of 40 GeV; for events
whose objects are that soft the default is 1 GeV. The missing momentum's own resolution, 0.5 √GeV·√ΣET, is ATLAS's
(2012, https://arxiv.org/abs/1108.5602).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from lookalike.about import FEATURES, PARTICLES
from lookalike.augmentations.domain import Domain, Pace
from lookalike.augmentations.event_display import draw
from lookalike.augmentations.event_input import EventRecord, fit
from lookalike.augmentations.event_particles import COUNTS, ELEMENT, EventParticles
from lookalike.augmentations.event_particles import SCALES as OF_ELEMENT
from lookalike.augmentations.numbers import Numbers, Scale
from lookalike.augmentations.preprocess import Seen
from lookalike.config import Config
from lookalike.errors import InputError
from lookalike.events import DERIVED, DOMAIN, PARTICLE, PRIMITIVES, TYPES
from lookalike.samples import About

if TYPE_CHECKING:
    import torch

    from lookalike.augmentations.bank import Bank
    from lookalike.augmentations.draws import Draws

Probability = Annotated[float, Field(ge=0, le=1)]
# How each number is given to the encoder, where not `log`, as momenta and masses are.
SCALES = {
    "eta": "linear",
    "phi": "angle",
    "PRI_jet_num": "one of 4",
    "type": f"one of {len(TYPES)}",
    "btag": "linear",
    "DER_deltaeta_jet_jet": "linear",
    "DER_prodeta_jet_jet": "asinh",
    "DER_deltar_tau_lep": "linear",
    "DER_met_phi_centrality": "linear",
    "DER_lep_eta_centrality": "linear",
}


class Turn(Config):
    """The whole event turned about the beam by U(0, 2π)."""

    enabled: bool = True


class Mirror(Config):
    """The whole event mirrored, η → −η and φ → −φ, each with its probability."""

    enabled: bool = True
    eta: Probability = 0.5
    phi: Probability = 0.5


class Boost(Config):
    """The whole event boosted along the beam, η′ = η + y with y ~ N(0, spread): who meets in the beams is not known."""

    enabled: bool = True
    spread: Annotated[float, Field(ge=0)] = 1.0


class PileUp(Config):
    """Other collisions of the same crossing of the beams, drawn anew.

    Each component of the missing momentum is measured again, N(its value, missing·√ΣET) with missing in √GeV, and
    PRI_met_sumet, most of which is of other collisions, is multiplied by exp N(0, spread). Of particles ΣET is the sum
    of their transverse momenta.
    """

    enabled: bool = True
    missing: Annotated[float, Field(ge=0)] = 0.5
    spread: Annotated[float, Field(ge=0, le=10)] = 1.0


class Energy(Config):
    """Transverse momenta measured again, N(pT, σ) above 0, which the missing momentum follows.

    Of jets and taus σ = √((constant·pT)² + stochastic²·pT) with stochastic in √GeV, of leptons and photons leptons·pT.
    """

    enabled: bool = True
    constant: Annotated[float, Field(ge=0)] = 0.05
    stochastic: Annotated[float, Field(ge=0)] = 1.5
    leptons: Annotated[float, Field(ge=0, le=0.02)] = 0.02


class Directions(Config):
    """η and φ of jets and taus measured again, N(its value, scale/pT), scale in GeV; the missing momentum follows."""

    enabled: bool = True
    scale: Annotated[float, Field(ge=0)] = 1.0


class EventSettings(Config):
    """How an event becomes a view."""

    layout: Literal["features", "particles"]
    bands: tuple[str, ...]
    turn: Turn = Turn()
    mirror: Mirror = Mirror()
    boost: Boost = Boost()
    energy: Energy = Energy()
    directions: Directions = Directions()
    pile_up: PileUp = PileUp()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.layout == PARTICLES and self.bands != tuple(PARTICLE):
            raise ValueError(f"particles of events are {', '.join(PARTICLE)}, but {', '.join(self.bands)} were given")
        return self


def default_settings(
    about: About, stored_size: int, columns: frozenset[str], dtype: str | None = None
) -> tuple[EventSettings, list[str]]:
    """The same steps for both layouts; InputError for data of another layout or without the primitives."""
    if about.layout not in (FEATURES, PARTICLES):
        raise InputError(f"Events are stored as {FEATURES} or {PARTICLES}, but these samples hold {about.layout}.")
    if about.layout == FEATURES:
        known = [name for name in PRIMITIVES if name in about.bands]
        absent = [name for name in PRIMITIVES if name not in known and name != "PRI_met_sumet"]
        if absent or len(known) != len(about.bands):
            odd = ", ".join(absent or sorted(set(about.bands) - set(known)))
            raise InputError(
                f"Records of events hold the primitives of the Higgs challenge, but "
                f"{f'there is no {odd}' if absent else f'{odd} is none'}; store other events as particles."
            )
    return EventSettings.checked({"layout": about.layout, "bands": about.bands}), []


def view(
    events: torch.Tensor,
    catalog: Mapping[str, torch.Tensor],
    draws: Draws,
    settings: EventSettings,
    bank: Bank | None = None,
) -> torch.Tensor:
    """One augmented view, float32 in stored units, of events (B, F) or (B, P, 6)."""
    from lookalike.augmentations.event_views import particles_view, record_view

    if events.shape[-1] != len(settings.bands) or events.dim() != (2 if settings.layout == FEATURES else 3):
        raise InputError(
            f"Events have the numbers {', '.join(settings.bands)}, but {tuple(events.shape[1:])} was given."
        )
    made = record_view if settings.layout == FEATURES else particles_view
    return made(events, draws.to(events.device), settings)


def columns(settings: EventSettings, bands: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    """No catalog column is read: what is derived is computed, and weights and labels are never seen."""
    return ()


def preprocess(about: About, settings: EventSettings) -> Seen:
    """Every number on its scale, with what is derived from it: a record's variables, the pairs of particles."""
    if settings.layout == PARTICLES:
        bands = (*ELEMENT, *COUNTS)
        scales = (*OF_ELEMENT, *("linear" for _ in COUNTS))
        element = Numbers(kind="particles", size=len(bands), bands=bands, dtype="float32", scales=scales)
        return EventParticles(
            kind="event particles", size=len(settings.bands), bands=settings.bands, dtype="float32", element=element
        )
    record = _numbers("record", (*settings.bands, *DERIVED))
    return EventRecord(
        kind="event record", size=len(settings.bands), bands=settings.bands, dtype="float32", record=record
    )


def _numbers(kind: Literal["record", "particles"], bands: tuple[str, ...]) -> Numbers:
    scales = tuple(scale_of(name) for name in bands)
    return Numbers(kind=kind, size=len(bands), bands=bands, dtype="float32", scales=scales)


def scale_of(name: str) -> Scale:
    """The scale of a number by its name, or of what its name ends in."""
    return SCALES.get(name, SCALES.get(name.rpartition("_")[2], "log") if name.startswith("PRI_") else "log")


EVENT = Domain(
    name=DOMAIN,
    settings_type=EventSettings,
    settings=default_settings,
    columns=columns,
    view=view,
    preprocess=preprocess,
    draw=draw,
    stretches=("display",),
    default_encoder="mlp",
    fit=fit,
    pace=Pace(viewed=60_000, fewest=5, lr=0.24),
    half_untrained=("set",),  # of records it gained nothing: docs/training.md
)
