"""The sky index: the positions of an index's objects sorted by zone and right ascension, and cone search in it.

    INDEX/extras/v000001/sky/sky.json          what it describes, and the hashes of the four arrays
    INDEX/extras/v000001/sky/ra.bin, dec.bin   (M,) float64 degrees
    INDEX/extras/v000001/sky/row.bin           (M,) the object's row
    INDEX/extras/v000001/sky/zone_start.bin    (zones + 1,) int64, where each zone begins

A zone is a strip of one arcminute of declination; within it objects lie by ra, equal ones by row (Gray, Nieto-
Santisteban & Szalay, "The Zones Algorithm", MSR-TR-2006-52). A cone is a run of each zone it meets, two where it
crosses 0h, found by bisection. The arrays are mapped, so that processes share them and none holds a tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.config import Config
from lookalike.coordinates import check_position
from lookalike.errors import CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.files import read_json
from lookalike.hashing import combine
from lookalike.indexer.bins import digest, hash_of, mapped
from lookalike.indexer.sphere import Values, reach_in_ra, separation
from lookalike.indexer.store import Index, extras_folder

__all__ = ["Matches", "SkyIndex", "sky_folder"]

Rows = NDArray[np.int64]

SCHEMA = 1
KIND = "lookalike sky index"
ABOUT = "sky.json"
ARRAYS = ("ra", "dec", "row", "zone_start")
PER_DEGREE = 60  # zones
ZONES = 180 * PER_DEGREE
AT_ONCE = 2**19  # candidates whose separation is computed at once
RUNS = 2**19  # runs looked for at once
PAD, PAD_SHARE = 1e-11, 1e-9  # of runs, in degrees and of the radius: far more than their ends' rounding
NEARLY_ROUND = 179.999  # a run that goes all round is one, not two that touch


class SkyArray(Config):
    dtype: str
    length: int
    sha256: str


class SkyAbout(Config):
    """What a sky index holds, and of which version."""

    kind: str = KIND
    schema_version: int = SCHEMA
    version: str
    index_hash: str  # content hash of the version it describes
    columns: tuple[str, str]
    objects: int
    without_position: int  # ra or dec is NaN
    zones: int = ZONES
    arrays: dict[str, SkyArray]
    content_hash: str

    def identity(self) -> dict[str, Any]:
        """What enters the content hash besides the arrays."""
        names = ("kind", "index_hash", "columns", "objects", "without_position", "zones")
        return {name: value for name, value in self.model_dump(mode="json").items() if name in names}


@dataclass(frozen=True)
class Matches:
    """Objects within a radius of some positions, by position, then by separation, equal ones by row.

    query : (m,) which position; row : (m,) the object's; separation : (m,) degrees.
    """

    query: Rows
    row: Rows
    separation: Values


def sky_folder(folder: Path, version: str) -> Path:
    return extras_folder(folder, version) / "sky"


def zone_of(dec: Values) -> Rows:
    """The zone (…) of declinations in degrees; rounding keeps their order, so that no object is in a lower one."""
    zone: Rows = np.clip(np.floor((dec + 90) * PER_DEGREE), 0, ZONES - 1).astype(np.int64)
    return zone


class SkyIndex:
    """The sky index of one version of an index, memory-mapped read-only; safe to share between threads.

    ra, dec : (M,) degrees. row : (M,). zone_start : (zones + 1,). Opening checks sizes, `verify` every byte.
    NotFoundError ("no_sky") where it was not made, CorruptError where it is damaged or of another version.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self.about = _read_about(folder / ABOUT, index)
        self.ra: Values = self._map("ra")
        self.dec: Values = self._map("dec")
        self.row: Rows = self._map("row")
        self.zone_start: Rows = self._map("zone_start")
        lengths = [len(self.ra), len(self.dec), len(self.row), len(self.zone_start)]
        if lengths != [len(self)] * 3 + [ZONES + 1]:
            raise _altered(folder / ABOUT)
        ends = self.zone_start[[0, -1]].tolist()
        if ends != [0, len(self)] or (np.diff(self.zone_start) < 0).any():  # a search would read beyond the arrays
            raise _altered(folder / "zone_start.bin")

    @classmethod
    def of(cls, index: Index) -> SkyIndex:
        """The sky index of an open index's version."""
        folder = sky_folder(index.folder, index.version)
        if not (folder / ABOUT).is_file():
            raise NotFoundError(
                f"{index.folder} has no sky index for its version {index.version}; make it with `lookalike sky "
                f"{index.folder}`.",
                code="no_sky",
            )
        return cls(folder, index)

    def __len__(self) -> int:
        return self.about.objects - self.about.without_position

    def cone(self, ra: float, dec: float, radius: float, *, most: int | None = None) -> Matches:
        """Objects within `radius` degrees of one position in degrees, the nearest first, all or the nearest `most`."""
        check_position(ra, dec)
        return self.within(np.array([ra]), np.array([dec]), radius, most=most)

    def within(self, ra: Values, dec: Values, radius: float, *, most: int | None = None) -> Matches:
        """Objects whose separation from positions (Q,), in float64 degrees, is at most `radius` degrees.

        ra, dec : (Q,) in their ranges. radius : 0 to 180; its end belongs to it. most : of each position only so many,
        the nearest; what is held is then bounded too.
        """
        if not 0 <= radius <= 180:
            raise InputError(f"A radius is from 0 to 180 deg, but {radius!r} was given.")
        step = max(1, RUNS // int(2 * radius * PER_DEGREE + 3))  # positions whose runs are held at once
        found = []
        for first in range(0, len(ra), step):
            part = slice(first, first + step)
            each = self._some(ra[part], dec[part], radius, most)
            found.append(Matches(first + each.query, each.row, each.separation))
        return _sorted(found, None)

    def _some(self, ra: Values, dec: Values, radius: float, most: int | None) -> Matches:
        """`within` for as many positions as have room."""
        query, start, stop = self._runs(ra, dec, radius)  # (P,) each
        ends: Rows = np.cumsum(stop - start)
        total = int(ends[-1]) if len(ends) else 0
        found: list[Matches] = []
        for begin in range(0, total, AT_ONCE):
            flat = np.arange(begin, min(begin + AT_ONCE, total))
            run = np.searchsorted(ends, flat, side="right")
            place = stop[run] - (ends[run] - flat)  # in the sorted arrays
            asked = query[run]
            angle = separation(ra[asked], dec[asked], self.ra[place], self.dec[place])
            near = np.flatnonzero(angle <= radius)
            found.append(Matches(asked[near], self._rows(place[near]), angle[near]))
            if most is not None:
                found = [_sorted(found, most)]
        return _sorted(found, most)

    def _rows(self, place: Rows) -> Rows:
        """The rows (n,) of places in the sorted arrays."""
        rows: Rows = self.row[place].astype(np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.about.objects):
            raise _altered(self.folder / "row.bin")
        return rows

    def verify(self) -> None:
        """Recompute the hashes; CorruptError where a byte was altered."""
        hashes = {name: hash_of(getattr(self, name)) for name in ARRAYS}
        for name, sha in hashes.items():
            if digest(sha) != self.about.arrays[name].sha256:
                raise _altered(self.folder / f"{name}.bin")
        if combine(hashes, self.about.identity()) != self.about.content_hash:
            raise _altered(self.folder / ABOUT)

    def _runs(self, ra: Values, dec: Values, radius: float) -> tuple[Rows, Rows, Rows]:
        """Runs of the sorted arrays that hold every object within the radius, none twice: query, start, stop (P,)."""
        reach = min(180.0, radius * (1 + PAD_SHARE) + PAD)
        lowest, highest = zone_of(np.maximum(dec - reach, -90)), zone_of(np.minimum(dec + reach, 90))  # (Q,)
        count = highest - lowest + 1
        query = np.repeat(np.arange(len(ra)), count)
        zone = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count) + lowest[query]
        bottom, top = zone / PER_DEGREE - 90, (zone + 1) / PER_DEGREE - 90
        half = reach_in_ra(dec[query], np.maximum(bottom - PAD, -90), np.minimum(top + PAD, 90), reach) + PAD
        half[half >= NEARLY_ROUND] = 360
        low, high = ra[query] - half, ra[query] + half
        query, zone = np.tile(query, 3), np.tile(zone, 3)
        low, high = np.concatenate([low, low + 360, low - 360]), np.concatenate([high, high + 360, high - 360])
        across = np.tile(half < 360, 3)  # what goes all round has its one run already
        across[: len(half)] = True
        kept = np.flatnonzero(across & (high >= 0) & (low < 360))
        query, zone, low, high = query[kept], zone[kept], low[kept], high[kept]
        begin, end = self.zone_start[zone].astype(np.int64), self.zone_start[zone + 1].astype(np.int64)
        start = self._first(begin, end, lambda values: values >= low)
        stop = self._first(begin, end, lambda values: values > high)
        some = np.flatnonzero(stop > start)
        return query[some], start[some], stop[some]

    def _first(self, start: Rows, stop: Rows, holds: Any) -> Rows:
        """The first place in [start, stop) whose ra fulfills a condition that all after it do, else `stop`."""
        low, high = start.copy(), stop.copy()
        last = max(0, len(self.ra) - 1)
        while (open_ := low < high).any():
            middle = (low + high) // 2
            true = holds(self.ra[np.minimum(middle, last)])
            high = np.where(open_ & true, middle, high)
            low = np.where(open_ & ~true, middle + 1, low)
        return low

    def _map(self, name: str) -> NDArray[Any]:
        stored, path = self.about.arrays[name], self.folder / f"{name}.bin"
        values = mapped(path, np.dtype(stored.dtype), (stored.length,))
        if values is None:
            raise _altered(path)
        return values


