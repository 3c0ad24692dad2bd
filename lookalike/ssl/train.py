"""Training a MoCo v2 encoder on a data set: the loop, its checkpoints and exact resumption.

Everything random is keyed by what it is for (seed, epoch, row, step), so a run that was killed and resumed takes
the same steps as one that was not: on one CPU thread the same to the last bit of the loss. So does a run of several
processes, `torchrun --nproc-per-node 2 -m lookalike.ssl.train …` with the options of `lookalike train`. CPU is what
the tests run; the CUDA path (the same code under bfloat16 autocast) has not been run on a GPU.
"""

from __future__ import annotations

import importlib
import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lookalike.augmentations.draws import Draws
from lookalike.augmentations.preprocess import encoder_input
from lookalike.errors import InputError, StoppedError
from lookalike.files import atomic_folder, lock, recover_folder, write_point
from lookalike.progress import progress
from lookalike.provenance import build_record, write_record
from lookalike.samples import Samples
from lookalike.ssl.batches import Batch, Batches, refuse_constant
from lookalike.ssl.checkpoint import carry, load_encoder, load_state, read_config, save_encoder, save_state
from lookalike.ssl.collapse import CollapseWatch, std_of_unit
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.hardware import keep_memory
from lookalike.ssl.log import LOG, StepLog, last_steps, plot_log, truncate_log
from lookalike.ssl.moco import MoCo
from lookalike.ssl.plan import Plan, make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.world import World, join, shared

__all__ = ["TrainConfig", "TrainReport", "train"]

SAVE_SHARE = 0.1  # saving at the end of an epoch takes at most this share of the time


@dataclass(frozen=True)
class TrainReport:
    """What a run came to; loss and accuracy are means over the last epoch, NaN where its log was removed."""

    out: Path
    steps: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float
    content_hash: str
    config: TrainConfig
    rank: int = 0  # of the process that says so; the others keep silent
    notes: list[str] = field(default_factory=list)


def train(
    samples_paths: Sequence[Path],
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    checkpoint_seconds: float = 120.0,
    device: str = "auto",
) -> TrainReport:
    """Train an encoder on a data set (one or more samples files) and leave its checkpoint in the folder `out`.

    resume : go on from the checkpoint in `out`, or start where there is none. Only the number of epochs may have
             grown; K and m stay as they were, the cosine schedule is laid over the new total.
    checkpoint_seconds : a checkpoint at least this often, and at the end of each epoch as long as saving takes no
             more than a tenth of the time; also on SIGINT, SIGTERM and SIGUSR1, which then end in StoppedError.
    device : "auto" (CUDA if there is one), or a torch device.

    InputError for settings or data that cannot work, CollapsedError when the encoder collapses.
    """
    began = time.monotonic()
    keep_memory()
    if out.name in ("", ".."):
        raise InputError(f"A checkpoint is a folder with a name of its own, but {str(out)!r} was given.")
    samples = Samples(list(samples_paths))
    with join(device) as world, _writing(out, world):
        quiet = quiet or not world.first
        resumed = world.from_first(lambda: _may_write(out, resume))
        plan = make_plan(samples, config, read_config(out) if resumed else None, world.device)
        if not quiet:
            print(*plan.notes, sep="\n", file=sys.stderr, flush=True)
        if plan.config.batch_size < 2 * world.size:
            raise InputError(
                f"Batch norm needs at least 2 objects of a batch in each process, but batch_size = "
                f"{plan.config.batch_size} over {world.size} processes."
            )
        trainer = Trainer(plan, out, world, checkpoint_seconds)
        if resumed:
            trainer.restore()
        else:
            world.from_first(lambda: refuse_constant(samples))
            trainer.save()
        trainer.run(quiet)
        world.wait()
        return _report(out, plan, world, time.monotonic() - began, quiet)


@contextmanager
def _writing(out: Path, world: World) -> Iterator[None]:
    """Keep others from writing to `out`, and put it in order after a kill; the first process does so for all."""
    with ExitStack() as stack:

        def prepare() -> None:
            stack.enter_context(lock(out))
            recover_folder(out)

        world.from_first(prepare)
        yield


def _report(out: Path, plan: Plan, world: World, seconds: float, quiet: bool) -> TrainReport:
    """What the run came to, from its log; the first process also draws it."""
    if world.first:
        plot_log(out, plan.K)
    begin = plan.steps - plan.steps_per_epoch
    last = [step for step in last_steps(out, plan.steps_per_epoch) if step["step"] > begin]
    if not last:
        plan.notes.append(f"The loss is not known: {out / LOG} no longer holds the last epoch.")
        if not quiet:
            print(plan.notes[-1], file=sys.stderr, flush=True)
    return TrainReport(
        out=out,
        steps=plan.steps,
        epochs=plan.epochs,
        loss=_mean([step["loss"] for step in last]),
        accuracy=_mean([step["accuracy"] for step in last]),
        seconds=seconds,
        content_hash=read_config(out).content_hash,
        config=plan.config,
        rank=world.rank,
        notes=plan.notes,
    )


