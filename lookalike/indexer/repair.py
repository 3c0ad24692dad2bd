"""Making a damaged index good again: `lookalike repair`.

A list whose checksum is wrong is computed again from the embeddings, exactly; all others are copied. The result is a
new version with the content hash that the damaged one had. What cannot be had from elsewhere is the manifest: without
it the index is built again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CorruptError, LookalikeError, NotFoundError
from lookalike.files import atomic_folder, lock, write_json
from lookalike.hashing import combine
from lookalike.indexer.added import take_over
from lookalike.indexer.belongs import Inputs
from lookalike.indexer.disk import check_room, full_disk
from lookalike.indexer.lists_file import ARRAYS, CHECK, KIND, NEIGHBORS, SCHEMA, ListWriter, checksums, file_bytes
from lookalike.indexer.manifest import MANIFEST, Manifest, StoredFile, read_manifest, sha256_of
from lookalike.indexer.rounded import Rounded, rounded_folder
from lookalike.indexer.rounded_build import round_vectors
from lookalike.indexer.store import Index, number, publish, read_current, version_folder, versions
from lookalike.indexer.windows import Window, everyone, ranges
from lookalike.progress import progress
from lookalike.provenance import build_record, write_record
from lookalike.wording import counted

MEMORY_BYTES = 2**30
MOST = 0.1  # of the lists: where more are damaged, all are built again faster


@dataclass(frozen=True)
class Repaired:
    """What was wrong and what was done; nothing of either where the index is sound.

    version : served now. lists : computed again.
    """

    version: str
    content_hash: str
    lists: int
    found: tuple[str, ...]
    done: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"found": list(self.found), "done": list(self.done)}


def repair(
    folder: Path,
    *,
    samples: list[Path] | None = None,
    embeddings: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    quiet: bool = False,
) -> Repaired:
    """Make the served version of an index folder good again, by a new version of equal content.

    samples, embeddings : where they are now, if they moved; both are checked whole. CorruptError where only a new build
    helps; NotFoundError where there is no version; LockedError, FullError.
    """
    began = time.monotonic()
    folder = Path(folder)
    if not (folder / "versions").is_dir():
        read_current(folder)  # says that this is no index
        raise CorruptError(f"{folder} has lost its versions; build it again with `lookalike index`.")
    with lock(folder), full_disk(folder):
        found, done = _current(folder)
        version, digest = read_current(folder)
        manifest = read_manifest(version_folder(folder, version) / MANIFEST, digest)
        wrong = _wrong_files(folder, manifest)
        lists = 0
        if wrong or CHECK not in manifest.arrays:
            check_room(folder, file_bytes(manifest.n, manifest.k))
            made, lists = _again(folder, manifest, samples, embeddings, memory_bytes, quiet)
            found += wrong or [f"Version {version} has no checksums, being of an earlier layout."]
            done.append(_told(version, made, lists, manifest.n))
            version = made
        if altered := _round_again(folder, version, embeddings, quiet):
            found.append(altered)
            done.append("The rounded vectors, which searches read first, were made again from the embeddings.")
    return Repaired(version, manifest.content_hash, lists, tuple(found), tuple(done), time.monotonic() - began)


def _current(folder: Path) -> tuple[list[str], list[str]]:
    """Where it is not known which version is served, serve the newest whole one."""
    try:
        version, digest = read_current(folder)
        if not _has(folder, version, digest):
            # Whichever has that manifest is what was served, if the name was altered; else it is the manifest.
            for other in versions(folder):
                if _has(folder, other, digest):
                    publish(folder, other)
                    return [f"{folder / 'CURRENT'} was altered."], [f"{other} is served, whose manifest it names."]
    except NotFoundError:
        found = f"{folder / 'CURRENT'} is missing."
    except CorruptError:
        found = f"{folder / 'CURRENT'} was altered."
    else:
        return [], []
    for version in reversed(versions(folder)):
        try:
            whole = Index(folder, version).intact()
        except LookalikeError:  # a layout that is not read may be an altered one
            whole = False
        if whole:
            publish(folder, version)
            return [found], [f"The newest whole version, {version}, is served now."]
    raise CorruptError(f"{found[:-1]}, and no version of {folder} is whole: build it again with `lookalike index`.")


def _has(folder: Path, version: str, digest: str) -> bool:
    """Whether the manifest of a version has this SHA-256."""
    path = version_folder(folder, version) / MANIFEST
    return path.is_file() and sha256_of(path) == digest


def _wrong_files(folder: Path, manifest: Manifest) -> list[str]:
    place = version_folder(folder, manifest.version)
    found = []
    for name, stored in manifest.files.items():
        path = place / name
        if not path.is_file():
            found.append(f"{path} is missing.")
        elif path.stat().st_size != stored.bytes or sha256_of(path) != stored.sha256:
            found.append(f"{path} was altered.")
    return found


def _round_again(folder: Path, version: str, embeddings: Path | None, quiet: bool) -> str:
    """Make a version's rounded vectors anew where a byte of them was altered; what was found, "" for nothing."""
    index = Index(folder, version)
    try:
        if (rounded := Rounded.of(index)) is not None:
            rounded.verify()
        return ""
    except CorruptError as error:
        what = error.message.partition(";")[0] + "."
    vectors = Inputs(folder, index.manifest).open_embeddings(embeddings)
    place = rounded_folder(folder, version)
    if place.is_file():
        place.unlink()
    round_vectors(folder, version, vectors, anew=True, quiet=quiet)
    return what


