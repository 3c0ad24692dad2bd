"""The index folder: immutable versions, one small file that names the current one, and its reader.

    INDEX/CURRENT                              which version is served, and its manifest's SHA-256
    INDEX/versions/v000001/neighbors.h5        /neighbor_row (N, k) padded with −1, /similarity (N, k) with NaN
    INDEX/versions/v000001/manifest.json       what it holds and belongs to
    INDEX/versions/v000001/build.json          what made it, when and where
    INDEX/extras/v000001/                      what is added later, such as audit.json
    INDEX/inputs/                              embeddings and samples of vectors from elsewhere (inputs.py)

A version appears complete or not at all and is never changed; publishing replaces CURRENT. Builds keep every
version; `lookalike gc` (collect.py) drops old ones, and a process that has one open keeps it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import set_texts
from lookalike.config import Config
from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.files import PARTIAL, atomic_path, read_json
from lookalike.hashing import ArrayHash
from lookalike.indexer.windows import Window
from lookalike.samples import Samples

SCHEMA = 1
KIND = "lookalike index"
NEIGHBORS, MANIFEST, CURRENT = "neighbors.h5", "manifest.json", "CURRENT"
ARRAYS = ("neighbor_row", "similarity")
VERSION = re.compile(r"v\d{6,}")
AGAIN = "build it again with `lookalike index`."
OTHER = {  # what an index belongs to: how another one is called, and what to do about it
    "samples": ("other samples", "give those with --samples, or embed and index these"),
    "embeddings": ("other embeddings", "give those with --embeddings, or index these"),
    "checkpoint": (
        "another encoder",
        "if it was trained further since, embed and index again; or give the former one with --checkpoint DIR",
    ),
}


class StoredArray(Config):
    """One array of neighbors.h5: where it lies and the SHA-256 of its little-endian bytes in row order."""

    dtype: str
    shape: tuple[int, int]
    offset: int
    sha256: str


class StoredFile(Config):
    bytes: int
    sha256: str


class BelongsTo(Config):
    """A data set, embeddings file or checkpoint by content; paths are relative to the index folder."""

    content_hash: str
    paths: tuple[str, ...] = ()


class Manifest(Config):
    """What a version holds and what it belongs to."""

    kind: str = KIND
    schema_version: int = SCHEMA
    version: str
    content_hash: str
    n: int
    dimensions: int
    k: int
    window: dict[str, Any] | None
    counts: dict[str, int]  # objects without a window value, with fewer than k neighbors, with none
    max_length: float  # upper bound of the embeddings' lengths, for live search
    footprint_px: int  # side of the square an object is seen in
    footprint_from: str
    arrays: dict[str, StoredArray]
    files: dict[str, StoredFile]
    samples: BelongsTo
    embeddings: BelongsTo
    checkpoint: BelongsTo | None = None


def version_folder(folder: Path, version: str) -> Path:
    return folder / "versions" / version


def versions(folder: Path) -> list[str]:
    """The names of all finished versions, from the oldest on."""
    names = [path.name for path in (folder / "versions").glob("v*") if VERSION.fullmatch(path.name)]
    return sorted(names, key=number)


def extras_folder(folder: Path, version: str) -> Path:
    """Where what is added to a version later lies; each such file names the hash of the version it describes."""
    return folder / "extras" / version


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(folder: Path, version: str) -> None:
    """Make a complete version the one that is served, atomically."""
    with atomic_path(folder / CURRENT) as temporary:
        temporary.write_text(_current_text(version, sha256_of(version_folder(folder, version) / MANIFEST)))


def _current_text(version: str, manifest: str) -> str:
    return json.dumps({"schema": SCHEMA, "version": version, "manifest_sha256": manifest}) + "\n"


def read_current(folder: Path) -> tuple[str, str]:
    """The served version and its manifest's SHA-256; NotFoundError where nothing was ever published."""
    path = folder / CURRENT
    if not path.is_file():
        what = "has no finished version" if (folder / "versions").is_dir() else "is not an index folder"
        raise NotFoundError(f"{folder} {what}; make one with `lookalike index`.")
    value = read_json(path)
    try:
        version, digest = str(value["version"]), str(value["manifest_sha256"])
        sound = bool(VERSION.fullmatch(version)) and path.read_text() == _current_text(version, digest)
    except (KeyError, TypeError, UnicodeDecodeError):
        sound = False
    if not sound:
        raise CorruptError(f"{path} was altered; {AGAIN}")
    return version, digest


