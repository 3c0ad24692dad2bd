"""The training loop: one run's model, optimizer and the step they are at, its checkpoints and its end."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.errors import InputError, StoppedError
from lookalike.files import atomic_folder, write_point
from lookalike.progress import progress
from lookalike.provenance import build_record, write_record
from lookalike.ssl.batches import Batch, Batches
from lookalike.ssl.checkpoint import carry, load_encoder, load_state, save_encoder, save_state
from lookalike.ssl.collapse import CollapseWatch, effective_rank, std_of_unit
from lookalike.ssl.curves import plot_log
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.log import StepLog, truncate_log
from lookalike.ssl.mixed import LossScaler, compiled, computing_in, said_shortly
from lookalike.ssl.moco import MoCo
from lookalike.ssl.plan import Plan
from lookalike.ssl.quality import EVALUATIONS, LabelWatch, alignment, queue_age, uniformity
from lookalike.ssl.world import World, shared

PATIENCE = 15.0  # seconds from a cluster's signal in which its repeats are ignored
SAVE_SHARE = 0.1  # saving at the end of an epoch takes at most this share of the time


class StopSignals:
    """Remembers that SIGINT, SIGTERM or SIGUSR1 came while the run goes on; a second Ctrl-C acts as it always did.

    Clusters announce the end of a job's time by SIGTERM or, where asked to, SIGUSR1, often to each process and to
    torchrun, which passes it on: of these a repeat acts only after PATIENCE.
    """

    def __init__(self) -> None:
        self.came = 0  # the signal's number
        self._first = 0.0  # when it came

    def __enter__(self) -> Self:
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: object) -> None:
        now = time.monotonic()
        first = self._first = self._first or now
        self.came = self.came or number
        if number == signal.SIGINT or now - first > PATIENCE:
            signal.signal(number, self._before[signal.Signals(number)])
            if now - first > PATIENCE:
                signal.raise_signal(number)

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
        bank = plan.domain.bank(plan.samples, plan.augment, config.seed)
        self.bank = None if bank is None else bank.to(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)  # the weights' start; nothing later draws from torch's own generator
            encoder = Encoder(plan.encoder)
        if plan.initial is not None:
            encoder.load_state_dict(encoder.state_dict() | plan.initial)
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
            (parameter for parameter in self.moco.encoder_q.parameters() if parameter.requires_grad),
            lr=config.lr,
            momentum=config.sgd_momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        for parameter in self.optimizer.param_groups[0]["params"]:
            # Zeros give the step that torch takes without a buffer; a first step that overflows would leave it unset.
            self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
        self.scaler = LossScaler(self.device, on=config.precision == "float16")
        if config.compile:
            compiled(self.moco.encoder_q, self.moco.encoder_k)
        self.watch = CollapseWatch(plan.K, config.batch_size, config.lr, config.precision)
        self.log: StepLog | None = None
        self.labels: LabelWatch | None = None
        self.knn_accuracy: tuple[int, float] | None = None  # the last of this call, and after how many epochs
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
                        self._watch_labels(values)
                        if self.log is not None:
                            self.log.write(values)
                        recent.append((values["loss"], values["accuracy"]))
                        advance(B, _note(epoch + 1, plan.epochs, recent))
                        write_point("train.step")
                        self._save_or_stop()
        self.log = None

    def _watch_labels(self, values: dict[str, float]) -> None:
        """Add the kNN accuracy to what is logged of a step, EVALUATIONS times in a run."""
        epochs, inside = divmod(self.step, self.plan.steps_per_epoch)
        every = max(1, self.plan.epochs // EVALUATIONS)
        if self.labels is not None and self.world.first and inside == 0 and epochs % every == 0:
            values["knn_accuracy"] = self.labels.accuracy(self.moco.encoder_q)
            self.knn_accuracy = (epochs, values["knn_accuracy"])

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
        with said_shortly(config.compile):
            with computing_in(config.precision, self.device):
                contrast = self.moco(im_q, im_k, self.step, B=B, query=self.query)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.step(contrast.loss, self.optimizer)
        self.step += 1

        share = len(batch.rows) * self.world.size / B  # of the batch, for means over its objects
        positive = contrast.logits[:, 0] * config.temperature  # (b,)
        loss, accuracy, aligned = self.world.mean(
            [
                float(contrast.loss.detach()),
                float((contrast.logits.argmax(dim=1) == 0).float().mean()) * share,
                float(alignment(positive)) * share,
            ]
        )
        projection_spread = self.watch.check(self.step, loss, contrast.projection)
        return {
            "step": self.step,
            "epoch": self.step / self.plan.steps_per_epoch,
            "loss": loss,
            "accuracy": accuracy,
            "lr": lr,
            "samples_per_second": B / (time.monotonic() - began),
            "embedding_std": std_of_unit(contrast.embedding),
            "projection_spread": projection_spread,
            "effective_rank": effective_rank(contrast.embedding),
            "alignment": aligned,
            "uniformity": uniformity(contrast.projection),
            "queue_age": queue_age(self.step, self.plan.K, B),
        }

    def _views(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Two augmented views of a batch's objects, as the encoder is given them, (B, C, h, w) each."""
        rows = torch.from_numpy(batch.rows).to(self.device)  # (B,)
        seed, augment, view = self.plan.config.seed, self.plan.augment, self.plan.domain.view
        draws = (Draws(seed, epoch, rows, v) for v in (0, 1))
        views = (view(batch.images, batch.catalog, drawn, augment, self.bank) for drawn in draws)
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
            write_record(
                folder, build_record("train", settings=settings, inputs=plan.inputs, data=plan.samples.about.source)
            )
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
        self.scaler.restore()
        self.step, self.watch.streak = int(info["step"]), int(info["streak"])
        if self.world.first:
            truncate_log(self.out, self.step)

    def _state(self) -> dict[str, Tensor]:
        """Every tensor besides encoder_q that the next step depends on, by name; changing one changes the run."""
        state = {f"encoder_k.{name}": tensor for name, tensor in self.moco.encoder_k.state_dict().items()}
        for name, parameter in self.moco.encoder_q.named_parameters():
            if parameter.requires_grad:
                state[f"momentum.{name}"] = self.optimizer.state[parameter]["momentum_buffer"]
        return state | {"queue": self.moco.queue, "queue_ptr": self.moco.queue_ptr} | self.scaler.state


def _note(epoch: int, epochs: int, recent: deque[tuple[float, float]]) -> str:
    loss, accuracy = np.mean(recent, axis=0)
    return f"epoch {epoch}/{epochs}, loss {loss:.3f}, contrastive accuracy {100 * accuracy:.1f} %"
