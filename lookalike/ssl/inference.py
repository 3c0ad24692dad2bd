"""Vectors of stored pictures as fast as the encoder can make them: read ahead, batch norm folded, copies overlapped."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from lookalike.augmentations.inputs import encoder_input
from lookalike.samples import Samples
from lookalike.ssl.checkpoint import CheckpointConfig
from lookalike.ssl.encoders import RESNETS, Encoder

LEAST, MOST = 64, 256  # objects per batch
OUTPUTS = 2**24  # bytes of the first stage's output for a whole batch that a CPU's cache can hold


def default_batch(encoder: Encoder, size: int, device: torch.device) -> int:
    """Objects per batch, a power of two, for pictures of `size` px.

    On a CPU few enough that what the first stage, whose output is the largest, hands on stays in the cache: measured,
    256 pictures of 64 px are 6 % faster than 64 with a ResNet-18, and 64 of 96 px 8 % faster than 256 with a ResNet-50.
    """
    if device.type != "cpu" or encoder.config.name not in RESNETS:
        return MOST
    width = size if encoder.config.small_stem else size / 4  # px
    row = 4 * (encoder.dimensions / 8) * width**2  # bytes
    return int(np.clip(2 ** math.floor(math.log2(OUTPUTS / row)), LEAST, MOST))


class Inference:
    """An encoder made ready for many batches; its vectors are the given one's to a few roundings.

    In evaluation mode batch norm is a scaling and a shift of each channel, which the convolution before it takes over.
    Where the embedding is wanted, the projection head is left out. The given encoder is taken over and changed.
    """

    def __init__(self, encoder: Encoder, config: CheckpointConfig, layer: str, device: torch.device) -> None:
        self.device, self._preprocess, self._layer = device, config.preprocess, layer
        self._encoder = encoder.eval()
        fold_batch_norm(self._encoder)
        if layer == "embedding":
            self._encoder.add_module("head", nn.Identity())
        self._encoder.to(device)

    @property
    def lag(self) -> int:
        """Batches begun before the vectors of an earlier one are waited for."""
        return 1 if self.device.type == "cuda" else 0

    def buffers(self, samples: Samples, B: int) -> list[Tensor]:
        """Memory (B, C, H, W) of the stored type for one batch being read, one computed, and those begun before."""
        dtype = torch.float32 if samples.dtype == np.float32 else torch.uint8
        pinned = self.device.type == "cuda"  # the GPU fetches from such memory by itself
        return [torch.empty((B, *samples.shape), dtype=dtype, pin_memory=pinned) for _ in range(2 + self.lag)]

    def begin(self, images: Tensor) -> Begun:
        """Start on stored pictures (B, C, H, W), whose memory must stay as it is until the vectors are there."""
        with torch.inference_mode(), _exact(self.device):
            x = encoder_input(images.to(self.device, non_blocking=True), self._preprocess)  # (B, C, h, w)
            embedding, projection = self._encoder(x)  # (B, D), (B, projection)
            vectors = (embedding if self._layer == "embedding" else projection).float()
            if self.device.type != "cuda":
                return Begun(vectors.cpu(), None)
            host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            host.copy_(vectors, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
            return Begun(host, done)


class Begun(NamedTuple):
    """Vectors (B, D) on their way; `done` says when they are there, None where they are."""

    vectors: Tensor
    done: torch.cuda.Event | None

    def result(self) -> NDArray[np.float32]:
        if self.done is not None:
            self.done.synchronize()
        return cast(NDArray[np.float32], self.vectors.numpy())


def vectors_of(samples: Samples, inference: Inference, B: int, first: int = 0) -> Generator[NDArray[np.float32]]:
    """The vectors (n, D) of all objects from row `first` on, batch by batch, the next of which is read meanwhile."""
    buffers, cuts = inference.buffers(samples, B), cut(samples, B, first)
    begun: deque[Begun] = deque()
    with ThreadPoolExecutor(max_workers=1) as reader:

        def read_next(number: int) -> Future[Tensor] | None:
            rows = next(cuts, None)
            return None if rows is None else reader.submit(_read, samples, rows, buffers[number % len(buffers)])

        coming, number = read_next(0), 0
        while coming is not None:
            images, number = coming.result(), number + 1
            coming = read_next(number)
            begun.append(inference.begin(images))
            if len(begun) > inference.lag:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def cut(samples: Samples, B: int, first: int = 0) -> Iterator[range]:
    """The rows of each batch from row `first` on: B of one shard, fewer at its end, so that no batch is of two."""
    for rows in samples.shard_rows:
        for start in range(rows.start, rows.stop, B):
            if start >= first:
                yield range(start, min(start + B, rows.stop))


def _read(samples: Samples, rows: range, buffer: Tensor) -> Tensor:
    images = buffer[: len(rows)]
    samples.read_into(rows.start, images.numpy())
    return images


def fold_batch_norm(module: nn.Module) -> None:
    """Let the convolutions of a ResNet inside `module` do what the batch norm after each does in evaluation mode.

    γ·(w∗x − μ)/√(σ² + ε) + β = (γ/√(σ² + ε)·w)∗x + (β − γ·μ/√(σ² + ε)).
    """
    children = dict(module.named_children())
    for name, child in children.items():
        fold_batch_norm(child)
        before = children.get(_convolution_before(module, name) or "")
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            setattr(module, str(_convolution_before(module, name)), _folded(before, child))
            setattr(module, name, nn.Identity())


def _convolution_before(module: nn.Module, name: str) -> str | None:
    """What torchvision calls the convolution whose output goes to the batch norm `name`."""
    if isinstance(module, ResNet | BasicBlock | Bottleneck) and name.startswith("bn"):
        return name.replace("bn", "conv")
    return "0" if isinstance(module, nn.Sequential) and len(module) == 2 and name == "1" else None


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = norm.weight.detach().double() / torch.sqrt(variance + norm.eps)  # (D,)
    shift = norm.bias.detach().double() - scale * mean
    if convolution.bias is not None:
        shift += scale * convolution.bias.detach().double()
    weight = convolution.weight.detach() * scale.float().view(-1, 1, 1, 1)  # (D, C, kernel, kernel)
    made = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        cast(tuple[int, int], convolution.kernel_size),
        cast(tuple[int, int], convolution.stride),
        cast(tuple[int, int], convolution.padding),
        cast(tuple[int, int], convolution.dilation),
        convolution.groups,
        device="meta",
    )
    made.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    made.bias = nn.Parameter(shift.float(), requires_grad=False)
    return made


def _exact(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Keep a GPU's convolutions in float32: by default they round their inputs to 10 bits."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return cast(
        contextlib.AbstractContextManager[None],
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    )
