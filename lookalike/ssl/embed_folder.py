"""Embedding into a folder: one file for each samples file, by one process or by several that share the work.

Whoever is to fill a folder first writes what it will hold into its manifest. A shard belongs to the process that holds
its lock, and is complete once its file has its name; so a process that was killed leaves its shard to the next one, and
no list of who does what need be kept. When all are there, one process reads every byte, makes damaged shards anew, and
completes the manifest: only then is the folder read as embeddings.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import ReadThrough, StoredVectors, normalize, read_through
from lookalike.embeddings_folder import (
    Manifest,
    Shard,
    has_manifest,
    read_manifest,
    shard_names,
    write_manifest,
)
from lookalike.embeddings_writer import remove_leftovers
from lookalike.errors import CorruptError, InputError, LockedError
from lookalike.files import lock, write_point
from lookalike.progress import Advance
from lookalike.provenance import WAYS_OUT, build_record, refuse_input, write_record
from lookalike.samples import Samples
from lookalike.ssl.embed_files import READ_ONLY, Job, Mean, refuse_collapsed, spread_of, write_file

WAIT = 0.2  # seconds between two looks at what other processes do


def embed_folder(samples: Samples, out: Path, job: Job, advance: Advance) -> tuple[str, float]:
    """Embed each shard of a data set into its file in the folder `out`; content hash and spread of the whole.

    Returns when the folder is complete, whoever computed what. InputError where it holds something else.
    """
    folder = _Folder(samples, out, job)
    try:
        complete = folder.prepare()
    except OSError as error:
        if error.errno in READ_ONLY and (found := folder.held()):
            return found
        raise
    if complete and (found := folder.check()):
        return found
    folder.compute(advance)
    while not (found := folder.finish()):
        folder.compute(lambda done, note="": None)  # a damaged shard, which was counted before
    return found


class _Folder:
    """The folder `out` as one process sees it while it is filled."""

    def __init__(self, samples: Samples, out: Path, job: Job) -> None:
        self.out, self.job, self.paths = out.resolve(), job, samples.paths
        self.source = samples.about.source
        self.shown = out
        names = shard_names(samples.paths)
        for name in names:
            refuse_input(self.out / name, samples.paths)
        hashes = [Samples(path).content_hash for path in samples.paths]
        self.plan = Manifest(
            dimensions=job.about.dimensions,
            dtype=job.about.dtype,
            layer=job.about.layer,
            made_from=job.about.made_from,
            shards=tuple(
                Shard(file=name, samples=digest, n=len(rows))
                for name, digest, rows in zip(names, hashes, samples.shard_rows, strict=True)
            ),
        )
        self.n = len(samples)
        self.done: set[str] = set()  # files that were there, or that this process has made
        self.removed: set[str] = set()  # files that were missing or damaged when all bytes were read

    def prepare(self) -> bool:
        """Claim the folder for what it is to hold; whether it is complete already. InputError for any other content."""
        with _waiting_lock(self.out):
            try:
                held = read_manifest(self.out, unfinished=True)
            except (CorruptError, InputError) as error:
                if isinstance(error, InputError) and not has_manifest(self.out):
                    self._refuse_other_files()
                elif not self.job.overwrite:
                    raise
                else:
                    self._clear(self.plan)
                write_manifest(self.out, self.plan)
                return False
            if held.unfinished() == self.plan and not (self.job.overwrite and held.content_hash):
                return bool(held.content_hash)
            if not self.job.overwrite:
                raise self._other(held)
            write_manifest(self.out, self.plan)  # from here on a kill leaves a folder that is being filled
            self._clear(held)
            (self.out / "build.json").unlink(missing_ok=True)
            return False

    def _clear(self, held: Manifest) -> None:
        """Remove the shards of a manifest, but nothing that is no embeddings file, whatever the manifest says."""
        for shard in held.shards:
            try:
                StoredVectors.read(self.out / shard.file)
            except FileNotFoundError:
                pass  # what belongs to it may be there
            except (InputError, CorruptError):
                continue
            self._remove(shard.file)

    def _refuse_other_files(self) -> None:
        if self.out.is_dir() and any(not path.name.startswith(".") for path in self.out.iterdir()):
            raise InputError(f"{self.shown} holds other files; choose an empty or new folder for embeddings.")

    def _other(self, held: Manifest) -> InputError:
        other = " and ".join(self._differences(held))
        return InputError(f"{self.shown} is there already, made with other {other}. {WAYS_OUT}")

    def _differences(self, held: Manifest) -> list[str]:
        wanted, found = self.plan.model_dump(), held.unfinished().model_dump()
        names = [name for name in ("samples", "checkpoint") if held.made_from.get(name) != self.plan.made_from[name]]
        names += [name for name in ("layer", "dtype") if wanted[name] != found[name]]
        return names or ["samples"]

    def compute(self, advance: Advance) -> None:
        """See to it that every shard is there: make those that no one else is making, and wait for the others."""
        while missing := [place for place in enumerate(self.plan.shards) if place[1].file not in self.done]:
            busy = 0
            for number, shard in missing:
                try:
                    self._make(number, shard, advance)
                except LockedError:
                    busy += 1
                else:
                    self.done.add(shard.file)
            if busy == len(missing):
                advance(0, "waiting for other processes")
                time.sleep(WAIT)

    def _make(self, number: int, shard: Shard, advance: Advance) -> None:
        """Make one shard, unless it is there; LockedError where another process is making it."""
        path = self.out / shard.file
        if self._ready(shard):
            advance(shard.n)
            return
        with lock(path):
            self._still_ours()
            if self._ready(shard):
                advance(shard.n)
                return
            samples = Samples(self.paths[number])
            if samples.content_hash != shard.samples:
                raise InputError(f"{self.paths[number]} was replaced while it was to be embedded; embed again.")
            write_file(samples, path, self.job, advance)
        write_point("embed.shard")

    def _ready(self, shard: Shard) -> bool:
        """Whether a shard's file is there and says that it is what it should be; its bytes are read at the end.

        OSError where the system does not let it be read, which is no reason to make it anew.
        """
        try:
            held = StoredVectors.read(self.out / shard.file)
        except (InputError, CorruptError, FileNotFoundError):
            return False
        made_from, about = self.job.made_from(shard.samples), self.job.about
        found = (held.made_from, held.layer, str(held.dtype), held.shape)
        return found == (made_from, about.layer, about.dtype, (shard.n, about.dimensions))

    def _still_ours(self) -> None:
        if not (has_manifest(self.out) and read_manifest(self.out, unfinished=True).unfinished() == self.plan):
            raise InputError(f"{self.shown} was given to other embeddings meanwhile, by another command.")

    def check(self) -> tuple[str, float] | None:
        """Read every byte of a folder said to be complete; None where it is not, after declaring it so.

        None too where another process has found that meanwhile; InputError where one has given the folder away.
        """
        with _waiting_lock(self.out):
            self._still_ours()
            held = read_manifest(self.out, unfinished=True)
            if not held.content_hash:
                return None
            found = self._read()
            if found is None or not self._as_told(held, found[0]):
                write_manifest(self.out, self.plan)
                return None
        return self._reused(held, found[1])

    def held(self) -> tuple[str, float] | None:
        """The same of a folder that cannot be locked, since nothing can be written beside it; nothing is written.

        None where something would have to be; InputError where it holds other embeddings.
        """
        try:
            held = read_manifest(self.out)
        except (CorruptError, InputError):
            return None
        if self.job.overwrite:
            return None
        if held.unfinished() != self.plan:
            raise self._other(held)
        found = self._look()
        if isinstance(found, list) or not self._as_told(held, found[0]):
            return None
        return self._reused(held, found[1])

    def _as_told(self, held: Manifest, found: ReadThrough) -> bool:
        return (held.content_hash, held.shards) == (found.content_hash, self._finished(found))

    def _reused(self, held: Manifest, mean: Mean) -> tuple[str, float]:
        self.job.notes.append(
            f"{self.shown} holds these embeddings already: nothing was computed (--overwrite computes them anew)."
        )
        return held.content_hash, spread_of(mean)

    def finish(self) -> tuple[str, float] | None:
        """Read every byte and complete the manifest, unless another process did; None where shards are damaged."""
        with _waiting_lock(self.out):
            self._still_ours()
            held = read_manifest(self.out, unfinished=True)
            if held.content_hash and held.spread is not None:
                return held.content_hash, held.spread
            if (found := self._read()) is None:
                return None
            refuse_collapsed(found[1], self.n, self.job.about.dtype)
            inputs = self.job.about.made_from
            known = {"content_hash": found[0].content_hash, "spread": spread_of(found[1])}
            complete = self.plan.model_copy(update={**known, "shards": self._finished(found[0])})
            write_record(self.out, build_record("embed", settings=self.job.settings, inputs=inputs, data=self.source))
            write_point("embed.folder")
            write_manifest(self.out, complete)
        return complete.content_hash, spread_of(found[1])

    def _look(self) -> tuple[ReadThrough, Mean] | list[str]:
        """What all bytes say, and the mean (D,) of the vectors; or the shards that are missing or damaged."""
        total = np.zeros(self.job.about.dimensions)

        def add(block: NDArray[np.generic]) -> None:
            with contextlib.suppress(InputError):  # altered rows may have no direction; the hash will tell
                np.add(total, normalize(block).sum(axis=0), out=total)

        bad = [shard.file for shard in self.plan.shards if not self._ready(shard)]
        if not bad:
            found = read_through((StoredVectors.read(self.out / shard.file) for shard in self.plan.shards), add)
            if not found.altered:
                return found, total / self.n
            bad = [path.name for path in found.altered]
        return bad

    def _read(self) -> tuple[ReadThrough, Mean] | None:
        """What all bytes say, and the mean (D,) of the vectors; None where shards are damaged, which are removed.

        CorruptError where one is damaged that was removed before: it would be so forever.
        """
        bad = self._look()
        if not isinstance(bad, list):
            return bad
        if again := [file for file in bad if file in self.removed]:
            raise CorruptError(
                f"{self.shown / again[0]} was made anew and is damaged again: check the disk it lies on."
            )
        self.removed.update(bad)
        for file in bad:
            self.job.notes.append(f"{self.shown / file} was missing or damaged and is made anew.")
            self._remove(file)
        self.done.clear()
        return None

    def _finished(self, found: ReadThrough) -> tuple[Shard, ...]:
        """The plan's shards with the content hashes that were found."""
        return tuple(
            shard.model_copy(update={"content_hash": digest})
            for shard, digest in zip(self.plan.shards, found.own, strict=True)
        )

    def _remove(self, file: str) -> None:
        path = self.out / file
        path.unlink(missing_ok=True)
        path.with_name(f"{file}.build.json").unlink(missing_ok=True)
        with contextlib.suppress(LockedError), lock(path):
            remove_leftovers(path)


@contextlib.contextmanager
def _waiting_lock(out: Path) -> Iterator[None]:
    """The lock on the folder, waited for: others hold it while they look at the manifest, or read all shards."""
    while True:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(lock(out))
            except LockedError:
                time.sleep(WAIT)
                continue
            yield
            return
