"""The labels retrieval is judged by: which objects have one, of what kind, and which half of them may be tuned on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, unknown
from lookalike.probes.ams import CLASSES
from lookalike.samples import Samples

KINDS = ("categorical", "continuous", "circular")
DIAL = 720.0  # minutes of 12 hours
FEW = 20  # whole numbers of at most so many different values are classes


@dataclass(frozen=True)
class Labels:
    """The n objects that have a label (and, where weights are asked for, a weight).

    rows    : (n,) rows of the samples, increasing.
    values  : (n,) int64 classes 0 to len(classes) − 1, float64 where `kind` is continuous, rad where it is circular.
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
    period: float = 0.0  # of circular labels, once round in their own unit
    unit: str = ""  # of labels that are numbers, where it is known

    @property
    def categorical(self) -> bool:
        return self.kind == "categorical"

    @property
    def signal(self) -> bool:
        """Whether these are the signal and background of weighted events, of which significance speaks."""
        return self.weighted and self.classes == CLASSES


def read_labels(
    samples: Samples,
    column: str,
    *,
    kind: str | None = None,
    period: float | None = None,
    weights: str | None = None,
    no_label: Sequence[str] = (),
) -> Labels:
    """The labels in a catalog column; a blank text and a number that is not finite are none.

    Blanks around a text are no part of it: “spiral ” and “spiral” are one class.

    column : one name, or `hour:minute` of two columns, which is the time on a dial of 12 hours, in minutes.
    kind   : "categorical", "continuous" or "circular"; None decides: texts, and whole numbers of at most FEW different
             values, are classes; what has a period is circular.
    no_label : values, as texts, that mean that an object has no label: noise, “can't tell”.
    period : of circular labels, once round. InputError where no two labels differ, texts are to be numbers, or kind
             and period do not go together.
    """
    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    given, dial = _given(samples, column)
    period = dial if period is None else period
    if period is not None and (not np.isfinite(period) or period <= 0 or kind not in (None, "circular")):
        raise InputError(f"A period is above 0 and of circular labels, but {period:g} was given for {kind or column}.")
    if kind == "circular" and period is None:
        raise InputError(f"Circular labels come round again: say after how much {column!r} does with --period.")
    text = given.dtype.kind == "U"
    if text:
        given = np.char.strip(given)
    has = (given != "" if text else np.isfinite(given)) & ~_meaning_none(given, no_label, column)
    weight = np.ones(len(samples)) if weights is None else _weights(samples, weights)
    rows = np.flatnonzero(has & np.isfinite(weight))
    values = given[rows]
    kind = kind or ("circular" if period else "categorical" if text or _few_whole_numbers(values) else "continuous")
    if text and kind != "categorical":
        raise InputError(f"A {kind} label is a number, but column {column!r} holds texts; give --kind categorical.")
    if period is not None:
        values = np.mod(values.astype(np.float64), period) * (2 * np.pi / period)
    distinct, classes = np.unique(values, return_inverse=True)
    if len(distinct) < 2:
        found = "has no value for any object" if not len(distinct) else f"is {given[rows][0]} for every object"
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
        period=period or 0.0,
        unit="" if categorical else "minutes" if dial else samples.columns[column].unit,
    )


def class_of(labels: Labels, name: str) -> int:
    """The number of a class; InputError with the choices where there is none of that name."""
    if not labels.categorical:
        raise InputError(f"Only classes ask by themselves, but the label {labels.column} is {labels.kind}.")
    if name not in labels.classes:
        raise unknown("class", name, labels.classes)
    return labels.classes.index(name)


def _given(samples: Samples, column: str) -> tuple[NDArray[Any], float | None]:
    """The values (N,) of a column, or the minutes of two columns of hours and minutes, and once round of these."""
    names = column.split(":")
    if column in samples.columns or len(names) != 2:
        return samples.column(column), None
    hour, minute = (samples.column(name) for name in names)
    for name, values in zip(names, (hour, minute), strict=True):
        if values.dtype.kind == "U":
            raise InputError(f"Hours and minutes are numbers, but column {name!r} holds texts.")
    return hour * 60.0 + minute, DIAL


def _meaning_none(given: NDArray[Any], values: Sequence[str], column: str) -> NDArray[np.bool_]:
    """Which objects (N,) have one of these values; InputError for a value that none has, or that is no number."""
    found = np.zeros(len(given), bool)
    for value in values:
        try:
            same = given == (value.strip() if given.dtype.kind == "U" else _as_number(value, given.dtype))
        except ValueError:
            raise InputError(f"Column {column!r} holds numbers, but --no-label {value!r} is none.") from None
        if not same.any():
            raise InputError(f"No object has the {column} {value!r} that --no-label leaves out.")
        found |= same
    return found


def _as_number(text: str, kind: np.dtype[Any]) -> int | float:
    """A number as it is written; whole where the column's are, which may have more digits than a fraction holds."""
    try:
        return int(text) if kind.kind in "iu" else float(text)
    except ValueError:
        return float(text)


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
