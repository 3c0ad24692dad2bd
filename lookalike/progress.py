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
            shown.update(task, advance=done, rate=_pace(finished, time.monotonic() - start, f" {unit}"), note=note)

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
        said = [f"{what}: {finished:,}/{total:,} {unit}"]
        if finished:  # before, nobody knows
            left = (total - finished) / finished * (now - start)
            said += [_pace(finished, now - start), f"{left:.0f} s left"]
        print(", ".join([*said, note] if note else said), file=sys.stderr, flush=True)

    return advance


def _pace(finished: int, seconds: float, unit: str = "") -> str:
    """How fast it goes: units a second, of slow ones seconds for each, nothing before the first is finished."""
    if not finished:
        return ""
    rate = finished / max(seconds, 1e-9)
    return f"{rate:,.0f}{unit}/s" if rate >= 1 else f"{1 / rate:,.0f} s each"
