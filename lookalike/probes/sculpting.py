"""Mass sculpting: whether neighbors are alike in a column (a mass) that the similarity was not to know.

The lists of an index are compared with objects drawn at random from the same windows: as far as both agree, a cut on
the similarity leaves the column's distribution as the window made it, and a bump in it is no work of the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, unknown
from lookalike.indexer.store import Index
from lookalike.indexer.windows import everyone, ranges
from lookalike.probes.bootstrap import RESAMPLES, Estimate, estimate, resampled_sums
from lookalike.probes.halves import refuse_cancelling
from lookalike.probes.ranking import shares, weighted_mean
from lookalike.samples import Samples
from lookalike.wording import counted

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

BINS = 10
QUERIES = 5000
QUANTILES = (0.16, 0.5, 0.84)
NO_WINDOW = "no window"
NEAR, DRAWN = "#0b62c4", "#6b7280"  # colors of neighbors and of what they are compared with
MOST = 2.0  # the largest ratio that is drawn at its place


@dataclass(frozen=True)
class Bin:
    """Queries of one tenth of the column's values, with the 16, 50 and 84 % quantiles of what is found for them.

    middle : the median of the queries' own values.
    """

    low: float
    middle: float
    high: float
    queries: int
    neighbors: tuple[float, float, float]
    window: tuple[float, float, float]


@dataclass(frozen=True)
class Sculpting:
    """The comparison. neighbors, window : the correlation of a query's value with the mean of its k neighbors', and of
    as many objects drawn from its window; excess : the first less the second. values : of neighbors and of drawn
    objects, pooled over all queries, for the plot."""

    column: str
    unit: str
    window_text: str
    k: int
    queries: int
    neighbors: Estimate
    window: Estimate
    excess: Estimate
    bins: tuple[Bin, ...]
    values: tuple[Floats, Floats]
    notes: tuple[str, ...] = ()
    weights: tuple[Floats, Floats] | None = None  # of the pairs that `values` are of
    simulated: bool = False  # whether the objects are


def measure(
    folder: Path,
    column: str,
    *,
    k: int = 10,
    weights: str | None = None,
    max_queries: int = QUERIES,
    samples: Sequence[Path] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Sculpting:
    """Compare the lists of an index folder with random objects of the same windows, in one column of numbers.

    k : neighbors of each query, as far as are stored. max_queries : of more objects, a random part by `seed`.
    weights : column of how many events each object stands for, of either sign: as a query in every sum over queries, as
    what is found in the mean Σ w·x / Σ w of a query's pairs, and a pair by the product of both in quantiles and plot.
    An object without a weight takes no part.
    InputError for an unknown column or one of texts, where fewer than 2·BINS objects can be compared, and where the
    weights of the queries nearly cancel.
    """
    index = Index(Path(folder))
    data = index.open_samples(list(samples) if samples else None)
    if k < 1 or k > index.k:
        raise InputError(f"k is from 1 to the {index.k} neighbors that are stored, but {k} was given.")
    values = _numbers(data, column)
    weight = np.ones(len(values)) if weights is None else _numbers(data, weights)
    values = np.where(np.isfinite(weight), values, np.nan)
    random = np.random.default_rng(seed)
    of, found, drawn = _pairs(index, data, values, k, max_queries, random)
    queries = np.unique(of)
    if len(queries) < 2 * BINS:
        raise InputError(
            f"At least {counted(2 * BINS, 'object')} with a value of {column!r} and neighbors that have one are "
            f"compared, but there {'is' if len(queries) == 1 else 'are'} {len(queries)}."
        )
    window = index.window
    notes: tuple[str, ...] = ()
    if window is not None and window.column == column:
        notes = (f"{column} is the column of the window itself, which holds neighbors near the query's value.",)
    if weights is not None:
        refuse_cancelling(weight[queries])
    mean = weighted_mean(values[queries], weight[queries])
    near, random_ones = (_means(of, queries, values[each], weight[each], mean) for each in (found, drawn))
    neighbors, by_window, excess = _correlations(values[queries], near, random_ones, weight[queries], resamples, seed)
    pairs = None if weights is None else (weight[of] * weight[found], weight[of] * weight[drawn])
    if weights is not None:
        notes = (*notes, f"Weighted by {weights}.")
    return Sculpting(
        column,
        data.columns[column].unit,
        NO_WINDOW if window is None else window.words,
        k,
        len(queries),
        neighbors,
        by_window,
        excess,
        _bins(values, of, found, drawn, pairs),
        (values[found], values[drawn]),
        notes,
        pairs,
        data.about.simulated,
    )


def _numbers(samples: Samples, column: str) -> Floats:
    if column not in samples.columns:
        raise unknown("column", column, samples.columns)
    values = samples.column(column)
    if values.dtype.kind not in "fiu":
        raise InputError(f"Sculpting is of a column of numbers, but {column!r} holds text.")
    return values.astype(np.float64)


def _pairs(
    index: Index, samples: Samples, values: Floats, k: int, most: int, random: np.random.Generator
) -> tuple[Rows, Rows, Rows]:
    """Query, neighbor and an object drawn from the query's window, (m,) each, all with a value."""
    within = everyone(index.n)
    if index.window is not None:
        within = ranges(index.window.values(samples), index.window.half_width)
    usable = np.flatnonzero(np.isfinite(values[within.order]))  # places in the window's order
    places = np.sort(random.permutation(usable)[:most])
    lists = np.asarray(index.checked(within.order[places], k)[0], np.int64)  # (Q, k)
    low, high = within.low[places, None], within.high[places, None]
    # Uniform over the window without the query itself, whose place is stepped over.
    drawn = low + np.floor(random.random(lists.shape) * np.maximum(high - low - 1, 1)).astype(np.int64)
    drawn = np.minimum(drawn + (drawn >= places[:, None]), high - 1)
    of = np.broadcast_to(within.order[places, None], lists.shape)
    other = within.order[drawn]
    kept = (lists >= 0) & (high - low > 1)
    kept &= np.isfinite(values[lists]) & np.isfinite(values[other])
    return of[kept], lists[kept], other[kept]


