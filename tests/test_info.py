"""`lookalike info` for people: every fact once, in words and short hashes; the full record is its JSON."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lookalike import contents
from lookalike.contents import describe_all, in_brief
from lookalike.datasets import ingest
from lookalike.embeddings_folder import Manifest, Shard, write_manifest
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.indexer.index import Index
from lookalike.info import describe
from lookalike.provenance import record_path
from lookalike.samples import Samples
from lookalike.ssl.settings import TrainConfig, resolved
from lookalike.summary import summary
from lookalike.wording import counted


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


def test_a_build_record_says_of_what_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 3, 8, 8), np.uint8))
    ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", quiet=True)
    path = tmp_path / "s.h5.build.json"
    text = summary(path)
    assert text.startswith(f"{path}: lookalike build record\n")
    assert line(text, "tells of") == "s.h5, as it is there"
    assert line(text, "step") == "ingest numpy"
    assert describe(path)["made"] == describe(tmp_path / "s.h5")["made"]
    assert [inner["path"] for inner in describe_all(tmp_path)["files"]] == ["s.h5"]
    np.save(tmp_path / "b.npy", np.ones((3, 3, 8, 8), np.uint8))
    ingest("numpy", [tmp_path / "b.npy"], tmp_path / "t.h5", quiet=True)
    (tmp_path / "t.h5").rename(tmp_path / "s.h5")
    assert line(summary(path), "tells of") == "s.h5, but another one is there now"
    (tmp_path / "s.h5").unlink()
    assert line(summary(path), "tells of") == "s.h5, which is not there"
    path.write_text("[1]")
    for name, text in ((".build.json", "{}"), ("build.json", '{"name": "of another tool"}'), ("x.build.json", "{}")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="is not one of our files"):
            describe(tmp_path / name)
    with pytest.raises(CorruptError, match="is not a build record"):
        summary(path)


def test_an_index_and_its_embeddings(toy_index: Path) -> None:
    text, counts = summary(toy_index), Index(toy_index).manifest.counts
    assert line(text, "version") == "v000001, of 1 kept"
    assert line(text, "neighbors (k)") == "60 per object, within mag:0.5 of each object"
    assert line(text, "short lists").startswith(
        f"{counted(counts['short_lists'], 'object has', 'objects have')} fewer than k, "
    )
    assert line(text, "without a value") == "1 object, which is in no window"
    assert line(text, "checkpoint") == "not named: queries by picture are off"
    assert line(text, "samples").startswith("../samples.h5 ")
    assert line(text, "step") == "index"
    embeddings = summary(toy_index.parent / "embeddings.h5")
    assert line(embeddings, "vectors") == "3 dimensions, float32"


def test_the_approximate_stage_is_told_with_its_recall(toy_index: Path, tmp_path: Path) -> None:
    from lookalike.indexer.approximate import build_approximate

    shutil.copytree(toy_index.parent, tmp_path / "toy")
    index = tmp_path / "toy" / toy_index.name
    assert line(summary(index), "approximate").startswith("no such stage, so searches are exact")
    assert "of vectors that live searches read first, off by 0.0" in line(summary(index), "rounded")
    report = build_approximate(index, k=7, target=0.8, queries=50, quiet=True)
    at = next(one for one in report.recall if one.k == 7)
    assert line(summary(index), "approximate").startswith(
        f"{report.probes} of {counted(report.cells, 'cell')} looked into, chosen for recall@7 0.8: "
        f"measured {at.value:.3f} ({at.low:.3f}–{at.high:.3f}) with {at.queries} held-out queries; "
    )
    path = index / "extras" / "v000001" / "approximate.h5"
    path.write_bytes(path.read_bytes()[:900])
    assert "cannot be read" in line(summary(index), "approximate")


@pytest.mark.parametrize("other", [{}, {"of a later version": 1}])
def test_a_checkpoint_marks_what_is_not_the_default(tmp_path: Path, other: dict[str, int]) -> None:
    config = TrainConfig(temperature=0.3, queue=128, augment={"scaling": {"low": 0.8}})
    train = resolved(config, objects=1000, view_size=32, default_encoder="resnet18", turns=True).model_dump(mode="json")
    train |= other
    about = {
        "kind": "lookalike checkpoint",
        "schema_version": 1,
        "encoder": {"name": "resnet18", "channels": 1, "small_stem": False, "projection": 128},
        "preprocess": {"kind": "scaled", "size": 32, "bands": ["r"], "dtype": "uint8", "unit": ""},
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


def test_a_checkpoint_adapted_from_a_released_one_marks_nothing(tmp_path: Path) -> None:
    """Its settings are the released encoder's, its augmentations those of the data it was fitted to."""
    config = TrainConfig(temperature=0.3, augment={"scaling": {"low": 0.8}})
    train = resolved(config, objects=1000, view_size=48, default_encoder="resnet18", turns=True).model_dump(mode="json")
    about = {
        "kind": "lookalike checkpoint",
        "schema_version": 1,
        "encoder": {"name": "resnet18", "channels": 1, "small_stem": False, "projection": 128},
        "preprocess": {"kind": "scaled", "size": 32, "bands": ["r"], "dtype": "uint8", "unit": ""},
        "domain": "galaxy",
        "bands": ["r"],
        "augment": {"scaling": {"low": 0.9, "high": 1.1}},
        "train": train | {"adapted": {"from": "sdss", "hash": "b" * 64, "trained on size": 48, "trained on unit": ""}},
        "objects": 1000,
        "epoch": 2.0,
        "content_hash": "a" * 64,
    }
    (tmp_path / "model.safetensors").write_bytes(b"")
    for adapted in (about, about | {"train": {"adapted": 3}}, about | {"train": {"adapted": {}}}):
        (tmp_path / "config.json").write_text(json.dumps(adapted))
        text = summary(tmp_path)
        assert "*" not in text
        assert line(text, "augment.scaling.low") == "0.9"
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert line(summary(tmp_path), "adapted") == f"sdss {'b' * 12}…; trained on size 48; trained on unit none"
    assert line(summary(tmp_path), "temperature") == "0.3"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([], "does not describe a checkpoint of ours"),
        ({}, "does not describe a checkpoint of ours"),
        ({"encoder": 3}, r"config.json is damaged: Setting encoder\b"),
        ({"train": []}, r"config.json is damaged: Setting train\b"),
        ({"epoch": "many"}, r"config.json is damaged: Setting epoch\b"),
        ({"content_hash": None}, r"config.json is damaged: Setting content_hash\b"),
    ],
    ids=str,
)
def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path, broken: object, message: str) -> None:
    config = {
        "kind": "lookalike checkpoint",
        "schema_version": 1,
        "encoder": {"name": "resnet18", "channels": 1},
        "preprocess": {"kind": "scaled", "size": 32, "bands": ["r"], "dtype": "uint8"},
        "domain": "galaxy",
        "bands": ["r"],
    }
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps(config | {"train": {"augment": 3}}))
    assert line(summary(tmp_path), "encoder") == "resnet18, standard stem, 1 band"
    damaged = config | broken if isinstance(broken, dict) and broken else broken
    (tmp_path / "config.json").write_text(json.dumps(damaged))
    for describing in (summary, describe):
        with pytest.raises((CorruptError, InputError), match=message) as error:
            describing(tmp_path)
        assert "\n" not in error.value.message


