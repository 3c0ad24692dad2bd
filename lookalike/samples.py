"""Samples files: the stored objects of a data set with their catalog, in HDF5, one or more shards.

Layout of a shard: `/images` (N, C, H, W) float32 flux or uint8, or `/particles` (N, P, F) float32 with `/n_particles`
(N,), or `/features` (N, F) float32, or none of these; `/id` (N,), `/catalog/<column>` (N,) with attributes unit,
description, ucd; file attributes hold the schema version, what the data are (`About`) and the content hash. A shard is
written once, by `samples_writer`, and afterwards only read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.about import CATALOG, IMAGES, PARTICLES, About, Column
from lookalike.attributes import as_text
from lookalike.errors import CorruptError, InputError, NotFoundError, unknown
from lookalike.files import existing_files
from lookalike.hashing import ArrayHash, combine, combine_shards
from lookalike.hints import ingest_command, is_foreign
from lookalike.near_ids import NearIds
from lookalike.wording import counted

__all__ = ["About", "Column", "Samples"]

SCHEMA = 1
KIND = "lookalike samples"
KINDS = {"f": "fractions", "i": "whole numbers", "S": "texts"}
AXES = {"images": 4, "particles": 3, "features": 2}
COUNT = "n_particles"
NOTHING = np.dtype("V0")  # the type of objects of which nothing is stored


def place(column: str) -> str:
    """Where a column lies within the file."""
    return column if column == "id" else f"catalog/{column}"


def count_missing(values: NDArray[Any]) -> int:
    """How many of a column's stored values (N,) are NaN or blank; whole numbers never are."""
    if values.dtype.kind == "f":
        return int(np.count_nonzero(np.isnan(values)))
    if values.dtype.kind != "S":
        return 0
    return int(np.count_nonzero(np.char.strip(np.char.decode(values, "utf-8", "replace")) == ""))


