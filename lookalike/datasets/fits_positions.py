"""Cutouts from a large FITS image (one per band, or a cube) at the positions of a catalog."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, Options, listed
from lookalike.datasets.cutouts import MASKED, as_float32, first_pixel, inside, measured
from lookalike.datasets.fits_open import open_fits, reading
from lookalike.datasets.fits_planes import Plane, about_images, object_planes, shape_text
from lookalike.datasets.fits_wcs import pixel_positions, sky_positions
from lookalike.datasets.table import Table, merged, without_reserved
from lookalike.errors import InputError
from lookalike.origins import Rows, rows_of
from lookalike.progress import progress
from lookalike.samples import Column
from lookalike.samples_writer import write_samples

BATCH = 256
IN_MEMORY = 1024**3  # bytes of large images held at once; larger ones are read where they are cut
X = Column("px", "column of the center in the large image, 0-based pixel centers", "pos.cartesian.x;instr.det")
Y = Column("px", "row of the center in the large image, 0-based pixel centers", "pos.cartesian.y;instr.det")


def position_columns(catalog: Table) -> tuple[str, str] | None:
    """The catalog's position columns: x, y, else ra, dec; None where it has neither."""
    for pair in (("x", "y"), ("ra", "dec")):
        if all(name in catalog.values for name in pair):
            return pair
    return None


def ingest_positions(planes: list[Plane], catalog: Table, out: Path, options: Options, ledger: Ledger) -> None:
    """Cut the side options.size around every position that lies far enough inside; the others are counted."""
    if options.size is None:
        raise InputError("Cutting at positions needs the side of the cutouts in px: --size.")
    image = _one_image(planes, options)
    bands = options.bands or _names(image, ledger)
    x, y, table, bad = _placed(image, catalog, ledger)
    ids = catalog.ids(options.id_column) if options.id_column else _ids(catalog)
    table = without_reserved(table, ids, ledger)
    table.columns["masked_fraction"] = MASKED
    rows = _inside(image[0], x, y, bad, options.size, ledger)
    lefts, tops = first_pixel(x[rows], options.size), first_pixel(y[rows], options.size)
    about = about_images(image, bands, options.size, options)
    with (
        write_samples(out, about, table.columns, replace=options.overwrite) as writer,
        progress("fits", len(rows), "cutouts", quiet=options.quiet) as advance,
        _Opened(image) as opened,
    ):
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            images = np.empty((len(batch), len(image), options.size, options.size), np.float32)
            for i in range(len(batch)):
                images[i] = opened.cut(int(lefts[start + i]), int(tops[start + i]), options.size)
            filled, fraction, keep = measured(images, [ids[row] for row in batch], ledger)
            kept = batch[keep]
            if len(kept):
                columns = table.take(kept) | {"masked_fraction": fraction}
                writer.append([ids[row] for row in kept], filled, columns, Rows(kept, rows_of(catalog.name, 1)))
            advance(len(batch))


def _one_image(planes: list[Plane], options: Options) -> list[Plane]:
    """The planes of the one large image, one per band, all of one shape."""
    wanted = options.bands or tuple(plane.band or plane.extname or "" for plane in planes)
    if len(planes) != len(wanted):
        raise InputError(
            f"Positions are cut from one large image per band, but there are {len(planes)} images for "
            f"{len(wanted)} bands ({', '.join(wanted)})."
        )
    cube = [plane for plane in planes if plane.index is not None]
    if cube:
        return planes if len(cube) == len(planes) else object_planes(planes, wanted)[0]
    return object_planes(planes, wanted)[0]


def _names(image: Sequence[Plane], ledger: Ledger) -> tuple[str, ...]:
    found = [plane.band or plane.extname for plane in image]
    if None not in found and len(set(found)) == len(found):
        return tuple(str(name) for name in found)
    made = tuple(f"band_{i + 1}" for i in range(len(image)))
    ledger.note(f"The headers name no bands; they are called {', '.join(made)}. Name them with --bands.")
    return made


def _placed(
    image: Sequence[Plane], catalog: Table, ledger: Ledger
) -> tuple[NDArray[np.float64], NDArray[np.float64], Table, NDArray[np.bool_]]:
    """0-based pixel positions x, y (N,) and the catalog with both kinds of position where the header allows.

    And which rows (N,) have a position that is no number, and are counted already.
    """
    pair = position_columns(catalog)
    if pair is None:
        raise InputError(f"{catalog.name} needs columns x and y, or ra and dec; it has: {listed(catalog.values)}.")
    own = Table("the image")
    (first, second), bad = catalog.numbers(pair, ledger)
    if pair == ("ra", "dec"):
        x, y = pixel_positions(image, first, second)
        own.add("x", x, X)
        own.add("y", y, Y)
    else:
        x, y = first, second
        if image[0].scale is not None and not {"ra", "dec"} & set(catalog.values):
            for name, values, column in sky_positions(image, x, y):
                own.add(name, values, column)
    table = merged(own, catalog, ledger)
    table.columns |= {"x": X, "y": Y}
    return x, y, table, bad


def _inside(
    plane: Plane,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    bad: NDArray[np.bool_],
    size: int,
    ledger: Ledger,
) -> NDArray[Any]:
    """Rows whose cutout lies wholly on the image; those that do not are counted, but for the bad ones (N,)."""
    placed = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    on_image = inside(x[placed], y[placed], size, plane.height, plane.width)
    if without := len(x) - len(placed) - int(np.count_nonzero(bad)):
        ledger.counts["without a position"] = without
    ledger.counts["cut by the edge"] = int((~on_image).sum())
    if not on_image.any():
        raise InputError(
            f"None of the {len(x):,} positions lies on {plane.where} ({shape_text((plane.height, plane.width))} px) "
            f"far enough from its edge for {size} px."
        )
    return placed[on_image]


def _ids(catalog: Table) -> list[str]:
    """Column `id` where the catalog has one, else the row's number."""
    return catalog.ids("id") if "id" in catalog.values else [str(row) for row in range(len(catalog))]


class _Opened(ExitStack):
    """The large image's files, held open: whole in memory where they are small, else read where they are cut."""

    def __init__(self, image: Sequence[Plane]) -> None:
        super().__init__()
        self.image = image
        paths = dict.fromkeys(plane.path for plane in image)
        self._hdus = {path: self.enter_context(open_fits(path, str(path))) for path in paths}
        small = sum(plane.height * plane.width * 4 for plane in image) <= IN_MEMORY
        self._whole = [plane.whole(self._hdus[plane.path]) for plane in image] if small else None

    def cut(self, left: int, top: int, size: int) -> NDArray[np.float32]:
        """One cutout (C, size, size)."""
        box = slice(top, top + size), slice(left, left + size)
        if self._whole is not None:
            return np.stack([whole[box] for whole in self._whole])
        parts = []
        for plane in self.image:
            with reading(plane.where):
                parts.append(as_float32(plane.section(self._hdus[plane.path], *box)))
        return np.stack(parts)
