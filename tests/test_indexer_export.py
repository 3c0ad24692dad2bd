"""Neighbor lists as tables: every format read back by another reader and compared with the definition.

pytest tests/test_indexer_export.py
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from astropy.io import fits, votable
from astropy.table import Table as AstropyTable

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.indexer import export as exporting
from lookalike.indexer import export_tables
from lookalike.indexer.export import export_lists
from lookalike.indexer.export_columns import Arrow, Rows, Sheet
from lookalike.indexer.export_formats import WRITERS
from lookalike.indexer.index import Index
from lookalike.indexer.own_vectors import index_vectors
from lookalike.spreadsheets import escaped_all

ENDINGS = [ending for ending in WRITERS if ending != ".hdf5"]  # another name of .h5
NAMES = ("id", "neighbor_id", "rank", "similarity", "mag", "label")
Run = Callable[..., subprocess.CompletedProcess[str]]
Line = tuple[Any, ...]


def defined(folder: Path, ids: list[str] | None = None, k: int = 60, least: float = -2.0) -> list[Line]:
    """The table by its definition: id, neighbor id, rank, similarity, mag and label of the neighbor."""
    index = Index(folder)
    data = index.open_samples()
    names, mag, label = data.ids.astype(str).tolist(), data.column("mag"), data.column("label")
    found: list[Line] = []
    for name in names if ids is None else ids:
        own = names.index(name)
        for place in range(k):
            row, value = int(index.neighbor_row[own, place]), index.similarity[own, place]
            if row >= 0 and value >= np.float32(least):
                undefined = math.isnan(mag[row])
                found.append((name, names[row], place + 1, value, None if undefined else mag[row], str(label[row])))
    return found


def read_parquet(path: Path) -> tuple[list[Line], Any]:
    file = pyarrow.parquet.ParquetFile(path)
    told = json.loads(file.metadata.metadata[b"lookalike"])
    table = file.read()
    assert table.schema.field("id").type == "string"
    return [tuple(row[name] for name in NAMES) for row in table.to_pylist()], told


def read_csv(path: Path) -> tuple[list[Line], Any]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == NAMES
    lines = [(r[0], r[1], int(r[2]), np.float32(r[3]), float(r[4]) if r[4] else None, r[5]) for r in rows[1:]]
    beside = json.loads(path.with_name(f"{path.name}-metadata.json").read_text())
    assert [column["name"] for column in beside["tableSchema"]["columns"]] == list(NAMES)
    assert beside["url"] == path.name
    return lines, beside["lookalike"]


def read_hdf5(path: Path) -> tuple[list[Line], Any]:
    with h5py.File(path) as file:
        columns = {name: file[name][:] for name in NAMES}
        assert file["mag"].attrs["unit"].decode() == "mag"
        assert file["mag"].attrs["description"].decode().startswith("of the neighbor: ")
        told = json.loads(file.attrs["lookalike"]) | {"columns": {"mag": {"unit": "mag"}}}
    for name in ("id", "neighbor_id", "label"):
        columns[name] = np.char.decode(columns[name], "utf-8")
    return plain(columns), told


def plain(columns: dict[str, Any]) -> list[Line]:
    made = zip(*(columns[name].tolist() for name in NAMES), strict=True)
    return [(a, b, c, d, None if math.isnan(e) else e, f) for a, b, c, d, e, f in made]


def read_fits(path: Path) -> tuple[list[Line], Any]:
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        told = {
            "index": header["LKINDEX"],
            "index_version": header["LKVERS"],
            "k": header["LKK"],
            "window": header["LKWINDOW"],
        }
        comments = {header[f"TTYPE{i}"]: header[f"TCOMM{i}"] for i in range(1, 7)}
        assert comments["mag"].startswith("of the neighbor: ")
    table = AstropyTable.read(path)
    assert str(table["mag"].unit) == "mag"
    columns = {name: np.ma.filled(np.ma.asarray(table[name])) for name in NAMES}
    texts = {name: np.char.decode(columns[name]) for name in ("id", "neighbor_id", "label")}
    return plain(columns | texts), told | {"columns": {"mag": {"unit": "mag"}}}


def read_votable(path: Path) -> tuple[list[Line], Any]:
    document = votable.parse(path, verify="exception")
    resource = document.resources[0]
    told: dict[str, Any] = {info.name: info.value for info in resource.infos}
    found = resource.tables[0]
    described = {field.name: {"unit": str(field.unit or ""), "ucd": field.ucd or ""} for field in found.fields}
    assert found.get_field_by_id("mag").description.startswith("of the neighbor: ")
    columns = {name: np.ma.asarray(found.array[name]) for name in NAMES}
    columns["mag"] = np.ma.filled(columns["mag"], np.nan)
    columns["label"] = np.ma.filled(columns["label"], "")
    return plain({n: np.asarray(v) for n, v in columns.items()}), told | {"k": int(told["k"]), "columns": described}


READ = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".h5": read_hdf5,
    ".fits": read_fits,
    ".vot": read_votable,
}


def same(found: list[Line], expected: list[Line]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one[0], one[1], one[2]) == other[:3]
        assert np.float32(one[3]) == other[3]
        assert one[4:] == other[4:]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("block", [9 * 60, 2**20])
def test_every_format_holds_the_definition(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, block: int
) -> None:
    monkeypatch.setattr(exporting, "BLOCK_ROWS", block)
    out = tmp_path / f"lists{ending}"
    report = export_lists(toy_index, out, columns=["mag", "label"], quiet=True)
    found, told = READ[ending](out)
    expected = defined(toy_index)
    same(found, expected)
    index = Index(toy_index)
    assert (told["index"], told["index_version"]) == (index.manifest.content_hash, "v000001")
    assert (told["k"], told["window"]) == (60, "mag:0.5")
    assert told["columns"]["mag"]["unit"] == "mag"
    empty = int((index.neighbor_row[:, 0] < 0).sum())
    assert (report.objects, report.rows, report.without) == (200, len(expected), empty)
    assert report.bytes == out.stat().st_size
    assert empty >= 1
    assert {path.name for path in tmp_path.iterdir()} <= {out.name, f"{out.name}-metadata.json"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_ids_k_and_a_least_similarity(toy_index: Path, tmp_path: Path, ending: str) -> None:
    ids = ["blob-150", "blob-003", "blob-007", "blob-004"]
    (tmp_path / "ids.txt").write_text("\n".join([*ids, "", "blob-003 "]) + "\n")
    out = tmp_path / f"lists{ending}"
    report = export_lists(
        toy_index, out, ids=tmp_path / "ids.txt", k=20, min_similarity=0.9, columns=["mag", "label"], quiet=True
    )
    expected = defined(toy_index, ids, 20, 0.9)
    same(READ[ending](out)[0], expected)
    assert 0 < len(expected) < 60
    assert report.objects == 4
    assert "1 id in" in report.notes[0]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_without_rows(toy_index: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"none{ending}"
    (tmp_path / "ids").write_text("blob-007\n")
    report = export_lists(toy_index, out, ids=tmp_path / "ids", columns=["mag", "label"], quiet=True)
    assert (report.rows, report.without) == (0, 1)
    assert READ[ending](out)[0] == []


def test_a_least_similarity_is_taken_as_it_is_shown(toy_index: Path, tmp_path: Path) -> None:
    index = Index(toy_index)
    shown = float(str(index.similarity[3, 10]))
    export_lists(toy_index, tmp_path / "a.parquet", min_similarity=shown, columns=["mag", "label"], quiet=True)
    found = [line for line in read_parquet(tmp_path / "a.parquet")[0] if line[0] == "blob-003"]
    assert len(found) >= 11
    assert np.float32(found[10][3]) == index.similarity[3, 10]


def test_ids_come_from_a_table_too(toy_index: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("mag,id\n1,blob-002\n2,blob-001\n")
    report = export_lists(toy_index, tmp_path / "a.csv", ids=tmp_path / "ids.csv", k=1, quiet=True)
    with (tmp_path / "a.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["blob-002", "blob-001"]
    assert report.rows == 2
    (tmp_path / "odd.csv").write_text("name\nblob-002\n")
    with pytest.raises(InputError, match=r"Unknown column of .*odd.csv 'id'"):
        export_lists(toy_index, tmp_path / "b.csv", ids=tmp_path / "odd.csv", quiet=True)


def test_unknown_ids_are_counted_and_named(toy_index: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("blob-001\nblob-1\nBLOB\nµ\nblob-002\n")
    with pytest.raises(InputError, match=r"3 of 5 ids in .* are no object's: 'blob-1', 'BLOB', 'µ'.*--skip-unknown"):
        export_lists(toy_index, tmp_path / "a.csv", ids=tmp_path / "ids", quiet=True)
    assert not (tmp_path / "a.csv").exists()
    report = export_lists(toy_index, tmp_path / "a.csv", ids=tmp_path / "ids", skip_unknown=True, quiet=True)
    assert report.objects == 2
    assert "3 of 5 ids" in report.notes[0]
    (tmp_path / "none").write_text("x\n")
    with pytest.raises(InputError, match=r"1 of 1 id in .* is no object's: 'x'"):
        export_lists(toy_index, tmp_path / "b.csv", ids=tmp_path / "none", skip_unknown=True, quiet=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 61}, "k is 1 to 60, but 61 was given"),
        ({"k": 0}, "k is 1 to 60, but 0 was given"),
        ({"min_similarity": 1.5}, "-1 to 1, but 1.5"),
        ({"min_similarity": math.nan}, "-1 to 1, but nan"),
        ({"columns": ["color"]}, "Unknown column 'color'. Choices: "),
        ({"columns": ["mag", "mag"]}, "given once"),
        ({"out": "lists.txt"}, "ends in .parquet, .csv, .h5, .hdf5, .fits, .vot, but lists.txt"),
        ({"out": "no/such/lists.csv"}, "none above it"),
        ({"ids": Path("none")}, "No such file: none"),
        ({"ids": Path("empty")}, "holds no ids"),
        ({"ids": Path("binary")}, "no text file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfe\x00")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((InputError, NotFoundError), match=message):
        export_lists(toy_index, Path(options.pop("out", "lists.csv")), **options, quiet=True)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(toy_index: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    out.write_text("mine")
    with pytest.raises(InputError, match="left as it was"):
        export_lists(toy_index, out, quiet=True)
    assert out.read_text() == "mine"
    export_lists(toy_index, out, k=1, overwrite=True, quiet=True)
    assert out.read_text().startswith('"id"')
    with pytest.raises(InputError, match="is read here"):
        export_lists(toy_index, out, ids=out, overwrite=True, quiet=True)


def test_a_killed_or_failed_export_leaves_nothing(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; from pathlib import Path; from lookalike.indexer.export import export_lists as e; "
    code += "e(Path(sys.argv[1]), Path(sys.argv[2]), quiet=True)"
    out = tmp_path / "a.parquet"
    killed = subprocess.run(
        [sys.executable, "-c", code, str(toy_index), str(out)],
        env=os.environ | {"LOOKALIKE_KILL_AT": "a.parquet.written"},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -9
    assert not out.exists()
    export_lists(toy_index, out, k=1, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for ending in ENDINGS:
        monkeypatch.setattr(WRITERS[ending], "write", full)
        with pytest.raises(OSError, match="No space"):
            export_lists(toy_index, tmp_path / f"b{ending}", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("point", ["a.csv.written", "a.csv.renamed", "a.csv-metadata.json.written"])
def test_what_lies_beside_a_csv_file_never_describes_another(toy_index: Path, tmp_path: Path, point: str) -> None:
    code = "import sys; from pathlib import Path; from lookalike.indexer.export import export_lists as e; "
    code += "e(Path(sys.argv[1]), Path(sys.argv[2]), k=2, overwrite=True, quiet=True)"
    out = tmp_path / "a.csv"
    export_lists(toy_index, out, k=1, quiet=True)
    before = out.read_text()
    killed = subprocess.run(
        [sys.executable, "-c", code, str(toy_index), str(out)],
        env=os.environ | {"LOOKALIKE_KILL_AT": point},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -9
    assert (out.read_text() == before) == (point == "a.csv.written")
    assert not out.with_name("a.csv-metadata.json").exists()


def test_altered_lists_are_a_typed_error(toy_index: Path, tmp_path: Path) -> None:
    index = Index(toy_index)
    for value in (200, -2):
        rows = np.array(index.neighbor_row)
        rows[5, 3] = value
        opened = Index(toy_index)
        opened.neighbor_row = rows
        with (index.path / "neighbors.h5").open("rb") as file, pytest.raises(CorruptError, match="was altered"):
            exporting._read(opened, file, np.array([9, 5]), 60)


@pytest.mark.parametrize("k", [2, 60])
def test_a_list_whose_checksum_is_wrong_is_not_exported(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Whichever byte of a list was altered: of a neighbor, a similarity, beyond the k asked for, or the checksum."""
    monkeypatch.setattr(exporting, "BLOCK_ROWS", 20 * k)
    whole, out = tmp_path / "whole", tmp_path / "lists.parquet"
    shutil.copytree(toy_index.parent, whole)
    index = Index(whole / "index")
    (tmp_path / "some.txt").write_text("blob-003\nblob-150\n")
    path = index.path / "neighbors.h5"
    for name, place in (("neighbor_row", 0), ("similarity", 59), ("check", 0)):
        stored = index.manifest.arrays[name]
        at = stored.offset + 4 * (150 * int(np.prod(stored.shape[1:])) + place)
        before = path.read_bytes()
        path.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
        for ids in (None, tmp_path / "some.txt"):
            with pytest.raises(
                CorruptError, match=r"row 150 in .*neighbors\.h5 was altered; `lookalike repair .*index`"
            ):
                export_lists(whole / "index", out, ids=ids, k=k, quiet=True)
            assert not out.exists()
        path.write_bytes(before)
    assert export_lists(whole / "index", out, k=k, quiet=True).objects == 200