@pytest.mark.parametrize(
    "record",
    [{"inputs": [1]}, {"settings": 3}, {"notes": "x"}, {"counts": []}, {"versions": None}, {"arguments": 1}, [], 3],
    ids=str,
)
def test_a_broken_record_is_named(toy_index: Path, tmp_path: Path, record: object) -> None:
    made = tmp_path / "s.h5"
    made.write_bytes((toy_index.parent / "samples.h5").read_bytes())
    record_path(made).write_text(json.dumps(record))
    for describing in (summary, describe):
        with pytest.raises(CorruptError, match=r"s.h5.build.json is not a build record"):
            describing(made)
    record_path(made).write_text('{"counts": {"bad": "x"}, "notes": [1], "inputs": {"a": 1}, "arguments": [null]}')
    assert line(summary(made), "left out") == "x bad"


def test_a_truncated_file_is_named(toy_index: Path, tmp_path: Path) -> None:
    for name in ("samples.h5", "embeddings.h5"):
        whole = (toy_index.parent / name).read_bytes()
        for length in (len(whole) // 2, len(whole) - 1, 2000):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(CorruptError, match=rf"{name} is not a readable"):
                summary(tmp_path / name)


def test_what_is_not_ours_is_refused_alike(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(InputError, match="is not one of our files"):
        summary(tmp_path / "x.h5")


def test_a_folder_of_ours_and_others_is_listed(toy_index: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(toy_index.parent, tmp_path / "made"))
    (made / "photos").mkdir()
    (made / "photos" / "a.png").write_bytes(b"PNG")
    (made / "notes.txt").write_text("hello")
    (made / ".hidden.h5").write_bytes((made / "samples.h5").read_bytes())
    (made / "late").mkdir()
    (made / "late" / "broken.h5").write_bytes((made / "samples.h5").read_bytes()[:3000])
    k, version = Index(toy_index).manifest.k, Index(toy_index).version
    shown = summary(made).splitlines()
    assert shown[0] == f"{made}: 4 files and folders of ours"
    assert [row.split()[:2] for row in shown[2:-1]] == [
        ["embeddings.h5", "embeddings"],
        ["index", "index"],
        ["late/broken.h5", "damaged"],
        ["samples.h5", "samples"],
    ]
    assert shown[2].endswith("200 objects, 3 dimensions, float32")
    assert shown[3].endswith(f"200 objects, k = {k}, window mag:0.5, {version}")
    assert "late/broken.h5 is not a readable HDF5 file" in shown[4]
    assert shown[5].endswith("200 objects, 3×32×32 uint8, galaxy")
    assert shown[6] == f"For more of one: lookalike info {made / 'embeddings.h5'}"
    found = describe_all(made)
    assert (found["kind"], found["complete"]) == ("folder", True)
    assert found["files"][1] == {"path": "index", **describe(made / "index")}
    assert describe_all(made / "index") == describe(made / "index")
    json.dumps(found, allow_nan=False)


def test_what_is_being_written_is_unfinished_and_not_damaged(toy_index: Path, tmp_path: Path) -> None:
    """An embeddings folder without its last shards, and weights whose description comes after them."""
    shutil.copy(toy_index.parent / "samples.h5", tmp_path)
    shards = tuple(Shard(file=f"{name}.h5", samples="ab", n=100) for name in "ab")
    plan = Manifest(dimensions=3, dtype="float32", layer="embedding", made_from={}, shards=shards)
    (tmp_path / "vectors").mkdir()
    write_manifest(tmp_path / "vectors", plan)
    shutil.copy(toy_index.parent / "embeddings.h5", tmp_path / "vectors" / "a.h5")
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"")
    (tmp_path / "broken.h5").write_bytes((toy_index.parent / "samples.h5").read_bytes()[:3000])
    shown = summary(tmp_path).splitlines()
    assert [row.split()[:2] for row in shown[2:-1]] == [
        ["broken.h5", "damaged"],
        ["encoder", "unfinished"],
        ["samples.h5", "samples"],
        ["vectors", "unfinished"],
    ]
    assert "encoder holds weights and no config.json, which comes after them" in shown[3]
    assert "is not complete: 1 of 2 shards are there. The same `lookalike embed` goes on" in shown[5]
    with pytest.raises(NotFoundError, match="is being written or copied"):
        describe(tmp_path / "encoder")


def onnx_file(about: object) -> bytes:
    """An ONNX file that holds nothing but our description, in protobuf's wire format."""

    def field(number: int, value: bytes) -> bytes:
        length, size = b"", len(value)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + value

    return field(14, field(1, b"lookalike") + field(2, json.dumps(about).encode()))


def test_an_export_says_what_it_is(tmp_path: Path) -> None:
    about = {
        "layer": "embedding",
        "encoder": {"name": "resnet18", "channels": 1},
        "preprocess": {"kind": "scaled", "size": 32, "bands": ["r"], "dtype": "uint8"},
        "domain": "galaxy",
        "content_hash": "0123456789abcdef",
    }
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_file(about))
    text = summary(path)
    assert text.startswith(f"{path}: lookalike ONNX export\n")
    assert line(text, "input") == "images, uint8 (B, 1, at least 32, at least 32), bands r"
    assert line(text, "checkpoint") == "0123456789ab…"
    assert re.search(r"m\.onnx +ONNX export +embedding of resnet18, 1 band\n", summary(tmp_path))
    for broken in ({}, about | {"encoder": 3}, about | {"preprocess": {"size": "x"}}, {"layer": "embedding"}):
        path.write_bytes(onnx_file(broken))
        with pytest.raises(CorruptError, match=r"m\.onnx does not say in full what it is; export it again\."):
            summary(path)
    for foreign in (b"hello", onnx_file([]), b""):
        path.write_bytes(foreign)
        with pytest.raises(InputError, match="is not one of our files"):
            summary(path)


