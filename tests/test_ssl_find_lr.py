"""The learning-rate range test: how its curve is read, that its steps are the loop's own and leave no trace."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import InputError, LockedError, LookalikeError
from lookalike.files import lock
from lookalike.samples import Samples
from lookalike.ssl import budget
from lookalike.ssl import find_lr as module
from lookalike.ssl.collapse import CollapseWatch
from lookalike.ssl.find_lr import HIGHEST, LOWEST, center, find_lr, fitted, read, sweep
from lookalike.ssl.plan import Plan, make_plan
from lookalike.ssl.train import TrainConfig, train
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import ALONE

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
RATES = np.geomspace(LOWEST, HIGHEST, 300)


def config(**values: Any) -> TrainConfig:
    return TrainConfig.checked({"encoder": "resnet10", "batch_size": 16, "small_stem": False} | values)


@pytest.mark.parametrize("sigma", [0.7, 4.0, 30.0])
def test_fitted_lines_are_weighted_least_squares(sigma: float) -> None:
    values = np.random.default_rng(0).normal(size=40).cumsum()
    steps = np.arange(40)
    lines = [np.polyfit(steps - at, values, 1, w=np.exp(-0.25 * ((steps - at) / sigma) ** 2)) for at in steps]
    np.testing.assert_allclose(np.stack(fitted(values, sigma), axis=1), np.array(lines)[:, ::-1], atol=1e-7)


@given(st.floats(-3, 3), st.floats(-9, 9), st.integers(2, 50), st.floats(0.5, 20))
def test_a_line_is_fitted_by_itself(slope: float, start: float, n: int, sigma: float) -> None:
    values = start + slope * np.arange(n)
    value, slopes = fitted(values, sigma)
    np.testing.assert_allclose(value, values, atol=1e-8)
    np.testing.assert_allclose(slopes, slope, atol=1e-8)


def test_curves_too_short_to_fall_have_no_suggestion() -> None:
    for n in (0, 1):
        found = read(RATES[:n], [3.0] * n, guessing=5.0, filling=2, ended="diverged")
        assert found.suggestion is None
        assert "can be suggested" in found.said
        json.dumps(found.document(), allow_nan=False)


@given(st.floats(-3.0, -0.7), st.floats(0.1, 0.5), st.integers(0, 2**32 - 1))
def test_the_middle_of_a_descent_is_found(middle: float, width: float, seed: int) -> None:
    descent = 6 - 3 / (1 + np.exp(-(np.log10(RATES) - middle) / (width / 2)))
    noisy = descent + np.random.default_rng(seed).normal(0, 0.05, len(RATES))
    found = read(RATES, noisy.tolist(), guessing=6.0, filling=0)
    assert found.suggestion is not None
    assert abs(np.log10(found.suggestion) - middle) < 0.25


def test_what_comes_after_the_lowest_loss_is_not_looked_at() -> None:
    logs = np.log10(RATES)
    descent = 6 - 3 / (1 + np.exp(-(logs + 2.5) / 0.15))
    broken = descent + np.where(logs > -1, 4 * np.sin(20 * (logs + 1)) + 6, 0)  # wild, and steeper than before
    found = read(RATES, broken.tolist(), guessing=6.0, filling=0)
    assert found.suggestion == pytest.approx(10**-2.5, rel=0.3)
    assert found.lowest_at is not None
    assert found.lowest_at < 0.12


def test_noise_alone_falls_nowhere() -> None:
    """Of 200 curves of noise at most 10 are taken to fall: CLEARLY is 10 times what smoothing leaves of it."""
    random = np.random.default_rng(0)
    fell = sum(
        read(RATES, random.normal(5, 0.1, 300).tolist(), guessing=5.0, filling=0).suggestion is not None
        for _ in range(200)
    )
    assert fell <= 10


def test_the_center_counts_each_rate_by_its_descent() -> None:
    rates = np.array([0.001, 0.01, 0.1, 1.0])
    assert center(rates, np.array([0.0, -2.0, -2.0, -0.9])) == pytest.approx(10**-1.5)
    assert center(rates, np.array([0.0, -3.0, -1.5, 1.0])) == pytest.approx(10 ** (-2 + 1 / 3))


def test_the_rate_rises_once_the_queue_is_full(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(Samples(blob_samples(n=100)), config(queue=40))
    rates, own = [], []
    before = Trainer.take_step

    def recorded(self: Trainer, *given: Any) -> dict[str, float]:
        start = self.moco.queue.clone()
        values = before(self, *given)
        rates.append(values["lr"] * 256 / 16)
        own.append(float((self.moco.queue != start).any(dim=0).float().mean()))
        return values

    monkeypatch.setattr(Trainer, "take_step", recorded)
    found = sweep(plan, tmp_path / "out", ALONE, steps=8, quiet=True)
    assert found.filling == 3  # of 16 keys each, for 40
    np.testing.assert_allclose(rates, [LOWEST] * 3 + np.geomspace(LOWEST, HIGHEST, 8).tolist())
    assert len(found.lr) == len(found.loss) == 8
    assert sum(own[:3]) >= 1
    again = sweep(plan, tmp_path / "out", ALONE, steps=8, quiet=True)
    assert again == found
    other = make_plan(Samples([tmp_path / "samples.h5"]), config(queue=40, seed=1))
    assert sweep(other, tmp_path / "out", ALONE, steps=8, quiet=True).loss != found.loss
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("code", ["diverged", "collapsed"])
def test_a_broken_sweep_ends_there(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    plan = make_plan(Samples(blob_samples()), config(queue=32))

    def check(self: CollapseWatch, step: int, *given: Any) -> float:
        if step == 7:
            raise LookalikeError("broken", code=code) if code == "diverged" else module.CollapsedError("broken")
        return 0.5

    monkeypatch.setattr(CollapseWatch, "check", check)
    found = sweep(plan, tmp_path / "out", ALONE, steps=20, quiet=True)
    assert (found.ended, len(found.loss)) == (code, 4)  # 2 steps filled the queue, the 7th broke
    assert f"Training {code} at {found.lr[-1]:.2g}." in found.said


def test_other_errors_are_not_taken_for_the_rates_end(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> float:
        raise InputError("something else")

    monkeypatch.setattr(CollapseWatch, "check", fail)
    with pytest.raises(InputError, match="something else"):
        sweep(make_plan(Samples(blob_samples()), config()), tmp_path / "out", ALONE, steps=5, quiet=True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 6)


@pytest.mark.usefixtures("short")
def test_only_a_plot_is_left_and_training_keeps_it(blob_samples: Write, tmp_path: Path) -> None:
    data, out = [blob_samples()], tmp_path / "checkpoints" / "mine"
    found = find_lr(data, out, config(), quiet=True)
    assert [entry.name for entry in out.iterdir()] == ["lr.png"]
    assert len(found.lr) == 6
    size = (out / "lr.png").stat().st_size
    assert size > 10_000
    train(data, out, config(epochs=1), quiet=True)
    assert (out / "lr.png").stat().st_size == size
    find_lr(data, tmp_path / "other", config(), plot=tmp_path / "mine.png", quiet=True)
    assert (tmp_path / "mine.png").stat().st_size > 10_000
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("short")
def test_what_cannot_work_is_refused_first(blob_samples: Write, tmp_path: Path) -> None:
    data = [blob_samples()]
    with pytest.raises(InputError, match=r"--plot is a \.png file"):
        find_lr(data, tmp_path / "out", config(), plot=tmp_path / "plot.jpg")
    with pytest.raises(InputError, match="A checkpoint is a folder"):
        find_lr(data, Path("/"), config())
    with pytest.raises(InputError, match="batch_size is at most"):
        find_lr(data, tmp_path / "out", config(batch_size=65))
    with pytest.raises(InputError, match="The epochs follow from --budget"):
        find_lr(data, tmp_path / "out", config(epochs=3), budget=60)
    with pytest.raises(InputError, match="Unknown column 'kind'"):
        find_lr(data, tmp_path / "out", config(), label="kind")
    assert not (tmp_path / "out").exists()


def test_what_is_written_to_is_locked_and_looked_at_before_the_steps(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepped(*given: object, **options: object) -> None:
        pytest.fail("steps were taken first")

    monkeypatch.setattr(module, "sweep", stepped)
    data, out, plot = [blob_samples()], tmp_path / "out", tmp_path / "mine.png"
    with lock(out), pytest.raises(LockedError):
        find_lr(data, out, config(), quiet=True)
    with lock(plot), pytest.raises(LockedError):
        find_lr(data, out, config(), plot=plot, quiet=True)
    assert not out.exists()
    for held in (None, plot):
        with pytest.raises(InputError, match="exists and is not a checkpoint"):
            find_lr(data, data[0], config(), plot=held, quiet=True)
    out.mkdir()
    (out / "config.json").write_text("{}")
    with pytest.raises(InputError, match="already holds a checkpoint"):
        find_lr(data, out, config(), quiet=True)


@pytest.mark.usefixtures("short")
def test_under_a_budget_the_rates_are_those_of_the_training_it_makes(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 epochs of 4 steps have another momentum than the 1,000 that are usual for 64 objects."""
    data = [blob_samples(n=64)]
    plans: list[Plan] = []

    def planned(*given: Any, **options: Any) -> Plan:
        plans.append(make_plan(*given, **options))
        return plans[-1]

    monkeypatch.setattr(budget, "samples_per_second", lambda *run: 64.0)
    monkeypatch.setattr(budget, "SPARE", 0.0)
    monkeypatch.setattr(budget, "make_plan", planned)
    found = find_lr(data, tmp_path / "out", config(), budget=400, quiet=True)
    assert plans[-1].epochs == 400
    trained = sweep(make_plan(Samples(data), config(epochs=400)), tmp_path / "out", ALONE, quiet=True)
    assert found == trained
    assert plans[-1].config.momentum == pytest.approx(1 - 30 / 1600)
    assert plans[0].config.momentum == pytest.approx(1 - 30 / 4000)


def test_the_command_says_how_to_go_on(
    blob_samples: Write, tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    data, out = blob_samples(n=32, size=16), tmp_path / "my checkpoint"
    options = ["--encoder", "resnet10", "--batch-size", 4, "--set", "lr=0.5", "--set", "small_stem=false"]
    done = command("train", data, "--out", out, *options, "--find-lr", "--json", "--epochs", 3)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"lr", "loss", "smoothed", "suggestion", "lowest_at", "guessing", "command", "plot"} <= found.keys()
    assert len(found["lr"]) == len(found["smoothed"]) == module.STEPS
    assert [entry.name for entry in out.iterdir()] == ["lr.png"]
    if found["suggestion"] is not None:
        words = shlex.split(found["command"])
        assert words[:5] == ["lookalike", "train", str(data), "--out", str(out)]
        assert words[-2:] == ["--set", f"lr={found['suggestion']:g}"]
        assert "lr=0.5" not in words
        assert "--find-lr" not in words
        trained = command(*words[1:], "--json")
        assert trained.returncode == 0, trained.stderr
        assert json.loads(trained.stdout)["epochs"] == 3
    refused = command("train", data, "--out", out, "--find-lr", "--resume")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "goes without --resume" in refused.stderr
