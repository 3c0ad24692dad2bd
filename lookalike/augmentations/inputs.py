"""Every kind of encoder input, told apart by its `kind`, and the way from stored objects to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lookalike.augmentations.event_input import EventRecord
from lookalike.augmentations.event_particles import EventParticles
from lookalike.augmentations.jet_image import JetImage
from lookalike.augmentations.numbers import Numbers
from lookalike.augmentations.preprocess import Preprocess, Seen
from lookalike.augmentations.track_input import TrackHits
from lookalike.errors import InputError

if TYPE_CHECKING:
    import torch

AnyInput = Annotated[
    Preprocess | Numbers | JetImage | EventRecord | EventParticles | TrackHits, Field(discriminator="kind")
]


def of_images(seen: Seen, what: str) -> Preprocess | JetImage:
    """The input of an encoder that is given images, of pictures or of jets; InputError that names `what` is done so."""
    if not isinstance(seen, Preprocess | JetImage):
        raise InputError(f"{what} is done with encoders of pictures and of jet images, but this one takes {seen.told}.")
    return seen


def encoder_input(objects: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Map stored objects to what the encoder is given.

    objects : (B, *shape), in stored units. Returns float32 on the same device, (B, C, size, size) of pictures.
    """
    return seen.given(objects)
