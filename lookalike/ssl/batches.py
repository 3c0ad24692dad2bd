"""What training reads: stored pictures and catalog columns by row, in an order drawn from (seed, epoch)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.errors import InputError
from lookalike.samples import Samples

IN_MEMORY = 2 * 2**30  # bytes of pictures kept in memory; larger sets are read by batch
BLOCK_BYTES = 32 * 2**20


class Batches:
    """The pictures and columns of a data set, by row; pictures stay in memory where they fit in `memory` bytes
    (IN_MEMORY)."""

    def __init__(
        self, samples: Samples, columns: tuple[str, ...], device: torch.device, memory: int | None = None
    ) -> None:
        self.samples, self.device = samples, device
        size = len(samples) * int(np.prod(samples.image_shape)) * samples.image_dtype.itemsize
        self._images: NDArray[np.generic] | None = (
            samples.images(slice(None)) if size <= (IN_MEMORY if memory is None else memory) else None
        )
        self._columns = {name: torch.from_numpy(_numbers(samples, name)) for name in columns}  # (N,) each

    @property
    def in_memory(self) -> bool:
        return self._images is not None

    def fetch(self, rows: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures (B, C, H, W) float32 in stored units and columns {name: (B,) float64}, on the device."""
        stored = self.samples.images(rows) if self._images is None else self._images[rows]
        images = torch.from_numpy(stored).to(self.device).float()  # (B, C, H, W)
        return images, {name: values[rows].to(self.device) for name, values in self._columns.items()}


def _numbers(samples: Samples, name: str) -> NDArray[np.float64]:
    values = samples.column(name)
    if values.dtype.kind not in "fiu":
        raise InputError(f"Column {name!r} is read by the augmentations and must hold numbers, but holds text.")
    return values.astype(np.float64)


def epoch_order(seed: int, epoch: int, objects: int) -> NDArray[np.int64]:
    """The order (N,) in which an epoch visits the rows; it depends on nothing but the arguments."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(objects)


def refuse_constant(samples: Samples) -> None:
    """InputError where there is nothing to tell apart: every picture flat, or all of them identical."""
    rows = max(1, BLOCK_BYTES // (int(np.prod(samples.image_shape)) * samples.image_dtype.itemsize))
    first, flat, identical = None, True, True
    for _, images in samples.blocks(rows):
        first = images[:1] if first is None else first
        flat = flat and bool((images == images[:, :1, :1, :1]).all())
        identical = identical and bool((images == first).all())
        if not flat and not identical:
            return
    what = "every pixel of each picture has one value" if flat else "all of them are identical"
    raise InputError(f"These {len(samples):,} pictures hold nothing to tell objects apart by: {what}.")
