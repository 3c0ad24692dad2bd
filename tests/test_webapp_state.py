"""The page's address, and what the gallery is given: plain values, escaped by nobody because made into no markup."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.client import Index, NeighborRow, Neighbors, Object
from lookalike.errors import InputError
from lookalike.webapp import gallery
from lookalike.webapp.run import app_command, check_port
from lookalike.webapp.state import MAX_PAGE, NUMBERS, TRAIL, State

IDS = st.from_regex(r"[A-Za-z0-9._:+-]{1,64}", fullmatch=True).filter(lambda name: set(name) != {"."})
STATES = st.builds(
    State,
    id=st.none() | IDS,
    number=st.sampled_from(NUMBERS),
    page=st.integers(1, 1000),
    keep_overlap=st.booleans(),
    trail=st.lists(IDS, max_size=TRAIL, unique=True).map(tuple),
)


@given(STATES)
def test_a_state_survives_its_address(state: State) -> None:
    assert State.from_query(state.to_query()) == state


@given(st.dictionaries(st.sampled_from(["id", "n", "page", "overlap", "via", "x"]), st.text(max_size=90)))
def test_any_address_is_read_or_refused(query: dict[str, str]) -> None:
    with contextlib.suppress(InputError):
        State.from_query(query)


@given(STATES, st.lists(IDS, min_size=1, max_size=9))
def test_the_trail_leads_back(state: State, names: list[str]) -> None:
    for name in names:
        before = state
        state = state.to(name)
        assert (state.id, state.page, state.number) == (name, 1, before.number)
        assert len(state.trail) <= TRAIL
        assert name not in state.trail or before.id == name
        if before.id and before.id != name and name not in before.trail:
            assert state.trail[-1] == before.id


def test_going_back_along_the_trail_shortens_it() -> None:
    state = State().to("a").to("b").to("c")
    assert state.trail == ("a", "b")
    assert state.to("a") == State("a")
    assert state.to("b") == State("b", trail=("a",))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"n": "17"}, "n is one of 16, 25"),
        ({"n": "²"}, "whole number"),
        ({"n": "-1"}, "whole number"),
        ({"n": "nan"}, "whole number"),
        ({"page": "0"}, "from 1 to 1000"),
        ({"page": "99999999999"}, "whole number"),
        ({"overlap": "maybe"}, "Choices: hide, keep"),
        ({"id": "<b>"}, "A-Z a-z 0-9"),
        ({"id": "a" * 65}, "1 to 64"),
        ({"via": "a,<b>"}, "A-Z a-z 0-9"),
        ({"idd": "a"}, "Did you mean 'id'"),
    ],
)
def test_wrong_addresses_name_rule_and_choices(query: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        State.from_query(query)
    assert words in caught.value.message


@given(st.dictionaries(st.sampled_from(["id", "n", "page", "overlap", "via", "x"]), st.text(max_size=90)))
def test_wrong_parts_of_an_address_spoil_no_right_one(query: dict[str, str]) -> None:
    right = {"id": "blob-001", "page": "2"}
    state = State.readable({name: text for name, text in query.items() if name not in right} | right)
    assert (state.id, state.page) == ("blob-001", 2)


def about(**changes: object) -> Index:
    values = {
        "index_version": "v000001",
        "revision": "0" * 16,
        "objects": 200,
        "k": 60,
        "window": {"column": "mag", "log": False, "half_width": 0.5, "unit": "mag"},
        "counts": {},
        "domain": "galaxy",
        "bands": ["r"],
        "shape": [1, 8, 8],
        "pixel_scale": None,
        "source": "<b>source</b>",
        "license": "",
        "stretches": ["auto"],
        "has_footprints": True,
        "columns": {"mag": {"unit": "mag", "description": "brightness"}, "n": {"unit": "", "description": ""}},
        "hashes": {"index": "ab" * 32},
        "audit": None,
        "limits": {"max_sheet_objects": 100, "max_sheet_pixels": 1000, "max_picture": 64},
        "software": "0",
    }
    return Index.model_validate(values | changes)


def found(**changes: object) -> Neighbors:
    row = {"rank": 1, "id": "b", "row": 1, "similarity": 0.99999, "catalog": {"mag": 20.126, "n": 2**60}}
    values = {
        "query": {"id": "a"},
        "results": [row],
        "k": 36,
        "offset": 0,
        "source": "stored",
        "window": {"column": "mag", "log": False, "half_width": 0.5, "unit": "mag", "center": 20.0},
        "left_out": {"overlapping": 3, "max_overlap": 0.25},
        "units": {"mag": "mag", "n": ""},
        "notes": ["a note"],
        "index_version": "v000001",
        "revision": "0" * 16,
    }
    return Neighbors.model_validate(values | changes)


QUERY = Object(
    id="a",
    row=0,
    catalog={"mag": None, "n": 2**60},
    units={"mag": "mag", "n": ""},
    index_version="v000001",
    revision="0" * 16,
)


def plain(value: object) -> bool:
    """Whether Streamlit passes this on unchanged: no NumPy, no NaN, no integer a browser would round."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (str, bool) or (type(value) is int and abs(value) < 2**53)


