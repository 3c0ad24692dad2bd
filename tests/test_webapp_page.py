"""The page's logic without a browser: what each address leads to, on a real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import lookalike.webapp
from lookalike.indexer.search import Searcher
from lookalike.service import create_app

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


def test_a_service_that_is_down_is_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_API", "http://127.0.0.1:9")
    test = AppTest.from_file(str(PAGE), default_timeout=30).run()
    assert "No service answers at http://127.0.0.1:9" in said(test)
    assert any("lookalike serve" in text.value for text in test.markdown)


def test_an_address_that_is_none_is_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_API", "localhost")
    assert "'localhost' was given" in said(AppTest.from_file(str(PAGE), default_timeout=30).run())
