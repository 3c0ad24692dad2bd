"""Samples files: the stored objects of a data set with their catalog, in HDF5, one or more shards.

Layout of a shard: `/images` (N, C, H, W) float32 flux or uint8, `/id` (N,), `/catalog/<column>` (N,) with
attributes unit, description, ucd; file attributes hold the schema version, what the data are (`About`) and the
content hash. A shard is written once, through `SamplesWriter`, and afterwards only read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lookalike.attributes import as_text, set_texts
from lookalike.config import Config
from lookalike.errors import CorruptError, InputError, NotFoundError, unknown
from lookalike.files import atomic_path, existing_files, file_output, lock, write_point
from lookalike.hashing import ArrayHash, combine, combine_shards
from lookalike.provenance import drop_record

SCHEMA = 1
KIND = "lookalike samples"
ID_LENGTH = 64
ID_PATTERN = re.compile(rf"[A-Za-z0-9._:+-]{{1,{ID_LENGTH}}}")
CHUNK_BYTES = 256 * 1024
PENDING_ROWS = 65536  # catalog rows held in memory before they are written
CATALOG_CHUNK = 8192  # rows of a catalog column in one chunk, small enough to read for a single value
KINDS = {"f": "fractions", "i": "whole numbers", "S": "texts"}
MASKED_LIMIT = 0.05  # an object with more masked or NaN pixels than this is refused


@dataclass(frozen=True)
class Column:
    """What a catalog column holds: its unit (`""` for none), one sentence, and a UCD where one exists."""

    unit: str = ""
    description: str = ""
    ucd: str = ""


class About(Config):
    """What the stored arrays are; saved as attributes, and part of the content hash.

    `origin` says whether image row 0 is drawn at the bottom (`lower`, FITS) or top (`upper`, PNG and JPEG).
    `pixel_scale` is in arcsec/px, None where unknown. `survey` holds what the source knows of its own noise and
    blur, for the domain's default augmentations. `preprocess` is what ingestion did to the pixels (resizing),
    so that it can be done to an uploaded picture.
    """

    domain: str
    bands: tuple[str, ...]
    unit: str = ""
    pixel_scale: float | None = None
    origin: Literal["lower", "upper"] = "upper"
    source: str = ""
    license: str = ""
    survey: dict[str, Any] = Field(default_factory=dict)
    preprocess: dict[str, Any] = Field(default_factory=dict)


def is_id(text: str) -> bool:
    """Whether a text follows the rule of ids."""
    return bool(ID_PATTERN.fullmatch(text)) and set(text) != {"."}  # an address would swallow `.` and `..`


def check_id(text: str) -> str:
    """The id itself if it follows the rule, else an InputError."""
    if not is_id(text):
        raise InputError(f"An id is 1 to 64 characters of A-Z a-z 0-9 . _ : + -, but {text!r} was given.")
    return text


def id_from_name(name: str) -> str:
    """A file's relative path made an id: its ending dropped, other characters replaced by `_`.

    InputError that names the file where none can be made of it.
    """
    path = Path(name)
    stem = str(path.with_suffix("")) if path.name else name
    made = re.sub(r"[^A-Za-z0-9._:+-]", "_", stem)
    if not is_id(made):
        raise InputError(
            f"An id is 1 to {ID_LENGTH} characters, but the name {name!r} makes one of {len(made)}; name a catalog "
            "column with --id-column, or give shorter names."
        )
    return made


def fill_masked(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Set non-finite pixels of (N, C, H, W) to 0; also return each object's masked fraction (N,)."""
    bad = ~np.isfinite(images)
    return np.where(bad, np.float32(0), images), bad.mean(axis=(1, 2, 3), dtype=np.float64)


