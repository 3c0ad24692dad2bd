"""Run by the rivals' own Python, which has none of ours: one query by one of them, timed.

python search_rivals.py usearch|lancedb VECTORS.npy K ROUNDS SCRATCH → one line of JSON: version, seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BLOCK_ROWS = 2**14


def usearch(vectors: Any, k: int, scratch: Path) -> tuple[str, Callable[[Any], Any]]:
    """Exact search of usearch over the mapped array."""
    import usearch as package  # type: ignore[import-not-found]
    from usearch.index import MetricKind, search  # type: ignore[import-not-found]

    return package.__version__, lambda query: search(vectors, query, k, MetricKind.IP, exact=True)


def lancedb(vectors: Any, k: int, scratch: Path) -> tuple[str, Callable[[Any], Any]]:
    """A flat scan by LanceDB, of a table without an index."""
    import lancedb as package  # type: ignore[import-not-found]
    import pyarrow as pa

    width = vectors.shape[1]
    item = pa.float16() if vectors.dtype == np.float16 else pa.float32()
    schema = pa.schema([("vector", pa.list_(item, width))])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(vectors), BLOCK_ROWS):
            flat = pa.array(np.ascontiguousarray(vectors[start : start + BLOCK_ROWS]).reshape(-1), item)
            yield pa.RecordBatch.from_arrays([pa.FixedSizeListArray.from_arrays(flat, width)], schema=schema)

    database = package.connect(str(scratch / "lance"))
    table = database.create_table("vectors", data=batches(), schema=schema)

    def find(query: Any) -> Any:
        # Only row numbers and distances are asked for, as the others give.
        return table.search(query).distance_type("dot").select([]).with_row_id(True).limit(k).to_arrow()

    return package.__version__, find


def main(name: str, path: str, k: str, rounds: str, scratch: str) -> None:
    vectors = np.load(path, mmap_mode="r")
    query = np.array(vectors[len(vectors) // 2])
    version, find = {"usearch": usearch, "lancedb": lancedb}[name](vectors, int(k), Path(scratch))
    seconds = []
    for turn in range(int(rounds) + 1):
        began = time.perf_counter()
        find(query)
        if turn:  # the first one warms
            seconds.append(time.perf_counter() - began)
    print(json.dumps({"version": version, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
