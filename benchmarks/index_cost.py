"""What an index costs against the number of objects N, dimensions D, neighbors k and the window's width: a plot.

    python benchmarks/index_cost.py docs/index-cost.png

One of the four is changed at a time, the others stay as said in the title; random vectors, and such with few effective
dimensions, as real embeddings have. Each point is the better of two builds, beside half a matrix product over the same
pairs (the limit of any method that computes all of them). Some three minutes on two cores.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lookalike.files import report_output
from lookalike.indexer.neighbors import exact_neighbors
from lookalike.indexer.windows import ranges
from lookalike.progress import progress


@dataclass(frozen=True)
class Case:
    """One build; window : share of the objects that is in the window of one in the middle."""

    n: int = 16_000
    d: int = 512
    k: int = 100
    window: float = 1.0


AXES = {
    "n": ("objects N", (2_000, 4_000, 8_000, 16_000, 32_000)),
    "d": ("dimensions D", (64, 128, 256, 512, 1024, 2048)),
    "k": ("neighbors k", (10, 30, 100, 300, 1000, 3000)),
    "window": ("window, share of the objects", (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)),
}
KINDS = {"random": None, "effective rank 15": 15}


def vectors_of(case: Case, rank: int | None) -> np.ndarray:
    """Random unit vectors (n, D) float32; with a rank, the k-th direction is as strong as exp(−k / rank)."""
    rng = np.random.default_rng(0)
    made = rng.standard_normal((case.n, case.d), np.float32)
    if rank is not None:
        made *= np.exp(-np.arange(case.d, dtype=np.float32) / rank)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def seconds(case: Case, rank: int | None) -> float:
    vectors = vectors_of(case, rank)
    x = np.arange(case.n, dtype=float)
    within = ranges(x, case.window * case.n / 2 if case.window < 1 else case.n)
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        for _ in exact_neighbors(vectors, within, case.k):
            pass
        taken.append(time.perf_counter() - began)
    return min(taken)


def half_product(case: Case) -> float:
    """Seconds of a float32 product for half of the pairs in windows, by the pace of one over 2,048 queries."""
    vectors = vectors_of(case, None)
    queries = vectors[:2048]
    queries @ vectors.T
    began = time.perf_counter()
    queries @ vectors.T
    return (time.perf_counter() - began) * case.n / len(queries) * case.window / 2


def main(out: Path) -> None:
    report_output(out)
    seconds(Case(n=500, d=16, k=5), None)  # compiles the loops
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    cases = sum(len(values) for _, values in AXES.values())
    with progress("cost", cases, "cases") as advance:
        for axes, (name, (label, values)) in zip(figure.subplots(1, 4, sharey=True), AXES.items(), strict=True):
            found: dict[str, list[float]] = {kind: [] for kind in [*KINDS, "half the product"]}
            for value in values:
                case = replace(Case(), **{name: value})
                for kind, rank in KINDS.items():
                    found[kind].append(seconds(case, rank))
                found["half the product"].append(half_product(case))
                advance(1)
            for kind, taken in found.items():
                axes.loglog(values, taken, "--" if kind not in KINDS else "o-", label=kind, markersize=4)
                print(f"{label}, {kind}: " + ", ".join(f"{v:g}: {t:.2f}" for v, t in zip(values, taken, strict=True)))
            axes.set_xlabel(label)
            axes.set_xticks(values, [f"{value:,g}" for value in values])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds")
    figure.axes[0].legend(frameon=False, fontsize=8)
    usual = Case()
    figure.suptitle(f"N = {usual.n:,}, D = {usual.d}, k = {usual.k}, all in the window, where not said", fontsize=10)
    with out.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
