"""Writing a samples file: blocks of objects are appended, and the shard appears complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import CATALOG, FEATURES, IMAGES, PARTICLES, About, Column, check_id
from lookalike.attributes import set_texts
from lookalike.errors import InputError
from lookalike.files import atomic_path, file_output, lock, write_point
from lookalike.hashing import ArrayHash, combine
from lookalike.hdf5_output import Hdf5Output
from lookalike.origins import Origins, Rows
from lookalike.provenance import drop_record, refuse_loss
from lookalike.samples import COUNT, KIND, KINDS, SCHEMA, count_missing, place

CHUNK_BYTES = 256 * 1024
PENDING_ROWS = 65536  # catalog rows held in memory before they are written
CATALOG_CHUNK = 8192  # rows of a catalog column in one chunk, small enough to read for a single value


class SamplesWriter:
    """Appends blocks of objects to a new shard; use through `write_samples`, which makes it atomic.

    Memory holds one block and at most PENDING_ROWS catalog rows, however many objects there are, but for the ids
    when the file is closed.
    """

    def __init__(self, path: Path, about: About, columns: Mapping[str, Column]) -> None:
        if "id" in columns:
            raise InputError("A catalog column may not be called 'id', which names the objects themselves; rename it.")
        if odd := [name for name in columns if "/" in name or "\0" in name or not name.strip(".")]:
            raise InputError(f"A catalog column has a name without '/', but {odd[0]!r} was given; rename it.")
        self.about, self.columns = about, dict(columns)
        self._file = Hdf5Output(path)
        self._hashes: dict[str, ArrayHash] = {}
        self._kinds: dict[str, str] = {}
        self._missing = dict.fromkeys(self.columns, 0)
        self._pending: dict[str, list[NDArray[Any]]] = {name: [] for name in ("id", *self.columns)}
        self._pending_rows = 0
        self._origins = Origins()
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def append(
        self,
        ids: Sequence[str],
        objects: NDArray[Any] | None,
        catalog: Mapping[str, NDArray[Any]],
        rows: Rows | None = None,
    ) -> None:
        """Add objects: ids (N,), what is stored of each (N, *shape), one catalog array (N,) per declared column.

        objects : of the description's layout, images (N, C, H, W) float32 or uint8, particles (N, P, F) float32 or
                  features (N, F) float32; None where nothing but the catalog is stored.
        rows    : where they come from, by which a repeated id is told.
        A column is float64, int64 or text from its first block on. Raises InputError for anything else, and for an
        id that breaks the rule; one that occurs in two blocks is found when the file is closed. OSError where the disk
        is full.
        """
        check_objects(objects, self.about)
        if objects is not None and len(ids) != len(objects):
            raise InputError(f"One object per id is needed: {len(ids)} ids, {len(objects)} {self.about.layout}.")
        if set(catalog) != set(self.columns):
            raise InputError(f"Columns {sorted(self.columns)} are declared, but {sorted(catalog)} were given.")
        if not len(ids):
            return
        named = np.array([check_id(name) for name in ids], dtype="S")
        self._origins.add(len(ids), rows)
        self._origins.refuse_repeated(named, self._n)
        columns = {"id": named} | {name: self._storable(name, values) for name, values in catalog.items()}
        for name, values in columns.items():
            if values.shape != (len(ids),):
                raise InputError(
                    f"Column {name!r} needs one value per object, {(len(ids),)}, but has the shape {values.shape}."
                )
        if objects is not None:
            self._append_objects(objects)
        for name, values in columns.items():
            self._pending[name].append(values)
        self._n += len(ids)
        self._pending_rows += len(ids)
        if self._pending_rows >= PENDING_ROWS:
            self._write_catalog()
        self._file.check()

    def _storable(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """A catalog column as HDF5 keeps it, of the kind its first block had."""
        stored = _storable(name, np.asarray(values))
        first = self._kinds.setdefault(name, stored.dtype.kind)
        if stored.dtype.kind != first:
            raise InputError(
                f"A column holds one kind of values, but {name!r} holds {KINDS[first]} first, then "
                f"{KINDS[stored.dtype.kind]}."
            )
        return stored

    def _write_catalog(self, *, last: bool = False) -> None:
        """Move the pending ids and catalog rows to the file; a catalog that is written at once is contiguous."""
        for name, blocks in self._pending.items():
            values = np.concatenate(blocks)
            where = place(name)
            self._hashes.setdefault(where, ArrayHash()).update(values)
            if name in self._missing:
                self._missing[name] += count_missing(values)
            if where not in self._file:
                growing = {} if last else {"maxshape": (None,), "chunks": (CATALOG_CHUNK,)}
                self._file.create_dataset(where, data=values, **growing)
            else:
                _extend(self._file, where, values)
            blocks.clear()
        self._pending_rows = 0

    def _append_objects(self, objects: NDArray[Any]) -> None:
        name = self.about.layout
        if name not in self._file:
            rows = max(1, min(CHUNK_BYTES // max(1, objects[0].nbytes), 256 if name == IMAGES else CATALOG_CHUNK))
            shape, tail = (0, *objects.shape[1:]), objects.shape[1:]
            self._file.create_dataset(name, shape, objects.dtype, maxshape=(None, *tail), chunks=(rows, *tail))
        stored = self._file[name]
        if stored.shape[1:] != objects.shape[1:] or stored.dtype != objects.dtype:
            raise InputError(
                f"All {name} of a shard share one shape and type: {stored.shape[1:]} {stored.dtype} came first, "
                f"then {objects.shape[1:]} {objects.dtype}."
            )
        self._grow(name, objects)
        if name == PARTICLES:
            counts = (objects[:, :, 0] != 0).sum(axis=1)
            if COUNT not in self._file:
                self._file.create_dataset(COUNT, (0,), np.int64, maxshape=(None,), chunks=(CATALOG_CHUNK,))
            self._grow(COUNT, counts)
        write_point("samples.append")

    def _grow(self, name: str, values: NDArray[Any]) -> None:
        stored = self._file[name]
        stored.resize(len(stored) + len(values), axis=0)
        stored[len(stored) - len(values) :] = values
        self._hashes.setdefault(name, ArrayHash()).update(values)

    def close(self) -> str:
        """Write what is pending and the attributes; return the content hash. InputError for a repeated id."""
        if not self._n:
            raise InputError("No object to store: every one was refused or the source is empty.", code="no_objects")
        if self._pending_rows:
            self._write_catalog(last=True)
        self._origins.refuse_repeated(self._file["id"][:])
        for name, column in self.columns.items():
            texts = {"unit": column.unit, "description": column.description, "ucd": column.ucd}
            set_texts(self._file[place(name)], texts)
            self._file[place(name)].attrs["missing"] = self._missing[name]
        about = self.about.model_dump(mode="json")
        digest = combine(self._hashes, about)
        self._file.attrs["schema"] = SCHEMA
        set_texts(self._file, {"kind": KIND, "about": json.dumps(about), "content_hash": digest})
        self._file.close()
        return digest

    def abandon(self) -> None:
        self._file.close()


def check_objects(objects: NDArray[Any] | None, about: About) -> None:
    """InputError where stored arrays (N, *shape) are not of the description's layout, type and names, or not sound."""
    names, told = len(about.bands), ", ".join(about.bands)
    if objects is None or about.layout == CATALOG:
        if objects is not None or about.layout != CATALOG:
            given = "nothing" if objects is None else f"an array {objects.shape} {objects.dtype}"
            wanted = "nothing" if about.layout == CATALOG else f"an array of {about.layout}"
            raise InputError(f"Samples of layout {about.layout!r} store {wanted} per block, but {given} was given.")
        return
    if about.layout == IMAGES:
        if objects.dtype not in (np.float32, np.uint8):
            raise InputError(f"Images are stored as float32 or uint8, but {objects.dtype} was given.")
        if objects.ndim != 4 or objects.shape[1] != names:
            raise InputError(
                f"Images have the shape (N, C, H, W) with C = {names} bands ({told}), but {objects.shape} was given."
            )
        if objects.dtype == np.float32 and not np.isfinite(objects).all():
            raise InputError("Stored images hold finite values only; mask NaN pixels first (fill_masked).")
        return
    if objects.dtype != np.float32:
        raise InputError(f"{about.layout.capitalize()} are stored as float32, but {objects.dtype} was given.")
    shape = "(N, P, F)" if about.layout == PARTICLES else "(N, F)"
    if objects.ndim != shape.count(",") + 1 or objects.shape[-1] != names:
        raise InputError(
            f"{about.layout.capitalize()} have the shape {shape} with F = {names} numbers ({told}), "
            f"but {objects.shape} was given."
        )
    if about.layout == FEATURES:
        if np.isinf(objects).any():
            raise InputError("Stored features are finite, or NaN where undefined, but some are infinite.")
        return
    if not np.isfinite(objects).all():
        raise InputError("Stored particles hold finite values only; leave out those that are undefined.")
    real = objects[:, :, 0] > 0  # (N, P)
    if objects[~real].any() or (real[:, 1:] & ~real[:, :-1]).any():
        raise InputError(
            f"Particles have a first number ({about.bands[0]}) above 0, and zeros follow the last one; "
            f"object {int(np.flatnonzero(_unsound(objects, real))[0])} of the block breaks that."
        )


