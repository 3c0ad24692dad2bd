"""Progress on standard error: a bar with rate and time left on a terminal, plain lines every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_EVERY = 5.0  # seconds between plain lines


class Advance(Protocol):
    def __call__(self, done: int, note: str = "") -> None:
        """Say that `done` more units are finished, with a note (loss, accuracy) to show."""


@contextmanager
def progress(what: str, total: int, unit: str, *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far `what` is. Yields a function to call with each number of finished units.

    On a terminal a rich bar; otherwise one line every 5 s, so that logs stay readable.
    """
    if quiet:
        yield lambda done, note="": None
    elif sys.stderr.isatty():
        with _bar(what, total, unit) as advance:
            yield advance
    else:
        yield _plain(what, total, unit)


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total, rate="", note="")
        finished = 0

        def advance(done: int, note: str = "") -> None:
            nonlocal finished
            finished += done
            rate = f"{finished / max(time.monotonic() - start, 1e-9):,.0f} {unit}/s"
            shown.update(task, advance=done, rate=rate, note=note)

        yield advance


def _plain(what: str, total: int, unit: str) -> Advance:
    start = time.monotonic()
    finished, last = 0, start

    def advance(done: int, note: str = "") -> None:
        nonlocal finished, last
        finished += done
        now = time.monotonic()
        # Work that is over within one interval prints nothing.
        if now - last < PLAIN_EVERY and not (finished >= total and last > start):
            return
        last = now
        rate = finished / max(now - start, 1e-9)
        left = (total - finished) / rate if rate else 0.0
        text = f"{what}: {finished:,}/{total:,} {unit}, {rate:,.0f}/s, {left:.0f} s left"
        print(f"{text}, {note}" if note else text, file=sys.stderr, flush=True)

    return advance
