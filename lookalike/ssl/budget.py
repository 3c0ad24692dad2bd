"""How many epochs fit into a given time, from the rate measured on the machine and the data themselves."""

from __future__ import annotations

import itertools
import re
import time
from contextlib import closing
from pathlib import Path

from lookalike.errors import InputError
from lookalike.ssl.plan import Plan
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import World
from lookalike.wording import counted

WARM_STEPS = 4  # the first ones compile and allocate
MEASURED_SECONDS = 5.0
MOST_STEPS = 200
SPARE = 0.05  # of the time, for checkpoints and for a rate that sinks
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float:
    """A duration such as 90s, 30m, 1h30m or 2d in seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not total > 0:
        raise InputError(f"A duration is like 90s, 30m, 1h30m or 2d, but {text!r} was given.")
    return total


def samples_per_second(plan: Plan, out: Path, world: World) -> float:
    """The rate of some real steps of a run that is then thrown away."""
    trainer = Trainer(plan, out, world, checkpoint_seconds=float("inf"))
    trainer.moco.train()
    B, steps, start = plan.config.batch_size, 0, 0.0
    for epoch in itertools.count():
        with closing(trainer.batches.epoch(plan.config.seed, epoch, B, world=world)) as batches:
            for batch in batches:
                if steps == WARM_STEPS:
                    start = time.monotonic()
                trainer.take_step(batch, epoch)
                steps += 1
                spent = time.monotonic() - start if steps > WARM_STEPS else 0.0
                # All processes stop after the same step: when their mean time is up.
                if steps > WARM_STEPS + 1 and (world.mean([spent])[0] > MEASURED_SECONDS or steps >= MOST_STEPS):
                    return (steps - WARM_STEPS) * B / world.mean([spent])[0]
    raise AssertionError("an endless count ended")


def epochs_within(seconds: float, plan: Plan, rate: float) -> tuple[int, str]:
    """The epochs that fit into `seconds` at `rate` samples/s, at least one, and a note that says so."""
    per_epoch = plan.steps_per_epoch * plan.config.batch_size / rate
    epochs = max(1, int(seconds * (1 - SPARE) / per_epoch))
    each = f"of {per_epoch:.1f} s"
    fits = counted(epochs, f"epoch {each} fits", f"epochs {each} each fit")
    note = f"{rate:,.0f} samples/s measured: {fits} into {seconds:,.0f} s."
    if per_epoch > seconds:
        note = f"{rate:,.0f} samples/s measured: one epoch takes {per_epoch:,.0f} s, longer than the {seconds:,.0f} s."
    return epochs, note
