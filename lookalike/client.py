"""The API from Python: `Client("http://127.0.0.1:8000").neighbors("some-id")`, typed results, typed errors."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from lookalike.errors import InputError, LookalikeError

__all__ = [
    "ApiError",
    "Client",
    "ColumnInfo",
    "Index",
    "LeftOut",
    "NeighborRow",
    "Neighbors",
    "Object",
    "Query",
    "UnreachableError",
    "Window",
    "check_id",
]

Value = float | int | str | None
ID_RULE = re.compile(r"[A-Za-z0-9._:+-]{1,64}")
RETRIED = (429, 503)
LONGEST_WAIT = 10.0  # seconds, whatever Retry-After says


def check_id(name: str) -> str:
    """The id itself if it can be one, else an InputError; dots alone are none, since an address would swallow them."""
    if not ID_RULE.fullmatch(name) or set(name) == {"."}:
        raise InputError(f"An id is 1 to 64 characters of A-Z a-z 0-9 . _ : + -, but {_short(name)!r} was given.")
    return name


class UnreachableError(LookalikeError):
    """No service answers at the address."""

    code = "unreachable"


class ApiError(LookalikeError):
    """The service answered with an error: its code and message, the HTTP status and the request's id."""

    code = "api_error"

    def __init__(self, message: str, *, code: str, status: int, detail: Any = None, request_id: str = "") -> None:
        super().__init__(message, code=code)
        self.status, self.detail, self.request_id = status, detail, request_id


class _Result(BaseModel):
    # A newer service may say more than this client knows of.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Window(_Result):
    """Neighbors differ by at most half_width in the column, or in its natural logarithm; `center` is the query's."""

    column: str
    log: bool
    half_width: float
    unit: str
    center: float | None = None


class ColumnInfo(_Result):
    unit: str
    description: str


class Object(_Result):
    """One object; `catalog` holds value by column, None where undefined, and `units` their units."""

    id: str
    row: int
    catalog: dict[str, Value]
    units: dict[str, str]
    index_version: str
    revision: str


class NeighborRow(_Result):
    """One neighbor. random_share : share of random pairs within such a window that are at least as similar, None where
    unknown; with random_share_below it is less than that, the least that can be told.
    """

    rank: int
    id: str
    row: int
    similarity: float
    catalog: dict[str, Value]
    random_share: float | None = None
    random_share_below: bool = False


class Query(_Result):
    id: str


class LeftOut(_Result):
    """How many objects are not shown, for sharing more than max_overlap of the query's footprint."""

    overlapping: int
    max_overlap: float | None


class Neighbors(_Result):
    """A list of neighbors, most similar first."""

    query: Query
    results: tuple[NeighborRow, ...]
    k: int
    offset: int
    source: str
    window: Window | None
    left_out: LeftOut
    units: dict[str, str]
    notes: tuple[str, ...]
    index_version: str
    revision: str


class Index(_Result):
    """What the service searches, and what one request may ask for (`limits`)."""

    index_version: str
    revision: str
    objects: int
    k: int
    window: Window | None
    counts: dict[str, int]
    domain: str
    bands: tuple[str, ...]
    layout: str = "images"
    shape: tuple[int, ...]
    pixel_scale: float | None
    source: str
    license: str
    stretches: tuple[str, ...]
    has_footprints: bool
    columns: dict[str, ColumnInfo]
    hashes: dict[str, str]
    audit: dict[str, Any] | None
    approximate: dict[str, Any] | None = None  # an older service tells none
    limits: dict[str, int]
    software: str


_T = TypeVar("_T", bound=_Result)


def check_address(url: str) -> None:
    """InputError unless a service can be asked at the address."""
    try:
        parts = httpx.URL(url)
        port = 80 if parts.port is None else parts.port
        sound = parts.scheme in ("http", "https") and bool(parts.host) and 1 <= port <= 65535
        sound = sound and not parts.query and not parts.fragment
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound:
        raise InputError(f"The API's address looks like http://127.0.0.1:8000, but {_short(url)!r} was given.")


