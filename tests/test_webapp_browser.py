"""The page in a real headless Chromium, on a real index behind a real service."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from lookalike.indexer.own_vectors import index_vectors
from lookalike.webapp.run import app_command

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium chromium-driver"
expect.set_options(timeout=30_000)  # ms; a loaded machine is no failure

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SLOW = 30_000  # ms: the first load on a busy machine


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; without it the tests skip on a user's machine and fail in CI."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        message = f"no Chromium on this machine; the browser tests need one: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


class Server:
    """A server in a process group of its own, which can be killed and started again."""

    def __init__(self, command: list[str], health: str, log: Path) -> None:
        self.command, self.health, self.log = command, health, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.health, trust_env=False).status_code == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"{self.command} did not start: {self.log.read_text()}")

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Site:
    url: str
    api: str
    service: Server
    app: Server


@pytest.fixture(scope="session")
def site(
    chromium: str, toy_index: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Site]:
    with running(toy_index, tmp_path_factory.mktemp("site"), free_port) as started:
        yield started


@pytest.fixture
def site_of_vectors(chromium: str, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """One of vectors and a table, without pictures."""
    rng = np.random.default_rng(5)
    np.save(tmp_path / "v.npy", rng.normal(size=(40, 6)))
    rows = [f"star-{i:02d},{20 + i / 100},<b>{i}</b>" for i in range(40)]
    (tmp_path / "t.csv").write_text("name,mag,label\n" + "\n".join(rows) + "\n")
    index = tmp_path / "index"
    index_vectors(
        tmp_path / "v.npy", index, catalog=tmp_path / "t.csv", id_column="name", k=9, window="mag:0.2", quiet=True
    )
    with running(index, tmp_path, free_port) as started:
        yield started


@contextlib.contextmanager
def running(index: Path, folder: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """Service and page of an index; neither may have failed in the end."""
    api_port, app_port = free_port(), free_port()
    api, url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{app_port}"
    serve = [sys.executable, "-m", "lookalike", "serve", str(index), "--port", str(api_port)]
    service = Server(serve, f"{api}/readyz", folder / "service.log")
    app = Server(app_command(api, app_port), f"{url}/_stcore/health", folder / "app.log")
    try:
        service.start()
        app.start()
        yield Site(url, api, service, app)
    finally:
        app.kill()
        service.kill()
    log = (folder / "app.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def profiles(chromium: str) -> Iterator[Callable[[float], Any]]:
    """One browser with one profile for each kind of screen: Streamlit's own files are fetched once for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield cache(lambda ratio: running.new_context(device_scale_factor=ratio))
        running.close()


class Visit:
    """One tab, and everything its browser complained of."""

    def __init__(self, site: Site, page: Any) -> None:
        self.site, self.page = site, page
        self.complaints: list[str] = []
        self.outside: list[str] = []
        self.page.set_default_timeout(SLOW)
        self.page.on("dialog", self._dialog)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._request)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not re.match(r"(https?|ws)://127\.0\.0\.1:|data:|blob:", request.url):
            self.outside.append(request.url)

    def open(self, query: str = "") -> Visit:
        self.page.goto(f"{self.site.url}/{query}")
        return self

    def painted(self, query: str | None = None) -> Visit:
        """Wait until the gallery shows `query` (any object with None) with all its pictures."""
        wanted = ".gallery[data-painted]" if query is None else f".gallery[data-query='{query}'][data-painted]"
        self.page.wait_for_selector(wanted)
        self.page.wait_for_function(
            """wanted => { const host = [...document.querySelectorAll('*')].find(
                   (e) => e.shadowRoot && e.shadowRoot.querySelector(wanted));
                 const g = host && host.shadowRoot.querySelector('.gallery');
                 return g && g.dataset.painted === g.dataset.drawn; }""",
            arg=wanted,
        )
        return self

    @property
    def query(self) -> str:
        return str(self.page.locator(".gallery").get_attribute("data-query"))

    @property
    def ids(self) -> list[str]:
        return list(self.page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)"))

    def focused(self) -> str:
        """The id of the picture that has the keyboard's focus, '' if none has."""
        return str(
            self.page.evaluate(
                """() => { let e = document.activeElement;
                    while (e && e.shadowRoot) e = e.shadowRoot.activeElement;
                    return (e && e.dataset && e.dataset.id) || ''; }"""
            )
        )


