"""The retrieval report as JSON and as a table for the terminal."""

from __future__ import annotations

import math
from typing import Any

from lookalike import __version__
from lookalike.probes.bootstrap import LEVEL, Estimate
from lookalike.probes.evaluate_retrieval import BASELINES, RetrievalReport, Score
from lookalike.probes.halves import CLEAR
from lookalike.wording import counted

SCHEMA = 1
IN_A_ROW = 4  # classes
METRICS = (
    "precision_at_k",
    "mean_average_precision",
    "ndcg_at_k",
    "knn_accuracy",
    "r2",
    "ams",
    "apart_at_k",
    "prediction_error",
)
LESS_IS_BETTER = ("apart_at_k", "prediction_error")
AT_K = {"precision_at_k": "precision", "ndcg_at_k": "nDCG", "apart_at_k": "mean difference"}
SHORT = {
    "mean_average_precision": "MAP",
    "knn_accuracy": "kNN accuracy",
    "r2": "neighbor R²",
    "ams": "AMS",
    "prediction_error": "kNN error",
}


def as_json(report: RetrievalReport) -> dict[str, Any]:
    """The whole report. Scores that a label of this kind does not have are null, as is a number that is undefined.

    `interval` belongs to the `metric` that counts (precision_at_k, or r2 of a continuous label), `intervals` to each.
    `value`, `interval`, `difference` and `difference_interval` of a baseline are of that same metric; `difference` is
    the encoder's less the baseline's.
    """
    labels, found = report.labels, report.representations
    encoder = report.scores["encoder"]
    return {
        "schema": SCHEMA,
        "label": labels.column,
        "kind": labels.kind,
        "k": report.k,
        "metric": report.metric,
        "less_is_better": report.less_is_better,
        **_values(encoder),
        "interval": _interval(encoder.metrics[report.metric]),
        "by_class": _by_class(encoder),
        "unscored_classes": dict(report.unscored),
        "without_prediction": encoder.silent,
        "intervals": _intervals(encoder.metrics),
        "chance": report.chance,
        "knn_k": encoder.chosen["knn_k"],
        "baselines": {name: _baseline(report, report.scores[name]) for name in BASELINES},
        "half": report.half,
        "objects": report.sizes,
        "queries": report.queries,
        "candidates": report.candidates,
        "left_out": report.left_out,
        "classes": list(labels.classes) or None,
        "bootstrap": {"over": "queries", "resamples": report.settings["resamples"], "level": LEVEL},
        "settings": report.settings,
        "encoder": {"name": found.architecture, "view": found.view, "hash": found.encoder_hash or None},
        "pictures_fitted": found.fitted,
        "notes": list(found.notes),
        "simulated": report.simulated,
        "samples_hash": report.samples_hash,
        "version": __version__,
    }


def _baseline(report: RetrievalReport, score: Score) -> dict[str, Any]:
    value, apart = score.metrics[report.metric], score.difference[report.metric]
    return {
        "value": _number(value.value),
        "interval": _interval(value),
        "difference": _number(apart.value),
        "difference_interval": _interval(apart),
        **score.chosen,
        **_values(score),
        "intervals": _intervals(score.metrics),
        "by_class": _by_class(score),
        "without_prediction": score.silent,
        "differences": {name: _number(each.value) for name, each in score.difference.items()},
        "difference_intervals": _intervals(score.difference),
    }


def _by_class(score: Score) -> dict[str, dict[str, Any]] | None:
    """precision@k of the queries of each class, and of a baseline the encoder's lead; null where there are none."""
    found: dict[str, dict[str, Any]] = {}
    for name, each in score.by_class.items():
        found[name] = {"value": _number(each.value), "interval": _interval(each)}
        if name in score.by_class_difference:
            apart = score.by_class_difference[name]
            found[name] |= {"difference": _number(apart.value), "difference_interval": _interval(apart)}
    return found or None


def _values(score: Score) -> dict[str, float | None]:
    return {name: _number(score.metrics[name].value) if name in score.metrics else None for name in METRICS}


def _intervals(metrics: dict[str, Estimate]) -> dict[str, list[float | None]]:
    return {name: _interval(each) for name, each in metrics.items()}


def _interval(each: Estimate) -> list[float | None]:
    return [_number(each.low), _number(each.high)]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def title(metric: str, k: int) -> str:
    """A metric's name for people."""
    return f"{AT_K[metric]}@{k}" if metric in AT_K else SHORT[metric]


def name_of(name: str, report: RetrievalReport) -> str:
    """A representation's name for people, with what was chosen for it."""
    chosen = report.scores[name].chosen
    raw, by_hand = {
        "images": ("pixels", "radial profile + colors"),
        "jets": ("jet images", "jet observables"),
        "particles": ("particles", "sums + maxima of numbers"),
        "features": ("numbers", "the numbers themselves"),
    }[report.representations.layout]
    return {
        "encoder": "encoder",
        "pixels_pca": f"raw {raw}, PCA({chosen.get('components')})",
        "untrained": "untrained encoder",
        "hand_features": by_hand,
    }[name]


