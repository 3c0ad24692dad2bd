"""FITS: cutouts in extensions and cubes, positions in large images, lying files; and catalogs of every kind."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.wcs import WCS

import lookalike.datasets.fits_positions as fits_positions
from lookalike.datasets import ingest
from lookalike.datasets.contract import Ledger
from lookalike.datasets.fits_open import open_fits
from lookalike.datasets.table import read_table
from lookalike.errors import InputError, NotFoundError
from lookalike.samples import Samples


def run(files: list[Path], out: Path, **options: Any) -> tuple[Any, Samples]:
    report = ingest("fits", files, out, quiet=True, **{"overwrite": True} | options)
    return report, Samples(out)


def write(path: Path, arrays: list[Any], headers: list[dict[str, Any]] | None = None) -> Path:
    """An empty primary, then one image extension per array."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for i, array in enumerate(arrays):
        hdus.append(fits.ImageHDU(np.asarray(array)))
        for key, value in (headers[i] if headers else {}).items():
            hdus[-1].header[key] = value
    hdus.writeto(path, overwrite=True)
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def sky(scale: float = 0.5, width: int = 200, height: int = 150, ctype: str = "TAN", **more: Any) -> dict[str, Any]:
    """A header's sky coordinates, north up, centered on ra 150, dec 2."""
    return {
        "CTYPE1": f"RA---{ctype}",
        "CTYPE2": f"DEC--{ctype}",
        "CRVAL1": 150.0,
        "CRVAL2": 2.0,
        "CRPIX1": width / 2,
        "CRPIX2": height / 2,
        "CD1_1": -scale / 3600,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale / 3600,
    } | more


def test_each_extension_is_an_object_of_one_band(tmp_path: Path) -> None:
    images = [noise(9, 9, seed=i) for i in range(4)]
    file = write(tmp_path / "a.fits", images, [{"FILTER": "F814W", "BUNIT": "nJy"}] * 4)
    _, samples = run([file], tmp_path / "out.h5")
    assert (samples.objects(slice(None))[:, 0] == np.stack(images)).all()
    assert samples.about.bands == ("F814W",)
    assert (samples.about.unit, samples.about.origin, samples.about.domain) == ("nJy", "lower", "galaxy")
    assert [samples.id(row) for row in range(4)] == ["a-1", "a-2", "a-3", "a-4"]
    assert samples.column("hdu").tolist() == [1, 2, 3, 4]


def test_extensions_of_several_bands_are_gathered_by_name(tmp_path: Path) -> None:
    arrays = {(i, band): noise(8, 8, seed=10 * i + ord(band)) for i in range(2) for band in "grz"}
    order = [(0, "g"), (0, "r"), (0, "z"), (1, "z"), (1, "g"), (1, "r")]
    file = write(tmp_path / "a.fits", [arrays[key] for key in order], [{"FILTER": band} for _, band in order])
    _, samples = run([file], tmp_path / "out.h5")
    assert samples.about.bands == ("g", "r", "z")
    for i in range(2):
        assert (samples.objects([i])[0] == np.stack([arrays[i, band] for band in "grz"])).all()
    _, samples = run([file], tmp_path / "out.h5", bands=["z", "g", "r"])
    assert samples.about.bands == ("z", "g", "r")
    assert (samples.objects([1])[0, 0] == arrays[1, "z"]).all()
    with pytest.raises(InputError, match=r"one image per band \(g, r, z, y\)"):
        run([file], tmp_path / "out.h5", bands=list("grzy"))


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("broken", [("o1_r", "o2_g"), ("o2_g",), ("o1_g", "o1_r")])
def test_a_band_left_out_never_pairs_different_objects(tmp_path: Path, headers: bool, broken: tuple[str, ...]) -> None:
    files = []
    for i in (1, 2, 3):
        for band in "gr":
            header = [{"FILTER": band}] if headers else None
            files.append(write(tmp_path / f"o{i}_{band}.fits", [noise(6, 6, seed=i)], header))
    options = {} if headers else {"bands": ["g", "r"]}
    assert len(run(files, tmp_path / "out.h5", **options)[1]) == 3
    for name in broken:
        (tmp_path / f"{name}.fits").write_bytes(b"SIMPLE")
    with pytest.raises(InputError, match=rf"{broken[0]}.fits cannot be left out, since the bands of an object are"):
        run(files, tmp_path / "new.h5", skip_bad=True, **options)
    assert not (tmp_path / "new.h5").exists()


