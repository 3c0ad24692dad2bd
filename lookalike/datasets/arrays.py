"""Arrays of pictures, (N, C, H, W), written as samples a block at a time, whatever file format they come from.

(N, H, W) is taken as one band only where exactly one band is named, since it could as well be one object of N
bands. uint8 and float32 are stored as they are, any other type as float32.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets import resizing
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.cutouts import MASKED, as_float32, center_crop, measured, stored_as
from lookalike.datasets.permuting import permuted, recorded
from lookalike.datasets.resizing import resized, rows_at_once
from lookalike.datasets.table import Table, read_table, without_reserved
from lookalike.errors import InputError
from lookalike.files import existing_files
from lookalike.origins import Rows, rows_of
from lookalike.progress import progress
from lookalike.samples import KINDS, About, Column
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

BLOCK_BYTES, BLOCK_ROWS = 32 * 1024**2, 65536
MEMBER = "images"  # the array of a file of several that holds the pictures


@dataclass(frozen=True)
class Held:
    """An array of a file: its name there (None where the file is the array), shape and type as stored."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def where(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}[{self.member}]"

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class Array(Held, ABC):
    """One array of pictures."""

    @property
    def rows(self) -> int:
        """How many rows make a block."""
        return max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, self.row_bytes)))

    @abstractmethod
    def blocks(self) -> Iterator[NDArray[Any]]:
        """Consecutive rows (n, …) in native byte order."""


class RowNames(Sequence[str]):
    """Rows counted from 0 as ids, each made when asked for, since a file may declare any number of them."""

    def __init__(self, count: int) -> None:
        self._rows = range(count)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        found = self._rows[row]
        return str(found) if isinstance(found, int) else [str(each) for each in found]


Columns = dict[str, NDArray[Any]]  # columns (N,) that lie beside an array in its file


def read_each(
    files: list[Path], ledger: Ledger, read: Callable[[Path], tuple[Array, Columns]]
) -> tuple[list[Array], list[Columns]]:
    """Every file's array and the columns beside it; one that cannot be read is bad by the ledger's rule."""
    found: list[tuple[Array, Columns]] = []
    for path in existing_files(files):
        try:
            found.append(read(path))
        except InputError as error:
            if not ledger.skip_bad:
                raise
            ledger.bad(str(path), error.message)
    return [array for array, _ in found], [columns for _, columns in found]


def ingest_arrays(
    arrays: Sequence[Array],
    columns: Sequence[Columns],
    out: Path,
    options: Options,
    ledger: Ledger,
    *,
    source: str,
    known: dict[str, Column] | None = None,
) -> None:
    """Write arrays of one shape and type, one after the other, with the columns beside them and a catalog's.

    source : where the data come from, for people. known : what columns hold, where the format says so.
    """
    if not arrays:
        raise InputError("No array could be read; nothing was written.", code="no_objects")
    first = arrays[0]
    for array in arrays:
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            raise InputError(
                f"{array.where} holds {array.shape[1:]} {array.dtype} per object, but {first.where} holds "
                f"{first.shape[1:]} {first.dtype}."
            )
    table = _table(arrays, columns, options, ledger, known or {})
    bands = _bands(first, options, ledger)
    size = _size(first, options)
    side = options.resize or size
    total = sum(array.shape[0] for array in arrays)
    whole = first.dtype == np.uint8
    kind = "uint8" if whole else "float32"
    at_once = rows_at_once("--resize", side, len(bands), kind) if options.resize else BLOCK_ROWS
    if not whole and first.dtype.newbyteorder("=") != np.float32:
        ledger.note(f"{first.dtype} pixels are stored as float32.")
    ids: Sequence[str]
    if options.id_column:
        ids = table.ids(options.id_column)
    else:
        ids = table.ids("id") if "id" in table.values else RowNames(total)
    table = without_reserved(table, ids, ledger)
    fit = "resize" if options.resize else "exact" if options.size is None else "crop"
    stored = stored_as(side, kind, fit) | resizing.recorded(options.size, options.resize)
    if side > size:
        ledger.note(f"Pictures of {size} × {size} px are enlarged to {side} × {side} px.")
    about = About(
        domain=options.domain,
        bands=bands,
        unit=options.unit or "",
        pixel_scale=None if options.pixel_scale is None else options.pixel_scale * size / side,
        origin="upper",
        source=source,
        preprocess=stored | recorded(options.permute),
    )
    added = {} if whole else {"masked_fraction": MASKED}
    with (
        write_samples(out, about, table.columns | added, replace=options.overwrite) as writer,
        progress("arrays", total, "objects", quiet=options.quiet) as advance,
    ):
        start = 0
        for array in arrays:
            begin = start
            for block in _pieces(array.blocks(), at_once):
                rows = np.arange(start, start + len(block))
                images = center_crop(_bands_first(block, options), size)  # (n, C, S, S)
                start += len(block)
                told = rows_of(array.where, 0)
                if whole:
                    from_rows = Rows(rows - begin, told)
                    named = [ids[row] for row in rows.tolist()]
                    images = permuted(resized(images, side), about)  # (n, C, side, side)
                    writer.append(named, np.ascontiguousarray(images), table.take(rows), from_rows)
                else:
                    filled, fraction, keep = measured(as_float32(images), [ids[row] for row in rows.tolist()], ledger)
                    kept = rows[keep]
                    if len(kept):
                        catalog = table.take(kept) | {"masked_fraction": fraction}
                        images = permuted(resized(filled, side), about)
                        writer.append([ids[row] for row in kept], images, catalog, Rows(kept - begin, told))
                advance(len(block))


