"""The API and the page as two child processes that live and die together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import httpx

from lookalike.errors import InputError, LookalikeError

READY_WITHIN = 60.0  # seconds
STOP_WITHIN = 10.0
STANDARD_ERROR = 2
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_ports(port: int, app_port: int) -> None:
    """InputError naming the option and the port that cannot be listened on, before any work is done."""
    from lookalike.webapp.run import check_port

    if port == app_port:
        raise InputError(f"The API and the page need a port each, but --port and --app-port are both {port}.")
    for option, number in (("--port", port), ("--app-port", app_port)):
        try:
            check_port(number)
        except InputError as error:
            raise InputError(f"{option}: {error.message}", code=error.code) from None


def serve_both(index: Path, port: int, app_port: int, max_overlap: float) -> None:
    """Serve the API and the page until Ctrl-C or SIGTERM, then stop both; a process that ends early is an error."""
    with served(index, port, app_port, max_overlap) as children:
        print(
            f"\nPage  http://127.0.0.1:{app_port}\nAPI   http://127.0.0.1:{port}/docs\nCtrl-C stops both.", flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                _check_alive(children)
                time.sleep(0.5)
        print("stopping …", file=sys.stderr)


@contextlib.contextmanager
def served(index: Path, port: int, app_port: int, max_overlap: float) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The API and the page of an index folder, both answering, stopped on the way out."""
    from lookalike.webapp.run import app_command

    api = f"http://127.0.0.1:{port}"
    page = f"http://127.0.0.1:{app_port}"
    commands = {
        "API": [sys.executable, "-m", "lookalike", "serve", str(index), "--port", str(port)],
        "page": app_command(api, app_port, max_overlap),
    }
    with _stopped_by_signals(), _children(commands) as children:
        _wait_until_ready(children, {"API": f"{api}/readyz", "page": f"{page}/_stcore/health"})
        yield children


def page_of(api: str, name: str) -> str:
    """What is wrong with an object's page on this service, run without a browser; "" where it is drawn."""
    from streamlit.testing.v1 import AppTest

    from lookalike.webapp.run import PAGE

    # Streamlit warns of running without a server, which is meant here.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)
    before = os.environ.get("LOOKALIKE_API")
    os.environ["LOOKALIKE_API"] = api
    try:
        page = AppTest.from_file(str(PAGE), default_timeout=60)
        page.query_params["id"] = name
        page.run()
    finally:
        if before is None:
            del os.environ["LOOKALIKE_API"]
        else:
            os.environ["LOOKALIKE_API"] = before
    said = [str(getattr(each, "value", each)) for each in page.get("text")]
    return " ".join([*(each.message for each in page.exception), *said])


@contextlib.contextmanager
def _children(commands: dict[str, list[str]]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start each command in a session of its own and end them all on the way out, with what they started."""
    die_with_parent = _die_with_parent()
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            children[name] = subprocess.Popen(
                command,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=STANDARD_ERROR,  # what they say is no result of the command that started them
                preexec_fn=die_with_parent,
            )
        yield children
    finally:
        for number in STOPPING:  # a second Ctrl-C must not cut the stopping short
            signal.signal(number, signal.SIG_IGN)
        for child in children.values():
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN
        for child in children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(child, signal.SIGKILL)
            child.wait()


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does first: on Linux, ask the kernel to end it should the parent be killed outright."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec as little as possible may happen
    set_parent_death_signal, parent = 1, os.getpid()

    def run() -> None:
        prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return run


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that the children are stopped there too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup asked to live on after the terminal
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(children: dict[str, subprocess.Popen[bytes]], addresses: dict[str, str]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    with httpx.Client(timeout=2, trust_env=False) as ask:  # no proxy knows this machine's own ports
        for name, address in addresses.items():
            while not _answers(ask, address):
                _check_alive(children)
                if time.monotonic() > deadline:
                    raise LookalikeError(f"The {name} did not answer at {address} within {READY_WITHIN:.0f} s.")
                time.sleep(0.1)


def _answers(ask: httpx.Client, address: str) -> bool:
    try:
        return ask.get(address).status_code == 200
    except httpx.HTTPError:
        return False


def _check_alive(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, child in children.items():
        if child.poll() is not None:
            raise LookalikeError(f"The {name} ended by itself with exit code {child.returncode}.")
