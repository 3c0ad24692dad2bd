"""An approximate first stage for large sets: cells around centers, of which a search looks into the nearest few.

Objects are divided among about √N centers (spherical k-means, faiss; an inverted file). A search takes the objects of
the cells nearest to the query, as far as they meet its conditions, and ranks them exactly from the stored vectors; what
lies in other cells is missed. How often, was measured at the build: recall@k of objects that were neither among those
that the centers were learned from nor among those that the number of cells to look into was chosen by, against the
exact answer, without windows or filters.

    INDEX/extras/v000001/approximate.h5    /centers (C, D) float32, /starts (C + 1,), /rows (N,) by cell, then by row
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.attributes import as_text, set_texts
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import atomic_path, lock
from lookalike.hashing import content_hash
from lookalike.hdf5_output import Hdf5Output
from lookalike.indexer.answer import Used
from lookalike.indexer.approximate_report import AGAIN, DAMAGE, ApproximateReport, Recall, stage_path
from lookalike.indexer.conditions import kept
from lookalike.indexer.live import ranking
from lookalike.indexer.rounded import Rounded
from lookalike.indexer.store import Index
from lookalike.progress import progress
from lookalike.proportions import wilson
from lookalike.wording import counted

KIND, SCHEMA = "lookalike approximate stage", 1
ARRAYS = ("centers", "starts", "rows")
AT = (1, 10, 100, 1000)  # the k that recall is measured at, as far as there are so many others
LEARNED_FROM = 64  # objects for each center
ROUNDS = 10  # of k-means
CHOSEN_BY = 200  # objects that the number of cells is chosen by
BLOCK_BYTES = 2**26

Rows = NDArray[np.int64]
Cell = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The approximate stage of one index version: centers (C, D) float32, starts (C + 1,), rows (N,)."""

    centers: NDArray[np.float32]
    starts: Rows
    rows: NDArray[Any]
    about: ApproximateReport

    @classmethod
    def read(cls, index: Index) -> Cells:
        """That of an open index; NotFoundError where none was built, CorruptError for an altered or another's one."""
        path = stage_path(index.folder, index.version)
        if not path.is_file():
            raise NotFoundError(
                f"{index.folder} ({index.version}) has no approximate stage; make one with `lookalike approximate "
                f"{index.folder}`, or search exactly.",
                code="no_approximate",
            )
        try:
            with h5py.File(path, "r", locking=False) as file:
                about = ApproximateReport.of(path, file, index.version, index.manifest.content_hash)
                arrays = {name: file[name][:] for name in ARRAYS}
                recorded = as_text(file.attrs["content_hash"])
        except DAMAGE as error:
            raise CorruptError(f"{path} cannot be read ({error}); {AGAIN}") from None
        if content_hash(arrays, about.to_json()) != recorded:
            raise CorruptError(f"{path} was altered: its content hash is not the recorded one; {AGAIN}")
        return cls(arrays["centers"], arrays["starts"], arrays["rows"], about)

    def nearest(self, query: NDArray[Any]) -> Cell:
        """All cells (C,), from the one nearest to the query (D,) on."""
        return _nearest_first(self.centers, query)

    def candidates(self, query: NDArray[Any], among: Rows | None, away: Rows, wanted: int) -> tuple[Rows, Used]:
        """Rows, in order, of the cells nearest to a query (D,), and what was looked at.

        among : rows that meet the search's conditions, in order; None for all. away : rows never to return, in order.
        More cells than usual are looked into where fewer than `wanted` such rows lie in those.
        """
        fits = None
        if among is not None:
            fits = np.zeros(len(self.rows), np.bool_)
            fits[among] = True
        found: list[Rows] = []
        count = cells = 0
        for cell in self.nearest(query).tolist():
            if cells >= self.about.probes and count >= wanted:
                break
            rows = np.sort(self.rows[self.starts[cell] : self.starts[cell + 1]].astype(np.int64))
            rows = kept(rows if fits is None else rows[fits[rows]], away)
            found.append(rows)
            count, cells = count + len(rows), cells + 1
        chosen = np.sort(np.concatenate(found))
        recall = self.about.recall_at(wanted).model_dump()
        return chosen, Used(len(chosen), len(self.rows), cells, len(self.centers), recall)