def test_a_file_of_whole_objects_can_be_left_out(tmp_path: Path) -> None:
    headers = [{"FILTER": band} for band in "gr"]
    files = [write(tmp_path / f"o{i}.fits", [noise(6, 6, seed=i)] * 2, headers) for i in (1, 2, 3)]
    files[1].write_bytes(b"SIMPLE")
    report, samples = run(files, tmp_path / "out.h5", skip_bad=True)
    assert [samples.id(row) for row in range(2)] == ["o1", "o3"]
    assert report.counts == {"skipped as bad": 1}


def test_ids_in_a_catalog_keep_their_zeros(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x,y\n0012,30,30\n0013,60,60\n")
    image = write(tmp_path / "a.fits", [noise(100, 100)], [{"FILTER": "g"}])
    _, samples = run([image], tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=16)
    assert [samples.id(row) for row in range(2)] == ["0012", "0013"]


def test_a_long_name_is_told_with_the_way_out_or_left_out(tmp_path: Path) -> None:
    long = write(tmp_path / f"{'n' * 70}.fits", [noise(6, 6)])
    short = write(tmp_path / "a.fits", [noise(6, 6)])
    with pytest.raises(
        InputError, match=r"the name 'n{70}\.fits' makes one of 70; name a catalog column with --id-column"
    ):
        run([long, short], tmp_path / "out.h5")
    report, samples = run([long, short], tmp_path / "out.h5", skip_bad=True)
    assert ([samples.id(0)], report.n, report.counts) == (["a"], 1, {"skipped as bad": 1})
    (tmp_path / "t.csv").write_text("name\nx\ny\n")
    _, samples = run([long, short], tmp_path / "out.h5", catalog=tmp_path / "t.csv", id_column="name")
    assert [samples.id(row) for row in range(2)] == ["x", "y"]


def test_a_renamed_column_takes_no_other_ones_place(tmp_path: Path) -> None:
    text = "file,file_catalog,masked_fraction,masked_fraction_catalog,id,id_catalog\na,b,1,2,c,d\n"
    (tmp_path / "t.csv").write_text(text)
    _, samples = run([write(tmp_path / "a.fits", [noise(6, 6)])], tmp_path / "out.h5", catalog=tmp_path / "t.csv")
    values = {name: samples.column(name).tolist()[0] for name in samples.columns}
    assert values == {
        "file": "a.fits",
        "hdu": 1,
        "masked_fraction": 0,
        "file_catalog": "b",
        "file_catalog_catalog": "a",
        "masked_fraction_catalog": 2,
        "masked_fraction_catalog_catalog": 1,
        "id_catalog": "d",
        "id_catalog_catalog": "c",
    }


def test_extname_is_a_band_where_it_repeats(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / f"o{i}.fits", [noise(6, 6, seed=i), noise(6, 6, seed=9)], [{"EXTNAME": "I"}, {"EXTNAME": "J"}])
    _, samples = run([tmp_path / "o0.fits", tmp_path / "o1.fits"], tmp_path / "out.h5")
    assert (samples.about.bands, len(samples)) == (("I", "J"), 2)
    assert [samples.id(row) for row in range(2)] == ["o0", "o1"]
    names = [{"EXTNAME": "first"}, {"EXTNAME": "second"}]
    report, samples = run([write(tmp_path / "n.fits", [noise(6, 6)] * 2, names)], tmp_path / "out.h5")
    assert (samples.about.bands, len(samples)) == (("band_1",), 2)
    assert any("name no bands" in note for note in report.notes)


@pytest.mark.parametrize(
    "header",
    [{"FILTER1": "g", "FILTER2": "r", "FILTER3": "z"}, {"BAND0": "g", "BAND1": "r", "BAND2": "z"}, {"BANDS": "grz"},
     {"FILTER": "g, r, z"}],
)  # fmt: skip
def test_cubes_name_their_bands_in_many_ways(tmp_path: Path, header: dict[str, str]) -> None:
    cubes = [noise(3, 10, 10, seed=i) for i in range(3)]
    files = [write(tmp_path / f"c{i}.fits", [cube], [header]) for i, cube in enumerate(cubes)]
    _, samples = run(files, tmp_path / "out.h5")
    assert samples.about.bands == ("g", "r", "z")
    assert (samples.objects(slice(None)) == np.stack(cubes)).all()


def test_mixed_sizes_are_cropped_about_the_center_never_resampled(tmp_path: Path) -> None:
    images = [noise(12, 12), noise(9, 15, seed=1), noise(7, 7, seed=2)]
    file = write(tmp_path / "a.fits", images)
    with pytest.raises(InputError, match="7 × 7 to 12 × 12 px, not all one square"):
        run([file], tmp_path / "out.h5")
    with pytest.raises(InputError, match=r"a.fits\[3\]: it is 7 × 7 px, smaller than the 8 px"):
        run([file], tmp_path / "out.h5", size=8)
    report, samples = run([file], tmp_path / "out.h5", size=8, skip_bad=True)
    assert (samples.objects([0])[0, 0] == images[0][2:10, 2:10]).all()
    assert (samples.objects([1])[0, 0] == images[1][0:8, 3:11]).all()
    assert report.counts == {"skipped as bad": 1}


@pytest.mark.parametrize("kind", ["int16 scaled", "blank", "float64", "compressed", "gzip", "uint8"])
def test_ways_of_storing_pixels(tmp_path: Path, kind: str) -> None:
    values = np.round(noise(16, 16) * 50).astype(np.float64)
    path = tmp_path / ("a.fits.gz" if kind == "gzip" else "a.fits")
    hdu: Any = fits.ImageHDU(values)
    if kind == "int16 scaled":
        hdu = fits.ImageHDU(values.copy())
        hdu.scale("int16", bscale=0.5, bzero=10)
    elif kind == "blank":
        whole = values.astype(np.int16)
        whole[0, 0] = -999
        hdu = fits.ImageHDU(whole)
        hdu.header["BLANK"] = -999
        values[0, 0] = 0
    elif kind == "compressed":
        hdu = fits.CompImageHDU(values.astype(np.int32))
    elif kind == "uint8":
        values = np.abs(values)
        hdu = fits.ImageHDU(values.astype(np.uint8))
        values = values.astype(np.uint8).astype(float)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    _, samples = run([path], tmp_path / "out.h5")
    assert samples.dtype == np.float32
    assert samples.objects([0])[0, 0] == pytest.approx(values, abs=0.26 if "scaled" in kind else 0)
    assert samples.column("masked_fraction")[0] == (1 / 256 if kind == "blank" else 0)
    assert samples.id(0) == "a"


def test_catalog_rows_go_with_cutouts_in_order(tmp_path: Path) -> None:
    file = write(tmp_path / "a.fits", [noise(8, 8, seed=i) for i in range(3)])
    Table({"IDENT": [7, 8, 9], "MAG": [20.5, 21.5, 22.5], "RA": [1.0, 2.0, 3.0]}, units={"MAG": "mag"}).write(
        tmp_path / "t.fits"
    )
    report, samples = run([file], tmp_path / "out.h5", catalog=tmp_path / "t.fits", id_column="IDENT", bands=["I"])
    assert [samples.id(row) for row in range(3)] == ["7", "8", "9"]
    assert samples.column("MAG").tolist() == [20.5, 21.5, 22.5]
    assert samples.columns["MAG"].unit == "mag"
    assert samples.columns["ra"].unit == "deg"  # RA has no unit of its own, the name says it
    assert any("'RA'" in note for note in report.notes)
    Table({"IDENT": [7, 8]}).write(tmp_path / "short.fits")
    with pytest.raises(InputError, match="has 2 rows, but there are 3 cutouts"):
        run([file], tmp_path / "out.h5", catalog=tmp_path / "short.fits")


def large(tmp_path: Path, width: int = 200, height: int = 150, **more: Any) -> tuple[list[Path], Any]:
    """Two bands in two files on one grid."""
    planes = noise(2, height, width)
    files = []
    for band, plane in zip("gr", planes, strict=True):
        header = sky(width=width, height=height, **more) | {"FILTER": band, "BUNIT": "nanomaggy"}
        files.append(write(tmp_path / f"field_{band}.fits", [plane], [header]))
    return files, planes


@pytest.mark.parametrize("in_memory", [True, False])
def test_positions_on_the_sky_are_cut_and_edges_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(fits_positions, "IN_MEMORY", 0)
    files, planes = large(tmp_path)
    wcs = WCS(fits.getheader(files[0], 1))
    x = np.array([20.0, 100.3, 150.7, 3.0, 199.0, 60.0])
    y = np.array([20.0, 70.2, 100.5, 70.0, 70.0, 149.5])
    ra, dec = wcs.all_pix2world(x, y, 0)
    ra, dec = np.append(ra, [np.nan, 330.0]), np.append(dec, [2.0, -2.0])  # no position; the far side of the sky
    rows = "\n".join(f"s{i},{a!r},{d!r}" for i, (a, d) in enumerate(zip(ra.tolist(), dec.tolist(), strict=True)))
    (tmp_path / "t.csv").write_text(f"id,ra,dec\n{rows}\n")
    report, samples = run(files, tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=16)
    assert [samples.id(row) for row in range(len(samples))] == ["s0", "s1", "s2"]
    assert report.counts == {"without a position": 2, "cut by the edge": 3}
    assert samples.about.bands == ("g", "r")
    assert samples.about.pixel_scale == pytest.approx(0.5)
    assert samples.about.unit == "nanomaggy"
    for row in range(3):
        assert samples.column("x")[row] == pytest.approx(x[row], abs=1e-6)
        left = next(i for i in range(200) if -0.5 <= round(x[row], 6) - (i + 7.5) < 0.5)
        top = next(i for i in range(150) if -0.5 <= round(y[row], 6) - (i + 7.5) < 0.5)
        assert (samples.objects([row])[0] == planes[:, top : top + 16, left : left + 16]).all()


def test_positions_in_pixels_get_sky_positions_and_cubes_work_alike(tmp_path: Path) -> None:
    cube = noise(3, 60, 80)
    file = write(tmp_path / "field.fits", [cube], [sky(width=80, height=60) | {"BANDS": "grz"}])
    (tmp_path / "t.csv").write_text("x,y\n39,29\n10.4,12\n1,1\n")
    report, samples = run([file], tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=9)
    assert report.counts == {"cut by the edge": 1}
    assert (samples.objects([0])[0] == cube[:, 25:34, 35:44]).all()
    assert (samples.objects([1])[0] == cube[:, 8:17, 6:15]).all()
    assert samples.column("ra")[0] == pytest.approx(150.0, abs=1e-6)  # x = CRPIX1 - 1
    assert samples.column("dec")[0] == pytest.approx(2.0, abs=1e-6)


def test_positions_that_are_no_numbers_are_counted_once(tmp_path: Path) -> None:
    file = write(tmp_path / "field.fits", [noise(1, 60, 80)[0]], [sky(width=80, height=60)])
    (tmp_path / "t.csv").write_text("x,y,n\n39,29,0\n?,none,1\n10,bad,2\n,12,3\n1,1,4\n40,30,5\n")
    with pytest.raises(InputError, match=r"t.csv, row 2 \(counted from 1\): x is no number, but '\?'"):
        run([file], tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=9, bands=["I"])
    report, samples = run([file], tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=9, bands=["I"], skip_bad=True)
    assert samples.column("n").tolist() == [0, 5]
    assert report.counts == {"objects that cannot be read": 2, "without a position": 1, "cut by the edge": 1}
    assert [(name.partition(", ")[2], reason.partition(" ")[0]) for name, reason in report.skipped] == [
        ("row 2 (counted from 1)", "x"),
        ("row 3 (counted from 1)", "y"),
    ]


def test_galactic_headers_take_icrs_positions(tmp_path: Path) -> None:
    header = sky() | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 236.0, "CRVAL2": 42.0}
    image = noise(150, 200)
    file = write(tmp_path / "field.fits", [image], [header])
    position = WCS(fits.getheader(file, 1)).pixel_to_world(60.0, 80.0).icrs
    (tmp_path / "t.csv").write_text(f"ra,dec\n{float(position.ra.deg)!r},{float(position.dec.deg)!r}\n0,0\n")
    _, samples = run([file], tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=5, bands=["I"])
    assert (samples.objects([0])[0, 0] == image[78:83, 58:63]).all()


