"""Training: exact resumption, the log, signals, refusals; the loss goes down on galaxies drawn for the purpose."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.errors import CollapsedError, CorruptError, InputError, NotFoundError, StoppedError
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl import batches, log
from lookalike.ssl import trainer as trainer_module
from lookalike.ssl.checkpoint import read_config
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.plan import make_plan
from lookalike.ssl.train import TrainConfig, train

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
SMALL: dict[str, Any] = {"encoder": "resnet10", "epochs": 3, "batch_size": 16, "small_stem": False}


def config(**values: Any) -> TrainConfig:
    return TrainConfig.checked(SMALL | values)


def losses(out: Path) -> list[float]:
    """The logged losses, after checking that every step is there once and in order."""
    steps = log.read_log(out)
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    return [step["loss"] for step in steps]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Send this process SIGTERM at the end of its n-th step from here."""
    passed = [0]

    def point(name: str) -> None:
        if name == "train.step":
            passed[0] += 1
            if passed[0] == steps:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer_module, "write_point", point)


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [blob_samples()]
    whole = train(data, tmp_path / "whole", config(), quiet=True)
    for steps in (5, 3):  # 12 steps in all: stopped inside the second epoch, and at the end of it
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(StoppedError, match=r"Stopped and saved after .* of 12 steps; the same command"):
                train(data, tmp_path / "parts", config(), resume=True, quiet=True)
    parts = train(data, tmp_path / "parts", config(), resume=True, quiet=True)
    assert len(losses(tmp_path / "whole")) == whole.steps == 12
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=0, atol=1e-6)
    assert parts.content_hash == whole.content_hash  # the weights, to the last bit
    assert (tmp_path / "parts" / "loss.png").stat().st_size > 10_000
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_set_larger_than_memory_is_read_in_pools_and_resumed_within_one(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [blob_samples("a1.h5", n=40), blob_samples("a2.h5", n=30, seed=1)]
    monkeypatch.setattr(batches, "IN_MEMORY", 40 * 24 * 24 * 3)
    monkeypatch.setattr(batches, "BLOCK", 7 * 24 * 24 * 3)
    whole = train(data, tmp_path / "whole", config(), quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(StoppedError):
            train(data, tmp_path / "parts", config(), quiet=True)
    parts = train(data, tmp_path / "parts", config(), resume=True, quiet=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert parts.content_hash == whole.content_hash
    monkeypatch.setattr(batches, "IN_MEMORY", 2**30)
    assert train(data, tmp_path / "memory", config(), quiet=True).content_hash != whole.content_hash  # another order


def test_seed_decides_the_run(blob_samples: Write, tmp_path: Path) -> None:
    data = [blob_samples(n=32)]
    runs = [train(data, tmp_path / str(i), config(epochs=1, seed=seed), quiet=True) for i, seed in enumerate((0, 0, 1))]
    assert runs[0].content_hash == runs[1].content_hash != runs[2].content_hash


def test_epochs_may_grow_on_resume_and_nothing_else(blob_samples: Write, tmp_path: Path) -> None:
    data, out = [blob_samples(n=32)], tmp_path / "out"
    first = train(data, out, config(epochs=1), quiet=True)
    more = train(data, out, config(epochs=3), resume=True, quiet=True)
    assert (more.steps, len(losses(out)), read_config(out).epoch) == (6, 6, 3.0)
    assert (more.config.queue, more.config.momentum) == (first.config.queue, first.config.momentum)
    rates = [step["lr"] for step in log.read_log(out)]
    assert rates[1] < rates[2] < rates[0]  # the cosine is laid over the new total
    assert "The run grows from 1 to 3 epochs" in more.notes[-1]
    with pytest.raises(InputError, match="may only grow: it was 3, now 2"):
        train(data, out, config(epochs=2), resume=True, quiet=True)
    with pytest.raises(InputError, match=r"augment was .* and is now"):
        train(data, out, config(augment={"jitter": {"enabled": False}}), resume=True, quiet=True)
    with pytest.raises(InputError, match="the data must be the same, but the checkpoint was trained on samples"):
        train([blob_samples("other.h5", n=32, seed=9)], out, config(), resume=True, quiet=True)
    kinds: list[tuple[dict[str, Any], str]] = [
        ({"bands": "RG"}, "trained on the bands R, G, B, but these samples hold R, G"),
        ({"domain": "image"}, "trained on the domain galaxy, but these samples are of the domain image"),
        ({"dtype": "float32"}, "trained on uint8 pixels, but float32 was given"),
        ({"size": 12}, "sees the central 16×16 px, but pictures of 12×12 px"),
    ]
    for kind, message in kinds:
        with pytest.raises(InputError, match=message):
            train([blob_samples("kind.h5", n=32, **kind)], out, config(), resume=True, quiet=True)
    with pytest.raises(InputError, match="already holds a checkpoint: go on with --resume"):
        train(data, out, config(), quiet=True)
    same = train(data, out, config(epochs=None), resume=True, quiet=True)  # nothing left to do
    assert (same.epochs, same.content_hash) == (3, more.content_hash)
    values = json.loads((out / "config.json").read_text())
    del values["train"]["epochs"]
    (out / "config.json").write_text(json.dumps(values))
    with pytest.raises(CorruptError, match="does not say with which epochs it was trained"):
        train(data, out, config(), resume=True, quiet=True)


def test_the_loss_goes_down(blob_samples: Write, tmp_path: Path) -> None:
    """128 easy galaxies for 12 epochs: at the end far fewer wrong answers than guessing among 1 + K keys gives."""
    settings = config(epochs=12, lr=0.12, momentum=0.99, queue=64, temperature=0.2)
    report = train([blob_samples(n=128)], tmp_path / "out", settings, quiet=True)
    first = np.mean([step["loss"] for step in log.read_log(tmp_path / "out")[8:16]])
    print(f"loss {first:.2f} -> {report.loss:.2f}, accuracy {report.accuracy:.2f}")
    assert report.loss < first
    assert report.accuracy > 5 / (1 + 64)


def test_settings_are_saved_and_printed(
    blob_samples: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(epochs=1).overridden(None, ["augment.jitter.enabled=false"])
    report = train([blob_samples(n=70)], tmp_path / "out", settings)
    said = capsys.readouterr().err
    for text in ("queue K = 16", "momentum m = 0.9", "(the 6 that are left over", "lr 0.06 × 16/256", "seed 0"):
        assert text in said
    assert "1 epoch of 4 steps of 16 objects (the 6 that are left over, others each time, wait for" in said
    saved = read_config(tmp_path / "out")
    assert saved.train["queue"] == report.config.queue == 16
    assert saved.augment["jitter"]["enabled"] is False
    assert saved.samples_hash == Samples(tmp_path / "samples.h5").content_hash
    assert json.loads((tmp_path / "out" / "build.json").read_text())["command"] == "train"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("encoder=resnet19", "Unknown encoder 'resnet19'"),
        ("augment.jiter.enabled=false", "Unknown setting 'jiter'. Did you mean 'jitter'?"),
        ("augment.jitter.pixels=many", "jitter.pixels"),
        ("queue=64", "fewer keys than there are objects"),
        ("batch_size=65", "batch_size is at most their number, 64, but 65 was given"),
        ("batch_size=33", "batch_size is at most 32 for 64 objects"),
    ],
)
def test_bad_settings_leave_nothing_behind(blob_samples: Write, tmp_path: Path, assignment: str, message: str) -> None:
    data = [blob_samples()]
    with pytest.raises(InputError) as caught:
        train(data, tmp_path / "out", config().overridden(None, [assignment]), quiet=True)
    assert message in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "message"), [("flat", "each picture has one value"), ("same", "are identical")])
