"""A contact sheet of lists: what it shows on top, then one row per query, the query first, its neighbors after it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike.augmentations import get_domain
from lookalike.files import atomic_path
from lookalike.indexer.answer import plain
from lookalike.indexer.search import Searcher

TILE, GAP = 104, 6
TITLE, TEXT, LINE = 20, 13, 16  # px: size of the title's letters, of all others, and from one line to the next
PAPER, INK, FAINT = (16, 18, 22), (232, 232, 228), (150, 154, 160)
BRIGHTNESS = ("mag", "mag_r")  # shown below the pictures where no window names a column


def neighbor_sheet(searcher: Searcher, ids: Sequence[str], n: int, out: Path, max_overlap: float | None) -> None:
    """Draw each query and its n most similar objects into a PNG, with what can be read from it above."""
    about = searcher.samples.about
    domain = get_domain(about.domain)
    shown = _column(searcher)
    columns = [] if shown is None else [shown]
    caption = GAP + LINE * (1 + len(columns))
    width = (n + 1) * (TILE + GAP) + 3 * GAP
    explained = _explained(searcher, n, shown, max_overlap, width)
    top = 5 * GAP + TITLE + LINE * len(explained)
    sheet = Image.new("RGB", (width, top + len(ids) * (TILE + caption + GAP)), PAPER)
    pen, letters = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    pen.text((GAP, GAP), f"Each object's {n} most similar ones", INK, font=ImageFont.load_default(TITLE))
    pen.multiline_text((GAP, 2 * GAP + TITLE), "\n".join(explained), FAINT, font=letters, spacing=LINE - TEXT)
    for query in ids:
        answer = searcher.neighbors(query, n, max_overlap=max_overlap, columns=columns)
        row = searcher.samples.row(query)
        own = {name: plain(searcher.samples.values(name, [row])[0]) for name in columns}
        tiles = [(row, query, own)]
        tiles += [
            (result.row, f"similarity {result.similarity:.3f}", dict(result.columns)) for result in answer.results
        ]
        for place, (at, first, values) in enumerate(tiles):
            left = GAP + place * (TILE + GAP) + (2 * GAP if place else 0)
            picture = domain.draw(searcher.samples.objects([at])[0], about, domain.stretches[0], TILE)
            sheet.paste(picture.convert("RGB"), (left, top))
            lines = [first, *(_with_unit(searcher, name, value) for name, value in values.items())]
            ink = INK if place == 0 else FAINT
            pen.multiline_text(
                (left, top + TILE + 2),
                "\n".join(_fitted(line, letters) for line in lines),
                ink,
                font=letters,
                spacing=LINE - TEXT,
            )
        top += TILE + caption + GAP
    with atomic_path(out) as temporary:
        sheet.save(temporary, format="PNG")


def _column(searcher: Searcher) -> str | None:
    """The column whose value stands below each picture: the window's, else a magnitude."""
    if searcher.window is not None:
        return searcher.window.column
    return next((name for name in BRIGHTNESS if name in searcher.samples.columns), None)


def _explained(searcher: Searcher, n: int, shown: str | None, max_overlap: float | None, width: int) -> list[str]:
    """What the pictures are, in lines of at most `width` px."""
    about, side = searcher.samples.about, searcher.samples.shape[2]
    sky = f" ({side * about.pixel_scale:.3g} arcsec)" if about.pixel_scale else ""
    text = (
        f"Left: the query. Right: its {n} most similar objects, the most similar first"
        f"{_within(searcher)}. Similarity: cosine of the angle between two embeddings, at most 1. "
        f"Each picture is {side} px{sky} wide, in {', '.join(about.bands)}{_seen(searcher)}. "
    )
    if shown is not None and (column := searcher.samples.columns[shown]).description:
        text += f"{shown}: {column.description.split(';')[0].split('. ')[0].rstrip('.')}. "
    if max_overlap is not None and searcher.has_footprints:
        text += f"Objects that share more than {max_overlap:.0%} of the query's field of view are left out."
    letters = ImageFont.load_default(TEXT)
    per_line = int((width - 2 * GAP) / (letters.getlength(text) / len(text)) * 0.97)
    return textwrap.wrap(text, per_line)


def _within(searcher: Searcher) -> str:
    window = searcher.window
    if window is None:
        return ""
    return f", within {f'log({window.column})' if window.log else window.column} ± {window.half_width:g} of the query"


def _seen(searcher: Searcher) -> str:
    """How much of a picture the encoder is given, where the index knows its encoder."""
    manifest = searcher.index.manifest
    known = manifest.checkpoint is not None and manifest.checkpoint.paths
    return f"; the encoder sees the central {manifest.footprint_px} px" if known else ""


def _fitted(text: str, letters: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """A text no wider than a picture."""
    if letters.getlength(text) <= TILE:
        return text
    return next(f"{text[:end]}…" for end in range(len(text), -1, -1) if letters.getlength(f"{text[:end]}…") <= TILE)


def _with_unit(searcher: Searcher, name: str, value: object) -> str:
    """A column's value as `mag 24.31` or `pt 512.2 GeV`."""
    unit = searcher.samples.columns[name].unit
    text = f"{value:.2f}" if isinstance(value, float) else "unknown" if value is None else str(value)
    return f"{name} {text}{f' {unit}' if unit and unit != name else ''}"
