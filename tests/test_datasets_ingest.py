"""What is the same for every source: lost numbers and missing values are told, a file in the way is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lookalike.datasets import IngestReport, ingest
from lookalike.datasets.contract import Ledger, some_left_out
from lookalike.datasets.inputs import changes
from lookalike.datasets.lost_numbers import NO_VALUE, note_lost_numbers
from lookalike.errors import InputError
from lookalike.provenance import read_record, record_path, write_record
from lookalike.samples import Samples

N = 6


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), dtype=np.uint8))
    return tmp_path / "a.npy"


def run(arrays: Path, catalog: str | None = None, out: str = "out.h5", **options: Any) -> IngestReport:
    if catalog is not None:
        (arrays.parent / "t.csv").write_text(catalog)
        options["catalog"] = arrays.parent / "t.csv"
    return ingest("numpy", [arrays], arrays.parent / out, quiet=True, **options)


def column(name: str, values: list[str]) -> str:
    return f"{name},n\n" + "".join(f"{value},{i}\n" for i, value in enumerate(values))


def test_a_column_of_numbers_that_became_text_is_told_with_its_first_bad_value(arrays: Path) -> None:
    report = run(arrays, column("mag", ["20.1", "20.2", "", "21~", "NA", "bad"]))
    told = [note for note in report.notes if "stored as text" in note]
    assert len(told) == 1
    assert told[0].startswith(
        "Column 'mag' of t.csv is stored as text: 2 of its 4 values are no numbers, the first '21~' in row 4 "
    )
    assert Samples(report.out).column("mag").dtype.kind == "U"
    assert (read_record(report.out) or {})["notes"] == report.notes


def test_missing_values_are_counted_by_column(arrays: Path) -> None:
    report = run(arrays, "mag,label,k\n20,a,1\n,b,2\nnan,,3\nNA,,4\n21,,5\n22,c,6\n")
    assert report.missing == {"mag": 3, "label": 3, "k": 0}
    assert "Without a value (NaN or blank), of 6 objects: label 3, mag 3." in report.notes
    assert (read_record(report.out) or {})["missing"] == report.missing


def test_names_and_labels_are_no_lost_numbers(arrays: Path) -> None:
    labels = run(arrays, column("label", ["spiral", "1", "2", "round", "edge", "none"]))
    assert not [note for note in labels.notes if "text" in note]
    named = run(arrays, column("id", ["1", "2", "3", "a", "5", "6"]), "b.h5", id_column="id")
    assert not [note for note in named.notes if "text" in note]


def is_float(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


@given(st.lists(st.sampled_from(["1", "-2.5", "3e4", "+.5", "7.", "inf", "", "NA", "nan", "x", "1 2", "5m", "--"])))
def test_a_note_names_what_cannot_be_read_as_a_number(texts: list[str]) -> None:
    ledger = Ledger()
    note_lost_numbers("c", np.array(texts, dtype=str), "t", ledger)
    filled = [text for text in texts if text.lower() not in NO_VALUE]
    bad = [text for text in filled if not is_float(text)]
    if not filled or 2 * len(bad) > len(filled):
        assert not ledger.notes
    elif bad:
        assert f"{len(bad):,} of its {len(filled):,} values" in ledger.notes[0]
        assert f"{bad[0]!r} in row {texts.index(bad[0]) + 1:,} " in ledger.notes[0]
    else:
        assert bool(ledger.notes) == any(not text.lstrip("+-").isdigit() for text in filled)


def test_an_output_of_other_content_is_kept_unless_it_may_be_replaced(arrays: Path) -> None:
    first = run(arrays, "mag\n1\n2\n3\n4\n5\n6\n")
    kept = first.out.read_bytes()
    record = read_record(first.out)
    with pytest.raises(InputError, match=r"made with other options \(size\)\. .*--overwrite"):
        run(arrays, size=6, catalog="mag\n1\n2\n3\n4\n5\n6\n")
    with pytest.raises(InputError, match=r"made from other files \(t.csv has changed\)\. "):
        run(arrays, "mag\n1\n2\n3\n4\n5\n7\n")
    with pytest.raises(InputError, match=r"made from other files \(t.csv is not read now\)\. "):
        run(arrays)
    assert (first.out.read_bytes(), read_record(first.out)) == (kept, record)
    again = run(arrays, "mag\n1\n2\n3\n4\n5\n6\n")
    assert f"{again.out} held exactly these objects already." in again.notes
    assert again.content_hash == first.content_hash
    other = run(arrays, size=6, overwrite=True)
    assert Samples(other.out).shape == (3, 6, 6)


def test_files_that_changed_under_their_names_are_found_out_before_anything_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file's record names no hash of what is in it."""
    monkeypatch.setattr("lookalike.datasets.inputs.HASHED_BYTES", 0)
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 3, 8, 8), np.uint8))
    first = run(path)
    kept = first.out.read_bytes()
    np.save(path, np.ones((2, 3, 8, 8), np.uint8))
    with pytest.raises(InputError, match=r"out.h5 holds something else \(content hash "):
        run(path)
    assert first.out.read_bytes() == kept


