"""Checkpoints: what is written is read back; anything altered, foreign or hostile is a typed error."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.files import atomic_folder, lock
from lookalike.hashing import content_hash
from lookalike.ssl import checkpoint as checkpoint_module
from lookalike.ssl.checkpoint import (
    MAX_HEADER,
    CheckpointConfig,
    load_encoder,
    load_state,
    read_config,
    save_encoder,
    save_state,
)
from lookalike.ssl.encoders import Encoder, EncoderConfig

BANDS = ("g", "r")


def made(folder: Path) -> Path:
    """A checkpoint folder of an untrained encoder of two bands."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(channels=2, projection=8))
    config = CheckpointConfig(
        encoder=encoder.config,
        preprocess=Preprocess(kind="flux", size=16, bands=BANDS, dtype="float32"),
        domain="galaxy",
        bands=BANDS,
        augment={"size": {"low": 0.9}, "pair": (1, 2.5)},
        train={"lr": 0.03},
        samples_hash="ab" * 32,
        epoch=1.5,
    )
    folder.mkdir()
    save_encoder(folder, encoder, config)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("checkpoint") / "one")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def test_round_trip(original: Path) -> None:
    encoder, config = load_encoder(original)
    assert not encoder.training
    torch.manual_seed(0)
    fresh = Encoder(EncoderConfig(channels=2, projection=8)).eval()
    x = torch.randn(2, 2, 16, 16)
    assert torch.equal(encoder(x)[0], fresh(x)[0])
    assert (config.epoch, config.bands, config.augment["pair"]) == (1.5, BANDS, [1, 2.5])
    assert (original / "model.safetensors").stat().st_mode & 0o044  # others may read it


def test_equal_checkpoints_have_equal_hashes(original: Path, tmp_path: Path) -> None:
    assert read_config(made(tmp_path / "two")).content_hash == read_config(original).content_hash


def test_what_earlier_versions_wrote_keeps_its_hash(folder: Path) -> None:
    """Fields that came later are left out where they say nothing, so that the hash is over what it was over."""
    values = json.loads((folder / "config.json").read_text())
    assert values.keys() == {
        "kind", "schema_version", "encoder", "preprocess", "domain", "bands", "augment", "train", "samples_hash",
        "objects", "epoch", "step", "content_hash",
    }  # fmt: skip
    assert values["encoder"].keys() == {"name", "channels", "small_stem", "projection"}
    tensors = {name: np.atleast_1d(tensor.numpy()) for name, tensor in load_file(folder / "model.safetensors").items()}
    del values["content_hash"]
    assert content_hash(tensors, values) == load_encoder(folder)[1].content_hash