class Client:
    """Talks to one service; safe to share between threads; close it or use it in a `with` block.

    What cannot be an id or an address is an InputError, raised before anything is sent.

    url      : where the service answers, e.g. http://127.0.0.1:8000
    timeout  : seconds to wait for one answer.
    attempts : how often a request is sent in all when the service says 429 or 503; the wait between doubles
               from 0.25 s, or is what Retry-After asks for, up to 10 s.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout: float = 30.0,
        attempts: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        check_address(url)
        self.url = url.rstrip("/")
        self.attempts = max(1, attempts)
        # Proxies named in the environment are for the outside world, not for a service on this machine.
        self._http = httpx.Client(timeout=timeout, transport=transport, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def index(self) -> Index:
        """What is searched: data set, window, columns with units, limits."""
        return self._typed(Index, "/v1/index")

    def object(self, name: str) -> Object:
        """One object's catalog columns; ApiError with code `unknown_id` if there is none of that id."""
        return self._typed(Object, f"/v1/objects/{_safe(name)}")

    def random(self, seed: int | None = None) -> Object:
        """An object drawn at random; the same seed draws the same one."""
        return self._typed(Object, "/v1/random", {"seed": seed})

    def neighbors(
        self,
        name: str,
        k: int = 20,
        offset: int = 0,
        max_overlap: float | None = None,
        columns: Sequence[str] = (),
    ) -> Neighbors:
        """The k objects most similar to one, after skipping `offset`.

        max_overlap : leave out those whose footprint covers more than this share of the query's (0 to 1).
        columns     : catalog columns to add to each result.
        """
        path = f"/v1/objects/{_safe(name)}/neighbors"
        parameters = {"k": k, "offset": offset, "max_overlap": max_overlap, "columns": ",".join(columns) or None}
        return self._typed(Neighbors, path, parameters)

    def thumbnail_url(self, name: str, size: int = 256, stretch: str | None = None, revision: str | None = None) -> str:
        """Address of one object's picture; with the `revision` of any answer it may be cached forever."""
        query = _given({"size": size, "stretch": stretch, "v": revision})
        return f"{self.url}/v1/objects/{_safe(name)}/thumbnail.jpg?{urlencode(query)}"

    def thumbnail(self, name: str, size: int = 256, stretch: str | None = None) -> bytes:
        """One object's picture, JPEG bytes, size x size px."""
        return self._get(f"/v1/objects/{_safe(name)}/thumbnail.jpg", {"size": size, "stretch": stretch}).content

    def contact_sheet(
        self, names: Sequence[str], size: int = 96, columns: int | None = None, stretch: str | None = None
    ) -> bytes:
        """Many objects on one picture, JPEG bytes, in reading order, each size x size px."""
        parameters = {"ids": ",".join(map(check_id, names)), "size": size, "columns": columns, "stretch": stretch}
        return self._get("/v1/contact-sheet.jpg", parameters).content

    def _typed(self, kind: type[_T], path: str, parameters: Mapping[str, Any] | None = None) -> _T:
        response = self._get(path, parameters or {})
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors()[0]
            raise ApiError(
                f"{self.url}{path} did not answer what this client understands ({first['msg']} at {first['loc']}). "
                "Is that address a lookalike service of the same version?",
                code="unexpected_answer",
                status=response.status_code,
            ) from None

    def _get(self, path: str, parameters: Mapping[str, Any]) -> httpx.Response:
        for attempt in range(self.attempts):
            try:
                response = self._http.get(self.url + path, params=_given(parameters))
            except httpx.TimeoutException:
                raise UnreachableError(
                    f"{self.url} did not answer in time; is it overloaded?", code="timeout"
                ) from None
            except httpx.HTTPError as error:
                raise UnreachableError(
                    f"No service answers at {self.url} ({error}). Start one with `lookalike serve INDEX`, "
                    "or give the address of one that runs."
                ) from None
            if response.is_success:
                return response
            if response.status_code not in RETRIED or attempt == self.attempts - 1:
                break
            time.sleep(_wait(response, attempt))
        raise _error(response)


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _safe(name: str) -> str:
    """An id as one part of a path."""
    return quote(check_id(name), safe="")


def _wait(response: httpx.Response, attempt: int) -> float:
    """Seconds until the next attempt: what the service asks for, else 0.25 s doubling."""
    try:
        return float(max(0, min(int(response.headers["Retry-After"]), LONGEST_WAIT)))
    except (KeyError, ValueError):
        return min(0.25 * 2.0**attempt, LONGEST_WAIT)


def _error(response: httpx.Response) -> ApiError:
    """The service's error as an exception; an answer of another shape (a proxy's page) is named by its status."""
    try:
        problem = response.json()["error"]
        return ApiError(
            str(problem["message"]),
            code=str(problem["code"]),
            status=response.status_code,
            detail=problem.get("detail"),
            request_id=str(problem.get("request_id", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(
            f"{response.url} answered {response.status_code} {response.reason_phrase}, no answer of this service's.",
            code="unexpected_answer",
            status=response.status_code,
        )