def test_what_is_read_is_not_written(arrays: Path) -> None:
    with pytest.raises(InputError, match=r"a.npy is read here and cannot be written too"):
        run(arrays, out="a.npy", overwrite=True)
    assert np.load(arrays).shape == (N, 3, 8, 8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three pictures, the third a link to a file without an ending."""
    folder = tmp_path / "ph"
    (folder / "more").mkdir(parents=True)
    for name in ("ph/p1.png", "ph/more/p2.PNG", "stored"):
        Image.fromarray(np.full((8, 8), len(name), np.uint8)).save(tmp_path / name, format="png")
    (folder / "p3.png").symlink_to(tmp_path / "stored")
    return folder


@pytest.mark.parametrize("out", ["ph/p1.png", "ph/more/p2.PNG", "ph/p3.png", "stored"])
def test_a_picture_of_a_folder_that_is_read_is_not_written(pictures: Path, out: str) -> None:
    path = pictures.parent / out
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"{out} is read here, as part of .*ph, and cannot be written; choose"):
        ingest("images", [pictures], path, overwrite=True, quiet=True)
    assert path.read_bytes() == before
    assert ingest("images", [pictures], pictures / "samples.h5", quiet=True).n == 3
    ingest("images", [pictures], pictures / "samples.h5", overwrite=True, quiet=True)


@pytest.mark.parametrize("name", ["b.npy", "b.NPZ", "b.fits.gz", "b.jpeg", "link.h5"])
def test_a_name_that_no_samples_file_can_have_is_refused_before_the_work(
    arrays: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (arrays.parent / "link.h5").symlink_to(arrays.parent / "other.npy")
    monkeypatch.setattr("lookalike.datasets.numpy_arrays.ingest", lambda *_: pytest.fail("the arrays were read"))
    with pytest.raises(InputError, match=r"has the name of a file that `lookalike ingest \w+` reads; give one such as"):
        run(arrays, out=name)


def test_a_folder_whose_files_changed_is_refused_before_they_are_read(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> IngestReport:
        return ingest("images", [pictures], pictures.parent / "s.h5", quiet=True)

    first = again()
    (pictures / "readme.txt").write_text("no picture")
    assert "held exactly these objects already" in again().notes[-1]
    monkeypatch.setattr("lookalike.datasets.images.ingest", lambda *_: pytest.fail("the pictures were read"))
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(pictures / "p4.png")
    with pytest.raises(InputError, match=r"from other files \(ph held 3 files then and holds 4 now\)\. .*--overwrite"):
        again()
    (pictures / "p1.png").unlink()
    with pytest.raises(InputError, match=r"\(some of the 3 files in ph have another name, size or time\)"):
        again()
    assert Samples(first.out).content_hash == first.content_hash


def test_a_record_that_names_no_files_of_a_folder_is_no_reason_to_refuse(pictures: Path) -> None:
    """As those of earlier versions."""
    out = pictures.parent / "s.h5"
    ingest("images", [pictures], out, quiet=True)
    write_record(out, (read_record(out) or {}) | {"inputs": {str(pictures): "folder"}})
    assert "held exactly these objects already" in ingest("images", [pictures], out, quiet=True).notes[-1]


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"inputs": [1]}', '{"settings": 3}', None], ids=str)
def test_a_broken_record_does_not_keep_the_same_from_being_made_again(arrays: Path, broken: str | None) -> None:
    first = run(arrays)
    record = record_path(first.out)
    if broken is None:
        record.chmod(0)
    else:
        record.write_text(broken)
    again = run(arrays)
    assert again.content_hash == first.content_hash
    assert (read_record(again.out) or {})["command"] == "ingest numpy"


def test_inputs_of_one_name_in_two_folders_are_told_apart() -> None:
    then = {"a/x.npy": "sha256:1", "b/x.npy": "sha256:2", "y.npy": "bytes:5"}
    assert changes(then, {"c/x.npy": "sha256:2", "d/x.npy": "sha256:1", "y.npy": "bytes:5"}) == []
    assert changes(then, then | {"b/x.npy": "sha256:3"}) == ["x.npy has changed"]
    assert changes(then, {"a/x.npy": "sha256:1", "z.npy": "bytes:5"}) == [
        "z.npy was not read then",
        "x.npy is not read now",
        "y.npy is not read now",
    ]


def test_a_file_of_someone_else_is_not_replaced(arrays: Path) -> None:
    (arrays.parent / "out.h5").write_text("a letter")
    with pytest.raises(InputError, match=r"is there already and is no file of ours\. .*--overwrite"):
        run(arrays)
    assert (arrays.parent / "out.h5").read_text() == "a letter"
    assert run(arrays, overwrite=True).n == N


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("fits", "a.fits", r"a\.fits cannot be read as FITS|a\.fits is not a FITS file"),
        ("numpy", "a.npy", r"a\.npy"),
        ("images", "a.png", r"a\.png"),
        ("legacysurvey", "a.h5", r"a\.h5"),
    ],
)
def test_where_every_file_is_bad_the_first_reason_is_told_with_skip_bad_too(
    tmp_path: Path, source: str, name: str, reason: str
) -> None:
    (tmp_path / name).write_bytes(b"hello")
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=reason) as caught:
            ingest(source, [tmp_path / name], tmp_path / "s.out", skip_bad=skip_bad, quiet=True)
        assert caught.value.message.count("\n") == 0
        assert ("nothing was written. 1 skipped as bad. The first, " in caught.value.message) == skip_bad
    assert not (tmp_path / "s.out").exists()


@pytest.mark.parametrize("first", ["1", "10", "100", "0"])
def test_what_is_left_out_is_shown_with_its_name_even_where_that_is_a_number(first: str) -> None:
    reason = "100.0% of its pixels are masked"
    skipped = [(name, reason) for name in (first, "2", "100.0", "x1")]
    named = [("a.png", "a.png is no picture"), ("b.png", "b.png: is no picture"), ("c.png", "c.png.gz is no picture")]
    assert some_left_out(skipped)[:3] == [f"{name}: {reason}" for name, _ in skipped[:3]]
    assert some_left_out(named) == ["a.png is no picture", "b.png: is no picture", "c.png: c.png.gz is no picture"]
    assert len(some_left_out([(str(row), reason) for row in range(200)])) == len(some_left_out(skipped * 50))
