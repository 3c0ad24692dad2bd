"""The process in which a weight file made elsewhere is read: `python -m lookalike.ssl.weights_child FILE FOLDER`.

It limits its own memory, time and output before it opens the file, runs no code of the file (`weight_files`), and
leaves in FOLDER report.json and, where the file was read, tensors.safetensors. It imports no torch, so that the
memory limit can be close to what the file needs.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from lookalike.ssl.weight_files import MAX_FILE, RefusedError, read_weights

REPORT, TENSORS = "report.json", "tensors.safetensors"
MEMORY = 1024**3  # bytes beyond four times the file: Python, NumPy, its threads' stacks
SECONDS = 120  # of computing; the largest files take a tenth
LISTED = 1000  # names of one kind in the report


def main(file: Path, folder: Path) -> None:
    """Read the file within the limits; what went wrong is a sentence in the report, never a traceback."""
    report: dict[str, Any] = {"refused": "it cannot be read"}
    try:
        _limit(file.stat().st_size)
        weights = read_weights(file)
        save_file(weights.tensors, folder / TENSORS)
        report = {
            "format": weights.format,
            "unread": {_printable(key): _printable(what) for key, what in weights.unread.items()},
            "outside": [_printable(name) for name in weights.outside[:LISTED]],
            "foreign": [_printable(name) for name in weights.foreign[:LISTED]],
        }
    except RefusedError as error:
        report = {"refused": _printable(str(error))}
    except MemoryError:
        report = {"refused": "reading it takes more memory than a weight file of its length needs"}
    except OSError as error:
        report = {"refused": f"it cannot be read ({_printable(str(error))})"}
    (folder / REPORT).write_text(json.dumps(report), encoding="utf-8")


def _limit(size: int) -> None:
    """Hold this process to the memory, time and output that a file of `size` bytes may take."""
    limits = {
        resource.RLIMIT_AS: MEMORY + 4 * min(size, MAX_FILE),
        resource.RLIMIT_CPU: SECONDS,
        resource.RLIMIT_FSIZE: 2 * MAX_FILE,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        # macOS has no limit on address space; what the file declares is checked all the same.
        with contextlib.suppress(ValueError) if sys.platform == "darwin" else contextlib.nullcontext():
            resource.setrlimit(kind, (lowest, lowest))


def _printable(text: str) -> str:
    """One line of at most 300 characters, whatever the file says."""
    return "".join(character if character.isprintable() else "?" for character in text)[:300]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
