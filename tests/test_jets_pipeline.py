"""Jets from file to answer: ingested, trained on, embedded, indexed, searched and drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.augmentations.inputs import of_images
from lookalike.augmentations.numbers import Numbers
from lookalike.datasets import ingest
from lookalike.embeddings import Embeddings
from lookalike.errors import InputError
from lookalike.indexer.index import build_index
from lookalike.indexer.search import Searcher
from lookalike.probes.describe import BY_HAND, TRAINED, UNTRAINED
from lookalike.probes.evaluate_retrieval import evaluate_retrieval
from lookalike.probes.invariance import measure as invariance
from lookalike.probes.report import as_text
from lookalike.probes.report_html import page
from lookalike.probes.retrieval_report import name_of
from lookalike.probes.sculpting import measure
from lookalike.samples import Samples
from lookalike.service.engine import Engine
from lookalike.service.limits import Limits
from lookalike.ssl.checkpoint import read_config
from lookalike.ssl.embed import embed
from lookalike.ssl.exporting import export_onnx
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 events of two jets each, one-pronged or two-pronged, through the whole pipeline."""
    folder = tmp_path_factory.mktemp("jets")
    rng = np.random.default_rng(0)
    events = np.zeros((64, 24, 4))
    for row in range(64):
        for jet in (0, 1):
            place = slice(12 * jet, 12 * jet + 12)
            axis = rng.uniform(-1, 1), rng.uniform(-3, 3)
            prong = rng.choice([-0.3, 0.3], 12) if row % 2 else np.zeros(12)
            events[row, place, 0] = rng.exponential(60, 12) + 5
            events[row, place, 1] = axis[0] + prong + rng.normal(0, 0.03, 12)
            events[row, place, 2] = axis[1] + rng.normal(0, 0.03, 12)
            events[row, place, 3] = jet
    np.savez(folder / "e.npz", constituents=events, prongs=1 + np.arange(64) % 2)
    ingest("jets", [folder / "e.npz"], folder / "s.h5", bands=("pt", "eta", "phi", "jet"), quiet=True)
    config = TrainConfig(encoder="resnet10", epochs=2, batch_size=16, orientations=1)
    train([folder / "s.h5"], folder / "ck", config, quiet=True, device="cpu")
    embed([folder / "s.h5"], folder / "ck", folder / "e.h5", quiet=True, device="cpu")
    build_index(
        folder / "e.h5",
        [folder / "s.h5"],
        folder / "index",
        k=10,
        window="log(pt):2",
        checkpoint=folder / "ck",
        quiet=True,
    )
    return folder


def test_the_checkpoint_says_what_the_encoder_sees(folder: Path) -> None:
    config = read_config(folder / "ck")
    assert (config.domain, config.preprocess.kind, config.preprocess.channels) == ("jet", "jet", 2)
    assert config.encoder.channels == 2
    assert not config.encoder.small_stem


def test_jets_are_described_as_they_lie_unless_eight_orientations_are_asked_for(folder: Path) -> None:
    samples = Samples(folder / "s.h5")
    for given, wanted in ((None, 1), (8, 8)):
        config = make_plan(samples, TrainConfig(batch_size=4, orientations=given)).checkpoint(0)
        assert config.encoder.orientations == wanted


def test_lists_are_answered_and_drawn(folder: Path) -> None:
    searcher = Searcher(folder / "index")
    answer = searcher.neighbors("5", 3, columns=("prongs", "m_jj"))
    assert [result.rank for result in answer.results] == [1, 2, 3]
    assert all(result.columns["m_jj"] > 0 for result in answer.results)
    engine = Engine(searcher, Limits())
    assert engine.pictures.stretches == ["log", "linear", "aligned"]
    picture = Image.open(io.BytesIO(engine.pictures.thumbnail("5", 128, "log")))
    assert picture.size == (128, 128)
    assert np.asarray(picture).max() > 200
    assert measure(folder / "index", "m_jj", resamples=50).queries == 64


