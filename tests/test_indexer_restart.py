"""kill −9 while an index is built: what was saved is gone on with, the result is that of an unbroken build.

pytest tests/test_indexer_restart.py          (-m long for the many kills)
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.errors import LockedError
from lookalike.files import PARTIAL
from lookalike.indexer import blocks, devices
from lookalike.indexer.audit import verify
from lookalike.indexer.collect import collect
from lookalike.indexer.devices import CpuDevice
from lookalike.indexer.index import BuildReport, Index, build_index
from lookalike.indexer.unfinished import OPEN, PROGRESS, VERSION, WORK, saved_progress, unfinished

Write = Callable[..., tuple[Path, list[Path]]]
pytestmark = pytest.mark.usefixtures("faiss_on_one_thread")

# What the killed process runs; the parent's test module cannot be imported by name there.
BUILD = """
import os
from pathlib import Path
os.environ["LOOKALIKE_KILL_AT"] = {kill_at!r}
import faiss
faiss.omp_set_num_threads(1)
from lookalike.indexer.index import build_index
build_index(Path({embeddings!r}), [Path({samples!r})], Path({out!r}), k=12, window={window!r},
            memory_bytes={memory!r}, save_seconds=0, quiet=True)
"""
SAVES = [  # within one save, in the order in which they are passed
    "index.flushed",
    "index.open",
    "progress.json.written",
    "progress.json.renamed",
    "index.saved",
]
ENDS = ["manifest.json.written", "index.complete", "index.placed", "index.version", "CURRENT.written", "index.current"]


Children = multiprocessing.context.ForkServerContext


@pytest.fixture(scope="module")
def children() -> Children:
    """Processes that start with the indexer already imported, without this process's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["lookalike.indexer.index", "lookalike.indexer.neighbors", "lookalike.indexer.again"]
    )
    first = context.Process(target=int)  # starts the server
    first.start()
    first.join()
    return context


class Builds:
    """An index served at k = 5, and builds of k = 12 that save after every block and are killed."""

    def __init__(
        self, vector_set: Write, folder: Path, children: Children, window: str | None = "mag:0.5", memory: int = 150_000
    ) -> None:
        rng = np.random.default_rng(3)
        columns = {"mag": np.round(rng.normal(20, 1, 1200), 3)}
        columns["mag"][::97] = np.nan
        embeddings, (samples,) = vector_set(rng.normal(size=(1200, 24)), columns)
        self.embeddings, self.samples = (Path(shutil.copy(path, folder)) for path in (embeddings, samples))
        self.out, self.window, self.memory, self.children = folder / "index", window, memory, children
        self.served = self.build(k=5).content_hash
        self.wanted = self.build(out=folder / "reference", save_seconds=0).content_hash
        self.kills = self.inside = self.gone_on = 0

    def copied(self, folder: Path) -> Builds:
        """The same in another folder."""
        shutil.copytree(self.embeddings.parent, folder, dirs_exist_ok=True)
        other = copy.copy(self)
        other.embeddings, other.samples = folder / self.embeddings.name, folder / self.samples.name
        other.out = folder / "index"
        return other

    def build(self, k: int = 12, out: Path | None = None, save_seconds: float = 60) -> BuildReport:
        return build_index(
            self.embeddings,
            [self.samples],
            out or self.out,
            k=k,
            window=self.window,
            memory_bytes=self.memory,
            save_seconds=save_seconds,
            quiet=True,
        )

    def start(self, kill_at: str = "") -> multiprocessing.context.ForkServerProcess:
        code = BUILD.format(
            kill_at=kill_at,
            embeddings=str(self.embeddings),
            samples=str(self.samples),
            out=str(self.out),
            window=self.window,
            memory=self.memory,
        )
        child = self.children.Process(target=exec, args=(code, {}))
        child.start()
        return child

    def kill(self, *, at: str | None = None, after: float = 0, saved: bool = False) -> bool:
        """Kill a build at a named point or some seconds after its start or first save; whether it was not yet done."""
        child = self.start(at or "")
        while saved and child.is_alive() and not unfinished(self.out):
            time.sleep(0.0005)
        child.join(120 if at else after)
        hung = at is not None and child.is_alive()
        child.kill()
        child.join()
        assert not hung, "the process neither met its end nor finished within 120 s"
        assert child.exitcode in (-signal.SIGKILL, 0)
        assert at is None or child.exitcode == -signal.SIGKILL, f"{at} was never passed"
        self.kills += 1
        index = Index(self.out)  # what is served is whole: the old version, or the new one if it was published
        assert index.intact()
        assert index.manifest.content_hash in (self.served, self.wanted)
        killed = child.exitcode == -signal.SIGKILL
        self.inside += bool(killed and unfinished(self.out))
        return killed

    def whole(self) -> float:
        """Seconds from the start of a process to the end of its build."""
        began = time.monotonic()
        self.start().join(120)
        seconds = time.monotonic() - began
        self.rerun()
        return seconds

    def folder(self) -> Path:
        (found,) = unfinished(self.out)
        return found

    def rerun(self) -> int:
        """The next build completes what was killed, and leaves nothing behind; the objects it did not search again."""
        report = self.build()
        assert report.content_hash == self.wanted == Index(self.out).manifest.content_hash
        assert Index(self.out).intact()
        assert [path.name for path in self.out.rglob("*") if path.name.endswith(PARTIAL)] == []
        told = re.search(r"stopped after ([0-9,]+) of", " ".join(report.notes))
        shutil.rmtree(self.out)
        self.build(k=5)
        done = int(told[1].replace(",", "")) if told else 0
        self.gone_on += done > 0
        return done


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, children: Children, vector_set_in: Callable[[Path], Write]
) -> Builds:
    """What each test takes a copy of."""
    folder = tmp_path_factory.mktemp("first")
    return Builds(vector_set_in(tmp_path_factory.mktemp("vectors")), folder, children)


