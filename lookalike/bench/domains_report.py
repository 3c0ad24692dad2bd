"""The table and the picture of `bench domains`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lookalike.bench.domains import Done, Skipped
from lookalike.figures import plotted
from lookalike.files import atomic_path
from lookalike.probes.retrieval_report import LESS_IS_BETTER, title
from lookalike.wording import counted

BASELINES = {"pixels_pca": "raw + PCA", "untrained": "untrained", "hand_features": "by hand"}
TO_BEAT = ("pixels_pca", "untrained")
COLORS = ("#0b62c4", "#b23a00", "#6b7280", "#0f7a45")


def measure_of(done: Done) -> str:
    """The name of the score that counts."""
    return done.case.measure or str(done.report["metric"])


def scores(done: Done) -> dict[str, tuple[float, float, float]]:
    """The score that counts, as (value, low, high), of the encoder and of each baseline."""
    name, report = measure_of(done), done.report
    owners = {"encoder": report} | {title: report["baselines"][key] for key, title in BASELINES.items()}
    return {title: _numbers(owner[name], *owner["intervals"][name]) for title, owner in owners.items()}


def _numbers(value: float | None, low: float | None, high: float | None) -> tuple[float, float, float]:
    """A score with its interval, NaN for what the report gives none of."""
    found = [math.nan if number is None else number for number in (value, low, high)]
    return found[0], found[1], found[2]


def beats(done: Done) -> bool:
    """Whether the encoder's interval lies wholly on the better side of those of raw input and the untrained encoder."""
    found = scores(done)
    _, low, high = found["encoder"]
    if measure_of(done) in LESS_IS_BETTER:
        return all(high < found[BASELINES[name]][1] for name in TO_BEAT)
    return all(low > found[BASELINES[name]][2] for name in TO_BEAT)


def leads(done: Done) -> dict[str, tuple[float, float, float]]:
    """How much better the encoder is than what it has to beat, query by query, as (value, low, high)."""
    name, sign = measure_of(done), -1 if measure_of(done) in LESS_IS_BETTER else 1
    found = {}
    for key in TO_BEAT:
        baseline = done.report["baselines"][key]
        value, low, high = _numbers(baseline["differences"][name], *baseline["difference_intervals"][name])
        found[BASELINES[key]] = (value, low, high) if sign > 0 else (-value, -high, -low)
    return found


def as_json(found: Sequence[Done | Skipped]) -> dict[str, Any]:
    """Every case: what was typed, how long it took, and its report; or why it was skipped."""
    cases: list[dict[str, Any]] = []
    for each in found:
        head = {"case": each.name, "title": each.case.title}
        if isinstance(each, Skipped):
            cases.append(head | {"skipped": each.why})
            continue
        told = {
            "measure": measure_of(each),
            "beats": beats(each),
            "leads": leads(each),
            "seconds": each.seconds,
            "commands": each.commands,
            "report": each.report,
        }
        cases.append(head | told)
    return {"schema": 1, "cases": cases}


def as_text(found: Sequence[Done | Skipped]) -> str:
    """The table for a terminal."""
    lines = []
    for each in found:
        if isinstance(each, Skipped):
            lines.append(f"{each.name:<16} skipped: {each.why}")
            continue
        cells = [f"{name} {_cell(value)}" for name, value in scores(each).items()]
        verdict = "better than raw + PCA and untrained, apart" if beats(each) else "not better than both, apart"
        lines.append(f"{each.name:<16} {title(measure_of(each), each.report['k'])}: {'; '.join(cells)}: {verdict}")
    return "\n".join(lines)


def write_markdown(found: Sequence[Done | Skipped], path: Path, picture: Path | None) -> None:
    """Write the table, with the commands of every case below it.

    picture : the plot beside it, if any.
    """
    done = [each for each in found if isinstance(each, Done)]
    lines = [
        "# Results by domain",
        "",
        "Made by `lookalike bench domains`; not edited by hand.",
        "",
        "Trained without labels. Each object of the half of the labels that no choice was made by asks for those most "
        "like it in that half. Measures, with 95 % intervals (bootstrap over queries): the share of the 10 nearest "
        "that have its label; where so said, how often the nearest vote for it (kNN accuracy), or the mean average "
        "precision (MAP) over the whole ranking; of labels on a circle the mean difference to the 10 nearest, of "
        "which less is better. "
        "*Raw + PCA* is the encoder's own input, the best of 16, 64 and 256 components; *untrained* the same encoder "
        "before training; *by hand* what one would compute without training. **Apart** says that the encoder's "
        "interval touches neither that of raw + PCA nor that of the untrained encoder, and lies on the better side. "
        "*Lead* is the smaller of the encoder's two leads over these, with the interval of the difference by the same "
        "queries. "
        "Training is in minutes and seconds as it ran, on a machine that others may have used too.",
        "",
    ]
    if picture is not None:
        lines += [f"![Scores by domain]({picture.name})", ""]
    lines += [
        "| data | objects | label | measure | encoder | raw + PCA | untrained | by hand | apart | lead | training |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(each) for each in done),
        "",
        *(f"Not run: {each.case.title} ({each.why})." for each in found if isinstance(each, Skipped)),
        "",
        "## What was typed",
        "",
    ]
    for each in done:
        lines += [f"{each.case.title}:", "", *(f"    {command}" for command in each.commands), ""]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def draw(found: Sequence[Done | Skipped], path: Path) -> None:
    """Write each case's scores with their intervals as a picture, each on an axis of its own."""
    done = [each for each in found if isinstance(each, Done)]
    with plotted(path, (9, 0.8 + 0.9 * len(done)), dpi=130) as figure:
        if done:
            for axes, each in zip(figure.subplots(len(done), 1, squeeze=False)[:, 0], done, strict=True):
                _draw_case(axes, each)
            handles, names = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)


def _draw_case(axes: Any, done: Done) -> None:
    for place, (name, (value, low, high)) in enumerate(scores(done).items()):
        axes.plot([low, high], [-place] * 2, color=COLORS[place], lw=2.5, solid_capstyle="butt")
        axes.plot(value, -place, "o", color=COLORS[place], ms=5, label=name)
    axes.set_yticks([])
    axes.margins(y=0.2)
    axes.grid(axis="x", alpha=0.3)
    better = " (less is better)" if measure_of(done) in LESS_IS_BETTER else ""
    text = f"{done.case.title}\n{title(measure_of(done), done.report['k'])}{better}"
    axes.set_ylabel(text, rotation=0, ha="right", va="center")


def _row(done: Done) -> str:
    report = done.report
    minutes, seconds = divmod(round(done.seconds["train"]), 60)
    label = report["label"] + (f" ({counted(len(report['classes']), 'class', 'classes')})" if report["classes"] else "")
    cells = [
        done.case.title,
        f"{sum(report['objects'].values()):,}",
        label,
        title(measure_of(done), report["k"]),
        *map(_cell, scores(done).values()),
        "yes" if beats(done) else "no",
        _signed(min(leads(done).values())),
        f"{minutes}:{seconds:02}",
    ]
    return f"| {' | '.join(cells)} |"


def _cell(value: tuple[float, float, float]) -> str:
    digits = 1 if value[0] >= 10 else 3
    return f"{value[0]:.{digits}f} ({value[1]:.{digits}f}–{value[2]:.{digits}f})"


def _signed(value: tuple[float, float, float]) -> str:
    digits = 1 if max(map(abs, value)) >= 10 else 3
    return f"{value[0]:+.{digits}f} ({value[1]:+.{digits}f} to {value[2]:+.{digits}f})".replace("-", "−")
