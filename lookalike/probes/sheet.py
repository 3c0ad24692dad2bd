"""A contact sheet of lists: one row per query, the query first, each neighbor with its similarity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike.augmentations import get_domain
from lookalike.files import atomic_path
from lookalike.indexer.search import Searcher

TILE, GAP, CAPTION = 104, 6, 18
PAPER, INK, FAINT = (16, 18, 22), (232, 232, 228), (150, 154, 160)


def neighbor_sheet(searcher: Searcher, ids: Sequence[str], n: int, out: Path, max_overlap: float | None) -> None:
    """Draw each query and its n most similar objects into a PNG."""
    about = searcher.samples.about
    domain = get_domain(about.domain)
    font = ImageFont.load_default(12)
    width, height = (n + 1) * (TILE + GAP) + 3 * GAP, len(ids) * (TILE + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, query in enumerate(ids):
        top = GAP + line * (TILE + CAPTION + GAP)
        answer = searcher.neighbors(query, n, max_overlap=max_overlap)
        tiles = [(query, searcher.samples.row(query), query)]
        tiles += [(result.id, result.row, f"{result.similarity:.3f}") for result in answer.results]
        for place, (_, row, caption) in enumerate(tiles):
            left = GAP + place * (TILE + GAP) + (2 * GAP if place else 0)
            picture = domain.draw(searcher.samples.images([row])[0], about, domain.stretches[0], TILE)
            sheet.paste(picture.convert("RGB"), (left, top))
            pen.text((left, top + TILE + 2), caption, INK if place == 0 else FAINT, font=font)
    with atomic_path(out) as temporary:
        sheet.save(temporary, format="PNG")
