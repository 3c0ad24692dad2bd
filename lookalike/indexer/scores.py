"""Cheap scores of pairs: off from the similarity by no more than a proven bound, or never below it.

Whatever scores a tile, the lists are the same; it only decides how many pairs are settled canonically that do not
enter a list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError
from lookalike.indexer.ordered import Sorted
from lookalike.indexer.similarity import SAFETY, U32, U64, Similarities, float32_error, gamma
from lookalike.indexer.windows import Places, Ranges
from lookalike.parallel import in_parts, processors

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (16, 32, 64, 128, 256)  # directions that scores are tried with
WORTH = 2 * 10**10  # products of all pairs from which on other scores than float32 are thought of
ABOUT = 2  # times as many directions as pairs are scored by tell what a list will end at
BLOCK = 2**17  # numbers worked on together, which a processor holds close by
LOOKS, SEEN = 32, 512  # objects by which scores are chosen, and of each one's window
# Costs in products of float32: one of bfloat16, one of a pair that is settled, and what else such a pair costs.
SHORT_NUMBER, SETTLED_NUMBER, SETTLED_PAIR = 0.3, 4.0, 2000.0


class Scores(Protocol):
    """How tiles are scored. never : a score that no pair reaches. bytes_per_row : of memory, for a row of a tile."""

    name: str
    never: Any
    bytes_per_row: int

    def tile(self, near: Sorted, a: int, b: int, c: int, d: int, room: Room) -> NDArray[Any]:
        """Scores (b − a, d − c) of the places a..b with the places c..d, in memory that the room's next tile takes."""

    def some(self, near: Sorted, places: Places, c: int, d: int, room: Room) -> NDArray[Any]:
        """Scores (s, d − c) of some places with the places c..d, likewise."""

    def alone(self) -> None:
        """Called by a thread before it scores: it is to do so by itself, for others score at the same time."""

    def floor(self, similarity: Similarities) -> NDArray[Any]:
        """For each similarity (n,), a score that no pair of at least that similarity is below."""

    def of(self, near: Sorted, start: int, stop: int, places: Places) -> Similarities:
        """About the similarities (stop − start, s) of places start..stop with some others."""

    def check(self, score: NDArray[Any], similarity: Similarities) -> None:
        """LookalikeError where scores (n,) are further off than is proven."""


class Room:
    """Memory for a tile's scores, taken once: new pages for each tile would cost as much as a narrow product."""

    def __init__(self) -> None:
        self._held = np.empty(0, np.uint8)

    def of(self, dtype: str, queries: int, candidates: int) -> NDArray[Any]:
        """As an array of that type and shape."""
        size = queries * candidates * np.dtype(dtype).itemsize
        if size > len(self._held):
            self._held = np.empty(size, np.uint8)
        return self._held[:size].view(dtype).reshape(queries, candidates)


def product(queries: NDArray[np.float32], candidates: NDArray[np.float32], room: Room) -> NDArray[np.float32]:
    """Scores (q, c) of queries (q, m) with candidates (c, m)."""
    if np.may_share_memory(queries, candidates):  # NumPy would take a slower way for a product with itself
        candidates = candidates.copy()
    return np.matmul(queries, candidates.T, out=room.of("float32", len(queries), len(candidates)))


class Float32:
    """The products in float32."""

    name, never, bytes_per_row = "float32", np.float32(np.inf), 4 * 2048

    def __init__(self, dimensions: int, length: float) -> None:
        self.error = float32_error(dimensions, length, length)

    def alone(self) -> None:
        pass

    def tile(self, near: Sorted, a: int, b: int, c: int, d: int, room: Room) -> NDArray[Any]:
        return product(near.run(a, b), near.run(c, d), room)

    def some(self, near: Sorted, places: Places, c: int, d: int, room: Room) -> NDArray[Any]:
        return product(near.at(places), near.run(c, d), room)

    def floor(self, similarity: Similarities) -> NDArray[Any]:
        return np.nextafter((similarity.astype(np.float64) - self.error).astype(np.float32), np.float32(-np.inf))

    def of(self, near: Sorted, start: int, stop: int, places: Places) -> Similarities:
        return near.run(start, stop) @ near.at(places).T

    def check(self, score: NDArray[Any], similarity: Similarities) -> None:
        _within(score.astype(np.float64), similarity, self.error)


