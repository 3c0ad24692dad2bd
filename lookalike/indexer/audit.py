"""The audit of an index: every byte against its hash, every list against its rules, chosen rows against brute force.

The rows are recomputed by `audit_rows`, which shares nothing with the build; here files are opened, read and hashed.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.indexer.audit_report import AuditReport, Chosen, forget, keep
from lookalike.indexer.audit_rows import choose, compare, recompute, window_values
from lookalike.indexer.rounded import Rounded
from lookalike.indexer.sky import SkyIndex
from lookalike.indexer.store import Index, repair_hint
from lookalike.progress import progress

__all__ = ["AuditReport", "verify"]

SAMPLE = 100  # random rows recomputed at least
BLOCK_BYTES = 2**26


def verify(
    folder: Path,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    samples: list[Path] | None = None,
    embeddings: Path | None = None,
    checkpoint: Path | None = None,
    quiet: bool = False,
) -> AuditReport:
    """Check the served version of an index folder; CorruptError names the first thing that is wrong.

    sample : random rows to recompute, at least 100 (all, where there are fewer), drawn from `seed`; to which rows on
    the window's edge, with short lists and without a value are added. samples, embeddings, checkpoint : where they
    are now, if they moved. The report is also written to extras/<version>/audit.json; an earlier one is removed before
    the checks begin, so that none outlives a failure.
    """
    began = time.monotonic()
    if sample < SAMPLE:
        raise InputError(f"At least {SAMPLE} rows are recomputed, but {sample} was given.")
    if seed < 0:
        raise InputError(f"A seed is at least 0, but {seed} was given.")
    try:
        index = Index(Path(folder))
        vectors, data = index.open_embeddings(embeddings), index.open_samples(samples)
    except CorruptError:
        forget(Path(folder))
        raise
    forget(index.folder)
    files = _hash_files(index)
    vectors.verify()
    data.verify()
    files += _check_sky(index) + _check_rounded(index, vectors.vectors)
    notes = _check_checkpoint(index, checkpoint)
    x, half_width = _window(index, data)
    with h5py.File(index.path / "neighbors.h5", "r", locking=False) as file:
        rows, similarity = file["neighbor_row"], file["similarity"]
        _hash_arrays(index, rows, similarity)
        short = _check_lists(index, rows, similarity, x, half_width, quiet)
        chosen, counts = choose(index.n, sample, seed, x, half_width, short, quiet=quiet)
        lists, ties = recompute(vectors.vectors, chosen, index.k, x, half_width, quiet)
        found = compare(dict(zip(chosen.tolist(), lists, strict=True)), ties, rows, similarity)
    if found.wrong is not None:
        raise CorruptError(
            f"The list of row {found.wrong} in {index.path} is not what brute force gives (recall {found.recall:.6f}, "
            f"largest difference of similarities {found.largest_difference:.3g}, over {len(chosen)} rows); build the "
            "index again with `lookalike index`."
        )
    if not any(places for places, _ in lists):
        notes += (
            "All lists that were recomputed are empty, as they should be; that says nothing of lists that are not.",
        )
    report = AuditReport(
        version=index.version,
        content_hash=index.manifest.content_hash,
        n=index.n,
        k=index.k,
        files=files,
        lists=index.n,
        recomputed=len(chosen),
        chosen=Chosen(**counts),
        recall=found.recall,
        equal_similarities=found.equal,
        largest_difference=found.largest_difference,
        ties_at_k=found.ties,
        seed=seed,
        seconds=time.monotonic() - began,
        notes=notes,
    )
    return keep(report, index.folder)


def _hash_files(index: Index) -> int:
    """Every file of the version is a recorded one with the recorded bytes; the manifest's hash is in CURRENT."""
    recorded = index.manifest.files
    present = {path.relative_to(index.path).as_posix() for path in index.path.rglob("*")} - {"manifest.json"}
    if present != set(recorded):
        odd = ", ".join(sorted(present ^ set(recorded)))
        raise CorruptError(f"{index.path} and its manifest disagree about: {odd}.")
    for name, stored in recorded.items():
        digest = hashlib.sha256()
        with (index.path / name).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        if digest.hexdigest() != stored.sha256:
            raise CorruptError(f"{index.path / name} was altered; {repair_hint(index.folder)}.")
    return len(recorded) + 1


