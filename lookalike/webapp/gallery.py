"""The gallery: the query object, its trail and the grid of its neighbors as one component of the page.

Everything the page shows of the data goes through `data` as plain Python values, and the script sets it as text;
no markup is ever made from data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import streamlit as st

from lookalike.client import Index, NeighborRow, Neighbors, Object, Value
from lookalike.webapp.state import MAX_PAGE, State
from lookalike.wording import counted, top_share

HERE = Path(__file__).parent
KEY = "gallery"
CARD_FACTS = 4  # columns on a card that stands for a picture

_component = st.components.v2.component(
    "lookalike_gallery",
    html="<div class='gallery'></div>\n",
    css=(HERE / "gallery.css").read_text(encoding="utf-8"),
    js=(HERE / "gallery.js").read_text(encoding="utf-8"),
)


def show(data: dict[str, Any], on_pick: Callable[[], None]) -> None:
    """Mount the gallery; `on_pick` runs after a click, with `picked()` telling what was chosen."""
    _component(key=KEY, data=data, on_picked_change=on_pick)


def picked() -> dict[str, str] | None:
    """The address parameters of what was clicked in this run, None if nothing was."""
    chosen = getattr(st.session_state.get(KEY), "picked", None)
    return {str(name): str(value) for name, value in chosen.items()} if isinstance(chosen, dict) else None


def welcome_data(api: str, index: Index, objects: list[Object], state: State) -> dict[str, Any]:
    """The start page: a few objects to begin with."""
    caption = caption_column(index)
    tiles = [_tile(o.id, "", o.catalog, o.units, caption, state) for o in objects]
    return {
        "api": api,
        "revision": index.revision,
        "title": "Pick one to begin",
        "tiles": tiles,
        "pictures": has_pictures(index),
        "sheet": sheet_limits(index),
        "query": None,
        "trail": [],
        "notes": ["Or type an id above, or take a random object."],
        "pages": [],
        "about": about(index),
    }


def result_data(
    api: str, index: Index, object: Object, found: Neighbors, state: State, more: bool = False
) -> dict[str, Any]:
    """The query object and one page of its neighbors; `more` says whether another page follows."""
    caption = caption_column(index)
    tiles = [
        _tile(
            row.id,
            similarity(row),
            row.catalog,
            found.units,
            caption,
            state,
            rank=row.rank,
            top=top_share(row.random_share, row.random_share_below),
        )
        for row in found.results
    ]
    return {
        "api": api,
        "revision": found.revision,
        "title": "Most similar",
        "tiles": tiles,
        "pictures": has_pictures(index),
        "sheet": sheet_limits(index),
        "query": {
            "id": object.id,
            "aimed": index.has_footprints,  # cut out of a larger picture, so other sources may be on it
            "facts": [
                {
                    "name": name,
                    "value": shown(object.catalog.get(name)),
                    "unit": column.unit,
                    "description": column.description,
                }
                for name, column in index.columns.items()
            ],
        },
        "trail": [{"id": name, "link": state.to(name).to_query()} for name in state.trail],
        "notes": notes(index, found, state),
        "pages": pages(found, state, more),
        "about": about(index),
    }


def sheet_limits(index: Index) -> dict[str, int]:
    """What one contact sheet may hold, for the script that asks for them."""
    limits = index.limits
    return {
        "objects": limits["max_sheet_objects"],
        "pixels": limits["max_sheet_pixels"],
        "picture": limits["max_picture"],
    }


def has_pictures(index: Index) -> bool:
    """Whether anything is stored of the objects that the service draws; vectors from elsewhere come without."""
    return index.layout != "catalog"


def caption_column(index: Index) -> str | None:
    """The column shown under a picture: the window's, else the first magnitude, else none."""
    if index.window is not None:
        return index.window.column
    return next((name for name in index.columns if name == "mag" or name.startswith("mag_")), None)


def similarity(row: NeighborRow) -> str:
    """A similarity to three decimals; never rounded up, so that 1.000 is said of equal vectors only."""
    return str(Decimal(repr(row.similarity)).quantize(Decimal("0.001"), ROUND_FLOOR)).replace("-", "−")


