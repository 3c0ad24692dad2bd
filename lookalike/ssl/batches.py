"""What training reads: an epoch's batches of stored pictures and catalog columns, in an order drawn from (seed, epoch).

A set that fits in memory is read once and visited in a random order. A larger one is read in blocks of consecutive
rows, so that files of any size stream at the speed of long sequential reads: the blocks come in random order, a pool
of them is mixed row by row while the next pool is being read. Two objects of a batch then come from the same block
with a probability of one in the number of blocks in a pool, where a full shuffle has one in the number of blocks in
the whole set; every object still comes once per epoch, in another pool each time. Several processes divide the order
of the blocks among them, so that what they read is each its own; resumed inside an epoch by another number of
processes, a set read in pools shows some objects again in that epoch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.about import IMAGES
from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl.world import ALONE, World

IN_MEMORY = 2 * 2**30  # bytes of pictures kept in memory; larger sets are read in pools, of which two are held
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
        row = int(np.prod(samples.shape)) * samples.dtype.itemsize
        memory = IN_MEMORY if memory is None else memory
        self._images: Images | None = samples.objects(slice(None)) if len(samples) * row <= memory else None
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
        share = slice(N // B * part.start, N // B * part.stop)  # of the order: as many rows as this process needs
        pools = pooled_order(seed, epoch, N, self._block_rows, self._blocks_per_pool, share)
        yield from self._pooled(pools, part.stop - part.start, first * (part.stop - part.start))

    def fetch(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures (B, C, H, W) float32 and columns {name: (B,)} of any rows, on the device."""
        batch = self._batch(rows, self.samples.objects(rows) if self._images is None else self._images[rows])
        return batch.images, batch.catalog

    def _pooled(self, pools: Iterator[Rows], b: int, skipped: int) -> Generator[Batch]:
        """Batches of b objects that run on from pool to pool, the next of which is read meanwhile."""
        rest = np.empty(0, np.int64), np.empty((0, *self.samples.shape), self.samples.dtype)
        with ThreadPoolExecutor(max_workers=1) as reader:

            def read_next() -> Future[tuple[Rows, Images]] | None:
                rows = next(pools, None)
                return None if rows is None else reader.submit(self._read, rows)

            pools = _after(pools, skipped)
            coming = read_next()
            while coming is not None:
                rows, images = coming.result()
                coming = read_next()
                fill = min((b - len(rest[0])) % b, len(rows))  # what the batch begun in the last pool still needs
                if len(rest[0]):
                    rest = np.concatenate([rest[0], rows[:fill]]), np.concatenate([rest[1], images[:fill]])
                    if len(rest[0]) == b:
                        yield self._batch(*rest)
                end = fill + (len(rows) - fill) // b * b
                for start in range(fill, end, b):
                    place = slice(start, start + b)
                    # Whoever still holds the last batch of a pool must not hold the pool.
                    yield self._batch(rows[place], images[place].copy() if start + b == end else images[place])
                if len(rest[0]) in (0, b) or end > fill or end < len(rows):
                    rest = rows[end:].copy(), images[end:].copy()
                del rows, images

    def _read(self, pool: Rows) -> tuple[Rows, Images]:
        """A pool and its pictures in the order it is visited, read block by block."""
        images = np.empty((len(pool), *self.samples.shape), self.samples.dtype)
        places = np.argsort(pool)  # of the rows in rising order
        rising = pool[places]
        # A block is read as one run of rows; a process's share may cut one, and the set's last one is short.
        for part in np.split(np.arange(len(rising)), np.flatnonzero(np.diff(rising) != 1) + 1):
            for start in range(0, len(part), self._block_rows):
                run = part[start : start + self._block_rows]
                images[places[run]] = self.samples.objects(rising[run])
        return pool, images

    def _batch(self, rows: Rows, stored: Images) -> Batch:
        images = torch.from_numpy(np.require(stored, requirements=["C", "W"]))
        catalog = {name: values[rows].to(self.device) for name, values in self._columns.items()}
        if self.device.type == "cuda":
            return Batch(rows, images.pin_memory().to(self.device, non_blocking=True).float(), catalog)
        return Batch(rows, images.float(), catalog)


def _numbers(samples: Samples, name: str) -> NDArray[np.float64]:
    values = samples.column(name)
    if values.dtype.kind not in "fiu":
        raise InputError(f"Column {name!r} is read by the augmentations and must hold numbers, but holds text.")
    return values.astype(np.float64)


def epoch_order(seed: int, epoch: int, objects: int) -> Rows:
    """The order (N,) in which an epoch visits the rows; it depends on nothing but the arguments."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(objects)


def pooled_order(
    seed: int, epoch: int, objects: int, block_rows: int, blocks_per_pool: int, share: slice | None = None
) -> Iterator[Rows]:
    """The same for a set read in blocks, or a share of it: pools of rows of random blocks, each in a random order."""
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    starts = random.permutation(-(-objects // block_rows)) * block_rows  # of the blocks, in the order they come
    lengths = np.minimum(block_rows, objects - starts)
    ends = np.cumsum(lengths)  # places in the order
    low, high = (0, objects) if share is None else (share.start, share.stop)
    for number, begin in enumerate(range(low, high, block_rows * blocks_per_pool)):
        end = min(begin + block_rows * blocks_per_pool, high)
        rows = []
        for block in range(int(np.searchsorted(ends, begin, side="right")), len(ends)):
            first = int(ends[block] - lengths[block])
            if first >= end:
                break
            inside = slice(max(begin - first, 0), min(end - first, int(lengths[block])))
            rows.append(int(starts[block]) + np.arange(inside.start, inside.stop))
        mixed = np.random.Generator(np.random.PCG64([seed, epoch, low, number]))
        yield mixed.permutation(np.concatenate(rows))


def _after(pools: Iterator[Rows], skipped: int) -> Iterator[Rows]:
    """What is left of the pools after the first `skipped` rows."""
    for pool in pools:
        if skipped < len(pool):
            yield pool[skipped:]
        skipped = max(0, skipped - len(pool))


def refuse_constant(samples: Samples) -> None:
    """InputError where there is nothing to tell apart: every picture flat, or all objects identical."""
    rows = max(1, BLOCK // (int(np.prod(samples.shape)) * samples.dtype.itemsize))
    first: NDArray[Any] | None = None
    flat, identical = True, True
    pictures = samples.layout == IMAGES
    for _, objects in samples.blocks(rows):
        first = objects[:1] if first is None else first
        flat = flat and pictures and bool((objects == objects[:, :1, :1, :1]).all())
        identical = identical and bool(((objects == first) | (np.isnan(objects) & np.isnan(first))).all())
        if not flat and not identical:
            return
    what = "every pixel of each picture has one value" if flat else "all of them are identical"
    raise InputError(
        f"These {len(samples):,} {'pictures' if pictures else 'objects'} hold nothing to tell objects apart by: {what}."
    )
