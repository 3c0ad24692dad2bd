"""Simulated events of a tracking detector, in the files of the TrackML challenge, whose truth is known.

Particles of charge ±1 start near the beam axis and move on helices in a field along it; every layer they cross before
they have turned a quarter of their circle has a hit, but where it is missed. Hits are smeared by the layer's
resolution, and hits of no particle are added. There is no scattering, no decay and no energy loss.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.files import atomic_folder, lock
from lookalike.helix import arc, curvature_of
from lookalike.progress import progress
from lookalike.provenance import WAYS_OUT, build_record, write_record
from lookalike.simulate.draws import Draws
from lookalike.simulate.track_detector import Layer, layers
from lookalike.tracks import FIELD, NOISE

Floats = NDArray[np.float64]
Table = dict[str, NDArray[Any]]

MADE = "simulated.json"  # what `ingest trackml` knows the folder by
PT = (0.15, 20.0)  # GeV: between these, as pT⁻³ above SOFT and evenly below it
SOFT = 0.4
ETA = 3.5
ACROSS, ALONG = 0.015, 5.5  # mm: σ of where particles start, across the beam axis and along it
CHARGE = 0.3  # mean signal of a hit's cells
FIRST_ID = 2**52  # numbers of particles are as long as the challenge's, and no two events share one


@dataclass(frozen=True)
class Settings:
    """Of a set of events. missed : share of hits that are not there. noise : hits of no particle over those of one."""

    events: int
    particles: int
    seed: int
    missed: float = 0.02
    noise: float = 0.15


@dataclass(frozen=True)
class Made:
    """The folder written, and how many events, hits and particles it holds."""

    out: Path
    events: int
    hits: int
    particles: int


def write_events(out: Path, settings: Settings, *, overwrite: bool = False, quiet: bool = False) -> Made:
    """Write a folder of simulated events, complete or not at all, with a file that says that they are simulated.

    Event n follows from the seed and its number alone. InputError where `out` is there and may not be replaced.
    """
    if settings.events < 1 or settings.particles < 1:
        raise InputError("At least 1 event of at least 1 particle is simulated.")
    out = Path(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already. {WAYS_OUT}")
    if out.is_dir() and not (out / MADE).exists() and any(out.iterdir()):
        raise InputError(f"Only a folder of simulated events is replaced, but {out} holds something else.")
    hits = 0
    with lock(out), atomic_folder(out) as folder, progress("events", settings.events, "events", quiet=quiet) as advance:
        for number in range(settings.events):
            tables = event(settings, number)
            hits += len(tables["hits"]["hit_id"])
            for kind, table in tables.items():
                _write_csv(folder / f"event{number:09d}-{kind}.csv.gz", table)
            advance(1)
        told = {"source": "SIMULATED by lookalike simulate tracks", **settings.__dict__}
        (folder / MADE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        write_record(folder, build_record("simulate tracks", settings=dict(settings.__dict__), inputs={}))
    return Made(out, settings.events, hits, settings.events * settings.particles)


def event(settings: Settings, number: int) -> dict[str, Table]:
    """One event: its hits, cells, particles and truth as columns of the challenge's names, mm and GeV."""
    draws = Draws(settings.seed, np.arange(settings.particles, dtype=np.int64) + (number << 32))
    particles = _particles(draws)
    crossed = [_crossed(layer, place, particles, draws, settings.missed) for place, layer in enumerate(layers())]
    made = {name: np.concatenate([each[name] for each in crossed]) for name in crossed[0]}
    noise = _noise(settings, number, len(made["x"]))
    found = {name: np.concatenate([values, noise[name]]) for name, values in made.items()}
    order = np.lexsort((np.arctan2(found["y"], found["x"]), found["layer_id"], found["volume_id"]))
    found = {name: values[order] for name, values in found.items()}
    n = len(order)
    ids = np.arange(1, n + 1)
    nhits = np.bincount(made["particle"], minlength=settings.particles)
    weight = np.where(found["particle"] >= 0, 1.0, 0.0)
    ids_of = FIRST_ID + number * 2**33 + np.arange(settings.particles) * 2**12
    particle_id = np.where(found["particle"] >= 0, ids_of[found["particle"]], NOISE)
    return {
        "hits": {"hit_id": ids, **{name: found[name] for name in ("x", "y", "z", "volume_id", "layer_id")}}
        | {"module_id": np.ones(n, np.int64)},
        "cells": _cells(found, ids),
        "particles": {
            "particle_id": ids_of,
            **{name: particles[name] for name in ("vx", "vy", "vz", "px", "py", "pz", "q")},
            "nhits": nhits,
        },
        "truth": {
            "hit_id": ids,
            "particle_id": particle_id,
            **{name: found[name] for name in ("tx", "ty", "tz", "tpx", "tpy", "tpz")},
            "weight": weight / max(1.0, weight.sum()),
        },
    }


