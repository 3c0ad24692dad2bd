"""Two indexes of the same objects side by side: model against model, release against release."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.figures import plotted
from lookalike.files import atomic_path, report_output
from lookalike.indexer.overlap import Items, Matched, overlap_at, rank_biased_overlap
from lookalike.indexer.store import Index
from lookalike.progress import progress
from lookalike.spreadsheets import escaped

DEPTHS = (1, 10, 100)
PERSISTENCE = 0.9
BLOCK_BYTES = 2**25  # of one block's entries while they are compared
BINS = 50


@dataclass(frozen=True)
class Comparison:
    """Two indexes compared over the objects that both have.

    overlap : mean share of common neighbors at each depth; rbo : mean extrapolated rank-biased overlap. Both leave out
    the `without` objects that have no neighbors in either. gained, lost : neighbors that only b's, only a's list
    names, in all; of them `gained_new` are objects that only b has, `lost_gone` those that only a has.
    """

    a: str
    b: str
    common: int
    only_a: int
    only_b: int
    without: int
    depth: int
    overlap: dict[int, float | None]
    p: float
    rbo: float | None
    gained: int
    lost: int
    gained_new: int
    lost_gone: int
    unchanged: int
    histogram: dict[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"overlap": {str(k): value for k, value in self.overlap.items()}}


@dataclass(frozen=True)
class _Block:
    """Some objects (q,) compared; gained and lost are items as `_Pair` numbers them, −1 between them."""

    rows: Items  # of a
    overlap: NDArray[np.float64]  # (depths, q)
    rbo: NDArray[np.float64]  # (q,)
    gained: Items  # (q, l)
    lost: Items  # (q, l)


def compare(
    a: Path,
    b: Path,
    *,
    depths: Sequence[int] = DEPTHS,
    p: float = PERSISTENCE,
    out: Path | None = None,
    plot: Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Compare the stored lists of the objects two indexes share, matched by id.

    depths : of the overlap; those beyond the smaller k are left out, since beyond it one index stored nothing.
    p : persistence of the rank-biased overlap. out : a .csv of each object's figures and of the ids gained and lost,
    within the smaller k. plot : a .png.
    Memory holds the ids of both and one block of lists. Errors: InputError, NotFoundError, CorruptError.
    """
    one, two = Index(Path(a)), Index(Path(b))
    deepest = min(one.k, two.k)
    if not depths or min(depths) < 1:
        raise InputError(f"Depths are whole numbers from 1 up, but {', '.join(map(str, depths)) or 'none'} was given.")
    depths = sorted({depth for depth in depths if depth <= deepest} or {deepest})
    if not 0 < p < 1:
        raise InputError(f"The persistence p lies above 0 and below 1, but {p} was given.")
    for path, ending in ((out, ".csv"), (plot, ".png")):
        if path is not None:
            if path.suffix.lower() != ending:
                raise InputError(f"This is written as {ending}, but {str(path)!r} was given.")
            report_output(Path(path))
    pair = _Pair(one, two, depths, p)
    if not len(pair.rows_a):
        raise InputError(f"Indexes are compared over the objects they share, but {a} and {b} have no id in common.")
    sums, defined = np.zeros(len(depths) + 1), np.zeros(len(depths) + 1, np.int64)
    histogram = np.zeros((len(depths) + 1, BINS), np.int64)
    totals = dict.fromkeys(("gained", "lost", "gained_new", "lost_gone", "unchanged", "without"), 0)
    with ExitStack() as stack:
        table = None
        if out is not None:
            table = csv.writer(stack.enter_context(stack.enter_context(atomic_path(Path(out))).open("w", newline="")))
            names = [f"overlap_at_{depth}" for depth in depths]
            table.writerow(["id", *names, "rbo", "gained", "lost", "gained_ids", "lost_ids"])
        advance = stack.enter_context(progress("compare", len(pair.rows_a), "objects", quiet=quiet))
        for block in pair.blocks():
            values = np.concatenate([block.overlap, block.rbo[None]])  # (depths + 1, q)
            sums += np.nansum(values, axis=1)
            defined += (~np.isnan(values)).sum(axis=1)
            for place, row in enumerate(values):
                histogram[place] += binned(row[~np.isnan(row)])
            for name, count in pair.counts(block).items():
                totals[name] += count
            if table is not None:
                table.writerows(pair.lines(block))
            advance(len(block.rows))
    means = [float(s / n) if n else None for s, n in zip(sums, defined, strict=True)]
    labels = [*(f"overlap@{depth}" for depth in depths), "rbo"]
    report = Comparison(
        a=str(a), b=str(b), common=len(pair.rows_a), only_a=one.n - len(pair.rows_a), only_b=two.n - len(pair.rows_a),
        depth=pair.depth, overlap=dict(zip(depths, means[:-1], strict=True)), p=p, rbo=means[-1],
        histogram={label: tuple(map(int, row)) for label, row in zip(labels, histogram, strict=True)}, **totals,
    )  # fmt: skip
    if plot is not None:
        draw(report, Path(plot))
    return report


