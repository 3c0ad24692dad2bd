"""Which candidates can be among the best of a live search, by scores that are cheap and off by a known width."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.similarity import Similarities
from lookalike.parallel import in_parts, processors

Rows = NDArray[np.int64]
# Scores (n,) float32 of a run of rows, or of some, and widths: one number, or (n,) of them. The canonical similarity of
# each lies between its score less its width and its score, all of them moved by the same amount.
Bounds = Callable[[slice | Rows], tuple[Similarities, float | Similarities]]


def in_reach(bounds: Bounds, n: int, candidates: Rows | None, wanted: int, step: int) -> Rows:
    """Rows among which the `wanted` best of n candidates are, by scores taken of `step` at once.

    candidates : rows (n,), None for the first n of all.
    """
    ended: list[_Reach] = []

    def scan(part: slice) -> None:
        reach = _Reach(wanted)
        for start in range(part.start, part.stop, step):
            run = slice(start, min(start + step, part.stop))
            some = None if candidates is None else candidates[run]
            reach.add(*bounds(run if some is None else some), start, some)
        reach.cut()
        ended.append(reach)

    in_parts(scan, n, processors())
    whole = _Reach(wanted)
    for reach in ended:
        whole.add(reach.score, reach.width, 0, reach.rows)
    whole.cut()
    return whole.rows


class _Reach:
    """The rows seen so far that may be among the `wanted` best, with their scores and widths."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.rows, self.score, self.width = np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0)
        self._floor = -math.inf
        self._new: list[tuple[Rows, Similarities, NDArray[np.float64]]] = []
        self._held, self._full = 0, 2 * wanted

    def add(self, score: Similarities, width: float | NDArray[np.floating], first: int, rows: Rows | None) -> None:
        """See more scores (n,): of `rows` (n,), or of the rows from `first` on."""
        near = np.flatnonzero(score >= self._floor)
        if len(near):
            wide = np.broadcast_to(np.asarray(width, np.float64), score.shape)[near]
            self._new.append((near + first if rows is None else rows[near], score[near], wide))
            self._held += len(near)
        if self._held > self._full:
            self.cut()
            self._full = 2 * self._held + self.wanted  # each is then moved a few times at most

    def cut(self) -> None:
        """Drop what scores less than `wanted` others have at least: it cannot be among the wanted."""
        self.rows = np.concatenate([self.rows, *(rows for rows, _, _ in self._new)])
        self.score = np.concatenate([self.score, *(score for _, score, _ in self._new)])
        self.width = np.concatenate([self.width, *(width for _, _, width in self._new)])
        self._new = []
        last = len(self.score) - self.wanted
        if last > 0:
            # Rounded down to float32, as the scores are: a floor between two of them is the lower one.
            floor = np.partition(self.score - self.width, last)[last]
            self._floor = float(np.nextafter(np.float32(floor), np.float32(-np.inf)))
            near = self.score >= self._floor
            self.rows, self.score, self.width = self.rows[near], self.score[near], self.width[near]
        self._held = len(self.rows)
