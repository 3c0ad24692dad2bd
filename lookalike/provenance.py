"""The build record: what made a file, when, where and with which versions. It never enters a content hash."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py

from lookalike import __version__
from lookalike.attributes import as_text
from lookalike.errors import CorruptError, InputError
from lookalike.files import read_json, write_json
from lookalike.onnx_files import file_hash, read_about

WAYS_OUT = "Choose another --out, or replace it with --overwrite."

IN_FOLDER, BESIDE = "build.json", ".build.json"  # the record's name, in a folder and after a file's name

PARTS: dict[str, type] = {
    **dict.fromkeys(("command", "content_hash", "time", "host", "folder"), str),
    **dict.fromkeys(("settings", "inputs", "versions", "counts", "missing"), dict),
    **dict.fromkeys(("arguments", "notes", "left_out"), list),
}

RECORDED = (
    "torch",
    "torchvision",
    "faiss-gpu",
    "faiss-cpu",
    "numpy",
    "numba",
    "h5py",
    "scikit-image",
    "sep",
    "astropy",
)


def build_record(
    command: str,
    *,
    settings: dict[str, Any],
    inputs: dict[str, str],
    content_hash: str | None = None,
    data: str = "",
) -> dict[str, Any]:
    """Describe a run: the command, its settings, the content hash of each input, versions, time, host.

    content_hash : of what was made. The record of a file needs it, since it lies beside the file and either may
                   be replaced alone; a folder holds its own record.
    data         : the source of the samples that something is of, which tells simulated objects from others.
    """
    return {
        "command": command,
        **({"content_hash": content_hash} if content_hash is not None else {}),
        "settings": settings,
        "inputs": inputs,
        **({"data": data} if data else {}),
        "arguments": sys.argv[1:],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "folder": str(Path.cwd()),
        "versions": {"lookalike": __version__, "python": platform.python_version(), **_installed()},
    }


def record_path(made: Path) -> Path:
    """Where the record of a file or folder lies: beside the file, or inside the folder."""
    return made / IN_FOLDER if made.is_dir() else made.with_name(f"{made.name}{BESIDE}")


def write_record(made: Path, record: dict[str, Any]) -> None:
    write_json(record_path(made), record)


def drop_record(made: Path) -> None:
    """Remove the record beside a file, just before another file takes its name: it must not describe that one."""
    record_path(made).unlink(missing_ok=True)


def read_record(made: Path) -> dict[str, Any] | None:
    """The record of `made`; None where it was moved without it, or where the one there tells of another file.

    CorruptError where what is there cannot be read or is no build record.
    """
    path = record_path(made)
    if not path.exists():
        return None
    record = checked_record(path)
    told = record.get("content_hash")
    return record if told is None or made.is_dir() or told == recorded_hash(made) else None


def checked_record(path: Path) -> dict[str, Any]:
    """What a build record says; CorruptError where it cannot be read or is none."""
    try:
        record = read_json(path)
    except OSError as error:
        raise CorruptError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(record, dict):
        raise CorruptError(f"{path} is not a build record.")
    for name, kind in PARTS.items():
        if not isinstance(record.get(name, kind()), kind):
            raise CorruptError(f"{path} is not a build record: its {name!r} is {record[name]!r}.")
    return record


def record_of(path: Path) -> Path | None:
    """The file or folder that a build record of this name tells of; None for any other name, as that of no file."""
    if path.name == IN_FOLDER:
        return path.absolute().parent
    name = path.name.removesuffix(BESIDE)
    return path.with_name(name) if name not in ("", path.name) else None


def refuse_loss(out: Path, digest: str) -> None:
    """InputError where a file is in the way whose content hash is not `digest`, that of what would replace it."""
    if out.exists() and (found := recorded_hash(out)) != digest:
        what = f"content hash {found[:12]}… for {digest[:12]}…" if found else "no file of ours"
        raise InputError(f"{out} holds something else ({what}) and was left as it was. {WAYS_OUT}")


def refuse_input(out: Path, inputs: Iterable[Path]) -> None:
    """InputError where what is to be written is one of the files that are read."""
    if out.resolve() in {path.resolve() for path in inputs}:
        raise InputError(f"{out} is read here and cannot be written too; choose another --out.")


def recorded_hash(made: Path) -> str | None:
    """The content hash one of our HDF5 or ONNX files holds, None where it holds none or cannot be read."""
    if read_about(made) is not None:
        return file_hash(made)
    try:
        with h5py.File(made, "r", locking=False) as file:
            return as_text(file.attrs["content_hash"])
    except (OSError, KeyError, RuntimeError, ValueError, TypeError):
        return None


def _installed() -> dict[str, str]:
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