def test_a_checkpoint_is_found_one_folder_further_in(tmp_path: Path) -> None:
    named = tmp_path / "checkpoints" / "mine"
    named.mkdir(parents=True)
    (named / "model.safetensors").write_bytes(b"")
    config = {
        "kind": "lookalike checkpoint",
        "schema_version": 1,
        "encoder": {"name": "resnet18", "channels": 1},
        "preprocess": {"kind": "scaled", "size": 32, "bands": ["r"], "dtype": "uint8"},
        "domain": "galaxy",
        "bands": ["r"],
        "epoch": 1.0,
        "objects": 1200,
    }
    (named / "config.json").write_text(json.dumps(config))
    shown = summary(tmp_path)
    assert shown.startswith(f"{tmp_path}: 1 file or folder of ours\n")
    assert re.search(r"checkpoints/mine +checkpoint +resnet18, 1 band of 32 px, 1 epoch on 1,200 objects\n", shown)
    (named / "config.json").write_text(json.dumps(config | {"train": {"imported": {"head": "none"}}}))
    assert re.search(r"1 band of 32 px, imported\n", summary(tmp_path))


def test_a_folder_with_nothing_of_ours_is_refused_and_a_large_one_not_searched_for_long(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="is not one of our files"):
        describe_all(tmp_path)
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("hello")
    (tmp_path / "0.h5").write_bytes((toy_index.parent / "samples.h5").read_bytes())
    monkeypatch.setattr(contents, "LOOKED_AT", 4)
    found = describe_all(tmp_path)
    assert (len(found["files"]), found["looked_at"], found["complete"]) == (1, 4, False)
    assert "Only the first 4 entries were looked at." in summary(tmp_path)


