"""kill −9 during training and embedding, at named places and at random times: nothing is lost, results are equal."""

from __future__ import annotations

import multiprocessing
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lookalike.embeddings import Embeddings
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.embed import embed
from lookalike.ssl.log import read_log
from lookalike.ssl.train import TrainConfig, train

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
Children = multiprocessing.context.ForkServerContext
SETTINGS = {  # 8 steps on 64 objects
    "epochs": 2, "batch_size": 16, "small_stem": False, "encoder": "resnet10", "orientations": 1,
}  # fmt: skip
TRAIN_POINTS = [
    "train.step:3",  # a step taken and logged, not yet saved
    "train.checkpoint.model:3",  # inside a checkpoint: the encoder is there, its state is not
    "out.moved-aside:2",  # between the two renames that replace the folder
]
MORE_TRAIN_POINTS = [
    "train.step:1",
    "train.checkpoint:1",
    "train.checkpoint:4",
    "train.checkpoint.model:1",
    "out.written:1",
    "out.written:5",
    "out.renamed:1",
    "out.renamed:6",
    "out.moved-aside:7",
]
# Named place in embedding 64 objects, 8 at a time, and how many the next run finds saved; None: all is done.
EMBED_POINTS = {
    "embeddings.block:1": 0,
    "embeddings.block:4": 24,
    ".vectors.h5.rows.partial.written:3": 16,  # the rows are on the disk, the journal does not say so yet
    ".vectors.h5.rows.partial.renamed:3": 24,
    "embeddings.saved:8": 64,
    "embeddings.header:1": 64,  # between two writes of what lies around the vectors
    "vectors.h5.written": 64,
    "vectors.h5.renamed": None,
}
FOLDER_POINTS = {  # and how many of the 3 shards the next run need not make
    "manifest.json.written:1": 0,
    "manifest.json.renamed:1": 0,
    "embeddings.block:11": 1,  # in the second shard
    "b.h5.written": 1,
    "b.h5.renamed": 2,
    "embed.shard:3": 3,
    "embed.folder": 3,
    "manifest.json.written:2": 3,
    "manifest.json.renamed:2": 3,
}

# What the killed process runs; the parent's test module cannot be imported by name there.
TRAIN = """
import os
from pathlib import Path
os.environ["LOOKALIKE_KILL_AT"] = {kill_at!r}
import torch
torch.set_num_threads(1)
from lookalike.ssl.train import TrainConfig, train
train([Path({samples!r})], Path({out!r}), TrainConfig(**{settings!r}), resume=True, quiet=True, checkpoint_seconds=0)
"""
EMBED = """
import os
from pathlib import Path
os.environ["LOOKALIKE_KILL_AT"] = {kill_at!r}
import torch
torch.set_num_threads(1)
from lookalike.ssl.embed import embed
samples = [Path(path) for path in {samples!r}]
embed(samples, Path({checkpoint!r}), Path({out!r}), batch_size=8, quiet=True, save_seconds=0)
"""


class Undisturbed(NamedTuple):
    """A samples file, and what training on it without a kill came to."""

    samples: Path
    checkpoint: Path
    losses: list[float]
    content_hash: str


