"""Objects drawn by a program, with known classes or truths: data for tests and tables on any machine.

Whatever is made is called simulated where it is shown: in its source, which `info` and the page show, and in its ids.
An object follows from the seed and its row alone, so a longer set begins with a shorter one.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.about import About, Column
from lookalike.errors import CorruptError, InputError, LookalikeError
from lookalike.files import file_output
from lookalike.hints import refuse_foreign_name
from lookalike.progress import progress
from lookalike.provenance import WAYS_OUT, build_record, read_record, recorded_hash, write_record
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples

Rows = tuple[list[str], NDArray[Any], dict[str, NDArray[Any]]]  # ids, what is stored, columns


class Maker(Protocol):
    """A simulated set: what it is, and any block of its rows."""

    seed: int
    noun: str
    rows_at_once: int
    most: int  # objects that can be made of one seed
    settings: dict[str, Any]
    about: About
    columns: dict[str, Column]

    def block(self, rows: NDArray[np.int64]) -> Rows:
        """Ids, what is stored of each object (n, *shape), and catalog columns (n,) of some rows."""
        ...


@dataclass(frozen=True)
class Made:
    """The samples file written, how many objects it holds, and its content hash."""

    out: Path
    n: int
    content_hash: str


def write(maker: Maker, out: Path, n: int, *, processes: int = 1, overwrite: bool = False, quiet: bool = False) -> Made:
    """Write the first n objects of a simulated set as a samples file, with its build record.

    processes : how many share the work; the objects are the same whatever it is.
    InputError where n or processes is below 1, where one seed does not make so many, or where `out` holds something
    else and may not be replaced. LookalikeError where a process is ended from outside.
    """
    if processes < 1:
        raise InputError(f"At least 1 process simulates, but --processes {processes} was given.")
    if n < 1:
        raise InputError(f"At least 1 object is simulated, but -n {n} was given.")
    if n > maker.most:
        raise InputError(f"At most {maker.most:,} {maker.noun} are made of one seed, but -n {n} was given.")
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
        for block in _blocks(maker, n, processes):
            writer.append(*block)
            advance(len(block[0]))
    made = Samples(out)
    write_record(out, build_record(command, settings=settings, inputs={}, content_hash=made.content_hash))
    return Made(out, n, made.content_hash)


def _blocks(maker: Maker, n: int, processes: int) -> Iterator[Rows]:
    """The blocks of n objects in order, made by so many processes, which are never far ahead of the writer."""
    starts = range(0, n, maker.rows_at_once)
    parts = (np.arange(start, min(start + maker.rows_at_once, n), dtype=np.int64) for start in starts)
    processes = min(processes, len(starts))
    if processes == 1:
        yield from map(maker.block, parts)
        return
    # Not forked: another thread of this process may hold a lock that nobody would ever release.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[Rows]] = deque()
        try:
            for rows in parts:
                waiting.append(pool.submit(maker.block, rows))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise LookalikeError(
                "A process that simulates was ended from outside, perhaps because memory ran out; nothing was written. "
                "Fewer --processes take less memory."
            ) from None
        finally:
            for future in waiting:
                future.cancel()


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
