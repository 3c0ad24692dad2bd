"""Momentum contrast, version 2.

He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning",
https://arxiv.org/abs/1911.05722 (algorithm 1 and section 3.3); the MLP head, temperature and cosine schedule are
those of Chen et al. 2020, https://arxiv.org/abs/2003.04297.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookalike.errors import InputError
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.world import ALONE, World


class Contrast(NamedTuple):
    """One step's outcome: `logits`, column 0 the positive; the rest feeds the log.

    Of several processes each has the b of the batch's B objects that are its part; the mean of their losses is the
    batch's.
    """

    loss: Tensor  # () InfoNCE
    logits: Tensor  # (b, 1 + K)
    embedding: Tensor  # (B, D) of the whole batch's queries, detached
    projection: Tensor  # (B, projection) of the whole batch's queries, detached


class MoCo(nn.Module):
    """A query encoder trained by contrast, and a key encoder that follows it.

    encoder_q : the encoder to be trained; a copy of it becomes encoder_k.
    K         : length of the queue of keys, the negatives; at least the batch size.
    m         : momentum of the key encoder, in [0, 1).
    T         : temperature, > 0.
    sub_batches : parts of the batch that batch norm sees separately.
    seed      : of the queue's start and of the keys' permutations.
    world     : the processes that share the batch; each sees as many parts of it as are its share.
    """

    queue: Tensor  # (projection, K), a unit vector per column
    queue_ptr: Tensor  # (1,) int64: the column the next key takes

    def __init__(
        self,
        encoder_q: Encoder,
        *,
        K: int,
        m: float = 0.999,
        T: float = 0.2,
        sub_batches: int = 2,
        seed: int = 0,
        world: World = ALONE,
    ) -> None:
        super().__init__()
        if sub_batches % world.size:
            raise InputError(
                f"Each process has as many of batch norm's parts as the others, but sub_batches = {sub_batches} over "
                f"{world.size} processes."
            )
        if not (K >= 1 and 0 <= m < 1 and T > 0 and sub_batches >= 1):
            raise InputError(
                "MoCo needs K >= 1, 0 <= m < 1, T > 0 and sub_batches >= 1, "
                f"but K = {K}, m = {m}, T = {T} and sub_batches = {sub_batches} were given."
            )
        self.K, self.m, self.T, self.seed = K, m, T, seed
        self.sub_batches = sub_batches
        self.encoder_q = encoder_q
        self.encoder_k = copy.deepcopy(encoder_q)
        self.world = world
        for encoder in (self.encoder_q, self.encoder_k):
            encoder.set_sub_batches(sub_batches // world.size)
        for parameter in self.encoder_k.parameters():
            parameter.requires_grad = False  # follows encoder_q, takes no gradient
        start = torch.randn(encoder_q.config.projection, K, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("queue", F.normalize(start, dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def _momentum_update_key_encoder(self) -> None:
        """θ_k <- m θ_k + (1 − m) θ_q  (equation 2); what is not trained is the same in both, and stays so."""
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True):
            if q.requires_grad:
                k.mul_(self.m).add_(q, alpha=1 - self.m)

    @torch.no_grad()
    def _dequeue_and_enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with `keys` (B, projection), going round at the end of the queue."""
        B = len(keys)
        if B > self.K:
            raise InputError(f"The queue must hold at least one batch, but K = {self.K} and the batch is {B}.")
        columns = (self.queue_ptr + torch.arange(B, device=keys.device)) % self.K  # (B,)
        self.queue[:, columns] = keys.T.to(self.queue.dtype)
        self.queue_ptr[0] = (self.queue_ptr[0] + B) % self.K

    @torch.no_grad()
    def _keys(self, im_k: Tensor, B: int, step: int) -> Tensor:
        """Keys (B, projection) of a batch of which im_k (b, C, H, W) is this process's part.

        They are encoded in an order drawn from (seed, step), then put back: batch norm sees other companions of a
        key than of its query, in other processes too.
        """
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + step) % 2**63)
        shuffle = torch.randperm(B, generator=generator).to(im_k.device)  # (B,)
        im_k = self.world.gather(im_k, B)  # (B, C, H, W)
        _, k = self.encoder_k(im_k[shuffle[self.world.part(B)]])  # (b, projection)
        keys: Tensor = self.world.gather(k.float(), B)[torch.argsort(shuffle)]
        return keys

    def forward(
        self,
        im_q: Tensor,
        im_k: Tensor,
        step: int,
        *,
        B: int | None = None,
        query: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Contrast:
        """Two views of the same objects -> the step's loss and logits; the queue takes the keys.

        im_q, im_k : (b, C, H, W), this process's part of a batch of B objects (default: all of it).
        query : encoder_q as the processes share it (default: itself).
        """
        B = len(im_q) if B is None else B
        embedding, q = (query or self.encoder_q)(im_q)  # (b, D), (b, projection)
        self._momentum_update_key_encoder()
        keys = self._keys(im_k, B, step)  # (B, projection)
        k = keys[self.world.part(B)]  # (b, projection)
        # Under autocast the encoders work in half precision; the contrast itself is done in float32.
        q = q.float()
        l_pos = (q * k).sum(dim=1, keepdim=True)  # (b, 1)
        with torch.autocast(q.device.type, enabled=False):
            l_neg = q @ self.queue.clone()  # (b, K)
        logits = torch.cat([l_pos, l_neg], dim=1) / self.T  # (b, 1 + K)
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)  # the positive is column 0
        # The processes' gradients are averaged, so each loss counts by the share of the batch it is of.
        loss = F.cross_entropy(logits, labels) * (len(q) * self.world.size / B)
        self._dequeue_and_enqueue(keys)
        whole = (self.world.gather(part.detach(), B) for part in (embedding, q))
        return Contrast(loss, logits.detach(), *whole)
