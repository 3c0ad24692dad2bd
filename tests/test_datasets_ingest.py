"""What is the same for every source: lost numbers and missing values are told, a file in the way is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.datasets import IngestReport, ingest
from lookalike.datasets.contract import Ledger
from lookalike.datasets.lost_numbers import NO_VALUE, note_lost_numbers
from lookalike.errors import InputError
from lookalike.provenance import read_record
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
    with pytest.raises(InputError, match=r"made from other files\. "):
        run(arrays, "mag\n1\n2\n3\n4\n5\n7\n")
    with pytest.raises(InputError, match=r"made from other files\. "):
        run(arrays)
    assert (first.out.read_bytes(), read_record(first.out)) == (kept, record)
    again = run(arrays, "mag\n1\n2\n3\n4\n5\n6\n")
    assert f"{again.out} held exactly these objects already." in again.notes
    assert again.content_hash == first.content_hash
    other = run(arrays, size=6, overwrite=True)
    assert Samples(other.out).image_shape == (3, 6, 6)


def test_files_that_changed_under_their_names_are_found_out_before_anything_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's or a large file's record names no hash of what is in it."""
    monkeypatch.setattr("lookalike.datasets.HASHED_BYTES", 0)
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


def test_a_file_of_someone_else_is_not_replaced(arrays: Path) -> None:
    (arrays.parent / "out.h5").write_text("a letter")
    with pytest.raises(InputError, match=r"is there already and is no file of ours\. .*--overwrite"):
        run(arrays)
    assert (arrays.parent / "out.h5").read_text() == "a letter"
    assert run(arrays, overwrite=True).n == N
