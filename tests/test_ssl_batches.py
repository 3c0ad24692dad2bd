"""What training reads: every object once per epoch, in memory or in pools, and how well pools shuffle."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import CorruptError
from lookalike.samples import Samples
from lookalike.ssl import batches
from lookalike.ssl.batches import Batches, pooled_order
from lookalike.ssl.world import World

Write = Callable[..., Path]
CPU = torch.device("cpu")


def test_epoch_order_depends_on_seed_and_epoch_only() -> None:
    orders = [batches.epoch_order(seed, epoch, 50).tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@given(objects=st.integers(1, 60), block=st.integers(1, 70), per_pool=st.integers(2, 9), epoch=st.integers(0, 5))
def test_pools_hold_every_row_once_and_whole_blocks(objects: int, block: int, per_pool: int, epoch: int) -> None:
    pools = list(pooled_order(3, epoch, objects, block, per_pool))
    assert sorted(np.concatenate(pools).tolist()) == list(range(objects))
    assert all(len(pool) <= block * per_pool for pool in pools)
    held = np.concatenate([np.full(len(pool), number) for number, pool in enumerate(pools)])
    of = dict(zip(np.concatenate(pools).tolist(), held.tolist(), strict=True))
    split = sum(
        len({of[row] for row in range(start, min(start + block, objects))}) > 1 for start in range(0, objects, block)
    )
    assert split <= (len(pools) - 1 if objects % block else 0)  # only behind the short block do pools cut others
    again = list(pooled_order(3, epoch, objects, block, per_pool))
    assert all(np.array_equal(one, other) for one, other in zip(pools, again, strict=True))


@pytest.mark.parametrize("B", [1, 7, 16, 45])
@pytest.mark.parametrize("memory", [0, 30 * 24 * 24 * 3])
def test_batches_from_pools_are_the_stored_objects(
    blob_samples: Write, monkeypatch: pytest.MonkeyPatch, B: int, memory: int
) -> None:
    """Over shards, blocks that span them, a short last block, and batches that run on from pool to pool."""
    samples = Samples([blob_samples("a1.h5", n=40), blob_samples("a2.h5", n=33, seed=1)])
    monkeypatch.setattr(batches, "BLOCK", 6 * 24 * 24 * 3)
    read = Batches(samples, ("mag",), CPU, memory)
    assert not read.in_memory
    whole = list(read.epoch(0, 4, B))
    assert len(whole) == 73 // B
    seen = np.concatenate([batch.rows for batch in whole])
    assert len(np.unique(seen)) == len(seen) == 73 // B * B
    for batch in whole:
        assert batch.images.dtype == torch.float32
        assert np.array_equal(batch.images.numpy(), samples.objects(batch.rows).astype(np.float32))
        assert np.array_equal(batch.catalog["mag"].numpy(), samples.column("mag")[batch.rows])
    for first in range(len(whole) + 1):
        rest = list(read.epoch(0, 4, B, first))
        assert [batch.rows.tolist() for batch in rest] == [batch.rows.tolist() for batch in whole[first:]]
        assert all(torch.equal(one.images, other.images) for one, other in zip(rest, whole[first:], strict=True))


@given(
    objects=st.integers(4, 90),
    B=st.integers(2, 24),
    size=st.integers(1, 5),
    block=st.integers(1, 30),
    per_pool=st.integers(2, 5),
    first=st.integers(0, 3),
)
def test_processes_have_the_same_number_of_batches_and_no_row_twice(
    objects: int, B: int, size: int, block: int, per_pool: int, first: int
) -> None:
    read = Batches(Rows(objects), (), CPU, 0)
    read._block_rows, read._blocks_per_pool = block, per_pool
    epochs = [list(read.epoch(1, 2, B, first, World(CPU, rank, size))) for rank in range(size) if size <= B]
    assert {len(epoch) for epoch in epochs} <= {max(0, objects // B - first)}
    seen = np.concatenate([batch.rows for epoch in epochs for batch in epoch] or [np.empty(0, int)])
    assert len(np.unique(seen)) == len(seen)
    for batches_of_all in zip(*epochs, strict=True):
        assert sum(len(batch.rows) for batch in batches_of_all) == B
        for batch in batches_of_all:
            assert batch.images[:, 0, 0, 0].tolist() == batch.rows.tolist()


class Rows(Samples):
    """A stand-in whose pictures are their own row numbers."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    shape = (1, 1, 1)
    dtype = np.dtype(np.float32)

    def objects(self, rows: Any) -> Any:
        return np.asarray(rows, np.float32)[:, None, None, None]


