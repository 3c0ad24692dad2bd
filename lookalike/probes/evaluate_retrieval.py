"""Does a similarity find objects of the same kind? Scores of the lists against labels, beside three baselines.

The labels are parted in two by a hash of seed and id. Whatever has to be chosen (the number of principal components,
the k of the k-nearest-neighbor predictions, each for every representation by itself) is chosen on the tuning half; the
numbers are those of the reporting half, whose objects are both queries and candidates. So no label of the reporting
half, and no list that holds one, ever had a say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, unknown
from lookalike.files import existing_files
from lookalike.probes.ams import ams_terms, amses, threshold
from lookalike.probes.bootstrap import (
    RESAMPLES,
    Estimate,
    estimate,
    mean_terms,
    means,
    r2_terms,
    r2s,
    resampled_sums,
)
from lookalike.probes.halves import Part, check_sizes, halves, make_part, overlapping
from lookalike.probes.labels import Labels, read_labels
from lookalike.probes.ranking import (
    average_precision,
    ndcg_at_k,
    neighbor_means,
    neighbor_votes,
    precision_at_k,
    r2,
    rankings,
    weighted_mean,
)
from lookalike.probes.representations import Representations, represent
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import read_config
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig

KS = (1, 3, 5, 10, 20, 50, 100)  # of the k-nearest-neighbor predictions, tried on the tuning half
SPLITS = ("half", "none")
BASELINES = ("pixels_pca", "untrained", "hand_features")

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """One representation's scores by name; `difference` is the encoder's less its own, paired (none for the encoder).

    chosen : what the tuning half chose, `knn_k` and `components`; of signal in background also `ams_k` and the
    `ams_vote` from which on an event is selected.
    """

    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]
    chosen: dict[str, float]


@dataclass(frozen=True)
class RetrievalReport:
    """What `evaluate_retrieval` found.

    scores : of "encoder" and each of BASELINES. metric : the one that counts, by the label's kind. chance : precision
    to expect of lists in random order. half : whose numbers these are; `sizes` has the objects of each.
    """

    labels: Labels
    k: int
    metric: str
    scores: dict[str, Score]
    chance: float | None
    half: str
    sizes: dict[str, int]
    queries: int
    candidates: int
    left_out: dict[str, int]
    settings: dict[str, object]
    representations: Representations
    samples_hash: str


@dataclass(frozen=True)
class Asked:
    """Per query: the scores that are means (Q,) by name, and the predictions (Q, len(ks)) of the nearest k.

    votes : (Q, len(ks)) the share of signal among the nearest k, where that is asked for.
    """

    means: dict[str, Floats]
    predicted: NDArray[np.generic]
    votes: Floats | None


def evaluate_retrieval(
    samples_paths: Sequence[Path],
    *,
    label: str,
    checkpoint: Path | None = None,
    embeddings: Path | None = None,
    k: int = 10,
    kind: str | None = None,
    weights: str | None = None,
    split: str = "half",
    tune: bool = False,
    max_overlap: float | None = None,
    layer: str = "embedding",
    resamples: int = RESAMPLES,
    max_queries: int | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> RetrievalReport:
    """Score an encoder's (or an embeddings file's) lists against a catalog column, and each baseline's beside it.

    label       : column; `kind` "categorical" or "continuous", None decides by its values.
    k           : length of the lists that precision and nDCG look at.
    weights     : column of how many events each object stands for, of either sign, as a query, in lists and in votes.
                  The order of a list, and what has to be in it, never depends on them.
    split, tune : "half" reports the reporting half, or with `tune` the tuning half; "none" tunes and reports on all.
    max_overlap : objects covering more than this share (0 to 1) of the query's footprint are not found.
    max_queries : at most so many objects of a half ask, chosen by seed; all are found.

    InputError where a column, a value or a combination is wrong, too few objects have a label, or all pictures are
    alike; but for the last, before any picture is described.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if tune and split == "none":
        raise InputError("--tune shows the tuning half, but --split none makes no halves.")
    if resamples < 1 or k < 1 or (max_queries is not None and max_queries < 1):
        raise InputError(
            f"k, resamples and max_queries are at least 1, but {k}, {resamples} and {max_queries} were given."
        )
    if max_overlap is not None and not 0 <= max_overlap <= 1:
        raise InputError(f"max_overlap is a share from 0 to 1, but {max_overlap} was given.")
    samples = Samples(existing_files(list(samples_paths)))
    labels = read_labels(samples, label, kind=kind, weights=weights)
    parted = halves(samples, labels, split, seed)
    check_sizes(parted, labels, k)
    barred = None
    if max_overlap is not None:
        barred = overlapping(samples, labels.rows, _view(samples, checkpoint), max_overlap)
    parts = {name: make_part(labels, places, barred, max_queries, seed) for name, places in parted.items()}
    found = represent(
        samples,
        labels.rows,
        checkpoint=checkpoint,
        embeddings=embeddings,
        layer=layer,
        seed=seed,
        device=device,
        quiet=quiet,
    )
    if not found.pixels:
        raise InputError(f"Pictures must differ to be told apart, but the {found.fitted:,} compared are all alike.")
    ks = tuple(n for n in KS if n < min(len(half) for half in parted.values()))
    half = "all" if split == "none" else "tuning" if tune else "reporting"
    tuning, shown = parts["all" if split == "none" else "tuning"], parts[half]
    chosen = {name: _choose(name, found, tuning, labels, k, ks) for name in ("encoder", *BASELINES)}
    asked = {name: _ask(_vectors(name, found, chosen[name]), shown, labels, k, ks) for name in chosen}
    metric = "precision_at_k" if labels.categorical else "r2"
    return RetrievalReport(
        labels=labels,
        k=k,
        metric=metric,
        scores=_estimates(asked, shown, chosen, labels, ks, resamples, seed),
        chance=_chance(shown) if labels.categorical else None,
        half=half,
        sizes={name: len(places) for name, places in parted.items()},
        queries=len(shown.queries),
        candidates=len(shown.places) - 1,
        left_out={
            "without_label": labels.without_label,
            "without_weight": labels.without_weight,
            "without_relevant": shown.alone,
        },
        settings={
            "layer": layer,
            "max_overlap": max_overlap,
            "max_queries": max_queries,
            "resamples": resamples,
            "seed": seed,
            "split": split,
            "weights": weights,
        },
        representations=found,
        samples_hash=samples.content_hash,
    )


