"""The Searcher: query by example on one index folder, from its stored lists or live, without torch or faiss."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import InputError, unknown
from lookalike.indexer.answer import Answer, Found, Result, Used, Value, plain, results
from lookalike.indexer.approximate import Cells
from lookalike.indexer.calibration import Calibration, random_shares
from lookalike.indexer.candidates import Candidates
from lookalike.indexer.conditions import Conditions, check_windows, kept
from lookalike.indexer.footprints import DEFAULT_LIMIT, Footprints
from lookalike.indexer.live import prepared, ranking
from lookalike.indexer.notes import too_few
from lookalike.indexer.recipe import Recipe
from lookalike.indexer.similarity import similarities
from lookalike.indexer.store import Index
from lookalike.indexer.windows import Window
from lookalike.wording import counted

__all__ = ["Answer", "Result", "Searcher"]

Rows = NDArray[np.int64]
NONE: Rows = np.empty(0, np.int64)


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
        self.footprints, self.footprints_note = Footprints.of(self.samples, self.index.manifest.footprint_px)
        self.has_footprints = self.footprints is not None
        self.calibration = Calibration.of(self.index)
        self._places = (embeddings, checkpoint)
        self._lock = threading.Lock()
        self._embeddings: Embeddings | None = None
        self._approximate: Cells | None = None
        self._candidates = Candidates(self.samples, self.window)

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
        usual = not at and within is None and where is None
        found = self._from_stored(row, conditions, usual, offset + k, max_overlap)
        if found is None:
            vector = self.embeddings().vectors[row]
            found = self._search(vector, conditions, [row], [row], offset, offset + k, max_overlap, approximate)
        query = {"id": id, "at": dict(at)} if at else {"id": id}
        notes = (*capped, *too_few(found, conditions, offset + k, f"{id} has", at))
        return self._answer(query, found, conditions, k, offset, columns, notes, max_overlap)

    def is_stored(self, id: str, k: int, *, offset: int = 0, max_overlap: float | None = None) -> bool:
        """Whether `neighbors` answers this from the stored list alone, without a live search."""
        row = self.samples.row(id)
        k, _ = self._check(k, offset, (), self.n - 1)
        return self._from_stored(row, Conditions(), True, offset + k, max_overlap) is not None

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
        wanted = prepared(vector, stored.dimensions, stored.vectors.dtype)
        excluded = sorted({self.samples.row(name) for name in exclude})
        found = self._search(wanted, conditions, excluded, [], offset, offset + k, None, approximate)
        asked = query if query is not None else {"vector_dimensions": len(wanted), "at": dict(at or {})}
        notes = (*capped, *notes, *too_few(found, conditions, offset + k))
        return self._answer(asked, found, conditions, k, offset, columns, notes)

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
        wanted = prepared(vector, vectors.shape[1], vectors.dtype)
        found = self._search(wanted, conditions, examples, positives, offset, offset + k, max_overlap, approximate)
        whose = f"{recipe.positives[0]} has" if len(positives) == 1 else "The positives have"
        notes = (*capped, *too_few(found, conditions, offset + k, whose, at))
        asked = {"recipe": recipe.to_json()}
        return self._answer(asked, found, conditions, k, offset, columns, notes, max_overlap, len(examples))

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
            self._cells()

    def object(self, id: str) -> dict[str, Value]:
        """Every catalog column of one object; undefined is None."""
        row = self.samples.row(id)
        return {name: plain(value) for name, value in self.samples.record(row).items()}

    def random_id(self, seed: int | None = None) -> str:
        """The id of a random object, the same for the same seed."""
        return self.samples.id(int(np.random.default_rng(seed).integers(self.n)))

    def overlapping(self, row: int, limit: float = DEFAULT_LIMIT) -> Rows:
        """Rows whose footprint covers more than `limit` of that of `row`, without itself; none without footprints."""
        return NONE if self.footprints is None else self.footprints.overlapping(row, limit)

    def embeddings(self) -> Embeddings:
        """The vectors the index was built from, mapped at the first call."""
        with self._lock:
            if self._embeddings is None:
                self._embeddings = self.index.open_embeddings(self._places[0])
            return self._embeddings

    def checkpoint(self) -> Path:
        """The folder of the encoder that made the embeddings; NotFoundError ("no_checkpoint") where none was given."""
        return self.index.checkpoint(self._places[1])

    def _cells(self) -> Cells:
        """The index's approximate stage, read at the first call; NotFoundError where none was built."""
        with self._lock:
            if self._approximate is None:
                self._approximate = Cells.read(self.index)
            return self._approximate

    def _from_stored(
        self, row: int, conditions: Conditions, usual: bool, last: int, max_overlap: float | None
    ) -> Found | None:
        """The first `last` of a stored list that may be returned; None where the list ends before, unlike the data.

        usual : the conditions are the index's own window around the object's own value.
        """
        stored: Rows = self.index.stored(row)[0].astype(np.int64)  # (k,)
        stored = stored[: int(np.searchsorted(stored < 0, True))]
        over = self._overlap(row, stored, max_overlap)
        meet = np.ones(len(stored), np.bool_)  # of the lists' own window, if nothing else was asked for
        if not usual:
            center = None if self.window is None else plain(self.samples.values(self.window.column, [row])[0])
            if not conditions.lie_in(self.window, center):
                return None
            if conditions:
                meet = self._candidates.meet(conditions, stored)
        kept = np.flatnonzero(meet & ~over)[:last]
        whole = len(stored) < self.k or len(stored) == self.n - 1  # there is no further candidate
        if len(kept) < last and not whole:
            return None
        end = int(kept[-1]) if 0 < last == len(kept) else len(stored)
        left_out = int((meet & over)[:end].sum())
        return Found(stored[kept], self.index.stored(row)[1][kept], left_out, "stored")

    def _search(
        self,
        query: NDArray[Any],
        conditions: Conditions,
        excluded: Sequence[int],
        seen: Sequence[int],
        offset: int,
        last: int,
        max_overlap: float | None,
        approximate: bool,
    ) -> Found:
        """The `last` best of a query (D,) that meet the conditions and overlap none of the rows `seen`.

        excluded : rows never to return, in order.
        """
        out = np.array(excluded, np.int64)
        over = self._overlapping(seen, max_overlap)
        over = over[~np.isin(over, out)]
        if conditions and len(over):
            over = over[self._candidates.meet(conditions, over)]
        among = self._candidates.all(conditions)
        away = np.union1d(out, over)
        if among is not None:
            among = kept(among, away)
        count = self.n - len(away) if among is None else len(among)
        if offset >= count:  # beyond the end: nothing is shown, so nothing need be ranked
            return Found(NONE, np.empty(0, np.float32), len(over), "live", count)
        used: Used | None = None
        if approximate:
            cells = self._cells()
            among, used = cells.candidates(query, among, away, last)
        rows, similarity = self._rank(among, away, query, last)
        left_out = len(over)
        if len(rows) == last and len(over):
            of_over = similarities(self.embeddings().vectors, over, query)
            left_out = int(((of_over > similarity[-1]) | ((of_over == similarity[-1]) & (over < rows[-1]))).sum())
        return Found(rows, similarity, left_out, "live", count, used)

    def _rank(self, among: Rows | None, away: Rows, query: NDArray[Any], last: int) -> tuple[Rows, NDArray[np.float32]]:
        """The `last` best of some rows, or of all but those `away`, which are few: they are dropped afterwards."""
        vectors, longest = self.embeddings().vectors, self.index.manifest.max_length
        if among is not None:
            return ranking(vectors, among, query, last, longest)
        rows, similarity = ranking(vectors, None, query, last + len(away), longest)
        stay = np.flatnonzero(~np.isin(rows, away))[:last]
        return rows[stay], similarity[stay]

    def _answer(
        self,
        query: Mapping[str, Any],
        found: Found,
        conditions: Conditions,
        k: int,
        offset: int,
        columns: Sequence[str],
        notes: tuple[str, ...],
        max_overlap: float | None = None,
        examples: int = 1,
    ) -> Answer:
        used, calibration = found.used, None if examples > 1 else self.calibration
        shares = random_shares(calibration, self.window, conditions, found.similarity[offset:])
        return Answer(
            self.version,
            query,
            tuple(placed.to_json() for placed in conditions.windows),
            found.source,
            k,
            results(self.samples, found, offset, columns, shares),
            offset,
            found.left_out,
            max_overlap,
            notes if used is None else (*notes, used.words),
            None if conditions.where is None else conditions.where.text,
            None if used is None else used.to_json(),
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

    def _overlap(self, row: int, others: Rows, max_overlap: float | None) -> NDArray[np.bool_]:
        """Which of the rows cover more than max_overlap of the query's footprint."""
        if max_overlap is None:
            return np.zeros(len(others), np.bool_)
        if not 0 <= max_overlap <= 1:
            raise InputError(f"max_overlap is a share from 0 to 1, but {max_overlap} was given.")
        if self.footprints is None:
            raise InputError(
                "Overlaps need x and y in px of one picture, or ra and dec in deg with a pixel scale. "
                + self.footprints_note,
                code="no_footprints",
            )
        over: NDArray[np.bool_] = self.footprints.share(row, others) > max_overlap
        return over

    def _overlapping(self, seen: Sequence[int], max_overlap: float | None) -> Rows:
        """Rows that cover more than max_overlap of the footprint of any of `seen`."""
        if max_overlap is None or not seen:
            return NONE
        self._overlap(seen[0], NONE, max_overlap)  # refuses what cannot be asked
        found: Rows = np.unique(np.concatenate([self.overlapping(row, max_overlap) for row in seen]))
        return found

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
        return self._candidates.conditions(windows, at or {}, rows, where)

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
