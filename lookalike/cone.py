"""Cone search on an index folder: which of its objects lie within a radius of a place on the sky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookalike.coordinates import Position, parse_angle, parse_position
from lookalike.errors import InputError, unknown
from lookalike.indexer.answer import Value, plain
from lookalike.indexer.sky import SkyIndex
from lookalike.indexer.store import Index

LIMIT = 1000
MANY = 50  # whole columns are read where more than one row in so many is asked for
OWN = ("id", "row", "ra", "dec", "separation_arcsec")  # what a result holds besides columns


@dataclass(frozen=True)
class Near:
    """One object of a cone: its place in degrees, its separation from the center in arcsec, the columns asked for."""

    id: str
    row: int
    ra: float
    dec: float
    separation_arcsec: float
    columns: Mapping[str, Value] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OWN} | dict(self.columns)


@dataclass(frozen=True)
class Cone:
    """The objects of a cone, the nearest first, equal ones by row; `limited` where there are more than were asked for.

    center : how it was read; `radius_arcsec` belongs to the cone itself.
    """

    index_version: str
    center: Position
    radius_arcsec: float
    results: tuple[Near, ...]
    limited: bool
    without_position: int

    def to_json(self) -> dict[str, Any]:
        """The answer as plain Python for a JSON document."""
        return {
            "index_version": self.index_version,
            "center": {"ra": self.center.ra, "dec": self.center.dec, "read_as": self.center.form},
            "radius_arcsec": self.radius_arcsec,
            "results": [near.to_json() for near in self.results],
            "limited": self.limited,
            "without_position": self.without_position,
        }


def cone(
    folder: Path,
    at: str,
    radius: str,
    *,
    limit: int = LIMIT,
    columns: Sequence[str] = (),
    samples: Sequence[Path] | None = None,
) -> Cone:
    """Objects whose separation from a position is at most a radius, in float64.

    at : a position, as `coordinates.parse_position` reads it. radius : an angle with its unit, such as 5arcsec.
    limit : at most so many, the nearest. columns : catalog columns to give with each. samples : where they are now, if
    they moved. Errors: InputError for what cannot be read, NotFoundError ("no_sky") without a sky index, CorruptError.
    """
    center, degrees = parse_position(at), parse_angle(radius)
    if limit < 1:
        raise InputError(f"At least 1 object is asked for, but {limit} was given.")
    if taken := [name for name in columns if name in (*OWN[:2], OWN[4])]:
        raise InputError(f"A result holds its own {', '.join(OWN)}; leave column {taken[0]!r} out.")
    index = Index(Path(folder))
    sky = SkyIndex.of(index)
    data = index.open_samples([Path(path) for path in samples] if samples else None)
    for name in columns:
        if name not in data.columns:
            raise unknown("column", name, data.columns)
    found = sky.cone(center.ra, center.dec, degrees, most=limit + 1)
    rows, separations = found.row[:limit], found.separation[:limit]
    many = len(rows) * MANY > len(data)
    names = (*sky.about.columns, *columns)
    wanted = {name: data.column(name)[rows] if many else data.values(name, rows) for name in names}
    ids = data.ids[rows].astype(str).tolist() if many else data.ids_at(rows)
    ra, dec = (wanted[name].tolist() for name in sky.about.columns)
    return Cone(
        index.version,
        center,
        degrees * 3600,
        tuple(
            Near(name, int(row), ra[i], dec[i], float(angle) * 3600, {c: plain(wanted[c][i]) for c in columns})
            for i, (name, row, angle) in enumerate(zip(ids, rows, separations, strict=True))
        ),
        len(found.row) > limit,
        sky.about.without_position,
    )
