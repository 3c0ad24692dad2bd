"""What an index was built from: found where it was recorded or is said to be now, and refused if it is another."""

from __future__ import annotations

import os
from pathlib import Path

from lookalike.embeddings import Embeddings
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import read_json
from lookalike.indexer.manifest import BelongsTo, Manifest
from lookalike.samples import Samples

OTHER = {  # what an index belongs to: how another one is called, and what to do about it
    "samples": ("other samples", "give those with --samples, or embed and index these"),
    "embeddings": ("other embeddings", "give those with --embeddings, or index these"),
    "checkpoint": (
        "another encoder",
        "if it was trained further since, embed and index again; or give the former one with --checkpoint DIR",
    ),
}


class Inputs:
    """The samples, embeddings and checkpoint that a version of the index `folder` belongs to."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = Path(folder), manifest

    def open_samples(self, paths: list[Path] | None = None) -> Samples:
        """The data set the index was built for, from its recorded place or another; a different one is refused."""
        recorded = [self._place(path) for path in self.manifest.samples.paths]
        places = paths or _there(recorded, "samples", self.folder)
        samples = Samples(places)
        self._check_belongs("samples", ", ".join(map(str, places)), samples.content_hash, self.manifest.samples)
        return samples

    def open_embeddings(self, path: Path | None = None) -> Embeddings:
        """The embeddings the index was built from, likewise."""
        place = path or _there([self._place(self.manifest.embeddings.paths[0])], "embeddings", self.folder)[0]
        embeddings = Embeddings(place)
        self._check_belongs("embeddings", str(place), embeddings.content_hash, self.manifest.embeddings)
        return embeddings

    def checkpoint(self, path: Path | None = None) -> Path:
        """The folder of the encoder that made the embeddings, likewise; NotFoundError where none was recorded."""
        recorded = self.manifest.checkpoint
        if recorded is None or not (path or recorded.paths):
            how = (
                "give --checkpoint DIR, or build it again with that." if recorded else "build it with --checkpoint DIR."
            )
            raise NotFoundError(
                f"{self.folder} was built without its encoder, which a search from a picture needs: {how}",
                code="no_checkpoint",
            )
        place = path or _there([self._place(recorded.paths[0])], "checkpoint", self.folder)[0]
        self._check_belongs("checkpoint", str(place), checkpoint_about(place)[0], recorded)
        return place

    def _place(self, path: str) -> Path:
        return (self.folder / path).resolve()

    def _check_belongs(self, what: str, place: str, found: str, recorded: BelongsTo) -> None:
        if found != recorded.content_hash:
            raise InputError(
                f"{self.folder} was built with {OTHER[what][0]} (content hash {recorded.content_hash[:12]}…) than "
                f"{place} ({found[:12]}…): {OTHER[what][1]}.",
                code=f"other_{what}",
            )


def checkpoint_about(folder: Path) -> tuple[str, int]:
    """A checkpoint's content hash and the side of its views in px, read without loading the encoder."""
    values = read_json(folder / "config.json")
    try:
        return str(values["content_hash"]), int(values["preprocess"]["size"])
    except (KeyError, TypeError, ValueError):
        raise CorruptError(f"{folder / 'config.json'} does not describe a checkpoint of ours.") from None


def relative(path: Path, folder: Path) -> str:
    """The path as the manifest records it: from the index folder, so that both can move together."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _there(paths: list[Path], what: str, folder: Path) -> list[Path]:
    for path in paths:
        if not path.exists():
            raise NotFoundError(
                f"{folder} was built with {what} at {path}, where nothing is now; say where with --{what}.",
                code=f"moved_{what}",
            )
    return paths
