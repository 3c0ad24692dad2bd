"""The page's logic without a browser: what each address leads to, on a real service."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import lookalike.webapp
from lookalike.client import Client, UnreachableError
from lookalike.indexer.search import Searcher
from lookalike.service import Limits, create_app
from lookalike.webapp import gallery
from lookalike.webapp.run import run_app

PAGE = Path(lookalike.webapp.__file__).parent / "page.py"


@pytest.fixture(scope="module")
def api(toy_index: Path, serving: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with serving(create_app(Searcher(toy_index))) as url:
        yield url


@pytest.fixture
def page(api: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Open the page at an address: page(id="blob-001")."""
    monkeypatch.setenv("LOOKALIKE_API", api)

    def opened(**query: str) -> AppTest:
        test = AppTest.from_file(str(PAGE), default_timeout=30)
        for name, value in query.items():
            test.query_params[name] = value
        return test.run()

    return opened


def said(test: AppTest) -> str:
    """The text of the box that says what is wrong."""
    assert not test.exception
    return " ".join(text.value for text in test.get("text"))


def test_the_start_page_and_an_object_run_clean(page: Callable[..., AppTest]) -> None:
    for query in ({}, {"id": "blob-001"}, {"id": "blob-001", "n": "100", "overlap": "keep", "page": "2"}):
        test = page(**query)
        assert said(test) == ""
        assert test.text_input(key="id_box").value == query.get("id", "")
        assert test.selectbox(key="number").value == int(query.get("n", "36"))
        assert test.toggle(key="hide_overlap").value == (query.get("overlap") != "keep")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"id": "blob-999"}, "No object has the id 'blob-999'"),
        ({"id": "<b>"}, "A-Z a-z 0-9"),
        ({"id": "a" * 3000}, "1 to 64"),
        ({"id": "blob-001", "n": "7"}, "n is one of 16, 25"),
        ({"id": "blob-001", "n": "1e308"}, "n is a whole number"),
        ({"id": "blob-001", "page": "999"}, "lies beyond the last of 200"),
        ({"id": "blob-001", "overlap": "x"}, "Choices: hide, keep"),
        ({"idd": "blob-001"}, "Did you mean 'id'"),
    ],
)
def test_a_wrong_address_is_a_box_never_a_traceback(
    page: Callable[..., AppTest], query: dict[str, str], words: str
) -> None:
    assert words in said(page(**query))


def test_the_controls_change_the_address(page: Callable[..., AppTest]) -> None:
    test = page(id="blob-001", page="2")
    test.selectbox(key="number").set_value(16).run()
    assert test.query_params == {"id": "blob-001", "n": "16"}
    test.toggle(key="hide_overlap").set_value(False).run()
    assert test.query_params == {"id": "blob-001", "n": "16", "overlap": "keep"}
    test.text_input(key="id_box").set_value("  blob-002 ").run()
    assert test.query_params == {"id": "blob-002", "n": "16", "overlap": "keep", "via": "blob-001"}
    test.text_input(key="id_box").set_value("").run()
    assert "id" not in test.query_params
    test.button(key="random").click().run()
    assert test.query_params["id"].startswith("blob-")
    assert said(test) == ""


def test_a_wrong_part_of_the_address_does_not_lose_the_object(page: Callable[..., AppTest]) -> None:
    test = page(id="blob-001", page="0")
    test.selectbox(key="number").set_value(16).run()
    assert test.query_params == {"id": "blob-001", "n": "16"}
    assert said(test) == ""


