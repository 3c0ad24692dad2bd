"""What was read, as the build record names it, and how what is read now differs from it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lookalike.hints import SOURCES

# Above these, the build record names a file's size in place of its hash, which would take minutes to compute.
HASHED_BYTES = 256 * 1024**2
RECORDED_INPUTS = 100
FOLDER = "folder"  # as records of earlier versions call every folder


def source_files(folder: Path, source: str) -> Iterator[Path]:
    """The files of a folder that a source reads, in no order."""
    endings = SOURCES.get(source, ())
    for file in folder.rglob("*"):
        if file.name.lower().endswith(endings) and not file.name.startswith(".") and file.is_file():
            yield file


def fingerprints(paths: Sequence[Path], source: str) -> dict[str, str]:
    """Every input by its path: SHA-256 of small files, the size of large ones, for a folder how many files it holds
    and a SHA-256 of their names, sizes and times."""
    found: dict[str, str] = {}
    for path in paths[:RECORDED_INPUTS]:
        if path.is_dir():
            found[str(path)] = _folder(path, source)
        elif path.stat().st_size > HASHED_BYTES:
            found[str(path)] = f"bytes:{path.stat().st_size}"
        else:
            with path.open("rb") as file:
                found[str(path)] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if len(paths) > RECORDED_INPUTS:
        found["…"] = f"and {len(paths) - RECORDED_INPUTS} more"
    return found


def _folder(folder: Path, source: str) -> str:
    held = []
    for file in source_files(folder, source):
        told = file.stat()
        held.append((file.relative_to(folder).as_posix(), told.st_size, told.st_mtime_ns))
    digest = hashlib.sha256(repr(sorted(held)).encode(errors="surrogateescape")).hexdigest()
    return f"{FOLDER} of {len(held)}:{digest}"


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two readings, as clauses; none where nothing does.

    The folders that the inputs lie in do not count, since one folder may be written in several ways.
    """
    before, after = (Counter((Path(path).name, str(value)) for path, value in each.items()) for each in (then, now))
    old, new = (before - after).elements(), (after - before).elements()
    was: dict[str, list[str]] = {}
    for name, value in old:
        was.setdefault(name, []).append(value)
    told = []
    for name, value in new:
        if not was.get(name):
            told.append(f"{name} was not read then")
        elif (earlier := was[name].pop()) != FOLDER or not value.startswith(FOLDER):
            told.append(_changed(name, earlier, value))
    return told + [f"{name} is not read now" for name, values in was.items() for _ in values]


def _changed(name: str, then: str, now: str) -> str:
    held_then, held_now = (value.rpartition(":")[0].removeprefix(f"{FOLDER} of ") for value in (then, now))
    if not now.startswith(FOLDER) or not then.startswith(FOLDER):
        return f"{name} has changed"
    if held_then != held_now:
        return f"{name} held {held_then} files then and holds {held_now} now"
    return f"some of the {held_now} files in {name} have another name, size or time"
