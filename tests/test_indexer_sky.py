"""Cone search finds what the definition does: separations in float64, over poles and 0h, at the radius itself.

pytest tests/test_indexer_sky.py
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError
from lookalike.files import lock
from lookalike.indexer import sky as sky_module
from lookalike.indexer.audit import verify
from lookalike.indexer.collect import collect
from lookalike.indexer.index import build_index
from lookalike.indexer.sky import SkyIndex, sky_folder
from lookalike.indexer.sky_build import build_sky, count_cells, describe, write_sky
from lookalike.indexer.sphere import separation
from lookalike.indexer.store import Index

Write = Callable[..., tuple[Path, list[Path]]]
Run = Callable[..., subprocess.CompletedProcess[str]]


def angle(ra: float, dec: float, ra2: float, dec2: float) -> float:
    """The definition, in long double: the angle between two unit vectors, by atan2 of their cross and dot products."""
    a, b = (
        [np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)]
        for r, d in (np.deg2rad(np.longdouble([p, q])) for p, q in ((ra, dec), (ra2, dec2)))
    )
    cross = np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
    return float(np.rad2deg(np.arctan2(np.sqrt((cross**2).sum()), (np.array(a) * b).sum())))


def small_angle(ra: float, dec: float, ra2: float, dec2: float) -> float:
    """The haversine in long double, which keeps the digits of small angles."""
    across = np.longdouble(ra2) - np.longdouble(ra)
    across -= 360 * np.round(across / 360)
    along = np.longdouble(dec2) - np.longdouble(dec)
    d, d2, across, along = np.deg2rad(np.longdouble([dec, dec2, across, along]))
    h = np.sin(along / 2) ** 2 + np.cos(d) * np.cos(d2) * np.sin(across / 2) ** 2
    return float(np.rad2deg(2 * np.arcsin(np.sqrt(h))))


ras = st.floats(0, 360, exclude_max=True) | st.sampled_from([0.0, math.nextafter(360, 0), 180.0, 1e-12])
decs = st.floats(-90, 90) | st.sampled_from([-90.0, 90.0, 0.0, math.nextafter(90, 0)])


@given(ras, decs, ras, decs)
@example(10.0, 90.0, 250.0, 90.0)
@example(10.0, 20.0, 190.0, -20.0)
def test_separations_are_those_of_the_definition(ra: float, dec: float, ra2: float, dec2: float) -> None:
    found = float(separation(*(np.array([value]) for value in (ra, dec, ra2, dec2)))[0])
    assert abs(found - angle(ra, dec, ra2, dec2)) < 1e-13


@given(st.floats(0, 359), st.floats(-89.9, 89.9), st.integers(-9, -1), st.floats(0, 2 * np.pi))
def test_tiny_and_nearly_opposite_angles_keep_their_digits(ra: float, dec: float, power: int, turn: float) -> None:
    step = 10.0**power
    other = (ra + step * np.cos(turn)) % 360, float(np.clip(dec + step * np.sin(turn), -90, 90))
    found = float(separation(*(np.array([value]) for value in (ra, dec, *other)))[0])
    assert math.isclose(found, small_angle(ra, dec, *other), rel_tol=1e-13)
    opposite = float(separation(*(np.array([value]) for value in (ra, dec, (other[0] + 180) % 360, -other[1])))[0])
    assert abs(180 - opposite - found) < 1e-12


def test_the_same_place_is_at_zero_whatever_its_ra_at_a_pole() -> None:
    ra = np.array([0.0, 5.0, 123.4, 359.9])
    for dec in (90.0, -90.0):
        assert not separation(ra, np.full(4, dec), ra[::-1].copy(), np.full(4, dec)).any()
    assert separation(np.array([1.0]), np.array([90.0]), np.array([2.0]), np.array([-90.0]))[0] == 180


def test_one_at_a_time_or_all_at_once_is_the_same_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    values = [
        rng.uniform(0, 360, 1001),
        rng.uniform(-90, 90, 1001),
        rng.uniform(0, 360, 1001),
        rng.uniform(-90, 90, 1001),
    ]
    whole = separation(*values)
    alone = [separation(*(value[i : i + 1] for value in values))[0] for i in range(1001)]
    assert whole.tolist() == alone


def write(folder: Path, blocks: Any, objects: int, at_once: int) -> None:
    """The arrays of a sky index and what they are."""
    counts = count_cells(blocks, objects, "here", quiet=True)
    arrays, hashes = write_sky(folder, blocks, counts, objects, at_once=at_once, quiet=True)
    describe(folder, arrays, hashes, objects, "v000001", "ab")


def made(folder: Path, ra: Any, dec: Any, at_once: int = 1000) -> SkyIndex:
    """A sky index of positions (N,), without the index it would describe."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    cut = [slice(start, start + 70) for start in range(0, len(ra), 70)]
    write(folder, lambda: ((ra[part], dec[part]) for part in cut), len(ra), at_once)

    class Described:
        version = "v000001"

        class manifest:  # noqa: N801
            content_hash = "ab"

    return SkyIndex(folder, Described)  # type: ignore[arg-type]


