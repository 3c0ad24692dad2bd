"""How fast training is: our loop beside the bare model's limit, lightly's MoCo and per-sample augmentation.

All contenders of a case take turns within one run, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn

from lookalike.augmentations.draws import Draws
from lookalike.bench.drawn import BANDS, as_pictures, draw_galaxies
from lookalike.bench.lightly_moco import LightlyMoCo
from lookalike.bench.per_sample import views_one_by_one
from lookalike.errors import unknown
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.ssl.batches import Batch
from lookalike.ssl.hardware import kept_memory
from lookalike.ssl.mixed import computing_in
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import ALONE

BATCH = 64
OBJECTS = 2048
MEMORY = 2**27  # bytes for pictures: fewer than there are, so that they are read from the file throughout
ROUNDS = 5
UNTIMED = 5  # steps before a turn counts: what a loader's workers prepared during the others' turns is used up
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
    for name in names:
        if name not in CASES:
            raise unknown("case", name, CASES)
    chosen = [CASES[name] for name in names or CASES]
    with kept_memory():
        cases = [measure(case, rounds=rounds, quiet=quiet) for case in chosen]
    return {"threads": torch.get_num_threads(), "batch": BATCH, "cases": cases}


def measure(
    case: Case, *, objects: int = OBJECTS, rounds: int = ROUNDS, steps: int = 0, quiet: bool = False
) -> dict[str, Any]:
    """Samples per second of every contender: the median of `rounds` turns of `steps` steps (default: about 3 s).

    limit    : torchvision's model with plain batch norm, the faster memory format, on a batch in memory: query
               forward and backward, key forward; nothing else. In float32, and in the precision of our loop.
    loop     : our training from an HDF5 file: reading each batch, both views, sub-batch norm, loss, backward,
               optimizer, momentum update, queue; in the precision the machine is fast in.
    lightly  : lightly's MoCo v2 with a queue as long, and its own transforms of 8-bit pictures in memory, at its
               fastest number of workers and memory format. In float32, as it comes, and in the precision of our loop.
    augment, per_sample : both views of a batch as we make them, and one by one with NumPy and scikit-image in as many
               processes as we have threads.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        draw_galaxies(folder / "samples.h5", objects, case.stored)
        samples = Samples(folder / "samples.h5")
        trainer = our_trainer(samples, case, folder / "checkpoint")
        precision = str(trainer.plan.config.precision)
        limits = {
            f"limit {chosen}, {name}": limit_step(case, layout, chosen)
            for chosen in dict.fromkeys(("float32", precision))
            for name, layout in FORMATS.items()
        }
        lightly = {
            f"lightly {chosen}, {at}": rival.step
            for chosen in dict.fromkeys(("float32", precision))
            for at, rival in [fastest_lightly(samples, case, trainer.plan.K, chosen, stack)]
        }
        contenders: dict[str, Callable[[], object]] = {
            **limits,
            "loop": loop_step(trainer),
            **lightly,
            "augment": augment_step(trainer),
            "per_sample": per_sample_step(samples, case.size, stack),
        }
        rates = _take_turns(contenders, rounds, steps, f"measuring {case.name}", quiet)

    def fastest(who: str, chosen: str) -> str:
        return max((name for name in rates if name.startswith(f"{who} {chosen}")), key=lambda name: rates[name])

    in_float32, in_ours = fastest("limit", "float32"), fastest("limit", precision)
    as_it_comes, as_ours = fastest("lightly", "float32"), fastest("lightly", precision)
    return {
        "case": case.name,
        "encoder": case.encoder,
        "stored": case.stored,
        "size": case.size,
        "precision": precision,
        "limit_samples_per_s": rates[in_float32],
        "limit_at": in_float32.removeprefix("limit "),
        "limit_in_our_precision_samples_per_s": rates[in_ours],
        "loop_samples_per_s": rates["loop"],
        "lightly_samples_per_s": rates[as_it_comes],
        "lightly_at": as_it_comes.removeprefix("lightly "),
        "lightly_in_our_precision_samples_per_s": rates[as_ours],
        "lightly_in_our_precision_at": as_ours.removeprefix("lightly "),
        "augment_samples_per_s": rates["augment"],
        "per_sample_samples_per_s": rates["per_sample"],
        "fraction_of_limit": rates["loop"] / rates[in_float32],
        "fraction_of_limit_in_our_precision": rates["loop"] / rates[in_ours],
        "vs_lightly": rates["loop"] / rates[as_it_comes],
        "vs_lightly_in_our_precision": rates["loop"] / rates[as_ours],
        "augment_speedup_vs_per_sample": rates["augment"] / rates["per_sample"],
    }