class Samples:
    """One data set read from its shards: lazily, read-only, each process with handles of its own.

    Rows run through the shards in natural order of their file names. Pickling drops the handles.
    """

    def __init__(self, paths: Sequence[Path | str] | Path | str) -> None:
        given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        for path in given:
            if path.is_dir() or (is_foreign(path) and path.exists()):
                what = "a folder" if path.is_dir() else "no samples file"
                raise InputError(f"Samples files are needed here, but {path} is {what}; {ingest_command(path)}.")
        self.paths = existing_files(given)
        shards = [_read_header(path) for path in self.paths]
        first = shards[0]
        for path, shard in zip(self.paths[1:], shards[1:], strict=True):
            _check_same(path, shard, self.paths[0], first)
        self.about = first.about
        self.columns = first.columns
        self.kinds = first.kinds
        self.layout = first.about.layout
        self.shape = first.shape  # (C, H, W), (P, F), (F,), or () where nothing is stored
        self.dtype = first.dtype
        self.content_hash = combine_shards(shard.content_hash for shard in shards)
        self._missing = [shard.missing for shard in shards]
        self._starts = np.cumsum([0, *(shard.n for shard in shards)])
        self._files: dict[int, h5py.File] = {}
        self._process = os.getpid()
        self._ids: NDArray[np.bytes_] | None = None
        self._order: NearIds | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def size(self) -> int:
        """The shorter side of a picture in px, the most particles of an object, or how many numbers it has."""
        if self.layout == CATALOG:
            return 0
        return min(self.shape[1:]) if self.layout == IMAGES else self.shape[0]

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
        """The row of an id; NotFoundError, which names those like it, if there is none."""
        if self._order is None:
            order = np.argsort(self.ids, kind="stable")
            ordered = self.ids[order]
            twice = np.flatnonzero(ordered[1:] == ordered[:-1])
            if len(twice):
                msg = f"Ids must be unique, but {ordered[twice[0]].decode()!r} occurs in two shards."
                raise InputError(msg, code="duplicate_id")
            self._order = NearIds(self.ids, order)
        if (row := self._order.row(name)) is None:
            raise NotFoundError(
                f"No object has the id {name!r}; this data set holds {counted(len(self), 'object')}. "
                f"{self._order.hint(name)}",
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
        return self._at(f"catalog/{name}", rows)

    def ids_at(self, rows: NDArray[np.integer[Any]] | Sequence[int]) -> list[str]:
        """The ids of some rows (n,), without holding all: of a large set these take gigabytes."""
        return [str(name) for name in self._at("id", rows)]

    def _at(self, where: str, rows: NDArray[np.integer[Any]] | Sequence[int]) -> NDArray[Any]:
        """Some rows (n,) of a catalog data set, read from the file one by one."""
        wanted = np.asarray(rows, dtype=np.int64)
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        inside = (wanted - self._starts[shard_of]).tolist()
        data: dict[int, h5py.Dataset] = {}
        found = []
        for shard, row in zip(shard_of.tolist(), inside, strict=True):
            with _damage(self.paths[shard]):
                if shard not in data:
                    data[shard] = self._shard(shard)[where]
                found.append(data[shard][row])
        values = np.array(found) if found else np.empty(0, self._shard(0)[where].dtype)
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values

    def column_blocks(self, names: Sequence[str], rows: int) -> Iterator[tuple[NDArray[Any], ...]]:
        """Columns of numbers in row order, at most so many rows at a time: one array (n,) for each name."""
        for name in names:
            if name not in self.columns:
                raise unknown("column", name, self.columns)
        for shard, path in enumerate(self.paths):
            n = int(self._starts[shard + 1] - self._starts[shard])
            for start in range(0, n, rows):
                with _damage(path):
                    catalog = self._shard(shard)["catalog"]
                    block = tuple(catalog[name][start : start + rows] for name in names)
                yield block

    def record(self, row: int) -> dict[str, Any]:
        """Every catalog column of one row, as NumPy scalars or str; each is opened in its file once."""
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        with _damage(self.paths[shard]):
            catalog, inside = self._shard(shard)["catalog"] if self.columns else {}, row - int(self._starts[shard])
            values = {name: catalog[name][inside] for name in self.columns}
            return {name: v.decode("utf-8") if isinstance(v, bytes) else v for name, v in values.items()}

    def missing(self) -> dict[str, int]:
        """How many objects have no value (NaN or a blank text) in each column, as was counted at writing."""
        return {name: self._missing_in(name) for name in self.columns}

    def _missing_in(self, name: str) -> int:
        counts = [missing[name] for missing in self._missing]
        known = [count for count in counts if count is not None]
        # Files of earlier versions do not say.
        return sum(known) if len(known) == len(counts) else count_missing(self._whole(f"catalog/{name}"))

    def objects(self, rows: NDArray[np.integer[Any]] | Sequence[int] | slice) -> NDArray[Any]:
        """What is stored of the given rows (B, *shape), in the order given; duplicates are allowed."""
        self._check_stored()
        if isinstance(rows, slice):
            rows = range(*rows.indices(len(self)))
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise InputError(f"Rows run from 0 to {len(self) - 1}, but {wanted.min()}..{wanted.max()} was given.")
        out = np.empty((len(wanted), *self.shape), self.dtype)
        distinct, places = np.unique(wanted, return_inverse=True)
        shard_of = np.searchsorted(self._starts, distinct, side="right") - 1
        for shard in np.unique(shard_of):
            inside = np.flatnonzero(shard_of == shard)
            block = self._read(int(shard), distinct[inside] - self._starts[shard])
            member = np.isin(places, inside)
            out[member] = block[places[member] - inside[0]]
        return out

    def _check_stored(self) -> None:
        """InputError where nothing is stored of the objects that could be drawn, trained on or embedded."""
        if self.layout == CATALOG:
            raise InputError(
                f"{self.paths[0]} holds ids and a catalog alone, no images, particles or features of its objects.",
                code="no_objects_stored",
            )

    def blocks(self, rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """All objects in order, `rows` at a time, each with the row it starts at."""
        for start in range(0, len(self), rows):
            yield start, self.objects(slice(start, start + rows))

    @property
    def shard_rows(self) -> list[range]:
        """The rows of each shard, in order."""
        return [range(int(a), int(b)) for a, b in zip(self._starts[:-1], self._starts[1:], strict=True)]

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Fill `out` (n, *shape), of the stored type, with the objects from row `start` on, which lie in one shard.

        Nothing is copied in between, which is several times as fast as `objects`.
        """
        self._check_stored()
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = start - int(self._starts[shard])
        with _damage(self.paths[shard]):
            self._shard(shard)[self.layout].read_direct(out, np.s_[first : first + len(out)])

    def _read(self, shard: int, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of one shard, increasing and distinct; a run is one slice, since point selections are slow."""
        stored = self._shard(shard)[self.layout]
        with _damage(self.paths[shard]):
            if rows[-1] - rows[0] < 4 * len(rows):
                return stored[int(rows[0]) : int(rows[-1]) + 1][rows - rows[0]]  # type: ignore[no-any-return]
            return np.stack([stored[int(row)] for row in rows])

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
                counts = [COUNT] if self.layout == PARTICLES else []
                stored = [] if self.layout == CATALOG else [self.layout]
                for where in (*stored, *counts, "id", *(place(name) for name in self.columns)):
                    rows = 1024 if where == self.layout else 65536
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
    missing: dict[str, int | None]
    n: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    content_hash: str


def read_kind(path: Path) -> str:
    """What an HDF5 file says it is; CorruptError where it cannot be read."""
    with _open(path) as file, _damage(path):
        return as_text(file.attrs.get("kind"))


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
            raise InputError(f"{path} is not a samples file; {ingest_command(path)}.")
        if file.attrs["schema"] != SCHEMA:
            raise InputError(f"{path} has schema {file.attrs['schema']}; this version reads schema {SCHEMA}.")
        catalog = dict(file["catalog"].items()) if "catalog" in file else {}
        texts = ("unit", "description", "ucd")
        columns = {name: Column(*(as_text(data.attrs[text]) for text in texts)) for name, data in catalog.items()}
        about = _about(json.loads(as_text(file.attrs["about"])))
        shape, dtype = _stored(file, about)
        for name, data in {"id": file["id"], **catalog}.items():
            if data.shape != shape[:1] or data.dtype.kind not in ("S" if name == "id" else KINDS):
                msg = f"{name!r} is {data.shape} {data.dtype}, {about.layout} are {shape}"
                raise ValueError(msg)
        return _Header(
            about,
            columns,
            {name: data.dtype.kind for name, data in catalog.items()},
            {name: int(data.attrs["missing"]) if "missing" in data.attrs else None for name, data in catalog.items()},
            shape[0],
            shape[1:],
            dtype,
            as_text(file.attrs["content_hash"]),
        )


def _stored(file: h5py.File, about: About) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape (N, …) and type of the stored array, (N,) and NOTHING where there is none; ValueError where unsound."""
    if about.layout == CATALOG:
        return file["id"].shape[:1], NOTHING
    stored = file[about.layout]
    if not _sound(stored, about) or (about.layout == PARTICLES and file[COUNT].shape != stored.shape[:1]):
        msg = f"{about.layout} are {stored.shape} {stored.dtype}"
        raise ValueError(msg)
    return stored.shape, stored.dtype


def _sound(stored: h5py.Dataset, about: About) -> bool:
    """Whether the stored array is of its layout's axes and types, with a name for each band or number."""
    if stored.ndim != AXES[about.layout]:
        return False
    names = stored.shape[1] if about.layout == IMAGES else stored.shape[-1]
    dtypes = (np.float32, np.uint8) if about.layout == IMAGES else (np.float32,)
    return names == len(about.bands) and stored.dtype in dtypes


def _about(stored: dict[str, Any]) -> About:
    """The description of a file of this schema; ValueError where it is none."""
    try:
        return About.checked(stored)
    except InputError as error:
        raise ValueError(error.message) from None


def _check_same(path: Path, shard: _Header, first_path: Path, first: _Header) -> None:
    """InputError where two shards cannot be one data set."""
    if (shard.about, shard.shape, shard.dtype) != (first.about, first.shape, first.dtype):
        one, two = ({**vars(each.about), "shape": each.shape, "dtype": each.dtype} for each in (first, shard))
        differ = next(name for name in one if one[name] != two[name])
        raise InputError(
            f"{path} does not belong with {first_path}: its {differ} is {two[differ]!r}, not {one[differ]!r}."
        )
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
