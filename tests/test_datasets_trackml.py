"""Ingesting events of the TrackML challenge: what is stored of hits and tracks, and what is refused, with its row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.datasets import ingest, track_companions
from lookalike.datasets.track_companions import CURVATURE, ETA, LENGTH, SIZE, TURN, companions
from lookalike.datasets.trackml_files import read_table
from lookalike.errors import InputError, LookalikeError, NotFoundError
from lookalike.helix import discrepancy
from lookalike.samples import Samples

LARGE = 4505867370102785  # an odd number above 2^52, and one that no float64 holds
LARGER = 2**60 + 1
HEADS = {
    "hits": "hit_id,x,y,z,volume_id,layer_id,module_id",
    "cells": "hit_id,ch0,ch1,value",
    "particles": "particle_id,vx,vy,vz,px,py,pz,q,nhits",
    "truth": "hit_id,particle_id,tx,ty,tz,tpx,tpy,tpz,weight",
}


def rows() -> dict[str, list[list[Any]]]:
    """Two straight particles of four hits in rising order of hit_id but mixed, and a hit of noise."""
    made: dict[str, list[list[Any]]] = {kind: [] for kind in HEADS}
    for place, r in enumerate((30.0, 70.0, 110.0, 170.0)):
        for number, (name, (x, y)) in enumerate({LARGE: (1.0, 0.0), LARGER: (0.0, -1.0)}.items()):
            hit = 10 * place + number + 1
            made["hits"].append([hit, r * x, r * y, r / 2, 8, 2 * place + 2, 5])
            made["truth"].append([hit, name, r * x, r * y, r / 2, x, y, 0.5, 0.1])
            made["cells"] += [[hit, 7, 3, 0.2], [hit, 9, 3, 0.3]]
    made["hits"].append([99, -50.0, 50.0, -80.0, 7, 2, 1])
    made["truth"].append([99, 0, -50.0, 50.0, -80.0, 0, 0, 0, 0.0])
    made["particles"] = [[LARGE, 0, 0, 0.1, 3, 4, 12, 1, 4], [LARGER, 0, 0, 0.2, 0, -2, 1, -1, 4]]
    return made


def write(folder: Path, tables: dict[str, list[list[Any]]], name: str = "event000000007", gz: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for kind, table in tables.items():
        text = "\n".join([HEADS[kind], *(",".join(map(str, row)) for row in table)]) + "\n"
        if gz:
            (folder / f"{name}-{kind}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}-{kind}.csv").write_text(text)
    return folder


def taken(folder: Path, **options: Any) -> Samples:
    out = folder.parent / "samples.h5"
    ingest("trackml", [folder], out, quiet=True, overwrite=True, **options)
    return Samples(out)


@pytest.mark.parametrize("gz", [False, True], ids=["csv", "csv.gz"])
def test_a_sample_is_a_hit_with_its_companions_and_ids_are_exact(tmp_path: Path, gz: bool) -> None:
    found = taken(write(tmp_path / "events", rows(), gz=gz), size=6)
    assert found.about.domain == "track"
    assert found.about.survey["sample"] == "hits"
    assert found.about.bands == ("r", "phi", "z", "volume", "layer", "charge", "cells_u", "cells_v", "same")
    assert found.shape == (6, 9)
    assert found.id(0) == "7:1"
    assert set(found.column("particle_id").tolist()) == {LARGE, LARGER, 0}
    assert found.column("particle_id").dtype == np.int64
    first = found.objects([0])[0]
    np.testing.assert_allclose(first[:4, 0], [30, 70, 110, 170])  # of its own line, the nearest first
    np.testing.assert_allclose(first[:4, 8], 1)
    np.testing.assert_allclose(first[0, 5:8], [0.5, 3, 1], rtol=1e-6)
    assert not first[4:].any()
    noise = found.objects([found.row("7:99")])[0]
    assert noise[0, 8] == 1
    assert not noise[1:].any()
    assert found.column("weight").sum() == pytest.approx(0.8)
    assert found.column("true_pz")[0] == 0.5


def test_a_track_is_a_particles_hits_in_order(tmp_path: Path) -> None:
    tables = rows()
    tables["hits"].reverse()
    found = taken(write(tmp_path / "events", tables), sample="tracks", size=6)
    assert [found.id(row) for row in range(2)] == [f"7:{LARGE}", f"7:{LARGER}"]
    np.testing.assert_allclose(found.objects([0, 1])[:, :, 0], [[30, 70, 110, 170, 0, 0]] * 2)
    assert found.column("pt").tolist() == [5.0, 2.0]
    assert found.column("eta")[0] == pytest.approx(np.arcsinh(12 / 5))
    assert found.column("charge").tolist() == [1, -1]
    assert found.column("n_hits").tolist() == [4, 4]
    assert found.column("weight").tolist() == pytest.approx([0.4, 0.4])


def test_events_may_lack_everything_but_hits(tmp_path: Path) -> None:
    tables = rows()
    found = taken(write(tmp_path / "bare", {"hits": tables["hits"]}))
    assert "particle_id" not in found.columns
    assert found.about.bands == ("r", "phi", "z", "volume", "layer")
    folder = write(tmp_path / "two", {"hits": tables["hits"]})
    write(folder, tables, "event000000012")
    found = taken(folder)
    assert found.column("event").tolist() == [7] * 9 + [12] * 9
    assert found.column("particle_id").tolist()[:9] == [-1] * 9
    assert np.isnan(found.column("weight")[:9]).all()
    assert set(np.unique(found.objects(slice(0, 9))[..., -1])) == {-1, 0}
    with pytest.raises(InputError, match="event000000007 has no truth"):
        taken(folder, sample="tracks")


@pytest.mark.parametrize(
    ("kind", "row", "place", "value", "said"),
    [
        ("hits", 2, 0, 1, "hits.csv, row 3 .*hit_id was there before"),
        ("hits", 2, 0, -4, "row 3 .*hit_id is negative"),
        ("hits", 1, 3, "nan", "row 2 .*no finite number"),
        ("hits", 1, 1, 1e5, "row 2 .*beyond 5000 mm across"),
        ("hits", 0, 1, 1e-25, "row 1 .*on the beam axis"),
        ("hits", 4, 4, -1, "row 5 .*volume_id"),
        ("truth", 3, 1, 12345, "row 4 .*none of the event's particles"),
        ("truth", 3, 0, 555, "row 4 .*none of the event's hits"),
        ("truth", 3, 8, -1, "row 4 .*weight"),
        ("cells", 5, 0, 555, "row 6 .*none of the event's hits"),
        ("cells", 5, 3, "nan", "row 6 .*value"),
        ("particles", 1, 0, LARGE, "row 2 .*was there before"),
        ("particles", 1, 4, "inf", "row 2 .*momentum is no finite"),
        ("particles", 0, 7, 99, "row 1 .*charge"),
    ],
)
def test_what_breaks_a_rule_is_named_with_its_row(
    tmp_path: Path, kind: str, row: int, place: int, value: Any, said: str
) -> None:
    tables = rows()
    tables[kind][row][place] = value
    with pytest.raises(InputError, match=said):
        taken(write(tmp_path / "events", tables))
    assert not (tmp_path / "samples.h5").exists()


def test_bad_rows_are_left_out_and_counted_on_request(tmp_path: Path) -> None:
    tables = rows()
    tables["hits"][1][3] = "nan"
    folder = write(tmp_path / "events", tables)
    report = ingest("trackml", [folder], tmp_path / "out.h5", skip_bad=True, quiet=True)
    assert report.n == 8
    assert report.counts["hits left out"] == 1
    assert any("row 2" in name for name, _ in report.skipped)


def test_wrong_columns_units_and_files_are_refused(tmp_path: Path) -> None:
    tables = rows()
    for hit in tables["hits"]:
        hit[1:4] = [value / 1000 for value in hit[1:4]]
    with pytest.raises(InputError, match="Positions are in mm"):
        taken(write(tmp_path / "meters", tables))
    tables = rows()
    for particle in tables["particles"]:
        particle[4:7] = [value * 1000 for value in particle[4:7]]
    folder = write(tmp_path / "mev", tables)
    with pytest.raises(InputError, match="say --unit MeV, else --unit GeV"):
        taken(folder, sample="tracks")
    assert taken(folder, sample="tracks", unit="MeV").column("pt").tolist() == pytest.approx([5.0, 2.0])
    tables = rows()
    tables["truth"].pop(2)
    with pytest.raises(InputError, match="hit 11 has none"):
        taken(write(tmp_path / "gap", tables))
    folder = write(tmp_path / "columns", {"hits": rows()["hits"]})
    file = folder / "event000000007-hits.csv"
    file.write_text(file.read_text().replace("volume_id", "volume"))
    with pytest.raises(InputError, match="volume_id is not there"):
        taken(folder)
    file.write_text(HEADS["hits"] + "\n1,2,three,4,5,6,7\n")
    with pytest.raises(InputError, match="cannot be read"):
        taken(folder)
    file.write_text(HEADS["hits"] + "\n1.5,2,3,4,5,6,7\n")
    with pytest.raises(InputError, match="cannot be read"):
        taken(folder)
    file.write_text(HEADS["hits"] + "\n")
    with pytest.raises(InputError, match="holds no hit"):
        taken(folder)
    with pytest.raises(InputError, match="holds none"):
        taken(Path(str(tmp_path)))
    with pytest.raises(InputError, match="there are only truth"):
        taken(write(tmp_path / "hitless", {"truth": rows()["truth"]}))
    with pytest.raises(NotFoundError):
        taken(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Unknown sample 'events'"):
        taken(folder, sample="events")


def test_a_truncated_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "events", rows(), gz=True)
    file = folder / "event000000007-truth.csv.gz"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(LookalikeError, match="truth") as caught:
        taken(folder)
    assert "\n" not in caught.value.message


Places = tuple[np.ndarray, np.ndarray, np.ndarray]  # r, φ, z of hits


def strewn(n: int, seed: int) -> Places:
    rng = np.random.default_rng(seed)
    return rng.uniform(30, 1000, n), rng.uniform(-np.pi, np.pi, n), rng.normal(0, 400, n)


def crowded(n: int, seed: int) -> Places:
    """Hits on layers of a barrel, as many that lie together as there are alone, and a few of them twice."""
    rng = np.random.default_rng(seed)
    r = rng.choice([32.0, 72.0, 116.0, 172.0, 260.0, 500.0, 1020.0], n)
    phi = np.mod(rng.normal(0, 0.2, n) + rng.choice([0.0, np.pi, 3.1], n) + np.pi, 2 * np.pi) - np.pi
    z = r * np.sinh(rng.normal(0, 1.5, n))
    again = rng.choice(n, n // 20)
    r[again], phi[again], z[again] = r[again[0]], phi[again[0]], z[again[0]]
    return r, phi, z


def as_defined(places: Places, hit: int, most: int) -> np.ndarray:
    """Every pair looked at, in float64."""
    r, phi, z = places
    unlike = discrepancy(np, (r[hit], phi[hit], z[hit]), (r, phi, z), CURVATURE, LENGTH, SIZE)
    apart = np.abs(np.mod(phi - phi[hit] + np.pi, 2 * np.pi) - np.pi)
    far = np.abs(np.arcsinh(z / r) - np.arcsinh(z[hit] / r[hit]))
    unlike[(apart > TURN) | (far > ETA) | (np.arange(len(r)) == hit)] = np.inf
    order = np.argsort(unlike, kind="stable")[:most]
    wanted = np.full(most, -1)
    wanted[: len(order)] = np.where(np.isfinite(unlike[order]), order, -1)
    return wanted


@pytest.mark.parametrize(
    ("places", "most"),
    [(strewn(400, 0), 12), (crowded(3000, 1), 47), (crowded(300, 2), 7), (strewn(30, 3), 40), (strewn(1, 4), 3)],
    ids=["strewn", "crowded", "few companions", "fewer hits than companions", "one hit"],
)
def test_companions_are_those_of_the_definition(places: Places, most: int) -> None:
    found = companions(*places, most)
    for hit in range(0, len(places[0]), 1 + len(places[0]) // 400):
        np.testing.assert_array_equal(found[hit], as_defined(places, hit, most))


def test_a_list_that_the_rough_look_does_not_prove_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With distances that are off by more than the margin, every list is: no shortcut is taken on trust."""
    places = strewn(400, 0)
    rough = track_companions._roughly
    monkeypatch.setattr(track_companions, "_roughly", lambda *given: rough(*given) * np.float32(1e-6))
    found = companions(*places, 12)
    for hit in range(400):
        np.testing.assert_array_equal(found[hit], as_defined(places, hit, 12))


