"""Training a MoCo v2 encoder on a data set, anew or from its last checkpoint.

Everything random is keyed by what it is for (seed, epoch, row, step), so a run that was killed and resumed takes
the same steps as one that was not: on one CPU thread the same to the last bit of the loss. So does a run of several
processes, `torchrun --nproc-per-node 2 -m lookalike.ssl.train …` with the options of `lookalike train`. CPU is what
the tests run; the CUDA path (the same code under bfloat16 autocast) has not been run on a GPU.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl.budget import is_long, new_plan, samples_per_second, time_needed
from lookalike.ssl.checkpoint import read_config
from lookalike.ssl.checks import may_write, samples_to_train
from lookalike.ssl.curves import plot_log
from lookalike.ssl.hardware import fast_precision, kept_memory
from lookalike.ssl.log import LOG, last_steps
from lookalike.ssl.plan import Plan, make_plan
from lookalike.ssl.quality import LabelWatch
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.starting import Start
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import World, join, writing

__all__ = ["LabelResult", "TrainConfig", "TrainReport", "train"]


@dataclass(frozen=True)
class LabelResult:
    """The kNN accuracy of a column after so many epochs, and the share of its most frequent class."""

    column: str
    epochs: int
    knn_accuracy: float
    chance: float


@dataclass(frozen=True)
class TrainReport:
    """What a run came to; loss and accuracy are means over the last epoch, NaN where its log was removed.

    taken : steps that this call took, 0 where the run was finished before. label : what the labels came to, if any were
    watched and the embedding was asked for them in this call.
    """

    out: Path
    steps: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float
    content_hash: str
    config: TrainConfig
    taken: int
    label: LabelResult | None = None
    rank: int = 0  # of the process that says so; the others keep silent
    notes: list[str] = field(default_factory=list)


def train(
    samples_paths: Sequence[Path],
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    checkpoint_seconds: float = 120.0,
    device: str = "auto",
    label: str | None = None,
    plot: Path | None = None,
    budget: float | None = None,
    weights: Path | None = None,
) -> TrainReport:
    """Train an encoder on a data set (one or more samples files) and leave its checkpoint in the folder `out`.

    resume : go on from the checkpoint in `out`, or start where there is none. Only the number of epochs may have
             grown; K and m stay as they were, the cosine schedule is laid over the new total.
    checkpoint_seconds : a checkpoint at least this often, and at the end of each epoch as long as saving takes no
             more than a tenth of the time; also on SIGINT, SIGTERM and SIGUSR1, which then end in StoppedError.
    device : "auto" (CUDA if there is one), or a torch device.
    label : a catalog column whose classes the embedding is asked for now and then (see LabelWatch); it is logged and
            drawn, and changes nothing.
    plot : where to draw the curves besides `loss.png` in `out`.
    budget : seconds; a new run takes as many epochs as fit, by the rate of some steps taken beforehand.
    weights : a checkpoint of ours, or a file that `checkpoint import` understands, to begin with: they decide the
             kind of encoder. On resume they need not be given, and must be the same.

    InputError for settings or data that cannot work, CollapsedError when the encoder collapses.
    """
    began = time.monotonic()
    samples = samples_to_train(samples_paths, out, config, label=label, plot=plot, budget=budget)
    start = None if weights is None else Start(weights)
    with kept_memory(), join(device) as world, writing(out, world):
        quiet = quiet or not world.first
        resumed = world.from_first(lambda: may_write(out, resume))
        if resumed:
            _refuse_unshared(out, world)
        plan = _plan(samples, config, out, world, resumed=resumed, budget=budget, start=start)
        if not quiet:
            print(*plan.notes, sep="\n", file=sys.stderr, flush=True)
        trainer = Trainer(plan, out, world, checkpoint_seconds)
        if label is not None:
            trainer.labels = LabelWatch(samples, label, plan.preprocess, world.device)
        if resumed:
            trainer.restore()
        else:
            trainer.save()
            _refuse_unshared(out, world)
        before = trainer.step
        trainer.run(quiet)
        seconds, taken = time.monotonic() - began, trainer.step - before
        asked = None if label is None else _label(trainer, label)
        report = world.from_first(lambda: _report(out, plan, seconds, quiet, plot, taken, asked))
        return replace(report, rank=world.rank)


def _refuse_unshared(out: Path, world: World) -> None:
    """InputError in all processes where one does not see what the first has written."""
    if world.mean([(out / "config.json").exists()])[0] < 1:
        raise InputError(f"All machines must see the same --out, but {out} is not on a file system that they share.")


def _plan(
    samples: Samples,
    config: TrainConfig,
    out: Path,
    world: World,
    *,
    resumed: bool,
    budget: float | None,
    start: Start | None,
) -> Plan:
    """The run with nothing left open; of a new one under a budget, its epochs too."""
    if resumed:
        precision = world.from_first(lambda: fast_precision(world.device))
        return make_plan(samples, config, read_config(out), precision=precision, processes=world.size, start=start)
    plan = new_plan(samples, config, out, world, budget=budget, start=start)
    if budget is None and config.epochs is None and is_long(plan):
        plan.notes.append(time_needed(plan, samples_per_second(plan, out, world)))
    return plan


def _label(trainer: Trainer, column: str) -> LabelResult | None:
    """What the embedding last said of the labels, in the process that asked it; None where it was not asked."""
    if trainer.labels is None or trainer.knn_accuracy is None:
        return None
    return LabelResult(column, *trainer.knn_accuracy, trainer.labels.chance)


def _report(
    out: Path, plan: Plan, seconds: float, quiet: bool, plot: Path | None, taken: int, label: LabelResult | None
) -> TrainReport:
    """What the run came to, from its log, and its curves."""
    plot_log(out, plan.K, plot)
    begin = plan.steps - plan.steps_per_epoch
    last = [step for step in last_steps(out, plan.steps_per_epoch) if step["step"] > begin]
    if not last:
        plan.notes.append(f"The loss is not known: {out / LOG} no longer holds the last epoch.")
        if not quiet:
            print(plan.notes[-1], file=sys.stderr, flush=True)
    return TrainReport(
        out=out,
        steps=plan.steps,
        epochs=plan.epochs,
        loss=_mean([step["loss"] for step in last]),
        accuracy=_mean([step["accuracy"] for step in last]),
        seconds=seconds,
        content_hash=read_config(out).content_hash,
        config=plan.config,
        taken=taken,
        label=label,
        notes=plan.notes,
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


if __name__ == "__main__":  # torchrun -m lookalike.ssl.train: the command line, which lies above, knows the options
    sys.argv[1:1] = ["train"]
    importlib.import_module("lookalike.cli").main()
