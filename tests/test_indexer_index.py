"""Building, publishing, reusing and reading an index folder; builds that are killed.

pytest tests/test_indexer_index.py          (-m long for the many kills)
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lookalike.embeddings import Embeddings, write_embeddings
from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError
from lookalike.files import PARTIAL
from lookalike.indexer.audit import verify
from lookalike.indexer.index import Index, build_index
from lookalike.indexer.windows import usual_window
from lookalike.samples import Samples

Write = Callable[..., tuple[Path, list[Path]]]
pytestmark = pytest.mark.usefixtures("faiss_on_one_thread")

ROOT = Path(__file__).resolve().parent.parent

BUILD = """
import sys
from pathlib import Path
import lookalike.indexer.neighbors  # imported now, so that the time to the kill is spent building
from lookalike.indexer.index import build_index
embeddings, samples, out, k, memory = sys.argv[1:]
print("building", flush=True)
report = build_index(Path(embeddings), [Path(samples)], Path(out), k=int(k), window="mag:0.5",
                     memory_bytes=int(memory), quiet=True)
print(report.content_hash, flush=True)
"""


def toy(n: int = 60, d: int = 8, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    mag = np.round(rng.normal(20, 0.5, n), 3)
    mag[rng.random(n) < 0.05] = np.nan
    return rng.normal(size=(n, d)), {"mag": mag, "x": rng.uniform(0, 100, n), "y": rng.uniform(0, 100, n)}


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*") if path.name.endswith(PARTIAL)]


def test_a_build_stores_what_it_reports(vector_set: Write, tmp_path: Path) -> None:
    vectors, columns = toy()
    embeddings, samples = vector_set(vectors, columns)
    report = build_index(embeddings, samples, tmp_path / "index", k=40, window="mag:0.5", quiet=True)
    index = Index(tmp_path / "index")
    assert (report.version, report.n, report.k, report.window, report.reused) == ("v000001", 60, 40, "mag:0.5", False)
    assert report.nan_count == np.isnan(columns["mag"]).sum() > 0
    assert report.short_lists == (index.neighbor_row[:, -1] < 0).sum() > report.nan_count
    assert report.content_hash == index.manifest.content_hash
    assert index.neighbor_row.dtype == np.int32
    assert index.similarity.dtype == np.float32
    assert (index.neighbor_row[np.isnan(columns["mag"])] == -1).all()
    with h5py.File(index.path / "neighbors.h5", "r") as file:  # readable as any HDF5 file, and contiguous
        assert (file["neighbor_row"][:] == index.neighbor_row).all()
        assert file["similarity"].chunks is None
    assert verify(tmp_path / "index", quiet=True).recall == 1


@pytest.mark.parametrize("memory", [1, 5_000, 2**30])
def test_equal_inputs_give_equal_content_hashes(vector_set: Write, tmp_path: Path, memory: int) -> None:
    embeddings, samples = vector_set(*toy())
    one = build_index(embeddings, samples, tmp_path / "one", k=7, window="mag:0.5", quiet=True)
    two = build_index(embeddings, samples, tmp_path / "two", k=7, window="mag:0.5", memory_bytes=memory, quiet=True)
    other = build_index(embeddings, samples, tmp_path / "three", k=7, window="mag:0.4", quiet=True)
    assert one.content_hash == two.content_hash != other.content_hash


def test_an_identical_build_is_reused_and_a_different_one_is_a_new_version(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(*toy())
    out = tmp_path / "index"
    first = build_index(embeddings, samples, out, k=5, window=None, quiet=True)
    again = build_index(embeddings, samples, out, k=5, window=None, quiet=True)
    assert again.reused
    (out / "versions" / "vault").mkdir()  # somebody's own folder is no version
    assert again.content_hash == first.content_hash
    assert "already holds" in again.notes[-1]
    assert build_index(embeddings, samples, out, k=6, window=None, quiet=True).version == "v000002"
    assert Index(out).version == "v000002"
    assert (out / "versions" / "v000001" / "manifest.json").exists()  # every version is kept


def test_a_damaged_version_is_not_reused(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(*toy())
    out = tmp_path / "index"
    first = build_index(embeddings, samples, out, k=5, window=None, quiet=True)
    flip(out / "versions/v000001/neighbors.h5", -3)
    again = build_index(embeddings, samples, out, k=5, window=None, quiet=True)
    assert (again.reused, again.version, again.content_hash) == (False, "v000002", first.content_hash)
    flip(out / "CURRENT", 30)
    assert build_index(embeddings, samples, out, k=5, window=None, quiet=True).version == "v000003"


def test_7_no_chunk_is_dropped_whatever_its_name(vector_set: Write, tmp_path: Path) -> None:
    """Shards named unlike round hundreds, the last with one object, and blocks that do not divide N."""
    shards = {"part_0.h5": 20, "part_100.h5": 13, "part_20.h5": 26, "z-last.h5": 1}
    vectors, columns = toy()
    embeddings, samples = vector_set(vectors, columns | {"mag": np.full(60, 20.0)}, shards=shards)
    build_index(embeddings, samples, tmp_path / "index", k=59, window="mag:0.5", memory_bytes=4000, quiet=True)
    rows = Index(tmp_path / "index").neighbor_row
    assert len(rows) == len(Embeddings(embeddings)) == 60
    for row, neighbors in enumerate(rows):  # with k = N − 1 every other object is in every list
        assert sorted(neighbors.tolist()) == [other for other in range(60) if other != row]
    assert [path.name for path in Samples(samples).paths] == ["part_0.h5", "part_20.h5", "part_100.h5", "z-last.h5"]


@pytest.mark.parametrize(
    ("domain", "column", "said"),
    [
        ("galaxy", {}, "the usual one of such objects is mag_r:0.5 or mag:0.5, but no object has a value for it "),
        ("galaxy", {"mag": np.full(60, np.nan)}, "mag_r:0.5 or mag:0.5, but no object has a value for it (--window no"),
        ("jet", {"pt": np.zeros(60)}, "log(pt):0.1 or m_jj:100, but no object has a value for it"),
        ("image", {}, "are any others"),
    ],
)
def test_a_usual_window_that_cannot_be_is_said_once(
    vector_set: Write, tmp_path: Path, domain: str, column: dict[str, Any], said: str | None
) -> None:
    embeddings, samples = vector_set(toy()[0], {"flux": np.arange(60.0), **column}, domain=domain)
    usual = build_index(embeddings, samples, tmp_path / "index", k=5, window="usual", quiet=True)
    assert usual.window is None
    assert [said is not None and said in note for note in usual.notes if note.startswith("No window")] == [True] * bool(
        said
    )
    none = build_index(embeddings, samples, tmp_path / "none", k=5, window=None, quiet=True)
    assert not [note for note in none.notes if note.startswith("No window")]
    assert none.content_hash == usual.content_hash


def test_a_domain_has_a_default_window_where_its_column_is_there(vector_set: Write) -> None:
    vectors, columns = toy()
    mag = columns["mag"]

    def usual(domain: str, **columns: Any) -> str | None:
        return usual_window(Samples(vector_set(vectors, columns, domain=domain)[1]))

    assert usual("galaxy", mag=mag) == "mag:0.5"
    assert usual("galaxy", mag=mag, mag_r=mag) == "mag_r:0.5"  # the first of those there are
    assert usual("galaxy", mag=mag, mag_r=np.full(len(mag), "bright")) == "mag:0.5"
    assert usual("galaxy", mag=mag, mag_r=np.full(len(mag), np.nan)) == "mag:0.5"  # else nothing had a neighbor
    assert usual("galaxy", flux=mag) is usual("image", mag=mag) is None
    assert usual("jet", pt=np.zeros(len(mag))) is None


def test_more_neighbors_than_objects_are_capped_and_said(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(*toy())
    report = build_index(embeddings, samples, tmp_path / "index", k=999, window=None, quiet=True)
    assert report.k == 59
    assert report.notes[0] == "k = 999 was asked for, but there are only 59 other objects: k = 59 is stored."
    unasked = build_index(embeddings, samples, tmp_path / "index", window=None, quiet=True)
    assert (unasked.k, unasked.reused) == (59, True)
    assert unasked.notes[0] == "k is 999 by default, but there are only 59 other objects: k = 59 is stored."


def test_a_version_that_answers_otherwise_than_the_one_before_says_so(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(*toy())
    build = partial(build_index, embeddings, samples, tmp_path / "index", quiet=True)

    def told(k: int, window: str | None) -> list[str]:
        return [note for note in build(k=k, window=window).notes if "served until now" in note]

    assert told(5, "mag:0.5") == told(5, "mag:0.5") == []
    assert told(5, None) == [
        "Version v000001, served until now, had the window mag ± 0.5; this one has no window. To have the former "
        "again, build with --window mag:0.5."
    ]
    assert told(6, "log(mag):0.2") == [
        "Version v000002, served until now, had no window and k = 5; this one has the window log(mag) ± 0.2 and k = 6. "
        "To have the former again, build with --window none and -k 5."
    ]
    assert "build with --window 'log(mag):0.2'." in told(6, "mag:0.5")[0]
    assert "had k = 6; this one has k = 7." in told(7, "mag:0.5")[0]


def test_an_encoder_that_cannot_be_checked_is_said(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(*toy())  # they do not record what made them
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"content_hash": "abcd", "preprocess": {"size": 12}}')
    report = build_index(embeddings, samples, tmp_path / "index", k=3, window=None, checkpoint=encoder, quiet=True)
    assert any("does not say which encoder made it" in note for note in report.notes)


def test_a_build_without_its_encoder_says_what_that_costs(vector_set: Write, tmp_path: Path) -> None:
    own, samples = vector_set(*toy())
    build = partial(build_index, samples=samples, out=tmp_path / "index", window=None, quiet=True)
    assert not [note for note in build(own, k=2).notes if "picture" in note]  # vectors of one's own
    made, made_from = tmp_path / "made.h5", {"samples": Samples(samples).content_hash, "checkpoint": "abcd"}
    held = Embeddings(own)
    write_embeddings(made, held.ids, iter([held.vectors]), dimensions=held.dimensions, made_from=made_from)
    how = "since no --checkpoint was given (no encoder was named): build again with --checkpoint DIR"
    for _ in range(2):  # built, and reused
        assert len([note for note in build(made, k=2).notes if how in note]) == 1
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"content_hash": "abcd", "preprocess": {"size": 12}}')
    named = build(made, k=2, checkpoint=encoder)
    assert not [note for note in named.notes if "picture" in note]
    again = build(made, k=2)
    assert again.version != named.version
    assert any(f"(version {named.version}, served until now, had them)" in note for note in again.notes)


def test_half_precision_embeddings_are_searched_as_stored(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(*toy(), dtype="float16")
    build_index(embeddings, samples, tmp_path / "index", k=9, window="mag:0.5", quiet=True)
    assert verify(tmp_path / "index", quiet=True).equal_similarities == 1


def test_a_log_window(vector_set: Write, tmp_path: Path) -> None:
    vectors, columns = toy()
    columns["pt"] = np.exp(np.random.default_rng(1).normal(4, 1, 60))
    columns["pt"][:3] = [0.0, -5.0, np.nan]
    embeddings, samples = vector_set(vectors, columns)
    report = build_index(embeddings, samples, tmp_path / "index", k=9, window="log(pt):0.3", quiet=True)
    assert (report.nan_count, report.window) == (3, "log(pt):0.3")
    assert verify(tmp_path / "index", quiet=True).recall == 1


def test_what_cannot_be_built_is_refused_in_one_line(vector_set: Write, tmp_path: Path) -> None:
    vectors, columns = toy()
    embeddings, samples = vector_set(vectors, columns | {"name": np.array(["a"] * 60)})
    out = tmp_path / "index"

    def refused(match: str, **options: Any) -> None:
        given: dict[str, Any] = {"k": 3, "window": None, "quiet": True, "out": out} | options
        with pytest.raises((InputError, NotFoundError), match=match) as caught:
            build_index(embeddings, samples, **given)
        assert "\n" not in caught.value.message
        assert not out.exists()

    refused("k must be at least 1, but 0", k=0)
    refused(r"Unknown column 'mga'. Did you mean 'mag'\?", window="mga:0.5")
    refused("holds text", window="name:0.5")
    refused("column:half-width", window="mag")
    refused("is a file", out=samples[0])
    refused("holds other files", out=tmp_path)


def test_embeddings_of_other_samples_are_refused_naming_both(vector_set: Write, tmp_path: Path) -> None:
    vectors, columns = toy()
    embeddings, samples = vector_set(vectors, columns)
    (tmp_path / "kept").mkdir()
    kept = shutil.copy(embeddings, tmp_path / "kept")
    _, changed = vector_set(vectors, columns | {"mag": columns["mag"] + 1})
    with pytest.raises(InputError, match=r"embeddings.h5 was made from other samples .* than .*samples.h5"):
        build_index(Path(kept), changed, tmp_path / "index", k=3, window=None)
    vector_set(vectors[:50], {name: values[:50] for name, values in columns.items()})
    with pytest.raises(
        InputError, match=r"embeddings.h5 and .*samples.h5 hold different numbers of objects: 60 and 50"
    ):
        build_index(Path(kept), samples, tmp_path / "index", k=3, window=None)


def test_a_moved_index_finds_its_files_and_refuses_others(vector_set: Write, tmp_path: Path) -> None:
    vectors, columns = toy()
    (tmp_path / "a").mkdir()
    embeddings, samples = vector_set(vectors, columns)
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, quiet=True)
    moved = tmp_path / "a" / "moved"
    moved.mkdir()
    for name in ("index", "samples.h5", "embeddings.h5"):
        shutil.move(tmp_path / name, moved / name)
    index = Index(moved / "index")
    assert len(index.open_samples()) == len(index.open_embeddings()) == 60
    shutil.move(moved / "samples.h5", tmp_path / "elsewhere.h5")
    with pytest.raises(NotFoundError, match="where nothing is now; say where with --samples"):
        index.open_samples()
    assert len(index.open_samples([tmp_path / "elsewhere.h5"])) == 60
    other, other_samples = vector_set(vectors[::-1], columns | {"mag": columns["mag"] + 1})
    with pytest.raises(InputError, match="built with other samples"):
        index.open_samples(other_samples)
    with pytest.raises(InputError, match="built with other embeddings"):
        index.open_embeddings(other)


def test_what_is_no_index_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not an index folder"):
        Index(tmp_path)
    (tmp_path / "versions").mkdir()
    with pytest.raises(NotFoundError, match="has no finished version"):
        Index(tmp_path)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["CURRENT", "versions/v000001/manifest.json"])
def test_an_altered_small_file_is_found_when_opening(vector_set: Write, tmp_path: Path, name: str) -> None:
    embeddings, samples = vector_set(*toy())
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, quiet=True)
    path = tmp_path / "index" / name
    data = path.read_bytes()
    rng = random.Random(0)
    for place in [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(60))]:
        flip(path, place)
        with pytest.raises((CorruptError, NotFoundError)):
            Index(tmp_path / "index")
        path.write_bytes(data)
    assert Index(tmp_path / "index").n == 60


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_array_file_is_found_when_opening(vector_set: Write, tmp_path: Path, size: int) -> None:
    embeddings, samples = vector_set(*toy())
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, quiet=True)
    os.truncate(tmp_path / "index/versions/v000001/neighbors.h5", size)
    with pytest.raises(CorruptError, match=r"neighbors.h5 should hold"):
        Index(tmp_path / "index")


# kills


class KilledBuilds:
    """An index served at k = 5, and builds of k = 12 that are killed in every way."""

    def __init__(self, vector_set: Write, folder: Path) -> None:
        rng = np.random.default_rng(3)
        n = 1200
        columns = {"mag": np.round(rng.normal(20, 1, n), 3)}
        self.embeddings, (self.samples,) = vector_set(rng.normal(size=(n, 24)), columns)
        self.out, self.memory = folder / "index", 150_000  # dozens of blocks
        self.served = self.build(self.out, 5)
        began = time.monotonic()
        self.wanted = self.build(folder / "reference", 12)
        self.seconds = time.monotonic() - began
        self.inside = self.kills = 0

    def build(self, out: Path, k: int) -> str:
        report = build_index(
            self.embeddings, [self.samples], out, k=k, window="mag:0.5", memory_bytes=self.memory, quiet=True
        )
        return report.content_hash

    def start(self, **environment: str) -> subprocess.Popen[str]:
        arguments = [self.embeddings, self.samples, self.out, 12, self.memory]
        command = [sys.executable, "-c", BUILD, *map(str, arguments)]
        env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        assert child.stdout is not None
        assert child.stdout.readline() == "building\n"
        return child

    def kill(self, *, at: str | None = None, after: float = 0) -> None:
        child = self.start(**({"LOOKALIKE_KILL_AT": at} if at else {}))
        if at is None:
            time.sleep(after)
            child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
        assert child.returncode in (-signal.SIGKILL, 0)
        assert at is None or child.returncode == -signal.SIGKILL
        self.kills += 1
        self.check()

    def check(self) -> None:
        """What is served is whole: the old version, or the new one if it was already published."""
        index = Index(self.out)
        assert index.intact()
        assert index.manifest.content_hash in (self.served, self.wanted)
        unpublished = max(path.name for path in (self.out / "versions").iterdir()) > index.version
        if leftovers(self.out) or unpublished:
            self.inside += 1
            assert index.manifest.content_hash == self.served

    def rerun(self) -> None:
        """The next build completes what was killed, equal to the unkilled one, and leaves nothing behind."""
        assert self.build(self.out, 12) == self.wanted == Index(self.out).manifest.content_hash
        assert leftovers(self.out) == []
        self.served = self.wanted
        shutil.rmtree(self.out)
        self.served = self.build(self.out, 5)


POINTS = ["index.block:1", "index.block:9", "index.version", "CURRENT.written", "index.current"]


def test_8_a_killed_build_is_not_taken_for_finished(vector_set: Write, tmp_path: Path) -> None:
    """SIGKILL at three named points and three random times; the old version stays, a rerun makes the same index."""
    builds = KilledBuilds(vector_set, tmp_path)
    for point in ("index.block:9", "index.version", "index.current"):
        builds.kill(at=point)
        builds.rerun()
    rng = random.Random(8)
    for _ in range(3):
        builds.kill(after=rng.uniform(0, 1.2 * builds.seconds))
        builds.rerun()
    print(f"\nindex: {builds.inside} of {builds.kills} kills landed inside a write")
    assert builds.inside >= 2


@pytest.mark.long
def test_8_many_killed_builds(vector_set: Write, tmp_path: Path) -> None:
    builds = KilledBuilds(vector_set, tmp_path)
    for point in POINTS:
        builds.kill(at=point)
        builds.rerun()
    rng = random.Random(9)
    for _ in range(25):
        builds.kill(after=rng.uniform(0, 1.2 * builds.seconds))
        if rng.random() < 0.5:  # else the next build meets the leftovers and is killed as well
            builds.rerun()
    builds.rerun()
    print(f"\nindex: {builds.inside} of {builds.kills} kills landed inside a write")
    assert builds.inside >= len(POINTS) - 1


def test_a_first_build_that_is_killed_leaves_nothing_to_serve(vector_set: Write, tmp_path: Path) -> None:
    builds = KilledBuilds(vector_set, tmp_path)
    shutil.rmtree(builds.out)
    for point, said in (("index.block:2", "has no finished version"), ("index.version", "lookalike repair")):
        child = builds.start(LOOKALIKE_KILL_AT=point)
        child.communicate(timeout=60)
        with pytest.raises(NotFoundError, match=said):
            Index(builds.out)
    assert builds.build(builds.out, 12) == builds.wanted
    assert [path.name for path in (builds.out / "versions").iterdir()] == ["v000001"]


def test_what_a_killed_build_had_finished_is_published_by_the_next(vector_set: Write, tmp_path: Path) -> None:
    builds = KilledBuilds(vector_set, tmp_path)
    builds.kill(at="index.version")
    made = builds.out / "versions/v000002/neighbors.h5"
    before = made.stat().st_mtime_ns
    report = build_index(
        builds.embeddings, [builds.samples], builds.out, k=12, window="mag:0.5", memory_bytes=builds.memory, quiet=True
    )
    assert (report.version, report.reused, report.content_hash) == ("v000002", True, builds.wanted)
    assert "is served now" in report.notes[-1]
    assert made.stat().st_mtime_ns == before
    assert Index(builds.out).version == "v000002"
    assert verify(builds.out, quiet=True).recall == 1


@pytest.mark.parametrize("name", ["neighbors.h5", "manifest.json", "build.json"])
def test_a_finished_version_that_is_damaged_or_of_another_build_is_not_published(
    vector_set: Write, tmp_path: Path, name: str
) -> None:
    builds = KilledBuilds(vector_set, tmp_path)
    builds.kill(at="index.version")
    flip(builds.out / "versions/v000002" / name, 3)
    assert builds.build(builds.out, 12) == builds.wanted == Index(builds.out).manifest.content_hash
    assert Index(builds.out).intact()
    shutil.rmtree(builds.out)
    builds.build(builds.out, 5)
    builds.kill(at="index.version")
    report = build_index(builds.embeddings, [builds.samples], builds.out, k=7, window="mag:0.5", quiet=True)
    assert (report.k, report.reused) == (7, False)
    assert sorted(path.name for path in (builds.out / "versions").iterdir()) == ["v000001", "v000002"]


def test_a_second_builder_is_refused_at_once(vector_set: Write, tmp_path: Path) -> None:
    builds = KilledBuilds(vector_set, tmp_path)
    builds.memory = 1  # one query at a time: slow enough to be met
    child = builds.start()
    try:
        deadline = time.monotonic() + 30
        while not leftovers(builds.out) and time.monotonic() < deadline:
            time.sleep(0.01)
        began = time.process_time()
        with pytest.raises(LockedError, match=f"process {child.pid}"):
            builds.build(builds.out, 12)
        assert time.process_time() - began < 1  # of work: how long it takes by the clock is up to who else works
        assert child.poll() is None  # it was not waited for
        assert Index(builds.out).manifest.content_hash == builds.served
    finally:
        child.kill()
        child.communicate()
    builds.memory = 2**30
    builds.rerun()  # a dead builder's lock is free
