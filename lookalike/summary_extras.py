"""What `lookalike info` says of what was added to an index: its audit, and what searches read besides the lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lookalike.sizes import size_text
from lookalike.wording import counted


def extras(found: Mapping[str, Any]) -> dict[str, str]:
    """Each with a line, whether it is there, is not, or cannot be used; found : what `info` found of an index."""
    return {
        "verified": _audit(found["audit"]),
        **{name: _read_by_searches(found[name], missing, told) for name, (missing, told) in READ.items()},
    }


def _read_by_searches(found: Mapping[str, Any] | None, missing: str, told: Callable[[Mapping[str, Any]], str]) -> str:
    if found is None:
        return missing
    return f"cannot be used: {found['problem']}" if "problem" in found else told(found)


def _audit(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not yet; `lookalike verify` does it"
    if "problem" in found:
        return f"not known: {found['problem']}"
    lists = counted(found["recomputed"], "list")
    return (
        f"every byte, and {lists} recomputed (seed {found['seed']}): recall {found['recall']:g}, largest difference "
        f"{found['largest_difference']:g}, {counted(found['ties_at_k'], 'tie')} at the k-th place"
    )


def _sky(found: Mapping[str, Any]) -> str:
    return f"{counted(found['objects'], 'object')} to be found by position, {found['without_position']:,} have none"


def _rounded(found: Mapping[str, Any]) -> str:
    size, error = size_text(found["bytes"]), found["largest_error"]
    return f"{size} of vectors that live searches read first, off by {error:.2g} at most"


def _approximate(found: Mapping[str, Any]) -> str:
    measured = next(one for one in found["recall"] if one["k"] == found["k"])
    return (
        f"{found['probes']:,} of {counted(found['cells'], 'cell')} looked into, chosen for recall@{found['k']} "
        f"{found['target']:g}: measured {measured['value']:.3f} ({measured['low']:.3f}–{measured['high']:.3f}) with "
        f"{counted(measured['queries'], 'held-out query', 'held-out queries')}; {size_text(found['bytes'])}"
    )


READ = {  # what is said where there is none, and of one there is
    "sky": ("no index of positions; `lookalike sky` makes it where the catalog has ra and dec", _sky),
    "rounded": (
        "no rounded vectors, so live searches read all of each; the same `lookalike index` makes some",
        _rounded,
    ),
    "approximate": (
        "no such stage, so searches are exact; `lookalike approximate` makes one for large sets",
        _approximate,
    ),
}
