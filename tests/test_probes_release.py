"""Released encoders: small, whole, carded, without a trace of the machine; found, and fitted to other pictures."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lookalike import cli
from lookalike.augmentations import get_domain
from lookalike.augmentations.preprocess import Preprocess
from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.info import describe
from lookalike.probes.card import Data, card
from lookalike.probes.compare import compare_representations
from lookalike.probes.folders import without_folders
from lookalike.probes.release import release
from lookalike.samples import Samples
from lookalike.ssl import released
from lookalike.ssl.architectures import EncoderConfig
from lookalike.ssl.checkpoint import Began, CheckpointConfig, load_encoder, read_config
from lookalike.ssl.embed import embed
from lookalike.ssl.released import adapt, find_released, is_adapted
from lookalike.ssl.train import TrainConfig, train
from lookalike.summary import summary

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parent.parent
SMALL = {"epochs": 1, "batch_size": 8, "queue": 8, "projection": 8}
SAID = {"data": "galaxies drawn for the tests", "license": "CC0-1.0"}


@pytest.fixture
def trained(blob_samples: Write, tmp_path: Path) -> Path:
    """A ResNet-10 of 16 galaxies of 48 px, seen with 32 px."""
    settings = TrainConfig.checked({"encoder": "resnet10", **SMALL})
    train([blob_samples(n=16, size=48)], tmp_path / "trained", settings, quiet=True)
    return tmp_path / "trained"


def reports(folder: Path) -> list[Path]:
    """Reports of both evaluations, cut down to what their forms need, and a foreign one."""
    digest = read_config(folder).content_hash
    each = {"value": 0.3, "interval": [0.2, 0.4], "difference": 0.161, "difference_interval": [-0.05, None]}
    retrieval = {
        "label": "class", "k": 10, "metric": "precision_at_k", "precision_at_k": 0.461, "interval": [0.44, 0.48],
        "knn_accuracy": 0.7, "baselines": {"pixels_pca": each, "untrained": each, "hand_features": each},
        "queries": 500, "candidates": 499, "samples_hash": "ab" * 32, "encoder": {"hash": digest},
        "settings": {"html": "/somewhere/private/page.html"},
    }  # fmt: skip
    entry = {
        "self_retrieval_at_1": 0.951, "self_retrieval_at_10": 0.99, "overlap_at_10": 0.5,
        "intervals": {"self_retrieval_at_1": [0.94, 0.96]},
    }  # fmt: skip
    invariance = {
        "layer": "embedding", "augmentations": [{"name": "noise", **entry}], "together": entry, "untrained": entry,
        "pixels": entry, "hand_features": entry, "objects": 4000,
        "samples": {"files": ["/somewhere/private/samples.h5"]}, "checkpoint": {"folder": "/x/y", "hash": digest},
    }  # fmt: skip
    foreign = {"accuracy": 0.8765, "seconds": 3, "checkpoint": {"hash": digest}}
    paths = []
    for name, report in {"retrieval": retrieval, "invariance": invariance, "foreign": foreign}.items():
        paths.append(folder.with_name(f"{name}.json"))
        paths[-1].write_text(json.dumps(report))
    return paths


def test_a_release_is_small_whole_and_says_what_it_is(trained: Path, tmp_path: Path) -> None:
    data = tmp_path / "samples.h5"
    report = release(trained, tmp_path / "out", samples=[data], license="CC0-1.0", scores=reports(trained))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors", "config.json", "CARD.md", "scores.json", "build.json",
    }  # fmt: skip
    assert report.bytes < 0.51 * (trained / "model.safetensors").stat().st_size
    _, config = load_encoder(tmp_path / "out")
    assert (config.dtype, config.content_hash) == ("float16", report.content_hash)
    assert config.samples_hash == Samples(data).content_hash
    for place, of in ((tmp_path / "whole.h5", trained), (tmp_path / "half.h5", tmp_path / "out")):
        embed([data], of, place, quiet=True)
    whole, half = (Embeddings(tmp_path / name).vectors[:] for name in ("whole.h5", "half.h5"))
    difference = float(np.abs(whole @ whole.T - half @ half.T).max())
    assert report.difference == pytest.approx(difference, abs=1e-6)
    assert 0 < difference < 1e-2

    card = (tmp_path / "out" / "CARD.md").read_text()
    for line in (
        "# out",
        "resnet10, 7×7 stem: 5,",
        "| pictures | 3 bands (R, G, B), at least 32 × 32 px |",
        "| pixel mapping | (pixel / 255 − 0.1) / 0.2 |",
        "| source | drawn |",
        "| license | CC0-1.0 |",
        "| objects | 16 |",
        "| batch_size | 8 |",
        "| extinction | off |",
        "### retrieval: retrieval by class",
        "| encoder | 0.461 (0.440 to 0.480) |  |",
        "| raw pixels + PCA | 0.300 (0.200 to 0.400) | +0.161 (-0.050 to –) |",
        "kNN accuracy 0.700. 500 queries among 499 others each",
        "| noise | 0.951 (0.940 to 0.960) | 0.990 | 0.500 |",
        "| all, untrained encoder | 0.951",
        "| accuracy | 0.8765 |",
        report.content_hash,
    ):
        assert line in card, line
    for path in (tmp_path / "out").iterdir():
        told = path.read_bytes()
        if path.suffix == ".safetensors":  # the weights themselves hold any two letters somewhere
            told = told[8 : 8 + int.from_bytes(told[:8], "little")]
        for secret in (str(tmp_path), "somewhere", socket.gethostname()):
            assert not re.search(rf"(?<!\w){re.escape(secret)}(?!\w)".encode(), told), (path.name, secret)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["retrieval"]["k"] == 10
    assert "checkpoint release" in summary(tmp_path / "out")
    text = summary(tmp_path / "out")
    assert "float16, computed with as float32" in text
    assert "command line" not in text
    assert "when, where" not in text
    assert describe(tmp_path / "out")["made"]["inputs"] == {"checkpoint": read_config(trained).content_hash}
    assert not (tmp_path / "out" / "state.safetensors").exists()


def test_scores_of_the_release_itself_may_be_added(trained: Path, tmp_path: Path) -> None:
    first = release(trained, tmp_path / "out", **SAID)
    assert "None were given" in (tmp_path / "out" / "CARD.md").read_text()
    scores = reports(tmp_path / "out")[0]
    with pytest.raises(InputError, match="holds a released encoder already"):
        release(trained, tmp_path / "out", scores=[scores], **SAID)
    again = release(trained, tmp_path / "out", scores=[scores], overwrite=True, **SAID)
    assert again.content_hash == first.content_hash
    assert "0.461" in (tmp_path / "out" / "CARD.md").read_text()


def test_what_cannot_be_released_is_refused(trained: Path, blob_samples: Write, tmp_path: Path) -> None:
    other = blob_samples("other.h5", n=4, size=48, seed=3)
    wrong, bad, nameless = (tmp_path / f"{name}.json" for name in ("wrong", "bad", "nameless"))
    digest = read_config(trained).content_hash
    nameless.write_text(json.dumps({"accuracy": 0.99, "checkpoint": {"folder": "mine"}, "encoder": "resnet10"}))
    wrong.write_text(json.dumps({"encoder": {"hash": "cd" * 32}}))
    bad.write_text(json.dumps({"baselines": {}, "metric": "r2", "encoder": {"hash": digest}}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    for out, changes, message in (
        ("out", {"license": ""}, r"missing: --license \(or --samples"),
        ("out", {"data": " ", "license": ""}, "missing: --data, --license"),
        ("out", {"samples": [other]}, "was trained on samples with content hash"),
        ("out", {"scores": [wrong]}, r"wrong\.json scores the encoder cdcdcdcdcdcd…, but this one is"),
        ("out", {"scores": [nameless]}, r"which encoder it scores, but .*nameless\.json does not; give those that"),
        ("out", {"scores": [bad]}, "The report bad is not of the form"),
        ("full", {"overwrite": True}, "is no released encoder"),
        ("trained", {"overwrite": True}, "is, or holds, the checkpoint that is read"),
    ):
        before = sorted(path.name for path in tmp_path.rglob("*"))
        with pytest.raises(InputError, match=message):
            release(trained, tmp_path / out, **(SAID | changes))  # type: ignore[arg-type]
        assert sorted(path.name for path in tmp_path.rglob("*") if ".lock" not in path.name) == [
            name for name in before if ".lock" not in name
        ]
    release(trained, tmp_path / "out", **SAID)
    with pytest.raises(InputError, match="is a released encoder already"):
        release(tmp_path / "out", tmp_path / "twice", **SAID)
    assert "state that resuming needs" in _error(
        train, [tmp_path / "samples.h5"], tmp_path / "out", TrainConfig(), resume=True
    )
    with (tmp_path / "out" / "model.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"\x11")
    with pytest.raises(CorruptError, match="was altered"):
        load_encoder(tmp_path / "out")


def _error(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments, quiet=True, **options)
    return error.value.message


def test_the_command_releases(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["lookalike", "checkpoint", "release", str(trained), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--data", "drawn", "--license", "CC0-1.0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "MB of float16 weights and their card in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("/data/u/x.h5", "x.h5"),
        ("/data/u/", "u"),
        ("see /opt/secret/page.html, and 1/2", "see page.html, and 1/2"),
        ("../secret/x", "x"),
        ("../../secret/x.h5", "x.h5"),
        ("./secret/x", "x"),
        ("~/secret/x", "x"),
        ("~secret/x", "x"),
        ("$HOME/secret/x", "x"),
        ("${SECRET}/x", "x"),
        ("%SECRET%\\x", "x"),
        (r"C:\Users\secret\x.h5", "x.h5"),
        ("C:/data/secret/x.h5", "x.h5"),
        (r"C:\Users\secret name\x.h5", "x.h5"),
        (r"\\secret\share\x.h5", "x.h5"),
        ("file:///mnt/secret/x.h5", "x.h5"),
        ("file://secret/mnt/x", "x"),
        ("/mnt/secret name/other name/x.h5", "x.h5"),
        ("/mnt/secret@host/o'neil/x.h5", "x.h5"),
        ("a run of --samples=/mnt/secret/x.h5 (in /data/secret/y)", "a run of --samples=x.h5 (in y)"),
        ("secret/of/mine", "mine"),
        ("read secret/x.h5.", "read x.h5."),
        ("in arcsec/px, nanomaggies/px, 1/2, 3/4/5 and N/A", "in arcsec/px, nanomaggies/px, 1/2, 3/4/5 and N/A"),
        ("after https://arxiv.org/abs/2110.13151 (https://x.org/a/b.html)",) * 2,
        ("nothing of the kind", "nothing of the kind"),
        (0.5, 0.5),
        (None, None),
    ],
)
def test_paths_are_cut_down_to_names(given: object, left: object) -> None:
    assert without_folders(given) == left
    assert without_folders({"a": [given], "b": {"c": given}}) == {"a": [left], "b": {"c": left}}
    assert "secret" not in json.dumps(without_folders({"a": [given]}))


def test_what_is_named_as_a_path_is_cut_wherever_it_occurs() -> None:
    given = {
        "checkpoint": {"folder": "secret/mine", "hash": "ab"},
        "samples": {"files": ["my secrets/north", "x.h5"]},
        "notes": ["The pixel scale of secret/mine is not known.", "my secrets/north holds arcsec/px"],
        "inputs": {"/mnt/secret/x.h5": "cd"},
    }
    assert without_folders(given) == {
        "checkpoint": {"folder": "mine", "hash": "ab"},
        "samples": {"files": ["north", "x.h5"]},
        "notes": ["The pixel scale of mine is not known.", "north holds arcsec/px"],
        "inputs": {"x.h5": "cd"},
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Made with `lookalike train`, without labels.\n"),
        (
            {"start": Began(weights="imagenet.pth", hash="ab" * 32)},
            "Made with `lookalike train`, without labels, from the weights of imagenet.pth.\n",
        ),
        (
            {"train": {"imported": {"head": "none"}}},
            "Made elsewhere and taken in by `lookalike checkpoint import`; whether with labels is not recorded.\n",
        ),
    ],
)
def test_a_card_says_who_trained_the_encoder_as_far_as_is_known(changes: dict[str, Any], said: str) -> None:
    sees = Preprocess(kind="scaled", size=32, bands=("R", "G", "B"), dtype="uint8")
    config = CheckpointConfig(
        encoder=EncoderConfig(name="resnet10"), preprocess=sees, domain="galaxy", bands=sees.bands, **changes
    )
    text = card("mine", config, Data("drawn", "CC0-1.0"), {}, parameters=5, size=10, difference=1.04e-5)
    assert "a similarity changes by at most 2e-05." in text
    assert said in text
    assert text.count("Made ") == 1
    assert ("| began with | the weights of imagenet.pth |" in text) == ("start" in changes)


def test_a_released_encoder_is_fitted_to_smaller_pictures(trained: Path, blob_samples: Write, tmp_path: Path) -> None:
    release(trained, tmp_path / "given", **SAID)
    data = blob_samples("small.h5", n=20, size=40, seed=5, unit="display counts (0-255)", pixel_scale=0.2)
    samples = Samples(data)  # views of 24 px
    notes = adapt(tmp_path / "given", samples, tmp_path / "fitted")
    assert notes == [
        "given was trained on views of 32 px and sees 24 px here.",
        "given was trained on 8-bit pixels in no unit; these are in display counts (0-255) and are taken as they are.",
        f"The pixel scale of {tmp_path / 'given'} is not known; the encoder's and the data's are taken to be equal.",
    ]
    config, before = read_config(tmp_path / "fitted"), read_config(tmp_path / "given")
    assert config.preprocess == before.preprocess.model_copy(update={"size": 24, "unit": "display counts (0-255)"})
    assert config.train["adapted"] == {
        "from": "given", "hash": before.content_hash, "trained on size": 32, "trained on unit": "",
    }  # fmt: skip
    held = load_file(tmp_path / "given" / "model.safetensors")
    assert all(torch.equal(t, held[name]) for name, t in load_file(tmp_path / "fitted" / "model.safetensors").items())
    own, _ = get_domain("galaxy").settings(samples.about, 40, frozenset(samples.columns), "uint8")
    assert config.augment == own.model_dump(mode="json")
    assert embed([data], tmp_path / "fitted", tmp_path / "e.h5", quiet=True).n == 20
    found = compare_representations(samples, tmp_path / "fitted", quiet=True)
    assert all(len(hits) == 20 for hits in found.values())
    assert "adapted" in summary(tmp_path / "fitted")

    assert is_adapted(tmp_path / "fitted", tmp_path / "given", samples)
    assert not is_adapted(tmp_path / "fitted", tmp_path / "given", Samples(blob_samples("large.h5", n=8, size=64)))


def test_a_smaller_view_stays_as_it_was(trained: Path, blob_samples: Write, tmp_path: Path) -> None:
    samples = Samples(blob_samples("large.h5", n=12, size=64))  # views of 40 px
    assert adapt(trained, samples, tmp_path / "fitted") == []
    config = read_config(tmp_path / "fitted")
    assert config.preprocess.size == config.augment["size"] == 32
    assert compare_representations(samples, tmp_path / "fitted", quiet=True)["raw pixels"].shape == (12,)


def test_what_cannot_be_fitted_is_refused(trained: Path, blob_samples: Write, tmp_path: Path) -> None:
    mlp = TrainConfig.checked({"encoder": "mlp", **SMALL})
    train([tmp_path / "samples.h5"], tmp_path / "mlp", mlp, quiet=True)
    for of, changes, message in (
        (trained, {"bands": "gri"}, "trained on the bands R, G, B, but these samples hold g, r, i"),
        (trained, {"domain": "image"}, "trained on the domain galaxy"),
        (trained, {"dtype": "float32"}, "uint8 pixels, but float32"),
        (tmp_path / "mlp", {"size": 40}, "is an mlp of views of 32 px, but those of these pictures have 24 px"),
    ):
        samples = Samples(blob_samples("odd.h5", n=8, **({"size": 48} | changes)))
        with pytest.raises(InputError, match=message):
            adapt(of, samples, tmp_path / "fitted")
        assert not (tmp_path / "fitted").exists()


def test_released_encoders_are_looked_for_where_an_install_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel's data lie under the scheme's `data`: the environment's, or a person's own after `pip install --user`."""
    schemes = {sysconfig.get_default_scheme(): "all", sysconfig.get_preferred_scheme("user"): "mine"}
    assert len(schemes) == 2
    monkeypatch.setattr(
        released.sysconfig,
        "get_path",
        lambda name, scheme: str(tmp_path / schemes[scheme] / name),  # type: ignore[attr-defined]
    )
    for_all, mine = (tmp_path / where / "data" / "share" / "lookalike" / "checkpoints" for where in ("all", "mine"))
    assert released.places() == [ROOT / "checkpoints", for_all, mine]
    monkeypatch.setattr(released.lookalike, "__file__", str(tmp_path / "site-packages" / "lookalike" / "__init__.py"))  # type: ignore[attr-defined]
    assert released.places() == [for_all, mine]  # installed, there is no clone
    with pytest.raises(NotFoundError, match="Released there: none"):
        find_released("galaxy", ("R", "G", "B"))
    shutil.copytree(ROOT / "checkpoints" / "sdss-rgb", mine / "sdss-rgb")
    assert find_released("galaxy", ("R", "G", "B")) == mine / "sdss-rgb"


