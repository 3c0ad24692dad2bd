"""Building an index: from an embeddings file and its samples to a published version of an index folder."""

from __future__ import annotations

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
from lookalike.files import lock, write_json, write_point
from lookalike.hashing import ArrayHash, combine
from lookalike.indexer.added import add
from lookalike.indexer.disk import check_room, full_disk
from lookalike.indexer.lists_file import KIND, NEIGHBORS, StoredArray, file_bytes
from lookalike.indexer.manifest import MANIFEST, Manifest, StoredFile, sha256_of
from lookalike.indexer.memory import working_bytes
from lookalike.indexer.plan import Plan, changed, check_match, plan_of, window_of, without_encoder
from lookalike.indexer.rounded import rounded_bytes
from lookalike.indexer.store import (
    Index,
    clean,
    number,
    publish,
    unpublished,
    version_folder,
    versions,
)
from lookalike.indexer.unfinished import folder_of, give_up
from lookalike.indexer.windows import Window, everyone, ranges
from lookalike.progress import progress
from lookalike.provenance import build_record, write_record
from lookalike.samples import Samples

__all__ = ["BuildReport", "Index", "build_index"]

MEMORY_BYTES = 2**30
SAVE_SECONDS = 60.0  # between two times that the state of a build is saved


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


def build_index(
    embeddings: Path,
    samples: Sequence[Path],
    out: Path,
    *,
    k: int | None = None,
    window: str | None,
    checkpoint: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    budget: int | None = None,
    save_seconds: float = SAVE_SECONDS,
    quiet: bool = False,
    held: bool = False,
) -> BuildReport:
    """Store every object's exact k most similar ones within its window as a new version of the folder `out`.

    samples : the shards the embeddings were made from; any other are refused. k : neighbors per object, by default
    999 or as many as there are. window : "mag:0.5", "log(pt):0.1", "usual" for the domain's default (which may be
    none) or None. checkpoint : the encoder's folder, for picture queries and footprints. memory_bytes : about what is
    held at once; the result does not depend on it. budget : what the process keeps to, above what it holds with all
    modules imported; memory_bytes follows from it. save_seconds : how often the state is saved (0: always); a killed
    build leaves the served version as it was, and the next one of the same plan goes on there. held : whether
    the caller holds the lock on `out`.

    Errors: InputError, NotFoundError, CorruptError, LockedError (another process builds here), FullError (of the disk).
    """
    began = time.monotonic()
    vectors, data = Embeddings(Path(embeddings)), Samples([Path(path) for path in samples])
    check_match(vectors, data)
    out = Path(out)
    check_folder(out)
    within, said = window_of(window, data)
    plan, notes = plan_of(vectors, data, out, k, within, checkpoint)
    notes += said
    if budget is not None:
        memory_bytes = working_bytes(budget, plan.n, plan.dimensions, plan.k)
    with nullcontext() if held else lock(out), full_disk(out):
        check_folder(out)  # again, since another may have written there meanwhile
        current, finished = _opened(out), unpublished(out)
        notes += [*without_encoder(plan, current), *changed(plan, current)]
        if current is not None and plan.made(current.manifest) and current.intact():
            clean(out)
            add(out, current.version, data, vectors, memory_bytes, quiet=quiet)
            notes.append(f"{out} already holds this index as version {current.version}; nothing was built.")
            return _report(current.manifest, began, notes, reused=True)
        made = None if finished is None else _opened(out, finished)
        if made is not None and plan.made(made.manifest) and made.intact():
            clean(out, spare=made.version)
            add(out, made.version, data, vectors, memory_bytes, quiet=quiet)
            publish(out, made.version)
            notes.append(
                f"An earlier build had finished version {made.version} of just this index before it was stopped: that "
                "is served now."
            )
            return _report(made.manifest, began, notes, reused=True)
        clean(out)
        manifest = _build(out, plan, vectors, data, memory_bytes, save_seconds, quiet, notes)
        write_point("index.version")
        add(out, manifest.version, data, vectors, memory_bytes, quiet=quiet)
        publish(out, manifest.version)
        write_point("index.current")
    return _report(manifest, began, notes)


