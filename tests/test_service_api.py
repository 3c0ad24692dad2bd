"""The API: answers against the Searcher's own, one error shape for everything, hostile values, caching, pictures."""

from __future__ import annotations

import html
import io
import itertools
import json
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike.errors import CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.indexer.approximate import build_approximate
from lookalike.indexer.audit_report import AuditReport, Chosen
from lookalike.indexer.index import build_index
from lookalike.indexer.search import Searcher
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples
from lookalike.service import Limits, create_app
from lookalike.service.models import (
    AuditAbout,
    AuditChosen,
    Failure,
    IndexAnswer,
    NeighborsAnswer,
    ObjectAnswer,
    RandomAnswer,
)

Serving = Callable[..., AbstractContextManager[str]]


@contextmanager
def running(serving: Serving, app: Any, opened: bool = True) -> Iterator[httpx.Client]:
    with serving(app) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        if opened:
            ready(client)
        yield client


def ready(client: httpx.Client) -> None:
    for _ in range(500):
        if client.get("/readyz").status_code == 200:
            return
        time.sleep(0.01)
    pytest.fail("the service never became ready")


@pytest.fixture(scope="module")
def searcher(toy_index: Path) -> Searcher:
    return Searcher(toy_index)


@pytest.fixture
def own_index(toy_index: Path, tmp_path: Path) -> Path:
    """A copy of the toy index, with its files, to be changed."""
    shutil.copytree(toy_index.parent, tmp_path / "own", ignore=shutil.ignore_patterns("extras"))
    return tmp_path / "own" / "index"


@pytest.fixture(scope="module")
def revision(api: httpx.Client) -> str:
    return str(api.get("/v1/index").json()["revision"])


@pytest.fixture(scope="module")
def api(searcher: Searcher, serving: Serving) -> Iterator[httpx.Client]:
    with running(serving, create_app(searcher)) as client:
        yield client


def failed(response: Any, status: int, code: str) -> dict[str, Any]:
    """Check the one error shape; return its inside."""
    assert response.status_code == status, response.text
    problem = Failure.model_validate_json(response.content).error
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"code", "message", "detail", "request_id"}
    assert problem.code == code
    assert problem.request_id == response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Traceback" not in response.text
    return problem.model_dump()


# Objects and lists


def test_an_object_has_its_columns_with_units(api: httpx.Client, searcher: Searcher) -> None:
    body = ObjectAnswer.model_validate_json(api.get("/v1/objects/blob-003").content)
    assert body.catalog == searcher.object("blob-003")
    assert body.units == {"x": "px", "y": "px", "mag": "mag", "size": "px", "label": ""}
    assert (body.id, body.row, body.index_version) == ("blob-003", 3, "v000001")
    assert api.get(body.thumbnail).headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_an_undefined_value_is_null(api: httpx.Client) -> None:
    response = api.get("/v1/objects/blob-007")
    assert response.json()["catalog"]["mag"] is None
    assert "NaN" not in response.text


def test_neighbors_are_the_searchers_own(api: httpx.Client, searcher: Searcher) -> None:
    question = {"k": 9, "offset": 4, "max_overlap": 0.25, "columns": "mag,label"}
    body = api.get("/v1/objects/blob-012/neighbors", params=question).json()
    found = searcher.neighbors("blob-012", 9, offset=4, max_overlap=0.25, columns=["mag", "label"])
    expected = found.to_json()
    # The route asks for the index's own window alone, which `window` holds.
    asked_elsewhere = [expected.pop(name) for name in ("windows", "where", "approximate")]
    assert asked_elsewhere == [[expected["window"]], None, None]
    for row in expected["results"]:
        row["catalog"] = {"mag": row.pop("mag"), "label": row.pop("label")}
    expected["window"]["unit"] = "mag"
    expected["units"] = {"mag": "mag", "label": ""}
    expected["revision"] = api.get("/v1/index").json()["revision"]
    assert body == expected
    assert [row["rank"] for row in body["results"]] == list(range(5, 14))


