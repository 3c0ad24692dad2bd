"""Embeddings: one normalized vector per object, in an HDF5 file or a folder of them, with the hashes of what made them.

In a file: `/embedding` (N, D) float32 or float16, normalized in float64 before storing; `/id` (N,). A folder holds
such files as shards, and a manifest. A user's own vectors are as good as ours: `write_embeddings` takes any
(N, D) array.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import as_text
from lookalike.embeddings_folder import Joined, Manifest, Shard, read_manifest, release
from lookalike.embeddings_writer import DTYPES, KIND, SCHEMA, normalize, write_embeddings
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.hashing import ArrayHash, combine

__all__ = ["DTYPES", "KIND", "Embeddings", "StoredVectors", "normalize", "read_through", "write_embeddings"]

BLOCK_BYTES = 2**26  # read at once while hashing
DAMAGE = (None, errno.EINVAL)  # what HDF5 raises of itself, and of a place that no file can have


class Embeddings:
    """Embeddings, memory-mapped read-only from a file or from a folder's shards: `vectors` (N, D) and `ids` (N,).

    `made_from` holds the content hashes of the samples and checkpoint it was made from, as far as it names them;
    `layer` the encoder's output, "" where none is named. `content_hash` is that of the vectors and ids, whether they
    lie in one file or in many. InputError for what is no embeddings file or an unfinished folder, CorruptError for a
    damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise NotFoundError(f"No such file: {path}")
        if not path.is_dir():
            stored = StoredVectors.read(path)
            self._stored, self.vectors, self.ids = [stored], stored.vectors, stored.ids
            self.content_hash, self.layer, self.made_from = stored.content_hash, stored.layer, stored.made_from
            return
        manifest = read_manifest(path)
        self._stored = shards = [_shard(path, shard, manifest) for shard in manifest.shards]
        lengths = [one.shape[0] for one in shards]
        told = {(one.shape[1], str(one.dtype)) for one in shards}
        if told != {(manifest.dimensions, manifest.dtype)}:
            raise CorruptError(f"The shards of {path} hold other vectors than its manifest says; embed again.")
        # It gives rows as a mapped array does, which is all that is ever asked of one.
        self.vectors = cast(NDArray[Any], Joined(lengths, lambda part: shards[part].vectors))
        self.ids = np.concatenate([one.ids for one in shards])
        self.content_hash, self.layer, self.made_from = manifest.content_hash, manifest.layer, manifest.made_from

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def shards(self) -> list[Path]:
        """The files of a folder in order; a file is its own only one."""
        return [stored.path for stored in self._stored]

    def verify(self) -> None:
        """Recompute the content hash; CorruptError, naming the file, if a byte was altered."""
        found = read_through(self._stored)
        if found.altered or found.content_hash != self.content_hash:
            path = found.altered[0] if found.altered else self.path
            raise CorruptError(f"{path} was altered: its content hash is not the recorded one; embed again.")


@dataclass(frozen=True)
class StoredVectors:
    """One embeddings file: where its vectors (n, D) lie, ids (n,), and what it says of itself."""

    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    state: tuple[int, ...]  # of the file when this was read
    ids: NDArray[np.bytes_]
    content_hash: str
    layer: str
    made_from: dict[str, str]

    @property
    def vectors(self) -> NDArray[Any]:
        """Mapped anew each time, and open as long as it is used; CorruptError where the file was replaced meanwhile."""
        with self.path.open("rb") as file:
            if _state(file) != self.state:
                raise CorruptError(f"{self.path} was replaced while it was read; start again.")
            # The data set is contiguous, so that it maps straight from the file, shared between processes.
            return np.memmap(file, self.dtype, "r", self.offset, self.shape)

    @classmethod
    def read(cls, path: Path) -> StoredVectors:
        """Open a file; InputError for another kind of file, CorruptError for a damaged one.

        OSError where the system does not let it be read: that says nothing about what it holds.
        """
        try:
            with path.open("rb") as plain:
                state = _state(plain)
            with h5py.File(path, "r", locking=False) as file:
                if as_text(file.attrs.get("kind")) != KIND:
                    raise InputError(f"{path} is not an embeddings file; make one with `lookalike embed`.")
                if file.attrs["schema"] != SCHEMA:
                    raise InputError(f"{path} has schema {file.attrs['schema']}; this version reads schema {SCHEMA}.")
                ids = file["id"][:]
                made_from = {
                    name: as_text(file.attrs[f"{name}_hash"])
                    for name in ("samples", "checkpoint")
                    if f"{name}_hash" in file.attrs
                }
                content_hash, layer = as_text(file.attrs["content_hash"]), as_text(file.attrs.get("layer", ""))
                offset, shape, dtype = _place(file["embedding"], ids)
            stored = cls(path, offset, shape, dtype, state, ids, content_hash, layer, made_from)
            _ = stored.vectors  # raises where the file is too short for them
            return stored
        except OSError as error:
            if error.errno in DAMAGE:
                raise CorruptError(f"{path} is not a readable embeddings file ({error}); embed again.") from None
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        except (
            KeyError,
            ValueError,
            TypeError,
            RuntimeError,
            AttributeError,
        ) as error:  # as HDF5 meets damage
            raise CorruptError(f"{path} is not a readable embeddings file ({error}); embed again.") from None


