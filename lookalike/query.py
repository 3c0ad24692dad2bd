"""Query by example from the command line: an id, a picture or a vector, on an index folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from lookalike.about import IMAGES
from lookalike.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from lookalike.indexer.search import Answer, Searcher


@dataclass(frozen=True)
class Query:
    """Exactly one of an id, a picture and a vector; `at` holds `column=value`, the center of the window.

    An id has a value of its own, which `at` stands in for.
    """

    id: str | None = None
    image: Path | None = None
    vector: Path | None = None
    at: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("id", "image", "vector") if getattr(self, name) is not None]
        if len(given) != 1:
            named = ", ".join(f"--{name}" for name in given) or "none"
            raise InputError(f"A search takes exactly one of --id, --image and --vector, but {named} was given.")


def answer(
    index: Path,
    query: Query,
    *,
    k: int,
    columns: Sequence[str] = (),
    max_overlap: float | None = None,
    samples: Sequence[Path] | None = None,
    embeddings: Path | None = None,
    checkpoint: Path | None = None,
) -> Answer:
    """Search an index folder; see Query for what may be asked, and Searcher for files that moved."""
    from lookalike.indexer.answer import check_names
    from lookalike.indexer.search import Searcher

    check_names(columns)
    searcher = Searcher(index, samples=samples, embeddings=embeddings, checkpoint=checkpoint)
    at = dict(_parse_at(text) for text in query.at)
    if query.id is not None:
        return searcher.neighbors(query.id, k, columns=columns, max_overlap=max_overlap, at=at)
    if max_overlap is not None:
        raise InputError("--max-overlap needs a query with a place in the data set: use it with --id.")
    searcher.check(k, at=at, columns=columns)
    if query.vector is not None:
        return searcher.by_vector(read_vector(query.vector), k, at=at, columns=columns)
    assert query.image is not None
    vector = embed_picture(searcher, query.image)
    return searcher.by_vector(vector, k, at=at, columns=columns, query={"image": query.image.name, "at": at})


def read_vector(path: Path) -> NDArray[np.float64]:
    """One vector (D,) from a .npy file, (1, D) being taken as (D,)."""
    from lookalike.datasets.numpy_arrays import read_header

    if not path.is_file():
        raise NotFoundError(f"No such file: {path}")
    with path.open("rb") as file:
        shape, dtype, _ = read_header(file, str(path))
        held = path.stat().st_size - file.tell()
    if dtype.kind not in "fiu":
        raise InputError(f"A vector is one array of numbers, but {path} holds {dtype}.")
    if len(shape) != 1 and not (len(shape) == 2 and shape[0] == 1):
        raise InputError(f"A vector has the shape (D,), but {path} holds {shape}.")
    if (needed := math.prod(shape) * dtype.itemsize) != held:
        raise InputError(f"{path} declares {needed:,} bytes of values, but holds {held:,}.")
    vector = np.load(path, allow_pickle=False).reshape(-1)  # (D,)
    wide: NDArray[np.float64] = vector.astype(np.float64)
    return wide


def embed_picture(searcher: Searcher, path: Path) -> NDArray[Any]:
    """The vector (D,) of a picture, prepared as the data set's own pictures were, by the index's own encoder.

    Of the encoder's two outputs it is the one the stored vectors are.
    """
    from lookalike.datasets.uploads import read_picture

    folder, stored = searcher.checkpoint(), searcher.samples
    if stored.layout != IMAGES:
        raise InputError(f"A picture is looked up among pictures, but this index is of {stored.layout}.")
    picture = read_picture(
        path, path.name, stored.about, shape=cast(tuple[int, int, int], stored.shape), dtype=stored.dtype
    )
    from lookalike.ssl.checkpoint import load_encoder  # torch takes seconds to load, so all else is checked before
    from lookalike.ssl.embed import embed_objects

    encoder, config = load_encoder(folder)
    layer = searcher.embeddings().layer or "embedding"
    vector: NDArray[Any] = embed_objects(picture[None], encoder, config, layer=layer)[0]  # (D,)
    return vector


def _parse_at(text: str) -> tuple[str, float]:
    column, equals, value = text.partition("=")
    try:
        if equals and column:
            return column.strip(), float(value)
    except ValueError:
        pass
    raise InputError(f"--at takes column=value, e.g. mag=18.2, but {text!r} was given.")
