"""Finding tracks: buckets against a slow search, hand-made events, what the command prints and writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.datasets import ingest
from lookalike.embeddings import write_embeddings
from lookalike.errors import InputError
from lookalike.probes.evaluate_tracks import BUCKETED, EMBEDDING, KIT, VOTED, as_json, as_text, measure
from lookalike.probes.track_clusters import (
    NONE,
    Places,
    density_tracks,
    find_tracks,
    kit_coordinates,
    neighbors,
    purity,
)
from lookalike.probes.tracks import throughput_score, track_score
from lookalike.samples import Samples
from lookalike.simulate.tracks import Settings, write_events


@pytest.fixture(scope="module")
def event(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A simulated event of 60 particles as hits, and the kit's coordinates as their embeddings."""
    folder = tmp_path_factory.mktemp("event")
    write_events(folder / "events", Settings(events=1, particles=60, seed=5), quiet=True)
    ingest("trackml", [folder / "events"], folder / "hits.h5", size=12, quiet=True)
    samples = Samples(folder / "hits.h5")
    write_embeddings(folder / "vectors.h5", samples.ids, [kit_coordinates(places_of(samples))], dimensions=3)
    return folder / "hits.h5", folder / "vectors.h5"


def places_of(samples: Samples) -> Places:
    return Places(*(samples.column(name) for name in ("r", "phi", "z")))


def straight() -> tuple[Places, np.ndarray]:
    """Three straight tracks of five hits each from near the origin, and two hits of none."""
    r = np.array([32.0, 72.0, 116.0, 172.0, 260.0])
    r, phi, cot = np.tile(r, 3), np.repeat([0.0, 0.6, 3.0], 5), np.repeat([0.0, 1.0, -2.0], 5)
    z = 2 + cot * r
    particle = np.repeat([4, 5, 6], 5)
    r, phi, z = np.append(r, [500, 900]), np.append(phi, [-1.5, -2.2]), np.append(z, [50, -300])
    return Places(r, phi, z), np.append(particle, [0, 0])


def test_neighbors_are_those_of_the_definition() -> None:
    x = np.random.default_rng(0).normal(size=(60, 5))
    away = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(away, np.inf)
    np.testing.assert_array_equal(neighbors(x, 7), np.argsort(away, axis=1)[:, :7])
    twins = neighbors(np.zeros((4, 2)), 3)
    assert all(sorted([row, *near]) == [0, 1, 2, 3] for row, near in enumerate(twins.tolist()))
    assert neighbors(x[:3], 10).shape == (3, 2)


def test_straight_tracks_are_found_whole_and_noise_is_in_none() -> None:
    places, particle = straight()
    near = neighbors(kit_coordinates(places), 10)
    track = find_tracks(near, places)
    assert track_score(track, particle, (particle > 0).astype(float)) == pytest.approx(1.0)
    assert (track[particle == 0] == NONE).all()
    assert len(np.unique(track[particle > 0])) == 3


def test_purity_is_the_share_of_alike_neighbors() -> None:
    near = np.array([[1, 2], [0, 2], [1, 0], [0, 1]])
    assert purity(near, np.array([7, 7, 8, 0]), 2) == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert purity(near, np.array([7, 7, 8, 0]), 1) == pytest.approx(2 / 3)
    assert purity(near, np.zeros(4, int), 2) is None


