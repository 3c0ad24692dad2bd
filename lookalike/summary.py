"""What any of our files or folders is, as a person reads it; `contents.describe_all` holds the full record."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lookalike.about import CATALOG, IMAGES, PARTICLES
from lookalike.contents import KIND as FOLDER
from lookalike.contents import describe_all, in_brief
from lookalike.errors import LookalikeError
from lookalike.info import ONNX, RECORD
from lookalike.samples import KIND as SAMPLES
from lookalike.samples import Samples
from lookalike.summary_extras import extras
from lookalike.wording import counted

Lines = dict[str, str]  # name → text, in the order shown
KINDS = {"f": "number", "i": "whole number", "S": "text"}
SHORT = 12  # characters of a hash
LISTED = 12  # inputs shown
LEAST = 40  # characters of a line's text, however narrow the terminal
DIFFERS = " *"


def summary(path: Path) -> str:
    """Several lines on a samples or embeddings file, a checkpoint, its ONNX export, an index or a build record.

    Of another folder, one line on each of them that it holds. Errors as for `describe_all`.
    """
    found = describe_all(path)
    what = str(found["kind"])
    if what == FOLDER:
        return "\n".join(
            [
                f"{path}: {counted(len(found['files']), 'file or folder', 'files and folders')} of ours",
                *_contents(path, found),
            ]
        )
    show = SHOWN.get(what, _embeddings)
    parts = [f"{path}: {what}", *show(path, found)]
    made = found.get("made")
    parts += ["Made by", _aligned(_made(made))] if made else ["Made by: not recorded here"]
    return "\n".join(parts)


def _contents(path: Path, found: Mapping[str, Any]) -> list[str]:
    rows = [(inner["path"], *in_brief(inner)) for inner in found["files"]]
    told = [_table(("name", "what", "in brief"), rows)]
    if not found["complete"]:
        told.append(f"Only the first {found['looked_at']:,} entries were looked at.")
    return [*told, f"For more of one: lookalike info {shlex.quote(str(path / rows[0][0]))}"]


def _samples(path: Path, found: Mapping[str, Any]) -> list[str]:
    samples = Samples(path)
    about = samples.about
    lines = {
        "objects": f"{len(samples):,}",
        **_stored(samples),
        "domain": about.domain,
        "source": about.source,
        "license": about.license,
        **{f"survey {name}": _plain(value) for name, value in about.survey.items()},
        **{f"stored {name}": _plain(value) for name, value in about.preprocess.items()},
        "content hash": _short(samples.content_hash),
    }
    missing = samples.missing()
    rows = [
        (name, KINDS[samples.kinds[name]], column.unit, f"{missing[name]:,}", column.description)
        for name, column in samples.columns.items()
    ]
    heads = ("column", "type", "unit", "missing", "description")
    return [_aligned(lines), "Columns", _table(heads, rows) if rows else "  none"]


def _embeddings(path: Path, found: Mapping[str, Any]) -> list[str]:
    from lookalike.embeddings import Embeddings

    lines = {
        "objects": f"{found['objects']:,}",
        "vectors": f"{counted(found['dimensions'], 'dimension')}, {found['dtype']}",
        "layer": Embeddings(path).layer or "not recorded",
        **({"shards": counted(len(found["shards"]), "file")} if "shards" in found else {}),
        **{name: _short(digest) for name, digest in found["made_from"].items()},
        "content hash": _short(found["content_hash"]),
    }
    return [_aligned(lines)]


def _index(path: Path, found: Mapping[str, Any]) -> list[str]:
    from lookalike.indexer.store import versions
    from lookalike.indexer.windows import Window

    window, counts, encoder = Window.from_json(found["window"]), found["counts"], found["checkpoint"]
    within = "of all others" if window is None else f"within {window} of each object"
    pictures = None if encoder and encoder["paths"] else "not named: queries by picture are off"
    lines = {
        "version": f"{found['version']}, of {len(versions(path))} kept",
        "objects": f"{found['n']:,}, vectors of {counted(found['dimensions'], 'dimension')}",
        "neighbors (k)": f"{found['k']:,} per object, {within}",
        "short lists": f"{counted(counts['short_lists'], 'object has', 'objects have')} fewer than k, "
        f"and {counts['empty_lists']:,} none at all",
        "without a value": counted(counts["without_window_value"], "object, which is", "objects, which are")
        + " in no window",
        "footprint": f"{found['footprint_px']} px: {found['footprint_from']}",
        "samples": _belongs(found["samples"]),
        "embeddings": _belongs(found["embeddings"]),
        "checkpoint": pictures or _belongs(encoder),
        **extras(found),
        "content hash": _short(found["content_hash"]),
    }
    return [_aligned(lines)]


def _checkpoint(path: Path, found: Mapping[str, Any]) -> list[str]:
    encoder, given = found["encoder"], found["preprocess"]
    unit = f" in {given['unit']}" if given.get("unit") else ""
    sees = f"the central {given['size']} px of {given['dtype']} pictures{unit}, bands {', '.join(found['bands'])}"
    of_each = given.get("record") or given.get("element") or given
    numbers = "scales" in of_each and "m" not in given  # of records or particles: no pictures
    if numbers:
        sees = f"of each {'particle' if given['kind'].endswith(PARTICLES) else 'object'} {', '.join(found['bands'])}"
    bands = "" if numbers else f", {counted(encoder['channels'], 'band')}"
    lines = {
        "encoder": f"{encoder['name']}, {_inside(encoder)}{bands}",
        "sees": sees,
        "domain": found["domain"],
        "weights": "float16, computed with as float32" if found.get("dtype") == "float16" else "",
        **_origin(found),
        "content hash": _short(found["content_hash"]),
    }
    train = {name: value for name, value in found["train"].items() if name not in ("augment", "imported", "adapted")}
    # What a released encoder was trained with is not compared: the data and augmentations beside it here are others'.
    adapted = "adapted" in found["train"]
    unusual = set() if adapted else _unusual(found)
    given = None if adapted else found["train"].get("augment")
    changed = set(_flat(given)) if isinstance(given, dict) else set()
    settings = {name: _plain(value) + DIFFERS * (name in unusual) for name, value in train.items()}
    settings |= {
        f"augment.{name}": value + DIFFERS * any(own == name or own.startswith(f"{name}.") for own in changed)
        for name, value in _flat(found["augment"]).items()
    }
    if not settings:
        return [_aligned(lines)]
    heading = "Settings" if adapted else "Settings (* differs from the default for such data)"
    return [_aligned(lines), heading, _aligned(settings)]


def _stored(samples: Samples) -> Lines:
    """What is stored of each object."""
    about, shape = samples.about, " × ".join(map(str, samples.shape))
    if about.layout == CATALOG:
        return {"stored": "ids and columns alone, as of vectors from elsewhere"}
    if about.layout != IMAGES:
        units = about.units or ("",) * len(about.bands)
        numbers = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in zip(about.bands, units, strict=True))
        axes = "most particles × numbers of each" if about.layout == PARTICLES else "numbers"
        return {about.layout: f"{shape} ({axes}), {samples.dtype}", "numbers": numbers}
    return {
        "pictures": f"{shape} (bands × height × width, px), {samples.dtype}",
        "bands": f"{', '.join(about.bands)}{f' in {about.unit}' if about.unit else ''}",
        "pixel scale": f"{about.pixel_scale:g} arcsec/px" if about.pixel_scale is not None else "not known",
        "first row": "at the top" if about.origin == "upper" else "at the bottom",
    }


def _export(path: Path, found: Mapping[str, Any]) -> list[str]:
    given = found["preprocess"]
    shape = f"(B, {len(given['bands'])}, at least {given['size']}, at least {given['size']})"
    lines = {
        "encoder": found["encoder"]["name"],
        "input": f"images, {given['dtype']} {shape}, bands {', '.join(given['bands'])}",
        "output": f"{found['layer']}, float32",
        "domain": found["domain"],
        "checkpoint": _short(found["made_from"]["checkpoint"]),
        "content hash": _short(found["content_hash"]),
    }
    return [_aligned(lines)]


def _record(path: Path, found: Mapping[str, Any]) -> list[str]:
    there = {True: "as it is there", False: "but another one is there now", None: "which is not there"}
    digest = found["made"].get("content_hash", "")
    return [_aligned({"tells of": f"{found['of']}, {there[found['current']]}", "content hash": _short(digest)})]


def _inside(encoder: Mapping[str, Any]) -> str:
    """The stem of a ResNet, the widths of an mlp or of a set encoder; whether half of its embedding is untrained."""
    half = ", half of the embedding untrained" if encoder.get("untrained_half") else ""
    return _layers(encoder) + half


def _layers(encoder: Mapping[str, Any]) -> str:
    if mlp := encoder.get("mlp"):
        return " → ".join(map(str, (mlp["features"], *mlp["hidden"], mlp["dimensions"])))
    if of_set := encoder.get("set"):
        each = " → ".join(map(str, (of_set["features"] - 1, *of_set["particle"])))
        return f"{each} of each particle → {' → '.join(map(str, (*of_set['hidden'], of_set['dimensions'])))}"
    turned = f", mean over {encoder['orientations']} orientations" if encoder.get("orientations", 1) > 1 else ""
    if places := encoder.get("places"):
        turned += f", {places['grid']} × {places['grid']} places of stage {places['stage']}"
    return f"{'small-image' if encoder.get('small_stem') else 'standard'} stem{turned}"


def _origin(found: Mapping[str, Any]) -> Lines:
    """How long an encoder was trained here and on what, or from what it was imported and with which head."""
    imported = found.get("train", {}).get("imported")
    if isinstance(imported, dict):
        made = found.get("made", {})
        files = made.get("inputs", {}) if made.get("command") == "checkpoint import" else {}
        head = imported.get("head")
        return {
            "imported": ", ".join(f"from {name} {_short(str(digest))}" for name, digest in files.items())
            or "from a file not recorded here",
            "head": "none: it has no projection" if head == "none" else str(head),
        }
    adapted = found.get("train", {}).get("adapted")
    return {
        **({"adapted": _adapted(adapted)} if isinstance(adapted, dict) else {}),
        "trained": f"{_epochs(found.get('epoch', 0))}, {counted(found.get('step', 0), 'step')} on "
        f"{counted(found.get('objects', 0), 'object')}",
        "samples": _short(found.get("samples_hash", "")) or "not recorded",
        **({"began with": f"{start['weights']} {_short(start['hash'])}"} if (start := found.get("start")) else {}),
    }


def _adapted(to: Mapping[str, Any]) -> str:
    """From which released encoder one was fitted to other pictures, and what is another there."""
    name, digest = to.get("from", "a released encoder"), _short(str(to.get("hash", "")))
    others = [f"{what} {_plain(value) or 'none'}" for what, value in to.items() if what not in ("from", "hash")]
    return "; ".join([f"{name} {digest}", *others])


def _epochs(number: float) -> str:
    """Passes over the data, which may end within one."""
    return f"{number:g} epoch{'' if number == 1 else 's'}"


def _unusual(found: Mapping[str, Any]) -> set[str]:
    """The training settings that are not what the data alone would have made of them; none where that is unknown."""
    from pydantic import TypeAdapter, ValidationError

    from lookalike.augmentations import get_domain
    from lookalike.augmentations.inputs import AnyInput
    from lookalike.ssl.settings import TrainConfig, resolved

    stored, odd = found["train"], set()
    try:
        known = {"objects": found["objects"], "view_size": found["preprocess"]["size"]}
        domain = get_domain(found["domain"])
        known["turns"] = domain.orientations == 8 and domain.turns(domain.settings_type.checked(found["augment"]))
        known["pace"], known["half_untrained"] = domain.pace, domain.half_untrained
        known["kinds"] = TypeAdapter(AnyInput).validate_python(found["preprocess"]).encoders
        for name, field in TrainConfig.model_fields.items():
            given = TrainConfig.checked({**stored, name: field.get_default(call_default_factory=True)})
            usual = resolved(given, **known, default_encoder=domain.default_encoder).model_dump(mode="json")[name]
            if name in stored and name != "precision" and usual != stored[name]:  # precision goes by the machine
                odd.add(name)
    except (LookalikeError, ValidationError):  # settings of another version, or of no training of ours
        return set()
    return odd


SHOWN: dict[str, Callable[[Path, Mapping[str, Any]], list[str]]] = {
    SAMPLES: _samples,
    ONNX: _export,
    RECORD: _record,
    "lookalike checkpoint": _checkpoint,
    "lookalike index": _index,
}


def _made(record: Mapping[str, Any]) -> Lines:
    """A build record, without what is said above it."""
    when = str(record.get("time", ""))
    with contextlib.suppress(ValueError):
        when = datetime.datetime.fromisoformat(when).strftime("%Y-%m-%d %H:%M %Z")
    inputs = list(record.get("inputs", {}).items())
    more = f" and {len(inputs) - LISTED} more" if len(inputs) > LISTED else ""
    settings = {} if record.get("command") == "train" else record.get("settings", {})  # a checkpoint shows its own
    return {
        "step": str(record.get("command", "")),
        "command line": shlex.join(["lookalike", *map(str, record["arguments"])]) if "arguments" in record else "",
        # A released encoder does not say on which machine it was made.
        "when, where": f"{when} on {record['host']} in {record.get('folder', '')}" if record.get("host") else when,
        "settings": _plain(settings),
        "inputs": ", ".join(f"{name} {_short(str(value))}" for name, value in inputs[:LISTED]) + more,
        "data": str(record.get("data", "")),
        "versions": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        "left out": ", ".join(
            f"{number:,} {what}" if isinstance(number, int) else f"{number} {what}"
            for what, number in record.get("counts", {}).items()
        ),
        "notes": " ".join(map(str, record.get("notes", []))),
    }


def _belongs(to: Mapping[str, Any]) -> str:
    return f"{', '.join(to['paths']) or 'place not recorded'} {_short(to['content_hash'])}"


def _short(digest: str) -> str:
    kind, colon, value = digest.rpartition(":")
    return f"{kind}{colon}{value[:SHORT]}…" if len(value) > SHORT else digest


def _flat(values: Mapping[str, Any]) -> Lines:
    """Nested settings as dotted names; a step that is switched off and a distribution are one line each."""
    flat: Lines = {}
    for name, value in values.items():
        if isinstance(value, dict) and value.get("enabled") is False:
            flat[name] = "off"
        elif isinstance(value, dict) and "kind" not in value and value:
            flat |= {f"{name}.{inner}": text for inner, text in _flat(value).items()}
        else:
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> str:
    """A value as a person writes it: four digits, no brackets or quotes."""
    if isinstance(value, dict):
        said = [f"{name} {_plain(inner)}" for name, inner in value.items() if inner is not None and name != "kind"]
        return ", ".join([str(value["kind"]), *said] if "kind" in value else said)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(lines: Lines) -> str:
    """`name  text` lines, long texts going on below themselves; those without a text are left out."""
    shown = {name: text for name, text in lines.items() if text}
    width = max(map(len, shown), default=0)
    return "\n".join(_hanging(f"  {name:<{width}}  ", text) for name, text in shown.items())


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, counts to the right, the last one wrapped."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return "\n".join(_hanging(_cells(row, widths), row[-1]).rstrip() for row in (heads, *rows))


def _cells(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(row[:-1], widths, strict=False)
    return "  " + "".join(f"{cell:>{w}}  " if cell[:1].isdigit() else f"{cell:<{w}}  " for cell, w in cells)


def _hanging(start: str, text: str) -> str:
    room = max(LEAST, shutil.get_terminal_size((100, 24)).columns - len(start))
    wrapped: Iterable[str] = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return ("\n" + " " * len(start)).join([start + next(iter(wrapped)), *list(wrapped)[1:]])
