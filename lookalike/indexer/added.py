"""What a version is given besides its lists before it is served: its calibration, and its vectors rounded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lookalike.embeddings import Embeddings
from lookalike.files import atomic_folder
from lookalike.indexer.calibration import calibrate
from lookalike.indexer.calibration import take_over as take_over_calibration
from lookalike.indexer.rounded import rounded_folder
from lookalike.indexer.rounded_build import round_vectors
from lookalike.samples import Samples


def add(
    folder: Path, version: str, samples: Samples, embeddings: Embeddings, memory_bytes: int, *, quiet: bool = False
) -> None:
    """Make and store both, unless the version has them."""
    calibrate(folder, version, samples, embeddings, memory_bytes)
    round_vectors(folder, version, embeddings, quiet=quiet)


def take_over(folder: Path, before: str, version: str) -> None:
    """Give a version what another of equal content was given."""
    take_over_calibration(folder, before, version)
    rounded, place = rounded_folder(folder, before), rounded_folder(folder, version)
    if rounded.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(place) as made:
            for path in rounded.iterdir():
                _link(path, made / path.name)


def _link(path: Path, other: Path) -> None:
    """The same file under another name, as neither is ever changed; a copy where the disk has no such links."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
