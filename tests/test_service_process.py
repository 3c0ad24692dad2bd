"""The service as its own process: what it imports, how it starts, what it refuses, how it stops."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from lookalike.errors import InputError
from lookalike.service.server import check_loopback, listen

Run = Callable[..., subprocess.CompletedProcess[str]]
Port = Callable[[], int]


@contextlib.contextmanager
def served(index: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """`lookalike serve` in a process group of its own, ended with everything it started."""
    command = [sys.executable, "-m", "lookalike", "serve", str(index), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def answered(url: str, process: subprocess.Popen[str], within: float = 30) -> httpx.Response:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            response = httpx.get(url, trust_env=False)
            if response.status_code == 200:
                return response
        time.sleep(0.01)
    pytest.fail(f"no answer from {url}; exit code {process.poll()}")


def test_it_starts_without_torch_or_faiss_and_prints_how_fast(toy_index: Path) -> None:
    code = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from lookalike.service import create_app
from lookalike.indexer.search import Searcher
from lookalike.service.engine import Engine
from lookalike.service.limits import Limits
engine = Engine(Searcher(Path(sys.argv[1])), Limits())
app = create_app(engine.searcher)
engine.pictures.thumbnail("blob-000", 64, "native")
engine.searcher.neighbors("blob-000", 10)
print(f"imports to first answer: {time.perf_counter() - start:.2f} s")
heavy = {"torch", "torchvision", "faiss", "streamlit", "pandas", "matplotlib", "astropy", "numba", "scipy"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(toy_index)], capture_output=True, text=True, check=True)
    print(done.stdout)
    assert "heavy: []" in done.stdout


def test_it_serves_and_stops_cleanly(toy_index: Path, free_port: Port) -> None:
    port = free_port()
    start = time.perf_counter()
    with served(toy_index, port) as process:
        answered(f"http://127.0.0.1:{port}/readyz", process)
        print(f"process start to ready: {time.perf_counter() - start:.2f} s")
        body = answered(f"http://127.0.0.1:{port}/v1/objects/blob-001/neighbors?k=5&max_overlap=0.25", process).json()
        assert len(body["results"]) == 5
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors
        assert f"http://127.0.0.1:{port}/docs" in errors
        assert "Traceback" not in errors


def test_control_c_is_no_failure(toy_index: Path, free_port: Port) -> None:
    port = free_port()
    with served(toy_index, port) as process:
        answered(f"http://127.0.0.1:{port}/readyz", process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors


def test_a_taken_port_is_named(toy_index: Path, lookalike: Run) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = lookalike("serve", toy_index, "--port", port)
        assert done.returncode == 2
        assert str(port) in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "example.org", "", "127.0.0.1.example.org"]
)
def test_an_address_others_can_reach_refuses_to_start(host: str, toy_index: Path, lookalike: Run) -> None:
    with pytest.raises(InputError, match="no access keys yet"):
        check_loopback(host)
    if host == "0.0.0.0":
        done = lookalike("serve", toy_index, "--host", host)
        assert done.returncode == 2
        assert "no access keys yet" in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_addresses_of_this_machine_are_served(host: str) -> None:
    check_loopback(host)


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="70000"):
        listen("127.0.0.1", 70000)


def test_a_folder_that_is_no_index_is_one_line(tmp_path: Path, lookalike: Run, free_port: Port) -> None:
    for folder, words in ((tmp_path / "missing", "missing"), (tmp_path, "lookalike index")):
        done = lookalike("serve", folder, "--port", free_port())
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_damaged_index_ends_the_process_with_its_reason(
    toy_index: Path, tmp_path: Path, lookalike: Run, free_port: Port
) -> None:
    shutil.copytree(toy_index.parent, tmp_path / "copy")
    lists = tmp_path / "copy" / "index" / "versions" / "v000001" / "neighbors.h5"
    lists.write_bytes(lists.read_bytes()[:-100])
    done = lookalike("serve", tmp_path / "copy" / "index", "--port", free_port(), timeout=60)
    assert done.returncode != 0
    assert done.stderr.count("neighbors.h5") == 1, "the reason is said once"
    assert "Traceback" not in done.stderr


def started(code: str, index: Path) -> subprocess.CompletedProcess[str]:
    """`lookalike serve` in a process that first runs some code."""
    full = f"import sys\n{code}\nfrom lookalike.cli import main\nsys.argv[0] = 'lookalike'\nmain()"
    command = [sys.executable, "-c", full, "serve", str(index), "--port", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_stop_that_comes_before_it_serves_is_heeded(number: str, toy_index: Path) -> None:
    code = f"""
import signal, uvicorn
run = uvicorn.Server.run
def late(server, sockets=None):
    signal.raise_signal(signal.{number})
    run(server, sockets)
uvicorn.Server.run = late
"""
    done = started(code, toy_index)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_stop_does_not_wait_for_an_index_that_never_opens(toy_index: Path) -> None:
    """Though the thread that opens it holds the lock of HDF5, for which the end of a process waits otherwise."""
    code = """
import os, signal, time, h5py
import lookalike.service.server as server
def never(*_, **__):
    with h5py._objects.phil:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3600)
server.Searcher = never
"""
    done = started(code, toy_index)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_fails_while_it_opens_is_one_line(toy_index: Path) -> None:
    code = """
import lookalike.service.server as server
def broken(*_, **__):
    raise OSError(5, "Input/output error", "samples.h5")
server.Searcher = broken
"""
    done = started(code, toy_index)
    assert done.returncode == 1
    assert done.stderr.count("Input/output error") == 1
    assert "Traceback" not in done.stderr
