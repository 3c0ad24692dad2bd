"""The Searcher: query by example on one index folder, from its stored lists or live, without torch or faiss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import InputError, unknown
from lookalike.indexer.answer import Answer, Found, Result, Value, plain, results
from lookalike.indexer.calibration import Calibration, random_shares
from lookalike.indexer.conditions import Conditions, check_windows
from lookalike.indexer.finding import Finder, Wanted
from lookalike.indexer.footprints import DEFAULT_LIMIT
from lookalike.indexer.live import prepared
from lookalike.indexer.notes import too_few
from lookalike.indexer.recipe import Recipe
from lookalike.indexer.store import Index
from lookalike.indexer.windows import Window
from lookalike.wording import counted

__all__ = ["Answer", "Result", "Searcher"]


class Searcher:
    """One open index with its samples; embeddings are mapped at the first live search.

    samples, embeddings, checkpoint : where they are now, if not where the index recorded them; others are refused.
    Safe to share between threads. Errors: NotFoundError ("unknown_id" for an id), InputError, CorruptError.

    Attributes: folder, version ("v000001"), content_hash, n, k (stored per object), window (Window or None),
    samples, manifest (as JSON), has_footprints (positions are known; without them `max_overlap` is an InputError
    with code "no_footprints", and `footprints_note` says what is missing). Of the catalog only the window's and the
    footprints' columns are held in memory.
    """

    def __init__(
        self,
        folder: Path,
        *,
        samples: Sequence[Path] | None = None,
        embeddings: Path | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.index = Index(self.folder)
        self.samples = self.index.open_samples([Path(path) for path in samples] if samples else None)
        self.version, self.content_hash = self.index.version, self.index.manifest.content_hash
        self.n, self.k, self.window = self.index.n, self.index.k, self.index.window
        self.manifest: dict[str, Any] = self.index.manifest.model_dump(mode="json")
        self._finder = Finder(self.index, self.samples, embeddings)
        self.footprints, self.footprints_note = self._finder.footprints, self._finder.footprints_note
        self.has_footprints = self.footprints is not None
        self.calibration = Calibration.of(self.index)
        self._checkpoint = checkpoint

    def neighbors(
        self,
        id: str,
        k: int,
        *,
        offset: int = 0,
        max_overlap: float | None = None,
        columns: Sequence[str] = (),
        at: Mapping[str, float] | None = None,
        within: Sequence[Window] | None = None,
        where: str | None = None,
        approximate: bool = False,
    ) -> Answer:
        """The k most similar objects within the object's own window, from rank offset + 1 on, itself left out.

        at : {column: value} to center a window on instead of the object's own value. within : windows to lie in, all
        of them, in place of the index's. where : a filter by the catalog (where.py). max_overlap : leave out objects
        covering more than this share (0 to 1) of the query's footprint. columns : catalog columns to give with each
        result. approximate : search live only where the index's approximate stage points. A stored list that these
        leave too short, or that was made within another window, is finished by a live search under the same
        conditions, and the answer says so.
        """
        row = self.samples.row(id)
        k, capped = self._check(k, offset, columns, self.n - 1)
        conditions = self._conditions(within, at, [row], where)
        wanted = Wanted(conditions, k, offset, max_overlap, approximate)
        found = self._finder.stored(row, wanted, usual=not at and within is None and where is None)
        if found is None:
            found = self._finder.live(self.embeddings().vectors[row], wanted, [row], [row])
        query = {"id": id, "at": dict(at)} if at else {"id": id}
        notes = (*capped, *too_few(found, conditions, wanted.last, f"{id} has", at))
        return self._answer(query, wanted, found, columns, notes)

    def is_stored(self, id: str, k: int, *, offset: int = 0, max_overlap: float | None = None) -> bool:
        """Whether `neighbors` answers this from the stored list alone, without a live search."""
        row = self.samples.row(id)
        k, _ = self._check(k, offset, (), self.n - 1)
        return self._finder.stored(row, Wanted(Conditions(), k, offset, max_overlap), usual=True) is not None

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
        within: Sequence[Window] | None = None,
        where: str | None = None,
        approximate: bool = False,
    ) -> Answer:
        """Live search from a vector (D,), taken as an embedding would be stored (normalized, rounded).

        at : {column: value} to place it in the windows, of which it must name every column; without any the index's
        window is not applied, and the answer says so. exclude : ids never to return. query : what the answer is to name
        as its query. within, where, approximate : as for `neighbors`.
        """
        k, capped = self._check(k, offset, columns, self.n)
        conditions, notes = self._of_vector(within, at, where)
        stored = self.embeddings()
        direction = prepared(vector, stored.dimensions, stored.vectors.dtype)
        excluded = sorted({self.samples.row(name) for name in exclude})
        wanted = Wanted(conditions, k, offset, None, approximate)
        found = self._finder.live(direction, wanted, excluded)
        asked = query if query is not None else {"vector_dimensions": len(direction), "at": dict(at or {})}
        notes = (*capped, *notes, *too_few(found, conditions, wanted.last))
        return self._answer(asked, wanted, found, columns, notes)

    def by_recipe(
        self,
        recipe: Recipe,
        *,
        offset: int = 0,
        columns: Sequence[str] = (),
        max_overlap: float | None = None,
        approximate: bool = False,
    ) -> Answer:
        """Live search by positive and negative examples, which are never among the results.

        Windows lie around the recipe's centers, else around the positives' values: within the half-width of any of
        them. max_overlap : of the footprint of any positive. InputError ("other_index") for a recipe of another index.
        """
        if recipe.index != self.content_hash:
            raise InputError(
                f"The recipe is for the index of content hash {recipe.index[:12]}…, but {self.folder} "
                f"({self.version}) has {self.content_hash[:12]}…: search that one, or make the recipe anew.",
                code="other_index",
            )
        positives, negatives = (
            sorted(self.samples.row(name) for name in names) for names in (recipe.positives, recipe.negatives)
        )
        examples = sorted([*positives, *negatives])
        k, capped = self._check(recipe.k, offset, columns, self.n - len(examples))
        at = {w.window.column: w.center for w in recipe.windows if w.center is not None}
        conditions = self._conditions([w.window for w in recipe.windows], at, positives, recipe.where)
        vectors = self.embeddings().vectors
        vector = recipe.vector(vectors[positives], vectors[negatives])
        wanted = Wanted(conditions, k, offset, max_overlap, approximate)
        found = self._finder.live(prepared(vector, vectors.shape[1], vectors.dtype), wanted, examples, positives)
        whose = f"{recipe.positives[0]} has" if len(positives) == 1 else "The positives have"
        notes = (*capped, *too_few(found, conditions, wanted.last, whose, at))
        return self._answer({"recipe": recipe.to_json()}, wanted, found, columns, notes, len(examples))

    def check(
        self,
        k: int,
        *,
        at: Mapping[str, float] | None = None,
        columns: Sequence[str] = (),
        within: Sequence[Window] | None = None,
        where: str | None = None,
        approximate: bool = False,
    ) -> None:
        """Refuse a question that `by_vector` would refuse whatever the vector, before one is made at some cost."""
        self._check(k, 0, columns, self.n)
        self._of_vector(within, at, where)
        if approximate:
            self._finder.cells()

    def object(self, id: str) -> dict[str, Value]:
        """Every catalog column of one object; undefined is None."""
        row = self.samples.row(id)
        return {name: plain(value) for name, value in self.samples.record(row).items()}

    def random_id(self, seed: int | None = None) -> str:
        """The id of a random object, the same for the same seed."""
        return self.samples.id(int(np.random.default_rng(seed).integers(self.n)))

    def overlapping(self, row: int, limit: float = DEFAULT_LIMIT) -> NDArray[np.int64]:
        """Rows whose footprint covers more than `limit` of that of `row`, without itself; none without footprints."""
        return self._finder.overlapping(row, limit)

    def embeddings(self) -> Embeddings:
        """The vectors the index was built from, mapped at the first call."""
        return self._finder.embeddings()

    def checkpoint(self) -> Path:
        """The folder of the encoder that made the embeddings; NotFoundError ("no_checkpoint") where none was given."""
        return self.index.checkpoint(self._checkpoint)

    def _answer(
        self,
        query: Mapping[str, Any],
        wanted: Wanted,
        found: Found,
        columns: Sequence[str],
        notes: tuple[str, ...],
        examples: int = 1,
    ) -> Answer:
        used, conditions = found.used, wanted.conditions
        calibration = None if examples > 1 else self.calibration
        shares = random_shares(calibration, self.window, conditions, found.similarity[wanted.offset :])
        return Answer(
            index_version=self.version,
            query=query,
            windows=tuple(placed.to_json() for placed in conditions.windows),
            source=found.source,
            k=wanted.k,
            results=results(self.samples, found, wanted.offset, columns, shares),
            offset=wanted.offset,
            left_out=found.left_out,
            max_overlap=wanted.max_overlap,
            notes=notes if used is None else (*notes, used.words),
            where=None if conditions.where is None else conditions.where.text,
            approximate=None if used is None else used.to_json(),
        )

    def _check(self, k: int, offset: int, columns: Sequence[str], most: int) -> tuple[int, tuple[str, ...]]:
        """Refuse what cannot be asked; k, at most the `most` objects there are to find, and what to say about it."""
        if k < 1:
            raise InputError(f"k must be at least 1, but {k} was given.", code="invalid_k")
        if not 0 <= offset <= self.n:
            raise InputError(f"offset must be 0 to {self.n}, but {offset} was given.", code="invalid_offset")
        for name in columns:
            if name not in self.samples.columns:
                raise unknown("column", name, self.samples.columns)
        if k <= most:
            return k, ()
        there = f"{'is' if most == 1 else 'are'} only {counted(most, 'object')}"
        return most, (f"k = {k:,} was asked for, but there {there} to find: k = {most:,} was taken.",)

    def _conditions(
        self,
        within: Sequence[Window] | None,
        at: Mapping[str, float] | None,
        rows: Sequence[int],
        where: str | None,
    ) -> Conditions:
        """The windows asked for, else the index's, around `at` or the rows' own values; InputError for odd ones."""
        windows = within if within is not None else () if self.window is None else (self.window,)
        self.check_windows(windows, at or {})
        return self._finder.candidates.conditions(windows, at or {}, rows, where)

    def check_windows(self, windows: Sequence[Window], at: Mapping[str, float]) -> None:
        """InputError for windows that no search of this index can have, and for places in none of them."""
        for name in at:
            if not windows:
                why = "was built without a window" if self.window is None else "is searched without a window here"
                msg = f"{self.folder} {why}, so no {name} can place the query in one; leave it out, or give --within."
                raise InputError(msg, code="no_window")
        check_windows(windows, at, self.samples.kinds)

    def _of_vector(
        self, within: Sequence[Window] | None, at: Mapping[str, float] | None, where: str | None
    ) -> tuple[Conditions, tuple[str, ...]]:
        """The conditions of a query with no values of its own, and what to say about them."""
        window = self.window
        if within is None and window is not None and not at:
            return self._conditions((), None, (), where), (
                f"No window was applied, since the query has no {window.column} of its own. To search within "
                f"{window.words}, give it one: `--at {window.column}=VALUE` on the command line.",
            )
        conditions = self._conditions(within, at, (), where)
        for placed in conditions.windows:
            if not placed.centers:
                name = placed.window.column
                raise InputError(
                    f"The query has no {name} of its own to search within {placed.window.words} of; "
                    f"give it one: --at {name}=VALUE.",
                    code="no_center",
                )
        return conditions, ()