def _particles(draws: Draws) -> Table:
    """Particles (n,) as they start, with the helix that each is on, in the frame of the beam axis through its start."""
    u = draws.uniform("pt")
    # Even in pT up to SOFT, then as pT⁻³, joined without a step.
    even = SOFT - PT[0]
    tail = SOFT / 2 * (1 - (SOFT / PT[1]) ** 2)
    share = even / (even + tail)
    above = np.clip((u - share) / (1 - share), 0, 1)
    pt = np.where(u < share, PT[0] + even * u / share, SOFT / np.sqrt(1 - above * (1 - (SOFT / PT[1]) ** 2)))
    eta = draws.uniform("eta", low=-ETA, high=ETA)
    phi = draws.uniform("phi", low=-math.pi, high=math.pi)
    q = np.where(draws.uniform("charge") < 0.5, -1, 1)
    start = draws.normal("start", 3).astype(np.float64) * (ACROSS, ACROSS, ALONG)
    return {
        **{name: start[:, place] for place, name in enumerate(("vx", "vy", "vz"))},
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "pt": pt,
        "phi": phi,
        "cot": np.sinh(eta),
        "q": q,
        # In a field along +z a positive charge turns clockwise seen from there.
        "kappa": -q * curvature_of(1.0, FIELD) / pt,
    }


def _crossed(layer: Layer, place: int, p: Table, draws: Draws, missed: float) -> Table:
    """The hits of all particles on one layer."""
    n = len(p["pt"])
    if layer.barrel:
        r = np.full(n, layer.at)
        reached = np.abs(p["kappa"]) * r / 2 < math.sin(math.pi / 4)
        s = arc(np, r, p["kappa"])
        z = p["vz"] + s * p["cot"]
        there = reached & (np.abs(z) <= layer.high)
    else:
        s = (layer.at - p["vz"]) / p["cot"]
        turn = p["kappa"] * s / 2
        r = np.where(p["kappa"] == 0, s, 2 / p["kappa"] * np.sin(turn))
        there = (s > 0) & (np.abs(turn) < math.pi / 4) & (r >= layer.low) & (r <= layer.high)
        z = np.full(n, layer.at)
        r = np.where(there, r, layer.low)
    there &= draws.uniform(f"missed {place}") >= missed
    kept = np.flatnonzero(there)
    r, z, s = r[kept], z[kept], s[kept]
    kappa, phi, pt = p["kappa"][kept], p["phi"][kept], p["pt"][kept]
    azimuth = phi + np.arcsin(np.clip(kappa * r / 2, -1, 1))
    x, y = r * np.cos(azimuth) + p["vx"][kept], r * np.sin(azimuth) + p["vy"][kept]
    noise = draws.normal(f"resolution {place}", 2).astype(np.float64)[kept] * layer.sigma
    heading = phi + kappa * s
    slope = np.abs(p["cot"][kept])
    spread = draws.uniform(f"cells {place}", 2)[kept]
    across, along = (slope, slope) if layer.barrel else (1 / np.maximum(slope, 0.1), 1 / np.maximum(slope, 0.1))
    return _smeared(layer, x, y, z, noise) | {
        "particle": kept.astype(np.int64),
        "tx": x,
        "ty": y,
        "tz": z,
        "tpx": pt * np.cos(heading),
        "tpy": pt * np.sin(heading),
        "tpz": pt * p["cot"][kept],
        # A track that is slanted against a layer passes through more of its cells.
        "cells_u": 1 + (spread[:, 0] + 0.1 * across).astype(np.int64),
        "cells_v": 1 + (spread[:, 1] + 0.3 / layer.pitch[1] * along).clip(0, 30).astype(np.int64),
        "charge": CHARGE * np.sqrt(1 + along**2) * (0.7 + 0.6 * spread[:, 0]),
        **_named(layer, len(kept)),
    }


