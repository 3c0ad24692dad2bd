"""An encoder as an ONNX file that any runtime reads: stored objects in, vectors out, compared with torch first."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike import __version__
from lookalike.about import FEATURES, IMAGES, PARTICLES
from lookalike.errors import InputError, LookalikeError, unknown
from lookalike.files import atomic_path, file_output, lock
from lookalike.installing import install_extra
from lookalike.onnx_files import KEY, file_hash, read_about
from lookalike.provenance import WAYS_OUT, build_record, drop_record, write_record
from lookalike.ssl.fitting import LAYERS
from lookalike.ssl.random_objects import compared, example

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lookalike.ssl.checkpoint import CheckpointConfig

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
NAMES = {IMAGES: "images", FEATURES: "records", PARTICLES: "particles"}  # of the input


@dataclass(frozen=True)
class ExportReport:
    """What was written; `difference` is the largest to torch, relative to the largest number of the vector."""

    out: str
    layer: str
    dimensions: int
    input: str
    bytes: int
    difference: float
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def export_onnx(checkpoint: Path, out: Path, *, layer: str = "embedding", overwrite: bool = False) -> ExportReport:
    """Write a checkpoint's encoder as the ONNX file `out`.

    Input `images` (B, C, H, W) are stored pixels, of the type, unit and bands of the checkpoint's preprocess, with H
    and W at least its size: crop and pixel mapping are part of the file. Of records it is `records` (B, F), of lists of
    particles `particles` (B, P, F), zeros after the last, P at least as many as are paired; of jets their image is made
    in the file. Output is `embedding` (B, D) or `projection` (B, projection), float32; the embedding is not normalized.
    B, H, W and P are free. The description of all that is in the file's metadata_props, under `lookalike`.

    overwrite : replace whatever file `out` is. Without it an export of the same layer of the same checkpoint is made
                anew, and any other file an InputError; one within the checkpoint's folder always is.

    InputError without the packages of the extra `onnx`, LookalikeError, and no file, where what onnxruntime computes
    differs from torch by more than TOLERANCE.
    """
    if lacking := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f"Exporting needs {', '.join(lacking)}; install them with: {install_extra('onnx')}")
    if layer not in LAYERS:
        raise unknown("layer", layer, LAYERS)
    if file_output(out).is_relative_to(checkpoint.resolve()):
        raise InputError(f"{out} lies within the checkpoint that is read; choose another --out.")
    from lookalike.ssl.checkpoint import load_encoder, require_layer  # torch takes seconds to load

    encoder, config = load_encoder(checkpoint)
    require_layer(config, layer, checkpoint)
    if out.exists() and not overwrite:
        _refuse_other(out, {"layer": layer, "content_hash": config.content_hash})
    dimensions = encoder.dimensions if layer == "embedding" else config.encoder.projection
    model = _stored_to_vectors(encoder, config, layer)
    written = _translated(model, config, layer)
    difference = _compare(written, model, config)
    if not difference <= TOLERANCE:
        raise LookalikeError(
            f"onnxruntime must agree with torch to {TOLERANCE:g}, but differs by {difference:.1e}; nothing was written."
        )
    with lock(out), atomic_path(out) as temporary:
        temporary.write_bytes(written)
        drop_record(out)
    digest, made_from = file_hash(out), {"checkpoint": config.content_hash}
    write_record(
        out, build_record("checkpoint export", settings={"layer": layer}, inputs=made_from, content_hash=digest)
    )
    return ExportReport(str(out), layer, dimensions, _told(config), len(written), difference, digest)


def _told(config: CheckpointConfig) -> str:
    """The input in a few words."""
    wanted = config.preprocess
    if wanted.layout == IMAGES:
        return f"{wanted.dtype} pixels (B, {len(wanted.bands)}, ≥{wanted.size}, ≥{wanted.size})"
    axes = f"B, {len(wanted.bands)}" if wanted.layout == FEATURES else f"B, P, {len(wanted.bands)}"
    return f"{wanted.dtype} {NAMES[wanted.layout]} ({axes}) of {', '.join(wanted.bands)}"


def _refuse_other(out: Path, wanted: dict[str, str]) -> None:
    """InputError where the file in the way is no export of ours, or one of another checkpoint or layer."""
    found = read_about(out)
    if found is None:
        raise InputError(f"{out} is there already and is no ONNX export of ours. {WAYS_OUT}")
    names = {"layer": "layer", "content_hash": "checkpoint"}
    if other := [names[name] for name, value in wanted.items() if found.get(name) != value]:
        raise InputError(f"{out} is there already, made with other {' and '.join(other)}. {WAYS_OUT}")


def _stored_to_vectors(encoder: nn.Module, config: CheckpointConfig, layer: str) -> nn.Module:
    """One module from stored objects to the layer's vectors."""
    from torch import nn

    from lookalike.augmentations.inputs import encoder_input

    class StoredToVectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, objects: torch.Tensor) -> torch.Tensor:
            if config.preprocess.layout == IMAGES:
                objects = _central(objects, config.preprocess.size)
            embedding, projection = self.encoder(encoder_input(objects, config.preprocess))  # (B, D), (B, projection)
            vectors: torch.Tensor = embedding if layer == "embedding" else projection
            return vectors

    return StoredToVectors().eval()


def _central(images: torch.Tensor, size: int) -> torch.Tensor:
    """What the encoder's input begins with, by index: so a tracer knows the size, and takes a third of the time."""
    import torch

    for axis in (2, 3):
        first = (images.shape[axis] - size) // 2
        images = images.index_select(axis, torch.arange(size, device=images.device) + first)
    return images  # (B, C, size, size)


def _translated(model: nn.Module, config: CheckpointConfig, layer: str) -> bytes:
    """The module as the bytes of an ONNX file, with the checkpoint's description."""
    import onnx
    import torch

    traced, free = example(config)
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (traced,),
            dynamo=True,
            input_names=[NAMES[config.preprocess.layout]],
            output_names=[layer],
            dynamic_shapes=(free,),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:  # the exporter's notes name folders of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    about = config.model_dump(mode="json", include={"encoder", "preprocess", "domain", "bands", "content_hash"})
    told = {"version": __version__, "layer": layer, **about}
    onnx.helper.set_model_props(proto, {KEY: json.dumps(told)})
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


def _compare(written: bytes, model: nn.Module, config: CheckpointConfig) -> float:
    """The largest difference of any number to torch's, over its vector's largest, for several batches and sizes."""
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    worst, name = 0.0, session.get_inputs()[0].name
    for objects in compared(config):
        (found,) = session.run(None, {name: objects.numpy()})  # (B, D)
        with torch.no_grad():
            wanted = model(objects).numpy()  # (B, D)
        # fmax and fmin would drop a NaN; max keeps it, and the caller refuses it.
        difference = np.abs(found - wanted).max(axis=1) / np.maximum(np.abs(wanted).max(axis=1), 1e-30)
        worst = max(worst, float(difference.max())) if np.isfinite(difference).all() else float("inf")
    return worst
