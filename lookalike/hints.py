"""What to do with a path that is given for a samples file and is none: the `lookalike ingest` that reads it."""

from __future__ import annotations

import itertools
from pathlib import Path

from lookalike.errors import InputError

SOURCES = {
    "images": (".png", ".jpg", ".jpeg"),
    "fits": (".fits", ".fit", ".fits.gz", ".fits.fz"),
    "numpy": (".npy", ".npz"),
    "events": (".root",),
    "trackml": tuple(f"-{kind}.csv{gz}" for kind in ("hits", "cells", "particles", "truth") for gz in ("", ".gz")),
    "idx": ("-ubyte", "-ubyte.gz"),
}
LOOKED_AT = 1000  # files of a folder


def is_foreign(path: Path) -> bool:
    """Whether a file's name says that a source reads it, so that it is no samples file."""
    return _source(path) is not None


def refuse_foreign_name(out: Path) -> None:
    """InputError where a samples file, or what a link of that name leads to, would be named like a source's file."""
    for path in (out, out.resolve()):
        if (source := _source(path)) is not None:
            raise InputError(
                f"A samples file is written here, but {path} has the name of a file that `lookalike ingest {source}` "
                f"reads; give one such as {path.with_suffix('.h5').name}."
            )


def ingest_command(path: Path) -> str:
    """How to make a samples file of a picture, an array, a survey's HDF5 file or a folder of them, as a clause."""
    if path.is_dir():
        inside = itertools.islice((file for file in path.rglob("*") if not file.name.startswith(".")), LOOKED_AT)
        first = next((file for file in inside if _source(file)), None)
        source = _source(first) if first is not None else None
        if source == "idx" and first is not None:
            path = first
        elif first is not None and source not in ("images", "trackml"):  # which read folders; the others read files
            path = first.parent / f"*{first.suffix}"
    elif path.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        source = "legacysurvey" if _holds_images(path) else None
    else:
        source = _source(path)
    return f"make one with `lookalike ingest {f'{source} {path}' if source else 'SOURCE FILES'} --out samples.h5`"


def _source(path: Path) -> str | None:
    name = path.name.lower()
    return next((source for source, endings in SOURCES.items() if name.endswith(endings)), None)


def _holds_images(path: Path) -> bool:
    """Whether an HDF5 file of someone else holds `images`, without following what it links to."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            link = file.get("images", getlink=True)
            return isinstance(link, h5py.HardLink) and "kind" not in file.attrs
    except (OSError, RuntimeError, KeyError):
        return False