def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the gallery was last given."""
    last: dict[str, Any] = {}
    monkeypatch.setattr(gallery, "show", lambda data, on_pick: (last.clear(), last.update(data)))
    return last


def test_next_is_offered_only_where_something_follows(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, toy_index: Path
) -> None:
    last = drawn(monkeypatch)
    searcher = Searcher(toy_index)
    every = {name: len(searcher.neighbors(name, 200).results) for name in (f"blob-{i:03d}" for i in range(200))}
    exact, end = next((name, n) for name, n in every.items() if n and n % 16 == 0)  # its list ends with a page
    longer = next(name for name, n in every.items() if n == end + 1)
    for name, at, next_is_there in ((exact, end // 16, False), (longer, end // 16, True), (exact, 1, True)):
        page(id=name, n="16", page=str(at), overlap="keep")
        assert len(last["tiles"]) == 16
        assert any("Next" in link["text"] for link in last["pages"]) == next_is_there, (name, at)


def test_the_share_given_at_the_start_is_the_pages_own(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = drawn(monkeypatch)
    page(id="blob-001")
    assert any("more than 25% of" in note for note in last["notes"])
    monkeypatch.setattr("sys.argv", ["page.py", "--max-overlap", "0.0"])
    page(id="blob-001")
    assert any("more than 0% of" in note for note in last["notes"])


def test_it_asks_within_the_services_limits(
    toy_index: Path, serving: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = drawn(monkeypatch)
    for max_k, options, shown in ((20, [16], 20), (5, [16], 5)):
        with serving(create_app(Searcher(toy_index), Limits(max_k=max_k))) as url:
            monkeypatch.setenv("LOOKALIKE_API", f"{url}/")
            with Client(url, attempts=8) as client:
                client.index()  # it is ready
            test = AppTest.from_file(str(PAGE), default_timeout=30)
            test.query_params["id"] = "blob-001"
            test.run()
        assert said(test) == ""
        assert [int(option.split()[0]) for option in test.selectbox(key="number").options] == options
        assert len(last["tiles"]) == shown
        assert last["api"] == url, "a slash too many would make every address another"


def test_another_index_under_the_same_version_name_replaces_what_was_kept(
    toy_index: Path, serving: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = drawn(monkeypatch)
    revisions = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for software in ("1", "2"):
        monkeypatch.setattr(lookalike, "__version__", software)  # as good as other data: another revision
        with serving(create_app(Searcher(toy_index)), port) as url:
            monkeypatch.setenv("LOOKALIKE_API", url)
            with Client(url, attempts=8) as client:
                client.index()  # it is ready
            test = AppTest.from_file(str(PAGE), default_timeout=30)
            test.query_params["id"] = "blob-001"
            assert said(test.run()) == ""
            assert any(f"lookalike {software}" in line for line in last["about"])
            revisions.append(last["revision"])
    assert revisions[0] != revisions[1]


def test_a_service_that_is_down_is_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_API", "http://127.0.0.1:9")
    test = AppTest.from_file(str(PAGE), default_timeout=30).run()
    assert "No service answers at http://127.0.0.1:9" in said(test)
    assert any("lookalike serve" in text.value for text in test.markdown)


@pytest.fixture
def fragments(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Callable[[], None], float]]:
    """What the page runs every so many seconds: (function, seconds), in the order begun."""
    begun: list[tuple[Callable[[], None], float]] = []

    def fragment(function: Callable[[], None], run_every: float) -> Callable[[], None]:
        begun.append((function, run_every))
        return function

    monkeypatch.setattr("streamlit.fragment", fragment)
    return begun


def test_it_asks_again_by_itself_and_shows_what_then_answers(
    monkeypatch: pytest.MonkeyPatch,
    serving: Callable[..., Any],
    toy_index: Path,
    free_port: Callable[[], int],
    fragments: list[tuple[Callable[[], None], float]],
) -> None:
    port, reruns = free_port(), []
    monkeypatch.setenv("LOOKALIKE_API", f"http://127.0.0.1:{port}")
    test = AppTest.from_file(str(PAGE), default_timeout=30).run()
    assert any("the page goes on by itself" in text.value for text in test.markdown)
    ((ask_again, seconds),) = fragments
    assert seconds == 3
    monkeypatch.setattr("streamlit.rerun", lambda: reruns.append(None))
    ask_again()
    assert not reruns, "nothing answers"
    with serving(create_app(Searcher(toy_index)), port) as url:
        with Client(url, attempts=8) as client:
            client.index()  # it is ready
        ask_again()
        assert len(reruns) == 1
        assert said(test.run()) == ""
    assert len(fragments) == 1


def test_it_asks_less_and_less_often_where_only_the_index_answers(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, fragments: list[tuple[Callable[[], None], float]]
) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise UnreachableError("No answer to this question.", code="unreachable")

    with monkeypatch.context() as broken:
        broken.setattr(Client, "object", silent)
        test = page(id="blob-001")
        for _ in range(5):
            assert "No answer to this question" in said(test)
            test.run()
        assert [seconds for _, seconds in fragments] == [6, 12, 24, 48, 60, 60]
    assert said(test.run()) == ""
    with monkeypatch.context() as broken:
        broken.setattr(Client, "object", silent)
        test.run()
    assert fragments[-1][1] == 6, "after a page that was whole it begins anew"


def test_starting_it_says_when_nothing_answers(
    serving: Callable[..., Any],
    toy_index: Path,
    free_port: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, command: started.append(command))
    run_app("http://127.0.0.1:9", free_port())
    told = capsys.readouterr().err
    assert told.startswith("Warning: No service answers at http://127.0.0.1:9 ")
    assert "lookalike serve INDEX" in told
    with serving(create_app(Searcher(toy_index))) as url:
        run_app(url, free_port())
    assert "Warning" not in capsys.readouterr().err
    assert len(started) == 2  # the page starts all the same


def test_an_address_that_is_none_is_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_API", "localhost")
    assert "'localhost' was given" in said(AppTest.from_file(str(PAGE), default_timeout=30).run())
