"""Encoders of events as ONNX files: from stored records, undefined numbers among them, and lists of particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.about import About
from lookalike.augmentations.event import EVENT
from lookalike.events import PARTICLE, PRIMITIVES
from lookalike.ssl.architectures import EncoderConfig, MlpShape, SetShape
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, save_encoder
from lookalike.ssl.embed import embed_objects
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.exporting import export_onnx
from lookalike.ssl.random_objects import random_numbers

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")


def checkpoint(folder: Path, layout: str, *, untrained_half: bool = False) -> Path:
    torch.manual_seed(0)
    features = layout == "features"
    about = About(
        domain="event",
        layout="features" if features else "particles",
        bands=tuple(PRIMITIVES if features else PARTICLE),
    )
    preprocess = EVENT.preprocess(about, EVENT.settings(about, len(about.bands), frozenset(), "float32")[0])
    mlp = MlpShape(features=preprocess.numbers, hidden=(24,), dimensions=16) if features else None
    of_set = None
    if not features:
        of_set = SetShape(features=preprocess.numbers, particle=(16, 24), hidden=(24,), dimensions=16)
    shape = {"name": "mlp", "mlp": mlp} if features else {"name": "set", "set": of_set}
    encoder = Encoder(EncoderConfig(channels=1, projection=8, untrained_half=untrained_half, **shape))
    folder.mkdir()
    config = CheckpointConfig(
        encoder=encoder.config, preprocess=preprocess, domain="event", bands=about.bands, train={}
    )
    save_encoder(folder, encoder, config)
    return folder


@pytest.mark.parametrize(("layout", "half"), [("features", False), ("particles", False), ("particles", True)])
def test_the_file_computes_what_embedding_does(tmp_path: Path, layout: str, half: bool) -> None:
    folder = checkpoint(tmp_path / "checkpoint", layout, untrained_half=half)
    report = export_onnx(folder, tmp_path / "e.onnx")
    assert report.difference < 1e-4
    assert report.dimensions == (32 if half else 16)
    name = "records" if layout == "features" else "particles"
    assert name in report.input
    encoder, config = load_encoder(folder)
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx", providers=["CPUExecutionProvider"])
    for B, P in ((1, 6), (5, 13)):
        given = random_numbers(config, B, P).numpy()
        (found,) = session.run(None, {name: given})
        wanted = embed_objects(given, encoder, config)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