def slow(ra: Any, dec: Any, at: tuple[float, float], radius: float) -> list[tuple[float, int]]:
    """Every object's separation in turn, kept where it is at most the radius; then sorted."""
    found = []
    for row, (one, other) in enumerate(zip(ra, dec, strict=True)):
        if not (np.isnan(one) or np.isnan(other)):
            away = separation(*(np.array([value]) for value in (at[0], at[1], one, other)))[0]
            if away <= radius:
                found.append((float(away), row))
    return sorted(found)


def asked(sky: SkyIndex, at: tuple[float, float], radius: float) -> list[tuple[float, int]]:
    found = sky.cone(*at, radius)
    assert not found.query.any()
    return list(zip(found.separation.tolist(), found.row.tolist(), strict=True))


def hard_positions() -> tuple[np.ndarray, np.ndarray]:
    """Positions over the whole sky and crowded at both poles, at 0h, on edges of zones and on one another."""
    rng = np.random.default_rng(0)
    ra = [rng.uniform(0, 360, 150), rng.uniform(0, 360, 60), rng.uniform(-0.05, 0.05, 80) % 360, [10.0] * 9]
    dec = [
        np.rad2deg(np.arcsin(rng.uniform(-1, 1, 150))),
        90 * np.sign(rng.normal(size=60)) * (1 - 10 ** rng.uniform(-6, -2, 60)),
        rng.uniform(-0.05, 0.05, 80),
        [5.0] * 9,
    ]
    ra += [[0.0, 180.0, 77.0, np.nextafter(360, 0), 33.0, 33.0, 33.0], [12.0, np.nan, np.nan]]
    dec += [[90.0, 90.0, -90.0, 0.0, 1 / 60, np.nextafter(1 / 60, 0), 0.0], [np.nan, 5.0, np.nan]]
    order = rng.permutation(sum(map(len, ra)))
    return np.concatenate(ra)[order], np.concatenate(dec)[order]


RA, DEC = hard_positions()


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> SkyIndex:
    return made(tmp_path_factory.mktemp("sky") / "sky", RA, DEC)


CENTERS = [
    (0.0, 0.0),
    (359.99, 0.01),
    (10.0, 5.0),
    (0.0, 90.0),
    (200.0, -90.0),
    (120.0, 89.99),
    (33.0, 1 / 60),
    (77.0, -60.0),
]


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("radius", [0, 1e-9, 5 / 3600, 0.01, 0.06, 1.0, 30.0, 89.0, 90.0, 91.0, 179.9, 180.0])
def test_a_cone_holds_just_what_the_definition_says(hard: SkyIndex, center: tuple[float, float], radius: float) -> None:
    assert asked(hard, center, radius) == slow(RA, DEC, center, radius)


@given(ras, decs, st.floats(0, 180) | st.floats(0, 1e-3))
def test_any_cone_does(hard: SkyIndex, ra: float, dec: float, radius: float) -> None:
    assert asked(hard, (ra, dec), radius) == slow(RA, DEC, (ra, dec), radius)


@given(st.integers(0, len(RA) - 1), ras, decs, st.sampled_from([-1, 0, 1]))
def test_the_end_of_the_radius_belongs_to_it(hard: SkyIndex, row: int, ra: float, dec: float, ulps: int) -> None:
    """The radius is the separation of one object to the bit, or one step beside it."""
    if np.isnan(RA[row]) or np.isnan(DEC[row]):
        return
    away = float(separation(*(np.array([value]) for value in (ra, dec, RA[row], DEC[row])))[0])
    radius = min(180.0, max(0.0, float(np.nextafter(away, away + ulps) if ulps else away)))
    assert (row in hard.cone(ra, dec, radius).row) == (away <= radius)


def test_candidates_are_looked_at_in_pieces_with_the_same_answer(
    hard: SkyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sky_module, "AT_ONCE", 7)
    monkeypatch.setattr(sky_module, "RUNS", 5000)
    for center in CENTERS:
        whole = slow(RA, DEC, center, 40)
        assert asked(hard, center, 40) == whole
        few = hard.cone(*center, 40, most=5)
        assert list(zip(few.separation.tolist(), few.row.tolist(), strict=True)) == whole[:5]


