"""The byte budget of an index build: parsed, refused where it is too small, and kept with data of three times as much.

pytest tests/test_indexer_memory.py          (-m long for a build beyond its memory)
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.embeddings_folder import Joined
from lookalike.errors import CorruptError, InputError
from lookalike.indexer.memory import working_bytes
from lookalike.indexer.ordered import FileRows, Sorted
from lookalike.sizes import UNITS, parse_size, size_text

Write = Callable[..., tuple[Path, list[Path]]]
ROOT = Path(__file__).resolve().parent.parent

# Prints by how much each kind of memory rose above that with all modules imported, in bytes.
MEASURED = """
import json, resource, sys, threading, time
from pathlib import Path
import faiss, h5py, numba, numpy, torch
import lookalike.indexer.again, lookalike.indexer.index, lookalike.indexer.neighbors, lookalike.indexer.resume

def held():
    lines = (line.split(":") for line in open("/proc/self/status"))
    return {name: int(text.split()[0]) * 1024 for name, text in lines if name in ("VmRSS", "VmData")}

embeddings, samples, out, k, window, budget, limited = sys.argv[1:]
before, peak, done = held(), {}, threading.Event()
if limited == "limited":
    resource.setrlimit(resource.RLIMIT_DATA, (before["VmData"] + int(budget),) * 2)

def watch():
    while not done.wait(0.005):
        for name, value in held().items():
            peak[name] = max(peak.get(name, 0), value - before[name])

watcher = threading.Thread(target=watch)
watcher.start()
try:
    report = lookalike.indexer.index.build_index(
        Path(embeddings), [Path(samples)], Path(out), k=int(k), window=window, budget=int(budget), quiet=True,
        save_seconds=2,
    )
finally:
    done.set()
    watcher.join()
print(json.dumps(peak | {"content_hash": report.content_hash}))
"""


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 2**32), ("500MB", 500_000_000), ("1.5 GB", 1_500_000_000), ("64MiB", 2**26), (" 2GiB ", 2**31)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "4", "4gb", "GiB", "-1GiB", "4GiBs", "1e3MB", "4TB", "٤GiB", "nanGB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="A size is a number with GiB, MiB, GB, MB, such as 4GiB, but"):
        parse_size(text)


@given(st.integers(1, 2**50))
def test_a_size_as_told_is_enough_and_little_more(count: int) -> None:
    told = parse_size(size_text(count).replace(",", ""))
    assert told >= count - 1
    assert told - count <= (UNITS["GiB"] if count >= 2**30 else UNITS["MiB"]) / 10 + 1


@pytest.mark.parametrize(("n", "d", "k"), [(1000, 64, 10), (50_000, 2048, 4096), (42_272_646, 2048, 999)])
def test_a_budget_too_small_is_refused_with_the_least_that_is_enough(n: int, d: int, k: int) -> None:
    with pytest.raises(InputError, match=r"need at least [0-9.,]+ [GM]iB of memory, but --memory 1.0 MiB") as caught:
        working_bytes(2**20, n, d, k)
    least = parse_size(caught.value.message.split("at least ")[1].split(" of")[0].replace(",", ""))
    assert working_bytes(least, n, d, k) > 0
    with pytest.raises(InputError):
        working_bytes(int(least * 0.9), n, d, k)


def test_the_command_refuses_before_anything_is_written(
    vector_set: Write, tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    embeddings, (samples,) = vector_set(np.random.default_rng(0).normal(size=(40, 4)), {})
    arguments = ("index", embeddings, "--samples", samples, "--out", tmp_path / "index", "--window", "none")
    for memory, said in (("12MB", "need at least"), ("much", "A size is a number")):
        refused = command(*arguments, "--memory", memory)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert not (tmp_path / "index").exists()
    assert command(*arguments, "--memory", "2GiB").returncode == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_read_from_the_file_are_those_that_are_mapped(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(300, 7)).astype(dtype)
    values.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", dtype, "r", 0, (300, 7))
    rows = FileRows(mapped)
    for chosen in (np.arange(300), np.array([5]), np.array([], np.int64), np.array([3, 4, 5, 1, 2, 299, 0, 0])):
        assert (rows[chosen] == values[chosen]).all()
    order = rng.permutation(300)[:200]
    read, held = Sorted(mapped, order, 0), Sorted(values, order, 2**20)
    some = np.array([0, 7, 8, 199])
    assert read.run(10, 50).tobytes() == held.run(10, 50).tobytes()
    assert read.at(some).tobytes() == held.at(some).tobytes()
    assert read.canonical(some, 3).tobytes() == held.canonical(some, 3).tobytes()


def test_files_that_make_one_array_are_neither_mapped_nor_held(tmp_path: Path) -> None:
    """As the shards of an embeddings folder, whose maps would count as memory."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(90, 7)).astype("f4")
    bounds = [0, 40, 40, 41, 90]
    parts = list(itertools.pairwise(bounds))
    for number, (start, stop) in enumerate(parts):
        values[start:stop].tofile(tmp_path / str(number))
    joined: Any = Joined(
        [stop - start for start, stop in parts],
        lambda part: (
            np.memmap(tmp_path / str(part), "f4", "r", 0, (parts[part][1] - parts[part][0], 7))
            if parts[part][1] > parts[part][0]
            else values[:0]
        ),
    )
    order = rng.permutation(90)
    read, held = Sorted(joined, order, 0), Sorted(values, order, 2**20)
    assert read.run(0, 90).tobytes() == held.run(0, 90).tobytes()
    assert read.at(np.array([3, 80])).tobytes() == held.at(np.array([3, 80])).tobytes()
    assert read.canonical(np.arange(90), 3).tobytes() == held.canonical(np.arange(90), 3).tobytes()
    in_order = Sorted(joined, np.arange(90), 0)
    assert in_order.run(35, 60).tobytes() == values[35:60].tobytes()
    maps = Path("/proc/self/smaps").read_text().split(str(tmp_path))[1:]
    assert sum(int(one.split("Rss:")[1].split()[0]) for one in maps) <= 4 * len(maps)  # KiB: the page that was compared


