"""Run the service on this machine: `serve(folder)`, ended by Ctrl-C or SIGTERM after the requests in flight."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from lookalike.errors import InputError
from lookalike.indexer.search import Searcher
from lookalike.service.app import create_app
from lookalike.service.limits import Limits
from lookalike.service.middleware import is_loopback

GRACE = 10  # seconds given to requests in flight
OPENING = 2.0  # seconds that a stop waits for an index which is being opened


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    samples: Sequence[Path] | None = None,
    embeddings: Path | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve an index folder until interrupted; `samples` and `embeddings` say where they lie now, if they moved.

    InputError for an address other people can reach, or a taken port; whatever opening the index raises.
    """
    check_loopback(host)
    if not folder.is_dir():
        raise InputError(f"An index is a folder made by `lookalike index`, but {folder} is none.")
    with listen(host, port) as listening:
        _run(listening, folder, samples, embeddings, limits)


def check_loopback(host: str) -> None:
    """InputError unless only this machine can reach the address."""
    if not is_loopback(host):
        raise InputError(
            f"The service has no access keys yet, so it listens on this machine only (127.0.0.1, ::1 or localhost), "
            f"but the address {host!r} was given. To reach it from elsewhere, forward the port: "
            "ssh -L 8000:127.0.0.1:8000 HOST",
            code="not_loopback",
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address before anything is loaded; InputError naming a port that cannot be had."""
    if not 0 <= port <= 65535:
        raise InputError(f"A port is 0 (any free one) to 65535, but {port} was given.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's delay (40 ms an answer) only on sockets that say they are TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise InputError(
            f"Port {port} on {host} cannot be used ({error.strerror}). End what uses it, or choose another port.",
            code="port_taken",
        ) from None
    return listening


def _run(
    listening: socket.socket,
    folder: Path,
    samples: Sequence[Path] | None,
    embeddings: Path | None,
    limits: Limits | None,
) -> None:
    failures: list[Exception] = []

    def stop(*_: object) -> None:
        server.should_exit = True

    def fail(error: Exception) -> None:
        failures.append(error)
        stop()

    app = create_app(lambda: Searcher(folder, samples=samples, embeddings=embeddings), limits, on_failure=fail)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
            server_header=False,
            lifespan="on",
        )
    )
    logging.getLogger("lookalike").addHandler(logging.StreamHandler())
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"API at {url}, described at {url}/docs; Ctrl-C stops it.", file=sys.stderr, flush=True)
    # For a stop before uvicorn listens to signals itself, and since it repeats one once it has shut down: a stop that
    # was asked for is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.run(sockets=[listening])
    if not app.state.loading.ends(within=OPENING):
        # Python would wait forever for the lock of HDF5, which that thread holds and cannot give back any more.
        sys.stderr.flush()
        os._exit(0)
    if failures:
        raise failures[0]
