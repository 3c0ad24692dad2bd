"""The Searcher: query by example on one index folder, from its stored lists or live, without torch or faiss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lookalike.indexer.answer import Answer, Result, Value
from lookalike.indexer.windows import Window
from lookalike.samples import Samples

__all__ = ["Answer", "Result", "Searcher"]


class Searcher:
    """Signatures only: the body follows in the next commits.

    Attributes: folder, version (str, "v000001"), content_hash (str), n, k (stored), window (Window | None),
    samples (Samples), manifest (dict), has_footprints (bool: the catalog has x, y or ra, dec, so that
    `max_overlap` may be given; without them it is an InputError with code "no_footprints").
    Errors: NotFoundError(code "unknown_id"), InputError, CorruptError, all of lookalike.errors.
    """

    version: str
    content_hash: str
    n: int
    k: int
    window: Window | None
    samples: Samples
    manifest: dict[str, Any]
    has_footprints: bool

    def __init__(self, folder: Path, *, samples: Sequence[Path] | None = None, embeddings: Path | None = None) -> None:
        raise NotImplementedError

    def neighbors(
        self,
        id: str,
        k: int,
        *,
        offset: int = 0,
        max_overlap: float | None = None,
        columns: Sequence[str] = (),
    ) -> Answer:
        """The k most similar objects within the object's window, from rank offset + 1 on."""
        raise NotImplementedError

    def by_vector(
        self,
        vector: NDArray[Any],
        k: int,
        *,
        at: Mapping[str, float] | None = None,
        offset: int = 0,
        columns: Sequence[str] = (),
        exclude: Sequence[str] = (),
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Exact live search from a vector (D,); `at` gives the window column's value, else no window is applied."""
        raise NotImplementedError

    def object(self, id: str) -> dict[str, Value]:
        """Every catalog column of one object; undefined is None."""
        raise NotImplementedError

    def random_id(self, seed: int | None = None) -> str:
        """The id of a random object; the same for the same seed."""
        raise NotImplementedError
