"""An encoder as an ONNX file that any runtime reads: stored pixels in, vectors out, compared with torch first."""

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

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lookalike.ssl.checkpoint import CheckpointConfig

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
BATCHES = (1, 2, 7)  # batch sizes compared; the file is traced with another
BORDERS = ((0, 0), (9, 4))  # px of height and width beyond the encoder's own size, compared likewise
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
    and W at least its size: crop and pixel mapping are part of the file. Of records it is `records` (B, F), of lists
    of particles `particles` (B, P, F) with P free. Output is `embedding` (B, D) or `projection`
    (B, projection), float32; the embedding is not normalized. B, H and W are free, P at least as many as are
    paired. The description of all that is in the file's metadata_props, under `lookalike`.

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
    if config.preprocess.layout != IMAGES:
        _stored_scales(config)  # an InputError where there is no such export
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
    axes = f"B, {wanted.size}" if wanted.layout == FEATURES else f"B, P, {wanted.size}"
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

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            embedding, projection = self.encoder(encoder_input(images, config.preprocess))  # (B, D), (B, projection)
            vectors: torch.Tensor = embedding if layer == "embedding" else projection
            return vectors

    return StoredToVectors().eval()


def _translated(model: nn.Module, config: CheckpointConfig, layer: str) -> bytes:
    """The module as the bytes of an ONNX file, with the checkpoint's description."""
    import onnx
    import torch

    example, free = _example(config)
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
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


def _example(config: CheckpointConfig) -> tuple[torch.Tensor, dict[int, Any]]:
    """What the module is traced with, and which of its axes are free."""
    import torch

    size, free = config.preprocess.size, {0: torch.export.Dim("batch")}
    if config.preprocess.layout == IMAGES:
        free |= {2: torch.export.Dim("height", min=size), 3: torch.export.Dim("width", min=size)}
        return random_pixels(config, 3, size + 2, size + 5), free
    if config.preprocess.layout == PARTICLES:
        free[1] = torch.export.Dim("particles", min=_fewest(config))
    return random_numbers(config, 3, _fewest(config) + 3), free


def _compare(written: bytes, model: nn.Module, config: CheckpointConfig) -> float:
    """The largest difference of any number to torch's, over its vector's largest, for several batches and sizes."""
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    worst, size, layout = 0.0, config.preprocess.size, config.preprocess.layout
    for B in BATCHES:
        for below, beside in BORDERS:
            if layout == IMAGES:
                given = random_pixels(config, B, size + below, size + beside)  # (B, C, H, W)
            else:
                given = random_numbers(config, B, _fewest(config) + below)  # (B, F) or (B, P, F)
            (found,) = session.run(None, {NAMES[layout]: given.numpy()})  # (B, D)
            with torch.no_grad():
                wanted = model(given).numpy()  # (B, D)
            # fmax and fmin would drop a NaN; max keeps it, and the caller refuses it.
            difference = np.abs(found - wanted).max(axis=1) / np.maximum(np.abs(wanted).max(axis=1), 1e-30)
            worst = max(worst, float(difference.max())) if np.isfinite(difference).all() else float("inf")
    return worst


def random_pixels(config: CheckpointConfig, B: int, H: int, W: int) -> torch.Tensor:
    """Random pixels (B, C, H, W) as they are stored, spread about as the encoder's own data are."""
    import torch

    from lookalike.augmentations.preprocess import by_band, of_pictures

    wanted = of_pictures(config.preprocess, "Exporting as ONNX")
    draws = torch.Generator().manual_seed(B * 1_000_003 + H * 1009 + W)
    shape = (B, len(wanted.bands), H, W)
    if wanted.dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    noise = torch.randn(shape, generator=draws)
    if wanted.kind == "scaled":
        return (noise * by_band(wanted.std, noise) + by_band(wanted.mean, noise)) * wanted.divisor
    return noise / max(wanted.scales, default=1.0)


def random_numbers(config: CheckpointConfig, B: int, P: int) -> torch.Tensor:
    """Random records (B, F), some of their numbers undefined, or lists (B, P, F) with free places after P − 2."""
    import torch

    record = config.preprocess.layout == FEATURES
    draws = torch.Generator().manual_seed(B * 1_000_003 + P)
    shape = (B,) if record else (B, P)
    columns = []
    for scale in _stored_scales(config):
        uniform = torch.rand(shape, generator=draws)
        if scale.startswith("one of"):
            columns.append((uniform * int(scale[7:])).floor())
        else:
            columns.append(-40 * torch.log(1 - uniform) + 1 if scale in ("log", "unseen") else 5 * uniform - 2.5)
    made = torch.stack(columns, dim=-1)
    if record:
        made[torch.rand(made.shape, generator=draws) < 0.1] = torch.nan
        return made
    made[:, max(1, P - 2) :] = 0
    order = made[..., 0].argsort(dim=1, descending=True)
    return made.gather(1, order[..., None].expand_as(made))


def _stored_scales(config: CheckpointConfig) -> tuple[str, ...]:
    """The scale of each stored number of a record or particle; InputError for any other input than these."""
    from lookalike.augmentations.event_input import EventRecord
    from lookalike.augmentations.event_particles import STORED, EventParticles
    from lookalike.augmentations.numbers import Numbers
    from lookalike.augmentations.preprocess import of_pictures

    seen = config.preprocess
    if isinstance(seen, Numbers):
        return seen.scales
    if isinstance(seen, EventRecord):
        return seen.record.scales[: seen.size]
    if isinstance(seen, EventParticles):
        return STORED
    of_pictures(seen, "Exporting as ONNX")
    raise AssertionError(seen.kind)


def _fewest(config: CheckpointConfig) -> int:
    """The fewest particles P of a list that the file takes."""
    return max(1, int(getattr(config.preprocess, "paired", 1)))
