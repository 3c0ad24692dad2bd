"""The build by devices: shares, windows that slide, failures, and the GPU's own code with its calls replaced.

pytest tests/test_indexer_devices.py
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.errors import LookalikeError
from lookalike.indexer import blocks, devices, shares
from lookalike.indexer.blocks import BlockBuilder
from lookalike.indexer.devices import CpuDevice, CpuPart, Device, DeviceError, GpuDevice, find_devices, score_error
from lookalike.indexer.neighbors import builder_of, exact_neighbors
from lookalike.indexer.ordered import Sorted, longest
from lookalike.indexer.shares import Shares
from lookalike.indexer.similarity import similarities
from lookalike.indexer.windows import everyone, ranges

Lists = tuple[NDArray[np.int64], NDArray[np.float32]]


def unit(vectors: NDArray[Any], dtype: str = "float32") -> NDArray[Any]:
    wide = vectors.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(dtype)


def lists(vectors: NDArray[Any], k: int, x: NDArray[np.float64] | None, w: float = 0.2, **options: Any) -> Lists:
    """The lists of all objects; without `devices` the CPU's own way, which other tests hold to the definition."""
    rows = np.full((len(vectors), k), -1, np.int64)
    values = np.full((len(vectors), k), np.nan, np.float32)
    within = everyone(len(vectors)) if x is None else ranges(x, w)
    for found in exact_neighbors(vectors, within, k, **options):
        rows[found.rows], values[found.rows] = found.neighbor_row, found.similarity
    return rows, values


def same(one: Lists, other: Lists) -> bool:
    return one[0].tobytes() == other[0].tobytes() and one[1].tobytes() == other[1].tobytes()