def test_released_encoders_are_found_by_domain_and_bands(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "clone", tmp_path / "installed"
    monkeypatch.setattr(released, "places", lambda: [first, second])
    with pytest.raises(NotFoundError, match="Released there: none"):
        find_released("galaxy", ("R", "G", "B"))
    for name in ("galaxy10", "galaxy9"):
        release(trained, second / name, **SAID)
    assert find_released("galaxy", ("R", "G", "B")) == second / "galaxy9"
    shutil.copytree(second / "galaxy10", first / "own")
    assert find_released("galaxy", ("R", "G", "B")) == first / "own"
    with pytest.raises(NotFoundError, match=r"bands g is released.*own \(galaxy, R, G, B\), galaxy9"):
        find_released("galaxy", ("g",))


RELEASED = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/config.json"))


def test_this_repository_releases_an_encoder() -> None:
    assert RELEASED


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_what_this_repository_releases_is_whole(folder: Path) -> None:
    _, config = load_encoder(folder)
    assert config.dtype == "float16"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 15e6
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert config.content_hash in card
    assert "## Scores\n\n###" in card
    assert describe(folder)["made"].keys() <= {"command", "inputs", "versions"}
    data_files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    assert data_files[f"share/lookalike/checkpoints/{folder.name}"] == [f"checkpoints/{folder.name}/*"]
