"""The published HDF5 layout read unchanged, and hostile HDF5 refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import lookalike.datasets.legacysurvey as legacysurvey
from lookalike.datasets import ingest
from lookalike.datasets.hdf5_guard import guarded
from lookalike.errors import InputError, NotFoundError
from lookalike.samples import Samples


def published(path: Path, n: int = 5, start: int = 0, side: int = 24, **changed: Any) -> dict[str, Any]:
    """Write a small file of the published layout; returns its arrays."""
    rng = np.random.default_rng(start + 1)
    arrays: dict[str, Any] = {
        "images": rng.normal(0, 0.1, (n, 3, side, side)).astype(np.float32),
        "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-30, 30, n),
        "flux": rng.uniform(1, 100, (n, 5)).astype(np.float32),
        "psfsize": rng.uniform(1, 2, (n, 3)).astype(np.float32),
        "psfdepth": rng.uniform(100, 2000, (n, 3)).astype(np.float32),
        "ebv": rng.uniform(0, 0.1, n).astype(np.float32),
        "inds": np.arange(start, start + n, dtype=np.int64),
        "source_type": np.array([b"DEV", b"EXP", b"REX", b"SER", b"PSF"] * n)[:n],
        "z_spec": np.full(n, -99, np.float32),
        "maskbits": np.arange(n, dtype=np.int16),
        "z_phot_mean": rng.uniform(0, 1, n).astype(np.float32),
    } | changed
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values
    return arrays


def run(files: list[Path], out: Path, **options: Any) -> tuple[Any, Samples]:
    report = ingest("legacysurvey", files, out, quiet=True, **{"overwrite": True} | options)
    return report, Samples(out)


def test_columns_are_split_by_band_with_units_and_magnitudes(tmp_path: Path) -> None:
    arrays = published(tmp_path / "a.h5")
    _, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5")
    assert (samples.objects(slice(None)) == arrays["images"]).all()
    assert samples.about.bands == ("g", "r", "z")
    assert (samples.about.unit, samples.about.pixel_scale, samples.about.origin) == ("nanomaggies", 0.262, "lower")
    for i, band in enumerate(("g", "r", "z", "w1", "w2")):
        assert (samples.column(f"flux_{band}") == arrays["flux"][:, i]).all()
        assert samples.columns[f"flux_{band}"].unit == "nanomaggy"
    for i, band in enumerate("grz"):
        assert (samples.column(f"psfsize_{band}") == arrays["psfsize"][:, i]).all()
        expected = [22.5 - 2.5 * np.log10(float(value)) for value in arrays["flux"][:, i]]
        assert samples.column(f"mag_{band}") == pytest.approx(expected, abs=1e-12)
    assert samples.columns["psfsize_r"].unit == "arcsec"
    assert samples.columns["mag_r"].ucd == "phot.mag"
    assert samples.column("source_type").tolist() == ["DEV", "EXP", "REX", "SER", "PSF"]
    assert [samples.id(row) for row in range(5)] == ["0", "1", "2", "3", "4"]
    assert set(samples.columns) >= {"ra", "dec", "ebv", "inds", "z_spec", "z_phot_mean", "maskbits", "masked_fraction"}


def test_flux_that_is_not_positive_has_no_magnitude(tmp_path: Path) -> None:
    flux = np.array([[1.0, 0.0, -2.0], [np.nan, 10.0, 1e-3]], np.float32)
    published(tmp_path / "a.h5", n=2, flux=flux)
    _, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5")
    magnitudes = np.stack([samples.column(f"mag_{band}") for band in "grz"], axis=1)
    assert (np.isnan(magnitudes) == ~(flux > 0)).all()
    assert magnitudes[0, 0] == 22.5
    assert magnitudes[1, 1] == pytest.approx(20.0)


def test_fault_7_a_last_file_or_block_is_never_dropped_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The released code skipped a last chunk whose name did not end in 00; names here do not, and blocks are 2 rows.
    monkeypatch.setattr(legacysurvey, "BLOCK_BYTES", 2 * 3 * 24 * 24 * 4)
    names = ["images_npix152_000000000_000000005.h5", "images_npix152_000000005_000000008.h5", "rest.h5"]
    sizes, start, expected = [5, 3, 7], 0, []
    for name, n in zip(names, sizes, strict=True):
        expected.append(published(tmp_path / name, n, start)["images"])
        start += n
    report, samples = run([tmp_path / name for name in reversed(names)], tmp_path / "out.h5")
    assert report.n == sum(sizes) == 15
    assert [samples.id(row) for row in range(15)] == [str(i) for i in range(15)]
    assert (samples.objects(slice(None)) == np.concatenate(expected)).all()


def test_files_are_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        published(tmp_path / f"part{number}.h5", 1, number)
    _, samples = run([tmp_path / f"part{number}.h5" for number in (10, 9, 2)], tmp_path / "out.h5")
    assert [samples.id(row) for row in range(3)] == ["2", "9", "10"]


def test_block_size_does_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path / "a.h5", 11)
    whole, _ = run([tmp_path / "a.h5"], tmp_path / "whole.h5")
    monkeypatch.setattr(legacysurvey, "BLOCK_BYTES", 1)
    blocks, _ = run([tmp_path / "a.h5"], tmp_path / "blocks.h5")
    assert blocks.content_hash == whole.content_hash


def test_nan_pixels_become_zero_are_counted_and_too_many_refuse_the_object(tmp_path: Path) -> None:
    images = np.ones((3, 3, 20, 20), np.float32)
    images[0, 1, 3, :4] = np.nan
    images[2, :, :10] = np.inf
    published(tmp_path / "a.h5", 3, images=images)
    report, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5")
    assert [samples.id(row) for row in range(2)] == ["0", "1"]
    assert samples.column("masked_fraction").tolist() == [4 / 1200, 0]
    assert (samples.objects([0])[0, 1, 3, :4] == 0).all()
    assert report.skipped == [("2", "50.0% of its pixels are masked, more than the 5% allowed")]
    assert any(note.startswith("1 of 2 objects has masked or NaN pixels") for note in report.notes)
    assert report.counts == {"left out, more than 5% masked": 1}


def test_texts_of_variable_length_and_another_id_column(tmp_path: Path) -> None:
    texts = np.array(["one", "twö", "three"], dtype=object)
    published(tmp_path / "a.h5", 3, inds=None, name=None)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.create_dataset("note", data=texts, dtype=h5py.string_dtype())
        file["brickid"], file["objid"] = np.array([7, 7, 8]), np.array([1, 2, 1])
    with pytest.raises(InputError, match="has no `inds`"):
        run([tmp_path / "a.h5"], tmp_path / "out.h5")
    with pytest.raises(InputError, match="Unknown column 'brick'"):
        run([tmp_path / "a.h5"], tmp_path / "out.h5", id_column="brick")
    report, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5", id_column="brickid:objid")
    assert [samples.id(row) for row in range(3)] == ["7:1", "7:2", "8:1"]
    assert samples.column("note").tolist() == texts.tolist()
    assert "Not among the columns the survey published, so of no known unit: note." in report.notes


def test_size_crops_about_the_center_and_never_enlarges(tmp_path: Path) -> None:
    arrays = published(tmp_path / "a.h5", 2)
    _, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5", size=16)
    assert (samples.objects(slice(None)) == arrays["images"][:, :, 4:20, 4:20]).all()
    with pytest.raises(InputError, match="24 px"):
        run([tmp_path / "a.h5"], tmp_path / "out.h5", size=32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": None}, "has no data set `images`"),
        ({"images": np.zeros((5, 4, 8, 8), np.float32)}, r"must be \(N, 3, S, S\)"),
        ({"images": np.zeros((5, 3, 8, 8), np.uint8)}, "floating point"),
        ({"ra": np.zeros(4)}, "'ra' has 4 rows, but `images` has 5"),
        ({"inds": np.zeros(5, int)}, "'0' occurs twice"),
    ],
)
def test_a_wrong_file_is_one_typed_error_and_leaves_nothing(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    published(tmp_path / "a.h5", **changed)
    with pytest.raises(InputError, match=message):
        run([tmp_path / "a.h5"], tmp_path / "out.h5")
    assert {path.name for path in tmp_path.iterdir()} <= {"a.h5", ".out.h5.lock"}


def test_files_with_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    published(tmp_path / "a.h5")
    published(tmp_path / "b.h5", start=5, ebv=None)
    with pytest.raises(InputError, match=r"b\.h5 and .*a\.h5 differ in their columns: ebv"):
        run([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5")
    with pytest.raises(NotFoundError):
        run([tmp_path / "c.h5"], tmp_path / "out.h5")


def test_skip_bad_leaves_a_truncated_file_out(tmp_path: Path) -> None:
    published(tmp_path / "a.h5")
    published(tmp_path / "b.h5", start=5)
    (tmp_path / "b.h5").write_bytes((tmp_path / "b.h5").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"b.h5 is not a readable HDF5 file"):
        run([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5")
    report, _ = run([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5", skip_bad=True)
    assert report.n == 5
    assert report.counts["skipped as bad"] == 1
    assert report.skipped[0][0].endswith("b.h5")


def test_one_unreadable_chunk_costs_its_own_rows_alone(tmp_path: Path) -> None:
    arrays = published(tmp_path / "a.h5", 12, images=None)
    images = np.random.default_rng(0).normal(0, 1, (12, 3, 24, 24)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        data = file.create_dataset("images", data=images, chunks=(3, 3, 24, 24), compression="gzip")
        chunk = data.id.get_chunk_info(1)
    assert arrays["inds"].tolist() == list(range(12))
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset + 2)
        raw.write(b"\xff" * (chunk.size - 2))
    with pytest.raises(InputError, match="cannot be read"):
        run([tmp_path / "a.h5"], tmp_path / "out.h5")
    report, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5", skip_bad=True)
    left = [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert samples.column("inds").tolist() == left
    assert (samples.objects(slice(None)) == images[left]).all()
    assert report.counts == {"objects that cannot be read": 3}
    assert [name for name, _ in report.skipped] == [f"{tmp_path}/a.h5 row {row}" for row in (3, 4, 5)]


def test_a_column_of_another_type_in_a_second_file_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "a.h5", 2, code=np.array([2**60 + 1, 2**60 + 3]))
    published(tmp_path / "b.h5", 2, 2, code=np.array([0.5, 1.5]))
    with pytest.raises(InputError, match=r"'code' holds fractions in .*b\.h5 and whole numbers in .*a\.h5"):
        run([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5")
    published(tmp_path / "b.h5", 2, 2, code=np.array([1, 2], np.int16))
    _, samples = run([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5")
    assert samples.column("code").tolist() == [2**60 + 1, 2**60 + 3, 1, 2]


def test_large_unsigned_numbers_make_the_whole_column_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacysurvey, "BLOCK_BYTES", 1)
    monkeypatch.setattr(legacysurvey, "TOP_ROWS", 2)
    codes = np.array([1, 2, 3, 2**64 - 1, 5], np.uint64)
    published(tmp_path / "a.h5", 5, code=codes)
    _, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5")
    assert samples.column("code").tolist() == [str(code) for code in codes]


def test_an_unreadable_column_of_unsigned_numbers_is_named(tmp_path: Path) -> None:
    published(tmp_path / "a.h5", 12)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        data = file.create_dataset("code", data=np.arange(12, dtype=np.uint64), chunks=(12,), compression="gzip")
        chunk = data.id.get_chunk_info(0)
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with pytest.raises(InputError, match=r"a\.h5: /code cannot be read"):
        run([tmp_path / "a.h5"], tmp_path / "out.h5")


def _external(path: Path, file: h5py.File) -> None:
    file.create_dataset("ra", (5,), "f8", external=[(str(path.with_name("secret.bin")), 0, 40)])


def _virtual(path: Path, file: h5py.File) -> None:
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource(str(path.with_name("secret.h5")), "x", (5,))
    file.create_virtual_dataset("ra", layout)


def _external_link(path: Path, file: h5py.File) -> None:
    file["ra"] = h5py.ExternalLink(str(path.with_name("secret.h5")), "x")


def _soft_link(path: Path, file: h5py.File) -> None:
    file["ra"] = h5py.SoftLink("/flux")


def _bomb(path: Path, file: h5py.File) -> None:
    file.create_dataset("ra", (1 << 35,), "f8", chunks=(1 << 16,), compression="gzip")


def _huge_chunk(path: Path, file: h5py.File) -> None:
    file.create_dataset("ra", (5,), "f8", maxshape=(None,), chunks=(1 << 28,))


def _deep(path: Path, file: h5py.File) -> None:
    file.create_group("/".join("abcdefghij"))


def _cycle(path: Path, file: h5py.File) -> None:
    group = file.create_group("loop")
    group["again"] = file["/"]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_external, "stored in another file"),
        (_virtual, "virtual data set"),
        (_external_link, "link to another place"),
        (_soft_link, "link to another place"),
        (_bomb, "declares 274,877,906,944 bytes but stores 0"),
        (_huge_chunk, "one chunk of it takes more than"),
        (_deep, "nested more than 8 deep"),
        (_cycle, "nested more than 8 deep|more than 10,000 objects"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hostile_hdf5_is_refused_before_anything_is_read(tmp_path: Path, harm: Any, reason: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"s" * 40)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.arange(5.0)
    published(tmp_path / "a.h5", ra=None)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        harm(tmp_path / "a.h5", file)
    with pytest.raises(InputError, match=reason):
        run([tmp_path / "a.h5"], tmp_path / "out.h5")


def test_unknown_filters_objects_and_compounds_are_not_read(tmp_path: Path) -> None:
    published(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.create_dataset("lists", (5,), h5py.vlen_dtype(np.int32))
        file["pairs"] = np.zeros(5, [("a", "f4"), ("b", "f4")])
    report, samples = run([tmp_path / "a.h5"], tmp_path / "out.h5")
    assert not {"lists", "pairs"} & set(samples.columns)
    assert sum("is left out" in note for note in report.notes) == 2
    with h5py.File(tmp_path / "b.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL)  # LZO, a plug-in
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((4,)), plist)
    with pytest.raises(InputError, match="compression filter 305"), guarded(tmp_path / "b.h5"):
        pass


def test_random_bytes_changed_in_a_file_never_escape_as_another_error(tmp_path: Path) -> None:
    published(tmp_path / "a.h5", 3)
    original = (tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(60):
        data = bytearray(original)
        for place in rng.integers(0, min(len(data), 8000), 4):
            data[place] = rng.integers(0, 256)
        (tmp_path / "b.h5").write_bytes(data)
        try:
            run([tmp_path / "b.h5"], tmp_path / "out.h5")
        except InputError:
            refused += 1
    assert refused > 0
