"""Plain pictures: folders or files of PNG and JPEG, stored as 8-bit gray or RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.datasets.contract import Ledger, Options, listed
from lookalike.datasets.cutouts import stored_as
from lookalike.datasets.permuting import permuted, recorded
from lookalike.datasets.pictures import (
    FILTER,
    GRAY,
    RGB,
    BadPictureError,
    is_gray,
    open_picture,
    prepare_picture,
    upright_size,
)
from lookalike.datasets.resizing import rows_at_once
from lookalike.datasets.table import Table, first_repeated, merged, read_table, without_reserved
from lookalike.errors import InputError, NotFoundError
from lookalike.files import natural_key
from lookalike.origins import Rows
from lookalike.progress import progress
from lookalike.samples import About, Column
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

ENDINGS = (".png", ".jpg", ".jpeg")
BATCH = 256
FILE = Column("", "picture's path within the folder given", "meta.file")


@dataclass(frozen=True)
class Picture:
    """A picture found: where it is, its name within the folder given, its size and whether it is gray."""

    path: Path
    name: str
    height: int
    width: int
    gray: bool


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Find the pictures, look at every header, then decode them one by one."""
    found = find(files, ledger)
    pictures = [picture for path, name in found if (picture := _look(path, name, ledger))]
    if not pictures:
        raise InputError("No picture could be read; nothing was written.", code="no_objects")
    if not options.id_column:
        pictures = [picture for picture in pictures if _has_id(picture, ledger)]
    catalog = None
    if options.catalog is not None:
        catalog = read_table(options.catalog, ledger, texts=_text_columns(options))
        rows = match(pictures, catalog, options, ledger)
        pictures = [picture for picture in pictures if picture.name in rows]
        ordered = np.array([rows[picture.name] for picture in pictures])
        catalog = Table(catalog.name, catalog.take(ordered), catalog.columns)
    names = np.array([picture.name for picture in pictures])
    own = Table("the pictures", {"file": names}, {"file": FILE})
    if catalog is not None:
        catalog = Table(
            catalog.name,
            {name: values for name, values in catalog.values.items() if name != "file"},
            catalog.columns,
        )
    table = merged(own, catalog, ledger)
    ids = table.ids(options.id_column) if options.id_column else unique_ids(pictures)
    if not options.id_column:
        _tell_changed(pictures, ids, ledger)
    _write(pictures, ids, without_reserved(table, ids, ledger), out, options, ledger)


def find(given: Sequence[Path], ledger: Ledger) -> list[tuple[Path, str]]:
    """(path, name) of each picture in natural order of the names, which are relative to the folder given."""
    if not given:
        raise InputError("At least one folder or picture is needed, none was given.")
    found: list[tuple[Path, str]] = []
    others = 0
    for path in given:
        if not path.exists():
            raise NotFoundError(f"No such file or folder: {path}")
        if path.is_file():
            found.append((path, path.name))
            continue
        inside = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
        pictures = [file for file in inside if file.suffix.lower() in ENDINGS]
        others += len(inside) - len(pictures)
        found += [(file, file.relative_to(path).as_posix()) for file in pictures]
    if others:
        do = "does" if others == 1 else "do"
        ledger.note(f"{counted(others, 'file')} that {do} not end in {', '.join(ENDINGS)} {_be(others)} left out.")
    if not found:
        raise InputError(f"No file ends in {', '.join(ENDINGS)} in {', '.join(map(str, given))}.")
    repeated = first_repeated(name for _, name in found)
    if repeated is not None:
        raise InputError(f"Two pictures are named {repeated!r}; give the folder that holds both.", code="duplicate_id")
    return sorted(found, key=lambda item: natural_key(item[1]))


def _look(path: Path, name: str, ledger: Ledger) -> Picture | None:
    """What a picture's header says, or None where it is bad and bad files are skipped."""
    try:
        with open_picture(path) as image:
            return Picture(path, name, *upright_size(image), is_gray(image))
    except BadPictureError as error:
        ledger.bad(name, error.message)
        return None


def _has_id(picture: Picture, ledger: Ledger) -> bool:
    """Whether the name makes an id; an error, or where bad files are skipped left out, where it does not."""
    try:
        id_from_name(picture.name)
    except InputError as error:
        if not ledger.skip_bad:
            raise
        ledger.bad(picture.name, error.message)
        return False
    return True


