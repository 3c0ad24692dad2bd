"""The descriptions of one picture that are compared: the encoder's two layers, and what it has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.jet_image import JetImage
from lookalike.augmentations.preprocess import Preprocess
from lookalike.probes.directions import Directions, standardization
from lookalike.probes.features import hand_features, raw_pixels
from lookalike.probes.jet_features import jet_features
from lookalike.probes.number_features import sums_and_maxima
from lookalike.ssl.checkpoint import CheckpointConfig, has_head, load_encoder
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.hardware import pick_device

Vectors = dict[str, NDArray[Any]]
TRAINED = ("embedding", "projection")
UNTRAINED = ("untrained embedding", "untrained projection")
BY_HAND = ("pixels", "hand_features")
NAMES = (*TRAINED, *UNTRAINED, *BY_HAND)


class Describer:
    """Descriptions of objects in stored units: `names`, of NAMES all but the projections where no head was trained.

    Trained and untrained encoder, of the same architecture, give their embedding and their projection; the untrained
    one is drawn from the checkpoint's own seed, as its training began. `top` : the brightest pixel that the
    hand-made color histogram tells from brighter ones. `notes` : what is left out, and why.
    """

    def __init__(self, checkpoint: Path, device: str = "auto") -> None:
        self.encoder, self.config = load_encoder(checkpoint)
        self.device = pick_device(device)
        self.encoder.to(self.device)
        self.untrained = untrained(self.config).to(self.device)
        self.top = 255.0
        self.names: tuple[str, ...] = NAMES
        self.notes: list[str] = []
        if not has_head(self.config):
            self.names = tuple(name for name in NAMES if "projection" not in name)
            self.notes = ["projection: the encoder was imported without a head, so it has none."]

    def __call__(self, images: torch.Tensor) -> Vectors:
        """Vectors (B, D) by name, in the order of `names`, for images (B, C, h, w) as large as the encoder's view.

        Of jets for their constituents (B, P, 4), whose `pixels` are those of the image that the encoder is given; of
        records (B, F) and particles (B, P, F) these are the very numbers that it is given.
        """
        plain = images.cpu().numpy()
        x = encoder_input(images, self.config.preprocess)
        found: Vectors = {}
        for names, encoder in ((TRAINED, self.encoder), (UNTRAINED, self.untrained)):
            with torch.inference_mode():
                layers = encoder(x)  # (B, D), (B, projection)
            vectors = dict(zip(names, layers, strict=True))
            found |= {name: layer.float().cpu().numpy() for name, layer in vectors.items() if name in self.names}
        seen = self.config.preprocess
        given = plain if isinstance(seen, Preprocess) else x.cpu().numpy()
        found["pixels"] = raw_pixels(given).astype(np.float32)
        if isinstance(seen, JetImage):
            found["hand_features"] = jet_features(plain, seen.jets)
        elif isinstance(seen, Preprocess):
            found["hand_features"] = hand_features(plain, self.top)
        else:
            found["hand_features"] = sums_and_maxima(given)
        return found


def untrained(config: CheckpointConfig) -> Encoder:
    """An encoder as its training began: the checkpoint's architecture, random weights from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(config.train.get("seed", 0)))
        return Encoder(config.encoder).eval()


def comparable(name: str, stored: NDArray[Any], vectors: NDArray[Any]) -> Directions:
    """The vectors as they are compared by cosine: what no encoder made is standardized by the stored set."""
    return Directions(vectors, *standardization(stored)) if name in BY_HAND else Directions(vectors)
