"""Tracks found among hits by their embeddings, scored as the TrackML challenge does, beside what needs no training."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.errors import InputError
from lookalike.figures import plotted
from lookalike.probes.outputs import check_picture
from lookalike.probes.track_clusters import (
    BUCKET,
    EPS,
    KIT_EPS,
    NONE,
    Places,
    Rows,
    density_tracks,
    find_tracks,
    kit_coordinates,
    neighbors,
    purity,
    raw_coordinates,
    voted_directions,
)
from lookalike.probes.tracks import LEAST, LIMIT, matched, throughput_score
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.tracks import DOMAIN, HITS, UNKNOWN
from lookalike.wording import counted

K = 10  # neighbors of which the purity is told
EMBEDDING, UNTRAINED, KIT, RAW = "embedding", "untrained encoder", "kit coordinates", "x, y, z"
VOTED = "voted directions"
BUCKETED, FIXED, BEST = (
    "buckets and helices of {}",
    f"DBSCAN of kit coordinates, eps {KIT_EPS:g}",
    "DBSCAN, the best of {} eps by its score",
)


Truth = tuple[NDArray[np.int64], NDArray[np.float64]]  # particle and weight (n,) of every hit


@dataclass(frozen=True)
class Way:
    """A way to find tracks in one event: seconds from the vectors on, how many tracks, and the accuracy if known."""

    name: str
    seconds: float
    tracks: int
    accuracy: float | None


@dataclass(frozen=True)
class EventReport:
    """One event: its hits, every way to find its tracks, and the share of alike among the K nearest, by what is near.

    tracks : the embedding's, (n,) of the hits in `rows` of the samples.
    """

    event: int
    rows: Rows
    tracks: Rows
    ways: tuple[Way, ...]
    purity: dict[str, float]


@dataclass(frozen=True)
class TracksReport:
    """All events, with the means over those whose truth is known (None where none is)."""

    events: tuple[EventReport, ...]
    bucket: int

    def mean(self, name: str) -> tuple[float | None, float]:
        """Mean accuracy and seconds of a way."""
        ways = [way for event in self.events for way in event.ways if way.name == name]
        known = [way.accuracy for way in ways if way.accuracy is not None]
        return (float(np.mean(known)) if known else None), float(np.mean([way.seconds for way in ways]))

    def throughput(self, name: str) -> float | None:
        """The throughput score of a way's mean accuracy and seconds."""
        accuracy, seconds = self.mean(name)
        return None if accuracy is None else throughput_score(min(accuracy, 1.0), max(seconds, 1e-9))


def measure(
    embeddings: Path,
    samples_paths: Sequence[Path],
    *,
    bucket: int = BUCKET,
    checkpoint: Path | None = None,
    quiet: bool = False,
) -> TracksReport:
    """Find the tracks of every event among its hits' vectors, and score them where the truth was ingested.

    bucket : nearest neighbors in which a hit's helix is sought. checkpoint : the encoder of the vectors, whose
    untrained twin is measured too. InputError for samples that are no hits, or vectors of other samples.
    """
    if bucket < 2:
        raise InputError(f"A bucket holds at least 2 neighbors of a hit, but {bucket} was given.")
    samples = Samples(list(samples_paths))
    vectors = _vectors(embeddings, samples)
    fresh = None if checkpoint is None else _untrained(samples, checkpoint)
    place = Places(*(samples.column(name).astype(np.float64) for name in ("r", "phi", "z")))
    event_of = samples.column("event")
    particle = samples.column("particle_id") if "particle_id" in samples.columns else np.full(len(samples), UNKNOWN)
    weight = samples.column("weight") if "weight" in samples.columns else np.full(len(samples), np.nan)
    found = []
    with progress("events", len(np.unique(event_of)), "events", quiet=quiet) as advance:
        for event in np.unique(event_of).tolist():
            rows = np.flatnonzero(event_of == event)
            if len(rows) < 3:
                raise InputError(f"Tracks are sought among 3 hits and more, but event {event} has {len(rows)}.")
            places = Places(place.r[rows], place.phi[rows], place.z[rows])
            own = {EMBEDDING: np.asarray(vectors[rows], np.float32)}
            if fresh is not None:
                own[UNTRAINED] = fresh(rows)
            known = (particle[rows] != UNKNOWN).all() and weight[rows].sum() > 0
            truth = (particle[rows], weight[rows]) if known else None
            found.append(_event(samples, event, rows, own, places, truth, bucket))
            advance(1)
    return TracksReport(tuple(found), bucket)


