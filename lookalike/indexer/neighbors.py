"""Exact k nearest neighbors of every object within its own window: pair by pair on the CPU, by faiss on a GPU.

Whichever way, the lists are the same to the last bit: ranking is by (−similarity, row), similarity is canonical.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from lookalike.errors import InputError
from lookalike.indexer.blocks import BlockBuilder
from lookalike.indexer.devices import Device
from lookalike.indexer.ordered import Found, Sorted, Vectors, longest
from lookalike.indexer.pairs import PairBuilder
from lookalike.indexer.scores import Scores, multiplies_bfloat16, scores_for
from lookalike.indexer.windows import Ranges

Builder = PairBuilder | BlockBuilder
MEMORY_BYTES = 2**30


def exact_neighbors(vectors: Vectors, ranges: Ranges, k: int, **options: Any) -> Iterator[Found]:
    """Yield the lists of all objects in `ranges`, block by block; see `builder_of`."""
    built = builder_of(vectors, ranges, k, **options)
    if len(ranges.order):
        yield from built.blocks()


def builder_of(
    vectors: Vectors,
    ranges: Ranges,
    k: int,
    *,
    memory_bytes: int = MEMORY_BYTES,
    devices: Sequence[Device] = (),
    max_length: float | None = None,
    scores: Scores | None = None,
) -> Builder:
    """What finds the lists of all objects in `ranges`; objects without a window value are not among them.

    vectors : (N, D) float32 or float16, normalized, in memory or mapped. k : neighbors per object, ≥ 1.
    memory_bytes : about how much is held at once, whatever N is; results never depend on it.
    devices : that search, `find_devices()[0]`; none for the CPU's own way, pair by pair, with `scores` or those that
    `scores_for` takes, which also goes on where a device fails.
    max_length : what `longest` says of the vectors, if known.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, but {k} was given.")
    length = longest(vectors) if max_length is None else max_length
    near = Sorted(vectors, ranges.order, memory_bytes // 4)

    def on_cpu() -> PairBuilder:
        return _pairs(near, ranges, k, memory_bytes, length, scores)

    if devices:
        return BlockBuilder(near, ranges, k, devices, memory_bytes, length, on_cpu)
    return on_cpu()


def pair_builder(vectors: Vectors, ranges: Ranges, k: int, *, scores: Scores | None = None) -> PairBuilder:
    """The CPU's own way by itself, whose `tally` tells what it did."""
    near, length = Sorted(vectors, ranges.order, MEMORY_BYTES // 4), longest(vectors)
    return _pairs(near, ranges, k, MEMORY_BYTES, length, scores)


def planned_scores(vectors: Vectors, ranges: Ranges, k: int, *, work: float, room: int) -> Scores:
    """The scores that a larger set than this sample of it is given; work, room : as `scores_for` takes them."""
    near, length = Sorted(vectors, ranges.order, MEMORY_BYTES), longest(vectors)
    return _scores(near, ranges, k, length, room, work)


def _pairs(
    near: Sorted, ranges: Ranges, k: int, memory_bytes: int, length: float, scores: Scores | None
) -> PairBuilder:
    if scores is None:
        scores = _scores(near, ranges, k, length, memory_bytes // 4)
    return PairBuilder(near, ranges, k, scores, memory_bytes, length)


def _scores(near: Sorted, ranges: Ranges, k: int, length: float, room: int, work: float | None = None) -> Scores:
    # Its products are small: on a busy machine threads that wait for each other took 28 s in place of half a second.
    with threadpool_limits(1, user_api="blas"):
        return scores_for(near, ranges, k, length, room, short=multiplies_bfloat16(), work=work)