def test_faults_of_large_images_are_named(tmp_path: Path) -> None:
    files, _ = large(tmp_path)
    table = tmp_path / "t.csv"
    table.write_text("ra,dec\n150,2\n")
    with pytest.raises(InputError, match="needs the side of the cutouts"):
        run(files, tmp_path / "out.h5", catalog=table, mode="positions")
    table.write_text("ra,dec\n10,2\n11,3\n12,4\n")
    with pytest.raises(InputError, match="None of the 3 positions lies on"):
        run(files, tmp_path / "out.h5", catalog=table, size=16)
    table.write_text("ra,dec\n150,2\n150,2.001\n150,2.002\n")
    write(tmp_path / "field_r.fits", [noise(150, 200)], [sky(CRVAL1=150.01) | {"FILTER": "r", "BUNIT": "nanomaggy"}])
    with pytest.raises(InputError, match="px apart on the sky"):
        run(files, tmp_path / "out.h5", catalog=table, size=16)
    bare = write(tmp_path / "bare.fits", [noise(50, 50)])
    with pytest.raises(InputError, match="has no sky coordinates"):
        run([bare], tmp_path / "out.h5", catalog=table, size=16)
    with pytest.raises(InputError, match=r"Unknown mode 'position'. Did you mean 'positions'"):
        run([bare], tmp_path / "out.h5", catalog=table, size=16, mode="position")


