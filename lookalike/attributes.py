"""Texts as attributes of our HDF5 files, stored with a fixed length.

HDF5 keeps texts of variable length in a heap of their own, and one damaged byte of it makes the library loop
forever or crash; a text of fixed length lies with its attribute, and damage there is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np


def set_texts(item: h5py.HLObject, texts: Mapping[str, str]) -> None:
    """Store texts as attributes of a file, group or data set."""
    for name, value in texts.items():
        encoded = value.encode()
        item.attrs[name] = np.array(encoded, f"S{max(1, len(encoded))}")  # HDF5 has no text of length 0


def as_text(value: Any) -> str:
    """The text of an attribute's value, of fixed or variable length; UnicodeDecodeError where it is damaged."""
    return value.decode() if isinstance(value, bytes) else str(value)