def _hash_arrays(index: Index, rows: Any, similarity: Any) -> None:
    """The arrays' hashes, and the content hash they and the inputs make together."""
    lines = []
    for name, data in sorted({"neighbor_row": rows, "similarity": similarity}.items()):
        digest = hashlib.sha256()
        for start, block in _blocks(data):
            del start
            digest.update(block.tobytes())
        if digest.hexdigest() != index.manifest.arrays[name].sha256:
            raise CorruptError(f"/{name} of {index.path} is not what its manifest records.")
        kind = data.dtype.str.lstrip("<")
        lines.append(f'"{name}" {kind} {list(data.shape)} {digest.hexdigest()}')
    manifest = index.manifest
    about = {
        "kind": "lookalike index",
        "k": manifest.k,
        "window": manifest.window,
        "samples": manifest.samples.content_hash,
        "embeddings": manifest.embeddings.content_hash,
    }
    lines.append(json.dumps(about, sort_keys=True))
    if hashlib.sha256("\n".join(lines).encode()).hexdigest() != manifest.content_hash:
        raise CorruptError(f"The content hash of {index.path} is not that of its arrays and inputs.")


def _check_checkpoint(index: Index, moved: Path | None) -> tuple[str, ...]:
    """Verify the recorded encoder's weights where they are still there, or where they are said to be.

    One that was trained further or replaced since is a note, since searches by id go on without it.
    """
    recorded = index.manifest.checkpoint
    if moved is None and (recorded is None or not recorded.paths):
        return ()
    if moved is None and recorded is not None and not (index.folder / recorded.paths[0]).exists():
        return (f"The encoder is not at {recorded.paths[0]} any more and was not checked.",)
    try:
        place = index.checkpoint(moved)
    except InputError as error:  # the lists do not depend on it, unless it was given to be checked
        if moved is not None or error.code != "other_checkpoint":
            raise
        return (f"The encoder was not checked, and pictures cannot be searched from: {error.message}",)
    from lookalike.ssl.checkpoint import load_encoder

    load_encoder(place)
    return ()


def _check_sky(index: Index) -> int:
    """Every byte of the sky index, where there is one; how many files it has."""
    try:
        sky = SkyIndex.of(index)
    except NotFoundError:
        return 0
    sky.verify()
    return len(sky.about.arrays) + 1


def _check_rounded(index: Index, vectors: NDArray[Any]) -> int:
    """Every byte of the rounded vectors and each one's error, where there are some; how many files they have."""
    rounded = Rounded.of(index)
    if rounded is None:
        return 0
    rounded.verify()
    rounded.check(vectors)
    return len(rounded.about.hashes) + 1


def _window(index: Index, data: Any) -> tuple[NDArray[np.float64] | None, float]:
    """Each object's window value (N,), NaN where it is undefined, and the half-width; None without a window."""
    window = index.manifest.window
    if window is None:
        return None, math.inf
    return window_values(data.column(window["column"]), log=window["log"]), float(window["half_width"])


def _check_lists(
    index: Index, rows: Any, similarity: Any, x: NDArray[np.float64] | None, half_width: float, quiet: bool
) -> NDArray[np.int64]:
    """The rules every list obeys, on all of them; returns the rows whose lists are short."""
    n, k = rows.shape
    short = []
    with progress("lists", n, "lists", quiet=quiet) as advance:
        for start, block in _blocks(rows):
            own = np.arange(start, start + len(block))[:, None]
            values = similarity[start : start + len(block)]
            there = block >= 0  # (n, k)
            ordered = np.sort(np.where(there, block, -1 - np.arange(k)), axis=1)
            earlier, later = values[:, :-1], values[:, 1:]
            both = there[:, 1:]
            falls = (earlier > later) | ((earlier == later) & (block[:, :-1] < block[:, 1:]))
            rules = {
                "are −1 or a row of the data set": (block >= -1) & (block < n),
                "end at the first −1": ~both | there[:, :-1],
                "have a similarity exactly where they have a row": there == ~np.isnan(values),
                "never hold −0 or a number above 1 or below −1": ~there
                | ((np.abs(values) <= 1.03) & ~((values == 0) & np.signbit(values))),
                "never hold the object itself": block != own,
                "hold no object twice": ordered[:, 1:] != ordered[:, :-1],
                "fall by similarity, then rise by row": ~both | falls,
            }
            if x is not None:
                with np.errstate(invalid="ignore"):
                    rules["lie within the window"] = ~there | (
                        np.abs(x[np.clip(block, 0, n - 1)] - x[own]) <= half_width
                    )
            for rule, holds in rules.items():
                if not holds.all():
                    row = start + int(np.argwhere(~holds)[0, 0])
                    raise CorruptError(f"Neighbors {rule}, but those of row {row} in {index.path} do not.")
            short.append(start + np.flatnonzero(~there[:, -1]))
            advance(len(block))
    return np.concatenate(short)


def _blocks(data: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Blocks of rows of bounded size, each with the row it starts at."""
    step = max(1, BLOCK_BYTES // (8 * data.shape[1]))
    for start in range(0, len(data), step):
        yield start, data[start : start + step]