@pytest.fixture(scope="module")
def uninterrupted(
    write_blobs: Write,
    tmp_path_factory: pytest.TempPathFactory,
    on_one_thread: Callable[[], AbstractContextManager[None]],
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("uninterrupted")
    samples, out = write_blobs(folder), folder / "checkpoint"
    with on_one_thread():
        report = train([samples], out, TrainConfig.checked(SETTINGS), quiet=True)
    return Undisturbed(samples, out, [step["loss"] for step in read_log(out)], report.content_hash)


def run_and_kill(children: Children, code: str, after: float | None = None) -> tuple[bool, float]:
    """Run code in a process of its own, SIGKILL it `after` seconds; whether it was killed, and how long it ran."""
    start = time.monotonic()
    process = children.Process(target=exec, args=(code, {}))
    process.start()
    process.join(after if after is not None else 300)
    hung = after is None and process.is_alive()
    process.kill()
    process.join()
    assert not hung, "the process neither met its end nor finished within 300 s"
    return process.exitcode == -signal.SIGKILL, time.monotonic() - start


def resume_equals(whole: Undisturbed, out: Path) -> None:
    """Whatever was left, resuming ends as the undisturbed run did; every step is logged once."""
    if (out / "config.json").exists():
        load_encoder(out)  # what readers see is whole at any moment
    report = train([whole.samples], out, TrainConfig.checked(SETTINGS), resume=True, quiet=True)
    steps = read_log(out)
    assert [step["step"] for step in steps] == list(range(1, len(whole.losses) + 1))
    np.testing.assert_allclose([step["loss"] for step in steps], whole.losses, rtol=0, atol=1e-6)
    assert report.content_hash == whole.content_hash
    assert not list(out.parent.glob(".*.partial"))


def unfinished(folder: Path) -> bool:
    """Whether the kill landed inside a write."""
    return any(folder.glob(".*.partial"))


def kill_training_at(children: Children, uninterrupted: Undisturbed, out: Path, points: list[str]) -> None:
    inside = 0
    for point in points:
        code = TRAIN.format(kill_at=point, samples=str(uninterrupted.samples), out=str(out), settings=SETTINGS)
        killed, _ = run_and_kill(children, code)
        assert killed, f"{point} was never passed"
        inside += unfinished(out.parent)
        resume_equals(uninterrupted, out)
        shutil.rmtree(out)
    print(f"training: {len(points)} kills at named places, {inside} inside a write")


def kill_training_at_random(children: Children, uninterrupted: Undisturbed, out: Path, kills: int, seed: int) -> None:
    """Kill again and again while one run goes on, then let it end; once more from the start until all are used."""
    moments, inside, landed = random.Random(seed), 0, 0
    code = TRAIN.format(kill_at="", samples=str(uninterrupted.samples), out=str(out), settings=SETTINGS)
    _, whole = run_and_kill(children, code)
    shutil.rmtree(out)
    while landed < kills:
        killed, _ = run_and_kill(children, code, moments.uniform(0.1, 0.9) * whole)
        landed += killed
        inside += killed and unfinished(out.parent)
        if not killed or moments.random() < 0.5:  # else the next kill hits what resumes from this one
            resume_equals(uninterrupted, out)
            shutil.rmtree(out)
    if out.exists():
        resume_equals(uninterrupted, out)
    print(f"training: {landed} kills at random times (seed {seed}), {inside} inside a write")


def test_training_killed_at_named_places(children: Children, uninterrupted: Undisturbed, tmp_path: Path) -> None:
    kill_training_at(children, uninterrupted, tmp_path / "out", TRAIN_POINTS)


def test_training_killed_at_random_times(children: Children, uninterrupted: Undisturbed, tmp_path: Path) -> None:
    kill_training_at_random(children, uninterrupted, tmp_path / "out", kills=3, seed=1)


@pytest.mark.long
def test_training_killed_at_more_named_places(children: Children, uninterrupted: Undisturbed, tmp_path: Path) -> None:
    kill_training_at(children, uninterrupted, tmp_path / "out", MORE_TRAIN_POINTS)


@pytest.mark.long
def test_training_killed_at_twenty_random_times(children: Children, uninterrupted: Undisturbed, tmp_path: Path) -> None:
    kill_training_at_random(children, uninterrupted, tmp_path / "out", kills=20, seed=2)


def kill_embedding(
    children: Children, samples: Path, checkpoint: Path, folder: Path, points: dict[str, int | None], kills: int
) -> None:
    whole = embed([samples], checkpoint, folder / "whole.h5", batch_size=8, quiet=True)
    out, moments, inside, saved = folder / "vectors.h5", random.Random(3), 0, 0

    def code(kill_at: str) -> str:
        return EMBED.format(kill_at=kill_at, samples=[str(samples)], checkpoint=str(checkpoint), out=str(out))

    def check() -> int | None:
        """Go on, end as the undisturbed run did, clear away; the objects found saved, None if all was done."""
        complete = out.exists()
        if complete:
            assert Embeddings(out).content_hash == whole.content_hash
        report = embed([samples], checkpoint, out, batch_size=8, quiet=True)
        assert report.content_hash == whole.content_hash
        assert report.spread == pytest.approx(whole.spread, abs=1e-7)
        Embeddings(out).verify()
        assert out.read_bytes() == (folder / "whole.h5").read_bytes()
        assert not unfinished(folder)
        out.unlink()
        if complete:
            return None
        return int(re.findall(r"went on after (\d+) objects", " ".join(report.notes) + "went on after 0 objects")[0])

    for point, expected in points.items():
        killed, _ = run_and_kill(children, code(point))
        assert killed, f"{point} was never passed"
        inside += unfinished(folder)
        assert check() == expected, point
    _, seconds = run_and_kill(children, code(""))
    landed = 0
    while landed < kills:
        killed, _ = run_and_kill(children, code(""), moments.uniform(0.1, 0.9) * seconds)
        landed += killed
        inside += killed and unfinished(folder)
        saved += bool(check() and killed)
    print(
        f"embedding: {len(points)} kills at named places, {kills} at random times, {inside} inside a write, "
        f"{saved} random ones with rows saved"
    )


def test_embedding_killed(children: Children, uninterrupted: Undisturbed, tmp_path: Path) -> None:
    kill_embedding(children, uninterrupted.samples, uninterrupted.checkpoint, tmp_path, EMBED_POINTS, kills=3)


@pytest.mark.long
def test_embedding_killed_twenty_times(children: Children, uninterrupted: Undisturbed, tmp_path: Path) -> None:
    kill_embedding(children, uninterrupted.samples, uninterrupted.checkpoint, tmp_path, EMBED_POINTS, kills=20)


def test_filling_a_folder_killed(
    children: Children, uninterrupted: Undisturbed, blob_samples: Write, tmp_path: Path
) -> None:
    checkpoint, out = uninterrupted.checkpoint, tmp_path / "vectors"
    shards = [blob_samples(f"{name}.h5", n=64, seed=seed) for seed, name in enumerate("abc")]
    whole = embed(shards, checkpoint, tmp_path / "whole.h5", batch_size=8, quiet=True)
    for point, expected in FOLDER_POINTS.items():
        given = [str(path) for path in shards]
        code = EMBED.format(kill_at=point, samples=given, checkpoint=str(checkpoint), out=str(out))
        killed, _ = run_and_kill(children, code)
        assert killed, f"{point} was never passed"
        made = {path.name: path.stat().st_ino for path in out.glob("[abc].h5")}
        report = embed(shards, checkpoint, out, batch_size=8, quiet=True)
        assert report.content_hash == whole.content_hash
        assert len([name for name, number in made.items() if (out / name).stat().st_ino == number]) == expected, point
        Embeddings(out).verify()
        assert not unfinished(tmp_path)
        assert not unfinished(out)
        shutil.rmtree(out)
