"""`lookalike info` for people: every fact once, in words and short hashes; the full record is its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lookalike.datasets import ingest
from lookalike.errors import InputError
from lookalike.indexer.index import Index
from lookalike.samples import Samples
from lookalike.ssl.settings import TrainConfig, resolved
from lookalike.summary import summary


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def line(text: str, name: str) -> str:
    """What stands beside a name."""
    found = re.findall(rf"^  {re.escape(name)} +(.*)$", text, re.MULTILINE)
    assert len(found) == 1, (name, text)
    return str(found[0])


def test_samples(toy_index: Path) -> None:
    path = toy_index.parent / "samples.h5"
    text = summary(path)
    assert text.startswith(f"{path}: lookalike samples\n")
    assert line(text, "objects") == "200"
    assert line(text, "pictures") == "3 × 32 × 32 (bands × height × width, px), uint8"
    assert line(text, "pixel scale") == "0.1 arcsec/px"
    assert line(text, "content hash") == f"{Samples(path).content_hash[:12]}…"
    assert line(text, "column").split() == ["type", "unit", "missing", "description"]
    assert line(text, "mag").split(maxsplit=3) == ["number", "mag", "1", "Magnitude the blob was drawn with"]
    assert line(text, "label").startswith("text ")
    assert text.endswith("Made by: not recorded here")
    assert not re.search(r"[0-9a-f]{13}|[{}\[\]\"]", text)


def test_what_made_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 3, 8, 8), np.uint8))
    (tmp_path / "t.csv").write_text('mag\n1\n""\n2\n')
    ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", catalog=tmp_path / "t.csv", quiet=True)
    text = summary(tmp_path / "s.h5")
    assert line(text, "step") == "ingest numpy"
    assert re.search(r"a\.npy sha256:[0-9a-f]{12}…, .*t\.csv sha256:[0-9a-f]{12}…$", line(text, "inputs"))
    assert line(text, "versions").startswith("lookalike ")
    assert line(text, "notes") == "Without a value (NaN or blank), of 3 objects: mag 1."


def test_an_index_and_its_embeddings(toy_index: Path) -> None:
    text, counts = summary(toy_index), Index(toy_index).manifest.counts
    assert line(text, "version") == "v000001, of 1 kept"
    assert line(text, "neighbors (k)") == "60 per object, within mag:0.5 of each object"
    assert line(text, "short lists").startswith(f"{counts['short_lists']} objects have fewer than k, ")
    assert line(text, "without a value") == "1 objects, which are in no window"
    assert line(text, "checkpoint") == "not named: queries by picture are off"
    assert line(text, "samples").startswith("../samples.h5 ")
    assert line(text, "step") == "index"
    embeddings = summary(toy_index.parent / "embeddings.h5")
    assert line(embeddings, "vectors") == "3 dimensions, float32"


@pytest.mark.parametrize("other", [{}, {"of a later version": 1}])
def test_a_checkpoint_marks_what_is_not_the_default(tmp_path: Path, other: dict[str, int]) -> None:
    config = TrainConfig(temperature=0.1, queue=128, augment={"scaling": {"low": 0.8}})
    train = resolved(config, objects=1000, view_size=32, default_encoder="resnet18").model_dump(mode="json") | other
    about = {
        "kind": "lookalike checkpoint",
        "encoder": {"name": "resnet18", "channels": 1, "small_stem": False, "projection": 128},
        "preprocess": {"size": 32, "dtype": "uint8", "unit": ""},
        "domain": "galaxy",
        "bands": ["r"],
        "augment": {"scaling": {"low": 0.8, "high": 1.1}, "noise": {"enabled": False, "bands": {}}},
        "train": train,
        "objects": 1000,
        "epoch": 2.5,
        "step": 37,
        "content_hash": "a" * 64,
    }
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps(about))
    text = summary(tmp_path)
    assert line(text, "trained") == "2.5 epochs, 37 steps on 1,000 objects"
    assert line(text, "augment.noise") == "off"
    assert line(text, "augment.scaling.low") == "0.8 *"
    assert line(text, "augment.scaling.high") == "1.1"
    marked = set(re.findall(r"^  (\w+) .* \*$", text, re.MULTILINE))
    assert marked == (set() if other else {"temperature", "queue"})
    assert line(text, "momentum") == f"{train['momentum']:.4g}"


def test_what_is_not_ours_is_refused_alike(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(InputError, match="is not one of our files"):
        summary(tmp_path / "x.h5")
