"""How many epochs fit into a given time, from the rate measured on the machine and the data themselves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from lookalike.samples import Samples
from lookalike.ssl.batches import refuse_constant
from lookalike.ssl.hardware import fast_precision
from lookalike.ssl.plan import Plan, make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.starting import Start
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import World
from lookalike.wording import counted

WARM_STEPS = 4  # the first ones compile and allocate
MEASURED_SECONDS = 5.0
MOST_STEPS = 200
SPARE = 0.05  # of the time, for checkpoints and for a rate that sinks
LONG = 100_000  # objects seen, from which it is worth some seconds to say how long that takes


def endless_steps(trainer: Trainer) -> Generator[dict[str, float]]:
    """Real steps of a run that is thrown away, epoch after epoch without end; of each what a run logs of it."""
    config = trainer.plan.config
    trainer.moco.train()
    for epoch in itertools.count():
        with closing(trainer.batches.epoch(config.seed, epoch, config.batch_size, world=trainer.world)) as batches:
            for batch in batches:
                yield trainer.take_step(batch, epoch)


def samples_per_second(plan: Plan, out: Path, world: World) -> float:
    """The rate of some real steps of a run that is then thrown away."""
    B = plan.config.batch_size
    with closing(endless_steps(Trainer(plan, out, world, checkpoint_seconds=float("inf")))) as steps:
        for _ in range(WARM_STEPS):
            next(steps)
        start = time.monotonic()
        for taken, _ in enumerate(steps, start=1):
            # All processes stop after the same step: when their mean time is up.
            spent = world.mean([time.monotonic() - start])[0]
            if taken > 1 and (spent > MEASURED_SECONDS or taken + WARM_STEPS >= MOST_STEPS):
                return taken * B / spent
    raise AssertionError("an endless count ended")


def new_plan(
    samples: Samples, config: TrainConfig, out: Path, world: World, *, budget: float | None, start: Start | None
) -> Plan:
    """A new run with nothing left open: under a budget, in seconds, its epochs follow from the rate of some real steps.

    InputError for settings or data that cannot work. `train` trains it, and `find_lr` tries rates on it.
    """
    machine = world.from_first(lambda: fast_precision(world.device))
    plan = make_plan(samples, config, precision=machine, processes=world.size, start=start)
    world.from_first(lambda: refuse_constant(samples))
    if budget is None:
        return plan
    epochs, note = epochs_within(budget, plan, samples_per_second(plan, out, world))
    longer = config.model_copy(update={"epochs": epochs})
    plan = make_plan(samples, longer, precision=machine, processes=world.size, start=start)
    plan.notes.append(note)
    return plan


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


def is_long(plan: Plan) -> bool:
    """Whether a run takes minutes at least."""
    return plan.steps * plan.config.batch_size >= LONG


def time_needed(plan: Plan, rate: float) -> str:
    """A note on how long a run takes at `rate` samples/s, and how to have another."""
    seconds = plan.steps * plan.config.batch_size / rate
    hours, minutes = divmod(round(seconds / 60), 60)
    told = f"{hours:,} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
    return (
        f"{rate:,.0f} samples/s measured: this takes about {told}; --budget 30m takes the epochs that fit into 30 min."
    )
