"""Entries of lists as numbers that sort as neighbors do, so that lists are merged by sorting numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.lists import lower, upper
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.windows import Places

Keys = NDArray[np.uint64]

END = np.uint64(2**64 - 1)  # sorts after every neighbor: where a list has ended
MOST = 2**32  # rows that a key can tell apart


def keys_of(rows: NDArray[np.integer[Any]], similarity: Similarities) -> Keys:
    """Rows (…) and their canonical similarities as keys: the least is the best by (−similarity, row); −1 is END."""
    known = np.where(rows < 0, np.float32(0), similarity)
    keys = upper(known).astype(np.uint64) << np.uint64(32) | rows.astype(np.int64).astype(np.uint64)
    return np.where(rows < 0, END, keys)


def entries_of(keys: Keys) -> tuple[Places, Similarities]:
    """Keys (…) back as rows, −1 where a list has ended, and similarities, NaN there."""
    ended = keys == END
    rows = np.where(ended, -1, (keys & np.uint64(MOST - 1)).astype(np.int64))
    return rows, np.where(ended, np.float32(np.nan), lower((keys >> np.uint64(32)).astype(np.uint32)))
