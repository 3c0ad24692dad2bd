"""A learning rate for a data set, from some hundred steps over which it rises until training breaks.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", https://arxiv.org/abs/1506.01186, section 3.3, with
the exponential rise that is usual now. The steps are those of the real loop (queue, momentum encoder, augmentations,
precision), and none of it is kept. A queue starts with random keys, which are told from any object without training,
so it is filled with the encoder's own ones first, at the lowest rate.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CollapsedError, LookalikeError
from lookalike.figures import plotted
from lookalike.progress import progress
from lookalike.ssl.budget import endless_steps, new_plan
from lookalike.ssl.checks import may_write, samples_to_train
from lookalike.ssl.curves import LR_PLOT
from lookalike.ssl.hardware import kept_memory
from lookalike.ssl.plan import Plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.starting import Start
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import World, join, writing
from lookalike.wording import counted

LOWEST, HIGHEST = 1e-4, 1.0  # lr per 256 objects of a batch
STEPS = 200  # of the rise
SMOOTHED = 0.3  # of a factor ten in lr: the σ of the Gaussian that the loss is smoothed with
CLEARLY = 10  # a loss that falls by so many times the smoothed curve's noise does fall

Values = NDArray[np.float64]


@dataclass(frozen=True)
class LrRange:
    """What the loss did while the rate rose; every rate is the setting `lr`, per 256 objects of a batch."""

    lr: list[float]  # of each step taken; fewer than STEPS where training broke
    loss: list[float]
    smoothed: list[float]
    lowest_at: float | None  # where the smoothed loss is lowest
    suggestion: float | None  # the middle of where it falls fast; None where it did not fall
    guessing: float  # the loss of guessing among 1 + K keys
    filling: int  # steps that filled the queue before
    ended: str  # why before STEPS, or nothing
    rank: int = 0  # of the process that says so; the others keep silent

    @property
    def said(self) -> str:
        """The outcome, for people."""
        broke = f" Training {self.ended} at {self.lr[-1]:.2g}." if self.ended and self.lr else ""
        if self.suggestion is None:
            return f"The loss fell at no rate, so none can be suggested.{broke}"
        lowest = f"it is lowest at {self.lowest_at:.2g}."
        return f"lr {self.suggestion:g}, give or take a factor of two: where the loss falls fast; {lowest}{broke}"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        values = asdict(self)
        del values["rank"]
        return values


class _Rising(Trainer):
    """A run whose rate stays at the lowest until the queue is full, and then rises evenly in its logarithm."""

    filling: int
    rates: Values

    def _set_lr(self) -> float:
        lr = float(self.rates[min(max(0, self.step - self.filling), len(self.rates) - 1)])
        lr *= self.plan.config.batch_size / 256
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr


def find_lr(
    samples_paths: Sequence[Path],
    out: Path,
    config: TrainConfig,
    *,
    plot: Path | None = None,
    weights: Path | None = None,
    label: str | None = None,
    budget: float | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> LrRange:
    """Find at which rates a new run of `train` with the same arguments would learn; of `out` only `lr.png` is written.

    plot : where to draw instead; `out` is then not touched. label : refused where `train` would refuse it; it changes
    nothing. What is written to is locked, and looked at, before the steps are taken.
    InputError for settings or data that cannot work, and for an `out` that `train` would not begin in.
    """
    samples = samples_to_train(samples_paths, out, config, label=label, plot=plot, budget=budget)
    start = None if weights is None else Start(weights)
    with kept_memory(), join(device) as world, writing(plot or out, world):
        world.from_first(lambda: may_write(out, resume=False))
        plan = new_plan(samples, config, out, world, budget=budget, start=start)
        quiet = quiet or not world.first
        if not quiet:
            print(*plan.notes, _said(plan), sep="\n", file=sys.stderr, flush=True)
        found = sweep(plan, out, world, quiet=quiet)
        world.from_first(lambda: _draw(found, out, plot))
        return replace(found, rank=world.rank)


def _said(plan: Plan) -> str:
    filling = -(-plan.K // plan.config.batch_size)
    return (
        f"{STEPS} steps with lr rising from {LOWEST:g} to {HIGHEST:g} per 256 objects, "
        f"after {counted(filling, 'step')} to fill the queue; nothing of it is kept."
    )


def sweep(plan: Plan, out: Path, world: World, *, steps: int | None = None, quiet: bool = False) -> LrRange:
    """Take the steps of a new run of this plan with a rising rate, and see at which rates its loss falls.

    Depends on nothing but the plan (data, settings, seed) and the number of steps (STEPS); writes nothing.
    """
    B, steps = plan.config.batch_size, steps or STEPS
    trainer = _Rising(plan, out, world, checkpoint_seconds=math.inf)
    trainer.rates, trainer.filling = np.geomspace(LOWEST, HIGHEST, steps), -(-plan.K // B)
    losses, ended = [], ""
    total = trainer.filling + steps
    with progress("trying lr", total * B, "samples", quiet=quiet) as advance, closing(endless_steps(trainer)) as taken:
        try:
            for values in itertools.islice(taken, total):
                losses.append(values["loss"])
                advance(B, f"lr {values['lr'] * 256 / B:.2g}, loss {values['loss']:.3f}")
        except LookalikeError as error:
            if not isinstance(error, CollapsedError) and error.code != "diverged":
                raise
            ended = "collapsed" if isinstance(error, CollapsedError) else "diverged"
    losses = losses[trainer.filling :]
    rates = trainer.rates[: len(losses)]
    return read(rates, losses, guessing=math.log(1 + plan.K), filling=trainer.filling, ended=ended)


def read(rates: Values, losses: Sequence[float], *, guessing: float, filling: int, ended: str = "") -> LrRange:
    """What the losses (n,) of steps at rates (n,) that rise evenly in their logarithm say, smoothed over SMOOTHED."""
    values = np.asarray(losses, np.float64)
    sigma = (
        SMOOTHED / math.log10(HIGHEST / LOWEST) * STEPS if len(rates) < 2 else SMOOTHED / np.diff(np.log10(rates))[0]
    )
    smoothed, slope = fitted(values, float(sigma))
    lowest = int(smoothed.argmin()) if len(values) else 0
    # What is left of the noise of single steps after smoothing over that many.
    noise = float((values - smoothed).std() / math.sqrt(2 * math.sqrt(math.pi) * sigma)) if len(values) else 0.0
    fell = len(values) > 1 and smoothed[0] - smoothed[lowest] > CLEARLY * noise
    return LrRange(
        lr=rates.tolist(),
        loss=values.tolist(),
        smoothed=smoothed.tolist(),
        lowest_at=float(rates[lowest]) if len(values) else None,
        suggestion=float(f"{center(rates[: lowest + 1], slope[: lowest + 1]):.2g}") if fell else None,
        guessing=guessing,
        filling=filling,
        ended=ended,
    )


def fitted(values: Values, sigma: float) -> tuple[Values, Values]:
    """Values and slopes per step (n,) of lines fitted around each step with Gaussian weights of width sigma, in steps.

    A line, unlike a mean, is not pulled off at the ends, where there are neighbors on one side only.
    """
    steps = np.arange(len(values), dtype=np.float64)
    away = steps - steps[:, None]  # (n, n), of each step (column) from the one fitted around (row)
    weights = np.exp(-0.5 * (away / sigma) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    mean, value = (weights * away).sum(axis=1), weights @ values
    spread = (weights * away**2).sum(axis=1) - mean**2
    slope = ((weights * away) @ values - mean * value) / np.where(spread > 0, spread, 1)
    return value - slope * mean, slope


def center(rates: Values, slope: Values) -> float:
    """The middle, in log lr, of where a loss with these slopes (n,) falls at least half as fast as it ever does.

    Each rate counts by how fast the loss falls there. The steepest point alone would jump along a long even descent.
    """
    fall = np.where(slope <= slope.min() / 2, -slope, 0.0)
    return float(np.exp((np.log(rates) * fall).sum() / fall.sum()))


def _draw(found: LrRange, out: Path, plot: Path | None) -> None:
    """The curve and where the suggestion lies, in `out` or where asked; the caller holds the lock."""
    if plot is None:
        out.mkdir(parents=True, exist_ok=True)
    _png(found, plot or out / LR_PLOT)


def _png(found: LrRange, path: Path) -> None:
    with plotted(path, (8, 5), formulas=True) as figure:
        axes = figure.subplots()
        axes.semilogx(found.lr, found.loss, color="tab:blue", alpha=0.25)
        axes.semilogx(found.lr, found.smoothed, color="tab:blue", label="InfoNCE loss, smoothed")
        axes.axhline(found.guessing, color="0.5", linestyle="--", label=f"guessing: {found.guessing:.2f}")
        if found.lowest_at is not None:
            axes.axvline(found.lowest_at, color="tab:red", linestyle=":", label=f"lowest: {found.lowest_at:.2g}")
        if found.suggestion is not None:
            axes.axvline(found.suggestion, color="tab:orange", label=f"suggested: {found.suggestion:.2g}")
        axes.set_xlabel("lr per 256 objects of a batch")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