@dataclass(frozen=True)
class ReadThrough:
    """What all bytes of some embeddings files say: their content hash as one, each one's own, and those altered."""

    content_hash: str
    own: list[str]
    altered: list[Path]


def read_through(
    files: Iterable[StoredVectors], look: Callable[[NDArray[Any]], None] = lambda block: None
) -> ReadThrough:
    """Read every byte of some files once, a block at a time, each block shown to `look`.

    Files are taken one after the other, so that an iterator may open them as they come.
    """
    whole: dict[str, ArrayHash] = {}  # that of the first file, until there is another
    own, altered = [], []
    for file in files:
        mine = {"embedding": ArrayHash(), "id": ArrayHash()}
        both = (mine, whole) if whole else (mine,)
        vectors = file.vectors
        step = max(1, BLOCK_BYTES // max(1, vectors.shape[1] * vectors.itemsize))
        for start in range(0, len(vectors), step):
            block = vectors[start : start + step]
            for hashes in both:
                hashes["embedding"].update(block)
            look(block)
            release(block)  # what is mapped counts as memory
        try:
            for hashes in both:
                hashes["id"].update(file.ids)
            digest = combine(mine)
        except UnicodeDecodeError:
            digest = ""
        whole = whole or {name: each.copy() for name, each in mine.items()}
        own.append(digest)
        if digest != file.content_hash:
            altered.append(file.path)
    return ReadThrough("" if altered else combine(whole), own, altered)


def _shard(folder: Path, shard: Shard, manifest: Manifest) -> StoredVectors:
    """A folder's shard, after checking that it is the one the manifest names."""
    path = folder / shard.file
    if not path.is_file():
        raise CorruptError(f"{folder} lacks its shard {shard.file}; the same `lookalike embed` makes it again.")
    try:
        stored = StoredVectors.read(path)
    except InputError as error:
        raise CorruptError(error.message) from None
    made_from = {name: value for name, value in {**manifest.made_from, "samples": shard.samples}.items() if value}
    told = (shard.content_hash, shard.n, manifest.layer, made_from)
    if (stored.content_hash, stored.shape[0], stored.layer, stored.made_from) != told:
        raise CorruptError(f"{path} is not the shard that {folder} was made with; embed again.")
    return stored


def _state(file: IO[bytes]) -> tuple[int, ...]:
    """What changes where an open file is replaced or written to."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _place(data: h5py.Dataset, ids: NDArray[Any]) -> tuple[int, tuple[int, int], np.dtype[Any]]:
    """Where the vectors lie in the file, their shape (N, D) and type; ValueError where they cannot be mapped."""
    shape, dtype, offset = data.shape, data.dtype, data.id.get_offset()
    if len(shape) != 2 or ids.shape != shape[:1] or ids.dtype.kind != "S" or dtype.name not in DTYPES:
        msg = f"vectors {shape} {dtype} with ids {ids.shape} {ids.dtype}"
        raise ValueError(msg)
    if offset is None:
        msg = "its vectors are not stored in one piece"
        raise ValueError(msg)
    return offset, shape, dtype
