"""Writing that survives a kill: temporary file, fsync, rename, fsync of the folder; and one lock per output.

A plain HDF5 file that was being written when its process died is unreadable, so nothing is ever written in
place. A temporary name ends in `.partial`; a reader never looks at one, and the next writer removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError

PARTIAL = ".partial"
BEGINS = {
    ".png": (b"\x89PNG",),
    ".pdf": (b"%PDF",),
    ".html": (b"<",),
    ".htm": (b"<",),
    ".svg": (b"<",),
    ".json": (b"{",),
}


def natural_key(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `part2` comes before `part10`."""
    # ASCII digits alone: `²` and its like are digits to Python, but no number.
    parts = re.split(r"([0-9]+)", str(path))
    return tuple((1, int(part), part) if place % 2 else (0, 0, part) for place, part in enumerate(parts))


def reading_order(path: Path) -> tuple[object, object]:
    """Sort key of the files of one data set: by name, then by the folder they lie in."""
    return natural_key(path.name), natural_key(path.resolve())  # however their folders are spelled


def existing_files(paths: list[Path]) -> list[Path]:
    """The same paths in reading order, after checking that each is a file and none is named twice."""
    if not paths:
        raise InputError("At least one file is needed, none was given.")
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"No such file: {path}")
        if not path.is_file():
            raise InputError(f"A file is needed here, but {path} is a folder.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(f"A file is named twice among {', '.join(map(str, paths))}.")
    return sorted(paths, key=reading_order)


def write_point(name: str) -> None:
    """A named place between two steps of a write, where the crash tests kill the process.

    `LOOKALIKE_KILL_AT=name` or `name:n` (the n-th time it is passed) sends SIGKILL to this process; unset,
    nothing happens. The tests use it to stop at exactly the moments a random kill seldom meets.
    """
    wanted, _, count = os.environ.get("LOOKALIKE_KILL_AT", "").partition(":")
    if wanted == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


_passed: dict[str, int] = {}


def file_output(path: Path) -> Path:
    """The same path, resolved, after checking that a file can take that name: InputError if it is a folder."""
    path = path.resolve()  # `.` has no name to build others from, and two spellings are one file
    if path.is_dir():
        raise InputError(f"A file is written here, but {path} is a folder.")
    check_parent(path)
    return path


def report_output(path: Path) -> Path:
    """As `file_output`, for a page, plot or table made anew at each run: it replaces only a file of its own kind.

    Kinds are told by a file's first bytes, so that no data are lost to a mistyped name.
    """
    path = file_output(path)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            head = file.read(4096)
        begins = BEGINS.get(path.suffix.lower())
        if (b"\0" in head) if begins is None else not head.lstrip().startswith(begins):
            raise InputError(f"{path} is there already and is no {path.suffix[1:].upper()} file; choose another name.")
    return path


def check_parent(output: Path) -> None:
    """InputError where the folder of an output neither is there nor can be made: only that one is, none above it.

    So a name that is mistyped early makes no tree of folders.
    """
    parent = output.resolve().parent
    if parent.exists() and not parent.is_dir():
        raise InputError(f"{output} would lie in {parent}, which is a file.")
    if not parent.parent.is_dir():
        raise InputError(
            f"The folder of an output is made where it is missing, but none above it: {output} would lie in {parent}, "
            f"and there is no folder {parent.parent}."
        )


def make_parent(output: Path) -> None:
    """Make the folder of an output where it is missing; InputError as for `check_parent`."""
    check_parent(output)
    output.resolve().parent.mkdir(exist_ok=True)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the name `path`, on failure it is removed.

    Within a `lock` on the same output, leftovers of a killed predecessor are removed first. InputError before
    any work where `path` is a folder.
    """
    path = file_output(path)
    with _beside(path) as temporary:
        yield temporary
        write_point(f"{path.name}.written")
        sync(temporary)
        temporary.replace(file_output(path))  # looked at again: writing may have taken hours


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like atomic_path for a whole new folder: it appears under `path` complete or not at all.

    A folder already there is replaced with all it holds. InputError before any work where `path` is a file.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"A folder is written here, but {path} is a file.")
    with _beside(path) as temporary:
        temporary.mkdir()
        yield temporary
        for inner in sorted(temporary.rglob("*")):
            if not inner.is_symlink() and (inner.is_file() or inner.is_dir()):  # a link may lead nowhere
                sync(inner)
        write_point(f"{path.name}.written")
        sync(temporary)
        _replace_folder(temporary, path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A free temporary path beside the resolved `path`, removed on failure; the folder is synced on success."""
    make_parent(path)
    temporary = path.with_name(f".{path.name}{PARTIAL}")
    _remove(temporary)
    try:
        yield temporary
        sync(path.parent)
        write_point(f"{path.name}.renamed")
    except BaseException:
        _remove(temporary)
        raise


def _replace_folder(temporary: Path, path: Path) -> None:
    """Rename over `path`; an existing folder is first moved aside, since a rename cannot replace it."""
    if not path.is_dir():
        temporary.replace(path)
        return
    old = path.with_name(f".{path.name}.old{PARTIAL}")
    _remove(old)
    try:
        path.replace(old)
        write_point(f"{path.name}.moved-aside")
        temporary.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        raise
    _remove(old)


def recover_folder(path: Path) -> None:
    """Finish what a process killed between the two renames of a folder's replacement left undone."""
    path = path.resolve()
    old = path.with_name(f".{path.name}.old{PARTIAL}")
    if old.exists() and not path.exists():
        old.replace(path)
    _remove(old)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(output: Path) -> Iterator[None]:
    """Hold the one writer's lock on `output`; a second writer is refused at once, a dead one's lock is free.

    The lock is the kernel's (flock) on `.NAME.lock`, so it dies with its process; the file's text only names
    the holder for the message, and is removed with the lock. Raises LockedError where another holds it,
    InputError where the file system keeps no locks.
    """
    output = output.resolve()
    make_parent(output)
    file = output.with_name(f".{output.name}.lock")
    descriptor = _locked(file, output)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is still held, so that no other's is removed
        os.close(descriptor)


def _locked(file: Path, output: Path) -> int:
    """An open descriptor that holds the lock on the file now named `file`."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed it since it was opened: a nameless lock guards nothing.
            if _is_named(descriptor, file):
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "an unnamed process"
            os.close(descriptor)
            raise LockedError(
                f"{output} is being written by {holder}. Wait for it, or choose another output."
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise InputError(
                f"Outputs lie on a file system that keeps locks, but that of {output.parent} does not "
                f"({error.strerror}); choose an output on another."
            ) from None
        os.close(descriptor)


def _is_named(descriptor: int, file: Path) -> bool:
    try:
        named = file.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)


def write_json(path: Path, value: object) -> None:
    """Write a JSON document atomically; NaN is refused, since JSON has none."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read one of our JSON documents; a missing or broken one is a typed error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"No such file: {path}") from None
    except (ValueError, RecursionError) as error:  # broken, nested too deep, or a number too long
        raise CorruptError(f"{path} is not the JSON document it should be: {error}") from None
