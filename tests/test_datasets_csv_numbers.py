"""Cells of CSV files that are no numbers: named by row, or with --skip-bad left out like any other bad row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from lookalike.datasets import event_blocks, ingest
from lookalike.datasets.contract import Ledger
from lookalike.datasets.csv_numbers import numbers
from lookalike.datasets.table import read_table
from lookalike.errors import InputError
from lookalike.events import ALL_DERIVED, PRIMITIVES
from lookalike.samples import Samples

HIGGS = {"EventId": "7", "PRI_jet_num": "0", "PRI_jet_all_pt": "0", "Weight": "1.5", "Label": "s"} | {
    f"PRI_{name}": "20.5" for name in ("tau_pt", "lep_pt", "met", "met_sumet")
}
HEADER = ["EventId", *ALL_DERIVED, *PRIMITIVES, "Weight", "Label"]
BAD = {3: ("PRI_tau_pt", "seven"), 8: ("Weight", "1,5"), 9: ("PRI_tau_pt", "20.5 GeV"), 30: ("DER_mass_vis", "\xff")}


def arrows_own(cells: list[bytes]) -> list[float | None]:
    """Each cell as Arrow's CSV reader takes it in a column of its own; None where it does not."""
    found: list[float | None] = []
    options = csv.ConvertOptions(column_types={"a": pyarrow.float64()})
    for cell in cells:
        try:
            (value,) = csv.read_csv(pyarrow.BufferReader(b"a,b\n" + cell + b",1\n"), convert_options=options)["a"]
            found.append(float("nan") if value.as_py() is None else value.as_py())
        except pyarrow.ArrowInvalid:
            found.append(None)
    return found


@given(
    st.lists(st.sampled_from([b"1", b" 2.5 ", b"-3e4", b"", b"nan", b"NA", b"x", b"1e", b"inf", b"0x1", b"\xe9", b"-"]))
)
def test_numbers_are_those_of_arrows_own_reader(cells: list[bytes]) -> None:
    values, odd = numbers(pyarrow.array(cells, pyarrow.binary()), "a")
    wanted = arrows_own(cells)
    bad = [place for place, value in enumerate(wanted) if value is None]
    assert (bad == []) == (odd is None)
    np.testing.assert_array_equal(values, np.array([np.nan if value is None else value for value in wanted]))
    if odd is not None:
        assert np.flatnonzero(odd.rows).tolist() == bad
        assert odd.first == cells[bad[0]].decode("utf-8", "replace")


def test_whole_numbers_of_many_digits_stay_exact() -> None:
    cells = [b"4503668346847233", b"9223372036854775807", b"1.5", b"", b"-2", b"9223372036854775808", b"nan"]
    values, odd = numbers(pyarrow.array(cells, pyarrow.binary()), "particle_id", whole=True)
    assert values.dtype == np.int64
    assert values.tolist() == [4503668346847233, 2**63 - 1, -1, -1, -2, -1, -1]
    assert odd is not None
    assert (odd.rows.tolist(), odd.first) == ([False, False, True, True, False, True, True], "1.5")


def events(n: int) -> list[dict[str, str]]:
    """Cells of rows of the Higgs challenge, by column; the jets that there are not are undefined."""
    jets = {name: "-999" for name in HEADER if name.startswith("PRI_jet_") and name not in HIGGS}
    return [dict.fromkeys(HEADER, "0.5") | HIGGS | jets | {"EventId": str(row)} for row in range(n)]


@pytest.mark.parametrize("block", [1 << 20, 2000], ids=["one block", "many blocks"])
def test_rows_with_a_cell_that_is_no_number_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(event_blocks, "CSV_BYTES", block)
    rows = events(40)
    for row, (name, cell) in BAD.items():
        rows[row - 1][name] = f'"{cell}"'
    file = tmp_path / "events.csv"
    lines = [",".join(HEADER), *(",".join(each[name] for name in HEADER) for each in rows)]
    file.write_bytes("\n".join(lines).encode("latin-1") + b"\n")
    with pytest.raises(InputError, match=r"events.csv, row 3 \(counted from 1\): PRI_tau_pt cannot be read: .*'seven'"):
        ingest("higgsml", [file], tmp_path / "s.h5", quiet=True)
    assert not (tmp_path / "s.h5").exists()
    report = ingest("higgsml", [file], tmp_path / "s.h5", skip_bad=True, quiet=True)
    assert report.counts == {"events left out": 4}
    assert {name.partition("csv, ")[2]: reason for name, reason in report.skipped} == {
        "rows 3, 9": "PRI_tau_pt cannot be read: it is no number.",
        "row 8": "Weight cannot be read: it is no number.",
        "row 30": "DER_mass_vis cannot be read: it is no number.",
    }
    kept = [n for n in range(40) if n + 1 not in BAD]
    assert Samples(report.out).ids.tolist() == [str(n).encode() for n in kept]