def magnitudes(n: int, seed: int = 1) -> NDArray[np.float64]:
    return np.round(np.random.default_rng(seed).normal(18, 0.5, n), 3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_any_number_of_devices_finds_the_same_lists(
    number: int, windowed: bool, short: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MOST_QUERIES", 100)
    monkeypatch.setattr(shares, "LOADED", 4 * 24 * 17)
    vectors = unit(np.random.default_rng(0).normal(size=(900, 24)) * np.linspace(3, 0.1, 24), dtype)
    x = magnitudes(900) if windowed else None
    expected = lists(vectors, 25, x)
    for room in (2**20, 20_000, 300):  # all, some windows, and 3 vectors or 6
        some = [CpuDevice(room, short=short) for _ in range(number)]
        assert same(lists(vectors, 25, x, devices=some), expected), f"{room} bytes each"


def test_each_vector_lies_on_one_device_and_is_brought_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the windows move up, what is still needed is moved, not loaded again."""
    monkeypatch.setattr(blocks, "MOST_QUERIES", 50)
    loaded: list[tuple[int, int]] = []
    load = CpuPart.load

    def counted(self: CpuPart, column: int, vectors: NDArray[Any]) -> None:
        loaded.append((id(self), len(vectors)))
        load(self, column, vectors)

    monkeypatch.setattr(CpuPart, "load", counted)
    vectors = unit(np.random.default_rng(3).normal(size=(2000, 8)))
    lists(vectors, 10, magnitudes(2000), 0.1, devices=[CpuDevice(2**20) for _ in range(4)])
    parts = {part for part, _ in loaded}
    assert [sum(n for part, n in loaded if part == one) for one in parts] == [500] * 4
    # A window of 0.1 is some 200 to 300 objects; a fourth of 700 leave room for it to move.
    loaded.clear()
    lists(vectors, 10, magnitudes(2000), 0.1, devices=[CpuDevice(700 * 8 * 4 // 4) for _ in range(4)])
    assert sum(n for _, n in loaded) == 2000


@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), k=st.integers(1, 70), number=st.integers(1, 4),
    most=st.integers(1, 12), room=st.integers(0, 2000), short=st.booleans(), width=st.sampled_from([0.0, 0.05, 9.0]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_devices_that_select_few_and_hold_little_are_exact(
    seed: int, n: int, k: int, number: int, most: int, room: int, short: bool, width: float
) -> None:
    """Duplicates and equal values included; most : neighbors selected at once, far fewer than are asked for."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.integers(-2, 3, (n, 4)) + 0.01)
    x = np.round(rng.normal(18, 0.1, n), 2)
    x[rng.random(n) < 0.1] = np.nan
    some = [CpuDevice(room, short=short, most=most) for _ in range(number)]
    assert same(lists(vectors, k, x, width, devices=some), lists(vectors, k, x, width))


@pytest.mark.parametrize("k", [100, 1800, 2100, 2899])
def test_more_neighbors_than_a_device_selects_are_shared_out(k: int) -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(2900, 24)))
    device = CpuDevice(2**20, short=True, most=devices.GPU_LIMIT)
    assert same(lists(vectors, k, magnitudes(2900), 2.0, devices=[device]), lists(vectors, k, magnitudes(2900), 2.0))
    made = Shares(Sorted(vectors, np.arange(2900), 2**20), [device], k + max(32, k // 8) + 1, 2**20, 1.0)
    assert made.count == (1 if k <= 1800 else 2)
    assert made._likely() <= devices.GPU_LIMIT


def test_scores_of_float16_keep_to_their_bound_and_need_it() -> None:
    """The bound covers rounding both vectors; without its share for that, it would not."""
    for seed, d in enumerate((1, 3, 64, 700)):
        vectors = unit(np.random.default_rng(seed).normal(size=(300, d)) ** 3)
        part = CpuDevice(2**20).part(300, d, True)
        part.load(0, vectors)
        off = 0.0
        for query in range(20):
            score = part.scores(vectors[query : query + 1], 0, 300)[0]
            off = max(
                off, float(np.abs(score - similarities(vectors, np.arange(300), vectors[query]).astype(float)).max())
            )
        bound = score_error(CpuDevice(0, short=True), d, longest(vectors), stored_half=False)
        assert off <= bound < 2e-3
        if d > 1:
            assert off > score_error(CpuDevice(0, short=True), d, longest(vectors), stored_half=True)


class Wrong(CpuPart):
    """Off by more than can be."""

    def search(self, queries: NDArray[Any], start: int, stop: int, k: int) -> Any:
        score, column = super().search(queries, start, stop, k)
        return score + np.float32(0.01), column


def test_a_device_that_errs_more_than_is_proven_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuDevice, "part", lambda self, rows, d, half: Wrong(rows, d, half))
    vectors = unit(np.random.default_rng(0).normal(size=(50, 8)))
    with pytest.raises(LookalikeError, match="proven error"):
        list(exact_neighbors(vectors, everyone(50), 3, devices=[CpuDevice(2**20)]))


class Failing(CpuPart):
    """Out of memory after some searches."""

    left = 3

    def search(self, queries: NDArray[Any], start: int, stop: int, k: int) -> Any:
        Failing.left -= 1
        if Failing.left < 0:
            raise RuntimeError("CUDA error: out of memory\nmore about it")
        return super().search(queries, start, stop, k)


def test_where_a_device_fails_the_cpu_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuDevice, "part", lambda self, rows, d, half: Failing(rows, d, half))
    monkeypatch.setattr(Failing, "left", 3)
    monkeypatch.setattr(blocks, "MOST_QUERIES", 64)
    vectors = unit(np.random.default_rng(0).normal(size=(500, 8)))
    builder = builder_of(vectors, everyone(500), 9, devices=[CpuDevice(2**20)])
    found = list(builder.blocks())
    rows = np.concatenate([block.rows for block in found])
    assert rows.tolist() == list(range(500))
    assert np.concatenate([block.neighbor_row for block in found]).tobytes() == lists(vectors, 9, None)[0].tobytes()
    assert builder.done == 500
    assert list(builder.notes) == [
        "A device failed after 192 of 500 objects (CUDA error: out of memory): the others were searched pair by pair "
        "on the CPU."
    ]


def test_a_failure_without_another_way_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuDevice, "part", lambda self, rows, d, half: Failing(rows, d, half))
    monkeypatch.setattr(Failing, "left", 0)
    vectors = unit(np.random.default_rng(0).normal(size=(50, 8)))
    near, within = Sorted(vectors, np.arange(50), 2**20), everyone(50)
    for some in (1, 2):
        with pytest.raises(DeviceError, match=r"^CUDA error: out of memory$"):
            list(BlockBuilder(near, within, 3, [CpuDevice(2**20)] * some, 2**20, 1.0).blocks())


# the GPU's own code


