"""The invariance report as one page that needs nothing else: plots, tables, flags and the rules behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lookalike.files import atomic_path
from lookalike.probes.checks import ODDS
from lookalike.probes.describe import TRAINED
from lookalike.probes.faults import DEAD, DEAD_NUMBERS, DESTROYED
from lookalike.probes.invariance import TOGETHER, Invariance
from lookalike.probes.outputs import check_page
from lookalike.probes.plots import Bar, Mark, interval_plot, legend, quantile_plot
from lookalike.probes.report import own_names, told
from lookalike.probes.scores import K, Scores
from lookalike.proportions import Share
from lookalike.wording import counted

SERIES = {
    "embedding": "trained, embedding",
    "projection": "trained, projection",
    "untrained embedding": "untrained, embedding",
    "pixels": "raw pixels",
    "hand_features": "radial profile + color histogram",
}
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1d22; --faint: #5c626d; --line: #d8dbe0; --band: #f4f5f7;
  --s0: #0b62c4; --s1: #b23a00; --s2: #6b7280; --s3: #0f7a45; --s4: #8a2fa8; --bad: #b00020; --good: #0f7a45; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b; --ink: #e9eaed; --faint: #a2a8b3; --line: #3a3e46;
  --band: #1d2026; --s0: #6cb2ff; --s1: #ff9a62; --s2: #a7adb8; --s3: #5fd39a; --s4: #d69bf0; --bad: #ff8a95;
  --good: #5fd39a; } }
body { margin: 0 auto; max-width: 1000px; padding: 24px 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 4px; }
p { margin: 6px 0; } .faint { color: var(--faint); } .wide { overflow-x: auto; }
.plot { display: block; width: 100%; height: auto; margin-top: 8px; }
.plot text { fill: var(--ink); font-size: 13px; } .label { text-anchor: end; } .plot .tick { fill: var(--faint);
  text-anchor: middle; } .grid { stroke: var(--line); } .band { fill: var(--band); }
@media (max-width: 600px) { .plot text { font-size: 20px; } }
.whisker { stroke-width: 1.6; } .box { stroke-width: 6; opacity: .45; } .mark { stroke: var(--paper); stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; } .key { display: inline-flex; align-items: center; gap: 5px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 8px; font-size: 13px; }
th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--faint); font-weight: 600; }
.flag { border-left: 4px solid var(--bad); padding: 4px 12px; margin: 8px 0; } .flag b { color: var(--bad); }
.fine { border-left: 4px solid var(--good); padding: 4px 12px; } summary { cursor: pointer; color: var(--faint); }
"""


def write_page(measured: Invariance, path: Path) -> None:
    """Write the report to an HTML file, whole or not at all; InputError where that would replace what was measured."""
    check_page(path, [*measured.samples.paths, measured.checkpoint])
    with atomic_path(path) as temporary:
        temporary.write_text(page(measured), encoding="utf-8")


def page(measured: Invariance) -> str:
    """The page as text."""
    n = len(measured.rows)
    colors = "".join(f".s{i} {{ fill: var(--s{i}); stroke: var(--s{i}); }} " for i in range(len(SERIES)))
    noun = "simulated object" if measured.samples.about.simulated else "object"
    where = f"{counted(n, noun)} of {', '.join(path.name for path in measured.samples.paths)}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Invariance of {escape(measured.checkpoint.name)}</title><style>{STYLE}{colors}</style></head><body>",
        f"<h1>Invariance of {escape(measured.checkpoint.name)}</h1>",
        f'<p class="faint">{escape(where)}, seed {measured.settings["seed"]}. An encoder that ignores what it was '
        f"trained to ignore finds the original of an augmented copy first; chance finds it once in {n:,}.</p>",
        *_flags(measured),
        *_retrieval(measured, 0, "How often the own original comes first (self-retrieval@1), asked with the copy"),
        *_retrieval(measured, 1, f"How often it is among the first {K} (self-retrieval@{K})"),
        *_overlap(measured),
        *_crowded(measured),
        *_cosines(measured),
        *_tables(measured),
        *_checks(measured),
        *_rules(measured),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _label(measured: Invariance, name: str) -> str:
    if name != TOGETHER:
        return name
    return f"all but {', '.join(measured.without)}" if measured.without else "all"


def _names(measured: Invariance) -> list[str]:
    return [*measured.steps, TOGETHER]


def _flags(measured: Invariance) -> list[str]:
    if not measured.flags:
        return ['<p class="fine">No augmentation is flagged.</p>']
    return [f'<p class="flag"><b>{escape(flag.kind)}</b> {escape(flag.message)}</p>' for flag in measured.flags]


def _crowded(measured: Invariance) -> list[str]:
    """The first plot again, of the crowded third."""
    if not measured.crowded:
        return []
    title = f"Self-retrieval@1 of the {len(measured.crowded_objects):,} in crowded cutouts"
    note = '<p class="faint">Those with the most light off center look for their originals among all.</p>'
    heading, *plot = _retrieval(measured, 0, title, crowded=True)
    return [heading, note, *plot]


def _retrieval(measured: Invariance, place: int, title: str, *, crowded: bool = False) -> list[str]:
    rows = []
    scores = measured.crowded if crowded else measured.scores
    for name in _names(measured):
        marks = [_mark(i, scores[series][name].copy_at[place], label) for i, series, label in _series(measured)]
        rows.append((_label(measured, name), marks))
    return [f"<h2>{escape(title)}</h2>", _legend(measured), interval_plot(rows, title)]


