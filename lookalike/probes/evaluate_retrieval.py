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
from lookalike.probes.bootstrap import RESAMPLES, Estimate, estimate, resampled_sums
from lookalike.probes.halves import Part, check_sizes, halves, make_part, overlapping
from lookalike.probes.labels import Labels, class_of, read_labels
from lookalike.probes.measures import CLASS, Asked, Measure, measure_of, unscored_classes
from lookalike.probes.representations import Representations, represent
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import read_config
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig

KS = (1, 3, 5, 10, 20, 50, 100)  # of the k-nearest-neighbor predictions, tried on the tuning half
SPLITS = ("half", "none")
MOST_RESAMPLES = 100_000
BASELINES = ("pixels_pca", "untrained", "hand_features")


@dataclass(frozen=True)
class Score:
    """One representation's scores by name; `difference` is the encoder's less its own, paired (none for the encoder).

    chosen : what the tuning half chose, `knn_k` and `components`; of signal in background also `ams_k` and the
    `ams_vote` from which on an event is selected.
    by_class, by_class_difference : precision_at_k of the queries of each class, where there are at most MOST_CLASSES.
    silent : queries without a prediction of their place on a circle, whose error says nothing of them.
    """

    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]
    chosen: dict[str, float]
    by_class: dict[str, Estimate]
    by_class_difference: dict[str, Estimate]
    silent: int = 0


@dataclass(frozen=True)
class RetrievalReport:
    """What `evaluate_retrieval` found.

    scores : of "encoder" and each of BASELINES. metric : the one that counts, by the label's kind, of which more is
    better, or less. chance : what it comes to for lists in random order, where that is known. half : whose numbers
    these are; `sizes` has the objects of each. unscored : classes whose queries have no score of their own, since their
    weights cancel, and the sum of these over the root of the sum of their squares.
    """

    labels: Labels
    k: int
    metric: str
    less_is_better: bool
    scores: dict[str, Score]
    chance: float | None
    half: str
    sizes: dict[str, int]
    queries: int
    candidates: int
    left_out: dict[str, int]
    unscored: dict[str, float]
    settings: dict[str, object]
    representations: Representations
    samples_hash: str
    simulated: bool = False  # whether the objects are


def evaluate_retrieval(
    samples_paths: Sequence[Path],
    *,
    label: str,
    checkpoint: Path | None = None,
    embeddings: Path | None = None,
    k: int = 10,
    kind: str | None = None,
    period: float | None = None,
    asking: str | None = None,
    weights: str | None = None,
    no_label: Sequence[str] = (),
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

    label       : column; `kind` "categorical", "continuous" or "circular", None decides by its values. Of circular ones
                  `period` is the way round. `hour:minute` names two columns, of the time on a dial in minutes.
    asking      : only objects of this class ask; all are found.
    k           : length of the lists that precision and nDCG look at.
    weights     : column of how many events each object stands for, of either sign, as a query, in lists and in votes.
                  The order of a list, and what has to be in it, never depends on them.
    no_label    : values of the label that mean there is none.
    split, tune : "half" reports the reporting half, or with `tune` the tuning half; "none" tunes and reports on all.
    max_overlap : objects covering more than this share (0 to 1) of the query's footprint are not found.
    max_queries : at most so many objects of a half ask, chosen by seed; all are found.

    InputError where a column, a value or a combination is wrong, too few objects have a label, or all pictures are
    alike; but for the last, and labels that differ by nothing beside the largest, before any picture is described.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if tune and split == "none":
        raise InputError("--tune shows the tuning half, but --split none makes no halves.")
    if resamples < 1 or k < 1 or (max_queries is not None and max_queries < 1):
        raise InputError(
            f"k, resamples and max_queries are at least 1, but {k}, {resamples} and {max_queries} were given."
        )
    if resamples > MOST_RESAMPLES:
        raise InputError(f"At most {MOST_RESAMPLES:,} resamples are drawn, but {resamples:,} were given.")
    if max_overlap is not None and not 0 <= max_overlap <= 1:
        raise InputError(f"max_overlap is a share from 0 to 1, but {max_overlap} was given.")
    samples = Samples(existing_files(list(samples_paths)))
    labels = read_labels(samples, label, kind=kind, period=period, weights=weights, no_label=no_label)
    asked_by = None if asking is None else class_of(labels, asking)
    parted = halves(samples, labels, split, seed)
    check_sizes(parted, labels, k)
    barred = None
    if max_overlap is not None:
        barred = overlapping(samples, labels.rows, _view(samples, checkpoint), max_overlap)
    parts = {name: make_part(labels, places, barred, max_queries, seed, asked_by) for name, places in parted.items()}
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
    measure = measure_of(labels)
    chosen = {name: _choose(name, found, tuning, measure, k, ks) for name in ("encoder", *BASELINES)}
    asked = {name: measure.ask(_vectors(name, found, chosen[name]), shown, k, ks) for name in chosen}
    return RetrievalReport(
        labels=labels,
        k=k,
        metric=measure.metric,
        less_is_better=measure.less_is_better,
        scores=_estimates(asked, shown, chosen, measure, ks, resamples, seed),
        chance=measure.chance(shown),
        half=half,
        sizes={name: len(places) for name, places in parted.items()},
        queries=len(shown.queries),
        candidates=len(shown.places) - 1,
        left_out={
            "without_label": labels.without_label,
            "without_weight": labels.without_weight,
            "without_relevant": shown.alone,
        },
        unscored=unscored_classes(labels, shown),
        settings={
            "layer": layer,
            "max_overlap": max_overlap,
            "asking": asking,
            "max_queries": max_queries,
            "resamples": resamples,
            "seed": seed,
            "split": split,
            "weights": weights,
            "no_label": list(no_label),
        },
        representations=found,
        samples_hash=samples.content_hash,
        simulated=samples.about.simulated,
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
    name: str, found: Representations, part: Part, measure: Measure, k: int, ks: tuple[int, ...]
) -> dict[str, float]:
    """The components and the k of the predictions that are best on this half; of equals the smaller."""
    best: tuple[float, dict[str, float]] | None = None
    options: list[dict[str, float]] = [{"components": n} for n in found.pixels] if name == "pixels_pca" else [{}]
    for option in options:
        asked = measure.ask(_vectors(name, found, option), part, k, ks)
        score, chosen = measure.best(asked, part, ks)
        if best is None or score > best[0]:
            best = score, option | chosen
    assert best is not None
    return best[1]


def _estimates(
    asked: dict[str, Asked],
    part: Part,
    chosen: dict[str, dict[str, float]],
    measure: Measure,
    ks: tuple[int, ...],
    resamples: int,
    seed: int,
) -> dict[str, Score]:
    """Values, intervals and paired differences; all from one and the same draws of queries."""
    terms = {
        (name, metric): each
        for name, answers in asked.items()
        for metric, each in measure.terms(answers, part, chosen[name], ks).items()
    }
    widths = [columns.shape[1] for columns, _ in terms.values()]
    sums = resampled_sums(np.hstack([columns for columns, _ in terms.values()]), resamples, seed)
    parts = np.split(sums, np.cumsum(widths)[:-1], axis=1)
    drawn = {key: value(part) for (key, (_, value)), part in zip(terms.items(), parts, strict=True)}
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
            asked[name].silent(ks.index(int(chosen[name]["knn_k"]))),
        )
    return scores
