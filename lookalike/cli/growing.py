"""What `lookalike index` does with --append and --retract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lookalike.cli.common import say
from lookalike.errors import InputError
from lookalike.wording import counted


def grow(
    embeddings: Path | None,
    samples: list[Path] | None,
    out: Path,
    k: int | None,
    budget: int,
    of_a_build: Mapping[str, object],
    append: bool,
    retract: str | None,
    data: Path | None,
) -> list[Path]:
    """Add objects to an index or take some out, and say what that took; returns the samples of the new set.

    of_a_build : what was given of the options, by name, that are for a build only.
    """
    from lookalike.indexer.grow import append as run_append
    from lookalike.indexer.grow import retract as run_retract
    from lookalike.indexer.grow import retracted_ids
    from lookalike.indexer.own_vectors import is_vectors

    if given := [f"--{name}" for name, value in of_a_build.items() if value is not None]:
        raise InputError(
            f"--append and --retract keep an index's window and encoder and take files of ours, so {', '.join(given)} "
            "is for a build only; build again to change it."
        )
    if append and retract is not None:
        raise InputError("Objects are added (--append) or taken out (--retract), one after the other; give one.")
    if retract is not None:
        if embeddings is not None or samples:
            raise InputError("--retract needs no embeddings and no --samples: the index knows its own.")
        report = run_retract(out, retracted_ids(retract), k=k, data=data, budget=budget)
        done = f"{counted(report.retracted, 'object')} retracted"
    else:
        if embeddings is not None and is_vectors(embeddings):
            raise InputError(
                f"--append takes an embeddings file of ours and its --samples, but {embeddings} holds vectors of your "
                "own: index them by themselves, then append that index's two files in inputs/."
            )
        if embeddings is None or not samples:
            raise InputError("--append needs the embeddings file of the new objects and its --samples; give both.")
        report = run_append(out, embeddings, samples, k=k, data=data, budget=budget)
        done = f"{counted(report.added, 'object')} added"
    for note in report.notes:
        say(note)
    say(
        f"{counted(report.searched, 'list')} searched anew, {report.entered:,} entered by a new object; "
        f"{counted(report.scored, 'pair')} scored, where a full build has {report.full_build:,}."
    )
    say(f"The embeddings of the new set are in {report.embeddings}; its samples: {', '.join(report.samples)}.")
    print(f"{done}: index version {report.version} of {counted(report.n, 'object')}, k = {report.k}, in {out}")
    return [Path(path) for path in report.samples]