def test_one_unit_and_one_pixel_scale(tmp_path: Path) -> None:
    a = write(tmp_path / "a.fits", [noise(8, 8)], [sky(0.5) | {"BUNIT": "nJy"}])
    b = write(tmp_path / "b.fits", [noise(8, 8)], [sky(0.6) | {"BUNIT": "mJy"}])
    with pytest.raises(InputError, match="differ in their unit"):
        run([a, b], tmp_path / "out.h5")
    with pytest.raises(InputError, match=r"differ in pixel scale, 0.5 to 0.6"):
        run([a, b], tmp_path / "out.h5", unit="nJy")
    _, samples = run([a, b], tmp_path / "out.h5", unit="nJy", pixel_scale=0.55)
    assert samples.about.pixel_scale == 0.55


def _truncated(path: Path) -> None:
    write(path, [noise(80, 80)])
    path.write_bytes(path.read_bytes()[:-9000])


def _lying(path: Path) -> None:
    write(path, [noise(8, 8)])
    path.write_bytes(path.read_bytes().replace(b"NAXIS1  =                    8", b"NAXIS1  =           2000000000"))


def _wordy(path: Path) -> None:
    write(path, [noise(8, 8)])
    path.write_bytes(path.read_bytes().replace(b"BITPIX  =                  -32", b"BITPIX  =                  -31"))