def _means(of: Rows, queries: Rows, values: Floats, weights: Floats, otherwise: float) -> Floats:
    """The mean (Q,) of the values of each query's pairs, by weight; `otherwise` where weights cancel, see `shares`."""
    place = np.searchsorted(queries, of)
    above, below, size = (
        np.bincount(place, each, len(queries)).astype(np.float64) for each in (weights * values, weights, abs(weights))
    )
    return shares(above, below, size, otherwise)


def _correlations(
    x: Floats, near: Floats, random: Floats, weights: Floats, resamples: int, seed: int
) -> tuple[Estimate, Estimate, Estimate]:
    """The Pearson correlations of x (Q,) with each, and their difference, with paired bootstrap intervals.

    All moments are Σ w·… / Σ w; where signed weights leave a variance that is not above 0, there is no correlation.
    """
    parts = [(each - each.mean()) / (each.std() or 1.0) for each in (x, near, random)]
    terms = np.stack(
        [np.ones_like(x), *parts, *(part**2 for part in parts), *(parts[0] * part for part in parts[1:])], axis=1
    )
    sums = resampled_sums(terms * weights[:, None], resamples, seed)
    mean = sums[:, 1:] / sums[:, :1]  # of x, near, random, of their squares, of x·near, x·random
    variance = mean[:, 3:6] - mean[:, :3] ** 2
    floor = np.where((weights > 0).all(), 1e-300, np.nan)
    spread = np.sqrt(np.where(variance > 0, variance, floor))
    found = [(mean[:, 5 + i] - mean[:, 0] * mean[:, i]) / (spread[:, 0] * spread[:, i]) for i in (1, 2)]
    return estimate(found[0]), estimate(found[1]), estimate(found[0] - found[1])


def weighted_quantiles(values: Floats, weights: Floats, at: Sequence[float]) -> list[float]:
    """The smallest of values (m,) up to which the weights sum up to each share of their total; NaN where that is ≤ 0.

    Signed weights may make the sums fall for a while; what was once reached counts.
    """
    order = np.argsort(values, kind="stable")
    sums = np.maximum.accumulate(weights[order].cumsum())
    total = float(weights.sum())
    if not total > 0:
        return [math.nan] * len(at)
    places = np.searchsorted(sums, np.asarray(at) * total)
    return [float(value) for value in values[order][np.minimum(places, len(values) - 1)]]


def _bins(values: Floats, of: Rows, found: Rows, drawn: Rows, weights: tuple[Floats, Floats] | None) -> tuple[Bin, ...]:
    """The quantiles of what is found, by tenths of the queries' values; weights of both sorts of pairs."""
    edges = np.unique(np.quantile(values[np.unique(of)], np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, values[of], side="right") - 1, 0, max(len(edges) - 2, 0))
    made = []
    for number in range(max(len(edges) - 1, 1)):
        inside = place == number
        if inside.any():
            both = [values[each[inside]] for each in (found, drawn)]
            quantiles = [tuple(np.quantile(each, QUANTILES).tolist()) for each in both]
            if weights is not None:
                weighed = [
                    weighted_quantiles(each, w[inside], QUANTILES) for each, w in zip(both, weights, strict=True)
                ]
                quantiles = [tuple(each) for each in weighed]
            low, high = float(edges[number]), float(edges[min(number + 1, len(edges) - 1)])
            queries = np.unique(of[inside])
            made.append(Bin(low, float(np.median(values[queries])), high, len(queries), *quantiles))
    return tuple(made)


