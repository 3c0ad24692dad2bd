"""What a detector sees of generated events: Pythia's own table, and HepMC files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lookalike.datasets import ingest
from lookalike.datasets.visibility import visible
from lookalike.samples import Samples

RANGES = ((1, 100_000), (1_000_000, 1_103_400), (2_000_000, 2_000_030), (3_000_000, 3_101_000), (4_000_000, 4_000_020),
          (4_900_000, 4_901_000), (5_000_000, 5_100_100), (9_900_000, 9_961_000))  # fmt: skip


def test_the_common_particles() -> None:
    seen = np.array([11, -13, 22, 130, 211, 2112, 1000021, 1000024, 999999999])
    unseen = np.array([12, -14, 16, 1000022, 52, -1000012, 1000039, 4900111, 4900213, 9900012])
    assert visible(seen).all()
    assert not visible(unseen).any()


@pytest.mark.skipif(importlib.util.find_spec("pythia8mc") is None, reason="Pythia is not installed")
def test_every_particle_that_pythia_knows_is_as_visible_as_there() -> None:
    from lookalike.datasets import pythia

    table = pythia.generator(("ProcessLevel:all = off",)).particleData
    known = [number for low, high in RANGES for number in range(low, high) if table.isParticle(number)]
    assert len(known) > 500
    theirs = np.array([table.isVisible(number) for number in known])
    assert 100 < int((~theirs).sum()) < 150
    for sign in (1, -1):
        odd = np.array(known)[visible(sign * np.array(known)) != theirs]
        assert odd.tolist() == []


@pytest.mark.skipif(importlib.util.find_spec("fastjet") is None, reason="FastJet is not installed")
@pytest.mark.skipif(importlib.util.find_spec("pyhepmc") is None, reason="pyhepmc is not installed")
@pytest.mark.parametrize("unseen", [14, 1000022, 52, 4900111])
def test_what_is_not_seen_is_no_part_of_a_jet(tmp_path: Path, unseen: int) -> None:
    import pyhepmc

    with pyhepmc.open(str(tmp_path / "e.hepmc"), "w") as file:
        event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
        vertex = pyhepmc.GenVertex()
        vertex.add_particle_in(pyhepmc.GenParticle((0, 0, 6500, 6500), 2212, 4))
        for px, py, pdg in ((100, 0, 211), (90, 5, 22), (500, 10, unseen), (-150, 0, 2112), (-300, 0, -unseen)):
            vertex.add_particle_out(pyhepmc.GenParticle((px, py, 0, float(np.hypot(px, py))), pdg, 1))
        event.add_vertex(vertex)
        file.write(event)
    report = ingest("jets", [tmp_path / "e.hepmc"], tmp_path / "s.h5", quiet=True)
    samples = Samples(report.out)
    assert samples.column("pt").tolist() == pytest.approx([np.hypot(190, 5)])
    assert samples.column("pt_2").tolist() == pytest.approx([150])
    assert any("that no detector sees" in note for note in report.notes)
