"""Embedding shard by shard, ahead of reading and with batch norm folded, against the plain definition of each."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from lookalike.augmentations import get_domain
from lookalike.augmentations.preprocess import asinh
from lookalike.embeddings import Embeddings, normalize
from lookalike.embeddings_folder import read_manifest, write_manifest
from lookalike.embeddings_writer import EmbeddingsWriter
from lookalike.errors import CollapsedError, CorruptError, InputError, LockedError
from lookalike.files import lock
from lookalike.indexer.audit import verify
from lookalike.indexer.index import build_index
from lookalike.info import describe
from lookalike.probes.representations import represent
from lookalike.provenance import read_record
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl import embed_folder as folder_module
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, save_encoder
from lookalike.ssl.embed import embed, embed_objects
from lookalike.ssl.encoders import Encoder, EncoderConfig
from lookalike.ssl.inference import Inference, cut, default_batch, fold_batch_norm, vectors_of
from lookalike.summary import summary

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
Children = multiprocessing.context.ForkServerContext
LENGTHS = {"part1.h5": 20, "part2.h5": 9, "part10.h5": 17}  # in the order they are read


@pytest.fixture
def shards(blob_samples: Write) -> list[Path]:
    return [blob_samples(name, n=n, seed=n, pixel_scale=0.262) for name, n in LENGTHS.items()]


@pytest.fixture
def checkpoint(shards: list[Path], tmp_path: Path) -> Path:
    """An untrained ResNet-10 for the drawn galaxies (views of 16 of 24 px)."""
    samples, domain = Samples(shards), get_domain("galaxy")
    settings, _ = domain.settings(samples.about, 24, frozenset(samples.columns), "uint8")
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(name="resnet10", projection=8))
    unlike_new(encoder)
    config = CheckpointConfig(
        encoder=encoder.config,
        preprocess=domain.preprocess(samples.about, settings),
        domain="galaxy",
        bands=samples.about.bands,
    )
    (tmp_path / "checkpoint").mkdir()
    save_encoder(tmp_path / "checkpoint", encoder, config)
    return tmp_path / "checkpoint"


def unlike_new(module: nn.Module) -> None:
    """Give batch norm the statistics and weights that training might."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            with torch.no_grad():
                for values in (norm.running_mean, norm.bias):
                    values.normal_(0, 0.3)
                for values in (norm.running_var, norm.weight):
                    values.uniform_(0.3, 2)


@pytest.mark.parametrize("name", ["resnet10", "resnet34", "resnet50"])
@pytest.mark.parametrize("small_stem", [False, True])
def test_folded_batch_norm_gives_the_same_vectors(name: str, small_stem: bool) -> None:
    torch.manual_seed(1)
    encoder = Encoder(EncoderConfig(name=name, channels=4, small_stem=small_stem)).eval()
    unlike_new(encoder)
    x = torch.randn(3, 4, 24, 24)
    with torch.inference_mode():
        expected = [normalize(vectors.numpy()) for vectors in encoder(x)]
        fold_batch_norm(encoder)
        found = [normalize(vectors.numpy()) for vectors in encoder(x)]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", ["embedding", "projection"])
@pytest.mark.parametrize("B", [1, 7, 64])
def test_reading_ahead_gives_what_one_batch_after_the_other_does(
    shards: list[Path], checkpoint: Path, layer: str, B: int
) -> None:
    samples = Samples(shards)
    encoder, config = load_encoder(checkpoint)
    slow = embed_objects(samples.objects(slice(None)), encoder, config, layer=layer)
    found = list(vectors_of(samples, Inference(encoder, config, layer, torch.device("cpu")), B))
    sizes = [len(vectors) for vectors in found]
    assert sizes == [min(B, n - start) for n in LENGTHS.values() for start in range(0, n, B)]
    np.testing.assert_allclose(normalize(np.concatenate(found)), normalize(slow), rtol=0, atol=1e-5)
    assert next(rows.start for rows in cut(samples, B, 20)) == 20