def as_json(found: Sculpting) -> dict[str, Any]:
    """The comparison without the pooled values; what is undefined is null."""
    shown: dict[str, Any] = _defined(asdict(found))
    del shown["values"], shown["weights"]
    return shown


def _defined(value: Any) -> Any:
    """The same with null for numbers that are not finite, and lists for tuples."""
    if isinstance(value, dict):
        return {name: _defined(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(found: Sculpting) -> str:
    """The comparison as a table."""
    unit = f" [{found.unit}]" if found.unit else ""
    lines = [
        f"{found.column}{unit} of the {found.k} nearest neighbors of "
        f"{counted(found.queries, 'simulated object' if found.simulated else 'object')}, "
        f"{found.window_text}, "
        "beside as many drawn from the same windows",
        "",
        f"{'query':>23}  {'neighbors (16, 50, 84 %)':>30}  {'window (16, 50, 84 %)':>30}",
    ]
    for each in found.bins:
        near, drawn = ("  ".join(f"{value:8.4g}" for value in values) for values in (each.neighbors, each.window))
        lines.append(f"{each.low:10.4g} to {each.high:9.4g}  {near:>30}  {drawn:>30}")
    lines += [
        "",
        f"correlation with the query's value  neighbors {found.neighbors}  window {found.window}",
        f"sculpting, the one less the other   {found.excess}",
    ]
    return "\n".join([*lines, *found.notes])


def draw(found: Sculpting, path: Path) -> None:
    """Write a plot as PNG, SVG or PDF: the pooled distributions with their ratio, and what queries of a value find."""
    from matplotlib.figure import Figure

    from lookalike.files import atomic_path
    from lookalike.probes.outputs import check_picture

    check_picture(path)
    name = f"{found.column} [{found.unit}]" if found.unit else found.column
    others = "all objects" if found.window_text == NO_WINDOW else "objects of the window"
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    top, below, right = (figure.add_subplot(place) for place in (grid[0, 0], grid[1, 0], grid[:, 1]))
    edges = np.histogram_bin_edges(np.quantile(found.values[1], [0.002, 0.998]), 40)
    weights = found.weights or tuple(np.ones_like(values) for values in found.values)
    both = list(zip(found.values, weights, strict=True))
    counts = [np.histogram(values, edges, weights=weight)[0] for values, weight in both]
    squares = np.histogram(found.values[0], edges, weights=weights[0] ** 2)[0]
    for count, color, fill in zip(counts, (NEAR, DRAWN), (False, True), strict=True):
        top.stairs(count / (count.sum() if count.sum() > 0 else 1), edges, color=color, fill=fill, alpha=0.7)
    filled = counts[1] > 0
    ratio = np.where(filled, counts[0] / np.where(filled, counts[1], 1), np.nan)
    error = np.where(filled, np.sqrt(squares) / np.where(filled, counts[1], 1), np.nan)
    middle = (edges[1:] + edges[:-1]) / 2
    inside = np.abs(ratio - MOST / 2) <= MOST / 2
    below.errorbar(middle[inside], ratio[inside], error[inside], fmt=".", color=NEAR)
    high = ratio > MOST
    below.plot(middle[high], np.full(high.sum(), 0.94 * MOST), "^", ms=4, color=NEAR)  # they lie above
    below.axhline(1, color="black", lw=0.8)
    below.set(xlabel=name, ylabel="ratio", ylim=(0, MOST), xlim=top.get_xlim())
    simulated = "simulated objects, " if found.simulated else ""
    top.set(ylabel="share of pairs", title=f"{simulated}{found.k} neighbors each, {found.window_text}")
    at = [each.middle for each in found.bins]
    for which, label, color in (("window", others, DRAWN), ("neighbors", "neighbors", NEAR)):
        low, median, up = np.array([getattr(each, which) for each in found.bins]).T
        right.fill_between(at, low, up, color=color, alpha=0.25)
        right.plot(at, median, "o-", color=color, label=f"{label}: median and 16 to 84 %")
    right.plot(at, at, "k:", lw=1, label="the query's own value")
    right.set(xlabel=f"{name} of the query", ylabel=name, title=f"excess correlation {found.excess}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
