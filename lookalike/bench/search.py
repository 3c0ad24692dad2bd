"""One live query over many vectors, memory-mapped, beside the matrix-vector product and beside rivals in one run.

Ours is that of an index, which reads its rounded vectors first; "unrounded" is the same without them.

Rivals that are only measured live in a virtual environment of their own: `search_rivals.py` is run by its Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.bench.turns import rest
from lookalike.errors import InputError, NotFoundError
from lookalike.indexer.live import ranking
from lookalike.indexer.rounded import Rounded, rounded_bytes
from lookalike.indexer.rounded_build import write_rounded
from lookalike.indexer.rounded_search import rounded_in_reach
from lookalike.parallel import processors
from lookalike.progress import progress

LONGEST = 1 + 1e-6  # of the vectors, as they are stored
BLOCK_ROWS = 2**14
RIVALS = ("usearch", "lancedb")
NAMED = "0" * 64  # in place of the hash of embeddings that are none of an index


def bench_search(
    *,
    objects: int = 1_000_000,
    dimensions: int = 512,
    k: int = 100,
    rounds: int = 7,
    scratch: Path | None = None,
    rivals: Path | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> dict[str, Any]:
    """Seconds of one query among random unit vectors (objects, dimensions), the contenders in turn; medians and best.

    scratch : folder for the vectors' file, which is removed at the end (default: the system's). rivals : folder of a
    virtual environment that holds usearch and lancedb; without one they are not measured, and the report says so.
    Returns seconds by contender ({"median", "best"}), cold and of rounding, ratios, whether ours is the exact answer,
    and "not_measured" with reasons. InputError for what is out of range.
    """
    if objects < 10 or dimensions < 1 or not 1 <= k < objects or rounds < 1:
        raise InputError(
            "At least 10 objects of 1 dimension, 1 ≤ k < objects and 1 round are needed, but "
            f"objects = {objects}, dimensions = {dimensions}, k = {k}, rounds = {rounds} was given."
        )
    if dtype not in ("float32", "float16"):
        raise InputError(f"Vectors are float32 or float16, but {dtype} was given.")
    if scratch is not None and not scratch.is_dir():
        raise NotFoundError(f"The vectors are written to a folder, but {scratch} is none.")
    with tempfile.TemporaryDirectory(dir=scratch, prefix="lookalike-bench-") as folder:
        path = Path(folder) / "vectors.npy"
        _write_vectors(path, objects, dimensions, np.dtype(dtype), seed)
        vectors = np.load(path, mmap_mode="r")
        query = np.array(vectors[objects // 2])
        began = time.perf_counter()
        rounded = _rounded(Path(folder) / "rounded", vectors)
        rounding = time.perf_counter() - began
        for with_them in (rounded, None):  # compiled before anything is timed
            ranking(vectors, None, query, k, LONGEST, with_them)
        cold = _cold(path, vectors, rounded, query, k)
        seconds, equal = _in_turn(vectors, rounded, query, k, rounds)
        read = len(rounded_in_reach(rounded, None, query, k, LONGEST))
        others, not_measured = _rivals(rivals, path, k, rounds)
    seconds |= {name: other["seconds"] for name, other in others.items()}
    return {
        "n": objects,
        "d": dimensions,
        "k": k,
        "dtype": dtype,
        "threads": processors(),
        "gigabytes": round(objects * dimensions * np.dtype(dtype).itemsize / 1e9, 3),
        "rounds": rounds,
        "seconds": seconds,
        "versions": {name: other["version"] for name, other in others.items()},
        "cold_seconds": cold,
        "rounding_seconds": rounding,
        "rounded_gigabytes": round(rounded_bytes(objects, dimensions) / 1e9, 3),
        "rows_read_unrounded": read,
        "not_measured": not_measured,
        "equal": equal,
        **_ratios(seconds),
    }


def _ratios(seconds: dict[str, dict[str, float]]) -> dict[str, float]:
    """Ours over the faster product, and each rival over ours, by the medians."""
    mine = seconds["lookalike"]["median"]
    products = [seconds[name]["median"] for name in ("numpy", "torch") if name in seconds]
    ratios = {"of_matvec": mine / min(products)}
    for name, taken in seconds.items():
        if name not in ("lookalike", "numpy", "torch"):
            ratios[f"speedup_vs_{name}"] = taken["median"] / mine
    ratios["unrounded_of_matvec"] = seconds["unrounded"]["median"] / min(products)
    return ratios


def _write_vectors(path: Path, n: int, d: int, dtype: np.dtype[Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = np.lib.format.open_memmap(path, "w+", dtype, (n, d))
    with progress("Drawing vectors", n, "vectors") as advance:
        for start in range(0, n, BLOCK_ROWS):
            block = rng.standard_normal((min(BLOCK_ROWS, n - start), d), dtype=np.float32)
            made[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
            advance(len(block))
    made.flush()


def _rounded(folder: Path, vectors: NDArray[Any]) -> Rounded:
    """The vectors rounded as a build rounds them."""
    folder.mkdir()
    write_rounded(folder, vectors, NAMED)
    return Rounded(folder, NAMED)


def _cold(path: Path, vectors: NDArray[Any], rounded: Rounded, query: NDArray[Any], k: int) -> dict[str, float]:
    """Seconds of our query, with and without rounded vectors, with nothing of the files in memory, as far as the system
    drops it when asked.
    """
    files = [path, *sorted(rounded.folder.iterdir())]
    for each in files:
        with each.open("rb") as file:
            os.fsync(file.fileno())
    taken = {}
    for name, fresh in (("lookalike", Rounded(rounded.folder, NAMED)), ("unrounded", None)):
        again: NDArray[Any] = np.load(path, mmap_mode="r")
        _let_go(vectors, rounded.codes, rounded.scales)
        for each in files:
            with each.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        ranking(again, None, query, k, LONGEST, fresh)
        taken[name] = time.perf_counter() - began
        _let_go(again)
        if fresh is not None:
            _let_go(fresh.codes, fresh.scales)
    return taken


def _let_go(*arrays: NDArray[Any]) -> None:
    """What is mapped stays in memory, so the maps let go of it before the files' pages are dropped."""
    import mmap

    for array in arrays:
        held: Any = array
        while held is not None and not isinstance(held, mmap.mmap):
            held = held.base
        if held is not None:
            held.madvise(mmap.MADV_DONTNEED)


