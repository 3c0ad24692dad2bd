"""The API and the page as two child processes that live and die together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from lookalike.errors import InputError, LookalikeError

READY_WITHIN = 60.0  # seconds
STOP_WITHIN = 10.0


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


def serve_both(index: Path, port: int, app_port: int) -> None:
    """Serve the API and the page until Ctrl-C or SIGTERM, then stop both; a process that ends early is an error."""
    from lookalike.webapp.run import app_command

    api = f"http://127.0.0.1:{port}"
    page = f"http://127.0.0.1:{app_port}"
    commands = {
        "API": [sys.executable, "-m", "lookalike", "serve", str(index), "--port", str(port)],
        "page": app_command(api, app_port),
    }
    with _signals_as_interrupt(), _children(commands) as children:
        _wait_until_ready(children, {"API": f"{api}/readyz", "page": f"{page}/_stcore/health"})
        print(f"\nPage  {page}\nAPI   {api}/docs\nCtrl-C stops both.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                _check_alive(children)
                time.sleep(0.5)
        print("stopping …", file=sys.stderr)


@contextlib.contextmanager
def _children(commands: dict[str, list[str]]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start each command in a session of its own and end them all on the way out, with what they started."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            children[name] = subprocess.Popen(
                command, start_new_session=True, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent
            )
        yield children
    finally:
        for child in children.values():
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN
        for child in children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(child, signal.SIGKILL)
            child.wait()


def _die_with_parent() -> None:
    """On Linux, ask the kernel to end this child should the parent be killed without a chance to do it."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that the children are stopped there too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(children: dict[str, subprocess.Popen[bytes]], addresses: dict[str, str]) -> None:
    import httpx

    deadline = time.monotonic() + READY_WITHIN
    for name, address in addresses.items():
        while True:
            _check_alive(children)
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(address, timeout=2).status_code == 200:
                    break
            if time.monotonic() > deadline:
                raise LookalikeError(f"The {name} did not answer at {address} within {READY_WITHIN:.0f} s.")
            time.sleep(0.1)


def _check_alive(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, child in children.items():
        if child.poll() is not None:
            raise LookalikeError(f"The {name} ended by itself with exit code {child.returncode}.")
