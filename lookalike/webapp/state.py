"""What the page shows, as its address says it: `?id=…&n=…&page=…&overlap=keep&via=…`; nothing else is remembered."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from lookalike.client import check_id
from lookalike.errors import InputError, unknown

NUMBERS = (16, 25, 36, 49, 64, 81, 100)
DEFAULT_NUMBER = 36
MAX_PAGE = 1000
MAX_OVERLAP = 0.25
TRAIL = 5  # objects kept in the trail


@dataclass(frozen=True)
class State:
    """The object searched from (None: the start page), how many results a page has, which page, and the trail.

    `keep_overlap` also shows results that share more of the query's footprint than the page allows. `trail` holds
    the ids that led here, oldest first.
    """

    id: str | None = None
    number: int = DEFAULT_NUMBER
    page: int = 1
    keep_overlap: bool = False
    trail: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Read the address's parameters; a wrong one is an InputError with the rule and the choices."""
        known = ("id", "n", "page", "overlap", "via")
        for name in query:
            if name not in known:
                raise unknown("parameter of the address", name, known)
        number = _integer("n", query.get("n", str(DEFAULT_NUMBER)))
        if number not in NUMBERS:
            raise InputError(f"n is one of {', '.join(map(str, NUMBERS))}, but {number} was given.")
        page = _integer("page", query.get("page", "1"))
        if not 1 <= page <= MAX_PAGE:
            raise InputError(f"page runs from 1 to {MAX_PAGE}, but {page} was given.")
        overlap = query.get("overlap", "hide")
        if overlap not in ("hide", "keep"):
            raise unknown("overlap", overlap, ("hide", "keep"))
        trail = tuple(name for name in query.get("via", "").split(",") if name)[-TRAIL:]
        for name in trail:
            check_id(name)
        wanted = query.get("id") or None
        return cls(check_id(wanted) if wanted else None, number, page, overlap == "keep", trail)

    @classmethod
    def readable(cls, query: Mapping[str, str]) -> Self:
        """Read what of the address is right; wrong parts count as not given."""
        right: dict[str, str] = {}
        for name, value in query.items():
            with contextlib.suppress(InputError):
                cls.from_query({name: value})
                right[name] = value
        return cls.from_query(right)

    def to_query(self) -> dict[str, str]:
        """The address's parameters, those with their default left out."""
        parameters = {
            "id": self.id,
            "n": str(self.number) if self.number != DEFAULT_NUMBER else None,
            "page": str(self.page) if self.page != 1 else None,
            "overlap": "keep" if self.keep_overlap else None,
            "via": ",".join(self.trail) or None,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def to(self, name: str) -> State:
        """The state after choosing an object: its first page, the one before it added to the trail."""
        if name == self.id:
            return replace(self, page=1)
        if name in self.trail:  # going back along the trail shortens it
            return replace(self, id=name, page=1, trail=self.trail[: self.trail.index(name)])
        trail = (*self.trail, self.id) if self.id else self.trail
        return replace(self, id=name, page=1, trail=trail[-TRAIL:])


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InputError(f"{name} is a whole number, but {text[:80]!r} was given.")
    return int(text)
