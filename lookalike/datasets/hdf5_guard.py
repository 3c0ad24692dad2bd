"""Opening an HDF5 file that someone else made: it is looked through first, and refused if it could harm.

A small HDF5 file can read other files of this machine (external links, external storage, virtual data sets), can
declare terabytes, or can ask for native plug-ins; h5py follows all of that without a word. HDF5's authors do not
call the library safe against crafted files, so only an operator's own files are read, and through this guard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from lookalike.errors import InputError
from lookalike.installing import install_extra

MAX_DEPTH = 8
MAX_OBJECTS = 10_000
MAX_DECLARED = 64 * 1024**4  # bytes in one data set
MAX_CHUNK = 1024**3  # bytes held at once to read one element
MAX_RATIO = 1000  # declared over stored bytes
SMALL = 64 * 1024**2  # declared bytes below which the ratio does not matter
# deflate, shuffle, fletcher32, szip, nbit, scaleoffset are HDF5's own; lzf is h5py's.
FILTERS = {1, 2, 3, 4, 5, 6, 32000}
# Filters that pandas and PyTables write with, which the package hdf5plugin brings: blosc, bzip2, blosc2.
PLUGINS = {32001, 307, 32026}


@contextmanager
def guarded(path: Path, *, plugins: bool = False) -> Iterator[h5py.File]:
    """Yield the file, opened read-only after every link and data set in it was checked; InputError otherwise.

    plugins : whether what hdf5plugin reads is read too; where that is missing, the InputError names its install.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file: {error}", code="bad_file") from None
    with file:
        try:
            _walk(file, path, 0, [0], plugins)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path} is not a readable HDF5 file: {error}", code="bad_file") from None
        yield file


def _walk(group: h5py.Group, path: Path, depth: int, seen: list[int], plugins: bool) -> None:
    if depth > MAX_DEPTH:
        raise _refused(path, group.name, f"groups are nested more than {MAX_DEPTH} deep")
    for name in group:
        seen[0] += 1
        if seen[0] > MAX_OBJECTS:
            raise _refused(path, group.name, f"the file holds more than {MAX_OBJECTS:,} objects")
        where = f"{group.name.rstrip('/')}/{name}"
        # The link is looked at before it is followed: following is what opens another file.
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise _refused(path, where, "it is a link to another place, and links are not followed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _walk(item, path, depth + 1, seen, plugins)
        elif isinstance(item, h5py.Dataset):
            _check(item, path, where, plugins)


def _check(data: h5py.Dataset, path: Path, where: str, plugins: bool) -> None:
    if data.external:
        raise _refused(path, where, "its values are stored in another file")
    if data.is_virtual:
        raise _refused(path, where, "it is a virtual data set made of other files")
    plist = data.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if plugins and filters & PLUGINS:
        _load_plugins(path)
        filters -= PLUGINS
    if filters - FILTERS:
        raise _refused(path, where, f"it uses the compression filter {min(filters - FILTERS)}, which is not HDF5's own")
    if data.shape is None:
        return
    declared = math.prod(data.shape) * data.dtype.itemsize
    stored = data.id.get_storage_size()
    if declared > MAX_DECLARED:
        raise _refused(path, where, f"it declares {declared:,} bytes")
    if declared > SMALL and declared > MAX_RATIO * max(stored, 1):
        raise _refused(path, where, f"it declares {declared:,} bytes but stores {stored:,}")
    if data.chunks is not None and math.prod(data.chunks) * data.dtype.itemsize > MAX_CHUNK:
        raise _refused(path, where, f"one chunk of it takes more than {MAX_CHUNK:,} bytes")


def _load_plugins(path: Path) -> None:
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        needed = install_extra("hep")
        raise InputError(f"{path} is compressed as PyTables does, which hdf5plugin reads: {needed}.") from None


def is_plain(dtype: Any) -> bool:
    """Whether values of this type are numbers or texts, and can be read without harm."""
    return dtype.kind in "fiubSU" or h5py.check_string_dtype(dtype) is not None


def _refused(path: Path, where: str, reason: str) -> InputError:
    return InputError(f"{path} is refused: {where}: {reason}.", code="bad_file")
