"""Loops compiled for the processor by numba.

Compiled once a machine: the result is kept beside the source, or in the user's cache folder where that is read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

Loop = TypeVar("Loop", bound=Callable[..., Any])

# Sums may be taken with fused multiply-adds and zeros lose their sign; NaN and infinity keep their meaning.
LOOSE = {"contract", "nsz"}
SUMS = LOOSE | {"reassoc"}  # and in any order, so that they are done in vectors


class _Files(IndexDataCacheFile):
    """numba's files of one function, of which an index never names a file before it is there, or one of older code."""

    def save(self, key: Any, data: Any) -> None:
        # numba writes the index first and numbers files from 1: cut short there, older code would be run ever after.
        digest = hashlib.blake2b(repr((self._source_stamp, key)).encode(), digest_size=6).digest()
        name = self._data_name(int.from_bytes(digest, "big"))  # type: ignore[no-untyped-call]
        self._save_data(name, data)  # type: ignore[no-untyped-call]
        self._save_index(self._load_index() | {key: name})  # type: ignore[no-untyped-call]


class _Kept(FunctionCache):
    """What numba keeps of a function; what cannot be read is compiled again, and what cannot be kept is not."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)  # type: ignore[no-untyped-call]
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)  # type: ignore[no-untyped-call]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # a file cut short, by a crash or a full disk, is no pickle of whatever kind
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def native(loop: Loop) -> Loop:
    """Compile a function of numbers and arrays when it is first called; it runs without Python's lock.

    Functions that it calls must be native and of the same file, or a change of theirs would not be noticed.
    """
    return _compiled(loop, LOOSE)


def native_sum(loop: Loop) -> Loop:
    """The same for a function whose sums may be taken in any order."""
    return _compiled(loop, SUMS)


def _compiled(loop: Loop, loose: set[str]) -> Loop:
    compiled = numba.njit(nogil=True, fastmath=loose, error_model="numpy")(loop)
    with suppress(RuntimeError):  # there is no folder to keep the result in
        # As enable_caching does with numba's own.
        compiled._cache = _Kept(loop)  # type: ignore[attr-defined]
    return cast(Loop, compiled)
