"""What `--size` and `--resize` make of pictures in arrays, against the definition, files and uploads."""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from lookalike.cli import app
from lookalike.datasets import ingest, resizing
from lookalike.datasets.resizing import resized
from lookalike.datasets.uploads import read_picture
from lookalike.errors import InputError
from lookalike.samples import Samples


def weights(side: int, wanted: int) -> np.ndarray[Any, Any]:
    """Cubic convolution (Keys 1981, a = −1/2) of a line, widened by the factor it shrinks by: (wanted, side)."""
    factor = side / wanted
    wide = max(factor, 1.0)
    found = np.zeros((wanted, side))
    for place in range(wanted):
        middle = (place + 0.5) * factor
        for pixel in range(max(0, int(middle - 2 * wide + 0.5)), min(side, int(middle + 2 * wide + 0.5))):
            t = abs((pixel + 0.5 - middle) / wide)
            near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
            found[place, pixel] = near if t < 1 else far if t < 2 else 0.0
    return found / found.sum(1, keepdims=True)


@pytest.mark.parametrize("side", [5, 16, 17, 40])
def test_resizing_is_cubic_convolution_without_aliases(side: int) -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 16, 16)).astype(np.float32)
    by_hand = np.einsum("ya,ncab,xb->ncyx", weights(16, side), images.astype(float), weights(16, side))
    np.testing.assert_allclose(resized(images, side), by_hand, atol=2e-5)
    whole = (images * 20 + 120).clip(0, 255).astype(np.uint8)
    by_hand = np.einsum("ya,ncab,xb->ncyx", weights(16, side), whole.astype(float), weights(16, side)).clip(0, 255)
    most = 0.5 * np.abs(weights(16, side)).sum(1).max() + 0.5  # each direction is rounded to a whole number
    assert np.abs(resized(whole, side) - by_hand).max() <= most + 0.01


def test_arrays_and_files_of_the_same_pictures_are_stored_alike(tmp_path: Path) -> None:
    made = np.random.default_rng(2).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
    (tmp_path / "p").mkdir()
    for place, picture in enumerate(made):
        Image.fromarray(picture).save(tmp_path / "p" / f"{place}.png")
    np.save(tmp_path / "a.npy", made)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = made.transpose(0, 3, 1, 2)
    for side in (9, 33):
        ingest("images", [tmp_path / "p"], tmp_path / "i.h5", size=side, overwrite=True, quiet=True)
        ingest(
            "numpy", [tmp_path / "a.npy"], tmp_path / "n.h5", resize=side, bands_last=True, overwrite=True, quiet=True
        )
        ingest("hdf5", [tmp_path / "a.h5"], tmp_path / "h.h5", resize=side, overwrite=True, quiet=True)
        wanted = Samples(tmp_path / "i.h5").objects(slice(None))
        assert wanted.shape == (6, 3, side, side)
        for name in ("n.h5", "h.h5"):
            np.testing.assert_array_equal(Samples(tmp_path / name).objects(slice(None)), wanted)


def test_an_idx_file_is_enlarged_and_said_so(tmp_path: Path) -> None:
    made = np.random.default_rng(3).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    header = b"\0\0\x08\x03" + b"".join(side.to_bytes(4, "big") for side in made.shape)
    (tmp_path / "t.gz").write_bytes(gzip.compress(header + made.tobytes()))
    report = ingest("idx", [tmp_path / "t.gz"], tmp_path / "s.h5", resize=32, quiet=True)
    assert "Pictures of 28 × 28 px are enlarged to 32 × 32 px." in report.notes
    np.testing.assert_array_equal(Samples(report.out).objects(slice(None)), resized(made[:, None], 32))


def test_the_center_is_taken_first_masks_are_filled_and_the_scale_follows(tmp_path: Path) -> None:
    made = np.random.default_rng(4).normal(100, 5, (3, 2, 20, 24)).astype(np.float32)
    made[1, 0, 10, 12] = np.nan
    np.save(tmp_path / "a.npy", made)
    options: dict[str, Any] = {"bands": ("g", "r"), "pixel_scale": 0.5, "unit": "nanomaggies", "quiet": True}
    with pytest.raises(InputError, match=r"24 × 20 px, not square; give a side with --size, .* before it is resized"):
        ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", resize=8, **options)
    report = ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", size=16, resize=8, **options)
    samples = Samples(report.out)
    center = np.nan_to_num(made[:, :, 2:18, 4:20])
    np.testing.assert_array_equal(samples.objects(slice(None)), resized(center, 8))
    assert samples.column("masked_fraction").tolist() == [0, pytest.approx(1 / 512), 0]
    assert samples.about.pixel_scale == pytest.approx(1.0)
    assert math.isclose(float(samples.objects([0]).mean()), float(center[0].mean()), rel_tol=0.01)  # values, not sums


