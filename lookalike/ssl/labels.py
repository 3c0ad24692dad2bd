"""The catalog column whose classes a training watches, and which of its objects are asked; needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.wording import counted

WATCHED = 2000  # most objects that are embedded to look at their labels
NEIGHBORS = 10


def watched_objects(samples: Samples, column: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (n,) of up to WATCHED objects that have a label, spread evenly over the data set, and their classes (n,).

    A label is a text or a whole number. InputError where the column does not exist, holds other numbers, or has fewer
    than two classes or no more than NEIGHBORS objects with one.
    """
    labels: NDArray[Any] = samples.column(column)
    text = labels.dtype.kind == "U"
    if not text and not np.equal(np.mod(labels[np.isfinite(labels)], 1), 0).all():
        raise InputError(f"--label watches classes, texts or whole numbers, but column {column!r} holds others.")
    rows = np.flatnonzero(np.char.strip(labels) != "" if text else np.isfinite(labels))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), WATCHED)).astype(int)] if len(rows) else rows
    names, classes = np.unique(labels[rows], return_inverse=True)
    if len(names) < 2 or len(rows) <= NEIGHBORS:
        raise InputError(
            f"--label needs two classes and more than {NEIGHBORS} objects that have one, but column {column!r} "
            f"has {len(names)} in {counted(len(rows), 'object')}."
        )
    return rows, classes.reshape(-1)