def test_many_positions_at_once_are_each_answered(hard: SkyIndex) -> None:
    ra, dec = np.array(CENTERS).T
    found = hard.within(ra, dec, 2.0)
    for number, center in enumerate(CENTERS):
        mine = found.query == number
        rows = list(zip(found.separation[mine].tolist(), found.row[mine].tolist(), strict=True))
        assert rows == slow(RA, DEC, center, 2.0)
    assert (np.diff(found.query) >= 0).all()
    nearest = hard.within(ra, dec, 2.0, most=1)
    firsts = np.unique(found.query, return_index=True)[1]
    assert nearest.row.tolist() == found.row[firsts].tolist()
    assert len(hard.within(ra[:0], dec[:0], 2.0).row) == 0


@pytest.mark.parametrize("at_once", [1, 3, 50, 10**6])
def test_the_arrays_do_not_depend_on_the_memory(tmp_path: Path, at_once: int) -> None:
    sky = made(tmp_path / "sky", RA, DEC, at_once)
    zone = np.clip(np.floor((DEC + 90) * 60), 0, 180 * 60 - 1)
    rows = [row for row in range(len(RA)) if not (np.isnan(RA[row]) or np.isnan(DEC[row]))]
    rows.sort(key=lambda row: (zone[row], RA[row], row))
    assert sky.row.tolist() == rows
    assert sky.ra.tolist() == RA[rows].tolist()
    assert sky.dec.tolist() == DEC[rows].tolist()
    assert sky.zone_start.tolist() == np.searchsorted(zone[rows], np.arange(180 * 60 + 1)).tolist()
    assert (len(sky), sky.about.objects, sky.about.without_position) == (len(rows), len(RA), 3)
    assert sorted(path.name for path in sky.folder.iterdir()) == [
        "dec.bin",
        "ra.bin",
        "row.bin",
        "sky.json",
        "zone_start.bin",
    ]
    sky.verify()


