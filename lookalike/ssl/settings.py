"""The settings of a training run, and the values a data set of a given size makes of the open ones."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lookalike.config import Config
from lookalike.errors import CorruptError, InputError, unknown
from lookalike.ssl.architectures import ENCODERS, MLP, MlpSettings

MAX_QUEUE = 65_536
EPOCHS = 100
LOW_MOMENTUM, HIGH_MOMENTUM = 0.9, 0.999
# px; views below this size get the small stem. At 32 px it makes ResNet-18 8 times slower on a CPU, and a run of the
# same length that much shorter; below, the standard stem leaves less than one pixel to the last stage.
SMALL_VIEW = 32


class TrainConfig(Config):
    """MoCo v2 on one data set; None means "by the data" and is filled in by `resolved`."""

    encoder: str | None = None  # the domain's default
    small_stem: bool | None = None  # for views below SMALL_VIEW px
    epochs: int | None = Field(None, ge=1)  # EPOCHS; on resume, as many as before
    batch_size: int = Field(64, ge=4)
    queue: int | None = Field(None, ge=1)  # K: the largest multiple of the batch <= N/2 and <= 65,536
    momentum: float | None = Field(None, ge=0, lt=1)  # m: 1 - 10/steps, within 0.9 to 0.999
    temperature: float = Field(0.2, gt=0)  # T
    lr: float = Field(0.03, gt=0)  # per 256 samples of a batch; cosine decay to 0
    weight_decay: float = Field(1e-4, ge=0)
    sgd_momentum: float = Field(0.9, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["float32", "bfloat16"] | None = None  # bfloat16 where the device multiplies it faster
    sub_batches: int | None = Field(
        None, ge=1
    )  # parts batch norm sees: batch / 32, at least 2, some multiple of the processes
    projection: int = Field(128, ge=2, le=4096)
    mlp: MlpSettings | None = None  # widths of the encoder mlp; none of another
    augment: dict[str, Any] = Field(default_factory=dict)  # changes to the domain's own settings


def resolved(
    config: TrainConfig,
    *,
    objects: int,
    view_size: int,
    default_encoder: str,
    precision: str = "float32",
    processes: int = 1,
) -> TrainConfig:
    """The same settings with every open value filled in for N = `objects` and views of `view_size` px.

    precision : what the device multiplies fast. processes : how many share a batch, each with equally many of batch
    norm's parts.
    InputError where the data are too few for the batch or the queue.
    """
    encoder = config.encoder or default_encoder
    if encoder not in ENCODERS:
        raise unknown("encoder", encoder, ENCODERS)
    if encoder != MLP and config.mlp is not None:
        raise InputError(f"The settings mlp are of the encoder mlp, but the encoder is {encoder}.")
    if encoder == MLP and config.small_stem:
        raise InputError("A stem is a ResNet's: the encoder mlp has none, but small_stem = true was given.")
    sub_batches = config.sub_batches or -(-max(2, config.batch_size // 32) // processes) * processes
    if sub_batches % processes:
        raise InputError(
            f"Each process has as many of batch norm's parts as the others, but sub_batches = {sub_batches} over "
            f"{processes} processes."
        )
    if sub_batches > config.batch_size // 2:
        raise InputError(
            f"Batch norm needs at least 2 objects in each part of a batch, but sub_batches = {sub_batches} "
            f"and batch_size = {config.batch_size}."
        )
    if objects < 2:
        raise InputError("Contrastive training tells objects apart, so it needs at least 2, but there is only one.")
    if config.batch_size > objects:
        raise InputError(
            f"A batch holds different objects, so batch_size is at most their number, {objects:,}, "
            f"but {config.batch_size:,} was given."
        )
    epochs = EPOCHS if config.epochs is None else config.epochs
    steps = epochs * (objects // config.batch_size)
    queue = config.queue if config.queue is not None else default_queue(objects, config.batch_size)
    if not config.batch_size <= queue < objects:
        raise InputError(
            f"The queue holds at least one batch ({config.batch_size:,}) and fewer keys than there are objects "
            f"({objects:,}), but queue = {queue:,}."
        )
    small = view_size < SMALL_VIEW if config.small_stem is None else config.small_stem
    return config.model_copy(
        update={
            "encoder": encoder,
            "epochs": epochs,
            "small_stem": encoder != MLP and small,
            "mlp": (config.mlp or MlpSettings()) if encoder == MLP else None,
            "queue": queue,
            "momentum": default_momentum(steps) if config.momentum is None else config.momentum,
            "precision": config.precision or precision,
            "sub_batches": sub_batches,
        }
    )


def default_queue(objects: int, batch_size: int) -> int:
    """K: the largest multiple of the batch that is at most N/2 and at most 65,536."""
    queue = min(objects // 2, MAX_QUEUE) // batch_size * batch_size
    if queue == 0:
        raise InputError(
            f"The queue holds at least one batch and at most half the objects, so batch_size is at most "
            f"{min(objects // 2, MAX_QUEUE):,} for {objects:,} objects, but {batch_size:,} was given."
        )
    return queue


def default_momentum(steps: int) -> float:
    """m: the key encoder forgets its start within a tenth of the run, as far as 0.9 to 0.999 allows."""
    return min(max(1 - 10 / steps, LOW_MOMENTUM), HIGH_MOMENTUM)


def refuse_changes(stored: dict[str, Any], given: TrainConfig) -> None:
    """On resume only the number of epochs may grow: anything else that differs is an InputError naming it.

    stored : the resolved settings the checkpoint was trained with. An open (None) setting takes the stored value.
    CorruptError where one of them is not there.
    """
    missing = [name for name in TrainConfig.model_fields if stored.get(name) is None and name != "mlp"]
    if missing:
        raise CorruptError(
            f"The checkpoint does not say with which {', '.join(missing)} it was trained, so it cannot be resumed; "
            "train to another --out."
        )
    trained = TrainConfig.checked(stored).model_dump()
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
