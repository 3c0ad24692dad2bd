"""The content hash: equality of data sets, embeddings, indexes and checkpoints means equality of these.

Each array is hashed as its little-endian bytes in row order; the arrays' hashes are then combined with their
names, dtypes and shapes. Times, hosts and paths never enter, so two builds of the same thing agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayHash:
    """SHA-256 of one array, fed by blocks of rows in order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._rows = 0
        self._tail: tuple[int, ...] | None = None
        self._dtype: str | None = None

    def update(self, rows: NDArray[Any] | list[str]) -> None:
        """Add a block of rows; all blocks share dtype and trailing shape. Strings count as UTF-8 with length."""
        if isinstance(rows, list) or rows.dtype.kind in "OUST":
            dtype, tail = "str", ()
            for text in rows:
                data = (text if isinstance(text, str) else bytes(text).decode()).encode()
                self._sha.update(len(data).to_bytes(4, "little") + data)
        else:
            little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
            dtype, tail = little.dtype.str.lstrip("<|"), rows.shape[1:]
            self._sha.update(little.data if little.size else b"")
        if self._dtype is not None and (dtype, tail) != (self._dtype, self._tail):
            msg = f"rows of {dtype}{tail} after rows of {self._dtype}{self._tail}"
            raise ValueError(msg)
        self._dtype, self._tail = dtype, tail
        self._rows += len(rows)

    def copy(self) -> ArrayHash:
        """One of the same rows so far, that goes on by itself."""
        other = ArrayHash()
        other._sha, other._rows, other._tail, other._dtype = self._sha.copy(), self._rows, self._tail, self._dtype
        return other

    def line(self, name: str) -> str:
        """`name dtype shape hash`, the text that enters the combined hash."""
        shape = (self._rows, *(self._tail or ()))
        return f"{json.dumps(name)} {self._dtype} {list(shape)} {self._sha.hexdigest()}"


def combine(hashes: Mapping[str, ArrayHash], about: object = None) -> str:
    """One SHA-256 hex digest over named arrays and, where given, a JSON-able description that is part of them."""
    lines = [hashes[name].line(name) for name in sorted(hashes)]
    lines.append(json.dumps(about, sort_keys=True, allow_nan=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def content_hash(arrays: Mapping[str, NDArray[Any] | list[str]], about: object = None) -> str:
    """The combined hash of arrays that are in memory at once."""
    hashes = {}
    for name, array in arrays.items():
        hashes[name] = ArrayHash()
        hashes[name].update(array)
    return combine(hashes, about)


def combine_shards(shards: Iterable[str]) -> str:
    """The hash of a data set from its shards' hashes in order; a single shard keeps its own."""
    digests = list(shards)
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
