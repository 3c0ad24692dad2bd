"""The retrieval report as a picture and as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.figures import plotted
from lookalike.files import atomic_path
from lookalike.probes.bootstrap import LEVEL, Estimate
from lookalike.probes.evaluate_retrieval import BASELINES, RetrievalReport
from lookalike.probes.outputs import check_page, check_picture
from lookalike.probes.plots import Mark, interval_plot, legend
from lookalike.probes.report_html import STYLE
from lookalike.probes.retrieval_report import head_lines, name_of, notes, signed, title

SHARES = ("precision_at_k", "mean_average_precision", "ndcg_at_k", "knn_accuracy")
COLORS = ("#0b62c4", "#b23a00", "#6b7280", "#0f7a45")


def draw(report: RetrievalReport, path: Path) -> None:
    """Write bars with their intervals, and the encoder's lead over each baseline, as PNG, SVG or PDF."""
    check_picture(path)
    panels = _panels(list(report.scores["encoder"].metrics))
    widths = [max(1.6, len(metrics)) for metrics in panels for _ in "lr"]
    with plotted(path, (11 if len(panels) == 1 else 15, 4.8), dpi=150) as figure:
        axes = figure.subplots(1, len(widths), width_ratios=widths)
        for left, right, metrics in zip(axes[::2], axes[1::2], panels, strict=True):
            _panel(left, right, report, metrics)
            if report.chance is not None and report.metric in metrics:
                place = metrics.index(report.metric)
                left.plot([place - 0.45, place + 0.45], [report.chance] * 2, "k:", lw=1.5, label="lists at random")
        # Below, where it covers no bar; all panels have one color for each.
        names = axes[0].get_legend_handles_labels()
        whiskers = f"Whiskers: {LEVEL:.0%} intervals, paired bootstrap over queries"
        figure.legend(
            *names, loc="outside lower center", ncols=5, fontsize=9, frameon=False, title=whiskers, title_fontsize=8
        )


def _panels(metrics: list[str]) -> list[list[str]]:
    """The scores that share an axis: shares and differences in the labels' unit, and AMS, which is in σ, by itself."""
    alike = [metric for metric in metrics if metric != "ams"]
    return [each for each in (alike, ["ams"] if "ams" in metrics else []) if each]


def _panel(left: Any, right: Any, report: RetrievalReport, metrics: list[str]) -> None:
    """Bars of every representation's scores, and of the encoder's lead over each baseline."""
    for place, (name, score) in enumerate(report.scores.items()):
        _bars(left, place, 4, [score.metrics[metric] for metric in metrics], name_of(name, report))
    for place, name in enumerate(BASELINES, 1):
        apart = report.scores[name].difference
        _bars(right, place - 1, 3, [apart[metric] for metric in metrics], name_of(name, report), place)
    alone = metrics == ["ams"]
    of = f"{report.labels.column} of simulated objects" if report.simulated else report.labels.column
    half = "all objects" if report.half == "all" else f"{report.half} half"
    lead = "the encoder's lead over each" + (" (less is better)" if report.less_is_better else "")
    unit = (report.labels.unit or "in the label's unit") if report.less_is_better else "score"
    for axes, text in ((left, "significance" if alone else f"{of}, {half}"), (right, "its lead" if alone else lead)):
        axes.set_title(text)
        axes.set_xticks(range(len(metrics)), [title(metric, report.k) for metric in metrics])
        axes.set_ylabel("σ" if alone else unit)
        axes.axhline(0, color="black", lw=0.8)


def _bars(axes: Any, place: int, of: int, values: list[Estimate], label: str, color: int | None = None) -> None:
    """One representation's bars, beside the others' at every metric."""
    at = np.arange(len(values)) + (place - (of - 1) / 2) * 0.8 / of
    height = np.array([each.value for each in values])
    low, high = (np.array([getattr(each, end) for each in values]) for end in ("low", "high"))
    whiskers = np.clip([height - low, high - height], 0, None)
    color = place if color is None else color
    axes.bar(at, height, 0.8 / of, yerr=whiskers, capsize=2, color=COLORS[color], label=label)


