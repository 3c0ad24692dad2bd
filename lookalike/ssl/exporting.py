"""An encoder as an ONNX file that any runtime reads: stored objects in, vectors out, compared with torch first."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike import __version__
from lookalike.about import PARTICLES
from lookalike.errors import InputError, LookalikeError, unknown
from lookalike.files import atomic_path, file_output, lock
from lookalike.installing import install_extra
from lookalike.onnx_files import KEY, file_hash, read_about
from lookalike.provenance import WAYS_OUT, build_record, drop_record, write_record
from lookalike.ssl.fitting import LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn

    from lookalike.augmentations.preprocess import Seen
    from lookalike.ssl.checkpoint import CheckpointConfig

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
BATCHES = (1, 2, 7)  # batch sizes compared; the file is traced with another
BORDERS = ((0, 0), (9, 4))  # px of height and width beyond the encoder's own size, compared likewise
PLACES = (4, 90)  # constituents of a jet, compared likewise


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
    and W at least its size: crop and pixel mapping are part of the file. An encoder of jets has the input `particles`
    (B, P, 4), zeros after the last, whose image is made in the file. Output is `embedding` (B, D) or `projection`
    (B, projection), float32; the embedding is not normalized. B, H and W, or B and P, are free. The description of all
    that is in the file's metadata_props, under `lookalike`.

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
    from lookalike.augmentations.inputs import of_images
    from lookalike.ssl.checkpoint import load_encoder, require_layer  # torch takes seconds to load

    encoder, config = load_encoder(checkpoint)
    require_layer(config, layer, checkpoint)
    of_images(config.preprocess, "Exporting as ONNX")
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
    return ExportReport(str(out), layer, dimensions, _told(config.preprocess), len(written), difference, digest)


def _told(wanted: Seen) -> str:
    """The file's input in a few words."""
    if wanted.layout == PARTICLES:
        return f"{wanted.dtype} particles (B, P, {len(wanted.bands)}) of {', '.join(wanted.bands)}"
    return f"{wanted.dtype} pixels (B, {len(wanted.bands)}, ≥{wanted.size}, ≥{wanted.size})"


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
            embedding, projection = self.encoder(encoder_input(objects, config.preprocess))  # (B, D), (B, projection)
            vectors: torch.Tensor = embedding if layer == "embedding" else projection
            return vectors

    return StoredToVectors().eval()


def _translated(model: nn.Module, config: CheckpointConfig, layer: str) -> bytes:
    """The module as the bytes of an ONNX file, with the checkpoint's description."""
    import onnx
    import torch

    size = config.preprocess.size
    if _of_jets(config):
        name, example = "particles", random_particles(config, 3, 50)
        free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("places", min=2)}
    else:
        name, example = "images", random_pixels(config, 3, size + 2, size + 5)
        free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=size)}
        free[3] = torch.export.Dim("width", min=size)
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=[name],
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
    for objects in _compared(config):
        (found,) = session.run(None, {name: objects.numpy()})  # (B, D)
        with torch.no_grad():
            wanted = model(objects).numpy()  # (B, D)
        # fmax and fmin would drop a NaN; max keeps it, and the caller refuses it.
        difference = np.abs(found - wanted).max(axis=1) / np.maximum(np.abs(wanted).max(axis=1), 1e-30)
        worst = max(worst, float(difference.max())) if np.isfinite(difference).all() else float("inf")
    return worst


def _of_jets(config: CheckpointConfig) -> bool:
    return config.preprocess.layout == PARTICLES


def _compared(config: CheckpointConfig) -> Iterator[torch.Tensor]:
    """Objects as they are stored, in batches and sizes of several kinds."""
    size = config.preprocess.size
    for B in BATCHES:
        if _of_jets(config):
            yield from (random_particles(config, B, P) for P in PLACES)
        else:
            yield from (random_pixels(config, B, size + below, size + beside) for below, beside in BORDERS)


def random_particles(config: CheckpointConfig, B: int, P: int) -> torch.Tensor:
    """Constituents (B, P, 4) of random jets by falling pT, the last half of some empty."""
    import torch

    draws = torch.Generator().manual_seed(B * 1_000_003 + P)
    pt = 20 * torch.rand((B, P), generator=draws).log().neg().sort(dim=1, descending=True).values  # GeV
    jet = torch.randint(0, 2, (B, P), generator=draws).float()
    place = (0.3 * torch.randn((2, B, P), generator=draws)) + torch.stack([jet, 2 * jet])  # η, φ
    x = torch.stack([pt, place[0], place[1], jet], dim=2)  # (B, P, 4)
    x[::2, (P + 1) // 2 :] = 0
    return x


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
