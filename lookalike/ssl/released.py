"""Released encoders: where they lie, and one of them fitted to a data set that it was not trained on."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import lookalike
from lookalike.augmentations import get_domain
from lookalike.errors import InputError, NotFoundError
from lookalike.files import atomic_folder, lock, natural_key
from lookalike.provenance import build_record, write_record
from lookalike.samples import Samples
from lookalike.ssl.architectures import MLP
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, read_config, save_encoder
from lookalike.ssl.embed import check_fits

FOLDER = "checkpoints"


def places() -> list[Path]:
    """Where released encoders may lie: in the clone that is run, and where an installed wheel puts its data."""
    root = Path(lookalike.__file__).resolve().parents[1]
    clone = [root / FOLDER] if (root / "pyproject.toml").is_file() else []
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    installed = dict.fromkeys(Path(sysconfig.get_path("data", scheme)) for scheme in schemes)
    return [*clone, *(data / "share" / "lookalike" / FOLDER for data in installed)]


def find_released(domain: str, bands: tuple[str, ...]) -> Path:
    """The folder of the released encoder for a domain and bands, the first in natural order; or a NotFoundError."""
    found: list[str] = []
    for place in places():
        folders = [file.parent for file in place.glob("*/config.json")] if place.is_dir() else []
        for folder in sorted(folders, key=lambda folder: natural_key(folder.name)):
            config = read_config(folder)
            if (config.domain, config.bands) == (domain, bands):
                return folder
            found.append(f"{folder.name} ({config.domain}, {', '.join(config.bands)})")
    raise NotFoundError(
        f"No encoder for the domain {domain} and the bands {', '.join(bands)} is released: looked in "
        f"{' and '.join(map(str, places()))}. Released there: {', '.join(found) or 'none'}."
    )


def adapt(released: Path, samples: Samples, out: Path) -> list[str]:
    """Write a released encoder, fitted to a data set, as the checkpoint folder `out`; returns what was changed.

    InputError, and nothing is written, where it cannot be fitted: see `fitted`.
    """
    encoder, config = load_encoder(released)
    made, notes = fitted(released, config, samples)
    with lock(out), atomic_folder(out) as folder:
        save_encoder(folder, encoder, made)
        inputs = {"checkpoint": config.content_hash, "samples": samples.content_hash}
        write_record(folder, build_record("adapt", settings={"released": released.name}, inputs=inputs))
    return notes


def fitted(released: Path, config: CheckpointConfig, samples: Samples) -> tuple[CheckpointConfig, list[str]]:
    """A released encoder's description with what must be another for these samples, and notes that say so.

    The view: a ResNet sees the domain's view of these samples where it was trained on a larger one. The unit: of
    8-bit pictures any, since none is a physical one. The augmentations, which scores are asked with, become those of
    these samples. The pixel mapping stays the encoder's. InputError where anything else differs, as for embedding.
    """
    about, seen = samples.about, config.preprocess
    side = samples.size
    domain = get_domain(about.domain)
    settings, _ = domain.settings(about, side, frozenset(samples.columns), str(samples.dtype))
    view = domain.preprocess(about, settings).size
    changes: dict[str, Any] = {}
    notes = []
    if seen.size > view:
        if config.encoder.name == MLP:
            raise InputError(
                f"{released.name} is an mlp of views of {seen.size} px, but those of these pictures have {view} px."
            )
        changes["size"] = view
        notes.append(f"{released.name} was trained on views of {seen.size} px and sees {view} px here.")
    if about.unit != seen.unit and str(samples.dtype) == seen.dtype == "uint8":
        changes["unit"] = about.unit
        notes.append(
            f"{released.name} was trained on 8-bit pixels in {seen.unit or 'no unit'}; these are in "
            f"{about.unit or 'no unit'} and are taken as they are."
        )
    preprocess = seen.model_copy(update=changes)
    told = {"from": released.name, "hash": config.content_hash}
    told |= {f"trained on {name}": getattr(seen, name) for name in changes}
    made = config.model_copy(update={"preprocess": preprocess, "train": config.train | {"adapted": told}})
    notes += check_fits(samples, made, released)
    augment = settings.changed({"size": preprocess.size})
    return made.model_copy(update={"augment": augment.model_dump(mode="json"), "content_hash": ""}), notes


def is_adapted(out: Path, released: Path, samples: Samples) -> bool:
    """Whether `out` is, whole, what `adapt` would write."""
    _, found = load_encoder(out)
    made, _ = fitted(released, read_config(released), samples)
    return found.model_dump(mode="json") == made.model_dump(mode="json") | {"content_hash": found.content_hash}