def _event(
    samples: Samples,
    event: int,
    rows: Rows,
    vectors: dict[str, NDArray[np.float32]],
    places: Places,
    truth: Truth | None,
    bucket: int,
) -> EventReport:
    """Every way of one event; those that only compare are left out where there is nothing to compare by."""
    for module in ("faiss", "sklearn.cluster", "lookalike.augmentations.track_votes"):
        importlib.import_module(module)  # before the clock starts

    described: dict[str, NDArray[Any]] = dict(vectors)
    if truth is not None:
        described |= {VOTED: voted_directions(samples.objects(rows)), KIT: kit_coordinates(places)}
    ways, near, tracks = [], {}, np.empty(0, np.int64)
    for name, x in described.items():
        near[name], way, made = _bucketed(name, x, places, truth, bucket)
        ways.append(way)
        tracks = made if name == EMBEDDING else tracks
    if truth is None:
        return EventReport(event, rows, tracks, tuple(ways), {})
    by_eps = [_density(places, eps, truth) for eps in EPS]
    ways.append(replace(by_eps[EPS.index(KIT_EPS)], name=FIXED))
    ways.append(max(by_eps, key=lambda way: way.accuracy or 0.0))
    near[RAW] = neighbors(raw_coordinates(places), K)
    pure = {name: share for name, x in near.items() if (share := purity(x, truth[0], K)) is not None}
    return EventReport(event, rows, tracks, tuple(ways), pure)


def _bucketed(name: str, x: NDArray[Any], places: Places, truth: Truth | None, bucket: int) -> tuple[Rows, Way, Rows]:
    """The neighbors in one description of the hits (n, D), and what buckets of them give."""
    began = time.monotonic()
    near = neighbors(x, max(bucket, K))
    tracks = find_tracks(near[:, :bucket], places)
    return near, _way(BUCKETED.format(name), time.monotonic() - began, tracks, truth), tracks


def _density(places: Places, eps: float, truth: Truth) -> Way:
    began = time.monotonic()
    tracks = density_tracks(places, eps)
    return _way(BEST.format(len(EPS)), time.monotonic() - began, tracks, truth)


def _way(name: str, seconds: float, tracks: Rows, truth: Truth | None) -> Way:
    number = len(np.unique(tracks[tracks != NONE]))
    return Way(name, seconds, number, None if truth is None else matched(tracks, *truth).score)


def _vectors(path: Path, samples: Samples) -> NDArray[Any]:
    """The vectors of these very hits."""
    if samples.about.domain != DOMAIN or samples.about.survey.get("sample") != HITS:
        raise InputError(
            "Tracks are found among hits, but these samples are of another kind; make some with "
            "`lookalike ingest trackml --sample hits`."
        )
    embeddings = Embeddings(path)
    if len(embeddings) != len(samples) or (embeddings.ids != samples.ids).any():
        raise InputError(
            f"{path} holds vectors of other objects ({len(embeddings):,}) than the samples do ({len(samples):,}); "
            "embed these samples."
        )
    return embeddings.vectors


def _untrained(samples: Samples, checkpoint: Path) -> Callable[[Rows], NDArray[np.float32]]:
    """What gives the vectors (n, D) of rows by an encoder of the checkpoint's kind as it was before training."""
    from lookalike.probes.describe import untrained
    from lookalike.probes.ranking import unit_vectors
    from lookalike.ssl.checkpoint import load_encoder
    from lookalike.ssl.embed import check_fits, embed_objects

    _, config = load_encoder(checkpoint)
    check_fits(samples, config, checkpoint)
    encoder = untrained(config).eval()

    def embedded(rows: Rows) -> NDArray[np.float32]:
        step = 256
        parts = [
            embed_objects(samples.objects(rows[start : start + step]), encoder, config)
            for start in range(0, len(rows), step)
        ]
        return unit_vectors(np.concatenate(parts))

    return embedded


