"""Old versions of an index go by the stated rule, and nothing else does.

pytest tests/test_indexer_collect.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError
from lookalike.files import lock
from lookalike.indexer.audit import verify
from lookalike.indexer.collect import collect
from lookalike.indexer.index import Index, build_index
from lookalike.indexer.search import Searcher
from lookalike.indexer.store import publish

Write = Callable[..., tuple[Path, list[Path]]]


@pytest.fixture
def index(vector_set: Write, tmp_path: Path) -> Path:
    """Five versions, the last one served, each with its audit."""
    embeddings, samples = vector_set(np.random.default_rng(0).normal(size=(20, 4)), {})
    for k in range(1, 6):
        build_index(embeddings, samples, tmp_path / "index", k=k, window=None, quiet=True)
        verify(tmp_path / "index", quiet=True)
    return tmp_path / "index"


def versions(index: Path) -> list[int]:
    found = sorted(path.name for path in (index / "versions").iterdir())
    assert sorted(path.name for path in (index / "extras").iterdir()) == found
    return [int(name[1:]) for name in found]


def size(index: Path) -> int:
    return sum(path.stat().st_size for path in index.rglob("*") if path.is_file())


@pytest.mark.parametrize(("keep", "left"), [(1, [5]), (2, [4, 5]), (3, [3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_the_newest_are_kept_with_their_extras(index: Path, keep: int, left: list[int]) -> None:
    before = size(index)
    planned = collect(index, keep=keep, dry_run=True)
    assert (versions(index), size(index)) == ([1, 2, 3, 4, 5], before)
    done = collect(index, keep=keep)
    assert versions(index) == left
    assert (done.removed, done.kept, done.bytes) == (planned.removed, planned.kept, planned.bytes)
    assert done.bytes == before - size(index)
    assert done.kept == tuple(f"v{number:06d}" for number in left)
    assert len(done.removed) == 2 * (5 - len(left))
    assert Index(index).intact()
    assert collect(index, keep=keep).removed == ()
    assert json.loads(json.dumps(done.to_json()))["dry_run"] is False


def test_the_served_version_is_kept_however_old(index: Path) -> None:
    publish(index, "v000003")
    shutil.rmtree(index / "versions/v000005")  # versions above the served one were never published, as far as is known
    done = collect(index, keep=2)
    assert (done.kept, done.unfinished) == (("v000002", "v000003"), ("versions/v000004", "extras/v000004"))
    assert versions(index) == [2, 3, 4]  # the next build of its plan only has to publish it
    done = collect(index, keep=2, unfinished_days=0)
    assert done.kept == ("v000002", "v000003")
    assert versions(index) == [2, 3]
    assert Index(index).intact()


def test_what_killed_builds_left_goes_and_other_files_stay(index: Path) -> None:
    (index / "versions/.v000006.partial").mkdir()
    (index / "versions/.v000006.partial/neighbors.h5").write_bytes(b"1" * 1000)
    (index / ".CURRENT.partial").write_text("{}")
    (index / "notes.txt").write_text("mine")
    (index / "extras/mine").mkdir()
    done = collect(index, keep=9)
    assert sorted(done.removed) == [".CURRENT.partial", "versions/.v000006.partial"]
    assert done.bytes == 1002
    assert (index / "notes.txt").exists()
    assert (index / "extras/mine").exists()


def test_an_open_version_goes_on(index: Path, vector_set: Write) -> None:
    old = Searcher(index)
    before = old.neighbors("o1", 5)
    build_index(index.parent / "embeddings.h5", [index.parent / "samples.h5"], index, k=7, window=None, quiet=True)
    collect(index, keep=1)
    assert versions_only(index) == ["v000006"]
    assert old.neighbors("o1", 5) == before


def versions_only(index: Path) -> list[str]:
    return sorted(path.name for path in (index / "versions").iterdir())


def test_what_cannot_be_collected_is_refused_and_stays(index: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="At least 1 version is kept, but keep = 0"):
        collect(index, keep=0)
    with lock(index), pytest.raises(LockedError):
        collect(index)
    (index / "CURRENT").write_text("{}")
    with pytest.raises(CorruptError, match="CURRENT was altered"):
        collect(index)
    assert versions(index) == [1, 2, 3, 4, 5]
    with pytest.raises(NotFoundError, match="is not an index folder"):
        collect(tmp_path / "nothing")
    assert not (tmp_path / ".nothing.lock").exists()
