"""What training reads: an epoch's batches of stored pictures and catalog columns, in an order drawn from (seed, epoch).

A set that fits in memory is read once and visited in a random order. A larger one is read in blocks of consecutive
rows, so that files of any size stream at the speed of long sequential reads: the blocks come in random order, a pool
of them is mixed row by row while the next pool is being read. Two objects of a batch then come from the same block
with a probability of one in the number of blocks in a pool, where a full shuffle has one in the number of blocks in
the whole set; every object still comes once per epoch, in another pool each time. Of several processes each reads
blocks of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl.world import ALONE, World

IN_MEMORY = 2 * 2**30  # bytes of pictures kept in memory; larger sets are read in pools, two of which are held
POOL = 2**30  # bytes
BLOCK = 8 * 2**20  # bytes read at once

Rows = NDArray[np.int64]
Images = NDArray[np.generic]


class Batch(NamedTuple):
    """Some objects: their rows in the whole set, pictures in stored units and columns, on the device."""

    rows: Rows  # (B,)
    images: Tensor  # (B, C, H, W) float32
    catalog: dict[str, Tensor]  # {name: (B,) float64}


class Batches:
    """The batches of a data set, epoch by epoch; pictures stay in memory where they fit in IN_MEMORY."""

    def __init__(
        self, samples: Samples, columns: tuple[str, ...], device: torch.device, memory: int | None = None
    ) -> None:
        self.samples, self.device = samples, device
        row = int(np.prod(samples.image_shape)) * samples.image_dtype.itemsize
        memory = IN_MEMORY if memory is None else memory
        self._images: Images | None = samples.images(slice(None)) if len(samples) * row <= memory else None
        self._block_rows = max(1, BLOCK // row)
        self._blocks_per_pool = max(2, min(POOL, memory // 2) // (self._block_rows * row))
        self._columns = {name: torch.from_numpy(_numbers(samples, name)) for name in columns}  # (N,) each

    @property
    def in_memory(self) -> bool:
        return self._images is not None

    def epoch(self, seed: int, epoch: int, B: int, first: int = 0, world: World = ALONE) -> Generator[Batch]:
        """This process's part of an epoch's whole batches of B objects, from the batch `first` on.

        The objects that are left over, others in each epoch, do not take part in this one.
        """
        N, part = len(self.samples), world.part(B)
        if self._images is not None:
            order = epoch_order(seed, epoch, N)
            for start in range(first * B, N - B + 1, B):
                rows = order[start : start + B][part]
                yield self._batch(rows, self._images[rows])
            return
        block = min(self._block_rows, max(1, N // (2 * world.size)))  # some for every process
        pools = pooled_order(seed, epoch, N, block, self._blocks_per_pool, world)
        b = part.stop - part.start
        yield from self._pooled(_just(pools, N // B * b), b, first * b)

    def fetch(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures (B, C, H, W) float32 and columns {name: (B,)} of any rows, on the device."""
        batch = self._batch(rows, self.samples.images(rows) if self._images is None else self._images[rows])
        return batch.images, batch.catalog

    def _pooled(self, pools: list[Rows], B: int, skipped: int) -> Generator[Batch]:
        """Batches that run on from pool to pool, the next of which is read meanwhile."""
        while pools and skipped >= len(pools[0]):
            skipped -= len(pools.pop(0))
        rows, images = np.empty(0, np.int64), np.empty((0, *self.samples.image_shape), self.samples.image_dtype)
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming: Future[Images] | None = reader.submit(self._read, pools[0]) if pools else None
            for number, pool in enumerate(pools):
                assert coming is not None
                read = coming.result()
                coming = reader.submit(self._read, pools[number + 1]) if number + 1 < len(pools) else None
                rows, images = np.concatenate([rows, pool[skipped:]]), _joined(images, read[skipped:])
                skipped = 0
                whole = len(rows) // B * B
                for start in range(0, whole, B):
                    yield self._batch(rows[start : start + B], images[start : start + B])
                rows, images = rows[whole:], images[whole:].copy()  # the pool's memory is free for the next one

    def _read(self, pool: Rows) -> Images:
        """The pictures of a pool in the order it is visited, read block by block."""
        images = np.empty((len(pool), *self.samples.image_shape), self.samples.image_dtype)
        places = np.argsort(pool)  # of the rows in rising order
        rising = pool[places]
        for start in range(0, len(rising), self._block_rows):
            part = slice(start, start + self._block_rows)
            images[places[part]] = self.samples.images(rising[part])
        return images

    def _batch(self, rows: Rows, stored: Images) -> Batch:
        images = torch.from_numpy(np.require(stored, requirements=["C", "W"]))
        catalog = {name: values[rows].to(self.device) for name, values in self._columns.items()}
        if self.device.type == "cuda":
            return Batch(rows, images.pin_memory().to(self.device, non_blocking=True).float(), catalog)
        return Batch(rows, images.float(), catalog)


def _joined(left: Images, right: Images) -> Images:
    return np.concatenate([left, right]) if len(left) else right


def _numbers(samples: Samples, name: str) -> NDArray[np.float64]:
    values = samples.column(name)
    if values.dtype.kind not in "fiu":
        raise InputError(f"Column {name!r} is read by the augmentations and must hold numbers, but holds text.")
    return values.astype(np.float64)


def epoch_order(seed: int, epoch: int, objects: int) -> Rows:
    """The order (N,) in which an epoch visits the rows; it depends on nothing but the arguments."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(objects)


def pooled_order(
    seed: int, epoch: int, objects: int, block_rows: int, blocks_per_pool: int, world: World = ALONE
) -> list[Rows]:
    """The same for a set read in blocks: this process's pools, each of which holds random blocks in a random order."""
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    blocks = np.split(np.arange(objects), range(block_rows, objects, block_rows))
    order = random.permutation(len(blocks))[world.rank :: world.size]
    pools = np.split(order, range(blocks_per_pool, len(order), blocks_per_pool))
    return [random.permutation(np.concatenate([blocks[block] for block in pool])) for pool in pools]


def _just(pools: list[Rows], needed: int) -> list[Rows]:
    """Pools of `needed` rows in all: what is too much of the last one is left out, what is missing comes again."""
    missing = needed - sum(len(pool) for pool in pools)
    if missing > 0:
        return [*pools, np.resize(pools[-1], missing)]
    return [*pools[:-1], pools[-1][: len(pools[-1]) + missing]]


def refuse_constant(samples: Samples) -> None:
    """InputError where there is nothing to tell apart: every picture flat, or all of them identical."""
    rows = max(1, BLOCK // (int(np.prod(samples.image_shape)) * samples.image_dtype.itemsize))
    first: NDArray[Any] | None = None
    flat, identical = True, True
    for _, images in samples.blocks(rows):
        first = images[:1] if first is None else first
        flat = flat and bool((images == images[:, :1, :1, :1]).all())
        identical = identical and bool((images == first).all())
        if not flat and not identical:
            return
    what = "every pixel of each picture has one value" if flat else "all of them are identical"
    raise InputError(f"These {len(samples):,} pictures hold nothing to tell objects apart by: {what}.")
