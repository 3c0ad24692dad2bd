"""Atomic writing, locks and settings files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lookalike import files
from lookalike.errors import CorruptError, InputError, LockedError, NotFoundError
from lookalike.files import (
    atomic_folder,
    atomic_path,
    existing_files,
    lock,
    natural_key,
    read_json,
    recover_folder,
    write_json,
)


def test_natural_order_puts_part_2_before_part_10() -> None:
    names = ["part10.h5", "part2.h5", "part1.h5", "a10b2", "a10b10", "a2"]
    assert sorted(names, key=natural_key) == ["a2", "a10b2", "a10b10", "part1.h5", "part2.h5", "part10.h5"]


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


def test_a_dot_and_two_spellings_are_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    with lock(Path()), pytest.raises(LockedError), lock(tmp_path / "inner" / ".." / "inner"):
        pass


def test_json_refuses_nan_and_names_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert not path.exists()
    with pytest.raises(NotFoundError, match=r"x\.json"):
        read_json(path)
    path.write_text('{"x":')
    with pytest.raises(CorruptError, match=r"x\.json"):
        read_json(path)


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