def write_page(report: RetrievalReport, path: Path) -> None:
    """Write the report to an HTML file, whole or not at all."""
    check_page(path)
    with atomic_path(path) as temporary:
        temporary.write_text(page(report), encoding="utf-8")


def page(report: RetrievalReport) -> str:
    """The page as text."""
    metrics = list(report.scores["encoder"].metrics)
    names = {name: name_of(name, report) for name in report.scores}
    heads = [title(metric, report.k) for metric in metrics]
    scores = [
        (names[name], *(str(score.metrics[metric]) for metric in metrics)) for name, score in report.scores.items()
    ]
    leads = [(names[n], *(signed(report.scores[n].difference[metric]) for metric in metrics)) for n in BASELINES]
    colors = "".join(f".s{i} {{ fill: var(--s{i}); stroke: var(--s{i}); }} " for i in range(len(names)))
    column = escape(report.labels.column)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>Retrieval by {column}</title><style>{STYLE}{colors}</style></head><body>",
            f"<h1>Retrieval by {column}</h1>",
            *(f'<p class="faint">{escape(line)}</p>' for line in head_lines(report)),
            "<h2>Scores</h2>",
            legend(list(names.values())),
            *_plots(report, names),
            _table(["", *heads], scores),
            f"<h2>The encoder's lead, paired{' (less is better: below 0)' if report.less_is_better else ''}</h2>",
            _table(["over", *heads], leads),
            *_by_class(report, names),
            *(f'<p class="faint">{escape(note)}</p>' for note in notes(report)),
            "</body></html>",
            "",
        ]
    )


def _plots(report: RetrievalReport, names: dict[str, str]) -> list[str]:
    """The shares on one axis from 0 to 1, and each score in a unit of its own on one as long as it needs."""
    shares, others = [], []
    for metric in report.scores["encoder"].metrics:
        found = {name: score.metrics[metric] for name, score in report.scores.items()}
        marks = [
            Mark(place, each.value, each.low, each.high, f"{names[name]}: {each}")
            for place, (name, each) in enumerate(found.items())
            if np.isfinite([each.value, each.low, each.high]).all()
        ]
        if metric in SHARES:
            shares.append((title(metric, report.k), marks))
        else:
            others.append((title(metric, report.k), marks))
    about = f"Retrieval by {report.labels.column}"
    parts = [interval_plot(shares, about, *_ends([mark for _, marks in shares for mark in marks]))] if shares else []
    unit = f", {report.labels.unit}" if report.less_is_better and report.labels.unit else ""
    for row in others:
        parts.append(f'<p class="faint">{escape(row[0] + unit)}</p>')
        parts.append(interval_plot([("", row[1])], f"{about}: {row[0]}{unit}", *_ends(row[1], 0.0)))
    return parts


def _ends(marks: Sequence[Mark], reach: float = 1.0) -> tuple[float, float]:
    """Where an axis ends and begins that goes from 0 to `reach` and holds every mark with its interval."""
    high = _round_up(max([reach, *(mark.high for mark in marks)]))
    low = -_round_up(-min([0.0, *(mark.low for mark in marks)]))
    return high if high > low else 1.0, low


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 and 10 times a power of ten; 0 of none above it."""
    if value <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next((step * power for step in (1.0, 2.0, 2.5, 5.0) if value <= step * power), 10 * power))


def _by_class(report: RetrievalReport, names: dict[str, str]) -> list[str]:
    """The table of precision by class, where there are classes."""
    classes = list(report.scores["encoder"].by_class)
    if not classes:
        return []
    rows = [(each, *(str(score.by_class[each]) for score in report.scores.values())) for each in classes]
    return [f"<h2>{title('precision_at_k', report.k)} by class</h2>", _table(["asked by", *names.values()], rows)]


def _table(head: list[str], rows: list[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
