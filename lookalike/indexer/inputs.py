"""What an index keeps of vectors from elsewhere: `INDEX/inputs/` with an embeddings and a samples file of ours.

Both are named by their content hash, so that a version and the next one over the same vectors share them, and a
changed catalog copies no vectors. What no version that is left belongs to is collected with the versions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lookalike.errors import LookalikeError
from lookalike.files import read_json
from lookalike.indexer.store import MANIFEST, Manifest, version_folder

FOLDER = "inputs"


def input_path(folder: Path, what: str, digest: str) -> Path:
    """Where the samples or embeddings of a content hash lie."""
    return folder / FOLDER / f"{what}-{digest[:16]}.h5"


def unneeded_inputs(folder: Path, kept: Iterable[str]) -> list[Path]:
    """What lies in `inputs/` and belongs to none of the versions `kept`, unfinished files too; needs the lock.

    Nothing where the manifest of one of those cannot be read, since what it needs is then unknown.
    """
    needed = set()
    for version in kept:
        try:
            manifest = Manifest.checked(read_json(version_folder(folder, version) / MANIFEST))
        except (LookalikeError, OSError):
            return []
        needed |= {(folder / path).resolve() for path in (*manifest.samples.paths, *manifest.embeddings.paths)}
    return [path for path in sorted((folder / FOLDER).glob("*")) if path.is_file() and path.resolve() not in needed]


def drop_unneeded(folder: Path, kept: Iterable[str]) -> None:
    """Remove those; needs the lock."""
    for path in unneeded_inputs(folder, kept):
        path.unlink()
    remove_empty(folder / FOLDER)


def remove_empty(*folders: Path) -> None:
    """Remove those of the folders that are there and empty, in order."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