class _Pair:
    """Both indexes with their objects numbered alike."""

    def __init__(self, a: Index, b: Index, depths: Sequence[int], p: float) -> None:
        self.a, self.b, self.depths, self.p, self.depth = a, b, depths, p, min(a.k, b.k)
        self.ids_a, self.ids_b = a.open_samples().ids, b.open_samples().ids
        _, rows_a, rows_b = np.intersect1d(self.ids_a, self.ids_b, return_indices=True)
        order = np.argsort(rows_a)
        self.rows_a, self.rows_b = rows_a[order], rows_b[order]
        self.number = a.n + np.arange(b.n)  # of b's rows: those of a where both have the object
        self.number[rows_b] = rows_a
        self.stayed = np.zeros(a.n, np.bool_)
        self.stayed[rows_a] = True

    def blocks(self) -> Iterator[_Block]:
        step = max(1, BLOCK_BYTES // (200 * (self.a.k + self.b.k)))
        for start in range(0, len(self.rows_a), step):
            rows, others = self.rows_a[start : start + step], self.rows_b[start : start + step]
            stored = self.b.checked(others)[0].astype(np.int64)
            a = self.a.checked(rows)[0].astype(np.int64)  # (q, k_a)
            b = np.where(stored < 0, -1, self.number[stored])  # (q, k_b)
            matched = Matched.of(a, b)
            yield _Block(
                rows,
                np.array([overlap_at(matched, depth) for depth in self.depths]),
                rank_biased_overlap(matched, self.p),
                self._alone(b, matched.in_a),
                self._alone(a, matched.in_b),
            )

    def _alone(self, lists: Items, rank: Items) -> Items:
        """What the first `depth` of lists (q, k) name and those of the others do not, whose ranks of it are told."""
        first, ranked = lists[:, : self.depth], rank[:, : self.depth]
        return np.where((ranked == 0) | (ranked > self.depth), first, -1)

    def counts(self, block: _Block) -> dict[str, int]:
        """What a block adds to the totals of the same names."""
        gained, lost = block.gained[block.gained >= 0], block.lost[block.lost >= 0]
        return {
            "gained": len(gained),
            "lost": len(lost),
            "gained_new": int((gained >= self.a.n).sum()),
            "lost_gone": int((~self.stayed[lost]).sum()),
            "unchanged": int(((block.gained < 0).all(axis=1) & (block.lost < 0).all(axis=1)).sum()),
            "without": int(np.isnan(block.rbo).sum()),
        }

    def lines(self, block: _Block) -> Iterator[list[Any]]:
        """A block's lines of the table; nothing where a figure is undefined."""
        for place, row in enumerate(block.rows.tolist()):
            figures = [*block.overlap[:, place], block.rbo[place]]
            told = ["" if np.isnan(value) else f"{value:.6f}" for value in figures]
            gained, lost = (self._names(items[place]) for items in (block.gained, block.lost))
            yield [
                escaped(self._name(row)),
                *told,
                len(gained),
                len(lost),
                escaped(" ".join(gained)),
                escaped(" ".join(lost)),
            ]

    def _names(self, items: Items) -> list[str]:
        return [self._name(item) for item in items[items >= 0].tolist()]

    def _name(self, item: int) -> str:
        return str((self.ids_a[item] if item < self.a.n else self.ids_b[item - self.a.n]).decode())


def binned(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many shares (q,), 0 to 1, lie in each of BINS bins, which hold their lower edge and the last one 1 too.

    7 / 10 is an edge, and is not to fall below it because 0.7 × 50 comes out a little under 35.
    """
    place = np.floor(shares * BINS + 1e-9).astype(np.int64)
    return np.bincount(place.clip(0, BINS - 1), minlength=BINS)


def draw(report: Comparison, path: Path) -> None:
    """A histogram over objects of every overlap and of the rank-biased overlap, with their means."""
    with plotted(path, (9, 1.7 * len(report.histogram) + 0.8)) as figure:
        panels = figure.subplots(len(report.histogram), 1, sharex=True, squeeze=False)[:, 0]
        means = [*report.overlap.values(), report.rbo]
        edges = np.linspace(0, 1, BINS + 1)
        for axes, (name, count), mean in zip(panels, report.histogram.items(), means, strict=True):
            axes.stairs(np.array(count), edges, fill=True, color="tab:blue", alpha=0.7)
            said = f"{name}, p = {report.p:g}" if name == "rbo" else name
            if mean is not None:
                axes.axvline(mean, color="tab:orange")
                said += f": mean {mean:.3f}"
            axes.set_title(said, fontsize=10, loc="left")
            axes.set_ylabel("objects")
            axes.grid(alpha=0.3)
        panels[-1].set_xlabel("share of neighbors in common (1: the same lists)")
        figure.suptitle(f"{report.a} and {report.b}: {report.common:,} in common", fontsize=11)
