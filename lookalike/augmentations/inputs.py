"""Every kind of encoder input, told apart by its `kind`, and the way from stored objects to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lookalike.augmentations.event_input import EventRecord
from lookalike.augmentations.event_particles import EventParticles
from lookalike.augmentations.jet_image import JetImage
from lookalike.augmentations.numbers import Numbers
from lookalike.augmentations.preprocess import Preprocess, Seen

if TYPE_CHECKING:
    import torch

AnyInput = Annotated[Preprocess | Numbers | JetImage | EventRecord | EventParticles, Field(discriminator="kind")]


def encoder_input(objects: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Map stored objects to what the encoder is given.

    objects : (B, *shape), in stored units. Returns float32 on the same device, (B, C, size, size) of pictures.
    """
    return seen.given(objects)
