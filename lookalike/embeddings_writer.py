"""Writing an embeddings file: blocks of vectors are appended, and a killed run may go on from the rows it had saved.

The file is laid out at once, every byte but the vectors; these are written to their final place as they come. Beside
it a journal says from time to time how many rows have reached the disk, and their hash. Whoever goes on reads those
rows again, keeps them if the hash is right, and appends the rest. HDF5 has no part in that: were the process killed
while a header is written, the next one lays the file out anew around the same vectors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import set_texts
from lookalike.errors import CollapsedError, CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.files import PARTIAL, file_output, lock, make_parent, read_json, sync, write_json, write_point
from lookalike.hashing import ArrayHash, combine
from lookalike.provenance import drop_record

SCHEMA = 1
KIND = "lookalike embeddings"
DTYPES = ("float32", "float16")
SAVE_SECONDS = 30.0  # between two entries in the journal: what a kill can cost
BLOCK_BYTES = 2**24  # read at once where stored rows are read again


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
    blocks: Iterable[NDArray[Any]],
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
    about = VectorsAbout(dimensions, dtype, made_from or {}, layer)
    with lock(file_output(path)), open_writer(path, ids, about) as writer:
        for block in blocks:
            writer.append(block)
    return writer.content_hash


class _Layout(NamedTuple):
    """Where the vectors lie in the file, and its size, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class VectorsAbout:
    """What the vectors of a file are: D, stored type, content hashes of what they were made from, encoder's layer.

    as_stored : they come from such files and keep every bit; normalizing them again could change the last one.
    """

    dimensions: int
    dtype: str = "float32"
    made_from: dict[str, str] = field(default_factory=dict)
    layer: str = ""
    as_stored: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"Embeddings are stored as {' or '.join(DTYPES)}, but {self.dtype!r} was given.")


