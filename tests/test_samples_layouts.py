"""Particles and records in samples files: stored as given, hashed whole, refused where they are not sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lookalike.about import About, Column
from lookalike.attributes import as_text
from lookalike.errors import CorruptError, InputError
from lookalike.hashing import content_hash
from lookalike.info import describe
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples
from lookalike.summary import summary

EVENTS = About(domain="event", bands=("pt", "eta", "phi"), units=("GeV", "", "rad"), layout="particles")
RECORDS = About(domain="event", bands=("met", "mass"), units=("GeV", "GeV"), layout="features")


def events(n: int = 7) -> np.ndarray:
    """(n, 4, 3): event i has i % 5 particles, but at most 4."""
    random = np.random.default_rng(0)
    particles = np.zeros((n, 4, 3), np.float32)
    for event in range(n):
        count = event % 5
        particles[event, :count, 0] = random.exponential(30, count) + 0.1
        particles[event, :count, 1:] = random.normal(size=(count, 2))
    return particles


def records(n: int = 7) -> np.ndarray:
    found = np.random.default_rng(1).normal(size=(n, 2)).astype(np.float32)
    found[::3, 1] = np.nan
    return found


def write(path: Path, about: About, *blocks: np.ndarray) -> Path:
    with write_samples(path, about, {"mass": Column("GeV", "of the event")}) as writer:
        for block in blocks:
            start = len(writer)
            writer.append([f"e{start + row}" for row in range(len(block))], block, {"mass": np.arange(len(block)) / 2})
    return path


@pytest.mark.parametrize(("about", "stored"), [(EVENTS, events()), (RECORDS, records())], ids=["particles", "features"])
def test_what_is_written_is_what_is_read(tmp_path: Path, about: About, stored: np.ndarray) -> None:
    one = Samples(write(tmp_path / "one.h5", about, stored[:3], stored[3:]))
    assert (one.layout, one.shape, one.dtype) == (about.layout, stored.shape[1:], np.float32)
    assert one.size == stored.shape[1]
    assert one.about == about
    np.testing.assert_array_equal(one.objects(slice(None)), stored)
    np.testing.assert_array_equal(one.objects([5, 0, 5]), stored[[5, 0, 5]])
    into = np.empty((2, *one.shape), np.float32)
    one.read_into(4, into)
    np.testing.assert_array_equal(into, stored[4:6])
    one.verify()
    two = Samples([write(tmp_path / "a.h5", about, stored[:3]), tmp_path / "one.h5"])
    assert len(two) == 10
    np.testing.assert_array_equal(two.objects([0, 3, 9]), stored[[0, 0, 6]])


def test_the_hash_covers_what_it_should(tmp_path: Path) -> None:
    """By the definition: the arrays with their names and shapes, and the description."""
    stored = events()
    samples = Samples(write(tmp_path / "s.h5", EVENTS, stored))
    arrays = {
        "particles": stored,
        "n_particles": np.array([0, 1, 2, 3, 4, 0, 1]),
        "id": np.array([f"e{row}" for row in range(7)], dtype="S"),
        "catalog/mass": np.arange(7) / 2,
    }
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["n_particles"][:].tolist() == arrays["n_particles"].tolist()
        assert as_text(file.attrs["content_hash"]) == content_hash(arrays, EVENTS.model_dump(mode="json"))
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file["n_particles"][2] = 3
    with pytest.raises(CorruptError, match="was altered"):
        samples.verify()


def test_pictures_are_described_and_hashed_as_before() -> None:
    about = About(domain="image", bands=("v",))
    assert "layout" not in about.model_dump(mode="json")
    assert "units" not in about.model_dump(mode="json")
    assert About.checked(about.model_dump(mode="json")) == about
    assert About.checked(EVENTS.model_dump(mode="json")) == EVENTS


def bad_events(**change: Any) -> np.ndarray:
    stored = events()
    stored[4, change["place"], change["number"]] = change["value"]
    return stored


@pytest.mark.parametrize(
    ("about", "stored", "message"),
    [
        (EVENTS, bad_events(place=1, number=0, value=np.nan), "finite values only"),
        (EVENTS, bad_events(place=1, number=2, value=np.inf), "finite values only"),
        (EVENTS, bad_events(place=1, number=0, value=0), r"first number \(pt\) above 0, .* object 4 of the block"),
        (EVENTS, bad_events(place=1, number=0, value=-3), r"first number \(pt\) above 0, .* object 4 of the block"),
        (EVENTS, events()[:, :, :2], r"shape \(N, P, F\) with F = 3 numbers \(pt, eta, phi\), but \(7, 4, 2\)"),
        (EVENTS, events().astype(np.float64), "stored as float32, but float64"),
        (EVENTS, records(), r"shape \(N, P, F\)"),
        (RECORDS, events(), r"shape \(N, F\) with F = 2 numbers \(met, mass\), but \(7, 4, 3\)"),
        (RECORDS, np.full((7, 2), -np.inf, np.float32), "NaN where undefined, but some are infinite"),
    ],
)
def test_unsound_objects_are_refused(tmp_path: Path, about: About, stored: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path / "s.h5", about, stored)
    assert not (tmp_path / "s.h5").exists()


def test_a_file_of_another_layout_than_it_says_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5", RECORDS, records())
    with h5py.File(path, "a") as file:
        file["particles"] = events()
        about = file.attrs["about"]
        text = (about if isinstance(about, str) else about.decode()).replace('"features"', '"particles"')
        file.attrs["about"] = text
    with pytest.raises(CorruptError, match="cannot be read"):
        Samples(path)


def test_people_are_told_what_is_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5", EVENTS, events())
    assert describe(path)["particles"] == "4×3 float32"
    told = summary(path)
    assert "4 × 3 (most particles × numbers of each), float32" in told
    assert "pt [GeV], eta, phi [rad]" in told
    assert "2 (numbers), float32" in summary(write(tmp_path / "r.h5", RECORDS, records()))
