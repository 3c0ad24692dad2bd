"""An index of anyone's own vectors: an array (N, D) and a table of N rows become inputs like our own, and are indexed.

From then on everything works on them unchanged: building, verifying, searching, serving. Only pictures are missing,
but where the vectors are of samples of ours, which then stand for the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.about import CATALOG, TABLE, About, is_id
from lookalike.datasets.arrays import Array
from lookalike.datasets.contract import Ledger
from lookalike.datasets.table import Table, read_table, without_reserved
from lookalike.datasets.vectors import ENDINGS, HDF5, open_vectors
from lookalike.embeddings import DTYPES, Embeddings, normalize, write_embeddings
from lookalike.errors import CorruptError, InputError, LookalikeError, unknown
from lookalike.files import PARTIAL, check_parent, lock, sync
from lookalike.hashing import ArrayHash, combine
from lookalike.indexer.index import MEMORY_BYTES, BuildReport, build_index, check_folder
from lookalike.indexer.inputs import FOLDER, drop_unneeded, input_path, remove_empty
from lookalike.indexer.store import versions
from lookalike.indexer.windows import USUAL, Window
from lookalike.origins import Rows, rows_of
from lookalike.progress import progress
from lookalike.samples import Samples, read_kind
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

SOURCE = "vectors from elsewhere"  # no file's name: it would be part of the content hash
SHOWN = 5  # rows that a message names
LONG = 1e100  # squares of numbers beyond it, and below its inverse, leave float64
PIECE = 65536  # catalog rows written at once
BLOCK_BYTES = 2**24  # of vectors worked on at once, in float64


class _EveryRow(Ledger):
    """Account of a catalog none of whose rows may be left out, since each is that of a vector."""

    def bad(self, name: str, reason: str, *, objects: int | None = None) -> None:
        raise InputError(f"{name}: {reason} Each vector needs its row, so none is left out.", code="bad_file")


@dataclass(frozen=True)
class OwnReport:
    """What was built, where the vectors are stored and the samples lie, and what to tell about the table."""

    built: BuildReport
    embeddings: Path
    samples: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
    """Vectors and what tells of their objects: a table, or samples of ours; nothing is wrong with them so far."""

    vectors: Array
    dtype: str
    ids: NDArray[np.bytes_]
    table: Table
    samples: Samples | None = None
    notes: list[str] = field(default_factory=list)

    def window_values(self, window: Window) -> NDArray[np.float64]:
        if self.samples is not None:
            return window.values(self.samples)
        if window.column not in self.table.values:
            raise unknown("column", window.column, self.table.values)
        return window.of(self.table.values[window.column])


def is_vectors(path: Path) -> bool:
    """Whether a file is one of vectors from elsewhere by its ending, and no HDF5 file of ours."""
    if path.is_dir() or path.suffix.lower() not in ENDINGS:
        return False
    if path.suffix.lower() not in HDF5 or not path.is_file():
        return True
    try:
        return not read_kind(path).startswith("lookalike")
    except CorruptError:  # said by whoever reads it
        return True


def samples_of_ours(path: Path, samples: Sequence[Path] | None, own: Mapping[str, object]) -> Sequence[Path]:
    """The samples of an embeddings file of ours; InputError without them, or with an option for other vectors."""
    if (path / "versions").is_dir():
        raise InputError(f"An index is made of embeddings, but {path} is an index; give the embeddings it is of.")
    for name, value in own.items():
        if value is not None:
            ours = path.suffix.lower() in (*HDF5, "")
            way = "leave it out and give its --samples" if ours else "save them as one of these first"
            raise InputError(
                f"--{name} is for vectors of your own ({', '.join(ENDINGS)}, but none of our files), "
                f"but {path} was given; {way}."
            )
    if not samples:
        raise InputError(f"{path} is indexed with the samples it was made from; give them with --samples.")
    return samples


def index_vectors(
    vectors: Path,
    out: Path,
    *,
    catalog: Path | None = None,
    samples: Sequence[Path] | None = None,
    id_column: str | None = None,
    array: str | None = None,
    k: int | None = None,
    window: str | None = None,
    dtype: str | None = None,
    checkpoint: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    budget: int | None = None,
    quiet: bool = False,
) -> OwnReport:
    """Build a version of the index folder `out` from vectors (N, D) of any model, and a table of N rows in their order.

    vectors : .npy, .npz, HDF5 or Parquet; `array` names the one meant where a file holds several. catalog : CSV, TSV,
    Parquet, FITS, VOTable or ECSV; without it there are ids alone. samples : instead of a catalog, files of ours whose
    objects the vectors are, in their order. id_column : of the catalog; without it a column
    `id`, else rows are named by their numbers from 0. dtype : float32 or float16, as which the unit vectors are
    stored; by default float16 for vectors of float16, else float32. k, window, checkpoint, memory_bytes, budget :
    as for `build_index`, but that a k that was asked for and is above N − 1 is refused.

    What is wrong with either file is an InputError or NotFoundError before anything is written; vectors are read
    through once for that. Both are then stored in `out/inputs/`; memory holds the catalog and a block of vectors.
    """
    out = Path(out)
    if samples and catalog is not None:
        raise InputError(
            f"What is known of the objects comes from --samples or from a --catalog, but both were given: {catalog} "
            f"and {', '.join(map(str, samples))}."
        )
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"Vectors are stored as {' or '.join(DTYPES)}, but {dtype!r} was given.")
    if catalog is None and id_column is not None:
        raise InputError(f"--id-column names a column of the --catalog, but {id_column!r} came without one.")
    if checkpoint is not None and not samples:
        raise InputError("--checkpoint is for queries by picture, which need --samples with pictures; leave it out.")
    opened = open_vectors(Path(vectors), array)
    usual = "float16" if opened.dtype == np.float16 else "float32"
    if samples:
        given = _of_samples(opened, dtype or usual, Samples([Path(path) for path in samples]))
    else:
        given = _of_table(opened, dtype or usual, catalog, id_column)
    _check_asked(given, k, window)
    check_folder(out)
    check_parent(out)
    digest = _survey(given, quiet)
    with lock(out), _kept_tidy(out):
        places = _store_samples(out, given) if given.samples is None else given.samples.paths
        embeddings = _store_embeddings(out, given, digest, quiet)
        built = build_index(
            embeddings,
            places,
            out,
            k=k,
            window=window,
            checkpoint=checkpoint,
            memory_bytes=memory_bytes,
            budget=budget,
            quiet=quiet,
            held=True,
        )
    return OwnReport(built, embeddings, tuple(places), tuple(given.notes))


@contextmanager
def _kept_tidy(out: Path) -> Iterator[None]:
    """Make the folder known as an index, and leave no inputs in it that no version needs, whatever happens."""
    new = [folder for folder in (out / "versions", out) if not folder.exists()]
    # Inputs alone would be taken for the files of another program, were the build killed before its first version.
    (out / "versions").mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        drop_unneeded(out, versions(out))
        remove_empty(*new)


def _of_samples(vectors: Array, dtype: str, samples: Samples) -> _Given:
    """Vectors of samples of ours, in their order."""
    if len(samples) != vectors.shape[0]:
        objects, rows = counted(len(samples), "object"), counted(vectors.shape[0], "vector")
        names = ", ".join(map(str, samples.paths))
        raise InputError(f"Each object has its vector, but {names} has {objects} and {vectors.where} {rows}.")
    samples.row(samples.id(0))  # refuses an id that two shards share
    return _Given(vectors, dtype, samples.ids, Table("no catalog"), samples)


def _of_table(vectors: Array, dtype: str, catalog: Path | None, id_column: str | None) -> _Given:
    """Vectors and the table of their objects, or their numbers alone."""
    n = vectors.shape[0]
    ledger = _EveryRow()
    table, ids = Table("no catalog"), _numbers(n)
    if catalog is not None:
        table = read_table(catalog, ledger, texts=[*(id_column or "").split(":"), "id"])
        if len(table) != n:
            rows, objects = counted(len(table), "row"), counted(n, "vector")
            raise InputError(f"Each vector has its row, but {catalog} has {rows} and {vectors.where} {objects}.")
        if id_column is not None or "id" in table.values:
            ids = _ids(table, id_column or "id", catalog)
        else:
            ledger.note(f"Objects are named by their rows, 0 to {n - 1:,}: no --id-column was given.")
        table = without_reserved(table, [name.decode() for name in ids.tolist()], ledger)
    return _Given(vectors, dtype, ids, table, None, ledger.notes)


def _numbers(n: int) -> NDArray[np.bytes_]:
    return np.arange(n).astype(f"S{len(str(n - 1))}")


def _ids(table: Table, column: str, catalog: Path) -> NDArray[np.bytes_]:
    """Ids (N,) from a column or several joined by `:`; InputError that names rows for what is no id or there twice."""
    parts = [column] if column in table.values else column.split(":")
    for part in parts:
        if table.column(part).dtype.kind == "f":
            raise InputError(
                f"Ids are texts or whole numbers, but column {part!r} of {table.name} holds fractions or gaps."
            )
    names = [":".join(row) for row in zip(*(table.texts(part) for part in parts), strict=True)]
    odd = [row for row, name in enumerate(names) if not is_id(name)]
    if odd:
        raise InputError(
            f"An id is 1 to 64 characters of A-Z a-z 0-9 . _ : + -, but {counted(len(odd), 'row')} of {catalog} "
            f"{'holds' if len(odd) == 1 else 'hold'} another in {column}: {_listed(odd)} (counted from 0), the first "
            f"{names[odd[0]][:80]!r}."
        )
    ids = np.array(names, dtype="S")
    order = np.argsort(ids, kind="stable")
    repeated = order[1:][ids[order[1:]] == ids[order[:-1]]]
    if len(repeated):
        second = int(repeated.min())
        first = int(np.flatnonzero(ids == ids[second])[0])
        raise InputError(
            f"Ids must be unique, but {counted(len(repeated), 'row')} of {catalog} "
            f"{'repeats' if len(repeated) == 1 else 'repeat'} an earlier one in {column}, the first {names[second]!r} "
            f"in rows {first} and {second} (counted from 0).",
            code="duplicate_id",
        )
    return ids


def _check_asked(given: _Given, k: int | None, window: str | None) -> None:
    """Refuse what `build_index` would only once the inputs are stored, and a k that there are too few objects for."""
    n = len(given.ids)
    if n < 2:
        raise InputError(f"An index needs at least 2 objects, but {given.vectors.where} holds {n}.")
    if k is not None and not 1 <= k < n:
        raise InputError(
            f"k is 1 to {n - 1:,} for {counted(n, 'object')}, one less than there are, but {k:,} was given."
        )
    if window is not None and window != USUAL:
        asked = Window.parse(window)
        asked.refuse_undefined(given.window_values(asked))


def _survey(given: _Given, quiet: bool) -> str:
    """Read all vectors once: their content hash as they will be stored; InputError naming rows without direction."""
    hashes = {"embedding": ArrayHash(), "id": ArrayHash()}
    bad = {"NaN": 0, "infinity": 0, "zeros alone": 0}
    first: dict[str, list[int]] = {what: [] for what in bad}
    stored, start = np.dtype(given.dtype).newbyteorder("<"), 0
    with progress("check vectors", len(given.ids), "vectors", quiet=quiet) as advance:
        for block in _blocks(given.vectors):
            largest = np.abs(block).max(axis=1)  # (n,) NaN where there is one
            for what, rows in zip(bad, (np.isnan(largest), np.isinf(largest), largest == 0), strict=True):
                bad[what] += int(rows.sum())
                first[what] += (start + np.flatnonzero(rows)[: SHOWN + 1 - len(first[what])]).tolist()
            if not any(bad.values()):
                hashes["embedding"].update(normalize(_scaled(block, largest), start).astype(stored))
            start += len(block)
            advance(len(block))
    found = [f"{counted(n, 'vector')} with {what} (rows {_listed(first[what])})" for what, n in bad.items() if n]
    if found:
        raise InputError(
            f"Vectors have finite numbers and a direction, but {given.vectors.where} holds {' and '.join(found)}, rows "
            "counted from 0. Leave them out of the vectors and the catalog alike.",
            code="no_direction",
        )
    hashes["id"].update(given.ids)
    return combine(hashes)


def _blocks(vectors: Array) -> Iterator[NDArray[np.float64]]:
    """All vectors in order, in float64, so few at once (n, D) that several copies of them are small."""
    step = max(1, BLOCK_BYTES // (8 * vectors.shape[1]))
    for block in vectors.blocks():
        for start in range(0, len(block), step):
            yield block[start : start + step].astype(np.float64)


def _scaled(block: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors (n, D), those whose squares would leave float64 multiplied by a power of two, which is exact.

    largest : (n,) the largest of each one's numbers, without its sign.
    """
    far = (largest > LONG) | (largest < 1 / LONG)
    if far.any():
        block[far] = np.ldexp(block[far], -np.frexp(largest[far])[1][:, None])
    return block


