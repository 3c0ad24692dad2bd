"""Damage of an index: noticed where it is read, and made good again by `repair`, list by list.

pytest tests/test_indexer_repair.py
"""

from __future__ import annotations

import json
import random
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest

from lookalike.embeddings import StoredVectors
from lookalike.errors import CorruptError, LockedError, NotFoundError
from lookalike.files import lock
from lookalike.indexer import lists_file
from lookalike.indexer.audit import verify
from lookalike.indexer.index import Index, build_index
from lookalike.indexer.lists_file import ListWriter, checksums
from lookalike.indexer.repair import repair
from lookalike.indexer.search import Searcher
from lookalike.indexer.store import publish
from lookalike.service.app import create_app

Write = Callable[..., tuple[Path, list[Path]]]
N, K = 150, 9


@pytest.fixture
def index(vector_set: Write, tmp_path: Path) -> Path:
    """Two versions; the second, of k = 9, is served."""
    rng = np.random.default_rng(0)
    mag = np.round(rng.normal(20, 0.4, N), 3)
    mag[::40] = np.nan
    embeddings, samples = vector_set(rng.normal(size=(N, 6)), {"mag": mag})
    for k in (4, K):
        build_index(embeddings, samples, tmp_path / "index", k=k, window="mag:0.5", quiet=True)
    return tmp_path / "index"


def lists(index: Path, version: str = "v000002") -> Path:
    return index / "versions" / version / "neighbors.h5"


