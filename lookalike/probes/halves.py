"""The two halves of the labelled objects: who is in each, who asks there, and what each may find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.indexer.footprints import Footprints
from lookalike.probes.labels import Labels, reporting_half
from lookalike.probes.ranking import shares
from lookalike.samples import Samples
from lookalike.wording import counted

FEWEST = 10  # queries below which an interval says nothing
CANCELLING = 5.0  # the sum of signed weights over the spread of its resamples, below which it may be 0 in one
CLEAR = 1.96  # the same of one class, whose sum is then above 0 with its 95 % interval

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The objects of one half: their places (M,) among the labelled ones, values and weights (M,), the rows of the half
    that ask (Q,), how many ask in vain, and what each row may not find (places within the half).

    share : (M,) of what each row may find the part of its own class (1 if continuous), by weight: what a list at random
    is to hold. found : (M,) the weights of what is found, None where all count the same.
    Values that are continuous, and the weights, are scaled by a power of 2 each, which no score depends on.
    """

    places: Rows
    values: NDArray[np.generic]
    weights: Floats
    queries: Rows
    alone: int
    left_out: list[Rows] | None
    share: Floats
    found: Floats | None


def halves(samples: Samples, labels: Labels, split: str, seed: int) -> dict[str, Rows]:
    """The places (M,) among the labelled objects that make up each half."""
    if split == "none":
        return {"all": np.arange(len(labels.rows))}
    reporting = reporting_half(samples.ids[labels.rows], seed)
    return {"tuning": np.flatnonzero(~reporting), "reporting": np.flatnonzero(reporting)}


def check_sizes(halves: dict[str, Rows], labels: Labels, k: int) -> None:
    for name, places in halves.items():
        if len(places) <= max(k, FEWEST):
            needed = counted(max(k, FEWEST), "object")
            raise InputError(
                f"A list of k = {k} needs more than {needed} with a label to choose from, but "
                f"{len(places)} have a {labels.column!r} in the half {name!r} (--split none takes all together)."
            )


def overlapping(samples: Samples, rows: Rows, view: int, limit: float | None) -> list[Rows] | None:
    """Per labelled object the places of those that overlap it by more than the limit, None without one."""
    if limit is None:
        return None
    footprints, why_not = Footprints.of(samples, view)
    if footprints is None:
        raise InputError(
            "Overlaps need x and y in px of one picture, or ra and dec in deg with a pixel scale. " + why_not,
            code="no_footprints",
        )
    place = np.full(len(samples), -1)
    place[rows] = np.arange(len(rows))
    over = [place[footprints.overlapping(int(row), limit)] for row in rows]
    return [places[places >= 0] for places in over]


def make_part(
    labels: Labels,
    places: Rows,
    barred: list[Rows] | None,
    max_queries: int | None,
    seed: int,
    asked_by: int | None = None,
) -> Part:
    """One half, after checking that those who ask there can tell anything; InputError where they cannot.

    asked_by : only objects of this class ask.
    """
    values, weights = labels.values[places], scaled(labels.weights[places])
    left_out = None
    if barred is not None:
        inside = np.full(len(labels.rows), -1)
        inside[places] = np.arange(len(places))
        left_out = [inside[barred[place]][inside[barred[place]] >= 0] for place in places]
    classes = values if labels.categorical else np.zeros(len(places), np.int64)
    number, size, total = (_to_find(classes, of, left_out) for of in (np.ones_like(weights), np.abs(weights), weights))
    share = np.where(number[1] > 0, number[0] / np.maximum(number[1], 1), 0.0)
    answerable, counting = number[0] > 0, weights != 0
    if asked_by is not None:
        counting &= values == asked_by
    _refuse_few(answerable & counting, labels)
    if labels.weighted:
        refuse_cancelling(weights[answerable & counting])
        share = shares(total[0], total[1], size[1], share)
        answerable &= shares(total[0], total[0], size[0], 0.0) > 0
        _refuse_few(answerable & counting, labels)
    queries = np.flatnonzero(answerable & counting)
    if max_queries is not None and max_queries < len(queries):
        queries = np.sort(np.random.default_rng(seed).permutation(queries)[:max_queries])
    refuse_cancelling(weights[queries])
    if len(np.unique(values[queries])) == 1 and asked_by is None:
        who = counted(len(queries), "object that asks", "objects that ask")
        asking = f"the {who}" if max_queries is not None else "one half"
        option = "--max-queries and --split" if max_queries is not None else "--split"
        raise InputError(f"Labels must differ, but column {labels.column!r} does not within {asking}; see {option}.")
    return Part(
        places,
        scaled(values) if labels.kind == "continuous" else values,
        weights,
        queries,
        int(np.count_nonzero(~answerable & counting)),
        left_out,
        share,
        weights if labels.weighted else None,
    )


def _refuse_few(asking: NDArray[np.bool_], labels: Labels) -> None:
    """InputError where too few of a half's objects (M,) can ask."""
    if (number := np.count_nonzero(asking)) < FEWEST:
        raise InputError(
            f"At least {FEWEST} objects must have another to find (of their own class, and a weight other than 0; "
            f"weights of a class must not cancel), but {number} of {len(asking)} with a {labels.column!r} have."
        )


def _to_find(classes: Rows, amounts: Floats, left_out: list[Rows] | None) -> tuple[Floats, Floats]:
    """Of amounts (M,), the sums (M,) over the others of a row's class, and over all others, that it may find.

    Where all of these are 0, so is the sum: not what rounding leaves of it.
    """
    here = amounts != 0
    same, every = _of_others(classes, amounts), _of_others(np.zeros_like(classes), amounts)
    of_same, of_every = np.bincount(classes, here)[classes] - here, here.sum() - here.astype(np.int64)
    for row, others in enumerate(left_out or ()):
        alike = others[classes[others] == classes[row]]
        same[row] -= amounts[alike].sum()
        every[row] -= amounts[others].sum()
        of_same[row] -= np.count_nonzero(here[alike])
        of_every[row] -= np.count_nonzero(here[others])
    return np.where(of_same > 0, same, 0.0), np.where(of_every > 0, every, 0.0)


def _of_others(classes: Rows, amounts: Floats) -> Floats:
    """The sum (M,) of the others of each row's class: of those before it and of those after it, nothing taken off."""
    found = np.zeros(len(amounts))
    order = np.argsort(classes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        before, after = amounts[rows].cumsum(), amounts[rows][::-1].cumsum()[::-1]
        found[rows[1:]] += before[:-1]
        found[rows[:-1]] += after[1:]
    return found


def standing(weights: Floats) -> float:
    """The sum of weights (Q,) over the root of the sum of their squares, which is how far resamples of it spread."""
    return float(weights.sum() / np.sqrt(np.square(weights).sum()))


def cancelling(weights: Floats, least: float = CANCELLING) -> bool:
    """Whether weights of both signs leave a sum whose resamples may be 0, by which means are divided."""
    return bool((weights < 0).any()) and standing(weights) < least


def refuse_cancelling(weights: Floats) -> None:
    """InputError where weights are `cancelling`."""
    if cancelling(weights):
        raise InputError(
            f"Weights may be negative where their sum is at least {CANCELLING:g} times the root of the sum of their "
            f"squares, but it is {standing(weights):.2g} times that: they cancel."
        )


def scaled(values: Floats) -> Floats:
    """Values over a power of 2, the largest about 1: squares of very large ones are infinite, of very small ones 0."""
    _, exponent = np.frexp(np.abs(values).max(initial=0.0))
    found: Floats = np.ldexp(values, -exponent)
    return found
