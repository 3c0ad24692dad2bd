"""Commands about encoders: train, embed."""

from __future__ import annotations

import json as jsonlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lookalike.cli.common import Files, Json, Out, Overwrite, app, say, show
from lookalike.cli.train_help import TrainCommand
from lookalike.errors import InputError, StoppedError
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.ssl.settings import TrainConfig
    from lookalike.ssl.train import TrainReport


@app.command(cls=TrainCommand)
def train(
    samples: Files,
    *,
    out: Out,
    encoder: Annotated[
        str | None, typer.Option(help="resnet10, resnet18, resnet34, resnet50, resnet101, mlp, set.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=4, help="Objects per step.")] = None,
    queue: Annotated[int | None, typer.Option(min=1, help="Negatives kept, K.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any setting, repeatable.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in a .toml or .json file.")] = None,
    label: Annotated[str | None, typer.Option(help="Column whose classes to ask the embedding for meanwhile.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves here too (.png).")] = None,
    budget: Annotated[str | None, typer.Option(help="Time to train for, e.g. 30m: chooses the epochs.")] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Only find a learning rate: raise it until training breaks, draw lr.png.")
    ] = False,
    json: Json = False,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with these: a checkpoint of ours, or a file `checkpoint import` reads.")
    ] = None,
) -> None:
    """Train a MoCo v2 encoder on a data set.

    SIGTERM and SIGUSR1, a cluster's notice that the time is up, save and end it with exit code 0; --resume goes on. On
    several GPUs or machines that share --out: torchrun --nproc-per-node 4 -m lookalike.ssl.train, and the same options.

    Example: lookalike train samples.h5 --out checkpoints/mine --epochs 50 --set temperature=0.1
    """
    from lookalike.ssl.checks import check_training, seconds_of
    from lookalike.ssl.settings import TrainConfig

    given: dict[str, object] = {
        "encoder": encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "queue": queue,
        "seed": seed,
    }
    options = [f"{name}={jsonlib.dumps(value)}" for name, value in given.items() if value is not None]
    settings = TrainConfig().overridden(config, [*options, *(assignments or [])])
    seconds = None if budget is None else seconds_of(budget)
    if find_lr and resume:
        raise InputError("--find-lr is about a new run, so it goes without --resume.")
    asked: dict[str, Any] = {"label": label, "plot": plot, "budget": seconds, "weights": weights}
    check_training(samples, out, settings, resume=resume, **asked)
    if find_lr:
        given |= {"label": label, "budget": budget, "weights": weights, "config": config}
        again = _command(samples, out, given, assignments or [])
        _find_lr(samples, out, settings, asked, again, json)
        return
    from lookalike.ssl.train import train as run  # torch takes seconds to load

    try:
        report = run(samples, out, settings, resume=resume, **asked)
    except StoppedError as error:
        if error.code == "interrupted":
            raise
        if os.environ.get("RANK", "0") == "0":
            say(error.message)  # the cluster asked for the place: all is saved, nothing failed
        return
    if report.rank == 0 and json:
        names = ("steps", "taken", "epochs", "loss", "accuracy", "seconds", "content_hash")
        values = {name: getattr(report, name) for name in names}
        label_found = {"label": None if report.label is None else asdict(report.label), "out": str(out)}
        show({name: None if value != value else value for name, value in values.items()} | label_found, True)
    elif report.rank == 0:
        print(*_told(report), sep="\n")


def _told(report: TrainReport) -> list[str]:
    """The last lines for a person: what this call did, and the labels if it asked for them."""
    steps, loss = counted(report.steps, "step"), f"loss {report.loss:.3f}: {report.out}"
    took = f"in {report.seconds:.0f} s"
    if report.taken == 0:
        lines = [f"Nothing to train: all {steps} were taken before, {loss}"]
    elif report.taken < report.steps:
        lines = [f"Trained {report.taken:,} more of {steps} {took}, {loss}"]
    else:
        lines = [f"Trained {steps} {took}, {loss}"]
    if (label := report.label) is not None:
        after = counted(label.epochs, "epoch")
        found = f"{100 * label.knn_accuracy:.1f} % (the most frequent class alone: {100 * label.chance:.1f} %)"
        lines.append(f"kNN accuracy of the column {label.column!r} after {after}: {found}")
    return lines


def _find_lr(
    samples: list[Path],
    out: Path,
    settings: TrainConfig,
    asked: dict[str, Any],
    again: list[str],
    json: bool,
) -> None:
    """Try the rates and say which one to take, and how."""
    from lookalike.ssl.curves import LR_PLOT
    from lookalike.ssl.find_lr import find_lr

    found = find_lr(samples, out, settings, **asked)
    if found.rank:
        return
    command = None if found.suggestion is None else shlex.join([*again, "--set", f"lr={found.suggestion:g}"])
    drawn = asked["plot"] or out / LR_PLOT
    if json:
        show(found.document() | {"plot": str(drawn), "command": command}, True)
        return
    print(f"{found.said} Curve: {drawn}", *([f"Train with it: {command}"] if command else []), sep="\n")


def _command(samples: list[Path], out: Path, options: Mapping[str, object], assignments: list[str]) -> list[str]:
    """The training that the rates were tried for, as it is typed, without a rate."""
    words = ["lookalike", "train", *map(str, samples), "--out", str(out)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for assignment in assignments:
        if assignment.partition("=")[0].strip() != "lr":
            words += ["--set", assignment]
    return words


@app.command()
def embed(
    samples: Files,
    *,
    checkpoint: Annotated[Path, typer.Option(help="Folder of a trained encoder.")],
    out: Out,
    layer: Annotated[str, typer.Option(help="embedding (searched by default) or projection.")] = "embedding",
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Embed every object of a data set, and go on where a killed run was saved last.

    Several samples files become a folder with one embeddings file for each (one file if --out ends in .h5); the same
    command started several times shares them among the processes.

    Example: lookalike embed samples.h5 --checkpoint checkpoints/mine --out embeddings.h5
    """
    from lookalike.ssl.checks import check_embedding

    check_embedding(samples, checkpoint, out, layer=layer, dtype=dtype)
    from lookalike.ssl.embed import embed as run  # torch takes seconds to load

    report = run(samples, checkpoint, out, layer=layer, dtype=dtype, overwrite=overwrite)
    for note in report.notes:
        say(note)
    print(f"{counted(report.n, 'embedding')} of {counted(report.dimensions, 'dimension')} in {out}")