Open = Callable[..., Visit]


@pytest.fixture
def visit(site: Site, profiles: Callable[[float], Any]) -> Iterator[Open]:
    visits = []

    def new(width: int = 1280, height: int = 860, scheme: str = "light", ratio: float = 1) -> Visit:
        page = profiles(ratio).new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        visits.append(Visit(site, page))
        return visits[-1]

    yield new
    for one in visits:
        one.page.close()
        assert one.complaints == []
        assert one.outside == [], "the page must not call other hosts"


def expected(site: Site, name: str, k: int = 36) -> list[str]:
    found = httpx.get(f"{site.api}/v1/objects/{name}/neighbors?k={k}&max_overlap=0.25", trust_env=False).json()
    return [row["id"] for row in found["results"]]


def test_the_start_page_leads_on_without_knowledge(visit: Open) -> None:
    one = visit().open().painted("")
    assert len(one.ids) >= 10
    first = one.ids[0]
    one.page.locator(".tile").first.click()
    one.painted(first)
    assert f"id={first}" in one.page.url


def test_a_random_object_is_shown_with_its_columns_and_neighbors(visit: Open, site: Site) -> None:
    one = visit().open().painted()
    one.page.get_by_role("button", name="Random object").click()
    one.page.wait_for_url(re.compile("id=blob-"))
    while "id=blob-007" in one.page.url:  # one in 200: it has no magnitude, and so no neighbors to be painted
        one.page.get_by_role("button", name="Random object").click()
        one.page.wait_for_url(re.compile("id=blob-(?!007)"))
    name = one.page.url.split("id=")[1].split("&")[0]
    one.painted(name)
    assert one.ids == expected(site, name)
    facts = one.page.locator(".facts").inner_text()
    for words in ("mag", "size", "px", "label"):
        assert words in facts
    assert re.search(r"0\.\d{3}", one.page.locator(".tile").first.inner_text())
    assert "25%" in one.page.locator(".notes").inner_text()
    assert "Within mag ± 0.5 mag" in one.page.locator(".notes").inner_text()
    about = one.page.locator(".about").inner_text()
    for words in ("200 objects", "v000001", "mag ± 0.5"):
        assert words in about


def test_clicking_a_neighbor_searches_from_it_and_back_works(visit: Open, site: Site) -> None:
    one = visit().open("?id=blob-001").painted("blob-001")
    picture = one.page.locator(".frame img").get_attribute("src")
    path = ["blob-001"]
    for _ in range(2):
        path.append(one.ids[2])
        one.page.locator(".tile").nth(2).click()
        one.painted(path[-1])
        assert f"id={path[-1]}" in one.page.url
        assert one.ids == expected(site, path[-1])
    assert one.page.locator(".frame img").get_attribute("src") != picture
    for name in reversed(path[:-1]):
        one.page.go_back()
        one.painted(name)
        assert f"id={name}" in one.page.url
    assert one.page.locator(".frame img").get_attribute("src") == picture
    one.page.go_forward()
    one.painted(path[1])
    one.page.get_by_label("Back to blob-001").click()
    one.painted("blob-001")
    assert one.page.locator(".trail").count() == 0


def test_a_reload_shows_the_same(visit: Open) -> None:
    one = visit().open("?id=blob-005").painted("blob-005")
    one.page.locator(".tile").nth(3).click()
    one.page.wait_for_url(re.compile("via="))
    name = one.page.url.split("id=")[1].split("&")[0]
    one.painted(name)
    before = (one.page.url, one.ids, one.page.locator(".gallery").inner_text())
    one.page.reload()
    one.painted(name)
    assert (one.page.url, one.ids, one.page.locator(".gallery").inner_text()) == before


