"""Adding to and taking from an index: equal to a full build, less work, and safe when killed.

pytest tests/test_indexer_grow.py
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike.embeddings import Embeddings, write_embeddings
from lookalike.embeddings_folder import Manifest, Shard, write_manifest
from lookalike.errors import CorruptError, FullError, InputError, LockedError, NotFoundError
from lookalike.files import PARTIAL, lock
from lookalike.hashing import content_hash
from lookalike.indexer import grow
from lookalike.indexer.audit import verify
from lookalike.indexer.collect import collect
from lookalike.indexer.grow import GrowReport, GrowSettings, append, retract, retracted_ids
from lookalike.indexer.grown_files import sign
from lookalike.indexer.index import build_index
from lookalike.indexer.keys import END, entries_of, keys_of
from lookalike.indexer.repair import repair
from lookalike.indexer.rounded import Rounded
from lookalike.indexer.search import Searcher
from lookalike.indexer.store import Index, publish
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples

QUIET = GrowSettings(quiet=True)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="module")
def only_what_changed() -> Iterator[None]:
    """Toys are so small that most changes are more work than a full build; they are not to be built anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grow, "DEARER", 0)
        yield


def toy(n: int, d: int = 6, seed: int = 0) -> tuple[Any, Any]:
    """Vectors of few distinct values, so that many similarities tie, and magnitudes with some undefined."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (n, d)).astype(float)
    vectors[:, 0] += 3
    mag = np.round(rng.normal(20, 0.5, n), 2)
    mag[rng.random(n) < 0.05] = np.nan
    return vectors, mag


def stored(
    folder: Path, name: str, rows: Any, vectors: Any, mag: Any, dtype: str = "float32", checkpoint: str = ""
) -> tuple[Path, Path]:
    """One samples shard of some rows of the toy and its embeddings."""
    folder.mkdir(exist_ok=True)
    ids = [f"o{row}" for row in rows]
    about, columns = About(domain="image", bands=("v",)), {"mag": Column("mag"), "name": Column()}
    with write_samples(folder / f"{name}.h5", about, columns) as writer:
        images = np.full((len(rows), 1, 4, 4), 7, np.uint8)
        texts = np.array(["long" * (row % 3) for row in rows])
        writer.append(ids, images, {"mag": mag[rows], "name": texts})
    samples = Samples(folder / f"{name}.h5")
    made_from = {"samples": samples.content_hash} | ({"checkpoint": checkpoint} if checkpoint else {})
    place = folder / f"{name}-embeddings.h5"
    write_embeddings(
        place, samples.ids, iter([vectors[rows]]), dimensions=vectors.shape[1], dtype=dtype, made_from=made_from
    )
    return place, folder / f"{name}.h5"


def joined(folder: Path, samples: list[Path], vectors: Any, dtype: str = "float32") -> Path:
    """Embeddings of several shards, from the vectors as they were before they were stored at all."""
    data = Samples(samples)
    rows = [int(name[1:]) for name in data.ids.astype(str)]
    place = folder / "all-embeddings.h5"
    write_embeddings(
        place, data.ids, iter([vectors[rows]]), dimensions=vectors.shape[1], dtype=dtype,
        made_from={"samples": data.content_hash},
    )  # fmt: skip
    return place


def in_a_folder(folder: Path, parts: list[tuple[Path, Path]]) -> Path:
    """Embeddings files of several shards, each with its samples file, as one folder."""
    folder.mkdir()
    shards = []
    for embeddings, samples in parts:
        shutil.copy(embeddings, folder / samples.name)
        one = Embeddings(folder / samples.name)
        shards.append(
            Shard(file=samples.name, samples=one.made_from["samples"], n=len(one), content_hash=one.content_hash)
        )
    whole = content_hash(
        {
            name: np.concatenate([getattr(Embeddings(place), attribute) for place, _ in parts])
            for name, attribute in (("embedding", "vectors"), ("id", "ids"))
        }
    )
    made_from = {"samples": Samples([samples for _, samples in parts]).content_hash}
    manifest = Manifest(
        content_hash=whole, dimensions=one.dimensions, dtype="float32", layer="", made_from=made_from,
        shards=tuple(shards),
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def same_as_a_full_build(
    report: GrowReport, out: Path, samples: list[Path], embeddings: Path, window: str | None
) -> None:
    """The new version against a build of the same set from files made by themselves."""
    full = build_index(embeddings, samples, out.with_name("full"), k=report.k, window=window, quiet=True)
    grown, built = Index(out), Index(out.with_name("full"))
    assert (grown.neighbor_row == built.neighbor_row).all()
    assert np.array_equal(grown.similarity, built.similarity, equal_nan=True)
    assert report.content_hash == full.content_hash == grown.manifest.content_hash
    left = {"version", "files", "samples", "embeddings"}
    assert grown.manifest.model_dump(exclude=left) == built.manifest.model_dump(exclude=left)
    of_grown, of_built = Rounded.of(grown), Rounded.of(built)
    assert of_grown is not None
    assert of_built is not None
    assert of_grown.about == of_built.about


@pytest.mark.parametrize(("window", "k"), [("mag:0.3", 9), (None, 9), ("mag:0.02", 9), (None, 99), ("mag:0.3", 200)])
@pytest.mark.parametrize(("name", "dtype"), [("b", "float32"), ("A", "float16")])  # after the old shard, and before it
def test_appending_equals_a_full_build(tmp_path: Path, window: str | None, k: int, name: str, dtype: str) -> None:
    vectors, mag = toy(130)
    old = stored(tmp_path, "a", np.arange(100), vectors, mag, dtype)
    new = stored(tmp_path, name, np.arange(100, 130), vectors, mag, dtype)
    build_index(old[0], [old[1]], tmp_path / "index", k=k, window=window, quiet=True)
    report = append(tmp_path / "index", new[0], [new[1]], GrowSettings(memory_bytes=20_000, quiet=True))
    assert (report.version, report.n, report.added, report.retracted) == ("v000002", 130, 30, 0)
    assert report.k == (129 if k >= 99 else 9)  # every other object was stored, and is again
    both = [old[1], new[1]]
    same_as_a_full_build(report, tmp_path / "index", both, joined(tmp_path, both, vectors, dtype), window)
    assert verify(tmp_path / "index", quiet=True).recall == 1


def test_lists_are_made_longer_while_objects_are_added(tmp_path: Path) -> None:
    """Some lists held every candidate there was and only take new ones; others are searched, old objects among all."""
    vectors, mag = toy(130)
    old = stored(tmp_path, "a", np.arange(100), vectors, mag)
    new = stored(tmp_path, "b", np.arange(100, 130), vectors, mag)
    build_index(old[0], [old[1]], tmp_path / "index", k=4, window="mag:0.05", quiet=True)
    report = append(tmp_path / "index", new[0], [new[1]], GrowSettings(k=9, quiet=True))
    assert report.entered
    assert 30 < report.searched < 130
    both = [old[1], new[1]]
    same_as_a_full_build(report, tmp_path / "index", both, joined(tmp_path, both, vectors), "mag:0.05")


@pytest.mark.parametrize(("window", "k"), [("mag:0.3", 9), (None, 9), ("mag:0.02", 9), (None, 99)])
def test_retracting_equals_a_full_build(tmp_path: Path, window: str | None, k: int) -> None:
    vectors, mag = toy(100)
    one = stored(tmp_path, "a", np.arange(60), vectors, mag)
    two = stored(tmp_path, "b", np.arange(60, 90), vectors, mag)
    three = stored(tmp_path, "c", np.arange(90, 100), vectors, mag)
    shards = [one[1], two[1], three[1]]
    build_index(joined(tmp_path, shards, vectors), shards, tmp_path / "index", k=k, window=window, quiet=True)
    gone = [0, 3, 3, 17, 59, *range(90, 100)]  # one of them twice, and a whole shard
    report = retract(tmp_path / "index", [f"o{row}" for row in gone], GrowSettings(memory_bytes=20_000, quiet=True))
    assert (report.retracted, report.n, report.k) == (14, 86, min(k, 85))
    left = stored(tmp_path / "by hand", "a", np.setdiff1d(np.arange(60), gone), vectors, mag)[1]
    both = [left, two[1]]
    assert [Path(path).name for path in report.samples] == ["a.h5", "b.h5"]
    assert Path(report.samples[1]) == two[1]  # lost nothing, so it was not copied
    same_as_a_full_build(report, tmp_path / "index", both, joined(tmp_path, both, vectors), window)
    Samples([Path(path) for path in report.samples]).verify()
    Embeddings(Path(report.embeddings)).verify()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_growing_and_shrinking_equals_a_full_build(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("grown")
    first, more = data.draw(st.integers(2, 12), "old"), data.draw(st.integers(1, 8), "new")
    vectors, mag = toy(first + more, 3, data.draw(st.integers(0, 99), "seed"))
    window = data.draw(st.sampled_from([None, "mag:0", "mag:0.2", "mag:9"]), "window")
    k = data.draw(st.integers(1, 14), "k")
    out = folder / "index"
    old = stored(folder, "m", np.arange(first), vectors, mag)
    new = stored(folder, data.draw(st.sampled_from("az"), "name"), np.arange(first, first + more), vectors, mag)
    build_index(old[0], [old[1]], out, k=k, window=window, quiet=True)
    asked = data.draw(st.none() | st.integers(1, 14), "k asked for")
    memory = data.draw(st.sampled_from([20_000, 2**20]), "memory")  # few objects to a tile, or all
    wider = append(out, new[0], [new[1]], GrowSettings(k=asked, quiet=True, memory_bytes=memory))
    both = [old[1], new[1]]
    same_as_a_full_build(wider, out, both, joined(folder, both, vectors), window)
    most = first + more - 2
    gone = data.draw(st.lists(st.integers(0, first + more - 1), min_size=1, max_size=most, unique=True), "gone")
    if window is not None and np.isnan(np.delete(mag, gone)).all():
        return  # refused: see below
    asked = data.draw(st.none() | st.integers(1, 14), "k asked for then")
    shrunk = retract(out, [f"o{row}" for row in gone], GrowSettings(k=asked, quiet=True, memory_bytes=memory))
    left = [Path(path) for path in shrunk.samples]
    same_as_a_full_build(shrunk, out, left, joined(folder, left, vectors), window)


@pytest.mark.parametrize("window", ["mag:0.3", None])
def test_what_is_more_work_than_a_build_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: str | None
) -> None:
    vectors, mag = toy(100)
    old = stored(tmp_path, "a", np.arange(100), vectors, mag)
    build_index(old[0], [old[1]], tmp_path / "index", k=9, window=window, quiet=True)
    monkeypatch.setattr(grow, "DEARER", 3)
    report = retract(tmp_path / "index", [f"o{row}" for row in range(50)], QUIET)
    assert report.searched == (50 if window is None else np.isfinite(mag[50:]).sum())
    assert report.scored == report.full_build
    left = [Path(path) for path in report.samples]
    same_as_a_full_build(report, tmp_path / "index", left, joined(tmp_path, left, vectors), window)


def test_few_changes_take_little_work(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors, mag = rng.normal(size=(3030, 8)), rng.normal(20, 0.5, 3030)
    old = stored(tmp_path, "a", np.arange(3000), vectors, mag)
    new = stored(tmp_path, "b", np.arange(3000, 3030), vectors, mag)
    build_index(old[0], [old[1]], tmp_path / "index", k=10, window="mag:0.1", quiet=True)
    wider = append(tmp_path / "index", new[0], [new[1]], QUIET)
    assert wider.searched == 30
    assert 30 < wider.entered < 30 * 40  # k of them each, were neighbors mutual
    assert wider.scored < wider.full_build / 10
    shrunk = retract(tmp_path / "index", [f"o{row}" for row in range(3000, 3030)], QUIET)
    assert shrunk.searched == wider.entered  # just the lists that they had entered
    assert Index(tmp_path / "index", "v000001").manifest.arrays == Index(tmp_path / "index").manifest.arrays


@given(st.lists(st.tuples(st.integers(-1, 2**32 - 1), st.floats(-1, 1, width=32)), min_size=1))
def test_keys_sort_as_neighbors_do(entries: list[tuple[int, float]]) -> None:
    rows = np.array([row for row, _ in entries])
    similarity = np.array([value for _, value in entries], np.float32) + np.float32(0)
    keys = np.sort(keys_of(rows, similarity))
    real = rows >= 0
    order = np.lexsort((rows[real], -similarity[real]))
    back, values = entries_of(keys)
    assert back.tolist() == [*rows[real][order], *[-1] * int((~real).sum())]
    assert np.array_equal(values[: len(order)], similarity[real][order])
    assert (keys[len(order) :] == END).all()
    assert np.isnan(values[len(order) :]).all()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, tuple[Path, Path], Any, Any]:
    """An index of 20 objects, and 5 more beside it."""
    vectors, mag = toy(25)
    old = stored(tmp_path, "a", np.arange(20), vectors, mag)
    build_index(old[0], [old[1]], tmp_path / "index", k=4, window="mag:0.5", quiet=True)
    return tmp_path / "index", stored(tmp_path, "b", np.arange(20, 25), vectors, mag), vectors, mag


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_cannot_be_added_is_said_and_nothing_is_written(pair: Any, tmp_path: Path) -> None:
    out, new, vectors, mag = pair
    again = stored(tmp_path / "twice", "b", np.arange(18, 25), vectors, mag)
    wide = stored(tmp_path / "wide", "b", np.arange(20, 25), np.ones((25, 7)), mag)
    half = stored(tmp_path / "half", "b", np.arange(20, 25), vectors, mag, "float16")
    other = stored(tmp_path / "other", "b", np.arange(20, 25), vectors, mag, checkpoint="abcd")
    before = everything(tmp_path)
    for given_, code, words in (
        (again, "duplicate_id", "2 ids would be there twice: o18, o19."),
        (wide, "invalid_input", "vectors of 6 dimensions of float32, but"),
        (half, "invalid_input", "of float16"),
        (other, "other_checkpoint", "made by another encoder"),
        ((new[0], again[1]), "invalid_input", "different numbers of objects"),
    ):
        with pytest.raises(InputError) as raised:
            append(out, given_[0], [given_[1]], QUIET)
        assert raised.value.code == code
        assert words in raised.value.message
    with pytest.raises(InputError, match="at least 1"):
        append(out, new[0], [new[1]], GrowSettings(k=0, quiet=True))
    with pytest.raises(NotFoundError, match="is not an index"):
        append(tmp_path / "none", new[0], [new[1]], QUIET)
    with pytest.raises(NotFoundError, match="nobody"):
        retract(out, ["o1", "nobody"], QUIET)
    with pytest.raises(InputError, match="none was given"):
        retract(out, [], QUIET)
    with pytest.raises(InputError, match="1 would be left of 20"):
        retract(out, [f"o{row}" for row in range(19)], QUIET)
    with lock(out), pytest.raises(LockedError):
        retract(out, ["o1"], QUIET)
    assert everything(tmp_path) == before


def test_altered_files_are_not_carried_on(pair: Any) -> None:
    out, new, _, _ = pair
    lists = out / "versions/v000001/neighbors.h5"
    data = bytearray(lists.read_bytes())
    data[-3] ^= 1
    lists.write_bytes(data)
    with pytest.raises(CorruptError, match="altered"):
        append(out, new[0], [new[1]], QUIET)


@pytest.mark.parametrize("name", ["neighbor_row", "similarity", "check"])
def test_a_grown_index_notices_damage_and_is_repaired(pair: Any, name: str) -> None:
    out, new, _, _ = pair
    report = append(out, new[0], [new[1]], QUIET)
    before = Searcher(out).neighbors("o22", 3)
    assert before.results[0].random_share is not None
    arrays = Index(out).manifest.arrays
    lists = out / "versions/v000002/neighbors.h5"
    row = Samples([Path(path) for path in report.samples]).row("o22")
    data = bytearray(lists.read_bytes())
    data[arrays[name].offset + row * (4 if name == "check" else 4 * report.k)] ^= 1
    lists.write_bytes(data)
    with pytest.raises(CorruptError, match=f"row {row} in"):
        Searcher(out).neighbors("o22", 3)
    with pytest.raises(CorruptError):
        verify(out, quiet=True)
    with pytest.raises(CorruptError, match="lookalike repair"):
        retract(out, ["o1"], QUIET)
    made = repair(out, quiet=True)
    assert (made.version, made.lists, made.content_hash) == ("v000003", 1, report.content_hash)
    assert Searcher(out).neighbors("o22", 3).results == before.results
    assert verify(out, quiet=True).recall == 1
    # The damaged version is not served, so its files may go; the next change follows from the good one.
    collect(out, keep=1)
    assert retract(out, ["o22"], QUIET).version == "v000004"
    assert verify(out, quiet=True).recall == 1


def test_the_build_of_a_grown_set_finds_it_there(pair: Any) -> None:
    out, new, _, _ = pair
    report = append(out, new[0], [new[1]], QUIET)
    files = [Path(path) for path in report.samples]
    built = build_index(Path(report.embeddings), files, out, k=report.k, window="mag:0.5", quiet=True)
    assert (built.reused, built.version) == (True, "v000002")


def test_another_index_s_files_are_not_replaced(pair: Any, tmp_path: Path) -> None:
    out, new, _, _ = pair
    (tmp_path / "data" / "v000002").mkdir(parents=True)
    (tmp_path / "data" / "v000002" / "mine.txt").write_text("dear")
    with pytest.raises(InputError, match="choose another --data"):
        append(out, new[0], [new[1]], GrowSettings(data=tmp_path / "data", quiet=True))
    assert (tmp_path / "data" / "v000002" / "mine.txt").read_text() == "dear"


def test_what_served_a_version_is_not_removed_for_another_index(pair: Any, tmp_path: Path) -> None:
    out, new, _, _ = pair
    first = append(out, new[0], [new[1]], QUIET)
    shutil.rmtree(out)  # and built again from the files that were made for it
    build_index(Path(first.embeddings), [Path(p) for p in first.samples], out, k=4, window="mag:0.5", quiet=True)
    before = everything(tmp_path)
    with pytest.raises(InputError, match="choose another --data"):
        retract(out, ["o3"], QUIET)
    assert everything(tmp_path) == before
    assert retract(out, ["o3"], GrowSettings(data=tmp_path / "else", quiet=True)).n == 24


def test_two_indexes_do_not_write_to_one_folder_at_once(pair: Any, tmp_path: Path) -> None:
    out, new, _, _ = pair
    (tmp_path / "data").mkdir()
    before = everything(tmp_path)
    with lock(tmp_path / "data" / "v000002"):
        with pytest.raises(LockedError):
            append(out, new[0], [new[1]], GrowSettings(data=tmp_path / "data", quiet=True))
        assert Index(out).version == "v000001"
    assert everything(tmp_path) == before


def test_a_stop_just_after_publishing_takes_nothing_from_what_is_served(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, new, _, _ = pair

    def stopped(*what: Any, served: bool) -> None:
        if served:
            raise KeyboardInterrupt
        sign(*what, served=served)

    monkeypatch.setattr(grow, "sign", stopped)
    with pytest.raises(KeyboardInterrupt):
        append(out, new[0], [new[1]], QUIET)
    assert Index(out).version == "v000002"
    assert verify(out, quiet=True).recall == 1


def test_a_failure_before_leaves_nothing(pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, new, _, _ = pair
    before = everything(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(grow, "publish", fail)
    with pytest.raises(FullError):
        append(out, new[0], [new[1]], QUIET)
    assert not (tmp_path / "index-data").exists()
    monkeypatch.undo()
    assert append(out, new[0], [new[1]], QUIET).version == "v000002"
    assert before.items() <= everything(tmp_path).items() | {("index/CURRENT", before["index/CURRENT"])}


@pytest.mark.parametrize("change", ["append", "retract"])
def test_the_room_for_the_new_set_is_looked_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    vectors, mag = toy(300, 200)
    old = stored(tmp_path, "a", np.arange(290), vectors, mag)
    new = stored(tmp_path, "b", np.arange(290, 300), vectors, mag)
    out = tmp_path / "index"
    build_index(old[0], [old[1]], out, k=4, window=None, quiet=True)
    free = 200_000  # enough for the lists, not for 300 vectors of 200 numbers
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    before = everything(tmp_path)
    with pytest.raises(FullError, match="is free"):
        append(out, new[0], [new[1]], QUIET) if change == "append" else retract(out, ["o1"], QUIET)
    assert everything(tmp_path) == before
    free = 2_000_000
    assert append(out, new[0], [new[1]], QUIET).n == 300


def test_an_index_without_any_window_value_is_refused_as_a_build_does(tmp_path: Path) -> None:
    vectors, mag = toy(10)
    mag[:] = np.nan
    mag[4] = 20
    old = stored(tmp_path, "a", np.arange(10), vectors, mag)
    build_index(old[0], [old[1]], tmp_path / "index", k=4, window="mag:0.5", quiet=True)
    before = everything(tmp_path)
    with pytest.raises(InputError, match="none of 9 has a number"):
        retract(tmp_path / "index", ["o4"], QUIET)
    assert everything(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system does not tell what is in memory")
def test_what_was_there_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, mag = toy(4010, 512)
    old = stored(tmp_path, "a", np.arange(4000), vectors, mag)
    new = stored(tmp_path, "b", np.arange(4000, 4010), vectors, mag)
    out = tmp_path / "index"
    build_index(old[0], [old[1]], out, k=100, window="mag:0.01", quiet=True)
    files = [old[0], out / "versions" / "v000001" / "neighbors.h5"]
    held = {}

    def look(*given: Any) -> None:
        for file in files:
            found = re.findall(
                rf"{re.escape(str(file))}\n(?:.*\n)*?Rss: +(\d+) kB", Path("/proc/self/smaps").read_text()
            )
            held[file] = sum(map(int, found)) * 1024
        publish(*given)

    monkeypatch.setattr(grow, "publish", look)
    append(out, new[0], [new[1]], QUIET)
    assert held.keys() == set(files)
    for file, size in held.items():
        assert file.stat().st_size > 3_000_000
        assert size < file.stat().st_size / 3  # the system maps some MiB around a place that is looked at


def test_shards_of_one_name_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files of one name the folder decides, also where one is named as it is seen from its own folder."""
    vectors, mag = toy(40)
    old = stored(tmp_path / "z", "x", np.arange(30), vectors, mag)
    new = stored(tmp_path / "m", "x", np.arange(30, 40), vectors, mag)
    out = tmp_path / "index"
    build_index(old[0], [old[1]], out, k=4, window="mag:0.5", quiet=True)
    monkeypatch.chdir(new[1].parent)
    append(out, new[0], [Path("x.h5")], QUIET)
    assert Index(out).open_samples().ids[0] == b"o30"
    assert verify(out, quiet=True).recall == 1
    with pytest.raises(InputError, match="each needs one of its own"):
        retract(out, ["o1"], QUIET)