def _sorted(found: list[Matches], most: int | None) -> Matches:
    """Matches as one, in their order, of each position at most so many."""
    if not found:
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    query, row = np.concatenate([each.query for each in found]), np.concatenate([each.row for each in found])
    angle = np.concatenate([each.separation for each in found])
    order = np.lexsort((row, angle, query))
    if most is not None:
        sorted_query = query[order]
        order = order[np.arange(len(order)) - np.searchsorted(sorted_query, sorted_query) < most]
    return Matches(query[order], row[order], angle[order])


def _altered(path: Path) -> CorruptError:
    return CorruptError(f"{path} was altered; make the sky index again with `lookalike sky`.")


def _read_about(path: Path, index: Index) -> SkyAbout:
    try:
        about = SkyAbout.checked(read_json(path))
    except (LookalikeError, TypeError, ValueError):
        raise _altered(path) from None
    if (about.version, about.index_hash) != (index.version, index.manifest.content_hash):
        raise CorruptError(
            f"{path} describes another index (content hash {about.index_hash[:12]}…) than version {index.version} "
            f"({index.manifest.content_hash[:12]}…); make it again with `lookalike sky`."
        )
    if (about.kind, about.schema_version, about.zones, set(about.arrays)) != (KIND, SCHEMA, ZONES, set(ARRAYS)):
        raise InputError(f"{path} is of another version of lookalike; make it again with `lookalike sky`.")
    return about
