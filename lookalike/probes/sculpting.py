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
from lookalike.figures import plotted
from lookalike.indexer.store import Index
from lookalike.indexer.windows import everyone, ranges
from lookalike.probes.bootstrap import RESAMPLES, Estimate, estimate, resampled_sums
from lookalike.probes.halves import refuse_cancelling, scaled
from lookalike.probes.outputs import check_picture
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
ROUNDING = 1e-12  # the part of a mean square below which a variance is rounding


@dataclass(frozen=True)
class Bin:
    """Queries of one tenth of the column's values, with the 16, 50 and 84 % quantiles of what is found for them.

    low, middle, high : of the queries' own values the smallest, the median and the largest. Equal ones are in one bin.
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
    An object without a weight, or with one of 0, takes no part.
    InputError for an unknown column or one of texts, where fewer than 2·BINS objects can be compared or their values do
    not differ, and where the weights of the queries nearly cancel.
    """
    index = Index(Path(folder))
    data = index.open_samples(list(samples) if samples else None)
    if k < 1 or k > index.k:
        raise InputError(f"k is from 1 to the {index.k} neighbors that are stored, but {k} was given.")
    values = _numbers(data, column)
    weight = np.ones(len(values)) if weights is None else _numbers(data, weights)
    values = np.where(np.isfinite(weight) & (weight != 0), values, np.nan)
    random = np.random.default_rng(seed)
    of, found, drawn = _pairs(index, data, values, k, max_queries, random)
    queries = np.unique(of)
    _check(values[queries], column, weights)
    window = index.window
    notes: tuple[str, ...] = ()
    if window is not None and window.column == column:
        notes = (f"{column} is the column of the window itself, which holds neighbors near the query's value.",)
    if weights is not None:
        refuse_cancelling(weight[queries])
    # No correlation depends on the units.
    weight, value = (scaled(np.where(np.isfinite(each), each, 0.0)) for each in (weight, values))
    mean = weighted_mean(value[queries], weight[queries])
    near, random_ones = (_means(of, queries, value[each], weight[each], mean) for each in (found, drawn))
    neighbors, by_window, excess = _correlations(value[queries], near, random_ones, weight[queries], resamples, seed)
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


