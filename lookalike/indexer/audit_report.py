"""The report of an audit: what was checked of which version, kept in INDEX/extras/<version>/audit.json."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Any

from lookalike.config import Config
from lookalike.errors import CorruptError, LockedError, LookalikeError, NotFoundError
from lookalike.files import lock, read_json, write_json
from lookalike.indexer.store import extras_folder, read_current

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class Chosen(Config):
    """How many rows were recomputed for which reason; one may have been for several."""

    random: int
    ends: int  # first and last, by row and in the window's order
    edge: int  # with an object on the window's edge, or one step beside it
    short: int  # with fewer neighbors than k
    without_value: int  # in no window


class AuditReport(Config):
    """What was checked, and found right; anything wrong is a CorruptError that names it instead."""

    version: str
    content_hash: str
    n: int
    k: int
    files: int  # hashed byte by byte
    lists: int  # checked against the rules every list obeys
    recomputed: int  # compared with brute force over all objects
    chosen: Chosen
    recall: float
    equal_similarities: float
    largest_difference: float  # between a stored and a recomputed similarity
    ties_at_k: int  # recomputed lists whose last similarity is also that of an object left out for its row
    seed: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def keep(report: AuditReport, folder: Path) -> AuditReport:
    """Write a report beside its version; where that cannot be, a note says so."""
    try:
        extras = extras_folder(folder, report.version)
        extras.mkdir(parents=True, exist_ok=True)
        with lock(extras / "audit.json"):
            write_json(extras / "audit.json", report.to_json())
    except LockedError:
        note = "Another audit of this version was writing its report at the same time: this one was not kept."
        return report.model_copy(update={"notes": (*report.notes, note)})
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        note = f"{folder} cannot be written to: the report was not kept there."
        return report.model_copy(update={"notes": (*report.notes, note)})
    return report


def forget(folder: Path) -> None:
    """Remove the report of an earlier audit of the served version, where that can be."""
    with contextlib.suppress(CorruptError, NotFoundError):
        path = extras_folder(folder, read_current(folder)[0]) / "audit.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise


def kept(folder: Path, version: str, content_hash: str) -> AuditReport | None:
    """The report of a version, None where no audit was made; CorruptError where it is none, or is of another index."""
    path = extras_folder(folder, version) / "audit.json"
    if not path.exists():
        return None
    try:
        report = AuditReport.checked(read_json(path))
    except (LookalikeError, OSError) as error:
        raise CorruptError(f"{path} cannot be read as the report of an audit: {error}") from None
    if (report.version, report.content_hash) != (version, content_hash):
        raise CorruptError(f"{path} describes another index than version {version} ({content_hash[:12]}…).")
    return report
