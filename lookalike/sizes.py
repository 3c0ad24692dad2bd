"""Sizes of memory and of files, as people write and read them."""

from __future__ import annotations

import re

from lookalike.errors import InputError

UNITS = {"GiB": 2**30, "MiB": 2**20, "GB": 10**9, "MB": 10**6}
SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[A-Za-z]+)")


def parse_size(text: str) -> int:
    """Bytes of a size such as 4GiB or 500 MB; InputError for anything else."""
    found = SIZE.fullmatch(text.strip())
    if found is None or found["unit"] not in UNITS:
        raise InputError(f"A size is a number with {', '.join(UNITS)}, such as 4GiB, but {text!r} was given.")
    return int(float(found["number"]) * UNITS[found["unit"]])


def size_text(count: int) -> str:
    """A number of bytes in GiB or MiB, rounded up: what is enough."""
    unit = "GiB" if count >= UNITS["GiB"] else "MiB"
    return f"{-(-count * 10 // UNITS[unit]) / 10:,.1f} {unit}"
