"""What an index build is asked for: checked, completed by what is usual, and compared with what is there."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import __version__
from lookalike.embeddings import Embeddings
from lookalike.errors import InputError
from lookalike.indexer.belongs import checkpoint_about, relative
from lookalike.indexer.footprints import Footprints, view_size
from lookalike.indexer.lists_file import SCHEMA
from lookalike.indexer.manifest import BelongsTo, Manifest
from lookalike.indexer.store import Index
from lookalike.indexer.windows import USUAL, Window, usual_window, usual_windows
from lookalike.samples import Samples
from lookalike.wording import counted

DEFAULT_K = 999


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a version holds; two builds with equal plans are the same build.

    n, dimensions : of the embeddings.
    """

    n: int
    dimensions: int

    k: int
    window: Window | None
    samples: BelongsTo
    embeddings: BelongsTo
    checkpoint: BelongsTo | None
    footprint_px: int
    footprint_from: str

    @property
    def inputs(self) -> dict[str, str]:
        """The content hashes of what a version is made from."""
        return {"samples": self.samples.content_hash, "embeddings": self.embeddings.content_hash}

    def made(self, manifest: Manifest) -> bool:
        """Whether a version is what this plan would make, its files still at the recorded places."""
        window = None if self.window is None else self.window.to_json()
        mine = (self.k, window, self.samples, self.embeddings, self.checkpoint, self.footprint_px, self.footprint_from)
        return mine == (
            manifest.k,
            manifest.window,
            manifest.samples,
            manifest.embeddings,
            manifest.checkpoint,
            manifest.footprint_px,
            manifest.footprint_from,
        )

    def of_lists(self) -> dict[str, Any]:
        """What the lists depend on, so that an unfinished build can be gone on with; this software's version too."""
        return {
            "software": __version__,
            "schema": SCHEMA,
            "n": self.n,
            "dimensions": self.dimensions,
            "k": self.k,
            "window": None if self.window is None else self.window.to_json(),
            "samples": self.samples.content_hash,
            "embeddings": self.embeddings.content_hash,
        }

    def digest(self) -> str:
        """SHA-256 of `of_lists`."""
        return hashlib.sha256(json.dumps(self.of_lists(), sort_keys=True).encode()).hexdigest()


def window_of(text: str | None, samples: Samples) -> tuple[Window | None, list[str]]:
    """The window asked for, and a note where it is the domain's own or none of the domain's can be."""
    if text != USUAL:
        return Window.parse(text) if text else None, []
    usual = usual_window(samples)
    if usual is None:
        names = " or ".join(usual_windows(samples))
        note = f"No window: the usual one of such objects is {names}, but no object has a value for it"
        if not names:
            return None, ["No window: each object's neighbors are any others (--window COLUMN:HALF_WIDTH limits them)."]
        return None, [f"{note} (--window none: any object, as now)."]
    note = f"Neighbors lie within the window {usual}, as is usual for such objects (--window none: any object)."
    return Window.parse(usual), [note]


