"""The build record: what made a file, when, where and with which versions. It never enters a content hash."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import socket
import sys
from pathlib import Path
from typing import Any

from lookalike import __version__
from lookalike.files import read_json, write_json

RECORDED = (
    "torch",
    "torchvision",
    "faiss-gpu",
    "faiss-cpu",
    "numpy",
    "h5py",
    "scikit-image",
    "sep",
    "astropy",
)


def build_record(command: str, *, settings: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    """Describe a run: the command, its settings, the content hash of each input, versions, time, host."""
    return {
        "command": command,
        "settings": settings,
        "inputs": inputs,
        "arguments": sys.argv[1:],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "folder": str(Path.cwd()),
        "versions": {"lookalike": __version__, "python": platform.python_version(), **_installed()},
    }


def record_path(made: Path) -> Path:
    """Where the record of a file or folder lies: beside the file, or inside the folder."""
    return made / "build.json" if made.is_dir() else made.with_name(f"{made.name}.build.json")


def write_record(made: Path, record: dict[str, Any]) -> None:
    write_json(record_path(made), record)


def read_record(made: Path) -> dict[str, Any] | None:
    """The record beside `made`, or None where it was moved without it."""
    path = record_path(made)
    return read_json(path) if path.exists() else None


def _installed() -> dict[str, str]:
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
