"""Where a report may be written: never over what it is made of, and over nothing but an older report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lookalike.errors import InputError
from lookalike.files import file_output, report_output

PAGES = (".html", ".htm")
PICTURES = (".png", ".svg", ".pdf")


def check_page(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """InputError where a page cannot be written to `path`; `inputs` as for `check_output`."""
    check_output("A page", path, PAGES, inputs)


def check_picture(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """InputError where a plot cannot be written to `path`; `inputs` as for `check_output`."""
    check_output("A plot", path, PICTURES, inputs)


def check_output(what: str, path: Path, endings: Sequence[str], inputs: Iterable[Path | None]) -> None:
    """InputError where a file's ending is another, a folder has its name, or it is read.

    inputs : files and folders that are read, None for one that is not given; nothing inside a folder is written. A
    link is taken for what it leads to, since that is what would be replaced.
    """
    resolved = file_output(path)
    for given in inputs:
        if given is None:
            continue
        read = given.resolve()
        if resolved == read or (read.is_dir() and resolved.is_relative_to(read)):
            where = "is read here" if resolved == read else f"lies in {given}, which is read here,"
            raise InputError(f"{path} {where} and cannot be written too; choose another file.")
    for name in (path, resolved):
        if name.suffix.lower() not in endings:
            leads = "" if name == path else f", which leads to {resolved},"
            raise InputError(f"{what} ends in {', '.join(endings)}, but {path}{leads} was given.")
    report_output(path)
