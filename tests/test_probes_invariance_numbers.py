"""The invariance of encoders of records, of particles and of hits: every number against its definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.about import About
from lookalike.augmentations import event
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.errors import InputError
from lookalike.events import PARTICLE, PRIMITIVES, units
from lookalike.probes.invariance import COPY_EPOCH, measure
from lookalike.probes.number_features import number_change, spreads, sums_and_maxima
from lookalike.probes.report import as_json, as_text
from lookalike.probes.report_html import page
from lookalike.probes.retrieval import found_again
from lookalike.probes.steps import alone
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
N = 40
STEPS = ["turn", "mirror", "boost", "energy", "directions", "pile_up"]


def records() -> np.ndarray[Any, Any]:
    """Events of a tau, a lepton and up to two jets, as records (N, 17)."""
    random = np.random.default_rng(0)
    jets = np.arange(N) % 3
    made = {name: random.uniform(-2, 2, N) for name in PRIMITIVES}
    made |= {name: random.uniform(30, 90, N) for name, column in PRIMITIVES.items() if column.unit == "GeV"}
    made["PRI_jet_num"] = jets.astype(float)
    made["PRI_jet_subleading_pt"] = made["PRI_jet_leading_pt"] * 0.8
    made["PRI_met_sumet"] = made["PRI_met_sumet"] * 4
    for part in ("pt", "eta", "phi"):
        made[f"PRI_jet_leading_{part}"] = np.where(jets > 0, made[f"PRI_jet_leading_{part}"], np.nan)
        made[f"PRI_jet_subleading_{part}"] = np.where(jets > 1, made[f"PRI_jet_subleading_{part}"], np.nan)
    pt = [np.nan_to_num(made[f"PRI_jet_{name}_pt"]) for name in ("leading", "subleading")]
    made["PRI_jet_all_pt"] = pt[0] + pt[1]
    return np.stack([made[name] for name in PRIMITIVES], 1).astype(np.float32)


def particles() -> np.ndarray[Any, Any]:
    """Events of 3 to 5 particles and the missing momentum, (N, 6, 6) in falling order of pT."""
    random = np.random.default_rng(1)
    made = np.zeros((N, 6, 6), np.float32)
    for one in range(N):
        count = 4 + one % 3
        pt = np.sort(random.uniform(20, 120, count))[::-1]
        kinds = random.permutation([0, 1, 2, 4, 5, 1][:count])
        eta = np.where(kinds == 0, 0, random.uniform(-2, 2, count))
        made[one, :count] = np.stack(
            [pt, eta, random.uniform(-3, 3, count), np.where(kinds == 1, 5.0, 0), kinds, np.zeros(count)], 1
        )
    return made


def write(folder: Path, layout: str) -> Path:
    objects, stored = (records(), PRIMITIVES) if layout == "features" else (particles(), PARTICLE)
    about = About(domain="event", layout=layout, bands=tuple(stored), units=units(stored), source="drawn")
    with write_samples(folder / "s.h5", about, {}) as writer:
        writer.append([f"e{one}" for one in range(N)], objects, {})
    return folder / "s.h5"


def trained(samples: Path, **values: Any) -> Path:
    config = {"epochs": 1, "batch_size": 8, "precision": "float32"} | values
    train([samples], samples.parent / "run", TrainConfig.checked(config), quiet=True)
    return samples.parent / "run"


@pytest.mark.parametrize("layout", ["features", "particles"])
def test_events_are_measured_in_both_layouts_as_defined(tmp_path: Path, layout: str) -> None:
    """Copies made and embedded here, one step and all together, find their originals as often as is reported."""
    samples = write(tmp_path, layout)
    run = trained(samples)
    measured = measure([samples], run, quiet=True)
    assert measured.steps == [name for name in event.EventSettings.model_fields if name in STEPS]
    encoder, config = load_encoder(run)
    stored = torch.from_numpy(Samples(samples).objects(slice(None)))
    settings = event.EventSettings.checked(config.augment)
    spread = spreads(stored.numpy())

    def embedded(objects: torch.Tensor) -> Any:
        with torch.inference_mode():
            return encoder(encoder_input(objects, config.preprocess))[0].numpy()

    for name, steps in {"energy": ["energy"], "all": STEPS}.items():
        draws = Draws(0, COPY_EPOCH, torch.arange(N), view=0)
        copies = event.view(stored.clone(), {}, draws, alone(settings, *steps))  # type: ignore[arg-type]
        hits = found_again(embedded(stored), embedded(copies))
        score = measured.scores["embedding"][name]
        assert score.copy_at[0].hits == int(hits.sum())
        own = [
            float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            for a, b in zip(*map(embedded, (stored, copies)), strict=True)
        ]
        assert score.cosine.mean == pytest.approx(np.mean(own), abs=1e-6)
        plain = event.view(stored.clone(), {}, draws, alone(settings))  # type: ignore[arg-type]
        assert measured.pixel_change[name] == pytest.approx(np.mean(number_change(copies, plain, spread)))
        assert measured.pixel_change[name] > 0.001
    assert set(measured.scores) == {
        "embedding", "projection", "untrained embedding", "untrained projection", "pixels", "hand_features"
    }  # fmt: skip
    given = encoder_input(stored, config.preprocess).numpy()
    assert np.isfinite(sums_and_maxima(given)).all()
    text = as_text(measured)
    assert "number   copy → original" in text
    assert "the numbers given" in text
    assert ("their sums and maxima" in text) == (layout == "particles")
    assert "pixel" not in text
    assert "number change" in page(measured)
    assert "radial profile" not in page(measured)
    document = json.loads(json.dumps(as_json(measured)))
    assert [entry["name"] for entry in document["augmentations"]] == measured.steps
    assert document["pixels"]["self_retrieval_at_1"] >= 0
    assert document["crowded_objects"] == 0


def test_a_step_that_does_nothing_is_dead(tmp_path: Path) -> None:
    samples = write(tmp_path, "particles")
    run = trained(samples, augment={"energy": {"constant": 0, "stochastic": 0, "leptons": 0}})
    (dead,) = [flag for flag in measure([samples], run, quiet=True).flags if flag.kind == "dead"]
    assert dead.augmentations == ("energy",)
    assert "has no effect on the numbers (energy changes them by 0.0e+00 of the spread" in dead.message


def test_changes_are_of_what_is_defined_and_there() -> None:
    plain = torch.tensor([[1.0, np.nan, 4.0], [2.0, 3.0, 4.0]])
    copies = torch.tensor([[3.0, np.nan, 4.0], [2.0, 3.0, 4.0]])
    assert number_change(copies, plain, np.array([2.0, 1.0, 1.0])).tolist() == pytest.approx([np.sqrt(1 / 2), 0.0])
    one = torch.zeros(2, 3, 2)
    one[0, :2] = torch.tensor([[5.0, 1.0], [4.0, 2.0]])
    two = one.clone()
    two[0, 1] = 0.0  # a particle is missed
    found = number_change(two, one, np.array([4.0, 1.0]))
    assert found[0] == pytest.approx(np.sqrt((1 + 4) / 4))
    assert np.isnan(found[1])
    objects = np.zeros((2, 3, 2), np.float32)
    objects[0, :2, 0], objects[0, :2, 1] = [4, 8], [1, 1]
    assert spreads(objects).tolist() == [2.0, 1.0]
    assert spreads(np.array([[1, np.nan], [3, np.nan]], np.float32)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("sample", ["hits", "tracks"])
def test_tracks_are_measured_too(tmp_path: Path, sample: str) -> None:
    from lookalike.datasets import ingest
    from lookalike.simulate.tracks import Settings, write_events

    write_events(tmp_path / "events", Settings(1, 30, seed=3), quiet=True)
    samples = tmp_path / "s.h5"
    ingest("trackml", [tmp_path / "events"], samples, sample=sample, size=12, quiet=True)
    run = trained(samples)
    off = [] if sample == "hits" else ["follow", "isolate", "noise"]
    if off:
        with pytest.raises(InputError, match="--without follow --without isolate --without noise"):
            measure([samples], run, quiet=True)
    measured = measure([samples], run, objects=60, without=off, quiet=True)
    assert measured.without == off
    # Hits are turned and mirrored alike, all of an epoch: no copy need be found again in another frame.
    alike = sample == "hits"
    assert ({"turn", "mirror"} & set(measured.steps) == set()) == alike
    assert any(note.startswith("turn, mirror: training does so to all objects") for note in measured.notes) == alike
    assert all(0 <= each.copy_at[0].value <= 1 for each in measured.scores["embedding"].values())
    assert all(change > 0 for change in measured.pixel_change.values())
    assert "dead" not in {flag.kind for flag in measured.flags}  # smearing moves a hit by a millionth of their spread
    assert "number   copy → original" in as_text(measured)


def test_turns_of_each_object_by_itself_are_measured(tmp_path: Path) -> None:
    from lookalike.datasets import ingest
    from lookalike.simulate.tracks import Settings, write_events

    write_events(tmp_path / "events", Settings(1, 30, seed=3), quiet=True)
    samples = tmp_path / "s.h5"
    ingest("trackml", [tmp_path / "events"], samples, sample="hits", size=12, quiet=True)
    run = trained(samples, augment={"turn": {"shared": False}})
    measured = measure([samples], run, objects=60, quiet=True)
    assert "turn" in measured.steps
    assert "mirror" not in measured.steps
    assert any(note.startswith("mirror: training does so") for note in measured.notes)
