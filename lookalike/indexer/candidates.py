"""Which objects of one data set a search may return: its windows placed around the query, and its filter."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.answer import Value, plain
from lookalike.indexer.conditions import Conditions, Placed, center_given
from lookalike.indexer.where import Bools, Where
from lookalike.indexer.windows import Values, Window
from lookalike.samples import Samples

Rows = NDArray[np.int64]


class Candidates:
    """The catalog of one data set as searches ask it; of its columns only `window`'s is held in memory, once read.

    Safe to share between threads.
    """

    def __init__(self, samples: Samples, window: Window | None) -> None:
        self._samples, self._window = samples, window
        self._lock = threading.Lock()
        self._values: Values | None = None

    def conditions(
        self, windows: Sequence[Window], at: Mapping[str, float], rows: Sequence[int], where: str | None
    ) -> Conditions:
        """Windows around the values `at` names, else around those of `rows`, and a filter; InputError for odd ones."""
        parsed = None if where is None else Where.parse(where, self._samples.kinds)
        return Conditions(tuple(Placed(window, self._centers(window, at, rows)) for window in windows), parsed)

    def _centers(self, window: Window, at: Mapping[str, float], rows: Sequence[int]) -> tuple[Value, ...]:
        if window.column in at:
            return (center_given(window, at[window.column]),)
        return tuple(plain(value) for value in self._samples.values(window.column, rows))

    def meet(self, conditions: Conditions, rows: Rows) -> Bools:
        """Which of some rows (n,) meet them; read one by one."""
        return conditions.holds(
            lambda name: self._samples.values(name, rows),
            lambda window: window.scale(self._samples.values(window.column, rows)),
        )

    def all(self, conditions: Conditions) -> Rows | None:
        """Every row that meets them, in order; None where there are none to meet."""
        if not conditions:
            return None
        found: Rows = np.flatnonzero(conditions.holds(self._samples.column, self._scaled))
        return found

    def _scaled(self, window: Window) -> Values:
        """A window's values (N,) on its own scale; those of the index's window are read once."""
        own = self._window
        if own is None or (window.column, window.log) != (own.column, own.log):
            return window.values(self._samples)
        with self._lock:
            if self._values is None:
                self._values = window.values(self._samples)
            return self._values