def test_the_gallery_is_given_plain_values() -> None:
    data = gallery.result_data("http://x", about(), QUERY, found(), State("a", trail=("z",)))
    assert plain(data)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert plain(gallery.welcome_data("http://x", about(), [QUERY], State()))


def test_values_are_shown_as_people_read_them() -> None:
    data = gallery.result_data("http://x", about(), QUERY, found(), State("a"))
    assert [(fact["name"], fact["value"]) for fact in data["query"]["facts"]] == [("mag", "–"), ("n", str(2**60))]
    assert data["tiles"][0]["score"] == "0.999"  # not 1.000: the vectors differ
    assert data["tiles"][0]["value"] == "20.13 mag"
    assert data["tiles"][0]["label"] == f"1: b, similarity 0.999, mag 20.13 mag, n {2**60}"


def test_similarity_is_never_rounded_up() -> None:
    shown = {1.0: "1.000", 0.9999999: "0.999", 0.57: "0.570", 1e-9: "0.000", -0.5: "−0.500", 0.25: "0.250"}
    for value, text in shown.items():
        assert gallery.similarity(NeighborRow(rank=1, id="a", row=0, similarity=value, catalog={})) == text


def test_the_overlap_rule_is_said_with_its_count() -> None:
    def notes(state: State, index: Index | None = None, **changes: object) -> str:
        return " ".join(gallery.notes(index or about(), found(**changes), state))

    assert "3 more similar objects are left out: their cutouts share more than 25%" in notes(State("a"))
    one = notes(State("a"), left_out={"overlapping": 1, "max_overlap": 0.25})
    assert "1 more similar object is left out: its cutout shares" in one
    assert "None left out" in notes(State("a"), left_out={"overlapping": 0, "max_overlap": 0.25})
    off = {"overlapping": 0, "max_overlap": None}
    assert "shown too" in notes(State("a", keep_overlap=True), left_out=off)
    assert "cutout" not in notes(State("a"), about(has_footprints=False), left_out=off)
    assert "Within mag ± 0.5 mag" in notes(State("a"))
    assert "live search" in notes(State("a"), source="live")
    assert "more than 12.5% of" in notes(State("a"), left_out={"overlapping": 3, "max_overlap": 0.125})


def test_pages_lead_both_ways() -> None:
    links = gallery.pages(found(), State("a", page=2, trail=("z",)), more=True)
    assert [link["link"] for link in links] == [{"id": "a", "via": "z"}, {"id": "a", "page": "3", "via": "z"}]
    assert gallery.pages(found(), State("a"), more=False) == []
    last = gallery.pages(found(), State("a", page=MAX_PAGE), more=True)
    assert [link["link"]["page"] for link in last] == [str(MAX_PAGE - 1)], "the address after it would be refused"


def test_assets_have_newlines_and_make_no_markup() -> None:
    folder = Path(gallery.__file__).parent
    for name in ("gallery.js", "gallery.css", "page.css"):
        assert "\n" in (folder / name).read_text()  # a single line would be taken for a path
    script = (folder / "gallery.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "addEventListener", "eval(", "http://", "https://"):
        assert word not in script


def test_the_command_is_loopback_and_quiet() -> None:
    command = app_command("http://127.0.0.1:8000/", 8501)
    assert command[1:4] == ["-m", "streamlit", "run"]
    for option in (
        "--server.address=127.0.0.1",
        "--server.port=8501",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--server.fileWatcherType=none",
        "--server.maxUploadSize=10",
        "--server.allowedHosts=127.0.0.1",
        "--server.allowedHosts=localhost",
        "--server.allowedHosts=::1",
    ):
        assert option in command
    assert command[-5:] == ["--", "--api", "http://127.0.0.1:8000", "--max-overlap", "0.25"]
    assert app_command("http://127.0.0.1:8000", 8501, max_overlap=0.5)[-1] == "0.5"
    with pytest.raises(InputError, match=r"1\.5"):
        app_command("http://127.0.0.1:8000", 8501, max_overlap=1.5)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:8000"):
        app_command("localhost", 8501)


def test_a_taken_port_is_named() -> None:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port}"):
            check_port(port)
    with pytest.raises(InputError, match="70000"):
        check_port(70000)