def test_memory_is_bounded_by_what_is_sorted_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, at_once = 400_000, 10_000
    ra, dec = rng.uniform(0, 360, n), rng.uniform(-90, 90, n)
    (tmp_path / "sky").mkdir()
    tracemalloc.start()
    write(
        tmp_path / "sky",
        lambda: ((ra[start : start + at_once], dec[start : start + at_once]) for start in range(0, n, at_once)),
        n,
        at_once,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cells = 5 * 8 * sky_module.ZONES * 60
    assert peak < cells + 128 * at_once  # the records of all are 9.6 MB
    assert 128 * at_once < 24 * n / 4


@pytest.mark.parametrize("n", [0, 1])
def test_few_or_no_positions_are_an_index_too(tmp_path: Path, n: int) -> None:
    sky = made(tmp_path / "sky", [np.nan, 7.0][: n + 1], [1.0, 2.0][: n + 1])
    assert len(sky) == n
    assert sky.cone(7.0, 2.0, 180).row.tolist() == [1] * n
    sky.verify()


@pytest.mark.parametrize(("ra", "dec"), [(360.0, 0.0), (-0.1, 0.0), (0.0, 90.1), (np.inf, 0.0), (0.0, -np.inf)])
def test_a_position_out_of_range_is_an_error_that_names_its_row(tmp_path: Path, ra: float, dec: float) -> None:
    name, value = ("dec", dec) if 0 <= ra < 360 else ("ra", ra)
    with pytest.raises(
        InputError, match=re.escape(name) + r" lies in \[.* but row 71 .* of here has " + re.escape(repr(value))
    ):
        made(tmp_path / "sky", [0.0] * 71 + [ra], [0.0] * 71 + [dec])


def test_questions_are_checked(hard: SkyIndex) -> None:
    for radius in (-1.0, 181.0, float("nan")):
        with pytest.raises(InputError, match="A radius is from 0 to 180 deg"):
            hard.cone(0, 0, radius)
    with pytest.raises(InputError, match="ra lies in"):
        hard.cone(360, 0, 1)


# In an index folder


@pytest.fixture
def index(vector_set: Write, tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 60), rng.uniform(-90, 90, 60)
    dec[4] = np.nan
    embeddings, samples = vector_set(
        rng.normal(size=(60, 4)), {"ra": ra, "dec": dec}, shards={"s1.h5": 25, "s2.h5": 35}
    )
    build_index(embeddings, samples, tmp_path / "index", k=5, window=None, quiet=True)
    return tmp_path / "index"


def test_it_describes_the_version_it_lies_with(index: Path) -> None:
    with pytest.raises(NotFoundError, match="no sky index for its version v000001; make it with `lookalike sky"):
        SkyIndex.of(Index(index))
    report = build_sky(index, quiet=True)
    assert (report.objects, report.without_position, report.reused) == (59, 1, False)
    opened = Index(index)
    sky = SkyIndex.of(opened)
    assert sky.about.index_hash == opened.manifest.content_hash
    samples = opened.open_samples()
    ra, dec = samples.column("ra"), samples.column("dec")
    assert asked(sky, (120.0, 10.0), 50.0) == slow(ra, dec, (120.0, 10.0), 50.0)
    again = build_sky(index, quiet=True)
    assert (again.reused, again.content_hash) == (True, report.content_hash)
    assert verify(index, quiet=True).recall == 1
    collect(index)
    assert sky_folder(index, "v000001").is_dir()


def test_one_of_another_version_is_refused(index: Path, tmp_path: Path) -> None:
    build_sky(index, quiet=True)
    build_index(
        tmp_path / "embeddings.h5", [tmp_path / "s1.h5", tmp_path / "s2.h5"], index, k=4, window=None, quiet=True
    )
    with pytest.raises(NotFoundError, match="version v000002"):
        SkyIndex.of(Index(index))
    shutil.copytree(sky_folder(index, "v000001"), sky_folder(index, "v000002"))
    with pytest.raises(CorruptError, match="describes another index"):
        SkyIndex.of(Index(index))
    with pytest.raises(CorruptError, match="describes another index"):
        verify(index, quiet=True)
    assert not build_sky(index, quiet=True).reused
    assert len(SkyIndex.of(Index(index))) == 59


@pytest.mark.parametrize("name", ["ra.bin", "dec.bin", "row.bin", "zone_start.bin", "sky.json"])
def test_an_altered_byte_is_found_and_mended(index: Path, name: str) -> None:
    report = build_sky(index, quiet=True)
    path = sky_folder(index, "v000001") / name
    data = bytearray(path.read_bytes())
    data[data.index(b"_position") + 12 if name == "sky.json" else len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=f"{name} was altered"):
        verify(index, quiet=True)
    if name in ("row.bin", "zone_start.bin"):  # what would lead beyond the arrays is found where it is read
        path.write_bytes(data[:-2] + b"\x7f\x7f")
        with pytest.raises(CorruptError, match=f"{name} was altered"):
            SkyIndex.of(Index(index)).cone(0, 0, 180)
    path.write_bytes(data[:-8])
    with pytest.raises(CorruptError, match=f"{name} was altered"):
        SkyIndex.of(Index(index))
    assert build_sky(index, quiet=True).content_hash == report.content_hash
    assert verify(index, quiet=True).recall == 1


def test_without_positions_there_is_none(vector_set: Write, tmp_path: Path, toy_index: Path) -> None:
    with pytest.raises(InputError, match="needs columns ra and dec in deg, but there is no column ra"):
        build_sky(toy_index, quiet=True)
    assert not (toy_index / "extras" / "v000001" / "sky").exists()
    with pytest.raises(NotFoundError, match="is not an index folder"):
        build_sky(tmp_path / "nothing", quiet=True)
    assert not list(tmp_path.iterdir())


def test_bad_positions_leave_nothing_behind(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(np.eye(3), {"ra": np.array([1.0, 360.0, 3.0]), "dec": np.zeros(3)})
    build_index(embeddings, samples, tmp_path / "index", k=1, window=None, quiet=True)
    before = sorted(path for path in (tmp_path / "index").rglob("*"))
    with pytest.raises(InputError, match=r"ra lies in .* row 1 .* of .*samples\.h5 has 360\.0"):
        build_sky(tmp_path / "index", quiet=True)
    assert sorted(path for path in (tmp_path / "index").rglob("*")) == before


def test_it_waits_for_nobody(index: Path) -> None:
    with lock(index), pytest.raises(LockedError):
        build_sky(index, quiet=True)


@pytest.mark.parametrize("point", ["sky.made", "sky.json.written", "sky.written", "sky.renamed"])
def test_a_killed_build_leaves_none_or_a_whole_one(index: Path, point: str) -> None:
    code = (
        f"from pathlib import Path; from lookalike.indexer.sky_build import build_sky; build_sky(Path({str(index)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"LOOKALIKE_KILL_AT": point}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sky_folder(index, "v000001").exists() == (point == "sky.renamed")
    assert build_sky(index, quiet=True).reused == (point == "sky.renamed")
    kept = {path.name for path in (index / "extras" / "v000001").iterdir()}
    assert kept == {"calibration.json", "rounded", "sky"}


def test_many_wide_cones_do_not_hold_all_their_runs(hard: SkyIndex) -> None:
    ra, dec = np.linspace(0, 359, 500), np.linspace(-89, 89, 500)
    tracemalloc.start()
    found = hard.within(ra, dec, 60.0, most=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * sky_module.RUNS  # the runs of all at once would be seven times as many
    for number in (0, 137, 499):
        assert found.row[found.query == number].tolist() == [
            row for _, row in slow(RA, DEC, (float(ra[number]), float(dec[number])), 60.0)[:1]
        ]
