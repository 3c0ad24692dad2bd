"""The page: type an id or take a random object, see its neighbors, click one to go on from there.

Started by `lookalike app`; by hand: LOOKALIKE_API=http://127.0.0.1:8000 streamlit run lookalike/webapp/page.py
The address is the only state, so that a reload, a bookmark and the browser's back button show the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import streamlit as st

from lookalike.client import ApiError, Client, Index, Object, UnreachableError
from lookalike.errors import InputError, LookalikeError
from lookalike.webapp import gallery
from lookalike.webapp.state import MAX_OVERLAP, NUMBERS, State
from lookalike.wording import counted

EXAMPLES = 12
ASKED_EVERY, AT_MOST = 3.0, 60.0  # seconds between two questions to a service that does not answer
# Drawn here: an icon by name would be fetched from another host.
ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='8' fill='#12151a'/>"
    "<circle cx='12' cy='16' r='6' fill='#5cc2a8'/><circle cx='22' cy='16' r='4.5' fill='#5cc2a8' opacity='.55'/></svg>"
)
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def api_address() -> str:
    """Where the API answers, for this process and for the browser: after `--api`, else LOOKALIKE_API."""
    if "--api" in sys.argv[:-1]:
        given = sys.argv[sys.argv.index("--api") + 1]
    else:
        given = os.environ.get("LOOKALIKE_API", "http://127.0.0.1:8000")
    return given.rstrip("/")


def overlap_limit() -> float:
    """The largest share of the query's footprint a result may cover: after `--max-overlap`, else MAX_OVERLAP."""
    if "--max-overlap" in sys.argv[:-1]:
        return float(sys.argv[sys.argv.index("--max-overlap") + 1])
    return MAX_OVERLAP


@st.cache_resource(max_entries=4, on_release=Client.close)
def connect(api: str) -> Client:
    """One client for all visitors."""
    return Client(api, timeout=20)


@st.cache_resource(ttl=30, max_entries=4)
def load_index(api: str) -> Index:
    return connect(api).index()


@st.cache_resource(max_entries=4)
def load_examples(api: str, revision: str) -> list[Object]:
    """A few objects to begin with, the same for every visitor."""
    drawn = {found.id: found for found in (connect(api).random(seed) for seed in range(EXAMPLES))}
    return list(drawn.values())


def go(state: State) -> None:
    """Show another state: one change of the address, so one step of the browser's history."""
    st.query_params.from_dict(state.to_query())


def current() -> State:
    """The state the address asks for; what is wrong in it is left out here and reported by `main`."""
    return State.readable(st.query_params.to_dict())


def on_search() -> None:
    wanted = st.session_state["id_box"].strip()
    if not wanted:
        go(replace(current(), id=None, page=1, trail=()))
    elif wanted != current().id:
        # Shown in the address even if it is no id: the page then says what is wrong with it.
        st.query_params.from_dict(current().to(wanted).to_query())


def on_random() -> None:
    try:
        go(current().to(connect(api_address()).random().id))
    except LookalikeError as error:
        st.session_state["trouble"] = error.message


def on_number() -> None:
    go(replace(current(), number=st.session_state["number"], page=1))


def on_overlap() -> None:
    go(replace(current(), keep_overlap=not st.session_state["hide_overlap"], page=1))


def on_pick() -> None:
    chosen = gallery.picked()
    if chosen is not None:
        st.query_params.from_dict(chosen)


def head() -> None:
    st.html(f"<style>{STYLE}</style>")
    st.html("<h1 class='brand'>lookalike</h1><p class='tagline'>Find the objects that look like yours.</p>")


def fitting(index: Index) -> list[int]:
    """How many results a page may have within the service's limits."""
    return [number for number in NUMBERS if number <= index.limits["max_k"]] or [NUMBERS[0]]


def controls(index: Index, state: State, typed: str) -> None:
    """The search box and the choices; their values always follow the address."""
    st.session_state["id_box"] = typed
    numbers = fitting(index)
    st.session_state["number"] = max((number for number in numbers if number <= state.number), default=numbers[0])
    st.session_state["hide_overlap"] = not state.keep_overlap
    with st.container(horizontal=True, vertical_alignment="center", key="controls"):
        st.text_input(
            "Object id",
            key="id_box",
            max_chars=64,
            placeholder="Object id",
            label_visibility="collapsed",
            on_change=on_search,
            width=260,
        )
        st.button("Search", on_click=on_search, type="primary", key="search")
        st.button("Random object", on_click=on_random, icon=":material/casino:", key="random")
        st.selectbox(
            "Results",
            numbers,
            key="number",
            format_func=lambda n: f"{n} results",
            label_visibility="collapsed",
            on_change=on_number,
            width=135,
        )
        if index.has_footprints:
            st.toggle(
                "Leave out overlaps",
                key="hide_overlap",
                on_change=on_overlap,
                help=f"Results whose cutout shares more than {gallery.percent(overlap_limit())} of the query's show "
                "the same pixels and are similar for that reason alone.",
            )


