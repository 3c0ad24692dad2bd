"""What an encoder sees of a record of the Higgs challenge: its primitives, and what is derived from them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from lookalike.about import FEATURES
from lookalike.augmentations.event_particles import EventParticles
from lookalike.augmentations.numbers import Numbers, fitted_to, some_of
from lookalike.augmentations.preprocess import Seen
from lookalike.events import DERIVED

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lookalike.samples import Samples


class EventRecord(Seen):
    """Stored primitives, followed by the derived variables that they give; `record` says how each is given.

    What is derived is computed from the very numbers of a view, so that it is never that of another.
    """

    kind: Literal["event record"]
    record: Numbers

    @model_validator(mode="after")
    def _follows(self) -> Self:
        if self.record.kind != "record" or self.record.bands != (*self.bands, *DERIVED):
            raise ValueError("record is of the primitives and then the derived variables")
        return self

    @property
    def layout(self) -> str:
        return FEATURES

    @property
    def numbers(self) -> int:
        return self.record.numbers

    @property
    def told(self) -> str:
        return f"events of {self.size} primitives and {len(DERIVED)} variables derived from them"

    @property
    def encoders(self) -> tuple[str, ...]:
        return self.record.encoders

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        stored = {"size": self.size, "bands": self.bands, "scales": self.record.scales[: self.size]}
        self.record.model_copy(update=stored).check(shape, dtype)

    def given(self, objects: torch.Tensor) -> torch.Tensor:
        """(B, F) in GeV and rad -> (B, V + flags)."""
        return self.record.given(self.complete(objects))

    def complete(self, objects: torch.Tensor) -> torch.Tensor:
        """The primitives (B, F) with what is derived from them, (B, F + 12)."""
        import torch

        from lookalike.augmentations.event_variables import derived

        return torch.cat([objects, derived(objects, self.bands)], dim=1)


def fit(samples: Samples, seen: Seen) -> Seen:
    """Either input of events with the mean and spread of the data's values."""
    some = some_of(samples)
    if isinstance(seen, EventParticles):
        return seen.model_copy(update={"element": fitted_to(seen.complete(some), seen.element)})
    if isinstance(seen, EventRecord):
        return seen.model_copy(update={"record": fitted_to(seen.complete(some), seen.record)})
    assert isinstance(seen, Numbers)
    return fitted_to(some, seen)