def shown(value: Value) -> str:
    """A catalog value as people read it: up to four decimals, a dash where undefined."""
    if value is None:
        return "–"
    if isinstance(value, float):
        text = f"{value:.5g}" if abs(value) >= 1e6 or 0 < abs(value) < 1e-3 else f"{value:.4f}".rstrip("0").rstrip(".")
        return text.replace("-", "−")
    return str(value)


def brief(value: Value, unit: str) -> str:
    """A catalog value short enough for a caption: two decimals and the unit."""
    text = f"{value:.2f}".replace("-", "−") if isinstance(value, float) else shown(value)
    return f"{text} {unit}" if unit and value is not None else text


def percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def notes(index: Index, found: Neighbors, state: State) -> list[str]:
    """What a person should know about this list: its window, its source, what was left out."""
    lines = []
    window = found.window
    if window is not None:
        name = f"log({window.column})" if window.log else window.column
        unit = f" {window.unit}" if window.unit else ""
        lines.append(f"Within {name} ± {window.half_width:g}{unit} of this object.")
    if found.source == "live":
        lines.append("The stored list ran short and was finished by a live search.")
    left, share = found.left_out.overlapping, percent(found.left_out.max_overlap or 0.0)
    if found.left_out.max_overlap is not None and left:
        lines.append(
            f"{left} more similar {'object is' if left == 1 else 'objects are'} left out: "
            f"{'its cutout shares' if left == 1 else 'their cutouts share'} more than {share} of this one's."
        )
    elif found.left_out.max_overlap is not None:
        lines.append(f"None left out for sharing more than {share} of this cutout.")
    elif index.has_footprints and state.keep_overlap:
        lines.append("Overlapping cutouts are shown too; they share pixels with this one.")
    return [*lines, *found.notes]


def pages(found: Neighbors, state: State, more: bool) -> list[dict[str, Any]]:
    """Links to the pages before and after."""
    links = []
    if state.page > 1:
        links.append({"text": f"← Previous {found.k}", "link": replace(state, page=state.page - 1).to_query()})
    if more and state.page < MAX_PAGE:
        links.append({"text": f"Next {found.k} →", "link": replace(state, page=state.page + 1).to_query()})
    return links


def about(index: Index) -> list[str]:
    """One line each: the data, the window, the version that answered."""
    window = index.window
    if window is None:
        rule = "no window: any object may be a neighbor"
    else:
        name = f"log({window.column})" if window.log else window.column
        rule = f"neighbors within {name} ± {window.half_width:g}{f' {window.unit}' if window.unit else ''}"
    return [
        " · ".join(part for part in (counted(index.objects, "object"), index.source, index.license) if part),
        f"{rule} · {index.k} stored for each",
        f"index {index.index_version} · {index.hashes.get('index', '')[:12]} · lookalike {index.software}",
    ]


def _tile(
    name: str,
    score: str,
    catalog: dict[str, Value],
    units: dict[str, str],
    caption: str | None,
    state: State,
    rank: int | None = None,
    top: str = "",
) -> dict[str, Any]:
    value = brief(catalog.get(caption), units.get(caption, "")) if caption in catalog else ""
    # The id stands above them already, whatever its column is called.
    first = [column for column in (caption, *catalog) if column in catalog and str(catalog[column]) != name]
    details = [f"{column} {brief(value, units.get(column, ''))}" for column, value in catalog.items()]
    spoken = [
        f"{rank}: {name}" if rank else name,
        f"similarity {score}" if score else "",
        f"{top} of random pairs" if top else "",
        ", ".join(details),
    ]
    return {
        "id": name,
        "score": score,
        "top": top,
        "value": value,
        "facts": [
            {"name": column, "value": brief(catalog[column], units.get(column, ""))}
            for column in list(dict.fromkeys(filter(None, first)))[:CARD_FACTS]
        ],
        "label": ", ".join(part for part in spoken if part),
        "details": "\n".join([name, *([f"{top} of random pairs in such windows"] if top else []), *details]),
        "link": state.to(name).to_query(),
    }
