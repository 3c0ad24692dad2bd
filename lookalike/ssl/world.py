"""The processes that train together: this one alone, or those that torchrun started.

Each takes its part of every batch; what one process would have computed of the whole batch (keys in another order,
the queue, the log) is computed of the parts put together. Nothing here draws random numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lookalike.errors import InputError, LookalikeError
from lookalike.files import lock, recover_folder
from lookalike.ssl.hardware import pick_device
from lookalike.ssl.layers import part_sizes

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """`size` processes of which this is number `rank`, on `device`."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def part(self, B: int) -> slice:
        """Which of a batch's B objects are this process's."""
        sizes = part_sizes(B, self.size)
        return slice(sum(sizes[: self.rank]), sum(sizes[: self.rank + 1]))

    def gather(self, part: Tensor, B: int) -> Tensor:
        """The whole batch (B, ...) of which each process holds its part (b, ...), without gradient."""
        if self.size == 1:
            return part
        sizes = part_sizes(B, self.size)
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([whole[:size] for whole, size in zip(parts, sizes, strict=True)])

    def mean(self, values: Sequence[float]) -> list[float]:
        """Each number's mean over the processes."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return [float(number) / self.size for number in numbers]

    def average_buffers(self, *modules: nn.Module) -> None:
        """Make the running statistics of every process their mean, which is what one process would have."""
        if self.size == 1:
            return
        buffers = [b for module in modules for b in module.buffers() if b.is_floating_point()]
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        means = torch.split(flat / self.size, [buffer.numel() for buffer in buffers])
        for buffer, mean in zip(buffers, means, strict=True):
            buffer.copy_(mean.view_as(buffer))

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process made, or the error it met, in every process."""
        if self.size == 1:
            return make()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = make()
            except Exception as error:
                # The others must not wait for what will not come.
                told[1] = error if isinstance(error, LookalikeError) else LookalikeError(str(error))
        dist.broadcast_object_list(told, src=0, device=self.device)
        if told[1] is not None:
            raise told[1]
        return told[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            dist.barrier()


ALONE = World(torch.device("cpu"))


@contextmanager
def join(device: str) -> Iterator[World]:
    """The world this process was started into: torchrun says so in the environment; else it is alone.

    device : as for `pick_device`; of several processes on one machine each takes its own GPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield World(pick_device(device))
        return
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE = {size} says that this is one of several processes, but {', '.join(missing)} is not set; "
            "start them with torchrun, or unset WORLD_SIZE and RANK."
        )
    place = pick_device(device)
    if place.type == "cuda":
        # Where each process sees one GPU only, that is its own.
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(place, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def writing(out: Path, world: World) -> Iterator[None]:
    """Keep others from writing to `out`, and put it in order after a kill; the first process does so for all."""
    with ExitStack() as stack:

        def prepare() -> None:
            stack.enter_context(lock(out))
            recover_folder(out)

        world.from_first(prepare)
        yield


def shared(encoder: nn.Module, world: World) -> nn.Module:
    """The encoder whose gradients are averaged over the processes; the encoder itself where there is one."""
    if world.size == 1:
        return encoder
    ids = [world.device] if world.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(encoder, device_ids=ids, broadcast_buffers=False)