def test_the_bytes_of_a_list_are_those_of_its_model(api: httpx.Client) -> None:
    content = api.get("/v1/objects/blob-012/neighbors?k=60&columns=mag,label").content
    model = NeighborsAnswer.model_validate_json(content)
    assert content == model.model_dump_json().encode()
    assert len(model.results) == 60


def test_similarities_are_shortest_float32(api: httpx.Client, searcher: Searcher) -> None:
    results = api.get("/v1/objects/blob-012/neighbors?k=60").json()["results"]
    stored = searcher.index.similarity[12]
    for row, exact in zip(results, stored, strict=True):
        assert np.float32(row["similarity"]) == exact
        assert repr(row["similarity"]) == repr(float(str(exact)))


def test_ids_are_strings(api: httpx.Client) -> None:
    body = api.get("/v1/objects/blob-012/neighbors?k=3").json()
    assert all(isinstance(row["id"], str) for row in body["results"])


def test_a_list_past_its_end_is_empty(api: httpx.Client) -> None:
    body = api.get("/v1/objects/blob-012/neighbors?k=5&offset=199").json()
    assert body["results"] == []
    assert body["source"] == "live"


def test_beyond_the_end_of_a_window_nothing_is_ranked(toy_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Searcher(toy_index)
    before = own.neighbors("blob-012", 5, offset=150, max_overlap=0.1)
    assert own.neighbors("blob-012", 200).results[-1].rank < 150
    monkeypatch.setattr(own._finder, "_rank", None)
    after = own.neighbors("blob-012", 5, offset=150, max_overlap=0.1)
    assert (after.results, after.source, after.notes) == ((), "live", before.notes)


def test_whether_the_stored_list_answers_is_known_beforehand(searcher: Searcher) -> None:
    sources = set()
    for name in ("blob-001", "blob-007", "blob-012"):
        for k, offset, max_overlap in ((5, 0, None), (60, 0, None), (30, 31, None), (60, 0, 0.0), (57, 0, 0.05)):
            found = searcher.neighbors(name, k, offset=offset, max_overlap=max_overlap)
            sources.add(found.source)
            assert searcher.is_stored(name, k, offset=offset, max_overlap=max_overlap) == (found.source == "stored")
    assert sources == {"stored", "live"}


def test_an_object_without_window_value_has_no_neighbors(api: httpx.Client) -> None:
    body = api.get("/v1/objects/blob-007/neighbors").json()
    assert body["results"] == []
    assert body["window"]["center"] is None
    assert body["notes"]


def test_random_follows_its_seed(api: httpx.Client, searcher: Searcher) -> None:
    first = RandomAnswer.model_validate_json(api.get("/v1/random?seed=7").content)
    assert first.id == searcher.random_id(7)
    assert first.seed == 7
    assert len({api.get("/v1/random").json()["id"] for _ in range(40)}) > 10


def test_index_says_what_is_searched(api: httpx.Client, searcher: Searcher) -> None:
    body = IndexAnswer.model_validate_json(api.get("/v1/index").content)
    assert (body.objects, body.k, body.domain, body.bands) == (200, 60, "galaxy", ["r", "g", "b"])
    assert body.window is not None
    assert (body.window.column, body.window.half_width, body.window.unit) == ("mag", 0.5, "mag")
    assert body.counts == searcher.manifest["counts"]
    assert body.hashes["index"] == searcher.content_hash
    assert body.hashes["embeddings"] == searcher.manifest["embeddings"]["content_hash"]
    assert body.columns["mag"].description == "Magnitude the blob was drawn with"
    assert body.limits == Limits()


def test_the_audit_is_told_field_by_field() -> None:
    assert list(AuditAbout.model_fields) == list(AuditReport.model_fields)
    assert list(AuditChosen.model_fields) == list(Chosen.model_fields)


def test_the_approximate_stage_appears_once_it_was_made_and_a_damaged_one_is_left_out(
    own_index: Path, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    own = Searcher(own_index)
    with running(serving, create_app(own)) as client:
        assert client.get("/v1/index").json()["approximate"] is None
        report = build_approximate(own_index, k=10, queries=50, quiet=True)
        path = own_index / "extras" / "v000001" / "approximate.h5"
        told = client.get("/v1/index").json()["approximate"]
        assert told == report.to_json() | {"bytes": path.stat().st_size}
        with h5py.File(path, "r+") as file:
            file.attrs["about"] = json.dumps(report.to_json() | {"content_hash": "0" * 64})
        assert client.get("/v1/index").json()["approximate"] is None
        assert "describes another index" in caplog.text
        for content in (b"", b"no HDF5", path.read_bytes()[:900]):
            path.write_bytes(content)
            assert client.get("/v1/index").json()["approximate"] is None


def test_the_audit_of_this_very_index_appears_once_it_was_made(
    own_index: Path, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    own = Searcher(own_index)
    audit = own_index / "extras" / "v000001" / "audit.json"
    audit.parent.mkdir(parents=True)
    counts = dict.fromkeys(("random", "ends", "edge", "short", "without_value"), 4)
    sound = {"version": "v000001", "content_hash": own.content_hash, "n": 200, "k": 60, "files": 3, "lists": 200}
    sound |= {"recomputed": 104, "chosen": counts, "recall": 1.0, "equal_similarities": 1.0, "largest_difference": 0.0}
    sound |= {"ties_at_k": 0, "seed": 0, "seconds": 0.5, "notes": ["a note"]}
    with running(serving, create_app(own)) as client:
        assert client.get("/v1/index").json()["audit"] is None
        audit.write_text(json.dumps(sound))
        assert client.get("/v1/index").json()["audit"] == sound
        other = sound | {"version": "v000002"}
        for text in ("{", "[]", "{}", json.dumps(sound | {"content_hash": "0" * 64}), json.dumps(other)):
            caplog.clear()
            audit.write_text(text)
            assert client.get("/v1/index").json()["audit"] is None
            assert "audit.json" in caplog.text


# Errors


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        ("/nowhere", 404, "unknown_address", "/docs"),
        ("/v1/objects", 404, "unknown_address", "/docs"),
        ("/v1/objects/blob-999", 404, "unknown_id", "200 objects. Did you mean 'blob-099' or 'blob-199'?"),
        ("/v1/objects/blob-999/neighbors", 404, "unknown_id", "blob-999"),
        ("/v1/objects/Blob-01/neighbors?k=3", 404, "unknown_id", "Did you mean 'blob-001'"),
        ("/v1/objects/blob-17/thumbnail.jpg", 404, "unknown_id", "Did you mean 'blob-017'?"),
        ("/v1/objects/BLOB-017/thumbnail.jpg", 404, "unknown_id", "Did you mean 'blob-017'?"),
        ("/v1/objects/nobody", 404, "unknown_id", "An id here is, for instance, 'blob-000'."),
        ("/v1/contact-sheet.jpg?ids=blob-001,blob-999", 404, "unknown_id", "'blob-999'"),
        ("/v1/objects/a%20b", 422, "invalid_request", "A-Za-z0-9"),
        ("/v1/objects/blob-001%00", 422, "invalid_request", "A-Za-z0-9"),
        ("/v1/objects/%ff%fe", 422, "invalid_request", "A-Za-z0-9"),
        ("/v1/objects/" + "a" * 5000, 422, "invalid_request", "A-Za-z0-9"),
        ("/v1/objects/blob-001/neighbors?columns=magg", 422, "unknown_column", "Did you mean 'mag'? Choices: "),
        ("/v1/objects/blob-001/neighbors?kk=3", 422, "unknown_query_parameter", "Choices: k, offset, max_overlap"),
        ("/v1/objects/blob-001/neighbors?k=3&k=4", 422, "invalid_input", "once"),
        ("/v1/objects/blob-001/neighbors?max_overlap=1.5", 422, "invalid_request", "1.5"),
        ("/v1/objects/blob-001/thumbnail.jpg?stretch=loud", 422, "unknown_stretch", "Choices: "),
        ("/v1/objects/blob-001/thumbnail.jpg?size=15", 422, "invalid_request", "16"),
        ("/v1/objects/blob-001/thumbnail.jpg?size=1025", 422, "invalid_request", "1024"),
        ("/v1/contact-sheet.jpg", 422, "invalid_request", "ids"),
        ("/v1/contact-sheet.jpg?ids=blob-001,a%20b", 422, "invalid_input", "'a b'"),
        ("/v1/contact-sheet.jpg?ids=..", 422, "invalid_input", "'..'"),
        ("/v1/contact-sheet.jpg?ids=,,", 422, "invalid_input", "at least one id"),
        ("/v1/contact-sheet.jpg?ids=" + "a," * 101, 422, "invalid_input", "Up to 100 ids"),
        ("/v1/contact-sheet.jpg?size=1024&columns=100&ids=blob-001", 422, "sheet_too_large", "16,000,000"),
        ("/v1/random?seed=x", 422, "invalid_request", "seed"),
    ],
)
def test_errors_have_one_shape_and_name_rule_value_or_choices(
    api: httpx.Client, path: str, status: int, code: str, words: str
) -> None:
    assert words in failed(api.get(path), status, code)["message"]


def test_other_methods_are_refused_with_what_is_allowed(api: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = api.request(method, "/v1/index", content=b"x" * 100_000)
        assert "GET and HEAD" in failed(response, 405, "method_not_allowed")["message"]
        assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/v1/index", "/v1/objects/blob-001/neighbors", "/v1/objects/blob-001/thumbnail.jpg", "/docs", "/x"],
)
def test_head_is_get_without_the_body(api: httpx.Client, path: str) -> None:
    head, whole = api.head(path), api.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for name in ("Content-Length", "Content-Type", "Cache-Control", "ETag"):
        assert head.headers.get(name) == whole.headers.get(name)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]", "[::1]:8000"])
