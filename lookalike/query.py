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
    from lookalike.indexer.recipe import Recipe
    from lookalike.indexer.search import Answer, Searcher
    from lookalike.indexer.windows import Window


@dataclass(frozen=True)
class Query:
    """Exactly one of an id, a picture, a vector and positive examples; what else is asked about them.

    negatives, method, beta go with positives (recipe.py). at : `column=value`, the center of a window; an id and
    examples have values of their own, which it stands in for. within : windows as `mag:0.3`, all of which apply in
    place of the index's; `none` for no window. where : a filter by the catalog.
    """

    id: str | None = None
    image: Path | None = None
    vector: Path | None = None
    at: tuple[str, ...] = ()
    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    method: str | None = None
    beta: float | None = None
    within: tuple[str, ...] = ()
    where: str | None = None

    def __post_init__(self) -> None:
        whole = {"--id": self.id, "--image": self.image, "--vector": self.vector, "--positive": self.positives or None}
        given = [name for name, value in whole.items() if value is not None]
        if len(given) != 1:
            named = ", ".join(given) or "none"
            raise InputError(
                "A search takes exactly one of --id, --image, --vector, --positive and --recipe, "
                f"but {named} was given."
            )
        of_examples = {"--negative": self.negatives or None, "--method": self.method, "--beta": self.beta}
        for name, value in of_examples.items():
            if value is not None and not self.positives:
                raise InputError(f"{name} goes with --positive, but {given[0]} was given.")

    @property
    def centers(self) -> dict[str, float]:
        """`at` by column."""
        return dict(_parse_at(text) for text in self.at)

    @property
    def windows(self) -> list[Window] | None:
        """The windows of `within`; None where none was given, so that the index's applies."""
        from lookalike.indexer.windows import Window

        if "none" in self.within:
            if len(self.within) > 1:
                raise InputError(f"--within none stands alone, but {len(self.within)} were given.")
            return []
        return [Window.parse(text) for text in self.within] or None

    def recipe(self, searcher: Searcher, k: int) -> Recipe:
        """The same question as a recipe; InputError for a picture or a vector, which no recipe can hold."""
        from lookalike.indexer.recipe import Recipe

        if self.id is None and not self.positives:
            raise InputError("A recipe holds ids, so a picture or a vector has none: use --id or --positive.")
        windows, at = self.windows, self.centers
        if windows is None:
            windows = [] if searcher.window is None else [searcher.window]
        searcher.check_windows(windows, at)
        values: dict[str, Any] = {
            "index": searcher.content_hash,
            "positives": self.positives or (self.id,),
            "negatives": self.negatives,
            "windows": [
                {"column": window.name, "center": at.get(window.column), "half_width": window.half_width}
                for window in windows
            ],
            "where": self.where,
            "k": k,
        }
        values |= {
            name: value for name, value in {"method": self.method, "beta": self.beta}.items() if value is not None
        }
        return Recipe.checked({"schema": 1, **values})


def answer(
    index: Path,
    query: Query | Path,
    *,
    k: int,
    columns: Sequence[str] = (),
    max_overlap: float | None = None,
    approximate: bool = False,
    save_recipe: Path | None = None,
    samples: Sequence[Path] | None = None,
    embeddings: Path | None = None,
    checkpoint: Path | None = None,
) -> Answer:
    """Search an index folder; see Query for what may be asked, and Searcher for files that moved.

    query : the question, or the file of a recipe, whose own k then counts. save_recipe : where to write the question as
    a recipe once it is answered.
    """
    from lookalike.indexer.answer import check_names
    from lookalike.indexer.recipe import Recipe
    from lookalike.indexer.search import Searcher

    check_names(columns)
    recipe = Recipe.read(query) if isinstance(query, Path) else None
    searcher = Searcher(index, samples=samples, embeddings=embeddings, checkpoint=checkpoint)
    if save_recipe is not None:
        Recipe.check_output(save_recipe)
    if isinstance(query, Query) and (query.positives or save_recipe is not None):
        recipe = query.recipe(searcher, k)
    if isinstance(query, Query) and query.id is not None:
        found = searcher.neighbors(
            query.id, k, columns=columns, max_overlap=max_overlap, at=query.centers, within=query.windows,
            where=query.where, approximate=approximate,
        )  # fmt: skip
    elif recipe is not None:
        found = searcher.by_recipe(recipe, columns=columns, max_overlap=max_overlap, approximate=approximate)
    else:
        assert isinstance(query, Query)
        found = _by_sight(searcher, query, k, columns, max_overlap, approximate)
    if save_recipe is not None:
        assert recipe is not None
        recipe.write(save_recipe)
    return found


def _by_sight(
    searcher: Searcher, query: Query, k: int, columns: Sequence[str], max_overlap: float | None, approximate: bool
) -> Answer:
    """Search by a picture or a vector."""
    if max_overlap is not None:
        raise InputError("--max-overlap needs a query with a place in the data set: use it with --id.")
    at, within, where = query.centers, query.windows, query.where
    searcher.check(k, at=at, columns=columns, within=within, where=where, approximate=approximate)
    if query.vector is not None:
        vector, asked = read_vector(query.vector), None
    else:
        assert query.image is not None
        vector, asked = embed_picture(searcher, query.image), {"image": query.image.name, "at": at}
    return searcher.by_vector(
        vector, k, at=at, columns=columns, query=asked, within=within, where=where, approximate=approximate
    )


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
