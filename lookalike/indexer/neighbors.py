"""Exact k nearest neighbors of every object within its own window: pair by pair on the CPU, by faiss on a GPU.

Whichever way, the lists are the same to the last bit: ranking is by (−similarity, row), similarity is canonical.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
from threadpoolctl import threadpool_limits

from lookalike.errors import InputError
from lookalike.indexer.blocks import BlockBuilder, Search
from lookalike.indexer.ordered import Found, Sorted, Vectors, longest
from lookalike.indexer.pairs import PairBuilder
from lookalike.indexer.scores import Scores, multiplies_bfloat16, scores_for
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.windows import Places, Ranges

Builder = PairBuilder | BlockBuilder
MEMORY_BYTES = 2**30
GPU_LIMIT = 2048  # neighbors faiss can select on a GPU


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
    search: Search | None = None,
    max_length: float | None = None,
    scores: Scores | None = None,
) -> Builder:
    """What finds the lists of all objects in `ranges`; objects without a window value are not among them.

    vectors : (N, D) float32 or float16, normalized, in memory or mapped. k : neighbors per object, ≥ 1.
    memory_bytes : about how much is held at once, whatever N is; results never depend on it.
    search : a search of k nearest ones, `fast_search()[0]`; None for the CPU's own way, pair by pair, with `scores` or
    those that `scores_for` takes. max_length : what `longest` says of the vectors, if known.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, but {k} was given.")
    length = longest(vectors) if max_length is None else max_length
    near = Sorted(vectors, ranges.order, memory_bytes // 4)
    if search is not None:
        return BlockBuilder(near, ranges, k, search, memory_bytes, length)
    return _pairs(near, ranges, k, memory_bytes, length, scores)


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


def fast_search() -> tuple[Search | None, str]:
    """The GPU's search, None where there is none, and a sentence that says why (tests of the GPU's are marked gpu)."""
    if not hasattr(faiss, "StandardGpuResources"):
        return None, "pair by pair on the CPU: this faiss is built without GPU support"
    if faiss.get_num_gpus() == 0:
        return None, "pair by pair on the CPU: no GPU was found"
    resources = faiss.StandardGpuResources()

    def on_gpu(queries: Vectors, candidates: Vectors, k: int) -> tuple[Similarities, Places]:
        if k > GPU_LIMIT:
            return on_cpu(queries, candidates, k)
        found: tuple[Similarities, Places] = faiss.knn_gpu(
            resources, queries, candidates, k, metric=faiss.METRIC_INNER_PRODUCT
        )
        return found

    return on_gpu, f"with faiss on the GPU for up to {GPU_LIMIT} neighbors, on the CPU beyond"


def on_cpu(queries: Vectors, candidates: Vectors, k: int) -> tuple[Similarities, Places]:
    """faiss's search on the CPU: what a GPU's is compared with."""
    found: tuple[Similarities, Places] = faiss.knn(queries, candidates, k, faiss.METRIC_INNER_PRODUCT)
    return found
