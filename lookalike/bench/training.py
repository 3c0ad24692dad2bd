"""How fast training is: our loop beside the bare model's limit, lightly's MoCo and per-sample augmentation.

All contenders of a case take turns within one run, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from lookalike.augmentations.draws import Draws
from lookalike.bench.drawn import BANDS, as_pictures, draw_galaxies
from lookalike.bench.lightly_moco import LightlyMoCo
from lookalike.bench.per_sample import view_of_one
from lookalike.errors import unknown
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.ssl.batches import Batch
from lookalike.ssl.hardware import keep_memory
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import ALONE

BATCH = 64
OBJECTS = 512
ROUNDS = 5
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
WORKERS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """An encoder on views of `size` px cut from stored float fluxes of `stored` px."""

    encoder: str
    stored: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.encoder}-{self.size}"


CASES = {case.name: case for case in (Case("resnet18", 102, 64), Case("resnet18", 152, 96), Case("resnet50", 152, 96))}


def bench_training(names: Sequence[str] = (), *, rounds: int = ROUNDS, quiet: bool = False) -> dict[str, Any]:
    """Measure the named cases (default: all); see `measure` for what each holds."""
    keep_memory()
    for name in names:
        if name not in CASES:
            raise unknown("case", name, CASES)
    chosen = [CASES[name] for name in names or CASES]
    return {
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "cases": [measure(case, rounds=rounds, quiet=quiet) for case in chosen],
    }


def measure(
    case: Case, *, objects: int = OBJECTS, rounds: int = ROUNDS, steps: int = 0, quiet: bool = False
) -> dict[str, Any]:
    """Samples per second of every contender: the median of `rounds` turns of `steps` steps (default: about 3 s).

    limit    : torchvision's model with plain batch norm, float32, the faster memory format, on a batch in memory:
               query forward and backward, key forward; nothing else.
    loop     : our training from an HDF5 file: reading each batch, both views, sub-batch norm, loss, backward,
               optimizer, momentum update, queue; in the precision the machine is fast in (`precision`).
    lightly  : lightly's MoCo v2 with its own transforms of 8-bit pictures in memory, at its fastest number of
               workers and memory format.
    augment, per_sample : both views of a batch as we make them, and one by one with NumPy and scikit-image.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.h5"
        draw_galaxies(path, objects, case.stored)
        samples = Samples(path)
        trainer = our_trainer(samples, case, Path(folder) / "checkpoint")
        pictures = as_pictures(samples.images(slice(None)))
        formats = {f"limit {name}": limit_step(case, layout) for name, layout in FORMATS.items()}
        rivals = {
            f"lightly, {workers} workers, {name}": LightlyMoCo(
                pictures, case.encoder, case.size, BATCH, workers, layout
            )
            for workers in WORKERS
            for name, layout in FORMATS.items()
        }
        try:
            lightly = _fastest({name: rival.step for name, rival in rivals.items()})
            for name, rival in rivals.items():
                if name != lightly:
                    rival.close()
            contenders: dict[str, Callable[[], object]] = {
                **formats,
                "loop": loop_step(trainer),
                "lightly": rivals[lightly].step,
                "augment": augment_step(trainer),
                "per_sample": per_sample_step(samples, case.size),
            }
            rates = _take_turns(contenders, rounds, steps, f"measuring {case.name}", quiet)
        finally:
            for rival in rivals.values():
                rival.close()
    limit = max(rates[name] for name in formats)
    return {
        "case": case.name,
        "encoder": case.encoder,
        "stored": case.stored,
        "size": case.size,
        "precision": trainer.plan.config.precision,
        "limit_samples_per_s": limit,
        "limit_format": max(formats, key=lambda name: rates[name]).removeprefix("limit "),
        "loop_samples_per_s": rates["loop"],
        "lightly_samples_per_s": rates["lightly"],
        "lightly_at": lightly.removeprefix("lightly, "),
        "augment_samples_per_s": rates["augment"],
        "per_sample_samples_per_s": rates["per_sample"],
        "fraction_of_limit": rates["loop"] / limit,
        "vs_lightly": rates["loop"] / rates["lightly"],
        "augment_speedup_vs_per_sample": rates["augment"] / rates["per_sample"],
    }


