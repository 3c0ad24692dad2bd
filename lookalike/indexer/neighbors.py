"""Exact k nearest neighbors of every object within its own window: pair by pair on the CPU, by faiss on a GPU.

Whichever way, the lists are the same to the last bit: ranking is by (−similarity, row), similarity is canonical.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss

from lookalike.errors import InputError
from lookalike.indexer.blocks import Search, by_search
from lookalike.indexer.ordered import Found, Sorted, Vectors, longest
from lookalike.indexer.pairs import PairBuilder
from lookalike.indexer.scores import Scores, multiplies_bfloat16, scores_for
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.windows import Places, Ranges

GPU_LIMIT = 2048  # neighbors faiss can select on a GPU


def exact_neighbors(
    vectors: Vectors,
    ranges: Ranges,
    k: int,
    *,
    memory_bytes: int = 2**30,
    search: Search | None = None,
    max_length: float | None = None,
    scores: Scores | None = None,
) -> Iterator[Found]:
    """Yield the lists of all objects in `ranges`, block by block; objects without a window value are not among them.

    vectors : (N, D) float32 or float16, normalized, in memory or mapped. k : neighbors per object, ≥ 1.
    memory_bytes : about how much is held at once, whatever N is; results never depend on it.
    search : a search of k nearest ones, `fast_search()[0]`; None for the CPU's own way, pair by pair, with `scores` or
    those that `scores_for` takes. max_length : what `longest` says of the vectors, if known.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, but {k} was given.")
    if not len(ranges.order):
        return
    length = longest(vectors) if max_length is None else max_length
    near = Sorted(vectors, ranges.order, memory_bytes // 4)
    if search is not None:
        yield from by_search(near, ranges, k, search, memory_bytes, length)
        return
    yield from _pairs(near, ranges, k, memory_bytes, length, scores).blocks()


def pair_builder(
    vectors: Vectors, ranges: Ranges, k: int, *, memory_bytes: int = 2**30, work: float | None = None
) -> PairBuilder:
    """The CPU's own way by itself, whose `tally` tells what it did; work : as `scores_for` takes it."""
    near, length = Sorted(vectors, ranges.order, memory_bytes // 4), longest(vectors)
    scores = scores_for(near, ranges, k, length, memory_bytes // 4, short=multiplies_bfloat16(), work=work)
    return _pairs(near, ranges, k, memory_bytes, length, scores)


def _pairs(
    near: Sorted, ranges: Ranges, k: int, memory_bytes: int, length: float, scores: Scores | None
) -> PairBuilder:
    if scores is None:
        scores = scores_for(near, ranges, k, length, memory_bytes // 4, short=multiplies_bfloat16())
    return PairBuilder(near, ranges, k, scores, memory_bytes, length)


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
