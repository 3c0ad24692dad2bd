"""What `lookalike index` does with --append and --retract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.cli.common import say
from lookalike.errors import InputError
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.indexer.grow import GrowReport, GrowSettings


def refuse_of_a_build(options: Mapping[str, object]) -> None:
    """InputError where any of these options, by name, was given: they are for a build only."""
    if given := [f"--{name}" for name, value in options.items() if value is not None]:
        raise InputError(
            f"--append and --retract keep an index's window and encoder and take files of ours, so {', '.join(given)} "
            "is for a build only; build again to change it."
        )


def add(out: Path, embeddings: Path | None, samples: list[Path] | None, settings: GrowSettings) -> list[Path]:
    """Add objects to an index, and say what that took; returns the samples of the new set."""
    from lookalike.indexer.grow import append
    from lookalike.indexer.own_vectors import is_vectors

    if embeddings is not None and is_vectors(embeddings):
        raise InputError(
            f"--append takes an embeddings file of ours and its --samples, but {embeddings} holds vectors of your "
            "own: index them by themselves, then append that index's two files in inputs/."
        )
    if embeddings is None or not samples:
        raise InputError("--append needs the embeddings file of the new objects and its --samples; give both.")
    report = append(out, embeddings, samples, settings)
    return _told(report, out, f"{counted(report.added, 'object')} added")


def take_out(out: Path, ids: str, given: bool, settings: GrowSettings) -> list[Path]:
    """Take objects out of an index likewise. ids : as `retracted_ids` takes them. given : whether any inputs were."""
    from lookalike.indexer.grow import retract, retracted_ids

    if given:
        raise InputError("--retract needs no embeddings and no --samples: the index knows its own.")
    report = retract(out, retracted_ids(ids), settings)
    return _told(report, out, f"{counted(report.retracted, 'object')} retracted")


def _told(report: GrowReport, out: Path, done: str) -> list[Path]:
    for note in report.notes:
        say(note)
    say(
        f"{counted(report.searched, 'list')} searched anew, {report.entered:,} entered by a new object; "
        f"{counted(report.scored, 'pair')} scored, where a full build has {report.full_build:,}."
    )
    say(f"The embeddings of the new set are in {report.embeddings}; its samples: {', '.join(report.samples)}.")
    print(f"{done}: index version {report.version} of {counted(report.n, 'object')}, k = {report.k}, in {out}")
    return [Path(path) for path in report.samples]