@pytest.mark.parametrize("change", ["append", "retract"])
def test_an_index_of_an_embeddings_folder_grows_and_shrinks(tmp_path: Path, change: str) -> None:
    vectors, mag = toy(60)
    one = stored(tmp_path, "a", np.arange(30), vectors, mag)
    two = stored(tmp_path, "b", np.arange(30, 50), vectors, mag)
    new = stored(tmp_path, "c", np.arange(50, 60), vectors, mag)
    shards = [one[1], two[1]]
    folder = in_a_folder(tmp_path / "embedded", [one, two])
    build_index(folder, shards, tmp_path / "index", k=7, window="mag:0.3", quiet=True)
    if change == "append":
        report, left = append(tmp_path / "index", new[0], [new[1]], QUIET), [*shards, new[1]]
    else:
        report = retract(tmp_path / "index", ["o3", "o40"], QUIET)
        left = [Path(path) for path in report.samples]
    same_as_a_full_build(report, tmp_path / "index", left, joined(tmp_path, left, vectors), "mag:0.3")


def test_ids_come_from_a_list_or_a_file(tmp_path: Path) -> None:
    assert retracted_ids("a, b,,c") == ["a", "b", "c"]
    for missing in ("nofile.txt", "some/ids"):
        with pytest.raises(NotFoundError, match="No such file of ids"):
            retracted_ids(missing)
    (tmp_path / "ids.txt").write_text("a\n\nb\n")
    assert retracted_ids(str(tmp_path / "ids.txt")) == ["a", "b"]
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="one a line"):
        retracted_ids(str(tmp_path / "odd"))


