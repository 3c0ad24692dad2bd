"""Vectors in several files against one array of them; the writer that goes on where an earlier one was stopped."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike import embeddings_writer as writer_module
from lookalike.embeddings import Embeddings, normalize, read_through, write_embeddings
from lookalike.embeddings_folder import (
    Joined,
    Manifest,
    Shard,
    has_manifest,
    read_manifest,
    shard_names,
    write_manifest,
)
from lookalike.embeddings_writer import VectorsAbout, open_writer
from lookalike.errors import CollapsedError, CorruptError, InputError

ABOUT = VectorsAbout(4, made_from={"samples": "s"}, layer="embedding")


def joined_of(parts: list[np.ndarray[Any, Any]]) -> Joined:
    return Joined([len(part) for part in parts], parts.__getitem__)


@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any),
    start=st.integers(-22, 22),
    stop=st.integers(-22, 22),
    step=st.sampled_from([1, 1, 2, -1]),
    draw=st.randoms(use_true_random=False),
)
def test_joined_rows_are_those_of_one_array(lengths: list[int], start: int, stop: int, step: int, draw: Any) -> None:
    whole = np.random.default_rng(0).normal(size=(sum(lengths), 3)).astype(np.float32)
    joined = joined_of(np.split(whole, np.cumsum(lengths)[:-1]))
    n = len(whole)
    assert (joined.shape, joined.dtype, len(joined), joined.ndim, joined.itemsize) == ((n, 3), np.float32, n, 2, 4)
    np.testing.assert_array_equal(joined[start:stop:step], whole[start:stop:step])
    rows = np.array([draw.randrange(-n, n) for _ in range(draw.randrange(0, 9))], np.int64)
    np.testing.assert_array_equal(joined[rows], whole[rows])
    np.testing.assert_array_equal(joined[int(rows[0]) if len(rows) else 0], whole[int(rows[0]) if len(rows) else 0])
    mask = np.array([draw.random() < 0.5 for _ in range(n)])
    np.testing.assert_array_equal(joined[mask], whole[mask])
    np.testing.assert_array_equal(np.asarray(joined), whole)


@pytest.mark.parametrize("rows", [5, [0, -6], [1.5], np.ones(3, bool)])
def test_rows_there_are_none_of_are_an_error(rows: Any) -> None:
    with pytest.raises(IndexError):
        joined_of([np.zeros((3, 2)), np.zeros((2, 2))])[rows]


def test_a_slice_of_one_part_is_no_copy() -> None:
    part = np.zeros((4, 2))
    assert np.shares_memory(joined_of([np.ones((3, 2)), part])[4:6], part)


def vectors(n: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(n, 4))


def ids(n: int) -> np.ndarray[Any, Any]:
    return np.array([f"o{row:03d}" for row in range(n)], "S")


def stopped(path: Path, rows: int, key: dict[str, Any], error: type[BaseException] = KeyboardInterrupt) -> None:
    """A writer of 10 vectors that is stopped after `rows` of them."""

    def work() -> None:
        with open_writer(path, ids(10), ABOUT, resume=key) as writer:
            writer.append(vectors(10)[:rows])
            raise error("stopped")

    with pytest.raises(error, match="stopped"):
        work()


def finished(path: Path, key: dict[str, Any] | None) -> int:
    """Write what is missing of the 10; how many were there already."""
    with open_writer(path, ids(10), ABOUT, resume=key) as writer:
        start = writer.start
        writer.append(vectors(10)[start:])
    return start


def test_a_writer_goes_on_where_the_last_one_was_stopped(tmp_path: Path) -> None:
    whole = tmp_path / "whole.h5"
    digest = write_embeddings(whole, ids(10), [vectors(10)], dimensions=4, made_from=ABOUT.made_from, layer="embedding")
    path = tmp_path / "e.h5"
    stopped(path, 3, {"batch_size": 2})
    assert not path.exists()
    assert finished(path, {"batch_size": 2}) == 3
    assert Embeddings(path).content_hash == digest
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, whole]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_saved_rows_count_only_if_they_are_the_ones_that_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    spool, journal = tmp_path / ".e.h5.partial", tmp_path / ".e.h5.rows.partial"

    def alter_rows() -> None:
        flip(spool, json.loads(journal.read_text())["offset"] + 5)

    def cut_short() -> None:
        spool.write_bytes(spool.read_bytes()[:-1])

    def tell(change: dict[str, Any]) -> Callable[[], object]:
        return lambda: journal.write_text(json.dumps(json.loads(journal.read_text()) | change))

    damages: list[Callable[[], object]] = [
        alter_rows,
        cut_short,
        spool.unlink,
        journal.unlink,
        lambda: journal.write_text("[]"),
        lambda: journal.write_bytes(b"\xff{"),
        *(tell({"rows": rows}) for rows in (0, -1, 2, 4, 11, "3", 2.5, None)),
        tell({"hash": 1}),
        tell({"batch_size": 3}),
        tell({"layer": "projection"}),
        tell({"offset": 0}),
    ]
    for damage in damages:
        stopped(path, 3, {"batch_size": 2})
        damage()
        assert finished(path, {"batch_size": 2}) == 0
        Embeddings(path).verify()
        path.unlink()
    stopped(path, 3, {"batch_size": 2})
    assert finished(path, None) == 0
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [InputError, CollapsedError])
def test_what_would_fail_again_is_not_kept(tmp_path: Path, error: type[Exception]) -> None:
    stopped(tmp_path / "e.h5", 3, {}, error)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_set_costs_no_work_done_so_far(tmp_path: Path) -> None:
    stopped(tmp_path / "e.h5", 3, {}, CorruptError)
    assert finished(tmp_path / "e.h5", {}) == 3


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_mean_is_that_of_the_stored_rows_resumed_or_not(tmp_path: Path, dtype: str) -> None:
    about, path, totals = VectorsAbout(4, dtype), tmp_path / "e.h5", []
    alike = np.array([1, 2, 3, 4]) + 1e-7 * vectors(10)  # as a collapsed encoder gives them
    for stops in (False, True):
        if stops:
            with pytest.raises(KeyboardInterrupt), open_writer(path, ids(10), about, resume={}) as writer:  # noqa: PT012
                writer.append(alike[:6])
                raise KeyboardInterrupt
        with open_writer(path, ids(10), about, resume={}) as writer:
            assert writer.start == 6 * stops
            writer.append(alike[writer.start :])
        totals.append(writer.total)
        stored = normalize(np.asarray(Embeddings(path).vectors)).sum(axis=0)
        np.testing.assert_allclose(writer.total, stored, rtol=1e-14)
        path.unlink()


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from lookalike.embeddings_writer import VectorsAbout, open_writer
limit = 200_000
folder = Path(sys.argv[1])
ids = np.array([f"o{row:06d}" for row in range(100_000)], "S")
resume = None if sys.argv[2] == "fresh" else {}
try:
    with open_writer(folder / "e.h5", ids, VectorsAbout(4), resume=resume) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # from here on as on a full disk
        while True:
            writer.append(np.ones((100, 4)))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("begin", ["fresh", "resumable"])
def test_a_full_disk_is_an_error_and_leaves_nothing_useless(tmp_path: Path, begin: str) -> None:
    """The buffered rows cannot be written when the file is closed either."""
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path, begin], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (os.strerror(errno.EFBIG), "")
    assert [path.name for path in tmp_path.iterdir()] == ([] if begin == "fresh" else [".e.h5.partial"])


def test_a_writer_that_cannot_begin_leaves_what_an_earlier_one_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "e.h5"

    def full(file: h5py.File, values: dict[str, str]) -> None:
        raise OSError(errno.ENOSPC, "full")

    for kept in (False, True):
        if kept:
            stopped(path, 3, {})
        before = set(tmp_path.iterdir())
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "set_texts", full)
            with pytest.raises(OSError, match="full"):
                finished(path, {})
        assert set(tmp_path.iterdir()) == before
    assert finished(path, {}) == 3


def folder_of(folder: Path, lengths: list[int]) -> np.ndarray[Any, Any]:
    """Write a folder of embeddings with shards of these lengths; its vectors."""
    whole, start, shards = vectors(sum(lengths)), 0, []
    for number, n in enumerate(lengths):
        path, rows = folder / f"part{number}.h5", slice(start, start + n)
        write_embeddings(path, ids(sum(lengths))[rows], [whole[rows]], dimensions=4)
        shards.append(Shard(file=path.name, samples="", n=n, content_hash=Embeddings(path).content_hash))
        start += n
    digest = read_through(Embeddings(folder / shard.file)._stored[0] for shard in shards).content_hash
    write_manifest(
        folder,
        Manifest(content_hash=digest, dimensions=4, dtype="float32", layer="", made_from={}, shards=tuple(shards)),
    )
    return whole


def test_a_folder_is_read_as_one_file_of_the_same(tmp_path: Path) -> None:
    whole = folder_of(tmp_path / "folder", [3, 1, 6])
    digest = write_embeddings(tmp_path / "e.h5", ids(10), [whole], dimensions=4)
    found = Embeddings(tmp_path / "folder")
    one = Embeddings(tmp_path / "e.h5")
    assert found.content_hash == digest
    assert (len(found), found.dimensions, found.layer, found.made_from) == (10, 4, "", {})
    np.testing.assert_array_equal(found.vectors[:], one.vectors)
    assert found.ids.tolist() == one.ids.tolist()
    found.verify()


MANY = """
import resource, sys
from pathlib import Path
import numpy as np
from lookalike.embeddings import Embeddings
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
found = Embeddings(Path(sys.argv[1]))
found.verify()
whole = found.vectors[:]
assert np.array_equal(np.asarray(found.vectors), whole)
assert np.array_equal(found.vectors[np.arange(300)[::-1]], whole[::-1])
print(whole.tobytes().hex())
"""


def test_a_folder_may_have_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    whole = folder_of(tmp_path, [2] * 150)
    done = subprocess.run([sys.executable, "-c", MANY, tmp_path], capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(bytes.fromhex(done.stdout), normalize(whole).astype(np.float32).tobytes())


def test_a_shard_replaced_meanwhile_is_not_mixed_with_the_others(tmp_path: Path) -> None:
    folder_of(tmp_path, [3, 7])
    found = Embeddings(tmp_path)
    write_embeddings(tmp_path / "part1.h5", ids(7), [vectors(7)], dimensions=4)
    with pytest.raises(CorruptError, match=r"part1\.h5 was replaced"):
        found.vectors[5]


def test_damage_to_a_folder_is_found_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder_of(folder, [3, 7])
    shard = folder / "part1.h5"
    kept = shard.read_bytes()
    flip(shard, Embeddings(shard).vectors.offset + 3)  # type: ignore[attr-defined]
    with pytest.raises(CorruptError, match=r"part1\.h5 was altered"):
        Embeddings(folder).verify()
    write_embeddings(shard, ids(7), [vectors(7)], dimensions=4)
    with pytest.raises(CorruptError, match=r"part1\.h5 is not the shard"):
        Embeddings(folder)
    shard.unlink()
    with pytest.raises(CorruptError, match=r"lacks its shard part1\.h5"):
        Embeddings(folder)
    shard.write_bytes(kept)
    Embeddings(folder).verify()


def test_what_is_no_complete_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder of embeddings"):
        Embeddings(tmp_path)
    folder_of(tmp_path, [3, 7])
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, manifest.unfinished())
    (tmp_path / "part1.h5").unlink()
    with pytest.raises(InputError, match=r"is not complete: 1 of 2 shards are there"):
        Embeddings(tmp_path)
    assert has_manifest(tmp_path)
    for name, value in {"dimensions": "x", "shards": [], "dtype": "float16"}.items():
        values = manifest.model_dump(mode="json") | {name: value}
        (tmp_path / "manifest.json").write_text(json.dumps(values))
        with pytest.raises(CorruptError):
            Embeddings(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["../e.h5"],
        [".."],
        [""],
        ["."],
        ["a\0.h5"],
        ["manifest.json"],
        ["a/b.h5"],
        [".h5"],
        ["a.h5"] * 2,
        ["a.h5", "A.h5"],
    ],
)
def test_shards_are_files_of_the_folder_that_can_hold_embeddings(tmp_path: Path, names: list[str]) -> None:
    folder_of(tmp_path, [3, 7])
    shards = tuple(Shard(file=name, samples="", n=3) for name in names)
    write_manifest(tmp_path, read_manifest(tmp_path).model_copy(update={"shards": shards}))
    with pytest.raises(CorruptError, match="names no files of its folder"):
        Embeddings(tmp_path)


@pytest.mark.parametrize(
    "change", [{"layer": "projection"}, {"made_from": {"checkpoint": "c"}}, {"n": 4}, {"samples": "s"}]
)
def test_a_shard_is_what_its_manifest_says(tmp_path: Path, change: dict[str, Any]) -> None:
    folder_of(tmp_path, [3, 7])
    values = read_manifest(tmp_path).model_dump(mode="json")
    (values if set(change) <= set(values) else values["shards"][0]).update(change)
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(CorruptError, match=r"part0\.h5 is not the shard"):
        Embeddings(tmp_path)


def test_shards_are_named_after_their_samples() -> None:
    assert shard_names([Path("/d/a.h5"), Path("/d/b.hdf5"), Path("/d/c")]) == ["a.h5", "b.hdf5", "c.h5"]
    assert shard_names([Path("/n/s.h5"), Path("/s/s.h5")]) == ["n-s.h5", "s-s.h5"]
    assert shard_names([Path("/t/n/s.h5"), Path("/u/n/s.h5")]) == ["t-n-s.h5", "u-n-s.h5"]
    assert shard_names([Path("/n/S.h5"), Path("/s/s.h5")]) == ["n-S.h5", "s-s.h5"]
    with pytest.raises(InputError, match="end up alike"):
        shard_names([Path("/n-s.h5"), Path("/n/s.h5"), Path("/s.h5"), Path("/m/n-s.h5"), Path("/m-n/s.h5")])