def _view(samples: Samples, checkpoint: Path | None) -> int:
    """The side in px of what the encoder sees, the domain's default where there is no checkpoint."""
    if checkpoint is not None:
        return read_config(checkpoint).preprocess.size
    return make_plan(samples, TrainConfig(batch_size=4)).preprocess.size


def _vectors(name: str, found: Representations, chosen: dict[str, float]) -> NDArray[np.float32]:
    if name == "pixels_pca":
        return found.pixels[int(chosen["components"])]
    vectors: NDArray[np.float32] = getattr(found, name)
    return vectors


def _choose(
    name: str, found: Representations, part: Part, labels: Labels, k: int, ks: tuple[int, ...]
) -> dict[str, float]:
    """The components and the k of the predictions that are best on this half; of equals the smaller."""
    best: tuple[float, dict[str, float]] | None = None
    options: list[dict[str, float]] = [{"components": n} for n in found.pixels] if name == "pixels_pca" else [{}]
    for option in options:
        asked = _ask(_vectors(name, found, option), part, labels, k, ks)
        predictions = _prediction_scores(asked, part, labels)
        if not np.isfinite(predictions).any():
            raise InputError(
                f"R² compares how far labels are apart, but those in column {labels.column!r} span too much: "
                "beside the largest, all those of the objects that ask are the same."
            )
        place = int(np.nanargmax(predictions))
        score = predictions[place]
        if labels.categorical:
            score = weighted_mean(asked.means["precision_at_k"], part.weights[part.queries])
        if best is None or score > best[0]:
            best = score, option | {"knn_k": ks[place]} | _selection(asked, part, ks)
    assert best is not None
    return best[1]


def _selection(asked: Asked, part: Part, ks: tuple[int, ...]) -> dict[str, float]:
    """The k and the least vote of the selection of the largest significance on this half."""
    if asked.votes is None:
        return {}
    signal, weights = part.values[part.queries] == 1, part.weights[part.queries]
    found = [threshold(votes, signal, weights) for votes in asked.votes.T]
    place = int(np.argmax([significance for _, significance in found]))
    return {"ams_k": ks[place], "ams_vote": found[place][0]}


