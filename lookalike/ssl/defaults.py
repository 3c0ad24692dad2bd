"""What the number of objects makes of the settings left open; docs/training.md has the measurements behind it.

Up to SMALL objects the values are those measured on small sets, from LARGE on those of the papers (He et al. 2020,
Chen et al. 2020); between the two they go evenly in log N.
"""

from __future__ import annotations

from math import log
from typing import Literal

from lookalike.augmentations.domain import Pace
from lookalike.errors import InputError

MAX_QUEUE = 65_536  # K of the papers
SHARE = 8  # the queue holds one of so many objects
SMALL, LARGE = 50_000, SHARE * MAX_QUEUE  # objects
BATCH = (64, 256)  # at SMALL and at LARGE, as all pairs below
FEWEST_EPOCHS = (20, 100)
TEMPERATURE = (0.1, 0.2)
LR = (0.06, 0.03)  # per 256 objects of a batch
VIEWED = 300_000  # objects that a small set's training looks at, each time one is seen counted: 4,700 steps of 64
MOST_EPOCHS = 1000
LOW_MOMENTUM, HIGH_MOMENTUM = 0.9, 0.999
FOLLOWING = 30  # times that the key encoder could forget its start in the course of a run


def between(ends: tuple[float, float], objects: int) -> float:
    """The value for N objects, of one that is ends[0] up to SMALL and ends[1] from LARGE on."""
    t = log(min(max(objects, SMALL), LARGE) / SMALL) / log(LARGE / SMALL)
    return float(f"{ends[0] ** (1 - t) * ends[1] ** t:.3g}")


def _too_few(objects: int) -> InputError:
    """Where no batch and queue are chosen: a batch is 4 objects or more, and the queue leaves at least one out."""
    if objects < 5:
        return InputError(f"Training needs at least 5 objects, a batch of 4 and one more, but there are {objects}.")
    return InputError(
        "The batch and queue that training chooses need at least 8 objects, so that a batch of 4 is half of them; for "
        f"{objects} give --batch-size 4 and --queue, from 4 to {objects - 1}."
    )


def default_batch(objects: int) -> int:
    """B: a multiple of 64 from 64 to 256; of fewer than 128 objects the largest power of two that is at most half."""
    if objects < 8:
        raise _too_few(objects)
    return min(1 << (objects // 2).bit_length() - 1, int(between(BATCH, objects)) // BATCH[0] * BATCH[0])


def default_queue(objects: int, batch_size: int) -> int:
    """K: the largest multiple of the batch that is at most N/8 and at most 65,536, but at least one batch."""
    if objects < 8:
        raise _too_few(objects)
    if batch_size > min(objects // 2, MAX_QUEUE):
        raise InputError(
            f"The queue holds at least one batch and at most half the objects, so batch_size is at most "
            f"{min(objects // 2, MAX_QUEUE):,} for {objects:,} objects, but {batch_size:,} was given."
        )
    return max(batch_size, min(objects // SHARE, MAX_QUEUE) // batch_size * batch_size)


def default_epochs(objects: int, pace: Pace | None = None) -> int:
    """As many passes as make VIEWED objects, but at least FEWEST_EPOCHS and at most MOST_EPOCHS.

    pace : of a domain whose encoders learn for another time.
    """
    viewed, fewest = (pace.viewed, pace.fewest) if pace else (VIEWED, round(between(FEWEST_EPOCHS, objects)))
    return min(max(round(viewed / objects), fewest), MOST_EPOCHS)


def default_momentum(steps: int) -> float:
    """m: the key encoder follows within a thirtieth of the run, as far as 0.9 to 0.999 allows."""
    return min(max(1 - FOLLOWING / steps, LOW_MOMENTUM), HIGH_MOMENTUM)


def default_temperature(objects: int) -> float:
    """T."""
    return between(TEMPERATURE, objects)


def default_lr(objects: int, pace: Pace | None = None) -> float:
    """The learning rate per 256 objects of a batch; pace as for the epochs."""
    return pace.lr if pace and pace.lr else between(LR, objects)


def default_orientations(objects: int) -> Literal[1, 8]:
    """Over how many orientations a picture without up or down is described: eight where that costs minutes only."""
    return 8 if objects <= SMALL else 1
