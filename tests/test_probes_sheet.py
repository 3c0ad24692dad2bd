"""The sheet of lists: what stands where, and that it says what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lookalike.augmentations import get_domain
from lookalike.indexer.search import Searcher
from lookalike.probes import sheet
from lookalike.probes.sheet import GAP, TEXT, TILE, neighbor_sheet


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[float, float], str]]:
    """(place, text) of all that is written while a test draws."""
    found: list[tuple[tuple[float, float], str]] = []
    for name in ("text", "multiline_text"):
        draw = getattr(ImageDraw.ImageDraw, name)

        def write(self: Any, at: tuple[float, float], text: str, *args: Any, _draw: Any = draw, **kw: Any) -> None:
            if not found or found[-1] != (at, text):  # one calls the other
                found.append((at, text))
            _draw(self, at, text, *args, **kw)

        monkeypatch.setattr(ImageDraw.ImageDraw, name, write)
    return found


def test_a_sheet_says_what_it_shows_and_shows_it(
    toy_index: Path, tmp_path: Path, written: list[tuple[tuple[float, float], str]]
) -> None:
    searcher, n = Searcher(toy_index), 5
    neighbor_sheet(searcher, ["blob-003", "blob-007"], n, tmp_path / "sheet.png", 0.25)
    (_, title), (_, text), *captions = written
    assert title == "Each object's 5 most similar ones"
    said = " ".join(text.split())
    for part in (
        "Left: the query. Right: its 5 most similar objects, the most similar first, within mag ± 0.5 of the query.",
        "Similarity: cosine of the angle between two embeddings",
        "Each picture is 32 px (3.2 arcsec) wide, in r, g, b.",
        "mag: Magnitude the blob was drawn with.",
        "Objects that share more than 25% of the query's field of view are left out.",
    ):
        assert part in said
    found = searcher.neighbors("blob-003", n, max_overlap=0.25, columns=["mag"]).results
    own = searcher.object("blob-003")["mag"]
    assert [text for _, text in captions] == [
        f"blob-003\nmag {own:.2f}",
        *(f"similarity {r.similarity:.3f}\nmag {r.columns['mag']:.2f}" for r in found),
        "blob-007\nmag unknown",  # without a value it is in no window and has no neighbors
    ]
    picture = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert picture.shape[1] == (n + 1) * (TILE + GAP) + 3 * GAP
    domain, about = get_domain("galaxy"), searcher.samples.about
    for (left, below), row in zip([at for at, _ in captions], [3, *(r.row for r in found), 7], strict=True):
        top = int(below) - TILE - 2
        drawn = domain.draw(searcher.samples.objects([row])[0], about, domain.stretches[0], TILE).convert("RGB")
        assert (picture[top : top + TILE, int(left) : int(left) + TILE] == np.asarray(drawn)).all()


def test_a_long_name_stays_below_its_picture() -> None:
    letters = ImageFont.load_default(TEXT)
    fitted = sheet._fitted("a" * 64, letters)
    assert fitted.endswith("…")
    assert TILE - 15 < letters.getlength(fitted) <= TILE
    assert sheet._fitted("short", letters) == "short"