def test_tables_with_a_map_leave_such_rows_out_too(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(
        json.dumps(
            {"id": "n", "objects": [{"type": "muon", "pt": "pt", "eta": "eta", "phi": "phi"}], "catalog": {"m": "M"}}
        )
    )
    (tmp_path / "t.csv").write_text(
        "n,pt,eta,phi,M,note\n1,20,0.5,1,90,x\n2,20,zero,1,90,x\n3,20,0.5,1,?,x\n4,21,0,1,,x\n"
    )
    files, out = [tmp_path / "t.csv"], tmp_path / "s.h5"
    with pytest.raises(InputError, match=r"row 2 \(counted from 1\): eta cannot be read: it is no number, but 'zero'"):
        ingest("events", files, out, columns=tmp_path / "map.json", quiet=True)
    report = ingest("events", files, out, columns=tmp_path / "map.json", skip_bad=True, quiet=True)
    assert report.counts == {"events left out": 2}
    assert Samples(out).ids.tolist() == [b"1", b"4"]
    assert np.isnan(Samples(out).column("m")).tolist() == [False, True]


@pytest.mark.parametrize("cell", ["three", "", "1.5"])
def test_hits_with_such_a_cell_are_left_out(tmp_path: Path, cell: str) -> None:
    head = "hit_id,x,y,z,volume_id,layer_id,module_id\n"
    good = [f"{hit},{30 + hit},2,{hit},8,2,1" for hit in range(6)]  # a hit 0 is no hit without a number
    whole = [*good[:2], f"9,31,2,3,{cell},2,1", *good[2:]]
    file = tmp_path / "event000000001-hits.csv"
    file.write_text(head + "\n".join(whole) + "\n")
    with pytest.raises(InputError, match=r"hits.csv, row 3 .*volume_id cannot be read: it is no whole number"):
        ingest("trackml", [tmp_path], tmp_path / "s.h5", quiet=True)
    report = ingest("trackml", [tmp_path], tmp_path / "s.h5", skip_bad=True, quiet=True)
    assert report.counts["hits left out"] == 1
    clean = tmp_path / "clean"
    clean.mkdir()
    (clean / file.name).write_text(head + "\n".join(good) + "\n")
    ingest("trackml", [clean], tmp_path / "c.h5", quiet=True)
    assert Samples(tmp_path / "s.h5").content_hash == Samples(tmp_path / "c.h5").content_hash


def test_positions_that_are_no_numbers_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ra,dec,mag\n10.5,1,20\n?,2,21\n,3,22\n11,none,23\n")
    table = read_table(tmp_path / "t.csv", Ledger())
    with pytest.raises(InputError, match=r"t.csv, row 2 \(counted from 1\): ra is no number, but '\?'"):
        table.numbers(["ra", "dec"], Ledger())
    ledger = Ledger(skip_bad=True)
    (ra, dec), bad = table.numbers(["ra", "dec"], ledger)
    np.testing.assert_array_equal(ra, [10.5, np.nan, np.nan, 11])
    np.testing.assert_array_equal(dec, [1, 2, 3, np.nan])
    assert bad.tolist() == [False, True, False, True]
    assert ledger.counts == {"objects that cannot be read": 2}
    assert [name for name, _ in ledger.skipped] == ["t.csv, row 2 (counted from 1)", "t.csv, row 4 (counted from 1)"]


@pytest.mark.parametrize("block", [1 << 20, 2000], ids=["one block", "many blocks"])
def test_rows_of_another_number_of_cells_are_bad_rows_and_shift_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(event_blocks, "CSV_BYTES", block)
    rows = events(40)
    rows[30]["Weight"] = "1.5 s"  # row 31, after two that are passed over
    lines = [",".join(HEADER), "", *(",".join(each[name] for name in HEADER) for each in rows)]
    lines[2 + 4], lines[2 + 20], lines[2 + 39] = "1008", lines[2 + 20] + ",1", "39,0.5"
    file = tmp_path / "events.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(
        InputError, match=r"row 5 \(counted from 1\): .* has 1 cell, but there are 33 columns: '1008'\."
    ):
        ingest("higgsml", [file], tmp_path / "s.h5", quiet=True)
    report = ingest("higgsml", [file], tmp_path / "s.h5", skip_bad=True, quiet=True)
    assert report.counts == {"events left out": 4}
    assert {name.partition("csv, ")[2]: reason for name, reason in report.skipped} == {
        "row 31": "Weight cannot be read: it is no number.",
        "rows 5, 21, 40": "it cannot be read: it has another number of cells than there are columns.",
    }
    assert Samples(report.out).ids.tolist() == [str(n).encode() for n in range(40) if n not in (4, 20, 30, 39)]
    file.write_text("\n".join([lines[0], "1,2", "3"]))
    with pytest.raises(InputError, match=r"row 1 \(counted from 1\): it cannot be read: it has 2 cells"):
        ingest("higgsml", [file], tmp_path / "t.h5", quiet=True)
    with pytest.raises(InputError, match=r"No object to store: .* 2 events left out\. .*rows 1, 2: it cannot be read"):
        ingest("higgsml", [file], tmp_path / "t.h5", skip_bad=True, quiet=True)


