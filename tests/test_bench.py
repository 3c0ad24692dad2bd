"""The measurements of speed: contenders do what they say; no test here is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.augmentations import get_domain
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.bench import embedding, training
from lookalike.bench.drawn import BANDS, as_pictures, draw_galaxies
from lookalike.bench.invariance import bench_invariance, plot_curve
from lookalike.bench.lightly_moco import LightlyMoCo
from lookalike.bench.per_sample import view_of_one
from lookalike.cli import main
from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.embed import embed_objects
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.train import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    path = tmp_path_factory.mktemp("bench") / "samples.h5"
    draw_galaxies(path, 128, 102)
    return Samples(path)


def test_drawn_galaxies_carry_all_that_the_six_steps_read(drawn: Samples) -> None:
    about = drawn.about
    settings, notes = get_domain("galaxy").settings(about, 102, frozenset(drawn.columns), "float32")
    columns = get_domain("galaxy").columns(settings, about.bands, frozenset(drawn.columns))
    assert {"ebv", *(f"psfsize_{band}" for band in BANDS), *(f"psfdepth_{band}" for band in BANDS)} == set(columns)
    assert all(
        getattr(settings, step).enabled for step in ("extinction", "orientation", "scaling", "blur", "jitter", "noise")
    ), notes
    picture = as_pictures(drawn.objects(slice(0, 4)))[3]
    assert (picture.size, picture.mode) == ((102, 102), "RGB")
    assert np.asarray(picture).max() > 100


def test_one_at_a_time_is_the_same_augmentation_as_ours(drawn: Samples) -> None:
    """Both keep the flux of a galaxy in the middle of the picture and end at the same noise, on average."""
    about = drawn.about
    settings, _ = get_domain("galaxy").settings(about, 102, frozenset(drawn.columns), "float32")
    rows = np.zeros(200, np.int64)
    image = drawn.objects(rows[:1])
    columns = get_domain("galaxy").columns(settings, about.bands, frozenset(drawn.columns))
    catalog = {name: torch.full((200,), float(drawn.column(name)[0]), dtype=torch.float64) for name in columns}
    ours = (
        get_domain("galaxy")
        .view(torch.from_numpy(image).expand(200, -1, -1, -1), catalog, Draws(0, 0, torch.arange(200), 0), settings)
        .numpy()
    )
    random = np.random.default_rng(0)
    single = {name: float(drawn.column(name)[0]) for name in columns}
    slow = np.stack([view_of_one(image[0], single, BANDS, 64, random) for _ in range(200)])
    assert ours.shape == slow.shape == (200, 3, 64, 64)
    for band in range(3):
        flux = [views[:, band].sum(axis=(1, 2)) for views in (ours, slow)]
        error = np.hypot(*(f.std() / np.sqrt(len(f)) for f in flux))
        assert abs(flux[0].mean() - flux[1].mean()) < 5 * error
        noise = [np.median(np.abs(np.diff(views[:, band, :8], axis=2)), axis=(1, 2)).mean() for views in (ours, slow)]
        assert noise[0] == pytest.approx(noise[1], rel=0.3)  # two interpolations smooth more than our one


def test_the_report_holds_every_ratio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, small in {"WORKERS": (0,), "UNTIMED": 1, "BATCH": 16}.items():
        monkeypatch.setattr(training, name, small)
    case = training.measure(training.Case("resnet18", 51, 32), objects=48, rounds=1, steps=1, quiet=True)
    assert case["fraction_of_limit"] == case["loop_samples_per_s"] / case["limit_samples_per_s"]
    assert case["vs_lightly"] == case["loop_samples_per_s"] / case["lightly_samples_per_s"]
    assert case["fraction_of_limit_in_our_precision"] <= case["fraction_of_limit"] * 1.0001 or (
        case["limit_in_our_precision_samples_per_s"] < case["limit_samples_per_s"]
    )
    assert case["limit_at"] in {f"float32, {name}" for name in training.FORMATS}
    assert case["vs_lightly_in_our_precision"] == (
        case["loop_samples_per_s"] / case["lightly_in_our_precision_samples_per_s"]
    )
    for place, precision in (("lightly_at", "float32"), ("lightly_in_our_precision_at", case["precision"])):
        assert case[place] in {f"{precision}, 0 workers, {name}" for name in training.FORMATS}
    monkeypatch.setattr(training, "measure", lambda chosen, **options: case)
    monkeypatch.setattr("sys.argv", ["lookalike", "bench", "train", "--case", "resnet18-64", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["cases"] == [case]


def test_training_of_the_bench_reads_from_the_file(drawn: Samples, tmp_path: Path) -> None:
    trainer = training.our_trainer(drawn, training.Case("resnet18", 102, 64), tmp_path / "out")
    assert not trainer.batches.in_memory
    before = trainer.moco.queue.clone()
    training.loop_step(trainer)()
    assert trainer.step == 1
    assert not torch.equal(trainer.moco.queue, before)


def test_an_unknown_case_is_named_with_the_choices() -> None:
    with pytest.raises(InputError, match="resnet18-64, resnet18-96, resnet50-96"):
        training.bench_training(["resnet18-65"])


def test_embedding_is_measured_beside_the_bare_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = training.Case("resnet18", 51, 32)
    monkeypatch.setattr(embedding, "BATCHES", (4, 16))
    case = embedding.measure(small, objects=70, rounds=1, limit_seconds=0, sets=(8, 32), quiet=True)
    assert case["fraction_of_limit"] == case["embed_samples_per_s"] / case["limit_samples_per_s"]
    assert case["limit_best_samples_per_s"] >= case["limit_samples_per_s"] > 0
    assert case["limit_at"] in {f"batch {B}, {name}" for B in embedding.BATCHES for name in training.FORMATS}
    assert set(case["peak_memory_mb"]) <= {"8", "32"}
    monkeypatch.setattr(embedding, "measure", lambda chosen, **options: case)
    for options, shown in (("--json", '"fraction_of_limit"'), ("--rounds=1", "from file to file")):
        monkeypatch.setattr("sys.argv", ["lookalike", "bench", "embed", "--case", "resnet18-64", options])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        assert shown in capsys.readouterr().out
    with pytest.raises(InputError, match="resnet18-64, resnet18-96, resnet50-96"):
        embedding.bench_embedding(["resnet18-65"])


def test_the_curve_of_invariance_is_that_of_the_training_it_watches(blob_samples: Callable[..., Path]) -> None:
    """Its last point by the encoder that `train` makes with the same settings, one copy at a time."""
    data = blob_samples(n=48)
    config = TrainConfig(encoder="resnet10", epochs=3, batch_size=8, small_stem=False, precision="float32")
    report = bench_invariance([data], config, every=2, objects=32, quiet=True)
    assert [point["epoch"] for point in report["curve"]] == [0, 2, 3]
    assert [point["seconds"] > 0 for point in report["curve"]] == [False, True, True]
    assert (report["objects"], report["chance"]) == (32, 1 / 32)
    train([data], data.parent / "ck", config, quiet=True)
    encoder, about = load_encoder(data.parent / "ck")
    assert about.encoder.orientations == 8
    samples, domain = Samples(data), get_domain("galaxy")
    settings = domain.settings_type.checked(about.augment)
    rows = np.sort(np.random.default_rng(0).permutation(48)[:32])
    stored = embed_objects(samples.objects(rows), encoder, about)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    hits = 0
    for place, row in enumerate(rows):
        draws = Draws(0, -1, torch.tensor([row]), view=0)
        copy = domain.view(torch.from_numpy(samples.objects([row])).float(), {}, draws, settings)
        with torch.inference_mode():
            found = encoder(encoder_input(copy, about.preprocess))[0][0].numpy()
        hits += int(np.argmax(stored @ found) == place)
    assert report["curve"][-1]["embedding"]["value"] == hits / 32
    plot_curve(report, data.parent / "curve.png")
    with Image.open(data.parent / "curve.png") as picture:
        assert picture.size[0] > 400
    with pytest.raises(InputError, match="At least 2 objects"):
        bench_invariance([data], config, objects=1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_precision_is_computed_in(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside our loop in float16, the bare model and lightly used to compute in float32, without a word."""
    monkeypatch.setattr(training, "BATCH", 2)  # convolutions in float16 are slow on a CPU
    found: set[torch.dtype] = set()

    def note(module: Any, given: Any, made: Any) -> None:
        if isinstance(module, torch.nn.Conv2d):
            found.add(made.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        training.limit_step(training.Case("resnet18", 51, 32), torch.contiguous_format, precision)()
        assert found == {getattr(torch, precision)}
        found.clear()
        pictures = [Image.new("RGB", (40, 40), (value, 90, 30)) for value in range(0, 128, 16)]
        rival = LightlyMoCo(
            *(pictures, "resnet18", 32, 2),
            queue=8,
            workers=0,
            memory_format=torch.contiguous_format,
            precision=precision,
        )
        rival.step()
        rival.close()
        assert found == {getattr(torch, precision)}
    finally:
        hook.remove()


def test_another_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown precision 'float8'.* Choices: float32, bfloat16, float16"):
        training.limit_step(training.Case("resnet18", 51, 32), torch.contiguous_format, "float8")()
