"""New HDF5 files: what h5py would write, and an error, not an end of the process, on a full disk.

pytest tests/test_hdf5_output.py
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lookalike import hdf5_output
from lookalike.about import About, Column
from lookalike.hdf5_output import Hdf5Output
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples

SIZE = 550_000  # bytes that `fill` writes, at least


class SmallDisk:
    """A disk that takes so many bytes more, the last of them of a write that it cuts short."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room, self.refused, self._write = room, 0, os.pwrite
        monkeypatch.setattr(hdf5_output.os, "pwrite", self.pwrite)

    def pwrite(self, file: int, data: Any, place: int) -> int:
        if not self.room:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        some = memoryview(data)[: self.room]
        self.room -= len(some)
        return self._write(file, some, place)


def fill(file: h5py.File) -> None:
    """Growing chunks, compressed ones, one that is moved, a contiguous array, attributes."""
    rng = np.random.default_rng(0)
    for name, options in {"x": {}, "y": {"compression": 1}}.items():
        data = file.create_dataset(name, (0, 40), "f4", maxshape=(None, 40), chunks=(8, 40), **options)
        for _ in range(16):
            data.resize(len(data) + 100, axis=0)
            data[-100:] = rng.random((100, 40))
    file.create_dataset("group/z", data=np.arange(5000))
    file.move("y", "w")
    file.attrs["about"] = "x" * 3000


def test_the_file_holds_what_h5py_would_write(tmp_path: Path) -> None:
    with Hdf5Output(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "theirs.h5", "w") as theirs:
        fill(ours)
        fill(theirs)
    with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
        assert sorted(ours) == sorted(theirs) == ["group", "w", "x"]
        for name in ("x", "w", "group/z"):
            assert ours[name].shape == theirs[name].shape
            assert ours[name][:].tobytes() == theirs[name][:].tobytes()
        assert dict(ours.attrs) == dict(theirs.attrs)
    sizes = [(tmp_path / name).stat().st_size for name in ("ours.h5", "theirs.h5")]
    assert abs(sizes[0] - sizes[1]) < 10_000


@pytest.mark.parametrize("room", [0, 1, 100, *range(2_000, SIZE, 31_337)])
def test_a_full_disk_is_an_error_wherever_it_is_met(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SmallDisk(room, monkeypatch)
    path = tmp_path / "a.h5"
    with pytest.raises(OSError, match=r"No space left on device.*a\.h5") as met, Hdf5Output(path) as file:
        fill(file)
    assert met.value.errno == errno.ENOSPC
    assert disk.refused == 1  # nothing more is tried
    assert path.stat().st_size >= room


def test_the_library_reads_what_the_disk_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallDisk(3000, monkeypatch)
    file = Hdf5Output(tmp_path / "a.h5")
    fill(file)
    assert file["group/z"][:].tolist() == list(range(5000))
    with pytest.raises(OSError, match="No space left"):
        file.check()
    with pytest.raises(OSError, match="No space left"):
        file.close()


def test_samples_say_it_with_the_block_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = About(domain="image", bands=("gray",))
    images = np.zeros((50, 1, 128, 128), np.uint8)
    out = tmp_path / "samples.h5"
    with write_samples(out, about, {"z": Column()}) as writer:
        writer.append([f"o{i}" for i in range(50)], images, {"z": np.zeros(50)})
    before = out.read_bytes()
    SmallDisk(1_500_000, monkeypatch)
    taken = 0

    def again() -> None:
        nonlocal taken
        with write_samples(out, about, {"z": Column()}) as writer:
            for taken in range(9):
                writer.append([f"p{taken}-{i}" for i in range(50)], images, {"z": np.zeros(50)})

    with pytest.raises(OSError, match="No space left"):
        again()
    assert taken == 1  # said with the block that did not fit
    assert out.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
    assert len(Samples([out])) == 50
