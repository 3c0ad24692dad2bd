"""idx files, plain HDF5 pictures, arrays with bands last, and the control that shuffles pixels."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from lookalike.datasets import arrays, ingest
from lookalike.datasets.permuting import permutation
from lookalike.datasets.uploads import read_picture
from lookalike.errors import InputError
from lookalike.hints import ingest_command
from lookalike.samples import Samples

PICTURES = np.random.default_rng(0).integers(0, 256, (23, 9, 9), dtype=np.uint8)
LABELS = np.arange(23, dtype=np.uint8) % 10


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "t-images-idx3-ubyte").write_bytes(idx(PICTURES))
    (tmp_path / "t-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    return tmp_path / "t-images-idx3-ubyte", tmp_path / "t-labels-idx1-ubyte.gz"


def run(source: str, given: list[Path], **options: Any) -> Samples:
    out = given[0].parent / "out.h5"
    ingest(source, given, out, quiet=True, overwrite=True, **options)
    return Samples(out)


def test_a_count_that_a_small_file_cannot_hold_takes_no_memory(tmp_path: Path) -> None:
    """Such a file is found too short when it is read; nothing is made beforehand for every object it declares."""
    declared = 2**32 - 1
    (tmp_path / "p.gz").write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, declared, 2, 2) + bytes(400)))
    header = io.BytesIO()
    shape = (declared, 1, 2, 2)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(400))
    tracemalloc.start()
    for source, name in (("idx", "p.gz"), ("numpy", "p.npz")):
        with pytest.raises(InputError, match="ends before"):
            run(source, [tmp_path / name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 1024**2


def test_pictures_and_labels_gzipped_or_not_in_any_block_size(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = run("idx", [files[0]], labels=[files[1]])
    assert (samples.objects(slice(None))[:, 0] == PICTURES).all()
    assert samples.column("label").tolist() == LABELS.tolist()
    assert (samples.about.domain, samples.about.bands, samples.id(7)) == ("image", ("gray",), "7")
    packed = files[0].with_name("p-images-idx3-ubyte.gz")
    packed.write_bytes(gzip.compress(idx(PICTURES)))
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 200)
    assert run("idx", [packed], labels=[files[1]]).content_hash == samples.content_hash
    assert "label" not in run("idx", [packed]).columns


def test_several_files_each_with_its_labels(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "a-images").write_bytes(idx(PICTURES[:5]))
    (tmp_path / "a-labels").write_bytes(idx(LABELS[5:10]))
    samples = run("idx", [files[0], tmp_path / "a-images"], labels=[files[1], tmp_path / "a-labels"])
    assert len(samples) == 28
    assert samples.column("label").tolist() == [*LABELS[5:10].tolist(), *LABELS.tolist()], "in order of the names"
    with pytest.raises(InputError, match="One --labels is needed for each file of pictures"):
        run("idx", [files[0], tmp_path / "a-images"], labels=[files[1]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an idx file: it begins with nothing"),
        (b"\x89PNG123456789", "is not an idx file: it begins with 89 50 4e 47"),
        (idx(PICTURES.astype(">f4"), 0x0D), r"holds floats \(type 0x0d\); unsigned bytes"),
        (idx(PICTURES)[:-1], "declares 1,863 bytes of values, but holds 1,862"),
        (idx(PICTURES) + b"x", "declares 1,863 bytes of values, but holds 1,864"),
        (gzip.compress(idx(PICTURES)[:-1]), "ends before the last of the values"),
        (gzip.compress(idx(PICTURES) + b"x"), "goes on after the last of the values"),
        (gzip.compress(idx(PICTURES))[:-20], "cannot be unpacked|ends before"),
        (idx(LABELS), "It looks like a file of labels"),
        (idx(PICTURES)[:9], "ends within its header"),
        (struct.pack(">HBB3I", 0, 8, 3, 1, 2**31, 2**31), "more than 16,000,000 pixels"),
        (struct.pack(">HBB3I", 0, 8, 3, 0, 9, 9), "is empty"),
        (struct.pack(">HBB", 0, 8, 200), "declares 200 dimensions"),
        (idx(PICTURES[:, :, :7].copy()), "not square; give a side with --size"),
    ],
)
def test_odd_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(InputError, match=message):
        run("idx", [tmp_path / "f"])
    assert not (tmp_path / "out.h5").exists()


def test_labels_must_be_as_many(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "few").write_bytes(idx(LABELS[:-1]))
    with pytest.raises(InputError, match=r"holds 22 labels, but .* holds 23 pictures"):
        run("idx", [files[0]], labels=[tmp_path / "few"])
    with pytest.raises(InputError, match=r"Labels in idx files have the dimension \(N,\)"):
        run("idx", [files[0]], labels=[files[0]])
    with pytest.raises(InputError, match="takes no --labels"):
        ingest("images", [files[0]], tmp_path / "x.h5", labels=[files[1]])
    assert "lookalike ingest idx" in ingest_command(files[0])


def test_a_shuffle_is_a_permutation_that_stays_the_same() -> None:
    order = permutation(7, 784)
    assert sorted(order.tolist()) == list(range(784))
    assert order[:5].tolist() == permutation(7, 784)[:5].tolist()
    assert (order != permutation(8, 784)).mean() > 0.9
    assert (order == np.arange(784)).sum() < 10


def test_shuffled_pixels_are_the_same_for_every_source_and_for_uploads(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    plain = run("idx", [files[0]]).objects(slice(None))
    shuffled = run("idx", [files[0]], permute=3)
    stored = shuffled.objects(slice(None))
    order = permutation(3, 81)
    for row in range(len(plain)):  # the definition, a pixel at a time
        for place in range(81):
            assert stored[row, 0].flat[place] == plain[row, 0].flat[order[place]]
    assert shuffled.about.preprocess["permute"] == 3
    np.save(tmp_path / "a.npy", PICTURES[:, None])
    assert (run("numpy", [tmp_path / "a.npy"], permute=3).objects(slice(None)) == stored).all()
    (tmp_path / "pictures").mkdir()
    for row in range(3):
        Image.fromarray(PICTURES[row]).save(tmp_path / "pictures" / f"{row}.png")
    ingest("images", [tmp_path / "pictures"], tmp_path / "i.h5", permute=3, quiet=True)
    made = Samples(tmp_path / "i.h5")
    assert (made.objects(slice(None)) == stored[:3]).all()
    for about in (made.about, shuffled.about):
        upload = read_picture(tmp_path / "pictures" / "1.png", "1.png", about)
        assert (upload == stored[1]).all()
    with pytest.raises(InputError, match="at least 0"):
        run("idx", [files[0]], permute=-1)
    with pytest.raises(InputError, match="takes no --permute"):
        ingest("hubble", [], tmp_path / "x.h5", permute=1)


def test_colors_move_together(tmp_path: Path) -> None:
    colored = np.random.default_rng(1).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "a.npy", colored)
    stored = run("numpy", [tmp_path / "a.npy"], permute=0).objects(slice(None))
    pixels = {tuple(p) for p in colored[0].reshape(3, -1).T.tolist()}
    assert {tuple(p) for p in stored[0].reshape(3, -1).T.tolist()} == pixels


def test_hdf5_pictures_with_their_columns(tmp_path: Path) -> None:
    colored = np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/x"] = colored
        file["train/y"] = np.arange(11)[:, None]
        file["names"] = [f"n{i}" for i in range(11)]
        file["other"] = np.zeros((3, 4))
    samples = run("hdf5", [tmp_path / "a.h5"], array="train/x", bands_last=True)
    assert (samples.objects(slice(None)) == colored.transpose(0, 3, 1, 2)).all()
    assert samples.about.bands == ("R", "G", "B")
    assert samples.column("y").tolist() == list(range(11))
    assert samples.column("names")[4] == "n4"
    assert set(samples.columns) == {"y", "names"}
    with pytest.raises(InputError, match="Unknown data set of"):
        run("hdf5", [tmp_path / "a.h5"], array="x")
    (tmp_path / "b.h5").write_bytes(b"none")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        run("hdf5", [tmp_path / "b.h5"])


def test_an_array_of_several_in_an_npz_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x_train=PICTURES, x_test=PICTURES[:3], y_train=LABELS[:, None])
    samples = run("numpy", [tmp_path / "m.npz"], array="x_train", bands=["gray"])
    assert (samples.objects(slice(None))[:, 0] == PICTURES).all()
    assert samples.column("y_train").tolist() == LABELS.tolist()
    np.savez(tmp_path / "c.npz", images=np.zeros((5, 20, 20, 3), np.uint8))
    with pytest.raises(InputError, match="--bands-last"):
        run("numpy", [tmp_path / "c.npz"])
    assert run("numpy", [tmp_path / "c.npz"], bands_last=True).shape == (3, 20, 20)


def test_real_digits(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "mnist_t10k"
    ingest(
        "idx",
        [folder / "t10k-images-idx3-ubyte.gz"],
        tmp_path / "m.h5",
        labels=[folder / "t10k-labels-idx1-ubyte.gz"],
        quiet=True,
    )
    samples = Samples(tmp_path / "m.h5")
    assert (len(samples), samples.shape) == (10_000, (1, 28, 28))
    assert np.bincount(samples.column("label")).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert samples.column("label")[:5].tolist() == [7, 2, 1, 0, 4]
