"""How well augmented copies find their originals against the time spent training, looked at within one training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.augmentations import get_domain
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.errors import InputError
from lookalike.figures import plotted
from lookalike.probes.invariance import COPY_EPOCH
from lookalike.probes.retrieval import found_again, share
from lookalike.progress import progress
from lookalike.proportions import Share
from lookalike.samples import Samples
from lookalike.ssl.batches import Batches
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.hardware import fast_precision, kept_memory, pick_device
from lookalike.ssl.plan import Plan, make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import ALONE
from lookalike.wording import counted

OBJECTS = 2500
BLOCK = 128
WAYS = ("embedding", "projection", "embedding, one orientation")


def bench_invariance(
    samples_paths: Sequence[Path],
    config: TrainConfig,
    *,
    every: int = 5,
    objects: int = OBJECTS,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train as `lookalike train` would, and measure self-retrieval@1 with all augmentations every few epochs.

    objects : at most so many are looked for among each other, a random part by the seed. Copies are drawn as those of
    `evaluate invariance`, so none was ever a training view; overlapping footprints compete. The time is that of
    training alone. {"objects", "chance", "curve": [{"epoch", "seconds", "samples_per_s", way: {"value", "low",
    "high"} for each of WAYS}]}, the first of which is before any training.
    """
    if every < 1 or objects < 2:
        raise InputError(f"At least 2 objects and every epoch at most, but {objects} and {every} were given.")
    samples, device = Samples(list(samples_paths)), pick_device("auto")
    plan = make_plan(samples, config, precision=fast_precision(device))
    rows = np.sort(np.random.default_rng(plan.config.seed).permutation(len(samples))[:objects])
    with kept_memory(), tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(plan, Path(folder), ALONE, checkpoint_seconds=np.inf)
        copies = _Copies(plan, rows, trainer.device)
        seconds, curve = 0.0, [_point(copies, trainer.moco.encoder_q, 0, 0.0)]
        with progress("training", plan.epochs * len(samples), "samples", quiet=quiet) as advance:
            for epoch in range(plan.epochs):
                trainer.moco.train()
                began = time.monotonic()
                for batch in trainer.batches.epoch(plan.config.seed, epoch, plan.config.batch_size):
                    trainer.take_step(batch, epoch)
                seconds += time.monotonic() - began
                advance(len(samples))
                if (epoch + 1) % every == 0 or epoch + 1 == plan.epochs:
                    curve.append(_point(copies, trainer.moco.encoder_q, epoch + 1, seconds))
                    curve[-1]["samples_per_s"] = (epoch + 1) * len(samples) / seconds
    return {"objects": len(rows), "chance": 1 / len(rows), "epochs": plan.epochs, "curve": curve}


class _Copies:
    """Some objects and their augmented copies, described by an encoder."""

    def __init__(self, plan: Plan, rows: NDArray[np.int64], device: torch.device) -> None:
        self.plan, self.rows, self.device = plan, rows, device
        self.domain = get_domain(plan.domain.name)
        self.batches = Batches(plan.samples, plan.columns, device)
        self.bank = self.domain.bank(plan.samples, plan.augment, plan.config.seed, COPY_EPOCH)

    def described(self, encoder: Encoder, *, augmented: bool) -> dict[str, NDArray[np.float32]]:
        """Vectors (N, D) of the objects or of their copies, by way."""
        parts: dict[str, list[NDArray[np.float32]]] = {way: [] for way in WAYS}
        for start in range(0, len(self.rows), BLOCK):
            rows = self.rows[start : start + BLOCK]
            pictures, catalog = self.batches.fetch(rows)  # (B, C, H, W)
            if augmented:
                draws = Draws(self.plan.config.seed, COPY_EPOCH, torch.from_numpy(rows).to(self.device), view=0)
                pictures = self.domain.view(pictures, catalog, draws, self.plan.augment, self.bank)
            with torch.inference_mode():
                x = encoder_input(pictures, self.plan.preprocess)  # (B, C, h, w)
                found = (*encoder(x), encoder.one_orientation(x)[0])
            for way, vectors in zip(WAYS, found, strict=True):
                parts[way].append(vectors.float().cpu().numpy())
        return {way: np.concatenate(vectors) for way, vectors in parts.items()}


def _point(copies: _Copies, encoder: Encoder, epoch: int, seconds: float) -> dict[str, Any]:
    encoder.eval()
    stored, made = (copies.described(encoder, augmented=augmented) for augmented in (False, True))
    found = {way: _plain(share(found_again(stored[way], made[way]))) for way in WAYS}
    return {"epoch": epoch, "seconds": seconds, **found}


def _plain(found: Share) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def plot_curve(report: dict[str, Any], out: Path) -> None:
    """Draw self-retrieval@1 against minutes of training, with its 95 % intervals, as a PNG."""
    with plotted(out, (7, 4.5)) as figure:
        axes = figure.subplots()
        minutes = [point["seconds"] / 60 for point in report["curve"]]
        for way, color in zip(WAYS, ("tab:blue", "tab:orange", "tab:gray"), strict=True):
            low, value, high = ([point[way][end] for point in report["curve"]] for end in ("low", "value", "high"))
            axes.plot(minutes, value, "o-", color=color, label=way)
            axes.fill_between(minutes, low, high, color=color, alpha=0.2, linewidth=0)
        axes.axhline(0.95, color="0.5", linestyle="--", linewidth=1)
        axes.set(xlabel="training, minutes", ylabel="self-retrieval@1, all augmentations", ylim=(0, 1))
        axes.set_title(
            f"{counted(report['objects'], 'object')}, {counted(report['epochs'], 'epoch')}", loc="left", fontsize=10
        )
        axes.legend(frameon=False, loc="lower right")
