"""ONNX files compute what torch does, from stored pixels, for any batch and picture size; else none is written."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike import cli
from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import InputError, LookalikeError, NotFoundError
from lookalike.installing import install_extra
from lookalike.onnx_files import read_about
from lookalike.provenance import read_record, recorded_hash
from lookalike.ssl import exporting
from lookalike.ssl.architectures import EncoderConfig, Places
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, save_encoder
from lookalike.ssl.embed import embed_objects
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.exporting import TOLERANCE, export_onnx

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

LUPTON = Preprocess(
    kind="lupton", size=32, bands=("g", "r", "z"), dtype="float32", unit="nanomaggy", pixel_scale=0.262,
    scales=(6.0, 3.4, 2.2),
)  # fmt: skip
SCALED = Preprocess(kind="scaled", size=24, bands=("R", "G"), dtype="uint8", divisor=255, mean=0.4, std=0.2)


def checkpoint(
    folder: Path,
    preprocess: Preprocess,
    *,
    small: bool = False,
    orientations: Literal[1, 8] = 1,
    places: Places | None = None,
    train: dict[str, Any] | None = None,
) -> Path:
    """An encoder with batch-norm statistics unlike a new one's."""
    torch.manual_seed(0)
    about = EncoderConfig(
        name="resnet10",
        channels=len(preprocess.bands),
        small_stem=small,
        projection=16,
        orientations=orientations,
        places=places,
    )
    encoder = Encoder(about)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    folder.mkdir()
    config = CheckpointConfig(
        encoder=encoder.config, preprocess=preprocess, domain="galaxy", bands=preprocess.bands, train=train or {}
    )
    save_encoder(folder, encoder, config)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedding of a Lupton encoder; its checkpoint lies beside it."""
    folder = tmp_path_factory.mktemp("onnx")
    report = export_onnx(checkpoint(folder / "checkpoint", LUPTON), folder / "model.onnx")
    assert (report.layer, report.dimensions) == ("embedding", 512)
    assert report.bytes == (folder / "model.onnx").stat().st_size
    assert report.difference <= TOLERANCE
    return folder / "model.onnx"


def computed(path: Path, images: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {"images": images})
    return vectors  # type: ignore[no-any-return]


def compare(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Equal to 1e-4 of each vector's largest number, and not all alike."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    scale = np.abs(wanted).max(axis=1, keepdims=True)
    np.testing.assert_allclose(found / scale, wanted / scale, rtol=0, atol=1e-4)
    assert len(wanted) == 1 or np.abs(wanted[0] - wanted[1]).max() > 1e-2 * scale[0]


@pytest.mark.parametrize(("B", "H", "W"), [(1, 32, 32), (4, 33, 32), (9, 40, 47), (2, 152, 152)])
def test_the_file_computes_what_embedding_does(exported: Path, B: int, H: int, W: int) -> None:
    images = np.random.default_rng(B).normal(0.02, 0.1, (B, 3, H, W)).astype(np.float32)
    compare(computed(exported, images), embed_objects(images, *load_encoder(exported.parent / "checkpoint")))


def test_the_projection_of_a_small_stem_from_uint8(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", SCALED, small=True)
    report = export_onnx(folder, tmp_path / "p.onnx", layer="projection")
    assert report.dimensions == 16
    assert report.input == "uint8 pixels (B, 2, ≥24, ≥24)"
    for B, H, W in ((1, 24, 24), (5, 31, 26)):
        images = np.random.default_rng(B).integers(0, 256, (B, 2, H, W)).astype(np.uint8)
        found = computed(tmp_path / "p.onnx", images)
        compare(found, embed_objects(images, *load_encoder(folder), layer="projection"))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_eight_orientations_are_in_the_file(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", SCALED, orientations=8)
    export_onnx(folder, tmp_path / "o.onnx")
    images = np.random.default_rng(3).integers(0, 256, (4, 2, 24, 24)).astype(np.uint8)
    found = computed(tmp_path / "o.onnx", images)
    compare(found, embed_objects(images, *load_encoder(folder)))
    compare(computed(tmp_path / "o.onnx", np.rot90(images, 1, (2, 3)).copy()), found)


@pytest.mark.parametrize("places", [Places(stage=1, grid=4), Places(stage=2, grid=2)])  # of maps of 6 and 3 px
def test_places_are_in_the_file(tmp_path: Path, places: Places) -> None:
    folder = checkpoint(tmp_path / "checkpoint", SCALED, places=places)
    export_onnx(folder, tmp_path / "p.onnx")
    images = np.random.default_rng(3).integers(0, 256, (4, 2, 24, 24)).astype(np.uint8)
    compare(computed(tmp_path / "p.onnx", images), embed_objects(images, *load_encoder(folder)))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_bands_with_a_mean_and_std_each(tmp_path: Path, dtype: str) -> None:
    given = SCALED.model_copy(update={"mean": (0.4, 0.6), "std": (0.2, 0.4), "dtype": dtype})
    folder = checkpoint(tmp_path / "checkpoint", given)
    export_onnx(folder, tmp_path / "m.onnx")
    images = np.random.default_rng(3).integers(0, 256, (4, 2, 24, 24)).astype(dtype)
    compare(computed(tmp_path / "m.onnx", images), embed_objects(images, *load_encoder(folder)))


def test_the_file_describes_itself(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    (told,) = [json.loads(entry.value) for entry in model.metadata_props if entry.key == "lookalike"]
    _, config = load_encoder(exported.parent / "checkpoint")
    assert Preprocess.checked(told["preprocess"]) == LUPTON
    assert (told["layer"], told["domain"], told["content_hash"]) == ("embedding", "galaxy", config.content_hash)
    assert told["encoder"]["name"] == "resnet10"
    (images,), (vectors,) = model.graph.input, model.graph.output
    assert (images.name, vectors.name) == ("images", "embedding")
    sizes = [axis.dim_value or axis.dim_param for axis in images.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "height", "width"]
    assert not re.search(rb"site-packages|\.py:|stack_trace", exported.read_bytes())  # nothing of this machine
    record = read_record(exported)
    assert record is not None
    assert record["inputs"] == {"checkpoint": config.content_hash}


def test_nothing_else_is_replaced(exported: Path, tmp_path: Path) -> None:
    folder = exported.parent / "checkpoint"
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "link").symlink_to(folder)
    for out in (folder / "model.safetensors", folder / "m.onnx", tmp_path / "link" / "config.json"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="lies within the checkpoint that is read; choose another --out"):
                export_onnx(folder, out, overwrite=overwrite)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held
    (tmp_path / "s.h5").write_bytes(b"samples")
    (tmp_path / "empty.onnx").touch()
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    onnx.save(made, tmp_path / "theirs.onnx")
    for name in ("s.h5", "empty.onnx", "theirs.onnx"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match=rf"{name} is there already and is no ONNX export of ours\. Choose anoth"):
            export_onnx(folder, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    other = checkpoint(tmp_path / "other", SCALED)
    with pytest.raises(InputError, match="made with other layer and checkpoint"):
        export_onnx(other, exported, layer="projection")


def test_an_export_is_made_anew_and_replaces_what_it_is_told_to(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", SCALED)
    (tmp_path / "m.onnx").write_bytes(b"anything")
    first = export_onnx(folder, tmp_path / "m.onnx", overwrite=True)
    assert export_onnx(folder, tmp_path / "m.onnx").content_hash == first.content_hash
    record = read_record(tmp_path / "m.onnx")
    assert record is not None
    assert record["content_hash"] == first.content_hash == recorded_hash(tmp_path / "m.onnx")
    data = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(data + onnx.ModelProto(producer_version="2").SerializeToString())
    assert read_record(tmp_path / "m.onnx") is None  # it tells of another file


def test_what_a_file_says_of_itself_is_what_onnx_reads(exported: Path, tmp_path: Path) -> None:
    (entry,) = onnx.load(exported).metadata_props
    assert read_about(exported) == json.loads(entry.value)
    data = exported.read_bytes()
    for name, other in {
        "cut": data[:-9],
        "no": b"",
        "text": b"x" * 99,
        "ours": data.replace(b"lookalike", b"lookafter"),
    }.items():
        (tmp_path / name).write_bytes(other)
        assert read_about(tmp_path / name) is None
    assert read_about(tmp_path) is None
    assert read_about(tmp_path / "nowhere") is None


def test_a_file_that_differs_is_not_written(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another encoder's file computes is not within the tolerance, and NaN is not either."""
    folder = checkpoint(tmp_path / "checkpoint", LUPTON)
    encoder, config = load_encoder(folder)
    for change in (1.01, float("nan")):
        with torch.no_grad():
            encoder.backbone.layer2[0].bn1.weight.mul_(change)  # type: ignore[union-attr, index, operator]
        save_encoder(folder, encoder, config)
        monkeypatch.setattr(exporting, "_translated", lambda *_: exported.read_bytes())
        with pytest.raises(
            LookalikeError, match=r"must agree with torch to 0.0001, but differs by .*nothing was written"
        ):
            export_onnx(folder, tmp_path / "m.onnx")
        assert not (tmp_path / "m.onnx").exists()


def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "checkpoint", SCALED, train={"imported": {"head": "none"}})
    with pytest.raises(InputError, match=r"Unknown layer 'head'.*Choices: embedding, projection"):
        export_onnx(folder, tmp_path / "m.onnx", layer="head")
    with pytest.raises(InputError, match="imported without a projection head"):
        export_onnx(folder, tmp_path / "m.onnx", layer="projection")
    with pytest.raises(NotFoundError, match="does not exist"):
        export_onnx(tmp_path / "nowhere", tmp_path / "m.onnx")
    with pytest.raises(InputError, match="is a folder"):
        export_onnx(folder, tmp_path)
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "onnx" in name else find(name, *rest))
    monkeypatch.setattr(
        "sys.argv", ["lookalike", "checkpoint", "export", str(folder), "--out", str(tmp_path / "m.onnx")]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    install = install_extra("onnx")
    wanted = f"lookalike: Exporting needs onnx, onnxscript, onnxruntime; install them with: {install}\n"
    assert (ended.value.code, printed.out, printed.err) == (2, "", wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