def test_what_is_nearer_is_looked_at_first_and_folders_take_turns(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(20):
            (tmp_path / folder / f"{number}.png").write_bytes(b"PNG")
    for place in ("z.h5", "b/1.h5"):
        (tmp_path / place).write_bytes((toy_index.parent / "samples.h5").read_bytes())
    monkeypatch.setattr(contents, "LOOKED_AT", 9)  # a, b, z.h5; a/0 and b/0, a/1 and b/1.h5, which is before 1.png
    found = describe_all(tmp_path)
    assert [inner["path"] for inner in found["files"]] == ["b/1.h5", "z.h5"]
    assert not found["complete"]


def test_a_set_encoder_is_described_by_its_widths(tmp_path: Path) -> None:
    config = {
        "kind": "lookalike checkpoint",
        "schema_version": 1,
        "encoder": {"name": "set", "channels": 1, "set": {"features": 3, "particle": [8], "hidden": [6, 6]}},
        "preprocess": {
            "kind": "particles", "size": 2, "bands": ["pt", "eta"], "dtype": "float32", "scales": ["log", "linear"],
        },
        "domain": "event",
        "bands": ["pt", "eta"],
    }  # fmt: skip
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert line(summary(tmp_path), "encoder") == "set, 2 → 8 of each particle → 6 → 6 → 256"
    config["encoder"]["untrained_half"] = True  # type: ignore[index]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert line(summary(tmp_path), "encoder").endswith("→ 256, half of the embedding untrained")
    assert in_brief(describe(tmp_path))[1] == "set, particles of 2 numbers, 0 epochs on 0 objects"


@pytest.mark.parametrize(
    ("preprocess", "domain", "brief"),
    [
        (
            {"kind": "record", "scales": ["linear"] * 3, "bands": ["a", "b", "c"], "size": 3, "dtype": "float32"},
            "event",
            "records of 3 numbers",
        ),
        ({"kind": "jet", "size": 75, "jets": 2}, "jet", "2 jet images of 75 px"),
        ({"kind": "scaled", "bands": ["r"], "size": 32, "dtype": "uint8"}, "image", "1 band of 32 px"),
    ],
)
def test_what_an_encoder_is_given_is_called_what_it_is(preprocess: dict[str, object], domain: str, brief: str) -> None:
    found = {"encoder": {"name": "mlp", "channels": 1}, "preprocess": preprocess, "domain": domain}
    assert in_brief({"kind": "lookalike checkpoint", **found})[1] == f"mlp, {brief}, 0 epochs on 0 objects"