def _text(path: Path) -> None:
    path.write_text("no picture")


def _no_image(path: Path) -> None:
    Table({"a": [1]}).write(path, format="fits")


def _four(path: Path) -> None:
    write(path, [noise(2, 2, 4, 4)])


def _cut_gzip(path: Path) -> None:
    write(path, [noise(40, 40)])
    path.write_bytes(gzip.compress(path.read_bytes())[:2000])


def _bzip(path: Path) -> None:
    path.write_bytes(b"BZh91AY")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_truncated, "declares 25,600 bytes of data, but the file ends"),
        (_lying, "but the file ends after|cannot be read"),
        (_wordy, "cannot be read as FITS|damaged"),
        (_text, "does not start with SIMPLE"),
        (_no_image, "holds no image"),
        (_four, r"images are \(y, x\) or \(band, y, x\)"),
        (_cut_gzip, "ends in the middle of its gzip"),
        (_bzip, "packed with bzip2"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_files_that_lie_are_typed_errors_or_skipped(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "bad.fits")
    with pytest.raises(InputError, match=message):
        run([tmp_path / "bad.fits"], tmp_path / "out.h5")
    write(tmp_path / "good.fits", [noise(8, 8)])
    report, _ = run([tmp_path / "bad.fits", tmp_path / "good.fits"], tmp_path / "out.h5", skip_bad=True)
    assert (report.n, report.counts) == (1, {"skipped as bad": 1})


def test_gzip_bombs_are_bounded_and_chained_gzip_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.fits", [np.zeros((1500, 1500), np.float32)])
    data = gzip.compress(file.read_bytes())
    assert len(data) < 20_000
    with pytest.raises(InputError, match=r"expands to more than 1,000,000 bytes"), open_fits(data, "b", limit=10**6):
        pass
    half = len(file.read_bytes()) // 2
    chained = gzip.compress(file.read_bytes()[:half]) + gzip.compress(file.read_bytes()[half:])
    with open_fits(chained, "c") as hdus:
        assert hdus[1].data.shape == (1500, 1500)


def test_changed_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    original = write(tmp_path / "a.fits", [noise(8, 8)] * 2, [sky() | {"FILTER": "g"}] * 2).read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        data = bytearray(original)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        (tmp_path / "b.fits").write_bytes(data)
        try:
            run([tmp_path / "b.fits"], tmp_path / "out.h5")
        except InputError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "fits", "vot", "ecsv"])