def _check(values: Floats, column: str, weights: str | None) -> None:
    """InputError where the queries' values (Q,) are too few, or all the same."""
    if len(values) < 2 * BINS:
        weighing = "" if weights is None else f", a weight in {weights!r} other than 0"
        raise InputError(
            f"At least {counted(2 * BINS, 'object')} with a value of {column!r}{weighing} and neighbors that have one "
            f"are compared, but there {'is' if len(values) == 1 else 'are'} {len(values)}."
        )
    if values.min() == values.max():
        raise InputError(
            f"Sculpting is of a column whose values differ, but {column!r} is {values[0]:g} for "
            f"{counted(len(values), 'object')}, all that are compared."
        )


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

    All moments are Σ w·… / Σ w. NaN where a variance is 0 but for rounding, or signed weights leave none above 0;
    a resample with such a one is left out of the interval.
    """
    parts = [_standard(each) for each in (x, near, random)]
    terms = np.stack(
        [np.ones_like(x), *parts, *(part**2 for part in parts), *(parts[0] * part for part in parts[1:])], axis=1
    )
    sums = resampled_sums(terms * weights[:, None], resamples, seed)
    mean = sums[:, 1:] / sums[:, :1]  # of x, near, random, of their squares, of x·near, x·random
    variance = mean[:, 3:6] - mean[:, :3] ** 2
    spread = np.sqrt(np.where(variance > ROUNDING * mean[:, 3:6], variance, np.nan))
    found = [(mean[:, 5 + i] - mean[:, 0] * mean[:, i]) / (spread[:, 0] * spread[:, i]) for i in (1, 2)]
    return estimate(found[0]), estimate(found[1]), estimate(found[0] - found[1])


def _standard(values: Floats) -> Floats:
    """Values (Q,) less their mean, over their standard deviation; 0 where they differ by rounding only."""
    spread = values.std()
    alike = spread <= 8 * np.finfo(np.float64).eps * np.abs(values).max()
    return np.zeros_like(values) if alike else (values - values.mean()) / spread


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
    queries = np.unique(of)
    own = values[queries]
    tenth = _tenths(own)
    of_pair = tenth[np.searchsorted(queries, of)]
    made = []
    for number in np.unique(tenth):
        inside, mine = of_pair == number, own[tenth == number]
        both = [values[each[inside]] for each in (found, drawn)]
        if weights is None:
            quantiles = [tuple(np.quantile(each, QUANTILES).tolist()) for each in both]
        else:
            weighed = zip(both, weights, strict=True)
            quantiles = [tuple(weighted_quantiles(each, w[inside], QUANTILES)) for each, w in weighed]
        ends = float(mine.min()), float(np.median(mine)), float(mine.max())
        made.append(Bin(*ends, len(mine), *quantiles))
    return tuple(made)


def _tenths(values: Floats) -> Rows:
    """Which tenth (Q,) each of values (Q,) is in, 0 to BINS − 1; equal ones are where the middle of their ranks is."""
    _, which, times = np.unique(values, return_inverse=True, return_counts=True)
    middle = times.cumsum() - times / 2
    return (BINS * middle[which] / len(values)).astype(np.int64)


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
    check_picture(path)
    name = f"{found.column} [{found.unit}]" if found.unit else found.column
    with plotted(path, (11, 5.2), dpi=150) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
        top, below, right = (figure.add_subplot(place) for place in (grid[0, 0], grid[1, 0], grid[:, 1]))
        _draw_pooled(found, name, top, below)
        _draw_bins(found, name, right)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)


def _draw_pooled(found: Sculpting, name: str, top: Any, below: Any) -> None:
    """The distributions of neighbors and of drawn objects, and below their ratio."""
    edges = np.histogram_bin_edges(np.quantile(found.values[1], [0.002, 0.998]), 40)
    weights = found.weights or (np.ones_like(found.values[0]), np.ones_like(found.values[1]))
    *shares, ratio, error = _ratio(found.values, weights, edges)
    for share, color, fill in zip(shares, (NEAR, DRAWN), (False, True), strict=True):
        top.stairs(share, edges, color=color, fill=fill, alpha=0.7)
    middle = edges[:-1] / 2 + edges[1:] / 2
    inside = np.abs(ratio - MOST / 2) <= MOST / 2
    below.errorbar(middle[inside], ratio[inside], error[inside], fmt=".", color=NEAR)
    high = ratio > MOST
    below.plot(middle[high], np.full(high.sum(), 0.94 * MOST), "^", ms=4, color=NEAR)  # they lie above
    below.axhline(1, color="black", lw=0.8)
    below.set(xlabel=name, ylabel="ratio", ylim=(0, MOST), xlim=top.get_xlim())
    simulated = "simulated objects, " if found.simulated else ""
    top.set(ylabel="share of pairs", title=f"{simulated}{found.k} neighbors each, {found.window_text}")


def _ratio(
    values: tuple[Floats, Floats], weights: tuple[Floats, Floats], edges: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Shares of neighbors and of drawn objects between edges, their ratio and its error, (bins,) each; NaN of none.

    The error is that of independent pairs, from the sums of the squared weights of both.
    """
    both = list(zip(values, weights, strict=True))
    sums, squares = ([np.histogram(v, edges, weights=w**power)[0] for v, w in both] for power in (1, 2))
    totals = [each.sum() if each.sum() > 0 else 1.0 for each in sums]
    near, drawn = (each / total for each, total in zip(sums, totals, strict=True))
    filled = drawn > 0
    divisor = np.where(filled, drawn, 1.0)
    ratio = np.where(filled, near / divisor, np.nan)
    spread = np.sqrt(squares[0]) / totals[0], ratio * np.sqrt(squares[1]) / totals[1]
    return near, drawn, ratio, np.hypot(*spread) / divisor


def _draw_bins(found: Sculpting, name: str, axes: Any) -> None:
    """Median and central 68 % of what queries of each value find."""
    at = [each.middle for each in found.bins]
    others = "all objects" if found.window_text == NO_WINDOW else "objects of the window"
    for which, label, color in (("window", others, DRAWN), ("neighbors", "neighbors", NEAR)):
        low, median, up = np.array([getattr(each, which) for each in found.bins]).T
        axes.fill_between(at, low, up, color=color, alpha=0.25)
        axes.plot(at, median, "o-", color=color, label=f"{label}: median and 16 to 84 %")
    axes.plot(at, at, "k:", lw=1, label="the query's own value")
    axes.set(xlabel=f"{name} of the query", ylabel=name, title=f"excess correlation {found.excess}")
