"""Work shared by threads: every part once, errors passed on, forked processes."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.parallel import in_parts


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
        "from lookalike.parallel import in_parts\nseen = []\nin_parts(lambda part: in_parts(seen.append, 5, 2), 2, 2)\n"
        "print(sum(part.stop - part.start for part in seen))\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "10\n"


def test_work_goes_on_while_python_ends() -> None:
    source = (
        "import threading\nfrom lookalike.parallel import in_parts\ndef work():\n    threading.main_thread().join()\n"
        "    in_parts(print, 2, 2)\nthreading.Thread(target=work).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("slice(0, 2, None)\n", "")


def test_small_batches_begin_no_threads_of_their_own() -> None:
    source = (
        "import threading\nfrom lookalike.parallel import in_parts\n"
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