def fastest_lightly(
    samples: Samples, case: Case, queue: int, precision: str, stack: ExitStack
) -> tuple[str, LightlyMoCo]:
    """lightly's training at what a few steps of each found the fastest, and what that is; `stack` closes it."""
    pictures = as_pictures(samples.objects(slice(min(len(samples), 512))))
    best: tuple[float, str, LightlyMoCo] | None = None
    for workers, (name, layout) in itertools.product(WORKERS, FORMATS.items()):
        rival = LightlyMoCo(
            *(pictures, case.encoder, case.size, BATCH),
            queue=queue,
            workers=workers,
            memory_format=layout,
            precision=precision,
        )
        _seconds(rival.step, UNTIMED)
        seconds = _seconds(rival.step, 4)
        if best is not None and seconds >= best[0]:
            rival.close()
            continue
        if best is not None:
            best[2].close()
        best = seconds, f"{workers} workers, {name}", rival
    assert best is not None
    stack.callback(best[2].close)
    return best[1], best[2]


def our_trainer(samples: Samples, case: Case, out: Path) -> Trainer:
    """A training run of the case, about to take its first step; batches are read from the file at each step."""
    config = TrainConfig(encoder=case.encoder, batch_size=BATCH, small_stem=False)
    plan = make_plan(samples, config)
    assert plan.preprocess.size == case.size
    trainer = Trainer(plan, out, ALONE, checkpoint_seconds=1e9, memory=min(MEMORY, len(samples) * BATCH))
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


def limit_step(case: Case, memory_format: Any, precision: str) -> Callable[[], object]:
    """Query forward and backward and key forward of the bare model on one batch in memory."""

    def model() -> nn.Module:
        made = cast(Any, getattr(torchvision.models, case.encoder)(weights=None))
        made.fc = nn.Identity()
        return cast(nn.Module, made.train().to(memory_format=memory_format))

    query, key = model(), model()
    batch = torch.randn(BATCH, len(BANDS), case.size, case.size).to(memory_format=memory_format)

    def step() -> None:
        query.zero_grad(set_to_none=True)
        with computing_in(precision, ALONE.device):
            embedding: Tensor = query(batch)
            with torch.no_grad():
                key(batch)
        embedding.float().square().mean().backward()  # type: ignore[no-untyped-call]

    return step


def augment_step(trainer: Trainer) -> Callable[[], object]:
    """Both views of one batch in memory, as training makes them."""
    batch = next(trainer.batches.epoch(0, 0, BATCH))
    rows, plan = torch.from_numpy(batch.rows), trainer.plan

    def step() -> None:
        for v in (0, 1):
            plan.domain.view(batch.images, batch.catalog, Draws(0, 0, rows, v), plan.augment)

    return step


def per_sample_step(samples: Samples, size: int, stack: ExitStack) -> Callable[[], object]:
    """Both views of each galaxy of one batch, one galaxy at a time in each of several processes."""
    images = samples.objects(slice(BATCH))
    catalogs = [{name: float(samples.column(name)[row]) for name in samples.columns} for row in range(BATCH)]
    workers = torch.get_num_threads()
    tasks = [
        (images[part], catalogs[part.start : part.stop], size)
        for part in (slice(BATCH * w // workers, BATCH * (w + 1) // workers) for w in range(workers))
    ]
    processes = stack.enter_context(ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")))
    return lambda: list(processes.map(views_one_by_one, tasks))


def _seconds(step: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - start


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
                _seconds(step, UNTIMED if name.startswith(("loop", "lightly")) else 1)
                rates[name].append(BATCH * counts[name] / _seconds(step, counts[name]))
                advance(1)
    return {name: statistics.median(measured) for name, measured in rates.items()}
