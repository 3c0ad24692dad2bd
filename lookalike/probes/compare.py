"""The trained encoder beside what it has to beat, all asked the same question about the same augmented copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations import get_domain
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input, of_images
from lookalike.augmentations.preprocess import central
from lookalike.probes.features import hand_features, raw_pixels, standardized
from lookalike.probes.representations import WHITE
from lookalike.probes.retrieval import found_again
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.embed import check_fits
from lookalike.ssl.encoders import Encoder

BLOCK = 256
COPY_EPOCH = -1  # training counts epochs from 0, so no copy here was ever a training view


def compare_representations(
    samples: Samples,
    checkpoint: Path,
    *,
    left_out: Sequence[NDArray[np.integer[Any]]] | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, NDArray[np.bool_]]:
    """Whose augmented copy finds its original first (N,), under four descriptions of the same pictures.

    left_out : per object the rows that may not compete with it. The copies carry every augmentation the encoder
    was trained with, drawn anew; the stored side is the central crop, as in the index.
    """
    encoder, config = load_encoder(checkpoint)
    check_fits(samples, config, checkpoint)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = Encoder(config.encoder).eval()
    of_images(config.preprocess, "Comparing with radial profiles")
    domain = get_domain(config.domain)
    settings = domain.settings_type.checked(config.augment)
    top = 255.0 if samples.dtype == np.uint8 else _bright_end(samples, seed)
    stored: dict[str, list[NDArray[Any]]] = {}
    copied: dict[str, list[NDArray[Any]]] = {}
    describe: dict[str, Callable[[torch.Tensor], NDArray[Any]]] = {
        "trained encoder": lambda images: _embed(encoder, encoder_input(images, config.preprocess)),
        "untrained encoder": lambda images: _embed(untrained, encoder_input(images, config.preprocess)),
        "raw pixels": lambda images: raw_pixels(images.numpy()),
        "radial profile + color histogram": lambda images: hand_features(images.numpy(), top),
    }
    bank = domain.bank(samples, settings, seed, COPY_EPOCH)
    columns = domain.columns(settings, samples.about.bands, frozenset(samples.columns))
    catalog = {name: torch.from_numpy(samples.column(name).astype(np.float64)) for name in columns}  # (N,) each
    with progress("comparing", len(samples), "objects", quiet=quiet) as advance:
        for start, block in samples.blocks(BLOCK):
            rows = torch.arange(start, start + len(block))
            images = torch.from_numpy(block).float()  # (B, C, H, W)
            own = {name: values[rows] for name, values in catalog.items()}  # (B,) each
            draws = Draws(seed, COPY_EPOCH, rows, view=0)
            copies = domain.view(images, own, draws, settings, bank)  # (B, C, h, w)
            centers = central(images, config.preprocess.size)
            for name, function in describe.items():
                stored.setdefault(name, []).append(function(centers))
                copied.setdefault(name, []).append(function(copies))
            advance(len(block))
    found = {}
    for name in describe:
        base, queries = np.concatenate(stored[name]), np.concatenate(copied[name])
        if "encoder" not in name:
            base, queries = standardized(base, queries)
        found[name] = found_again(base, queries, left_out)
    return found


def _bright_end(samples: Samples, seed: int) -> float:
    """A brightness that all but the brightest pixels of some objects, random ones by `seed`, lie below."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(samples))[:BLOCK])
    return max(float(np.quantile(samples.objects(rows), WHITE)), 1e-30)


def _embed(encoder: Encoder, x: torch.Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        return encoder(x)[0].numpy()  # type: ignore[no-any-return]
