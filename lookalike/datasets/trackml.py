"""Events of the TrackML challenge, one after the other: as hits with their companions, or as the tracks of the truth.

Amrouche et al. 2020, https://arxiv.org/abs/1904.06778. A hit's companions are those of `track_companions`; a track is
all hits of a particle, in order of their distance from where it was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import About, Column
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.event_rules import UNITS
from lookalike.datasets.track_companions import companions
from lookalike.datasets.trackml_files import CELLS as CELL_FILE
from lookalike.datasets.trackml_files import PARTICLES, TRUTH, Event, EventFiles, find_events, read_event
from lookalike.errors import InputError, unknown
from lookalike.progress import Advance, progress
from lookalike.samples_writer import SamplesWriter, write_samples
from lookalike.tracks import CELLS, FIELD, HIT, HITS, LABEL, NOISE, SAME, SAMPLES, TRACKS, UNKNOWN

PLACES = {HITS: 48, TRACKS: 28}  # of hits in a sample, where --size does not say
FEWEST = 3  # hits of a track
AT_ONCE = 8192  # samples written at a time
NO_NUMBER = float("nan")

PLACE = {
    "event": Column("", "number of the event"),
    "hit_id": Column("", "number of the hit within its event"),
    "volume": HIT["volume"],
    "layer": HIT["layer"],
    "module": Column("", "module of its layer"),
    "r": HIT["r"],
    "phi": HIT["phi"],
    "z": HIT["z"],
}
TRUE_OF_HIT = {
    "particle_id": Column("", "particle that made the hit; 0 none (noise), -1 not known"),
    "weight": Column("", "how much the hit counts in the challenge's score"),
    "true_px": Column("GeV", "true momentum of the particle at the hit, along x"),
    "true_py": Column("GeV", "true momentum of the particle at the hit, along y"),
    "true_pz": Column("GeV", "true momentum of the particle at the hit, along z"),
}
OF_TRACK = {
    "event": PLACE["event"],
    "particle_id": Column("", "number of the particle within its event"),
    "pt": Column("GeV", "transverse momentum where the particle was made"),
    "eta": Column("", "pseudorapidity of its momentum there"),
    "phi": Column("rad", "azimuth of its momentum there"),
    "vx": Column("mm", "where the particle was made"),
    "vy": Column("mm", "where the particle was made"),
    "vz": Column("mm", "where the particle was made"),
    "charge": Column("", "charge of the particle in units of the proton's"),
    "n_hits": Column("", "its hits in the event"),
    "weight": Column("", "sum of the weights of its hits"),
}

Floats = NDArray[np.float64]
Catalog = dict[str, NDArray[Any]]


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Find the events, decide by their files what is known of a hit, then read, check and copy event by event."""
    sample = options.sample or HITS
    if sample not in SAMPLES:
        raise unknown("sample", sample, SAMPLES)
    if options.unit is not None and options.unit not in UNITS:
        raise unknown("unit", options.unit, UNITS)
    events = find_events(files)
    if sample == TRACKS:
        for each in events:
            if absent := [kind for kind in (TRUTH, PARTICLES) if kind not in each.files]:
                raise InputError(
                    f"Tracks are made of an event's truth and particles, but {each.name} has no {absent[0]}."
                )
    bands = _bands(events, sample, ledger)
    about = _about(events, sample, bands, options)
    columns = dict(OF_TRACK) if sample == TRACKS else dict(PLACE)
    with_truth = sample == HITS and any(TRUTH in event.files for event in events)
    if with_truth:
        columns |= TRUE_OF_HIT
        if not all(TRUTH in event.files for event in events):
            ledger.note("Events without truth: particle_id is -1 there, and what else truth would say is NaN.")
    places = options.size or PLACES[sample]
    append = _append_tracks if sample == TRACKS else _append_hits
    with (
        write_samples(out, about, columns, replace=options.overwrite) as writer,
        progress("events", len(events), "events", quiet=options.quiet) as advance,
    ):
        for files_of_one in events:
            event = read_event(files_of_one, ledger, options.unit)
            append(writer, event, bands, places, ledger, advance)
            advance(1)


def _bands(events: list[EventFiles], sample: str, ledger: Ledger) -> dict[str, Column]:
    """What is stored of each hit."""
    bands = dict(HIT)
    with_cells = [CELL_FILE in event.files for event in events]
    if all(with_cells):
        bands |= CELLS
    elif any(with_cells):
        ledger.note("Cells are left out, since some of the events have none.")
    if sample == HITS and any(TRUTH in event.files for event in events):
        bands |= LABEL
    return bands


def _about(events: list[EventFiles], sample: str, bands: dict[str, Column], options: Options) -> About:
    simulated = [event.simulated for event in events]
    if any(simulated) and not all(simulated):
        raise InputError("Simulated events and others are kept apart, but both were given; ingest them one by one.")
    source = "TrackML events"
    if simulated[0]:
        source = "SIMULATED events of the TrackML layout (lookalike simulate tracks)"
    survey: dict[str, Any] = {"sample": sample, "field": FIELD} | ({"simulated": True} if simulated[0] else {})
    units = tuple(column.unit for column in bands.values())
    return About(
        domain=options.domain, layout="particles", bands=tuple(bands), units=units, source=source, survey=survey
    )


