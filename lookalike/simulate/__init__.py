"""Objects drawn by a program, with known classes or truths: data for tests and tables on any machine.

Whatever is made is called simulated where it is shown: in its source, which `info` and the page show, and in its ids.
An object follows from the seed and its row alone, so a longer set begins with a shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.about import About, Column
from lookalike.errors import CorruptError, InputError
from lookalike.files import file_output
from lookalike.hints import refuse_foreign_name
from lookalike.progress import progress
from lookalike.provenance import WAYS_OUT, build_record, read_record, recorded_hash, write_record
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples


class Maker(Protocol):
    """A simulated set: what it is, and any block of its rows."""

    seed: int
    noun: str
    rows_at_once: int
    settings: dict[str, Any]
    about: About
    columns: dict[str, Column]

    def block(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[Any], dict[str, NDArray[Any]]]:
        """Ids, what is stored of each object (n, *shape), and catalog columns (n,) of some rows."""
        ...


@dataclass(frozen=True)
class Made:
    """The samples file written, how many objects it holds, and its content hash."""

    out: Path
    n: int
    content_hash: str


def write(maker: Maker, out: Path, n: int, *, overwrite: bool = False, quiet: bool = False) -> Made:
    """Write the first n objects of a simulated set as a samples file, with its build record.

    InputError where n is below 1, or where `out` holds something else and may not be replaced.
    """
    if n < 1:
        raise InputError(f"At least 1 object is simulated, but -n {n} was given.")
    out = Path(out)
    file_output(out)
    refuse_foreign_name(out)
    command = f"simulate {maker.noun}"
    settings = {"n": n, "seed": maker.seed, **maker.settings}
    if out.exists() and not overwrite:
        _refuse_other(out, command, settings)
    with (
        write_samples(out, maker.about, maker.columns, replace=overwrite) as writer,
        progress(command, n, "objects", quiet=quiet) as advance,
    ):
        for start in range(0, n, maker.rows_at_once):
            rows = np.arange(start, min(start + maker.rows_at_once, n), dtype=np.int64)
            writer.append(*maker.block(rows))
            advance(len(rows))
    made = Samples(out)
    write_record(out, build_record(command, settings=settings, inputs={}, content_hash=made.content_hash))
    return Made(out, n, made.content_hash)


def _refuse_other(out: Path, command: str, settings: Mapping[str, Any]) -> None:
    """InputError at once where `out` holds something made otherwise, before minutes of work would be lost."""
    if recorded_hash(out) is None:
        raise InputError(f"{out} is there already and is no file of ours. {WAYS_OUT}")
    try:
        record = read_record(out)
    except CorruptError:  # it tells nothing, as none would
        return
    if record is not None and (record.get("command"), record.get("settings")) != (command, settings):
        raise InputError(f"{out} is there already, made otherwise ({record.get('command')}). {WAYS_OUT}")