def test_typing_an_id_searches(visit: Open) -> None:
    one = visit().open().painted()
    box = one.page.get_by_role("textbox", name="Object id")
    box.fill(" blob-042 ")
    box.press("Enter")
    one.painted("blob-042")
    assert "id=blob-042" in one.page.url
    box.fill("blob-043")
    one.page.get_by_role("button", name="Search", exact=True).click()
    one.painted("blob-043")
    assert one.page.get_by_role("textbox", name="Object id").input_value() == "blob-043"
    one.page.go_back()
    one.painted("blob-042")
    assert one.page.get_by_role("textbox", name="Object id").input_value() == "blob-042"


def test_the_number_of_results_and_pages(visit: Open, site: Site) -> None:
    one = visit().open("?id=blob-001").painted("blob-001")
    one.page.get_by_role("combobox", name="Results").click()
    one.page.get_by_role("option", name="16 results").click()
    one.page.wait_for_url(re.compile("n=16"))
    one.page.wait_for_function(
        """() => [...document.querySelectorAll('*')].some(
               (e) => e.shadowRoot && e.shadowRoot.querySelectorAll('.tile').length === 16)"""
    )
    everything = expected(site, "blob-001", 48)
    assert one.ids == everything[:16]
    one.page.get_by_text("Next 16").click()
    one.page.wait_for_url(re.compile("page=2"))
    one.page.get_by_text("Previous 16").wait_for()
    assert one.ids == everything[16:32]
    one.page.get_by_text("Previous 16").click()
    one.page.get_by_text("Previous 16").wait_for(state="detached")
    assert one.ids == everything[:16]


def test_the_overlap_rule_can_be_switched_off(visit: Open) -> None:
    one = visit().open("?id=blob-001").painted("blob-001")
    one.page.get_by_text("Leave out overlaps").click()
    one.page.wait_for_url(re.compile("overlap=keep"))
    one.page.get_by_text("Overlapping cutouts are shown too").wait_for()


def test_the_keyboard_reaches_everything(visit: Open) -> None:
    one = visit().open("?id=blob-001").painted("blob-001")
    one.page.locator(".tile").first.focus()
    across = len(one.page.locator(".grid").evaluate("e => getComputedStyle(e).gridTemplateColumns").split(" "))
    for key, place in (
        ("ArrowRight", 1),
        ("ArrowDown", 1 + across),
        ("ArrowLeft", across),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
        ("End", len(one.ids) - 1),
        ("Home", 0),
        ("ArrowRight", 1),
    ):
        one.page.keyboard.press(key)
        assert one.focused() == one.ids[place], key
    outline = one.page.locator(".tile").nth(1).evaluate("e => getComputedStyle(e).outlineWidth")
    assert outline == "3px"
    wanted = one.ids[1]
    one.page.keyboard.press("Enter")
    one.painted(wanted)
    assert one.focused() == one.ids[0], "the focus stays in the grid"
    label = one.page.locator(".tile").first.get_attribute("aria-label")
    assert re.match(r"1: blob-\d{3}, similarity 0\.\d{3}, .*mag \d+\.\d\d mag", str(label))


def test_a_wrong_address_says_what_is_wrong_and_leads_on(visit: Open) -> None:
    one = visit()
    for query, words in (
        ("?id=<img src=x onerror=alert(1)>", "A-Z a-z 0-9"),
        ("?id=[x](javascript:alert(1))", "A-Z a-z 0-9"),
    ):
        one.open(query)
        box = one.page.locator(".st-key-trouble")
        box.get_by_text(words).wait_for()
        assert "Traceback" not in one.page.locator("body").inner_text()
        assert box.locator("a, img, script").count() == 0
    box.get_by_role("button", name="Start page").click()
    one.painted("")
    assert "?" not in one.page.url


