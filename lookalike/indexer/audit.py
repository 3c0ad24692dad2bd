"""The audit of an index: every byte against its hash, every list against its rules, a sample against brute force.

It shares no code with the build: files are read, hashed, windowed and ranked here from the definitions alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import write_json
from lookalike.indexer.store import Index, extras_folder, read_current
from lookalike.progress import progress

SAMPLE = 100  # rows recomputed, besides the first, the last and some short ones
SHORT = 25
BLOCK_BYTES = 2**26
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
SLACK = 1e-6  # far more than float64 rounding and the canonical rounding together, for vectors of length 1

List = tuple[list[int], list[np.float32]]


@dataclass(frozen=True)
class AuditReport:
    """What was checked, and found right; anything wrong is a CorruptError that names it instead."""

    version: str
    content_hash: str
    n: int
    k: int
    files: int  # hashed byte by byte
    lists: int  # checked against the rules every list obeys
    recomputed: int  # compared with brute force over all objects
    recall: float
    equal_similarities: float
    seed: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"notes": list(self.notes)}


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

    sample : rows to recompute, at least 100 (all, where there are fewer); drawn from `seed`. samples, embeddings,
    checkpoint : where they are now, if they moved. The report is also written to extras/<version>/audit.json; an
    earlier one is removed before the checks begin, so that none outlives a failure.
    """
    began = time.monotonic()
    if sample < SAMPLE:
        raise InputError(f"At least {SAMPLE} rows are recomputed, but sample = {sample} was given.")
    try:
        index = Index(Path(folder))
        vectors, data = index.open_embeddings(embeddings), index.open_samples(samples)
    except CorruptError:
        _forget(Path(folder))
        raise
    _forget(index.folder)
    files = _hash_files(index)
    vectors.verify()
    data.verify()
    notes = _check_checkpoint(index, checkpoint)
    x, half_width = _window_values(index, data)
    with h5py.File(index.path / "neighbors.h5", "r", locking=False) as file:
        rows, similarity = file["neighbor_row"], file["similarity"]
        _hash_arrays(index, rows, similarity)
        short = _check_lists(index, rows, similarity, x, half_width)
        chosen = _choose(index.n, sample, seed, short)
        expected = _brute_force(vectors.vectors, chosen, index.k, x, half_width, quiet)
        recall, equal = _compare(index, chosen, expected, rows, similarity)
        if not any(places for places, _ in expected):
            notes += (
                "All lists that were recomputed are empty, as they should be; that says nothing of lists that are not.",
            )
    report = AuditReport(
        index.version,
        index.manifest.content_hash,
        index.n,
        index.k,
        files,
        index.n,
        len(chosen),
        recall,
        equal,
        seed,
        time.monotonic() - began,
        notes,
    )
    try:
        extras = extras_folder(index.folder, index.version)
        extras.mkdir(parents=True, exist_ok=True)
        write_json(extras / "audit.json", report.to_json())
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return replace(report, notes=(*notes, f"{index.folder} cannot be written to: the report was not kept there."))
    return report


def _forget(folder: Path) -> None:
    """Remove the report of an earlier audit, where that can be."""
    with contextlib.suppress(CorruptError, NotFoundError):
        path = extras_folder(folder, read_current(folder)[0]) / "audit.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise


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
            raise CorruptError(f"{index.path / name} was altered; build the index again with `lookalike index`.")
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


