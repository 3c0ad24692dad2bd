"""Cones and crossmatches on an index folder, from the library and from the command line.

pytest tests/test_crossmatch.py
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import cone as cone_module
from lookalike import crossmatch as crossmatch_module
from lookalike.cone import cone
from lookalike.coordinates import parse_angle
from lookalike.crossmatch import crossmatch
from lookalike.datasets.contract import Ledger
from lookalike.datasets.table import read_table
from lookalike.errors import InputError, LockedError, NotFoundError
from lookalike.files import lock
from lookalike.indexer.index import build_index
from lookalike.indexer.sky_build import build_sky
from lookalike.indexer.sphere import separation
from lookalike.indexer.store import Index
from lookalike.positions import choose_columns, read_positions

Write = Callable[..., tuple[Path, list[Path]]]
Run = Callable[..., subprocess.CompletedProcess[str]]

# Four objects about 10h +2°, each 3.6 arcsec north of the one before, one across 0h, one at the pole, one without.
RA = np.array([150.1, 150.1, 150.1, 150.1, 359.9999, 0.0, np.nan])
DEC = np.array([2.2, 2.201, 2.202, 2.203, 0.0, 90.0, 1.0])


@pytest.fixture
def index(vector_set: Write, tmp_path: Path) -> Path:
    vectors = np.random.default_rng(0).normal(size=(7, 4))
    embeddings, samples = vector_set(vectors, {"ra": RA, "dec": DEC, "mag": np.arange(7.0)})
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, quiet=True)
    build_sky(tmp_path / "index", quiet=True)
    return tmp_path / "index"


@pytest.mark.parametrize("many", [0, 50])  # whole columns are read from so large a share on
def test_a_cone_gives_objects_by_separation_with_what_was_asked_for(
    index: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(cone_module, "MANY", many)
    found = cone(index, "10:00:24 +02:12:00", "5arcsec", columns=["mag"])
    assert [(near.id, near.row, near.columns["mag"]) for near in found.results] == [("o0", 0, 0.0), ("o1", 1, 1.0)]
    assert found.results[0].separation_arcsec == 0
    assert abs(found.results[1].separation_arcsec - 3.6) < 1e-9
    told = found.to_json()
    assert told["center"] == {"ra": 150.1, "dec": 2.2, "read_as": "hours and degrees"}
    assert told["results"][1] == {"id": "o1", "row": 1, "ra": 150.1, "dec": 2.201, "mag": 1.0} | {
        "separation_arcsec": found.results[1].separation_arcsec
    }
    assert (told["limited"], told["without_position"], told["index_version"]) == (False, 1, "v000001")
    few = cone(index, "150.1 2.2", "1deg", limit=3)
    assert ([near.row for near in few.results], few.limited) == ([0, 1, 2], True)
    assert cone(index, "150.1 2.2", "1deg", limit=4).limited is False
    assert cone(index, "20 -30", "1arcsec").results == ()
    assert [near.id for near in cone(index, "123 90", "1arcsec").results] == ["o5"]
    assert [near.id for near in cone(index, "0.0001 0", "1arcsec").results] == ["o4"]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"at": "M31"}, "A position is written as"),
        ({"radius": "5"}, "An angle is a number with its unit"),
        ({"limit": 0}, "At least 1 object is asked for, but 0"),
        ({"columns": ["mga"]}, "Unknown column 'mga'. Did you mean 'mag'"),
        ({"columns": ["id"]}, "A result holds its own id, row"),
    ],
)
def test_a_question_that_is_wrong_is_an_error(index: Path, options: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        cone(index, **({"at": "150.1 2.2", "radius": "5arcsec"} | options))


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


TABLE = "name,ra,dec\nfirst,150.1,2.2005\n=cmd(),20,20\nthird,,1\nfourth,0.0,0.0\nfifth,200,90\n"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """A result's lines, undefined as None."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [{name: value or None for name, value in line.items()} for line in csv.DictReader(file)]
    from pyarrow import parquet

    return list(parquet.read_table(path).to_pylist())


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize(("at_once", "share"), [(2, 0), (4096, 50)])
def test_each_row_gets_its_nearest_objects_and_their_neighbors(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, at_once: int, share: int
) -> None:
    monkeypatch.setattr(crossmatch_module, "AT_ONCE", at_once)
    monkeypatch.setattr(crossmatch_module, "SHARE", share)
    table, out = write_csv(tmp_path / "t.csv", TABLE), tmp_path / f"out{ending}"
    report = crossmatch(index, table, out, radius="2arcsec", k=2, matches=2, columns=["name"], quiet=True)
    assert (report.rows, report.matched, report.missed, report.without_position) == (5, 3, (1,), 1)
    assert (report.columns, report.chosen) == (
        ("ra", "dec"),
        "by the UCDs pos.eq.ra;meta.main and pos.eq.dec;meta.main",
    )
    lines = lines_of(out)
    assert len(lines) == report.lines
    opened = Index(index)
    expected: list[tuple[Any, ...]] = []
    for row, name, objects in (
        (0, "first", [0, 1]), (1, "=cmd()", []), (2, "third", None), (3, "fourth", [4]), (4, "fifth", [5])
    ):  # fmt: skip
        if not objects:
            expected.append((row, "no position" if objects is None else "missed", name, None, None, None))
        for match, found in enumerate(objects or [], start=1):
            expected.append((row, "matched", name, match, 0, f"o{found}"))
            for rank in (1, 2):
                neighbor = f"o{opened.neighbor_row[found, rank - 1]}"
                expected.append((row, "matched", name, match, rank, neighbor))
    if ending == ".csv":
        expected = [tuple(None if v is None else str(v) for v in line) for line in expected]
        expected = [tuple("'=cmd()" if v == "=cmd()" else v for v in line) for line in expected]
    names = ("input_row", "status", "table_name", "match", "rank", "id")
    assert [tuple(line[name] for name in names) for line in lines] == expected
    for line in lines:
        assert (line["separation_arcsec"] is not None) == (line["rank"] in (0, "0"))
        assert (line["similarity"] is not None) == (line["rank"] not in (0, "0", None))
    first = lines[0]
    away = float(separation(*(np.array([value]) for value in (150.1, 2.2005, 150.1, 2.2)))[0]) * 3600
    assert float(first["separation_arcsec"]) == away
    assert np.float32(lines[1]["similarity"]) == opened.similarity[0, 0]


