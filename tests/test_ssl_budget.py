"""Epochs from a time: the arithmetic, durations, and that the rate's measurement leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl import budget, defaults
from lookalike.ssl import train as train_module
from lookalike.ssl.budget import epochs_within, is_long, samples_per_second, time_needed
from lookalike.ssl.checks import seconds_of
from lookalike.ssl.plan import Plan, make_plan
from lookalike.ssl.train import TrainConfig, train
from lookalike.ssl.world import ALONE

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
SMALL: dict[str, Any] = {"encoder": "resnet10", "batch_size": 16, "small_stem": False}


@given(st.integers(0, 9), st.integers(0, 59), st.integers(1, 59))
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert seconds_of(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1.5h", 5400), ("2d", 172800), ("90s", 90)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "30 m", "-5m", "0s", "5x", "1e3s", "30min"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="A duration is like 90s, 30m, 1h30m or 2d"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "epochs", "said"),
    [(100, 9, "9 epochs of 10.0 s each"), (5, 1, "longer than the 5 s"), (11, 1, "1 epoch of 10.0 s fits into 11 s")],
)
def test_epochs_fit_with_a_little_to_spare(seconds: float, epochs: int, said: str) -> None:
    plan: Any = SimpleNamespace(steps_per_epoch=10, config=SimpleNamespace(batch_size=64))
    found, note = epochs_within(seconds, plan, 64.0)
    assert found == epochs
    assert said in note


def test_a_budgeted_run_is_the_run_of_that_many_epochs(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [blob_samples(n=64)]
    monkeypatch.setattr(budget, "samples_per_second", lambda *run: (samples_per_second(*run), 64.0)[1])
    monkeypatch.setattr(budget, "MEASURED_SECONDS", 0.01)
    under = train(data, tmp_path / "under", TrainConfig.checked(SMALL), quiet=True, budget=3.5)
    assert under.epochs == 3
    assert "64 samples/s measured: 3 epochs of 1.0 s each fit into 4 s." in under.notes
    plain = train(data, tmp_path / "plain", TrainConfig.checked(SMALL | {"epochs": 3}), quiet=True)
    assert under.content_hash == plain.content_hash
    again = train(data, tmp_path / "under", TrainConfig.checked(SMALL), quiet=True, resume=True, budget=1000)
    assert again.epochs == 3  # its schedule is laid; more are asked for by --epochs


@pytest.mark.parametrize(
    ("steps", "said"), [(20, "about 20 s"), (300, "about 5 min"), (9000, "about 2 h 30 min"), (3590, "about 1 h 0 min")]
)
def test_the_time_needed_is_said(steps: int, said: str) -> None:
    plan: Any = SimpleNamespace(steps=steps, config=SimpleNamespace(batch_size=64))
    assert f"64 samples/s measured: this takes {said}; --budget 30m" in time_needed(plan, 64.0)


def test_only_a_long_run_with_open_epochs_is_measured(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def rate(plan: Plan, *_: object) -> float:
        measured.append(plan.steps)
        return 64.0

    monkeypatch.setattr(train_module, "samples_per_second", rate)
    monkeypatch.setattr(defaults, "MOST_EPOCHS", 2)  # of 64 objects the 300,000 would be more
    data = [blob_samples(n=64)]
    assert not is_long(make_plan(Samples(data), TrainConfig.checked(SMALL)))
    train(data, tmp_path / "short", TrainConfig.checked(SMALL), quiet=True)
    assert measured == []
    monkeypatch.setattr(budget, "LONG", 100)
    train(data, tmp_path / "given", TrainConfig.checked(SMALL | {"epochs": 2}), quiet=True)
    assert measured == []
    report = train(data, tmp_path / "long", TrainConfig.checked(SMALL), quiet=True)
    assert measured == [8]
    assert report.epochs == 2
    assert "64 samples/s measured: this takes about 2 s" in report.notes[-1]


def test_the_rate_is_measured_past_an_epoch(blob_samples: Write, tmp_path: Path) -> None:
    plan = make_plan(Samples(blob_samples(n=40)), TrainConfig.checked(SMALL | {"epochs": 1}))
    assert plan.steps_per_epoch < budget.WARM_STEPS
    assert samples_per_second(plan, tmp_path / "out", ALONE) > 0
    assert not (tmp_path / "out").exists()


def test_epochs_and_budget_exclude_each_other(blob_samples: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"goes without --epochs \(3\)"):
        train([blob_samples()], tmp_path / "out", TrainConfig.checked(SMALL | {"epochs": 3}), quiet=True, budget=60)


@pytest.mark.parametrize(
    ("prepared", "epochs", "said"),
    [
        (0.0, 9, "9 epochs of 10.0 s each fit into 100 s"),
        (40.0, 5, "5 epochs of 10.0 s each fit, and 40 s of compiling, into 100 s"),
        (99.0, 1, "one epoch takes 10 s, and 99 s of compiling, longer than the 100 s"),
    ],
)
def test_compiling_is_of_the_budget(prepared: float, epochs: int, said: str) -> None:
    plan: Any = SimpleNamespace(steps_per_epoch=10, config=SimpleNamespace(batch_size=64))
    found, note = epochs_within(100, plan, 64.0, prepared)
    assert found == epochs
    assert said in note


def test_what_the_first_steps_take_longer_is_measured(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As compiling would, in the first step of each run; a run that compiles nothing has no such time of its budget."""
    data = Samples(blob_samples(n=64))
    plan = make_plan(data, TrainConfig.checked(SMALL | {"epochs": 1}))
    clock = [0.0]

    def step(self: Any, batch: Any, epoch: int) -> dict[str, float]:
        clock[0] += 0.5 if self.step else 30.0
        self.step += 1
        return {}

    monkeypatch.setattr(budget.Trainer, "take_step", step)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    rate, prepared = budget.measured(plan, tmp_path / "out", ALONE)
    assert rate == pytest.approx(plan.config.batch_size / 0.5)
    assert prepared == pytest.approx(29.5)
    epoch = plan.steps_per_epoch * 0.5
    seconds = 30 + 3.5 * epoch
    for compiling, epochs in ((True, 3), (False, int(seconds * 0.95 / epoch))):
        config = TrainConfig.checked(SMALL | {"compile": compiling})
        made = budget.new_plan(data, config, tmp_path / "out", ALONE, budget=seconds, start=None)
        assert made.config.epochs == epochs