def test_requests_for_this_machine_are_answered(api: httpx.Client, host: str) -> None:
    assert api.get("/v1/index", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:80", "8.8.8.8", "",
             "user@127.0.0.1", "127.0.0.1:8000.evil.example", "[::1].evil.example"]
)  # fmt: skip
def test_a_foreign_name_for_this_machine_is_refused(api: httpx.Client, host: str) -> None:
    for path in ("/v1/index", "/healthz", "/docs", "/v1/objects/blob-001/thumbnail.jpg"):
        response = api.get(path, headers={"Host": host})
        assert repr(host) in failed(response, 421, "unknown_host")["message"]


def test_only_the_root_is_redirected_and_to_no_host(api: httpx.Client) -> None:
    root = api.get("/", follow_redirects=False)
    assert (root.status_code, root.headers["Location"]) == (307, "/docs")
    assert api.get("/", follow_redirects=True).text == api.get("/docs").text
    assert "/" not in api.get("/openapi.json").json()["paths"]
    assert failed(api.post("/", follow_redirects=False), 405, "method_not_allowed")
    for path in ("/v1/index/", "/healthz/", "/v1/objects/blob-001/"):
        failed(api.get(path), 404, "unknown_address")


HUGE = ["2147483648", "9223372036854775808", "1e308", "-1", "0", "NaN", "-inf", "0x10", "1" * 5000, "", "null", "%00"]