def test_texts_that_a_spreadsheet_would_run_are_escaped_in_csv_alone(index: Path, tmp_path: Path) -> None:
    told = ["-2.5", "-x", "=1", "+1", "@a"]
    text = "name,ra,dec\n" + "".join(f'"{name}",20,20\n' for name in ["a", *told])
    table = write_csv(tmp_path / "t.csv", text)
    for out, cells in (("o.CSV", ["-2.5", "'-x", "'=1", "+1", "'@a"]), ("o.parquet", told)):
        crossmatch(index, table, tmp_path / out, radius="1arcsec", columns=["name"], quiet=True)
        read = (tmp_path / out).rename(tmp_path / out.lower())
        assert [line["table_name"] for line in lines_of(read)] == ["a", *cells]


def test_an_output_that_another_writes_is_refused(index: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", TABLE)
    with lock(tmp_path / "o.csv"), pytest.raises(LockedError, match="is being written by process"):
        crossmatch(index, table, tmp_path / "o.csv", radius="1arcsec", quiet=True)
    assert not (tmp_path / "o.csv").exists()


def test_without_neighbors_no_list_is_read(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "stored", lambda *_: pytest.fail("a list was read"))
    report = crossmatch(index, write_csv(tmp_path / "t.csv", TABLE), tmp_path / "o.csv", radius="2arcsec", quiet=True)
    assert (report.matched, report.lines) == (3, 5)


def test_large_tables_get_what_a_cone_for_each_row_gives(vector_set: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(0, 2, 400), rng.uniform(-1, 1, 400)
    embeddings, samples = vector_set(rng.normal(size=(400, 3)), {"ra": ra, "dec": dec})
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, quiet=True)
    build_sky(tmp_path / "index", quiet=True)
    across, along = rng.uniform(0, 2, 300), rng.uniform(-1, 1, 300)
    text = "ra,dec\n" + "".join(f"{a!r},{d!r}\n" for a, d in zip(across.tolist(), along.tolist(), strict=True))
    table = write_csv(tmp_path / "t.csv", text)
    crossmatch(tmp_path / "index", table, tmp_path / "o.parquet", radius="3arcmin", quiet=True)
    for line in lines_of(tmp_path / "o.parquet"):
        row = line["input_row"]
        away = separation(np.full(400, across[row]), np.full(400, along[row]), ra, dec)
        nearest = int(np.lexsort((np.arange(400), away))[0])
        if away[nearest] <= 0.05:
            assert (line["row"], line["separation_arcsec"]) == (nearest, away[nearest] * 3600)
        else:
            assert (line["status"], line["row"], line["id"]) == ("missed", None, None)


@pytest.fixture(scope="module")
def everywhere(
    tmp_path_factory: pytest.TempPathFactory, vector_set_in: Callable[[Path], Write]
) -> tuple[Path, Path, Any, Any]:
    """An index and a table of positions at and about the poles and 0h, on one another, and over the whole sky."""
    folder, rng = tmp_path_factory.mktemp("everywhere"), np.random.default_rng(5)
    ra = [rng.uniform(0, 360, 40), rng.uniform(-1e-4, 1e-4, 20) % 360, rng.uniform(0, 360, 20), [0.0] * 4 + [180.0]]
    dec = [np.rad2deg(np.arcsin(rng.uniform(-1, 1, 40))), rng.uniform(-1e-4, 1e-4, 20)]
    dec += [np.sign(rng.normal(size=20)) * (90 - rng.uniform(0, 1e-4, 20)), [90.0, 90.0, -90.0, 0.0, 0.0]]
    positions = np.array([np.concatenate(ra), np.concatenate(dec)])  # (2, N)
    n = positions.shape[1]
    embeddings, samples = vector_set_in(folder)(rng.normal(size=(n, 3)), {"ra": positions[0], "dec": positions[1]})
    build_index(embeddings, samples, folder / "index", k=3, window=None, quiet=True)
    build_sky(folder / "index", quiet=True)
    text = "ra,dec\n" + "".join(f"{a!r},{d!r}\n" for a, d in positions.T.tolist())
    text += "77.0,90\n200,-90\n0,-0.0\n359.99999999999994,1e-9\n180,0\n"
    return folder / "index", write_csv(folder / "t.csv", text), *positions


@pytest.mark.parametrize("radius", ["0arcsec", "0.5arcsec", "30deg", "180deg"])
@pytest.mark.parametrize("matches", [1, 4, 200])
def test_a_crossmatch_is_the_definition_over_the_whole_sky(
    everywhere: tuple[Path, Path, Any, Any], tmp_path: Path, radius: str, matches: int
) -> None:
    folder, table, ra, dec = everywhere
    crossmatch(folder, table, tmp_path / "o.parquet", radius=radius, matches=matches, quiet=True)
    found: dict[int, list[tuple[int, float]]] = {}
    for line in lines_of(tmp_path / "o.parquet"):
        found.setdefault(line["input_row"], [])
        if line["status"] == "matched":
            assert line["match"] == len(found[line["input_row"]]) + 1
            found[line["input_row"]].append((line["row"], line["separation_arcsec"]))
    with table.open(newline="") as file:
        asked = [(float(row["ra"]), float(row["dec"])) for row in csv.DictReader(file)]
    assert sorted(found) == list(range(len(asked)))
    for row, (across, along) in enumerate(asked):
        away = separation(np.full(len(ra), across), np.full(len(ra), along), ra, dec)
        inside = [i for i in np.lexsort((np.arange(len(ra)), away)).tolist() if away[i] <= parse_angle(radius)]
        assert found[row] == [(i, away[i] * 3600) for i in inside[:matches]]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".fits", ".vot", ".ecsv"])
