"""The card of a released encoder: what it is, what it takes, what it was trained on and how, and what it scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookalike.errors import InputError
from lookalike.probes.retrieval_report import METRICS, title
from lookalike.ssl.checkpoint import CheckpointConfig
from lookalike.wording import at_most, counted

SCORES = "scores.json"
PARTS = {  # of a report of `evaluate invariance`, beside its augmentations
    "together": "all together",
    "untrained": "all, untrained encoder",
    "pixels": "all, raw pixels",
    "hand_features": "all, radial profile + colors",
}
BASELINES = {
    "pixels_pca": "raw pixels + PCA",
    "untrained": "untrained encoder",
    "hand_features": "radial profile + colors",
}
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Data:
    """What an encoder was trained on: its source, and the license the source is under."""

    source: str
    license: str


def card(
    name: str,
    config: CheckpointConfig,
    data: Data,
    reports: Mapping[str, Report],
    *,
    parameters: int,
    size: int,
    difference: float,
) -> str:
    """The card as Markdown.

    reports : {name: a report of `evaluate … --json`}. parameters : of encoder and head. size : of the weights, bytes.
    difference : the largest change of a similarity by float16.
    """
    seen, encoder = config.preprocess, config.encoder
    stem = "" if encoder.mlp or encoder.set else f", {'3×3' if encoder.small_stem else '7×7'} stem"
    turned = f" It describes a picture by the mean over {n} orientations." if (n := encoder.orientations) > 1 else ""
    if places := encoder.places:
        turned += f" It describes it by {places.grid} × {places.grid} places of its stage {places.stage}."
    turned += " Half of its embedding is that of another such encoder, never trained." * encoder.untrained_half
    scale = "not known" if seen.pixel_scale is None else f"{seen.pixel_scale:g} arcsec/px"
    shape = f"{len(seen.bands)} bands ({', '.join(seen.bands)}), at least {seen.size} × {seen.size} px"
    start = {"began with": f"the weights of {config.start.weights}"} if config.start else {}
    parts = [
        f"# {name}",
        f"{encoder.name}{stem}: {parameters:,} weights with its projection head, {size / 1e6:.1f} MB in float16. "
        f"It computes in float32; stored so, a similarity changes by at most {at_most(difference)}."
        f"{turned} "
        f"{_origin(config)}",
        f"    lookalike embed samples.h5 --checkpoint checkpoints/{name} --out embeddings.h5",
        "## Input",
        _table(
            ("", ""),
            {
                "pictures": shape,
                "pixels": f"{seen.dtype}{f' in {seen.unit}' if seen.unit else ''}",
                "sees": f"the central {seen.size} × {seen.size} px",
                "pixel scale": scale,
                "pixel mapping": _mapping(config),
                "domain": config.domain,
            }.items(),
        ),
        "## Data",
        _table(
            ("", ""),
            {
                "source": data.source,
                "license": data.license,
                "objects": f"{config.objects:,}",
                "samples hash": f"`{config.samples_hash}`" if config.samples_hash else "not recorded",
            }.items(),
        ),
        "## Training",
        f"{config.epoch:g} epochs, {config.step:,} steps of MoCo v2 here.",
        _table(("setting", "value"), {**start, **_flat({**config.train, "augment": {}})}.items()),
        "Augmentations:",
        _table(("setting", "value"), _flat(config.augment).items()),
        "## Scores",
        *(_scores(title, report) for title, report in reports.items()),
        *([] if reports else ["None were given when it was released."]),
        "## Identity",
        f"Content hash `{config.content_hash}`, over weights as they are stored and `config.json`; "
        "`lookalike info` shows the rest.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def scored_hash(report: Report) -> str | None:
    """The content hash of the encoder a report is about, None where it does not say."""
    for part in ("checkpoint", "encoder"):
        if isinstance(inner := report.get(part), dict) and isinstance(found := inner.get("hash"), str):
            return found
    return None


def _scores(name: str, report: Report) -> str:
    """One report: that of retrieval or invariance as its table, any other as its numbers."""
    try:
        if "baselines" in report:
            return _retrieval(name, report)
        if "augmentations" in report and "together" in report:
            return _invariance(name, report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The report {name} is not of the form `lookalike evaluate … --json` writes: {error!r}."
        ) from None
    return f"### {name}\n\n" + _table(("", ""), _flat(report).items())


def _retrieval(name: str, report: Report) -> str:
    metric, k = report["metric"], report["k"]
    rows = [("encoder", _with(report[metric], report["interval"]), "")]
    for key, said in BASELINES.items():
        if key in report["baselines"]:
            of = report["baselines"][key]
            lead = _with(of["difference"], of["difference_interval"], "+.3f")
            rows.append((said, _with(of["value"], of["interval"]), lead))
    others = [f"{title(other, k)} {report[other]:.3f}" for other in METRICS if other != metric and report.get(other)]
    return "\n\n".join(
        [
            f"### {name}: retrieval by {report['label']}",
            _table(("", f"{title(metric, k)} (95 %)", "lead of the encoder (95 %)"), rows),
            f"Of the encoder besides: {', '.join(others)}. {report['queries']:,} queries among "
            f"{report['candidates']:,} others each, samples `{report['samples_hash'][:12]}…`.",
        ]
    )


def _invariance(name: str, report: Report) -> str:
    parts = {entry["name"]: entry for entry in report["augmentations"]}
    parts |= {said: report[key] for key, said in PARTS.items() if report.get(key)}
    rows = [
        (
            said,
            _with(entry["self_retrieval_at_1"], entry["intervals"]["self_retrieval_at_1"]),
            f"{entry['self_retrieval_at_10']:.3f}",
            f"{entry['overlap_at_10']:.3f}",
        )
        for said, entry in parts.items()
    ]
    return "\n\n".join(
        [
            f"### {name}: augmented copies that find their original",
            _table(("augmentation", "self-retrieval@1 (95 %)", "@10", "overlap@10"), rows),
            f"Layer {report['layer']}, {counted(report['objects'], 'object')}.",
        ]
    )


def _with(value: float | None, interval: Sequence[float | None], form: str = ".3f") -> str:
    """A number with its interval."""
    low, high = (format(end, form) if end is not None else "–" for end in interval)
    return f"{format(value, form)} ({low} to {high})" if value is not None else "–"


def _mapping(config: CheckpointConfig) -> str:
    p = config.preprocess
    if p.kind == "scaled":
        return f"(pixel / {_plain(p.divisor)} − {_plain(p.mean)}) / {_plain(p.std)}"
    if p.kind == "lupton":
        return f"color image of Lupton et al. (2004), unclipped: m {p.m:g}, Q {p.Q:g}, scales {_plain(p.scales)}"
    return "as stored"


def _flat(values: Report, before: str = "") -> dict[str, str]:
    """Nested values as dotted names; a step that is off is one line."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value.get("enabled") is False:
            flat[before + name] = "off"
        elif isinstance(value, dict) and value:
            flat |= _flat(value, f"{before}{name}.")
        elif value not in (None, {}, []):
            flat[before + name] = _plain(value)
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _origin(config: CheckpointConfig) -> str:
    """Who trained it, and whether without labels, as far as that is known."""
    if "imported" in config.train:
        return "Made elsewhere and taken in by `lookalike checkpoint import`; whether with labels is not recorded."
    if config.start is not None:
        return f"Made with `lookalike train`, without labels, from the weights of {config.start.weights}."
    return "Made with `lookalike train`, without labels."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