def test_float16_weights_are_computed_with_as_float32(original: Path, tmp_path: Path) -> None:
    encoder, config = load_encoder(original)
    half = config.model_copy(update={"dtype": "float16"})
    saved = save_encoder(tmp_path, encoder, half)
    stored = load_file(tmp_path / "model.safetensors")
    types = {name: tensor.dtype for name, tensor in stored.items()}
    assert types["backbone.conv1.weight"] == types["head.2.weight"] == torch.float16
    assert types["backbone.bn1.running_var"] == types["head.2.bias"] == torch.float32
    assert types["backbone.bn1.num_batches_tracked"] == torch.int64
    again, found = load_encoder(tmp_path)
    assert (found.dtype, found.content_hash) == ("float16", saved.content_hash)
    assert saved.content_hash != config.content_hash
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, stored[name].to(tensor.dtype)), name
        assert tensor.dtype == encoder.state_dict()[name].dtype
    x = torch.randn(4, 2, 16, 16)
    torch.testing.assert_close(again(x)[0], encoder(x)[0], rtol=0.01, atol=0.01)

    edit(tmp_path, lambda c: c.pop("dtype"))
    with pytest.raises(CorruptError, match="does not hold the encoder its config"):
        load_encoder(tmp_path)
    with torch.no_grad():
        encoder.backbone.conv1.weight[0] = 1e5
    with pytest.raises(InputError, match=r"as float16 those of 'backbone\.conv1\.weight' are not"):
        save_encoder(tmp_path, encoder, half)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.update(kind="other"), InputError, "does not describe a checkpoint of ours"),
        (lambda c: c.update(schema_version=2), InputError, "has schema 2; this version reads schema 1"),
        (lambda c: c.pop("encoder"), CorruptError, "is damaged: Setting encoder"),
        (lambda c: c.update(extra=1), CorruptError, "Unknown setting 'extra'"),
        (lambda c: c["encoder"].update(name="resnet1000"), CorruptError, "an encoder that cannot be"),
        (lambda c: c["encoder"].update(channels=3), CorruptError, "an encoder that cannot be"),
        (lambda c: c["encoder"].update(projection=10**9), CorruptError, "an encoder that cannot be"),
        (lambda c: c["encoder"].update(name="resnet34"), CorruptError, "does not hold the encoder"),
        (lambda c: c["encoder"].update(projection=16), CorruptError, r"does not hold the encoder.*head.2.*\(8,\)"),
        (lambda c: c.update(epoch=2.0), CorruptError, "was altered: its content hash"),
        (lambda c: c["train"].update(lr=0.3), CorruptError, "was altered: its content hash"),
        (lambda c: c["preprocess"].update(size=24), CorruptError, "was altered: its content hash"),
    ],
)
def test_an_altered_description_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], error: type[LookalikeError], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(error, match=message):
        load_encoder(folder)


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist; make one with `lookalike train`"):
        load_encoder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="is not a checkpoint folder"):
        load_encoder(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"model\.safetensors"):
        load_encoder(folder)


def hostile_files() -> dict[str, bytes]:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return {
        "empty": b"",
        "pickle": pickle.dumps({"state_dict": [1, 2, 3]}),
        "50 MB header": struct.pack("<Q", 50 << 20) + b"{",
        "endless header": struct.pack("<Q", 2**63) + b"{}",
        "no JSON": struct.pack("<Q", 4) + b"\xff\xfe\x00\x00",
        "a list": struct.pack("<Q", 2) + b"[]",
        "a shape that is none": struct.pack("<Q", 35) + b'{"a": {"shape": 5, "dtype": "F32"}}',
        "a type that is none": struct.pack("<Q", 34) + b'{"a": {"shape": [5], "dtype": []}}',
        "a number": struct.pack("<Q", 9) + b'{"a": 1.}',
        "deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "another tensor": struct.pack("<Q", len(header)) + header + bytes(8),
        "no data": struct.pack("<Q", len(header)) + header,
    }


@pytest.mark.parametrize("name", hostile_files())
def test_hostile_weights_are_refused_quickly(folder: Path, name: str) -> None:
    (folder / "model.safetensors").write_bytes(hostile_files()[name])
    start = time.monotonic()
    with pytest.raises(CorruptError, match=r"model\.safetensors"):
        load_encoder(folder)
    assert time.monotonic() - start < 10
    assert MAX_HEADER == 2**20


def test_tensors_that_lie_about_their_shape_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"head.2.bias": torch.zeros(9)}, folder / "model.safetensors")
    with pytest.raises(CorruptError, match=r"1 tensors differ, first 'head.2.bias' \(\(9,\) for \(8,\)\)"):
        load_encoder(folder)
    save_file(weights | {"head.2.bias": torch.zeros(8, dtype=torch.int64)}, folder / "model.safetensors")
    with pytest.raises(CorruptError, match="1 tensors differ"):
        load_encoder(folder)