def test_hostile_text_stays_text(visit: Open, site: Site) -> None:
    one = visit().open("?id=blob-000").painted("blob-000")  # its label is <img src=x onerror=alert(1)>
    assert "<img src=x onerror=alert(1)>" in one.page.locator(".facts").inner_text()
    assert "Blobs <b>drawn</b> for the tests" in one.page.locator(".about").inner_text()
    one.page.locator(".tile").first.hover()
    assert one.page.locator(".gallery script, .gallery b b, .about b, .facts img").count() == 0


def test_an_object_without_neighbors_says_why(visit: Open) -> None:
    one = visit().open("?id=blob-007")
    one.page.get_by_text("There is nothing to show here.").wait_for()
    assert "mag" in one.page.locator(".notes").inner_text()
    assert one.page.locator(".facts").inner_text().count("–") == 1


# How many pictures lie side by side.
ACROSS = """() => { const host = [...document.querySelectorAll('*')].find(
        (e) => e.shadowRoot && e.shadowRoot.querySelector('.grid'));
    return host && getComputedStyle(host.shadowRoot.querySelector('.grid')).gridTemplateColumns.split(' ').length; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_in_light_and_dark(visit: Open, scheme: str) -> None:
    one = visit(1280, 900, scheme).open("?id=blob-001&via=blob-002,blob-003").painted("blob-001")
    paper = one.page.locator(".stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 600) == (scheme == "light")
    for width, expected_across, least in ((390, 3, 0.88), (1280, 7, 0.68), (2560, 8, 0.7)):
        one.page.set_viewport_size({"width": width, "height": 900})
        one.page.wait_for_function(f"() => innerWidth === {width} && ({ACROSS})() === {expected_across}")
        widths = one.page.evaluate(
            "() => [document.documentElement, document.querySelector('[data-testid=stMain]')].map(e => e.scrollWidth)"
        )
        assert max(widths) <= width, "nothing scrolls sideways"
        grid = one.page.locator(".grid").bounding_box()
        assert grid is not None
        assert grid["width"] > least * width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_objects_without_pictures_are_cards(
    site_of_vectors: Site, profiles: Callable[[float], Any], scheme: str
) -> None:
    one = Visit(site_of_vectors, profiles(1).new_page())
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url))
    one.page.emulate_media(color_scheme=scheme)
    one.page.set_viewport_size({"width": 1280, "height": 860})
    one.open("?id=star-07&via=star-03")
    one.page.wait_for_selector(".gallery[data-query='star-07'] .tile")
    listed = httpx.get(f"{site_of_vectors.api}/v1/objects/star-07/neighbors?k=9", trust_env=False).json()["results"]
    assert one.ids[:9] == [row["id"] for row in listed]
    card = one.page.locator(".tile").first
    assert card.locator(".name").inner_text() == listed[0]["id"]
    assert card.locator("b").inner_text().replace("−", "-")[:4] == f"{listed[0]['similarity']:.6f}"[:4]
    assert card.locator(".fact").all_inner_texts()[0].split() == ["mag", f"{20 + listed[0]['row'] / 100:.2f}"]
    assert f"<b>{listed[0]['row']}</b>" in card.inner_text()
    for width in (390, 1280):
        one.page.set_viewport_size({"width": width, "height": 860})
        assert one.page.evaluate("() => document.documentElement.scrollWidth") <= width
        boxes = one.page.locator(".tile").evaluate_all(
            "e => e.map((tile) => [tile.scrollWidth <= tile.clientWidth, tile.clientWidth])"
        )
        assert all(fits and wide >= 140 for fits, wide in boxes)
    card.click()
    one.page.wait_for_selector(f".gallery[data-query='{listed[0]['id']}'] .tile")
    assert one.page.locator("img").count() == 0
    assert not [url for url in asked if "thumbnail" in url or "contact-sheet" in url]
    assert one.page.locator(".trouble").is_hidden()
    one.page.close()
    assert (one.complaints, one.outside) == ([], [])


def test_pictures_are_as_sharp_as_the_screen(visit: Open) -> None:
    one = visit(1280, 860, "light", ratio=2).open("?id=blob-001").painted("blob-001")
    image, width = one.page.locator(".frame img").evaluate("e => [e.naturalWidth, e.clientWidth]")
    assert image >= 2 * width
    sheet, tile = one.page.locator(".picture").first.evaluate(
        "e => [Number(/size=(\\d+)/.exec(e.style.backgroundImage)[1]), e.clientWidth]"
    )
    assert sheet >= 2 * tile


def test_a_reload_asks_for_no_picture_again(visit: Open) -> None:
    one = visit().open("?id=blob-001&via=blob-002").painted("blob-001")
    browser_side = one.page.context.new_cdp_session(one.page)
    browser_side.send("Network.enable")
    asked: dict[str, str] = {}
    kept: set[str] = set()
    browser_side.on("Network.requestWillBeSent", lambda e: asked.update({e["requestId"]: e["request"]["url"]}))
    browser_side.on("Network.requestServedFromCache", lambda e: kept.add(e["requestId"]))
    browser_side.on(
        "Network.responseReceived", lambda e: kept.add(e["requestId"]) if e["response"]["fromDiskCache"] else None
    )
    one.page.reload()
    one.painted("blob-001")
    pictures = {request for request, url in asked.items() if ".jpg?" in url}
    assert len(pictures) >= 3
    assert pictures <= kept


def test_a_service_that_stops_is_said_and_comes_back(visit: Open, site: Site) -> None:
    one = visit().open("?id=blob-001").painted("blob-001")
    site.service.kill()
    try:
        one.page.locator(".tile").nth(1).click()
        box = one.page.locator(".st-key-trouble")
        # The page fills in piece by piece: each text is waited for.
        expect(box).to_contain_text("does not answer")
        expect(box).to_contain_text("lookalike serve")
        advice = one.page.get_by_text("or give this page the address")  # said of the click, not of the button
        expect(advice).to_have_count(1)
        one.page.get_by_role("button", name="Random object").click()
        expect(advice).to_have_count(0)
        expect(box).to_contain_text("does not answer")
        expect(one.page.locator("body")).not_to_contain_text("Traceback")
    finally:
        site.service.start()
    one.painted()  # without a click


def test_a_click_is_answered_quickly_and_prints_how(visit: Open, site: Site) -> None:
    one = visit().open("?id=blob-001&n=100").painted("blob-001")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        wanted = one.ids[1]
        one.page.locator(".tile").nth(1).click()
        one.painted(wanted)
        times.append(time.perf_counter() - start)
        assert one.ids == expected(site, wanted, 100)
    median = sorted(times)[1]
    print(f"click to 100 pictures painted: {median * 1000:.0f} ms (median of 3)")
    assert median < 5, "some 0.5 s on a quiet machine"


def test_pictures_that_failed_are_asked_for_again(visit: Open) -> None:
    one = visit(1000)
    one.page.route("**/contact-sheet.jpg*", lambda route: route.abort())
    one.open("?id=blob-021")
    trouble = one.page.get_by_text("The pictures could not be loaded")
    trouble.wait_for()
    one.page.unroute("**/contact-sheet.jpg*")
    one.page.set_viewport_size({"width": 990, "height": 860})  # no larger than before
    one.painted("blob-021")
    assert not trouble.is_visible()


def test_a_small_sheet_that_comes_late_replaces_no_sharper_one(visit: Open) -> None:
    one, held = visit(390), []
    one.page.route("**/contact-sheet.jpg*", lambda route: route.continue_() if held else held.append(route))
    with one.page.expect_request("**/contact-sheet.jpg*"):
        one.open("?id=blob-022&n=16")
    one.page.set_viewport_size({"width": 2560, "height": 860})
    one.painted("blob-022")
    picture = one.page.locator(".picture").first
    sharp = picture.evaluate("e => e.style.backgroundImage")
    with one.page.expect_response(held[0].request.url):
        held[0].continue_()
    one.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
    assert held[0].request.url not in sharp
    assert picture.evaluate("e => e.style.backgroundImage") == sharp
