"""What of ours a folder holds that is itself none of ours, such as the demo's: each file and folder in brief."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from lookalike.about import FEATURES, PARTICLES
from lookalike.augmentations.inputs import AnyInput
from lookalike.augmentations.jet_image import JetImage
from lookalike.augmentations.preprocess import Seen
from lookalike.embeddings import KIND as EMBEDDINGS
from lookalike.errors import InputError, LookalikeError
from lookalike.files import natural_key
from lookalike.info import NOT_OURS, ONNX, UNFINISHED, describe
from lookalike.provenance import record_of
from lookalike.samples import KIND as SAMPLES
from lookalike.wording import counted

KIND = "folder"
DEPTH = 2  # checkpoints/NAME is found from outside
LOOKED_AT = 2000  # files and folders

Found = Mapping[str, Any]


def describe_all(path: Path) -> dict[str, Any]:
    """The description of a file or folder of ours, or of all that a folder holds of ours.

    Of a folder: {"kind": "folder", "files": [{"path", …its own description, or "error"}], "looked_at", "complete"};
    hidden files are passed over, and no more than LOOKED_AT looked at, the nearest first (`complete` says whether that
    were all). Errors as for `describe`: a folder with nothing of ours is an InputError.
    """
    try:
        return describe(path)
    except InputError as error:
        if error.code != NOT_OURS or not path.is_dir():
            raise
        looked_at = list(itertools.islice(_inside(path), LOOKED_AT + 1))
        looked_at.sort(key=lambda entry: [natural_key(part) for part in entry[0].relative_to(path).parts])
        files = [{"path": str(inner.relative_to(path)), **found} for inner, found in looked_at if found]
        if not files:
            raise
        complete = len(looked_at) <= LOOKED_AT
        return {"kind": KIND, "files": files, "looked_at": min(len(looked_at), LOOKED_AT), "complete": complete}


def _inside(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """What lies in a folder and in those within, with its description if it is ours: what is nearer first.

    Folders of one depth take turns, so that one of many pictures does not keep the others from being looked into.
    """
    turns, deeper, depth = deque([_entries(folder)]), list[Path](), 1
    while turns:
        entries = turns.popleft()
        if (entry := next(entries, None)) is not None:
            turns.append(entries)
            found = _described(entry)
            yield entry, found
            if found is None and depth < DEPTH and entry.is_dir() and not entry.is_symlink():
                deeper.append(entry)
        elif not turns:
            turns, deeper, depth = deque(map(_entries, deeper)), [], depth + 1


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in a folder, in natural order, but for hidden files and build records.

    Nothing of a folder that is not ours to read.
    """
    try:
        entries = [each for each in folder.iterdir() if each.name[0] != "." and record_of(each) is None]
    except OSError:
        return
    yield from sorted(entries, key=lambda entry: natural_key(entry.name))


def _described(path: Path) -> dict[str, Any] | None:
    """The description of a file or folder of ours, or why there is none; None for what is not ours."""
    try:
        return describe(path)
    except LookalikeError as error:
        kind = "unfinished" if error.code in UNFINISHED else "damaged"
        return None if error.code == NOT_OURS else {"kind": kind, "error": error.message}
    except OSError:
        return None


def in_brief(found: Found) -> tuple[str, str]:
    """What a thing of ours is and its measures, each in a few words."""
    kind = str(found["kind"])
    say = BRIEF.get(kind)
    return kind.removeprefix("lookalike "), say(found) if say else str(found.get("error", ""))


def _samples(found: Found) -> str:
    return f"{counted(found['objects'], 'object')}, {found[found.get('layout', 'images')]}, {found['domain']}"


def _embeddings(found: Found) -> str:
    return f"{counted(found['objects'], 'object')}, {counted(found['dimensions'], 'dimension')}, {found['dtype']}"


def _index(found: Found) -> str:
    from lookalike.indexer.windows import Window

    window = Window.from_json(found["window"])
    within = "no window" if window is None else f"window {window}"
    return f"{counted(found['n'], 'object')}, k = {found['k']:,}, {within}, {found['version']}"


def _checkpoint(found: Found) -> str:
    seen = f"{found['encoder']['name']}, {_seen(found)}"
    if "imported" in found.get("train", {}):
        return f"{seen}, imported"
    epochs = found.get("epoch", 0)
    return f"{seen}, {epochs:g} epoch{'' if epochs == 1 else 's'} on {counted(found.get('objects', 0), 'object')}"


def _seen(found: Found) -> str:
    """What an encoder is given of an object, in a few words."""
    given: Seen = TypeAdapter(AnyInput).validate_python(found["preprocess"])
    if given.layout == FEATURES:
        return f"records of {counted(given.size, 'number')}"
    if isinstance(given, JetImage):
        return f"{counted(given.channels, 'jet image')} of {given.size} px"
    if given.layout == PARTICLES:
        return f"{'hits' if found['domain'] == 'track' else 'particles'} of {counted(given.size, 'number')}"
    return f"{counted(found['encoder']['channels'], 'band')} of {given.size} px"


def _export(found: Found) -> str:
    return f"{found['layer']} of {found['encoder']['name']}, {counted(len(found['preprocess']['bands']), 'band')}"


BRIEF: dict[str, Callable[[Found], str]] = {
    SAMPLES: _samples,
    ONNX: _export,
    EMBEDDINGS: _embeddings,
    "lookalike index": _index,
    "lookalike checkpoint": _checkpoint,
}
