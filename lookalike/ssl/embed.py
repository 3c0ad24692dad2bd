"""Embedding every object of a data set, or a few pictures, with a trained encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations.preprocess import encoder_input
from lookalike.embeddings import DTYPES, Embeddings, normalize, write_embeddings
from lookalike.errors import CollapsedError, CorruptError, InputError, unknown
from lookalike.progress import progress
from lookalike.provenance import WAYS_OUT, build_record, refuse_input, write_record
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, require_layer
from lookalike.ssl.collapse import COLLAPSED_SPREAD
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.hardware import pick_device

LAYERS = ("embedding", "projection")
NANOMAGGIES = ("nanomaggy", "nanomaggie", "nanomaggies", "nmgy")
SCALE_TOLERANCE = 1e-3
USELESS_SPREAD = 1e-10  # below it float32 rounding decides which objects are similar


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
    batch_size: int = 256,
    overwrite: bool = False,
    quiet: bool = False,
    device: str = "auto",
) -> EmbedReport:
    """Embed every object of a data set into the embeddings file `out`, in constant memory.

    layer : "embedding" (before the projection head, the one that is searched) or "projection".
    dtype : "float32" or "float16", of the stored unit vectors (N, D).
    overwrite : compute anew, and replace whatever file `out` is. Without it a file of exactly these vectors is
                reused, and any other an InputError.

    Batches are cut at the same rows every time, so a run gives what any other run on the same machine gives.
    InputError for data whose domain, bands, unit, pixel scale, pixel type or size are not the encoder's;
    CollapsedError, and no file, where all vectors are the same; a note where they nearly are.
    """
    began = time.monotonic()
    if layer not in LAYERS:
        raise unknown("layer", layer, LAYERS)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if batch_size < 1:
        raise InputError(f"A batch holds at least 1 object, but batch_size = {batch_size} was given.")
    samples = Samples(list(samples_paths))
    refuse_input(out, samples.paths)
    encoder, config = load_encoder(checkpoint)
    require_layer(config, layer, checkpoint)
    notes = check_fits(samples, config, checkpoint)
    made_from = {"samples": samples.content_hash, "checkpoint": config.content_hash}
    if out.exists() and not overwrite and (held := _reusable(out, made_from, layer, dtype, notes)):
        spread = _spread(_mean(held))
        seconds = time.monotonic() - began
        return EmbedReport(out, len(held), held.dimensions, spread, seconds, held.content_hash, notes)
    encoder.to(pick_device(device))
    dimensions = encoder.dimensions if layer == "embedding" else config.encoder.projection
    total = np.zeros(dimensions)  # (D,) sum of the unit vectors

    def blocks() -> Iterator[NDArray[np.float32]]:
        with progress("embedding", len(samples), "objects", quiet=quiet) as advance:
            for start, images in samples.blocks(batch_size):
                vectors = embed_images(images, encoder, config, layer=layer)  # (B, D)
                np.add(total, normalize(vectors, start).sum(axis=0), out=total)
                yield vectors
                advance(len(vectors))
        _refuse_collapsed(total / len(samples), len(samples))

    digest = write_embeddings(
        out, samples.ids, blocks(), dimensions=dimensions, dtype=dtype, made_from=made_from, layer=layer
    )
    settings: dict[str, Any] = {"layer": layer, "dtype": dtype, "batch_size": batch_size}
    write_record(out, build_record("embed", settings=settings, inputs=made_from, content_hash=digest))
    spread = _spread(total / len(samples))
    if len(samples) > 1 and spread < COLLAPSED_SPREAD:
        notes.append(
            f"Warning: all {len(samples):,} vectors point nearly one way (spread {spread:.1e}): "
            "the encoder has collapsed or was hardly trained, and its similarities mean little."
        )
    return EmbedReport(out, len(samples), dimensions, spread, time.monotonic() - began, digest, notes)


def _reusable(out: Path, made_from: dict[str, str], layer: str, dtype: str, notes: list[str]) -> Embeddings | None:
    """The file there if it holds just these vectors, None if it did but is damaged; InputError for any other file."""
    try:
        held = Embeddings(out)
    except (InputError, CorruptError):
        raise InputError(f"{out} is there already and is no embeddings file. {WAYS_OUT}") from None
    wanted = {**made_from, "layer": layer, "dtype": dtype}
    found = {**held.made_from, "layer": held.layer, "dtype": str(held.vectors.dtype)}
    if other := [name for name, value in wanted.items() if found.get(name) != value]:
        raise InputError(f"{out} is there already, made with other {' and '.join(other)}. {WAYS_OUT}")
    try:
        held.verify()
    except CorruptError:
        notes.append(f"{out} was damaged and is made anew.")
        return None
    notes.append(f"{out} holds these embeddings already: nothing was computed (--overwrite computes them anew).")
    return held


def _mean(embeddings: Embeddings) -> NDArray[np.float64]:
    """The mean (D,) of the stored vectors."""
    total = np.zeros(embeddings.dimensions)
    for start in range(0, len(embeddings), 65536):
        total += embeddings.vectors[start : start + 65536].sum(axis=0, dtype=np.float64)
    return total / len(embeddings)


def embed_images(
    images: NDArray[Any], encoder: Encoder, config: CheckpointConfig, *, layer: str = "embedding"
) -> NDArray[np.float32]:
    """Vectors (B, D) float32, not normalized, of stored pictures (B, C, H, W) in the checkpoint's unit and bands.

    The encoder stays on its device and must be in evaluation mode, in which an object's vector does not depend on
    the others of its batch but for rounding. `layer` as for `embed`. InputError for pictures that do not fit.
    """
    check_pictures(images.shape[1:], images.dtype, config)
    device = next(encoder.parameters()).device
    writable = np.require(images, requirements=["C", "W"])  # torch warns of memory it must not write to
    with torch.inference_mode():
        x = encoder_input(torch.from_numpy(writable).to(device), config.preprocess)  # (B, C, h, w)
        embedding, projection = encoder(x)  # (B, D), (B, projection)
    vectors: NDArray[np.float32] = (embedding if layer == "embedding" else projection).float().cpu().numpy()
    return vectors


def check_pictures(shape: tuple[int, ...], dtype: np.dtype[Any], config: CheckpointConfig) -> None:
    """InputError where pictures of one (C, H, W) and pixel type are not what the encoder was trained on."""
    wanted = config.preprocess
    if len(shape) != 3 or shape[0] != len(wanted.bands):
        raise InputError(
            f"This encoder takes pictures (C, H, W) in {len(wanted.bands)} bands ({', '.join(wanted.bands)}), "
            f"but {tuple(shape)} was given."
        )
    if dtype != wanted.dtype:
        raise InputError(f"This encoder was trained on {wanted.dtype} pixels, but {dtype} was given.")
    if min(shape[1:]) < wanted.size:
        raise InputError(
            f"This encoder sees the central {wanted.size}×{wanted.size} px, but pictures of {shape[2]}×{shape[1]} px "
            "(width × height) were given."
        )


def check_fits(samples: Samples, config: CheckpointConfig, checkpoint: Path) -> list[str]:
    """InputError where a data set is not of the kind the encoder was trained on; notes on what cannot be compared.

    Domain, bands, unit, pixel type and scale are compared, and the pictures must be large enough. A scale read from
    a header carries rounding, so that scales may differ by SCALE_TOLERANCE.
    """
    about, wanted = samples.about, config.preprocess
    if about.domain != config.domain:
        raise InputError(
            f"{checkpoint} was trained on the domain {config.domain}, "
            f"but these samples are of the domain {about.domain}."
        )
    if about.bands != wanted.bands:
        raise InputError(
            f"{checkpoint} was trained on the bands {', '.join(wanted.bands)}, "
            f"but these samples hold {', '.join(about.bands)}."
        )
    if _unit(about.unit) != _unit(wanted.unit):
        raise InputError(
            f"{checkpoint} was trained on pixels in {wanted.unit or 'no unit'}, "
            f"but these samples are in {about.unit or 'no unit'}."
        )
    check_pictures(samples.image_shape, samples.image_dtype, config)
    ours, theirs = about.pixel_scale, wanted.pixel_scale
    if ours is not None and theirs is not None and not math.isclose(ours, theirs, rel_tol=SCALE_TOLERANCE):
        raise InputError(
            f"{checkpoint} was trained on pixels of {theirs:.6g} arcsec, but these samples have {ours:.6g} arcsec/px."
        )
    if (ours is None) != (theirs is None):
        which = "these samples" if ours is None else str(checkpoint)
        return [f"The pixel scale of {which} is not known; the encoder's and the data's are taken to be equal."]
    return []


def _unit(unit: str) -> str:
    """A flux unit under one name, as surveys write nanomaggies in several ways."""
    plain = unit.strip().lower()
    return "nanomaggy" if plain in NANOMAGGIES else plain


def _refuse_collapsed(mean: NDArray[np.float64], n: int) -> None:
    if n > 1 and _spread(mean) < USELESS_SPREAD:
        raise CollapsedError(
            f"The encoder gives all {n:,} objects the same vector (spread {_spread(mean):.1e}): it has collapsed, "
            "or the pictures are identical. Train it again, with a smaller lr or milder augmentations."
        )


def _spread(mean: NDArray[np.float64]) -> float:
    """1 − |mean unit vector|² from the mean (D,)."""
    return max(0.0, 1.0 - float(mean @ mean))
