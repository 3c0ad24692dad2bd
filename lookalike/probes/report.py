"""The invariance report as JSON and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lookalike import __version__
from lookalike.about import PARTICLES
from lookalike.probes.describe import TRAINED, UNTRAINED
from lookalike.probes.invariance import TOGETHER, Invariance
from lookalike.probes.scores import K, Scores
from lookalike.wording import counted

SCHEMA = 1


def as_json(measured: Invariance) -> dict[str, Any]:
    """The whole report: the searched layer at the top, the other one, of the same shape, under `projection`.

    `projection` is null where the encoder has no trained head.
    `all` is null where a step was left out; `together` then holds the steps that are on. `untrained`, `pixels` and
    `hand_features` hold the numbers of `together`, and `augmentations` those of each alone.
    """
    embedding, projection = (_layer(measured, layer) if TRAINED[layer] in measured.scores else None for layer in (0, 1))
    assert embedding is not None
    return {
        "schema": SCHEMA,
        **embedding,
        "projection": projection,
        "flags": [
            {"kind": flag.kind, "augmentations": list(flag.augmentations), "message": flag.message}
            for flag in measured.flags
        ],
        "without": measured.without,
        "notes": measured.notes,
        "objects": len(measured.rows),
        "objects_in_samples": len(measured.samples),
        "chance_at_1": 1 / len(measured.rows),
        "crowded_objects": len(measured.crowded_objects) if measured.crowded else 0,
        "settings": measured.settings,
        "checks": [
            {
                "augmentation": check.augmentation,
                "name": check.name,
                "kind": check.kind,
                "value": check.value if check.value == check.value and abs(check.value) != float("inf") else None,
                "limit": check.limit,
                "passed": check.passed,
            }
            for check in measured.judged.checks
        ],
        "samples": {"files": [str(path) for path in measured.samples.paths], "hash": measured.samples.content_hash},
        "checkpoint": {"folder": str(measured.checkpoint), "hash": measured.checkpoint_hash},
        "version": __version__,
    }


def _layer(measured: Invariance, layer: int) -> dict[str, Any]:
    trained = _description(measured, TRAINED[layer])
    augmentations = trained.pop("augmentations")
    together = {"name": TOGETHER if not measured.without else "together", **trained}
    return {
        "layer": TRAINED[layer],
        "augmentations": augmentations,
        "all": together if not measured.without else None,
        "together": together,
        "untrained": _description(measured, UNTRAINED[layer]),
        "pixels": _description(measured, "pixels"),
        "hand_features": _description(measured, "hand_features"),
    }


def _description(measured: Invariance, name: str) -> dict[str, Any]:
    """The scores of all together under one description, and those of each augmentation alone."""
    scores, crowded = measured.scores[name], measured.crowded.get(name, {})
    return {
        **_entry(measured, scores, crowded, TOGETHER),
        "augmentations": [{"name": step, **_entry(measured, scores, crowded, step)} for step in measured.steps],
    }


def _entry(
    measured: Invariance, scores: Mapping[str, Scores], crowded: Mapping[str, Scores], augmentation: str
) -> dict[str, Any]:
    flagged = [flag.kind for flag in measured.flags if augmentation in flag.augmentations]
    return {
        **scores[augmentation].as_json(),
        "pixel_change": measured.pixel_change[augmentation],
        "crowded": _short(crowded[augmentation]) if crowded else None,
        "flags": flagged,
    }


def _short(scores: Scores) -> dict[str, Any]:
    """The plain numbers and their intervals."""
    whole = scores.as_json()
    names = ("self_retrieval_at_1", "self_retrieval_at_10", "overlap_at_10", "separation", "intervals")
    return {name: whole[name] for name in names}


def as_text(measured: Invariance) -> str:
    """A person's tables: each augmentation under both layers, then what the encoder has to beat, then the flags."""
    n = len(measured.rows)
    together = "all" if not measured.without else f"all but {', '.join(measured.without)}"
    noun = "simulated object" if measured.samples.about.simulated else "object"
    rows = _rows(measured, together)
    width = max(
        30, *(len(name) + 2 for name, cells in rows if cells)
    )  # two blanks at least between a name and its numbers
    lines = [
        f"{counted(n, noun)}; augmented copies among originals and the reverse; chance finds {1 / n:.1g} first",
        "",
    ]
    lines += [_row(name, cells, width) if cells else name for name, cells in rows]
    lines += ["", *(f"FLAG {flag.kind}: {flag.message}" for flag in measured.flags)]
    if not measured.flags:
        lines.append("No augmentation is flagged.")
    failed = sum(not check.passed for check in measured.judged.checks)
    tests = len(measured.judged.checks)
    if tests:
        lines.append(f"{tests} tests of the augmentations themselves, {failed} failed.")
    lines += [f"note: {note}" for note in measured.notes]
    return "\n".join(lines)


def _rows(measured: Invariance, together: str) -> list[tuple[str, tuple[str, ...]]]:
    """The tables' names with their cells; lines between the tables have none."""
    change = "number" if measured.of_numbers else "pixel"
    rows: list[tuple[str, tuple[str, ...]]] = [
        ("", (change, "copy → original", "", "", "original → copy", "", "cosine")),
        ("", ("change", "@1 (95 %)", f"@{K}", f"overlap@{K}", "@1 (95 %)", f"@{K}", "median")),
    ]
    for layer in (layer for layer in TRAINED if layer in measured.scores):
        rows.append((layer, ()))
        for name in [*measured.steps, TOGETHER]:
            cells = _cells(measured.scores[layer][name], measured.pixel_change[name])
            rows.append((f"  {together if name == TOGETHER else name}", cells))
        if measured.crowded:
            rows.append((f"  {together}, crowded", _cells(measured.crowded[layer][TOGETHER], None)))
            if "foreground" in measured.steps:
                rows.append(("  foreground, crowded", _cells(measured.crowded[layer]["foreground"], None)))
    if measured.crowded:
        most = counted(len(measured.crowded_objects), "object")
        rows.append((f"crowded: the {most} with the most light off center, of all", ()))
    rows.append((f"beside it, {together}", ()))
    for name in (name for name in measured.described if name not in TRAINED):
        rows.append((f"  {told(measured, name)}", _cells(measured.scores[name][TOGETHER], None)))
    return rows


def told(measured: Invariance, name: str) -> str:
    """A description's name for people."""
    return own_names(measured).get(name, name.replace("_", " "))


def own_names(measured: Invariance) -> dict[str, str]:
    """What `pixels` and `hand_features` are where the objects are no pictures."""
    if measured.of_numbers:
        return {"pixels": "the numbers given", "hand_features": "their sums and maxima"}
    if measured.samples.layout == PARTICLES:
        return {"pixels": "raw jet images", "hand_features": "jet observables"}
    return {}


def _cells(scores: Scores, change: float | None) -> tuple[str, ...]:
    return (
        "" if change is None else f"{change:.3f}",
        str(scores.copy_at[0]),
        f"{scores.copy_at[1].value:.3f}",
        f"{scores.overlap:.3f}",
        str(scores.original_at[0]),
        f"{scores.original_at[1].value:.3f}",
        f"{scores.cosine.quantiles[2]:.3f}",
    )


def _row(name: str, cells: tuple[str, ...], width: int) -> str:
    widths = (7, 21, 6, 11, 21, 6, 7)
    return f"{name:<{width}}" + "  ".join(f"{cell:<{w}}" for cell, w in zip(cells, widths, strict=True)).rstrip()