def _series(measured: Invariance) -> list[tuple[int, str, str]]:
    """Color, name and label of each of SERIES that was measured; a color is always the same one's."""
    return [
        (i, name, own_names(measured).get(name, label))
        for i, (name, label) in enumerate(SERIES.items())
        if name in measured.described
    ]


def _legend(measured: Invariance) -> str:
    return legend({i: label for i, _, label in _series(measured)})


def _mark(series: int, part: Share, label: str) -> Mark:
    return Mark(series, part.value, part.low, part.high, f"{label}: {part}")


def _overlap(measured: Invariance) -> list[str]:
    title = f"How much of the list of {K} neighbors stays (overlap@{K})"
    rows = []
    for name in _names(measured):
        marks = []
        for i, series, label in _series(measured):
            found = measured.scores[series][name]
            marks.append(Mark(i, found.overlap, *found.overlap_interval, f"{label}: {found.overlap:.3f}"))
        rows.append((_label(measured, name), marks))
    return [f"<h2>{escape(title)}</h2>", _legend(measured), interval_plot(rows, title)]


def _cosines(measured: Invariance) -> list[str]:
    """For each layer the cosine of copy and original, over that of the copy and another object."""
    parts = [
        "<h2>Cosine of copy and original</h2>",
        '<p class="faint">Bars from the 5th to the 95th percentile, thick from the 25th to the 75th, the mark at the '
        "median. The gray bar is the copy with another object's original: what matters is the gap.</p>",
    ]
    for series, layer in enumerate(layer for layer in TRAINED if layer in measured.scores):
        scores = measured.scores[layer]
        low = math.floor(2 * min(scores[name].cosine.low for name in _names(measured))) / 2
        rows = []
        for name in _names(measured):
            own, other = scores[name].cosine.quantiles, scores[name].cosine_other.quantiles
            bars = [Bar(series, own, f"own: median {own[2]:.3f}"), Bar(2, other, f"other: median {other[2]:.3f}")]
            rows.append((_label(measured, name), bars))
        parts += [f"<p><b>{layer}</b></p>", quantile_plot(rows, low, f"Cosine of copy and original, {layer}")]
    return parts


def _tables(measured: Invariance) -> list[str]:
    head = (
        "",
        f"{_changed(measured)} change",
        "copy → original @1",
        f"@{K}",
        "original → copy @1",
        f"@{K}",
        f"overlap@{K}",
        "median cosine",
        "separation",
    )
    parts = ["<h2>The numbers</h2>"]
    for name in measured.described:
        scores = measured.scores[name]
        rows = [
            (_label(measured, each), f"{measured.pixel_change[each]:.3f}", *_cells(scores[each]))
            for each in _names(measured)
        ]
        inner = _table(head, rows)
        shown = "open" if name in TRAINED else ""
        parts.append(f"<details {shown}><summary>{escape(told(measured, name))}</summary>{inner}</details>")
    return parts


def _cells(scores: Scores) -> tuple[str, ...]:
    return (
        str(scores.copy_at[0]),
        f"{scores.copy_at[1].value:.3f}",
        str(scores.original_at[0]),
        f"{scores.original_at[1].value:.3f}",
        f"{scores.overlap:.3f}",
        f"{scores.cosine.quantiles[2]:.3f}",
        f"{scores.separation:.3f}",
    )


def _checks(measured: Invariance) -> list[str]:
    checks = measured.judged.checks
    heading = "<h2>The augmentations themselves</h2>"
    if not checks:
        return [heading, "<p>Not tested here; what is left out is said below.</p>"]
    rows = [
        (check.augmentation, check.name, f"{check.value:.3g}", f"{check.limit:.3g}", "yes" if check.passed else "no")
        for check in checks
    ]
    failed = sum(not check.passed for check in checks)
    table = _table(("augmentation", "test", "value", "limit", "passed"), rows)
    return [
        heading,
        f"<p>{len(checks)} tests, {failed} failed. Drawn test pictures go through the augmentations; what comes out is "
        f"compared with what is stated. A right augmentation fails a statistical test with odds of {ODDS:g}.</p>",
        f"<details><summary>every test</summary>{table}</details>",
    ]


def _changed(measured: Invariance) -> str:
    return "number" if measured.of_numbers else "pixel"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _rules(measured: Invariance) -> list[str]:
    notes = [f"<li>{escape(note)}</li>" for note in measured.notes]
    return [
        "<h2>What is measured</h2><ul>",
        "<li>A tie with another object counts against the own one. Intervals are 95 % (Wilson).</li>",
        f"<li>{_changed(measured).capitalize()} change: root mean square difference to the same view without the "
        f"augmentation, over {'its spread' if measured.of_numbers else 'the view’s own contrast'}, mean over the "
        f"objects. Below {DEAD_NUMBERS if measured.of_numbers else DEAD:g} the augmentation is dead.</li>",
        "<li>Separation: how often the own original is more similar to the copy than another object's. Where it is "
        f"below {DESTROYED:g} under every description, the augmentation is destructive.</li>",
        *notes,
        "</ul>",
        f'<p class="faint">Checkpoint {escape(str(measured.checkpoint))} ({measured.checkpoint_hash[:12]}), samples '
        f"{measured.samples.content_hash[:12]}.</p>",
    ]
