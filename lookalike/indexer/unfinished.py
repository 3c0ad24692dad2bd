"""What an unfinished build leaves, so that the next one of the same plan goes on where it was stopped.

    INDEX/versions/.PLAN.partial/version/        what will be the version: its neighbors.h5 with the lists so far
    INDEX/versions/.PLAN.partial/work.json       the plan, and all tiles: stripes, queries, and their candidates
    INDEX/versions/.PLAN.partial/open-N.bin      the open lists (standing.py)
    INDEX/versions/.PLAN.partial/progress.json   how far that is, with hashes of all of it; replaced atomically

Several may lie side by side, each of another plan; the next build goes on with its own, `lookalike gc` removes
old ones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lookalike.config import Config
from lookalike.errors import LookalikeError
from lookalike.files import PARTIAL, read_json
from lookalike.indexer.lists_file import NEIGHBORS

WORK, PROGRESS, OPEN, VERSION = "work.json", "progress.json", "open-", "version"


class SavedOpen(Config):
    """The open lists on the disk, and where their stripe stood."""

    file: str
    sha256: str
    start: int
    stop: int
    done: int
    asked: int
    opened: int


class Progress(Config):
    """How far a build is. done : the lists of places before it are stored. checks : SHA-256 of their checksums."""

    done: int
    places: int
    checks: str
    work: str
    open: SavedOpen | None


def folder_of(out: Path, plan: str) -> Path:
    """Where an unfinished build of the plan with this hash lies."""
    return out / "versions" / f".{plan[:16]}{PARTIAL}"


def saved_progress(folder: Path) -> Progress | None:
    """How far an unfinished build is, None where it holds nothing to go on with."""
    if not (folder / VERSION / NEIGHBORS).is_file():
        return None
    try:
        return Progress.checked(read_json(folder / PROGRESS))
    except (LookalikeError, TypeError, OSError):
        return None


def unfinished(out: Path) -> list[Path]:
    """The folders of unfinished builds that can be gone on with."""
    return [path for path in sorted((out / "versions").glob(f".*{PARTIAL}")) if saved_progress(path) is not None]


def last_saved(folder: Path) -> float:
    """When the state of an unfinished build was last saved, in seconds since 1970."""
    return (folder / PROGRESS).stat().st_mtime


def give_up(folder: Path) -> None:
    """Remove an unfinished build of which nothing was saved."""
    if folder.exists() and saved_progress(folder) is None:
        shutil.rmtree(folder)
