"""NumPy arrays: (N, C, H, W) in .npy or .npz files, read a block at a time, with a catalog of N rows.

(N, H, W) is taken as one band only where exactly one band is named, since it could as well be one object of N
bands. Pickled objects are never loaded. uint8 and float32 are stored as they are, any other type as float32.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.cutouts import MASKED, as_float32, center_crop, measured, stored_as
from lookalike.datasets.lost_numbers import note_lost_numbers
from lookalike.datasets.table import Table, plain_values, read_table, without_reserved
from lookalike.errors import InputError
from lookalike.files import existing_files
from lookalike.progress import progress
from lookalike.samples import KINDS, About, Column
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

BLOCK_BYTES = 32 * 1024**2
MAGIC = b"\x93NUMPY"
MEMBER = "images"  # the array of an .npz file that holds the pictures
SMALL_MEMBER = 256 * 1024**2  # bytes of another array of an .npz file


@dataclass(frozen=True)
class Source:
    """One array: its file, its member where the file is an .npz, its shape and type."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def where(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}[{self.member}]"

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every array's header, then copy block by block."""
    sources: list[Source] = []
    columns: list[dict[str, NDArray[Any]]] = []
    for path in existing_files(files):
        try:
            source = _source(path, options)
            found = _columns(path, source, ledger)
        except InputError as error:
            if not ledger.skip_bad:
                raise
            ledger.bad(str(path), error.message)
            continue
        sources.append(source)
        columns.append(found)
    if not sources:
        raise InputError("No array could be read; nothing was written.")
    first = sources[0]
    for source in sources:
        if source.shape[1:] != first.shape[1:] or source.dtype != first.dtype:
            raise InputError(
                f"{source.where} holds {source.shape[1:]} {source.dtype} per object, but {first.where} holds "
                f"{first.shape[1:]} {first.dtype}."
            )
    _write(sources, _table(sources, columns, options, ledger), out, options, ledger)


def _write(sources: list[Source], table: Table, out: Path, options: Options, ledger: Ledger) -> None:
    first = sources[0]
    bands = _bands(first, options, ledger)
    size = _size(first, options)
    total = sum(source.shape[0] for source in sources)
    whole = first.dtype == np.uint8
    if not whole and first.dtype.newbyteorder("=") != np.float32:
        ledger.note(f"{first.dtype} pixels are stored as float32.")
    if options.id_column:
        ids = table.ids(options.id_column)
    else:
        ids = table.ids("id") if "id" in table.values else [str(row) for row in range(total)]
    table = without_reserved(table, ids, ledger)
    about = About(
        domain=options.domain,
        bands=bands,
        unit=options.unit or "",
        pixel_scale=options.pixel_scale,
        origin="upper",
        source="NumPy arrays",
        preprocess=stored_as(size, "uint8" if whole else "float32", "exact" if options.size is None else "crop"),
    )
    columns = table.columns if whole else table.columns | {"masked_fraction": MASKED}
    with (
        write_samples(out, about, columns, replace=options.overwrite) as writer,
        progress("numpy", total, "objects", quiet=options.quiet) as advance,
    ):
        start = 0
        for source in sources:
            for block in _blocks(source):
                rows = np.arange(start, start + len(block))
                images = center_crop(block.reshape(len(block), len(bands), *source.shape[-2:]), size)
                start += len(block)
                if whole:
                    writer.append([ids[row] for row in rows], np.ascontiguousarray(images), table.take(rows))
                else:
                    filled, fraction, keep = measured(as_float32(images), [ids[row] for row in rows], ledger)
                    kept = rows[keep]
                    if len(kept):
                        catalog = table.take(kept) | {"masked_fraction": fraction}
                        writer.append([ids[row] for row in kept], filled, catalog)
                advance(len(block))


# The header of an array, and blocks of its rows.


def _source(path: Path, options: Options) -> Source:
    if path.suffix.lower() == ".npz":
        source = _npz_source(path)
    elif path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            source = Source(path, None, *read_header(file, str(path)))
            length = path.stat().st_size - file.tell()
            needed = math.prod(source.shape) * source.dtype.itemsize
        if needed != length:
            raise InputError(f"{path} declares {needed:,} bytes of values, but holds {length:,}.", code="bad_file")
    else:
        raise InputError(f"Arrays come in .npy or .npz files, but {path} was given.")
    _check_shape(source, options)
    return source


def _npz_source(path: Path) -> Source:
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        arrays = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        found = {}
        for member, name in arrays.items():
            if member == MEMBER or MEMBER not in arrays:
                try:
                    with reading(f"{path}[{member}]"), archive.open(name) as file:
                        shape, dtype, fortran = read_header(file, f"{path}[{member}]")
                except InputError:
                    if member == MEMBER:
                        raise
                    continue
                if member == MEMBER or len(shape) == 4:
                    found[member] = Source(path, member, shape, dtype, fortran)
    if len(found) != 1:
        raise InputError(
            f"{path} needs an array named {MEMBER!r}, or just one of four dimensions; it holds: "
            f"{', '.join(arrays) or 'none'}."
        )
    source = next(iter(found.values()))
    if source.fortran and math.prod(source.shape) > 0:
        raise InputError(f"{source.where} is saved in Fortran order; save np.ascontiguousarray of it.")
    return source


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a damaged .npz file makes zipfile and its decoders raise into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # zlib, lzma, struct, header and text errors among them
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} cannot be read as .npz: {text}", code="bad_file") from None


