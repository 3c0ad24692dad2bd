"""Where shares of the vectors lie while they are searched: on GPUs by faiss, or, to check these by, on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lookalike.errors import LookalikeError
from lookalike.indexer.ordered import Vectors
from lookalike.indexer.similarity import U32, Similarities, float32_error
from lookalike.indexer.windows import Places

GPU_LIMIT = 2048  # neighbors that faiss can select on a GPU
GPU_UNIT = 2.0**-22  # a tensor core cuts the terms it adds where IEEE rounds them (Fasi et al. 2021)
GPU_SHARE = 0.7  # of its free memory that holds vectors; products and what faiss keeps need the rest
LEAST_ROOM = 2**28  # free bytes below which a GPU is left alone
MOVED = 2**26  # bytes moved within a device at once
HALF, HALF_STEP = 2.0**-11, 2.0**-25  # float16: largest relative error, and absolute one of subnormal numbers

Best = tuple[Similarities, Places]  # scores and columns (q, k), from the best down


class DeviceError(LookalikeError):
    """A device failed while it searched; what was found until then is exact."""


class Part(Protocol):
    """Room for a run of vectors on a device; a column is a position in it."""

    rows: int

    def load(self, column: int, vectors: Vectors) -> None:
        """Put vectors (n, D) float32 at the columns from this one on."""

    def move(self, column: int, count: int) -> None:
        """Move `count` vectors from this column on to the front."""

    def search(self, queries: Vectors, start: int, stop: int, k: int) -> Best:
        """The k ≤ stop − start best of the columns start..stop for each query (q, D)."""

    def masked(self, queries: Vectors, start: int, stop: int, low: Places, high: Places, k: int) -> Best:
        """The same where query i sees only the columns low[i]..high[i] (q,); −inf where these are fewer."""

    def scores(self, queries: Vectors, start: int, stop: int) -> Similarities:
        """All scores (q, stop − start)."""


class Device(Protocol):
    """What holds parts; name : for people. most : neighbors it selects at once.

    short : vectors are rounded to float16 if they are not stored so.
    unit, half_unit : how far, relatively, it may be off for each number it adds, products of float32 and of float16.
    """

    name: str
    most: int
    short: bool
    unit: float
    half_unit: float

    def room(self) -> int:
        """Bytes of vectors it can hold now."""

    def part(self, rows: int, dimensions: int, half: bool) -> Part:
        """Room for so many vectors, as float16 or float32."""


def score_error(device: Device, dimensions: int, length: float, *, stored_half: bool) -> float:
    """How far its scores can lie from the canonical similarity; stored_half : of vectors stored as float16.

    Each of two vectors of at most this length is off by HALF of each number or by HALF_STEP when it is rounded.
    """
    if stored_half or not device.short:
        unit = device.half_unit if stored_half else device.unit
        return unit / U32 * float32_error(dimensions, length, length)
    off = HALF * length + HALF_STEP * math.sqrt(dimensions)  # length of the rounding's error
    rounded = length + off
    return device.half_unit / U32 * float32_error(dimensions, rounded, rounded) + (2 * length + off) * off * (1 + 1e-9)


@dataclass
class CpuDevice:
    """The same searches by numpy and faiss on the CPU; bytes : that it may hold."""

    bytes: int
    short: bool = False
    most: int = 2**31
    name: str = "CPU"
    unit: float = U32
    half_unit: float = U32

    def room(self) -> int:
        return self.bytes

    def part(self, rows: int, dimensions: int, half: bool) -> CpuPart:
        return CpuPart(rows, dimensions, half)


class CpuPart:
    """Vectors in memory, as float32, whose numbers are those of float16 where these are asked for."""

    def __init__(self, rows: int, dimensions: int, half: bool) -> None:
        self.rows, self._half = rows, half
        self._held = np.empty((rows, dimensions), np.float32)

    def load(self, column: int, vectors: Vectors) -> None:
        self._held[column : column + len(vectors)] = self._rounded(vectors)

    def move(self, column: int, count: int) -> None:
        self._held[:count] = self._held[column : column + count]

    def search(self, queries: Vectors, start: int, stop: int, k: int) -> Best:
        import faiss

        found: Best = faiss.knn(self._rounded(queries), self._held[start:stop], k, faiss.METRIC_INNER_PRODUCT)
        return found[0], found[1] + start

    def masked(self, queries: Vectors, start: int, stop: int, low: Places, high: Places, k: int) -> Best:
        score, column = self.scores(queries, start, stop), np.arange(start, stop)
        score[(column < low[:, None]) | (column >= high[:, None])] = -np.inf
        best = np.argsort(-score, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(score, best, 1), best + start

    def scores(self, queries: Vectors, start: int, stop: int) -> Similarities:
        score: Similarities = self._rounded(queries) @ self._held[start:stop].T  # (q, c)
        return score

    def _rounded(self, vectors: Vectors) -> Vectors:
        return vectors.astype(np.float16).astype(np.float32) if self._half else vectors


class GpuDevice:
    """One GPU; vectors lie there as they are stored, float16 is multiplied by its tensor cores, faiss selects.

    short is possible, at half the memory, but proves little of alike vectors: the bound is some 0.001 then.
    """

    most, unit, half_unit = GPU_LIMIT, U32, GPU_UNIT

    def __init__(self, number: int, *, short: bool = False) -> None:
        import faiss
        import torch

        self.short = short
        self.number, self.where = number, torch.device("cuda", number)
        self.name = f"{torch.cuda.get_device_name(number)} (GPU {number})"
        self.resources = faiss.StandardGpuResources()

    def room(self) -> int:
        import torch

        free, _ = torch.cuda.mem_get_info(self.number)
        return int(GPU_SHARE * free)

    def part(self, rows: int, dimensions: int, half: bool) -> GpuPart:
        return GpuPart(self, rows, dimensions, half)


class GpuPart:
    """Vectors in a GPU's memory."""

    def __init__(self, device: GpuDevice, rows: int, dimensions: int, half: bool) -> None:
        import torch

        self.rows, self._device, self._where = rows, device, device.where
        self._dtype = np.float16 if half else np.float32
        self._held = torch.empty((rows, dimensions), dtype=torch.float16 if half else torch.float32, device=self._where)

    def load(self, column: int, vectors: Vectors) -> None:
        self._held[column : column + len(vectors)] = self._there(vectors)

    def move(self, column: int, count: int) -> None:
        step = max(1, MOVED // (4 * self._held.shape[1]))
        for done in range(0, count, step):  # to the front only, so that nothing is overwritten before it was moved
            some = min(step, count - done)
            self._held[done : done + some] = self._held[column + done : column + done + some].clone()

    def search(self, queries: Vectors, start: int, stop: int, k: int) -> Best:
        import faiss
        import faiss.contrib.torch_utils  # lets knn_gpu take vectors that are on the GPU already
        import torch

        with torch.cuda.device(self._device.number):
            score, column = faiss.knn_gpu(
                self._device.resources, self._there(queries), self._held[start:stop], k,
                metric=faiss.METRIC_INNER_PRODUCT, device=self._device.number,
            )  # fmt: skip
            return score.cpu().numpy(), column.cpu().numpy() + start

    def masked(self, queries: Vectors, start: int, stop: int, low: Places, high: Places, k: int) -> Best:
        import torch

        score = self._product(queries, start, stop)  # (q, c)
        column = torch.arange(start, stop, device=self._where)
        first, last = (torch.from_numpy(ends).to(self._where)[:, None] for ends in (low, high))
        score.masked_fill_((column < first) | (column >= last), -torch.inf)
        best, place = torch.topk(score, k, dim=1)
        return best.cpu().numpy(), place.cpu().numpy() + start

    def scores(self, queries: Vectors, start: int, stop: int) -> Similarities:
        score: Similarities = self._product(queries, start, stop).cpu().numpy()
        return score

    def _product(self, queries: Vectors, start: int, stop: int) -> Any:
        # In float32: a product of float16 is itself rounded to float16.
        return self._there(queries).float() @ self._held[start:stop].float().T

    def _there(self, vectors: Vectors) -> Any:
        import torch

        return torch.from_numpy(vectors.astype(self._dtype)).to(self._where)


def find_devices() -> tuple[list[Device], str]:
    """The GPUs that a build can use, none where there are none, and a sentence that says which or why not."""
    import faiss
    import torch

    on_cpu = "pair by pair on the CPU: "
    if not hasattr(faiss, "StandardGpuResources"):
        return [], on_cpu + "this faiss is built without GPU support"
    if faiss.get_num_gpus() == 0:
        return [], on_cpu + "no GPU was found"
    if not torch.cuda.is_available():
        return [], on_cpu + "faiss finds a GPU, but torch is built without CUDA or its driver is too old"
    number = min(faiss.get_num_gpus(), torch.cuda.device_count())
    found = [GpuDevice(n) for n in range(number)]
    free = [device for device in found if device.room() >= LEAST_ROOM]
    if not free:
        return [], on_cpu + f"of {number} found, no GPU has {LEAST_ROOM / GPU_SHARE / 2**20:.0f} MiB free"
    names = ", ".join(device.name for device in free)
    left = f"; {number - len(free)} more had too little memory free" if len(free) < number else ""
    return [*free], f"with faiss on {names}{left}"
