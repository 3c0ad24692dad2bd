"""Dropping old versions of an index folder: `lookalike gc`."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookalike.errors import InputError
from lookalike.files import PARTIAL, lock
from lookalike.indexer.inputs import unneeded_inputs
from lookalike.indexer.store import VERSION, extras_folder, number, read_current, unpublished, version_folder, versions
from lookalike.indexer.unfinished import last_saved, unfinished

KEEP = 2
DAYS = 7.0  # for which an unfinished build is kept after it was last saved


@dataclass(frozen=True)
class Collected:
    """What was removed, or with `dry_run` would be: paths within the folder, and the bytes they held.

    kept : versions. unfinished : builds that were stopped and are kept, since they can be gone on with.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    bytes: int
    dry_run: bool
    unfinished: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        lists = {"removed": list(self.removed), "kept": list(self.kept), "unfinished": list(self.unfinished)}
        return asdict(self) | lists


def collect(folder: Path, *, keep: int = KEEP, unfinished_days: float = DAYS, dry_run: bool = False) -> Collected:
    """Remove all but the served version and the `keep` newest up to it, and what killed builds left.

    What was added to a version (extras) or is kept for it (inputs) goes with the last one that needs it.
    unfinished_days : a stopped build that can be gone on with, and one that was stopped just before its version was
    served, is kept for so long after it was last saved. Needs the
    builder's lock (LockedError), so that none goes on meanwhile. A process that has a version open keeps it until it
    closes it. Errors: InputError for keep < 1; NotFoundError, CorruptError where the served version is not known.
    """
    if keep < 1:
        raise InputError(f"At least 1 version is kept, but keep = {keep} was given.")
    if not unfinished_days >= 0:
        raise InputError(f"Unfinished builds are kept for 0 days or more, but {unfinished_days} was given.")
    folder = Path(folder)
    read_current(folder)  # what is no index gets no lock beside it
    with lock(folder):
        current, _ = read_current(folder)
        published = [name for name in versions(folder) if number(name) <= number(current)]
        kept = sorted({current, *published[-keep:]}, key=number)
        going = [path for path in unfinished(folder) if time.time() - last_saved(path) < unfinished_days * 86400]
        if (newest := unpublished(folder)) is not None:  # finished, but killed just before it was served
            done = version_folder(folder, newest)
            if time.time() - done.stat().st_mtime < unfinished_days * 86400:
                going += [done, extras_folder(folder, newest)]
        spared = {path for name in kept for path in (version_folder(folder, name), extras_folder(folder, name))}
        spared |= set(going)
        going = [path for path in going if path.is_dir()]
        inside = [path for part in ("versions", "extras") for path in sorted((folder / part).glob("*"))]
        old = [path for path in inside if path not in spared and _ours(path)]
        old += unneeded_inputs(folder, kept)
        old += sorted(folder.glob(f".*{PARTIAL}"))
        old += sorted(path for path in (folder / "extras").glob(f"*/.*{PARTIAL}") if path.parent not in old)
        size = sum(_bytes(path) for path in old)
        if not dry_run:
            for path in old:
                _remove(path)
    names = [tuple(path.relative_to(folder).as_posix() for path in paths) for paths in (old, going)]
    return Collected(names[0], tuple(kept), size, dry_run, names[1])


def _ours(path: Path) -> bool:
    return path.name.endswith(PARTIAL) or VERSION.fullmatch(path.name) is not None


def _bytes(path: Path) -> int:
    files = [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _remove(path: Path) -> None:
    """Renamed first: a version is there whole or not at all, even where its removal is killed."""
    if not path.is_dir():
        path.unlink()
        return
    if not path.name.endswith(PARTIAL):
        path = path.replace(path.with_name(f".{path.name}{PARTIAL}"))
    shutil.rmtree(path)
