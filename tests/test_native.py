"""Work shared by threads: every part once, errors passed on, forked processes and folders nothing can be kept in."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading

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
        ended.append(part.start)
        if part.start == 2:
            raise ValueError("part 2")

    with pytest.raises(ValueError, match="part 2"):
        in_parts(work, 4, 4)
    assert sorted(ended) == [0, 1, 2, 3]


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
