"""What a version of an index holds and belongs to, as its manifest.json says it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from lookalike.config import Config
from lookalike.errors import CorruptError, InputError, LookalikeError
from lookalike.files import read_json
from lookalike.indexer.lists_file import KIND, SCHEMA, StoredArray

READS = (1, SCHEMA)  # layouts that are read; the first had no checksums, so that its lists are not looked at
MANIFEST = "manifest.json"
AGAIN = "build it again with `lookalike index`."


class StoredFile(Config):
    bytes: int
    sha256: str


class BelongsTo(Config):
    """A data set, embeddings file or checkpoint by content; paths are relative to the index folder."""

    content_hash: str
    paths: tuple[str, ...] = ()


class Manifest(Config):
    """What a version holds and what it belongs to."""

    kind: str = KIND
    schema_version: int = SCHEMA
    version: str
    content_hash: str
    n: int
    dimensions: int
    k: int
    window: dict[str, Any] | None
    counts: dict[str, int]  # objects without a window value, with fewer than k neighbors, with none
    max_length: float  # upper bound of the embeddings' lengths, for live search
    footprint_px: int  # side of the square an object is seen in
    footprint_from: str
    arrays: dict[str, StoredArray]
    files: dict[str, StoredFile]
    samples: BelongsTo
    embeddings: BelongsTo
    checkpoint: BelongsTo | None = None


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path, digest: str | None) -> Manifest:
    """The manifest of a version; CorruptError where it is none, or not the one with this SHA-256, if one is known."""
    if not path.is_file():
        raise CorruptError(f"{path} is missing; {AGAIN}")
    if digest is not None and sha256_of(path) != digest:
        raise CorruptError(f"{path} was altered; {AGAIN}")
    values = read_json(path)
    if not isinstance(values, dict):
        raise CorruptError(f"{path} is not a manifest of ours; {AGAIN}")
    if values.get("schema_version") not in READS:
        raise InputError(
            f"{path} has schema {values.get('schema_version')}; this version reads {' and '.join(map(str, READS))}."
        )
    try:
        return Manifest.checked(values)
    except LookalikeError as error:
        raise CorruptError(f"{path} is not a manifest of ours ({error.message}); {AGAIN}") from None
