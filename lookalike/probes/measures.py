"""What a list is scored by, for each kind of label: classes, numbers, and places on a circle.

Symbols: Q queries, M objects of a half, B queries of a block, k neighbors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.probes.ams import ams_terms, amses, threshold
from lookalike.probes.bootstrap import mean_terms, means, r2_terms, r2s
from lookalike.probes.halves import CLEAR, Part, cancelling, standing
from lookalike.probes.labels import Labels
from lookalike.probes.ranking import (
    Ranked,
    average_precision,
    ndcg_at_k,
    neighbor_means,
    neighbor_votes,
    precision_at_k,
    r2,
    rankings,
    shares,
    weighted_mean,
)

Floats = NDArray[np.float64]
Terms = tuple[Floats, Callable[[Floats], Floats]]  # (Q, m) what queries add to m sums, and the score of these sums
PAIRS = 1 << 22  # differences held at once
CLASS = "class "  # before a class, of the scores of its queries alone
MOST_CLASSES = 20  # whose precision is told one by one
NOWHERE = 1e-9  # length of a mean of unit vectors below which it has no direction but that of rounding


@dataclass(frozen=True)
class Asked:
    """Per query: the scores that are means (Q,) by name, and the predictions (Q, len(ks)) of the nearest k.

    A prediction is NaN where a circle's neighbors have none: their weights cancel, or their places do.
    votes : (Q, len(ks)) the share of signal among the nearest k, where that is asked for.
    """

    means: dict[str, Floats]
    predicted: NDArray[np.generic]
    votes: Floats | None = None

    def silent(self, place: int) -> int:
        """How many queries get no prediction from the k of this place."""
        column = self.predicted[:, place]
        return int(np.count_nonzero(np.isnan(column))) if column.dtype.kind == "f" else 0


class Measure(Protocol):
    """The scores of a kind of label.

    metric : the one that counts, of which more is better, or less.
    """

    metric: str
    less_is_better: bool

    def ask(self, vectors: NDArray[np.float32], part: Part, k: int, ks: tuple[int, ...]) -> Asked:
        """Every query's scores under one representation (n, D) of all labelled objects."""
        ...

    def best(self, asked: Asked, part: Part, ks: tuple[int, ...]) -> tuple[float, dict[str, float]]:
        """How good the representation is, more being better, and what is to be chosen with it (`knn_k` at least)."""
        ...

    def terms(self, asked: Asked, part: Part, chosen: dict[str, float], ks: tuple[int, ...]) -> dict[str, Terms]:
        """What each score is a function of, by name."""
        ...

    def chance(self, part: Part) -> float | None:
        """What the metric comes to for lists in random order, where that is known."""
        ...


def measure_of(labels: Labels) -> Measure:
    """The scores of labels of this kind."""
    if labels.categorical:
        return Classes(labels)
    return Circle(labels) if labels.period else Numbers(labels)


