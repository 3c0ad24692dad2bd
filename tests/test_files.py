"""Atomic writing, locks and settings files."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike import files
from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError
from lookalike.files import (
    atomic_folder,
    atomic_path,
    existing_files,
    file_output,
    lock,
    natural_key,
    read_json,
    recover_folder,
    report_output,
    write_json,
)


def test_natural_order_puts_part_2_before_part_10() -> None:
    names = ["part10.h5", "part2.h5", "part1.h5", "a10b2", "a10b10", "a2"]
    assert sorted(names, key=natural_key) == ["a2", "a10b2", "a10b10", "part1.h5", "part2.h5", "part10.h5"]


@given(st.lists(st.text(alphabet="m12²٣½.", max_size=6), max_size=5))
def test_every_name_has_a_place_in_natural_order(names: list[str]) -> None:
    assert sorted(sorted(names, reverse=True), key=natural_key) == sorted(names, key=natural_key)


def test_files_are_read_by_name_whatever_their_folder(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/part2.h5", "b/part1.h5", "b/part10.h5", "a/part10.h5")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in existing_files(paths)]
    assert found == ["b/part1.h5", "a/part2.h5", "a/part10.h5", "b/part10.h5"]


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / text).write_text(text)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("spelling", ["made", "made/", "made/.", "."])
def test_a_file_never_replaces_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "kept").write_text("kept")
    monkeypatch.chdir(tmp_path if spelling != "." else tmp_path / "made")
    with (
        pytest.raises(InputError, match=r"A file is written here, but .*made is a folder"),
        atomic_path(Path(spelling)),
    ):
        pytest.fail("work began")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_made_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    def made_meanwhile() -> None:
        with atomic_path(tmp_path / "out") as temporary:
            temporary.write_text("new")
            (tmp_path / "out").mkdir()

    with pytest.raises(InputError, match="is a folder"):
        made_meanwhile()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(InputError, match=r"A folder is written here, but .*file is a file"),
        atomic_folder(tmp_path / "file"),
    ):
        pytest.fail("work began")
    assert (tmp_path / "file").read_text() == "kept"


def test_an_interrupt_between_the_two_renames_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("old")

    def interrupt(name: str) -> None:
        if name == "folder.moved-aside":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_point", interrupt)

    def replaced() -> None:
        with atomic_folder(folder) as temporary:
            (temporary / "new").write_text("new")

    with pytest.raises(KeyboardInterrupt):
        replaced()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


KILLED = """
from pathlib import Path
from lookalike.files import atomic_folder
with atomic_folder(Path({folder!r})) as temporary:
    (temporary / "new").write_text("new")
"""


@pytest.mark.parametrize(
    ("point", "expected"), [("folder.written", "old"), ("folder.moved-aside", "old"), ("folder.renamed", "new")]
)
def test_a_kill_at_each_point_leaves_one_whole_folder(tmp_path: Path, point: str, expected: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(folder=str(folder))],
        env=os.environ | {"LOOKALIKE_KILL_AT": point},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    recover_folder(folder)
    assert [path.name for path in folder.iterdir()] == [expected]


HOLDER = """
import sys, time
from pathlib import Path
from lookalike.files import lock
with lock(Path({output!r})):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    output = tmp_path / "out"
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER.format(output=str(output)))], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        start = time.monotonic()
        with pytest.raises(LockedError, match=f"process {holder.pid}"), lock(output):
            pass
        assert time.monotonic() - start < 1
        holder.kill()
    with lock(output):
        pass


