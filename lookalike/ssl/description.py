"""What a checkpoint says it is: its config.json, read and checked without its weights; needs no torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lookalike.augmentations.inputs import AnyInput
from lookalike.config import Config
from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError
from lookalike.files import PARTIAL, lock, read_json, recover_folder
from lookalike.ssl.architectures import ENCODERS, EncoderConfig, kind_of

SCHEMA = 1
KIND = "lookalike checkpoint"
MODEL, CONFIG = "model.safetensors", "config.json"
LATER: dict[str, Any] = {"dtype": "float32", "start": None}  # fields that earlier files do not have, and what they mean


class Began(Config):
    """The weights a training began with: the name of their file or folder, and its SHA-256 or content hash."""

    weights: str
    hash: str


class CheckpointConfig(Config):
    """What config.json says. `content_hash` covers the weights, as they are stored, and every other field.

    dtype : of the stored weights; float16 halves a released encoder, which computes in float32 like any other.
    start : which weights the training began with, None for random ones.
    """

    kind: str = KIND
    schema_version: int = SCHEMA
    encoder: EncoderConfig
    preprocess: AnyInput
    domain: str
    bands: tuple[str, ...]
    augment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    samples_hash: str = ""
    objects: int = 0
    epoch: float = 0.0  # passes over the data so far
    step: int = 0
    dtype: Literal["float32", "float16"] = "float32"
    start: Began | None = None
    content_hash: str = ""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the later fields that say nothing, so that earlier files keep their hashes."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if LATER.get(name, ...) != value}


def read_config(folder: Path) -> CheckpointConfig:
    """The description in a checkpoint folder, checked as far as that goes without its weights."""
    wait_for_replacement(folder)
    if not (folder / CONFIG).is_file():
        what = "is not a checkpoint folder (it has no config.json)" if folder.exists() else "does not exist"
        raise NotFoundError(f"Checkpoint {folder} {what}; make one with `lookalike train`.")
    values = read_json(folder / CONFIG)
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise InputError(f"{folder / CONFIG} does not describe a checkpoint of ours; make one with `lookalike train`.")
    if values.get("schema_version") != SCHEMA:
        raise InputError(f"{folder} has schema {values.get('schema_version')}; this version reads schema {SCHEMA}.")
    try:
        config = CheckpointConfig.checked(values)
    except InputError as error:
        raise CorruptError(f"{folder / CONFIG} is damaged: {error.message} Train it again.") from None
    encoder, preprocess = config.encoder, config.preprocess
    sound = (
        encoder.name in ENCODERS
        and kind_of(encoder.name) in preprocess.encoders
        and encoder.takes(preprocess.channels, preprocess.numbers)
        and len(config.bands) == len(preprocess.bands)
        and 1 <= encoder.channels <= 1024
        and 1 <= encoder.projection <= 4096
        and 1 <= preprocess.size <= 65_536
    )
    if not sound:
        raise CorruptError(f"{folder / CONFIG} describes an encoder that cannot be; train it again.")
    return config


def has_head(config: CheckpointConfig) -> bool:
    """Whether the projection head was trained; an encoder made elsewhere may have come without one."""
    imported = config.train.get("imported")
    return not (isinstance(imported, dict) and imported.get("head") == "none")


def require_layer(config: CheckpointConfig, layer: str, folder: Path) -> None:
    """InputError where an encoder made elsewhere came without the head that the projection needs."""
    if layer == "projection" and not has_head(config):
        raise InputError(f"{folder} was imported without a projection head, so it has the layer embedding only.")


def wait_for_replacement(folder: Path) -> None:
    """Meet a checkpoint that is just being replaced, or whose replacement was killed between its two renames."""
    folder = folder.resolve()  # writers replace what a link points to
    aside = folder.with_name(f".{folder.name}.old{PARTIAL}")
    while not folder.exists() and aside.exists():
        try:
            with lock(folder):
                recover_folder(folder)
        except LockedError:
            time.sleep(0.05)  # a living writer is between the renames