def test_any_flipped_byte_is_noticed(folder: Path) -> None:
    """30 random bits of the weights' file, header and data: a typed error each time, never other weights."""
    whole = (folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    random_places = random.Random(0)
    for number in range(30):
        place = random_places.randrange(header) if number < 15 else random_places.randrange(header, len(whole))
        altered = bytearray(whole)
        altered[place] ^= 1 << random_places.randrange(8)
        (folder / "model.safetensors").write_bytes(altered)
        with pytest.raises(CorruptError):
            load_encoder(folder)
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(CorruptError):
        load_encoder(folder)


def test_state_round_trip_and_damage(tmp_path: Path) -> None:
    tensors = {"queue": torch.randn(4, 3), "queue_ptr": torch.tensor([2])}
    wanted = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    save_state(tmp_path, tensors, {"step": 7})
    found, info = load_state(tmp_path, wanted)
    assert info == {"step": 7}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    text = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text(text.replace('"step": 7', '"step": 8'))
    with pytest.raises(CorruptError, match="was altered"):
        load_state(tmp_path, wanted)
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(CorruptError, match="is damaged"):
        load_state(tmp_path, wanted)


def test_a_reader_meets_a_folder_between_its_two_renames(folder: Path) -> None:
    """Its writer killed there: the old one is put back. Its writer alive: the reader waits for it."""
    aside = folder.with_name(f".{folder.name}.old.partial")
    folder.rename(aside)
    assert load_encoder(folder)[1].epoch == 1.5
    assert folder.exists()
    assert not aside.exists()

    started = threading.Event()

    def writer() -> None:
        with lock(folder):
            folder.rename(aside)
            started.set()
            time.sleep(0.3)
            aside.rename(folder)

    thread = threading.Thread(target=writer)
    thread.start()
    started.wait()
    assert load_encoder(folder)[1].epoch == 1.5
    thread.join()


def test_a_reader_never_mixes_two_checkpoints(original: Path, tmp_path: Path) -> None:
    """While another process replaces the folder again and again, each read gives one checkpoint or the other."""
    folder, other = tmp_path / "living", tmp_path / "other"
    for place, epoch in ((folder, 1.5), (other, 2.5)):
        shutil.copytree(original, place)
        encoder, config = load_encoder(place)
        with torch.no_grad():
            encoder.head[2].bias.fill_(epoch)
        save_encoder(place, encoder, config.model_copy(update={"epoch": epoch}))
    stop = threading.Event()

    def writer() -> None:
        while not stop.is_set():
            source = other if read_config(folder).epoch == 1.5 else original.with_name("first")
            with lock(folder), atomic_folder(folder) as temporary:
                for file in source.iterdir():
                    shutil.copyfile(file, temporary / file.name)
            time.sleep(0.05)

    shutil.copytree(folder, original.with_name("first"))
    thread = threading.Thread(target=writer)
    thread.start()
    seen = set()
    try:
        for _ in range(20):
            encoder, config = load_encoder(folder)
            assert float(encoder.head[2].bias[0].detach()) == config.epoch  # type: ignore[union-attr, index, operator]
            seen.add(config.epoch)
    finally:
        stop.set()
        thread.join()
    assert seen == {1.5, 2.5}


def test_a_folder_replaced_between_description_and_weights_is_read_again(
    original: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer strikes exactly there, once: the reader gives the new checkpoint, not an error."""
    new = folder.with_name("new")
    shutil.copytree(original, new)
    encoder, config = load_encoder(new)
    with torch.no_grad():
        encoder.head[2].bias.fill_(9)  # type: ignore[union-attr, operator]
    save_encoder(new, encoder, config.model_copy(update={"epoch": 9.0}))
    read, struck = checkpoint_module.read_tensors, []

    def late(path: Path, expected: Any) -> dict[str, torch.Tensor]:
        if not struck:
            struck.append(path)
            with atomic_folder(folder) as temporary:
                shutil.copytree(new, temporary, dirs_exist_ok=True)
        return read(path, expected)

    monkeypatch.setattr(checkpoint_module, "read_tensors", late)
    encoder, config = load_encoder(folder)
    assert (config.epoch, float(encoder.head[2].bias.detach()[0])) == (9.0, 9.0)  # type: ignore[union-attr, operator]


def test_a_reader_through_a_link_waits_too(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "best"
    link.parent.mkdir()
    link.symlink_to(folder)
    folder.rename(folder.with_name(f".{folder.name}.old.partial"))  # its writer was killed between the renames
    assert load_encoder(link)[1].epoch == 1.5
