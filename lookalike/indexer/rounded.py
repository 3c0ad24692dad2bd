"""The vectors rounded to 8 bits: a live search reads these first, a quarter of the bytes, and few of the others.

    INDEX/extras/v000001/rounded/rounded.json   what they are of, and the hashes of the three arrays
    INDEX/extras/v000001/rounded/codes.bin      (N, D) int8
    INDEX/extras/v000001/rounded/scales.bin     (N, 2) float32, a vector's step and its error
    INDEX/extras/v000001/rounded/center.bin     (D,) float32, about the mean of all vectors

A vector x is center + step · codes + rest. Its error is the length of the rest, and what a float32 sum of a query of
length 1 with the codes may be off, rounded up.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.config import Config
from lookalike.errors import CorruptError, LookalikeError
from lookalike.files import read_json
from lookalike.hashing import combine
from lookalike.indexer.bins import digest, hash_of, mapped
from lookalike.indexer.store import Index, extras_folder

KIND, SCHEMA = "lookalike rounded vectors", 1
ABOUT = "rounded.json"
CHECKED_BYTES = 2**22  # of float64 vectors held at once
AGAIN = "`lookalike repair` makes it again."


class RoundedAbout(Config):
    """What rounded vectors are of, and how far one of them is off at most (of a length of 1)."""

    kind: str = KIND
    schema_version: int = SCHEMA
    embeddings: str  # their content hash
    objects: int
    dimensions: int
    largest_error: float
    hashes: dict[str, str]
    content_hash: str

    def types(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Each array's type and shape."""
        n, d = self.objects, self.dimensions
        single = np.dtype("<f4")
        return {"codes": (np.dtype("i1"), (n, d)), "scales": (single, (n, 2)), "center": (single, (d,))}

    def identity(self) -> dict[str, Any]:
        """What enters the content hash besides the arrays."""
        return {"kind": self.kind, "embeddings": self.embeddings, "largest_error": self.largest_error}


def rounded_folder(folder: Path, version: str) -> Path:
    return extras_folder(folder, version) / "rounded"


def rounded_bytes(n: int, dimensions: int) -> int:
    """How large the files of N vectors are."""
    return n * (dimensions + 8) + 4 * dimensions


class Rounded:
    """Rounded vectors, memory-mapped read-only; safe to share between threads.

    codes : (N, D) int8. scales : (N, 2) float32. center : (D,) float32. Opening checks sizes, `verify` every byte.
    CorruptError where they are damaged, or of other embeddings than those of this content hash.
    """

    def __init__(self, folder: Path, embeddings: str) -> None:
        self.folder = folder
        self.about = _read_about(folder / ABOUT, embeddings)
        self.codes: NDArray[np.int8] = self._map("codes")
        self.scales: NDArray[np.float32] = self._map("scales")
        self.center: NDArray[np.float32] = self._map("center")

    @classmethod
    def of(cls, index: Index) -> Rounded | None:
        """Those of an open index's version, None where there are none."""
        folder = rounded_folder(index.folder, index.version)
        while (one := _identity(folder)) is not None:
            try:
                found, wrong = cls(folder, index.manifest.embeddings.content_hash), None
            except CorruptError as error:
                found, wrong = None, error
            if _identity(folder) == one:  # else it was replaced meanwhile, and what was opened may be of both
                if wrong is not None:
                    raise wrong
                return found
        return None

    def verify(self) -> None:
        """Recompute the hashes; CorruptError where a byte was altered."""
        hashes = {name: hash_of(getattr(self, name)) for name in self.about.types()}
        for name, sha in hashes.items():
            if digest(sha) != self.about.hashes.get(name):
                raise _altered(self.folder / f"{name}.bin")
        if combine(hashes, self.about.identity()) != self.about.content_hash:
            raise _altered(self.folder / ABOUT)

    def check(self, vectors: Any) -> None:
        """CorruptError where one is farther off its vector (N, D) than it says."""
        step = max(1, CHECKED_BYTES // (8 * self.about.dimensions))
        for start in range(0, self.about.objects, step):
            some = slice(start, start + step)
            scale, error = self.scales[some].astype(np.float64).T
            rest = np.asarray(vectors[some], np.float64) - (self.center + scale[:, None] * self.codes[some])
            if not (np.linalg.norm(rest, axis=1) <= error).all():
                raise CorruptError(
                    f"{self.folder} was made of other vectors; remove it, and the same `lookalike index` makes another."
                )

    def _map(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.bin"
        found = mapped(path, *self.about.types()[name])
        if found is None:
            raise _altered(path)
        return found


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another of its name, None where there is none."""
    try:
        there = folder.stat()
    except FileNotFoundError:
        return None
    return there.st_ino, there.st_mtime_ns


def _altered(path: Path) -> CorruptError:
    return CorruptError(f"{path} was altered; {AGAIN}")


def _read_about(path: Path, embeddings: str) -> RoundedAbout:
    try:
        about = RoundedAbout.checked(read_json(path))
    except (LookalikeError, OSError):
        raise _altered(path) from None
    if (about.kind, about.schema_version, about.embeddings) != (KIND, SCHEMA, embeddings):
        raise CorruptError(
            f"{path} is of other embeddings than the index that was opened, or of another lookalike; open it again, or "
            f"{AGAIN}"
        )
    if min(about.objects, about.dimensions) < 1 or not 0 <= about.largest_error < math.inf:
        raise _altered(path)
    return about
