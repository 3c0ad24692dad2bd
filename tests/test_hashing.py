"""The content hash: equal for equal contents however they are cut, different for anything else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.hashing import ArrayHash, combine, combine_shards, content_hash


def test_the_hash_is_the_one_defined() -> None:
    values = np.array([[1, 2], [3, 4]], "<i4")
    line = f'"x" i4 [2, 2] {hashlib.sha256(values.tobytes()).hexdigest()}'
    assert content_hash({"x": values}) == hashlib.sha256(f"{line}\nnull".encode()).hexdigest()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_block_sizes_and_byte_order_do_not_matter(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((sum(sizes), 3))
    blocks = ArrayHash()
    for block in np.split(values, np.cumsum(sizes)[:-1]):
        blocks.update(block.astype(">f8"))
    assert combine({"x": blocks}) == content_hash({"x": values})


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_text_hashes_are_equal_only_for_equal_texts(a: list[str], b: list[str]) -> None:
    assert (content_hash({"t": a}) == content_hash({"t": b})) == (a == b)


def test_name_shape_dtype_and_description_count() -> None:
    values = np.zeros((2, 3), np.float32)
    hashes = [
        content_hash({"x": values}),
        content_hash({"y": values}),
        content_hash({"x": values.reshape(3, 2)}),
        content_hash({"x": values.astype(np.float64)}),
        content_hash({"x": values}, {"domain": "galaxy"}),
    ]
    assert len(set(hashes)) == len(hashes)


def test_blocks_of_another_shape_are_refused() -> None:
    hashed = ArrayHash()
    hashed.update(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="after rows of"):
        hashed.update(np.zeros((2, 4)))


def test_one_shard_keeps_its_hash_and_order_counts() -> None:
    assert combine_shards(["a"]) == "a"
    assert combine_shards(["a", "b"]) != combine_shards(["b", "a"])


def test_a_copy_goes_on_by_itself() -> None:
    first, second = np.arange(6.0).reshape(3, 2), np.ones((4, 2))
    one = ArrayHash()
    one.update(first)
    other = one.copy()
    other.update(second)
    alone, both = ArrayHash(), ArrayHash()
    alone.update(first)
    both.update(np.concatenate([first, second]))
    assert one.line("x") == alone.line("x")
    assert other.line("x") == both.line("x")
