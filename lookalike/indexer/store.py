"""The index folder: immutable versions, one small file that names the current one, and its reader.

    INDEX/CURRENT                              which version is served, and its manifest's SHA-256
    INDEX/versions/v000001/neighbors.h5        /neighbor_row (N, k) padded with −1, /similarity (N, k) with NaN,
                                               /check (N,) uint32, a checksum of each list
    INDEX/versions/v000001/manifest.json       what it holds and belongs to
    INDEX/versions/v000001/build.json          what made it, when and where
    INDEX/extras/v000001/                      what is added later, such as audit.json
    INDEX/inputs/                              embeddings and samples of vectors from elsewhere (inputs.py)

A version appears complete or not at all and is never changed; publishing replaces CURRENT. Builds keep every
version; `lookalike gc` (collect.py) drops old ones, and a process that has one open keeps it.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CorruptError, NotFoundError
from lookalike.files import PARTIAL, atomic_path, read_json
from lookalike.indexer.belongs import Inputs
from lookalike.indexer.lists_file import CHECK, NEIGHBORS, checksums
from lookalike.indexer.manifest import MANIFEST, read_manifest, sha256_of
from lookalike.indexer.unfinished import saved_progress
from lookalike.indexer.windows import Window

CURRENT_SCHEMA = 1
CURRENT = "CURRENT"
BLOCK = 2**20  # neighbors looked at together
VERSION = re.compile(r"v\d{6,}")


def version_folder(folder: Path, version: str) -> Path:
    return folder / "versions" / version


def versions(folder: Path) -> list[str]:
    """The names of all finished versions, from the oldest on."""
    names = [path.name for path in (folder / "versions").glob("v*") if VERSION.fullmatch(path.name)]
    return sorted(names, key=number)


def extras_folder(folder: Path, version: str) -> Path:
    """Where what is added to a version later lies; each such file names the hash of the version it describes."""
    return folder / "extras" / version


def publish(folder: Path, version: str) -> None:
    """Make a complete version the one that is served, atomically."""
    with atomic_path(folder / CURRENT) as temporary:
        temporary.write_text(_current_text(version, sha256_of(version_folder(folder, version) / MANIFEST)))


def _current_text(version: str, manifest: str) -> str:
    return json.dumps({"schema": CURRENT_SCHEMA, "version": version, "manifest_sha256": manifest}) + "\n"


def read_current(folder: Path) -> tuple[str, str]:
    """The served version and its manifest's SHA-256; NotFoundError where nothing was ever published."""
    path = folder / CURRENT
    if not path.is_file():
        if versions(folder):
            hint = repair_hint(folder)
            raise NotFoundError(f"{folder} has finished versions, but does not say which is served; {hint}.")
        what = "has no finished version" if (folder / "versions").is_dir() else "is not an index folder"
        raise NotFoundError(f"{folder} {what}; make one with `lookalike index`.")
    value = read_json(path)
    try:
        version, digest = str(value["version"]), str(value["manifest_sha256"])
        sound = bool(VERSION.fullmatch(version)) and path.read_text() == _current_text(version, digest)
    except (KeyError, TypeError, UnicodeDecodeError):
        sound = False
    if not sound:
        raise CorruptError(f"{path} was altered; {repair_hint(folder)}.")
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
    """Remove what a killed build left: versions never published but `spare`, and unfinished ones. Needs the lock.

    An unfinished build that can be gone on with stays: `lookalike gc` has a rule for it.
    """
    try:
        published: float = number(read_current(folder)[0])
    except NotFoundError:
        published = 0
    except CorruptError:  # which versions were published is unknown: keep them
        published = math.inf
    for path in (folder / "versions").glob("*"):
        if path.name == spare or saved_progress(path) is not None:
            continue
        if path.name.endswith(PARTIAL) or (VERSION.fullmatch(path.name) and number(path.name) > published):
            shutil.rmtree(path)
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink()


def repair_hint(folder: Path) -> str:
    """What to do about a damaged index, as the end of a sentence."""
    return f"`lookalike repair {folder}` makes it good again"


