"""Measures of an encoder that came without a projection head: none of a layer it does not have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.augmentations import get_domain
from lookalike.augmentations.inputs import encoder_input
from lookalike.embeddings import write_embeddings
from lookalike.errors import InputError
from lookalike.probes.invariance import Invariance, measure
from lookalike.probes.report import as_json, as_text
from lookalike.probes.report_html import page
from lookalike.probes.representations import _visible, represent
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import CheckpointConfig, read_config, save_encoder
from lookalike.ssl.encoders import Encoder, EncoderConfig

N = 20


@pytest.fixture
def made(tmp_path: Path, blob_samples: Callable[..., Path], one_thread: None) -> Callable[[str], tuple[Path, Path]]:
    """Samples, and a checkpoint as an import with this head makes it: made("none")."""

    def write(head: str) -> tuple[Path, Path]:
        path = blob_samples(domain="image", n=N)
        data, domain = Samples(path), get_domain("image")
        settings, _ = domain.settings(data.about, 24, frozenset(data.columns), "uint8")
        torch.manual_seed(5)
        encoder = Encoder(EncoderConfig(channels=3, projection=16))
        config = CheckpointConfig(
            encoder=encoder.config,
            preprocess=domain.preprocess(data.about, settings),
            domain="image",
            bands=data.about.bands,
            augment=settings.model_dump(mode="json"),
            train={"imported": {"head": head}},
        )
        (tmp_path / head).mkdir()
        save_encoder(tmp_path / head, encoder, config)
        return path, tmp_path / head

    return write


def test_retrieval_refuses_the_projection(made: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    path, folder = made("none")
    samples, rows = Samples(path), np.arange(N)
    with pytest.raises(InputError, match="imported without a projection head, so it has the layer embedding only"):
        represent(samples, rows, checkpoint=folder, layer="projection", quiet=True)
    found = represent(samples, rows, checkpoint=folder, quiet=True)
    assert found.encoder.shape == (N, 512)
    vectors = np.random.default_rng(0).normal(size=(N, 16)).astype(np.float32)
    write_embeddings(tmp_path / "e.h5", samples.ids, iter([vectors]), dimensions=16, layer="projection")
    with pytest.raises(InputError, match="imported without a projection head"):
        represent(samples, rows, checkpoint=folder, embeddings=tmp_path / "e.h5", quiet=True)
    path, folder = made("moco-v2")
    assert represent(samples, rows, checkpoint=folder, layer="projection", quiet=True).encoder.shape == (N, 16)


def test_the_invariance_report_has_no_projection(made: Callable[[str], tuple[Path, Path]]) -> None:
    def measured(head: str) -> Invariance:
        path, folder = made(head)
        return measure([path], folder, quiet=True)

    whole, bare = measured("moco-v2"), measured("none")
    told = as_json(bare)
    assert told["projection"] is None
    assert any("imported without a head" in note for note in told["notes"])
    assert told["untrained"] == as_json(whole)["untrained"]
    assert as_json(whole)["projection"]["layer"] == "projection"
    json.dumps(told, allow_nan=False)
    for text in (as_text(bare), page(bare)):
        others = [line for line in text.splitlines() if "imported without a head" not in line]
        assert not [line for line in others if "projection" in line]
    assert "untrained projection" in as_text(whole)
    # A series keeps its color whether or not another is there.
    for report in (whole, bare):
        keys = re.findall(r'class="([^"]*)"[^>]*/></svg>radial profile', page(report))
        assert keys
        assert all("s4" in each.split() for each in keys)


def test_brightness_is_told_by_band_where_bands_were_scaled_so(made: Callable[[str], tuple[Path, Path]]) -> None:
    path, folder = made("none")
    images = Samples(path).objects(slice(0, 4))
    each = read_config(folder).preprocess.model_copy(
        update={"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3), "size": 24, "divisor": 255.0}
    )
    x = encoder_input(torch.from_numpy(images), each).numpy()
    np.testing.assert_allclose(_visible(images, x, each), images / 255, atol=1e-6)
