"""DESI Legacy Surveys cutouts as published in HDF5 (Stein et al. 2021), read unchanged.

Each file holds `images` (N, 3, 152, 152) float32 in g, r, z (nanomaggies per pixel) and, row by row, columns of
the sweep catalog, per-band ones as (N, bands). Files are read in natural order, whatever their names, a block of
rows at a time; each per-band column becomes one column per band.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, Options, listed
from lookalike.datasets.cutouts import MASKED, as_float32, center_crop, measured, stored_as
from lookalike.datasets.hdf5_guard import guarded, is_plain
from lookalike.datasets.table import Table, clean_name, plain_values
from lookalike.errors import InputError, unknown
from lookalike.files import existing_files
from lookalike.origins import Rows, rows_of
from lookalike.progress import progress
from lookalike.samples import KINDS, About, Column
from lookalike.samples_writer import write_samples
from lookalike.wording import counted

BANDS = ("g", "r", "z")
PIXEL_SCALE = 0.262  # arcsec/px
ZERO_POINT = 22.5  # AB magnitude of 1 nanomaggy
BLOCK_BYTES = 32 * 1024**2  # of images read at once
TOP_ROWS = 1024**2  # catalog rows looked through at once
LONGEST_TEXT = 1024  # characters of a text value

# The sweep catalog's bands by the number of a per-band column's values.
SUFFIXES = {3: ("g", "r", "z"), 5: ("g", "r", "z", "w1", "w2"), 7: ("g", "r", "z", "w1", "w2", "w3", "w4")}

SWEEP = {
    "ra": Column("deg", "right ascension, ICRS", "pos.eq.ra;meta.main"),
    "dec": Column("deg", "declination, ICRS", "pos.eq.dec;meta.main"),
    "inds": Column("", "row of the object in the full release", "meta.id"),
    "ebv": Column("mag", "Galactic extinction E(B-V) of Schlegel, Finkbeiner & Davis (1998)", "phot.color.excess"),
    "flux": Column("nanomaggy", "model flux, not dereddened", "phot.flux"),
    "fiberflux": Column("nanomaggy", "flux within a fiber of 1.5 arcsec diameter", "phot.flux"),
    "fracin": Column("", "fraction of the flux within the model's pixels", ""),
    "transmission": Column("", "Galactic transmission, 0 to 1", "phys.transmission"),
    "nobs": Column("", "images that cover the center", "meta.number"),
    "psfsize": Column("arcsec", "full width at half maximum of the point-spread function", "instr.obsty.seeing"),
    "psfdepth": Column("nanomaggy-2", "inverse variance of a point source's flux", "stat.weight"),
    "maskbits": Column("", "bitwise mask of the pixel at the center", "meta.code"),
    "brickid": Column("", "survey brick", "meta.id.part"),
    "objid": Column("", "object number within the brick", "meta.id.part"),
    "release": Column("", "data release and camera", "meta.id.part"),
    "source_type": Column("", "model that fits best: PSF, REX, EXP, DEV, SER", "src.class"),
    "z_spec": Column("", "spectroscopic redshift", "src.redshift"),
    "z_training": Column("", "whether the object trained the photometric redshifts", "meta.code"),
    "z_phot_mean": Column("", "photometric redshift, mean", "src.redshift.phot"),
    "z_phot_median": Column("", "photometric redshift, median", "src.redshift.phot"),
    "z_phot_std": Column("", "photometric redshift, standard deviation", "stat.error;src.redshift.phot"),
    "z_phot_l68": Column("", "photometric redshift, lower 68 % limit", "stat.min;src.redshift.phot"),
    "z_phot_u68": Column("", "photometric redshift, upper 68 % limit", "stat.max;src.redshift.phot"),
    "z_phot_l95": Column("", "photometric redshift, lower 95 % limit", "stat.min;src.redshift.phot"),
    "z_phot_u95": Column("", "photometric redshift, upper 95 % limit", "stat.max;src.redshift.phot"),
}


@dataclass(frozen=True)
class Field:
    """A catalog data set: the shape of one row, and the kind its values are stored as, a key of samples.KINDS."""

    tail: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Shard:
    """One checked file: its rows, the side of its images, and its catalog data sets."""

    path: Path
    n: int
    side: int
    fields: dict[str, Field]


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Check every file first, then copy block by block into one samples file."""
    shards = [shard for path in existing_files(files) if (shard := _checked(path, ledger))]
    if not shards:
        raise InputError("No file could be read; nothing was written.", code="no_objects")
    first = shards[0]
    size = options.size or min(shard.side for shard in shards)
    for shard in shards:
        _check_fields(shard, first)
        if size > shard.side or (options.size is None and shard.side != first.side):
            raise InputError(
                f"{shard.path} holds images of {shard.side} px and {first.path} of {first.side} px; give a --size "
                f"that all of them have."
            )
    if options.id_column is not None:
        _check_id_column(options.id_column, first)
    elif "inds" not in first.fields:
        raise InputError(f"{first.path} has no `inds` to make ids from; name a column with --id-column.")
    _write(shards, size, out, options, ledger)