def unpublished(folder: Path) -> str | None:
    """The newest finished version above the served one: its build was killed just before it was published."""
    try:
        published = number(read_current(folder)[0])
    except NotFoundError:
        published = 0
    except CorruptError:
        return None
    newest = versions(folder)[-1:]
    return newest[0] if newest and number(newest[0]) > published else None


def clean(folder: Path, *, spare: str | None = None) -> None:
    """Remove what a killed build left: unfinished files, and versions never published but `spare`. Needs the lock."""
    try:
        published: float = number(read_current(folder)[0])
    except NotFoundError:
        published = 0
    except CorruptError:  # which versions were published is unknown: keep them
        published = math.inf
    for path in (folder / "versions").glob("*"):
        if path.name == spare:
            continue
        if path.name.endswith(PARTIAL) or (VERSION.fullmatch(path.name) and number(path.name) > published):
            shutil.rmtree(path)
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink()


def number(version: str) -> int:
    return int(version[1:])


class ListWriter:
    """neighbors.h5 while it is written: both arrays at their full size, filled by rows in any order."""

    def __init__(self, path: Path, n: int, k: int) -> None:
        self._path = path
        row_type = np.dtype("<i4") if n < 2**31 else np.dtype("<i8")
        fills = {"neighbor_row": (row_type, -1), "similarity": (np.dtype("<f4"), np.nan)}
        # Page-aligned and written at once: the arrays map, and a full disk is an error here, not a crash later.
        with h5py.File(path, "w", alignment_threshold=1, alignment_interval=4096) as file:
            for name, (dtype, fill) in fills.items():
                early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                file.create_dataset(name, (n, k), dtype, fillvalue=fill, dcpl=early)
            file.attrs["schema"] = SCHEMA
            set_texts(file, {"kind": KIND})
            places = {name: file[name].id.get_offset() for name in fills}
        self.arrays = {name: np.memmap(path, dtype, "r+", places[name], (n, k)) for name, (dtype, _) in fills.items()}
        self._places = places

    def write(self, rows: NDArray[np.int64], neighbor_row: NDArray[np.int64], similarity: NDArray[np.float32]) -> None:
        self.arrays["neighbor_row"][rows] = neighbor_row
        self.arrays["similarity"][rows] = similarity

    def close(self) -> tuple[dict[str, StoredArray], dict[str, ArrayHash]]:
        """Flush, and describe and hash both arrays."""
        stored, hashes = {}, {}
        for name, array in self.arrays.items():
            array.flush()
            hashes[name] = ArrayHash()
            for start in range(0, len(array), 65536):
                hashes[name].update(array[start : start + 65536])
            stored[name] = StoredArray(
                dtype=array.dtype.str,
                shape=array.shape,
                offset=self._places[name],
                sha256=hashes[name].line(name).rsplit(" ", 1)[1],
            )
        return stored, hashes