def test_catalogs_of_every_kind_read_alike(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    table = Table(
        {
            "objid": np.array([1237648704586514654, 2, 3]),
            "MAG r": np.array([20.5, np.nan, 22.0]),
            "kind": ["spiral", "a, b", "é" if ending not in ("fits",) else "e"],
        }
    )
    if ending in ("csv", "tsv"):
        table.write(path, format="ascii.csv", delimiter="," if ending == "csv" else "\t")
    elif ending == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: table[name].tolist() for name in table.colnames}), path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy makes an XML name of "MAG r"
            table.write(path, format={"fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv"}[ending])
    read = read_table(path, Ledger())
    assert list(read.values) == ["objid", "MAG_r", "kind"]
    assert read.ids("objid")[0] == "1237648704586514654"
    (mag,), bad = read.numbers(["MAG_r"], Ledger())
    assert mag[[0, 2]].tolist() == [20.5, 22.0]
    assert np.isnan(mag[1])
    assert not bad.any()
    assert read.column("kind").tolist()[:2] == ["spiral", "a, b"]


def test_units_descriptions_vectors_and_masks_of_a_catalog(tmp_path: Path) -> None:
    table = Table({"v": np.arange(6.0).reshape(3, 2), "n": MaskedColumn([1, 2, 3], mask=[False, True, False])})
    table["v"].unit, table["v"].description = "Jy", "two fluxes"
    table.write(tmp_path / "t.ecsv")
    read = read_table(tmp_path / "t.ecsv", Ledger())
    assert read.column("v_1").tolist() == [1, 3, 5]
    assert (read.columns["v_0"].unit, read.columns["v_0"].description) == ("Jy", "two fluxes")
    assert np.isnan(read.column("n")[1])


def test_catalogs_that_cannot_be_read(tmp_path: Path) -> None:
    for name, text, message in (
        ("a.csv", "a,b\n1\n", "cannot be read as a catalog"),
        ("b.csv", "", "cannot be read as a catalog"),
        ("c.csv", "a,b\n", "holds no rows"),
        ("d.csv", "a,a\n1,2\n", "two columns named 'a'"),
        ("e.txt", "x", "A catalog ends in .csv"),
        ("f.parquet", "x", "cannot be read as a catalog"),
        ("g.vot", "x", "cannot be read as a catalog"),
        ("h.fits", "x", "does not start with SIMPLE"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / name, Ledger())
    with pytest.raises(NotFoundError):
        read_table(tmp_path / "none.csv", Ledger())
    (tmp_path / "i.csv").write_text("name,mag\na b,1.5\n")
    table = read_table(tmp_path / "i.csv", Ledger())
    with pytest.raises(InputError, match="An id is 1 to 64 characters"):
        table.ids("name")
    with pytest.raises(InputError, match="holds fractions"):
        table.ids("mag")
    with pytest.raises(InputError, match="must hold numbers"):
        table.numbers(["name"], Ledger())
    with pytest.raises(InputError, match=r"Unknown column of i.csv 'nam'. Did you mean 'name'"):
        table.ids("nam")


def test_real_hst_cosmos_stamps(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "hst_cosmos_100"
    report, samples = run(
        [folder / "real_galaxy_images_extension.fits"],
        tmp_path / "out.h5",
        size=32,
        bands=["F814W"],
        catalog=folder / "real_galaxy_catalog_26_extension_example.fits",
        id_column="IDENT",
        skip_bad=True,
    )
    assert (report.n, report.counts) == (88, {"skipped as bad": 12})
    assert 20 < samples.column("MAG").min() < samples.column("MAG").max() < 26.1
    # The stamps go with their rows: flux in the stamp follows the magnitude.
    flux = samples.objects(slice(None)).sum(axis=(1, 2, 3))
    assert np.corrcoef(-2.5 * np.log10(flux), samples.column("MAG"))[0, 1] > 0.95


def test_real_hsc_scene_at_detected_positions(shared_data: Path, tmp_path: Path) -> None:
    with np.load(shared_data / "hsc_5band_scenes" / "hsc_cosmos_35.npz") as scene:
        images, bands, found = scene["images"], "".join(scene["filters"]), scene["catalog"]
    file = write(tmp_path / "scene.fits", [images], [{"BANDS": bands}])
    rows = "\n".join(f"{x},{y}" for x, y in zip(found["x"], found["y"], strict=True))
    (tmp_path / "t.csv").write_text(f"x,y\n{rows}\n")
    report, samples = run([file], tmp_path / "out.h5", catalog=tmp_path / "t.csv", size=15)
    assert samples.about.bands == tuple("grizy")
    assert report.n + report.counts["cut by the edge"] == len(found)
    center = samples.objects(slice(None))[:, 2, 6:9, 6:9].mean(axis=(1, 2))
    assert (center > np.median(images[2])).all()