def _store_samples(out: Path, given: _Given) -> list[Path]:
    """Write ids and catalog as a samples file of our own, under its content hash."""
    about = About(domain=TABLE, bands=(), source=SOURCE, layout=CATALOG)
    fresh = out / FOLDER / f"samples.h5{PARTIAL}"
    told = rows_of(given.table.name, 0)
    with write_samples(fresh, about, given.table.columns) as writer:
        for start in range(0, len(given.ids), PIECE):
            rows = np.arange(start, min(start + PIECE, len(given.ids)))
            names = [name.decode() for name in given.ids[rows].tolist()]
            writer.append(names, None, given.table.take(rows), Rows(rows, told))
    path = input_path(out, "samples", Samples(fresh).content_hash)
    fresh.replace(path)
    sync(path.parent)
    return [path]


def _store_embeddings(out: Path, given: _Given, digest: str, quiet: bool) -> Path:
    """Write the vectors, normalized, as an embeddings file of our own, unless it is there from an earlier build.

    It names no samples, only ids: a version over another catalog of the same objects shares it.
    """
    path = input_path(out, "embeddings", digest)
    if _is_stored(path, digest):
        return path
    n, dimensions = given.vectors.shape
    with progress("store vectors", n, "vectors", quiet=quiet) as advance:

        def blocks() -> Iterator[NDArray[np.float64]]:
            for block in _blocks(given.vectors):
                yield _scaled(block, np.abs(block).max(axis=1))
                advance(len(block))

        made = write_embeddings(path, given.ids, blocks(), dimensions=dimensions, dtype=given.dtype)
    if made != digest:
        path.unlink()
        raise InputError(f"{given.vectors.where} was altered while it was read; start again.")
    return path


def _is_stored(path: Path, digest: str) -> bool:
    """Whether these very vectors are there, every byte of them."""
    try:
        stored = Embeddings(path)
        stored.verify()
    except (LookalikeError, OSError):
        return False
    return stored.content_hash == digest


def _listed(rows: list[int]) -> str:
    return ", ".join(f"{row:,}" for row in rows[:SHOWN]) + (", …" if len(rows) > SHOWN else "")