def _window_values(index: Index, data: Any) -> tuple[NDArray[np.float64] | None, float]:
    """Each object's window value (N,), NaN where it is undefined, and the half-width; None without a window."""
    window = index.manifest.window
    if window is None:
        return None, math.inf
    x = data.column(window["column"]).astype(np.float64)
    if window["log"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.log(x)
    return np.where(np.isfinite(x), x, np.nan), float(window["half_width"])


def _check_lists(
    index: Index, rows: Any, similarity: Any, x: NDArray[np.float64] | None, half_width: float
) -> NDArray[np.int64]:
    """The rules every list obeys, on all of them; returns the rows whose lists are short."""
    n, k = rows.shape
    short = []
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
                rules["lie within the window"] = ~there | (np.abs(x[np.clip(block, 0, n - 1)] - x[own]) <= half_width)
        for rule, holds in rules.items():
            if not holds.all():
                row = start + int(np.argwhere(~holds)[0, 0])
                raise CorruptError(f"Neighbors {rule}, but those of row {row} in {index.path} do not.")
        short.append(start + np.flatnonzero(~there[:, -1]))
    return np.concatenate(short)


def _choose(n: int, sample: int, seed: int, short: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows to recompute: the first, the last, some with short lists, and a random sample."""
    rng = np.random.default_rng(seed)
    some = rng.permutation(short)[:SHORT]
    drawn = rng.choice(n, size=min(n, sample), replace=False)
    return np.unique(np.concatenate([[0, n - 1], some, drawn])).astype(np.int64)


def _brute_force(
    vectors: NDArray[Any],
    chosen: NDArray[np.int64],
    k: int,
    x: NDArray[np.float64] | None,
    half_width: float,
    quiet: bool,
) -> list[List]:
    """Each chosen row's list: float64 products with all objects find what may belong to it, exact sums rank it."""
    queries = vectors[chosen].astype(np.float64)  # (q, D)
    kept: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = [(np.empty(0), np.empty(0, np.int64)) for _ in chosen]
    with progress("verify", len(vectors), "objects", quiet=quiet) as advance:
        for start, block in _blocks(vectors, vectors.shape[1] + len(chosen)):
            products = queries @ block.astype(np.float64).T  # (q, n)
            rows = np.arange(start, start + len(block))
            for q, own in enumerate(chosen):
                inside = rows != own
                if x is not None:
                    inside &= np.abs(x[rows] - x[own]) <= half_width
                score = np.append(kept[q][0], products[q, inside])
                place = np.append(kept[q][1], rows[inside])
                if len(score) > k:
                    near = score >= np.sort(score)[-k] - SLACK
                    score, place = score[near], place[near]
                kept[q] = score, place
            advance(len(block))
    return [_ranked(vectors, int(own), place, k) for own, (_, place) in zip(chosen, kept, strict=True)]


def _ranked(vectors: NDArray[Any], own: int, candidates: NDArray[np.int64], k: int) -> List:
    """The k best of the candidates by (−similarity, row), each similarity an exact sum rounded once."""
    query = vectors[own].astype(np.float64)
    found = [(_rounded((vectors[row].astype(np.float64) * query).tolist()), int(row)) for row in candidates]
    found.sort(key=lambda pair: (-float(pair[0]), pair[1]))
    return [row for _, row in found[:k]], [value for value, _ in found[:k]]


def _rounded(terms: list[float]) -> np.float32:
    """The sum of the terms as the nearest float32, ties to even."""
    total = math.fsum(terms)
    value = np.float32(total)
    sides = [value, np.nextafter(value, np.float32(-np.inf)), np.nextafter(value, np.float32(np.inf))]
    distance = [abs(Fraction(float(side)) - Fraction(total)) for side in sides]
    if distance[0] in distance[1:]:  # half-way as far as float64 tells: compare with the exact sum
        true = sum(map(Fraction, terms), Fraction(0))
        even = [int(side.view(np.int32)) % 2 for side in sides]
        value = min(zip(sides, even, strict=True), key=lambda s: (abs(Fraction(float(s[0])) - true), s[1]))[0]
    return np.float32(value + np.float32(0))


def _compare(
    index: Index, chosen: NDArray[np.int64], expected: list[List], rows: Any, similarity: Any
) -> tuple[float, float]:
    """The share of expected neighbors that are stored, and of similarities with equal bits; both must be 1."""
    wanted = hits = equal = 0
    wrong = None
    for own, (places, values) in zip(chosen.tolist(), expected, strict=True):
        stored, numbers = rows[own].tolist(), similarity[own]
        truth = np.array(values, np.float32)
        wanted += len(places)
        hits += len(set(places) & set(stored))
        equal += int((truth.view(np.int32) == numbers[: len(truth)].view(np.int32)).sum())
        if stored != places + [-1] * (index.k - len(places)) or truth.tobytes() != numbers[: len(truth)].tobytes():
            wrong = own if wrong is None else wrong
    if wrong is not None:
        raise CorruptError(
            f"The list of row {wrong} in {index.path} is not what brute force gives (recall "
            f"{hits / max(wanted, 1):.6f} over {len(chosen)} rows); build the index again with `lookalike index`."
        )
    return (hits / wanted, equal / wanted) if wanted else (1.0, 1.0)


def _blocks(data: Any, numbers: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Blocks of rows of bounded size, each with the row it starts at; `numbers` are held for each row, in float64."""
    step = max(1, BLOCK_BYTES // (8 * (numbers or data.shape[1])))
    for start in range(0, len(data), step):
        yield start, data[start : start + step]