class EmbeddingsWriter:
    """An embeddings file while it is written; use through `open_writer`.

    start : rows that are there already, of which the first may come from an earlier run. total : the sum (D,) of the
    stored vectors scaled to length 1. content_hash : "" until the file is complete.
    """

    def __init__(
        self,
        path: Path,
        ids: NDArray[np.bytes_],
        about: VectorsAbout,
        resume: dict[str, Any] | None,
        save_seconds: float,
    ) -> None:
        self._ids, self._about, self._resume, self._seconds = ids, about, resume, save_seconds
        self._path = file_output(path)
        self._spool, self._journal, self._shell = leftovers(self._path)
        self._hash = ArrayHash()
        self.total = np.zeros(about.dimensions)
        self.start = 0
        self.content_hash = ""
        make_parent(path)
        self._layout = self._lay_out("")
        self._go_on()
        self._file = self._spool.open("r+b")
        self._file.seek(self._layout.offset + self.start * self._row_bytes)
        self._saved = time.monotonic()

    @property
    def _row_bytes(self) -> int:
        return self._about.dimensions * np.dtype(self._about.dtype).itemsize

    def append(self, block: NDArray[Any]) -> None:
        """Add vectors (n, D), which are normalized but where they are `as_stored`; InputError for odd or too many."""
        if block.ndim != 2 or block.shape[1] != self._about.dimensions:
            raise InputError(f"Vectors have the shape (n, {self._about.dimensions}), but {block.shape} was given.")
        if self.start + len(block) > len(self._ids):
            raise InputError(
                f"One vector per id is needed: {len(self._ids)} ids, but at least {self.start + len(block)} vectors."
            )
        if not self._about.as_stored:
            block = normalize(block, self.start)
        rows = np.ascontiguousarray(block, dtype=np.dtype(self._about.dtype).newbyteorder("<"))
        self._file.write(rows.data)
        self._hash.update(rows)
        self.total += normalize(rows, self.start).sum(axis=0)  # as stored: a resumed run has nothing else
        self.start += len(rows)
        write_point("embeddings.block")
        if self._resume is not None and time.monotonic() - self._saved >= self._seconds:
            self.save()

    def save(self) -> None:
        """Bring the rows so far to the disk, and then say so in the journal."""
        self._file.flush()
        sync(self._spool)
        entry = {"rows": self.start, "hash": self._hash.line("embedding"), **self._key()}
        write_json(self._journal, entry)
        write_point("embeddings.saved")
        self._saved = time.monotonic()

    def close(self) -> None:
        """Complete the file and give it its name; InputError where rows are missing."""
        if self.start != len(self._ids):
            raise InputError(f"One vector per id is needed: {len(self._ids)} ids, {self.start} vectors.")
        self._file.flush()
        hashes = {"embedding": self._hash, "id": ArrayHash()}
        hashes["id"].update(self._ids)
        digest = combine(hashes)
        layout = self._lay_out(digest)
        if layout != self._layout:
            msg = f"HDF5 laid {self._path} out in two ways; nothing was written."
            raise LookalikeError(msg)
        self._put_around()
        self._file.close()
        drop_record(self._path)
        write_point(f"{self._path.name}.written")
        sync(self._spool)
        self._spool.replace(file_output(self._path))  # looked at again: writing may have taken hours
        remove_leftovers(self._path)
        sync(self._path.parent)
        write_point(f"{self._path.name}.renamed")
        self.content_hash = digest

    def abandon(self, *, keep: bool) -> None:
        """Stop before the end; `keep` the rows so far for a later run where that is possible."""
        keep = keep and self._resume is not None and self.start > 0
        try:
            if keep and not self._file.closed:
                with contextlib.suppress(OSError):  # a full disk: what the journal said before still holds
                    self.save()
            with contextlib.suppress(OSError):  # it is closed all the same
                self._file.close()
        finally:
            if not keep:
                remove_leftovers(self._path)

    def _lay_out(self, digest: str) -> _Layout:
        """Write a whole file without its vectors, whose place it leaves open, as the shell."""
        with h5py.File(self._shell, "w") as file:
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            shape = (len(self._ids), self._about.dimensions)
            data = file.create_dataset("embedding", shape, np.dtype(self._about.dtype).newbyteorder("<"), dcpl=early)
            file.create_dataset("id", data=self._ids)
            file.attrs["schema"] = SCHEMA
            set_texts(file, {"kind": KIND, "content_hash": digest or "0" * 64, "layer": self._about.layer})
            set_texts(file, {f"{name}_hash": value for name, value in self._about.made_from.items()})
            offset = int(data.id.get_offset())
        return _Layout(offset, self._shell.stat().st_size)

    def _put_around(self) -> None:
        """Copy everything but the vectors from the shell, which goes."""
        end = self._layout.offset + len(self._ids) * self._row_bytes
        with self._shell.open("rb") as shell:
            for first, last in ((0, self._layout.offset), (end, self._layout.size)):
                shell.seek(first)
                self._file.seek(first)
                for start in range(first, last, BLOCK_BYTES):
                    self._file.write(shell.read(min(BLOCK_BYTES, last - start)))
                    self._file.flush()
                    write_point("embeddings.header")
        self._shell.unlink()

    def _go_on(self) -> None:
        """Take up the rows an earlier run saved, if they are of this file and as they were; else begin anew."""
        if self._resume is None or not self._read_saved():
            self._hash, self.start = ArrayHash(), 0
            self.total[:] = 0
            self._journal.unlink(missing_ok=True)
            self._shell.replace(self._spool)
        else:
            self._shell.unlink()

    def _read_saved(self) -> bool:
        try:
            entry = read_json(self._journal)
        except (NotFoundError, CorruptError, OSError):
            return False
        rows = entry.pop("rows", 0) if isinstance(entry, dict) else 0
        if not (isinstance(rows, int) and 0 < rows <= len(self._ids)):
            return False
        told = entry.pop("hash", "")
        if entry != self._key() or not self._spool.is_file() or self._spool.stat().st_size != self._layout.size:
            return False
        step = max(1, BLOCK_BYTES // self._row_bytes)
        dtype = np.dtype(self._about.dtype).newbyteorder("<")
        with self._spool.open("rb") as file:
            file.seek(self._layout.offset)
            while self.start < rows:
                data = file.read(min(step, rows - self.start) * self._row_bytes)
                block = np.frombuffer(data, dtype).reshape(-1, self._about.dimensions)
                self._hash.update(block)
                with contextlib.suppress(InputError):  # altered rows may have no direction; the hash will tell
                    self.total += normalize(block).sum(axis=0)
                self.start += len(block)
        return bool(self._hash.line("embedding") == told)

    def _key(self) -> dict[str, Any]:
        """What the rows must be of to be taken up again."""
        about = self._about
        return {
            "schema": SCHEMA,
            "objects": len(self._ids),
            "dimensions": about.dimensions,
            "dtype": about.dtype,
            "layer": about.layer,
            "made_from": about.made_from,
            "offset": self._layout.offset,
            **(self._resume or {}),
        }


def leftovers(path: Path) -> tuple[Path, Path, Path]:
    """What a killed writer of `path` may have left: the vectors, the journal about them, and a file without any."""
    return (
        path.with_name(f".{path.name}{PARTIAL}"),
        path.with_name(f".{path.name}.rows{PARTIAL}"),
        path.with_name(f".{path.name}.shell{PARTIAL}"),
    )


def remove_leftovers(path: Path) -> None:
    """Clear them away; the caller holds the lock on `path`."""
    spool, journal, shell = leftovers(path.resolve())
    for left in (spool, journal, journal.with_name(f".{journal.name}{PARTIAL}"), shell):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def open_writer(
    path: Path,
    ids: NDArray[np.bytes_],
    about: VectorsAbout,
    *,
    resume: dict[str, Any] | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Iterator[EmbeddingsWriter]:
    """Yield a writer whose file appears under `path` complete or not at all; the caller holds the lock on `path`.

    resume : None, or whatever besides `about` must be the same for a later run to go on where this one stopped
    (JSON). Vectors are then appended from row `writer.start` on. Rows are saved every `save_seconds`, and on the way
    out of an interrupt or a failed read; an InputError or CollapsedError within removes them, since it would come
    again.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind != "S" or not len(ids):
        raise InputError(f"Ids are one array (N,) of ASCII bytes, but {ids.shape} {ids.dtype} was given.")
    writer = None
    try:
        writer = EmbeddingsWriter(path, ids, about, resume, save_seconds)
        yield writer
        writer.close()
    except BaseException as error:
        if writer is None:
            _remove_unusable(path)
        else:
            writer.abandon(keep=not isinstance(error, InputError | CollapsedError))
        raise


def _remove_unusable(path: Path) -> None:
    """Clear away what a writer left that could not begin, but for rows an earlier one saved."""
    _, journal, shell = leftovers(path.resolve())
    shell.unlink(missing_ok=True)
    if not journal.exists():
        remove_leftovers(path)
