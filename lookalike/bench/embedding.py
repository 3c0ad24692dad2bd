"""How fast embedding is: from the samples file to the embeddings file, beside the bare model on a batch in memory.

All contenders of a case take turns within one run, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import itertools
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import nn

from lookalike.augmentations import get_domain
from lookalike.bench.drawn import BANDS, draw_galaxies
from lookalike.bench.training import CASES, FORMATS, Case
from lookalike.errors import unknown
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import CheckpointConfig, save_encoder
from lookalike.ssl.embed import embed
from lookalike.ssl.encoders import Encoder, EncoderConfig
from lookalike.ssl.hardware import kept_memory, pick_device
from lookalike.ssl.inference import default_batch

ROUNDS = 5
BATCHES = (64, 256)  # in which the bare model is given its pictures
LIMIT_SECONDS, EMBED_SECONDS = 2.0, 10.0  # about, of a turn: opening and closing files is to be a small part of it
SETS = (256, 1024)  # objects of the two sets whose peak memory is compared
PEAK = """
import re, sys
from pathlib import Path
from lookalike.ssl.embed import embed
embed([Path(sys.argv[1])], Path(sys.argv[2]), Path(sys.argv[3]), quiet=True, overwrite=True)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def bench_embedding(names: Sequence[str] = (), *, rounds: int = ROUNDS, quiet: bool = False) -> dict[str, Any]:
    """Measure the named cases (default: ResNet-18 at 64 px and ResNet-50 at 96 px); see `measure`."""
    for name in names:
        if name not in CASES:
            raise unknown("case", name, CASES)
    chosen = [CASES[name] for name in names or ("resnet18-64", "resnet50-96")]
    with kept_memory():
        cases = [measure(case, rounds=rounds, quiet=quiet) for case in chosen]
    return {"threads": torch.get_num_threads(), "cases": cases}


def measure(
    case: Case,
    *,
    objects: int = 0,
    rounds: int = ROUNDS,
    limit_seconds: float = LIMIT_SECONDS,
    sets: tuple[int, int] = SETS,
    quiet: bool = False,
) -> dict[str, Any]:
    """Samples per second of each contender, the median over its turns and the best of them.

    limit : torchvision's model with plain batch norm on a batch in memory, the fastest of both memory formats and of
            two batch sizes; nothing else.
    embed : the whole of it, from opening the samples file and the checkpoint to the embeddings file under its name.
    Besides, the peak memory in MB of a process that embeds a small and a four times as large set, where the system
    tells (Linux).

    objects : how many are embedded in a turn; 0 for as many as the bare model manages in EMBED_SECONDS.
    """
    device = pick_device("auto")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limits = {
            f"batch {B}, {layout}": limit_step(case, B, FORMATS[layout], device)
            for B, layout in itertools.product(BATCHES, FORMATS)
        }
        seconds = {label: _step_seconds(step, device) for label, step in limits.items()}
        counts = {label: max(1, round(limit_seconds / seconds[label])) for label in limits}
        objects = objects or max(round(EMBED_SECONDS / seconds[label]) * _batch(label) for label in limits)
        draw_galaxies(folder / "samples.h5", objects, case.stored)
        _checkpoint(case, Samples(folder / "samples.h5"), folder / "checkpoint")
        rates: dict[str, list[float]] = {label: [] for label in [*limits, "embed"]}
        with progress(f"measuring {case.name}", rounds * len(rates), "turns", quiet=quiet) as advance:
            for _ in range(rounds):
                for label, step in limits.items():
                    rates[label].append(_batch(label) * counts[label] / _seconds(step, counts[label], device))
                    advance(1)
                rates["embed"].append(objects / _embed_seconds(folder))
                advance(1)
        peaks = peak_memory(case, folder, sets)
    medians = {label: statistics.median(measured) for label, measured in rates.items()}
    at = max(limits, key=lambda label: medians[label])
    limit_best = max(max(rates[label]) for label in limits)
    return {
        "case": case.name,
        "encoder": case.encoder,
        "stored": case.stored,
        "size": case.size,
        "device": device.type,
        "objects": objects,
        "batch": default_batch(Encoder(EncoderConfig(name=case.encoder)), case.size, device),
        "limit_samples_per_s": medians[at],
        "limit_at": at,
        "embed_samples_per_s": medians["embed"],
        "fraction_of_limit": medians["embed"] / medians[at],
        "limit_best_samples_per_s": limit_best,
        "embed_best_samples_per_s": max(rates["embed"]),
        "fraction_of_limit_best": max(rates["embed"]) / limit_best,
        "peak_memory_mb": peaks,
    }


def limit_step(case: Case, B: int, memory_format: Any, device: torch.device) -> Callable[[], object]:
    """The bare model's forward pass on one batch in memory."""
    model = cast(Any, getattr(torchvision.models, case.encoder)(weights=None))
    model.fc = nn.Identity()
    model = cast(nn.Module, model.eval().to(device, memory_format=memory_format))
    batch = torch.randn(B, len(BANDS), case.size, case.size).to(device, memory_format=memory_format)

    def step() -> None:
        # In float32 throughout, as embedding is; by default a GPU's convolutions round their inputs.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            model(batch)

    return step


def peak_memory(case: Case, folder: Path, sets: tuple[int, int]) -> dict[str, float]:
    """Peak memory in MB of a process of its own that embeds so many objects, by their number; {} where unknown."""
    if not Path("/proc/self/status").exists():
        return {}
    peaks = {}
    for n in sets:
        draw_galaxies(folder / "some.h5", n, case.stored)
        command = [sys.executable, "-c", PEAK, *(str(folder / name) for name in ("some.h5", "checkpoint", "some-e.h5"))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[str(n)] = int(re.findall(r"\d+", done.stdout)[-1]) / 1024
    return peaks


def _checkpoint(case: Case, samples: Samples, folder: Path) -> None:
    """An untrained encoder for these samples: how fast it is does not depend on its weights."""
    domain = get_domain("galaxy")
    settings, _ = domain.settings(samples.about, samples.shape[1], frozenset(samples.columns), "float32")
    preprocess = domain.preprocess(samples.about, settings)
    encoder = Encoder(EncoderConfig(name=case.encoder))
    folder.mkdir()
    about = {"encoder": encoder.config, "preprocess": preprocess, "domain": "galaxy", "bands": samples.about.bands}
    save_encoder(folder, encoder, CheckpointConfig(**about))


def _embed_seconds(folder: Path) -> float:
    """How long one whole run takes."""
    start = time.perf_counter()
    embed([folder / "samples.h5"], folder / "checkpoint", folder / "e.h5", overwrite=True, quiet=True)
    return time.perf_counter() - start


def _batch(label: str) -> int:
    return int(label.split()[1].rstrip(","))


def _step_seconds(step: Callable[[], object], device: torch.device) -> float:
    """About how long one step takes once everything is warm."""
    step()
    return min(_seconds(step, 1, device) for _ in range(3))


def _seconds(step: Callable[[], object], count: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
