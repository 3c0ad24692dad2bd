"""The samples and embeddings of a set that grew or shrank: files of their own, beside the old ones, which stay.

DATA/v000002/embeddings.h5     the vectors of the whole new set, every bit as it was stored
DATA/v000002/NAME.h5           a samples shard that lost objects, under its old name, so that the order stays
DATA/v000002/index.json        which index they were written for, and whether that has served them
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.about import CATALOG
from lookalike.embeddings import Embeddings
from lookalike.embeddings_writer import VectorsAbout, open_writer
from lookalike.errors import InputError, LookalikeError
from lookalike.files import lock, read_json, write_json
from lookalike.indexer.ordered import FileRows
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples

EMBEDDINGS, OWNER = "embeddings.h5", "index.json"
BLOCK_BYTES, MOST_ROWS = 2**24, 2**16  # written at once

Advance = Callable[[int], None]


def free(folder: Path, index: Path) -> None:
    """Remove what a stopped run of this very index left where a version's files go; needs the folder's lock.

    InputError where it holds anything else, files of a version that was served among it: another index may need them.
    """
    if not folder.exists():
        return
    try:
        ours = read_json(folder / OWNER) == _owner(index, folder.name, served=False)
    except LookalikeError:
        ours = False
    if not ours:
        raise InputError(
            f"{folder} is to be written, but holds something else than a stopped run of this index left; choose "
            "another --data."
        )
    shutil.rmtree(folder)


def sign(folder: Path, index: Path, version: str, *, served: bool) -> None:
    """Say in a folder which index's files it holds, and whether that has served them."""
    write_json(folder / OWNER, _owner(index, version, served=served))


def _owner(index: Path, version: str, *, served: bool) -> dict[str, str | bool]:
    return {"index": str(index.resolve()), "version": version, "served": served}


def write_vectors(
    path: Path, parts: Sequence[tuple[Embeddings, NDArray[np.int64], NDArray[np.int64]]], samples: Samples, say: Advance
) -> None:
    """Write the vectors of a new set: of each part some rows (n,), increasing, and the rows (n,) they have now."""
    first = parts[0][0]
    made_from = {**first.made_from, "samples": samples.content_hash}
    about = VectorsAbout(first.dimensions, first.vectors.dtype.name, made_from, first.layer, as_stored=True)
    source, old = np.empty(len(samples), np.int64), np.empty(len(samples), np.int64)
    for which, (_, rows, now) in enumerate(parts):
        source[now], old[now] = which, rows
    vectors = [embeddings.vectors for embeddings, _, _ in parts]
    stored = [FileRows(one) if isinstance(one, np.memmap) else one for one in vectors]
    step = max(1, BLOCK_BYTES // (first.dimensions * first.vectors.itemsize))
    with lock(path), open_writer(path, samples.ids, about) as writer:
        for start in range(0, len(samples), step):
            block = np.empty((min(step, len(samples) - start), first.dimensions), first.vectors.dtype)
            for which, one in enumerate(stored):
                mine = source[start : start + step] == which
                block[mine] = one[old[start : start + step][mine]]
            writer.append(block)
            say(len(block))


def write_shard(path: Path, shard: Samples, kept: NDArray[np.int64], say: Advance) -> None:
    """Write some rows (n,), increasing, of one samples file as another."""
    columns = {name: shard.column(name) for name in shard.columns}
    step = int(np.clip(BLOCK_BYTES // max(1, int(np.prod(shard.shape)) * shard.dtype.itemsize), 1, MOST_ROWS))
    with write_samples(path, shard.about, shard.columns) as writer:
        for rows in _runs(kept, step):
            ids = [name.decode() for name in shard.ids[rows]]
            objects = None if shard.layout == CATALOG else shard.objects(rows)
            writer.append(ids, objects, {name: values[rows] for name, values in columns.items()})
            say(len(rows))


def _runs(rows: NDArray[np.int64], step: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
