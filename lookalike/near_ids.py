"""Which id was meant by one that is not there: a few lookups in the sorted order, however many ids there are.

At most 3 × (MOST_EDITS + 64 × 2 × BEAM + some hundred) ids are looked at, each found by bisection.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.about import ID_LENGTH, id_from_name
from lookalike.errors import InputError

SUGGESTED = 3
BESIDE = 8  # ids compared on either side of the place in the order that the wrong one would have
BEAM = 16  # beginnings followed at once while capitals are tried for small letters and the reverse
MOST_EDITS = 2000  # one-letter changes looked up
SAMPLED = 64  # ids that tell which characters occur
ALIKE = 0.6  # difflib's ratio from which two ids are alike
SPREAD = 0.03  # of that ratio, among those suggested at once

Ids = NDArray[np.bytes_]


class NearIds:
    """The ids of a data set in sorted order, asked for those like a wrong one.

    ids : (N,) ASCII bytes, at least one, without duplicates. order : (N,) their rows as they sort.
    """

    def __init__(self, ids: Ids, order: NDArray[np.intp]) -> None:
        self.ids, self.order = ids, order

    def row(self, name: str) -> int | None:
        """The row of an id, None if there is none of that name."""
        place = self._place(wanted := name.encode("utf-8", "replace"))
        if place == len(self.ids) or self.ids[row := int(self.order[place])] != wanted:
            return None
        return row

    def hint(self, name: str) -> str:
        """What was meant, as a sentence: an id made of a file's name, ids spelled alike, else one as an example."""
        with contextlib.suppress(InputError):
            made = id_from_name(name)
            if made != name and self.row(made) is not None:
                return f"Did you mean {made!r}? Ids are file names without their ending."
        if found := self.near(name):
            *others, last = (repr(id) for id in found)
            return f"Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
        return f"An id here is, for instance, {self.ids[0].decode()!r}."

    def near(self, name: str) -> list[str]:
        """Up to SUGGESTED ids like `name`, nearest first.

        Those that differ only in capitals or in zeros before a number, else those of nearly its letters, or of nearly
        its letters as capitals or small ones.
        """
        name = name.encode("ascii", "replace").decode()[: ID_LENGTH + 1]
        tried = (self._near(spelled) for spelled in dict.fromkeys((name, name.upper(), name.lower())))
        return next(filter(None, tried), [])

    def _near(self, name: str) -> list[str]:
        if same := self._there(_renumbered(name)) | self._other_capitals(name):
            return sorted(same, key=lambda other: (-_likeness(name, other), other))[:SUGGESTED]
        beside = self._beside(name)
        found = self._there(self._edits(name, beside)) | {id for id in beside if _likeness(name, id) >= ALIKE}
        likeness = {id: _likeness(name, id) for id in found}
        least = max(likeness.values(), default=0.0) - SPREAD
        nearest = sorted(found, key=lambda other: (-likeness[other], -_shared(name, other), other))
        return [id for id in nearest if likeness[id] >= least][:SUGGESTED]

    def _place(self, wanted: bytes) -> int:
        """Where a name is, or would be, in the sorted order."""
        # NumPy would copy all ids into an array wide enough for a longer name; a cut one is followed by its equal.
        cut = wanted[: self.ids.dtype.itemsize]
        side: Literal["left", "right"] = "left" if len(cut) == len(wanted) else "right"
        return int(np.searchsorted(self.ids, np.array(cut, self.ids.dtype), side=side, sorter=self.order))

    def _places(self, names: list[bytes]) -> tuple[NDArray[np.intp], Ids]:
        """Where names no longer than the ids' type are in the order, and the id that is there or follows."""
        wanted = np.array(names, self.ids.dtype)
        places = np.searchsorted(self.ids, wanted, sorter=self.order)
        return places, self.ids[self.order[np.minimum(places, len(self.ids) - 1)]]

    def _there(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are ids."""
        fitting = sorted({name.encode() for name in names if 0 < len(name) <= self.ids.dtype.itemsize})
        if not fitting:
            return set()
        return {
            name.decode()
            for name, found in zip(fitting, self._places(fitting)[1].tolist(), strict=True)
            if name == found
        }

    def _other_capitals(self, name: str) -> set[str]:
        """Ids that differ only in capitals, by following the beginnings that some id has, letter by letter."""
        begun = [b""]
        for letter in name[: self.ids.dtype.itemsize]:
            longer = [start + case.encode() for start in begun for case in sorted({letter.lower(), letter.upper()})]
            begun = [
                start
                for start, id in zip(longer, self._places(longer)[1].tolist(), strict=True)
                if id.startswith(start)
            ]
            if not begun:
                return set()
            del begun[BEAM:]
        return self._there(start.decode() for start in begun if len(start) == len(name))

    def _beside(self, name: str) -> list[str]:
        """The ids before and after the place of a name, which share its longest beginnings."""
        place = self._place(name.encode())
        rows = self.order[max(0, place - BESIDE) : place + BESIDE]
        return [id.decode() for id in self.ids[rows].tolist()]

    def _edits(self, name: str, beside: list[str]) -> list[str]:
        """Names one letter away from `name`, or two neighboring ones exchanged, as far as some id begins like it."""
        some = self.ids[:: max(1, len(self.ids) // SAMPLED)][:SAMPLED].tolist()
        letters = sorted(set("".join([name, *beside, *(id.decode() for id in some)])))
        made = []
        for place in range(max((_shared(name, id) for id in beside), default=0), -1, -1):
            head, tail = name[:place], name[place:]
            made += [head + tail[1:], *([head + tail[1] + tail[0] + tail[2:]] if len(tail) > 1 else [])]
            made += [head + letter + rest for letter in letters for rest in (tail[1:], tail)]
        return made[:MOST_EDITS]


def _renumbered(name: str) -> list[str]:
    """The name with fewer or more zeros before one of its numbers."""
    made = []
    for found in re.finditer(r"\d+", name):
        number = found[0].lstrip("0") or "0"
        made += [f"{name[: found.start()]}{number:0>{width}}{name[found.end() :]}" for width in range(1, 20)]
    return made


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _shared(one: str, other: str) -> int:
    """The length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