def unique_ids(pictures: Sequence[Picture]) -> list[str]:
    """Ids from the names; two names that give one id are an error that tells both."""
    owner: dict[str, str] = {}
    for picture in pictures:
        made = id_from_name(picture.name)
        if made in owner:
            raise InputError(
                f"The pictures {owner[made]!r} and {picture.name!r} both get the id {made!r}; rename one, or name "
                "a catalog column with --id-column.",
                code="duplicate_id",
            )
        owner[made] = picture.name
    return list(owner)


def _tell_changed(pictures: Sequence[Picture], ids: Sequence[str], ledger: Ledger) -> None:
    """Say how many ids are not just the file's name without its ending, with one example."""
    names = [picture.name.removesuffix(Path(picture.name).suffix) for picture in pictures]
    changed = [place for place, (name, made) in enumerate(zip(names, ids, strict=True)) if name != made]
    if changed:
        first = changed[0]
        ledger.tell(
            "ids changed",
            len(changed),
            f"{len(changed):,} of {counted(len(ids), 'id')} {_be(len(changed))} not just the file's name, since an id "
            f"holds only A-Z a-z 0-9 . _ : + - (others become _): {pictures[first].name!r} has the id {ids[first]!r}.",
        )


def _text_columns(options: Options) -> list[str]:
    return ["file", "id", *(options.id_column or "").split(":")]


def match(pictures: Sequence[Picture], catalog: Table, options: Options, ledger: Ledger) -> dict[str, int]:
    """The catalog row of each picture's name.

    Column `file` holds the name, with or without its ending; a catalog without it is matched by --id-column, as a
    name without folder and ending. A row without a picture is an error, or where bad files are skipped left out.
    """
    by_stem = "file" not in catalog.values
    if by_stem and options.id_column not in catalog.values:
        raise InputError(
            f"{catalog.name} needs a column `file` that names each picture (or --id-column, where that is the "
            f"picture's name without its ending); it has: {listed(catalog.values)}."
        )
    keys = catalog.texts(str(options.id_column) if by_stem else "file")
    repeated = first_repeated(keys)
    if repeated is not None:
        first, second = [row + 1 for row, key in enumerate(keys) if key == repeated][:2]
        raise InputError(
            f"{catalog.name} names the picture {repeated!r} twice, in rows {first:,} and {second:,} (counted from 1)."
        )
    row_of = {key: row for row, key in enumerate(keys)}
    rows: dict[str, int] = {}
    for picture in pictures:
        for key in _keys(picture.name, by_stem=by_stem):
            if key in row_of:
                rows[picture.name] = row_of[key]
                break
    used = set(rows.values())
    missing = [key for key, row in row_of.items() if row not in used]
    unused = [picture.name for picture in pictures if picture.name not in rows]
    if not rows:
        raise InputError(
            f"None of the {counted(len(pictures), 'picture')} is named in {catalog.name}: the first picture is "
            f"{_keys(unused[0], by_stem=by_stem)[0]!r}, the first of {len(keys):,} names in column "
            f"{options.id_column if by_stem else 'file'!r} is {keys[0]!r}."
        )
    if missing and not options.skip_bad:
        raise InputError(
            f"{len(missing):,} of the {len(keys):,} pictures that {catalog.name} names were not found, "
            f"{missing[0]!r} first{_other_side('a picture it does not name is', unused)} "
            "(--skip-bad leaves them out)."
        )
    if unused:
        ledger.tell(
            "pictures without a row in the catalog",
            len(unused),
            f"{_of(len(unused), pictures, 'has', 'have')} no row in {catalog.name} and {_be(len(unused))} left out, "
            f"{unused[0]!r} first{_other_side('a name in the catalog without a picture is', missing)}.",
        )
    listed_already = {key for name, _ in ledger.skipped for key in _keys(name, by_stem=by_stem)}
    for key in missing:
        if key not in listed_already:
            ledger.drop(key, f"a row of {catalog.name} without a picture", "catalog rows without a picture")
    return rows


def _of(number: int, pictures: Sequence[Picture], one: str, more: str) -> str:
    """`1 of 4 pictures has`, `2 of 4 pictures have`."""
    return f"{number:,} of {counted(len(pictures), 'picture')} {one if number == 1 else more}"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _other_side(what: str, names: Sequence[str]) -> str:
    """An example of the other side's names that found no partner, so that two spellings of one can be seen."""
    return f"; {what} {names[0]!r}" if names else ""