def _told(before: str, made: str, lists: int, n: int) -> str:
    how = f"{counted(lists, 'list')} computed again from the embeddings, {n - lists:,} copied"
    return (
        f"Version {made} has the content that {before} had: {how}. It is served now; of extras/{before} only the "
        f"calibration and the rounded vectors were taken over, and `lookalike gc --keep 1` removes {before}."
    )


def _again(
    folder: Path,
    manifest: Manifest,
    samples: list[Path] | None,
    embeddings: Path | None,
    memory_bytes: int,
    quiet: bool,
) -> tuple[str, int]:
    """A new version of the content that the manifest records; its name, and how many lists were computed."""
    before = version_folder(folder, manifest.version)
    version = f"v{1 + max(map(number, versions(folder))):06d}"
    with atomic_folder(version_folder(folder, version)) as place:
        with ListWriter(place / NEIGHBORS, manifest.n, manifest.k) as writer:
            damaged: list[int] = []
            with progress("repair", manifest.n, "lists", quiet=quiet) as advance:
                for start, lists, check in _read(before / NEIGHBORS, manifest):
                    rows = np.arange(start, start + len(check))
                    writer.write(rows, *lists)
                    damaged += rows[checksums(rows, *lists) != check].tolist()
                    advance(len(rows))
            if len(damaged) > max(1, MOST * manifest.n):
                raise CorruptError(
                    f"{counted(len(damaged), 'list')} of {manifest.n:,} in {before / NEIGHBORS} were lost or altered: "
                    "build the index again with `lookalike index`, which is faster then."
                )
            if damaged:
                _compute(folder, manifest, np.array(damaged), writer, samples, embeddings, memory_bytes)
            arrays, hashes = writer.close()
            inputs = {"samples": manifest.samples.content_hash, "embeddings": manifest.embeddings.content_hash}
            about = {"kind": KIND, "k": manifest.k, "window": manifest.window, **inputs}
        if combine(hashes, about) != manifest.content_hash:
            raise CorruptError(f"{before / NEIGHBORS} was altered all over: build it again with `lookalike index`.")
        settings = {"repaired": manifest.version, "lists": len(damaged)}
        write_record(place, build_record("repair", settings=settings, inputs=inputs))
        files = {
            name: StoredFile(bytes=(place / name).stat().st_size, sha256=sha256_of(place / name))
            for name in (NEIGHBORS, "build.json")
        }
        changes = {"version": version, "arrays": arrays, "files": files, "schema_version": SCHEMA}
        write_json(place / MANIFEST, manifest.model_copy(update=changes).model_dump(mode="json"))
    take_over(folder, manifest.version, version)
    publish(folder, version)
    return version, len(damaged)


Lists = tuple[NDArray[Any], NDArray[np.float32]]


def _read(path: Path, manifest: Manifest) -> Iterator[tuple[int, Lists, NDArray[np.uint32]]]:
    """The stored lists and checksums in runs, read at the recorded places; zeros where the file has ended.

    Of the layout without checksums those of the lists as they are: only the content hash tells whether they are right.
    """
    step = max(1, 2**22 // (8 * manifest.k))
    with (path if path.is_file() else Path(os.devnull)).open("rb") as file:
        for start in range(0, manifest.n, step):
            stop = min(start + step, manifest.n)
            rows, similarity = (_run(file, manifest, name, start, stop) for name in ARRAYS)
            if CHECK in manifest.arrays:
                check = _run(file, manifest, CHECK, start, stop)
            else:
                check = checksums(np.arange(start, stop), rows, similarity)
            yield start, (rows, similarity), check


def _run(file: Any, manifest: Manifest, name: str, start: int, stop: int) -> NDArray[Any]:
    stored = manifest.arrays[name]
    out = np.zeros((stop - start, *stored.shape[1:]), stored.dtype)
    file.seek(stored.offset + start * (out.nbytes // (stop - start)))
    file.readinto(out.data.cast("B"))
    return out


def _compute(
    folder: Path,
    manifest: Manifest,
    rows: NDArray[np.int64],
    writer: ListWriter,
    samples: list[Path] | None,
    embeddings: Path | None,
    memory_bytes: int,
) -> None:
    """Write the exact lists of some rows, after checking every byte of what they follow from."""
    from lookalike.indexer.again import lists_again
    from lookalike.indexer.ordered import Sorted, longest

    inputs = Inputs(folder, manifest)
    data, vectors = inputs.open_samples(samples), inputs.open_embeddings(embeddings)
    data.verify()
    vectors.verify()
    window = Window.from_json(manifest.window)
    within = everyone(manifest.n) if window is None else ranges(window.values(data), window.half_width)
    near = Sorted(vectors.vectors, within.order, memory_bytes // 4)
    for found in lists_again(near, within, manifest.k, rows, memory_bytes, longest(vectors.vectors)):
        writer.write(found.rows, found.neighbor_row, found.similarity)
