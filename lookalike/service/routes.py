"""The addresses of the API: what each takes, with its limits, and which answer it gives."""

# No `from __future__ import annotations` here: the parameters' limits are values of `limits`, known only inside.

from collections.abc import Callable
from math import ceil, sqrt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from lookalike.about import ID_PATTERN, check_id
from lookalike.errors import InputError, unknown
from lookalike.service.engine import Engine, Loading
from lookalike.service.limits import Limits
from lookalike.service.models import (
    Failure,
    Health,
    IndexAnswer,
    NeighborsAnswer,
    ObjectAnswer,
    RandomAnswer,
    Ready,
)

COLUMN_LENGTH = 200
FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"

Name = Annotated[
    str,
    Path(
        pattern=f"^{ID_PATTERN.pattern}$",
        description="1 to 64 characters of A-Z a-z 0-9 . _ : + -",
        examples=["xdf-00417"],
    ),
]


def engine(request: Request) -> Engine:
    """The open index of this app; NotReadyError (503) until it is open."""
    loading: Loading = request.app.state.loading
    return loading.engine


Opened = Annotated[Engine, Depends(engine)]


def known_parameters(request: Request) -> None:
    """Refuse a query parameter the route does not have, or one given twice: a misspelt one must not pass unseen."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise unknown("query parameter", name[:80], known)
    given = [name for name, _ in request.query_params.multi_items()]
    for name in known:
        if given.count(name) > 1:
            raise InputError(f"Query parameter {name!r} is given once, but it came {given.count(name)} times.")


def listed(text: str, what: str, most: int) -> list[str]:
    """The names in a comma-separated list of at most `most`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) > most:
        raise InputError(f"Up to {most} {what} are taken at once, but {len(names)} were given.")
    return names


def picture(request: Request, etag: str, unchanging: bool, draw: Callable[[], bytes]) -> Response:
    """The picture, or 304 where the caller already has it (RFC 9110, 13.1.2)."""
    headers = {"ETag": etag, "Cache-Control": FOREVER if unchanging else REVALIDATE}
    held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in held or held == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(draw(), headers=headers, media_type="image/jpeg")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {
        404: "No object has this id, or objects of this index have no pictures",
        422: "A parameter is wrong; the message names the rule and the value",
        429: "Too many live searches at once; try again after Retry-After",
        503: "The index is still being opened",
    }
    return {status: {"model": Failure, "description": words[status]} for status in statuses}


JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "JPEG"},
    304: {"description": "The caller's copy (If-None-Match) is still right"},
}


def build_routes(limits: Limits) -> APIRouter:
    """All addresses, with the limits given."""
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(known_parameters)])
    add_data(v1, limits)
    add_neighbors(v1, limits)
    add_pictures(v1, limits)
    router = APIRouter()
    router.include_router(v1)
    router.include_router(operation)
    return router


operation = APIRouter(tags=["operation"])


@operation.get("/healthz", summary="Whether the process is alive")
async def healthz() -> Health:
    return Health()


@operation.get("/readyz", summary="Whether the index is open", responses=errors(503))
async def readyz(opened: Opened) -> Ready:
    return Ready(index_version=opened.version)


def add_data(v1: APIRouter, limits: Limits) -> None:
    """The index itself and its objects."""
    Seed = Annotated[
        int | None, Query(ge=0, le=limits.max_seed, description="the same seed draws the same object", examples=[7])
    ]

    @v1.get("/index", tags=["search"], summary="What is searched, and the limits", responses=errors(503))
    async def index(opened: Opened) -> IndexAnswer:
        return opened.about()

    @v1.get("/random", tags=["search"], summary="An object at random", responses=errors(422, 503))
    def random(opened: Opened, response: Response, seed: Seed = None) -> RandomAnswer:
        response.headers["Cache-Control"] = "no-store"
        return RandomAnswer(**opened.random(seed), seed=seed)

    @v1.get("/objects/{id}", tags=["search"], summary="One object's catalog columns", responses=errors(404, 422, 503))
    def get_object(opened: Opened, id: Name) -> ObjectAnswer:
        return ObjectAnswer(**opened.object(id))