def plan_of(
    embeddings: Embeddings,
    samples: Samples,
    out: Path,
    asked: int | None,
    window: Window | None,
    checkpoint: Path | None,
) -> tuple[Plan, list[str]]:
    """Check what was asked for, and note where it was changed."""
    n, notes = len(embeddings), []
    k = DEFAULT_K if asked is None else asked
    if k < 1:
        raise InputError(f"k must be at least 1, but {k} was given.")
    if n < 2:
        raise InputError(f"An index needs at least 2 objects, but {embeddings.path} holds {n}.")
    if k > n - 1:
        what = f"k = {k:,} was asked for" if asked is not None else f"k is {k:,} by default"
        others = "is only 1 other object" if n == 2 else f"are only {n - 1:,} other objects"
        notes.append(f"{what}, but there {others}: k = {n - 1:,} is stored.")
        k = n - 1
    if window is not None:
        window.refuse_undefined(window.values(samples))  # like a missing column, before anything is written
    recorded = embeddings.made_from.get("checkpoint")
    encoder = BelongsTo(content_hash=recorded) if recorded else None
    size, source = view_size(samples.size)
    if checkpoint is not None:
        digest, size = checkpoint_about(Path(checkpoint))
        source = "the checkpoint's view"
        if recorded is None:
            notes.append(
                f"{embeddings.path} does not say which encoder made it, so whether it was {checkpoint} was not checked."
            )
        elif digest != recorded:
            raise InputError(f"{embeddings.path} was made by another encoder than {checkpoint}; give that one.")
        encoder = BelongsTo(content_hash=digest, paths=(relative(Path(checkpoint), out),))
    why = Footprints.of(samples, size)[1]
    if why and any(pair <= samples.columns.keys() for pair in ({"ra", "dec"}, {"x", "y"})):
        notes.append(why)  # where there are columns that look like positions, one expects them to be used
    return Plan(
        n,
        embeddings.dimensions,
        k,
        window,
        BelongsTo(content_hash=samples.content_hash, paths=tuple(relative(path, out) for path in samples.paths)),
        BelongsTo(content_hash=embeddings.content_hash, paths=(relative(embeddings.path, out),)),
        encoder,
        size,
        source,
    ), notes


def without_encoder(plan: Plan, current: Index | None) -> list[str]:
    """What a build whose encoder is not named cannot do, above all where the version it replaces could."""
    if plan.checkpoint is None or plan.checkpoint.paths:  # vectors of one's own have no encoder of ours
        return []
    before = None if current is None else current.manifest.checkpoint
    lost = current is not None and before is not None and before.paths
    what = f"version {current.version}, served until now, had them" if lost and current else "no encoder was named"
    return [
        f"Queries by picture are off, since no --checkpoint was given ({what}): build again with --checkpoint DIR, the "
        "encoder's folder, or give it to each `lookalike search --image`."
    ]


def changed(plan: Plan, current: Index | None) -> list[str]:
    """What the version served so far answers otherwise: its window and k, and how to have them again."""
    if current is None:
        return []
    if current.manifest.samples.content_hash != plan.samples.content_hash:
        return [
            f"Version {current.version}, served until now, was of other samples ({counted(current.n, 'object')}); "
            "`lookalike gc` keeps it for a while, and an index of its own has another --out."
        ]
    if current.window == plan.window and current.k == plan.k:
        return []
    before, now, again = [], [], []
    if current.window != plan.window:
        before.append(_told(current.window))
        now.append(_told(plan.window))
        again.append(f"--window {'none' if current.window is None else shlex.quote(str(current.window))}")
    if current.k != plan.k:
        before.append(f"k = {current.k:,}")
        now.append(f"k = {plan.k:,}")
        again.append(f"-k {current.k}")
    return [
        f"Version {current.version}, served until now, had {' and '.join(before)}; this one has {' and '.join(now)}. "
        f"To have the former again, build with {' and '.join(again)}."
    ]


def _told(window: Window | None) -> str:
    return "no window" if window is None else f"the window {window.words}"


def check_match(embeddings: Embeddings, samples: Samples) -> None:
    """Refuse embeddings that are not of these samples, naming both."""
    names = ", ".join(map(str, samples.paths))
    made_from = embeddings.made_from.get("samples")
    if len(embeddings) != len(samples):
        numbers = f"{len(embeddings):,} and {len(samples):,}"
        raise InputError(f"{embeddings.path} and {names} hold different numbers of objects: {numbers}.")
    differ = np.flatnonzero(embeddings.ids != samples.ids)
    if len(differ):
        row = int(differ[0])
        raise InputError(
            f"{embeddings.path} and {names} differ in {counted(len(differ), 'id')}, first in row {row}: "
            f"{embeddings.ids[row].decode()!r} and {samples.id(row)!r}."
        )
    if made_from is not None and made_from != samples.content_hash:
        raise InputError(
            f"{embeddings.path} was made from other samples (content hash {made_from[:12]}…) than {names} "
            f"({samples.content_hash[:12]}…); embed these first."
        )
