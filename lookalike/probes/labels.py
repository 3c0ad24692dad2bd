"""The labels retrieval is judged by: which objects have one, of what kind, and which half of them may be tuned on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, unknown
from lookalike.probes.ams import CLASSES
from lookalike.samples import Samples

KINDS = ("categorical", "continuous")
FEW = 20  # whole numbers of at most so many different values are classes


@dataclass(frozen=True)
class Labels:
    """The n objects that have a label (and, where weights are asked for, a weight).

    rows    : (n,) rows of the samples, increasing.
    values  : (n,) int64 classes 0 to len(classes) − 1, or float64 where `kind` is continuous.
    classes : their names, none where continuous.
    weights : (n,) of either sign, as simulated events have them; 1 without a column of weights, which `weighted` tells.
    """

    column: str
    kind: str
    rows: NDArray[np.int64]
    values: NDArray[Any]
    classes: tuple[str, ...]
    weights: NDArray[np.float64]
    without_label: int
    without_weight: int
    weighted: bool = False

    @property
    def categorical(self) -> bool:
        return self.kind == "categorical"

    @property
    def signal(self) -> bool:
        """Whether these are the signal and background of weighted events, of which significance speaks."""
        return self.weighted and self.classes == CLASSES


def read_labels(samples: Samples, column: str, *, kind: str | None = None, weights: str | None = None) -> Labels:
    """The labels in a catalog column; a blank text and a number that is not finite are none.

    Blanks around a text are no part of it: “spiral ” and “spiral” are one class.

    kind : "categorical" or "continuous"; None decides: texts, and whole numbers of at most FEW different values, are
    classes. InputError where no two labels differ, or texts are to be continuous.
    """
    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    given = samples.column(column)
    text = given.dtype.kind == "U"
    if text:
        given = np.char.strip(given)
    has = given != "" if text else np.isfinite(given)
    weight = np.ones(len(samples)) if weights is None else _weights(samples, weights)
    rows = np.flatnonzero(has & np.isfinite(weight))
    values = given[rows]
    kind = kind or ("categorical" if text or _few_whole_numbers(values) else "continuous")
    if text and kind == "continuous":
        raise InputError(f"A continuous label is a number, but column {column!r} holds texts; give --kind categorical.")
    distinct, classes = np.unique(values, return_inverse=True)
    if len(distinct) < 2:
        found = "has no value for any object" if not len(distinct) else f"is {distinct[0]} for every object"
        raise InputError(f"Labels must differ, but column {column!r} {found}.")
    categorical = kind == "categorical"
    return Labels(
        column,
        kind,
        rows,
        classes.astype(np.int64) if categorical else values.astype(np.float64),
        tuple(str(value) for value in distinct.tolist()) if categorical else (),
        weight[rows],
        without_label=int(np.count_nonzero(~has)),
        without_weight=int(np.count_nonzero(has & ~np.isfinite(weight))),
        weighted=weights is not None,
    )


def _few_whole_numbers(values: NDArray[Any]) -> bool:
    return bool((values == np.floor(values)).all()) and len(np.unique(values)) <= FEW


def _weights(samples: Samples, column: str) -> NDArray[np.float64]:
    values = samples.column(column)
    if values.dtype.kind == "U":
        raise InputError(f"A weight is a number, but column {column!r} holds texts.")
    return values.astype(np.float64)


def reporting_half(ids: NDArray[np.bytes_], seed: int) -> NDArray[np.bool_]:
    """Which objects (N,) are of the reporting half, by a hash of seed and id.

    So an object is in the same half in every data set, under every label and however its pictures were ingested:
    what was tuned on one half of one file never meets the other half in another.
    """
    prefix = f"{seed}:".encode()
    bits = [hashlib.sha256(prefix + name).digest()[0] & 1 for name in ids.tolist()]
    return np.array(bits, dtype=bool)