def test_a_folder_holds_to_the_bit_what_one_file_does(shards: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    """Whether each samples file is embedded alone, all into one file, or all into a folder."""
    one = embed(shards, checkpoint, tmp_path / "all.h5", batch_size=8, quiet=True)
    report = embed(shards, checkpoint, tmp_path / "all", batch_size=8, quiet=True)
    assert (report.n, report.dimensions, report.content_hash) == (46, 512, one.content_hash)
    assert report.spread == pytest.approx(one.spread, abs=1e-7)
    folder, file, samples = Embeddings(tmp_path / "all"), Embeddings(tmp_path / "all.h5"), Samples(shards)
    assert folder.made_from == file.made_from
    assert folder.made_from["samples"] == samples.content_hash
    assert folder.ids.tolist() == samples.ids.tolist()
    alone = []
    for path in samples.paths:
        embed([path], checkpoint, tmp_path / "alone.h5", batch_size=8, overwrite=True, quiet=True)
        alone.append(np.array(Embeddings(tmp_path / "alone.h5").vectors))
        assert (tmp_path / "all" / path.name).read_bytes() == (tmp_path / "alone.h5").read_bytes()
        assert read_record(tmp_path / "all" / path.name) is not None
    np.testing.assert_array_equal(folder.vectors[:], np.concatenate(alone))
    np.testing.assert_array_equal(file.vectors, np.concatenate(alone))
    record = read_record(tmp_path / "all")
    assert record is not None
    assert record["inputs"] == folder.made_from
    folder.verify()


def test_an_index_of_a_folder_is_that_of_the_file(blob_samples: Write, checkpoint: Path, tmp_path: Path) -> None:
    shards = []
    for number in range(2):
        path = blob_samples(f"own{number}.h5", n=12, seed=number, pixel_scale=0.262, prefix=f"s{number}-")
        shards.append(path)
    hashes = []
    for out in (tmp_path / "e.h5", tmp_path / "e"):
        embed(shards, checkpoint, out, quiet=True)
        made = build_index(out, shards, tmp_path / f"index-{out.suffix}", k=5, window="mag:1", quiet=True)
        hashes.append(made.content_hash)
    assert hashes[0] == hashes[1]
    verify(tmp_path / "index-", quiet=True)
    assert describe(tmp_path / "e")["shards"] == ["own0.h5", "own1.h5"]
    assert "shards        2 files" in summary(tmp_path / "e")
    samples = Samples(shards)
    rows = np.array([1, 13, 20])
    of = represent(samples, rows, checkpoint=checkpoint, embeddings=tmp_path / "e", quiet=True)
    np.testing.assert_allclose(of.encoder, Embeddings(tmp_path / "e.h5").vectors[rows], atol=1e-6)


def test_only_shards_that_are_missing_or_damaged_are_made(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "all", []
    plain = folder_module.write_file

    def write_file(samples: Samples, path: Path, *rest: object) -> tuple[str, float]:
        made.append(path.name)
        return plain(samples, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(folder_module, "write_file", write_file)
    whole = embed(shards, checkpoint, out, quiet=True)
    assert made == list(LENGTHS)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}

    def alter(name: str) -> None:
        data = bytearray(kept[name])
        data[Embeddings(out / name).vectors.offset + 5] ^= 1  # type: ignore[attr-defined]
        (out / name).write_bytes(data)

    cases: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: None, []),
        (lambda: (out / "part2.h5").unlink(), ["part2.h5"]),
        (lambda: (out / "part2.h5").write_bytes(b"none"), ["part2.h5"]),
        (lambda: shutil.copy(out / "part1.h5", out / "part2.h5"), ["part2.h5"]),
        (lambda: alter("part10.h5"), ["part10.h5"]),
        (lambda: [alter("part1.h5"), alter("part2.h5")], ["part1.h5", "part2.h5"]),
    ]
    for damage, again in cases:
        made.clear()
        damage()
        report = embed(shards, checkpoint, out, quiet=True)
        assert (made, report.content_hash) == (again, whole.content_hash)
        assert [note.split()[0] for note in report.notes] == [str(out / name) for name in again] or not again
        assert again or "nothing was computed" in report.notes[0]
        assert {name: (out / name).read_bytes() for name in LENGTHS} == {name: kept[name] for name in LENGTHS}
        Embeddings(out).verify()
    made.clear()
    assert embed(shards, checkpoint, out, overwrite=True, quiet=True).content_hash == whole.content_hash
    assert made == list(LENGTHS)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_shard_that_cannot_be_read_now_is_kept(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whether the folder is complete, or is being filled and lacks another shard."""
    out, plain = tmp_path / "all", h5py.File
    embed(shards, checkpoint, out, quiet=True)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}

    def fails(path: Path, *rest: object, **options: object) -> h5py.File:
        if path == out / "part1.h5":
            raise OSError(number, "Unable to synchronously open file (\nbuf = 0x7f)")
        return plain(path, *rest, **options)

    monkeypatch.setattr(h5py, "File", fails)
    for filling in (False, True):
        if filling:
            (out / "part2.h5").unlink()
            write_manifest(out, read_manifest(out).unfinished())
            kept = {path.name: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(OSError, match=os.strerror(number)) as raised:
            embed(shards, checkpoint, out, quiet=True)
        assert (raised.value.errno, raised.value.filename) == (number, str(out / "part1.h5"))
        assert {name: (out / name).read_bytes() for name in kept} == kept


def test_a_complete_folder_whose_parent_cannot_be_written_to_is_reused(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all"
    first = embed(shards, checkpoint, out, quiet=True)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    number = [0]

    def refused(output: Path) -> None:
        raise OSError(number[0], os.strerror(number[0]), str(output))

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "lock", refused)
        for number[0] in (errno.EACCES, errno.EPERM, errno.EROFS):
            again = embed(shards, checkpoint, out, quiet=True)
            assert (again.content_hash, again.spread) == (first.content_hash, pytest.approx(first.spread))
            assert "nothing was computed" in again.notes[-1]
            with pytest.raises(InputError, match="made with other dtype"):
                embed(shards, checkpoint, out, dtype="float16", quiet=True)
            with pytest.raises(OSError, match=os.strerror(number[0])):
                embed(shards, checkpoint, out, overwrite=True, quiet=True)
        number[0] = errno.ENOSPC
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            embed(shards, checkpoint, out, quiet=True)
        number[0] = errno.EROFS
        damaged = bytearray(kept["part2.h5"])
        damaged[Embeddings(out / "part2.h5").vectors.offset + 5] ^= 1  # type: ignore[attr-defined]
        (out / "part2.h5").write_bytes(damaged)
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            embed(shards, checkpoint, out, quiet=True)
        assert (out / "part2.h5").read_bytes() == damaged
        write_manifest(out, read_manifest(out).unfinished())
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            embed(shards, checkpoint, out, quiet=True)
    assert embed(shards, checkpoint, out, quiet=True).content_hash == first.content_hash


def test_a_shard_that_is_damaged_each_time_is_an_error(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain, made = tmp_path / "all", folder_module.write_file, []

    def write_file(samples: Samples, path: Path, *rest: object) -> tuple[str, float]:
        found = plain(samples, path, *rest)  # type: ignore[arg-type]
        made.append(path.name)
        assert len(made) < 9
        if path.name == "part2.h5":
            data = bytearray(path.read_bytes())
            data[Embeddings(path).vectors.offset + 5] ^= 1  # type: ignore[attr-defined]
            path.write_bytes(data)
        return found

    monkeypatch.setattr(folder_module, "write_file", write_file)
    with pytest.raises(CorruptError, match=r"part2\.h5 was made anew and is damaged again"):
        embed(shards, checkpoint, out, quiet=True)
    assert made == [*LENGTHS, "part2.h5"]


def test_a_folder_of_something_else_is_kept(shards: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    embed(shards, checkpoint, out, quiet=True)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    for paths, options, differs in (
        (shards, {"layer": "projection"}, "layer"),
        (shards, {"dtype": "float16"}, "dtype"),
        (shards[:2], {}, "samples"),
    ):
        with pytest.raises(InputError, match=rf"made with other {differs}\. .*--overwrite"):
            embed(paths, checkpoint, out, quiet=True, **options)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    with pytest.raises(InputError, match="A file is written here, but"):
        embed(shards[:1], checkpoint, out, quiet=True)
    with pytest.raises(InputError, match="holds other files"):
        embed(shards, checkpoint, checkpoint, overwrite=True, quiet=True)
    with pytest.raises(InputError, match=r"part1\.h5 is read here and cannot be written too"):
        embed(shards, checkpoint, tmp_path, quiet=True)
    fewer = embed(shards[:2], checkpoint, out, overwrite=True, quiet=True)
    assert (fewer.n, len(Embeddings(out))) == (29, 29)
    assert not (out / "part10.h5").exists()


def test_a_folder_given_away_meanwhile_is_not_written_to(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all"

    def after_the_first(name: str) -> None:
        if name == "embed.shard":
            monkeypatch.undo()
            embed(shards, checkpoint, out, layer="projection", overwrite=True, quiet=True)

    monkeypatch.setattr(folder_module, "write_point", after_the_first)
    with pytest.raises(InputError, match="was given to other embeddings meanwhile"):
        embed(shards, checkpoint, out, quiet=True)
    assert Embeddings(out).layer == "projection"
    Embeddings(out).verify()


def test_a_complete_folder_is_looked_at_again_under_the_lock(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finds it damaged, or replaces it, between two looks of this one."""
    out = tmp_path / "all"
    whole = embed(shards, checkpoint, out, quiet=True)
    plain = folder_module._Folder.check

    def meanwhile(act: Callable[[], object]) -> None:
        def check(self: folder_module._Folder) -> tuple[str, float] | None:
            monkeypatch.undo()
            act()
            return plain(self)

        monkeypatch.setattr(folder_module._Folder, "check", check)

    def find_damaged() -> None:
        (out / "part2.h5").unlink()
        write_manifest(out, read_manifest(out).unfinished())

    meanwhile(find_damaged)
    assert embed(shards, checkpoint, out, quiet=True).content_hash == whole.content_hash
    Embeddings(out).verify()
    meanwhile(lambda: embed(shards, checkpoint, out, layer="projection", overwrite=True, quiet=True))
    with pytest.raises(InputError, match="was given to other embeddings meanwhile"):
        embed(shards, checkpoint, out, quiet=True)
    assert Embeddings(out).layer == "projection"
    Embeddings(out).verify()


def test_only_embeddings_are_removed_from_a_folder_given_away(
    shards: list[Path], checkpoint: Path, tmp_path: Path
) -> None:
    """Whatever the manifest calls its shards."""
    out = tmp_path / "all"
    embed(shards, checkpoint, out, quiet=True)
    shutil.copy(shards[0], out / "pictures.h5")
    manifest = read_manifest(out)
    own = manifest.shards[2].model_copy(update={"file": "pictures.h5"})
    write_manifest(out, manifest.model_copy(update={"shards": (*manifest.shards, own)}))
    embed(shards[:2], checkpoint, out, overwrite=True, quiet=True)
    assert (out / "pictures.h5").read_bytes() == shards[0].read_bytes()
    assert not (out / "part10.h5").exists()


def test_a_manifest_that_cannot_be_read_is_named(shards: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    whole = embed(shards, checkpoint, out, quiet=True)
    for broken in (b"{", b"\xff", b'{"kind": "lookalike embeddings folder", "schema_version": 1}'):
        (out / "manifest.json").write_bytes(broken)
        with pytest.raises(CorruptError, match=r"manifest\.json"):
            embed(shards, checkpoint, out, quiet=True)
        assert (out / "manifest.json").read_bytes() == broken
        assert embed(shards, checkpoint, out, overwrite=True, quiet=True).content_hash == whole.content_hash


def test_files_of_one_name_in_several_folders(shards: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    places = []
    for place, path in zip(("north", "south"), shards[:2], strict=True):
        (tmp_path / place).mkdir()
        places.append(path.replace(tmp_path / place / "cutouts.h5"))
    report = embed(places, checkpoint, tmp_path / "all", quiet=True)
    assert [path.name for path in Embeddings(tmp_path / "all").shards] == ["north-cutouts.h5", "south-cutouts.h5"]
    assert report.n == 29


def test_a_collapsed_encoder_completes_no_folder(shards: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    encoder, config = load_encoder(checkpoint)
    for block in (encoder.backbone.layer4[0],):  # type: ignore[index, union-attr]
        with torch.no_grad():
            for norm in (block.bn2, block.downsample[1]):
                norm.weight.zero_()
            block.bn2.bias.fill_(1)
    save_encoder(checkpoint, encoder, config)
    with pytest.raises(CollapsedError, match="gives all 46 objects the same vector"):
        embed(shards, checkpoint, tmp_path / "all", quiet=True)
    with pytest.raises(InputError, match="is not complete"):
        Embeddings(tmp_path / "all")


# What a process of its own runs; the parent's test module cannot be imported by name there.
EMBED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from lookalike.ssl.embed import embed
report = embed([Path(p) for p in {shards!r}], Path({checkpoint!r}), Path({out!r}), batch_size=8, quiet=True)
Path({told!r}).write_text(report.content_hash)
"""


def test_several_processes_share_the_shards(
    shards: list[Path], checkpoint: Path, tmp_path: Path, children: Children
) -> None:
    """None of them waits for a shard another has begun before it has looked for one that is free."""
    whole = embed(shards, checkpoint, tmp_path / "whole", batch_size=8, quiet=True)
    told = [tmp_path / "first.txt", tmp_path / "second.txt"]
    given = {"shards": [str(path) for path in shards], "checkpoint": str(checkpoint), "out": str(tmp_path / "all")}
    running = [children.Process(target=exec, args=(EMBED.format(told=str(path), **given), {})) for path in told]
    (tmp_path / "all").mkdir()
    with lock(tmp_path / "all" / "part1.h5"):  # as if another process had begun the first
        for process in running:
            process.start()
        end = time.monotonic() + 120
        while not all((tmp_path / "all" / name).exists() for name in ("part2.h5", "part10.h5")):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert not (tmp_path / "all" / "part1.h5").exists()
        with pytest.raises(InputError, match="2 of 3 shards are there"):
            Embeddings(tmp_path / "all")
    for process, path in zip(running, told, strict=True):
        process.join(120)
        assert (process.exitcode, path.read_text()) == (0, whole.content_hash)
    Embeddings(tmp_path / "all").verify()
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".lock", ".partial")]


def test_one_file_is_written_by_one_process(shards: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    with lock(tmp_path / "e.h5"), pytest.raises(LockedError):
        embed(shards[:1], checkpoint, tmp_path / "e.h5", quiet=True)


def test_a_run_that_failed_goes_on_where_it_failed(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain, read, failed = tmp_path / "e.h5", Samples.read_into, [], []

    def fails_once(self: Samples, start: int, out: np.ndarray) -> None:  # type: ignore[type-arg]
        read.append(start)
        if start == 16 and not failed:
            failed.append(start)
            raise CorruptError("the disk is away")
        plain(self, start, out)

    monkeypatch.setattr(Samples, "read_into", fails_once)
    with pytest.raises(CorruptError):
        embed(shards[:1], checkpoint, out, batch_size=8, quiet=True)
    read.clear()
    report = embed(shards[:1], checkpoint, out, batch_size=8, quiet=True)
    assert "went on after 8 objects" in report.notes[0] or "went on after 16 objects" in report.notes[0]
    assert 0 not in read
    again = embed(shards[:1], checkpoint, tmp_path / "again.h5", batch_size=8, quiet=True)
    assert report.content_hash == again.content_hash
    assert report.spread == pytest.approx(again.spread, abs=1e-7)


@pytest.mark.parametrize("other", ["device", "torch", "lookalike", None])
def test_rows_of_another_device_or_version_are_not_continued(
    shards: list[Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    out, plain = tmp_path / "e.h5", EmbeddingsWriter.append

    def stop(self: EmbeddingsWriter, block: np.ndarray) -> None:  # type: ignore[type-arg]
        if self.start:
            raise KeyboardInterrupt
        plain(self, block)

    monkeypatch.setattr(EmbeddingsWriter, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        embed(shards[:1], checkpoint, out, batch_size=8, quiet=True)
    monkeypatch.undo()
    journal = tmp_path / ".e.h5.rows.partial"
    entry = json.loads(journal.read_text())
    if other:
        assert entry[other]
        journal.write_text(json.dumps(entry | {other: "another"}))
    report = embed(shards[:1], checkpoint, out, batch_size=8, quiet=True)
    assert [note for note in report.notes if "went on after" in note] == (
        [] if other else [f"{out}: went on after 8 objects that an earlier run had saved."]
    )


PEAK = """
import re
from pathlib import Path
import torch
torch.set_num_threads(1)
from lookalike.ssl.embed import embed
embed([Path({samples!r})], Path({checkpoint!r}), Path({out!r}), quiet=True)
Path({told!r}).write_text(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_the_set(
    shards: list[Path], checkpoint: Path, tmp_path: Path, children: Children
) -> None:
    """Peak resident memory; the larger set holds 75 MB of pictures more."""
    about, peaks = Samples(shards).about, []
    images = np.random.default_rng(0).integers(0, 255, (64, 3, 180, 180), np.uint8)
    for n in (256, 1024):
        with write_samples(tmp_path / f"{n}.h5", about, {}) as writer:
            for start in range(0, n, 64):
                writer.append([f"o{row}" for row in range(start, start + 64)], images, {})
        places = {"samples": f"{n}.h5", "out": f"e{n}.h5", "told": f"{n}.txt", "checkpoint": checkpoint.name}
        code = PEAK.format(**{name: str(tmp_path / place) for name, place in places.items()})
        process = children.Process(target=exec, args=(code, {}))
        process.start()
        process.join(300)
        assert process.exitcode == 0
        peaks.append(int((tmp_path / f"{n}.txt").read_text()) / 1024)
    print(f"peak for 256 and 1,024 objects: {peaks[0]:.0f} and {peaks[1]:.0f} MB")
    assert peaks[1] - peaks[0] < 40


def test_the_fast_asinh_is_the_function() -> None:
    x = torch.cat([torch.zeros(1), torch.logspace(-38, 37, 100_001, dtype=torch.float64).float()])
    exact = np.arcsinh(x.double().numpy())
    np.testing.assert_allclose(asinh(x).numpy(), exact, rtol=5e-7, atol=0)


@pytest.mark.parametrize(
    ("name", "small_stem", "size", "B"),
    [
        ("resnet18", False, 64, 256),
        ("resnet18", False, 96, 64),
        ("resnet50", False, 96, 64),
        ("resnet18", True, 32, 64),
    ],
)
def test_a_batch_is_as_large_as_the_cache_allows(name: str, small_stem: bool, size: int, B: int) -> None:
    encoder = Encoder(EncoderConfig(name=name, small_stem=small_stem))
    assert default_batch(encoder, size, torch.device("cpu")) == B
    assert default_batch(encoder, size, torch.device("cuda")) == 256
