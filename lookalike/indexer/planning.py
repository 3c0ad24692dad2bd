"""What an index of so many objects would take: bytes, products, hours and memory, before anything is made."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings, normalize
from lookalike.errors import InputError

PROBE = 12_288  # objects of the small builds by which rates are measured
NARROWER = 0.25  # the window of the second one, as a share of the first one's
PROBE_K = 100
LEAST_SAMPLE = 1000  # vectors to measure with
TURNS = 3  # of each; the fastest counts
ID_BYTES = 24  # of an object's name, about
GPU_SHARE = 0.5  # of a GPU's peak that faiss reaches, about; never measured by this project


@dataclass(frozen=True)
class Rates:
    """Seconds per pair that is scored and per entry of a list, of vectors of D numbers, with all threads there are."""

    pair: float
    entry: float
    scores: str


@dataclass(frozen=True)
class Plan:
    """What the index of N objects would take; seconds are None where no rate is known."""

    objects: int
    dimensions: int
    k: int
    window_objects: int
    embeddings_bytes: int
    neighbors_bytes: int
    disk_bytes: int  # while it is built: the next version beside the served one, and the embeddings
    pairs: int  # each counted once
    flop: int
    memory_bytes_per_process: int
    seconds: float | None
    scores: str
    gpus: int
    gpu_bytes_each: int
    gpu_flop: int
    gpu_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    objects: int,
    dimensions: int,
    k: int,
    *,
    window_fraction: float = 1.0,
    dtype: str = "float32",
    memory_bytes: int = 2**30,
    gpus: int = 0,
    tflops: float | None = None,
    rates: Rates | None = None,
) -> Plan:
    """Work it out; InputError for what no index can be of.

    window_fraction : objects in a window, as a share of all. gpus, tflops : how many, and what each computes in float32
    at its peak. rates : what `measure_rates` told of this machine, for the CPU's seconds.
    """
    _check(objects, dimensions, k, window_fraction, gpus, tflops)
    window = max(1, round(objects * window_fraction))
    item = {"float32": 4, "float16": 2}[dtype]
    embeddings = objects * (dimensions * item + ID_BYTES)
    row = 4 if objects < 2**31 else 8
    neighbors = objects * k * (row + 4)
    # At the ends of the set windows are cut; of that of all objects nothing is.
    inside = objects * window - (window * window // 4 if window < objects else 0)
    pairs = max(0, inside - objects) // 2
    seconds = None
    if rates is not None:
        seconds = rates.pair * scored(objects, window, k, pairs) + rates.entry * objects * min(k, window - 1)
    gpu_flop = 4 * pairs * dimensions  # each pair twice: once for either object
    gpu_seconds = gpu_flop / (gpus * tflops * 1e12 * GPU_SHARE) if gpus and tflops else None
    return Plan(
        objects, dimensions, k, window, embeddings, neighbors, embeddings + 2 * neighbors, pairs,
        2 * pairs * dimensions, memory_bytes, seconds, "" if rates is None else rates.scores, gpus,
        -(-objects // gpus) * dimensions * item if gpus else 0, gpu_flop, gpu_seconds,
    )  # fmt: skip


def scored(objects: int, window: int, k: int, pairs: int) -> float:
    """Pairs that are scored, those of the samples by which lists are told what they need included."""
    from lookalike.indexer.hints import LEAST, share

    return pairs + objects * max(LEAST, share(k, window) * window)


def measure_rates(dimensions: int, k: int, *, work: float | None = None, vectors: NDArray[Any] | None = None) -> Rates:
    """Time small builds of this machine, of random vectors or of those given (n, D).

    work : products of all pairs of the index that is planned, by which scores are chosen.
    """
    from lookalike.indexer.neighbors import pair_builder
    from lookalike.indexer.windows import everyone, ranges

    rng = np.random.default_rng(0)
    sample = rng.standard_normal((PROBE, dimensions), np.float32) if vectors is None else np.asarray(vectors[:PROBE])
    sample = normalize(sample).astype(np.float32)
    n, some = len(sample), min(k, PROBE_K, max(1, len(sample) // 8))
    wide, narrow = everyone(n), ranges(np.arange(n, dtype=np.float64), NARROWER * n / 2)
    seconds, counted = [], []
    for within in (wide, narrow):
        best = math.inf
        for _ in range(TURNS):
            began = time.perf_counter()
            builder = pair_builder(sample, within, some, work=work)
            for _ in builder.blocks():
                pass
            best = min(best, time.perf_counter() - began)
        seconds.append(best)
        window = int(np.median(within.high - within.low))
        counted.append((scored(n, window, some, builder.tally.scored), n * some))
    pair, entry = np.linalg.solve(np.array(counted, np.float64), np.array(seconds))
    return Rates(max(float(pair), 0.0), max(float(entry), 0.0), builder.scores.name)


def read_sample(path: Path, dimensions: int) -> NDArray[Any]:
    """Vectors (n, D) of an embeddings file, in number as a small build takes; InputError where D is another."""
    found = Embeddings(path).vectors
    if found.shape[1] != dimensions:
        raise InputError(f"--dim is {dimensions}, but the vectors of {path} have {found.shape[1]} numbers.")
    if len(found) < LEAST_SAMPLE:
        raise InputError(f"To measure with, {LEAST_SAMPLE:,} vectors are needed, but {path} holds {len(found):,}.")
    some = np.random.default_rng(0).choice(len(found), min(len(found), PROBE), replace=False)
    return np.asarray(found[np.sort(some)])


def _check(objects: int, dimensions: int, k: int, window_fraction: float, gpus: int, tflops: float | None) -> None:
    if objects < 2:
        raise InputError(f"An index needs at least 2 objects, but {objects} were given.")
    if dimensions < 1:
        raise InputError(f"Vectors have at least 1 dimension, but {dimensions} were given.")
    if not 1 <= k < objects:
        raise InputError(f"k is 1 to {objects - 1:,}, one less than there are objects, but {k:,} was given.")
    if not 0 < window_fraction <= 1:
        raise InputError(f"A window holds a share above 0 and up to 1 of all objects, but {window_fraction} was given.")
    if gpus < 0:
        raise InputError(f"The number of GPUs is not negative, but {gpus} was given.")
    if tflops is not None and not (math.isfinite(tflops) and tflops > 0):
        raise InputError(f"A GPU computes a positive number of TFLOP/s, but {tflops} was given.")