def add_neighbors(v1: APIRouter, limits: Limits) -> None:
    """The lists."""
    Count = Annotated[int, Query(ge=1, le=limits.max_k, description="how many", examples=[20])]
    Offset = Annotated[int, Query(ge=0, le=limits.max_offset, description="how many to skip", examples=[0])]
    Share = Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="leave out objects whose footprint covers more than this share of the query's",
            examples=[0.25],
        ),
    ]
    Columns = Annotated[
        str,
        Query(
            max_length=COLUMN_LENGTH * limits.max_columns,
            description="catalog columns to add, separated by commas",
            examples=["mag,size"],
        ),
    ]

    @v1.get(
        "/objects/{id}/neighbors",
        tags=["search"],
        summary="The objects most similar to one",
        response_model=NeighborsAnswer,
        responses=errors(404, 422, 429, 503),
    )
    async def neighbors(
        opened: Opened, id: Name, k: Count = 20, offset: Offset = 0, max_overlap: Share = None, columns: Columns = ""
    ) -> Response:
        names = listed(columns, "columns", limits.max_columns)
        found = await opened.neighbors(id, k, offset, max_overlap, names)
        # Validated when it was built; a second pass through FastAPI would take as long as the search.
        return Response(found.model_dump_json(), media_type="application/json")


def add_pictures(v1: APIRouter, limits: Limits) -> None:
    """What objects look like."""
    Side = Annotated[
        int, Query(ge=limits.min_picture, le=limits.max_picture, description="side of one picture, px", examples=[256])
    ]
    Stretch = Annotated[
        str | None, Query(max_length=40, description="one of `stretches` of /v1/index; default: the first")
    ]
    Held = Annotated[
        str | None,
        Query(max_length=64, description="a `revision`; where it is the current one, the picture never changes"),
    ]
    Names = Annotated[
        str,
        Query(
            max_length=65 * limits.max_sheet_objects,
            description="ids separated by commas, in reading order",
            examples=["xdf-00417,xdf-00093"],
        ),
    ]
    Across = Annotated[
        int | None, Query(ge=1, le=limits.max_sheet_columns, description="pictures side by side; default: a square")
    ]

    @v1.get(
        "/objects/{id}/thumbnail.jpg",
        tags=["pictures"],
        summary="One object's picture",
        response_class=Response,
        responses=JPEG | errors(404, 422, 503),
    )
    def thumbnail(
        request: Request, opened: Opened, id: Name, size: Side = 256, stretch: Stretch = None, v: Held = None
    ) -> Response:
        chosen = opened.pictures.stretch(stretch)
        opened.samples.row(id)
        etag = opened.pictures.etag(id, size, chosen)
        return picture(request, etag, v == opened.revision, lambda: opened.pictures.thumbnail(id, size, chosen))

    @v1.get(
        "/contact-sheet.jpg",
        tags=["pictures"],
        summary="Many objects on one picture",
        response_class=Response,
        responses=JPEG | errors(404, 422, 503),
    )
    def contact_sheet(
        request: Request,
        opened: Opened,
        ids: Names,
        size: Side = 96,
        columns: Across = None,
        stretch: Stretch = None,
        v: Held = None,
    ) -> Response:
        names = [check_id(name) for name in listed(ids, "ids", limits.max_sheet_objects)]
        if not names:
            raise InputError("ids: at least one id is needed, none was given.")
        rows = [opened.samples.row(name) for name in names]
        wide = columns or ceil(sqrt(len(rows)))
        chosen = opened.pictures.stretch(stretch)
        etag = opened.pictures.etag(rows, size, wide, chosen)
        return picture(request, etag, v == opened.revision, lambda: opened.pictures.sheet(rows, size, wide, chosen))
