"""Building an index: from an embeddings file and its samples to a published version of an index folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import atomic_folder, lock, write_json, write_point
from lookalike.hashing import combine
from lookalike.indexer.calibration import calibrate
from lookalike.indexer.footprints import Footprints, view_size
from lookalike.indexer.store import (
    KIND,
    MANIFEST,
    NEIGHBORS,
    BelongsTo,
    Index,
    ListWriter,
    Manifest,
    StoredFile,
    checkpoint_about,
    clean,
    number,
    publish,
    relative,
    sha256_of,
    unpublished,
    version_folder,
    versions,
)
from lookalike.indexer.windows import USUAL, Window, everyone, ranges, usual_window, usual_windows
from lookalike.progress import progress
from lookalike.provenance import build_record, write_record
from lookalike.samples import Samples
from lookalike.wording import counted

__all__ = ["BuildReport", "Index", "build_index"]

MEMORY_BYTES = 2**30
DEFAULT_K = 999


@dataclass(frozen=True)
class BuildReport:
    """What was built, or found to be there already (`reused`).

    k : neighbors stored per object. nan_count : objects without a window value, which have none.
    short_lists : objects with fewer than k, those included.
    """

    version: str
    n: int
    k: int
    window: str | None
    nan_count: int
    short_lists: int
    content_hash: str
    seconds: float
    reused: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a version holds; two builds with equal plans are the same build."""

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


def build_index(
    embeddings: Path,
    samples: Sequence[Path],
    out: Path,
    *,
    k: int | None = None,
    window: str | None,
    checkpoint: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    quiet: bool = False,
    held: bool = False,
) -> BuildReport:
    """Store every object's exact k most similar ones within its window as a new version of the folder `out`.

    samples : the shards the embeddings were made from; any other are refused. k : neighbors per object, by default
    999 or as many as there are. window : "mag:0.5", "log(pt):0.1", "usual" for the domain's default (which may be
    none) or None. checkpoint : the encoder's folder, for picture queries and footprints. memory_bytes : about what is
    held at once; the result does not depend on it. A killed build leaves the served version as it was, and the next
    one cleans up. held : whether the caller holds the lock on `out`.

    Errors: InputError, NotFoundError, CorruptError, LockedError (another process builds here).
    """
    began = time.monotonic()
    vectors, data = Embeddings(Path(embeddings)), Samples([Path(path) for path in samples])
    check_match(vectors, data)
    out = Path(out)
    check_folder(out)
    within, said = _window(window, data)
    plan, notes = _plan(vectors, data, out, k, within, checkpoint)
    notes += said
    with nullcontext() if held else lock(out):
        check_folder(out)  # again, since another may have written there meanwhile
        current, finished = _opened(out), unpublished(out)
        notes += [*_without_encoder(plan, current), *_changed(plan, current)]
        if current is not None and plan.made(current.manifest) and current.intact():
            clean(out)
            calibrate(out, current.version, data, vectors, memory_bytes)
            notes.append(f"{out} already holds this index as version {current.version}; nothing was built.")
            return _report(current.manifest, began, notes, reused=True)
        made = None if finished is None else _opened(out, finished)
        if made is not None and plan.made(made.manifest) and made.intact():
            clean(out, spare=made.version)
            calibrate(out, made.version, data, vectors, memory_bytes)
            publish(out, made.version)
            notes.append(
                f"An earlier build had finished version {made.version} of just this index before it was stopped: that "
                "is served now."
            )
            return _report(made.manifest, began, notes, reused=True)
        clean(out)
        version = f"v{next_version(out):06d}"
        (out / "versions").mkdir(parents=True, exist_ok=True)
        with atomic_folder(version_folder(out, version)) as folder:
            manifest = _build(folder, version, plan, vectors, data, memory_bytes, quiet, notes)
        write_point("index.version")
        calibrate(out, version, data, vectors, memory_bytes)
        publish(out, version)
        write_point("index.current")
    return _report(manifest, began, notes)


