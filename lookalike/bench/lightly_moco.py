"""MoCo v2 as lightly's users write it: its transforms in a loader's workers, its head, loss, shuffle and momentum."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from lookalike.errors import InputError
from lookalike.installing import install
from lookalike.ssl.mixed import LossScaler, computing_in
from lookalike.ssl.world import ALONE

ENDLESS = 10_000_000  # samples


class Pictures(torch.utils.data.Dataset[Any]):
    """Pictures in memory, each with lightly's two views of it."""

    def __init__(self, pictures: list[Image.Image], transform: Any) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> list[Tensor]:
        return cast(list[Tensor], self.transform(self.pictures[row]))


class LightlyMoCo:
    """lightly's training, a step at a time."""

    def __init__(
        self,
        pictures: list[Image.Image],
        encoder: str,
        size: int,
        batch: int,
        *,
        queue: int,
        workers: int,
        memory_format: Any,
        precision: str,
    ) -> None:
        try:
            from lightly.loss import NTXentLoss
            from lightly.models.modules import MoCoProjectionHead
            from lightly.transforms.moco_transform import MoCoV2Transform
        except ImportError:
            raise InputError(f"This measurement runs lightly too; install it with: {install('lightly')}") from None
        backbone = cast(Any, getattr(torchvision.models, encoder)(weights=None))
        dimensions = int(backbone.fc.in_features)
        backbone.fc = nn.Identity()
        self.query = nn.Sequential(backbone, MoCoProjectionHead(dimensions, dimensions, 128))
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        for model in (self.query, self.key):
            model.to(memory_format=memory_format)
        self.memory_format, self.precision = memory_format, precision
        self.scaler = LossScaler(ALONE.device, on=precision == "float16")
        self.loss = NTXentLoss(temperature=0.1, memory_bank_size=(queue, 128))
        self.optimizer = torch.optim.SGD(self.query.parameters(), lr=0.06, momentum=0.9, weight_decay=1e-4)
        data = Pictures(pictures, MoCoV2Transform(input_size=size))
        self.loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
            data,
            batch_size=batch,
            # One endless epoch, as on a large set: at the end of each the workers' prefetching starts anew.
            sampler=torch.utils.data.RandomSampler(data, replacement=True, num_samples=ENDLESS),
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.batches = self._forever()

    def _forever(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> None:
        """One batch: query, momentum, shuffled keys, loss with lightly's memory bank, optimizer."""
        from lightly.models.utils import batch_shuffle, batch_unshuffle, update_momentum

        im_q, im_k = next(self.batches)
        update_momentum(self.query, self.key, m=0.99)
        with computing_in(self.precision, ALONE.device):
            q = self.query(im_q.to(memory_format=self.memory_format))
            with torch.no_grad():
                shuffled, order = batch_shuffle(im_k.to(memory_format=self.memory_format))
                k = batch_unshuffle(self.key(shuffled), order)
        loss = self.loss(q.float(), k.float())
        self.optimizer.zero_grad()
        self.scaler.step(loss, self.optimizer)

    def close(self) -> None:
        """End the loader's workers."""
        self.batches = iter(())
        if getattr(self.loader, "_iterator", None) is not None:
            cast(Any, self.loader)._iterator._shutdown_workers()