@pytest.fixture(scope="module")
def killed(first: Builds, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """A build that was killed while some lists were finished and others open."""
    builds = first.copied(tmp_path_factory.mktemp("killed"))
    builds.kill(at="index.saved:10")
    return builds


@pytest.fixture
def builds(first: Builds, tmp_path: Path) -> Builds:
    """An index, and nothing unfinished."""
    return first.copied(tmp_path / "builds")


@pytest.fixture
def stopped(killed: Builds, tmp_path: Path) -> Builds:
    """An index with a build that was killed while some lists were finished and others open."""
    return killed.copied(tmp_path / "stopped")


def test_a_killed_build_goes_on_where_it_was_saved(builds: Builds) -> None:
    builds.kill(at="index.saved:6")
    saved = saved_progress(builds.folder())
    assert saved is not None
    assert saved.open is not None
    assert 0 < saved.open.asked < saved.places == 1200 - 13
    assert builds.rerun() == saved.open.asked
    builds.kill(at="index.open:4")  # the state before is what counts
    assert builds.rerun() > 0
    rng = random.Random(5)
    builds.kill(after=rng.uniform(0.2, 0.8) * builds.whole())
    builds.rerun()
    builds.kill(at="index.complete")
    assert builds.rerun() == 1200 - 13  # all was there, only its place was not
    print(f"\nindex: {builds.kills} kills, {builds.inside} with a state saved, {builds.gone_on} gone on with")


@pytest.mark.long
@pytest.mark.parametrize(("window", "memory"), [("mag:0.5", 150_000), (None, 60_000), (None, 2**22)])
def test_many_killed_builds(
    vector_set: Write, tmp_path: Path, children: Children, window: str | None, memory: int
) -> None:
    """Rolling, stripe by stripe, and with all lists open until the end."""
    (tmp_path / "builds").mkdir()
    builds = Builds(vector_set, tmp_path / "builds", children, window, memory)
    for point in [f"{name}:{count}" for name in SAVES for count in (1, 3)] + ENDS:
        builds.kill(at=point)
        builds.rerun()
    rng = random.Random(9)
    landed, named = 0, builds.gone_on
    whole = builds.whole()
    while landed < 10:
        late = rng.random() < 0.7  # for a process takes longer to start than its small build does
        landed += builds.kill(after=rng.uniform(0, whole / 30 if late else whole), saved=late)
        if rng.random() < 0.5:  # else the next build meets what this one left, and is killed as well
            builds.rerun()
    builds.rerun()
    assert builds.gone_on > named, "no random kill met a state that was saved"
    print(f"\nindex: {builds.kills} kills, {builds.inside} with a state saved, {builds.gone_on} gone on with")
    assert builds.gone_on >= len(SAVES)


@pytest.mark.parametrize("what", ["open", "list", "check", "work", "progress", "header", "short", "no open"])
def test_what_is_doubtful_is_computed_again(stopped: Builds, what: str) -> None:
    folder = stopped.folder()
    saved = saved_progress(folder)
    assert saved is not None
    assert saved.open is not None
    lists = folder / VERSION / "neighbors.h5"
    finished = 24_000  # a place among the rows of neighbors
    match what:
        case "open":
            flip(next(folder.glob(f"{OPEN}*")), 1000)
        case "no open":
            next(folder.glob(f"{OPEN}*")).unlink()
        case "list":
            for place in range(finished, finished + 4000, 48):
                flip(lists, place)
        case "check":
            for place in range(-4 * 900, -4 * 300, 4):
                flip(lists, place)
        case "work":
            flip(folder / WORK, 40)
        case "progress":
            flip(folder / PROGRESS, 2)
        case "header":
            flip(lists, 0)
        case "short":
            os.truncate(lists, 4000)
    done = stopped.rerun()
    if what in ("open", "no open", "work"):
        assert done == saved.done
    elif what == "list":
        assert done == saved.open.asked
    else:
        assert done == 0


def stop(*_: object) -> object:
    raise KeyboardInterrupt


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_damaged_lists_of_a_stopped_build_are_said_and_made_again(stopped: Builds) -> None:
    for place in range(24_000, 80_000, 480):  # among the rows of neighbors
        flip(stopped.folder() / VERSION / "neighbors.h5", place)
    report = stopped.build()
    assert report.content_hash == stopped.wanted
    assert any("damaged and computed again" in note for note in report.notes)
    assert verify(stopped.out, quiet=True).recall == 1


def test_another_plan_begins_anew_and_the_stopped_build_stays_for_its_own(stopped: Builds) -> None:
    folder = stopped.folder()
    report = stopped.build(k=7)
    assert not any("was stopped" in note for note in report.notes)
    assert stopped.folder() == folder
    assert any("was stopped" in note for note in stopped.build().notes)
    assert not folder.exists()


def test_another_software_version_begins_anew(stopped: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.indexer.plan.__version__", "0.0.0")
    report = stopped.build()
    assert not any("was stopped" in note for note in report.notes)
    assert report.content_hash == stopped.wanted


def test_the_saved_open_lists_stay_until_others_are_counted(stopped: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    (held,) = stopped.folder().glob(f"{OPEN}*")
    first = held.rename(held.with_name(f"{OPEN}1.bin"))  # the name that the first save of a process takes
    progress = stopped.folder() / PROGRESS
    progress.write_text(progress.read_text().replace(held.name, first.name))
    saved, before = progress.read_bytes(), first.read_bytes()

    def stopping(path: Path, at: Any) -> str:
        path.write_bytes(b"cut short")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lookalike.indexer.resume.write_standing", stopping)
        with pytest.raises(KeyboardInterrupt):
            stopped.build(save_seconds=0)
    assert progress.read_bytes() == saved
    assert first.read_bytes() == before
    told = saved_progress(stopped.folder())
    assert told is not None
    assert told.open is not None
    assert stopped.rerun() == told.open.asked > 0


def test_other_memory_goes_on_from_the_finished_lists(stopped: Builds) -> None:
    saved = saved_progress(stopped.folder())
    assert saved is not None
    assert saved.done > 0
    stopped.memory = 400_000
    assert stopped.rerun() == saved.done


def test_a_build_by_devices_goes_on_at_its_block(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on GPUs, in whose place the CPU searches."""
    monkeypatch.setattr(devices, "find_devices", lambda: ([CpuDevice(2**20), CpuDevice(2**20)], "by devices"))
    monkeypatch.setattr(blocks, "MOST_QUERIES", 64)
    builds.memory = 2**23
    whole, passed = blocks.BlockBuilder.block, 0

    def stopping(self: blocks.BlockBuilder, start: int, stop: int, best: Any) -> object:
        nonlocal passed
        passed += 1
        if passed == 9:
            raise KeyboardInterrupt
        return whole(self, start, stop, best)

    monkeypatch.setattr(blocks.BlockBuilder, "block", stopping)
    with pytest.raises(KeyboardInterrupt):
        builds.build(save_seconds=0)
    saved = saved_progress(builds.folder())
    assert saved is not None
    assert saved.done == 8 * 64
    monkeypatch.setattr(blocks.BlockBuilder, "block", whole)
    monkeypatch.setattr("lookalike.indexer.index.describe", stop)
    for _ in range(2):  # when all lists are there nothing is searched again, however often it is stopped then
        with pytest.raises(KeyboardInterrupt):
            builds.build(save_seconds=0)
        saved = saved_progress(builds.folder())
        assert saved is not None
        assert saved.done == saved.places
    monkeypatch.undo()
    assert builds.rerun() == saved.places


def test_a_build_that_saved_nothing_leaves_nothing(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.indexer.lists_file.ListWriter.write", stop)
    with pytest.raises(KeyboardInterrupt):
        builds.build()
    assert [path.name for path in (builds.out / "versions").iterdir()] == ["v000001"]


def test_a_second_builder_is_refused_at_once_and_a_dead_ones_lock_is_free(builds: Builds) -> None:
    builds.memory = 1
    child = builds.start()
    try:
        deadline = time.monotonic() + 60
        while not unfinished(builds.out) and time.monotonic() < deadline:
            time.sleep(0.01)
        began = time.process_time()
        with pytest.raises(LockedError, match=f"process {child.pid}"):
            builds.build()
        with pytest.raises(LockedError, match=f"process {child.pid}"):
            collect(builds.out, unfinished_days=0)
        assert time.process_time() - began < 1  # of work: how long it takes by the clock is up to who else works
        assert child.is_alive()
    finally:
        child.kill()
        child.join()
    assert unfinished(builds.out)
    builds.memory = 150_000
    builds.rerun()


def test_gc_keeps_a_stopped_build_for_its_days(stopped: Builds) -> None:
    folder = stopped.folder()
    found = collect(stopped.out)
    assert found.unfinished == (f"versions/{folder.name}",)
    assert found.removed == ()
    week_ago = time.time() - 8 * 86400
    os.utime(folder / PROGRESS, (week_ago, week_ago))
    assert collect(stopped.out, dry_run=True).removed == (f"versions/{folder.name}",)
    assert collect(stopped.out, unfinished_days=9).removed == ()
    assert collect(stopped.out).removed == (f"versions/{folder.name}",)
    assert unfinished(stopped.out) == []
