"""Plain arrays in files of their own, mapped by what is added to an index version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.hashing import ArrayHash

HASHED_BYTES = 2**23  # at once


def append(path: Path, values: NDArray[Any], sha: ArrayHash) -> None:
    """Add rows to an array's file, and to its hash."""
    sha.update(values)
    write(path, values)


def write(path: Path, values: NDArray[Any]) -> None:
    """Add an array to a file; OSError with its number where the disk is full, which numpy's own `tofile` loses."""
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(values).data)


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """The array in a file, mapped read-only; None where the file is not just as large, or just going away."""
    size = dtype.itemsize * int(np.prod(shape))
    try:
        if path.stat().st_size != size:
            return None
        if not size:  # nothing can be mapped
            return np.empty(shape, dtype)
        return np.asarray(np.memmap(path, dtype, "r", shape=shape))
    except (OSError, ValueError):
        return None


def hash_of(values: NDArray[Any]) -> ArrayHash:
    """The hash of a mapped array, read in blocks."""
    sha = ArrayHash()
    step = max(1, HASHED_BYTES // max(1, values.itemsize * int(np.prod(values.shape[1:]))))
    for start in range(0, max(1, len(values)), step):  # none are hashed too
        sha.update(values[start : start + step])
    return sha


def digest(sha: ArrayHash) -> str:
    """The hash of an array's bytes alone."""
    return sha.line("").rsplit(" ", 1)[1]