class BFloat16:
    """The vectors rounded to 8 bits, which some processors multiply several times as fast; scores as sortable int16.

    With e = |x − x'| for the rounded x', |x·y − x'·y'| ≤ |e_x|·|y| + |x'|·|e_y| (Cauchy and Schwarz).
    """

    name, never, bytes_per_row = "bfloat16", np.int16(32767), 2 * 2048 + 4 * 2048
    LEAST = 0.0  # below it bits sort otherwise, so that any pair is settled

    def __init__(self, near: Sorted, length: float) -> None:
        import torch

        n, d = len(near.order), near.dimensions
        self._rounded = torch.empty((n, d), dtype=torch.bfloat16)
        off = 0.0
        step = max(1, 2**22 // d)
        for start in range(0, n, step):
            x = torch.from_numpy(near.run(start, min(start + step, n)).copy())  # what is mapped cannot be written
            self._rounded[start : start + step] = x
            rest = (x - self._rounded[start : start + step].float()).norm(dim=1)  # the differences are exact
            off = max(off, float(rest.max()) * (1 + 2 * gamma(d, U32)))
        # Sums of products in float32, in whatever order and rounded at each step, of vectors somewhat longer.
        self.error = SAFETY * (off * (2 * length + off)) + 2 * float32_error(d, length + off, length + off)

    def alone(self) -> None:
        import torch

        torch.set_num_threads(1)

    def tile(self, near: Sorted, a: int, b: int, c: int, d: int, room: Room) -> NDArray[Any]:
        return self._product(self._rounded[a:b], self._rounded[c:d], room)

    def some(self, near: Sorted, places: Places, c: int, d: int, room: Room) -> NDArray[Any]:
        return self._product(self._rounded[places], self._rounded[c:d], room)

    @staticmethod
    def _product(queries: Tensor, candidates: Tensor, room: Room) -> NDArray[Any]:
        import torch

        scores = room.of("int16", len(queries), len(candidates))
        torch.mm(queries, candidates.T, out=torch.from_numpy(scores).view(torch.bfloat16))
        return scores

    def floor(self, similarity: Similarities) -> NDArray[Any]:
        """Rounded down to bfloat16, or what no score is below."""
        least = np.nextafter((similarity.astype(np.float64) - self.error).astype(np.float32), np.float32(-np.inf))
        bits = (least.view(np.int32) >> 16).astype(np.int16)
        return np.where(least > self.LEAST, bits, np.int16(-32768))

    def of(self, near: Sorted, start: int, stop: int, places: Places) -> Similarities:
        return (self._rounded[start:stop] @ self._rounded[places].T).float().numpy()

    def check(self, score: NDArray[Any], similarity: Similarities) -> None:
        value = (score.astype(np.int32) << 16).view(np.float32).astype(np.float64)
        _within(value, similarity, self.error + np.abs(value) * 2.0**-7)


def _within(score: NDArray[np.float64], similarity: Similarities, error: Any) -> None:
    if not (np.abs(score - similarity) <= error).all():
        msg = "The fast scores are off by more than their proven error; the build was stopped."
        raise LookalikeError(msg)


class Prefix:
    """The first m directions of largest variance, and one number for the rest: a score that is never too low.

    With orthonormal directions Q, p = Qᵀx and r = √(|x|² − |p|²), x·y ≤ p_x·p_y + r_x·r_y (Cauchy and Schwarz), which
    is the product of two vectors of m + 1 numbers.

    directions (D, m). more (D, w) : by which similarities are told about, where all D numbers are more than is needed.
    """

    never = np.float32(np.inf)

    def __init__(
        self, near: Sorted, directions: NDArray[np.float64], length: float, more: NDArray[np.float64] | None = None
    ) -> None:
        d, m = directions.shape
        self.name, self.bytes_per_row = f"the first {m} of {d} directions", 4 * (m + 1 + 2048)
        n = len(near.order)
        self._short = np.empty((n, m + 1), np.float32)
        short_more = None if more is None else more.astype(np.float32)
        self._about = None if more is None else np.empty((n, more.shape[1]), np.float32)
        rounding = 4 * (math.sqrt(m) + 1) * gamma(d, U64) * length * length  # of |x|² − |p|² in float64
        step = max(1, BLOCK // d)

        def project(part: slice) -> None:
            for start in range(part.start, part.stop, step):
                stop = min(start + step, part.stop)
                short = near.run(start, stop)
                x = short.astype(np.float64)
                p = x @ directions
                rest = np.einsum("nd,nd->n", x, x) - np.einsum("nm,nm->n", p, p)
                self._short[start:stop, :m] = p
                self._short[start:stop, m] = np.sqrt(np.maximum(rest, 0) + rounding)
                if self._about is not None:
                    self._about[start:stop] = short @ short_more

        in_parts(project, n, processors())
        # Rounding p and r to float32 counts as two products more; Q is orthonormal to some 10⁻¹⁴.
        self.error = 2 * float32_error(m + 4, length, length) + rounding

    def alone(self) -> None:
        pass

    def tile(self, near: Sorted, a: int, b: int, c: int, d: int, room: Room) -> NDArray[Any]:
        return product(self._short[a:b], self._short[c:d], room)

    def some(self, near: Sorted, places: Places, c: int, d: int, room: Room) -> NDArray[Any]:
        return product(self._short[places], self._short[c:d], room)

    def floor(self, similarity: Similarities) -> NDArray[Any]:
        return np.nextafter((similarity.astype(np.float64) - self.error).astype(np.float32), np.float32(-np.inf))

    def of(self, near: Sorted, start: int, stop: int, places: Places) -> Similarities:
        if self._about is None:
            return near.run(start, stop) @ near.at(places).T
        return self._about[start:stop] @ self._about[places].T

    def check(self, score: NDArray[Any], similarity: Similarities) -> None:
        _within(np.minimum(score - similarity.astype(np.float64), 0.0), np.zeros_like(similarity), self.error)


def principal(near: Sorted, rows: int = 1024) -> NDArray[np.float64]:
    """Orthonormal directions (D, m), at most the widest of WIDTHS, along which a sample of the vectors is longest.

    By iterated products with random directions (Halko, Martinsson and Tropp 2011, algorithm 4.4); any orthonormal
    directions bound the similarities, these only more tightly.
    """
    n, d = len(near.order), near.dimensions
    rng = np.random.default_rng(0)
    x = near.at(np.sort(rng.choice(n, min(n, rows), replace=False)))  # (s, D)
    q = rng.standard_normal((d, min(d, max(WIDTHS))), dtype=np.float32)
    for _ in range(2):
        q = np.linalg.qr(x.T @ (x @ q))[0]
    within = np.linalg.eigh((p := (x @ q).astype(np.float64)).T @ p)[1][:, ::-1]
    return np.linalg.qr(q.astype(np.float64) @ within)[0]


@dataclass(frozen=True)
class Look:
    """Some objects, each with a sample of its window: similarities, what the lists need by these, and the bounds.

    score (l, s). floor (l, 1). own (l, m), others (l, s, m) : along the principal directions. rest (l, s) : the product
    of the lengths that these leave.
    """

    score: NDArray[np.float64]
    floor: NDArray[np.float64]
    own: NDArray[np.float64]
    others: NDArray[np.float32]

    def share(self, error: float, least: float = -math.inf) -> float:
        """Of the pairs that would be settled, were all scores too high by so much; all, for a floor down to `least`."""
        return float(((self.score + error >= self.floor) | (self.floor - error <= least)).mean())

    def bounded(self, m: int) -> float:
        """Of the pairs that would be settled, were they scored by the first m directions."""
        near = np.einsum("lsm,lm->ls", self.others[..., :m], self.own[:, :m])
        rest = (1 - (self.others[..., :m] ** 2).sum(-1)) * (1 - (self.own[:, None, :m] ** 2).sum(-1))
        return float((near + np.sqrt(np.maximum(rest, 0)) >= self.floor).mean())


def look(near: Sorted, ranges: Ranges, k: int, directions: NDArray[np.float64]) -> Look:
    """LOOKS objects from all over the window's order."""
    places = np.linspace(0, len(near.order) - 1, LOOKS).astype(np.int64)
    own, short = near.at(places), directions.astype(np.float32)  # (l, D), (D, m)
    score, floor = np.empty((LOOKS, SEEN), np.float32), np.empty(LOOKS)
    others = np.empty((LOOKS, SEEN, short.shape[1]), np.float32)

    def see(part: slice) -> None:
        for n in range(part.start, part.stop):
            low, high = int(ranges.low[places[n]]), int(ranges.high[places[n]])
            seen = np.random.default_rng(int(places[n])).choice(high - low, SEEN) + low
            x = near.at(seen)  # (s, D)
            score[n] = x @ own[n]
            wanted = min(SEEN - 1, math.ceil(k * SEEN / max(1, high - low - 1)))
            floor[n] = np.sort(score[n])[::-1][wanted]
            np.matmul(x, short, out=others[n])

    in_parts(see, LOOKS, processors())
    return Look(score.astype(np.float64), floor[:, None], own.astype(np.float64) @ directions, others)


def scores_for(
    near: Sorted, ranges: Ranges, k: int, length: float, room: int, *, short: bool, work: float | None = None
) -> Scores:
    """The scores by which a build costs least, told by some objects and samples of their windows.

    room : bytes that a copy of the vectors may take. short : whether this processor multiplies bfloat16 fast.
    work : products of all pairs, where a larger set is meant than this one.
    """
    n, d = len(near.order), near.dimensions
    plain = Float32(d, length)
    if (d * int((ranges.high - ranges.low).sum()) if work is None else work) < WORTH:
        return plain
    directions = principal(near)
    some = look(near, ranges, k, directions)
    settled = 2 * (d * SETTLED_NUMBER + SETTLED_PAIR)
    costs: dict[str | int, float] = {"float32": d + settled * some.share(plain.error)}
    if short and n * d * 2 <= room:
        costs["bfloat16"] = d * SHORT_NUMBER + settled * some.share(2.0**-8, BFloat16.LEAST)
    for m in WIDTHS:
        if m <= d // 2 and n * (m + 1) * 4 <= room:
            costs[m] = m + 1 + settled * some.bounded(m)
    best = min(costs, key=costs.__getitem__)
    if isinstance(best, int):
        about = min(ABOUT * best, directions.shape[1])
        worth = about <= d // 2 and n * (best + 1 + about) * 4 <= room
        return Prefix(near, directions[:, :best], length, directions[:, :about] if worth else None)
    return plain if best == "float32" else BFloat16(near, length)


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(f" {name} " in flags for name in ("avx512_bf16", "amx_bf16"))
