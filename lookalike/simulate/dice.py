"""One object's random numbers, taken one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class Dice:
    """Numbers drawn from a row of uniform ones (n,), in the order they are asked for."""

    def __init__(self, uniform: NDArray[np.float64]) -> None:
        self._left: Iterator[float] = iter(uniform.tolist())

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + next(self._left) * (high - low)

    def log(self, low: float, high: float) -> float:
        """Between low and high, each factor alike."""
        return low * math.exp(math.log(high / low) * next(self._left))

    def normal(self, mean: float = 0.0, sigma: float = 1.0) -> float:
        """Of a normal distribution, by Box and Muller (1958)."""
        return mean + sigma * math.sqrt(-2 * math.log(next(self._left))) * math.cos(2 * math.pi * next(self._left))

    def angle(self) -> float:
        return self.uniform(0.0, 2 * math.pi)

    def often(self, probability: float) -> bool:
        return next(self._left) < probability