@pytest.mark.parametrize("permute", [None, 5])
def test_an_upload_is_made_what_is_stored(tmp_path: Path, permute: int | None) -> None:
    made = np.random.default_rng(5).integers(0, 256, (3, 1, 20, 20), dtype=np.uint8)
    np.save(tmp_path / "a.npy", made)
    report = ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", size=16, resize=12, permute=permute, quiet=True)
    samples = Samples(report.out)
    for row in range(3):
        stored = samples.objects([row])[0]
        np.save(tmp_path / "q.npy", made[row])
        np.testing.assert_array_equal(read_picture(tmp_path / "q.npy", "q", samples.about), stored)
        file = io.BytesIO()
        Image.fromarray(made[row, 0]).save(file, "PNG")
        np.testing.assert_array_equal(read_picture(file.getvalue(), "q", samples.about), stored)
    np.save(tmp_path / "q.npy", made[0, 0, :, :15])
    with pytest.raises(InputError, match="q is 15 × 20 px; this data set needs 12 × 12 px"):
        read_picture(tmp_path / "q.npy", "q", samples.about)
    np.save(tmp_path / "q.npy", made[0, 0, :15, :15])  # stretched to the same side it would have another scale
    with pytest.raises(InputError, match=r"q is 15 × 15 px; .* 12 × 12 px, or at least 16 × 16 px to be resized"):
        read_picture(tmp_path / "q.npy", "q", samples.about)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 0}, "at least 1 px wide, but resize 0 was given"),
        ({"size": 30}, "smaller than the 30 px asked for; --size crops arrays, --resize enlarges them"),
    ],
)
def test_sides_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 1, 20, 20), np.uint8))
    with pytest.raises(InputError, match=message):
        ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", quiet=True, **options)
    with pytest.raises(InputError, match="`ingest images` takes no --resize"):
        ingest("images", [tmp_path], tmp_path / "s.h5", quiet=True, resize=9)


def test_small_pictures_and_few_particles_can_be_asked_for(tmp_path: Path) -> None:
    """Eight px are a rule of galaxies alone: digits may be smaller, and an event of four leptons has four particles."""
    from typer.testing import CliRunner

    np.save(tmp_path / "a.npy", np.random.default_rng(6).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8))
    asked = ["ingest", "numpy", str(tmp_path / "a.npy"), "--out", str(tmp_path / "s.h5"), "--resize", "7"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert Samples(tmp_path / "s.h5").shape == (1, 7, 7)
    (tmp_path / "map.toml").write_text('id = "n"\n[[objects]]\ntype = "muon"\npt = "pt"\neta = "eta"\nphi = "phi"\n')
    (tmp_path / "t.csv").write_text("n,pt,eta,phi\n1,20,0.5,1\n")
    asked = ["ingest", "events", str(tmp_path / "t.csv"), "--columns", str(tmp_path / "map.toml"), "--size", "4"]
    assert CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "e.h5")]).exit_code == 0
    assert Samples(tmp_path / "e.h5").shape == (4, 6)
    with pytest.raises(InputError, match="At least 1 particle of each object is stored, but --size 0 was given"):
        ingest("events", [tmp_path / "t.csv"], tmp_path / "f.h5", columns=tmp_path / "map.toml", size=0, quiet=True)


def test_sides_that_no_memory_holds_are_refused_by_rule(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 8, 8), np.uint8))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rule = r"at most 268,435,456 bytes, but {} 100000000 makes 30,000,000,000,000,000 bytes of each\."
    with pytest.raises(InputError, match=rule.format("--resize")):
        ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", resize=100_000_000, quiet=True)
    with pytest.raises(InputError, match=rule.format("--size")):
        ingest("images", [tmp_path / "a.png"], tmp_path / "s.h5", size=100_000_000, quiet=True)
    with pytest.raises(InputError, match=r"in at most 8,589,934,592 bytes, but --size 100000000 needs 80,000,"):
        ingest("events", [tmp_path / "a.csv"], tmp_path / "s.h5", size=100_000_000, quiet=True)
    assert not (tmp_path / "s.h5").exists()


def test_a_long_narrow_picture_is_not_enlarged_beyond_memory(tmp_path: Path) -> None:
    Image.new("L", (1_000_000, 2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"resized to 32000000 × 64 px it has more than 320,000,000 pixels"):
        ingest("images", [tmp_path / "a.png"], tmp_path / "s.h5", size=64, quiet=True)


def test_how_many_pictures_are_made_at_once_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), np.uint8))
    made = [ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", resize=16, quiet=True).content_hash]
    monkeypatch.setattr(resizing, "BLOCK_BYTES", 2 * 3 * 16 * 16)
    made += [ingest("numpy", [tmp_path / "a.npy"], tmp_path / "t.h5", resize=16, quiet=True).content_hash]
    assert made[0] == made[1]