def names_like_formulas(folder: Path) -> Path:
    """An index whose ids and texts a spreadsheet would run."""
    ids = ["+1+1", "-2", "+3", "-x", "a", "-1e5"]
    texts = ["=1+1", "@SUM(A1)", "\tx", "-2.5", "µ <b>&", "'=x"]
    np.save(folder / "v.npy", np.random.default_rng(0).normal(size=(6, 3)))
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "label", "n"), *zip(ids, texts, range(6), strict=True)])
    index_vectors(
        folder / "v.npy", folder / "I", catalog=folder / "t.csv", id_column="name", k=5, window=None, quiet=True
    )
    return folder / "I"


def test_cells_that_a_spreadsheet_would_run_are_escaped_in_csv_alone(tmp_path: Path) -> None:
    index = names_like_formulas(tmp_path)
    export_lists(index, tmp_path / "a.csv", columns=["label", "n"], quiet=True)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == {"'+1+1", "-2", "+3", "'-x", "a", "-1e5"}
    assert {row["neighbor_id"] for row in rows} == {"'+1+1", "-2", "+3", "'-x", "a", "-1e5"}
    assert {row["label"] for row in rows} == {"'=1+1", "'@SUM(A1)", "x", "-2.5", "µ <b>&", "'=x"}
    assert any(row["similarity"].startswith("-") for row in rows)
    for ending in (".vot", ".parquet"):
        export_lists(index, tmp_path / f"a{ending}", columns=["label"], quiet=True)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert set(table["id"].to_pylist()) == {"+1+1", "-2", "+3", "-x", "a", "-1e5"}
    labels = votable.parse_single_table(tmp_path / "a.vot").array["label"]
    assert set(labels.tolist()) == set(table["label"].to_pylist()) >= {"µ <b>&", "=1+1"}
    with pytest.raises(InputError, match="FITS holds ASCII texts only, but column 'label'"):
        export_lists(index, tmp_path / "a.fits", columns=["label"], quiet=True)
    assert not (tmp_path / "a.fits").exists()


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".fits", ".h5", ".vot"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, ending: str) -> None:
    """A table of four times as many rows takes no more memory than one of a few blocks."""
    from lookalike.bench.export import made_up_index

    index = made_up_index(tmp_path, 1000, 2000, seed=0)
    code = """
import resource, sys
from pathlib import Path
from lookalike.indexer import export as exporting
exporting.BLOCK_ROWS = 2**16
peaks = []
for k in (500, 2000):
    exporting.export_lists(Path(sys.argv[1]), Path(sys.argv[2]), k=k, overwrite=True, quiet=True)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""
    command = [sys.executable, "-c", code, str(index), str(tmp_path / f"a{ending}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 20  # MB; 1.5 M rows more, 48 MB as numbers and over 100 as texts


def test_the_command(command: Run, toy_index: Path, tmp_path: Path) -> None:
    done = command("export", toy_index, "--all", "-k", 5, "--columns", "mag", "--out", "a.parquet", cwd=tmp_path)
    rows = len(defined(toy_index, k=5))
    assert (done.returncode, done.stdout) == (0, f"{rows} rows of 200 objects in a.parquet\n")
    assert "1 object has no neighbor to export and no row." in done.stderr
    done = command("export", toy_index, "--all", "--out", "b.csv", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["objects"] == 200
    for arguments, message in (
        (["--out", "c.csv"], "neither was given"),
        (["--all", "--ids", "x", "--out", "c.csv"], "both were given"),
    ):
        done = command("export", toy_index, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr


def test_the_bench_measures_what_it_says() -> None:
    from lookalike.bench.export import bench_export

    report = bench_export(objects=300, k=20, formats=["csv"], rounds=1)
    assert (report["rows"], report["k"], report["target_rows_per_minute"]) == (6000, 20, 20e6)
    assert [case["columns"] for case in report["cases"]] == [[], ["mag", "kind"]]
    for case in report["cases"]:
        assert case["rows_per_minute"] == pytest.approx(60 * 6000 / case["seconds"])
    with pytest.raises(InputError, match=r"Unknown format '.doc'"):
        bench_export(objects=300, k=20, formats=["doc"], rounds=1)


def test_parquet_is_written_by_row_groups(toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BLOCK_ROWS", 60 * 50)
    report = export_lists(toy_index, tmp_path / "a.parquet", quiet=True)
    found = pyarrow.parquet.ParquetFile(io.BytesIO((tmp_path / "a.parquet").read_bytes()))
    assert found.num_row_groups == 4
    assert found.metadata.num_rows == report.rows


def test_a_few_of_long_lists_are_read_in_pieces(
    toy_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "BLOCK_ROWS", 130)  # of 60 each, two at a time
    largest: list[int] = []
    fromfile = np.fromfile

    def watched(file: Any, dtype: Any, count: int) -> Any:
        largest.append(count)
        return fromfile(file, dtype, count)

    monkeypatch.setattr(np, "fromfile", watched)
    export_lists(toy_index, tmp_path / "a.parquet", k=1, columns=["mag", "label"], quiet=True)
    assert max(largest) == 120
    same(read_parquet(tmp_path / "a.parquet")[0], defined(toy_index, k=1))


def test_texts_of_all_objects_may_be_more_than_2_gib(toy_index: Path) -> None:
    data = Index(toy_index).open_samples()
    sheet = Sheet(data.ids, {"label": data.column("label")}, {}, {})
    for escape in (None, escaped_all, export_tables._xml):
        arrow = Arrow(sheet, escape)
        assert {arrow.ids.type, arrow.texts["label"].type} == {pyarrow.large_string()}
        rows = Rows(np.array([3]), np.array([2]), np.array([1, 2], "i4"), np.array([7, 5]), np.array([0.5, 0.25], "f4"))
        block = arrow.table(rows)  # a block's are few, and stay plain
        assert {block.schema.field(name).type.value_type for name in ("id", "neighbor_id", "label")} == {
            pyarrow.string()
        }


@pytest.mark.parametrize("ending", ENDINGS)
def test_units_and_descriptions_may_be_any_text(tmp_path: Path, ending: str) -> None:
    table = AstropyTable({"name": ["a", "b", "c"], "flux": [1.5, 2.5, 3.5]})
    told = "Flux within 2″ <of> the center & beyond, " + "as the survey's paper describes it at length " * 5
    table["flux"].unit, table["flux"].description = "uJy", told
    table.write(tmp_path / "t.ecsv")
    lines = (tmp_path / "t.ecsv").read_text(encoding="utf-8").replace("unit: uJy", "unit: µJy")
    (tmp_path / "t.ecsv").write_text(lines, encoding="utf-8")
    np.save(tmp_path / "v.npy", np.eye(3))
    index_vectors(
        tmp_path / "v.npy", tmp_path / "I", catalog=tmp_path / "t.ecsv", id_column="name", k=2, window=None, quiet=True
    )
    out = tmp_path / f"a{ending}"
    export_lists(tmp_path / "I", out, columns=["flux"], quiet=True)
    if ending == ".fits":
        header = fits.getheader(out, 1)
        assert header["TUNIT5"] in ("?Jy", "uJy")
        assert header["TCOMM5"].startswith("of the neighbor: Flux within 2? <of> the center & beyond")
        assert len(header["TCOMM5"]) > 200
        assert fits.getdata(out)["flux"].tolist()[:2] == [2.5, 3.5]
    elif ending == ".vot":
        field = votable.parse_single_table(out).get_field_by_id("flux")
        assert "Flux within 2″ <of> the center & beyond" in field.description
    elif ending == ".parquet":
        metadata = pyarrow.parquet.read_metadata(out).metadata
        assert "2″ <of>" in json.loads(metadata[b"lookalike"])["columns"]["flux"]["description"]
    elif ending == ".h5":
        with h5py.File(out) as file:
            assert "2″ <of>" in file["flux"].attrs["description"].decode()
    else:
        assert "2″ <of>" in out.with_name(f"{out.name}-metadata.json").read_text(encoding="utf-8")
