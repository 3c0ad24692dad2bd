"""Embeddings in several files: the folder's manifest, and their vectors read as if they lay in one array.

    FOLDER/manifest.json   what all shards are of, and each one's content hash; none while it is being filled
    FOLDER/NAME.h5         one embeddings file for each samples file, in the order of the samples

Each shard is a whole embeddings file of its samples file, and can be read and moved by itself.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.config import Config
from lookalike.errors import CorruptError, InputError, LookalikeError
from lookalike.files import read_json, write_json

SCHEMA = 1
KIND = "lookalike embeddings folder"
MANIFEST = "manifest.json"
UNFINISHED_EMBEDDINGS = "unfinished_embeddings"  # code of an error
SUFFIXES = (".h5", ".hdf5")  # of shards
OPEN = 64  # shards mapped at once


class Shard(Config):
    """One file of the folder; its content hash is "" until the folder is complete."""

    file: str
    samples: str  # content hash of its samples file
    n: int
    content_hash: str = ""


class Manifest(Config):
    """What a folder holds, or is being filled with: `content_hash`, of all vectors and ids, is then "" still."""

    kind: str = KIND
    schema_version: int = SCHEMA
    content_hash: str = ""
    dimensions: int
    dtype: str
    layer: str
    made_from: dict[str, str]
    spread: float | None = None  # 1 − |mean vector|², 0 where all point one way
    shards: tuple[Shard, ...]

    def unfinished(self) -> Manifest:
        """The same without what is known at the end only."""
        shards = tuple(shard.model_copy(update={"content_hash": ""}) for shard in self.shards)
        return self.model_copy(update={"content_hash": "", "spread": None, "shards": shards})


def has_manifest(folder: Path) -> bool:
    """Whether a folder says that it is one of embeddings, finished or not."""
    try:
        values = read_json(folder / MANIFEST)
    except (LookalikeError, OSError):
        return False
    return isinstance(values, dict) and values.get("kind") == KIND


def read_manifest(folder: Path, *, unfinished: bool = False) -> Manifest:
    """The manifest of a folder. InputError where it is none of ours, or not complete and that does not suffice."""
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is not a folder of embeddings; make one with `lookalike embed`.")
    try:
        values = read_json(folder / MANIFEST)
    except OSError as error:
        raise CorruptError(f"{folder / MANIFEST} cannot be read: {error.strerror}") from None
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise InputError(f"{folder} is not a folder of embeddings; make one with `lookalike embed`.")
    if values.get("schema_version") != SCHEMA:
        raise InputError(f"{folder} has schema {values.get('schema_version')}; this version reads schema {SCHEMA}.")
    try:
        manifest = Manifest.checked(values)
    except LookalikeError as error:
        raise CorruptError(f"{folder / MANIFEST} is damaged ({error.message}); embed again.") from None
    names = [shard.file for shard in manifest.shards]
    if not names or not all(map(_is_shard_name, names)) or not _all_differ(names):
        raise CorruptError(f"{folder / MANIFEST} is damaged: it names no files of its folder; embed again.")
    if not (manifest.content_hash or unfinished):
        done = sum((folder / shard.file).exists() for shard in manifest.shards)
        raise InputError(
            f"{folder} is not complete: {done:,} of {len(manifest.shards):,} shards are there. The same "
            "`lookalike embed` goes on with the others.",
            code=UNFINISHED_EMBEDDINGS,
        )
    return manifest


def _is_shard_name(name: str) -> bool:
    """Whether it names a file of the folder itself that can hold embeddings."""
    return "\0" not in name and Path(name).name == name and Path(name).suffix in SUFFIXES


def _all_differ(names: Sequence[str]) -> bool:
    """Whether they are as many files on a file system that does not tell capitals from small letters, too."""
    return len({name.casefold() for name in names}) == len(names)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def shard_names(samples: Sequence[Path]) -> list[str]:
    """What the shards of these samples files are called: as they are, with folders in front where names are shared.

    `a.h5`, `b.h5` keep their names; `north/cutouts.h5` and `south/cutouts.h5` become `north-cutouts.h5` and so on.
    """
    parts = [path.resolve().parts[1:] for path in samples]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-depth:]) for part in parts]
        names = [name if Path(name).suffix in SUFFIXES else f"{name}.h5" for name in names]
        if _all_differ(names):
            return names
    raise InputError(f"Shards are named after their samples files, but {', '.join(map(str, samples))} end up alike.")


class Joined:
    """Arrays (n, …) of one type, read as the array (N, …) they make one after the other.

    A row, a slice or an array of rows gives what the whole array would give; nothing else is copied or read. A slice
    within one part is a view of it. `part` gives the array of a number; each is asked for when it is needed, and few
    are kept at once, since a mapped file takes one of the files that a process may have open.
    """

    def __init__(self, lengths: Sequence[int], part: Callable[[int], NDArray[Any]]) -> None:
        self._part = functools.lru_cache(OPEN)(part)
        self._starts = np.cumsum([0, *lengths])
        first = self._part(0)
        self.dtype, self.ndim, self.itemsize = first.dtype, first.ndim, first.itemsize
        self.shape = (int(self._starts[-1]), *first.shape[1:])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def release(self) -> None:
        """Let go of all parts; each is asked for again when it is needed."""
        self._part.cache_clear()

    def read_by(self, reader: Callable[[NDArray[Any]], Any]) -> Joined:
        """The same array, of whose parts rows and runs are given by what `reader` makes of each."""
        return Joined(np.diff(self._starts).tolist(), lambda part: reader(self._part(part)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = np.array(self._run(0, len(self)))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self._run(start, stop) if step == 1 else self._gather(np.arange(start, stop, step))
        wanted = np.asarray(rows)
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                msg = f"a mask of {len(self)} rows is needed, not one of shape {wanted.shape}"
                raise IndexError(msg)
            wanted = np.flatnonzero(wanted)
        if wanted.dtype.kind not in "iu" and wanted.size:
            msg = f"rows are whole numbers, not {wanted.dtype}"
            raise IndexError(msg)
        found = self._gather(wanted.astype(np.int64).reshape(-1))
        return found.reshape(*wanted.shape, *self.shape[1:])

    def _run(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop − 1."""
        stop = max(start, stop)
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = len(self._starts) - 1
        part = min(first, parts - 1)
        low, high = int(self._starts[part]), int(self._starts[part + 1])
        if stop <= high or part == parts - 1:
            return self._part(part)[start - low : max(stop - low, 0)]
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        while start < stop:
            low, high = int(self._starts[part]), int(self._starts[part + 1])
            upto = min(stop, high)
            out[len(out) - (stop - start) : len(out) - (stop - upto)] = self._part(part)[start - low : upto - low]
            start, part = upto, part + 1
        return out

    def _gather(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order given."""
        rows = np.where(wanted < 0, wanted + len(self), wanted)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            msg = f"rows run from 0 to {len(self) - 1}"
            raise IndexError(msg)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(part_of, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(part_of[order])) + 1):
            if len(places):
                part = int(part_of[places[0]])
                out[places] = self._part(part)[rows[places] - self._starts[part]]
        return out


def release(vectors: Any) -> None:
    """Give mapped files' pages back; they stay in the system's cache."""
    if isinstance(vectors, Joined):
        vectors.release()
        return
    held = getattr(vectors, "_mmap", None)
    if held is not None and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)
