"""Every error as one shape, {"error": {"code", "message", "detail", "request_id"}}, whatever raised it."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lookalike.errors import InputError, LookalikeError, NotFoundError
from lookalike.service.models import Failure, Problem
from lookalike.service.pictures import NO_PICTURES
from lookalike.wording import rule

log = logging.getLogger("lookalike.service")


class NotReadyError(LookalikeError):
    """The index is still being opened; the same request succeeds a little later."""

    code = "not_ready"


class BusyError(LookalikeError):
    """Too many searches at once; the same request succeeds a little later."""

    code = "busy"


RETRY_AFTER = {429: "2", 503: "1"}  # seconds
NOT_OURS = (
    "other_samples",
    "other_embeddings",
    "other_checkpoint",
    "duplicate_id",
)  # said of files, never of a request


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


def status_of(error: LookalikeError) -> int:
    """The HTTP status of an error of ours: 4xx only for what the request itself gave."""
    match error:
        case NotReadyError():
            return 503
        case BusyError():
            return 429
        case NotFoundError():
            return 404 if error.code in ("unknown_id", NO_PICTURES) else 500
        case InputError():
            return 500 if error.code in NOT_OURS else 422
    return 500


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LookalikeError)
    status = status_of(error)
    if status == 500:
        # A missing or damaged file of ours: its path is for the operator's log, not for the caller.
        log.error("request %s: %s", request.scope.get("request_id"), error.message)
        return failure(request, 500, error.code, "The service cannot read its own data; its log says which file.")
    headers = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else None
    return failure(request, status, error.code, error.message, headers=headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(fault) for fault in error.errors()]
    return failure(request, 422, "invalid_request", " ".join(text for _, text in faults), [part for part, _ in faults])


def _fault(fault: dict[str, Any]) -> tuple[dict[str, str], str]:
    """One validation fault: as data, and as a sentence with the rule and the value given."""
    where = ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0])
    told = rule(fault)
    given = "" if fault["type"] == "missing" else _shown(fault["input"])
    said = f"{where}: {fault['msg']}" if told is None else f"{where} {told}"
    sentence = f"{said}, but {given} was given." if given else f"{said}."
    return {"parameter": where, "rule": told or str(fault["msg"]), "given": given}, sentence


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
        message = f"{path} answers GET and HEAD, but {request.method} was used."
        return failure(request, 405, "method_not_allowed", message, headers={"Allow": "GET, HEAD"})
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
