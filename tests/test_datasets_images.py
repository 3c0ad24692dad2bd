"""PNG and JPEG pictures: names, sizes, kinds, catalogs; and the same preparation for uploads."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike.about import ID_PATTERN
from lookalike.datasets import ingest
from lookalike.datasets.pictures import BadPictureError, open_picture, prepare_picture, to_array
from lookalike.datasets.uploads import read_picture
from lookalike.errors import InputError, NotFoundError
from lookalike.samples import Samples


def pixels(height: int = 12, width: int = 12, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray[Any, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def run(files: list[Path], out: Path, **options: Any) -> tuple[Any, Samples]:
    report = ingest("images", files, out, quiet=True, **{"overwrite": True} | options)
    return report, Samples(out)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_folder_becomes_rgb_with_names_in_natural_order(tmp_path: Path) -> None:
    for name in ("b 10.png", "b 9.png", "sub/c.jpg", "a.PNG", "note.txt", ".hidden.png"):
        if name.endswith("txt"):
            (tmp_path / "in" / name).write_text("x")
        else:
            save(tmp_path / "in" / name, pixels(seed=len(name)))
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5")
    assert [samples.id(row) for row in range(4)] == ["a", "b_9", "b_10", "sub_c"]
    assert samples.column("file").tolist() == ["a.PNG", "b 9.png", "b 10.png", "sub/c.jpg"]
    assert samples.about.bands == ("R", "G", "B")
    assert (samples.about.domain, samples.about.origin) == ("image", "upper")
    assert (samples.objects([0])[0] == pixels(seed=5).transpose(2, 0, 1)).all()
    assert any("1 file that does not end in" in note for note in report.notes)


def test_ids_that_are_not_the_names_are_told(tmp_path: Path) -> None:
    for name in ("my photo (1).png", "a/photo_1.png", "plain.b.png"):
        save(tmp_path / "in" / name, pixels())
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5")
    assert [samples.id(row) for row in range(3)] == ["a_photo_1", "my_photo__1_", "plain.b"]
    told = (
        "2 of 3 ids are not just the file's name, since an id holds only A-Z a-z 0-9 . _ : + - (others become _): "
        "'a/photo_1.png' has the id 'a_photo_1'."
    )
    assert [note for note in report.notes if "ids" in note] == [told]
    report, _ = run([tmp_path / "in" / "plain.b.png"], tmp_path / "plain.h5")
    assert not [note for note in report.notes if "ids" in note]


def test_two_names_that_make_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    save(tmp_path / "in/a b.png", pixels())
    save(tmp_path / "in/a_b.png", pixels())
    with pytest.raises(InputError, match=r"'a b.png' and 'a_b.png' both get the id 'a_b'"):
        run([tmp_path / "in"], tmp_path / "out.h5")
    save(tmp_path / "x/a.png", pixels())
    save(tmp_path / "y/a.png", pixels())
    with pytest.raises(InputError, match=r"Two pictures are named 'a.png'"):
        run([tmp_path / "x", tmp_path / "y"], tmp_path / "out.h5")


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=40))
def test_any_file_name_makes_a_valid_id(stem: str) -> None:
    from lookalike.about import id_from_name

    assert ID_PATTERN.fullmatch(id_from_name(f"{stem}.png"))


def test_catalog_columns_are_kept_by_picture_and_texts_become_labels(tmp_path: Path) -> None:
    for name in "cab":
        save(tmp_path / f"in/{name}.png", pixels())
    (tmp_path / "t.csv").write_text("file,kind,mag\nb.png,round,2.5\na.png,long,1.5\nc,flat,\n")
    _, samples = run([tmp_path / "in"], tmp_path / "out.h5", catalog=tmp_path / "t.csv")
    assert samples.column("file").tolist() == ["a.png", "b.png", "c.png"]
    assert samples.column("kind").tolist() == ["long", "round", "flat"]
    assert samples.column("mag")[:2].tolist() == [1.5, 2.5]
    assert np.isnan(samples.column("mag")[2])


def test_catalog_faults_are_named(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", pixels())
    save(tmp_path / "in/b.png", pixels())
    table = tmp_path / "t.csv"
    table.write_text("name,mag\na,1\n")
    with pytest.raises(InputError, match="needs a column `file`"):
        run([tmp_path / "in"], tmp_path / "out.h5", catalog=table)
    table.write_text("file,mag\na.png,1\nlost.png,2\n")
    with pytest.raises(InputError, match=r"1 of the 2 .* t.csv names .* 'lost.png' first; .* does not name is 'b.png'"):
        run([tmp_path / "in"], tmp_path / "out.h5", catalog=table)
    table.write_text("file,mag\na.png,1\na.png,2\n")
    with pytest.raises(InputError, match=r"names the picture 'a.png' twice"):
        run([tmp_path / "in"], tmp_path / "out.h5", catalog=table)
    table.write_text("file,mag\na.png,1\n")
    report, _ = run([tmp_path / "in"], tmp_path / "out.h5", catalog=table)
    assert (report.n, report.counts) == (1, {"pictures without a row in the catalog": 1})
    assert "1 of 2 pictures has no row in t.csv and is left out, 'b.png' first." in report.notes
    assert report.told == {"pictures without a row in the catalog"}  # which need not be said a second time


def test_names_spelled_otherwise_in_the_catalog_are_shown_from_both_sides(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"in/img_{i}.png", pixels(seed=i))
    table = tmp_path / "t.csv"
    table.write_text("file,mag\n" + "".join(f"IMG-{i}.png,{i}\n" for i in range(7)))
    both = r"None of the 5 pictures is named in t.csv: .* 'img_0.png', the first of 7 names in .* 'file' is 'IMG-0.png'"
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=both):
            run([tmp_path / "in"], tmp_path / "out.h5", catalog=table, skip_bad=skip_bad)
    assert not (tmp_path / "out.h5").exists()
    table.write_text("name,mag\n" + "".join(f"IMG-{i},{i}\n" for i in range(7)))
    with pytest.raises(InputError, match=r"the first picture is 'img_0', .* in column 'name' is 'IMG-0'"):
        run([tmp_path / "in"], tmp_path / "out.h5", catalog=table, id_column="name")
    table.write_text("file,mag\nimg_3.png,3\n" + "".join(f"IMG-{i}.png,{i}\n" for i in range(7)))
    report, _ = run([tmp_path / "in"], tmp_path / "out.h5", catalog=table, skip_bad=True)
    assert report.counts == {"pictures without a row in the catalog": 4, "catalog rows without a picture": 7}
    assert (
        "4 of 5 pictures have no row in t.csv and are left out, 'img_0.png' first; a name in the catalog without a "
        "picture is 'IMG-0.png'." in report.notes
    )


@pytest.mark.parametrize("column", ["file", "name"])
def test_catalog_rows_without_a_picture_are_listed(tmp_path: Path, column: str) -> None:
    save(tmp_path / "in/a.png", pixels())
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    (tmp_path / "t.csv").write_text(f"{column},mag\nlost,1\na,2\nbad,3\ngone,4\n")
    options = {"catalog": tmp_path / "t.csv", "id_column": None if column == "file" else column}
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", skip_bad=True, **options)
    assert samples.column("mag").tolist() == [2]
    assert report.counts == {"skipped as bad": 1, "catalog rows without a picture": 2}
    assert [name for name, _ in report.skipped] == ["bad.png", "lost", "gone"]


def test_a_long_name_is_told_with_the_way_out_or_left_out(tmp_path: Path) -> None:
    long = save(tmp_path / "in" / f"{'n' * 70}.png", pixels())
    save(tmp_path / "in/a.png", pixels())
    with pytest.raises(
        InputError, match=r"the name 'n{70}\.png' makes one of 70; name a catalog column with --id-column"
    ):
        run([tmp_path / "in"], tmp_path / "out.h5")
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", skip_bad=True)
    assert ([samples.id(0)], report.n) == (["a"], 1)
    assert [name for name, _ in report.skipped] == [long.name]
    (tmp_path / "t.csv").write_text(f"file,name\na.png,x\n{long.name},y\n")
    _, samples = run([tmp_path / "in"], tmp_path / "out.h5", catalog=tmp_path / "t.csv", id_column="name")
    assert [samples.id(row) for row in range(2)] == ["x", "y"]


def test_id_column_names_the_objects_and_keeps_every_digit(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", pixels())
    (tmp_path / "t.csv").write_text("file,objid,run\na.png,18446744073709551615,007\n")
    _, samples = run([tmp_path / "in"], tmp_path / "o.h5", catalog=tmp_path / "t.csv", id_column="objid")
    assert samples.id(0) == "18446744073709551615"
    _, samples = run([tmp_path / "in"], tmp_path / "o.h5", catalog=tmp_path / "t.csv", id_column="run:objid")
    assert samples.id(0) == "007:18446744073709551615"


def test_mixed_sizes_need_a_size_which_is_recorded_and_used_for_uploads(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", pixels(20, 30))
    save(tmp_path / "in/b.png", pixels(40, 16, seed=1))
    with pytest.raises(InputError, match=r"a.png is 30 × 20 px, b.png is 16 × 40 px\); give one with --size"):
        run([tmp_path / "in"], tmp_path / "out.h5")
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", size=16)
    assert samples.shape == (3, 16, 16)
    assert samples.about.preprocess["resize"] == 16
    # Slow definition: shorter side resized, center cropped.
    resized = Image.fromarray(pixels(20, 30)).resize((24, 16), Image.Resampling.BICUBIC)
    assert (samples.objects([0])[0] == np.asarray(resized)[:, 4:20].transpose(2, 0, 1)).all()
    assert (samples.objects([1])[0] == pixels(40, 16, seed=1)[12:28].transpose(2, 0, 1)).all()
    for row, name in enumerate(("a.png", "b.png")):
        upload = read_picture(tmp_path / "in" / name, name, samples.about)
        assert (upload == samples.objects([row])[0]).all()
    assert any("resized to 16 px" in note for note in report.notes)


@pytest.mark.parametrize("size", [None, 8, 20])
def test_only_the_center_is_kept_where_asked_for(tmp_path: Path, size: int | None) -> None:
    """--crop, then --size; the same for uploads, and smaller pictures are refused by name."""
    save(tmp_path / "in/a.png", pixels(20, 31))
    save(tmp_path / "in/b.png", pixels(40, 16, seed=1))
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", crop=16, size=size)
    assert samples.shape == (3, size or 16, size or 16)
    assert samples.about.preprocess["crop"] == 16
    # Slow definition: from row (20 − 16) // 2 and column (31 − 16) // 2 on.
    center = Image.fromarray(pixels(20, 31)[2:18, 7:23])
    wanted = center if size is None else center.resize((size, size), Image.Resampling.BICUBIC)
    assert (samples.objects([0])[0] == np.asarray(wanted).transpose(2, 0, 1)).all()
    for row, name in enumerate(("a.png", "b.png")):
        upload = read_picture(tmp_path / "in" / name, name, samples.about)
        assert (upload == samples.objects([row])[0]).all()
    assert any("central 16 × 16 px" in note for note in report.notes) == (size is not None)
    assert any("2 of 2 pictures have a side below" in note for note in report.notes) == (size == 20)
    save(tmp_path / "in/c.png", pixels(15, 90))
    with pytest.raises(InputError, match=r"c.png.*it is 90 × 15 px, and the central 16 × 16 px are asked for"):
        run([tmp_path / "in"], tmp_path / "again.h5", crop=16, size=size)
    report, samples = run([tmp_path / "in"], tmp_path / "again.h5", crop=16, size=size, skip_bad=True)
    assert [name for name, _ in report.skipped] == ["c.png"]
    with pytest.raises(InputError, match="at least 1 px wide, but crop 0"):
        run([tmp_path / "in"], tmp_path / "no.h5", crop=0)


def test_the_pixel_scale_of_the_files_becomes_that_of_what_is_stored(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", pixels(20, 30))
    save(tmp_path / "in/b.png", pixels(40, 20, seed=1))
    for options, scale in (
        ({"size": 10}, 1.0),
        ({"size": 40}, 0.25),
        ({"size": 10, "crop": 15}, 0.75),
        ({"crop": 8}, 0.5),
    ):
        _, samples = run([tmp_path / "in"], tmp_path / "out.h5", pixel_scale=0.5, **options)
        assert samples.about.pixel_scale == pytest.approx(scale)
    save(tmp_path / "in/c.png", pixels(12, 12))
    with pytest.raises(InputError, match=r"Pictures of 12 to 20 px have no one pixel scale .*--crop"):
        run([tmp_path / "in"], tmp_path / "other.h5", pixel_scale=0.5, size=10)


def test_pictures_that_are_not_square_need_a_size_and_small_ones_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", pixels(10, 14))
    with pytest.raises(InputError, match="14 × 10 px, not square"):
        run([tmp_path / "in"], tmp_path / "out.h5")
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", size=24)
    assert samples.shape == (3, 24, 24)
    assert report.counts == {"enlarged": 1}


def test_all_gray_stays_one_band_and_one_color_picture_makes_all_rgb(tmp_path: Path) -> None:
    gray = pixels()[..., 0]
    save(tmp_path / "in/a.png", gray)
    save(tmp_path / "in/b.png", pixels(seed=1)[..., 1])
    _, samples = run([tmp_path / "in"], tmp_path / "out.h5")
    assert (samples.about.bands, samples.shape) == (("gray",), (1, 12, 12))
    assert (samples.objects([0])[0, 0] == gray).all()
    with pytest.raises(InputError, match="in color, but this data set holds gray"):
        read_picture(encoded(Image.fromarray(pixels())), "q.png", samples.about)
    save(tmp_path / "in/c.png", pixels())
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5")
    assert (samples.objects([0])[0] == gray).all()  # three equal bands
    assert any("2 of 3 pictures are gray" in note for note in report.notes)


def _palette() -> bytes:
    return encoded(Image.fromarray(pixels()).quantize(8))


def test_palette_bilevel_opaque_alpha_and_orientation_are_handled() -> None:
    def rgb(data: bytes) -> np.ndarray[Any, Any]:
        with open_picture(data) as image:
            return to_array(image, ("R", "G", "B"), size=None)

    quantized = Image.fromarray(pixels()).quantize(8)
    assert (rgb(_palette()) == np.asarray(quantized.convert("RGB")).transpose(2, 0, 1)).all()
    opaque = Image.fromarray(np.dstack([pixels(), np.full((12, 12), 255, np.uint8)]))
    assert (rgb(encoded(opaque)) == pixels().transpose(2, 0, 1)).all()
    bilevel = Image.fromarray(pixels()[..., 0] > 127)
    assert set(np.unique(rgb(encoded(bilevel)))) == {0, 255}
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° clockwise to see it upright
    turned = rgb(encoded(Image.fromarray(pixels(8, 12)), exif=exif))
    assert (turned == np.rot90(pixels(8, 12), -1).transpose(2, 0, 1)).all()


def _png(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    """A PNG of zeros written by hand, so that its header can say anything."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = 1 + width * depth // 8 * {0: 1, 2: 3}[color]
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _bad_pictures() -> dict[str, tuple[bytes, str]]:
    picture = Image.fromarray(pixels(64, 64))
    whole = encoded(picture)
    frames = encoded(picture, save_all=True, append_images=[Image.fromarray(pixels(64, 64, 1))])
    clear = Image.fromarray(np.dstack([pixels(), np.arange(144, dtype=np.uint8).reshape(12, 12)]))
    palette = Image.fromarray(pixels()).quantize(8)
    return {
        "16-bit gray": (encoded(Image.fromarray(np.full((8, 8), 5000, np.uint16))), "16 bits per channel"),
        "16-bit color": (_png(8, 8, 16), "16 bits per channel"),
        "cmyk": (encoded(picture.convert("CMYK"), "JPEG"), "it is CMYK"),
        "animated": (frames, "holds 2 frames"),
        "truncated png": (whole[: len(whole) // 2], "cannot be decoded"),
        "truncated jpeg": (encoded(picture, "JPEG")[:700], "cannot be decoded"),
        "transparent": (encoded(clear), "transparent pixels"),
        "transparent palette": (encoded(palette, transparency=0), "transparent pixels"),
        "bomb": (_png(5000, 4000), "5000 × 4000 pixels, more than 16,000,000"),
        "larger bomb": (_png(12000, 12000), "more than 16,000,000"),
        "gif": (encoded(picture, "GIF"), "no PNG or JPEG"),
        "text": (b"hello", "no PNG or JPEG"),
        "empty": (b"", "no PNG or JPEG"),
    }


BAD = _bad_pictures()


@pytest.mark.parametrize("kind", BAD)
def test_an_odd_picture_is_refused_by_name_or_skipped_counted_and_listed(tmp_path: Path, kind: str) -> None:
    data, reason = BAD[kind]
    save(tmp_path / "in/good.png", pixels())
    (tmp_path / "in/odd.png").write_bytes(data)
    with pytest.raises(InputError, match=f"odd.png: .*{reason}"):
        run([tmp_path / "in"], tmp_path / "out.h5", size=12)
    assert not (tmp_path / "out.h5").exists()
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", size=12, skip_bad=True)
    assert [samples.id(row) for row in range(len(samples))] == ["good"]
    assert report.counts == {"skipped as bad": 1}
    assert report.skipped[0][0] == "odd.png"
    assert reason in report.skipped[0][1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6))
def test_changed_bytes_never_escape_as_another_error(cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(Image.fromarray(pixels(24, 24)), "JPEG" if cut % 2 else "PNG"))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        with open_picture(bytes(data[: max(1, cut)])) as image:
            to_array(image, ("R", "G", "B"), size=8)
    except BadPictureError:
        pass


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for files, error, message in (
        ([tmp_path / "in"], InputError, "No file ends in"),
        ([], InputError, "none was given"),
        ([tmp_path / "lost"], NotFoundError, "No such file or folder"),
    ):
        with pytest.raises(error, match=message):
            run(files, tmp_path / "out.h5")
    save(tmp_path / "in/a.png", pixels())
    with pytest.raises(
        InputError, match=r"Unknown domain 'galxy'. Did you mean 'galaxy'\? Choices: galaxy, image, jet, event"
    ):
        run([tmp_path / "in"], tmp_path / "out.h5", domain="galxy")
    with pytest.raises(InputError, match=r"Unknown source 'image'. Did you mean 'images'"):
        ingest("image", [tmp_path / "in"], tmp_path / "out.h5")


def test_prepare_picture_refuses_bands_that_are_no_picture() -> None:
    from lookalike.samples import About

    about = About(domain="galaxy", bands=("g", "r", "z"), unit="nanomaggies")
    with (
        open_picture(encoded(Image.fromarray(pixels()))) as image,
        pytest.raises(BadPictureError, match="g, r, z in nano"),
    ):
        prepare_picture(image, about)


def test_real_galaxy_zoo_pictures(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "galaxies_gz2_1000"
    with zipfile.ZipFile(folder / "images.zip") as archive:
        archive.extractall(tmp_path / "in")
    report, samples = run(
        [tmp_path / "in"],
        tmp_path / "out.h5",
        size=64,
        catalog=folder / "labels_manifest_1000.csv",
        id_column="asset_id",
        domain="galaxy",
    )
    assert report.n == 1000
    assert samples.shape == (3, 64, 64)
    labels, counts = np.unique(samples.column("derived_label"), return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == dict.fromkeys(
        ("edge-on", "elliptical", "merger", "spiral"), 250
    )
    assert samples.column("file")[3] == f"{samples.id(3)}.jpg"


def test_real_sdss_pictures_with_positions(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "sdss_unlabelled_200px"
    with zipfile.ZipFile(folder / "images.zip") as archive:
        archive.extractall(tmp_path / "in", archive.namelist()[:300])
    report, samples = run([tmp_path / "in"], tmp_path / "out.h5", size=64, catalog=folder / "coords.csv", skip_bad=True)
    assert report.n == 300
    assert samples.columns["ra"].unit == "deg"
    assert ((samples.column("ra") >= 0) & (samples.column("ra") < 360)).all()