class Classes:
    """Whether neighbors are of the query's class, and name it."""

    metric, less_is_better = "precision_at_k", False

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def ask(self, vectors: NDArray[np.float32], part: Part, k: int, ks: tuple[int, ...]) -> Asked:
        columns: dict[str, list[Floats]] = {}
        predicted, votes = [], []
        evened = self._evened(part)
        for ranked in rankings(vectors[part.places], part.queries, part.left_out):
            near = part.values[ranked.order[:, : max(ks)]]  # (B, max k)
            weights = _found(part, ranked)  # (B, M)
            relevant = (part.values[ranked.order] == part.values[ranked.queries][:, None]) & ranked.candidate()
            share = part.share[ranked.queries]  # (B,)
            for name, values in {
                "precision_at_k": precision_at_k(relevant, ranked.count, k, weights, share),
                "mean_average_precision": average_precision(relevant, weights, share),
                "ndcg_at_k": ndcg_at_k(relevant, k, weights),
            }.items():
                columns.setdefault(name, []).append(values)
            classes = len(self.labels.classes)
            predicted.append(neighbor_votes(near.astype(np.int64), ranked.count, ks, classes, weights))
            if evened is not None:
                votes.append(neighbor_means(near.astype(np.float64), ranked.count, ks, evened[ranked.order], 0.5))
        found = {name: np.concatenate(blocks) for name, blocks in columns.items()}
        return Asked(found, np.concatenate(predicted), np.concatenate(votes) if votes else None)

    def best(self, asked: Asked, part: Part, ks: tuple[int, ...]) -> tuple[float, dict[str, float]]:
        truth, weights = _asked_of(part)
        accuracy = [weighted_mean((column == truth).astype(np.float64), weights) for column in asked.predicted.T]
        chosen: dict[str, float] = {"knn_k": ks[int(np.nanargmax(accuracy))]}
        return weighted_mean(asked.means[self.metric], weights), chosen | self._selection(asked, part, ks)

    def terms(self, asked: Asked, part: Part, chosen: dict[str, float], ks: tuple[int, ...]) -> dict[str, Terms]:
        truth, weights = _asked_of(part)
        right = asked.predicted[:, ks.index(int(chosen["knn_k"]))] == truth
        columns = asked.means | {"knn_accuracy": right.astype(np.float64)}
        found: dict[str, Terms] = {name: (mean_terms(values, weights), means) for name, values in columns.items()}
        names = self.labels.classes
        for place, name in enumerate(names if len(names) <= MOST_CLASSES else ()):
            if (truth == place).any() and not cancelling(weights[truth == place], CLEAR):
                found[CLASS + name] = (mean_terms(asked.means[self.metric], weights * (truth == place)), means)
        if asked.votes is not None and "ams_k" in chosen:
            selected = asked.votes[:, ks.index(int(chosen["ams_k"]))] >= chosen["ams_vote"]
            found["ams"] = (ams_terms(selected, truth == 1, weights), amses)
        return found

    def chance(self, part: Part) -> float:
        """Each query's share of its class among those it may find."""
        return weighted_mean(part.share[part.queries], part.weights[part.queries])

    def _selection(self, asked: Asked, part: Part, ks: tuple[int, ...]) -> dict[str, float]:
        """The k and the least vote of the selection of the largest significance on this half.

        None where the weights of signal or background that ask cancel, by whose sums significance scales them.
        """
        truth, weights = _asked_of(part)
        if asked.votes is None or any(cancelling(weights[truth == place], CLEAR) for place in (0, 1)):
            return {}
        found = [threshold(votes, truth == 1, weights) for votes in asked.votes.T]
        place = int(np.argmax([significance for _, significance in found]))
        return {"ams_k": ks[place], "ams_vote": found[place][0]}

    def _evened(self, part: Part) -> Floats | None:
        """Weights (M,) of signal and background that sum up to 1 each, where significance is asked for.

        So the share of signal among neighbors is L/(1 + L) of the ratio L of both densities, at any mixture of the two.
        """
        if part.found is None or not self.labels.signal or len(np.unique(part.values[part.queries])) == 1:
            return None
        signal = part.values == 1
        sums = [float(part.found[each].sum()) for each in (signal, ~signal)]
        if min(sums) <= 0:
            raise InputError("Weights of signal and background must each have a sum above 0.")
        return part.found / np.where(signal, *sums)


def unscored_classes(labels: Labels, part: Part) -> dict[str, float]:
    """The classes whose queries have no score of their own, since their weights cancel, and their `standing`."""
    if not labels.categorical or len(labels.classes) > MOST_CLASSES:
        return {}
    truth, weights = _asked_of(part)
    of = {name: weights[truth == place] for place, name in enumerate(labels.classes)}
    return {name: standing(each) for name, each in of.items() if cancelling(each, CLEAR)}


class Numbers:
    """How much of a number's spread the mean of the neighbors' explains."""

    metric, less_is_better = "r2", False

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def ask(self, vectors: NDArray[np.float32], part: Part, k: int, ks: tuple[int, ...]) -> Asked:
        mean = weighted_mean(*_asked_of(part))
        predicted = []
        for ranked in rankings(vectors[part.places], part.queries, part.left_out):
            near = part.values[ranked.order[:, : max(ks)]].astype(np.float64)  # (B, max k)
            predicted.append(neighbor_means(near, ranked.count, ks, _found(part, ranked), mean))
        return Asked({}, np.concatenate(predicted))

    def best(self, asked: Asked, part: Part, ks: tuple[int, ...]) -> tuple[float, dict[str, float]]:
        truth, weights = _asked_of(part)
        scores = [r2(truth, column.astype(np.float64), weights) for column in asked.predicted.T]
        if not np.isfinite(scores).any():
            raise InputError(
                f"R² compares how far labels are apart, but those in column {self.labels.column!r} are all the same "
                "beside the largest, of the objects that ask"
                + (", or negative weights take away what they are apart." if (weights < 0).any() else ".")
            )
        place = int(np.nanargmax(scores))
        return scores[place], {"knn_k": ks[place]}

    def terms(self, asked: Asked, part: Part, chosen: dict[str, float], ks: tuple[int, ...]) -> dict[str, Terms]:
        truth, weights = _asked_of(part)
        predicted = asked.predicted[:, ks.index(int(chosen["knn_k"]))].astype(np.float64)
        return {"r2": (r2_terms(truth, predicted, weights), r2s)}

    def chance(self, part: Part) -> None:
        return None