def _ask(vectors: NDArray[np.float32], part: Part, labels: Labels, k: int, ks: tuple[int, ...]) -> Asked:
    """Every query's scores under one representation (n, D) of all labelled objects."""
    unit = vectors[part.places]  # (M, D)
    columns: dict[str, list[Floats]] = {}
    votes: list[Floats] = []
    evened = _evened(part, labels)
    predicted: list[NDArray[np.generic]] = []
    mean = np.nan
    if not labels.categorical:
        mean = weighted_mean(part.values[part.queries].astype(np.float64), part.weights[part.queries])
    for ranked in rankings(unit, part.queries, part.left_out):
        near = part.values[ranked.order[:, : max(ks)]]  # (B, max k)
        weights = None if part.found is None else part.found[ranked.order] * ranked.candidate()  # (B, M)
        if not labels.categorical:
            predicted.append(neighbor_means(near.astype(np.float64), ranked.count, ks, weights, mean))
            continue
        same = part.values[ranked.order] == part.values[ranked.queries][:, None]
        relevant = same & ranked.candidate()  # (B, M)
        share = part.share[ranked.queries]  # (B,)
        for name, values in {
            "precision_at_k": precision_at_k(relevant, ranked.count, k, weights, share),
            "mean_average_precision": average_precision(relevant, weights, share),
            "ndcg_at_k": ndcg_at_k(relevant, k, weights),
        }.items():
            columns.setdefault(name, []).append(values)
        predicted.append(neighbor_votes(near.astype(np.int64), ranked.count, ks, len(labels.classes), weights))
        if evened is not None:
            votes.append(neighbor_means(near.astype(np.float64), ranked.count, ks, evened[ranked.order], 0.5))
    means = {name: np.concatenate(blocks) for name, blocks in columns.items()}
    return Asked(means, np.concatenate(predicted), np.concatenate(votes) if votes else None)


def _evened(part: Part, labels: Labels) -> Floats | None:
    """Weights (M,) of signal and background that sum up to 1 each, where significance is asked for.

    So the share of signal among neighbors is L/(1 + L) of the ratio L of both densities, at any mixture of the two.
    """
    if part.found is None or not labels.signal:
        return None
    signal = part.values == 1
    sums = [float(part.found[each].sum()) for each in (signal, ~signal)]
    if min(sums) <= 0:
        raise InputError("Weights of signal and background must each have a sum above 0.")
    return part.found / np.where(signal, *sums)


def _prediction_scores(asked: Asked, part: Part, labels: Labels) -> list[float]:
    """Accuracy, or R², of the predictions from each number of neighbors."""
    truth, weights = part.values[part.queries], part.weights[part.queries]
    if labels.categorical:
        return [weighted_mean((column == truth).astype(np.float64), weights) for column in asked.predicted.T]
    return [r2(truth.astype(np.float64), column.astype(np.float64), weights) for column in asked.predicted.T]


def _chance(part: Part) -> float:
    """The precision to expect of lists in random order: each query's share of its class among those it may find."""
    return weighted_mean(part.share[part.queries], part.weights[part.queries])


def _estimates(
    asked: dict[str, Asked],
    part: Part,
    chosen: dict[str, dict[str, float]],
    labels: Labels,
    ks: tuple[int, ...],
    resamples: int,
    seed: int,
) -> dict[str, Score]:
    """Values, intervals and paired differences; all from one and the same draws of queries."""
    truth, weights = part.values[part.queries], part.weights[part.queries]
    terms: dict[tuple[str, str], Floats] = {}
    for name, answers in asked.items():
        predicted = answers.predicted[:, ks.index(int(chosen[name]["knn_k"]))]
        if labels.categorical:
            columns = answers.means | {"knn_accuracy": (predicted == truth).astype(np.float64)}
            terms |= {(name, metric): mean_terms(values, weights) for metric, values in columns.items()}
            if answers.votes is not None:
                votes = answers.votes[:, ks.index(int(chosen[name]["ams_k"]))]
                terms[name, "ams"] = ams_terms(votes >= chosen[name]["ams_vote"], truth == 1, weights)
        else:
            terms[name, "r2"] = r2_terms(truth.astype(np.float64), predicted.astype(np.float64), weights)
    widths = [columns.shape[1] for columns in terms.values()]
    sums = resampled_sums(np.hstack(list(terms.values())), resamples, seed)
    parts = np.split(sums, np.cumsum(widths)[:-1], axis=1)
    made = {"r2": r2s, "ams": amses}
    drawn = {key: made.get(key[1], means)(part) for key, part in zip(terms, parts, strict=True)}
    scores = {}
    for name in asked:
        metrics = [metric for owner, metric in drawn if owner == name]
        apart = {} if name == "encoder" else {m: drawn["encoder", m] - drawn[name, m] for m in metrics}
        scores[name] = Score(
            {metric: estimate(drawn[name, metric]) for metric in metrics},
            {metric: estimate(values) for metric, values in apart.items()},
            chosen[name],
        )
    return scores