def trouble(what: str, message: str, advice: str, again: str = "Try again") -> None:
    """A box that says what happened and what to do; the message is shown as plain text."""
    with st.container(border=True, key="trouble"):
        st.markdown(f"**{what}**")
        st.text(message)
        st.markdown(advice)
        if again == "Try again":
            st.button(again, on_click=load_index.clear)
        else:
            st.button(again, on_click=lambda: go(State()))


def wait_for_service(failures: int = 0) -> None:
    """Ask every few seconds, and show the page as soon as the service answers.

    failures : how often in a row it answered and the page failed all the same; each doubles the time to the next try.
    """
    st.session_state["just_asked"], st.session_state["failures"] = True, failures
    st.fragment(ask_again, run_every=min(ASKED_EVERY * 2.0 ** min(failures, 10), AT_MOST))()


def ask_again() -> None:
    """Run the page anew if the service answers by now."""
    if st.session_state.pop("just_asked", False):  # the script's own run, which has just found it silent
        return
    try:
        with Client(api_address(), timeout=ASKED_EVERY, attempts=1) as client:
            client.index()
    except LookalikeError:
        return
    st.rerun()


def explain(error: LookalikeError, failures: int = 0) -> None:
    """Say what an error of the service means for the person at the page; `failures` as for `wait_for_service`."""
    if error.code == "unreachable" or (isinstance(error, ApiError) and error.status == 503):
        wait_for_service(failures)
    if isinstance(error, UnreachableError):
        advice = (
            "Start it with `lookalike serve INDEX`, or give this page the address of one that runs. Once it answers, "
            "the page goes on by itself."
        )
        trouble("The search service does not answer.", error.message, advice)
    elif isinstance(error, ApiError) and error.code == "unknown_id":
        trouble("No such object.", error.message, "Check the id, or take a random object.", "Start page")
    elif isinstance(error, ApiError) and error.status == 503:
        trouble("The search service is starting.", error.message, "Wait a moment.")
    elif isinstance(error, ApiError) and error.request_id:
        trouble("The search service refused this.", error.message, f"Its log knows it as request {error.request_id}.")
    else:
        trouble("This did not work.", error.message, "Check the address of the service.")


def results(api: str, index: Index, state: State) -> None:
    """The object asked for and its neighbors."""
    assert state.id is not None
    client = connect(api)
    found_object = client.object(state.id)
    if found_object.revision != index.revision:  # another index is served meanwhile
        load_index.clear()
        index = load_index(api)
    number = min(state.number, index.limits["max_k"])
    offset = (state.page - 1) * number
    if offset >= index.objects:
        raise InputError(f"Page {state.page} of {number} lies beyond the last of {counted(index.objects, 'object')}.")
    max_overlap = overlap_limit() if index.has_footprints and not state.keep_overlap else None
    columns = list(index.columns)[: index.limits["max_columns"]]
    found = client.neighbors(state.id, min(number, max(1, index.objects - 1)), offset, max_overlap, columns)
    more = len(found.results) == number and has_more(client, index, state.id, offset + number, max_overlap)
    gallery.show(gallery.result_data(api, index, found_object, found, state, more), on_pick)


def has_more(client: Client, index: Index, name: str, shown: int, max_overlap: float | None) -> bool:
    """Whether there are results after the first `shown`; presumed where only a live search could tell."""
    if shown >= min(index.objects - 1, index.limits["max_offset"] + 1):
        return False
    return shown == index.k or bool(client.neighbors(name, 1, shown, max_overlap).results)


def main() -> None:
    wanted = st.query_params.get("id", "")
    title = f"{wanted[:64]} · lookalike" if wanted else "lookalike"
    st.set_page_config(page_title=title, page_icon=ICON, layout="wide")
    head()
    api = api_address()
    try:
        index = load_index(api)
    except (ApiError, UnreachableError) as error:
        explain(error)
        return
    except InputError as error:
        trouble("This page was given no address to ask.", error.message, "Start it with `lookalike app --api URL`.")
        return
    try:
        controls(index, current(), wanted[:64])
        said = st.session_state.pop("trouble", None)
        if said:
            trouble("The search service does not answer.", said, "Start it with `lookalike serve INDEX`.")
            wait_for_service()
            return
        state = State.from_query(st.query_params.to_dict())
        if state.id is None:
            data = gallery.welcome_data(api, index, load_examples(api, index.revision), state)
            gallery.show(data, on_pick)
        else:
            results(api, index, state)
        st.session_state.pop("failures", None)
    except (ApiError, UnreachableError) as error:
        # The index was there, and may be all that answers: asking for it says little of the next try.
        explain(error, st.session_state.get("failures", 0) + 1)
    except InputError as error:
        trouble("The address of this page asks for something that does not exist.", error.message, "", "Start page")


main()
