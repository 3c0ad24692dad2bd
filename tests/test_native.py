"""Work shared by threads: every part once, errors passed on, forked processes and folders nothing can be kept in."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.native import in_parts


@given(count=st.integers(0, 50), threads=st.integers(1, 9))
def test_parts_make_up_the_whole(count: int, threads: int) -> None:
    seen = np.zeros(count, int)

    def work(part: slice) -> None:
        seen[part] += 1

    in_parts(work, count, threads)
    assert (seen == 1).all()


def test_parts_run_in_threads_of_their_own() -> None:
    together = threading.Barrier(3, timeout=60)
    in_parts(lambda part: together.wait(), 3, 3)


def test_an_error_of_any_part_is_raised_once_all_have_ended() -> None:
    ended = []

    def work(part: slice) -> None:
        if part.start == 1:
            raise ValueError("part 1")
        time.sleep(0.1 * part.start)
        ended.append(part.start)

    with pytest.raises(ValueError, match="part 1"):
        in_parts(work, 4, 4)
    assert sorted(ended) == [0, 2, 3]


def test_parts_may_share_out_their_own_work() -> None:
    source = (
        "from lookalike.native import in_parts\nseen = []\nin_parts(lambda part: in_parts(seen.append, 5, 2), 2, 2)\n"
        "print(sum(part.stop - part.start for part in seen))\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "10\n"


def test_work_goes_on_while_python_ends() -> None:
    source = (
        "import threading\nfrom lookalike.native import in_parts\ndef work():\n    threading.main_thread().join()\n"
        "    in_parts(print, 2, 2)\nthreading.Thread(target=work).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("slice(0, 2, None)\n", "")


def test_small_batches_begin_no_threads_of_their_own() -> None:
    source = (
        "import threading\nfrom lookalike.native import in_parts\n"
        "for count in range(1, 30): in_parts(lambda part: None, count, 4)\nprint(threading.active_count() <= 4)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"


def _shared_out(parts: multiprocessing.Queue[int]) -> None:
    in_parts(lambda part: parts.put(part.stop - part.start), 4, 2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    in_parts(lambda part: None, 4, 2)
    context = multiprocessing.get_context("fork")
    parts = context.Queue()
    child = context.Process(target=_shared_out, args=(parts,))
    child.start()
    assert [parts.get(timeout=60), parts.get(timeout=60)] == [2, 2]
    child.join(60)
    assert child.exitcode == 0


def test_loops_are_compiled_where_nothing_can_be_kept() -> None:
    source = "from lookalike.native import native\n@native\ndef twice(x): return 2 * x\nprint(twice(21))\n"
    # Code that has no file has no folder beside it.
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


def test_what_was_kept_broken_or_cannot_be_kept_is_compiled_again(tmp_path: Path) -> None:
    source = "from lookalike.native import native\n@native\ndef twice(x): return 2 * x\n"
    (tmp_path / "loops.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}

    def run(most: int | None = None, told: str = "42") -> list[Path]:
        """What is kept; files are of so many bytes at most, as where the disk is full."""
        limit = "" if most is None else f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({most}, {most})); "
        done = subprocess.run(
            [sys.executable, "-c", f"import loops; {limit}print(loops.twice(21))"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, told), done.stderr
        return sorted(path for path in tmp_path.rglob("*.nb?") if path.stat().st_size)

    assert run(0) == []
    kept = run()
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(b"")
    assert run() == kept
    kept[0].write_bytes(kept[0].read_bytes()[:40])
    assert run() == kept
    (tmp_path / "loops.py").write_text(source.replace("2 *", "3 *"))
    run(2000, "63")  # the index can be kept, the code cannot
    run(None, "63")
