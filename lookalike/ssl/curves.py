"""The curves of a training run, drawn from its log."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.errors import InputError
from lookalike.figures import plotted
from lookalike.files import atomic_path, report_output
from lookalike.ssl.log import read_log

PLOT = "loss.png"
LR_PLOT = "lr.png"  # of --find-lr, which may come first
PLOTTED = 2000  # most points drawn per curve

Values = np.ndarray[Any, Any]


def plot_log(folder: Path, K: int, copy: Path | None = None) -> None:
    """Draw `loss.png` in the checkpoint folder, and `copy` too: how the run went against epochs.

    Loss and contrastive accuracy with what guessing among 1 + K keys gives, alignment and uniformity, spread and
    effective rank of the embedding, and kNN accuracy where a label was watched.
    """
    steps = read_log(folder)
    if not steps:
        return
    chance = 1 / (1 + K)
    with plotted(folder / PLOT, (11, 7)) as figure:
        (loss, accuracy), (pair, shape) = figure.subplots(2, 2, sharex=True)
        _curve(loss, steps, "loss", "InfoNCE loss", "tab:blue")
        loss.axhline(-math.log(chance), color="0.5", linestyle="--", label=f"guessing: {-math.log(chance):.2f}")
        loss.set_ylim(bottom=0)
        _curve(accuracy, steps, "accuracy", "contrastive", "tab:orange", scale=100)
        accuracy.axhline(100 * chance, color="0.5", linestyle="--", label=f"guessing: {100 * chance:.2g} %")
        watched = [(step["epoch"], 100 * step["knn_accuracy"]) for step in steps if "knn_accuracy" in step]
        if watched:
            accuracy.plot(*zip(*watched, strict=True), "o-", color="tab:green", label="kNN, by the label watched")
        _curve(pair, steps, "alignment", "alignment: distance² of an object's views", "tab:red")
        _curve(pair, steps, "uniformity", "uniformity of all (−4 at best)", "tab:purple")
        _curve(shape, steps, "effective_rank", "effective rank of a batch's embedding", "tab:brown")
        beside = shape.twinx()
        _curve(beside, steps, "embedding_std", "spread of the embedding (1: even)", "tab:cyan")
        beside.set_ylim(0, 1.05)
        shape.set_ylabel("effective rank", color="tab:brown")
        beside.set_ylabel("spread", color="tab:cyan")
        shape.set_ylim(bottom=0)
        accuracy.set_ylabel("accuracy, %")
        for axes in (pair, shape):
            axes.set_xlabel("epoch")
        both = zip(shape.get_legend_handles_labels(), beside.get_legend_handles_labels(), strict=True)
        for axes, entries in ((loss, ()), (accuracy, ()), (pair, ()), (shape, [a + b for a, b in both])):
            if axes.lines:
                axes.legend(*entries, frameon=False)
        for axes in (loss, accuracy, pair, shape):
            axes.grid(alpha=0.3)
        figure.suptitle("faint: each step; strong: the mean over the epoch that ends there", fontsize=9, color="0.35")
    if copy:
        with atomic_path(copy) as temporary:
            temporary.write_bytes((folder / PLOT).read_bytes())


def check_copy(copy: Path | None) -> None:
    """InputError where a plot cannot be written, before the work is done."""
    if copy is None:
        return
    if copy.suffix.lower() != ".png" or copy.is_dir():
        raise InputError(f"--plot is a .png file, but {str(copy)!r} was given.")
    report_output(copy)


def _curve(axes: Any, steps: list[dict[str, Any]], name: str, label: str, color: str, scale: float = 1.0) -> None:
    """One logged value, faintly, and its mean over the epoch that ends with each point; steps without it are none."""
    logged = [step for step in steps if name in step]
    if not logged:
        return
    epochs = _thinned(np.array([step["epoch"] for step in logged]))
    values = scale * _thinned(np.array([step[name] for step in logged]))
    axes.plot(epochs, values, color=color, alpha=0.25)
    axes.plot(epochs, _smoothed(epochs, values), color=color, label=label)


def _thinned(values: Values) -> Values:
    """At most PLOTTED means of consecutive values."""
    return np.array([part.mean() for part in np.array_split(values, min(len(values), PLOTTED))])


def _smoothed(epochs: Values, values: Values) -> Values:
    """Each value's mean over the epoch that ends with it."""
    first = np.searchsorted(epochs, epochs - 1, side="right")
    total = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    return np.asarray((total[last] - total[first]) / (last - first))