def test_constant_pictures_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    images = np.random.default_rng(0).integers(0, 255, (32, 3, 24, 24), dtype=np.uint8)
    images[:] = images[:, :1, :1, :1] if kind == "flat" else images[:1]
    with write_samples(tmp_path / "s.h5", About(domain="image", bands=("R", "G", "B")), {}) as writer:
        writer.append([f"a{row}" for row in range(32)], images, {})
    with pytest.raises(InputError, match=message):
        train([tmp_path / "s.h5"], tmp_path / "out", config(), quiet=True)


def test_one_object_and_missing_files_are_refused(blob_samples: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2, but there is only one"):
        train([blob_samples(n=1)], tmp_path / "out", config(), quiet=True)
    with pytest.raises(NotFoundError, match="No such file"):
        train([tmp_path / "absent.h5"], tmp_path / "out", config(), quiet=True)


def test_a_folder_that_is_no_checkpoint_is_not_replaced(blob_samples: Write, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists and is not a checkpoint"):
        train([blob_samples()], tmp_path / "mine", config(), resume=True, quiet=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    with pytest.raises(InputError, match=r"a folder with a name of its own, but '\.' was given"):
        train([blob_samples()], Path(), config(), quiet=True)


def test_collapse_is_noticed_during_training(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Constant(Encoder):
        """Says nearly the same of every picture."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            embedding, projection = super().forward(x)
            return embedding, torch.nn.functional.normalize(1e-6 * projection + 1, dim=1)

    monkeypatch.setattr(trainer_module, "Encoder", Constant)
    with pytest.raises(CollapsedError, match="has collapsed: for 30 steps on end"):
        train([blob_samples(n=32)], tmp_path / "out", config(epochs=40), quiet=True)
    assert read_config(tmp_path / "out")  # the last checkpoint is kept to be looked at


def test_log_keeps_whole_lines_up_to_the_checkpoint(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in range(1, 6)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 6, "lo')
    log.truncate_log(tmp_path, 9)
    assert [step["step"] for step in log.read_log(tmp_path)] == [1, 2, 3, 4, 5]
    log.truncate_log(tmp_path, 3)
    assert [step["step"] for step in log.read_log(tmp_path)] == [1, 2, 3]
    assert log.last_steps(tmp_path, 1)[0]["step"] == 3


def test_what_others_laid_into_the_folder_stays_there(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = [blob_samples(n=32)], tmp_path / "out"
    stop_after(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train(data, out, config(epochs=1), quiet=True)
    monkeypatch.undo()
    (out / "README.md").write_text("a card")
    (out / "plots" / "deep").mkdir(parents=True)
    (out / "plots" / "deep" / "map.png").write_bytes(b"map")
    (out / "latest").symlink_to("README.md")
    (out / "dead").symlink_to("nowhere")
    (out / ".loss.png.partial").touch()  # a killed writer's
    train(data, out, config(epochs=2), resume=True, quiet=True, checkpoint_seconds=0)
    assert (out / "README.md").read_text() == "a card"
    assert (out / "plots" / "deep" / "map.png").read_bytes() == b"map"
    assert (out / "latest").readlink() == Path("README.md")
    assert (out / "dead").is_symlink()
    assert not (out / ".loss.png.partial").exists()
    assert len(losses(out)) == 4


def test_a_file_system_without_hard_links_loses_nothing(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    data, out = [blob_samples(n=32)], tmp_path / "out"
    train(data, out, config(epochs=2), quiet=True, checkpoint_seconds=0)
    assert len(losses(out)) == 4


class Board:
    """In place of TensorBoard's writer, which tests do without: one line per value in a file it keeps open."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.file = Path(folder), None
        self.open().write(f"from {purge_step}\n")

    def open(self) -> Any:
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"events.{len(list(self.folder.iterdir()))}"
            self.file = (self.folder / name).open("a")
        return self.file

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.open().write(f"{name} {step}\n")

    def flush(self) -> None:
        self.open().flush()

    def close(self) -> None:
        self.open().close()
        self.file = None


@pytest.mark.parametrize("links", [True, False])
def test_tensorboard_events_lie_in_the_checkpoint(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(log, "_tensorboard", lambda folder, first: Board(str(folder), purge_step=first + 1))
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    data, out = [blob_samples(n=32)], tmp_path / "checkpoints" / "mine"
    train(data, out, config(epochs=1), quiet=True, checkpoint_seconds=0)
    train(data, out, config(epochs=2), resume=True, quiet=True, checkpoint_seconds=0)
    said = [line for file in sorted((out / "tensorboard").iterdir()) for line in file.read_text().splitlines()]
    assert [line for line in said if line.startswith(("from", "loss"))] == [
        "from 1",
        "loss 1",
        "loss 2",
        "from 3",
        "loss 3",
        "loss 4",
    ]
    assert [entry.name for entry in out.parent.iterdir()] == ["mine"]


def test_a_removed_log_is_said_and_no_number_is_made_up(
    blob_samples: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = [blob_samples(n=32)], tmp_path / "out"
    train(data, out, config(epochs=1), quiet=True)
    (out / "log.jsonl").unlink()
    report = train(data, out, config(epochs=1), resume=True)
    assert np.isnan(report.loss)
    assert "The loss is not known" in capsys.readouterr().err
    assert np.isfinite(train(data, out, config(epochs=2), resume=True, quiet=True).loss)


def test_a_column_of_text_leaves_nothing_behind(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((32, 3, 24, 24), dtype=np.float32)
    about = About(domain="galaxy", bands=("g", "r", "z"), unit="nanomaggies", pixel_scale=0.262)
    with write_samples(tmp_path / "s.h5", about, {"ebv": Column("mag")}) as writer:
        writer.append([f"a{row}" for row in range(32)], images, {"ebv": np.array(["0.1"] * 31 + ["n/a"])})
    with pytest.raises(InputError, match="Column 'ebv' is read by the augmentations and must hold numbers"):
        train([tmp_path / "s.h5"], tmp_path / "out", config(), quiet=True)
    assert not (tmp_path / "out").exists()


def test_objects_without_a_value_of_their_own_are_counted(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((32, 3, 24, 24), dtype=np.float32)
    about = About(domain="galaxy", bands=("g", "r", "z"), unit="nanomaggies", pixel_scale=0.262)
    ebv, psfsize = np.full(32, 0.1), np.full(32, 1.2)
    ebv[3:6], psfsize[0], psfsize[1] = np.nan, 0, np.nan
    with write_samples(tmp_path / "s.h5", about, {"ebv": Column("mag"), "psfsize_r": Column("arcsec")}) as writer:
        writer.append([f"a{row}" for row in range(32)], images, {"ebv": ebv, "psfsize_r": psfsize})
    notes = make_plan(Samples(tmp_path / "s.h5"), config()).notes
    assert "ebv: 3 of 32 objects have no value; the settings' typical one is used." in notes
    assert "psfsize_r: 2 of 32 objects have no value; the settings' typical one is used." in notes