class Circle:
    """How far neighbors are from the query on a circle, the short way round, and how well they tell its place.

    Differences are in the unit of the labels; the neighbors' prediction is the direction of the mean of their places,
    which places that cancel (and weights that do) have none of.
    """

    metric, less_is_better = "apart_at_k", True

    def __init__(self, labels: Labels) -> None:
        self.unit = labels.period / (2 * pi)

    def ask(self, vectors: NDArray[np.float32], part: Part, k: int, ks: tuple[int, ...]) -> Asked:
        apart, predicted = [], []
        for ranked in rankings(vectors[part.places], part.queries, part.left_out):
            near = part.values[ranked.order[:, : max(*ks, k)]].astype(np.float64)  # (B, n) rad
            own = part.values[ranked.queries].astype(np.float64)  # (B,)
            weights = _found(part, ranked)
            apart.append(neighbor_means(self._between(near, own[:, None]), ranked.count, (k,), weights)[:, 0])
            x, y = (neighbor_means(f(near), ranked.count, ks, weights) for f in (np.cos, np.sin))
            predicted.append(np.where(np.hypot(x, y) > NOWHERE, np.arctan2(y, x), np.nan))  # (B, len(ks))
        found = np.concatenate(apart)  # (Q,)
        if (cancel := np.isnan(found)).any():  # lists whose weights cancel count as drawn at random
            found = np.where(cancel, self._to_all(part), found)
        return Asked({"apart_at_k": found}, np.concatenate(predicted))

    def best(self, asked: Asked, part: Part, ks: tuple[int, ...]) -> tuple[float, dict[str, float]]:
        truth, weights = _asked_of(part)
        at_random = self._to_all(part)  # what no prediction is worth, so that no k is chosen for making few
        errors = []
        for column in asked.predicted.T:
            error = self._between(column.astype(np.float64), truth)
            errors.append(weighted_mean(np.where(np.isnan(error), at_random, error), weights))
        return -weighted_mean(asked.means["apart_at_k"], weights), {"knn_k": ks[int(np.nanargmin(errors))]}

    def terms(self, asked: Asked, part: Part, chosen: dict[str, float], ks: tuple[int, ...]) -> dict[str, Terms]:
        truth, weights = _asked_of(part)
        predicted = asked.predicted[:, ks.index(int(chosen["knn_k"]))].astype(np.float64)
        columns = asked.means | {"prediction_error": self._between(predicted, truth)}
        return {name: (self._mean_of_told(values, weights), means) for name, values in columns.items()}

    def _mean_of_told(self, values: Floats, weights: Floats) -> Floats:
        """The terms of the mean (Q,) of what is told; of nothing where the weights of those cancel."""
        told = ~np.isnan(values)
        if cancelling(weights[told]):
            told = np.zeros_like(told)
        return mean_terms(np.where(told, values, 0.0), np.where(told, weights, 0.0))

    def chance(self, part: Part) -> float:
        """The mean difference of the queries to all that each may find, which is that of any list in random order."""
        return weighted_mean(self._to_all(part), part.weights[part.queries])

    def _to_all(self, part: Part) -> Floats:
        """Each query's mean difference (Q,) to all that it may find, by weight unless the weights cancel."""
        values, n = part.values.astype(np.float64), len(part.values)
        step, found = max(1, PAIRS // n), []
        for start in range(0, len(part.queries), step):
            rows = part.queries[start : start + step]
            may = np.ones((len(rows), n))
            may[np.arange(len(rows)), rows] = 0
            for place, row in enumerate(rows.tolist() if part.left_out is not None else ()):
                may[place, part.left_out[row]] = 0  # type: ignore[index]
            apart = self._between(values, values[rows][:, None])  # (b, M)
            plain = (may * apart).sum(axis=1) / may.sum(axis=1)
            weights = may if part.found is None else may * part.found
            total, size = weights.sum(axis=1), np.abs(weights).sum(axis=1)
            found.append(shares((weights * apart).sum(axis=1), total, size, plain))
        return np.concatenate(found)

    def _between(self, first: Floats, second: Floats) -> Floats:
        """Differences of angles in rad, in the unit of the labels, from 0 to half a period."""
        turned: Floats = np.abs(first - second) % (2 * pi)
        return np.minimum(turned, 2 * pi - turned) * self.unit


def _asked_of(part: Part) -> tuple[Floats, Floats]:
    """Values and weights (Q,) of those that ask."""
    return part.values[part.queries].astype(np.float64), part.weights[part.queries]


def _found(part: Part, ranked: Ranked) -> Floats | None:
    """The weights (B, M) of what is found, in rank order, 0 beyond the candidates; None where all count the same."""
    return None if part.found is None else part.found[ranked.order] * ranked.candidate()