class SamplesWriter:
    """Appends blocks of objects to a new shard; use through `write_samples`, which makes it atomic.

    Memory holds one block and at most PENDING_ROWS catalog rows, however many objects there are, but for the ids
    when the file is closed.
    """

    def __init__(self, path: Path, about: About, columns: Mapping[str, Column]) -> None:
        if "id" in columns:
            raise InputError("A catalog column may not be called 'id', which names the objects themselves; rename it.")
        self.about, self.columns = about, dict(columns)
        self._file = h5py.File(path, "w")
        self._hashes: dict[str, ArrayHash] = {}
        self._kinds: dict[str, str] = {}
        self._pending: dict[str, list[NDArray[Any]]] = {name: [] for name in ("id", *self.columns)}
        self._pending_rows = 0
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def append(self, ids: Sequence[str], images: NDArray[Any], catalog: Mapping[str, NDArray[Any]]) -> None:
        """Add objects: ids (N,), images (N, C, H, W) float32 or uint8, one catalog array (N,) per declared column.

        A column is float64, int64 or text from its first block on. Raises InputError for anything else, and for an
        id that breaks the rule; one that occurs in two blocks is found when the file is closed.
        """
        if images.dtype not in (np.float32, np.uint8):
            raise InputError(f"Images are stored as float32 or uint8, but {images.dtype} was given.")
        if images.ndim != 4 or images.shape[1] != len(self.about.bands):
            raise InputError(
                f"Images have the shape (N, C, H, W) with C = {len(self.about.bands)} bands "
                f"({', '.join(self.about.bands)}), but {images.shape} was given."
            )
        if len(ids) != len(images):
            raise InputError(f"One image per id is needed: {len(ids)} ids, {len(images)} images.")
        if images.dtype == np.float32 and not np.isfinite(images).all():
            raise InputError("Stored images hold finite values only; mask NaN pixels first (fill_masked).")
        if set(catalog) != set(self.columns):
            raise InputError(f"Columns {sorted(self.columns)} are declared, but {sorted(catalog)} were given.")
        if not len(ids):
            return
        named = np.array([check_id(name) for name in ids], dtype="S")
        _check_unique(named)
        rows = {"id": named} | {name: self._storable(name, values) for name, values in catalog.items()}
        for name, values in rows.items():
            if values.shape != (len(ids),):
                raise InputError(
                    f"Column {name!r} needs one value per object, {(len(ids),)}, but has the shape {values.shape}."
                )
        self._append_images(images)
        for name, values in rows.items():
            self._pending[name].append(values)
        self._n += len(ids)
        self._pending_rows += len(ids)
        if self._pending_rows >= PENDING_ROWS:
            self._write_catalog()

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
            where = _where(name)
            self._hashes.setdefault(where, ArrayHash()).update(values)
            if where not in self._file:
                growing = {} if last else {"maxshape": (None,), "chunks": (CATALOG_CHUNK,)}
                self._file.create_dataset(where, data=values, **growing)
            else:
                _extend(self._file, where, values)
            blocks.clear()
        self._pending_rows = 0

    def _append_images(self, images: NDArray[Any]) -> None:
        if "images" not in self._file:
            row_bytes = images[0].nbytes if len(images) else 1
            rows = max(1, min(CHUNK_BYTES // row_bytes, 256))
            shape, tail = (0, *images.shape[1:]), images.shape[1:]
            self._file.create_dataset("images", shape, images.dtype, maxshape=(None, *tail), chunks=(rows, *tail))
            self._hashes["images"] = ArrayHash()
        stored = self._file["images"]
        if stored.shape[1:] != images.shape[1:] or stored.dtype != images.dtype:
            raise InputError(
                f"All images of a shard share one shape and type: {stored.shape[1:]} {stored.dtype} came first, "
                f"then {images.shape[1:]} {images.dtype}."
            )
        stored.resize(len(stored) + len(images), axis=0)
        stored[len(stored) - len(images) :] = images
        self._hashes["images"].update(images)
        write_point("samples.append")

    def close(self) -> str:
        """Write what is pending and the attributes; return the content hash. InputError for a repeated id."""
        if not self._n:
            raise InputError("No object to store: every one was refused or the source is empty.")
        if self._pending_rows:
            self._write_catalog(last=True)
        _check_unique(self._file["id"][:])
        for name, column in self.columns.items():
            texts = {"unit": column.unit, "description": column.description, "ucd": column.ucd}
            set_texts(self._file[_where(name)], texts)
        about = self.about.model_dump(mode="json")
        digest = combine(self._hashes, about)
        self._file.attrs["schema"] = SCHEMA
        set_texts(self._file, {"kind": KIND, "about": json.dumps(about), "content_hash": digest})
        self._file.close()
        return digest

    def abandon(self) -> None:
        self._file.close()


@contextmanager
def write_samples(path: Path, about: About, columns: Mapping[str, Column]) -> Iterator[SamplesWriter]:
    """Yield a writer whose file appears under `path` complete or not at all, without an older file's record."""
    file_output(path)
    with lock(path), atomic_path(path) as temporary:
        writer = SamplesWriter(temporary, about, columns)
        try:
            yield writer
            writer.close()
            drop_record(path)
        except BaseException:
            writer.abandon()
            raise


def _where(name: str) -> str:
    return name if name == "id" else f"catalog/{name}"


def _storable(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A catalog column as float64, int64 or UTF-8 bytes."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind in "iub":
        if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
            raise InputError(f"Column {name!r} holds integers above 2^63 - 1; keep them as text.")
        return values.astype(np.int64)
    return np.char.encode(values.astype(str), "utf-8")


def _extend(file: h5py.File, where: str, values: NDArray[Any]) -> None:
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


def _check_unique(ids: NDArray[np.bytes_]) -> None:
    ordered = np.sort(ids)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise InputError(f"Ids must be unique, but {ordered[twice[0]].decode()!r} occurs twice.", code="duplicate_id")


class Samples:
    """One data set read from its shards: lazily, read-only, each process with handles of its own.

    Rows run through the shards in natural order of their file names. Pickling drops the handles.
    """

    def __init__(self, paths: Sequence[Path | str] | Path | str) -> None:
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        self.paths = existing_files([Path(path) for path in given])
        shards = [_read_header(path) for path in self.paths]
        first = shards[0]
        for path, shard in zip(self.paths[1:], shards[1:], strict=True):
            _check_same(path, shard, self.paths[0], first)
        self.about = first.about
        self.columns = first.columns
        self.image_shape: tuple[int, int, int] = first.shape  # C, H, W
        self.image_dtype = first.dtype
        self.content_hash = combine_shards(shard.content_hash for shard in shards)
        self._starts = np.cumsum([0, *(shard.n for shard in shards)])
        self._files: dict[int, h5py.File] = {}
        self._process = os.getpid()
        self._ids: NDArray[np.bytes_] | None = None
        self._id_order: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    @property
    def ids(self) -> NDArray[np.bytes_]:
        """All ids (N,) as ASCII bytes, in row order."""
        if self._ids is None:
            self._ids = self._whole("id")
        return self._ids

    def id(self, row: int) -> str:
        return str(self.ids[row].decode())

    def row(self, name: str) -> int:
        """The row of an id; NotFoundError if there is none."""
        if self._id_order is None:
            order = np.argsort(self.ids, kind="stable")
            ordered = self.ids[order]
            twice = np.flatnonzero(ordered[1:] == ordered[:-1])
            if len(twice):
                msg = f"Ids must be unique, but {ordered[twice[0]].decode()!r} occurs in two shards."
                raise InputError(msg, code="duplicate_id")
            self._id_order = order
        wanted = np.bytes_(name.encode())
        place = int(np.searchsorted(self.ids, wanted, sorter=self._id_order))
        if place == len(self) or self.ids[row := int(self._id_order[place])] != wanted:
            raise NotFoundError(
                f"No object has the id {name!r}; this data set holds {len(self):,} objects.",
                code="unknown_id",
            )
        return row

    def column(self, name: str) -> NDArray[Any]:
        """One catalog column (N,): float64, int64, or str objects."""
        if name not in self.columns:
            raise unknown("column", name, self.columns)
        values = self._whole(f"catalog/{name}")
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values

    def _whole(self, where: str) -> NDArray[Any]:
        """A catalog data set of all shards, one after the other."""
        parts = []
        for shard, path in enumerate(self.paths):
            with _damage(path):
                parts.append(self._shard(shard)[where][:])
        return np.concatenate(parts)

    def values(self, name: str, rows: NDArray[np.integer[Any]] | Sequence[int]) -> NDArray[Any]:
        """One catalog column at some rows (n,), read from the file one by one; types as in `column`."""
        if name not in self.columns:
            raise unknown("column", name, self.columns)
        wanted = np.asarray(rows, dtype=np.int64)
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        inside = (wanted - self._starts[shard_of]).tolist()
        data = {shard: self._shard(shard)[f"catalog/{name}"] for shard in {0, *shard_of.tolist()}}
        found = []
        for shard, row in zip(shard_of.tolist(), inside, strict=True):
            with _damage(self.paths[shard]):
                found.append(data[shard][row])
        values = np.array(found) if found else np.empty(0, data[0].dtype)
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values

    def images(self, rows: NDArray[np.integer[Any]] | Sequence[int] | slice) -> NDArray[Any]:
        """Stored images (B, C, H, W) of the given rows, in the order given; duplicates are allowed."""
        if isinstance(rows, slice):
            rows = range(*rows.indices(len(self)))
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise InputError(f"Rows run from 0 to {len(self) - 1}, but {wanted.min()}..{wanted.max()} was given.")
        out = np.empty((len(wanted), *self.image_shape), self.image_dtype)
        distinct, places = np.unique(wanted, return_inverse=True)
        shard_of = np.searchsorted(self._starts, distinct, side="right") - 1
        for shard in np.unique(shard_of):
            inside = np.flatnonzero(shard_of == shard)
            block = self._read(int(shard), distinct[inside] - self._starts[shard])
            member = np.isin(places, inside)
            out[member] = block[places[member] - inside[0]]
        return out

    def blocks(self, rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """All images in order, `rows` at a time, each with the row it starts at."""
        for start in range(0, len(self), rows):
            yield start, self.images(slice(start, start + rows))

    def _read(self, shard: int, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of one shard, increasing and distinct; a run is one slice, since point selections are slow."""
        images = self._shard(shard)["images"]
        with _damage(self.paths[shard]):
            if rows[-1] - rows[0] < 4 * len(rows):
                return images[int(rows[0]) : int(rows[-1]) + 1][rows - rows[0]]  # type: ignore[no-any-return]
            return np.stack([images[int(row)] for row in rows])

    def _shard(self, index: int) -> h5py.File:
        if self._process != os.getpid():  # an HDF5 handle must not cross a fork
            self._files, self._process = {}, os.getpid()
        if index not in self._files:
            self._files[index] = _open(self.paths[index])
        return self._files[index]

    def verify(self) -> None:
        """Recompute the content hash of every shard; CorruptError names one whose bytes were altered."""
        about = self.about.model_dump(mode="json")
        for index, path in enumerate(self.paths):
            with _damage(path):
                file = self._shard(index)
                hashes = {}
                for where in ("images", "id", *(_where(name) for name in self.columns)):
                    rows = 1024 if where == "images" else PENDING_ROWS
                    hashes[where] = ArrayHash()
                    for start in range(0, len(file[where]), rows):
                        hashes[where].update(file[where][start : start + rows])
                altered = combine(hashes, about) != as_text(file.attrs["content_hash"])
            if altered:
                raise CorruptError(f"{path} was altered: its content hash is not the recorded one; ingest it again.")


@dataclass(frozen=True)
class _Header:
    about: About
    columns: dict[str, Column]
    kinds: dict[str, str]
    n: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    content_hash: str


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise CorruptError(f"{path} is not a readable HDF5 file: {error}") from None


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises on a damaged file into a CorruptError that names the file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path} cannot be read ({error}); ingest it again.") from None


def _read_header(path: Path) -> _Header:
    with _open(path) as file, _damage(path):
        if as_text(file.attrs.get("kind")) != KIND:
            raise InputError(f"{path} is not a samples file; make one with `lookalike ingest`.")
        if file.attrs["schema"] != SCHEMA:
            raise InputError(f"{path} has schema {file.attrs['schema']}; this version reads schema {SCHEMA}.")
        catalog = dict(file["catalog"].items()) if "catalog" in file else {}
        texts = ("unit", "description", "ucd")
        columns = {name: Column(*(as_text(data.attrs[text]) for text in texts)) for name, data in catalog.items()}
        images, about = file["images"], _about(json.loads(as_text(file.attrs["about"])))
        for name, data in {"id": file["id"], **catalog}.items():
            if data.shape != images.shape[:1] or data.dtype.kind not in ("S" if name == "id" else KINDS):
                msg = f"{name!r} is {data.shape} {data.dtype}, images are {images.shape}"
                raise ValueError(msg)
        if len(images.shape) != 4 or images.shape[1] != len(about.bands) or images.dtype not in (np.float32, np.uint8):
            msg = f"images are {images.shape} {images.dtype}"
            raise ValueError(msg)
        return _Header(
            about,
            columns,
            {name: data.dtype.kind for name, data in catalog.items()},
            len(images),
            images.shape[1:],
            images.dtype,
            as_text(file.attrs["content_hash"]),
        )


def _about(stored: dict[str, Any]) -> About:
    """The description of a file of this schema; ValueError where it is none."""
    try:
        return About.checked(stored)
    except InputError as error:
        raise ValueError(error.message) from None


def _check_same(path: Path, shard: _Header, first_path: Path, first: _Header) -> None:
    """InputError where two shards cannot be one data set."""
    if (shard.about, shard.shape, shard.dtype) != (first.about, first.shape, first.dtype):
        raise InputError(f"{path} does not belong with {first_path}: bands, sizes or sources differ.")
    if set(shard.columns) != set(first.columns):
        odd = sorted(set(shard.columns) ^ set(first.columns))
        raise InputError(f"{path} and {first_path} have different catalog columns: {', '.join(odd)}.")
    for name, column in shard.columns.items():
        known = first.columns[name]
        if column.unit != known.unit:
            raise InputError(
                f"Shards share their units, but {name!r} is in {column.unit or 'no unit'} in {path} and in "
                f"{known.unit or 'no unit'} in {first_path}."
            )
        if shard.kinds[name] != first.kinds[name]:
            raise InputError(
                f"Shards share their columns' types, but {name!r} holds {KINDS[shard.kinds[name]]} in {path} and "
                f"{KINDS[first.kinds[name]]} in {first_path}."
            )
        if column != known:
            raise InputError(
                f"Shards describe their columns alike, but {name!r} is {_told(column)} in {path} and {_told(known)} "
                f"in {first_path}."
            )


def _told(column: Column) -> str:
    return repr(" ".join(part for part in (column.description, column.ucd) if part))