def _pieces(blocks: Iterator[NDArray[Any]], most: int) -> Iterator[NDArray[Any]]:
    """The same rows, so many at most at once, since pictures that are enlarged take more than those that are read."""
    for block in blocks:
        for start in range(0, len(block), most):
            yield block[start : start + most]


def check_array(array: Array, options: Options) -> None:
    """InputError where an array's shape or type is none of pictures'."""
    shape = array.shape
    if array.dtype.kind not in "fiub":
        raise InputError(f"{array.where} holds {array.dtype}; pixels are real numbers.")
    if len(shape) == 3 and len(options.bands) != 1:
        raise InputError(
            f"{array.where} is {shape}; arrays are (N, C, H, W). If it is N pictures of one band, name that band with "
            "--bands."
        )
    if len(shape) not in (3, 4):
        raise InputError(f"Arrays are (N, C, H, W), but {array.where} is {shape}.")
    if 0 in shape:
        raise InputError(f"{array.where} is empty: {shape}.")
    if len(shape) == 4 and not options.bands_last and shape[1] == shape[2] and shape[3] <= 16 and shape[1] > 16:
        raise InputError(
            f"{array.where} is {shape}, which looks like (N, H, W, C); bands come before rows, (N, C, H, W), unless "
            "--bands-last is given."
        )


def native(block: NDArray[Any]) -> NDArray[Any]:
    return block.astype(block.dtype.newbyteorder("="), copy=False)


def _bands_first(block: NDArray[Any], options: Options) -> NDArray[Any]:
    """Rows as (n, C, H, W)."""
    if block.ndim == 3:
        return block[:, None]
    return block.transpose(0, 3, 1, 2) if options.bands_last else block


def _table(
    arrays: Sequence[Array], columns: Sequence[Columns], options: Options, ledger: Ledger, known: dict[str, Column]
) -> Table:
    """The catalog and the arrays' own columns, one row per object."""
    total = sum(array.shape[0] for array in arrays)
    table = Table("the arrays")
    if options.catalog is not None:
        table = read_table(options.catalog, ledger, texts=[*(options.id_column or "").split(":"), "id"])
        if ledger.skipped:
            name, reason = ledger.skipped[0]
            raise InputError(f"{name} cannot be left out, since the catalog's rows go with the arrays': {reason}")
        if len(table) != total:
            rows, objects = counted(len(table), "row"), counted(total, "object")
            raise InputError(f"{options.catalog} has {rows}, but the arrays hold {objects}.")
    shared = [name for name in columns[0] if all(name in found for found in columns)]
    for name in shared:
        if name in table.values:
            ledger.note(f"Column {name!r} is taken from the catalog, not from the arrays' file.")
        else:
            kinds = {found[name].dtype.kind for found in columns}
            if len(kinds) > 1:
                raise InputError(
                    f"Files share their columns' types, but array {name!r} holds "
                    f"{' and '.join(sorted(KINDS.get(kind, 'texts') for kind in kinds))}."
                )
            table.add(name, np.concatenate([found[name] for found in columns]), known.get(name, Column()))
    return table


def _bands(array: Array, options: Options, ledger: Ledger) -> tuple[str, ...]:
    count = 1 if len(array.shape) == 3 else array.shape[-1 if options.bands_last else 1]
    if options.bands:
        if len(options.bands) != count:
            raise InputError(f"{array.where} has {count} bands, but {len(options.bands)} are named.")
        return options.bands
    if count == 1:
        return ("gray",)
    if count == 3 and array.dtype == np.uint8:
        return ("R", "G", "B")
    made = tuple(f"band_{i + 1}" for i in range(count))
    ledger.note(f"The bands are called {', '.join(made)}; name them with --bands.")
    return made


def _size(array: Array, options: Options) -> int:
    last = len(array.shape) == 4 and options.bands_last
    height, width = array.shape[1:3] if last else array.shape[-2:]
    if options.size is None:
        if height != width:
            before = ", before it is resized" if options.resize else ""
            raise InputError(
                f"{array.where} holds {width} × {height} px, not square; give a side with --size, to which the center "
                f"is cropped{before}."
            )
        return height
    if options.size > min(height, width):
        raise InputError(
            f"{array.where} holds {width} × {height} px, smaller than the {options.size} px asked for; --size crops "
            "arrays, --resize enlarges them."
        )
    return options.size