def flip(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1 << place % 8
    path.write_bytes(data)


def place(index: Path, name: str, row: int) -> int:
    """Where the list of a row begins in the file."""
    stored = Index(index).manifest.arrays[name]
    return stored.offset + row * (K * 4 if len(stored.shape) == 2 else 4)


def test_every_altered_byte_of_a_list_is_noticed_where_it_is_read(index: Path) -> None:
    path, rng = lists(index), random.Random(1)
    whole = path.read_bytes()
    for row in (0, 1, 77, N - 1):
        for name, width in (("neighbor_row", K * 4), ("similarity", K * 4), ("check", 4)):
            at = place(index, name, row) + rng.randrange(width)
            flip(path, at)
            with pytest.raises(
                CorruptError, match=rf"row {row} in .*neighbors.h5 was altered; `lookalike repair .*index`"
            ):
                Searcher(index).neighbors(f"o{row}", 3)
            if row != 1:
                Searcher(index).neighbors("o1", 3)  # others are served
            with pytest.raises(CorruptError):
                verify(index, quiet=True)
            path.write_bytes(whole)
    assert Searcher(index).neighbors("o77", 3).source == "stored"


@pytest.mark.parametrize("kind", ["<i4", "<i8"])
def test_a_checksum_is_the_crc_of_the_row_its_neighbors_and_their_similarities(kind: str) -> None:
    rng = np.random.default_rng(0)
    for q, k in ((0, 3), (1, 1), (7, 5), (300, 64)):
        rows = rng.integers(0, 2**40 if kind == "<i8" else 2**31, q)
        neighbors, values = rng.integers(-1, 2**31 - 1, (q, k)).astype(kind), rng.random((q, k), np.float32)
        slow = [
            zlib.crc32(neighbors[place].tobytes() + values[place].tobytes(), int(row) % 2**32)
            for place, row in enumerate(rows)
        ]
        assert checksums(rows, neighbors, values).tolist() == slow


def test_a_list_in_anothers_place_is_noticed(index: Path) -> None:
    path = lists(index)
    with path.open("r+b") as file:
        for name, width in (("neighbor_row", K * 4), ("similarity", K * 4), ("check", 4)):
            file.seek(place(index, name, 5))
            held = file.read(width)
            file.seek(place(index, name, 6))
            file.write(held)
    Searcher(index).neighbors("o5", 3)
    with pytest.raises(CorruptError, match="row 6 in"):
        Searcher(index).neighbors("o6", 3)


def test_some_lists_read_at_once_are_looked_at_too(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([3, 9, 100])
    opened = Index(index)
    monkeypatch.setattr("lookalike.indexer.store.BLOCK", 2 * K)
    for k in (None, 4, K, K + 1):
        neighbor_row, similarity = opened.checked(rows, k)
        assert (neighbor_row == opened.neighbor_row[rows, :k]).all()
        assert similarity.tobytes() == opened.similarity[rows, :k].tobytes()
    assert opened.checked(rows[:0])[0].shape == (0, K)
    flip(lists(index), place(index, "similarity", 9) + 2)
    with pytest.raises(CorruptError, match="row 9 in"):
        Index(index).checked(rows)


def test_repair_computes_just_the_altered_lists(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Index(index)
    content, rows = before.manifest.content_hash, before.neighbor_row[:].copy()
    damaged = [3, 40, 41, 149]  # 40 has no window value
    flip(lists(index), *(place(index, "neighbor_row", row) + 1 for row in damaged[:2]))
    flip(lists(index), place(index, "similarity", 41), place(index, "check", 149))
    computed: list[int] = []
    again = lists_file.ListWriter.write

    def counting(self: ListWriter, where: np.ndarray, *arrays: np.ndarray) -> None:
        if len(where) < N:
            computed.extend(where.tolist())
        again(self, where, *arrays)

    monkeypatch.setattr(ListWriter, "write", counting)
    report = repair(index, quiet=True)
    assert sorted(computed) == damaged
    assert (report.version, report.lists, report.content_hash) == ("v000003", 4, content)
    assert report.found == (f"{lists(index)} was altered.",)
    assert "4 lists computed again from the embeddings, 146 copied" in report.done[0]
    assert (Index(index).neighbor_row == rows).all()
    assert verify(index, quiet=True).recall == 1
    assert repair(index, quiet=True).found == ()
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("size", [None, -60, -4])
def test_repair_of_a_file_that_lost_its_header_or_its_end(index: Path, size: int | None) -> None:
    content, path = Index(index).manifest.content_hash, lists(index)
    if size is None:
        flip(path, 1, 50, 600)
    else:
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CorruptError, match="lookalike repair"):
        Index(index)
    report = repair(index, quiet=True)
    assert report.content_hash == content == Index(index).manifest.content_hash
    assert report.lists == (0 if size is None else -size // 4)  # the checksums are the file's end
    assert verify(index, quiet=True).recall == 1


def test_repair_of_the_build_record(index: Path) -> None:
    flip(index / "versions/v000002/build.json", 5)
    with pytest.raises(CorruptError):
        verify(index, quiet=True)
    report = repair(index, quiet=True)
    assert report.lists == 0
    assert report.found == (f"{index / 'versions/v000002/build.json'} was altered.",)
    assert verify(index, quiet=True).recall == 1


@pytest.mark.parametrize("how", ["altered", "missing", "other name"])
def test_repair_of_current(index: Path, how: str) -> None:
    current = index / "CURRENT"
    match how:
        case "altered":
            flip(current, 3)
        case "missing":
            current.unlink()
        case "other name":
            current.write_text(current.read_text().replace("v000002", "v000001"))
    with pytest.raises((CorruptError, NotFoundError)):
        Index(index)
    report = repair(index, quiet=True)
    assert (report.version, report.lists) == ("v000002", 0)
    assert "CURRENT" in report.found[0]
    assert "is served" in report.done[0]
    assert Index(index).version == "v000002"


@pytest.mark.parametrize("text", ["[]", "null", '{"schema_version": 9}', "{", "3"])
def test_a_version_whose_manifest_is_none_is_passed_over(index: Path, text: str) -> None:
    """Where CURRENT is lost, whatever became of the newest manifest: the whole version before it is served."""
    (index / "CURRENT").unlink()
    (index / "versions/v000002/manifest.json").write_text(text)
    report = repair(index, quiet=True)
    assert report.version == "v000001"
    assert Index(index).version == "v000001"


def test_what_cannot_be_repaired_says_to_build_again(index: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(index, kept)

    def refused(match: str) -> None:
        before = sorted(index.rglob("*"))
        with pytest.raises(CorruptError, match=match) as caught:
            repair(index, quiet=True)
        assert "lookalike index" in caught.value.message
        assert sorted(index.rglob("*")) == before
        shutil.rmtree(index)
        shutil.copytree(kept, index)

    flip(index / "versions/v000002/manifest.json", 40)
    refused("manifest.json was altered")
    lists(index).unlink()
    refused("150 lists of 150")
    flip(lists(index), *(place(index, "similarity", row) for row in range(0, N, 3)))
    refused("50 lists of 150")
    (index / "CURRENT").unlink()
    flip(lists(index), 30_000)
    flip(lists(index, "v000001"), lists(index, "v000001").stat().st_size - 1)
    refused("no version of .* is whole")


def test_repair_needs_the_embeddings_whole(index: Path) -> None:
    flip(lists(index), place(index, "similarity", 41))
    embeddings = index.parent / "embeddings.h5"
    flip(embeddings, StoredVectors.read(embeddings).offset + 7)
    with pytest.raises(CorruptError, match=r"embeddings\.h5"):
        repair(index, quiet=True)
    assert Index(index).version == "v000002"


def test_repair_waits_for_no_builder(index: Path) -> None:
    with lock(index), pytest.raises(LockedError):
        repair(index, quiet=True)
    with pytest.raises(NotFoundError, match="is not an index folder"):
        repair(index.parent, quiet=True)


def former(index: Path) -> None:
    """Make the served version one of the layout without checksums."""
    path = index / "versions/v000002"
    with h5py.File(path / "neighbors.h5", "a") as file:
        del file["check"]
        file.attrs["schema"] = 1
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["schema_version"] = 1
    del manifest["arrays"]["check"]
    data = (path / "neighbors.h5").read_bytes()
    manifest["files"]["neighbors.h5"] = {"bytes": len(data), "sha256": lists_sha(data)}
    (path / "manifest.json").write_text(json.dumps(manifest))
    publish(index, "v000002")


def lists_sha(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_an_index_of_the_former_layout_is_read_and_repair_adds_its_checksums(index: Path) -> None:
    expected = Searcher(index).neighbors("o1", 5)
    former(index)
    assert Index(index).check is None
    assert Searcher(index).neighbors("o1", 5).results == expected.results
    assert verify(index, quiet=True).recall == 1
    report = repair(index, quiet=True)
    assert (report.version, report.lists) == ("v000003", 0)
    assert "no checksums" in report.found[0]
    assert Index(index).check is not None
    assert Searcher(index).neighbors("o1", 5).results == expected.results


def test_damage_of_the_former_layout_needs_a_build(index: Path) -> None:
    at = place(index, "similarity", 9)
    former(index)
    flip(lists(index), at)
    with pytest.raises(CorruptError, match="altered all over: build it again"):
        repair(index, quiet=True)


def test_the_checksum_costs_little_beside_reading_a_list() -> None:
    """Of a list of 999 neighbors, on this machine: some microseconds, where an answer takes a millisecond."""
    row, rows, values = np.array([5]), np.arange(999, dtype="<i4")[None], np.linspace(1, 0, 999, dtype="<f4")[None]
    best = min(_timed(lambda: checksums(row, rows, values)) for _ in range(5))
    print(f"\nchecksum of 999 neighbors: {best * 1e6:.1f} µs")
    assert best < 5e-4


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(100):
        work()
    return (time.perf_counter() - began) / 100


def test_the_command_says_what_it_did(index: Path, command: Callable[..., object]) -> None:
    flip(lists(index), place(index, "similarity", 41))
    done = command("repair", index)
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert "1 list computed again from the embeddings, 149 copied" in done.stdout  # type: ignore[attr-defined]
    assert "nothing was done" in command("repair", index).stdout  # type: ignore[attr-defined]
    told = json.loads(command("repair", index, "--json").stdout)  # type: ignore[attr-defined]
    assert told["lists"] == 0


def test_the_service_says_what_is_wrong_and_its_log_where(
    index: Path, serving: Callable[..., AbstractContextManager[str]], caplog: pytest.LogCaptureFixture
) -> None:
    flip(lists(index), place(index, "similarity", 41))
    with serving(create_app(Searcher(index))) as url, httpx.Client(base_url=url, trust_env=False) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        answer = client.get("/v1/objects/o41/neighbors", params={"k": 3})
        assert client.get("/v1/objects/o1/neighbors", params={"k": 3}).status_code == 200
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "corrupt_file"
    assert f"row 41 in {lists(index)} was altered; `lookalike repair {index}`" in caplog.text
