"""What training and embedding refuse is refused before torch is imported, in the very words they have for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import InputError, LookalikeError
from lookalike.ssl.architectures import EncoderConfig
from lookalike.ssl.checkpoint import CheckpointConfig, save_encoder
from lookalike.ssl.checks import check_embedding, check_training, seconds_of
from lookalike.ssl.embed import embed
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.find_lr import find_lr
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.train import train

# Where torch cannot be imported, run the commands one after the other: exit code, output, errors, and whether the
# files are those from before, of each.
WITHOUT_TORCH = """
import contextlib, io, json, sys
from pathlib import Path
sys.modules["torch"] = None
from lookalike.cli import main
told, before = [], sorted(Path().rglob("*"))
for command in json.load(sys.stdin):
    sys.argv = ["lookalike", *command.split()]
    code, out, err = None, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    told.append((code, out.getvalue(), err.getvalue(), sorted(Path().rglob("*")) == before))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 24 pictures as `s.h5`, others in two bands as `two.h5`, and an encoder as `encoder`."""
    from lookalike.samples import About, Column
    from lookalike.samples_writer import write_samples

    folder = tmp_path_factory.mktemp("files")
    images = np.random.default_rng(1).integers(0, 255, (24, 3, 32, 32)).astype(np.uint8)
    ids = [f"o{row}" for row in range(24)]
    for name, bands in {"s.h5": ("R", "G", "B"), "two.h5": ("R", "G")}.items():
        columns = {"mag": Column("mag"), "kind": Column()}
        with write_samples(folder / name, About(domain="image", bands=bands), columns) as writer:
            values = {"mag": np.linspace(17, 19, 24), "kind": np.arange(24.0) % 2}
            writer.append(ids, images[:, : len(bands)], values)
    (folder / "encoder").mkdir()
    config = EncoderConfig(name="resnet10", small_stem=True)
    sees = Preprocess(kind="scaled", size=32, bands=("R", "G", "B"), dtype="uint8")
    about = CheckpointConfig(
        encoder=config, preprocess=sees, domain="image", bands=sees.bands, train={"imported": {"head": "none"}}
    )
    save_encoder(folder / "encoder", Encoder(config), about)
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").write_text("hello")
    return folder


TRAIN = [
    ("nothing.h5 --out y", "No such file: nothing.h5"),
    ("taken/notes.txt --out y", "taken/notes.txt is not a readable HDF5 file"),
    ("s.h5 --out y --encoder resnet19", "Unknown encoder 'resnet19'. Did you mean 'resnet18'? Choices: resnet10,"),
    ("s.h5 --out y --set lrr=3", "Unknown setting 'lrr'. Did you mean 'lr'? Choices: encoder,"),
    ("s.h5 --out y --set lr=-3", "Setting lr must be above 0, but -3 was given."),
    (
        "s.h5 --out y --set augment.x=1",
        "Unknown setting 'x'. Choices: bands, dtype, size, color, clip, crop, jitter, gray, blur, flip, turn, "
        "negative, divisor, mean, "
        "std. (in augment)",
    ),
    ("s.h5 --out y --batch-size 32", "A batch holds different objects, so batch_size is at most their number, 24"),
    ("s.h5 --out y --queue 24 --batch-size 8", "fewer keys than there are objects (24), but queue = 24."),
    ("s.h5 --out y --config c.yaml", "A settings file ends in .toml or .json, but c.yaml was given."),
    ("s.h5 --out y --budget soon", "A duration is like 90s, 30m, 1h30m or 2d, but 'soon' was given."),
    ("s.h5 --out y --budget 1m --epochs 3", "The epochs follow from --budget, so it goes without --epochs (3)."),
    ("s.h5 --out y --plot a.pdf", "--plot is a .png file, but 'a.pdf' was given."),
    ("s.h5 --out y --label mga", "Unknown column 'mga'. Did you mean 'mag'?"),
    ("s.h5 --out y --weights no.pth", "No such file: no.pth"),
    ("s.h5 --out no/such/run", "The folder of an output is made where it is missing, but none above it:"),
    ("s.h5 --out s.h5/such/run", "and there is no folder "),
    ("s.h5 --out taken", "taken exists and is not a checkpoint; choose another --out."),
    ("s.h5 --out encoder", "encoder already holds a checkpoint: go on with --resume, or choose another --out."),
    ("s.h5 --out encoder --resume", "encoder holds an encoder without the state that resuming needs"),
    ("s.h5 --out y --label mag", "--label watches classes, texts or whole numbers, but column 'mag' holds others."),
    ("s.h5 --out y --find-lr --encoder resnet19", "Unknown encoder 'resnet19'."),
    ("s.h5 --out y --find-lr --label mga", "Unknown column 'mga'. Did you mean 'mag'?"),
    ("s.h5 --out y --find-lr --label mag", "--label watches classes, texts or whole numbers"),
    ("s.h5 --out y --find-lr --budget 1m --epochs 3", "The epochs follow from --budget"),
    ("s.h5 --out taken --find-lr", "taken exists and is not a checkpoint; choose another --out."),
    ("s.h5 --out encoder --find-lr --plot y.png", "encoder already holds a checkpoint"),
]
EMBED = [
    ("nothing.h5 --checkpoint encoder --out y.h5", "No such file: nothing.h5"),
    ("s.h5 --checkpoint encoder --out y.h5 --layer emb", "Unknown layer 'emb'. Choices: embedding, projection."),
    ("s.h5 --checkpoint encoder --out y.h5 --dtype float8", "Unknown dtype 'float8'."),
    ("s.h5 --checkpoint encoder --out s.h5", "s.h5"),
    ("s.h5 --checkpoint encoder --out no/such/y.h5", "The folder of an output is made where it is missing, but none"),
    ("s.h5 --checkpoint no --out y.h5", "Checkpoint no does not exist; make one with `lookalike train`."),
    ("s.h5 --checkpoint taken --out y.h5", "taken is not a checkpoint folder (it has no config.json)"),
    ("s.h5 --checkpoint encoder --out y.h5 --layer projection", "was imported without a projection head"),
    ("two.h5 --checkpoint encoder --out y.h5", "was trained on the bands R, G, B, but these samples hold R, G."),
]


CASES = [(f"train {a}", m) for a, m in TRAIN] + [(f"embed {a}", m) for a, m in EMBED]


@pytest.fixture(scope="module")
def without_torch(files: Path) -> dict[str, tuple[int, str, str, bool]]:
    """Exit code, output, errors, and whether all files are as before, of each command in CASES."""
    commands = [command for command, _ in CASES]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=files,
        check=True,
    )
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_what_is_wrong_is_said_without_torch(
    without_torch: dict[str, tuple[int, str, str, bool]], arguments: str, message: str
) -> None:
    code, out, err, untouched = without_torch[arguments]
    assert (code, out) == (1 if "HDF5" in message else 2, ""), err
    assert err.startswith("lookalike: ")
    assert err.count("\n") == 1
    assert message in err
    assert untouched


def said(run: Callable[[], object]) -> str:
    with pytest.raises(LookalikeError) as error:
        run()
    return error.value.message


def test_training_says_the_same_where_it_is_called_itself(files: Path, tmp_path: Path) -> None:
    samples, out = [files / "s.h5"], tmp_path / "y"
    for changes in ({"encoder": "resnet19"}, {"augment": {"x": 1}}, {"batch_size": 32}, {"queue": 24, "batch_size": 8}):
        config = TrainConfig.checked(changes)
        word = said(lambda config=config: train(samples, out, config, quiet=True))  # type: ignore[misc]
        assert word == said(lambda config=config: check_training(samples, out, config))  # type: ignore[misc]
        assert word == said(lambda config=config: find_lr(samples, out, config, quiet=True))  # type: ignore[misc]
    for place, resume in (("taken", False), ("encoder", False), ("encoder", True)):
        word = said(lambda p=place, r=resume: train(samples, files / p, TrainConfig(), resume=r, quiet=True))  # type: ignore[misc]
        assert word == said(lambda p=place, r=resume: check_training(samples, files / p, TrainConfig(), resume=r))  # type: ignore[misc]
    two, encoder = [files / "two.h5"], files / "encoder"
    assert said(lambda: embed(two, encoder, out, quiet=True)) == said(
        lambda: check_embedding(two, encoder, out, layer="embedding", dtype="float32")
    )


def test_what_can_be_trained_passes_and_a_resumed_run_is_held_to_its_settings(files: Path, tmp_path: Path) -> None:
    samples, out = [files / "s.h5"], tmp_path / "run"
    small = TrainConfig(encoder="resnet10", batch_size=8, queue=8, epochs=1)
    check_training(samples, out, small, label="kind")
    assert not out.exists()
    train(samples, out, small, quiet=True)
    check_training(samples, out, small.model_copy(update={"epochs": 2}), resume=True)
    check_training(samples, out, TrainConfig(), resume=True)
    other = small.model_copy(update={"temperature": 0.7})
    assert said(lambda: check_training(samples, out, other, resume=True)) == said(
        lambda: train(samples, out, other, resume=True, quiet=True)
    )
    # Killed between the two renames of a replacement: the checkpoint is there, under another name.
    shutil.move(out, tmp_path / ".run.old.partial")
    with pytest.raises(InputError, match="already holds a checkpoint"):
        check_training(samples, out, small)
    assert (out / "config.json").exists()


@pytest.mark.parametrize("place", ["taken", "encoder"])
def test_a_wrong_setting_is_said_before_that_the_folder_is_taken(files: Path, place: str) -> None:
    samples, out = [files / "s.h5"], files / place
    wrong = TrainConfig.checked({"encoder": "resnet19"})
    assert "Unknown encoder 'resnet19'" in said(lambda: check_training(samples, out, wrong))
    assert "choose another --out" in said(lambda: check_training(samples, out, TrainConfig()))
    # A resumed run is held to its own settings, whatever those of a new one would be.
    (files / "run").mkdir()
    shutil.copy(files / "encoder" / "config.json", files / "run")
    try:
        assert "without the state" in said(lambda: check_training(samples, files / "run", wrong, resume=True))
    finally:
        shutil.rmtree(files / "run")


def test_of_several_processes_none_looks_at_what_the_first_writes(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    check_training([files / "s.h5"], files / "encoder", TrainConfig())


def test_a_duration_is_so_many_seconds() -> None:
    assert seconds_of("1h30m") == 5400