def test_rows_with_numbers_for_ids_keep_them_where_others_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(
        json.dumps({"objects": [{"type": "muon", "pt": "pt", "eta": "eta", "phi": "phi"}]})
    )
    (tmp_path / "t.csv").write_text("pt,eta,phi\n20,0.5,1\n20\n21,0,1\n22,0,1,4\n23,0,1\n")
    files, columns = [tmp_path / "t.csv"], tmp_path / "map.json"
    with pytest.raises(InputError, match=r"row 2 \(counted from 1\): .* 1 cell, but there are 3 columns"):
        ingest("events", files, tmp_path / "s.h5", columns=columns, quiet=True)
    report = ingest("events", files, tmp_path / "s.h5", columns=columns, skip_bad=True, quiet=True)
    assert report.counts == {"events left out": 2}
    assert Samples(report.out).ids.tolist() == [b"0", b"2", b"4"]


def test_hits_of_another_number_of_cells_are_left_out(tmp_path: Path) -> None:
    lines = [
        "hit_id,x,y,z,volume_id,layer_id,module_id",
        *(f"{hit},{30 + hit},2,{hit},8,2,1" for hit in range(6)),
        "7,3",
    ]
    (tmp_path / "event000000001-hits.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"hits.csv, row 7 .* it has 2 cells, but there are 7 columns: '7,3'"):
        ingest("trackml", [tmp_path], tmp_path / "s.h5", quiet=True)
    report = ingest("trackml", [tmp_path], tmp_path / "s.h5", skip_bad=True, quiet=True)
    assert (report.n, report.counts["hits left out"]) == (6, 1)


def test_catalog_rows_of_another_number_of_cells_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("id\tmag\na\t1\nb\nc\t3\n")
    with pytest.raises(
        InputError,
        match=r"t.tsv, row 2 \(counted from 1\): it cannot be read as a catalog's: it has 1 cell.*such objects out",
    ):
        read_table(tmp_path / "t.tsv", Ledger())
    ledger = Ledger(skip_bad=True)
    table = read_table(tmp_path / "t.tsv", ledger)
    assert (table.texts("id"), table.column("mag").tolist()) == (["a", "c"], [1, 3])
    assert ledger.counts == {"objects that cannot be read": 1}
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 8, 8), np.uint8))  # as many as there are rows left
    with pytest.raises(InputError, match=r"row 2 .* cannot be left out, since the catalog's rows go with the arrays'"):
        ingest("numpy", [tmp_path / "a.npy"], tmp_path / "s.h5", catalog=tmp_path / "t.tsv", skip_bad=True, quiet=True)