def test_a_file_that_was_replaced_is_not_read(tmp_path: Path) -> None:
    np.ones((9, 2), "f4").tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", "f4", "r", 0, (9, 2))
    (tmp_path / "vectors").unlink()
    np.zeros((9, 2), "f4").tofile(tmp_path / "vectors")
    with pytest.raises(CorruptError, match="was replaced"):
        FileRows(mapped)


@pytest.mark.long
@pytest.mark.parametrize(
    ("dtype", "n", "k", "window"),
    [("float32", 200_000, 20, "mag:0.02"), ("float32", 200_000, 999, "mag:2.5"), ("float16", 400_000, 100, "mag:0.2")],
    ids=["narrow", "wide", "float16"],
)
def test_a_build_keeps_to_its_memory_with_data_of_three_times_as_much(
    vector_set: Write, tmp_path: Path, dtype: str, n: int, k: int, window: str
) -> None:
    """Private and shared memory above the import baseline; once more with no more than that to be had."""
    budget, d = (480 if k == 20 else 500) * 2**20, 2048
    rng = np.random.default_rng(0)
    vectors, mag = rng.random((n, d), np.float32), rng.uniform(0, 100, n)
    vectors -= 0.5
    embeddings, (samples,) = vector_set(vectors, {"mag": mag}, dtype=dtype)
    del vectors
    assert embeddings.stat().st_size > 3 * budget
    told = []
    for limited in ("free", "limited"):
        arguments = [embeddings, samples, tmp_path / limited, k, window, budget, limited]
        began = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert run.returncode == 0, run.stderr
        told.append(json.loads(run.stdout.splitlines()[-1]))
        resident, data = (told[-1][name] / 2**20 for name in ("VmRSS", "VmData"))
        how = f"{limited}, {dtype}, k = {k}, {window}, {time.monotonic() - began:.0f} s"
        print(f"\n{how}: {resident:.0f} MiB resident, {data:.0f} MiB of data, budget {budget / 2**20:.0f} MiB")
        assert told[-1]["VmRSS"] < budget
        assert told[-1]["VmData"] < budget
    assert told[0]["content_hash"] == told[1]["content_hash"]
