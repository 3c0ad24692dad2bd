"""Room on the disk: looked at before a build begins, and an error of its own where it runs out all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.errors import FullError
from lookalike.sizes import size_text

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_room(out: Path, needed: int, *, held: Path | None = None) -> None:
    """FullError where the disk of `out` has fewer bytes free than needed, less what the folder `held` has of them."""
    there = sum(path.stat().st_blocks * 512 for path in held.rglob("*") if path.is_file()) if held else 0
    free = shutil.disk_usage(existing(out)).free
    if free + there < needed:
        raise FullError(
            f"{out} needs {size_text(needed - there)} on its disk, but {size_text(free)} is free; make room there "
            "(`lookalike gc` removes old versions), choose another --out, or store fewer neighbors (-k)."
        )


@contextmanager
def full_disk(out: Path) -> Iterator[None]:
    """Turn the system's error of a full disk into one that says what became of `out`."""
    try:
        yield
    except OSError as error:
        # HDF5 does not always hand the number on, but names it.
        if error.errno not in FULL and not any(f"errno = {number}," in str(error) for number in FULL):
            raise
        raise FullError(
            f"The disk of {out} is full. What it served until now is as it was; make room and run the same again: it "
            "goes on with what was saved."
        ) from None


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.resolve()
    return path if path.exists() else existing(path.parent)