def _check_fields(shard: Shard, first: Shard) -> None:
    """InputError where two files' columns are not the same, or hold other kinds of values."""
    odd = sorted({name for name, _ in set(shard.fields.items()) ^ set(first.fields.items())})
    for name in odd:
        here, there = shard.fields.get(name), first.fields.get(name)
        if here and there and here.tail == there.tail:
            raise InputError(
                f"Files share their columns' types, but {name!r} holds {KINDS[here.kind]} in {shard.path} and "
                f"{KINDS[there.kind]} in {first.path}."
            )
    if odd:
        raise InputError(f"{shard.path} and {first.path} differ in their columns: {', '.join(odd)}.")


def _check_id_column(id_column: str, shard: Shard) -> None:
    for part in [id_column] if id_column in shard.fields else id_column.split(":"):
        if part not in shard.fields:
            raise unknown("column", part, sorted(shard.fields))


def _write(shards: list[Shard], size: int, out: Path, options: Options, ledger: Ledger) -> None:
    about = About(
        domain=options.domain,
        bands=BANDS,
        unit="nanomaggies",
        pixel_scale=PIXEL_SCALE,
        origin="lower",
        source="DESI Legacy Imaging Surveys DR9 cutouts (Dey et al. 2019; Stein et al. 2021)",
        license="see legacysurvey.org/acknowledgment",
        survey={"name": "legacysurvey", "footprint": size},
        preprocess=stored_as(size, "float32", "crop"),
    )
    with (
        write_samples(out, about, _columns(shards[0], ledger), replace=options.overwrite) as writer,
        progress("legacysurvey", sum(shard.n for shard in shards), "objects", quiet=options.quiet) as advance,
    ):
        for shard in shards:
            for rows, images, table, names in _blocks(shard, size, options, ledger):
                kept_images, fraction, keep = measured(images, names, ledger)
                if keep.any():
                    kept = [name for name, kept in zip(names, keep, strict=True) if kept]
                    columns = table.take(keep) | {"masked_fraction": fraction}
                    writer.append(kept, kept_images, columns, Rows(rows[keep], rows_of(shard.path, 0)))
                advance(len(images))


def _checked(path: Path, ledger: Ledger) -> Shard | None:
    """What a file holds, or None where it is bad and bad files are skipped."""
    try:
        return _inspect(path, ledger)
    except InputError as error:
        if not ledger.skip_bad:
            raise
        ledger.bad(str(path), error.message)
        return None


def _inspect(path: Path, ledger: Ledger) -> Shard:
    with guarded(path) as file:
        images = file.get("images")
        if not isinstance(images, h5py.Dataset):
            raise InputError(f"{path} has no data set `images`; it holds: {', '.join(sorted(file)) or 'nothing'}.")
        shape: tuple[int, ...] = images.shape or ()
        if len(shape) != 4 or shape[1] != len(BANDS) or shape[2] != shape[3] or images.dtype.kind != "f":
            raise InputError(
                f"`images` must be (N, {len(BANDS)}, S, S) floating point in {', '.join(BANDS)}, but in {path} it is "
                f"{shape} {images.dtype}."
            )
        fields = {}
        for name in file:
            data = file[name]
            if name == "images":
                continue
            if not isinstance(data, h5py.Dataset) or not is_plain(data.dtype) or len(data.shape or ()) not in (1, 2):
                ledger.note(f"{name!r} of {path.name} is left out: it is no column of numbers or texts.")
            elif data.shape[0] != shape[0]:
                raise InputError(
                    f"{path}: {name!r} has {counted(data.shape[0], 'row')}, but `images` has {shape[0]:,}."
                )
            else:
                fields[name] = Field(data.shape[1:], _kind(data))
        return Shard(path, shape[0], shape[2], fields)


def _kind(data: h5py.Dataset) -> str:
    """The kind a catalog data set is stored as, whole: integers above 2^63 - 1 make all of it texts."""
    if data.dtype.kind == "u" and data.dtype.itemsize == 8:
        try:
            tops = [data[start : start + TOP_ROWS].max() for start in range(0, len(data), TOP_ROWS)]
        except (OSError, RuntimeError) as error:
            raise InputError(f"{data.file.filename}: {data.name} cannot be read: {error}", code="bad_file") from None
        return "S" if max(tops, default=0) > np.iinfo(np.int64).max else "i"
    return {"f": "f", "i": "i", "u": "i", "b": "i"}.get(data.dtype.kind, "S")


def _columns(shard: Shard, ledger: Ledger) -> dict[str, Column]:
    """The catalog columns a file's data sets become, with what is known of each."""
    columns: dict[str, Column] = {}
    if unknown_ones := [name for name in shard.fields if name.lower() not in SWEEP]:
        ledger.note(f"Not among the columns the survey published, so of no known unit: {listed(unknown_ones)}.")
    for name, field in shard.fields.items():
        known = SWEEP.get(name.lower(), Column())
        for part, suffix in _parts(name, field.tail):
            text = f"{known.description}, {suffix}" if suffix and known.description else known.description
            if part in columns:
                raise InputError(f"{shard.path} has two columns that become {part!r}.")
            columns[part] = Column(known.unit, text, known.ucd)
    for band in BANDS:
        if f"flux_{band}" in columns and f"mag_{band}" not in columns:
            text = f"AB magnitude 22.5 - 2.5 log10 flux_{band}, not dereddened; NaN where the flux is <= 0"
            columns[f"mag_{band}"] = Column("mag", text, "phot.mag")
    if "masked_fraction" in columns:
        raise InputError(f"{shard.path} has a column `masked_fraction`, which ingestion makes itself.")
    return columns | {"masked_fraction": MASKED}


