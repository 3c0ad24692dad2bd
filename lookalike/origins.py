"""Where stored objects came from, kept while a samples file is written: a repeated id is told with both places."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

Told = Callable[[int], str]


@dataclass(frozen=True)
class Rows:
    """The rows (N,) of its source that a block of objects comes from, and how that source tells one of them."""

    numbers: NDArray[np.integer[Any]]
    told: Told


def rows_of(file: Path | str, first: int) -> Told:
    """How rows of a file are told; `first` is what its source counts from."""
    return lambda row: f"row {row + first:,} of {file} (counted from {first})"


class Origins:
    """The source's rows of every object stored so far, as ranges where they are consecutive, to save memory."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._blocks: list[tuple[Sequence[int] | NDArray[np.integer[Any]], Told]] = []
        self._n = 0

    def add(self, count: int, rows: Rows | None) -> None:
        """The next block of objects; without rows they are told by their places among those stored."""
        told = _told_stored if rows is None else rows.told
        numbers = np.arange(self._n, self._n + count) if rows is None else rows.numbers
        consecutive = len(numbers) > 0 and bool((np.diff(numbers) == 1).all())
        self._starts.append(self._n)
        self._blocks.append((range(int(numbers[0]), int(numbers[-1]) + 1) if consecutive else numbers, told))
        self._n += count

    def told(self, place: int) -> str:
        """Where the object of a place among those stored came from."""
        block = bisect_right(self._starts, place) - 1
        numbers, told = self._blocks[block]
        return told(int(numbers[place - self._starts[block]]))

    def refuse_repeated(self, ids: NDArray[np.bytes_], first: int = 0) -> None:
        """InputError that names the first two objects of one id; `first` is the place of the first of the ids (N,)."""
        ordered = np.sort(ids)
        if not (ordered[1:] == ordered[:-1]).any():
            return
        order = np.argsort(ids, kind="stable")
        second = int(order[1:][ids[order[1:]] == ids[order[:-1]]].min())
        one = int(np.flatnonzero(ids == ids[second])[0])
        raise InputError(
            f"Ids must be unique, but {ids[second].decode()!r} occurs twice: {self.told(first + one)} and "
            f"{self.told(first + second)}.",
            code="duplicate_id",
        )


def _told_stored(row: int) -> str:
    return f"object {row:,} of those stored (counted from 0)"
