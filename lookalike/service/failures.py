"""Every error as one shape, {"error": {"code", "message", "detail", "request_id"}}, whatever raised it."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lookalike.errors import InputError, LockedError, LookalikeError, NotFoundError
from lookalike.service.models import Failure, Problem

log = logging.getLogger("lookalike.service")


class NotReadyError(LookalikeError):
    """The index is still being opened; the same request succeeds a little later."""

    code = "not_ready"


STATUS: dict[type[LookalikeError], int] = {
    NotFoundError: 404,
    InputError: 422,
    NotReadyError: 503,
    LockedError: 503,
}


def add_failures(app: FastAPI) -> None:
    """Register the handlers that turn each kind of exception into the one shape."""
    app.add_exception_handler(LookalikeError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def failure(
    request: Request, status: int, code: str, message: str, detail: Any = None, headers: dict[str, str] | None = None
) -> Response:
    """An error response; the body follows `Failure`, the request id is repeated in a header."""
    request_id = str(request.scope.get("request_id", ""))
    body = Failure(error=Problem(code=code, message=message, detail=detail, request_id=request_id))
    # A value that was sent may hold anything, a lone surrogate too, so the body is pure ASCII.
    content = json.dumps(body.model_dump(mode="python"), ensure_ascii=True, allow_nan=False)
    extra = {"Cache-Control": "no-store", **(headers or {})}
    return Response(content, status, extra, media_type="application/json")


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LookalikeError)
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if status == 500:
        # A damaged file of ours: its path is for the operator's log, not for the caller.
        log.error("request %s: %s", request.scope.get("request_id"), error.message)
        return failure(request, 500, error.code, "The service cannot read its own data; its log says which file.")
    headers = {"Retry-After": "1"} if status == 503 else None
    return failure(request, status, error.code, error.message, headers=headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(fault) for fault in error.errors()]
    return failure(request, 422, "invalid_request", " ".join(text for _, text in faults), [part for part, _ in faults])


def _fault(fault: dict[str, Any]) -> tuple[dict[str, str], str]:
    """One validation fault: as data, and as a sentence with the rule and the value given."""
    where = ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0])
    rule = str(fault["msg"])
    given = "" if fault["type"] == "missing" else _shown(fault["input"])
    sentence = f"{where}: {rule}, but {given} was given." if given else f"{where}: {rule}."
    return {"parameter": where, "rule": rule, "given": given}, sentence


def _shown(value: object) -> str:
    """A value as people read it, cut short where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = _shown(request.url.path)
    if error.status_code == 404:
        message = f"No such address: {path}. The addresses are listed at /docs."
        return failure(request, 404, "unknown_address", message)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        message = f"{path} answers {allowed}, but {request.method} was used."
        return failure(request, 405, "method_not_allowed", message, headers=dict(error.headers or {}))
    return failure(request, error.status_code, "http_error", str(error.detail), headers=dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    request_id = str(request.scope.get("request_id", ""))
    log.error("request %s failed", request_id, exc_info=error)
    message = f"The service failed on this request; its log says why under {request_id}."
    # This handler runs outside the middleware that adds headers.
    return failure(request, 500, "internal_error", message, headers=safe_headers(request_id))


def safe_headers(request_id: str) -> dict[str, str]:
    """Headers every response carries."""
    return {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff"}
