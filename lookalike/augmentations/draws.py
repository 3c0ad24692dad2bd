"""Random numbers keyed by what they are for: (seed, epoch, row, view, name, element).

A row's draws depend on nothing else: not on the batch it sits in, the device, the process or what was drawn before,
so a resumed or distributed run needs no generator state. Each (seed, epoch, view, name, row) starts its own
splitmix64 sequence (Steele, Lea & Flood 2014), of which element i is computed directly, on a CPU by `draws_native`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.augmentations import draws_native
from lookalike.parallel import in_parts

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer, splitmix64's increment
MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
FEW = 1 << 14  # numbers for which a second thread does not pay


class Draws:
    """The random numbers of one batch's view.

    seed, epoch, view : integers (any sign). rows : (B,) int64, each object's row in the whole data set;
    the numbers appear on its device.
    """

    def __init__(self, seed: int, epoch: int, rows: Tensor, view: int) -> None:
        self.seed, self.epoch, self.rows, self.view = seed, epoch, rows.to(torch.int64), view

    def to(self, device: torch.device | str) -> Draws:
        """The same draws, made on another device."""
        return Draws(self.seed, self.epoch, self.rows.to(device), self.view)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers (B, *shape) float64 in the open interval (0, 1), multiples of 2⁻⁵³."""
        if self.rows.device.type == "cpu":
            return torch.from_numpy(self._natively(draws_native.uniforms, name, math.prod(shape), np.float64)).view(
                -1, *shape
            )
        return self.uniform_by_torch(name, *shape)

    def uniform_by_torch(self, name: str, *shape: int) -> Tensor:
        """`uniform` on any device."""
        bits = _mix(self._counters(name, math.prod(shape)))  # (B, n)
        # The middle of each of 2^52 cells: neither 0 nor 1 can come out, as an inverse distribution function needs.
        bits = (bits >> 12).bitwise_and_((1 << 52) - 1)
        return bits.double().add_(0.5).mul_(2.0**-52).view(-1, *shape)  # (B, *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers (B, *shape) float32, two from each 64-bit hash by Box and Muller (1958)."""
        if self.rows.device.type == "cpu":
            n = math.prod(shape)
            out = torch.from_numpy(self._natively(draws_native.normals, name, n + n % 2, np.float32))
            return out[:, :n].reshape(-1, *shape)
        return self.normal_by_torch(name, *shape)

    def normal_by_torch(self, name: str, *shape: int) -> Tensor:
        """`normal` on any device, to the same numbers but for rounding."""
        n = math.prod(shape)
        half = (n + 1) // 2
        out = torch.empty((len(self.rows), 2 * half), dtype=torch.float32, device=self.rows.device)
        _box_muller(_mix(self._counters(name, half)), out)
        return out[:, :n].reshape(-1, *shape)  # (B, *shape)

    def _natively(self, fill: Callable[..., None], name: str, n: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """(B, n) numbers of a loop of `draws_native`."""
        rows, key = self.rows.contiguous().numpy(), np.uint64(self._key(name) % 2**64)
        out = np.empty((len(rows), n), dtype)
        threads = torch.get_num_threads() if out.size > FEW else 1
        in_parts(lambda part: fill(rows[part], key, out[part]), len(rows), threads)
        return out

    def _key(self, name: str) -> int:
        text = f"{self.seed}/{self.epoch}/{self.view}/{name}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)

    def _counters(self, name: str, n: int) -> Tensor:
        """States 1 to n of each row's own splitmix64 sequence, (B, n) int64."""
        key = self._key(name)
        start = _mix(_mix(self.rows * GOLDEN + key) ^ key)  # (B,)
        steps = torch.arange(1, n + 1, dtype=torch.int64, device=self.rows.device) * GOLDEN  # (n,)
        return start[:, None] + steps  # (B, n)


def _mix(z: Tensor) -> Tensor:
    """splitmix64's output function on int64, where products wrap as they do unsigned."""
    # `>>` copies the sign bit; the masks make the shifts logical.
    z = z ^ (z >> 30).bitwise_and_((1 << 34) - 1)
    z = z.mul_(MIX_1)
    z = z.bitwise_xor_((z >> 27).bitwise_and_((1 << 37) - 1)).mul_(MIX_2)
    return z.bitwise_xor_((z >> 31).bitwise_and_((1 << 33) - 1))


def _box_muller(bits: Tensor, out: Tensor) -> None:
    """Fill out (B, 2n) float32 with normals from bits (B, n) int64: cosines first, then sines."""
    n = bits.shape[1]
    words = bits.view(torch.int32).view(-1, n, 2)  # (B, n, 2)
    # 31 bits keep their precision near 0, where the tail of the normal comes from; the largest normal is 6.7.
    radius = words[..., 0].bitwise_and(0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31)  # (B, n) in (0, 1]
    radius = radius.log_().mul_(-2.0).sqrt_()
    angle = words[..., 1].float().mul_(math.pi * 2.0**-31)  # (B, n) in [-π, π]
    torch.cos(angle, out=out[:, :n]).mul_(radius)
    torch.sin(angle, out=out[:, n:]).mul_(radius)


def truncated_lognormal(u: Tensor, s: float, loc: float, scale: float, low: float | None, high: float | None) -> Tensor:
    """Lognormal numbers within [low, high], by inverse distribution function.

    u : uniforms in (0, 1), float64. x = loc + scale·exp(s·Φ⁻¹(u')), scipy.stats.lognorm's convention, where u' runs
    over the probabilities between those of low and high (None: unbounded): the distribution that redrawing until a
    number lies within the range gives, without the redrawing. Returns float64 in the shape of u.
    """
    bottom = _lognormal_cdf(low, s, loc, scale) if low is not None else 0.0
    top = _lognormal_cdf(high, s, loc, scale) if high is not None else 1.0
    x = loc + scale * torch.exp(s * torch.special.ndtri(bottom + u * (top - bottom)))
    # Rounding may step over an end by one part in 10^16.
    return x.clamp(low, high) if low is not None or high is not None else x


def _lognormal_cdf(x: float, s: float, loc: float, scale: float) -> float:
    """P(X ≤ x) of the untruncated lognormal."""
    if x <= loc:
        return 0.0
    return 0.5 * math.erfc(-math.log((x - loc) / scale) / (s * math.sqrt(2)))
