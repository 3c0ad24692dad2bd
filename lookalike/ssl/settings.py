"""The settings of a training run, and the values a data set of a given size makes of the open ones."""

from __future__ import annotations

from math import ceil
from typing import Any, Literal

from pydantic import Field

from lookalike.augmentations.domain import Pace
from lookalike.config import Config
from lookalike.errors import CorruptError, InputError, unknown
from lookalike.ssl.architectures import ENCODERS, MLP, RESNET, SET, MlpSettings, Places, SetSettings, kind_of
from lookalike.ssl.defaults import (
    default_batch,
    default_epochs,
    default_lr,
    default_momentum,
    default_orientations,
    default_queue,
    default_temperature,
)

# px; views below this size get the small stem. At 32 px it makes ResNet-18 8 times slower on a CPU, and a run of the
# same length that much shorter; below, the standard stem leaves less than one pixel to the last stage.
SMALL_VIEW = 32


# What trainings did before these were settings.
_OF_OLD: dict[str, Any] = {"orientations": 1, "compile": False, "untrained_half": False}


class TrainConfig(Config):
    """MoCo v2 on one data set; None means "by the data" and is filled in by `resolved`."""

    encoder: str | None = None  # the domain's default
    small_stem: bool | None = None  # for views below SMALL_VIEW px
    epochs: int | None = Field(
        None, ge=1
    )  # 300,000 / N within 20 to 1,000 (of some domains fewer); on resume, as before
    batch_size: int | None = Field(None, ge=4)  # 64; to 256 for large sets
    queue: int | None = Field(None, ge=1)  # K: the largest multiple of the batch <= N/8 and <= 65,536
    momentum: float | None = Field(None, ge=0, lt=1)  # m: 1 - 30/steps, within 0.9 to 0.999
    temperature: float | None = Field(None, gt=0)  # T: 0.1; to 0.2 for large sets
    lr: float | None = Field(None, gt=0)  # per 256 samples of a batch, cosine decay to 0: 0.06; to 0.03 for large sets
    weight_decay: float = Field(1e-4, ge=0)
    sgd_momentum: float = Field(0.9, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["float32", "bfloat16", "float16"] | None = (
        None  # what the device multiplies fast, bfloat16 first
    )
    compile: bool | None = None  # off: encoders by torch.compile, minutes of preparation for faster steps on a GPU
    sub_batches: int | None = Field(
        None, ge=1
    )  # parts batch norm sees: batch / 32, at least 2, some multiple of the processes
    projection: int = Field(128, ge=2, le=4096)
    orientations: Literal[1, 8] | None = (
        None  # averaged over when embedding; 8 for small sets of what has no up or down
    )
    untrained_half: bool | None = None  # half of the embedding is never trained: of collision events as particles
    places: Places | None = None  # a ResNet's stage, and the grid its maps are averaged over; none: mean of the last
    mlp: MlpSettings | None = None  # widths of the encoder mlp; none of another
    set: SetSettings | None = None  # widths of the encoder set; none of another
    augment: dict[str, Any] = Field(default_factory=dict)  # changes to the domain's own settings


class SettledConfig(TrainConfig):
    """The same with nothing left open."""

    encoder: str
    small_stem: bool
    epochs: int
    batch_size: int
    queue: int
    momentum: float
    temperature: float
    lr: float
    precision: Literal["float32", "bfloat16", "float16"]
    compile: bool
    sub_batches: int
    orientations: Literal[1, 8]
    untrained_half: bool


def resolved(
    config: TrainConfig,
    *,
    objects: int,
    view_size: int,
    default_encoder: str,
    precision: str = "float32",
    processes: int = 1,
    turns: bool = False,
    pace: Pace | None = None,
    kinds: tuple[str, ...] = (RESNET, MLP),
    half_untrained: tuple[str, ...] = (),
) -> SettledConfig:
    """The same settings with every open value filled in for N = `objects` and views of `view_size` px.

    precision : what the device multiplies fast. processes : how many share a batch, each with equally many of batch
    norm's parts. turns : whether an object turned or mirrored is the same object.
    pace : of a domain whose encoders learn for another time than those of pictures.
    kinds : the kinds of encoder that take these data. half_untrained : those with an untrained half.
    InputError where the data are too few for the batch or the queue.
    """
    encoder = config.encoder or _usual(default_encoder, kinds)
    if encoder not in ENCODERS:
        raise unknown("encoder", encoder, ENCODERS)
    kind = kind_of(encoder)
    if kind not in kinds:
        possible = [name for name in ENCODERS if kind_of(name) in kinds]
        raise InputError(f"The encoders for such data are {', '.join(possible)}, but {encoder} was given.")
    for name, given in ((MLP, config.mlp), (SET, config.set)):
        if kind != name and given is not None:
            raise InputError(f"The settings {name} are of the encoder {name}, but the encoder is {encoder}.")
    if kind != RESNET and config.small_stem:
        raise InputError(f"A stem is a ResNet's: the encoder {encoder} has none, but small_stem = true was given.")
    if kind != RESNET and config.places is not None:
        raise InputError(f"Places are of a ResNet's maps: the encoder {encoder} has none, but places were given.")
    if objects < 2:
        raise InputError("Contrastive training tells objects apart, so it needs at least 2, but there is only one.")
    B = default_batch(objects) if config.batch_size is None else config.batch_size
    sub_batches = _sub_batches(config.sub_batches, B, processes)
    if objects < B:
        raise InputError(
            f"A batch holds different objects, so batch_size is at most their number, {objects:,}, but {B:,} was given."
        )
    K = default_queue(objects, B) if config.queue is None else config.queue
    if not B <= K < objects:
        raise InputError(
            f"The queue holds at least one batch ({B:,}) and fewer keys than there are objects "
            f"({objects:,}), but queue = {K:,}."
        )
    epochs = default_epochs(objects, pace) if config.epochs is None else config.epochs
    by_data = {
        "encoder": encoder,
        "small_stem": kind == RESNET and view_size < SMALL_VIEW,
        "mlp": MlpSettings().model_dump() if kind == MLP else None,
        "set": SetSettings().model_dump() if kind == SET else None,
        "epochs": epochs,
        "batch_size": B,
        "queue": K,
        "momentum": default_momentum(epochs * (objects // B)),
        "temperature": default_temperature(objects),
        "lr": default_lr(objects, pace),
        "precision": precision,
        "compile": False,
        "sub_batches": sub_batches,
        "orientations": default_orientations(objects) if turns else 1,
        "untrained_half": kind in half_untrained,
    }
    chosen = {name: value for name, value in config.model_dump().items() if value is not None}
    settled = SettledConfig.checked(by_data | chosen)
    if settled.places is not None:
        _check_places(settled.places, view_size, settled.small_stem)
    return settled


def _check_places(places: Places, size: int, small_stem: bool) -> None:
    """InputError where a stage's maps of pictures of so many px have fewer rows than the grid."""
    halved = places.stage - 1 + (0 if small_stem else 2)  # how often: each stage but the first, the stem, its pooling
    side = ceil(size / 2**halved)
    if places.grid > side:
        raise InputError(
            f"Stage {places.stage} of this ResNet makes maps of {side} × {side} of a view of {size} px, so "
            f"places.grid is at most {side}, but {places.grid} was given."
        )


def _usual(default: str, kinds: tuple[str, ...]) -> str:
    """The domain's encoder, or where its data come in several layouts and it takes another one, the usual one."""
    if kind_of(default) in kinds or default not in ENCODERS:
        return default
    return next(name for name in ENCODERS if kind_of(name) == kinds[0])


def _sub_batches(given: int | None, B: int, processes: int) -> int:
    """Into how many parts batch norm divides a batch of B objects."""
    parts = given or -(-max(2, B // 32) // processes) * processes
    if parts % processes:
        raise InputError(
            f"Each process has as many of batch norm's parts as the others, but sub_batches = {parts} over "
            f"{processes} processes."
        )
    if parts > B // 2:
        raise InputError(
            f"Batch norm needs at least 2 objects in each part of a batch, but sub_batches = {parts} "
            f"and batch_size = {B}."
        )
    return parts


def trained_with(stored: dict[str, Any]) -> TrainConfig:
    """The settings that a checkpoint says it was trained with."""
    return TrainConfig.checked(_OF_OLD | stored)


def refuse_changes(stored: dict[str, Any], given: TrainConfig) -> None:
    """On resume only the number of epochs may grow: anything else that differs is an InputError naming it.

    stored : the resolved settings the checkpoint was trained with. An open (None) setting takes the stored value.
    CorruptError where one of them is not there.
    """
    stored = _OF_OLD | stored
    optional = (MLP, SET, "places")
    missing = [name for name in TrainConfig.model_fields if stored.get(name) is None and name not in optional]
    if missing:
        raise CorruptError(
            f"The checkpoint does not say with which {', '.join(missing)} it was trained, so it cannot be resumed; "
            "train to another --out."
        )
    trained = trained_with(stored).model_dump()
    for name, value in given.model_dump().items():
        before = trained[name]
        if name == "epochs":
            if value is not None and value < before:
                raise InputError(f"On resume the number of epochs may only grow: it was {before}, now {value}.")
        elif value is not None and value != before:
            raise InputError(
                f"On resume only the number of epochs may change, but {name} was {before!r} and is now {value!r}. "
                "Repeat the options of the first run, or train to another --out."
            )
