"""What an ONNX file says of itself, read without the packages that compute with it.

Layout: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (ModelProto.metadata_props), in the wire format of
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEY = "lookalike"  # of the entry that describes an export of ours
METADATA_PROPS, NAME, VALUE = 14, 1, 2  # numbers of fields
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_ENTRY = 1 << 20  # bytes of one entry


def read_about(path: Path) -> dict[str, Any] | None:
    """How an ONNX export of ours describes itself; None where a file is none."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            entries = [data[start : min(end, start + MAX_ENTRY)] for start, end in _fields(data, METADATA_PROPS)]
        for entry in entries:
            texts = {number: _text(entry, number) for number in (NAME, VALUE)}
            if texts[NAME] == KEY:
                about = json.loads(texts[VALUE])
                return about if isinstance(about, dict) else None
    except (OSError, ValueError, IndexError, RecursionError):
        return None
    return None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, which is an export's content hash: nothing in it depends on time or place."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(entry: bytes, number: int) -> str:
    return "".join(entry[start:end].decode() for start, end in _fields(entry, number))


def _fields(data: bytes | mmap.mmap, wanted: int) -> Iterator[tuple[int, int]]:
    """Start and end of each field of bytes that has this number; ValueError where the data are no message."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _, at = _varint(data, at)
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("no message of protobuf")
        if number == 0 or at + length > end:
            raise ValueError("no message of protobuf")
        if number == wanted and kind == BYTES:
            yield at, at + length
        at += length


def _varint(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no message of protobuf")
