"""Objects that an event lists twice: left out by a rule, counted, and only where that is asked for."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.datasets import ingest
from lookalike.datasets.contract import Ledger
from lookalike.datasets.event_objects import Particles
from lookalike.datasets.event_overlaps import without_doubles
from lookalike.errors import LookalikeError
from lookalike.events import TYPES
from lookalike.samples import Samples

Object = tuple[int, str, float, float, float]  # row, kind, pt, eta, phi
NEAR = {"photon": (0.1, {"electron", "lepton"}), "tau": (0.4, {"electron", "muon", "lepton"})}
NEAR["jet"] = (0.4, {"electron", "muon", "lepton", "tau", "photon"})


def by_hand(objects: list[Object]) -> list[Object]:
    """The rule in words, one pair at a time."""
    for kind, (radius, others) in NEAR.items():
        kept = []
        for one in objects:
            double = False
            for other in objects:
                turn = abs(one[4] - other[4]) % (2 * math.pi)
                distance = math.hypot(one[3] - other[3], min(turn, 2 * math.pi - turn))
                close = distance < radius and other[2] >= one[2] / 2
                double |= one[1] == kind and other[1] in others and other[0] == one[0] and close
            if not double:
                kept.append(one)
        objects = kept
    return objects


drawn = st.tuples(
    st.integers(0, 3),
    st.sampled_from([kind for kind in TYPES if kind != "other"]),
    st.sampled_from([5.0, 9.0, 20.0, 40.0]),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    st.sampled_from([-3.12, 0.0, 0.07, 0.33, 3.1]),
)


@given(st.lists(drawn, max_size=14))
def test_what_is_left_is_what_the_rule_says(objects: list[Object]) -> None:
    numbers = np.array([[pt, eta, phi, 0, TYPES.index(kind), 0] for _, kind, pt, eta, phi in objects]).reshape(-1, 6)
    particles = Particles(np.array([each[0] for each in objects], np.int64), numbers)
    ledger = Ledger()
    found = without_doubles(particles, ledger)
    wanted = by_hand(objects)
    assert found.owner.tolist() == [each[0] for each in wanted]
    assert found.numbers[:, 0].tolist() == [each[2] for each in wanted]
    assert found.numbers[:, 4].tolist() == [TYPES.index(each[1]) for each in wanted]
    assert sum(ledger.counts.values()) == len(objects) - len(wanted)


def table(folder: Path, **more: object) -> Path:
    """An event of an electron, its photon, its jet and two more jets, one of them with a soft muon; and the map."""
    kinds = ("electron", "photon", "muon", "jet", "jet2", "jet3")
    (folder / "t.csv").write_text(
        "n," + ",".join(f"{kind}_{part}" for kind in kinds for part in ("pt", "eta", "phi")) + "\n"
        "1,40,1,3.1,39,1.02,-3.13,5,-1,0,44,1.1,3.0,60,-1,0.1,50,0,1.5\n"
        "2,40,1,0,39,1.2,0,30,-1,0,-999,-999,-999,60,-1,0.5,-50,0,1.5\n"
    )
    objects = [
        {"type": kind.rstrip("23"), **{part: f"{kind}_{part}" for part in ("pt", "eta", "phi")}} for kind in kinds
    ]
    (folder / "map.json").write_text(json.dumps({"id": "n", "objects": objects} | more))
    return folder / "map.json"


@pytest.mark.parametrize("by_map", [False, True])
def test_doubles_of_a_table_are_left_out_and_counted(tmp_path: Path, by_map: bool) -> None:
    chosen = table(tmp_path, **({"overlaps": "drop"} if by_map else {}))
    options = {"columns": chosen, "skip_bad": True, "quiet": True} | ({} if by_map else {"overlaps": "drop"})
    report = ingest("events", [tmp_path / "t.csv"], tmp_path / "s.h5", **options)  # type: ignore[arg-type]
    samples = Samples(report.out)
    assert samples.objects([0])[0, :, 0].tolist() == [60, 50, 40, 5, 0, 0]  # the second event has a bad jet
    assert samples.column("sum_pt").tolist() == [155]
    assert report.counts["photons that are another object too, left out"] == 1
    assert report.counts["jets that are another object too, left out"] == 1
    kept = ingest("events", [tmp_path / "t.csv"], tmp_path / "k.h5", **(options | {"overlaps": "keep"}))  # type: ignore[arg-type]
    assert Samples(kept.out).column("sum_pt").tolist() == [238]
    assert not any("another object" in name for name in kept.counts)


@pytest.mark.parametrize(("eta", "phi"), [("inf", "1"), ("1", "inf"), ("1", "")])
def test_bad_events_are_left_out_without_a_word_of_the_machine(tmp_path: Path, eta: str, phi: str) -> None:
    """Differences of infinite places are no numbers, of which NumPy warns, and warnings are errors here."""
    chosen = table(tmp_path)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    lines[2] = f"2,40,{eta},{phi},39,{eta},{phi},30,-1,0,44,{eta},{phi},60,-1,0.5,50,0,1.5"
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    for how in ("keep", "drop"):
        out = tmp_path / f"{how}.h5"
        report = ingest("events", [tmp_path / "t.csv"], out, columns=chosen, overlaps=how, skip_bad=True, quiet=True)
        assert (report.n, report.counts["events left out"]) == (1, 1)


def test_other_choices_are_refused(tmp_path: Path) -> None:
    chosen = table(tmp_path, overlaps="none")
    with pytest.raises(LookalikeError, match="overlaps"):
        ingest("events", [tmp_path / "t.csv"], tmp_path / "s.h5", columns=chosen, quiet=True)
    chosen = table(tmp_path)
    with pytest.raises(LookalikeError, match=r"'none'.* Choices: keep, drop"):
        ingest("events", [tmp_path / "t.csv"], tmp_path / "s.h5", columns=chosen, overlaps="none", quiet=True)


@pytest.mark.skipif(importlib.util.find_spec("uproot") is None, reason="the extra hep is not installed")
def test_real_events_lose_their_doubles_alone(tmp_path: Path, shared_data: Path) -> None:
    file = shared_data / "cms_simulated_root" / "nano_tt_v12.root"
    if not file.exists():
        pytest.skip("no simulated events")
    both = [ingest("events", [file], tmp_path / f"{how}.h5", overlaps=how, quiet=True) for how in ("keep", "drop")]
    whole, clean = (Samples(report.out).objects(slice(None)) for report in both)
    unasked = ingest("events", [file], tmp_path / "unasked.h5", quiet=True)
    assert unasked.content_hash == both[0].content_hash
    assert any("--overlaps drop" in note for note in unasked.notes)
    left = 0
    for event, kept in zip(whole, clean, strict=True):
        objects = [(0, TYPES[int(p[4])], float(p[0]), float(p[1]), float(p[2])) for p in event if p[0] > 0]
        wanted = by_hand(objects)
        assert kept[:, 0][kept[:, 0] > 0].tolist() == [each[2] for each in wanted]
        left += len(objects) - len(wanted)
    assert left == both[1].counts["jets that are another object too, left out"] == 143
