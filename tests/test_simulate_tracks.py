"""Simulated events: seeded, of the challenge's layout, on helices, and called simulated wherever they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.datasets import ingest
from lookalike.datasets.contract import Ledger
from lookalike.datasets.trackml_files import find_events, read_event
from lookalike.errors import InputError
from lookalike.helix import curvature_of
from lookalike.samples import Samples
from lookalike.simulate.tracks import PT, Settings, event, write_events

SMALL = Settings(events=2, particles=60, seed=3)


def test_an_event_follows_from_seed_and_number_alone() -> None:
    once, again, other = event(SMALL, 1), event(replace(SMALL, events=9), 1), event(replace(SMALL, seed=4), 1)
    for kind, table in once.items():
        for name, values in table.items():
            np.testing.assert_array_equal(values, again[kind][name])
    assert not np.array_equal(once["hits"]["x"][:20], other["hits"]["x"][:20])


def test_hits_lie_on_the_circles_of_their_particles() -> None:
    """Every true position is as far from the center of its particle's circle as the circle's radius."""
    made = event(replace(SMALL, noise=0.0), 0)
    truth, particles = made["truth"], made["particles"]
    which = np.searchsorted(particles["particle_id"], truth["particle_id"])
    px, py, q = (particles[name][which] for name in ("px", "py", "q"))
    radius = 1 / curvature_of(1.0, 2.0) * np.hypot(px, py)
    side = q * radius / np.hypot(px, py)
    center = particles["vx"][which] + side * py, particles["vy"][which] - side * px
    away = np.hypot(truth["tx"] - center[0], truth["ty"] - center[1])
    np.testing.assert_allclose(away, radius, rtol=1e-6, atol=0.1)  # layers are centered on the axis, not the start
    # The momentum at a hit is at a right angle to the way from the center.
    scalar = truth["tpx"] * (truth["tx"] - center[0]) + truth["tpy"] * (truth["ty"] - center[1])
    assert np.abs(scalar / np.hypot(truth["tpx"], truth["tpy"]) / radius).max() < 0.01


def test_numbers_are_as_stated() -> None:
    """Of 30,000 hits: five standard deviations are less than the tolerances."""
    made = event(Settings(events=1, particles=3000, seed=0, missed=0.1, noise=0.5), 0)
    hits, truth, particles = made["hits"], made["truth"], made["particles"]
    pt = np.hypot(particles["px"], particles["py"])
    assert PT[0] < pt.min() < pt.max() < PT[1]
    of_none = truth["particle_id"] == 0
    assert of_none.sum() == round(0.5 * (~of_none).sum())
    assert truth["weight"].sum() == pytest.approx(1)
    assert not truth["weight"][of_none].any()
    strips = (hits["volume_id"] == 17) & ~of_none
    assert (hits["z"] - truth["tz"])[strips].std() == pytest.approx(3.0, rel=0.15)
    whole = event(Settings(events=1, particles=3000, seed=0, missed=0.0, noise=0.0), 0)
    assert (~of_none).sum() / len(whole["truth"]["hit_id"]) == pytest.approx(0.9, abs=0.012)
    assert (
        particles["nhits"]
        == np.bincount(np.searchsorted(particles["particle_id"], truth["particle_id"][~of_none]), minlength=3000)
    ).all()


def test_files_are_read_back_and_called_simulated(tmp_path: Path) -> None:
    made = write_events(tmp_path / "events", SMALL, quiet=True)
    found = find_events([tmp_path / "events"])
    assert [each.number for each in found] == [0, 1]
    read = read_event(found[1], Ledger())
    wanted = event(SMALL, 1)
    np.testing.assert_allclose(read.hits["x"], wanted["hits"]["x"], rtol=1e-6)
    assert read.truth is not None
    np.testing.assert_array_equal(read.truth["particle_id"], wanted["truth"]["particle_id"])
    assert read.cells is not None
    assert read.cells["cells_v"].max() > 1
    ingest("trackml", [tmp_path / "events"], tmp_path / "hits.h5", size=8, quiet=True)
    samples = Samples(tmp_path / "hits.h5")
    assert len(samples) == made.hits
    assert samples.about.source.startswith("SIMULATED")
    assert samples.id(0) == "sim0:1"


def test_an_older_set_is_replaced_on_request_only(tmp_path: Path) -> None:
    out = tmp_path / "events"
    write_events(out, SMALL, quiet=True)
    before = {file.name: file.read_bytes() for file in out.glob("*.gz")}
    with pytest.raises(InputError, match="is there already"):
        write_events(out, SMALL, quiet=True)
    write_events(out, SMALL, overwrite=True, quiet=True)
    assert {file.name: file.read_bytes() for file in out.glob("*.gz")} == before
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("of years")
    with pytest.raises(InputError, match="holds something else"):
        write_events(tmp_path / "own", SMALL, overwrite=True, quiet=True)
    with pytest.raises(InputError, match="At least 1 event"):
        write_events(tmp_path / "none", replace(SMALL, particles=0))


def test_what_was_written_is_named_as_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = write_events(Path("events"), Settings(1, 5, 0), quiet=True)
    assert (made.out, (tmp_path / "events" / "simulated.json").exists()) == (Path("events"), True)