def _unsound(objects: NDArray[Any], real: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The objects (N,) with a particle behind a gap, or with a gap that is not zeros."""
    behind = (real[:, 1:] & ~real[:, :-1]).any(axis=1)
    unsound = behind | (objects.any(axis=2) & ~real).any(axis=1)
    return np.asarray(unsound)


@contextmanager
def write_samples(
    path: Path, about: About, columns: Mapping[str, Column], *, replace: bool = True
) -> Iterator[SamplesWriter]:
    """Yield a writer whose file appears under `path` complete or not at all, without an older file's record.

    replace : whether a file there may be lost; if not, one of other content is kept, and an InputError raised.
    """
    file_output(path)
    with lock(path), atomic_path(path) as temporary:
        writer = SamplesWriter(temporary, about, columns)
        try:
            yield writer
            digest = writer.close()
            if not replace:
                refuse_loss(path, digest)
            drop_record(path)
        except BaseException:
            writer.abandon()
            raise


def _storable(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A catalog column as float64, int64 or UTF-8 bytes."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind in "iub":
        if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
            raise InputError(f"Column {name!r} holds integers above 2^63 - 1; keep them as text.")
        return values.astype(np.int64)
    return np.char.encode(values.astype(str), "utf-8")


def _extend(file: Hdf5Output, where: str, values: NDArray[Any]) -> None:
    """Add rows to a growing data set; texts longer than all before need it copied to a wider type."""
    data = file[where]
    if values.dtype.itemsize > data.dtype.itemsize:
        wide = file.create_dataset("wider", data.shape, values.dtype, maxshape=(None,), chunks=data.chunks)
        for start in range(0, len(data), PENDING_ROWS):
            wide[start : start + PENDING_ROWS] = data[start : start + PENDING_ROWS].astype(values.dtype)
        del file[where]
        file.move("wider", where)
        data = file[where]
    data.resize(len(data) + len(values), axis=0)
    data[len(data) - len(values) :] = values
