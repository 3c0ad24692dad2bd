"""The Searcher: query by example on one index folder, from its stored lists or live, without torch or faiss."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import InputError, unknown
from lookalike.indexer.answer import Answer, Result, Value, plain, shortest
from lookalike.indexer.calibration import Calibration
from lookalike.indexer.footprints import DEFAULT_LIMIT, Footprints
from lookalike.indexer.live import prepared, ranking
from lookalike.indexer.similarity import similarities
from lookalike.indexer.store import Index
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
        self._window_values: NDArray[np.float64] | None = None

    def neighbors(
        self,
        id: str,
        k: int,
        *,
        offset: int = 0,
        max_overlap: float | None = None,
        columns: Sequence[str] = (),
        at: Mapping[str, float] | None = None,
    ) -> Answer:
        """The k most similar objects within the object's own window, from rank offset + 1 on, itself left out.

        at : {column: value} to center the window on instead, found by a live search. max_overlap : leave out objects
        covering more than this share (0 to 1) of the query's footprint. columns : catalog columns to give with each
        result. A stored list that is too short is finished by a live search under the same conditions, and the answer
        says so.
        """
        row = self.samples.row(id)
        k, capped = self._check(k, offset, columns, self.n - 1)
        last = offset + k
        stored = self._stored(row)
        over = self._overlap(row, stored, max_overlap)
        live = bool(at) or self._runs_short(over, last)
        placed, _ = self._placed(at) if at else (None, ())
        center = self._center(row) if placed is None else placed
        if live:
            rows, similarity, left_out = self._finish_live(row, placed, offset, last, max_overlap)
        else:
            kept = np.flatnonzero(~over)[:last]
            rows, similarity = stored[kept], self.index.similarity[row][kept]
            end = int(kept[-1]) if len(kept) == last else len(stored)
            left_out = int(over[:end].sum())
        return Answer(
            self.version,
            {"id": id, "at": dict(at)} if at else {"id": id},
            self._window_at(center),
            "live" if live else "stored",
            k,
            self._results(rows, similarity, offset, columns, center),
            offset,
            left_out,
            max_overlap,
            (*capped, *self._notes(id, center, last, len(rows))),
        )

    def is_stored(self, id: str, k: int, *, offset: int = 0, max_overlap: float | None = None) -> bool:
        """Whether `neighbors` answers this from the stored list alone, without a live search."""
        row = self.samples.row(id)
        k, _ = self._check(k, offset, (), self.n - 1)
        return not self._runs_short(self._overlap(row, self._stored(row), max_overlap), offset + k)

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
        """Exact live search from a vector (D,), taken as an embedding would be stored (normalized, rounded).

        at : {column: value} of the index's window, whose column it must name; without it no window is applied, and
        the answer says so. exclude : ids never to return. query : what the answer is to name as its query.
        """
        k, capped = self._check(k, offset, columns, self.n)
        center, notes = self._placed(at)
        embeddings = self.embeddings()
        wanted = prepared(vector, embeddings.dimensions, embeddings.vectors.dtype)
        candidates: Rows | None = None
        if center is not None:
            candidates = self._inside(self._scaled(center))
        if exclude:
            everyone = np.arange(self.n) if candidates is None else candidates
            candidates = np.setdiff1d(everyone, [self.samples.row(name) for name in exclude])
        rows, similarity = self._rank(candidates, wanted, offset + k)
        if len(rows) < offset + k:
            where = "to find" if center is None or self.window is None else f"within {self.window.words}"
            notes = (*notes, f"Only {_are(len(rows), 'object')} {where}.")
        return Answer(
            self.version,
            query if query is not None else {"vector_dimensions": len(wanted), "at": dict(at or {})},
            None if center is None else self._window_at(center),
            "live",
            k,
            self._results(rows, similarity, offset, columns, center),
            offset,
            notes=(*capped, *notes),
        )

    def check(self, k: int, *, at: Mapping[str, float] | None = None, columns: Sequence[str] = ()) -> None:
        """Refuse a question that `by_vector` would refuse whatever the vector, before one is made at some cost."""
        self._check(k, 0, columns, self.n)
        self._placed(at)

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

    def _stored(self, row: int) -> Rows:
        """The stored list of a row, as long as it is."""
        stored: Rows = self.index.neighbor_row[row].astype(np.int64)  # (stored k,)
        end = int(np.searchsorted(stored < 0, True))
        return stored[:end]

    def _runs_short(self, over: NDArray[np.bool_], last: int) -> bool:
        """Whether a stored list, less its overlapping objects, ends before rank `last` though there are more."""
        whole = len(over) < self.k or len(over) == self.n - 1  # there is no further candidate
        return not whole and len(over) - int(over.sum()) < last

    def _finish_live(
        self, row: int, placed: float | None, offset: int, last: int, max_overlap: float | None
    ) -> tuple[Rows, NDArray[np.float32], int]:
        """The `last` best of a query's window without its overlapping objects, and how many of those rank above."""
        vectors = self.embeddings().vectors
        candidates = np.arange(self.n)
        if self.window is not None:
            candidates = self._inside(float(self._x()[row]) if placed is None else self._scaled(placed))
        over = np.intersect1d(self.overlapping(row, max_overlap), candidates) if max_overlap is not None else NONE
        candidates = np.setdiff1d(candidates, np.append(over, row))
        if offset >= len(candidates):  # beyond the end: nothing is shown, so nothing need be ranked
            return candidates, np.empty(len(candidates), np.float32), len(over)
        rows, similarity = self._rank(candidates, vectors[row], last)
        if len(rows) < last:
            return rows, similarity, len(over)
        of_over = similarities(vectors, over, vectors[row])
        above = (of_over > similarity[-1]) | ((of_over == similarity[-1]) & (over < rows[-1]))
        return rows, similarity, int(above.sum())

    def _rank(self, candidates: Rows | None, query: NDArray[Any], wanted: int) -> tuple[Rows, NDArray[np.float32]]:
        return ranking(self.embeddings().vectors, candidates, query, wanted, self.index.manifest.max_length)

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

    def _center(self, row: int) -> Value:
        return None if self.window is None else plain(self.samples.values(self.window.column, [row])[0])

    def _window_at(self, center: Any) -> dict[str, Any] | None:
        if self.window is None:
            return None
        own = self.window.to_json()
        return {"column": own["column"], "log": own["log"], "center": center, "half_width": own["half_width"]}

    def _placed(self, at: Mapping[str, float] | None) -> tuple[float | None, tuple[str, ...]]:
        """The center of a vector's window, None for no window, and what to say about it."""
        window = self.window
        for name in at or {}:
            if window is None:
                raise InputError(
                    f"{self.folder} was built without a window, so no {name} can place the query in one; leave it out.",
                    code="no_window",
                )
            if name != window.column:
                raise unknown("window column", name, [window.column])
        if window is None:
            return None, ()
        if not at:
            return None, (
                f"No window was applied, since the query has no {window.column} of its own. To search within "
                f"{window.words}, give it one: `--at {window.column}=VALUE` on the command line.",
            )
        center = float(at[window.column])
        if not math.isfinite(self._scaled(center)):
            raise InputError(f"{window.column} = {center:g} is in no window {window.words}; give a defined value.")
        return center, ()

    def _scaled(self, center: float) -> float:
        """A value of the window's column on the window's own scale."""
        assert self.window is not None
        return float(self.window.scale(np.array(center)))

    def _inside(self, x: float) -> Rows:
        """Rows within the window around a value on its scale."""
        assert self.window is not None
        return np.flatnonzero(self.window.inside(x, self._x()))

    def _x(self) -> NDArray[np.float64]:
        """The window's values (N,) on its own scale, read once."""
        assert self.window is not None
        with self._lock:
            if self._window_values is None:
                self._window_values = self.window.values(self.samples)
            return self._window_values

    def _results(
        self, rows: Rows, similarity: NDArray[np.float32], offset: int, columns: Sequence[str], center: Value
    ) -> tuple[Result, ...]:
        shares = self._shares(similarity[offset:], center)
        values = {name: self.samples.values(name, rows[offset:]) for name in columns}
        return tuple(
            Result(
                place + 1,
                self.samples.id(int(rows[place])),
                int(rows[place]),
                shortest(similarity[place]),
                {name: plain(values[name][place - offset]) for name in columns},
                *shares[place - offset],
            )
            for place in range(offset, len(rows))
        )

    def _shares(self, similarity: NDArray[np.float32], center: Value) -> list[tuple[float | None, bool]]:
        """Of each similarity (n,) the share of random pairs as similar in the window that was applied; see Result."""
        windowed = self.window is not None
        if self.calibration is None or (windowed and not isinstance(center, float | int)):
            return [(None, False)] * len(similarity)
        x = self._scaled(float(center)) if windowed and isinstance(center, float | int) else None
        found = self.calibration.shares(x, similarity)
        return [(None, False) if one is None else (one.share, one.below) for one in found]

    def _notes(self, id: str, center: Value, last: int, found: int) -> tuple[str, ...]:
        if self.window is not None and self._undefined(center):
            return (
                f"{id} has no {self.window.column}, so it is in no window: `--at {self.window.column}=VALUE` on the "
                "command line places it in one, and an index built without --window finds its likes among all.",
            )
        if found < last and self.window is not None:
            return (f"Only {_are(found, 'object')} within {self.window.words} and not left out.",)
        if found < last:
            return (f"Only {_are(found, 'other object')} not left out.",)
        return ()

    def _undefined(self, center: Value) -> bool:
        """Whether a query's own value is in no window: there is none, or its log is undefined."""
        assert self.window is not None
        return center is None or bool(np.isnan(self.window.scale(np.array(center))))


def _are(number: int, noun: str) -> str:
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