class Index:
    """One version of an index folder, by default the one that is served, with its lists memory-mapped read-only.

    neighbor_row : (N, k) int32 (int64 from 2³¹ objects), −1 where a list ends. similarity : (N, k) float32, NaN there.
    Opening checks sizes and headers against the manifest, not every byte: that is `lookalike verify`.
    """

    def __init__(self, folder: Path, version: str | None = None) -> None:
        self.folder = Path(folder)
        if version is None:
            self.version, digest = read_current(self.folder)
        else:  # CURRENT records no hash of another version's manifest
            self.version, digest = version, None
        self.path = version_folder(self.folder, self.version)
        self.manifest = _read_manifest(self.path / MANIFEST, digest)
        self.window = Window.from_json(self.manifest.window)
        self.n, self.k = self.manifest.n, self.manifest.k
        self._check_files()
        self.neighbor_row: NDArray[Any] = self._map("neighbor_row")
        self.similarity: NDArray[np.float32] = self._map("similarity")

    def _check_files(self) -> None:
        for name, stored in self.manifest.files.items():
            path = self.path / name
            if not path.is_file() or path.stat().st_size != stored.bytes:
                found = f"{path.stat().st_size} bytes" if path.is_file() else "nothing"
                raise CorruptError(f"{path} should hold {stored.bytes} bytes, but {found} was found; {AGAIN}")
        try:
            with h5py.File(self.path / NEIGHBORS, "r", locking=False) as file:
                for name in ARRAYS:
                    data, stored_array = file[name], self.manifest.arrays[name]
                    header = (data.dtype.str, data.shape, data.id.get_offset())
                    if header != (stored_array.dtype, stored_array.shape, stored_array.offset):
                        raise CorruptError(f"{self.path / NEIGHBORS} does not match its manifest; {AGAIN}")
        except (OSError, KeyError, RuntimeError) as error:
            raise CorruptError(f"{self.path / NEIGHBORS} cannot be read ({error}); {AGAIN}") from None

    def intact(self) -> bool:
        """Whether every byte of the version's files is the recorded one."""
        return all(sha256_of(self.path / name) == stored.sha256 for name, stored in self.manifest.files.items())

    def _map(self, name: str) -> NDArray[Any]:
        stored = self.manifest.arrays[name]
        return np.memmap(self.path / NEIGHBORS, stored.dtype, "r", stored.offset, stored.shape)

    def open_samples(self, paths: list[Path] | None = None) -> Samples:
        """The data set the index was built for, from its recorded place or another; a different one is refused."""
        recorded = [self._place(path) for path in self.manifest.samples.paths]
        places = paths or _there(recorded, "samples", self.folder)
        samples = Samples(places)
        self._check_belongs("samples", ", ".join(map(str, places)), samples.content_hash, self.manifest.samples)
        return samples

    def open_embeddings(self, path: Path | None = None) -> Embeddings:
        """The embeddings the index was built from, likewise."""
        place = path or _there([self._place(self.manifest.embeddings.paths[0])], "embeddings", self.folder)[0]
        embeddings = Embeddings(place)
        self._check_belongs("embeddings", str(place), embeddings.content_hash, self.manifest.embeddings)
        return embeddings

    def checkpoint(self, path: Path | None = None) -> Path:
        """The folder of the encoder that made the embeddings, likewise; NotFoundError where none was recorded."""
        recorded = self.manifest.checkpoint
        if recorded is None or not (path or recorded.paths):
            how = (
                "give --checkpoint DIR, or build it again with that." if recorded else "build it with --checkpoint DIR."
            )
            raise NotFoundError(
                f"{self.folder} was built without its encoder, which a search from a picture needs: {how}",
                code="no_checkpoint",
            )
        place = path or _there([self._place(recorded.paths[0])], "checkpoint", self.folder)[0]
        self._check_belongs("checkpoint", str(place), checkpoint_about(place)[0], recorded)
        return place

    def _place(self, path: str) -> Path:
        return (self.folder / path).resolve()

    def _check_belongs(self, what: str, place: str, found: str, recorded: BelongsTo) -> None:
        if found != recorded.content_hash:
            raise InputError(
                f"{self.folder} was built with {OTHER[what][0]} (content hash {recorded.content_hash[:12]}…) than "
                f"{place} ({found[:12]}…): {OTHER[what][1]}.",
                code=f"other_{what}",
            )


def checkpoint_about(folder: Path) -> tuple[str, int]:
    """A checkpoint's content hash and the side of its views in px, read without loading the encoder."""
    values = read_json(folder / "config.json")
    try:
        return str(values["content_hash"]), int(values["preprocess"]["size"])
    except (KeyError, TypeError, ValueError):
        raise CorruptError(f"{folder / 'config.json'} does not describe a checkpoint of ours.") from None


def relative(path: Path, folder: Path) -> str:
    """The path as the manifest records it: from the index folder, so that both can move together."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _there(paths: list[Path], what: str, folder: Path) -> list[Path]:
    for path in paths:
        if not path.exists():
            raise NotFoundError(
                f"{folder} was built with {what} at {path}, where nothing is now; say where with --{what}.",
                code=f"moved_{what}",
            )
    return paths


def _read_manifest(path: Path, digest: str | None) -> Manifest:
    if not path.is_file():
        raise CorruptError(f"{path} is missing; {AGAIN}")
    if digest is not None and sha256_of(path) != digest:
        raise CorruptError(f"{path} was altered; {AGAIN}")
    values = read_json(path)
    if values.get("schema_version") != SCHEMA:
        raise InputError(f"{path} has schema {values.get('schema_version')}; this version reads schema {SCHEMA}.")
    try:
        return Manifest.checked(values)
    except LookalikeError as error:
        raise CorruptError(f"{path} is not a manifest of ours ({error.message}); {AGAIN}") from None