def test_embedding_again_gives_the_same_vectors(folder: Path, tmp_path: Path) -> None:
    embed([folder / "s.h5"], folder / "ck", tmp_path / "e.h5", quiet=True, device="cpu")
    again, before = (Embeddings(path / "e.h5") for path in (tmp_path, folder))
    np.testing.assert_allclose(again.vectors[:], before.vectors[:], atol=1e-6)


def test_single_jets_are_not_given_to_an_encoder_of_two(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.tile([50.0, 0.1, 0.2], (8, 3, 1)) + np.arange(8)[:, None, None] / 100)
    ingest("jets", [tmp_path / "one.npy"], tmp_path / "one.h5", bands=("pt", "eta", "phi"), quiet=True)
    with pytest.raises(InputError, match="takes the two leading jets of each object, but these samples hold one jet"):
        embed([tmp_path / "one.h5"], folder / "ck", tmp_path / "v.h5", quiet=True, device="cpu")


def test_invariance_is_measured_of_jets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collinear split changes no image, which is told; every other step does, and all of them together."""
    measured = invariance([folder / "s.h5"], folder / "ck", quiet=True, device="cpu")
    assert measured.steps == ["splits", "soft", "smearing", "resolution", "rotation"]
    change = measured.pixel_change
    assert change["splits"] < 1e-6
    assert min(change[step] for step in (*measured.steps[1:], "all")) > 1e-3
    assert not [flag for flag in measured.flags if flag.kind == "dead"]
    assert any(note.startswith("splits: cannot change") for note in measured.notes)
    assert set(measured.scores) == {*TRAINED, *UNTRAINED, *BY_HAND}
    # A split moves nothing, so a copy is its original in every description.
    for name in (*TRAINED, "pixels"):
        assert measured.scores[name]["splits"].copy_at[0].hits == 64
    assert "splits" in as_text(measured)
    text = page(measured)
    assert "jet observables" in text
    assert "raw jet images" in text
    assert "radial profile" not in text  # which is of pictures
    assert "Not tested here" in text
    assert "0 tests" not in text + as_text(measured)
    told = measured.samples.about.model_copy(update={"survey": {"simulated": True}})
    with monkeypatch.context() as patch:
        patch.setattr(measured.samples, "about", told)
        assert "simulated objects of s.h5" in page(measured)
        assert "simulated objects; augmented" in as_text(measured)


def test_retrieval_of_jets_has_baselines_of_its_own(folder: Path) -> None:
    report = evaluate_retrieval(
        [folder / "s.h5"],
        label="prongs",
        kind="categorical",
        checkpoint=folder / "ck",
        k=5,
        resamples=50,
        quiet=True,
        device="cpu",
    )
    assert name_of("pixels_pca", report).startswith("raw jet images, PCA(")
    assert name_of("hand_features", report) == "jet observables"
    for name in ("pixels_pca", "hand_features"):
        assert report.scores[name].metrics["precision_at_k"].value > 0.95  # chance is 0.49


def test_an_onnx_file_makes_the_image_itself(folder: Path, tmp_path: Path) -> None:
    """From constituents, in any number, to the vectors that were embedded."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    report = export_onnx(folder / "ck", tmp_path / "m.onnx")
    assert report.input == "float32 particles (B, P, 4) of pt, eta, phi, jet"
    assert report.difference < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    particles = Samples(folder / "s.h5").objects(np.arange(5))
    (found,) = session.run(None, {"particles": particles})
    embedded = Embeddings(folder / "e.h5").vectors[:5]
    np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), embedded, atol=1e-5)
    (more,) = session.run(None, {"particles": np.pad(particles, ((0, 0), (0, 30), (0, 0)))})
    np.testing.assert_allclose(more, found, rtol=1e-5, atol=1e-6)


def test_what_is_made_for_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is done with encoders of pictures and of jet images, but this one takes"):
        of_images(Numbers(kind="record", size=1, bands=("x",), dtype="float32", scales=("linear",)), "Exporting")
