"""FITS: cutouts as 2-D extensions or (band, y, x) cubes, or large images cut at the positions of a catalog.

Bands have names: from --bands, else from the headers (FILTER, BAND, BANDS, and EXTNAME where it repeats from
object to object). Flux is never resampled: other sizes are cropped about the center. x, y are 0-based pixel
centers, ra, dec ICRS degrees; row 0 is at the bottom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.cutouts import MASKED, as_float32, measured
from lookalike.datasets.fits_open import open_fits, reading
from lookalike.datasets.fits_planes import Plane, about_images, bands_of, object_planes, scan, shape_text
from lookalike.datasets.fits_positions import ingest_positions, position_columns
from lookalike.datasets.table import Table, merged, read_table, without_reserved
from lookalike.errors import InputError, unknown
from lookalike.files import existing_files
from lookalike.origins import Rows
from lookalike.progress import progress
from lookalike.samples import Column
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

MODES = ("cutouts", "positions")
BATCH = 256
FILE = Column("", "file of the cutout", "meta.file")
HDU = Column("", "number of the cutout's first extension, 0 the primary", "meta.number")


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Scan every header, decide what the files are, and store."""
    planes: list[Plane] = []
    for path in existing_files(files):
        try:
            planes += scan(path, ledger)
        except InputError as error:
            if not ledger.skip_bad:
                raise
            ledger.bad(str(path), error.message)
    if not planes:
        raise InputError("No FITS image could be read; nothing was written.", code="no_objects")
    if options.mode is not None and options.mode not in MODES:
        raise unknown("mode", options.mode, MODES)
    catalog = read_table(options.catalog, ledger, texts=_text_columns(options)) if options.catalog else None
    objects = _gathered(planes, options, ledger)
    mode = options.mode or _mode(objects, catalog)
    if mode == "positions":
        if catalog is None:
            raise InputError("Mode `positions` needs a --catalog of positions (x and y, or ra and dec).")
        ingest_positions(planes, catalog, out, options, ledger)
    elif catalog is not None and ledger.skipped:
        raise _needed(ledger, f"the rows of {catalog.name} go with the cutouts in order")
    else:
        _ingest_cutouts(objects, catalog, out, options, ledger)


def _text_columns(options: Options) -> list[str]:
    return ["id", *(options.id_column or "").split(":")]


def _gathered(planes: Sequence[Plane], options: Options, ledger: Ledger) -> list[list[Plane]]:
    """Planes as objects; none of files that objects span may have been left out, or bands of two would pair."""
    across = "the bands of an object are gathered across files in order"
    try:
        objects = object_planes(planes, options.bands)
    except InputError:
        if ledger.skipped:
            raise _needed(ledger, across) from None
        raise
    if ledger.skipped and any(len({plane.path for plane in run}) > 1 for run in objects):
        raise _needed(ledger, across)
    return objects


def _needed(ledger: Ledger, why: str) -> InputError:
    name, reason = ledger.skipped[0]
    return InputError(f"{name} cannot be left out, since {why}: {reason}", code="bad_file")


def _mode(objects: Sequence[Sequence[Plane]], catalog: Table | None) -> str:
    """Cutouts, unless a catalog of positions has another number of rows than there are cutouts."""
    if catalog is None or len(catalog) == len(objects) or position_columns(catalog) is None:
        return "cutouts"
    return "positions"