def _numbers(event: Event, bands: dict[str, Column]) -> tuple[NDArray[np.float32], tuple[Floats, Floats, Floats]]:
    """What is stored of every hit (N, F), but for what depends on the sample, and r, φ, z (N,) in full precision."""
    hits = event.hits
    r, phi, z = np.hypot(hits["x"], hits["y"]), np.arctan2(hits["y"], hits["x"]), hits["z"]
    known = {"r": r, "phi": phi, "z": z, "volume": hits["volume_id"], "layer": hits["layer_id"]} | (event.cells or {})
    numbers = np.zeros((len(r), len(bands)), np.float32)
    for place, name in enumerate(bands):
        if name != SAME:
            numbers[:, place] = known[name]
    return numbers, (r, phi, z)


def _append_hits(
    writer: SamplesWriter, event: Event, bands: dict[str, Column], places: int, ledger: Ledger, advance: Advance
) -> None:
    """Store every hit with its companions; a full event takes seconds, so progress is told within it."""
    numbers, (r, phi, z) = _numbers(event, bands)
    near = companions(  # (N, places - 1)
        r, phi, z, places - 1, lambda done: advance(0, f"{event.files.name}: {done:,} of {len(r):,} hits")
    )
    members = np.concatenate([np.arange(len(r))[:, None], near], axis=1)  # (N, places), the hit itself first
    particle = None if event.truth is None else event.truth["particle_id"]
    catalog = _of_hits(event, r, phi, z, writer.columns)
    name = _name(event)
    for start in range(0, len(r), AT_ONCE):
        some = members[start : start + AT_ONCE]
        objects = numbers[some]
        if SAME in bands:
            objects[..., -1] = UNKNOWN if particle is None else _same(particle, some)
        objects[some < 0] = 0
        ids = [f"{name}:{hit}" for hit in event.hits["hit_id"][start : start + AT_ONCE].tolist()]
        writer.append(ids, objects, {column: values[start : start + AT_ONCE] for column, values in catalog.items()})
    if isolated := int(np.count_nonzero(near[:, 0] < 0)) if near.shape[1] else len(r):
        ledger.counts["hits without a companion"] += isolated


def _same(particle: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether hits (n, places) were made by the particle of the first of them; noise is like no other noise."""
    own = particle[members[:, :1]]
    same: NDArray[np.bool_] = (particle[members] == own) & (own != NOISE)
    same[:, 0] = True
    return same


def _of_hits(event: Event, r: Floats, phi: Floats, z: Floats, columns: dict[str, Column]) -> Catalog:
    hits, truth = event.hits, event.truth
    n = len(r)
    found: Catalog = {
        "event": np.full(n, event.files.number),
        "hit_id": hits["hit_id"],
        "volume": hits["volume_id"],
        "layer": hits["layer_id"],
        "module": hits["module_id"],
        "r": r,
        "phi": phi,
        "z": z,
    }
    if "particle_id" in columns:
        if truth is None:
            unknown_numbers = {name: np.full(n, NO_NUMBER) for name in TRUE_OF_HIT if name != "particle_id"}
            return found | {"particle_id": np.full(n, UNKNOWN)} | unknown_numbers
        momenta = {f"true_{name}": truth[f"t{name}"] for name in ("px", "py", "pz")}
        found |= {"particle_id": truth["particle_id"], "weight": truth["weight"], **momenta}
    return found


def _name(event: Event) -> str:
    """The event in ids."""
    return f"{'sim' if event.files.simulated else ''}{event.files.number}"


def _append_tracks(
    writer: SamplesWriter, event: Event, bands: dict[str, Column], places: int, ledger: Ledger, advance: Advance
) -> None:
    """Store every particle of FEWEST hits and more with its hits."""
    assert event.truth is not None
    assert event.particles is not None
    numbers, _ = _numbers(event, bands)
    particles, truth = event.particles, event.truth
    rows = np.flatnonzero(truth["particle_id"] != NOISE)
    number, of, made = np.unique(truth["particle_id"][rows], return_inverse=True, return_counts=True)
    order_of = np.argsort(particles["particle_id"], kind="stable")
    which = order_of[np.searchsorted(particles["particle_id"], number, sorter=order_of)]  # checked to be there
    vertex = np.stack([particles[name][which] for name in ("vx", "vy", "vz")], axis=1)  # (T, 3)
    away = np.stack([event.hits[name][rows] for name in "xyz"], axis=1) - vertex[of]
    order = np.lexsort((np.sqrt((away**2).sum(axis=1)), of))  # by particle, then outward
    start = np.concatenate([[0], np.cumsum(made)])
    place = np.arange(len(rows)) - np.repeat(start[:-1], made)  # of each hit in its track
    objects = np.zeros((len(number), places, len(bands)), np.float32)
    kept = place < places
    objects[of[order][kept], place[kept]] = numbers[rows[order][kept]]
    weight = np.bincount(of, truth["weight"][rows], len(number))
    px, py, pz = (particles[name][which] for name in ("px", "py", "pz"))
    catalog: Catalog = {
        "event": np.full(len(number), event.files.number),
        "particle_id": number,
        "pt": np.hypot(px, py),
        "eta": np.arcsinh(pz / np.hypot(px, py)),
        "phi": np.arctan2(py, px),
        **{name: particles[name][which] for name in ("vx", "vy", "vz")},
        "charge": particles["q"][which],
        "n_hits": made,
        "weight": weight,
    }
    long = made >= FEWEST
    ledger.counts[f"particles of fewer than {FEWEST} hits, left out"] += int(np.count_nonzero(~long))
    ledger.counts[f"hits beyond the first {places} of their track, not stored"] += int((~kept).sum())
    ids = [f"{_name(event)}:{particle}" for particle in number[long].tolist()]
    if ids:
        writer.append(ids, objects[long], {column: values[long] for column, values in catalog.items()})