@pytest.mark.parametrize(
    "point", ["grow.data", "embeddings.block", "v000002.written", "index.version", "index.current"]
)
def test_a_killed_run_leaves_the_old_version_and_the_next_one_finishes(pair: Any, tmp_path: Path, point: str) -> None:
    out, new, vectors, _ = pair
    code = "import sys; from pathlib import Path; from lookalike.indexer.grow import GrowSettings, append; "
    code += "append(Path(sys.argv[1]), Path(sys.argv[2]), [Path(sys.argv[3])], GrowSettings(quiet=True))"
    run = [sys.executable, "-c", code, out, *new]
    env = os.environ | {"PYTHONPATH": str(ROOT), "LOOKALIKE_KILL_AT": point, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(run, env=env, check=False).returncode == -9
    published = point == "index.current"
    index = Index(out)
    assert (index.version, index.n) == (("v000002", 25) if published else ("v000001", 20))
    if not published:
        report = append(out, new[0], [new[1]], QUIET)
        both = [tmp_path / "a.h5", new[1]]
        same_as_a_full_build(report, out, both, joined(tmp_path, both, vectors), "mag:0.5")
        assert not list(tmp_path.rglob(f"*{PARTIAL}"))


def test_the_command_grows_and_shrinks(pair: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    out, new, _, _ = pair
    done = command("index", new[0], "--samples", new[1], "--out", out, "--append")
    assert done.returncode == 0, done.stderr
    assert "5 objects added" in done.stdout
    done = command("index", "--out", out, "--retract", "o20,o3")
    assert done.returncode == 0, done.stderr
    assert "2 objects retracted" in done.stdout
    assert Index(out).n == 23
    for wrong, words in (
        (("--out", out), "embeddings"),
        ((new[0], "--out", out), "samples"),
        ((new[0], "--out", out, "--retract", "o1"), "--retract"),
        (("--out", out, "--append", "--retract", "o1"), "--append"),
        ((new[0], "--samples", new[1], "--out", out, "--append", "--window", "none"), "--window"),
        (("--out", out, "--retract", "o1", "--memory", "1MB"), "--memory"),
        ((tmp_path / "v.npy", "--catalog", "t.csv", "--out", out, "--append"), "--catalog"),
        ((tmp_path / "v.npy", "--samples", new[1], "--out", out, "--append"), "vectors of your own"),
        (("--out", out, "--retract", "nobody"), "nobody"),
    ):
        done = command("index", *wrong)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert Index(out).n == 23
