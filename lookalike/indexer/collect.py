"""Dropping old versions of an index folder: `lookalike gc`."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookalike.errors import InputError
from lookalike.files import PARTIAL, lock
from lookalike.indexer.inputs import unneeded_inputs
from lookalike.indexer.store import VERSION, extras_folder, number, read_current, version_folder, versions

KEEP = 2


@dataclass(frozen=True)
class Collected:
    """What was removed, or with `dry_run` would be: paths within the folder, and the bytes they held."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    bytes: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"removed": list(self.removed), "kept": list(self.kept)}


def collect(folder: Path, *, keep: int = KEEP, dry_run: bool = False) -> Collected:
    """Remove all but the served version and the `keep` newest up to it, and what killed builds left.

    What was added to a version (extras) or is kept for it (inputs) goes with the last one that needs it. Needs the
    builder's lock (LockedError). A process that has a version open keeps it until it closes it.
    Errors: InputError for keep < 1; NotFoundError, CorruptError where the served version is not known.
    """
    if keep < 1:
        raise InputError(f"At least 1 version is kept, but keep = {keep} was given.")
    folder = Path(folder)
    read_current(folder)  # what is no index gets no lock beside it
    with lock(folder):
        current, _ = read_current(folder)
        published = [name for name in versions(folder) if number(name) <= number(current)]
        kept = sorted({current, *published[-keep:]}, key=number)
        spared = {path for name in kept for path in (version_folder(folder, name), extras_folder(folder, name))}
        inside = [path for part in ("versions", "extras") for path in sorted((folder / part).glob("*"))]
        old = [path for path in inside if path not in spared and _ours(path)]
        old += unneeded_inputs(folder, kept)
        old += sorted(folder.glob(f".*{PARTIAL}"))
        size = sum(_bytes(path) for path in old)
        if not dry_run:
            for path in old:
                _remove(path)
    return Collected(tuple(path.relative_to(folder).as_posix() for path in old), tuple(kept), size, dry_run)


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
