"""The measurement of cone searches compares answers, and sees a contender that is wrong; nothing here is timed.

pytest tests/test_bench_sky.py
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.bench import sky as bench
from lookalike.errors import InputError
from lookalike.indexer.sky import Matches, SkyIndex

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_all_contenders_answer_alike(command: Run) -> None:
    report = json.loads(command("bench", "sky", "--rows", 20_000, "--cones", 4, "--json").stdout)
    assert [round(row["radius_arcsec"], 6) for row in report["cones"]] == [5, 60, 600, 3600]
    assert all(row["equal"] for row in report["cones"])
    assert report["cones"][3]["found"] > 0
    assert report["build"]["bytes"] > 20_000 * 20
    for row in report["cones"]:
        assert {"zones_ms", "zones_longest_ms", "zones_cold_ms", "scan_ms", "kdtree_ms", "astropy_ms"} <= row.keys()
        assert all(row[name] > 0 for name in ("zones_ms", "scan_ms", "kdtree_ms", "astropy_ms"))


@pytest.fixture
def simulated(tmp_path: Path) -> SkyIndex:
    bench.make(tmp_path, 3000, 0)
    return bench.opened(tmp_path)


def test_an_answer_that_differs_is_seen(simulated: SkyIndex) -> None:
    row: dict[str, object] = {}
    right = bench._scanned(simulated)
    bench._compare(simulated, [(0.0, 90.0)], 20.0, row, {"scan": right})
    assert row["equal"] is True
    bench._compare(
        simulated, [(0.0, 90.0)], 20.0, row, {"scan": lambda *asked: (right(*asked)[0][1:], right(*asked)[1][1:])}
    )
    assert row["equal"] is False


def test_contenders_meet_the_definition(simulated: SkyIndex) -> None:
    ra, dec = (np.concatenate(parts) for parts in zip(*bench.positions(3000, 0), strict=True))
    for center in [(0.0, 90.0), (0.0, 0.0), (200.0, -30.0)]:
        away = bench.separation(np.full(3000, center[0]), np.full(3000, center[1]), ra, dec)
        rows = [row for row in np.lexsort((np.arange(3000), away)).tolist() if away[row] <= 10]
        found: Matches = simulated.cone(*center, 10)
        assert found.row.tolist() == rows
        for make in (bench._scanned, lambda sky: bench._tree(sky)[0], lambda sky: bench._astropy(sky)[0]):
            assert make(simulated)(*center, 10) == (rows, away[rows].tolist())


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(InputError, match="At least 1 row"):
        bench.bench_sky(0)
