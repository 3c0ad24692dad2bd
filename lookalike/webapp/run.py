"""Start the page: `run_app(api, port)` or its command line for a supervisor."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from lookalike.client import Client
from lookalike.errors import InputError, LookalikeError

PAGE = Path(__file__).parent / "page.py"
HOST = "127.0.0.1"
ASKED_FOR = 3.0  # seconds within which a service answers, should it run
HOSTS = (HOST, "localhost", "::1")  # any other name may be a foreign page's that points here (DNS rebinding)

OPTIONS = {
    "server.address": HOST,
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "10",  # MB
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "theme.baseRadius": "8px",
    "theme.light.primaryColor": "#24705f",
    "theme.light.backgroundColor": "#fbfaf8",
    "theme.light.secondaryBackgroundColor": "#f1efeb",
    "theme.light.textColor": "#1b2027",
    "theme.dark.primaryColor": "#5cc2a8",
    "theme.dark.backgroundColor": "#12151a",
    "theme.dark.secondaryBackgroundColor": "#1c2027",
    "theme.dark.textColor": "#e7e9ec",
}


def app_command(api: str, port: int, max_overlap: float = 0.25) -> list[str]:
    """The command that serves the page on 127.0.0.1:`port`, asking the API at `api`.

    max_overlap : results that share more of the query's footprint (0 to 1) are left out unless the visitor asks.
    """
    Client(api).close()  # an address that is none is refused here
    if not 0 <= max_overlap <= 1:
        raise InputError(f"max_overlap is a share from 0 to 1, but {max_overlap} was given.")
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    options += [f"--server.allowedHosts={host}" for host in HOSTS]
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE), f"--server.port={port}", *options]
    return [*command, "--", "--api", api.rstrip("/"), "--max-overlap", str(max_overlap)]


def check_port(port: int) -> None:
    """InputError naming the port if it cannot be listened on."""
    if not 1 <= port <= 65535:
        raise InputError(f"A port is 1 to 65535, but {port} was given.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"Port {port} on {HOST} cannot be used ({error.strerror}). End what uses it, or choose another port.",
                code="port_taken",
            ) from None


def unanswered(api: str) -> str | None:
    """Why the page would have nothing to show from this address now; None where a service answers there."""
    with Client(api, timeout=ASKED_FOR, attempts=1) as client:
        try:
            client.index()
        except LookalikeError as error:
            return error.message
    return None


def run_app(api: str, port: int = 8501, max_overlap: float = 0.25) -> None:
    """Serve the page until interrupted; InputError for a taken port or an address that is none.

    This process becomes the page's, so that signals reach it and nothing is left behind.
    """
    command = app_command(api, port, max_overlap)
    check_port(port)
    if why := unanswered(api):
        print(f"Warning: {why} The page says so until one answers, and then goes on by itself.", file=sys.stderr)
    print(f"Page at http://{HOST}:{port}, asking {api}; Ctrl-C stops it.", file=sys.stderr, flush=True)
    os.execv(command[0], command)