def _ingest_cutouts(
    objects: list[list[Plane]], catalog: Table | None, out: Path, options: Options, ledger: Ledger
) -> None:
    if catalog is not None and len(catalog) != len(objects):
        raise InputError(
            f"{catalog.name} has {counted(len(catalog), 'row')}, but there {'is' if len(objects) == 1 else 'are'} "
            f"{counted(len(objects), 'cutout')}; rows go with cutouts "
            "in order (for positions in a large image the catalog needs x and y, or ra and dec)."
        )
    bands = bands_of(objects, options.bands, ledger)
    named: list[str] = []
    if not options.id_column:
        objects, named = _named(objects, ledger, skip=ledger.skip_bad and catalog is None)
    sides = [min(objects[i][0].height, objects[i][0].width) for i in range(len(objects))]
    size = options.size
    if size is None:
        shapes = sorted({(planes[0].height, planes[0].width) for planes in objects})
        if len(shapes) > 1 or shapes[0][0] != shapes[0][1]:
            raise InputError(
                f"The cutouts are {shape_text(shapes[0])} to {shape_text(shapes[-1])} px, not all one square; give a "
                "side with --size, and the center is cropped (never resampled)."
            )
        size = shapes[0][0]
    table = merged(_cutout_table(objects), catalog, ledger)
    ids = table.ids(options.id_column) if options.id_column else named
    table = without_reserved(table, ids, ledger)
    table.columns["masked_fraction"] = MASKED
    about = about_images([plane for planes in objects for plane in planes], bands, size, options)
    cropped = sum(side > size for side in sides)
    if cropped:
        ledger.note(
            f"{cropped:,} of {len(objects):,} cutouts are larger than {size} px and cropped about their center."
        )
    with (
        write_samples(out, about, table.columns, replace=options.overwrite) as writer,
        progress("fits", len(objects), "cutouts", quiet=options.quiet) as advance,
    ):
        for rows, images in _read_cutouts(objects, size, ledger):
            filled, fraction, keep = measured(images, [ids[row] for row in rows], ledger)
            kept = np.array(rows)[keep]
            if len(kept):
                columns = table.take(kept) | {"masked_fraction": fraction}
                from_planes = Rows(kept, lambda row: f"the cutout {objects[row][0].where}")
                writer.append([ids[row] for row in kept], filled, columns, from_planes)
            advance(len(rows))


def _cutout_table(objects: list[list[Plane]]) -> Table:
    files = np.array([planes[0].path.name for planes in objects])
    numbers = np.array([planes[0].hdu for planes in objects], dtype=np.int64)
    return Table("the files", {"file": files, "hdu": numbers}, {"file": FILE, "hdu": HDU})


def _named(objects: list[list[Plane]], ledger: Ledger, *, skip: bool) -> tuple[list[list[Plane]], list[str]]:
    """Objects with their ids: the file's name, with the extension's number where a file holds several objects.

    One whose name makes no id is an error, or where `skip` is set left out, counted and listed.
    """
    per_file: dict[Path, int] = {}
    for planes in objects:
        per_file[planes[0].path] = per_file.get(planes[0].path, 0) + 1
    kept, ids = [], []
    for planes in objects:
        name = _stem(planes[0].path)
        number = f"-{planes[0].hdu}" if per_file[planes[0].path] > 1 else ""
        try:
            ids.append(id_from_name(f"{name}{number}.fits"))
            kept.append(planes)
        except InputError as error:
            if not skip:
                raise
            ledger.bad(planes[0].where, error.message)
    if not kept:
        raise InputError("No cutout has a name that makes an id; nothing was written.", code="no_objects")
    return kept, ids


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".fz", ".fits", ".fit"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _read_cutouts(
    objects: list[list[Plane]], size: int, ledger: Ledger
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Rows and cropped images (n, C, size, size), up to BATCH at a time; every file is opened once."""
    rows: list[int] = []
    images: list[NDArray[np.float32]] = []
    with ExitStack() as stack:
        opened: Path | None = None
        for row, planes in enumerate(objects):
            first = planes[0]
            if min(first.height, first.width) < size:
                shape = shape_text((first.height, first.width))
                ledger.bad(first.where, f"it is {shape} px, smaller than the {size} px asked for.")
                continue
            try:
                with ExitStack() as extra:
                    if opened != first.path:
                        stack.close()
                        hdus = stack.enter_context(open_fits(first.path, str(first.path)))
                        opened = first.path
                    files = {first.path: hdus}
                    for plane in planes:
                        if plane.path not in files:
                            files[plane.path] = extra.enter_context(open_fits(plane.path, str(plane.path)))
                    with reading(first.where):
                        found = np.stack([_crop(plane, files[plane.path], size) for plane in planes])  # (C, S, S)
            except InputError as error:
                ledger.bad(first.where, error.message)
                continue
            rows.append(row)
            images.append(found)
            if len(rows) == BATCH:
                yield rows, np.stack(images)
                rows, images = [], []
    if rows:
        yield rows, np.stack(images)


def _crop(plane: Plane, hdus: object, size: int) -> NDArray[np.float32]:
    top, left = (plane.height - size) // 2, (plane.width - size) // 2
    return as_float32(plane.section(hdus, slice(top, top + size), slice(left, left + size)))