def test_no_more_than_two_pools_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an epoch is read and its last batch is still held, beside what is copied of single batches."""
    made: list[Any] = []

    def read(self: Batches, pool: Any) -> Any:
        array = Counted(len(pool))
        made.append(weakref.ref(array))
        return pool, array

    class Counted(np.ndarray):  # a pool that can be watched
        def __new__(cls, n: int) -> Any:
            return np.zeros((n, 1, 1, 1), np.float32).view(cls)

    class AtOnce(Executor):  # a reader that always has a core: as early as a pool can be there
        def __init__(self, max_workers: int) -> None:
            assert max_workers == 1

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    monkeypatch.setattr(Batches, "_read", read)
    monkeypatch.setattr("lookalike.ssl.batches.ThreadPoolExecutor", AtOnce)
    read_ahead = Batches(Rows(600), (), CPU, 0)
    read_ahead._block_rows, read_ahead._blocks_per_pool = 10, 6
    most = 0
    for _ in read_ahead.epoch(0, 0, 7):
        most = max(most, sum(pool() is not None for pool in made))
    assert len(made) == 10
    assert most == 2


def test_in_memory_and_by_row_give_the_same_pictures(blob_samples: Write) -> None:
    samples = Samples([blob_samples("a1.h5", n=20), blob_samples("a2.h5", n=13, seed=1)])
    rows = np.array([32, 0, 20, 19])
    for memory in (0, 2**30):
        images, catalog = Batches(samples, ("mag",), CPU, memory).fetch(rows)
        assert np.array_equal(images.numpy(), samples.objects(rows).astype(np.float32))
        assert np.array_equal(catalog["mag"].numpy(), samples.column("mag")[rows])


def test_pools_shuffle_as_well_as_is_said() -> None:
    """Two objects of a batch share a block as often as among the pool's rows at random: (b − 1)/(W·b − 1).

    50 epochs of 9,600 rows in blocks of 15, pools of W = 64, batches of 64: 15 million pairs, 5σ by the batches'
    own scatter (odds 6e-7). A full shuffle would have (b − 1)/(N − 1), a tenth of it; no shuffle of blocks, most.
    """
    N, b, W, B = 9600, 15, 64, 64
    shares = []
    for epoch in range(50):
        order = np.concatenate(list(pooled_order(0, epoch, N, b, W)))
        for rows in order.reshape(-1, B):
            counts = np.bincount(rows // b)
            shares.append((counts * (counts - 1)).sum() / (B * (B - 1)))
    expected = (b - 1) / (W * b - 1)
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - expected) < 5 * error
    assert expected < 1.1 / W


def test_another_epoch_has_other_pools() -> None:
    """Blocks that shared a pool in one epoch share one in the next no more often than by chance."""
    of = []
    for epoch in (0, 1):
        pool_of = np.empty(640, int)
        for number, pool in enumerate(pooled_order(0, epoch, 9600, 15, 64)):
            pool_of[np.unique(pool // 15)] = number
        of.append(pool_of)
    together = [pool[:, None] == pool for pool in of]
    upper = np.triu_indices(640, 1)
    again = together[1][upper][together[0][upper]].mean()
    assert again == pytest.approx(63 / 639, abs=0.02)


def test_damage_met_by_the_reader_reaches_the_trainer(blob_samples: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = blob_samples(n=40)
    samples = Samples(path)
    monkeypatch.setattr(batches, "BLOCK", 5 * 24 * 24 * 3)
    read = Batches(samples, (), CPU, 0)

    def torn(rows: object) -> None:
        raise CorruptError(f"{path} cannot be read")

    monkeypatch.setattr(samples, "objects", torn)
    with pytest.raises(CorruptError, match="cannot be read"):
        list(read.epoch(0, 0, 8))


def test_leaving_an_epoch_early_ends_its_reader(blob_samples: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(batches, "BLOCK", 5 * 24 * 24 * 3)
    before = threading.active_count()
    epoch = Batches(Samples(blob_samples(n=40)), (), CPU, 0).epoch(0, 0, 8)
    next(epoch)
    assert threading.active_count() == before + 1
    epoch.close()
    assert threading.active_count() == before
