"""What an index holds for one question: the beginning of a stored list, or a live ranking under the same conditions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import InputError
from lookalike.indexer.answer import Found, Used, plain
from lookalike.indexer.approximate import Cells
from lookalike.indexer.candidates import Candidates
from lookalike.indexer.conditions import Conditions, kept
from lookalike.indexer.footprints import DEFAULT_LIMIT, Footprints
from lookalike.indexer.live import ranking
from lookalike.indexer.rounded import Rounded
from lookalike.indexer.similarity import similarities
from lookalike.indexer.store import Index
from lookalike.samples import Samples

Rows = NDArray[np.int64]
NONE: Rows = np.empty(0, np.int64)


@dataclass(frozen=True)
class Wanted:
    """The `k` results from rank offset + 1 on that meet the conditions.

    max_overlap : leave out what covers more than this share of the query's footprint. approximate : rank live only
    what the approximate stage points at.
    """

    conditions: Conditions
    k: int
    offset: int = 0
    max_overlap: float | None = None
    approximate: bool = False

    @property
    def last(self) -> int:
        """The rank of the last one, which is how many have to be found."""
        return self.offset + self.k


class Finder:
    """Stored lists and vectors of one open index; the vectors are mapped at the first live search.

    embeddings : their file, if not where the index recorded it. Safe to share between threads.
    """

    def __init__(self, index: Index, samples: Samples, embeddings: Path | None) -> None:
        self.index, self.samples = index, samples
        self.footprints, self.footprints_note = Footprints.of(samples, index.manifest.footprint_px)
        self.candidates = Candidates(samples, index.window)
        self._place = embeddings
        self._lock = threading.Lock()
        self._embeddings: Embeddings | None = None
        self._rounded: Rounded | None = None
        self._cells: Cells | None = None

    def embeddings(self) -> Embeddings:
        """The vectors the index was built from, mapped at the first call, as are those rounded."""
        with self._lock:
            if self._embeddings is None:
                self._rounded = Rounded.of(self.index)
                self._embeddings = self.index.open_embeddings(self._place)
            return self._embeddings

    def cells(self) -> Cells:
        """The index's approximate stage, read at the first call; NotFoundError where none was built."""
        with self._lock:
            if self._cells is None:
                self._cells = Cells.read(self.index)
            return self._cells

    def stored(self, row: int, wanted: Wanted, usual: bool) -> Found | None:
        """The first of a stored list that may be returned; None where the list ends before, unlike the data.

        usual : the conditions are the index's own window around the object's own value.
        """
        rows, similarity = self.index.stored(row)  # (k,)
        listed: Rows = rows[: int(np.searchsorted(rows < 0, True))].astype(np.int64)
        over = self._overlap(row, listed, wanted.max_overlap)
        meet = np.ones(len(listed), np.bool_)  # of the lists' own window, if nothing else was asked for
        if not usual:
            window = self.index.window
            center = None if window is None else plain(self.samples.values(window.column, [row])[0])
            if not wanted.conditions.lie_in(window, center):
                return None
            if wanted.conditions:
                meet = self.candidates.meet(wanted.conditions, listed)
        good = np.flatnonzero(meet & ~over)[: wanted.last]
        whole = len(listed) < self.index.k or len(listed) == self.index.n - 1  # there is no further candidate
        if len(good) < wanted.last and not whole:
            return None
        end = int(good[-1]) if 0 < wanted.last == len(good) else len(listed)
        return Found(listed[good], similarity[good], int((meet & over)[:end].sum()), "stored")

    def live(self, query: NDArray[Any], wanted: Wanted, excluded: Sequence[int], seen: Sequence[int] = ()) -> Found:
        """The best of a query (D,) that meet the conditions and overlap none of the rows `seen`.

        excluded : rows never to return, in order.
        """
        conditions, out = wanted.conditions, np.array(excluded, np.int64)
        over = self._overlapping(seen, wanted.max_overlap)
        over = over[~np.isin(over, out)]
        if conditions and len(over):
            over = over[self.candidates.meet(conditions, over)]
        among = self.candidates.all(conditions)
        away = np.union1d(out, over)
        if among is not None:
            among = kept(among, away)
        count = self.index.n - len(away) if among is None else len(among)
        if wanted.offset >= count:  # beyond the end: nothing is shown, so nothing need be ranked
            return Found(NONE, np.empty(0, np.float32), len(over), "live", count)
        used: Used | None = None
        if wanted.approximate:
            among, used = self.cells().candidates(query, among, away, wanted.last)
        rows, similarity = self._rank(among, away, query, wanted.last)
        left_out = len(over)
        if len(rows) == wanted.last and len(over):
            of_over = similarities(self.embeddings().vectors, over, query)
            left_out = int(((of_over > similarity[-1]) | ((of_over == similarity[-1]) & (over < rows[-1]))).sum())
        return Found(rows, similarity, left_out, "live", count, used)

    def overlapping(self, row: int, limit: float = DEFAULT_LIMIT) -> Rows:
        """Rows whose footprint covers more than `limit` of that of `row`, without itself; none without footprints."""
        return NONE if self.footprints is None else self.footprints.overlapping(row, limit)

    def _rank(self, among: Rows | None, away: Rows, query: NDArray[Any], last: int) -> tuple[Rows, NDArray[np.float32]]:
        """The `last` best of some rows, or of all but those `away`, which are few: they are dropped afterwards."""
        vectors, longest = self.embeddings().vectors, self.index.manifest.max_length
        if among is not None:
            return ranking(vectors, among, query, last, longest, self._rounded)
        rows, similarity = ranking(vectors, None, query, last + len(away), longest, self._rounded)
        stay = np.flatnonzero(~np.isin(rows, away))[:last]
        return rows[stay], similarity[stay]

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
