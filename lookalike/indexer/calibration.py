"""What a similarity means: the share of random pairs within a window that are at least as similar.

At the build, pairs are drawn in each of several cells, runs of objects with neighboring values of the window's column:
an object of the cell, each as likely, and one of its candidates, each as likely. Kept are the highest similarities one
by one, and of the others each some 5 % further down. Of n pairs drawn nothing rarer than 1 / n can be told. The draws
follow from a fixed seed; they are no part of a version, but lie in `extras/<version>/calibration.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.config import Config
from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, LookalikeError
from lookalike.files import read_json, write_json
from lookalike.indexer.conditions import Conditions
from lookalike.indexer.ordered import Sorted
from lookalike.indexer.store import Index, extras_folder
from lookalike.indexer.windows import Ranges, Window, everyone, ranges
from lookalike.samples import Samples

FILE = "calibration.json"
SEED = 5
SHARE = 2000  # one of so many pairs is drawn, which costs some 4 % of a build
LEAST, MOST = 10_000, 320_000  # pairs drawn in all
PER_CELL, MOST_CELLS = 10_000, 32
STEP = 1.05  # between one kept count and the next
BLOCK_BYTES = 2**24  # of the pairs compared at once


class Cell(Config):
    """The pairs of one cell: it begins at `start` on the window's scale; `similarity` of the pairs at each count."""

    start: float | None  # None without a window
    drawn: int
    similarity: tuple[float, ...]  # the count-th highest, for the counts of `counts(drawn)`


class Stored(Config):
    """The file: of which version it is, and its cells in order."""

    content_hash: str
    seed: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class RandomShare:
    """The share of random pairs that are as similar; with `below` none of those drawn was, and it is less."""

    share: float
    below: bool


def counts(drawn: int) -> NDArray[np.int64]:
    """Which of the highest similarities are kept, counted from 1: all to 20, then each 5 % more, and the last."""
    steps = np.floor(STEP ** np.arange(int(np.log(max(drawn, 1)) / np.log(STEP)) + 1)).astype(np.int64)
    kept: NDArray[np.int64] = np.unique(np.concatenate([np.arange(1, 21), steps, [drawn]]))
    return kept[kept <= drawn]