def write_csv(report: TracksReport, samples_paths: Sequence[Path], path: Path) -> None:
    """Every hit's track as the challenge's submission has it, event_id,hit_id,track_id: from 1 up, 0 for no track."""
    from lookalike.files import atomic_path

    hit_id = Samples(list(samples_paths)).column("hit_id")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("event_id,hit_id,track_id\n")
        for event in report.events:
            for hit, track in zip(hit_id[event.rows].tolist(), event.tracks.tolist(), strict=True):
                file.write(f"{event.event},{hit},{track + 1}\n")


def as_json(report: TracksReport) -> dict[str, Any]:
    """Per event and in the mean; the throughput score is 0 up to an accuracy of 0.5."""
    main = BUCKETED.format(EMBEDDING)
    names = list(dict.fromkeys(way.name for event in report.events for way in event.ways))
    return {
        "bucket": report.bucket,
        "events": [
            {
                "event": event.event,
                "hits": len(event.rows),
                "ways": [asdict(way) for way in event.ways],
                f"purity_{K}": event.purity,
            }
            for event in report.events
        ],
        "mean": [
            {"name": name, "accuracy": report.mean(name)[0], "seconds": report.mean(name)[1]}
            | {"throughput": report.throughput(name)}
            for name in names
        ],
        "accuracy": report.mean(main)[0],
        "seconds": report.mean(main)[1],
        "throughput": report.throughput(main),
    }


def as_text(report: TracksReport) -> str:
    """A table for every event, and the means."""
    lines = []
    for event in report.events:
        lines.append(f"event {event.event}: {counted(len(event.rows), 'hit')}")
        lines += [_line(way.name, way.accuracy, way.seconds, f"{way.tracks:,} tracks") for way in event.ways]
        if event.purity:
            told = ", ".join(f"{name} {value:.3f}" for name, value in event.purity.items())
            lines.append(f"  of the {K} nearest are of the same particle: {told}")
    lines.append(f"mean of {counted(len(report.events), 'event')}; seconds are from the vectors on")
    for name in dict.fromkeys(way.name for event in report.events for way in event.ways):
        accuracy, seconds = report.mean(name)
        throughput = report.throughput(name)
        more = "" if throughput is None else f"throughput score {throughput:.4f}"
        lines.append(_line(name, accuracy, seconds, more))
    if report.throughput(BUCKETED.format(EMBEDDING)) == 0:
        lines.append(f"(The throughput score is 0 up to an accuracy of {LEAST:g}, and from {LIMIT:g} s on.)")
    return "\n".join(lines)


def _line(name: str, accuracy: float | None, seconds: float, more: str) -> str:
    score = "no truth" if accuracy is None else f"score {accuracy:.4f}"
    return f"  {name:<42} {score:>12} {seconds:9.2f} s  {more}"


def draw(report: TracksReport, samples_paths: Sequence[Path], path: Path) -> None:
    """Write the first event's tracks as PNG, SVG or PDF in both planes; with truth, those that count and the others."""
    check_picture(path)
    samples, event = Samples(list(samples_paths)), report.events[0]
    r, phi, z = (samples.column(name)[event.rows] for name in ("r", "phi", "z"))
    good = None
    if event.ways[0].accuracy is not None:
        truth = matched(event.tracks, *(samples.column(name)[event.rows] for name in ("particle_id", "weight")))
        good = set(truth.track[truth.counts].tolist())
    with plotted(path, (13, 6), dpi=130) as figure:
        planes = figure.subplots(1, 2)
        for axes, x, y, names in (
            (planes[0], z, r, ("z [mm]", "r [mm]")),
            (planes[1], r * np.cos(phi), r * np.sin(phi), ("x [mm]", "y [mm]")),
        ):
            axes.plot(x, y, ".", ms=1, color="#b0b4ba")
            for track in range(int(event.tracks.max(initial=NONE)) + 1):
                mine = np.flatnonzero(event.tracks == track)
                mine = mine[np.argsort(np.hypot(r[mine], z[mine]))]
                color = "#0b62c4" if good is None or track in good else "#d55e00"
                axes.plot(x[mine], y[mine], "-", lw=0.6, color=color, alpha=0.7)
            axes.set(xlabel=names[0], ylabel=names[1])
        planes[1].set_aspect("equal")
        score = event.ways[0].accuracy
        told = "" if score is None else f", score {score:.3f}: blue tracks count, orange ones do not"
        simulated = "simulated " if samples.about.simulated else ""
        figure.suptitle(f"{simulated}event {event.event}: {counted(event.ways[0].tracks, 'track')}{told}")
