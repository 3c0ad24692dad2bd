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
CLASS = "class "  # before a class, of the scores of its queries alone
BASELINES = ("pixels_pca", "untrained", "hand_features")
MOST_CLASSES = 20  # whose precision is told one by one

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """One representation's scores by name; `difference` is the encoder's less its own, paired (none for the encoder).

    chosen : what the tuning half chose, `knn_k` and `components`.
    by_class, by_class_difference : precision_at_k of the queries of each class; empty of a continuous label, and of one
    with more than MOST_CLASSES.
    """

    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]
    chosen: dict[str, int]
    by_class: dict[str, Estimate]
    by_class_difference: dict[str, Estimate]


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
    """Per query: the scores that are means (Q,) by name, and the predictions (Q, len(ks)) of the nearest k."""

    means: dict[str, Floats]
    predicted: NDArray[np.generic]


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
    weights     : column of what each query counts; lists and votes are not weighted, as an index's are not.
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


def _vectors(name: str, found: Representations, chosen: dict[str, int]) -> NDArray[np.float32]:
    if name == "pixels_pca":
        return found.pixels[chosen["components"]]
    vectors: NDArray[np.float32] = getattr(found, name)
    return vectors


def _choose(
    name: str, found: Representations, part: Part, labels: Labels, k: int, ks: tuple[int, ...]
) -> dict[str, int]:
    """The components and the k of the predictions that are best on this half; of equals the smaller."""
    best: tuple[float, dict[str, int]] | None = None
    for option in [{"components": count} for count in found.pixels] if name == "pixels_pca" else [{}]:
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
            best = score, option | {"knn_k": ks[place]}
    assert best is not None
    return best[1]


def _ask(vectors: NDArray[np.float32], part: Part, labels: Labels, k: int, ks: tuple[int, ...]) -> Asked:
    """Every query's scores under one representation (n, D) of all labelled objects."""
    unit = vectors[part.places]  # (M, D)
    columns: dict[str, list[Floats]] = {}
    predicted: list[NDArray[np.generic]] = []
    for ranked in rankings(unit, part.queries, part.left_out):
        near = part.values[ranked.order[:, : max(ks)]]  # (B, max k)
        if not labels.categorical:
            predicted.append(neighbor_means(near.astype(np.float64), ranked.count, ks))
            continue
        same = part.values[ranked.order] == part.values[ranked.queries][:, None]
        relevant = same & ranked.candidate()  # (B, M)
        for name, values in {
            "precision_at_k": precision_at_k(relevant, ranked.count, k),
            "mean_average_precision": average_precision(relevant),
            "ndcg_at_k": ndcg_at_k(relevant, k),
        }.items():
            columns.setdefault(name, []).append(values)
        predicted.append(neighbor_votes(near.astype(np.int64), ranked.count, ks, len(labels.classes)))
    return Asked({name: np.concatenate(blocks) for name, blocks in columns.items()}, np.concatenate(predicted))


def _prediction_scores(asked: Asked, part: Part, labels: Labels) -> list[float]:
    """Accuracy, or R², of the predictions from each number of neighbors."""
    truth, weights = part.values[part.queries], part.weights[part.queries]
    if labels.categorical:
        return [weighted_mean((column == truth).astype(np.float64), weights) for column in asked.predicted.T]
    return [r2(truth.astype(np.float64), column.astype(np.float64), weights) for column in asked.predicted.T]


def _chance(part: Part) -> float:
    """The precision to expect of lists in random order: each query's share of its class among those it may find."""
    share = part.alike[part.queries] / part.candidates[part.queries]
    return weighted_mean(share, part.weights[part.queries])


def _estimates(
    asked: dict[str, Asked],
    part: Part,
    chosen: dict[str, dict[str, int]],
    labels: Labels,
    ks: tuple[int, ...],
    resamples: int,
    seed: int,
) -> dict[str, Score]:
    """Values, intervals and paired differences; all from one and the same draws of queries."""
    truth, weights = part.values[part.queries], part.weights[part.queries]
    classes = [(place, label) for place, label in enumerate(labels.classes) if (truth == place).any()]
    classes = classes if len(labels.classes) <= MOST_CLASSES else []
    terms: dict[tuple[str, str], Floats] = {}
    for name, answers in asked.items():
        predicted = answers.predicted[:, ks.index(chosen[name]["knn_k"])]
        if labels.categorical:
            columns = answers.means | {"knn_accuracy": (predicted == truth).astype(np.float64)}
            terms |= {(name, metric): mean_terms(values, weights) for metric, values in columns.items()}
            hits = answers.means["precision_at_k"]
            terms |= {(name, CLASS + label): mean_terms(hits, weights * (truth == place)) for place, label in classes}
        else:
            terms[name, "r2"] = r2_terms(truth.astype(np.float64), predicted.astype(np.float64), weights)
    widths = [columns.shape[1] for columns in terms.values()]
    sums = resampled_sums(np.hstack(list(terms.values())), resamples, seed)
    parts = np.split(sums, np.cumsum(widths)[:-1], axis=1)
    drawn = {key: means(part) if labels.categorical else r2s(part) for key, part in zip(terms, parts, strict=True)}
    scores = {}
    for name in asked:
        found = {metric: estimate(drawn[name, metric]) for owner, metric in drawn if owner == name}
        apart = {m: estimate(drawn["encoder", m] - drawn[name, m]) for m in found if name != "encoder"}
        scores[name] = Score(
            {metric: value for metric, value in found.items() if not metric.startswith(CLASS)},
            {metric: value for metric, value in apart.items() if not metric.startswith(CLASS)},
            chosen[name],
            {metric.removeprefix(CLASS): value for metric, value in found.items() if metric.startswith(CLASS)},
            {metric.removeprefix(CLASS): value for metric, value in apart.items() if metric.startswith(CLASS)},
        )
    return scores