def _smeared(layer: Layer, x: Floats, y: Floats, z: Floats, noise: Floats) -> Table:
    """Where hits are measured: across, and along z in a barrel or r in a disk."""
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    phi = phi + noise[:, 0] / r
    if layer.barrel:
        z = z + noise[:, 1]
    else:
        r = np.maximum(r + noise[:, 1], 1.0)
    return {"x": r * np.cos(phi), "y": r * np.sin(phi), "z": z}


def _named(layer: Layer, n: int) -> Table:
    return {"volume_id": np.full(n, layer.volume), "layer_id": np.full(n, layer.layer)}


def _noise(settings: Settings, number: int, hits: int) -> Table:
    """Hits of no particle, spread over the layers as over their circumferences, evenly on each."""
    n = round(settings.noise * hits)
    draws = Draws(settings.seed, np.arange(n, dtype=np.int64) + (number << 32) + (1 << 31))
    every = layers()
    size = np.array([layer.at if layer.barrel else (layer.low + layer.high) / 2 for layer in every])
    chosen = draws.choice("layer", size)
    u, phi = draws.uniform("along"), draws.uniform("azimuth", low=-math.pi, high=math.pi)
    barrel = np.array([layer.barrel for layer in every])[chosen]
    at, low, high = (np.array([getattr(layer, name) for layer in every])[chosen] for name in ("at", "low", "high"))
    r = np.where(barrel, at, low + u * (high - low))
    z = np.where(barrel, (2 * u - 1) * high, at)
    zero = np.zeros(n)
    return {
        "x": r * np.cos(phi),
        "y": r * np.sin(phi),
        "z": z,
        "particle": np.full(n, -1, np.int64),
        "tx": r * np.cos(phi),
        "ty": r * np.sin(phi),
        "tz": z,
        **dict.fromkeys(("tpx", "tpy", "tpz"), zero),
        "cells_u": np.ones(n, np.int64),
        "cells_v": np.ones(n, np.int64),
        "charge": CHARGE * draws.uniform("charge", low=0.2, high=1.5),
        "volume_id": np.array([layer.volume for layer in every])[chosen],
        "layer_id": np.array([layer.layer for layer in every])[chosen],
    }


def _cells(found: Table, ids: NDArray[np.int64]) -> Table:
    """The cells of every hit: a row or column of them at its two ends, which share its signal."""
    u, v = found["cells_u"] - 1, found["cells_v"] - 1
    ends = np.concatenate([np.zeros((len(ids), 1), np.int64), np.maximum(u, v)[:, None]], axis=1) > 0  # (N, 2)
    ends[:, 0] = True
    row, end = np.nonzero(ends)
    count = ends.sum(axis=1)[row]
    return {
        "hit_id": ids[row],
        "ch0": np.where(end == 1, u[row], 0),
        "ch1": np.where(end == 1, v[row], 0),
        "value": found["charge"][row] / count,
    }


def _write_csv(path: Path, table: Table) -> None:
    """Columns as gzipped CSV; no time is written into the file, so that equal events are equal files."""
    names = list(table)
    columns = [table[name].tolist() if table[name].dtype.kind in "iu" else _rounded(table[name]) for name in names]
    text = ",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=6) as out:
        out.write(text.encode())


def _rounded(values: Floats) -> list[str]:
    return [f"{value:.7g}" for value in values.tolist()]
