"""Columns that look like numbers but became text, because of a value that is none: a window cannot use them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
SAMPLE = 1000  # values that decide whether a column looks like numbers at all
# What the CSV reader takes for "no value" in a column of numbers.
NAN = ("nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan")
NO_VALUE = ("", "#n/a n/a", "#n/a", "#na", "n/a", "na", "null", *NAN)


def note_lost_numbers(name: str, values: NDArray[Any], where: str, ledger: Ledger) -> None:
    """Say of a text column (N,) most of whose values are numbers how many are not, and where the first of those is."""
    if values.dtype.kind != "U" or values.ndim != 1:
        return
    texts = values.tolist()
    filled = [row for row, text in enumerate(texts) if text.lower() not in NO_VALUE]
    sample = filled[:: max(1, len(filled) // SAMPLE)]
    if not sample or 2 * sum(_is_number(texts[row]) for row in sample) < len(sample):
        return
    bad = [row for row in filled if not _is_number(texts[row])]
    if bad:
        ledger.note(
            f"Column {name!r} of {where} is stored as text: {len(bad):,} of its {len(filled):,} values "
            f"{'is no number' if len(bad) == 1 else 'are no numbers'}, the first {texts[bad[0]][:40]!r} in row "
            f"{bad[0] + 1:,} (counted from 1). Only a column of numbers can be a window."
        )
    elif any(not texts[row].lstrip("+-").isdigit() for row in sample):  # whole numbers as text are names or codes
        ledger.note(
            f"Column {name!r} of {where} is stored as text, as it is there, though its values are numbers. "
            "Only a column of numbers can be a window."
        )


def numbers_of(texts: NDArray[np.str_]) -> tuple[NDArray[np.float64], list[int]]:
    """Texts (N,) as numbers, NaN where there is no value, and the rows of those that are none, NaN too."""
    found, bad = np.full(len(texts), np.nan), []
    for row, text in enumerate(texts.tolist()):
        if _is_number(text):
            found[row] = float(text)
        elif text.lower() not in NO_VALUE:
            bad.append(row)
    return found, bad


def _is_number(text: str) -> bool:
    return bool(NUMBER.fullmatch(text))
