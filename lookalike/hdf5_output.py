"""New HDF5 files that survive a full disk.

Where the system refuses to take what the library holds, HDF5 says nothing when the file is closed, or ends the whole
process. So it writes through a file that never refuses; what the disk did not take is kept in memory until our own code
asks, which is after each block, and the error is raised there.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import h5py


class Hdf5Output(h5py.File):  # type: ignore[misc]
    """A new HDF5 file, open for writing; OSError where the disk did not take it, from `check` and `close`."""

    def __init__(self, path: Path) -> None:
        self._sink = _Sink(path)
        try:
            super().__init__(self._sink, "w")
        except BaseException:
            self._sink.close()
            raise

    def check(self) -> None:
        """Raise the error of any write until now; called after each block, it keeps little in memory."""
        if self._sink.error is not None:
            raise self._sink.error

    def close(self) -> None:
        """Close the file and bring it to the disk."""
        super().close()
        self._sink.close()
        self.check()


class _Sink(io.RawIOBase):
    """A file whose writes succeed: after the first that the system refused they go to memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._at = self._size = 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        place, count = self._at, len(left)
        self._at += count
        self._size = max(self._size, self._at)
        while left and self.error is None:
            try:
                written = os.pwrite(self._file, left, place)
            except OSError as error:
                self._failed(error)
                break
            place, left = place + written, left[written:]
        if left:
            self._kept.append((place, bytes(left)))
        return count

    def readinto(self, buffer: Any) -> int:
        out = memoryview(buffer).cast("B")
        count = max(0, min(len(out), self._size - self._at))
        out[:count] = os.pread(self._file, count, self._at).ljust(count, b"\0")
        for place, data in self._kept:
            first, last = max(place, self._at), min(place + len(data), self._at + count)
            if first < last:
                out[first - self._at : last - self._at] = data[first - place : last - place]
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self._size = self._at if size is None else size
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:
            self._failed(error)
        return self._size

    def _failed(self, error: OSError) -> None:
        self.error = self.error or OSError(error.errno, error.strerror, str(self._path))

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
            super().close()