def _keys(name: str, *, by_stem: bool) -> tuple[str, ...]:
    """The texts a catalog may call a picture by."""
    bare = name.removesuffix(Path(name).suffix)
    return (Path(bare).name,) if by_stem else (name, bare)


def _write(pictures: list[Picture], ids: list[str], table: Table, out: Path, options: Options, ledger: Ledger) -> None:
    about = _about(pictures, options, ledger)
    at_once = min(BATCH, rows_at_once("--size", about.preprocess["size"], len(about.bands), "uint8"))
    with (
        write_samples(out, about, table.columns, replace=options.overwrite) as writer,
        progress("images", len(pictures), "pictures", quiet=options.quiet) as advance,
    ):
        for start in range(0, len(pictures), at_once):
            kept: list[int] = []
            decoded: list[NDArray[np.uint8]] = []
            for row in range(start, min(start + at_once, len(pictures))):
                try:
                    with open_picture(pictures[row].path) as image:
                        decoded.append(permuted(prepare_picture(image, about), about))  # (C, S, S)
                    kept.append(row)
                except BadPictureError as error:
                    ledger.bad(pictures[row].name, error.message)
                advance(1)
            if kept:
                rows = Rows(np.array(kept), lambda row: f"the picture {pictures[row].name!r}")
                writer.append([ids[row] for row in kept], np.stack(decoded), table.take(rows.numbers), rows)


def _about(pictures: Sequence[Picture], options: Options, ledger: Ledger) -> About:
    gray = all(picture.gray for picture in pictures)
    mixed = sum(picture.gray for picture in pictures)
    if mixed and not gray:
        ledger.note(f"{_of(mixed, pictures, 'is', 'are')} gray and stored as three equal bands.")
    shapes = {(picture.height, picture.width) for picture in pictures}
    if options.size is None and options.crop is not None:
        preprocess = stored_as(options.crop, "uint8", "crop")
    elif options.size is None:
        first = pictures[0]
        odd = next((p for p in pictures if (p.height, p.width) != (first.height, first.width)), None)
        if odd is not None:
            raise InputError(
                f"Pictures differ in size ({first.name} is {first.width} × {first.height} px, {odd.name} is "
                f"{odd.width} × {odd.height} px); give one with --size."
            )
        if first.height != first.width:
            raise InputError(f"Pictures are {first.width} × {first.height} px, not square; give a side with --size.")
        preprocess = stored_as(first.height, "uint8", "exact")
    else:
        preprocess = stored_as(options.size, "uint8", "resize") | {"resize": options.size, "filter": FILTER}
        sides = [options.crop or min(picture.height, picture.width) for picture in pictures]
        small = sum(side < options.size for side in sides)
        if small:
            text = f"{_of(small, pictures, 'has', 'have')} a side below {options.size} px and {_be(small)} enlarged."
            ledger.tell("enlarged", small, text)
        if options.crop is not None:
            ledger.note(f"The central {options.crop} × {options.crop} px are kept, and resized to {options.size} px.")
        elif len(shapes) > 1 or shapes != {(options.size, options.size)}:
            ledger.note(f"The shorter side is resized to {options.size} px and the center kept.")
    if options.crop is not None:
        preprocess |= {"crop": options.crop}
    preprocess |= recorded(options.permute)
    return About(
        domain=options.domain,
        bands=GRAY if gray else RGB,
        unit="",
        pixel_scale=_pixel_scale(pictures, options),
        origin="upper",
        source="PNG and JPEG pictures",
        preprocess=preprocess,
    )


def _pixel_scale(pictures: Sequence[Picture], options: Options) -> float | None:
    """What --pixel-scale says of the files, in arcsec/px of the stored pictures."""
    if options.pixel_scale is None or options.size is None:
        return options.pixel_scale
    sides = sorted({options.crop or min(picture.height, picture.width) for picture in pictures})
    if len(sides) > 1:
        raise InputError(
            f"Pictures of {sides[0]} to {sides[-1]} px have no one pixel scale when all are resized to {options.size} "
            "px: keep the same center of each with --crop, or leave out --pixel-scale."
        )
    return options.pixel_scale * sides[0] / options.size
