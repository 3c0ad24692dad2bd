"""A disk that is too small: said before the build, or in the middle of it, and what is served stays.

pytest tests/test_indexer_disk.py
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from lookalike.errors import FullError
from lookalike.files import PARTIAL
from lookalike.indexer.index import Index, build_index
from lookalike.indexer.unfinished import unfinished

Write = Callable[..., tuple[Path, list[Path]]]
N = 3000


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def build(vector_set: Write) -> Callable[..., Any]:
    embeddings, samples = vector_set(np.random.default_rng(0).normal(size=(N, 8)), {})
    return partial(build_index, embeddings, samples, window=None, memory_bytes=2**20, quiet=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB; skipped where this process may mount none."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def left(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*") if PARTIAL in path.name]


def test_the_room_is_looked_at_before_the_build(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(out=tmp_path / "index", k=3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 2**21))
    with pytest.raises(FullError, match=r"index needs [0-9.]+ MiB on its disk, but 2.0 MiB is free"):
        build(out=tmp_path / "index", k=100)
    with pytest.raises(FullError, match="is free"):
        build(out=tmp_path / "new", k=100)
    assert not (tmp_path / "new").exists()
    assert left(tmp_path / "index") == []
    assert Index(tmp_path / "index").k == 3


def test_a_small_disk_is_refused_with_what_is_needed(build: Callable[..., Any], small_disk: Path) -> None:
    with pytest.raises(FullError, match=r"needs [0-9.]+ MiB on its disk, but [34]\.[0-9] MiB is free"):
        build(out=small_disk / "index", k=300)
    build(out=small_disk / "index", k=3)
    assert Index(small_disk / "index").k == 3


@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_disk_that_fills_up_is_said_and_what_is_served_stays(
    build: Callable[..., Any], small_disk: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Something else takes the room after it was looked at: before the lists have theirs, or while states are saved."""
    out, other = small_disk / "index", small_disk / "other"
    served = build(out=out, k=3).content_hash
    looked = "lookalike.indexer.index.check_room"

    def fill(*_: object, **__: object) -> None:
        with other.open("wb") as file:
            try:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            except OSError:
                pass

    if when == "at first":
        monkeypatch.setattr(looked, fill)
    else:
        monkeypatch.setattr(looked, lambda *_, **__: None)
        from lookalike.indexer.lists_file import ListWriter

        made = ListWriter.__init__

        def then_fill(self: ListWriter, path: Path, n: int, k: int) -> None:
            made(self, path, n, k)
            fill()

        monkeypatch.setattr(ListWriter, "__init__", then_fill)
    with pytest.raises(FullError, match=r"index is full\. What it served until now is as it was"):
        build(out=out, k=40, save_seconds=0)
    assert Index(out).intact()
    assert Index(out).manifest.content_hash == served
    assert unfinished(out) == []
    assert left(out) == []
    monkeypatch.undo()
    other.unlink()
    assert build(out=out, k=40, save_seconds=0).k == 40
