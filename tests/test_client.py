"""The client: typed results of a real service, its errors as types, patience with a busy one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lookalike import about
from lookalike import client as client_module
from lookalike.client import ApiError, Client, UnreachableError, check_id
from lookalike.errors import InputError, LookalikeError
from lookalike.indexer.search import Searcher
from lookalike.service import create_app


@pytest.fixture(scope="module")
def client(toy_index: Path, serving: Callable[..., AbstractContextManager[str]]) -> Iterator[Client]:
    with serving(create_app(Searcher(toy_index))) as url, Client(url, attempts=8) as made:
        yield made


def test_an_object(client: Client, toy_index: Path) -> None:
    found = client.object("blob-003")
    assert found.catalog == Searcher(toy_index).object("blob-003")
    assert found.units["mag"] == "mag"
    assert client.object("blob-007").catalog["mag"] is None


def test_neighbors(client: Client, toy_index: Path) -> None:
    found = client.neighbors("blob-003", k=7, offset=2, max_overlap=0.25, columns=["mag", "size"])
    expected = Searcher(toy_index).neighbors("blob-003", 7, offset=2, max_overlap=0.25, columns=["mag", "size"])
    assert [(r.rank, r.id, r.row, r.similarity, r.catalog) for r in found.results] == [
        (r.rank, r.id, r.row, r.similarity, dict(r.columns)) for r in expected.results
    ]
    assert (found.query.id, found.source, found.left_out.overlapping) == (
        "blob-003",
        expected.source,
        expected.left_out,
    )
    assert found.window is not None
    assert found.window.center == client.object("blob-003").catalog["mag"]


def test_index_and_random(client: Client) -> None:
    index = client.index()
    assert (index.objects, index.shape, index.limits["max_k"]) == (200, (3, 32, 32), 1000)
    assert client.random(7) == client.random(7)


def test_pictures(client: Client) -> None:
    assert Image.open(io.BytesIO(client.thumbnail("blob-001", size=40, stretch="native"))).size == (40, 40)
    sheet = client.contact_sheet(["blob-001", "blob-002", "blob-003"], size=32, columns=2)
    assert Image.open(io.BytesIO(sheet)).size == (64, 64)
    url = client.thumbnail_url("blob-001", size=64, revision=client.index().revision)
    assert "immutable" in httpx.get(url, trust_env=False).headers["Cache-Control"]


def test_results_are_frozen(client: Client) -> None:
    with pytest.raises(ValueError, match="frozen"):
        client.object("blob-001").id = "other"  # type: ignore[misc]


def test_the_services_error_comes_back_typed(client: Client) -> None:
    with pytest.raises(ApiError, match="No object has the id 'blob-999'") as caught:
        client.object("blob-999")
    assert (caught.value.code, caught.value.status) == ("unknown_id", 404)
    assert len(caught.value.request_id) == 16
    with pytest.raises(ApiError, match="Did you mean 'mag'"):
        client.neighbors("blob-001", columns=["magg"])
    with pytest.raises(ApiError) as caught:
        client.neighbors("blob-001", k=0)
    assert caught.value.detail == [{"parameter": "k", "rule": "must be at least 1", "given": "'0'"}]
    assert caught.value.message == "k must be at least 1, but '0' was given."


ODD = ["a/b", "x?k=1", "é", "a b", "../../healthz", "%2e", ".", "..", "", "blob-001/neighbors", "a\n", "a" * 65]


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_id_is_refused_before_anything_is_asked(name: str) -> None:
    """Any of these would be another address, or part of one."""
    silent = Client(transport=answering())
    for ask in (silent.object, silent.neighbors, silent.thumbnail, silent.thumbnail_url):
        with pytest.raises(InputError, match="An id is"):
            ask(name)
    with pytest.raises(InputError, match="An id is"):
        silent.contact_sheet(["blob-001", name])


@given(st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9._:+-]{1,66}", fullmatch=True))
def test_the_rule_of_ids_is_that_of_samples(name: str) -> None:
    def accepts(check: Callable[[str], str]) -> bool:
        try:
            return check(name) == name
        except InputError:
            return False

    assert accepts(check_id) == accepts(about.check_id)


def test_a_service_that_is_down_is_said_helpfully() -> None:
    with pytest.raises(UnreachableError, match=r"No service answers at http://127\.0\.0\.1:9 .*lookalike serve"):
        Client("http://127.0.0.1:9").index()


NO_ADDRESS = [
    "127.0.0.1:8000",
    "",
    "ftp://x",
    "http://",
    "http://127.0.0.1:80x",
    "http://127.0.0.1:99999",
    "http://[::1",
    "http://127.0.0.1\n",
    "http://a:0",
    "http://a?x=1",
    "http://" + "a" * 70_000,
]


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:8000"):
        Client(url)


def answering(*responses: httpx.Response | Exception) -> httpx.MockTransport:
    """A service that gives these answers in turn."""
    left = list(responses)

    def answer(_: httpx.Request) -> httpx.Response:
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return httpx.MockTransport(answer)


OBJECT = {
    "id": "a",
    "row": 0,
    "catalog": {},
    "units": {},
    "index_version": "v000001",
    "revision": "0" * 16,
    "new": "field",
}


def busy(status: int, **headers: str) -> httpx.Response:
    error = {"code": "not_ready", "message": "wait", "detail": None, "request_id": "r"}
    return httpx.Response(status, json={"error": error}, headers=headers)


def test_a_busy_service_is_asked_again_after_the_wait_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", waits.append)
    answers = (
        busy(503, **{"Retry-After": "2"}),
        busy(429),
        busy(503, **{"Retry-After": "3600"}),
        busy(429, **{"Retry-After": "-3"}),
        httpx.Response(200, json=OBJECT),
    )
    assert Client(attempts=5, transport=answering(*answers)).object("a").id == "a"
    assert waits == [2.0, 0.5, 10.0, 0.0]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", waits.append)
    with pytest.raises(ApiError, match="wait") as caught:
        Client(attempts=3, transport=answering(busy(503), busy(503), busy(503))).index()
    assert (caught.value.code, caught.value.status, waits) == ("not_ready", 503, [0.25, 0.5])


def test_other_errors_are_not_asked_again() -> None:
    with pytest.raises(ApiError) as caught:
        Client(transport=answering(busy(500))).index()
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(502, text="<html>Bad gateway"),
        httpx.Response(404, json=[]),
        httpx.Response(200, text="hello"),
        httpx.Response(200, json={"id": 3}),
    ],
)
def test_an_answer_of_something_else_is_no_crash(response: httpx.Response) -> None:
    with pytest.raises(ApiError) as caught:
        Client(transport=answering(response)).object("a")
    assert caught.value.code == "unexpected_answer"


def test_a_slow_service_is_an_error_of_ours() -> None:
    with pytest.raises(LookalikeError, match="in time"):
        Client(transport=answering(httpx.ReadTimeout("slow"))).index()