def test_noise_alone_has_no_purity(event: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    of_noise = purity(np.zeros((1, 1), int), np.zeros(1, int), 1)
    monkeypatch.setattr("lookalike.probes.evaluate_tracks.purity", lambda *_: of_noise)
    hits, vectors = event
    report = measure(vectors, [hits], quiet=True)
    assert as_json(report)["events"][0]["purity_10"] == {}
    assert "nan" not in json.dumps(as_json(report)).lower()
    assert "of the same particle" not in as_text(report)


def test_the_baseline_joins_whatever_is_nearer_than_eps() -> None:
    places, particle = straight()
    assert len(np.unique(density_tracks(places, 1e-9))) == len(particle)
    assert len(np.unique(density_tracks(places, 100.0))) == 1


def test_the_report_has_the_scores_of_its_tracks(event: tuple[Path, Path]) -> None:
    hits, vectors = event
    report = measure(vectors, [hits], quiet=True)
    samples = Samples(hits)
    (one,) = report.events
    scored = track_score(one.tracks, samples.column("particle_id"), samples.column("weight"))
    found = as_json(report)
    assert found["accuracy"] == pytest.approx(scored)
    assert 0.6 < scored <= 1
    assert found["throughput"] == pytest.approx(throughput_score(scored, found["seconds"]))
    names = [way["name"] for way in found["events"][0]["ways"]]
    assert names[:3] == [BUCKETED.format(name) for name in (EMBEDDING, VOTED, KIT)]
    accuracy = {way["name"]: way["accuracy"] for way in found["events"][0]["ways"]}
    assert accuracy[names[-1]] >= accuracy[names[-2]], "the best eps is no worse than the fixed one"
    assert accuracy[names[0]] > accuracy[names[-1]]
    near = neighbors(kit_coordinates(places_of(samples)), 10)
    assert found["events"][0]["purity_10"]["kit coordinates"] == pytest.approx(
        purity(near, samples.column("particle_id"), 10)
    )
    text = as_text(report)
    assert f"score {scored:.4f}" in text
    assert "throughput score" in text


def test_without_truth_there_are_tracks_and_no_scores(event: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    for file in (event[0].parent / "events").glob("*-hits.csv.gz"):
        (folder / file.name).write_bytes(file.read_bytes())
    ingest("trackml", [folder], tmp_path / "hits.h5", size=12, quiet=True)
    samples = Samples(tmp_path / "hits.h5")
    write_embeddings(tmp_path / "vectors.h5", samples.ids, [kit_coordinates(places_of(samples))], dimensions=3)
    found = as_json(measure(tmp_path / "vectors.h5", [tmp_path / "hits.h5"], quiet=True))
    assert found["accuracy"] is None
    assert found["throughput"] is None
    assert found["events"][0]["ways"][0]["tracks"] > 30
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_command_writes_tracks_and_a_plot(
    event: tuple[Path, Path], tmp_path: Path, lookalike: Callable[..., Any]
) -> None:
    hits, vectors = event
    out, plot = tmp_path / "tracks.csv", tmp_path / "tracks.png"
    done = lookalike("probes", "tracks", vectors, "--samples", hits, "--out", out, "--plot", plot, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    with out.open() as lines:
        rows = list(csv.DictReader(lines))
    samples = Samples(hits)
    assert [int(row["hit_id"]) for row in rows] == samples.column("hit_id").tolist()
    track = np.array([int(row["track_id"]) for row in rows]) - 1
    scored = track_score(track, samples.column("particle_id"), samples.column("weight"))
    assert report["accuracy"] == pytest.approx(scored)
    assert plot.read_bytes().startswith(b"\x89PNG")
    done = lookalike("probes", "tracks", vectors, "--samples", hits, "--out", tmp_path / "tracks.txt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ends in .csv" in done.stderr


def test_other_samples_and_vectors_are_refused(event: tuple[Path, Path], tmp_path: Path) -> None:
    hits, vectors = event
    ingest("trackml", [hits.parent / "events"], tmp_path / "tracks.h5", sample="tracks", quiet=True)
    with pytest.raises(InputError, match="among hits"):
        measure(vectors, [tmp_path / "tracks.h5"], quiet=True)
    samples = Samples(hits)
    write_embeddings(tmp_path / "few.h5", samples.ids[:9], [kit_coordinates(places_of(samples))[:9]], dimensions=3)
    with pytest.raises(InputError, match="vectors of other objects"):
        measure(tmp_path / "few.h5", [hits], quiet=True)
    with pytest.raises(InputError, match="at least 2 neighbors"):
        measure(vectors, [hits], bucket=1, quiet=True)