@pytest.mark.parametrize("made", [strewn, crowded], ids=["strewn", "crowded"])
def test_the_rough_look_is_far_within_its_margin(made: Any) -> None:
    r, phi, z = made(1500, 5)
    some = np.argsort(phi)[:200]
    rough = track_companions._roughly((r[some], phi[some], z[some]), (r, phi, z))
    hits = tuple(each[some, None] for each in (r, phi, z))
    exact = discrepancy(np, hits, (r, phi, z), CURVATURE, LENGTH, SIZE)
    turn = np.abs(np.mod(phi - phi[some, None] + np.pi, 2 * np.pi) - np.pi)
    known = np.isfinite(rough) & (exact < 1e4)  # 100 σ: lists do not reach that far where there are others
    assert known.mean() > 0.02
    assert np.abs(np.sqrt(rough[known]) - np.sqrt(exact[known])).max() < track_companions.MARGIN / 5
    clear = np.abs(turn - TURN) > 1e-4
    np.testing.assert_array_equal(np.isfinite(rough)[clear], (turn < TURN)[clear])


def test_progress_within_an_event_ends_with_all_its_hits() -> None:
    told: list[int] = []
    companions(*strewn(500, 6), 5, told.append)
    assert told == sorted(told)
    assert told[-1] == 500


