"""How fast neighbor lists become a table: `lookalike export`, from index folder to file, beside a bare write.

The index is made up: its lists are drawn at random, as only their number and order matter here. The limit is pyarrow
writing a table of the same rows that is in memory already, with its own defaults and with our settings.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.about import CATALOG, TABLE, About, Column
from lookalike.errors import unknown
from lookalike.files import write_json
from lookalike.hashing import combine
from lookalike.indexer.export import export_lists
from lookalike.indexer.export_formats import WRITERS
from lookalike.indexer.lists_file import KIND, NEIGHBORS, ListWriter
from lookalike.indexer.manifest import MANIFEST, BelongsTo, Manifest, StoredFile, sha256_of
from lookalike.indexer.store import publish, version_folder
from lookalike.parallel import processors
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples

PAGE = os.sysconf("SC_PAGE_SIZE")
TARGET = 20e6  # rows a minute
BLOCK = 4096  # lists drawn at once


def bench_export(
    *, objects: int = 200_000, k: int = 100, formats: Sequence[str] = (), rounds: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Time the export of all lists of a made-up index of `objects`, in turn with the limit; the median counts.

    Returns {"rows", "objects", "k", "cores", "target_rows_per_minute", "limit_rows_per_minute",
    "limit_own_settings_rows_per_minute", "cases": [{"format", "columns", "seconds", "rows_per_minute", "bytes",
    "memory_mb"}]}, where `memory_mb` is the most that was held above what there was before.
    """
    endings = [f".{name.removeprefix('.')}" for name in formats] or [".parquet"]
    for ending in endings:
        if ending not in WRITERS:
            raise unknown("format", ending, WRITERS)
    cases = [(ending, columns) for ending in endings for columns in ((), ("mag", "kind"))]
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as name:
        folder = Path(name)
        index = made_up_index(folder, objects, k, seed)
        times: dict[Any, list[float]] = {case: [] for case in [*cases, "limit", "own"]}
        memory: dict[Any, float] = {}
        for turn in range(rounds + 1):  # the first warms the files' cache and the imports up, and is not counted
            for case in cases:
                out = _out(folder, case)
                _settle()
                began = time.perf_counter()
                with _Peak() as peak:
                    export_lists(index, out, columns=case[1], overwrite=True, quiet=True)
                if turn:
                    times[case].append(time.perf_counter() - began)
                # The first turn counts here: what it was given stays with the process.
                memory[case] = max(memory.get(case, 0.0), peak.megabytes)
            for way, limit in (("limit", _bare), ("own", _as_ours)):
                seconds = _limit(folder, objects, k, limit)
                if turn:
                    times[way].append(seconds)
        rows = objects * k
        rate = {case: 60 * rows / statistics.median(seconds) for case, seconds in times.items()}
        return {
            "rows": rows,
            "objects": objects,
            "k": k,
            "cores": processors(),
            "target_rows_per_minute": TARGET,
            "limit_rows_per_minute": rate["limit"],
            "limit_own_settings_rows_per_minute": rate["own"],
            "cases": [
                {
                    "format": case[0][1:],
                    "columns": list(case[1]),
                    "seconds": statistics.median(times[case]),
                    "rows_per_minute": rate[case],
                    "bytes": _out(folder, case).stat().st_size,
                    "memory_mb": memory[case],
                }
                for case in cases
            ],
        }


def _out(folder: Path, case: tuple[str, tuple[str, ...]]) -> Path:
    ending, columns = case
    return folder / f"lists{len(columns)}{ending}"


def made_up_index(folder: Path, n: int, k: int, seed: int) -> Path:
    """An index folder of n objects with full lists of k other rows drawn at random, and samples without pictures."""
    rng = np.random.default_rng(seed)
    samples = folder / "samples.h5"
    about = About(domain=TABLE, bands=(), layout=CATALOG)
    with write_samples(samples, about, {"mag": Column("mag", "drawn"), "kind": Column("", "drawn")}) as writer:
        kinds = np.array(["spiral", "elliptical", "edge-on", ""])
        ids = [f"object-{row:09d}" for row in range(n)]
        writer.append(ids, None, {"mag": rng.normal(20, 1, n), "kind": kinds[rng.integers(0, 4, n)]})
    version = version_folder(folder / "index", "v000001")
    version.mkdir(parents=True)
    lists = ListWriter(version / NEIGHBORS, n, k)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        near = (rows[:, None] + rng.integers(1, n, (len(rows), k))) % n  # never the object itself
        similarity = -np.sort(-rng.uniform(0.3, 1, (len(rows), k)).astype(np.float32), axis=1)
        lists.write(rows, near, similarity)
    arrays, hashes = lists.close()
    manifest = Manifest(
        version="v000001",
        content_hash=combine(hashes, {"kind": KIND}),
        n=n,
        dimensions=1,
        k=k,
        window=None,
        counts={},
        max_length=1.0,
        footprint_px=0,
        footprint_from="",
        arrays=arrays,
        files={
            NEIGHBORS: StoredFile(bytes=(version / NEIGHBORS).stat().st_size, sha256=sha256_of(version / NEIGHBORS))
        },
        samples=BelongsTo(content_hash=Samples(samples).content_hash, paths=("../samples.h5",)),
        embeddings=BelongsTo(content_hash=""),
    )
    write_json(version / MANIFEST, manifest.model_dump(mode="json"))
    publish(folder / "index", "v000001")
    return folder / "index"


def _limit(folder: Path, n: int, k: int, write: Callable[[Any, Path], None]) -> float:
    """Seconds for n * k rows at the pace at which pyarrow writes about a million, a table in memory."""
    import pyarrow as pa

    rng = np.random.default_rng(1)
    objects = max(1, 2**20 // k)
    ids = pa.array([f"object-{row:09d}" for row in range(objects)])
    rows = objects * k
    table = pa.table(
        {
            "id": pa.DictionaryArray.from_arrays(np.repeat(np.arange(objects, dtype=np.int32), k), ids),
            "neighbor_id": pa.DictionaryArray.from_arrays(rng.integers(0, objects, rows).astype(np.int32), ids),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), objects),
            "similarity": rng.uniform(0.3, 1, rows).astype(np.float32),
        }
    )
    _settle()
    began = time.perf_counter()
    write(table, folder / "limit.parquet")
    return (time.perf_counter() - began) * n * k / rows


def _bare(table: Any, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path)


def _as_ours(table: Any, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=["id", "neighbor_id"],
        use_byte_stream_split=["similarity"],
        store_schema=False,
    )


def _settle() -> None:
    """Bring to the disk what was written before, which else slows down what is timed."""
    os.sync()


class _Peak:
    """The most memory held within a `with` block above that at its start, looked at a hundred times a second."""

    megabytes = 0.0

    def __enter__(self) -> _Peak:
        self._start, self._done = _resident(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self.megabytes = max(self.megabytes, (_resident() - self._start) / 1e6)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