def replaced(monkeypatch: pytest.MonkeyPatch, number: int, free: int = 2**30, *, short: bool = False) -> list[Any]:
    """GPUs whose memory is the CPU's and whose search is faiss's on the CPU; returns the sizes of the searches."""
    import faiss
    import faiss.contrib.torch_utils
    import torch

    asked: list[Any] = []

    def knn_gpu(resources: object, xq: Any, xb: Any, k: int, *, metric: int, device: int) -> Any:
        asked.append((device, xb.dtype, k))
        assert metric == faiss.METRIC_INNER_PRODUCT
        assert k <= devices.GPU_LIMIT
        best = torch.topk(xq.float() @ xb.float().T, k, dim=1)
        return best.values, best.indices

    class OnCpu(GpuDevice):
        def __init__(self, number: int) -> None:
            super().__init__(number, short=short)
            self.where = torch.device("cpu")

    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: number, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: "Some GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda n: (free // (n + 1), 2 * free))
    monkeypatch.setattr(torch.cuda, "device", lambda n: contextlib.nullcontext())
    monkeypatch.setattr(devices, "GpuDevice", OnCpu)
    return asked


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize(("dtype", "short"), [("float32", False), ("float32", True), ("float16", False)])
@pytest.mark.parametrize("number", [1, 3])
def test_the_gpus_code_finds_the_same_lists(
    number: int, dtype: str, short: bool, windowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replaced(monkeypatch, number, short=short)
    monkeypatch.setattr(blocks, "MOST_QUERIES", 100)
    monkeypatch.setattr(devices, "GPU_SHARE", 20_000 / 2**30)  # windows slide
    monkeypatch.setattr(devices, "LEAST_ROOM", 0)
    monkeypatch.setattr(devices, "MOVED", 999)
    vectors = unit(np.random.default_rng(0).normal(size=(1200, 24)), dtype)
    x = magnitudes(1200) if windowed else None
    some, how = find_devices()
    assert how == "with faiss on " + ", ".join(f"Some GPU (GPU {n})" for n in range(number))
    assert same(lists(vectors, 25, x, devices=some), lists(vectors, 25, x))
    assert {device for device, _, _ in asked} == set(range(number))
    held = "float16" if short else dtype
    assert {str(dtype) for _, dtype, _ in asked} == {f"torch.{held}"}


def test_why_there_is_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss
    import torch

    replaced(monkeypatch, 3, free=2**29)
    assert find_devices()[1] == "with faiss on Some GPU (GPU 0); 2 more had too little memory free"
    replaced(monkeypatch, 2, free=2**20)
    assert find_devices() == ([], "pair by pair on the CPU: of 2 found, no GPU has 366 MiB free")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_devices()[0] == []
    assert "torch is built without CUDA" in find_devices()[1]
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert find_devices() == ([], "pair by pair on the CPU: no GPU was found")
    monkeypatch.delattr(faiss, "StandardGpuResources")
    assert find_devices() == ([], "pair by pair on the CPU: this faiss is built without GPU support")


def gpus_or_skip() -> list[Device]:
    found, how = find_devices()
    if not found:
        pytest.skip(how)
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("windowed", [False, True])
def test_gpus_find_the_lists_of_the_cpu(windowed: bool, dtype: str) -> None:
    found = gpus_or_skip()
    vectors = unit(np.random.default_rng(2).normal(size=(20_000, 256)), dtype)
    x = magnitudes(20_000) if windowed else None
    assert same(lists(vectors, 100, x, devices=found), lists(vectors, 100, x))


@pytest.mark.gpu
@pytest.mark.parametrize("k", [100, 1800, 2048, 2100, 2899])
def test_gpus_find_more_neighbors_than_they_select(k: int) -> None:
    found = gpus_or_skip()
    vectors = unit(np.random.default_rng(1).normal(size=(2900, 24)))
    assert same(lists(vectors, k, magnitudes(2900), 2.0, devices=found), lists(vectors, k, magnitudes(2900), 2.0))


@pytest.mark.gpu
def test_gpus_keep_to_their_bound() -> None:
    for device in gpus_or_skip():
        for d in (3, 64, 512, 2048):
            for half in (False, True):
                vectors = unit(np.random.default_rng(d).normal(size=(2000, d)), "float16" if half else "float32")
                part = device.part(2000, d, half)
                part.load(0, vectors.astype(np.float32))
                score, column = part.search(vectors[:50].astype(np.float32), 0, 2000, 2000)
                bound = score_error(device, d, longest(vectors), stored_half=half)
                for query in range(50):
                    truth = similarities(vectors, column[query], vectors[query]).astype(float)
                    assert np.abs(score[query] - truth).max() <= bound
