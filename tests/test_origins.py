"""Repeated ids are told with the first two objects that have one, as each source counts its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lookalike.datasets import ingest
from lookalike.errors import InputError
from lookalike.origins import Origins, Rows, rows_of


@given(st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=5), max_size=5))
def test_the_first_two_of_an_id_are_told(blocks: list[list[tuple[int, int]]]) -> None:
    """Against a walk over the objects in order; each has a number in its file and an id of one digit."""
    origins, ids, told = Origins(), [], []
    for number, block in enumerate(blocks):
        rows = np.array([row for row, _ in block])
        origins.add(len(block), Rows(rows, rows_of(f"{number}.csv", 1)))
        ids += [str(name) for _, name in block]
        told += [f"row {row + 1} of {number}.csv (counted from 1)" for row in rows]
    seen: dict[str, str] = {}
    for name, where in zip(ids, told, strict=True):
        if name in seen:
            with pytest.raises(InputError) as caught:
                origins.refuse_repeated(np.array(ids, "S"))
            assert caught.value.message == f"Ids must be unique, but '{name}' occurs twice: {seen[name]} and {where}."
            return
        seen[name] = where
    origins.refuse_repeated(np.array(ids, "S"))


def test_consecutive_rows_are_kept_as_ranges() -> None:
    origins = Origins()
    for start in range(0, 1_000_000, 10_000):
        origins.add(10_000, Rows(np.arange(start, start + 10_000), rows_of("a.h5", 0)))
    assert all(isinstance(rows, range) for rows, _ in origins._blocks)
    assert origins.told(123_456) == "row 123,456 of a.h5 (counted from 0)"


def refused(source: str, files: list[Path], **options: Any) -> str:
    """What ingestion says of a repeated id."""
    out = files[0].parent / "s.h5"
    with pytest.raises(InputError, match="occurs twice") as caught:
        ingest(source, files, out, quiet=True, **options)
    assert caught.value.code == "duplicate_id"
    assert not out.exists()
    return caught.value.message.partition("occurs twice: ")[2].partition(" --id-column")[0]


def test_rows_of_tables_are_told_though_others_are_left_out_before_them(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(
        json.dumps({"id": "n", "objects": [{"type": "muon", "pt": "pt", "eta": "eta", "phi": "phi"}]})
    )
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("n,pt,eta,phi\n1,20,0.5,1\n2,-20,0.5,1\n3,20,0.5,1\n")
    two.write_text("n,pt,eta,phi\n4,x,0.5,1\n5,20,0.5,1\n3,20,0,1\n")
    said = refused("events", [one, two], columns=tmp_path / "map.json", skip_bad=True)
    assert said == f"row 3 of {one} (counted from 1) and row 3 of {two} (counted from 1)."


def test_rows_of_arrays_and_jets_count_from_0_as_their_ids_do(tmp_path: Path) -> None:
    file = tmp_path / "p.npz"
    np.savez(file, images=np.zeros((4, 1, 8, 8), np.uint8), name=np.array(["a", "b", "c", "b"]))
    assert refused("numpy", [file], id_column="name") == (
        f"row 1 of {file}[images] (counted from 0) and row 3 of {file}[images] (counted from 0)."
    )
    constituents = np.full((4, 3, 3), 0.1)
    constituents[..., 0], constituents[1, :, 0] = 50.0, -1.0  # one that is left out
    with h5py.File(tmp_path / "jets.h5", "w") as data:
        data["jets"], data["number"] = constituents, np.array([5, 7, 8, 5])
    said = refused("jets", [tmp_path / "jets.h5"], bands=("pt", "eta", "phi"), id_column="number")
    assert said.startswith("row 0 of ")
    assert " and row 3 of " in said


def test_pictures_are_told_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text("file,key\na.png,k\nb.png,k\n")
    said = refused("images", [tmp_path], catalog=tmp_path / "t.csv", id_column="key")
    assert said == "the picture 'a.png' and the picture 'b.png'."
    (tmp_path / "t.csv").write_text("file,key\na.png,k\nb.png,l\na.png,m\n")
    with pytest.raises(InputError, match=r"'a.png' twice, in rows 1 and 3 \(counted from 1\)"):
        ingest("images", [tmp_path], tmp_path / "s.h5", catalog=tmp_path / "t.csv", quiet=True)


def test_a_repeated_hit_is_told_with_the_row_it_repeats(tmp_path: Path) -> None:
    head = "hit_id,x,y,z,volume_id,layer_id,module_id\n"
    hits = "".join(f"{hit},{30 + hit},2,{hit},8,2,1\n" for hit in (4, 5, 6, 5))
    (tmp_path / "event000000001-hits.csv").write_text(head + hits)
    with pytest.raises(InputError, match=r"hits.csv, row 4 \(counted from 1\): hit_id was there before, in row 2\."):
        ingest("trackml", [tmp_path], tmp_path / "s.h5", quiet=True)
    report = ingest("trackml", [tmp_path], tmp_path / "s.h5", skip_bad=True, quiet=True)
    assert report.counts["hits left out"] == 1