def read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, dtype and whether Fortran order of an array in .npy format, leaving `file` at its first value."""
    begin = file.read(len(MAGIC))
    if begin != MAGIC:
        raise InputError(
            f"{where} is not a NumPy array: it does not begin as the .npy files of numpy.save do.", code="bad_file"
        )
    try:
        version = (file.read(1)[0], file.read(1)[0])
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # the header is a Python literal, and what it is read from may be damaged
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{where} is not a NumPy array: {text}", code="bad_file") from None
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled objects, which are never loaded.", code="bad_file")
    if any(side < 0 for side in shape):
        raise InputError(f"{where} has the impossible shape {shape}.", code="bad_file")
    return shape, dtype, fortran


def _check_shape(source: Source, options: Options) -> None:
    shape = source.shape
    if source.dtype.kind not in "fiub":
        raise InputError(f"{source.where} holds {source.dtype}; pixels are real numbers.")
    if len(shape) == 3 and len(options.bands) != 1:
        raise InputError(
            f"{source.where} is {shape}; arrays are (N, C, H, W). If it is N pictures of one band, name that band with "
            "--bands."
        )
    if len(shape) not in (3, 4):
        raise InputError(f"Arrays are (N, C, H, W), but {source.where} is {shape}.")
    if 0 in shape:
        raise InputError(f"{source.where} is empty: {shape}.")
    if len(shape) == 4 and shape[1] == shape[2] and shape[3] <= 16 and shape[1] > 16:
        raise InputError(
            f"{source.where} is {shape}, which looks like (N, H, W, C); bands come before rows: (N, C, H, W)."
        )


def _blocks(source: Source) -> Iterator[NDArray[Any]]:
    """Consecutive rows (n, …) in native byte order."""
    rows = max(1, BLOCK_BYTES // max(1, source.row_bytes))
    if source.member is None:
        mapped = np.load(source.path, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(mapped), rows):
            yield _native(np.asarray(mapped[start : start + rows]))
        return
    with ExitStack() as stack:
        with reading(source.where):
            archive = stack.enter_context(zipfile.ZipFile(source.path))
            file = stack.enter_context(archive.open(f"{source.member}.npy"))
            read_header(file, source.where)
        for start in range(0, source.shape[0], rows):
            count = min(rows, source.shape[0] - start)
            with reading(source.where):
                data = file.read(count * source.row_bytes)
            if len(data) != count * source.row_bytes:
                raise InputError(f"{source.where} ends before its last row.", code="bad_file")
            yield _native(np.frombuffer(data, source.dtype).reshape(count, *source.shape[1:]))


def _native(block: NDArray[Any]) -> NDArray[Any]:
    return block.astype(block.dtype.newbyteorder("="), copy=False)


# The catalog, bands and size.


def _columns(path: Path, source: Source, ledger: Ledger) -> dict[str, NDArray[Any]]:
    """Other arrays (N,) of an .npz file, as catalog columns."""
    if source.member is None:
        return {}
    found = {}
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            member = name.removesuffix(".npy")
            if member == source.member or archive.getinfo(name).file_size > SMALL_MEMBER:
                continue
            try:
                with reading(f"{path}[{member}]"), archive.open(name) as file:
                    shape, dtype, _ = read_header(file, f"{path}[{member}]")
                    values = file.read(math.prod(shape) * dtype.itemsize) if shape == source.shape[:1] else None
            except InputError:
                values = None
            plain = None
            if values is not None and len(values) == math.prod(shape) * dtype.itemsize:
                plain = plain_values(np.frombuffer(values, dtype)) if dtype.kind in "fiubSU" else None
            if plain is None:
                ledger.note(
                    f"Array {member!r} of {path.name} is left out: it is no column of {source.shape[0]:,} values."
                )
            else:
                note_lost_numbers(member, plain, path.name, ledger)
                found[member] = plain
    return found


def _table(sources: list[Source], columns: list[dict[str, NDArray[Any]]], options: Options, ledger: Ledger) -> Table:
    """The catalog and the arrays' own columns, one row per object."""
    total = sum(source.shape[0] for source in sources)
    table = Table("the arrays")
    if options.catalog is not None:
        if ledger.skipped:
            name, reason = ledger.skipped[0]
            raise InputError(f"{name} cannot be left out, since the catalog's rows go with the arrays': {reason}")
        table = read_table(options.catalog, ledger, texts=[*(options.id_column or "").split(":"), "id"])
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
            table.add(name, np.concatenate([found[name] for found in columns]), Column())
    return table


def _bands(source: Source, options: Options, ledger: Ledger) -> tuple[str, ...]:
    count = 1 if len(source.shape) == 3 else source.shape[1]
    if options.bands:
        if len(options.bands) != count:
            raise InputError(f"{source.where} has {count} bands, but {len(options.bands)} are named.")
        return options.bands
    if count == 1:
        return ("gray",)
    if count == 3 and source.dtype == np.uint8:
        return ("R", "G", "B")
    made = tuple(f"band_{i + 1}" for i in range(count))
    ledger.note(f"The bands are called {', '.join(made)}; name them with --bands.")
    return made


def _size(source: Source, options: Options) -> int:
    height, width = source.shape[-2:]
    if options.size is None:
        if height != width:
            raise InputError(f"{source.where} holds {width} × {height} px, not square; give a side with --size.")
        return height
    if options.size > min(height, width):
        raise InputError(f"{source.where} holds {width} × {height} px, smaller than the {options.size} px asked for.")
    return options.size
