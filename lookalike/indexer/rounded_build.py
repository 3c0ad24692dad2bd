"""Rounding the vectors of an index for its live searches, in one pass over them and in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError
from lookalike.files import atomic_folder, write_json
from lookalike.hashing import ArrayHash, combine
from lookalike.indexer.bins import append, digest
from lookalike.indexer.disk import check_room
from lookalike.indexer.ordered import rows_of
from lookalike.indexer.rounded import ABOUT, Rounded, RoundedAbout, rounded_bytes, rounded_folder
from lookalike.indexer.similarity import U32, gamma
from lookalike.parallel import in_parts, processors
from lookalike.progress import progress

BLOCK_BYTES = 2**22  # of float32 vectors rounded at once
CENTERED_BY = 2**16  # vectors at most, evenly drawn, whose mean is the center


def round_vectors(
    folder: Path, version: str, embeddings: Embeddings, *, anew: bool = False, quiet: bool = False
) -> None:
    """Round the vectors that an index version was built from, unless it has them and `anew` is not asked for.

    Errors: FullError (of the disk), CorruptError where a byte of the embeddings was altered; nothing is written then.
    """
    place = rounded_folder(folder, version)
    if place.exists() and not anew:
        try:
            Rounded(place, embeddings.content_hash)
        except CorruptError:  # a killed build may have left those of another version under its name
            pass
        else:
            return
    check_room(folder, rounded_bytes(*embeddings.vectors.shape))
    with atomic_folder(place) as made:
        write_rounded(made, embeddings.vectors, embeddings.content_hash, quiet=quiet)
        embeddings.verify()  # other vectors under this hash would look sound ever after


def write_rounded(folder: Path, vectors: NDArray[Any], embeddings: str, *, quiet: bool = False) -> RoundedAbout:
    """Fill a folder with vectors (N, D) rounded, and say what it holds; `embeddings` is their content hash."""
    n, d = vectors.shape
    stored = rows_of(vectors)
    step = max(1, BLOCK_BYTES // (4 * d))
    center = _center(stored, n, d, step)
    hashes = {name: ArrayHash() for name in ("codes", "scales", "center")}
    append(folder / "center.bin", center.astype("<f4"), hashes["center"])
    largest = 0.0
    with progress("round", n, "vectors", quiet=quiet) as advance:
        for start in range(0, n, step):
            block = np.ascontiguousarray(stored[start : start + step], np.float32)
            codes, scales = _rounded(block, center)
            append(folder / "codes.bin", codes, hashes["codes"])
            append(folder / "scales.bin", scales.astype("<f4"), hashes["scales"])
            if not np.isfinite(scales).all():
                raise CorruptError("Vectors to round are not finite; they were altered: embed again.")
            largest = max(largest, float(scales[:, 1].max()))
            advance(len(block))
    about = RoundedAbout(
        embeddings=embeddings, objects=n, dimensions=d, largest_error=largest,
        hashes={name: digest(sha) for name, sha in hashes.items()}, content_hash="",
    )  # fmt: skip
    about = about.model_copy(update={"content_hash": combine(hashes, about.identity())})
    write_json(folder / ABOUT, about.model_dump(mode="json"))
    return about


def _center(stored: Any, n: int, d: int, step: int) -> NDArray[np.float32]:
    """The mean (D,) of vectors drawn evenly: whatever it is, the errors are those of what is left."""
    rows = np.unique(np.linspace(0, n - 1, min(n, CENTERED_BY)).astype(np.int64))
    total = np.zeros(d)
    for start in range(0, len(rows), step):
        total += stored[rows[start : start + step]].astype(np.float64).sum(axis=0)
    mean: NDArray[np.float32] = (total / len(rows)).astype(np.float32)
    return mean


def _rounded(block: NDArray[np.float32], center: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (n, D), and steps and errors (n, 2), of some vectors (n, D)."""
    from lookalike.indexer.rounded_native import round_off

    codes, scales = np.empty(block.shape, np.int8), np.empty((len(block), 2), np.float32)
    of_sum = gamma(block.shape[1], U32)

    def some(part: slice) -> None:
        round_off(block[part], center, of_sum, codes[part], scales[part])

    in_parts(some, len(block), processors())
    return codes, scales