@pytest.mark.parametrize("value", HUGE)
def test_absurd_numbers_are_refused(api: httpx.Client, value: str) -> None:
    for path in (
        f"/v1/objects/blob-001/neighbors?k={value}",
        f"/v1/objects/blob-001/thumbnail.jpg?size={value}",
        f"/v1/contact-sheet.jpg?ids=blob-001&columns={value}",
    ):
        failed(api.get(path), 422, "invalid_request")
    if value != "0":
        failed(api.get(f"/v1/objects/blob-001/neighbors?offset={value}"), 422, "invalid_request")
        failed(api.get(f"/v1/objects/blob-001/neighbors?max_overlap={value}"), 422, "invalid_request")


@settings(max_examples=200, deadline=None)
@given(name=st.text(max_size=80), key=st.sampled_from(["k", "offset", "columns", "max_overlap", "q"]), value=st.text())
def test_no_text_makes_it_fail(toy_index: Path, api: httpx.Client, name: str, key: str, value: str) -> None:
    from urllib.parse import quote

    path = f"/v1/objects/{quote(name, safe='', errors='surrogatepass')}/neighbors"
    response = api.get(path + f"?{key}={quote(value, safe='', errors='surrogatepass')}")
    assert response.status_code in (200, 404, 422)
    if response.status_code != 200:
        Failure.model_validate_json(response.content)