def _build(
    out: Path,
    plan: Plan,
    embeddings: Embeddings,
    samples: Samples,
    memory_bytes: int,
    save_seconds: float,
    quiet: bool,
    notes: list[str],
) -> Manifest:
    """Make a version's folder, complete or not at all, and return its manifest."""
    from lookalike.indexer.again import lists_again
    from lookalike.indexer.devices import find_devices
    from lookalike.indexer.neighbors import builder_of
    from lookalike.indexer.ordered import longest
    from lookalike.indexer.resume import Saver, begin, finish

    embeddings.verify()  # a byte that was altered would be in every list of it
    max_length = longest(embeddings.vectors)
    n, window = len(embeddings), plan.window
    within = everyone(n) if window is None else ranges(window.values(samples), window.half_width)
    devices, how = find_devices()
    notes.append(f"Searched {how}.")
    builder = builder_of(
        embeddings.vectors, within, plan.k, memory_bytes=memory_bytes, devices=devices, max_length=max_length
    )
    folder = folder_of(out, plan.digest())
    needed = file_bytes(n, plan.k) + rounded_bytes(n, plan.dimensions) + 2 * builder.open_bytes
    check_room(out, needed, held=folder)
    try:
        writer, taken = begin(folder, plan.of_lists(), builder, n, plan.k, quiet=quiet)
        with writer:
            saver = Saver(folder, writer, builder, save_seconds)
            notes += taken.notes
            again = np.union1d(taken.again, np.setdiff1d(np.arange(n), within.order))  # and those without a window
            for found in lists_again(builder.near, within, plan.k, again, memory_bytes, max_length):
                writer.write(found.rows, found.neighbor_row, found.similarity)
            with progress("index", len(within.order), "objects", quiet=quiet) as advance:
                advance(taken.done)
                for found in builder.blocks(taken.done, taken.standing):
                    writer.write(found.rows, found.neighbor_row, found.similarity)
                    write_point("index.block")
                    if saver.due():
                        saver.save()
                    advance(len(found.rows))
            saver.save()
            notes += builder.notes
            counts = list_counts(writer.lengths(), plan.k, len(within.order))
            version = next_version(out)
            settings = {
                "k": plan.k, "window": str(window) if window else None, "memory_bytes": memory_bytes, "search": how,
            }  # fmt: skip
            record = build_record("index", settings=settings, inputs=plan.inputs, data=samples.about.source)
            manifest = describe(saver.version, version, plan, counts, max_length, *writer.close(), record)
            finish(folder, version_folder(out, version), [MANIFEST, *manifest.files])
    except BaseException:
        give_up(folder)
        raise
    return manifest


def list_counts(lengths: NDArray[np.int64], k: int, placed: int) -> dict[str, int]:
    """What a manifest counts of lists with so many neighbors (N,), where `placed` objects have a window value."""
    return {
        "without_window_value": len(lengths) - placed,
        "short_lists": int((lengths < k).sum()),
        "empty_lists": int((lengths == 0).sum()),
    }


def describe(
    folder: Path,
    version: str,
    plan: Plan,
    counts: dict[str, int],
    max_length: float,
    arrays: dict[str, StoredArray],
    hashes: dict[str, ArrayHash],
    record: dict[str, Any],
) -> Manifest:
    """Write the build record and the manifest of a version whose lists lie in `folder`."""
    write_record(folder, record)
    text = None if plan.window is None else plan.window.to_json()
    manifest = Manifest(
        version=version,
        content_hash=combine(hashes, {"kind": KIND, "k": plan.k, "window": text, **plan.inputs}),
        n=plan.n,
        dimensions=plan.dimensions,
        k=plan.k,
        window=text,
        counts=counts,
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


def _opened(out: Path, version: str | None = None) -> Index | None:
    """The served or another version, None where there is none or it is damaged and to be replaced."""
    try:
        return Index(out, version)
    except (NotFoundError, CorruptError):
        return None


def next_version(out: Path) -> str:
    """The version after the highest that was ever used here."""
    return f"v{1 + max(map(number, versions(out)), default=0):06d}"


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