def head_lines(report: RetrievalReport) -> list[str]:
    """What was asked, of whom, and who was left out."""
    labels, sizes = report.labels, report.sizes
    kind = counted(len(labels.classes), "class", "classes") if labels.categorical else labels.kind
    if labels.period:
        kind += f", once round is {labels.period:g} {labels.unit}".rstrip()
    random = "a mean difference of" if report.less_is_better else "precision"
    unit = labels.unit if report.less_is_better else ""
    weights = report.settings["weights"]
    lines = [f"label {labels.column}: {kind}, {_objects(report)} one"]
    if report.half == "all":
        lines.append(
            f"No halves: all {counted(sizes['all'], 'object')} were tuned on and are reported, which flatters."
        )
    else:
        lines.append(
            f"Halves by hash of seed {report.settings['seed']} and id: {counted(sizes['tuning'], 'tunes', 'tune')}, "
            f"{counted(sizes['reporting'], 'reports', 'report')}; these are the numbers of the {report.half} half."
        )
    lines.append(
        f"{counted(report.queries, 'query', 'queries')} among {counted(report.candidates, 'other')} each"
        + (", less those that overlap it" if report.settings["max_overlap"] is not None else "")
        + (f", weighted by {weights}" if weights else "")
        + (f", all of the class {asking}" if (asking := report.settings["asking"]) else "")
        + (f"; lists at random have {random} {report.chance:.3f} {unit}".rstrip() if report.chance is not None else "")
        + "."
    )
    told = {
        "without_label": "without a label",
        "without_weight": "without a weight",
        "without_relevant": "with no other object to find",
    }
    left = [f"{report.left_out[name]:,} {text}" for name, text in told.items() if report.left_out[name]]
    return [*lines, *([f"Left out: {', '.join(left)}."] if left else [])]


def _objects(report: RetrievalReport) -> str:
    """How many objects have a label, and whether they are simulated."""
    noun = "simulated object" if report.simulated else "object"
    return counted(len(report.labels.rows), f"{noun} has", f"{noun}s have")


def as_text(report: RetrievalReport) -> str:
    """A person's tables: every score with its interval, then the encoder's lead over each baseline."""
    metrics = list(report.scores["encoder"].metrics)
    names = {name: name_of(name, report) for name in report.scores}
    wide = max(map(len, names.values())) + 2
    lines = [*head_lines(report), "", _row("", [title(metric, report.k) for metric in metrics], wide)]
    for name, score in report.scores.items():
        lines.append(_row(names[name], [str(score.metrics[metric]) for metric in metrics], wide))
    lines += ["", "encoder's lead over (less is better)" if report.less_is_better else "encoder's lead over"]
    for name in BASELINES:
        apart = report.scores[name].difference
        lines.append(_row(names[name], [signed(apart[metric]) for metric in metrics], wide))
    if classes := list(report.scores["encoder"].by_class):
        heads = [f"of {name}" for name in classes]
        lines += ["", f"{title('precision_at_k', report.k)} of the queries of each class"]
        for first in range(0, len(classes), IN_A_ROW):
            lines.append(_row("", heads[first : first + IN_A_ROW], wide))
            for name, score in report.scores.items():
                cells = [str(score.by_class[each]) for each in classes[first : first + IN_A_ROW]]
                lines.append(_row(names[name], cells, wide))
    resamples = report.settings["resamples"]
    assert isinstance(resamples, int)
    lines += ["", f"Intervals: {LEVEL:.0%}, paired bootstrap over queries, {counted(resamples, 'resample')}."]
    chosen = ", ".join(f"{names[name]} {score.chosen['knn_k']}" for name, score in report.scores.items())
    lines.append(f"Neighbors that vote, by the {'tuning half' if report.half != 'all' else 'same objects'}: {chosen}.")
    return "\n".join([*lines, *(f"note: {note}" for note in notes(report))])


def notes(report: RetrievalReport) -> list[str]:
    """What a reader should know besides: of the descriptions, and of whom nothing is said."""
    told = [
        f"the queries of class {name} have no score of their own, since their weights cancel: the sum is {ratio:.2g} "
        f"times the root of the sum of their squares, where {CLEAR:g} are needed."
        for name, ratio in report.unscored.items()
    ]
    silent = [f"{name_of(name, report)} {each.silent:,}" for name, each in report.scores.items() if each.silent]
    if silent:
        told.append(
            f"queries whose neighbors predict no place, since their weights or places cancel, of {report.queries:,}: "
            f"{', '.join(silent)}; {SHORT['prediction_error']} is that of the others."
        )
    without = report.labels.signal and report.labels.weighted and "ams" not in report.scores["encoder"].metrics
    if without and report.settings["asking"] is None:
        told.append("no significance is told: the weights of signal or of background that ask cancel in one half.")
    return [*report.representations.notes, *told]


def signed(each: Estimate) -> str:
    """A difference with its interval."""
    if math.isnan(each.value):
        return str(each)
    return f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"


def _row(name: str, cells: list[str], wide: int) -> str:
    return f"{name:<{wide}}" + "  ".join(f"{cell:<25}" for cell in cells).rstrip()
