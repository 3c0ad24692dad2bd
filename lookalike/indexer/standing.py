"""The open lists of a build on the disk, one after the other: no more memory than some of them is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.files import sync
from lookalike.indexer.pairs import PairBuilder, Standing
from lookalike.indexer.unfinished import SavedOpen

LISTS = 256  # written and read at once
TYPES = {"count": "<i8", "worst": "<u8", "keys": "<u8"}


def write_standing(path: Path, at: Standing) -> str:
    """Write the open lists and bring them to the disk; SHA-256 of the file."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for slots in _groups(at):
            for name, kind in TYPES.items():
                data = getattr(at.lists, name)[slots].astype(kind, copy=False).tobytes()
                file.write(data)
                digest.update(data)
    sync(path)
    return digest.hexdigest()


def read_standing(folder: Path, saved: SavedOpen, builder: Any) -> Standing | None:
    """Where a builder goes on, None where the file is not the one that was saved."""
    path = folder / saved.file
    if not isinstance(builder, PairBuilder) or path.parent != folder or not path.is_file():
        return None
    at = builder.begun(saved.start, saved.stop)
    at.done, at.asked, at.opened = saved.done, saved.asked, saved.opened
    if not saved.start <= saved.done <= saved.asked <= saved.stop <= len(builder.ranges.order):
        return None
    if not saved.asked <= saved.opened <= saved.stop or saved.opened - saved.done > builder.slots:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for slots in _groups(at):
            for name, kind in TYPES.items():
                held = getattr(at.lists, name)
                shape = (len(slots), *held.shape[1:])
                data = file.read(int(np.prod(shape)) * 8)
                digest.update(data)
                if len(data) != int(np.prod(shape)) * 8:
                    return None
                held[slots] = np.frombuffer(data, kind).reshape(shape)
        if file.read(1) or digest.hexdigest() != saved.sha256:
            return None
    return at


def _groups(at: Standing) -> Iterator[Any]:
    for start in range(at.done, at.opened, LISTS):
        yield at.lists.slots(start, min(start + LISTS, at.opened))
