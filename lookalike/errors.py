"""What can go wrong, as types: the library raises these, the edges (terminal, HTTP, page) translate them.

Every message states the rule, then the value given, then the choices.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CollapsedError",
    "CorruptError",
    "FullError",
    "InputError",
    "LockedError",
    "LookalikeError",
    "NotFoundError",
    "StoppedError",
    "unknown",
]

FEW, LISTED = 24, 12  # choices that a message names all, and how many of more: those most alike and the first


class LookalikeError(Exception):
    """Base of every error a user can meet; `code` is stable and machine-readable."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InputError(LookalikeError):
    """Something the user gave is wrong: a value, a file's content, a combination of options."""

    code = "invalid_input"


class NotFoundError(LookalikeError):
    """A file, an id or a column that does not exist."""

    code = "not_found"


class CorruptError(LookalikeError):
    """One of our own files was altered or damaged; the message names it and how to make it anew."""

    code = "corrupt_file"


class FullError(LookalikeError):
    """The disk has less room than an output needs."""

    code = "disk_full"


class LockedError(LookalikeError):
    """Another living process is writing the same output."""

    code = "locked"


class CollapsedError(LookalikeError):
    """The encoder maps every object to nearly the same vector."""

    code = "collapsed_encoder"


class StoppedError(LookalikeError):
    """A signal ended a long job after it had saved its state; the message says how to go on."""

    code = "stopped"


def unknown(kind: str, value: object, choices: Iterable[object]) -> InputError:
    """An InputError that says what was given, the nearest match and the choices: of many, those most alike first."""
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(names) > FEW:
        alike = difflib.get_close_matches(str(value), names, n=LISTED)
        first = [*alike, *(name for name in names if name not in alike)][:LISTED]
        listed = f"{', '.join(first)} and {len(names) - LISTED:,} more"
    else:
        listed = ", ".join(names) if names else "(none)"
    return InputError(
        f"Unknown {kind} {str(value)!r}.{hint} Choices: {listed}.", code=f"unknown_{kind.replace(' ', '_')}"
    )
