"""Growing and shrinking an index: objects are added or taken back, and only what that changes is searched.

The result is the next version of the folder, to the last bit that of a full build of the new set, which lies in
files of its own (grown_files.py). A run killed at any time leaves the old version served.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import atomic_folder, check_parent, lock, write_point
from lookalike.indexer.added import add
from lookalike.indexer.belongs import relative
from lookalike.indexer.changed_lists import Change, ChangedLists
from lookalike.indexer.devices import find_devices
from lookalike.indexer.disk import check_room, existing, full_disk
from lookalike.indexer.grown_files import EMBEDDINGS, OWNER, free, sign, write_shard, write_vectors
from lookalike.indexer.index import MEMORY_BYTES, describe, list_counts, next_version
from lookalike.indexer.keys import MOST
from lookalike.indexer.lists_file import NEIGHBORS, ListWriter, file_bytes
from lookalike.indexer.manifest import BelongsTo
from lookalike.indexer.memory import working_bytes
from lookalike.indexer.neighbors import exact_neighbors
from lookalike.indexer.ordered import Sorted, longest
from lookalike.indexer.plan import DEFAULT_K, Plan, check_match
from lookalike.indexer.rounded import rounded_bytes
from lookalike.indexer.store import Index, clean, publish, read_current, repair_hint, version_folder
from lookalike.indexer.windows import Places, Ranges, Window, everyone, ranges
from lookalike.progress import progress
from lookalike.provenance import build_record
from lookalike.samples import Samples
from lookalike.wording import counted

__all__ = ["GrowReport", "GrowSettings", "append", "retract", "retracted_ids"]

SHOWN = 5  # ids that a message names
DEARER = 2  # times as long as a build takes for a pair, as measured at 128 dimensions and k = 100


@dataclass(frozen=True)
class GrowSettings:
    """How the next version is made.

    k : neighbors per object, by default as many as before (up to 999 where every other object was stored). data : the
    folder for the files of the new set, by default OUT-data. memory_bytes, budget, quiet : as for `build_index`.
    """

    k: int | None = None
    data: Path | None = None
    memory_bytes: int = MEMORY_BYTES
    budget: int | None = None
    quiet: bool = False


USUAL = GrowSettings()


@dataclass(frozen=True)
class GrowReport:
    """What became of an index.

    searched : lists searched among all, those of new objects and those that lost neighbors. entered : other lists
    that a new object entered, where not all were searched. scored : pairs scored; full_build : those that a full build
    scores, each once.
    """

    version: str
    n: int
    k: int
    window: str | None
    added: int
    retracted: int
    searched: int
    entered: int
    scored: int
    full_build: int
    content_hash: str
    samples: tuple[str, ...]
    embeddings: str
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"samples": list(self.samples), "notes": list(self.notes)}


def append(out: Path, embeddings: Path, samples: Sequence[Path], settings: GrowSettings = USUAL) -> GrowReport:
    """Add the objects of further samples shards, with their embeddings, to the index in `out`, as its next version.

    The rows of the new set are those of all shards in the order of their names, as ever. Window and encoder stay; the
    embeddings of the whole set are written to the settings' `data`. Errors: InputError (another encoder, type or
    catalog, an id that is there already), NotFoundError, CorruptError, LockedError, FullError.
    """
    out = Path(out)
    # Resolved, as they will be when the index is opened: of one name, shards are ordered by their folders.
    fresh, shards = Embeddings(Path(embeddings)), Samples([Path(path).resolve() for path in samples])
    check_match(fresh, shards)
    longest(fresh.vectors)  # what is not normalized is said before anything is written
    with lock(_checked(out)), full_disk(out):
        work = _Work.begin(out, settings)
        work.check_alike(fresh)
        both = Samples([*work.samples.paths, *shards.paths])
        _refuse_repeated(both.ids)
        start = {path: rows.start for path, rows in zip(both.paths, both.shard_rows, strict=True)}
        change = Change(_placed(work.samples, start), _placed(shards, start))
        return work.publish(both.paths, change, fresh)


def retract(out: Path, ids: Sequence[str], settings: GrowSettings = USUAL) -> GrowReport:
    """Take objects out of the index in `out`, its embeddings and samples, as its next version; the old files stay.

    Samples shards that lose none stay where they are; of the others a copy without the objects is written to the
    settings' `data` under the same name. Errors: InputError (among others where no object with a value in the window's
    column would be left), NotFoundError (an unknown id), CorruptError, LockedError, FullError.
    """
    out = Path(out)
    if not ids:
        raise InputError("At least one id is needed to retract, none was given.")
    with lock(_checked(out)), full_disk(out):
        work = _Work.begin(out, settings)
        gone = np.unique([work.samples.row(name) for name in ids])
        if (left := len(work.samples) - len(gone)) < 2:
            raise InputError(f"An index needs at least 2 objects, but {left} would be left of {len(work.samples):,}.")
        keep = np.ones(len(work.samples), np.bool_)
        keep[gone] = False
        if (window := work.index.window) is not None:
            window.refuse_undefined(window.values(work.samples)[keep])  # as a build does
        return work.publish(None, Change(np.where(keep, np.cumsum(keep) - 1, -1), np.empty(0, np.int64)), None)


def retracted_ids(text: str) -> list[str]:
    """The ids of `--retract`: a file with one a line, or a list with commas between them."""
    path = Path(text)
    if len(text) < 4096 and not path.exists() and ("/" in text or path.suffix in (".txt", ".csv", ".ids")):
        raise NotFoundError(f"No such file of ids: {path}")
    if len(text) < 4096 and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{path} is no text file of ids, one a line.") from None
    else:
        lines = text.split(",")
    return [name.strip() for name in lines if name.strip()]


def _refuse_repeated(ids: NDArray[np.bytes_]) -> None:
    """InputError where ids (N,) are not unique."""
    ids = np.sort(ids)
    twice = np.unique(ids[1:][ids[1:] == ids[:-1]])
    if len(twice):
        named = ", ".join(name.decode() for name in twice[:SHOWN]) + (", …" if len(twice) > SHOWN else "")
        raise InputError(
            f"Objects are added once, but {counted(len(twice), 'id')} would be there twice: {named}.",
            code="duplicate_id",
        )


def _checked(out: Path) -> Path:
    """The folder itself, after a look whether it holds an index: what is none gets no lock beside it."""
    Index(out)
    return out


def _placed(part: Samples, start: dict[Path, int]) -> Places:
    """The rows (n,) that the objects of some shards have where each shard starts at the row told."""
    return np.concatenate(
        [start[path] + np.arange(len(rows)) for path, rows in zip(part.paths, part.shard_rows, strict=True)]
    )


@dataclass
class _Work:
    """One index while its next version is made; needs its lock."""

    out: Path
    index: Index
    samples: Samples
    embeddings: Embeddings
    data: Path
    settings: GrowSettings
    began: float

    @classmethod
    def begin(cls, out: Path, settings: GrowSettings) -> _Work:
        """Open and check what is there: what was altered would live on under a hash of its own."""
        began = time.monotonic()
        index = Index(out)
        samples, embeddings = index.open_samples(), index.open_embeddings()
        usual = out.resolve().with_name(f"{out.resolve().name}-data")
        data = usual if settings.data is None else Path(settings.data).resolve()
        check_parent(data)
        if data.exists() and not data.is_dir():
            raise InputError(f"The new set's files are written to a folder, but {data} is a file.")
        if not index.intact():
            raise CorruptError(f"{index.path} was altered; {repair_hint(out)}.")
        embeddings.verify()
        return cls(out, index, samples, embeddings, data, settings, began)

    def check_alike(self, fresh: Embeddings) -> None:
        """Refuse vectors that cannot stand beside those that are there."""
        mine = (self.embeddings.dimensions, self.embeddings.vectors.dtype.name, self.embeddings.layer)
        theirs = (fresh.dimensions, fresh.vectors.dtype.name, fresh.layer)
        if mine != theirs:
            said = [
                f"{d} dimensions of {dtype}" + (f", {layer}" if layer else "") for d, dtype, layer in (mine, theirs)
            ]
            raise InputError(f"{self.out} was built from vectors of {said[0]}, but {fresh.path} holds {said[1]}.")
        if fresh.made_from.get("checkpoint") != self.embeddings.made_from.get("checkpoint"):
            raise InputError(
                f"{fresh.path} was made by another encoder than the vectors of {self.out}; embed the new objects with "
                "that one.",
                code="other_checkpoint",
            )
        fresh.verify()

    def publish(self, shards: list[Path] | None, change: Change, fresh: Embeddings | None) -> GrowReport:
        """Write the new set's files and the version, and serve it; on any failure what was written goes.

        shards : those of the new set, None where some lose objects.
        """
        n = int((change.now >= 0).sum()) + len(change.added)
        if n > MOST:
            raise InputError(f"An index is of at most {MOST:,} objects, but there would be {n:,}.")
        k, notes = self._k(self.settings.k, n)
        if (budget := self.settings.budget) is not None:
            told = working_bytes(budget, n, self.embeddings.dimensions, k)
            self.settings = replace(self.settings, memory_bytes=told)
        self._check_room(n, k, shards)
        clean(self.out)
        version = next_version(self.out)
        folder = self.data / version
        self.data.mkdir(exist_ok=True)
        with ExitStack() as last:
            last.callback(_remove_empty, self.data)
            last.enter_context(lock(folder))  # another index may have been told to write to this very folder
            free(folder, self.out)
            last.callback(self._give_up, folder, version)
            report = self._serve(folder, version, shards, change, fresh, k)
            sign(folder, self.out, version, served=True)
        write_point("index.current")
        return replace(report, notes=tuple(notes), seconds=time.monotonic() - self.began)

    def _serve(
        self, folder: Path, version: str, shards: list[Path] | None, change: Change, fresh: Embeddings | None, k: int
    ) -> GrowReport:
        """Write the new set's files to `folder`, then the version, and serve it."""
        with atomic_folder(folder) as temporary:
            paths = self._write(temporary, version, shards, change, fresh)
        write_point("grow.data")
        samples = Samples([folder / path.name if path.parent == temporary else path for path in paths])
        embeddings = Embeddings(folder / EMBEDDINGS)
        with atomic_folder(version_folder(self.out, version)) as inside:
            report = self._lists(inside, version, change, samples, embeddings, k)
        write_point("index.version")
        add(self.out, version, samples, embeddings, self.settings.memory_bytes, quiet=self.settings.quiet)
        publish(self.out, version)
        return report

    def _give_up(self, folder: Path, version: str) -> None:
        """Remove the files of a version that did not come to be served."""
        if read_current(self.out)[0] != version:
            shutil.rmtree(folder, ignore_errors=True)

    def _check_room(self, n: int, k: int, shards: list[Path] | None) -> None:
        """FullError where what is to be written does not fit; copies of shards are about as large as these."""
        lists = file_bytes(n, k) + rounded_bytes(n, self.embeddings.dimensions)
        vectors = n * (self.embeddings.dimensions * self.embeddings.vectors.itemsize + self.embeddings.ids.itemsize)
        copies = sum(path.stat().st_size for path in self.samples.paths) if shards is None else 0
        one_disk = self.out.stat().st_dev == existing(self.data).stat().st_dev
        check_room(self.data, vectors + copies + (lists if one_disk else 0))
        check_room(self.out, lists)

    def _k(self, asked: int | None, n: int) -> tuple[int, list[str]]:
        """Neighbors to store, at most all others; where all others were stored, as many of the new set as usual."""
        before = self.index.k
        usual = max(before, DEFAULT_K) if before == self.index.n - 1 else before
        wanted = usual if asked is None else asked
        if wanted < 1:
            raise InputError(f"k must be at least 1, but {wanted} was given.")
        k = min(wanted, n - 1)
        said = f"k is {k:,}, where it was {before:,}"
        why = " since there are only so many others" if k < wanted else ""
        return k, [] if k == before else [f"{said},{why}." if why else f"{said}."]

    def _write(
        self, folder: Path, version: str, shards: list[Path] | None, change: Change, fresh: Embeddings | None
    ) -> list[Path]:
        """Write the files of the new set; returns the places of its samples. shards : None where some lose objects."""
        sign(folder, self.out, version, served=False)
        kept = np.flatnonzero(change.now >= 0)
        with progress("write", 2 * (len(kept) + len(change.added)), "objects", quiet=self.settings.quiet) as advance:
            paths = self._reduced(folder, change, advance) if shards is None else shards
            samples = Samples(paths)
            parts = [(self.embeddings, kept, change.now[kept])]
            if fresh is not None:
                parts.append((fresh, np.arange(len(fresh)), change.added))
            write_vectors(folder / EMBEDDINGS, parts, samples, advance)
        return samples.paths

    def _reduced(self, folder: Path, change: Change, advance: Callable[[int], None]) -> list[Path]:
        """The shards without the objects that left: untouched ones as they are, of the others copies."""
        names = [path.name for path in self.samples.paths]
        if len({EMBEDDINGS, OWNER, *names}) < 2 + len(names):
            raise InputError(
                f"Shards that lose objects are written under their names, so each needs one of its own, other than "
                f"{EMBEDDINGS} and {OWNER}, but these are {', '.join(names)}."
            )
        paths = []
        for path, rows in zip(self.samples.paths, self.samples.shard_rows, strict=True):
            kept = np.flatnonzero(change.now[rows.start : rows.stop] >= 0)
            if len(kept) == len(rows):
                paths.append(path)
            elif len(kept):
                shard = Samples(path)
                shard.verify()
                write_shard(folder / path.name, shard, kept, advance)
                paths.append(folder / path.name)
        return paths

    def _lists(
        self, inside: Path, version: str, change: Change, samples: Samples, embeddings: Embeddings, k: int
    ) -> GrowReport:
        """Fill a version's folder."""
        old, window, n = self.index.manifest, self.index.window, len(samples)
        within, before = _ranges(window, samples), _ranges(window, self.samples)
        candidates = np.zeros(self.index.n, np.int64)  # of each old object
        candidates[before.order] = before.high - before.low - 1
        max_length = longest(embeddings.vectors)
        near = Sorted(embeddings.vectors, within.order, self.settings.memory_bytes // 4)
        full_build = int((within.high - within.low - 1).sum()) // 2
        with ListWriter(inside / NEIGHBORS, n, k) as writer:
            lists = ChangedLists(near, within, k, writer, self.settings.memory_bytes)
            which = lists.carry_over(self.index, change, candidates)
            if DEARER * int((within.high - within.low - 1)[which].sum()) > full_build:
                which = np.arange(len(within.order))
                scored = full_build
                self._all_anew(writer, embeddings, within, k, max_length)
            else:
                with progress("index", len(which), "objects", quiet=self.settings.quiet) as advance:
                    scored = lists.search(which, change.added, max_length, advance)
            counts = list_counts(writer.lengths(), k, len(within.order))
            arrays, hashes = writer.close()
        plan = Plan(
            n, embeddings.dimensions, k, window,
            BelongsTo(content_hash=samples.content_hash, paths=tuple(relative(p, self.out) for p in samples.paths)),
            BelongsTo(content_hash=embeddings.content_hash, paths=(relative(embeddings.path, self.out),)),
            old.checkpoint, old.footprint_px, old.footprint_from,
        )  # fmt: skip
        gone = int((change.now < 0).sum())
        settings = {"k": k, "from": old.version, "added": len(change.added), "retracted": gone}
        inputs = plan.inputs | {"index": old.content_hash}
        record = build_record("index", settings=settings, inputs=inputs, data=samples.about.source)
        manifest = describe(inside, version, plan, counts, max_length, arrays, hashes, record)
        return GrowReport(
            version=version, n=n, k=k, window=str(window) if window else None, added=len(change.added),
            retracted=gone, searched=len(which), entered=int(lists.entered.sum()), scored=scored,
            full_build=full_build, content_hash=manifest.content_hash,
            samples=tuple(map(str, samples.paths)), embeddings=str(embeddings.path), seconds=0.0,
        )  # fmt: skip

    def _all_anew(self, writer: ListWriter, embeddings: Embeddings, within: Ranges, k: int, max_length: float) -> None:
        """Search all lists as a build does, which looks at each pair once for both."""
        devices, _ = find_devices()
        options = {"memory_bytes": self.settings.memory_bytes, "devices": devices, "max_length": max_length}
        with progress("index", len(within.order), "objects", quiet=self.settings.quiet) as advance:
            for found in exact_neighbors(embeddings.vectors, within, k, **options):
                writer.write(found.rows, found.neighbor_row, found.similarity)
                advance(len(found.rows))


def _ranges(window: Window | None, samples: Samples) -> Ranges:
    return everyone(len(samples)) if window is None else ranges(window.values(samples), window.half_width)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
