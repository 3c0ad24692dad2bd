"""What a source is given and what it keeps account of: options, a ledger of what was left out, the report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookalike.errors import InputError

SHOWN, ALIKE = 12, 3  # what was left out: lines shown, and those of one kind of reason
ROW = "row"  # --id-column of events whose rows are numbered, where no column is called so


@dataclass(frozen=True)
class Source:
    """An entry of SOURCES: name, one line of help, default domain, the options it takes, its module's name."""

    name: str
    help: str
    domain: str
    options: frozenset[str]
    module: str = ""

    def accepted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that were given, after checking that this source takes each of them."""
        used = {name: value for name, value in given.items() if value is not None}
        for name in used:
            if name not in self.options:
                taken = ", ".join(_flag(option) for option in sorted(self.options))
                raise InputError(
                    f"`ingest {self.name}` takes no {_flag(name)}. It takes: {taken}; and --out, --domain and "
                    "--overwrite like every source."
                )
        return used


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


@dataclass(frozen=True)
class Options:
    """The options of one run; None or empty where not given."""

    domain: str
    catalog: Path | None = None
    id_column: str | None = None
    size: int | None = None
    crop: int | None = None
    resize: int | None = None
    skip_bad: bool = False
    bands: tuple[str, ...] = ()
    unit: str | None = None
    pixel_scale: float | None = None
    mode: str | None = None
    radius: float | None = None
    min_pt: float | None = None
    max_eta: float | None = None
    layout: str | None = None
    columns: Path | None = None
    overlaps: str | None = None
    sample: str | None = None
    labels: tuple[Path, ...] = ()
    permute: int | None = None
    array: str | None = None
    bands_last: bool = False
    overwrite: bool = False
    quiet: bool = False


@dataclass
class Ledger:
    """What was left out and why, what was counted, and what the user should be told."""

    skip_bad: bool = False
    skipped: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    masked: int = 0  # objects kept with pixels that were masked or not finite

    def bad(self, name: str, reason: str, *, objects: int | None = None) -> None:
        """A file or object that cannot be taken: an error, or with --skip-bad left out, counted and listed.

        objects : how many objects `name` stands for, where it is a part of a file and not the file.
        """
        if not self.skip_bad:
            raise InputError(f"{name}: {reason} (--skip-bad leaves such files out.)", code="bad_file")
        self.skipped.append((name, reason))
        if objects is None:
            self.counts["skipped as bad"] += 1
        else:
            self.counts["objects that cannot be read"] += objects

    def drop(self, name: str, reason: str, counted: str) -> None:
        """An object left out by a stated rule, whatever the options; counted and listed."""
        self.skipped.append((name, reason))
        self.counts[counted] += 1

    def tell(self, counted: str, number: int, text: str) -> None:
        """A count that a note of its own tells, and that need not be said again."""
        self.counts[counted] = number
        self.told.add(counted)
        self.note(text)

    def note(self, text: str) -> None:
        """Something to tell once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class IngestReport:
    """What ingestion made.

    out          : the samples file.
    n            : objects stored.
    content_hash : of the samples.
    skipped      : (name, reason) of each file or object left out.
    counts       : how many of each kind were left out, merged, changed.
    missing      : objects without a value (NaN or a blank text), by column.
    notes        : sentences to show.
    told         : the counts that notes tell already.
    """

    out: Path
    n: int
    content_hash: str
    skipped: list[tuple[str, str]]
    counts: dict[str, int]
    missing: dict[str, int]
    notes: list[str]
    told: frozenset[str] = frozenset()


def left_out_as(name: str, reason: str) -> str:
    """What was left out and why, as it is shown; many a reason begins with the name."""
    named = re.match(rf"{re.escape(name)}(?![\w%]|\.\w)", reason)  # 1 is not what 100.0% begins with
    return reason if named else f"{name}: {reason}"


def some_left_out(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """What was left out as it is shown: a few of each kind of reason, SHOWN at most in all."""
    seen: Counter[str] = Counter()
    shown: list[str] = []
    for name, reason in skipped:
        unnamed = reason if re.fullmatch(r"[\d.+-]+", name) else reason.replace(name, "")  # 1 is in 100.0%
        kind = re.sub(r"[0-9]+", "0", unnamed)  # shares and counts differ, the rule is one
        seen[kind] += 1
        if seen[kind] <= ALIKE and len(shown) < SHOWN:
            shown.append(left_out_as(name, reason))
    return shown


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names joined by commas, the rest counted."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
