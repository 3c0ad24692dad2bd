"""Texts that are given away, without the folders of whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# What names a file or folder in the reports of `evaluate`, and what others are likely to call it.
PATH_KEYS = {
    *("catalog", "checkpoint", "config", "dir", "directory", "embeddings", "file", "files", "folder", "folders"),
    *("html", "out", "output", "path", "paths", "plot", "samples"),
}
SEPARATOR = re.compile(r"[/\\]")
ADDRESS = re.compile(r"\W*(?:https?|ftp|doi):", re.IGNORECASE)  # of a page: it names no folder of a machine of ours
BEFORE = re.compile(r"^[\w.-]*[=('\"\[{<]+|^-+[\w-]+=")  # of a path within a word: `--out=`, `(`
ROOT = re.compile(
    r"\.{0,2}|~.*|\$\{?\w+\}?|%\w+%|[\w.-]+:"
)  # its first part: /, ., .., ~user, $HOME, %TEMP%, C:, file:
ENDING = re.compile(r"\.[A-Za-z]\w{0,7}\W*$")  # of a file's name
SENTENCE = re.compile(r"[.,;:!?]\s")


def without_folders(value: Any) -> Any:
    """The same JSON value with every path in its keys and texts cut down to its last part.

    A path is what stands under a name such as `files`, wherever else the same text occurs; what begins like one (/, ..,
    ~, C:, \\\\server, file:, a variable); and what has folders before a file's name, or two. One folder before a
    name without an ending is taken for a fraction or a unit (arcsec/px) elsewhere than under such a name. Addresses of
    pages stay.
    """
    known = sorted(set(_named(value)), key=len, reverse=True)
    return _cut(value, known)


def _named(value: Any, key: str = "") -> Iterator[str]:
    """All texts with folders that stand under the name of a path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _named(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named(inner, key)
    elif isinstance(value, str) and key in PATH_KEYS and SEPARATOR.search(value) and not ADDRESS.match(value):
        yield value


def _cut(value: Any, known: list[str]) -> Any:
    if isinstance(value, dict):
        return {_cut(name, known): _cut(inner, known) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(inner, known) for inner in value]
    if not isinstance(value, str):
        return value
    for path in known:
        value = value.replace(path, _name(path))
    if _is_one_path(value):
        return _name(value)
    return "".join(_word(word) for word in re.split(r"(\s+)", value))


def _is_one_path(text: str) -> bool:
    """Whether a text with blanks is one path all the same, and no sentence about some."""
    parts = SEPARATOR.split(text)
    folders = text[: len(text) - len(parts[-1])]
    begins = len(parts) > 2 and bool(ROOT.fullmatch(parts[0])) and not ADDRESS.match(text)
    return begins and not SENTENCE.search(folders)


def _word(word: str) -> str:
    """A word without the folders in it, if it is a path."""
    if not SEPARATOR.search(word) or ADDRESS.match(word):
        return word
    before = found[0] if (found := BEFORE.match(word)) else ""
    parts = SEPARATOR.split(word[len(before) :])
    folders = [part for part in parts[:-1] if part]
    numbers = all(part.strip(".,;:()").isdigit() for part in parts)
    rooted = bool(folders) and bool(ROOT.fullmatch(parts[0]))
    path = rooted or len(folders) > 1 or bool(ENDING.search(parts[-1]))
    return before + _name("/".join(parts)) if path and not numbers else word


def _name(path: str) -> str:
    """The last part of a path that is not empty."""
    parts = [part for part in SEPARATOR.split(path) if part.strip()]
    return parts[-1] if parts else path