def our_trainer(samples: Samples, case: Case, out: Path) -> Trainer:
    """A training run of the case, about to take its first step; batches are read from the file at each step."""
    config = TrainConfig(encoder=case.encoder, batch_size=BATCH, small_stem=False)
    plan = make_plan(samples, config)
    assert plan.preprocess.size == case.size
    trainer = Trainer(plan, out, ALONE, checkpoint_seconds=1e9, memory=0)
    trainer.moco.train()
    return trainer


def loop_step(trainer: Trainer) -> Callable[[], object]:
    """Whole steps of training, epoch after epoch."""

    def batches() -> Iterator[tuple[int, Batch]]:
        for epoch in itertools.count():
            for batch in trainer.batches.epoch(0, epoch, BATCH):
                yield epoch, batch

    coming = batches()

    def step() -> None:
        epoch, batch = next(coming)
        trainer.take_step(batch, epoch)

    return step


def limit_step(case: Case, memory_format: Any) -> Callable[[], object]:
    """Query forward and backward and key forward of the bare model on one batch in memory."""

    def model() -> nn.Module:
        made = cast(Any, getattr(torchvision.models, case.encoder)(weights=None))
        made.fc = nn.Identity()
        return cast(nn.Module, made.train().to(memory_format=memory_format))

    query, key = model(), model()
    batch = torch.randn(BATCH, len(BANDS), case.size, case.size).to(memory_format=memory_format)

    def step() -> None:
        query.zero_grad(set_to_none=True)
        loss: Tensor = query(batch).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            key(batch)

    return step


def augment_step(trainer: Trainer) -> Callable[[], object]:
    """Both views of one batch in memory, as training makes them."""
    batch = next(trainer.batches.epoch(0, 0, BATCH))
    rows, plan = torch.from_numpy(batch.rows), trainer.plan

    def step() -> None:
        for v in (0, 1):
            plan.domain.view(batch.images, batch.catalog, Draws(0, 0, rows, v), plan.augment)

    return step


def per_sample_step(samples: Samples, size: int) -> Callable[[], object]:
    """Both views of each galaxy of one batch in memory, one galaxy at a time."""
    images = samples.images(slice(BATCH))
    catalogs = [{name: float(samples.column(name)[row]) for name in samples.columns} for row in range(BATCH)]
    random = np.random.default_rng(0)

    def step() -> None:
        for image, catalog in zip(images, catalogs, strict=True):
            for _ in range(2):
                view_of_one(image, catalog, BANDS, size, random)

    return step


def _seconds(step: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - start


def _fastest(steps: dict[str, Callable[[], object]]) -> str:
    """The name of the fastest of several, after a few steps of each."""
    times = {}
    for name, step in steps.items():
        _seconds(step, 3)
        times[name] = _seconds(step, 4)
    return min(times, key=lambda name: times[name])


def _take_turns(
    contenders: dict[str, Callable[[], object]], rounds: int, steps: int, what: str, quiet: bool
) -> dict[str, float]:
    """Samples per second of each, the median over its turns."""
    counts = {}
    for name, step in contenders.items():
        step()
        counts[name] = steps or max(2, round(3 / _seconds(step, 1)))
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with progress(what, rounds * len(contenders), "turns", quiet=quiet) as advance:
        for _ in range(rounds):
            for name, step in contenders.items():
                step()  # what a loader prepared during the others' turns is used up untimed
                rates[name].append(BATCH * counts[name] / _seconds(step, counts[name]))
                advance(1)
    return {name: statistics.median(measured) for name, measured in rates.items()}