def _may_write(out: Path, resume: bool) -> bool:
    """Whether there is a checkpoint to resume; InputError if `out` holds something that must not be replaced."""
    if not out.exists():
        return False
    if not (out / "config.json").exists():
        if out.is_dir() and not any(out.iterdir()):
            return False
        raise InputError(f"{out} exists and is not a checkpoint; choose another --out.")
    if not resume:
        raise InputError(f"{out} already holds a checkpoint: go on with --resume, or choose another --out.")
    if not (out / "state.json").exists():
        raise InputError(f"{out} holds an encoder without the state that resuming needs; choose another --out.")
    return True


class StopSignals:
    """Remembers the first of SIGINT, SIGTERM and SIGUSR1 while the run goes on; a second one acts as it always did.

    Clusters announce the end of a job's time by SIGTERM or, where asked to, SIGUSR1.
    """

    def __init__(self) -> None:
        self.came = 0  # the signal's number

    def __enter__(self) -> Self:
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: object) -> None:
        self.came = number
        signal.signal(number, self._before[signal.Signals(number)])

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Trainer:
    """One run: model, optimizer and the step they are at."""

    def __init__(
        self, plan: Plan, out: Path, world: World, checkpoint_seconds: float, memory: int | None = None
    ) -> None:
        config = plan.config
        self.plan, self.out, self.world, self.device = plan, out, world, world.device
        self.checkpoint_seconds = checkpoint_seconds
        self.batches = Batches(plan.samples, plan.columns, self.device, memory)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)  # the weights' start; nothing later draws from torch's own generator
            encoder = Encoder(plan.encoder)
        self.moco = MoCo(
            encoder,
            K=plan.K,
            m=config.momentum or 0.0,
            T=config.temperature,
            sub_batches=config.sub_batches or 1,
            seed=config.seed,
            world=world,
        ).to(self.device)
        self.query = shared(self.moco.encoder_q, world)
        self.optimizer = torch.optim.SGD(
            self.moco.encoder_q.parameters(),
            lr=config.lr,
            momentum=config.sgd_momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.watch = CollapseWatch(plan.K, config.batch_size, config.lr)
        self.log: StepLog | None = None
        self.step = 0
        self.saved_at, self.save_seconds = time.monotonic(), 0.0

    def run(self, quiet: bool) -> None:
        """Take the steps that are left."""
        plan, config, B = self.plan, self.plan.config, self.plan.config.batch_size
        left = (plan.steps - self.step) * B
        recent: deque[tuple[float, float]] = deque(maxlen=plan.steps_per_epoch)
        self.moco.train()
        with (
            StepLog(self.out, self.step) if self.world.first else nullcontext() as self.log,
            StopSignals() as self.stop,
            progress("training", left, "samples", quiet=quiet) as advance,
        ):
            while self.step < plan.steps:
                epoch, position = divmod(self.step, plan.steps_per_epoch)
                with closing(self.batches.epoch(config.seed, epoch, B, position, self.world)) as batches:
                    for batch in batches:
                        values = self.take_step(batch, epoch)
                        if self.log is not None:
                            self.log.write(values)
                        recent.append((values["loss"], values["accuracy"]))
                        advance(B, _note(epoch + 1, plan.epochs, recent))
                        write_point("train.step")
                        self._save_or_stop()
        self.log = None

    def _save_or_stop(self) -> None:
        """After a step: save where it is time to, and end the run where that was asked for."""
        plan = self.plan
        # All processes must come to the same decision: to stop if any was asked to, to save if the first would.
        due = self.world.first and self._due(self.step % plan.steps_per_epoch == 0)
        stop, save = self.world.mean([self.stop.came, due])
        if self.step == plan.steps or save:
            self.save()
        elif stop:
            self.save()
            if self.world.first:
                plot_log(self.out, plan.K)
            raise StoppedError(
                f"Stopped and saved after {self.step:,} of {plan.steps:,} steps; "
                f"the same command with --resume goes on from there ({self.out}).",
                code="interrupted" if self.stop.came == signal.SIGINT else "stopped",
            )

    def take_step(self, batch: Batch, epoch: int) -> dict[str, float]:
        """Train on one batch, of which this process has its part; returns what is logged of the whole."""
        began = time.monotonic()
        config, B = self.plan.config, self.plan.config.batch_size
        im_q, im_k = self._views(batch, epoch)  # (b, C, h, w) each
        lr = self._set_lr()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            contrast = self.moco(im_q, im_k, self.step, B=B, query=self.query)
        self.optimizer.zero_grad(set_to_none=True)
        contrast.loss.backward()
        self.optimizer.step()
        self.step += 1

        hits = float((contrast.logits.argmax(dim=1) == 0).sum())
        loss, hits, embedding_std = self.world.mean(
            [float(contrast.loss.detach()), hits, std_of_unit(contrast.embedding)]
        )
        projection_spread = self.watch.check(self.step, loss, contrast.projection)
        return {
            "step": self.step,
            "epoch": self.step / self.plan.steps_per_epoch,
            "loss": loss,
            "accuracy": hits * self.world.size / B,
            "lr": lr,
            "samples_per_second": B / (time.monotonic() - began),
            "embedding_std": embedding_std,
            "projection_spread": projection_spread,
        }

    def _views(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Two augmented views of a batch's objects, as the encoder is given them, (B, C, h, w) each."""
        rows = torch.from_numpy(batch.rows).to(self.device)  # (B,)
        seed, augment, view = self.plan.config.seed, self.plan.augment, self.plan.domain.view
        views = (view(batch.images, batch.catalog, Draws(seed, epoch, rows, v), augment) for v in (0, 1))
        im_q, im_k = (encoder_input(view, self.plan.preprocess) for view in views)
        return im_q, im_k

    def _set_lr(self) -> float:
        """Half a cosine from lr · batch/256 down to 0 over all steps."""
        config = self.plan.config
        top = config.lr * config.batch_size / 256
        lr = top * 0.5 * (1 + math.cos(math.pi * self.step / self.plan.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _due(self, epoch_ended: bool) -> bool:
        """Whether to save now: see `train`."""
        since = time.monotonic() - self.saved_at
        return since >= self.checkpoint_seconds or (epoch_ended and self.save_seconds <= SAVE_SHARE * since)

    def save(self) -> None:
        """Replace the checkpoint folder by one of this step, whole or not at all; what else lies in it stays."""
        began = time.monotonic()
        self.world.average_buffers(self.moco.encoder_q, self.moco.encoder_k)
        if self.world.first:
            self._write()
        self.world.wait()
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - began

    def _write(self) -> None:
        write_point("train.checkpoint")
        plan = self.plan
        with atomic_folder(self.out) as folder:
            saved = save_encoder(folder, self.moco.encoder_q, plan.checkpoint(self.step))
            write_point("train.checkpoint.model")
            info = {"step": self.step, "streak": self.watch.streak, "checkpoint_hash": saved.content_hash}
            save_state(folder, self._state(), info)
            settings = plan.config.model_dump(mode="json")
            write_record(folder, build_record("train", settings=settings, inputs={"samples": saved.samples_hash}))
            if self.log is not None:
                self.log.flush()
            carry(self.out, folder)
        if self.log is not None:
            self.log.reopen()

    def restore(self) -> None:
        """Take up the run in the checkpoint folder, and drop what the log says of steps after it."""
        encoder, stored = load_encoder(self.out)
        wanted = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self._state().items()}
        tensors, info = load_state(self.out, wanted)
        if info.get("checkpoint_hash") != stored.content_hash:
            raise InputError(f"{self.out} holds the state of another encoder; choose another --out.")
        self.moco.encoder_q.load_state_dict(encoder.state_dict())
        for name, tensor in self._state().items():
            tensor.copy_(tensors[name])
        self.step, self.watch.streak = int(info["step"]), int(info["streak"])
        if self.world.first:
            truncate_log(self.out, self.step)

    def _state(self) -> dict[str, Tensor]:
        """Every tensor besides encoder_q that the next step depends on, by name; changing one changes the run."""
        state = {f"encoder_k.{name}": tensor for name, tensor in self.moco.encoder_k.state_dict().items()}
        for name, parameter in self.moco.encoder_q.named_parameters():
            slot: dict[str, Any] = self.optimizer.state[parameter]
            if slot.get("momentum_buffer") is None:
                # A buffer of zeros gives the first step that torch takes without one.
                slot["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
            state[f"momentum.{name}"] = slot["momentum_buffer"]
        return state | {"queue": self.moco.queue, "queue_ptr": self.moco.queue_ptr}


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _note(epoch: int, epochs: int, recent: deque[tuple[float, float]]) -> str:
    loss, accuracy = np.mean(recent, axis=0)
    return f"epoch {epoch}/{epochs}, loss {loss:.3f}, contrastive accuracy {100 * accuracy:.1f} %"


if __name__ == "__main__":  # torchrun -m lookalike.ssl.train: the command line, which lies above, knows the options
    sys.argv[1:1] = ["train"]
    importlib.import_module("lookalike.cli").main()
