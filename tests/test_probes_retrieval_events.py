"""Retrieval is measured of events too, as records and as lists of particles, with weights of both signs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookalike.about import About, Column
from lookalike.embeddings import write_embeddings
from lookalike.events import PARTICLE, PRIMITIVES
from lookalike.probes.evaluate_retrieval import evaluate_retrieval
from lookalike.probes.retrieval_report import name_of
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples

N = 80


@pytest.mark.parametrize("layout", ["features", "particles"])
def test_each_layout_has_its_baselines(tmp_path: Path, layout: str) -> None:
    """Two classes whose momenta differ tenfold: numbers alone tell them apart."""
    random = np.random.default_rng(0)
    label = np.arange(N) % 2
    if layout == "features":
        bands = tuple(PRIMITIVES)
        stored = random.uniform(0.5, 1.5, (N, len(bands))) * np.where(label, 200.0, 20.0)[:, None]
        for place, name in enumerate(bands):
            if name.endswith(("eta", "phi")):
                stored[:, place] = random.uniform(-2, 2, N)
        stored[:, bands.index("PRI_jet_num")] = 2
    else:
        bands = tuple(PARTICLE)
        stored = np.zeros((N, 5, 6))
        stored[:, :3] = random.uniform(0.5, 1.5, (N, 3, 6)) * np.where(label, 200.0, 20.0)[:, None, None]
        stored[:, :3, 1:4] = random.uniform(-2, 2, (N, 3, 3)) ** 2
        stored[:, :3, 4:] = 1
    about = About(domain="event", bands=bands, layout="features" if layout == "features" else "particles")
    weight = np.where(np.arange(N) % 13 == 0, -0.5, 1.0)
    ids = [f"e{row:02d}" for row in range(N)]
    with write_samples(tmp_path / "s.h5", about, {"label": Column(), "weight": Column()}) as writer:
        writer.append(ids, stored.astype(np.float32), {"label": np.array(["b", "s"])[label], "weight": weight})
    vectors = np.eye(2, 3)[label] + random.normal(0, 0.1, (N, 3))
    write_embeddings(tmp_path / "e.h5", Samples(tmp_path / "s.h5").ids, iter([vectors]), dimensions=3)
    report = evaluate_retrieval(
        [tmp_path / "s.h5"], label="label", embeddings=tmp_path / "e.h5", weights="weight", resamples=50, quiet=True
    )
    assert report.scores["encoder"].metrics["precision_at_k"].value > 0.99
    assert report.scores["pixels_pca"].metrics["precision_at_k"].value > 0.7  # chance is 0.5
    assert report.scores["hand_features"].metrics["precision_at_k"].value > 0.7
    raw = {"features": "raw numbers, PCA", "particles": "raw particles, PCA"}[layout]
    assert name_of("pixels_pca", report).startswith(raw)
