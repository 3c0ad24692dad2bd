"""The contract a scientific field fills in: how its objects vary without changing, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lookalike.config import Config
from lookalike.samples import About

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from lookalike.augmentations.bank import Bank
    from lookalike.augmentations.draws import Draws
    from lookalike.augmentations.preprocess import Seen
    from lookalike.samples import Samples


class DefaultSettings(Protocol):
    def __call__(
        self, about: About, stored_size: int, columns: frozenset[str], dtype: str | None = None
    ) -> tuple[Config, list[str]]:
        """The field's default settings for a data set, and the notes to print about them."""


class View(Protocol):
    def __call__(
        self,
        images: torch.Tensor,
        catalog: Mapping[str, torch.Tensor],
        draws: Draws,
        settings: Any,
        bank: Bank | None = None,
        /,
    ) -> torch.Tensor:
        """One augmented view of each picture of a batch."""


def no_bank(samples: Samples, settings: Any, seed: int, epoch: int = 0) -> Bank | None:
    """The bank of a field whose views are made of nothing but their own picture."""
    return None


def never(settings: Any) -> bool:
    """Of a field whose pictures have an up and a down."""
    return False


def as_it_is(samples: Samples, seen: Seen) -> Seen:
    """Of a field whose encoder input follows from the settings alone."""
    return seen


class ReadBank(Protocol):
    def __call__(self, samples: Samples, settings: Any, seed: int, epoch: int = 0, /) -> Bank | None:
        """What views take of other objects, drawn by (seed, epoch) from the whole set; None if nothing."""


@dataclass(frozen=True)
class Pace:
    """A default training's length and rate, at any number of objects.

    viewed : objects that training looks at, each time one is seen counted. fewest : epochs, of however many objects.
    lr     : learning rate per 256 objects of a batch; None for that of pictures.
    """

    viewed: int
    fewest: int
    lr: float | None = None


@dataclass(frozen=True)
class Domain:
    """One field of science. Building one, drawing with it and reading its defaults never imports torch.

    settings_type : the frozen model of the field's augmentation numbers.
    settings      : (about, size as Samples has it, column names, "float32" or "uint8") -> honest default settings for
                    that data, plus the notes to print (a column that is missing and what is used instead).
                    InputError where no honest default exists. Without a dtype: float32 if `about.unit` is a
                    flux in nanomaggies, else uint8.
    columns       : (settings, bands, column names) -> the catalog columns `view` reads, those present only.
    view          : (objects (B, *shape) float32 in stored units, catalog {column: (B,) float64}, draws, settings,
                    bank) -> one augmented view (B, *its shape) in stored units, on the device of `objects`.
    preprocess    : (about, settings) -> what the encoder is given, saved in the checkpoint.
    fit           : (samples, what preprocess gave) -> the same with what follows from the data themselves.
    turns         : (settings) -> whether a picture turned by any angle, and mirrored, shows the same object.
    pace          : how long encoders learn by default, where not as long as those of pictures.
    orientations  : over how many a small set of what turns is described by default; 1 where eight gain nothing.
    half_untrained : kinds of encoder (resnet, mlp, set) whose embedding is by default half that of an untrained one.
    bank          : (samples, settings, seed, epoch) -> what `view` takes of other objects of the set, if anything;
                    training reads that of its seed and epoch 0, an evaluation one of its own.
    draw          : (one object (*shape) in stored units, about, stretch, size in px) -> a picture for people.
    stretches     : names `draw` accepts; the first is the default.
    windows       : default windows in order of preference: `lookalike index` takes the first whose column has numbers.
    """

    name: str
    settings_type: type[Config]
    settings: DefaultSettings
    columns: Callable[[Any, tuple[str, ...], frozenset[str]], tuple[str, ...]]
    view: View
    preprocess: Callable[[About, Any], Any]  # Seen
    draw: Callable[[NDArray[np.generic], About, str, int], Image.Image]
    stretches: tuple[str, ...]
    default_encoder: str = "resnet18"
    windows: tuple[str, ...] = ()
    fit: Callable[[Samples, Seen], Any] = as_it_is
    turns: Callable[[Any], bool] = never
    pace: Pace | None = None
    orientations: Literal[1, 8] = 8
    half_untrained: tuple[str, ...] = ()
    bank: ReadBank = no_bank
