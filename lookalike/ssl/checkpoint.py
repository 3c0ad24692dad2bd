"""A checkpoint: a folder with the encoder's weights (safetensors) and what it is (config.json); never pickle.

`model.safetensors` holds the query encoder, `config.json` everything needed to feed it and what trained it. Next to
them `state.safetensors` and `state.json` hold what exact resumption needs besides; embedding never reads those.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import PARTIAL, read_json, write_json
from lookalike.hashing import content_hash
from lookalike.ssl.description import (
    CONFIG,
    MODEL,
    SCHEMA,
    Began,
    CheckpointConfig,
    has_head,
    read_config,
    require_layer,
    wait_for_replacement,
)
from lookalike.ssl.encoders import Encoder, parameter_shapes

__all__ = [
    "CONFIG",
    "MODEL",
    "SCHEMA",
    "STATE",
    "STATE_INFO",
    "Began",
    "CheckpointConfig",
    "carry",
    "checkpoint_hash",
    "has_head",
    "load_encoder",
    "load_state",
    "read_config",
    "read_tensors",
    "require_layer",
    "save_encoder",
    "save_state",
]

MAX_HEADER = 1 << 20  # bytes of a safetensors header
STATE, STATE_INFO = "state.safetensors", "state.json"
DTYPES = {"F16": torch.float16, "F32": torch.float32, "I64": torch.int64}


def save_encoder(folder: Path, encoder: Encoder, config: CheckpointConfig) -> CheckpointConfig:
    """Write model.safetensors and config.json into an existing folder; returns the config with its hash."""
    tensors = {
        name: tensor.detach().cpu().contiguous().to(_dtype_of(name, tensor.ndim, config.dtype))
        for name, tensor in encoder.state_dict().items()
    }
    if config.dtype == "float16" and (bad := [name for name, t in tensors.items() if not torch.isfinite(t).all()]):
        raise InputError(f"Weights are finite numbers, but as float16 those of {bad[0]!r} are not.")
    (folder / MODEL).write_bytes(save(tensors))
    hashed = config.model_copy(update={"content_hash": checkpoint_hash(tensors, config)})
    write_json(folder / CONFIG, hashed.model_dump(mode="json"))
    return hashed


def carry(old: Path, new: Path) -> None:
    """Bring what `new` does not hold yet of the folder it is about to replace: the log, the user's own files."""
    if not old.is_dir():
        return
    for entry in sorted(old.iterdir()):
        if (new / entry.name).exists() or entry.name.endswith(PARTIAL):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True, copy_function=_link)
        else:
            _link(entry, new / entry.name)


def _link(source: str | Path, target: str | Path) -> None:
    """A second name for the same file, so that what is written to it meanwhile is kept; a copy where that fails."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def checkpoint_hash(tensors: Mapping[str, Tensor], config: CheckpointConfig) -> str:
    """The content hash of weights and description together."""
    about = config.model_dump(mode="json", exclude={"content_hash"})
    return content_hash(_arrays(tensors), about)


def load_encoder(folder: Path) -> tuple[Encoder, CheckpointConfig]:
    """The encoder of a checkpoint folder, in evaluation mode on the CPU, and its description.

    Nothing is built before the description, the header's size, and every tensor's name, type and shape have been
    checked, nor returned before the content hash has. NotFoundError, InputError (not ours, or of another schema)
    or CorruptError. A folder that is replaced meanwhile is read again.
    """
    while True:
        before = _identity(folder)
        try:
            return _load_encoder(folder)
        except (CorruptError, NotFoundError):
            if _identity(folder) == before:
                raise


def _identity(folder: Path) -> tuple[int, ...] | None:
    """What tells a folder from one that has taken its name; inode numbers alone are used again."""
    wait_for_replacement(folder)
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _load_encoder(folder: Path) -> tuple[Encoder, CheckpointConfig]:
    config = read_config(folder)
    shapes = {
        name: (shape, _dtype_of(name, len(shape), config.dtype))
        for name, shape in parameter_shapes(config.encoder).items()
    }
    tensors = read_tensors(folder / MODEL, shapes)
    if checkpoint_hash(tensors, config) != config.content_hash:
        raise CorruptError(f"{folder} was altered: its content hash is not the recorded one; train it again.")
    with torch.device("meta"):
        encoder = Encoder(config.encoder)
    encoder = encoder.to_empty(device="cpu").to(memory_format=torch.channels_last)
    encoder.load_state_dict(tensors)  # which makes float32 of float16
    return encoder.eval(), config


def _dtype_of(name: str, axes: int, weights: str) -> torch.dtype:
    """A tensor's stored type: in float16 only matrices and kernels are kept, not batch norm's numbers and biases."""
    if name.endswith("num_batches_tracked"):
        return torch.int64
    return torch.float16 if weights == "float16" and axes > 1 else torch.float32


def read_tensors(path: Path, expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after checking that it holds exactly the expected names, shapes and types."""
    found = {name: (tuple(entry["shape"]), DTYPES.get(entry["dtype"])) for name, entry in _header(path).items()}
    if found != dict(expected):
        odd = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise CorruptError(
            f"{path} does not hold the encoder its config.json describes: {len(odd)} tensors differ, "
            f"first {odd[0]!r} ({found.get(odd[0], ('absent',))[0]} for {expected.get(odd[0], ('none',))[0]})."
        )
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path} cannot be read: {error}") from None


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """A safetensors file's table of tensors, read without trusting its length."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise CorruptError(f"{path} has a header of {length:,} bytes; ours have at most {MAX_HEADER:,}.")
            table = json.loads(file.read(length))
            table.pop("__metadata__", None)
            for entry in table.values():
                tuple(entry["shape"]), entry["dtype"].strip()  # a list and a text, else one of the errors below
    except FileNotFoundError:
        raise NotFoundError(f"No such file: {path}") from None
    except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError):
        raise CorruptError(f"{path} is not a readable safetensors file; train it again.") from None
    return table  # type: ignore[no-any-return]


def save_state(folder: Path, tensors: Mapping[str, Tensor], info: dict[str, Any]) -> None:
    """Write what resumption needs besides the encoder; `info` is JSON and gets the tensors' hash."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    (folder / STATE).write_bytes(save(plain))
    write_json(folder / STATE_INFO, {"schema_version": SCHEMA, **info, "state_hash": _state_hash(plain, info)})


def load_state(
    folder: Path, expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What save_state wrote, verified."""
    info = read_json(folder / STATE_INFO)
    tensors = read_tensors(folder / STATE, expected)
    try:
        version, digest = info.pop("schema_version"), info.pop("state_hash")
    except (KeyError, TypeError, AttributeError):
        raise CorruptError(f"{folder / STATE_INFO} is damaged; train again to another --out.") from None
    if version != SCHEMA:
        raise InputError(f"{folder} has state schema {version}; this version reads schema {SCHEMA}.")
    if digest != _state_hash(tensors, info):
        raise CorruptError(f"{folder / STATE} was altered: its hash is not the recorded one; train again.")
    return tensors, info


def _state_hash(tensors: Mapping[str, Tensor], info: dict[str, Any]) -> str:
    return content_hash(_arrays(tensors), info)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors as arrays with at least one axis, as hashing wants them (batch norm keeps one scalar each)."""
    return {name: np.atleast_1d(tensor.numpy()) for name, tensor in tensors.items()}