def build_approximate(
    folder: Path,
    *,
    embeddings: Path | None = None,
    target: float = 0.95,
    k: int = 100,
    queries: int = 500,
    cells: int | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> ApproximateReport:
    """Divide the objects of an index among cells, and measure what looking into the nearest ones finds.

    target : recall@k that the number of cells to look into is chosen for. queries : held-out objects that recall is
    measured with, at this k and those of AT. cells : about √N unless given. Errors: InputError for what is out of
    range, or fewer than 100 objects; LockedError where the index is being written.
    """
    index = Index(Path(folder))
    vectors, rounded, longest = index.open_embeddings(embeddings).vectors, Rounded.of(index), index.manifest.max_length
    n = index.n
    if n < 100:
        raise InputError(f"An approximate stage is for large sets, of at least 100 objects, but {folder} has {n}.")
    if not 0 < target <= 1:
        raise InputError(f"target is a share above 0 and up to 1, but {target} was given.")
    if not 1 <= k < n:
        raise InputError(f"k must be 1 to {n - 1} here, but {k} was given.")
    if queries < 10:
        raise InputError(f"Recall is measured with at least 10 queries, but {queries} was given.")
    C = cells if cells is not None else round(math.sqrt(n))
    if not 1 <= C <= n // 4:
        raise InputError(f"cells must be 1 to {n // 4} for {counted(n, 'object')}, but {C} was given.")
    tuning, held_out, learning = _drawn(n, queries, C, seed)
    centers = _centers(vectors, learning, C, seed)
    ks = sorted({one for one in AT if one < n} | {k})
    with progress("Dividing", n + len(tuning) + len(held_out), "objects", quiet=quiet) as advance:
        cell_of = np.empty(n, np.int64)
        step = max(1, BLOCK_BYTES // (4 * vectors.shape[1]))
        for start in range(0, n, step):
            block = np.asarray(vectors[start : start + step], np.float32)
            cell_of[start : start + step] = _nearest(centers, block)
            advance(len(block))
        row_type = np.int32 if n < 2**31 else np.int64
        rows = np.argsort(cell_of, kind="stable").astype(row_type)
        starts = np.searchsorted(cell_of[rows], np.arange(C + 1))

        def ranks(of: Rows) -> NDArray[np.int64]:
            """How many cells have to be looked into for each true neighbor (q, largest k) of some objects."""
            found = np.empty((len(of), ks[-1]), np.int64)
            for place, row in enumerate(of.tolist()):
                true, _ = ranking(vectors, None, vectors[row], ks[-1] + 1, longest, rounded)
                true = true[true != row][: ks[-1]]
                found[place] = np.argsort(_nearest_first(centers, vectors[row]))[cell_of[true]] + 1
                advance(1)
            return found

        probes = _fewest(ranks(tuning)[:, :k], target)
        reached = ranks(held_out) <= probes  # (q, largest k)
    report = ApproximateReport(
        version=index.version,
        content_hash=index.manifest.content_hash,
        n=n,
        cells=C,
        probes=probes,
        target=target,
        k=k,
        seed=seed,
        recall=tuple(_recall(reached[:, :one], one) for one in ks),
    )
    _write(index, Cells(centers, starts, rows, report))
    return report


def _nearest_first(centers: NDArray[np.float32], query: NDArray[Any]) -> Cell:
    order: Cell = np.argsort(-(centers @ query.astype(np.float32)), kind="stable")
    return order


def _drawn(n: int, queries: int, cells: int, seed: int) -> tuple[Rows, Rows, Rows]:
    """Rows to choose the number of cells by, to measure with, and to learn the centers from: no row twice."""
    order = np.random.default_rng(seed).permutation(n)
    tuned, measured = min(CHOSEN_BY, n // 8), min(queries, n // 4)
    learned = min(cells * LEARNED_FROM, n - tuned - measured)
    ends = np.cumsum([tuned, measured, learned])
    parts = [np.sort(part) for part in np.split(order, ends)[:3]]
    return parts[0], parts[1], parts[2]


def _centers(vectors: NDArray[Any], rows: Rows, cells: int, seed: int) -> NDArray[np.float32]:
    """Centers (cells, D) of length 1, learned from some of the vectors."""
    import faiss

    given = np.ascontiguousarray(vectors[rows], np.float32)
    means = faiss.Kmeans(
        given.shape[1], cells, niter=ROUNDS, spherical=True, seed=seed % 2**31,
        min_points_per_centroid=1, max_points_per_centroid=max(LEARNED_FROM, len(rows) // cells + 1),
    )  # fmt: skip
    means.train(given)
    return np.array(means.centroids, np.float32)


def _nearest(centers: NDArray[np.float32], block: NDArray[np.float32]) -> Cell:
    """The center nearest to each vector (n, D) by dot product, of equals the first."""
    found = np.empty(len(block), np.int64)
    step = max(1, BLOCK_BYTES // (4 * len(centers)))
    for start in range(0, len(block), step):
        found[start : start + step] = np.argmax(block[start : start + step] @ centers.T, axis=1)
    return found


def _fewest(ranks: NDArray[np.int64], target: float) -> int:
    """The fewest cells within which at least a share `target` of the true neighbors (q, k) lies."""
    ordered = np.sort(ranks, axis=None)
    return int(ordered[math.ceil(target * len(ordered)) - 1])


def _recall(reached: NDArray[np.bool_], k: int) -> Recall:
    """Recall@k over queries (q, k), with Wilson's 95 % interval of one trial a query.

    Neighbors of one query are found and missed together, so they are no trials of their own; the share of them varies
    no more than a yes or no of the same mean, so that the interval is rather too wide than too narrow.
    """
    value = float(reached.mean())
    share = wilson(value * len(reached), len(reached))
    return Recall(k=k, value=value, low=share.low, high=share.high, queries=len(reached))


def _write(index: Index, cells: Cells) -> None:
    arrays: dict[str, NDArray[Any]] = {"centers": cells.centers, "starts": cells.starts, "rows": cells.rows}
    about, path = cells.about.to_json(), stage_path(index.folder, index.version)
    with lock(index.folder):
        if not index.path.is_dir():
            raise NotFoundError(f"{index.folder} no longer holds {index.version}; build it again for the newest.")
        path.parent.parent.mkdir(exist_ok=True)
        with atomic_path(path) as temporary, Hdf5Output(temporary) as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values)
            digest = content_hash(arrays, about)
            set_texts(file, {"kind": KIND, "about": json.dumps(about), "content_hash": digest})
            file.attrs["schema"] = SCHEMA
