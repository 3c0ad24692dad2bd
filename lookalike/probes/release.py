"""A checkpoint made ready to be given away: float16 weights, no state of its training, and a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike import __version__
from lookalike.config import read_settings
from lookalike.embeddings import normalize
from lookalike.errors import InputError
from lookalike.files import atomic_folder, lock, write_json
from lookalike.probes.card import SCORES, Data, card, scored_hash
from lookalike.probes.folders import without_folders
from lookalike.provenance import WAYS_OUT, write_record
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import CONFIG, MODEL, CheckpointConfig, load_encoder, read_config, save_encoder
from lookalike.ssl.embed import embed_objects
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.random_objects import random_pixels

CARD = "CARD.md"
OBJECTS = 256  # whose similarities are compared


@dataclass(frozen=True)
class ReleaseReport:
    """What was written; `difference` is the largest change of a similarity of two objects by the shorter numbers."""

    out: str
    bytes: int
    difference: float
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def release(
    checkpoint: Path,
    out: Path,
    *,
    samples: Sequence[Path] = (),
    data: str = "",
    license: str = "",
    scores: Sequence[Path] = (),
    overwrite: bool = False,
) -> ReleaseReport:
    """Write a checkpoint as the released encoder `out`: model.safetensors, config.json, CARD.md, scores.json.

    samples   : what it was trained on; says source and license, and is what float16 is compared on. `data` and
                `license` say so without it, or in other words.
    scores    : reports of `evaluate … --json` on this checkpoint or on a release of it.
    overwrite : replace a release that `out` holds.

    InputError where nothing says what data and license, where samples or scores are of another encoder, or where
    something else lies at `out`.
    """
    encoder, config = load_encoder(checkpoint)
    if config.dtype != "float32":
        raise InputError(f"{checkpoint} is a released encoder already; give the one that was trained.")
    _refuse_loss(checkpoint, out, overwrite)
    about = _data(list(samples), config, data, license)
    reports = {path.stem: read_settings(path) for path in scores}
    if len(reports) < len(scores):
        raise InputError(f"Reports have different names, but {', '.join(map(str, scores))} were given.")
    half = config.model_copy(update={"dtype": "float16", "content_hash": ""})
    with lock(out), atomic_folder(out) as folder:
        saved = save_encoder(folder, encoder, half)
        for path, report in zip(scores, reports.values(), strict=True):
            if (of := scored_hash(report)) is None:
                raise InputError(
                    f"A report says by its content hash which encoder it scores, but {path} does not; give those that "
                    "`lookalike evaluate … --json` writes."
                )
            if of not in (config.content_hash, saved.content_hash):
                raise InputError(
                    f"{path} scores the encoder {of[:12]}…, but this one is {config.content_hash[:12]}… "
                    f"({saved.content_hash[:12]}… as released)."
                )
        difference = _difference(encoder, load_encoder(folder)[0], config, _pictures(list(samples), config))
        size = (folder / MODEL).stat().st_size
        plain = without_folders(reports)
        text = card(out.name, saved, about, plain, parameters=_count(encoder), size=size, difference=difference)
        (folder / CARD).write_text(text, encoding="utf-8")
        if plain:
            write_json(folder / SCORES, plain)
        # No name of a machine, a person or a folder goes into what is given away.
        write_record(folder, {"command": "checkpoint release", "inputs": {"checkpoint": config.content_hash}} | _made())
    return ReleaseReport(str(out), size, difference, saved.content_hash)


def _made() -> dict[str, Any]:
    return {"versions": {"lookalike": __version__}}


def _refuse_loss(checkpoint: Path, out: Path, overwrite: bool) -> None:
    """InputError where anything but a release that may go lies at `out`."""
    if out.resolve() == checkpoint.resolve() or checkpoint.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{out} is, or holds, the checkpoint that is read; choose another --out.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not ((out / CARD).is_file() and (out / CONFIG).is_file() and read_config(out).dtype == "float16"):
        raise InputError(f"{out} is there already and is no released encoder; choose another --out.")
    if not overwrite:
        raise InputError(f"{out} holds a released encoder already. {WAYS_OUT}")


def _data(paths: list[Path], config: CheckpointConfig, data: str, license: str) -> Data:
    """What it was trained on, as the card says it."""
    if paths:
        samples = Samples(paths)
        if samples.content_hash != config.samples_hash:
            raise InputError(
                f"The checkpoint was trained on samples with content hash {config.samples_hash[:12] or '(none)'}…, but "
                f"these have {samples.content_hash[:12]}…."
            )
        data, license = data or samples.about.source, license or samples.about.license
    if lacking := [name for name, text in {"--data": data, "--license": license}.items() if not text.strip()]:
        raise InputError(
            f"A released encoder says what data it was trained on and under which license; missing: "
            f"{', '.join(lacking)} (or --samples of a file that says so)."
        )
    return Data(data, license)


def _pictures(paths: list[Path], config: CheckpointConfig) -> NDArray[Any]:
    """Pictures (B, C, H, W) to compare on, spread over the data where there are any, else of random pixels."""
    if not paths:
        size = config.preprocess.size
        return random_pixels(config, OBJECTS, size, size).numpy()
    samples = Samples(paths)
    return samples.objects(np.unique(np.linspace(0, len(samples) - 1, OBJECTS).astype(int)))


def _difference(encoder: Encoder, half: Encoder, config: CheckpointConfig, images: NDArray[Any]) -> float:
    """The largest change of a similarity between two of the pictures."""
    similar = []
    for each in (encoder, half):
        vectors = normalize(embed_objects(images, each, config), 0)  # (B, D)
        similar.append(vectors @ vectors.T)  # (B, B)
    return float(np.abs(similar[0] - similar[1]).max())


def _count(encoder: torch.nn.Module) -> int:
    """How many weights are trained."""
    return sum(parameter.numel() for parameter in encoder.parameters())
