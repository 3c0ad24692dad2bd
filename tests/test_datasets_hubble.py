"""Hubble picture: what is detected, merged, measured and stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookalike.datasets import IngestReport, ingest
from lookalike.datasets.hubble import BANDS, COLUMNS, MERGE_RADIUS, detect, load_picture, merged_into
from lookalike.datasets.hubble_seeing import adaptive_sigma, clipped_std, dilated
from lookalike.errors import InputError
from lookalike.provenance import read_record
from lookalike.samples import Samples


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestReport, Samples]:
    out = tmp_path_factory.mktemp("hubble") / "samples.h5"
    return ingest("hubble", [], out, quiet=True), Samples(out)


def test_at_least_a_thousand_objects_with_every_column_described(made: tuple[IngestReport, Samples]) -> None:
    report, samples = made
    assert 1000 <= len(samples) <= 3000
    assert len(samples) == report.n
    assert samples.shape == (3, 52, 52)
    assert samples.dtype == np.uint8
    assert samples.about.bands == BANDS
    assert samples.about.origin == "upper"
    assert {name: samples.columns[name] for name in COLUMNS} == COLUMNS
    assert all(column.description for column in samples.columns.values())


def test_counts_add_up(made: tuple[IngestReport, Samples]) -> None:
    report, _ = made
    counts = report.counts
    assert counts["cut by the edge"] > 0
    assert counts["detected"] - counts["merged within 6 px"] - counts["cut by the edge"] == report.n


def test_cutouts_are_the_picture_around_the_position(made: tuple[IngestReport, Samples]) -> None:
    _, samples = made
    picture = load_picture()
    x, y = samples.column("x"), samples.column("y")
    for row in (0, 17, len(samples) - 1):
        image = samples.objects([row])[0]
        # Slow definition: the one placement whose middle is within half a pixel of the position.
        left = next(i for i in range(1000) if -0.5 <= x[row] - (i + 25.5) < 0.5)
        top = next(i for i in range(872) if -0.5 <= y[row] - (i + 25.5) < 0.5)
        assert (image == picture[top : top + 52, left : left + 52].transpose(2, 0, 1)).all()


def test_objects_are_centered_and_brighter_than_the_sky(made: tuple[IngestReport, Samples]) -> None:
    _, samples = made
    images = samples.objects(slice(None)).mean(axis=1, dtype=np.float64)  # (N, 52, 52)
    center = images[:, 23:29, 23:29].max(axis=(1, 2))
    sky = np.median(images, axis=(1, 2))
    assert (center > sky + 10).mean() > 0.99  # the sky's noise is 5 counts per band


def test_no_two_objects_are_closer_than_the_merge_radius(made: tuple[IngestReport, Samples]) -> None:
    _, samples = made
    x, y = samples.column("x"), samples.column("y")
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > MERGE_RADIUS


def test_measurements_are_sane(made: tuple[IngestReport, Samples]) -> None:
    _, samples = made
    mag, size, ratio = (samples.column(name) for name in ("mag", "size", "axis_ratio"))
    assert np.isfinite(mag).mean() > 0.99
    assert 10 < np.nanmin(mag) < 14 < np.nanmax(mag) < 22
    assert ((ratio > 0) & (ratio <= 1)).all()
    assert 0.4 < np.nanmin(size) < np.nanmedian(size) < 3
    assert np.isfinite(samples.column("color_bg")).mean() > 0.95
    assert np.isfinite(samples.column("color_gr")).mean() > 0.95


def test_survey_holds_measured_noise_and_blur_for_each_band(made: tuple[IngestReport, Samples]) -> None:
    survey = made[1].about.survey
    assert set(survey["noise"]) == set(survey["psf_sigma"]) == set(BANDS)
    assert all(3 < sigma < 8 for sigma in survey["noise"].values())
    assert all(0.5 < sigma < 1.2 for sigma in survey["psf_sigma"].values())
    assert survey["footprint"] == 52


def test_same_picture_same_content_hash(made: tuple[IngestReport, Samples], tmp_path: Path) -> None:
    again = ingest("hubble", [], tmp_path / "again.h5", quiet=True)
    assert again.content_hash == made[0].content_hash
    assert again.content_hash != ingest("hubble", [], tmp_path / "wide.h5", size=64, quiet=True).content_hash


def test_build_record_lies_beside(made: tuple[IngestReport, Samples]) -> None:
    record = read_record(made[0].out)
    assert record is not None
    assert record["command"] == "ingest hubble"
    assert record["content_hash"] == made[0].content_hash


def test_size_below_52_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"52 to 400 px, but 40"):
        ingest("hubble", [], tmp_path / "a.h5", size=40)
    with pytest.raises(InputError, match="takes no files"):
        ingest("hubble", [tmp_path / "b.png"], tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"takes no --catalog. It takes: --size"):
        ingest("hubble", [], tmp_path / "a.h5", catalog=tmp_path / "c.csv")
    assert not list(tmp_path.glob("*.h5"))


def _slow_merge(x: list[float], y: list[float], flux: list[float], radius: float) -> list[int]:
    kept: list[int] = []  # brightest first
    into = [0] * len(x)
    for i in sorted(range(len(x)), key=lambda i: (-flux[i], i)):
        near = [j for j in kept if (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 <= radius**2]
        if not near:
            kept.append(i)
        into[i] = near[0] if near else i
    return into


def test_merge_agrees_with_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 30))
        x, y = rng.integers(0, 20, (2, n)).astype(float)
        flux = rng.integers(1, 5, n).astype(float)  # with ties
        assert merged_into(x, y, flux, 6.0).tolist() == _slow_merge(x.tolist(), y.tolist(), flux.tolist(), 6.0)


def test_merge_keeps_the_brightest_and_a_chain_keeps_its_far_end() -> None:
    x = np.array([0.0, 5.0, 10.0])
    into = merged_into(x, np.zeros(3), np.array([3.0, 1.0, 2.0]), 6.0)
    assert into.tolist() == [0, 0, 2]


def test_the_light_of_a_merged_detection_counts() -> None:
    """Two Gaussians 5.5 px apart, 2,500 and 1,800 counts: one source of 4,300, not of the brighter's alone."""
    row, column = np.mgrid[:128, :128].astype(float)
    light = np.zeros((128, 128))
    for x, flux in ((64.0, 2500.0), (69.5, 1800.0)):
        light += flux / (2 * np.pi * 1.2**2) * np.exp(-((column - x) ** 2 + (row - 64) ** 2) / (2 * 1.2**2))
    sky = np.random.default_rng(3).normal(20, 2, (128, 128, 3))
    sources = detect(np.clip(np.round(sky + light[..., None]), 0, 255).astype(np.uint8))
    assert (sources.detected, len(sources)) == (2, 1)
    assert sources.catalog["x"][0] == pytest.approx(64, abs=0.2)
    assert 10 ** (0.4 * (25 - sources.catalog["mag"][0])) == pytest.approx(4300, rel=0.05)
    assert set(np.unique(sources.segments).tolist()) == {0, *(sources.segments[64, [64, 69]].tolist())}
    assert len(np.unique(sources.segments)) == 2


def test_adaptive_sigma_finds_the_width_of_a_gaussian() -> None:
    grid = np.arange(13) - 6.0
    for sigma, dx, dy in ((0.7, 0.2, -0.3), (1.0, 0.0, 0.0), (1.8, -0.4, 0.4)):
        stamp = np.exp(-((grid[None] - dx) ** 2 + (grid[:, None] - dy) ** 2) / (2 * sigma**2))
        assert adaptive_sigma(stamp[None])[0] == pytest.approx(sigma, rel=0.04)  # sampled by pixels
    assert np.isnan(adaptive_sigma(np.zeros((1, 13, 13)))[0])


def test_clipped_std_ignores_outliers_and_dilation_grows_a_diamond() -> None:
    values = np.random.default_rng(1).normal(0, 2, 20_000)
    values[:50] = 1000
    assert clipped_std(values) == pytest.approx(2 * 0.9866, rel=0.02)  # σ of a Gaussian cut at 3 σ
    mask = np.zeros((7, 7), bool)
    mask[3, 3] = True
    v, u = np.mgrid[:7, :7] - 3
    assert (dilated(mask, 2) == (abs(u) + abs(v) <= 2)).all()