def _in_turn(
    vectors: NDArray[Any], rounded: Rounded, query: NDArray[Any], k: int, rounds: int
) -> tuple[dict[str, dict[str, float]], bool]:
    """Seconds by contender, each in turn after rest and one that does not count, and whether our answer is right."""
    import faiss
    import torch

    plain = np.asarray(vectors)
    contenders: dict[str, Callable[[], Any]] = {
        "lookalike": lambda: ranking(vectors, None, query, k, LONGEST, rounded),
        "unrounded": lambda: ranking(vectors, None, query, k, LONGEST),
    }
    if plain.dtype == np.float32:
        index = faiss.IndexFlatIP(plain.shape[1])
        index.add(plain)  # its own copy: faiss does not search a map
        contenders["faiss"] = lambda: index.search(query[None], k)
    wide = plain if plain.dtype == np.float32 else plain.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the map cannot be written to, which nobody tries
        matrix, column = torch.from_numpy(wide), torch.from_numpy(query.astype(np.float32))
    narrow = query.astype(np.float32)
    contenders |= {"numpy": lambda: wide @ narrow, "torch": lambda: torch.mv(matrix, column)}
    before = torch.get_num_threads()
    torch.set_num_threads(processors())
    try:
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        with progress("Searching", rounds, "rounds") as advance:
            for _ in range(rounds):
                for name, run in contenders.items():
                    rest()
                    run()  # what the one before left in the processor's caches is gone then
                    began = time.perf_counter()
                    run()
                    taken[name].append(time.perf_counter() - began)
                advance(1)
    finally:
        torch.set_num_threads(before)
    rows, similarity = ranking(vectors, None, query, k, LONGEST, rounded)
    return {name: _summed(values) for name, values in taken.items()}, _is_exact(vectors, query, rows, similarity)


def _is_exact(vectors: NDArray[Any], query: NDArray[Any], rows: NDArray[np.int64], similarity: NDArray[Any]) -> bool:
    """Whether nothing left out is more similar than the last found, by products in float64."""
    wide, best = query.astype(np.float64), np.empty(0)
    for start in range(0, len(vectors), BLOCK_ROWS):
        score = vectors[start : start + BLOCK_ROWS].astype(np.float64) @ wide
        best = np.sort(np.concatenate([best, score]))[-len(rows) :]
    return bool(np.allclose(np.sort(similarity.astype(np.float64)), best, rtol=0, atol=1e-7))


def _summed(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "best": min(values)}


def _rivals(folder: Path | None, path: Path, k: int, rounds: int) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Seconds of the rivals, and why some were not measured."""
    if folder is None:
        return {}, dict.fromkeys(RIVALS, "no --rivals folder was given (a virtual environment that holds it)")
    python = folder / "bin" / "python"
    if not python.exists():
        return {}, dict.fromkeys(RIVALS, f"{folder} is no virtual environment")
    found, missed = {}, {}
    program = Path(__file__).with_name("search_rivals.py")
    # Without ours on its path; each by itself, so that one's memory and threads are not another's.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name in RIVALS:
        command = [str(python), "-I", str(program), name, str(path), str(k), str(rounds), str(path.parent)]
        print(f"Searching with {name}", file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=kept)
        if done.returncode:
            missed[name] = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        found[name] = {"seconds": _summed(told["seconds"]), "version": told["version"]}
    return found, missed
