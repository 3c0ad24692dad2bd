"""An mlp through the whole pipeline: train, resume, embed, index, search, export, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike import cli
from lookalike.datasets import ingest
from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, InputError
from lookalike.indexer.index import build_index
from lookalike.indexer.search import Searcher
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import load_encoder, read_config
from lookalike.ssl.embed import embed, embed_objects
from lookalike.ssl.train import TrainConfig, train
from lookalike.summary import summary

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
SIDE = 12  # px


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A samples file of 96 gray pictures of one to three strokes, from a NumPy file."""
    folder = tmp_path_factory.mktemp("digits")
    random = np.random.default_rng(0)
    images = random.integers(0, 30, (96, SIDE, SIDE), np.uint8)
    for image in images:
        for place in random.integers(1, SIDE - 2, random.integers(1, 4)):
            image[place : place + 2] = 220
        if random.random() < 0.5:
            image[:] = image.T.copy()
    np.save(folder / "digits.npy", images)
    ingest("numpy", [folder / "digits.npy"], folder / "samples.h5", domain="image", bands=("v",), quiet=True)
    return folder / "samples.h5"


@pytest.fixture(scope="module")
def trained(digits: Path) -> Path:
    """The checkpoint of `lookalike train --encoder mlp` with widths given."""
    out = digits.with_name("mlp")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests, which compare with it to the last bit
    with pytest.MonkeyPatch.context() as patch:
        command = ["lookalike", "train", str(digits), "--out", str(out), "--encoder", "mlp", "--epochs", "2"]
        patch.setattr("sys.argv", [*command, "--batch-size", "16", "--set", "mlp.hidden=[48,48]"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    torch.set_num_threads(threads)
    return out


def test_it_is_trained_and_embeds_and_is_searched(trained: Path, digits: Path, tmp_path: Path) -> None:
    config = read_config(trained)
    assert "mlp, 144 → 48 → 48 → 256, 1 band" in summary(trained)
    assert config.encoder.model_dump(mode="json")["mlp"] == {"hidden": [48, 48], "dimensions": 256, "features": SIDE**2}
    report = embed([digits], trained, tmp_path / "e.h5", quiet=True)
    assert (report.n, report.dimensions) == (96, 256)
    found = Embeddings(tmp_path / "e.h5").vectors
    encoder, _ = load_encoder(trained)
    image = Samples(digits).objects([7])  # (1, C, H, W)
    alone = embed_objects(image, encoder, config)[0]
    np.testing.assert_allclose(found[7], alone / np.linalg.norm(alone), atol=1e-6)
    x = (torch.from_numpy(image).float() / 255 - 0.45) / 0.25
    with torch.no_grad():
        np.testing.assert_allclose(encoder(x.flatten(1))[0][0], alone, atol=1e-6)
    build_index(tmp_path / "e.h5", [digits], tmp_path / "index", k=5, window=None, checkpoint=trained, quiet=True)
    searcher = Searcher(tmp_path / "index")
    assert len(searcher.neighbors(searcher.samples.id(7), 5).results) == 5


def test_a_seed_in_a_file_of_settings_counts_unless_another_is_typed(digits: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"seed": 7, "encoder": "mlp", "batch_size": 16, "epochs": 1}')
    for typed, wanted in (([], 7), (["--seed", "3"], 3), (["--seed", "0"], 0)):
        out = tmp_path / str(wanted)
        command = ["lookalike", "train", str(digits), "--out", str(out), "--config", str(settings), *typed]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", command)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert ended.value.code == 0
        assert read_config(out).train["seed"] == wanted


def test_it_is_resumed_exactly(trained: Path, digits: Path, tmp_path: Path) -> None:
    given = {"encoder": "mlp", "batch_size": 16, "mlp": {"hidden": [48, 48]}}
    train([digits], tmp_path / "out", TrainConfig.checked(given | {"epochs": 2}), quiet=True)
    assert read_config(tmp_path / "out").content_hash == read_config(trained).content_hash
    train([digits], tmp_path / "out", TrainConfig.checked(given | {"epochs": 3, "mlp": None}), resume=True, quiet=True)
    assert read_config(tmp_path / "out").epoch == 3
    other = TrainConfig.checked(given | {"mlp": {"hidden": [48]}})
    with pytest.raises(InputError, match="may change, but mlp was"):
        train([digits], tmp_path / "out", other, resume=True, quiet=True)


def test_pictures_of_another_size_are_refused(trained: Path, blob_samples: Write, tmp_path: Path) -> None:
    bands = Samples(trained.with_name("samples.h5")).about.bands
    small = blob_samples(n=4, size=10, domain="image", bands=bands)
    with pytest.raises(InputError, match=r"sees the central 12×12 px, but pictures of 10×10 px"):
        embed([small], trained, tmp_path / "e.h5", quiet=True)
    two = blob_samples("two.h5", n=4, size=12, domain="image", bands="ab")
    with pytest.raises(InputError, match="was trained on the bands"):
        embed([two], trained, tmp_path / "e.h5", quiet=True)
    assert not (tmp_path / "e.h5").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 143}, "an encoder that cannot be"),
        ({"hidden": []}, "Setting encoder.mlp.hidden must hold at least 1"),
        ({"hidden": [10**9]}, r"Setting encoder.mlp.hidden.0 must be at most 65536"),
        ({"hidden": [48, 49]}, r"does not hold the encoder.*\(48,\) for \(49,\)|does not hold the encoder"),
        (None, "an encoder that cannot be"),
    ],
    ids=str,
)
def test_an_altered_shape_is_refused_before_the_weights_are_read(
    trained: Path, tmp_path: Path, change: dict[str, object] | None, message: str
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    values = json.loads((tmp_path / "copy" / "config.json").read_text())
    if change is None:
        del values["encoder"]["mlp"]
    else:
        values["encoder"]["mlp"] |= change
    (tmp_path / "copy" / "config.json").write_text(json.dumps(values))
    with pytest.raises(CorruptError, match=message):
        load_encoder(tmp_path / "copy")


def test_it_is_exported(trained: Path, digits: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from lookalike.ssl.exporting import export_onnx

    export_onnx(trained, tmp_path / "mlp.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mlp.onnx", providers=["CPUExecutionProvider"])
    images = Samples(digits).objects(slice(0, 5))
    (found,) = session.run(None, {"images": np.pad(images, ((0, 0), (0, 0), (2, 2), (1, 1)))})
    np.testing.assert_allclose(found, embed_objects(images, *load_encoder(trained)), rtol=1e-3, atol=1e-5)