def number(version: str) -> int:
    return int(version[1:])


class Index(Inputs):
    """One version of an index folder, by default the one that is served, with its lists memory-mapped read-only.

    neighbor_row : (N, k) int32 (int64 from 2³¹ objects), −1 where a list ends. similarity : (N, k) float32, NaN there.
    Opening checks sizes and headers against the manifest, not every byte: that is `lookalike verify`. `stored` and
    `checked` read lists by row and look at their checksums.
    """

    def __init__(self, folder: Path, version: str | None = None) -> None:
        digest = None  # CURRENT records that of its own version's manifest alone
        if version is None:
            version, digest = read_current(Path(folder))
        self.version, self.path = version, version_folder(Path(folder), version)
        super().__init__(folder, read_manifest(self.path / MANIFEST, digest))
        self.window = Window.from_json(self.manifest.window)
        self.n, self.k = self.manifest.n, self.manifest.k
        self._check_files()
        self.neighbor_row: NDArray[Any] = self._map("neighbor_row")
        self.similarity: NDArray[np.float32] = self._map("similarity")
        self.check: NDArray[np.uint32] | None = self._map(CHECK) if CHECK in self.manifest.arrays else None

    def stored(self, row: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The list of a row as stored, (k,) rows and similarities; CorruptError where any of its bytes was altered."""
        neighbor_row, similarity = self.checked(np.array([row]))
        return neighbor_row[0], similarity[0]

    def checked(self, rows: NDArray[np.int64], k: int | None = None) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The first k neighbors, or all, of some rows (q,) as stored, (q, k) each; CorruptError likewise."""
        shape = len(rows), self.k if k is None else min(k, self.k)
        found = np.empty(shape, self.neighbor_row.dtype), np.empty(shape, np.float32)
        step = max(1, BLOCK // self.k)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            lists = self.neighbor_row[part], self.similarity[part]  # whole, since their checksums are of that
            self.refuse_altered(part, *lists)
            for out, whole in zip(found, lists, strict=True):
                out[start : start + step] = whole[:, : shape[1]]
        return found

    def refuse_altered(
        self, rows: NDArray[np.int64], neighbor_row: NDArray[Any], similarity: NDArray[np.float32]
    ) -> None:
        """CorruptError where a list (q, k) read for one of some rows (q,) is not the one its checksum is of."""
        if self.check is None:  # the layout before had none
            return
        wrong = np.flatnonzero(checksums(rows, neighbor_row, similarity) != self.check[rows])
        if len(wrong):
            raise CorruptError(
                f"The list of row {rows[wrong[0]]} in {self.path / NEIGHBORS} was altered; {repair_hint(self.folder)}."
            )

    def _check_files(self) -> None:
        hint = repair_hint(self.folder)
        for name, stored in self.manifest.files.items():
            path = self.path / name
            if not path.is_file() or path.stat().st_size != stored.bytes:
                found = f"{path.stat().st_size} bytes" if path.is_file() else "nothing"
                raise CorruptError(f"{path} should hold {stored.bytes} bytes, but {found} was found; {hint}.")
        try:
            with h5py.File(self.path / NEIGHBORS, "r", locking=False) as file:
                for name in self.manifest.arrays:
                    data, stored_array = file[name], self.manifest.arrays[name]
                    header = (data.dtype.str, data.shape, data.id.get_offset())
                    if header != (stored_array.dtype, stored_array.shape, stored_array.offset):
                        raise CorruptError(f"{self.path / NEIGHBORS} does not match its manifest; {hint}.")
        except (OSError, KeyError, RuntimeError) as error:
            raise CorruptError(f"{self.path / NEIGHBORS} cannot be read ({error}); {hint}.") from None

    def intact(self) -> bool:
        """Whether every byte of the version's files is the recorded one."""
        return all(sha256_of(self.path / name) == stored.sha256 for name, stored in self.manifest.files.items())

    def _map(self, name: str) -> NDArray[Any]:
        stored = self.manifest.arrays[name]
        return np.memmap(self.path / NEIGHBORS, stored.dtype, "r", stored.offset, stored.shape)
