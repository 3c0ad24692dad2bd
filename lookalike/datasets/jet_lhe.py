"""Partons of hard events in Les Houches files (Alwall et al. 2006, hep-ph/0609017), showered by Pythia and clustered.

Each event is showered, hadronized and decayed once, with random numbers that follow from its place in the file; taken
are the visible final particles within |η| < 5. Compressed files (`.lhe.gz`) are unpacked beside, for Pythia to read.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from lookalike.about import id_from_name
from lookalike.datasets import pythia
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.jet_blocks import Block, Floats, Part, with_angles
from lookalike.datasets.jet_rules import leave_out
from lookalike.errors import InputError
from lookalike.samples import Column

EVENTS = 100  # read at once
COLUMNS = {"weight": Column("", "weight of the event, as Pythia gives it")}
FIRST, LAST = "<LesHouchesEvents", "</LesHouchesEvents>"


def parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    """The one part of a Les Houches file; InputError where it is none, is cut off, or Pythia is missing."""
    if options.mode == "jets":
        raise InputError(f"{path} holds whole events, which are clustered, but --mode jets was given.")
    pythia.require()
    n = _count(path)
    ledger.note(
        f"Events are showered and hadronized by Pythia (cite arXiv:2203.11601); of each the visible final particles "
        f"within |η| < {pythia.REACH:g} are taken."
    )

    def blocks() -> Iterator[Block]:
        with tempfile.TemporaryDirectory(prefix="lookalike-lhe-") as folder:
            plain = Path(folder) / "events.lhe"
            if path.suffix == ".gz":
                with gzip.open(path) as packed, plain.open("wb") as file:
                    shutil.copyfileobj(packed, file)
            else:
                plain.symlink_to(path.resolve())
            yield from _blocks(path, plain, n, ledger)

    return [Part(id_from_name(path.name), str(path), n, None, blocks, events=True, unit="GeV", columns=COLUMNS)]


def _blocks(path: Path, plain: Path, n: int, ledger: Ledger) -> Iterator[Block]:
    """Blocks of EVENTS of a file whose `plain` form Pythia reads; what it cannot shower is left out."""
    try:
        generator = pythia.generator(("Beams:frameType = 4", f"Beams:LHEF = {plain}"))
    except InputError:
        raise InputError(f"{path} has no beams that Pythia can start with.", code="bad_file") from None
    for first in range(0, n, EVENTS):
        rows = range(first, min(first + EVENTS, n))
        seen = [_event(generator, path, row, ledger) for row in rows]
        kept = [(row, *event) for row, event in zip(rows, seen, strict=True) if event is not None]
        if kept:
            yield _block(first, kept)


def _event(generator: Any, path: Path, row: int, ledger: Ledger) -> tuple[Floats, float] | None:
    """px, py, pz (m, 3) of one event's visible particles, and its weight; None where Pythia gives up."""
    pythia.seeded(generator, row)
    if not generator.next():
        if generator.infoPython().atEndOfFile():
            raise InputError(f"{path} has an event in row {row} that Pythia cannot read.", code="bad_file")
        leave_out(f"{path} row {row}", "an event that Pythia cannot shower", ledger)
        return None
    return pythia.visible(generator), float(generator.infoPython().weight())


def _block(first: int, events: list[tuple[int, Floats, float]]) -> Block:
    p = np.concatenate([momenta for _, momenta, _ in events])
    flat = with_angles(dict(zip(("px", "py", "pz"), p.T, strict=True)))
    counts = np.array([len(momenta) for _, momenta, _ in events], np.int64)
    rows = np.array([row for row, _, _ in events], np.int64)
    weight = np.array([weight for _, _, weight in events], np.float64)
    return Block(first, counts, flat["pt"], flat["eta"], flat["phi"], columns={"weight": weight}, rows=rows)


def _count(path: Path) -> int:
    """How many events a file lists, which must be whole: it opens and closes as the accord says."""
    begun = ended = 0
    first = last = ""
    try:
        with _text(path) as file:
            for line in file:
                word = line.strip()
                if not word:
                    continue
                first, last = first or word, word
                begun += word == "<event>" or word.startswith("<event ")
                ended += word == "</event>"
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as a Les Houches file: {error}", code="bad_file") from None
    if not first.startswith(FIRST):
        raise InputError(f"{path} does not begin with {FIRST}>, so it is no Les Houches file.", code="bad_file")
    if last != LAST or begun != ended:
        raise InputError(f"{path} does not end with {LAST}, so it was cut off.", code="bad_file")
    if not begun:
        raise InputError(f"{path} lists no events.")
    return begun


def _text(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