def test_tables_of_every_kind_are_read(tmp_path: Path, ending: str) -> None:
    from astropy.table import Table

    path = tmp_path / f"t{ending}"
    table = Table({"RA_ICRS": [1.0, 2.0], "DE_ICRS": [3.0, 4.0]}, units={"RA_ICRS": "deg", "DE_ICRS": "deg"})
    if ending in (".csv", ".tsv"):
        write_csv(path, "RA_ICRS,DE_ICRS\n1,3\n2,4\n".replace(",", "," if ending == ".csv" else "\t"))
    elif ending == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"RA_ICRS": [1.0, 2.0], "DE_ICRS": [3.0, 4.0]}), path)
    else:
        table.write(path, format={".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}[ending])
    _, names, how, ra, dec = read_positions(path)
    assert (names, how) == (("RA_ICRS", "DE_ICRS"), "by their names")
    assert (ra.tolist(), dec.tolist()) == ([1.0, 2.0], [3.0, 4.0])


def test_columns_are_chosen_by_ucd_then_by_name_or_as_named(tmp_path: Path) -> None:
    from astropy.table import Table

    table = Table({"ra": [1.0], "dec": [2.0], "alpha": [3.0], "delta": [4.0]})
    table["alpha"].meta["ucd"], table["delta"].meta["ucd"] = "pos.eq.ra;meta.main", "POS.EQ.DEC;meta.main"
    table["ra"].description = table["dec"].description = "of something else"
    table.write(tmp_path / "t.vot", format="votable")
    read = read_table(tmp_path / "t.vot", Ledger())
    assert choose_columns(read, None, None)[0] == ("alpha", "delta")
    assert choose_columns(read, "RA", "DEC") == (("ra", "dec"), "as named")
    with pytest.raises(InputError, match="only 'ra' was given"):
        choose_columns(read, "ra", None)
    with pytest.raises(InputError, match=r"Unknown column of t\.vot 'de'"):
        choose_columns(read, "ra", "de")
    other = read_table(write_csv(tmp_path / "u.csv", "l,b\n1,2\n"), Ledger())
    with pytest.raises(InputError, match=r"u\.csv has no columns known to be positions: .* it has: l, b"):
        choose_columns(other, None, None)


def test_texts_are_read_as_positions_are(tmp_path: Path) -> None:
    text = "ra,dec\n10:00:24,+02:12:00\n,+1\n0h0m0s,-0:30:00\n 150.1 ,2.2\n"
    _, _, _, ra, dec = read_positions(write_csv(tmp_path / "t.csv", text))
    assert ra.tolist()[:1] + ra.tolist()[2:] == [150.1, 0.0, 150.1]
    assert dec.tolist()[:1] + dec.tolist()[2:] == [2.2, -0.5, 2.2]
    assert np.isnan([ra[1], dec[1]]).all()
    mixed = write_csv(tmp_path / "m.csv", "ra,dec\n10:00:24,2.2\n10:00:24,\n")
    _, _, _, ra, dec = read_positions(mixed)
    assert (ra[0], dec[0], np.isnan(ra[1])) == (150.1, 2.2, True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ra,dec\n1,2\n360,2\n", r"ra lies in \[0, 360\) deg, but row 1 \(counted from 0\) of t.csv has 360.0"),
        ("ra,dec\n1,-90.5\n", r"dec lies in .* but row 0 .* has -90.5"),
        ("ra,dec\n10:00:61,2\n", r"Row 0 \(counted from 0\) of t.csv: Minutes and seconds are below 60"),
        ("ra,dec\n1,2\n1,2,3\n", r"t.csv, row 2 .* it has 3 cells"),
        ("ra,dec\n", "holds no rows"),
    ],
)
def test_a_bad_table_is_an_error_and_nothing_is_written(index: Path, tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule) as raised:
        crossmatch(index, write_csv(tmp_path / "t.csv", text), tmp_path / "o.csv", radius="1arcsec", quiet=True)
    assert "--skip-bad" not in raised.value.message
    assert not (tmp_path / "o.csv").exists()


def test_units_other_than_degrees_are_refused(tmp_path: Path) -> None:
    from astropy.table import Table

    Table({"ra": [1.0], "dec": [0.2]}, units={"ra": "rad", "dec": "rad"}).write(tmp_path / "t.vot", format="votable")
    with pytest.raises(InputError, match=r"Positions are in deg, but column 'ra' of t\.vot is in rad"):
        read_positions(tmp_path / "t.vot")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"radius": "1"}, "An angle is a number with its unit"),
        ({"k": 4}, "k is 0 to the 3 neighbors stored for each object, but 4 was given"),
        ({"matches": 0}, "At least 1 object is taken"),
        ({"out": "o.fits"}, "written to .csv or .parquet, but o.fits"),
        ({"out": "t.csv"}, "is read here"),
        ({"out": "there.csv"}, "is there already"),
        ({"columns": ["nam"]}, "Unknown column of t.csv 'nam'. Did you mean 'name'"),
        ({"ra": "name"}, "only 'name' was given"),
    ],
)
def test_options_that_are_wrong_are_errors(index: Path, tmp_path: Path, options: dict[str, Any], rule: str) -> None:
    table = write_csv(tmp_path / "t.csv", TABLE)
    write_csv(tmp_path / "there.csv", "mine")
    given = {"radius": "1arcsec", "out": "o.csv", "quiet": True} | options
    with pytest.raises(InputError, match=rule):
        crossmatch(index, table, tmp_path / given.pop("out"), **given)
    assert not (tmp_path / "o.csv").exists()
    assert ((tmp_path / "there.csv").read_text(), table.read_text()) == ("mine", TABLE)
    crossmatch(index, table, tmp_path / "there.csv", radius="1arcsec", overwrite=True, quiet=True)
    assert len(lines_of(tmp_path / "there.csv")) == 5


