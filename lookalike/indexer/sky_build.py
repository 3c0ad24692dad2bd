"""Making the sky index of a version in bounded memory: positions are dealt to parts of the sky, each sorted alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import atomic_folder, lock, write_json, write_point
from lookalike.hashing import ArrayHash, combine
from lookalike.indexer.bins import append, digest, write
from lookalike.indexer.footprints import DEGREES, unfit
from lookalike.indexer.sky import ABOUT, ARRAYS, ZONES, SkyAbout, SkyArray, SkyIndex, sky_folder, zone_of
from lookalike.indexer.sphere import Values, check_positions
from lookalike.indexer.store import Index
from lookalike.progress import progress
from lookalike.samples import Samples

COLUMNS = ("ra", "dec")
UNITS = (*DEGREES, "")
MEMORY_BYTES = 2**28
PER_OBJECT = 128  # bytes held for each object that is dealt or sorted at once
CELLS = 60  # of ra in a zone, by which positions are dealt
RECORD = np.dtype([("ra", "<f8"), ("dec", "<f8"), ("row", "<i8")])

Cells = NDArray[np.int64]
Blocks = Callable[[], Iterator[tuple[NDArray[Any], ...]]]  # (ra, dec) of all objects in order, as often as asked


@dataclass(frozen=True)
class SkyReport:
    """What was made, or found to be there already (`reused`): objects with a position, and how many have none."""

    version: str
    objects: int
    without_position: int
    content_hash: str
    seconds: float
    reused: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def has_positions(samples: Samples) -> bool:
    """Whether a data set has the columns ra and dec that a sky index is made of."""
    return not unfit(samples, COLUMNS, UNITS)


def build_sky(
    folder: Path,
    *,
    samples: Sequence[Path] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    quiet: bool = False,
) -> SkyReport:
    """Make the sky index of the served version of an index from columns ra and dec of its samples, in degrees.

    samples : where they are now, if they moved. memory_bytes : about what is held at once; the result does not depend
    on it. One that is there and whole is kept. InputError where there are no positions or one is out of range,
    LockedError where another process writes the index.
    """
    began = time.monotonic()
    folder = Path(folder)
    Index(folder)  # what is no index gets no lock beside it
    with lock(folder):
        index = Index(folder)
        place = sky_folder(folder, index.version)
        if (there := _whole(index)) is not None:
            return _report(there.about, began, reused=True)
        data = index.open_samples([Path(path) for path in samples] if samples else None)
        if why_not := unfit(data, COLUMNS, UNITS):
            raise InputError(f"A sky index needs columns ra and dec in deg, but {why_not}.", code="no_positions")
        at_once = max(1, memory_bytes // PER_OBJECT)

        def blocks() -> Iterator[tuple[NDArray[Any], ...]]:
            return data.column_blocks(COLUMNS, at_once)

        # Every position is looked at before anything is written.
        counts = count_cells(blocks, len(data), ", ".join(map(str, data.paths)), quiet=quiet)
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(place) as made:
            arrays, hashes = write_sky(made, blocks, counts, len(data), at_once=at_once, quiet=quiet)
            about = describe(made, arrays, hashes, len(data), index.version, index.manifest.content_hash)
            write_point("sky.made")
    return _report(about, began)


def count_cells(blocks: Blocks, objects: int, where: str, *, quiet: bool = False) -> Cells:
    """Objects in each cell of one arcminute by 6°; InputError, which says where, for a position out of range."""
    counts = np.zeros(ZONES * CELLS, np.int64)
    with progress("sky: look at", objects, "positions", quiet=quiet) as advance:
        for _, ra, dec in _placed(blocks, where, advance):
            counts += np.bincount(_cell(ra, dec), minlength=len(counts))
    return counts


def write_sky(
    folder: Path, blocks: Blocks, counts: Cells, objects: int, *, at_once: int, quiet: bool = False
) -> tuple[dict[str, SkyArray], dict[str, ArrayHash]]:
    """Fill a folder with the arrays of a sky index, and return what they are.

    blocks : all positions in row order, as they were counted. at_once : objects sorted together, unless more share a
    cell.
    """
    ends = np.cumsum(counts)
    row_type = np.dtype("<i4") if objects < 2**31 else np.dtype("<i8")
    types = {"ra": np.dtype("<f8"), "dec": np.dtype("<f8"), "row": row_type, "zone_start": np.dtype("<i8")}
    hashes = {name: ArrayHash() for name in ARRAYS}
    with progress("sky: sort", 2 * objects, "positions", quiet=quiet) as advance:
        for part in _dealt(folder, blocks, (ends - counts) // at_once, advance):
            records = np.fromfile(part, RECORD)
            records = records[np.lexsort((records["ra"], zone_of(records["dec"])))]  # stable: equal ones by row
            for name in ("ra", "dec", "row"):
                append(folder / f"{name}.bin", records[name].astype(types[name]), hashes[name])
            part.unlink()
            advance(len(records))
    starts = np.append(0, ends.reshape(ZONES, CELLS)[:, -1]).astype(types["zone_start"])
    append(folder / "zone_start.bin", starts, hashes["zone_start"])
    lengths = dict.fromkeys(ARRAYS, int(ends[-1])) | {"zone_start": ZONES + 1}
    arrays = {
        name: SkyArray(dtype=types[name].str, length=lengths[name], sha256=digest(hashes[name])) for name in ARRAYS
    }
    return arrays, hashes


def describe(
    folder: Path,
    arrays: dict[str, SkyArray],
    hashes: dict[str, ArrayHash],
    objects: int,
    version: str,
    index_hash: str,
) -> SkyAbout:
    """Write what a folder of arrays is, and of which version."""
    about = SkyAbout(
        version=version,
        index_hash=index_hash,
        columns=COLUMNS,
        objects=objects,
        without_position=objects - arrays["row"].length,
        arrays=arrays,
        content_hash="",
    )
    about = about.model_copy(update={"content_hash": combine(hashes, about.identity())})
    write_json(folder / ABOUT, about.model_dump(mode="json"))
    return about


def _dealt(folder: Path, blocks: Blocks, part_of: Cells, advance: Callable[[int], None]) -> list[Path]:
    """Files of positions as records, in row order, of parts that are runs of cells; part_of : (cells,)."""
    parts = [folder / f"part{part}.bin" for part in range(int(part_of[-1]) + 1)]
    for path in parts:
        path.touch()
    for rows, ra, dec in _placed(blocks, "the positions", advance):
        part = part_of[_cell(ra, dec)]
        order = np.argsort(part, kind="stable")
        records = np.empty(len(rows), RECORD)
        records["ra"], records["dec"], records["row"] = ra[order], dec[order], rows[order]
        part = part[order]
        for number in np.unique(part).tolist():
            begin, end = np.searchsorted(part, [number, number + 1])
            write(parts[number], records[begin:end])
    return parts


def _placed(
    blocks: Blocks, where: str, advance: Callable[[int], None]
) -> Iterator[tuple[NDArray[np.int64], Values, Values]]:
    """Row, ra and dec (n,) of the objects that have a position, block by block."""
    first = 0
    for across, along in blocks():
        ra, dec = across.astype(np.float64), along.astype(np.float64)
        there = np.flatnonzero(check_positions(ra, dec, COLUMNS, first, where))
        yield first + there, ra[there], dec[there]
        first += len(ra)
        advance(len(ra))


def _cell(ra: Values, dec: Values) -> NDArray[np.int64]:
    """The cell (n,) of positions: zones from the south, cells by ra within each."""
    step: NDArray[np.int64] = np.minimum(np.floor(ra * (CELLS / 360)), CELLS - 1).astype(np.int64)
    return zone_of(dec) * CELLS + step


def _whole(index: Index) -> SkyIndex | None:
    """The sky index that is there, None where it has to be made anew."""
    try:
        sky = SkyIndex.of(index)
        sky.verify()
    except (NotFoundError, CorruptError, InputError):
        return None
    return sky


def _report(about: SkyAbout, began: float, *, reused: bool = False) -> SkyReport:
    counts = (about.objects - about.without_position, about.without_position)
    return SkyReport(about.version, *counts, about.content_hash, time.monotonic() - began, reused)