def pairs_drawn(pairs: int) -> int:
    """How many of all pairs are drawn."""
    return int(np.clip(pairs // SHARE, LEAST, MOST))


def drawn_cells(
    near: Sorted, within: Ranges, x: NDArray[np.float64] | None, *, seed: int = SEED, total: int | None = None
) -> list[Cell]:
    """Draw the pairs of all cells. x : (N,) the window's values, None without one. total : pairs drawn in all."""
    candidates = within.high - within.low - 1  # (M,)
    if total is None:
        total = pairs_drawn(int(candidates.sum()) // 2)
    number = 1 if x is None else int(np.clip(total // PER_CELL, 1, MOST_CELLS))
    cells = []
    for cell, places in enumerate(np.array_split(np.arange(len(within.order)), number)):
        able = places[candidates[places] > 0]
        if not len(able):
            continue
        values = _drawn(near, within, able, total // number, np.random.default_rng((seed, cell)))
        kept = np.sort(values)[::-1][counts(len(values)) - 1]
        start = None if x is None else float(x[within.order[places[0]]])
        cells.append(Cell(start=start, drawn=len(values), similarity=tuple(float(str(value)) for value in kept)))
    return cells


def _drawn(
    near: Sorted, within: Ranges, able: NDArray[np.int64], n: int, draw: np.random.Generator
) -> NDArray[np.float32]:
    """Similarities (n,) of random pairs whose first is one of the places `able`."""
    first = np.sort(draw.choice(able, n))  # in order, for the reads' sake
    second = within.low[first] + draw.integers(0, within.high[first] - within.low[first] - 1)
    second += second >= first  # itself is no candidate
    out = np.empty(n, np.float32)
    step = max(1, BLOCK_BYTES // (24 * near.dimensions))  # two vectors as stored and in float64
    for start in range(0, n, step):
        part = slice(start, start + step)
        a, b = near.at(first[part]).astype(np.float64), near.at(second[part]).astype(np.float64)  # (b, D)
        out[part] = np.einsum("nd,nd->n", a, b)
    return out


def calibrate(folder: Path, version: str, samples: Samples, embeddings: Embeddings, memory_bytes: int) -> None:
    """Draw and store a version's calibration, unless it has one."""
    path = extras_folder(folder, version) / FILE
    index = Index(folder, version)
    if path.exists() and _is_of(path, index):
        return
    x = None if index.window is None else index.window.values(samples)
    within = everyone(index.n) if index.window is None or x is None else ranges(x, index.window.half_width)
    near = Sorted(embeddings.vectors, within.order, memory_bytes // 4)
    cells = drawn_cells(near, within, x)
    _write(path, Stored(content_hash=index.manifest.content_hash, seed=SEED, cells=tuple(cells)))


def take_over(folder: Path, before: str, version: str) -> None:
    """Give a version the calibration of another of equal content, where that has one."""
    path, index = extras_folder(folder, before) / FILE, Index(folder, version)
    if path.exists() and _is_of(path, index):
        _write(extras_folder(folder, version) / FILE, _read(path, index))


def _write(path: Path, stored: Stored) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, stored.model_dump(mode="json"))


def _is_of(path: Path, index: Index) -> bool:
    """Whether a file describes this version: a killed build may have left one of another under its name."""
    try:
        return _read(path, index) is not None
    except CorruptError:
        return False


def _read(path: Path, index: Index) -> Stored:
    again = "remove it, and the same `lookalike index` makes it again."
    try:
        stored = Stored.checked(read_json(path))
    except LookalikeError as error:
        raise CorruptError(f"{path} is not a calibration of ours ({error.message}); {again}") from None
    sound = all(len(cell.similarity) == len(counts(cell.drawn)) for cell in stored.cells)
    if not sound or stored.content_hash != index.manifest.content_hash:
        raise CorruptError(f"{path} does not belong to version {index.version}; {again}")
    return stored


class Calibration:
    """A version's calibration, ready to be asked."""

    def __init__(self, cells: tuple[Cell, ...]) -> None:
        self._drawn = [cell.drawn for cell in cells]
        self._starts = np.array([-np.inf if cell.start is None else cell.start for cell in cells])
        self._ascending = [np.array(cell.similarity, np.float32)[::-1] for cell in cells]
        self._counts = [counts(cell.drawn)[::-1] for cell in cells]

    @classmethod
    def of(cls, index: Index) -> Calibration | None:
        """What was stored of a version; None where nothing was, CorruptError where it is not that version's."""
        path = extras_folder(index.folder, index.version) / FILE
        if not path.exists():
            return None
        return cls(_read(path, index).cells)

    def shares(self, x: float | None, similarity: NDArray[Any]) -> list[RandomShare | None]:
        """The share (n,) of random pairs as similar, for a query at x on the window's scale, None without a window."""
        if not self._drawn or (x is not None and not np.isfinite(x)):
            return [None] * len(similarity)
        cell = 0 if x is None else max(int(np.searchsorted(self._starts, x, "right")) - 1, 0)
        n, kept = self._drawn[cell], self._counts[cell]
        # Of the kept similarities the first that is less bounds how many pairs are as similar.
        less = np.searchsorted(self._ascending[cell], similarity.astype(np.float32), "left")
        bound = [n if not place else int(kept[place - 1]) - 1 for place in less.tolist()]
        return [RandomShare(max(count, 1) / n, count == 0) for count in bound]


def random_shares(
    calibration: Calibration | None, window: Window | None, conditions: Conditions, similarity: NDArray[np.float32]
) -> list[tuple[float | None, bool]]:
    """Of each similarity (n,) the share of random pairs as similar, and whether it is below that; see Result.

    Known only where just the index's own window around one value was applied, or none where it has none: so were the
    pairs drawn. A filter leaves out results, not pairs.
    """
    own = () if window is None else (window,)
    centers = [float(x) for placed in conditions.windows for x in placed.scaled]
    if calibration is None or tuple(p.window for p in conditions.windows) != own or len(centers) != len(own):
        return [(None, False)] * len(similarity)
    found = calibration.shares(centers[0] if centers else None, similarity)
    return [(None, False) if one is None else (one.share, one.below) for one in found]
