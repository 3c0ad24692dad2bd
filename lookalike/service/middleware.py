"""What every response carries: the id of its request, and the headers that keep browsers from guessing."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.service.failures import safe_headers

GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


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
                for name, value in safe_headers(request_id).items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)
