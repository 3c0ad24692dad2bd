"""Saving a build as it goes, and taking it up again; unfinished.py has the files.

Everything else is on the disk before progress.json says so. Whatever does not have the hash that it records is computed
again: a list by itself, open lists by asking again, everything where it is progress.json.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.files import sync, write_json, write_point
from lookalike.indexer.lists_file import NEIGHBORS, ListWriter
from lookalike.indexer.neighbors import Builder
from lookalike.indexer.pairs import Standing
from lookalike.indexer.standing import read_standing, write_standing
from lookalike.indexer.unfinished import OPEN, PROGRESS, VERSION, WORK, Progress, SavedOpen, saved_progress
from lookalike.wording import counted

SHARE = 20  # of the time that a save took, at least, lies between two

Places = NDArray[np.int64]


@dataclass(frozen=True)
class TakenUp:
    """What a build goes on with. again : rows whose stored lists were damaged."""

    done: int
    standing: Standing | None
    again: Places
    notes: list[str]


def begin(
    folder: Path, plan: dict[str, Any], builder: Builder, n: int, k: int, *, quiet: bool = True
) -> tuple[ListWriter, TakenUp]:
    """Open the unfinished build of a plan, or make one; OSError where the disk has no room for it."""
    order = builder.ranges.order
    work = json.dumps({"plan": plan, "tiles": list(_tiles(builder))}).encode()
    digest = hashlib.sha256(work).hexdigest()
    saved = saved_progress(folder)
    fits = saved is not None and 0 <= saved.done <= saved.places == len(order)
    writer = _opened(folder, n, k) if fits else None
    if writer is not None and saved is not None:
        checks = writer.checks()
        if _hash(checks[order[: saved.done]]) == saved.checks:
            same = saved.work == digest and _equal(folder / WORK, work)
            standing = read_standing(folder, saved.open, builder) if saved.open is not None and same else None
            done = saved.done if standing is None else standing.done
            finished = np.zeros(n, np.bool_)
            finished[order[:done]] = True
            again = writer.damaged(quiet=quiet)
            again = again[finished[again]]
            _store(folder / WORK, work)
            return writer, TakenUp(done, standing, again, _told(done, len(order), len(again), standing))
        writer.__exit__()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / VERSION).mkdir(parents=True)
    _store(folder / WORK, work)
    return ListWriter(folder / VERSION / NEIGHBORS, n, k), TakenUp(0, None, np.empty(0, np.int64), [])


def _told(done: int, places: int, again: int, standing: Standing | None) -> list[str]:
    asked = done if standing is None else standing.asked
    said = [f"An earlier build was stopped after {asked:,} of {counted(places, 'object')}: this one went on there."]
    if again:
        said.append(f"Of its lists {counted(again, 'was', 'were')} damaged and computed again.")
    return said


def _opened(folder: Path, n: int, k: int) -> ListWriter | None:
    path = folder / VERSION / NEIGHBORS
    try:
        return ListWriter(path, n, k) if path.exists() else None
    except (OSError, KeyError, ValueError, RuntimeError):  # as HDF5 meets damage
        return None


def _tiles(builder: Builder) -> Iterator[list[int]]:
    """Each as stripe, first and last query, first and last candidate: places, the last one not included."""
    places, low, high = len(builder.ranges.order), builder.ranges.low, builder.ranges.high
    for stripe in range(0, places, max(builder.stripe, 1)):
        end = min(stripe + builder.stripe, places)
        for start in range(stripe, end, builder.step):
            stop = min(start + builder.step, end)
            yield [stripe, start, stop, int(low[start]), int(high[stop - 1])]


class Saver:
    """Saves the state of a build at intervals; each time everything is on the disk before progress.json says so."""

    def __init__(self, folder: Path, writer: ListWriter, builder: Builder, seconds: float) -> None:
        self._folder, self._writer, self._builder, self._seconds = folder, writer, builder, seconds
        self.version = folder / VERSION
        self._last, self._cost = time.monotonic(), 0.0
        self._work = hashlib.sha256((folder / WORK).read_bytes()).hexdigest()

    def due(self) -> bool:
        """Whether it is time, and saving has not taken too much of it; with 0 seconds always."""
        return time.monotonic() - self._last >= (max(self._seconds, SHARE * self._cost) if self._seconds else 0)

    def save(self) -> None:
        began, builder = time.monotonic(), self._builder
        self._writer.sync()
        write_point("index.flushed")
        held = None
        if builder.standing is not None:
            # A name of its own: the one before is what counts until progress.json names this one.
            name = next(name for name in map(f"{OPEN}{{}}.bin".format, count(1)) if not (self._folder / name).exists())
            at, digest = builder.standing, write_standing(self._folder / name, builder.standing)
            held = SavedOpen(
                file=name, sha256=digest, start=at.start, stop=at.stop, done=at.done, asked=at.asked, opened=at.opened
            )
            write_point("index.open")
        order, done = builder.ranges.order, builder.done
        checks = _hash(self._writer.checks()[order[:done]])
        saved = Progress(done=done, places=len(order), checks=checks, work=self._work, open=held)
        sync(self._folder)
        write_json(self._folder / PROGRESS, saved.model_dump(mode="json"))
        for path in self._folder.glob(f"{OPEN}*"):
            if held is None or path.name != held.file:
                path.unlink()
        self._last, self._cost = time.monotonic(), time.monotonic() - began
        write_point("index.saved")


def finish(folder: Path, place: Path, names: list[str]) -> None:
    """Give the complete version its place in one step, and drop what only an unfinished build needs."""
    version = folder / VERSION
    for path in version.iterdir():
        if path.name not in names:  # what a killed process had begun to write
            path.unlink()
    sync(version)
    write_point("index.complete")
    version.replace(place)
    sync(place.parent)
    write_point("index.placed")
    shutil.rmtree(folder)


def _store(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    sync(path)


def _equal(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _hash(checks: NDArray[np.uint32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(checks, "<u4").data).hexdigest()
