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
    return measured(plan, out, world)[0]


def measured(plan: Plan, out: Path, world: World) -> tuple[float, float]:
    """Samples/s of some real steps of a run that is thrown away, and how many s its first steps took beyond that."""
    B = plan.config.batch_size
    with closing(endless_steps(Trainer(plan, out, world, checkpoint_seconds=float("inf")))) as steps:
        began = time.monotonic()
        for _ in range(WARM_STEPS):
            next(steps)
        warmed = world.mean([time.monotonic() - began])[0]
        start = time.monotonic()
        for taken, _ in enumerate(steps, start=1):
            # All processes stop after the same step: when their mean time is up.
            spent = world.mean([time.monotonic() - start])[0]
            if taken > 1 and (spent > MEASURED_SECONDS or taken + WARM_STEPS >= MOST_STEPS):
                return taken * B / spent, max(0.0, warmed - WARM_STEPS * spent / taken)
    raise AssertionError("an endless count ended")


def new_plan(
    samples: Samples, config: TrainConfig, out: Path, world: World, *, budget: float | None, start: Start | None
) -> Plan:
    """A new run with nothing left open: under a budget, in seconds, its epochs follow from the rate of some real steps.

    What compiling took then, which the run itself does again, is of the budget too.
    InputError for settings or data that cannot work. `train` trains it, and `find_lr` tries rates on it.
    """
    machine = world.from_first(lambda: fast_precision(world.device))
    plan = make_plan(samples, config, precision=machine, processes=world.size, start=start)
    world.from_first(lambda: refuse_constant(samples))
    if budget is None:
        return plan
    compiling = plan.config.compile
    rate, prepared = measured(plan, out, world) if compiling else (samples_per_second(plan, out, world), 0.0)
    epochs, note = epochs_within(budget, plan, rate, prepared)
    longer = config.model_copy(update={"epochs": epochs})
    plan = make_plan(samples, longer, precision=machine, processes=world.size, start=start)
    plan.notes.append(note)
    return plan


def epochs_within(seconds: float, plan: Plan, rate: float, prepared: float = 0.0) -> tuple[int, str]:
    """The epochs that fit into `seconds` at `rate` samples/s, at least one, and a note that says so.

    prepared : seconds that pass before steps are of that rate.
    """
    per_epoch = plan.steps_per_epoch * plan.config.batch_size / rate
    epochs = max(1, int((seconds - prepared) * (1 - SPARE) / per_epoch))
    each = f"of {per_epoch:.1f} s"
    fits = counted(epochs, f"epoch {each} fits", f"epochs {each} each fit")
    first = f", and {prepared:,.0f} s of compiling," if prepared else ""
    note = f"{rate:,.0f} samples/s measured: {fits}{first} into {seconds:,.0f} s."
    if per_epoch + prepared > seconds:
        note = (
            f"{rate:,.0f} samples/s measured: one epoch takes {per_epoch:,.0f} s{first.rstrip(',')}, longer than the "
            f"{seconds:,.0f} s."
        )
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
