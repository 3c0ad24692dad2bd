"""What is known of an index's approximate stage (approximate.py): its size, its settings, its measured recall.

It lies in an attribute of the stage's own file, INDEX/extras/v000001/approximate.h5, and is read without the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from lookalike.attributes import as_text
from lookalike.config import Config
from lookalike.errors import CorruptError, InputError
from lookalike.indexer.store import extras_folder

FILE = "approximate.h5"
AGAIN = "build it again with `lookalike approximate`."
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)  # what HDF5 raises of a broken file


class Recall(Config):
    """Recall@k over so many queries, with Wilson's 95 % interval."""

    k: int
    value: float
    low: float
    high: float
    queries: int


class ApproximateReport(Config):
    """What was built: cells, how many a search looks into for the target at k, and the measured recall at more k."""

    version: str
    content_hash: str
    n: int
    cells: int
    probes: int
    target: float
    k: int
    seed: int
    recall: tuple[Recall, ...]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def recall_at(self, k: int) -> Recall:
        """That of the least k measured that is not below this one, else of the largest."""
        return next((one for one in self.recall if one.k >= k), self.recall[-1])

    @classmethod
    def of(cls, path: Path, file: h5py.File, version: str, content_hash: str) -> ApproximateReport:
        """The report in a stage's open file; CorruptError where it is none, or of another version than this."""
        try:
            report = cls.checked(json.loads(as_text(file.attrs["about"])))
        except (*DAMAGE, InputError) as error:
            raise CorruptError(f"{path} cannot be read ({error}); {AGAIN}") from None
        if (report.version, report.content_hash) != (version, content_hash) or not report.recall:
            raise CorruptError(f"{path} describes another index than {version}; {AGAIN}")
        return report


def stage_path(folder: Path, version: str) -> Path:
    """Where the approximate stage of a version lies."""
    return extras_folder(folder, version) / FILE


def kept(folder: Path, version: str, content_hash: str) -> dict[str, Any] | None:
    """The report of a version's stage as JSON, with the bytes of its file; None where none was built.

    CorruptError where it cannot be read, or is of another index. Its arrays are looked at by a search alone.
    """
    path = stage_path(folder, version)
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r", locking=False) as file:
            report, size = ApproximateReport.of(path, file, version, content_hash), path.stat().st_size
    except OSError as error:
        raise CorruptError(f"{path} cannot be read ({error}); {AGAIN}") from None
    return report.to_json() | {"bytes": size}