def test_a_request_id_is_repeated_if_harmless_else_replaced(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"X-Request-ID": "run-7.a"}).headers["X-Request-ID"] == "run-7.a"
    for bad in ("a b", "<script>", "x" * 65, ""):
        given_back = api.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert given_back != bad
        assert len(given_back) == 16


def test_an_unexpected_failure_says_nothing_of_the_inside(
    searcher: Searcher, serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(serving, create_app(searcher)) as client:
        monkeypatch.setattr(searcher, "neighbors", lambda *_, **__: 1 / 0)
        response = client.get("/v1/objects/blob-001/neighbors", headers={"X-Request-ID": "seen"})
        problem = failed(response, 500, "internal_error")
    assert "division" not in response.text
    assert problem["request_id"] == "seen"
    assert "ZeroDivisionError" in caplog.text
    assert "seen" in caplog.text


def test_a_damaged_file_is_named_in_the_log_only(
    searcher: Searcher, serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise CorruptError("/secret/place/samples.h5 was altered")

    with running(serving, create_app(searcher)) as client:
        monkeypatch.setattr(searcher, "neighbors", damaged)
        response = client.get("/v1/objects/blob-001/neighbors")
    failed(response, 500, "corrupt_file")
    assert "secret" not in response.text
    assert "/secret/place" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("/secret/samples.h5 is gone"),
        InputError("/secret/embeddings.h5 is another", code="other_embeddings"),
    ],
)
def test_a_fault_of_its_own_files_is_not_blamed_on_the_caller(
    error: LookalikeError,
    searcher: Searcher,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with running(serving, create_app(searcher)) as client:
        monkeypatch.setattr(searcher, "neighbors", fail)
        response = client.get("/v1/objects/blob-001/neighbors")
    failed(response, 500, error.code)
    assert "secret" not in response.text
    assert "/secret/" in caplog.text


def test_files_that_vanish_while_it_runs_change_no_answer(own_index: Path, serving: Serving) -> None:
    paths = ["/v1/objects/blob-001", "/v1/objects/blob-001/neighbors?k=90", "/v1/objects/blob-002/thumbnail.jpg"]
    with running(serving, create_app(Searcher(own_index))) as client:
        for name in ("samples.h5", "embeddings.h5"):
            (own_index.parent / name).unlink()
        answers = [client.get(path) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[1].json()["source"] == "live"


def test_a_file_that_is_missing_is_found_out_before_it_is_ready(own_index: Path, serving: Serving) -> None:
    (own_index.parent / "embeddings.h5").unlink()
    told: queue.Queue[Exception] = queue.Queue()
    with running(serving, create_app(Searcher(own_index), on_failure=told.put), opened=False) as client:
        assert "embeddings.h5" in str(told.get(timeout=20))
        failed(client.get("/readyz"), 503, "not_ready")


def test_live_searches_wait_their_turn_and_no_longer_than_is_said(
    searcher: Searcher, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, at_once, most = threading.Event(), 0, 0
    real, counting = searcher.neighbors, threading.Lock()

    def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        assert may_end.wait(20)
        with counting:
            at_once -= 1
        return real(*arguments, **named)

    live, stored = "/v1/objects/blob-001/neighbors?k=61", "/v1/objects/blob-001/neighbors?k=60"
    with (
        running(serving, create_app(searcher, Limits(live_searches=2, live_wait=1))) as client,
        ThreadPoolExecutor(5) as pool,
    ):
        monkeypatch.setattr(searcher, "neighbors", slow)
        asked = [pool.submit(client.get, live) for _ in range(5)]
        busy = [done.result() for done in itertools.islice(as_completed(asked), 3)]
        for response in busy:
            failed(response, 429, "busy")
            assert int(response.headers["Retry-After"]) >= 1
        monkeypatch.setattr(searcher, "neighbors", real)
        assert client.get(stored).status_code == 200, "stored lists wait for nobody"
        may_end.set()
        assert sorted(done.result().status_code for done in asked) == [200, 200, 429, 429, 429]
        assert client.get(live).status_code == 200
    assert most == 2


# Starting


def test_it_answers_health_at_once_and_the_rest_when_the_index_is_open(searcher: Searcher, serving: Serving) -> None:
    may_open = threading.Event()

    def slowly() -> Searcher:
        assert may_open.wait(20)
        return searcher

    with running(serving, create_app(slowly), opened=False) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        for path in ("/readyz", "/v1/index", "/v1/objects/blob-001", "/v1/random"):
            response = client.get(path)
            failed(response, 503, "not_ready")
            assert response.headers["Retry-After"] == "1"
        may_open.set()
        ready(client)
        assert client.get("/readyz").json() == {"ready": True, "index_version": "v000001"}


def test_an_index_that_cannot_be_opened_never_becomes_ready_and_is_told(serving: Serving) -> None:
    told: queue.Queue[Exception] = queue.Queue()

    def broken() -> Searcher:
        raise CorruptError("neighbors.h5 is short")

    with running(serving, create_app(broken, on_failure=told.put), opened=False) as client:
        assert isinstance(told.get(timeout=20), CorruptError)
        assert "log says why" in failed(client.get("/readyz"), 503, "not_ready")["message"]
        assert client.get("/healthz").status_code == 200


# Pictures


def picture(response: Any) -> Image.Image:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "image/jpeg"
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("size", [16, 100, 1024])
def test_a_thumbnail_has_the_size_asked_for(api: httpx.Client, size: int) -> None:
    drawn = picture(api.get(f"/v1/objects/blob-001/thumbnail.jpg?size={size}"))
    assert (drawn.size, drawn.mode, drawn.format) == ((size, size), "RGB", "JPEG")


def test_a_thumbnail_shows_the_object(api: httpx.Client, searcher: Searcher) -> None:
    stored = searcher.samples.objects([1])[0].transpose(1, 2, 0).astype(float)
    drawn = np.asarray(picture(api.get("/v1/objects/blob-001/thumbnail.jpg?size=32&stretch=native")), float)
    assert np.abs(drawn - stored).mean() < 6


def test_every_stretch_named_is_drawn(api: httpx.Client) -> None:
    for name in api.get("/v1/index").json()["stretches"]:
        assert picture(api.get(f"/v1/objects/blob-001/thumbnail.jpg?stretch={name}")).size == (256, 256)
    # Fluxes in nanomaggies are needed for this one; these pictures are 8-bit.
    assert (
        "native"
        in failed(api.get("/v1/objects/blob-001/thumbnail.jpg?stretch=lupton"), 422, "unknown_stretch")["message"]
    )


def test_caching_is_for_ever_only_with_the_revision(api: httpx.Client, revision: str) -> None:
    base = "/v1/objects/blob-001/thumbnail.jpg?size=64"
    plain, versioned, old = (api.get(base + more) for more in ("", f"&v={revision}", "&v=v000001"))
    assert plain.headers["Cache-Control"] == old.headers["Cache-Control"] == "no-cache"
    assert versioned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plain.content == versioned.content
    tag = plain.headers["ETag"]
    again = api.get(base, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert api.get(base, headers={"If-None-Match": "*"}).status_code == 304
    other = api.get("/v1/objects/blob-001/thumbnail.jpg?size=65", headers={"If-None-Match": tag})
    assert other.status_code == 200


def test_another_data_set_under_the_same_names_shares_no_cached_picture(
    api: httpx.Client, revision: str, own_index: Path, serving: Serving
) -> None:
    """The same ids, vectors and version name, other pictures: as after `rm -r` and a new build."""
    samples = own_index.parent / "samples.h5"
    with h5py.File(samples, "r") as file:
        images, ids = 255 - file["images"][:], [name.decode() for name in file["id"][:]]
    old = Samples(samples)
    with write_samples(own_index.parent / "new.h5", old.about, old.columns) as writer:
        writer.append(ids, images, {name: old.column(name) for name in old.columns})
    shutil.rmtree(own_index)
    build_index(
        own_index.parent / "embeddings.h5",
        [own_index.parent / "new.h5"],
        own_index,
        k=60,
        window="mag:0.5",
        quiet=True,
    )
    with running(serving, create_app(Searcher(own_index))) as client:
        about, listed = client.get("/v1/index").json(), client.get("/v1/objects/blob-001/neighbors").json()
        assert (about["index_version"], listed["index_version"]) == ("v000001", "v000001")
        assert about["revision"] == listed["revision"] != revision
        for path in ("/v1/objects/blob-001/thumbnail.jpg?size=64", "/v1/contact-sheet.jpg?ids=blob-001,blob-002"):
            other = client.get(f"{path}&v={revision}", headers={"If-None-Match": api.get(path).headers["ETag"]})
            assert (other.status_code, other.headers["Cache-Control"]) == (200, "no-cache")


def test_the_revision_follows_the_software(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike.service.engine import revision

    before = revision(searcher)
    monkeypatch.setattr("PIL.__version__", "0")
    assert revision(searcher) != before


def test_what_is_not_versioned_is_asked_for_again(api: httpx.Client) -> None:
    for path in ("/v1/index", "/v1/objects/blob-001", "/v1/objects/blob-001/neighbors", "/openapi.json", "/docs"):
        assert api.get(path).headers["Cache-Control"] == "no-cache", path
    assert api.get("/v1/random").headers["Cache-Control"] == "no-store"


def test_errors_are_never_cached(api: httpx.Client, revision: str) -> None:
    assert api.get(f"/v1/objects/blob-999/thumbnail.jpg?v={revision}").headers["Cache-Control"] == "no-store"


def test_an_id_that_is_none_is_never_not_modified(api: httpx.Client) -> None:
    for path in ("/v1/objects/blob-999/thumbnail.jpg", "/v1/contact-sheet.jpg?ids=blob-001,blob-999"):
        failed(api.get(path, headers={"If-None-Match": "*"}), 404, "unknown_id")


def test_a_sheet_holds_the_thumbnails_in_reading_order(api: httpx.Client) -> None:
    names = ["blob-004", "blob-001", "blob-004", "blob-009", "blob-002"]
    sheet = np.asarray(picture(api.get(f"/v1/contact-sheet.jpg?ids={','.join(names)}&size=48&columns=3")), float)
    assert sheet.shape == (96, 144, 3)
    for place, name in enumerate(names):
        top, left = place // 3 * 48, place % 3 * 48
        one = np.asarray(picture(api.get(f"/v1/objects/{name}/thumbnail.jpg?size=48")), float)
        assert np.abs(sheet[top : top + 48, left : left + 48] - one).mean() < 1
    assert sheet[48:, 96:].max() < 8  # the unused cell


def test_finished_pictures_stay_within_their_memory(searcher: Searcher) -> None:
    from lookalike.augmentations import get_domain
    from lookalike.service.pictures import Pictures

    kept = Pictures(searcher.samples, get_domain("galaxy"), "v", Limits(picture_cache_bytes=20_000))
    first = kept.thumbnail("blob-000", 64, "native")
    for i in range(60):
        kept.thumbnail(f"blob-{i:03d}", 64, "native")
    assert sum(map(len, kept._kept.values())) == kept._bytes <= 20_000
    assert len(kept._kept) > 2
    assert kept.thumbnail("blob-000", 64, "native") == first


def test_limits_are_settings(searcher: Searcher, serving: Serving) -> None:
    with running(serving, create_app(searcher, Limits(max_k=5, max_picture=32))) as client:
        assert client.get("/v1/objects/blob-001/neighbors?k=5").status_code == 200
        failed(client.get("/v1/objects/blob-001/neighbors?k=6"), 422, "invalid_request")
        failed(client.get("/v1/objects/blob-001/thumbnail.jpg?size=33"), 422, "invalid_request")
        assert client.get("/v1/index").json()["limits"]["max_k"] == 5


# Description


def test_the_document_kept_in_docs_is_the_generated_one(searcher: Searcher) -> None:
    kept = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"
    made = json.dumps(create_app(searcher).openapi(), indent=2, ensure_ascii=False) + "\n"
    assert kept.read_text(encoding="utf-8") == made, "write it anew: python -m lookalike.service.openapi"


def test_every_route_is_described_with_its_errors(searcher: Searcher) -> None:
    document = create_app(searcher).openapi()
    for path, methods in document["paths"].items():
        answers = methods["get"]["responses"]
        assert methods["get"]["summary"]
        if path.startswith("/v1/"):
            assert answers["503"]["content"]["application/json"]["schema"]["$ref"].endswith("/Failure"), path
        if "422" in answers:
            assert answers["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Failure"), path
        for parameter in methods["get"].get("parameters", []):
            assert parameter.get("description"), (path, parameter["name"])


def test_docs_run_no_script_and_load_nothing(api: httpx.Client) -> None:
    response = api.get("/docs")
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "<script" not in response.text
    for host in ("127.0.0.1:8123", "localhost"):
        text = api.get("/docs", headers={"Host": host}).text
        assert f"curl 'http://{host}/v1/objects/blob-000/neighbors?k=20" in html.unescape(text)
        assert ":8000" not in text
    assert "servers" not in api.get("/openapi.json").json()
    assert api.get("/openapi.json").json()["paths"].keys() >= {"/v1/index", "/v1/random", "/healthz", "/readyz"}
    for path in api.get("/openapi.json").json()["paths"]:
        assert path in response.text


def test_every_example_at_docs_is_answered_by_the_index_served(api: httpx.Client, searcher: Searcher) -> None:
    said = html.unescape(api.get("/docs").text)
    asked = re.findall(r"curl 'http://[^/]*(/[^']*)'", said)
    assert len(asked) == len(api.get("/openapi.json").json()["paths"])
    assert [api.get(address).status_code for address in asked] == [200] * len(asked), asked
    ids = {searcher.samples.id(row) for row in (0, 1)}
    assert set(re.findall(r"/objects/([^/? ]+)", " ".join(asked))) < ids
    assert "xdf-" not in " ".join(asked)


def test_until_the_index_is_open_the_examples_name_no_object(serving: Serving) -> None:
    held = threading.Event()

    def load() -> Searcher:
        held.wait(30)
        raise InputError("there is none")

    with running(serving, create_app(load, on_failure=lambda error: None), opened=False) as api:
        try:
            said = html.unescape(api.get("/docs").text)
        finally:
            held.set()
    assert "/v1/objects/ID/neighbors?k=20" in said
    assert not re.findall(r"curl '[^']*xdf", said)


def test_examples_leave_out_what_an_index_has_not_and_quote_its_names(
    vector_set: Callable[..., tuple[Path, list[Path]]], serving: Serving, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    embeddings, samples = vector_set(rng.normal(size=(12, 4)), {"a,b": np.arange(12.0), "a b": np.arange(12.0)})
    build_index(embeddings, samples, tmp_path / "index", window=None, quiet=True)
    with running(serving, create_app(Searcher(tmp_path / "index"))) as api:
        asked = re.findall(r"curl 'http://[^/]*(/[^']*)'", html.unescape(api.get("/docs").text))
        assert not any("max_overlap" in address for address in asked)
        assert any("columns=a%20b" in address for address in asked)
        told = [api.get(address) for address in asked if "neighbors" in address]
    assert [answer.status_code for answer in told] == [200] * len(told) != []


def test_many_threads_get_the_answers_of_one(api: httpx.Client, searcher: Searcher) -> None:
    paths = [f"/v1/objects/blob-{i:03d}/neighbors?k=10&max_overlap=0.1" for i in range(60)]
    paths += [f"/v1/objects/blob-{i:03d}/thumbnail.jpg?size=32" for i in range(60)]
    alone = [api.get(path).content for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: api.get(path).content, paths * 2))
    assert together == alone * 2
