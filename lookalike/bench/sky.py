"""How fast a cone search is: our memory-mapped zones beside a scan of all positions and beside trees in memory.

All contenders answer the same questions within one run, and their answers are compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.indexer.sky import ARRAYS, SkyIndex
from lookalike.indexer.sky_build import MEMORY_BYTES, PER_OBJECT, count_cells, describe, write_sky
from lookalike.indexer.sphere import separation
from lookalike.indexer.store import Index
from lookalike.progress import progress

ROWS = 42_272_646  # the galaxies of Stein et al. (2021)
RADII = (5 / 3600, 1 / 60, 10 / 60, 1.0)  # degrees
CONES, COLD, COMPARED = 200, 20, 3  # cones timed warm, cold, and asked of every contender
BLOCK = 2**20
VERSION, HASH = "v000001", "simulated"
BUILD = """
import json, re, sys, time
from pathlib import Path
from lookalike.bench.sky import make
memory = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3
before, began = memory(), time.monotonic()
make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
print(json.dumps({"seconds": time.monotonic() - began, "peak_memory_mb": memory(), "of_imports_mb": before}))
"""

Values = NDArray[np.float64]
Answer = tuple[list[int], list[float]]  # rows and separations, in order


def positions(rows: int, seed: int) -> Iterator[tuple[Values, Values]]:
    """Simulated positions in degrees, evenly over the whole sky, block by block."""
    for number, start in enumerate(range(0, rows, BLOCK)):
        rng, n = np.random.default_rng([seed, number]), min(BLOCK, rows - start)
        yield rng.uniform(0, 360, n), np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))


def make(folder: Path, rows: int, seed: int) -> None:
    """The sky index of simulated positions, as one of a real index is made."""

    def blocks() -> Iterator[tuple[Values, Values]]:
        return positions(rows, seed)

    counts = count_cells(blocks, rows, "the simulation", quiet=True)
    arrays, hashes = write_sky(folder, blocks, counts, rows, at_once=MEMORY_BYTES // PER_OBJECT, quiet=True)
    describe(folder, arrays, hashes, rows, VERSION, HASH)


def bench_sky(rows: int = ROWS, *, cones: int = CONES, seed: int = 0, quiet: bool = False) -> dict[str, Any]:
    """Milliseconds of a cone among `rows` simulated positions at each of RADII, centers on objects, at 0h and poles.

    zones   : ours, from a memory map: median and longest of `cones` warm, and with its pages dropped before each.
    scan    : numpy's haversine of all positions, which are in memory.
    kdtree  : scipy's cKDTree of unit vectors in memory, with its build; likewise astropy's search_around_sky.
    Every answer is rows and separations in order, and all contenders' are compared.
    """
    if rows < 1 or cones < 1:
        raise InputError(f"At least 1 row and 1 cone are measured, but {rows} and {cones} were given.")
    with tempfile.TemporaryDirectory() as name, progress("bench sky", 3 + 2 * len(RADII), "steps", quiet=quiet) as done:
        folder = Path(name)
        built = subprocess.run(
            [sys.executable, "-c", BUILD, str(folder), str(rows), str(seed)], capture_output=True, text=True, check=True
        )
        build = json.loads(built.stdout) | {"bytes": sum(path.stat().st_size for path in folder.iterdir())}
        done(1, "built")
        sky = opened(folder)
        centers = _centers(sky, cones, seed)
        timed = []
        for radius in RADII:
            timed.append(_timed(sky, folder, centers, radius))
            done(1, f"{radius * 3600:g} arcsec")
        tree, tree_about = _tree(sky)
        done(1, "cKDTree")
        around, astropy_about = _astropy(sky)
        done(1, "astropy")
        for radius, row in zip(RADII, timed, strict=True):
            _compare(sky, centers, radius, row, {"scan": _scanned(sky), "kdtree": tree, "astropy": around})
            done(1, f"{radius * 3600:g} arcsec compared")
    return {"rows": rows, "build": build, "kdtree": tree_about, "astropy": astropy_about, "cones": timed}


def opened(folder: Path) -> SkyIndex:
    """The sky index in a folder, which describes no index but the simulated one."""
    described = SimpleNamespace(version=VERSION, manifest=SimpleNamespace(content_hash=HASH))
    return SkyIndex(folder, cast(Index, described))


def _centers(sky: SkyIndex, cones: int, seed: int) -> list[tuple[float, float]]:
    """Places beside objects, the poles and 0h among them."""
    rng = np.random.default_rng([seed, 2**32])
    place = rng.integers(len(sky), size=cones)
    near = rng.normal(0, 1 / 3600, (2, cones))
    ra, dec = (sky.ra[place] + near[0]) % 360, np.clip(sky.dec[place] + near[1], -90, 90)
    return [(0.0, 90.0), (0.0, 0.0), (123.0, -90.0), *zip(ra.tolist(), dec.tolist(), strict=True)][:cones]


def _timed(sky: SkyIndex, folder: Path, centers: list[tuple[float, float]], radius: float) -> dict[str, Any]:
    cold = [_cold(folder, center, radius) for center in centers[:COLD]]
    warm, found = [], []
    for center in centers:
        sky.cone(*center, radius)
        began = time.perf_counter()
        found.append(len(sky.cone(*center, radius).row))
        warm.append(time.perf_counter() - began)
    return {
        "radius_arcsec": radius * 3600,
        "found": statistics.mean(found),
        "zones_ms": 1e3 * statistics.median(warm),
        "zones_longest_ms": 1e3 * max(warm),
        "zones_cold_ms": None if None in cold else 1e3 * statistics.median(cast(list[float], cold)),
        "zones_cold_longest_ms": None if None in cold else 1e3 * max(cast(list[float], cold)),
    }


def _cold(folder: Path, center: tuple[float, float], radius: float) -> float | None:
    """Seconds of a cone just after the system forgot the files, opening included; None where it cannot be told to."""
    if not hasattr(os, "posix_fadvise"):
        return None
    for name in ARRAYS:
        with (folder / f"{name}.bin").open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    opened(folder).cone(*center, radius)
    return time.perf_counter() - began


def _compare(
    sky: SkyIndex,
    centers: list[tuple[float, float]],
    radius: float,
    row: dict[str, Any],
    contenders: dict[str, Callable[[float, float, float], Answer]],
) -> None:
    """Add the milliseconds of the others, and whether all answer alike."""
    asked = centers[:COMPARED]
    ours = []
    for center in asked:
        found = sky.cone(*center, radius)
        ours.append((found.row.tolist(), found.separation.tolist()))
    row["equal"] = True
    for name, ask in contenders.items():
        times = []
        for center, mine in zip(asked, ours, strict=True):
            began = time.perf_counter()
            theirs = ask(*center, radius)
            times.append(time.perf_counter() - began)
            row["equal"] &= theirs == mine
        row[f"{name}_ms"] = 1e3 * statistics.median(times)


def _exact(sky: SkyIndex, near: NDArray[np.integer[Any]], ra: float, dec: float, radius: float) -> Answer:
    """The answer among places (m,) that may be inside, by the definition."""
    angle = separation(np.full(len(near), ra), np.full(len(near), dec), sky.ra[near], sky.dec[near])
    row, inside = sky.row[near], np.flatnonzero(angle <= radius)
    order = inside[np.lexsort((row[inside], angle[inside]))]
    return row[order].tolist(), angle[order].tolist()


def _scanned(sky: SkyIndex) -> Callable[[float, float, float], Answer]:
    def ask(ra: float, dec: float, radius: float) -> Answer:
        near = []
        limit = np.sin(np.deg2rad(radius / 2)) ** 2 * (1 + 1e-9) + 1e-18
        for start in range(0, len(sky), BLOCK):
            across, along = sky.ra[start : start + BLOCK], np.deg2rad(sky.dec[start : start + BLOCK])
            h = np.sin((along - np.deg2rad(dec)) / 2) ** 2
            h += np.cos(np.deg2rad(dec)) * np.cos(along) * np.sin(np.deg2rad(across - ra) / 2) ** 2
            near.append(start + np.flatnonzero(h <= limit))
        return _exact(sky, np.concatenate(near), ra, dec, radius)

    return ask


def _vectors(ra: Values, dec: Values) -> Values:
    """Unit vectors (n, 3) of positions in degrees."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def _tree(sky: SkyIndex) -> tuple[Callable[[float, float, float], Answer], dict[str, float]]:
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    before, began = _resident_mb(), time.monotonic()
    tree = cKDTree(_vectors(sky.ra, sky.dec))
    about = {"build_seconds": time.monotonic() - began, "memory_mb": _resident_mb() - before}

    def ask(ra: float, dec: float, radius: float) -> Answer:
        center = _vectors(np.array([ra]), np.array([dec]))[0]
        chord = 2 * np.sin(np.deg2rad(radius / 2)) * (1 + 1e-9) + 1e-15
        near = np.array(tree.query_ball_point(center, chord), np.int64)
        return _exact(sky, near, ra, dec, radius)

    return ask, about


def _astropy(sky: SkyIndex) -> tuple[Callable[[float, float, float], Answer], dict[str, float]]:
    from astropy import units
    from astropy.coordinates import SkyCoord

    before, began = _resident_mb(), time.monotonic()
    catalog = SkyCoord(sky.ra, sky.dec, unit="deg")
    # Asked in this direction it keeps the catalog's tree for the next question.
    catalog.search_around_sky(SkyCoord([0.0], [0.0], unit="deg"), 1 * units.arcsec)
    about = {"build_seconds": time.monotonic() - began, "memory_mb": _resident_mb() - before}

    def ask(ra: float, dec: float, radius: float) -> Answer:
        center = SkyCoord([ra], [dec], unit="deg")
        found = catalog.search_around_sky(center, radius * (1 + 1e-9) * units.deg)
        return _exact(sky, np.asarray(found[1]), ra, dec, radius)

    return ask, about


def _resident_mb() -> float:
    """Anonymous memory of this process, without what is mapped; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("RssAnon")]
    return int(found[0]) / 1e3 if found else 0.0