def test_the_real_events_are_read_whole(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "trackml_small"
    if not folder.exists():
        pytest.skip("no event of the TrackML challenge")
    files = sorted(folder.glob("event000000001-*"))
    report = ingest("trackml", files, tmp_path / "hits.h5", size=12, quiet=True)
    assert report.n == 5527
    found = Samples(tmp_path / "hits.h5")
    own = found.column("particle_id")
    assert len(np.unique(own[own > 0])) == 468
    assert found.column("weight").sum() == pytest.approx(0.0512628, rel=1e-5)  # a part of a full event, whose sum is 1
    report = ingest("trackml", files, tmp_path / "tracks.h5", sample="tracks", quiet=True)
    assert report.n == 431
    assert report.counts["particles of fewer than 3 hits, left out"] == 37


def test_companions_in_a_full_real_event_are_those_of_the_definition(shared_data: Path) -> None:
    file = shared_data / "trackml_small" / "event000001001-hits.csv.gz"
    if not file.exists():
        pytest.skip("no full event of the TrackML challenge")
    hits, odd, ragged = read_table(file, "hits")
    assert (odd, ragged) == ([], [])
    places = np.hypot(hits["x"], hits["y"]), np.arctan2(hits["y"], hits["x"]), hits["z"]
    part = np.abs(places[1]) < 0.6  # a fifth of it, as dense as all
    places = tuple(each[part] for each in places)
    found = companions(*places, 47)
    for hit in range(0, len(places[0]), 150):
        np.testing.assert_array_equal(found[hit], as_defined(places, hit, 47))
