"""NumPy arrays and their catalogs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from lookalike.datasets import arrays, ingest
from lookalike.errors import InputError, LookalikeError
from lookalike.samples import Samples


def run(files: list[Path], out: Path, **options: Any) -> tuple[Any, Samples]:
    report = ingest("numpy", files, out, quiet=True, **{"overwrite": True} | options)
    return report, Samples(out)


def saved(path: Path, array: np.ndarray[Any, Any]) -> Path:
    np.save(path, array)
    return path


def cube(n: int = 7, c: int = 3, side: int = 8, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 250, (n, c, side, side)).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "f8", "f2", "u2", ">i2", "i4", "?"])
def test_every_type_is_stored_as_uint8_or_float32(tmp_path: Path, dtype: str) -> None:
    array = cube(dtype=dtype)
    report, samples = run([saved(tmp_path / "a.npy", array)], tmp_path / "out.h5")
    assert samples.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert (samples.objects(slice(None)) == array.astype(np.float32)).all()
    assert any("stored as float32" in note for note in report.notes) == (dtype not in ("u1", "<f4", ">f4"))
    assert samples.about.domain == "image"


def test_blocks_npz_and_fortran_order_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = cube(11, dtype=np.float32)
    whole, _ = run([saved(tmp_path / "a.npy", array)], tmp_path / "a.h5")
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 1000)
    assert run([tmp_path / "a.npy"], tmp_path / "b.h5")[0].content_hash == whole.content_hash
    assert run([saved(tmp_path / "f.npy", np.asfortranarray(array))], tmp_path / "f.h5")[0].content_hash == (
        whole.content_hash
    )
    np.savez(tmp_path / "z.npz", images=array)
    np.savez_compressed(tmp_path / "c.npz", anything=array)
    for name in ("z.npz", "c.npz"):
        assert run([tmp_path / name], tmp_path / "z.h5")[0].content_hash == whole.content_hash
    np.savez(tmp_path / "ff.npz", images=np.asfortranarray(array))
    with pytest.raises(InputError, match="Fortran order"):
        run([tmp_path / "ff.npz"], tmp_path / "z.h5")


def test_a_folder_named_as_output_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mydir").mkdir()
    (tmp_path / "mydir" / "kept").write_text("kept")
    file = saved(tmp_path / "a.npy", cube())
    with pytest.raises(InputError, match=r"A file is written here, but .*mydir is a folder"):
        run([file], tmp_path / "mydir")
    assert [path.name for path in (tmp_path / "mydir").iterdir()] == ["kept"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "mydir"]


def test_several_files_in_natural_order_with_one_catalog(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"p{number}.npy", np.full((2, 1, 4, 4), number, np.uint8)) for number in (10, 9)]
    (tmp_path / "t.csv").write_text("id,mag,kind\n" + "".join(f"o{i},{i / 2},k{i % 2}\n" for i in range(4)))
    _, samples = run(files, tmp_path / "out.h5", catalog=tmp_path / "t.csv")
    assert samples.objects(slice(None))[:, 0, 0, 0].tolist() == [9, 9, 10, 10]
    assert [samples.id(row) for row in range(4)] == ["o0", "o1", "o2", "o3"]
    assert samples.column("mag").tolist() == [0, 0.5, 1, 1.5]
    assert samples.column("kind").tolist() == ["k0", "k1", "k0", "k1"]
    assert "id" not in samples.columns


def test_a_column_named_id_that_is_not_the_id_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,name\n5,a\n5,b\n")
    file = saved(tmp_path / "a.npy", cube(2))
    report, samples = run([file], tmp_path / "o.h5", catalog=tmp_path / "t.csv", id_column="name")
    assert [samples.id(row) for row in range(2)] == ["a", "b"]
    assert samples.column("id_catalog").tolist() == ["5", "5"]
    assert any("'id_catalog'" in note for note in report.notes)


def test_parquet_catalog_with_nulls_and_nested_columns(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "n": [1, None, 3],
            "big": [2**62, 2, 3],
            "t": ["a", None, "c"],
            "deep": [[1], [2], []],
            "ok": [True, False, True],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    report, samples = run(
        [saved(tmp_path / "a.npy", cube(3))], tmp_path / "out.h5", catalog=tmp_path / "t.parquet", id_column="big"
    )
    assert samples.id(0) == str(2**62)
    assert np.isnan(samples.column("n")[1])
    assert samples.column("t").tolist() == ["a", "", "c"]
    assert samples.column("ok").tolist() == [1, 0, 1]
    assert "deep" not in samples.columns
    assert any("'deep'" in note for note in report.notes)


def test_three_dimensions_are_one_band_only_where_it_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.npy", cube()[:, 0])
    with pytest.raises(InputError, match="name that band with --bands"):
        run([file], tmp_path / "out.h5")
    _, samples = run([file], tmp_path / "out.h5", bands=["gray"])
    assert samples.shape == (1, 8, 8)
    assert samples.about.bands == ("gray",)


def test_bands_unit_scale_and_size(tmp_path: Path) -> None:
    array = cube(c=5, dtype=np.float32)
    file = saved(tmp_path / "a.npy", array)
    options: dict[str, Any] = {"bands": tuple("grizy"), "unit": "nJy", "pixel_scale": 0.168, "domain": "galaxy"}
    _, samples = run([file], tmp_path / "out.h5", size=6, **options)
    about = samples.about
    assert (about.bands, about.unit, about.pixel_scale, about.domain) == (tuple("grizy"), "nJy", 0.168, "galaxy")
    assert (samples.objects(slice(None)) == array[:, :, 1:7, 1:7]).all()
    report, samples = run([file], tmp_path / "out.h5")
    assert samples.about.bands == ("band_1", "band_2", "band_3", "band_4", "band_5")
    assert any("name them with --bands" in note for note in report.notes)
    with pytest.raises(InputError, match="5 bands, but 2 are named"):
        run([file], tmp_path / "out.h5", bands=["g", "r"])
    with pytest.raises(InputError, match="smaller than the 9 px"):
        run([file], tmp_path / "out.h5", size=9)


def test_masked_pixels(tmp_path: Path) -> None:
    array = cube(3, dtype=np.float64)
    array[0, 0, 0, 0] = np.nan
    array[1] = np.nan
    array[2, 0, 0, 0] = 1e300  # beyond float32
    report, samples = run([saved(tmp_path / "a.npy", array)], tmp_path / "out.h5")
    assert [samples.id(row) for row in range(2)] == ["0", "2"]
    assert samples.column("masked_fraction").tolist() == [1 / 192, 1 / 192]
    assert report.skipped == [("1", "100.0% of its pixels are masked, more than the 5% allowed")]
    assert report.counts == {"left out, more than 5% masked": 1}
    assert run([tmp_path / "a.npy"], tmp_path / "again.h5", skip_bad=True)[0].content_hash == report.content_hash
    assert report.notes[-1] == (
        "2 of 2 objects have masked or NaN pixels, which are stored as 0; the column masked_fraction says how many."
    )


def test_other_arrays_of_an_npz_become_columns(tmp_path: Path) -> None:
    beside = {"label": np.array(["x", "y", "z"]), "in/a/folder": np.arange(3), "another/folder": np.ones(3)}
    np.savez(tmp_path / "a.npz", images=cube(3), mag=np.arange(3.0), psf=np.zeros(9), **beside)
    report, samples = run([tmp_path / "a.npz"], tmp_path / "out.h5")
    assert samples.column("folder").tolist() == [0, 1, 2]
    assert any("'another/folder'" in note for note in report.notes)
    assert samples.column("label").tolist() == ["x", "y", "z"]
    assert samples.column("mag").tolist() == [0, 1, 2]
    assert "psf" not in samples.columns
    assert any("'psf'" in note for note in report.notes)


def _lying(path: Path) -> None:
    np.save(path, cube())
    path.write_bytes(path.read_bytes()[:-10])


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 3, 99, 99)}
        )


def _pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _text(path: Path) -> None:
    path.write_text("no array")


def _complex(path: Path) -> None:
    np.save(path, cube().astype(np.complex64))


def _last_bands(path: Path) -> None:
    np.save(path, np.zeros((4, 32, 32, 3), np.uint8))


def _empty(path: Path) -> None:
    np.save(path, np.zeros((0, 3, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_lying, "declares 1,344 bytes of values, but holds 1,334"),
        (_huge, "bytes of values, but holds 0"),
        (_pickled, "pickled objects, which are never loaded"),
        (_text, "is not a NumPy array"),
        (_complex, "pixels are real numbers"),
        (_last_bands, r"looks like \(N, H, W, C\)"),
        (_empty, "is empty"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_arrays_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "a.npy")
    with pytest.raises(InputError, match=message):
        run([tmp_path / "a.npy"], tmp_path / "out.h5")
    saved(tmp_path / "b.npy", cube())
    report, _ = run([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "out.h5", skip_bad=True)
    assert (report.n, report.counts) == (7, {"skipped as bad": 1})


def test_broken_npz_and_wrong_catalogs_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=cube(50))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        run([tmp_path / "b.npz"], tmp_path / "out.h5")
    (tmp_path / "c.npz").write_bytes(data[:200])
    with pytest.raises(InputError, match=r"c\.npz cannot be read as \.npz"):
        run([tmp_path / "c.npz"], tmp_path / "out.h5")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.txt", "x")
    with pytest.raises(InputError, match="needs an array named 'images'"):
        run([tmp_path / "d.npz"], tmp_path / "out.h5")
    (tmp_path / "t.csv").write_text("mag\n1\n")
    with pytest.raises(InputError, match="has 1 row, but the arrays hold 50 objects"):
        run([tmp_path / "a.npz"], tmp_path / "out.h5", catalog=tmp_path / "t.csv")
    saved(tmp_path / "e.npy", cube(2, side=9))
    with pytest.raises(InputError, match=r"\(3, 9, 9\) uint8 per object"):
        run([tmp_path / "a.npz", tmp_path / "e.npy"], tmp_path / "out.h5")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_changed_bytes_never_escape_as_another_error(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", images=cube(6), mag=np.arange(6.0), name=np.array(list("abcdef")))
    data = (tmp_path / "a.npz").read_bytes()
    rng = np.random.default_rng(0)
    directory = data.index(b"PK\x01\x02")
    places = [*rng.integers(0, directory, 40), *rng.integers(directory, len(data), 60)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        (tmp_path / "b.npz").write_bytes(changed)
        try:
            run([tmp_path / "b.npz"], tmp_path / "out.h5")
        except LookalikeError:
            continue


def test_a_damaged_npz_can_be_left_out(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=cube(6))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    at = data.index(b"PK\x01\x02") + 10  # the packing method, in the central directory
    data[at] = 99
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"b\.npz\[images\] cannot be read as \.npz: .*compression"):
        run([tmp_path / "b.npz"], tmp_path / "out.h5")
    report, _ = run([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "out.h5", skip_bad=True)
    assert (report.n, report.counts) == (6, {"skipped as bad": 1})


def test_columns_of_several_files_keep_one_kind(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=cube(1), n=np.array([2**60 + 1]))
    np.savez(tmp_path / "b.npz", images=cube(1), n=np.array([0.5]))
    with pytest.raises(InputError, match="array 'n' holds fractions and whole numbers"):
        run([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "out.h5")


def test_real_hsc_scene_and_fashion_pictures(shared_data: Path, tmp_path: Path) -> None:
    with np.load(shared_data / "hsc_5band_scenes" / "hsc_cosmos_35.npz") as scene:
        images, bands = scene["images"], scene["filters"].tolist()
    _, samples = run(
        [saved(tmp_path / "a.npy", images[None])], tmp_path / "o.h5", bands=bands, size=48, domain="galaxy"
    )
    assert (samples.objects([0])[0] == images[:, 5:53]).all()
    report, samples = run(
        [shared_data / "fashion_mnist_test" / "fashion_mnist_half.npz"], tmp_path / "f.h5", bands=["gray"]
    )
    assert report.n == 5000
    assert set(samples.column("labels").tolist()) == set(range(10))
