"""Embedding every object of a data set, or a few pictures, with a trained encoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations.inputs import encoder_input
from lookalike.embeddings_writer import SAVE_SECONDS, VectorsAbout
from lookalike.errors import InputError
from lookalike.progress import progress
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, require_layer
from lookalike.ssl.collapse import COLLAPSED_SPREAD
from lookalike.ssl.embed_files import Job, embed_file
from lookalike.ssl.embed_folder import embed_folder
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.fitting import LAYERS, check_fits, samples_to_embed
from lookalike.ssl.hardware import kept_memory, pick_device
from lookalike.ssl.inference import Inference, default_batch

__all__ = ["LAYERS", "EmbedReport", "check_fits", "embed", "embed_objects"]

SUFFIXES = (".h5", ".hdf5")  # of one file


@dataclass(frozen=True)
class EmbedReport:
    """What was embedded; `spread` is 1 − |mean unit vector|², 0 if all objects look the same to the encoder."""

    out: Path
    n: int
    dimensions: int
    spread: float
    seconds: float
    content_hash: str
    notes: list[str] = field(default_factory=list)


def embed(
    samples_paths: Sequence[Path],
    checkpoint: Path,
    out: Path,
    *,
    layer: str = "embedding",
    dtype: str = "float32",
    batch_size: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    device: str = "auto",
    save_seconds: float = SAVE_SECONDS,
) -> EmbedReport:
    """Embed every object of a data set into the embeddings file or folder `out`, in constant memory.

    out : a folder with one embeddings file for each samples file, if there are several of these; one file if there is
          but one, or if `out` ends in .h5 or .hdf5.
    layer : "embedding" (before the projection head, the one that is searched) or "projection".
    dtype : "float32" or "float16", of the stored unit vectors (N, D).
    batch_size : objects per batch, by default what the device is fast with.
    overwrite : compute anew, and replace whatever file `out` is. Without it a file of exactly these vectors is
                reused, and any other an InputError.
    save_seconds : between two times that the vectors so far are saved. A run that was killed goes on from there when
                   it is started again; several started at once with a folder share its shards among them.

    Batches are cut at the same rows every time, in each samples file from its first, so a run gives what any other run
    on the same machine gives, in one file or in many, resumed or not. InputError for data whose domain, bands, unit,
    pixel scale, pixel type or size are not the encoder's; CollapsedError, and no file, where all vectors are the same;
    a note where they nearly are.
    """
    began = time.monotonic()
    if batch_size is not None and batch_size < 1:
        raise InputError(f"A batch holds at least 1 object, but batch_size = {batch_size} was given.")
    samples = samples_to_embed(samples_paths, out, layer, dtype)
    encoder, config = load_encoder(checkpoint)
    require_layer(config, layer, checkpoint)
    notes = check_fits(samples, config, checkpoint)
    place = pick_device(device)
    dimensions = encoder.dimensions if layer == "embedding" else config.encoder.projection
    job = Job(
        lambda: Inference(encoder, config, layer, place),
        VectorsAbout(dimensions, dtype, {"samples": samples.content_hash, "checkpoint": config.content_hash}, layer),
        batch_size or default_batch(encoder, config.preprocess.size, place),
        save_seconds,
        overwrite,
        notes,
    )
    to_folder = out.is_dir() or (len(samples.paths) > 1 and not out.is_file() and out.suffix not in SUFFIXES)
    with kept_memory(), progress("embedding", len(samples), "objects", quiet=quiet) as advance:
        if to_folder and len(samples.paths) > 1:
            digest, spread = embed_folder(samples, out, job, advance)
        else:
            digest, spread = embed_file(samples, out, job, advance)
    if len(samples) > 1 and spread < COLLAPSED_SPREAD:
        notes.append(
            f"Warning: all {len(samples):,} vectors point nearly one way (spread {spread:.1e}): "
            "the encoder has collapsed or was hardly trained, and its similarities mean little."
        )
    return EmbedReport(out, len(samples), dimensions, spread, time.monotonic() - began, digest, notes)


def embed_objects(
    objects: NDArray[Any], encoder: Encoder, config: CheckpointConfig, *, layer: str = "embedding"
) -> NDArray[np.float32]:
    """Vectors (B, D) float32, not normalized, of stored objects (B, *shape) in the checkpoint's unit and bands.

    The encoder stays on its device and must be in evaluation mode, in which an object's vector does not depend on
    the others of its batch but for rounding. `layer` as for `embed`. InputError for objects that do not fit.
    """
    config.preprocess.check(objects.shape[1:], objects.dtype)
    device = next(encoder.parameters()).device
    writable = np.require(objects, requirements=["C", "W"])  # torch warns of memory it must not write to
    with torch.inference_mode():
        x = encoder_input(torch.from_numpy(writable).to(device), config.preprocess)  # (B, C, h, w)
        embedding, projection = encoder(x)  # (B, D), (B, projection)
    vectors: NDArray[np.float32] = (embedding if layer == "embedding" else projection).float().cpu().numpy()
    return vectors
