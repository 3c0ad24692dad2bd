"""float16 with a scaled loss, and encoders compiled by torch: the same training by other arithmetic."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lookalike.errors import InputError, LookalikeError, StoppedError
from lookalike.samples import Samples
from lookalike.ssl import log, mixed
from lookalike.ssl import trainer as trainer_module
from lookalike.ssl.mixed import LossScaler
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import refuse_changes
from lookalike.ssl.train import TrainConfig, train
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import ALONE

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
CPU = torch.device("cpu")


def config(**values: Any) -> TrainConfig:
    small = {"encoder": "resnet10", "epochs": 2, "batch_size": 16, "small_stem": False, "precision": "float32"}
    return TrainConfig.checked(small | values)


def losses(out: Path) -> list[float]:
    return [step["loss"] for step in log.read_log(out)]


def weights_after(scaler: LossScaler, given: list[float]) -> list[float]:
    """A weight after each step of a loss of so many times it, by steps of 0.1."""
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.1, fused=True)
    found = []
    for factor in given:
        optimizer.zero_grad()
        scaler.step(weight * factor, optimizer)
        found.append(float(weight.detach()))
    return found


def test_a_scaled_loss_takes_the_steps_of_the_plain_one() -> None:
    plain, scaled = (weights_after(LossScaler(CPU, on=on), [1.0, 2.0, 4.0]) for on in (False, True))
    assert plain == pytest.approx([0.9, 0.7, 0.3])
    assert scaled == pytest.approx(plain)


def test_steps_that_overflow_are_left_out_and_the_scale_is_kept_for_a_resumed_run() -> None:
    scaler = LossScaler(CPU, on=True)
    before = float(scaler.state["loss_scale"][0])
    assert weights_after(scaler, [1.0, float("inf"), 1.0]) == pytest.approx([0.9, 0.9, 0.8])
    assert scaler.state["loss_scale"].tolist() == [before / 2, 1.0]  # one step since the overflow
    other = LossScaler(CPU, on=True)
    other.state["loss_scale"].copy_(scaler.state["loss_scale"])
    other.restore()
    weights_after(other, [1.0])
    assert other.state["loss_scale"].tolist() == [before / 2, 2.0]
    assert LossScaler(CPU, on=False).state == {}


def test_float16_is_trained_with_near_the_losses_of_float32_and_resumed_with_the_same(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [blob_samples()]
    half = config(encoder="mlp", small_stem=None, precision="float16")
    train(data, tmp_path / "whole", half, quiet=True)
    train(data, tmp_path / "full", half.changed({"precision": "float32"}), quiet=True)
    assert losses(tmp_path / "whole")[:3] == pytest.approx(losses(tmp_path / "full")[:3], rel=0.02)
    assert losses(tmp_path / "whole") != losses(tmp_path / "full")
    passed: list[str] = []

    def stop(name: str) -> None:
        passed.append(name)
        if passed.count("train.step") == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "write_point", stop)
        with pytest.raises(StoppedError):
            train(data, tmp_path / "parts", half, quiet=True)
    train(data, tmp_path / "parts", half, resume=True, quiet=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_momentum_begins_with_zeros_where_the_first_step_overflows(blob_samples: Write, tmp_path: Path) -> None:
    plan = make_plan(Samples([blob_samples()]), config(encoder="mlp", small_stem=None, precision="float16"))
    trainer = Trainer(plan, tmp_path / "out", ALONE, 60.0)
    buffers = [trainer.optimizer.state[p]["momentum_buffer"] for p in trainer.moco.encoder_q.parameters()]
    assert buffers
    assert all(float(buffer.abs().max()) == 0 for buffer in buffers)
    weight = next(trainer.moco.encoder_q.parameters())
    before = weight.detach().clone()
    trainer.scaler.step(weight.sum() * float("inf"), trainer.optimizer)
    assert torch.equal(weight.detach(), before)
    assert float(trainer.optimizer.state[weight]["momentum_buffer"].abs().max()) == 0


def test_compiled_encoders_take_the_same_steps(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced whole by torch and run as they are; the code that inductor makes of it takes minutes."""
    monkeypatch.setattr(mixed, "COMPILER", "aot_eager")
    data = [blob_samples()]
    for name in ("plain", "compiled"):
        train(data, tmp_path / name, config(compile=name == "compiled"), quiet=True)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    from lookalike.ssl.checkpoint import load_encoder

    names = [set(load_encoder(tmp_path / name)[0].state_dict()) for name in ("plain", "compiled")]
    assert names[0] == names[1]


def test_a_compiler_that_fails_is_a_sentence(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(mixed, "COMPILER", broken)
    with pytest.raises(
        LookalikeError, match=r"torch cannot compile this encoder here \(.*no C\+\+ compiler.*\); train without compile"
    ):
        train([blob_samples()], tmp_path / "out", config(compile=True), quiet=True)


def test_a_run_of_before_goes_on_and_keeps_to_its_precision() -> None:
    before = config(precision="float16", queue=16, momentum=0.9, temperature=0.1, lr=0.1, sub_batches=2, orientations=1)
    stored = before.model_dump()
    del stored["compile"], stored["untrained_half"]
    refuse_changes(stored, before)
    with pytest.raises(InputError, match="compile was False and is now True"):
        refuse_changes(stored, before.changed({"compile": True}))
    refuse_changes(stored | {"compile": True}, before)  # left open, it is as before
    with pytest.raises(InputError, match="precision was 'float16'"):
        refuse_changes(stored, before.changed({"precision": "float32"}))
    with pytest.raises(InputError, match="precision"):
        config(precision="float8")
