"""What every request passes: an id, a check of the host it names, HEAD as GET, headers that keep browsers in line."""

from __future__ import annotations

import ipaddress
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.service.failures import failure, safe_headers

GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:]+)(:[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine, and can mean no other."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RequestIds:
    """Give each request an id (the caller's own X-Request-ID where it is harmless) and repeat it in the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-cache")  # else a cache may guess how long an answer holds
                for name, value in safe_headers(request_id).items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)


class OwnHosts:
    """Refuse a request made under another name than this machine's own.

    A page from elsewhere can let its name point here once it is loaded (DNS rebinding), and would then read every
    answer as its own; the name it used is in the Host header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("host", "")
        named = HOST.fullmatch(given)
        if named and is_loopback(named[1].strip("[]")):
            await self.app(scope, receive, send)
            return
        message = f"This service answers as 127.0.0.1, localhost or [::1], but the host {given[:80]!r} was asked for."
        await failure(Request(scope), 421, "unknown_host", message)(scope, receive, send)


class Heads:
    """Answer HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app({**scope, "method": "GET"}, receive, send_without_body)