def _parts(name: str, tail: tuple[int, ...]) -> list[tuple[str, str]]:
    """(column, band) for each value of a data set's rows: `flux` of 3 becomes flux_g, flux_r, flux_z."""
    clean = clean_name(name) if name != "id" else "id_catalog"  # `id` is what the stored ids are called
    count = math.prod(tail)
    if count == 1:
        return [(clean, "")]
    suffixes = SUFFIXES.get(count, tuple(str(i) for i in range(count)))
    # Four values begin with g, r, z all the same where the column is a per-band one.
    if count not in SUFFIXES and name.lower() in ("flux", "fiberflux", "psfsize", "psfdepth", "nobs"):
        suffixes = ("g", "r", "z", *(str(i) for i in range(3, count)))[:count]
    return [(f"{clean}_{suffix}", suffix) for suffix in suffixes]


def _blocks(
    shard: Shard, size: int, options: Options, ledger: Ledger
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], Table, list[str]]]:
    """Consecutive rows (n,) of a file: images (n, 3, size, size) float32, catalog columns (n,) and ids."""
    with guarded(shard.path) as file:
        data = file["images"]
        rows = max(1, BLOCK_BYTES // (math.prod(data.shape[1:]) * data.dtype.itemsize))
        if data.chunks is not None:  # whole chunks, so that none is decompressed twice
            rows = max(data.chunks[0], rows // data.chunks[0] * data.chunks[0])
        for start in range(0, shard.n, rows):
            for first, images, raw in _readable(file, shard, start, min(start + rows, shard.n), ledger):
                numbers = np.arange(first, first + len(images))
                yield numbers, as_float32(center_crop(images, size)), _table(shard, raw), _ids(shard, raw, options)


def _readable(
    file: h5py.File, shard: Shard, start: int, stop: int, ledger: Ledger
) -> Iterator[tuple[int, NDArray[Any], dict[str, NDArray[Any]]]]:
    """First row, images (n, 3, S, S) and catalog values of rows, in halves where they cannot be read, down to one."""
    try:
        images = file["images"][start:stop]
        raw = {name: _read_column(file[name], start, stop) for name in shard.fields}
    except (OSError, RuntimeError, UnicodeDecodeError, MemoryError) as error:
        if stop - start == 1 or not ledger.skip_bad:
            rows = f"row {start}" if stop - start == 1 else f"rows {start}-{stop - 1}"
            ledger.bad(f"{shard.path} {rows}", f"cannot be read: {error}.", objects=stop - start)
            return
        middle = (start + stop) // 2
        yield from _readable(file, shard, start, middle, ledger)
        yield from _readable(file, shard, middle, stop, ledger)
        return
    yield start, images, raw


def _read_column(data: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows of a catalog data set; texts of any kind as str."""
    if h5py.check_string_dtype(data.dtype) is None:
        return np.asarray(data[start:stop])
    values = data.asstr("utf-8", "replace")[start:stop]
    longest = max((len(text) for text in values.flat), default=0)
    if longest > LONGEST_TEXT:
        raise InputError(f"{data.file.filename}: {data.name} holds a text of {longest:,} characters.")
    return np.asarray(values).astype(str)


def _table(shard: Shard, raw: dict[str, NDArray[Any]]) -> Table:
    table = Table(shard.path.name)
    for name, field in shard.fields.items():
        values = plain_values(raw[name])
        assert values is not None, "only plain columns were taken"
        if field.kind == "S":
            values = values.astype(str)
        flat = values.reshape(len(values), -1)  # (n, parts)
        for i, (part, _) in enumerate(_parts(name, field.tail)):
            table.values[part] = flat[:, i]
    for band in BANDS:
        if f"flux_{band}" in table.values:
            table.values.setdefault(f"mag_{band}", magnitude(table.values[f"flux_{band}"]))
    return table


def _ids(shard: Shard, raw: dict[str, NDArray[Any]], options: Options) -> list[str]:
    wanted = options.id_column or "inds"
    names = [wanted] if wanted in raw else wanted.split(":")
    plain = {name: plain_values(raw[name]) for name in names}
    return Table(shard.path.name, {name: values for name, values in plain.items() if values is not None}).ids(wanted)


def magnitude(flux: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """AB magnitudes of fluxes in nanomaggies, not dereddened; NaN where the flux is not positive."""
    positive = np.where(flux > 0, flux, np.nan).astype(np.float64)
    found: NDArray[np.float64] = ZERO_POINT - 2.5 * np.log10(positive)
    return found
