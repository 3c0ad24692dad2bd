"""Embeddings files: one normalized vector per object, in HDF5, with the hashes of what made them.

`/embedding` (N, D) float32 or float16, normalized in float64 before storing; `/id` (N,). A user's own vectors
are as good as ours: `write_embeddings` takes any (N, D) array.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import as_text, set_texts
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import atomic_path, file_output, lock, write_point
from lookalike.hashing import ArrayHash, combine
from lookalike.provenance import drop_record

SCHEMA = 1
KIND = "lookalike embeddings"
DTYPES = ("float32", "float16")


def normalize(vectors: NDArray[Any], first_row: int = 0) -> NDArray[np.float64]:
    """Vectors (N, D) scaled to length 1 in float64; a zero or non-finite one is an InputError naming its rows."""
    wide = np.asarray(vectors, dtype=np.float64)
    if wide.ndim != 2:
        raise InputError(f"Vectors have the shape (N, D), but {wide.shape} was given.")
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))  # (N,)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(bad):
        rows = ", ".join(str(first_row + row) for row in bad[:5]) + (", …" if len(bad) > 5 else "")
        raise InputError(f"{len(bad)} vectors are zero or not finite and have no direction: rows {rows}.")
    unit: NDArray[np.float64] = wide / length[:, None]
    return unit


def write_embeddings(
    path: Path,
    ids: NDArray[np.bytes_],
    blocks: Iterator[NDArray[Any]],
    *,
    dimensions: int,
    dtype: str = "float32",
    made_from: dict[str, str] | None = None,
    layer: str = "",
) -> str:
    """Write vectors given as consecutive blocks (n, D) for ids (N,) of ASCII bytes; returns the content hash.

    dimensions : D.
    dtype      : "float32" or "float16", as which the unit vectors are stored.
    made_from  : content hashes by name ("samples", "checkpoint").
    layer      : output of the encoder that the vectors are, "" where no encoder made them.

    `made_from` and `layer` are stored and compared later, but are no part of the content hash, which is that of
    the vectors and ids alone. Raises InputError, and writes nothing, where a vector is zero or not finite, a block
    has another shape, or there is not one vector per id.
    """
    if dtype not in DTYPES:
        raise InputError(f"Embeddings are stored as {' or '.join(DTYPES)}, but {dtype!r} was given.")
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind != "S" or not len(ids):
        raise InputError(f"Ids are one array (N,) of ASCII bytes, but {ids.shape} {ids.dtype} was given.")
    file_output(path)
    hashes = {"embedding": ArrayHash(), "id": ArrayHash()}
    with lock(path), atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_dataset("embedding", (len(ids), dimensions), dtype)
        start = 0
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dimensions:
                raise InputError(f"Vectors have the shape (n, {dimensions}), but {block.shape} was given.")
            if start + len(block) > len(ids):
                raise InputError(
                    f"One vector per id is needed: {len(ids)} ids, but at least {start + len(block)} vectors."
                )
            rows = normalize(block, start).astype(dtype)
            data[start : start + len(rows)] = rows
            hashes["embedding"].update(rows)
            start += len(rows)
            write_point("embeddings.block")
        if start != len(ids):
            raise InputError(f"One vector per id is needed: {len(ids)} ids, {start} vectors.")
        file.create_dataset("id", data=ids)
        hashes["id"].update(ids)
        digest = combine(hashes)
        file.attrs["schema"] = SCHEMA
        set_texts(file, {"kind": KIND, "content_hash": digest, "layer": layer})
        set_texts(file, {f"{name}_hash": value for name, value in (made_from or {}).items()})
        drop_record(path)
    return digest


class Embeddings:
    """An embeddings file, memory-mapped read-only: `vectors` (N, D) and `ids` (N,).

    `made_from` holds the content hashes of the samples and checkpoint it was made from, as far as it names them;
    `layer` the encoder's output, "" where none is named. InputError for another kind of file, CorruptError for a
    damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise NotFoundError(f"No such file: {path}")
        try:
            with h5py.File(path, "r", locking=False) as file:
                if as_text(file.attrs.get("kind")) != KIND:
                    raise InputError(f"{path} is not an embeddings file; make one with `lookalike embed`.")
                if file.attrs["schema"] != SCHEMA:
                    raise InputError(f"{path} has schema {file.attrs['schema']}; this version reads schema {SCHEMA}.")
                self.ids: NDArray[np.bytes_] = file["id"][:]
                self.content_hash = as_text(file.attrs["content_hash"])
                self.layer = as_text(file.attrs.get("layer", ""))
                self.made_from = {
                    name: as_text(file.attrs[f"{name}_hash"])
                    for name in ("samples", "checkpoint")
                    if f"{name}_hash" in file.attrs
                }
                offset, shape, dtype = _place(file["embedding"], self.ids)
            # The data set is contiguous, so that it maps straight from the file, shared between processes.
            self.vectors: NDArray[Any] = np.memmap(path, dtype, "r", offset, shape)
        except (
            OSError,
            KeyError,
            ValueError,
            TypeError,
            RuntimeError,
            AttributeError,
        ) as error:  # as HDF5 meets damage
            raise CorruptError(f"{path} is not a readable embeddings file ({error}); embed again.") from None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])

    def verify(self) -> None:
        """Recompute the content hash; CorruptError if a byte was altered."""
        hashes = {"embedding": ArrayHash(), "id": ArrayHash()}
        for start in range(0, len(self), 65536):
            hashes["embedding"].update(self.vectors[start : start + 65536])
        try:
            hashes["id"].update(self.ids)
        except UnicodeDecodeError:
            altered = True
        else:
            altered = combine(hashes) != self.content_hash
        if altered:
            raise CorruptError(f"{self.path} was altered: its content hash is not the recorded one; embed again.")


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
