"""The service as an ASGI application, built from what it needs: `create_app(searcher)`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, lru_cache

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

import lookalike
from lookalike.indexer.search import Searcher
from lookalike.service.docs import NOT_OPEN, POLICY, render
from lookalike.service.engine import Engine, Loading, log_failure
from lookalike.service.failures import add_failures
from lookalike.service.limits import Limits
from lookalike.service.middleware import Heads, OwnHosts, RequestIds
from lookalike.service.routes import build_routes

ABOUT = (
    "Finds the objects that look like one: similarity search by example over one index. Ids are strings; an "
    "undefined value is null; similarities are shortest float32 decimals; units are in the schema and beside the "
    'values. Every error is {"error": {"code", "message", "detail", "request_id"}}.'
)


def create_app(
    searcher: Searcher | Callable[[], Searcher],
    limits: Limits | None = None,
    *,
    on_failure: Callable[[Exception], None] = log_failure,
) -> FastAPI:
    """Build the application on an open Searcher, or on a function that opens one.

    A function is called in a thread when the application starts: /healthz answers meanwhile, /readyz and the
    rest say 503. If it raises, `on_failure` is given the reason, which by default it logs.
    """
    limits = limits or Limits()
    loading = Loading(searcher if callable(searcher) else lambda: searcher, limits, on_failure)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading.start()
        yield

    app = FastAPI(
        title="lookalike",
        version=lookalike.__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its script from another host
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect repeats the host the request named
    )
    app.state.loading = loading
    app.add_middleware(Heads)
    app.add_middleware(OwnHosts)
    app.add_middleware(RequestIds)  # the outermost, so that every response has one
    add_failures(app)
    app.include_router(build_routes(limits))
    _add_docs(app)
    return app


def _add_docs(app: FastAPI) -> None:
    """/openapi.json and /docs, made when first asked for, and / to the latter.

    The page's examples name the address it was asked at and objects of the index; the document is the same for all.
    """

    @cache
    def document() -> str:
        return json.dumps(app.openapi(), ensure_ascii=False)

    @lru_cache(maxsize=8)
    def page(address: str, engine: Engine | None) -> str:
        return render(app.openapi(), address, NOT_OPEN if engine is None else engine.examples())

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")  # without a host, so that the one that was asked stays

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(document(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        address = str(request.base_url).rstrip("/")  # of this machine: OwnHosts lets no other name through
        return HTMLResponse(
            page(address, request.app.state.loading.opened), headers={"Content-Security-Policy": POLICY}
        )