def test_without_a_sky_index_both_say_how_to_make_it(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(np.eye(3), {"ra": np.arange(3.0), "dec": np.arange(3.0)})
    build_index(embeddings, samples, tmp_path / "index", k=1, window=None, quiet=True)
    with pytest.raises(NotFoundError, match="make it with `lookalike sky"):
        cone(tmp_path / "index", "1 1", "1deg")
    table = write_csv(tmp_path / "t.csv", TABLE)
    with pytest.raises(NotFoundError, match="make it with `lookalike sky"):
        crossmatch(tmp_path / "index", table, tmp_path / "o.csv", radius="1deg", quiet=True)


# From the command line


def test_the_index_command_makes_it_where_there_are_positions(
    command: Run, vector_set: Write, tmp_path: Path, toy_index: Path
) -> None:
    embeddings, samples = vector_set(np.eye(3), {"ra": np.arange(3.0), "dec": np.array([0, 1, np.nan])})
    done = command("index", embeddings, "--samples", samples[0], "--out", tmp_path / "I")
    assert done.returncode == 0, done.stderr
    assert "Sky index of 2 positions, for `cone` and `crossmatch`." in done.stderr
    again = command("sky", tmp_path / "I")
    assert again.stdout == "The sky index of version v000001 is there already: 2 objects with a position, 1 without.\n"
    info = command("info", tmp_path / "I")
    assert "2 objects to be found by position, 1 have none" in info.stdout
    assert json.loads(command("info", tmp_path / "I", "--json").stdout)["sky"] == {"objects": 2, "without_position": 1}
    assert json.loads(command("info", toy_index, "--json").stdout)["sky"] is None


def test_positions_out_of_range_leave_the_index(command: Run, vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(np.eye(3), {"ra": np.array([1.0, -2.0, 3.0]), "dec": np.zeros(3)})
    done = command("index", embeddings, "--samples", samples[0], "--out", tmp_path / "I")
    assert done.returncode == 0
    assert "No sky index was made: ra lies in [0, 360) deg, but row 1 (counted from 0)" in done.stderr
    wrong = command("sky", tmp_path / "I")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_cone_and_crossmatch_print_what_they_found(command: Run, index: Path, tmp_path: Path) -> None:
    done = command("cone", index, "--at", "J100024.0+021200", "--radius", "5arcsec", "--columns", "mag")
    assert [line.split()[-2:] for line in done.stdout.splitlines()] == [["o0", "mag=0.0"], ["o1", "mag=1.0"]]
    assert "within 5 arcsec of ra 150.1, dec 2.2 deg (read as a name's hours and degrees): 2 objects" in done.stderr
    assert "1 object has no position" in done.stderr
    told = json.loads(command("cone", index, "--at", "150.1 2.2", "--radius", "5arcsec", "--json").stdout)
    assert told == cone(index, "150.1 2.2", "5arcsec").to_json()
    limited = command("cone", index, "--at", "150.1 2.2", "--radius", "5arcsec", "--limit", 1)
    assert "There are more than these 1" in limited.stderr
    write_csv(tmp_path / "t.csv", TABLE)
    done = command("crossmatch", index, "t.csv", "--radius", "2arcsec", "-k", 1, "--out", "o.csv", cwd=tmp_path)
    assert done.stdout == "3 of 5 rows matched, 8 lines in o.csv\n"
    assert "Positions are columns ra and dec of t.csv, chosen by the UCDs" in done.stderr
    assert "Rows without an object within 2arcsec (counted from 0): 1; all are in o.csv." in done.stderr
    assert "1 row has no position." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cone {i} --at M31 --radius 5arcsec", "A position is written as 150.1 +2.2 in degrees"),
        ("cone {i} --at 10,10 --radius 5", "An angle is a number with its unit"),
        ("cone nowhere --at 10,10 --radius 5deg", "nowhere"),
        ("sky nowhere", "nowhere"),
        ("crossmatch {i} nothing.csv --radius 1arcsec --out o.csv", "No such file: nothing.csv"),
        ("crossmatch {i} {i}/CURRENT --radius 1arcsec --out o.csv", "A catalog ends in .csv, .tsv"),
    ],
)
def test_what_is_wrong_is_one_line(command: Run, index: Path, tmp_path: Path, arguments: str, message: str) -> None:
    done = command(*[argument.format(i=index) for argument in arguments.split()], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "o.csv").exists()