@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_a_lock_file_goes_with_its_lock(tmp_path: Path, failure: type[BaseException] | None) -> None:
    with contextlib.suppress(ValueError, KeyboardInterrupt), lock(tmp_path / "out"):
        assert (tmp_path / ".out.lock").read_text().startswith(f"process {os.getpid()} on ")
        if failure is not None:
            raise failure
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("meanwhile", ["removed", "replaced"])
def test_a_lock_file_removed_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    file, taken = tmp_path / ".out.lock", []

    def flock(descriptor: int, how: int) -> None:
        if not taken:  # its holder lets go between opening and locking, and perhaps a third comes and goes
            file.unlink()
            if meanwhile == "replaced":
                file.touch()
        taken.append(descriptor)
        kernel(descriptor, how)

    kernel = files.fcntl.flock
    monkeypatch.setattr(files.fcntl, "flock", flock)
    with lock(tmp_path / "out"):
        assert len(taken) == 2
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), lock(tmp_path / "out"):
            pytest.fail("two hold the lock")


def test_a_file_system_without_locks_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    message = r"keeps locks, but that of .* does not \(No locks available\)"
    with pytest.raises(InputError, match=message), lock(tmp_path / "out"):
        pytest.fail("work began")


RACER = """
import sys
from pathlib import Path
from lookalike.errors import LockedError
from lookalike.files import lock
counter, done = Path({counter!r}), 0
while done < 100:
    try:
        with lock(Path({output!r})):
            counter.write_text(str(int(counter.read_text()) + 1))
            done += 1
    except LockedError:
        pass
"""


def test_processes_that_race_for_a_lock_never_hold_it_together(tmp_path: Path) -> None:
    """Each adds 1 to a number 100 times; two at once would lose some of them."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = RACER.format(counter=str(counter), output=str(tmp_path / "out"))
    racers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    assert counter.read_text() == "300"


def test_a_dot_and_two_spellings_are_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    with lock(Path()), pytest.raises(LockedError), lock(tmp_path / "inner" / ".." / "inner"):
        pass


@pytest.mark.parametrize("write", [lambda path: write_json(path, 1), lambda path: lock(path).__enter__(), file_output])
def test_only_an_outputs_own_folder_is_made(tmp_path: Path, write: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("")
    for deep in ("mistyped/a/out.json", "mistyped/a/b/out.json"):
        with pytest.raises(InputError, match=r"is made where it is missing, but none above it: .*and there is no "):
            write(tmp_path / deep)
    with pytest.raises(InputError, match=r"would lie in .*file, which is a file"):
        write(tmp_path / "file" / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    write_json(tmp_path / "new" / "out.json", [1])
    assert read_json(tmp_path / "new" / "out.json") == [1]


def test_json_refuses_nan_and_names_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert not path.exists()
    with pytest.raises(NotFoundError, match=r"x\.json"):
        read_json(path)
    for text in (b'{"x":', b"\xff", b"[" * 100_000, b"1" * 5000):
        path.write_bytes(text)
        with pytest.raises(CorruptError, match=r"x\.json is not the JSON document"):
            read_json(path)


@pytest.mark.parametrize(
    ("name", "there", "kept"),
    [
        ("a.png", b"\x89PNG\r\n...", False),
        ("a.png", b"\x89HDF\r\n...", True),
        ("a.png", b"", False),
        ("a.html", b"  <!doctype html>", False),
        ("a.html", b"some notes", True),
        ("a.json", b'{"schema": 1}', False),
        ("a.csv", b"id,overlap\n", False),
        ("a.csv", b"\x89HDF\r\n\x1a\n\0\0", True),
    ],
)
def test_a_report_replaces_a_report_only(tmp_path: Path, name: str, there: bytes, kept: bool) -> None:
    (tmp_path / name).write_bytes(there)
    if kept:
        with pytest.raises(InputError, match="choose another name"):
            report_output(tmp_path / name)
    else:
        assert report_output(tmp_path / name) == (tmp_path / name).resolve()
    assert report_output(tmp_path / f"new{name}").name == f"new{name}"


def test_files_must_exist_once(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    with pytest.raises(InputError, match="named twice"):
        existing_files([file, tmp_path / "." / "a"])
    with pytest.raises(InputError, match="is a folder"):
        existing_files([tmp_path])
    with pytest.raises(NotFoundError, match="No such file"):
        existing_files([tmp_path / "b"])
    with pytest.raises(InputError, match="At least one"):
        existing_files([])
