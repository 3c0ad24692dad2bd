"""What an index of so many objects would take: bytes, products, hours and memory, before anything is made."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings, normalize
from lookalike.errors import InputError
from lookalike.hashing import ArrayHash
from lookalike.indexer.keys import MOST
from lookalike.indexer.lists_file import NEIGHBORS, ListWriter, file_bytes
from lookalike.indexer.memory import budget_of, fixed_bytes, least_budget, working_bytes
from lookalike.indexer.rounded import rounded_bytes
from lookalike.progress import progress

if TYPE_CHECKING:
    from lookalike.indexer.scores import Scores
    from lookalike.indexer.windows import Ranges

PROBE = 12_288  # objects of the small builds by which rates are measured
NARROWER = 0.25  # the window of the second one, as a share of the first one's
MOST_K = 1 / 8  # of the objects of a small build, that its lists hold
BUDGET = 2**30  # bytes, above what each object takes
LEAST_SAMPLE = 1000  # vectors to measure with
TURNS = 3  # of each; the fastest counts
ID_BYTES = 24  # of an object's name, about
GPU_SHARE = 0.5  # of a GPU's peak that faiss reaches, about; never measured by this project


@dataclass(frozen=True)
class Rates:
    """Seconds per pair that is scored and per entry of a list, of vectors of D numbers, with all threads there are.

    start : seconds that do not grow with these, for libraries, compiled loops, the choice of scores and calibration.
    """

    pair: float
    entry: float
    start: float
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
    rounded_bytes: int
    disk_bytes: int  # while it is built: embeddings, the next version beside the served one, and its saved state
    pairs: int  # each counted once
    pairs_scored: int  # some twice, where not all lists that are open have room in memory
    flop: int
    memory_bytes_per_process: int
    memory_bytes_once: int  # from which on each pair is scored once
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
    budget: int | None = None,
    gpus: int = 0,
    tflops: float | None = None,
    rates: Rates | None = None,
) -> Plan:
    """Work it out; InputError for what no index can be of.

    window_fraction : objects in a window, as a share of all. budget : bytes that the build keeps to, by default 1 GiB
    above what each object takes. gpus, tflops : how many, and what each computes in float32 at its peak. rates : what
    `measure_rates` told of this machine for such a plan, for the CPU's seconds.
    """
    _check(objects, dimensions, k, window_fraction, gpus, tflops)
    budget = fixed_bytes(objects) + BUDGET if budget is None else budget
    memory = working_bytes(budget, objects, dimensions, k)
    window = max(1, round(objects * window_fraction))
    item = {"float32": 4, "float16": 2}[dtype]
    embeddings = objects * (dimensions * item + ID_BYTES)
    # At the ends of the set windows are cut; of that of all objects nothing is.
    inside = objects * window - (window * window // 4 if window < objects else 0)
    pairs = max(0, inside - objects) // 2
    reach = open_at_once(objects, window)
    lists = min(reach, memory // 2 // bytes_open(k))
    twice = 0 if lists == reach else pairs - min(pairs, met_inside(objects, window, lists))
    once = budget_of(2 * reach * bytes_open(k), objects)
    neighbors, rounded = file_bytes(objects, k), rounded_bytes(objects, dimensions)
    seconds = None
    if rates is not None:
        looked_at = scored(objects, window, k, pairs + twice)
        seconds = rates.start + rates.pair * looked_at + rates.entry * objects * min(k, window - 1)
    gpu_flop = 4 * pairs * dimensions  # each pair twice: once for either object
    gpu_seconds = gpu_flop / (gpus * tflops * 1e12 * GPU_SHARE) if gpus and tflops else None
    return Plan(
        objects=objects, dimensions=dimensions, k=k, window_objects=window,
        embeddings_bytes=embeddings, neighbors_bytes=neighbors, rounded_bytes=rounded,
        disk_bytes=embeddings + 2 * (neighbors + rounded) + 2 * lists * bytes_open(k),
        pairs=pairs, pairs_scored=pairs + twice, flop=2 * (pairs + twice) * dimensions,
        memory_bytes_per_process=budget, memory_bytes_once=max(once, least_budget(objects, dimensions, k)),
        seconds=seconds, scores="" if rates is None else rates.scores,
        gpus=gpus, gpu_bytes_each=-(-objects // gpus) * dimensions * item if gpus else 0, gpu_flop=gpu_flop,
        gpu_seconds=gpu_seconds,
    )  # fmt: skip


def bytes_open(k: int) -> int:
    """Of a list while it is filled."""
    from lookalike.indexer.lists import room

    return 8 * room(k) + 16


def open_at_once(objects: int, window: int) -> int:
    """Lists that are open at once where all have room: those from a query to the end of its window, and two tiles."""
    from lookalike.indexer.pairs import NARROW, PER_WINDOW, TILE

    tile = min(max(window // PER_WINDOW, NARROW), TILE)
    return objects if window >= objects else min(objects, window // 2 + 2 * tile)


def met_inside(objects: int, window: int, lists: int) -> int:
    """Pairs whose objects lie in one of the runs of so many lists that are filled together."""
    ahead = objects if window >= objects else window // 2
    runs, rest = divmod(objects, lists)
    return sum(
        count * (run * min(run, ahead) - min(run, ahead) * (min(run, ahead) + 1) // 2)
        for count, run in ((runs, lists), (1, rest))
    )


def scored(objects: int, window: int, k: int, pairs: int) -> float:
    """Pairs that are scored, those of the samples by which lists are told what they need included."""
    from lookalike.indexer.hints import LEAST, share

    return pairs + objects * min(window, max(LEAST, share(k, window) * window))


def measure_rates(planned: Plan, *, vectors: NDArray[Any] | None = None, quiet: bool = True) -> Rates:
    """Time small builds of this machine, of random vectors or of those given (n, D), scored as the planned one is."""
    dimensions, k = planned.dimensions, planned.k
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((PROBE, dimensions), np.float32) if vectors is None else np.asarray(vectors[:PROBE])
    sample = normalize(sample).astype(np.float32)
    n = len(sample)
    some = min(k, max(1, int(MOST_K * n)))
    began = time.perf_counter()
    from lookalike.indexer.calibration import drawn_cells, pairs_drawn
    from lookalike.indexer.neighbors import planned_scores
    from lookalike.indexer.ordered import Sorted
    from lookalike.indexer.windows import everyone, ranges

    wide, narrow = everyone(n), ranges(np.arange(n, dtype=np.float64), NARROWER * n / 2)
    # By lists that hold as large a share of their windows, and a memory that holds as large a share of the vectors.
    memory = working_bytes(planned.memory_bytes_per_process, planned.objects, dimensions, k)
    scores = planned_scores(
        sample, wide, max(1, k * n // planned.window_objects), work=float(planned.flop),
        room=memory // 4 * n // planned.objects,
    )  # fmt: skip
    start, seconds, counted = 0.0, [], []
    with progress("plan: time small builds", 2 * TURNS, "builds", quiet=quiet) as advance:
        for within in (wide, narrow):
            times = []
            for _ in range(TURNS):
                took, pairs = _built(sample, within, some, scores)
                times.append(took)
                if within is wide and len(times) == 1:
                    start = time.perf_counter() - began
                advance(1)
            seconds.append(min(times))
            counted.append((scored(n, int(np.median(within.high - within.low)), some, pairs), n * some))
    pair, entry = _fitted(np.array(counted, np.float64), np.array(seconds))
    began = time.perf_counter()
    drawn_cells(Sorted(sample, wide.order, BUDGET), wide, None, total=pairs_drawn(planned.pairs))
    once = time.perf_counter() - began
    return Rates(pair, entry, max(0.0, start - seconds[0]) + once, scores.name)


def _built(sample: NDArray[np.float32], within: Ranges, k: int, scores: Scores) -> tuple[float, int]:
    """Seconds of a small build, its vectors rounded and they and its lists hashed, and the pairs that were scored."""
    from lookalike.indexer.neighbors import pair_builder
    from lookalike.indexer.rounded_build import write_rounded

    with tempfile.TemporaryDirectory(prefix="lookalike-plan-") as name:
        began = time.perf_counter()
        ArrayHash().update(sample)
        builder = pair_builder(sample, within, k, scores=scores)
        with ListWriter(Path(name) / NEIGHBORS, len(sample), k) as writer:
            for found in builder.blocks():
                writer.write(found.rows, found.neighbor_row, found.similarity)
            writer.close()
        write_rounded(Path(name), sample, "", quiet=True)
        ArrayHash().update(sample)  # a build looks at its vectors before and after
        return time.perf_counter() - began, builder.tally.scored


def _fitted(counted: NDArray[np.float64], seconds: NDArray[np.float64]) -> tuple[float, float]:
    """Seconds of a pair and of an entry, neither negative, from how many of both two builds (2, 2) had, and theirs."""
    pair, entry = np.linalg.solve(counted, seconds).tolist()
    if entry < 0:  # within the noise it takes nothing, and pairs take it all
        return float(np.mean(seconds / counted[:, 0])), 0.0
    if pair < 0:
        return 0.0, float(np.mean(seconds / counted[:, 1]))
    return pair, entry


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
    if objects > MOST:
        raise InputError(f"An index is of at most {MOST:,} objects, but {objects:,} were given.")
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
