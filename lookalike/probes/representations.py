"""What retrieval is compared between: an encoder's vectors, and three descriptions no one had to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.jet_image import JetImage
from lookalike.augmentations.preprocess import Preprocess, Seen
from lookalike.embeddings import Embeddings
from lookalike.errors import InputError, unknown
from lookalike.probes.describe import untrained
from lookalike.probes.features import hand_features, raw_pixels, standardized
from lookalike.probes.jet_features import jet_features
from lookalike.probes.number_features import sums_and_maxima
from lookalike.probes.principal import objects_fitted, principal_components
from lookalike.probes.ranking import unit_vectors
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, require_layer
from lookalike.ssl.embed import LAYERS, check_fits, embed_objects
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.hardware import pick_device
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig

BLOCK = 256
COMPONENTS = (16, 64, 256)
WHITE = 0.999  # quantile of the pixels that the histogram's last step begins at, where no unit says what white is

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Representations:
    """Unit vectors (n, D) float32 of the same n objects: the encoder's, and each baseline's.

    pixels : by number of components, those COMPONENTS there are. fitted : how many pictures they were fitted on.
    encoder_hash : of the checkpoint, "" where the vectors came without one.
    """

    encoder: Vectors
    untrained: Vectors
    hand_features: Vectors
    pixels: dict[int, Vectors]
    fitted: int
    view: int
    architecture: str
    layout: str
    encoder_hash: str
    notes: tuple[str, ...]


def represent(
    samples: Samples,
    rows: Rows,
    *,
    checkpoint: Path | None = None,
    embeddings: Path | None = None,
    layer: str = "embedding",
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> Representations:
    """Describe the objects in `rows` (n,) in every way; pictures are read twice, a block at a time.

    The vectors are the checkpoint's, or those of an embeddings file, with or without the checkpoint that made it.
    Without one, the untrained encoder and the central crop are the domain's defaults for these samples. All
    baselines see the pixels the encoder sees. `layer` is the encoders', that of an embeddings file the one it names.
    """
    if layer not in LAYERS:
        raise unknown("layer", layer, LAYERS)
    trained, config, notes = _encoder(samples, checkpoint, embeddings)
    read = None if embeddings is None else _stored(embeddings, samples, config, checkpoint)
    layer = layer if read is None else read.layer or layer
    if checkpoint is not None:
        require_layer(config, layer, checkpoint)
    preprocess = config.preprocess
    place = pick_device(device)
    fresh = untrained(config).to(place)
    if trained is not None:
        trained.to(place)
    with progress("describing", 2 * len(rows), "objects", quiet=quiet) as advance:
        fitted = _fit_rows(samples, rows, preprocess, seed)
        axes = principal_components(_pixels(samples, fitted, preprocess, advance), max(COMPONENTS))
        advance(len(rows) - len(fitted))
        white = _white(samples, fitted, preprocess)
        made: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            images = samples.objects(block)  # (B, C, H, W)
            x = _seen(images, preprocess)
            if read is not None:
                vectors = np.asarray(read.vectors[block])
            else:
                assert trained is not None
                vectors = embed_objects(images, trained, config, layer=layer)
            for name, found in {
                "encoder": vectors,
                "untrained": embed_objects(images, fresh, config, layer=layer),
                "pixels": axes.scores(raw_pixels(x)),
                "hand": _by_hand(images, x, preprocess, white),
            }.items():
                whole = made.setdefault(name, np.empty((len(rows), found.shape[1]), np.float32))
                whole[start : start + len(block)] = found
            advance(len(block))
    _check(made["encoder"], samples, rows)
    hand = made["hand"].astype(np.float64)
    counts = sorted({min(count, made["pixels"].shape[1]) for count in COMPONENTS} - {0})
    return Representations(
        encoder=unit_vectors(made["encoder"]),
        untrained=unit_vectors(made["untrained"]),
        hand_features=unit_vectors(standardized(hand, hand)[0]),
        pixels={count: unit_vectors(made["pixels"][:, :count]) for count in counts},
        fitted=len(fitted),
        view=config.preprocess.size,
        architecture=config.encoder.name,
        layout="jets" if isinstance(preprocess, JetImage) else preprocess.layout,
        encoder_hash=config.content_hash,
        notes=tuple(notes),
    )


def _encoder(
    samples: Samples, checkpoint: Path | None, embeddings: Path | None
) -> tuple[Encoder | None, CheckpointConfig, list[str]]:
    """The trained encoder where there is one, what it is (the domain's default where there is none), and notes."""
    if checkpoint is not None:
        encoder, config = load_encoder(checkpoint)
        return encoder, config, check_fits(samples, config, checkpoint)
    if embeddings is None:
        raise InputError("Retrieval is measured of an encoder or of vectors: give --checkpoint or --embeddings.")
    config = make_plan(samples, TrainConfig(batch_size=4)).checkpoint(0)
    note = f"no checkpoint: the untrained encoder is a {config.encoder.name}, the crop {config.preprocess.size} px."
    return None, config, [note]


def _stored(path: Path, samples: Samples, config: CheckpointConfig, checkpoint: Path | None) -> Embeddings:
    """An embeddings file, after checking that they are of these samples and checkpoint."""
    embeddings = Embeddings(path)
    if len(embeddings) != len(samples) or (embeddings.ids != samples.ids).any():
        raise InputError(
            f"{path} holds vectors of other objects ({len(embeddings):,}) than the samples do ({len(samples):,}): "
            "one is needed for each, in the same order; embed these samples."
        )
    made_from = {"samples": samples.content_hash}
    if checkpoint is not None:
        made_from["checkpoint"] = config.content_hash
    for what, content_hash in made_from.items():
        if (stored := embeddings.made_from.get(what)) not in (None, content_hash):
            raise InputError(
                f"{path} was made from other {what} (content hash {stored[:12]}…) than given ({content_hash[:12]}…); "
                "embed again."
            )
    return embeddings


def _fit_rows(samples: Samples, rows: Rows, preprocess: Seen, seed: int) -> Rows:
    """Which objects the principal components are fitted on, increasing; no label is looked at."""
    n = objects_fitted(len(rows), preprocess.length(samples.shape))
    return np.sort(np.random.default_rng(seed).permutation(rows)[:n])


def _pixels(samples: Samples, rows: Rows, preprocess: Seen, advance: Callable[[int], None]) -> NDArray[np.float32]:
    """What the encoder sees of these objects, as vectors (n, D)."""
    found = np.empty((len(rows), preprocess.length(samples.shape)), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = samples.objects(rows[start : start + BLOCK])
        found[start : start + len(block)] = _seen(block, preprocess).reshape(len(block), -1)
        advance(len(block))
    return found


def _seen(images: NDArray[Any], preprocess: Seen) -> NDArray[np.float32]:
    """The encoder's input (B, C, size, size), (B, V) or (B, P, V)."""
    writable = np.require(images, requirements=["C", "W"])  # torch warns of memory it must not write to
    seen: NDArray[np.float32] = encoder_input(torch.from_numpy(writable), preprocess).numpy()
    return seen


def _by_hand(images: NDArray[Any], x: NDArray[np.float32], preprocess: Seen, white: float) -> NDArray[np.float64]:
    """What describes objects without training: of pictures the usual features, of jets theirs, of particles sums and
    maxima, of records their very numbers."""
    if isinstance(preprocess, JetImage):
        return jet_features(images, preprocess.jets)
    if isinstance(preprocess, Preprocess):
        return hand_features(_visible(images, x, preprocess), white)
    return sums_and_maxima(x)


def _visible(images: NDArray[Any], x: NDArray[np.float32], preprocess: Preprocess) -> NDArray[Any]:
    """The same pixels with black at 0: as stored where they were only scaled, else as the encoder sees them."""
    if preprocess.kind != "scaled":
        return x
    std, mean = (np.reshape(value, (-1, 1, 1)).astype(x.dtype) for value in (preprocess.std, preprocess.mean))
    return x * std + mean  # (B, C, h, w)


def _white(samples: Samples, rows: Rows, preprocess: Seen) -> float:
    """The brightness the color histogram ends at: white where the pixels have one, else the bright end of them."""
    if not isinstance(preprocess, Preprocess) or preprocess.kind == "lupton":
        return 1.0
    if samples.dtype == np.uint8:
        return 255.0 / (preprocess.divisor if preprocess.kind == "scaled" else 1.0)
    images = samples.objects(rows[:BLOCK])
    return max(float(np.quantile(_visible(images, _seen(images, preprocess), preprocess), WHITE)), 1e-30)


def _check(vectors: Vectors, samples: Samples, rows: Rows) -> None:
    """InputError where an object's vector has no direction."""
    length = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(bad):
        raise InputError(
            f"A vector has a direction, but {len(bad):,} are zero or not finite: {samples.id(int(rows[bad[0]]))} first."
        )
