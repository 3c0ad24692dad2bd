"""Training with foregrounds: the same after resuming, and a checkpoint from before they existed goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.errors import InputError, StoppedError
from lookalike.ssl import log
from lookalike.ssl import trainer as trainer_module
from lookalike.ssl.checkpoint import CheckpointConfig, read_config
from lookalike.ssl.plan import Plan
from lookalike.ssl.train import TrainConfig, train

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
SMALL: dict[str, Any] = {"encoder": "resnet10", "epochs": 2, "batch_size": 16, "small_stem": False}
FOREGROUND = {"foreground": {"enabled": True, "probability": 1.0, "number": 2, "bank": 20}}


def config(**values: Any) -> TrainConfig:
    return TrainConfig.checked(SMALL | values)


def losses(out: Path) -> list[float]:
    return [step["loss"] for step in log.read_log(out)]


def stop_after_step_3(name: str, passed: list[str] = []) -> None:  # noqa: B006
    passed += [name] * (name == "train.step")
    if len(passed) == 3:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_stopped_and_resumed_run_pastes_the_same(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, wanted = [blob_samples()], config(augment=FOREGROUND)
    whole = train(data, tmp_path / "whole", wanted, quiet=True)
    plain = train(data, tmp_path / "plain", config(), quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "write_point", stop_after_step_3)
        with pytest.raises(StoppedError):
            train(data, tmp_path / "parts", wanted, quiet=True)
    parts = train(data, tmp_path / "parts", wanted, resume=True, quiet=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole") != losses(tmp_path / "plain")
    assert parts.content_hash == whole.content_hash != plain.content_hash


@pytest.mark.parametrize("other", [{}, {"jitter": {"pixels": 5}}], ids=["the same steps", "another jitter"])
def test_a_checkpoint_from_before_foregrounds_goes_on(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    data, out = [blob_samples(n=32)], tmp_path / "out"
    now = Plan.checkpoint

    def before(self: Plan, step: int) -> CheckpointConfig:
        saved = now(self, step)
        augment = {name: part for name, part in saved.augment.items() if name != "foreground"}
        return saved.model_copy(update={"augment": augment | {k: augment[k] | v for k, v in other.items()}})

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "checkpoint", before)
        train(data, out, config(epochs=1), quiet=True)
    assert "foreground" not in read_config(out).augment
    if other:
        with pytest.raises(InputError, match="this version's defaults are others"):
            train(data, out, config(epochs=2), resume=True, quiet=True)
    else:
        assert train(data, out, config(epochs=2), resume=True, quiet=True).steps == 4
        assert read_config(out).augment["foreground"]["enabled"] is False
