"""What is watched while an encoder trains: each measure against its definition; watching changes nothing."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.cli import main
from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl import labels
from lookalike.ssl.curves import plot_log
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.log import read_log
from lookalike.ssl.plan import make_plan
from lookalike.ssl.quality import LabelWatch, alignment, knn_accuracy, queue_age, uniformity
from lookalike.ssl.train import TrainConfig, train

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"encoder": "resnet10", "epochs": 3, "batch_size": 16, "queue": 32, "small_stem": False}


def unit(n: int, D: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, D, generator=torch.Generator().manual_seed(n)), dim=1)


def test_alignment_is_the_mean_squared_distance_of_views() -> None:
    q, k = unit(6, 4), unit(7, 4)[:6]
    distances = [float((q[i] - k[i]).square().sum()) for i in range(6)]
    assert float(alignment((q * k).sum(dim=1))) == pytest.approx(np.mean(distances), abs=1e-6)


def test_uniformity_is_its_definition() -> None:
    vectors = unit(9, 5)
    terms = [
        math.exp(-2 * float((vectors[i] - vectors[j]).square().sum())) for i in range(9) for j in range(9) if i != j
    ]
    assert uniformity(vectors) == pytest.approx(math.log(np.mean(terms)), abs=1e-5)
    assert uniformity(torch.ones(4, 3) / math.sqrt(3)) == pytest.approx(0, abs=1e-5)
    assert uniformity(unit(4000, 256)) == pytest.approx(-4, abs=0.05)


def test_queue_age_counts_the_steps_since_a_key_was_taken_up() -> None:
    K, B = 12, 4
    queue = [0.0] * K  # the step at which each key came, 0 for the start's
    for step in range(1, 8):
        queue = queue[B:] + [step] * B
        assert queue_age(step, K, B) == pytest.approx(np.mean([step - came for came in queue]))


def slow_knn(vectors: np.ndarray[Any, Any], classes: list[int], k: int) -> float:
    hits = 0
    for i in range(len(vectors)):
        order = sorted((j for j in range(len(vectors)) if j != i), key=lambda j: -float(vectors[i] @ vectors[j]))[:k]
        votes = Counter(classes[j] for j in order)
        best = max(votes.values())
        hits += next(classes[j] for j in order if votes[classes[j]] == best) == classes[i]
    return hits / len(vectors)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_knn_accuracy_is_the_majority_of_the_nearest_others(k: int) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        vectors = random.normal(size=(40, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        classes = random.integers(0, 3, 40).tolist()
        got = knn_accuracy(torch.from_numpy(vectors), torch.tensor(classes), k)
        assert got == pytest.approx(slow_knn(vectors, classes, k))


def watch(samples: Samples, column: str) -> LabelWatch:
    return LabelWatch(samples, column, make_plan(samples, TrainConfig.checked(SMALL)).preprocess, CPU)


@pytest.fixture
def labeled(blob_samples: Write, monkeypatch: pytest.MonkeyPatch) -> Samples:
    """Drawn galaxies whose column `mag` reads as classes: bright and faint, a few without."""
    samples = Samples(blob_samples(n=64))
    mag = samples.column("mag")
    kinds = np.where(mag < np.median(mag), "bright", "faint")
    kinds[:3] = ""
    original = Samples.column
    monkeypatch.setattr(Samples, "column", lambda self, name: kinds if name == "kind" else original(self, name))
    return samples


def test_objects_without_a_label_are_not_watched_and_the_encoder_keeps_its_mode(labeled: Samples) -> None:
    watched = watch(labeled, "kind")
    assert watched.rows.tolist() == list(range(3, 64))
    encoder = Encoder(make_plan(labeled, TrainConfig.checked(SMALL)).encoder).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert 0 <= watched.accuracy(encoder) <= 1
    assert encoder.training
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_at_most_so_many_are_watched(labeled: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "WATCHED", 20)
    rows = watch(labeled, "kind").rows
    assert (len(set(rows.tolist())), rows[0], rows[-1]) == (20, 3, 63)


def test_a_column_that_holds_no_classes_is_refused(labeled: Samples) -> None:
    with pytest.raises(InputError, match="whole numbers, but column 'mag' holds others"):
        watch(labeled, "mag")


def test_watching_a_label_changes_nothing_of_the_training(labeled: Samples, tmp_path: Path) -> None:
    config = TrainConfig.checked(SMALL)
    plain = train(labeled.paths, tmp_path / "plain", config, quiet=True)
    watched = train(labeled.paths, tmp_path / "watched", config, quiet=True, label="kind", plot=tmp_path / "curves.png")
    assert plain.content_hash == watched.content_hash
    steps = read_log(tmp_path / "watched")
    assert [step["step"] for step in steps if "knn_accuracy" in step] == [4, 8, 12]
    assert not any("knn_accuracy" in step for step in read_log(tmp_path / "plain"))
    for step in steps:
        assert 0 <= step["alignment"] <= 4
        assert -4.001 <= step["uniformity"] <= 1e-6
        assert 0 < step["effective_rank"] <= 16
    assert [step["queue_age"] for step in steps[:3]] == [0.5, 0.5, 0.5]  # K = 32 are two batches
    assert (tmp_path / "curves.png").read_bytes() == (tmp_path / "watched" / "loss.png").read_bytes()


def test_a_plot_that_cannot_be_written_is_refused_before_the_work(labeled: Samples, tmp_path: Path) -> None:
    for bad, why in (
        (tmp_path / "curves.pdf", r"--plot is a \.png file, but"),
        (tmp_path / "missing" / "too" / "curves.png", r"curves\.png would lie in .*, and there is no "),
    ):
        with pytest.raises(InputError, match=why):
            train(labeled.paths, tmp_path / "out", TrainConfig.checked(SMALL), quiet=True, plot=bad)
    assert not (tmp_path / "out").exists()


def test_a_log_of_an_earlier_version_is_drawn_too(tmp_path: Path) -> None:
    lines = [f'{{"step": {i}, "epoch": {i / 4}, "loss": 2.0, "accuracy": 0.1}}\n' for i in range(1, 9)]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    plot_log(tmp_path, 32)
    assert (tmp_path / "loss.png").stat().st_size > 5_000


def test_the_end_says_what_was_trained_and_what_became_of_the_labels(
    labeled: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str) -> list[str]:
        words = ["lookalike", "train", *map(str, labeled.paths), "--out", str(tmp_path / "run"), *options]
        small = {name: value for name, value in SMALL.items() if name != "epochs"}
        settings = (f"--set={name}={json.dumps(value)}" for name, value in small.items())
        monkeypatch.setattr(sys, "argv", [*words, *settings])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out.splitlines()

    def measured() -> str:
        step = [step for step in read_log(tmp_path / "run") if "knn_accuracy" in step][-1]
        return f"after {step['step'] // 4} epochs: {100 * step['knn_accuracy']:.1f} % (the most frequent class alone: "

    first, accuracy = told("--label", "kind", "--epochs", "3")
    assert first.startswith("Trained 12 steps in ")
    assert accuracy.startswith(f"kNN accuracy of the column 'kind' {measured()}")
    (again,) = told("--label", "kind", "--resume")  # the embedding is not asked again
    assert again.startswith("Nothing to train: all 12 steps were taken before, loss ")
    longer, accuracy = told("--label", "kind", "--resume", "--epochs", "4")
    assert longer.startswith("Trained 4 more of 16 steps in ")
    assert measured() in accuracy
    assert "after 4 epochs" in accuracy
    found = json.loads("\n".join(told("--label", "kind", "--resume", "--epochs", "5", "--json")))
    assert (found["steps"], found["taken"], found["label"]["epochs"]) == (20, 4, 5)
    assert found["label"].keys() == {"column", "epochs", "knn_accuracy", "chance"}
    (plain,) = told("--resume", "--epochs", "6")
    assert plain.startswith("Trained 4 more of 24 steps in ")