def _build(
    folder: Path,
    version: str,
    plan: Plan,
    embeddings: Embeddings,
    samples: Samples,
    memory_bytes: int,
    quiet: bool,
    notes: list[str],
) -> Manifest:
    """Fill a version's folder and return its manifest."""
    from lookalike.indexer.neighbors import exact_neighbors, fast_search
    from lookalike.indexer.ordered import longest

    max_length = longest(embeddings.vectors)
    n, window = len(embeddings), plan.window
    within = everyone(n) if window is None else ranges(window.values(samples), window.half_width)
    search, how = fast_search()
    writer = ListWriter(folder / NEIGHBORS, n, plan.k)
    lengths = np.zeros(n, np.int64)  # neighbors found per object
    with progress("index", len(within.order), "objects", quiet=quiet) as advance:
        lists = exact_neighbors(
            embeddings.vectors, within, plan.k, memory_bytes=memory_bytes, search=search, max_length=max_length
        )
        for found in lists:
            writer.write(found.rows, found.neighbor_row, found.similarity)
            lengths[found.rows] = (found.neighbor_row >= 0).sum(axis=1)
            write_point("index.block")
            advance(len(found.rows))
    settings = {"k": plan.k, "window": str(window) if window else None, "memory_bytes": memory_bytes, "search": how}
    manifest = close_version(
        folder, version, plan, writer, lengths, n - len(within.order), embeddings.dimensions, max_length,
        build_record("index", settings=settings, inputs=plan.inputs, data=samples.about.source),
    )  # fmt: skip
    notes.append(f"Searched {how}.")
    return manifest


def close_version(
    folder: Path,
    version: str,
    plan: Plan,
    writer: ListWriter,
    lengths: NDArray[np.int64],
    nan_count: int,
    dimensions: int,
    max_length: float,
    record: dict[str, Any],
) -> Manifest:
    """Complete a version's folder once all lists are written, and return its manifest.

    lengths : (N,) neighbors found per object. nan_count : objects without a window value. record : what made it.
    """
    arrays, hashes = writer.close()
    text = None if plan.window is None else plan.window.to_json()
    about = {"kind": KIND, "k": plan.k, "window": text, **plan.inputs}
    write_record(folder, record)
    manifest = Manifest(
        version=version,
        content_hash=combine(hashes, about),
        n=len(lengths),
        dimensions=dimensions,
        k=plan.k,
        window=text,
        counts={
            "without_window_value": nan_count,
            "short_lists": int((lengths < plan.k).sum()),
            "empty_lists": int((lengths == 0).sum()),
        },
        max_length=max_length,
        footprint_px=plan.footprint_px,
        footprint_from=plan.footprint_from,
        arrays=arrays,
        files={
            name: StoredFile(bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
            for name in (NEIGHBORS, "build.json")
        },
        samples=plan.samples,
        embeddings=plan.embeddings,
        checkpoint=plan.checkpoint,
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _window(text: str | None, samples: Samples) -> tuple[Window | None, list[str]]:
    """The window asked for, and a note where it is the domain's own or none of the domain's can be."""
    if text != USUAL:
        return Window.parse(text) if text else None, []
    usual = usual_window(samples)
    if usual is None:
        names = " or ".join(usual_windows(samples))
        note = f"No window: the usual one of such objects is {names}, but no object has a value for it"
        return None, [f"{note} (--window none: any object, as now)."] if names else []
    note = f"Neighbors lie within the window {usual}, as is usual for such objects (--window none: any object)."
    return Window.parse(usual), [note]


def _plan(
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
        k,
        window,
        BelongsTo(content_hash=samples.content_hash, paths=tuple(relative(path, out) for path in samples.paths)),
        BelongsTo(content_hash=embeddings.content_hash, paths=(relative(embeddings.path, out),)),
        encoder,
        size,
        source,
    ), notes


def _without_encoder(plan: Plan, current: Index | None) -> list[str]:
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


def _changed(plan: Plan, current: Index | None) -> list[str]:
    """What the version served so far answers otherwise: its window and k, and how to have them again."""
    if current is None or (current.window == plan.window and current.k == plan.k):
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


def _opened(out: Path, version: str | None = None) -> Index | None:
    """The served or another version, None where there is none or it is damaged and to be replaced."""
    try:
        return Index(out, version)
    except (NotFoundError, CorruptError):
        return None


def next_version(out: Path) -> int:
    """The number after the highest that was ever used here."""
    return 1 + max(map(number, versions(out)), default=0)


def check_folder(out: Path) -> None:
    """InputError where `out` is a file, or a folder of something else: building there could mix two things up."""
    if out.exists() and not out.is_dir():
        raise InputError(f"An index is a folder, but {out} is a file.")
    if out.is_dir() and any(out.iterdir()) and not (out / "versions").is_dir():
        raise InputError(f"{out} holds other files; choose an empty or new folder for the index.")


def _report(manifest: Manifest, began: float, notes: list[str], *, reused: bool = False) -> BuildReport:
    window = Window.from_json(manifest.window)
    return BuildReport(
        manifest.version,
        manifest.n,
        manifest.k,
        str(window) if window else None,
        manifest.counts["without_window_value"],
        manifest.counts["short_lists"],
        manifest.content_hash,
        time.monotonic() - began,
        reused,
        tuple(notes),
    )
