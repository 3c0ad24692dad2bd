"""Vectors to build indexes of: random ones, those of a real picture's places, or given ones, and how they lie."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.hubble import BANDS, load_picture
from lookalike.embeddings import Embeddings, normalize
from lookalike.errors import InputError
from lookalike.samples import About
from lookalike.samples_writer import write_samples
from lookalike.ssl.embed import embed
from lookalike.ssl.released import find_released

SIZE = 64  # px of a cutout
SEEN = 4096  # vectors by which a set is described
SEED = 0

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Described:
    """How a set of vectors lies, by a sample.

    effective_rank : exp of the entropy of the covariance's eigenvalues as shares (Roy and Vetterli 2007); that of a
    collapsed encoder is small. mean_cosine : of different objects.
    """

    n: int
    dimensions: int
    effective_rank: float
    mean_cosine: float


def random_vectors(n: int, d: int) -> Vectors:
    """Vectors (n, d) of uniform direction."""
    found: Vectors = np.random.default_rng(SEED).standard_normal((n, d), np.float32)
    return normalize(found).astype(np.float32)


def field_vectors(n: int, *, quiet: bool = False) -> Vectors:
    """Embeddings (n, 512) of cutouts of the Hubble eXtreme Deep Field about so many places, by the released encoder.

    Places are on a grid, in random order; InputError where it has fewer than n.
    """
    picture = load_picture()
    height, width = (side - SIZE for side in picture.shape[:2])
    step = int(np.sqrt(height * width / n))
    if step < 1:
        raise InputError(f"The picture has {height * width:,} places, but {n:,} were asked for.")
    top, left = (at.ravel() for at in np.mgrid[0:height:step, 0:width:step])
    chosen = np.random.default_rng(SEED).permutation(len(top))[:n]
    about = About(domain="galaxy", bands=BANDS, source="Hubble eXtreme Deep Field")
    with tempfile.TemporaryDirectory() as name:
        samples, out = Path(name) / "samples.h5", Path(name) / "embeddings.h5"
        with write_samples(samples, about, {}) as writer:
            for start in range(0, n, 1024):
                places = [(int(top[one]), int(left[one])) for one in chosen[start : start + 1024]]
                cutouts = np.stack([picture[y : y + SIZE, x : x + SIZE].transpose(2, 0, 1) for y, x in places])
                writer.append([f"xdf-{x}-{y}" for y, x in places], cutouts, {})
        embed([samples], find_released("galaxy", BANDS), out, quiet=quiet)
        found: Vectors = np.array(Embeddings(out).vectors, np.float32)
    return found


def given_vectors(path: Path) -> Vectors:
    """Vectors (N, D) of an embeddings file, or of a .npy, which are normalized; InputError for others."""
    if path.suffix != ".npy":
        return np.array(Embeddings(path).vectors[:], np.float32)
    try:
        loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a NumPy array ({error}).") from None
    if loaded.ndim != 2 or loaded.dtype.kind != "f" or not np.isfinite(loaded).all():
        raise InputError(
            f"Vectors are an array (N, D) of finite numbers, but {path} has {loaded.shape} {loaded.dtype}."
        )
    if not loaded.any(axis=1).all():
        raise InputError(f"A vector of zeros has no direction, but row {int(np.argmin(loaded.any(axis=1)))} is one.")
    return normalize(loaded.astype(np.float64)).astype(np.float32)


def describe(vectors: Vectors) -> Described:
    """Its description by at most SEEN of them."""
    n = len(vectors)
    some = vectors[np.random.default_rng(SEED).permutation(n)[:SEEN]].astype(np.float64)
    centered = some - some.mean(axis=0)
    value = np.linalg.svd(centered, compute_uv=False) ** 2
    part = value[value > 0] / value.sum() if value.sum() else np.ones(1)
    m, total = len(some), some.sum(axis=0)
    cosine = (float(total @ total) - float((some**2).sum())) / max(1, m * (m - 1))
    return Described(n, vectors.shape[1], float(np.exp(-(part * np.log(part)).sum())), cosine)
