"""Each domain from a command that makes samples to served lists, small; and the table of what was found."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.bench import domains
from lookalike.bench.domains import Case, Done, Skipped, read_cases, run_cases
from lookalike.bench.domains_report import as_json, as_text, beats, draw, write_markdown
from lookalike.cli import app
from lookalike.cli.simulate import group as simulations
from lookalike.errors import InputError, LookalikeError
from lookalike.events import PRIMITIVES
from lookalike.samples import Samples

QUICK = "--epochs 1 --batch-size 16 --set orientations=1"


def in_this_process(arguments: Sequence[str], folder: Path) -> str:
    """What a command prints, without the start of a process and of torch in it."""
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        app(list(arguments), prog_name="lookalike", standalone_mode=False)
    return printed.getvalue()


SIMULATED = {
    "galaxy": Case(
        title="Galaxies",
        samples="simulate galaxies -n 64 --size 64 --seed 1",
        train=f"--encoder resnet10 {QUICK}",
        index="--window mag_z:1 -k 20",
        evaluate="--label class --resamples 50",
    ),
    "image": Case(
        title="Clocks",
        samples="simulate clocks -n 64 --size 28 --seed 1",
        train=f"--encoder resnet10 {QUICK}",
        index="-k 10",
        evaluate="--label hour:minute --resamples 50",
    ),
    "jet": Case(
        title="Jets",
        samples="simulate jets -n 64 --signal 0.5 --seed 1 --processes 1",
        train=f"--encoder resnet10 {QUICK} --set augment.image.size=15",
        index="--window log(pt):1 -k 10",
        evaluate="--label label --resamples 50",
    ),
    "event": Case(
        title="Events, as particles",
        samples="simulate events -n 96 --seed 1 --processes 1",
        train=QUICK,
        index="--window met:200 -k 10",
        evaluate="--label class --resamples 50",
    ),
}


@pytest.mark.parametrize("domain", SIMULATED)
def test_objects_go_from_a_simulation_to_a_served_page(domain: str, tmp_path: Path) -> None:
    case = SIMULATED[domain]
    for module in ("pythia8mc", "fastjet") if domain in ("jet", "event") else ():
        pytest.importorskip(module, reason="the extra simulate is not installed")
    told: list[str] = []
    (done,) = run_cases({domain: case}, tmp_path, None, say=told.append, run=in_this_process)
    assert isinstance(done, Done)
    assert told == [f"{domain}: {stage}" for stage in ("samples", "train", "embed", "index", "evaluate")]
    assert done.report["label"] == case.evaluate.split()[1]
    assert done.commands[0] == f"lookalike {case.samples} --out samples.h5"
    assert Samples(tmp_path / domain / "samples.h5").about.domain == domain
    told.clear()
    (again,) = run_cases({domain: case}, tmp_path, None, say=told.append, run=in_this_process)
    assert (again, told) == (done, [])


def test_hits_go_from_a_simulation_to_a_served_page(tmp_path: Path) -> None:
    in_this_process(["simulate", "tracks", "--out", "events", "-n", "1", "--particles", "20", "--seed", "1"], tmp_path)
    case = Case(
        title="Hits",
        samples="ingest trackml {data}/events --size 16",
        train=QUICK,
        index="-k 10",
        evaluate="--label particle_id --kind categorical --no-label 0 --resamples 50",
    )
    (done,) = run_cases({"track": case}, tmp_path / "work", tmp_path, say=lambda text: None, run=in_this_process)
    assert isinstance(done, Done)
    assert done.report["label"] == "particle_id"
    assert Samples(tmp_path / "work" / "track" / "samples.h5").about.domain == "track"


def test_events_go_from_a_table_to_a_served_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["EventId", *PRIMITIVES, "Weight", "Label"]
    lines = [",".join(names)]
    for event in range(64):
        signal = event % 2
        row = {name: rng.exponential(30 + 20 * signal) + 26 for name in PRIMITIVES}
        row |= {name: rng.uniform(-2.4, 2.4) for name in PRIMITIVES if name.endswith(("eta", "phi"))}
        row |= {name: -999.0 for name in PRIMITIVES if name.startswith("PRI_jet_")} | {"PRI_jet_num": 0}
        row |= {"PRI_jet_all_pt": 0.0}
        values = [str(event), *(f"{row[name]:.3f}" for name in PRIMITIVES), "0.5", "sb"[1 - signal]]
        lines.append(",".join(values))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events.csv").write_text("\n".join(lines) + "\n")
    case = Case(
        title="Events",
        samples="ingest higgsml {data}/events.csv",
        train=QUICK,
        index="-k 10",
        evaluate="--label label --resamples 50",
    )
    (skipped,) = run_cases({"events": case}, tmp_path, None, say=lambda text: None, run=in_this_process)
    assert skipped == Skipped("events", case, "it needs real files: say where with --data")
    (absent,) = run_cases({"events": case}, tmp_path, tmp_path / "no", say=lambda text: None, run=in_this_process)
    assert isinstance(absent, Skipped)
    assert absent.why == f"there is no {tmp_path / 'no' / 'events.csv'}"
    (done,) = run_cases({"events": case}, tmp_path, tmp_path / "data", say=lambda text: None, run=in_this_process)
    assert isinstance(done, Done)
    assert done.report["classes"] == ["b", "s"]
    assert done.commands[0] == "lookalike ingest higgsml DATA/events.csv --out samples.h5"


def report(encoder: float, raw: float, metric: str = "precision_at_k") -> dict[str, Any]:
    def score(value: float) -> dict[str, Any]:
        around = [value - 0.02, value + 0.02]
        return {
            metric: value,
            "knn_accuracy": value + 0.1,
            "intervals": {metric: around, "knn_accuracy": [end + 0.1 for end in around]},
        }

    def baseline(value: float) -> dict[str, Any]:
        lead = encoder - value
        return score(value) | {
            "differences": {metric: lead, "knn_accuracy": lead},
            "difference_intervals": {name: [lead - 0.01, lead + 0.03] for name in (metric, "knn_accuracy")},
        }

    return {
        "label": "class",
        "k": 10,
        "metric": metric,
        "classes": ["a", "b"],
        "objects": {"tuning": 500, "reporting": 512},
        **score(encoder),
        "baselines": {
            "pixels_pca": baseline(raw),
            "untrained": baseline(0.3 if raw < 1 else 180.0),
            "hand_features": baseline(0.9),
        },
    }


def test_the_table_says_whose_intervals_are_apart(tmp_path: Path) -> None:
    case = Case(title="Toys", samples="simulate toys", evaluate="--label class")
    seconds = {"train": 61.0}
    apart = Done("apart", case, ["lookalike train"], seconds, report(0.60, 0.55))
    touching = Done("touching", case, [], seconds, report(0.60, 0.57))
    by_votes = Done("votes", case.model_copy(update={"measure": "knn_accuracy"}), [], seconds, report(0.6, 0.55))
    on_a_circle = [
        Done(
            "circle",
            case.model_copy(update={"measure": "apart_at_k"}),
            [],
            seconds,
            report(encoder, 150.0, "apart_at_k"),
        )
        for encoder in (250.0, 100.0)
    ]
    found = [apart, touching, by_votes, *on_a_circle, Skipped("absent", case, "no files")]
    assert [beats(each) for each in found if isinstance(each, Done)] == [True, False, True, False, True]
    draw(found, tmp_path / "results.png")
    write_markdown(found, tmp_path / "results.md", tmp_path / "results.png")
    text = (tmp_path / "results.md").read_text()
    assert "![Scores by domain](results.png)" in text
    rows = [line for line in text.splitlines() if line.startswith("| Toys")]
    assert rows[0] == (
        "| Toys | 1,012 | class (2 classes) | precision@10 | 0.600 (0.580–0.620) | 0.550 (0.530–0.570) | "
        "0.300 (0.280–0.320) | 0.900 (0.880–0.920) | yes | +0.050 (+0.040 to +0.080) | 1:01 |"
    )
    assert "| no | +0.030 (+0.020 to +0.060) | 1:01 |" in rows[1]
    assert "| kNN accuracy | 0.700 (0.680–0.720) |" in rows[2]
    assert "| mean difference@10 | 100.0 (100.0–100.0) | 150.0 (150.0–150.0) |" in rows[4]
    # Of less is better, a lead is how much less; of two, the smaller.
    assert "| no | −100.0 (−100.0 to −100.0) |" in rows[3]
    assert "| yes | +50.0 (+50.0 to +50.0) |" in rows[4]
    assert "Not run: Toys (no files)." in text
    assert as_json(found)["cases"][5] == {"case": "absent", "title": "Toys", "skipped": "no files"}
    assert "touching         precision@10: encoder 0.600" in as_text(found)


def test_a_score_that_there_is_none_of_beats_nothing(tmp_path: Path) -> None:
    case = Case(title="Toys", samples="simulate toys", evaluate="--label class")
    none = report(0.6, 0.55)
    none["precision_at_k"], none["intervals"]["precision_at_k"] = None, [None, None]
    none["baselines"]["untrained"]["difference_intervals"]["precision_at_k"] = [None, None]
    found = [Done("none", case, [], {"train": 1.0}, none)]
    assert not beats(found[0])
    draw(found, tmp_path / "none.png")
    write_markdown(found, tmp_path / "none.md", None)
    assert "| nan (nan–nan) | 0.550 (0.530–0.570) |" in (tmp_path / "none.md").read_text()


def test_wrong_cases_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cases.toml"
    file.write_text('[a]\ntitle = "A"\nsamples = "simulate clocks"\nevaluate = "--label hour"\n')
    assert list(read_cases(file)) == ["a"]
    with pytest.raises(InputError, match="Unknown case 'b'"):
        read_cases(file, ["b"])
    file.write_text('[a]\ntitle = "A"\nsample = "simulate clocks"\nevaluate = "--label hour"\n')
    with pytest.raises(InputError, match="sample"):
        read_cases(file)
    file.write_text("")
    with pytest.raises(InputError, match="holds no case"):
        read_cases(file)


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookalikeError, match=r"`lookalike info nothing.h5` in .* ended with exit code 2"):
        domains.process(["info", "nothing.h5"], tmp_path)


def test_the_cases_of_the_repository_are_sound() -> None:
    found = read_cases(Path(__file__).parent.parent / "benchmarks" / "domains.toml")
    made = {case.samples.split()[1] for case in found.values() if case.samples.startswith("simulate")}
    assert made <= {command.name for command in simulations.registered_commands if command.name} | {
        command.callback.__name__ for command in simulations.registered_commands if command.callback
    }
    assert len(found) >= 6
    assert all("--label" in case.evaluate for case in found.values())
