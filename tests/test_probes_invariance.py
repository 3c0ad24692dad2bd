"""The invariance report: scores against their definition, faults put in on purpose, refusals, JSON and page.

Draws are keyed, so every test is deterministic; the report's own odds are 1e-6 for each of its statistical tests.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import lookalike.augmentations as augmentations
from lookalike.augmentations import galaxy, get_domain, ops
from lookalike.augmentations import preprocess as preprocessing
from lookalike.augmentations.bank import read_bank
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.galaxy_settings import Distribution, GalaxySettings, Jitter, default_settings
from lookalike.errors import InputError
from lookalike.probes import published
from lookalike.probes.checks import ODDS, correlation_limit, galaxy_checks
from lookalike.probes.compare import compare_representations
from lookalike.probes.crowding import off_center
from lookalike.probes.directions import Directions, standardization
from lookalike.probes.faults import Flag, flags_of
from lookalike.probes.invariance import Invariance, measure, pixel_change
from lookalike.probes.phantoms import distance, limit
from lookalike.probes.published import EBV, NOISE, PSF, Stated, viewer_colors
from lookalike.probes.report import as_json, as_text
from lookalike.probes.report_html import page
from lookalike.probes.retrieval import best, compared, found_again, nearest, overlap
from lookalike.probes.scores import scored
from lookalike.probes.steps import alone, chosen, switches, with_extra
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl.batches import Batches
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, save_encoder
from lookalike.ssl.encoders import Encoder, EncoderConfig

N, STORED = 40, 40
BANDS = ("g", "r", "z")
STEPS = ["extinction", "orientation", "scaling", "blur", "jitter", "noise"]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn galaxies as the Legacy Surveys store them, with E(B−V), PSF and depth of their own."""
    random = np.random.default_rng(3)
    grid = np.arange(STORED) - (STORED - 1) / 2
    width = np.exp(random.uniform(np.log(1.5), np.log(6), (N, 2)))
    angle, bright = random.uniform(0, np.pi, N), 10 ** random.uniform(-0.5, 1, N)
    color = random.uniform(0.2, 1, (N, 3))
    u = np.cos(angle)[:, None, None] * grid + np.sin(angle)[:, None, None] * grid[:, None]
    v = np.cos(angle)[:, None, None] * grid[:, None] - np.sin(angle)[:, None, None] * grid
    profile = np.exp(-0.5 * ((u / width[:, :1, None]) ** 2 + (v / width[:, 1:, None]) ** 2))
    images = ((bright[:, None] * color)[:, :, None, None] * profile[:, None]).astype(np.float32)
    images += random.normal(0, 0.002, images.shape).astype(np.float32)
    catalog = {"ebv": random.uniform(0.01, 0.2, N)}
    catalog |= {f"psfsize_{band}": random.uniform(0.8, 1.2, N) for band in BANDS}
    catalog |= {f"psfdepth_{band}": random.uniform(8e3, 2e4, N) for band in BANDS}
    about = About(domain="galaxy", bands=BANDS, unit="nanomaggies", pixel_scale=0.262, origin="lower")
    path = tmp_path_factory.mktemp("survey") / "samples.h5"
    with write_samples(path, about, {name: Column() for name in catalog}) as writer:
        writer.append([f"g{row}" for row in range(N)], images, catalog)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path, one_thread: None) -> Callable[..., Path]:
    """Write an encoder with random weights for a samples file: checkpoint(samples, step={…}, preprocess={…})."""

    def write(samples: Path, preprocess: dict[str, Any] | None = None, **changes: Any) -> Path:
        data = Samples(samples)
        domain = get_domain(data.about.domain)
        size, dtype = min(data.shape[1:]), str(data.dtype)
        settings, _ = domain.settings(data.about, size, frozenset(data.columns), dtype)
        settings = settings.changed(changes)
        given = domain.preprocess(data.about, settings).model_copy(update=preprocess or {})
        encoder = EncoderConfig(name="resnet10", channels=len(data.about.bands), small_stem=False)
        folder = tmp_path / "encoder"
        folder.mkdir(exist_ok=True)
        torch.manual_seed(5)
        config = CheckpointConfig(
            encoder=encoder,
            preprocess=given,
            domain=domain.name,
            bands=data.about.bands,
            augment=settings.model_dump(mode="json"),
            train={"seed": 0},
            samples_hash=data.content_hash,
        )
        save_encoder(folder, Encoder(encoder), config)
        return folder

    return write


@pytest.fixture
def fewer_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to notice the faults that the tests put in."""
    monkeypatch.setattr("lookalike.probes.phantoms.OBJECTS", 1024)


@pytest.fixture
def report(survey: Path, checkpoint: Callable[..., Path], fewer_phantoms: None) -> Callable[..., Invariance]:
    """Measure an encoder with random weights on the drawn survey, with its settings changed; with fewer phantoms."""
    return lambda **changes: measure([survey], checkpoint(survey, **changes), quiet=True)


def kinds(flags: list[Flag]) -> list[tuple[str, tuple[str, ...]]]:
    return [(flag.kind, flag.augmentations) for flag in flags]


# ---------------------------------------------------------------------------------------------- healthy and faulty


def test_the_healthy_augmentations_are_not_flagged(survey: Path, checkpoint: Callable[..., Path]) -> None:
    measured = measure([survey], checkpoint(survey), quiet=True)
    assert measured.flags == []
    assert measured.steps == STEPS
    assert [note for note in measured.notes if "overlap" not in note] == []
    tested = {check.augmentation for check in measured.judged.checks}
    assert tested == {*STEPS, "input"}
    assert all(measured.pixel_change[step] > 0.01 for step in STEPS)


def test_fault_1_uniform_draws(report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch inverted: what is stated as a fit comes from a uniform distribution."""

    def uniform(self: Distribution, u: torch.Tensor) -> torch.Tensor:
        low, high = self.low or 0.0, self.high or 0.3
        return low + u * (high - low)

    monkeypatch.setattr(Distribution, "draw", uniform)
    assert kinds(report().flags) == [("uniform_draws", ("extinction", "blur", "noise"))]


@pytest.mark.parametrize("step", ["extinction", "noise"])
def test_fault_1_in_the_settings(report: Callable[..., Invariance], step: str) -> None:
    uniform = {"kind": "uniform", "low": 0.001, "high": 0.2}
    change = {"ebv": uniform} if step == "extinction" else {"bands": {"r": uniform}}
    assert kinds(report(**{step: change}).flags) == [("uniform_draws", (step,))]


def test_fault_1_in_the_defaults(report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint was trained with the fits, but this version would train the next one without."""
    uniform = {"kind": "uniform", "low": 1.3, "high": 5.0}

    def settings(about: About, size: int, *rest: Any) -> tuple[GalaxySettings, list[str]]:
        made, notes = default_settings(about, size, *rest)
        return (made.changed({"blur": {"bands": {"g": uniform}}}) if size == 152 else made), notes

    faulty = dataclasses.replace(galaxy.GALAXY, settings=settings)
    monkeypatch.setitem(augmentations.DOMAINS, "galaxy", faulty)
    assert kinds(report().flags) == [("uniform_draws", ("blur",))]


def _no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    def columns(*arguments: Any) -> tuple[str, ...]:
        return tuple(name for name in galaxy.columns(*arguments) if name != "ebv")

    monkeypatch.setitem(augmentations.DOMAINS, "galaxy", dataclasses.replace(galaxy.GALAXY, columns=columns))


def _zero_in_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    original = galaxy.parameters

    def parameters(catalog: Any, draws: Draws, settings: GalaxySettings) -> galaxy.Parameters:
        made = original(catalog, draws, settings)
        made.ebv_old = torch.zeros_like(made.ebv_old)
        return made

    monkeypatch.setattr(galaxy, "parameters", parameters)


def _median_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    original = galaxy._own
    monkeypatch.setattr(
        galaxy,
        "_own",
        lambda values, otherwise, positive=False: original(values if positive else None, otherwise, positive),
    )


def _reader_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Batches.fetch

    def fetch(self: Batches, rows: Any) -> Any:
        images, catalog = original(self, rows)
        return images, {name: torch.zeros_like(v) if name == "ebv" else v for name, v in catalog.items()}

    monkeypatch.setattr(Batches, "fetch", fetch)


@pytest.mark.parametrize("fault", [_no_column, _zero_in_parameters, _median_for_all, _reader_forgets])
def test_fault_2_the_table_is_not_read(
    report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None]
) -> None:
    fault(monkeypatch)
    assert kinds(report().flags) == [("unread", ("extinction",))]


def test_fault_3_one_axis_is_stretched(report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch) -> None:
    original = ops.warp

    def warp(images: torch.Tensor, size: int, *, scale: torch.Tensor, **rest: torch.Tensor) -> torch.Tensor:
        one = torch.ones_like(scale)
        matrix = torch.diag_embed(torch.stack([1 / scale, one], -1))  # (B, 2, 2)
        wide = ops.resample(images, matrix, torch.zeros_like(matrix[:, 0]), images.shape[2])
        return original(wide, size, scale=one, **rest)

    monkeypatch.setattr(ops, "warp", warp)
    assert kinds(report().flags) == [("stretched", ("scaling",))]


@pytest.mark.parametrize("change", [{"kind": "flux"}, {"scales": (2.2, 3.4, 6.0)}], ids=str)
def test_fault_4_other_colors_in_the_checkpoint(report: Callable[..., Invariance], change: dict[str, Any]) -> None:
    assert kinds(report(preprocess=change).flags) == [("colors", ("input",))]


@pytest.mark.parametrize("fault", ["bands swapped", "clipped"])
def test_fault_4_other_colors_in_the_code(
    report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    original = preprocessing.lupton

    def lupton(flux: torch.Tensor, *rest: Any) -> torch.Tensor:
        return original(flux.flip(1), *rest) if fault == "bands swapped" else original(flux, *rest).clamp(0, 1)

    monkeypatch.setattr(preprocessing, "lupton", lupton)
    assert kinds(report().flags) == [("colors", ("input",))]


def test_a_dead_augmentation(report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch) -> None:
    original = ops.warp
    monkeypatch.setattr(ops, "warp", lambda images, size, *, sigma, **rest: original(images, size, **rest))
    measured = report()
    assert kinds(measured.flags) == [("dead", ("blur",))]
    assert measured.pixel_change["blur"] == 0
    assert kinds(report(jitter={"pixels": 0}).flags) == [("dead", ("blur", "jitter"))]


def test_a_destructive_augmentation(report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch) -> None:
    original = ops.add_noise_
    monkeypatch.setattr(ops, "add_noise_", lambda x, sigma, normal: original(x, 3e4 * sigma, normal))
    flags = report().flags
    assert kinds(flags)[0] == ("destructive", ("noise",))
    assert {flag.augmentations for flag in flags} == {("noise",)}  # and its draws are not those stated


def test_only_all_together_destroys() -> None:
    change, separation = {"blur": 0.1, "all": 0.2}, {"blur": 0.9, "all": 0.6}
    assert kinds(flags_of(change, separation, [], ["blur"])) == [("destructive", ("all",))]
    assert flags_of(change, {"blur": 0.76, "all": 0.76}, [], ["blur"]) == []


@pytest.mark.parametrize(
    ("step", "change", "kind"),
    [
        ("scaling", {"low": 0.85, "high": 1.1}, "distribution"),
        ("jitter", {"pixels": 2}, "distribution"),
        ("orientation", {"flip_probability": 0.0}, "distribution"),
        ("orientation", {"rotate": False}, "distribution"),
        ("noise", {"bands": {"r": {"scale": 0.0075}}}, "distribution"),
        ("blur", {"bands": {"z": {"s": 0.5}}}, "distribution"),
        ("extinction", {"ebv": {"scale": 0.025}}, "distribution"),
        ("extinction", {"coefficients": {"g": -1.5}}, "coefficients"),
    ],
    ids=str,
)
def test_draws_other_than_stated(step: str, change: dict[str, Any], kind: str) -> None:
    """The settings say one thing, the code does another."""
    stated = GalaxySettings()
    done = stated.changed({step: change})

    def view(images: Any, catalog: Any, draws: Draws, settings: GalaxySettings) -> torch.Tensor:
        part = getattr(done, step).model_dump() | {"enabled": getattr(settings, step).enabled}
        return galaxy.view(images, catalog, draws, settings.changed({step: part}))

    checks = galaxy_checks(dataclasses.replace(galaxy.GALAXY, view=view), stated, BANDS, [step])
    assert {check.kind for check in checks if not check.passed} == {kind}


def test_bands_that_share_a_draw() -> None:
    def view(images: Any, catalog: Any, draws: Draws, settings: GalaxySettings) -> torch.Tensor:
        original = draws.uniform
        shared = lambda name, *shape: original("noise_level" if "noise_level" in name else name, *shape)  # noqa: E731
        draws.uniform = shared  # type: ignore[method-assign]
        draws.to = lambda device: draws  # type: ignore[method-assign]
        return galaxy.view(images, catalog, draws, settings)

    checks = galaxy_checks(dataclasses.replace(galaxy.GALAXY, view=view), GalaxySettings(), BANDS, ["noise"])
    assert {check.kind for check in checks if not check.passed} == {"correlated"}


# ---------------------------------------------------------------------------------------------- scores


def test_ranks_lists_and_overlap_equal_their_definition() -> None:
    random = np.random.default_rng(0)
    n, k = 120, 10
    stored = random.standard_normal((n, 6))
    stored[[7, 8]] = stored[6]  # duplicates: they tie with one another
    copies = stored + 0.7 * random.standard_normal((n, 6))
    copies[6] = stored[6]
    left_out = [random.choice(np.delete(np.arange(n), row), 4, replace=False) for row in range(n)]
    a = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    b = copies / np.linalg.norm(copies, axis=1, keepdims=True)
    found = compared(stored, copies, left_out, k=k)
    lists = nearest(stored, left_out, k=k)
    for i in range(n):
        rivals = [j for j in range(n) if j != i and j not in left_out[i]]
        assert found.rivals[i] == len(rivals)
        assert found.cosine[i] == pytest.approx(b[i] @ a[i])
        assert found.ahead_of_original[i] == sum(b[i] @ a[j] >= b[i] @ a[i] - 1e-12 for j in rivals)
        assert found.ahead_of_copy[i] == sum(a[i] @ b[j] >= a[i] @ b[i] - 1e-12 for j in rivals)
        by_copy = sorted(rivals, key=lambda j: (-round(float(b[i] @ a[j]), 12), j))[:k]
        by_original = sorted(rivals, key=lambda j: (-round(float(a[i] @ a[j]), 12), j))[:k]
        if i not in (6, 7, 8):
            assert found.copy_lists[i].tolist() == by_copy
            assert lists[i].tolist() == by_original
        share = len(set(by_copy) & set(by_original)) / k
        assert overlap(lists, found.copy_lists)[i] == pytest.approx(share)
    assert found.ahead_of_original[6] == 2


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    stored, copies = random.standard_normal((50, 7)), random.standard_normal((50, 7))
    whole = compared(stored, copies, k=5)
    monkeypatch.setattr("lookalike.probes.directions.CELLS", 60)
    parts = compared(stored, copies, k=5)
    for field in dataclasses.fields(whole):
        np.testing.assert_allclose(getattr(parts, field.name), getattr(whole, field.name), atol=1e-12)


def test_lists_are_short_where_nobody_is_left() -> None:
    vectors = np.eye(4)
    left_out = [np.array([1, 2]), np.array([0, 2, 3]), np.array([], int), np.array([], int)]
    lists = nearest(vectors, left_out, k=3)
    assert lists.tolist() == [[3, -1, -1], [-1, -1, -1], [0, 1, 3], [0, 1, 2]]
    shares = overlap(lists, lists)
    assert np.isnan(shares[1])
    assert shares[[0, 2, 3]].tolist() == [1, 1, 1]


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, -np.inf]), min_size=4, max_size=4), min_size=1), st.integers(1, 6)
)
def test_the_best_are_those_of_a_full_sort(rows: list[list[float]], k: int) -> None:
    similarity = np.array(rows)
    for row, found in zip(rows, best(similarity, k).tolist(), strict=True):
        wanted = [j for j in sorted(range(4), key=lambda j: (-row[j], j)) if row[j] > -np.inf][:k]
        assert found == wanted + [-1] * (k - len(wanted))


def test_standardizing_on_the_fly_is_standardizing() -> None:
    random = np.random.default_rng(2)
    stored = random.normal(3, 2, (30, 5)).astype(np.float32)
    stored[:, 4] = 7
    wide = stored.astype(np.float64)
    mean, spread = standardization(stored)
    np.testing.assert_allclose(mean, wide.mean(axis=0))
    np.testing.assert_allclose(spread[:4], wide.std(axis=0)[:4])
    assert spread[4] == 1
    expected = (wide - mean) / spread
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(Directions(stored, mean, spread).unit(3, 9), expected[3:9])


def test_an_object_without_rivals_is_neither_found_nor_missed() -> None:
    stored, left_out = np.eye(4), [np.array([1, 2, 3]), *(np.array([], int) for _ in range(3))]
    copies = stored.copy()
    copies[1] = stored[2]  # the second looks like the third
    found = compared(stored, copies, left_out, k=10)
    scores = scored(found, overlap(nearest(stored, left_out, k=10), found.copy_lists))
    assert (scores.copy_at[0].hits, scores.copy_at[0].n) == (2, 3)
    assert (scores.original_at[1].hits, scores.original_at[1].n) == (3, 3)
    assert scores.separation == pytest.approx(2 / 3)  # of the three, one has all its rivals ahead
    assert sum(scores.cosine.counts) == 4
    assert found_again(stored, copies, left_out).tolist() == [False, False, True, True]


def test_pixel_change_by_hand() -> None:
    plain = torch.tensor([[[[0.0, 2.0]]], [[[5.0, 5.0]]]])
    change = pixel_change(plain + 0.5, plain)
    assert change[0] == 0.5
    assert np.isnan(change[1])  # a flat picture has no contrast


def test_the_demo_gets_the_same_numbers(survey: Path, report: Callable[..., Invariance]) -> None:
    measured = report()
    found = compare_representations(Samples(survey), measured.checkpoint, quiet=True)
    for ours, theirs in (("embedding", "trained encoder"), ("pixels", "raw pixels")):
        assert measured.scores[ours]["all"].copy_at[0].hits == found[theirs].sum()


# ---------------------------------------------------------------------------------------------- the stated numbers


def test_the_published_quantiles_are_scipys() -> None:
    for stated in (EBV, *PSF.values(), *NOISE.values()):
        frozen = stats.lognorm(stated.s, stated.loc, stated.scale)
        below, above = frozen.cdf(stated.low), frozen.cdf(stated.high)
        u = (np.arange(published.POINTS) + 0.5) / published.POINTS
        np.testing.assert_allclose(stated.quantiles(), frozen.ppf(below + u * (above - below)), rtol=1e-6)


def test_the_code_has_the_published_numbers() -> None:
    settings = GalaxySettings()
    assert Stated.of(settings.extinction.ebv) == EBV
    assert {band: Stated.of(part) for band, part in settings.blur.bands.items()} == PSF
    assert {band: Stated.of(part) for band, part in settings.noise.bands.items()} == NOISE


def test_the_viewer_draws_a_faint_pixel_as_published() -> None:
    blue, green, red = viewer_colors(np.full((3, 1), 0.01), BANDS)[:, 0]
    assert (red, green, blue) == pytest.approx((0.19, 0.23, 0.33), abs=0.005)


def test_the_distance_is_kolmogorovs() -> None:
    random = np.random.default_rng(4)
    a, b = random.uniform(1, 2, 500), random.uniform(1, 2.2, 700)
    assert distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=2e-3)


def test_a_right_sample_keeps_within_the_limit() -> None:
    """At odds of 0.01 a sample of 200 goes beyond the limit in at most 1 % of trials, with room for chance."""
    random = np.random.default_rng(5)
    even = np.linspace(0, 1, 20_001)
    beyond = sum(distance(random.uniform(0, 1, 200), even) > limit(200, 0.01) + 1e-3 for _ in range(500))
    assert beyond <= 14  # binomial(500, 0.01) exceeds 14 with odds of 2e-4


def test_independent_bands_pass_with_the_stated_odds() -> None:
    """The two-sided tail of the largest of three normal correlations is below the odds, and not by much."""
    for n in (1024, 4096):
        tail = 3 * 2 * stats.norm.sf(correlation_limit(n, 3) * n**0.5)
        assert ODDS / 3 < tail < ODDS
    random = np.random.default_rng(8)
    correlations = [np.corrcoef(random.gamma(12.0, size=(3, 500))) - np.eye(3) for _ in range(1500)]
    beyond = sum(np.abs(each).max() > correlation_limit(500, 3, 0.02) for each in correlations)
    assert 1 <= beyond <= 30  # 15 are expected; more than 30, or none, have odds below 1e-3


# ---------------------------------------------------------------------------------------------- steps and refusals


def test_an_extra_without_numbers_says_what_can_be_done_here() -> None:
    """8-bit pictures have no PSF; `evaluate` has no --set, and a step that was asked for is not to be switched off."""
    about = About(domain="galaxy", bands=("R", "G", "B"))
    defaults, _ = get_domain("galaxy").settings(about, 64, frozenset(), "uint8")
    with pytest.raises(InputError) as error:
        with_extra(defaults, defaults, ["foreground"], "checkpoints/mine")
    assert error.value.message == (
        "--extra foreground is measured with the numbers in the settings of checkpoints/mine, but there foreground.psf "
        "has no numbers for R, G, B. Leave it out, or measure an encoder trained with them "
        "(lookalike train … --set augment.foreground.psf.BAND=… for each)."
    )
    trained = defaults.changed({"foreground": {"psf": {"R": 1.5, "G": 1.4, "B": 1.3}}})  # as --set gives it
    found, notes = with_extra(trained, defaults, ["foreground"], "checkpoints/mine")
    assert found.model_dump()["foreground"]["psf"] == {"R": 1.5, "G": 1.4, "B": 1.3}
    assert notes


def test_an_extra_that_is_off_by_default_is_no_missing_step() -> None:
    class Paste(Jitter):
        enabled: bool = False

    class WithExtra(GalaxySettings):
        paste: Paste = Paste()

    assert list(switches(WithExtra())) == STEPS
    assert list(switches(WithExtra().changed({"paste": {"enabled": True}}))) == [*STEPS, "paste"]
    assert switches(alone(WithExtra(), "blur")) == {step: step == "blur" for step in STEPS}


def test_a_foreground_is_measured_where_the_encoder_has_it_or_where_asked_for(
    report: Callable[..., Invariance], survey: Path, checkpoint: Callable[..., Path]
) -> None:
    trained = report(foreground={"enabled": True, "bank": 30})
    assert trained.steps == ["foreground", *STEPS]
    assert trained.pixel_change["foreground"] > 0.05
    assert trained.flags == []
    assert not [note for note in trained.notes if "foreground" in note]
    asked = measure([survey], checkpoint(survey), extra=["foreground"], quiet=True)
    assert asked.steps == ["foreground", *STEPS]
    assert "foreground: measured though the encoder was not trained with it" in " ".join(asked.notes)
    usual = measure([survey], checkpoint(survey), quiet=True)
    assert usual.steps == STEPS
    with pytest.raises(InputError, match=r"Unknown extra step 'blur'\. Choices: foreground"):
        measure([survey], checkpoint(survey), extra=["blur"], quiet=True)


@pytest.mark.usefixtures("fewer_phantoms")
def test_the_foregrounds_of_an_evaluation_are_not_those_of_training(
    survey: Path, checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def bank(*arguments: Any) -> Any:
        read.append(arguments[2:])
        return read_bank(*arguments)

    monkeypatch.setitem(augmentations.DOMAINS, "galaxy", dataclasses.replace(get_domain("galaxy"), bank=bank))
    folder = checkpoint(survey, foreground={"enabled": True, "bank": 30})
    measure([survey], folder, quiet=True, seed=4)
    compare_representations(Samples(survey), folder, quiet=True, seed=4)
    assert read == [(4, -1), (4, -1)]


def test_the_crowded_third_has_its_own_scores(report: Callable[..., Invariance], survey: Path) -> None:
    measured = report()
    pictures = Samples(survey).objects(slice(None))
    inner = slice(8, 32)  # views are 24 of 40 px
    shares = off_center(pictures[:, :, inner, inner])
    assert measured.crowded_objects.tolist() == sorted(np.argsort(-shares)[:13])
    assert set(measured.crowded) == set(measured.scores)
    for name, scores in measured.crowded.items():
        for step, part in scores.items():
            whole = measured.scores[name][step]
            assert part.copy_at[0].n == 13
            assert part.copy_at[0].hits <= whole.copy_at[0].hits
    values = as_json(measured)
    assert values["crowded_objects"] == 13
    found = measured.crowded["embedding"]["all"]
    assert values["all"]["crowded"]["self_retrieval_at_1"] == found.copy_at[0].value
    assert values["all"]["crowded"]["overlap_at_10"] == found.overlap
    assert values["augmentations"][0]["crowded"]["intervals"]["overlap_at_10"] == list(
        measured.crowded["embedding"]["extinction"].overlap_interval
    )
    assert "all, crowded" in as_text(measured)
    assert "Self-retrieval@1 of the 13 in crowded cutouts" in page(measured)


def test_all_is_refused_if_a_step_is_off() -> None:
    off = GalaxySettings().changed({"blur": {"enabled": False}, "noise": {"enabled": False}})
    with pytest.raises(
        InputError, match=r"blur and noise are off in the settings of here.*--without blur --without noise"
    ):
        chosen(off, [], "here")
    with pytest.raises(InputError, match="noise is off"):
        chosen(off, ["blur"], "here")
    assert chosen(off, ["noise", "blur"], "here") == (
        ["extinction", "orientation", "scaling", "jitter"],
        ["blur", "noise"],
    )
    with pytest.raises(InputError, match="scaling is on"):
        chosen(off, ["scaling"], "here")
    with pytest.raises(InputError, match="Unknown step 'blurr'"):
        chosen(off, ["blurr"], "here")
    with pytest.raises(InputError, match="At least one"):
        chosen(alone(off), STEPS, "here")


def test_plain_pictures_in_one_band(blob_samples: Callable[..., Path], checkpoint: Callable[..., Path]) -> None:
    """Gray is no step where there are no colors; the draws are not compared, and that is said."""
    samples = blob_samples(domain="image", bands="v", n=20)
    folder = checkpoint(samples)
    with pytest.raises(InputError, match="gray is off"):
        measure([samples], folder, quiet=True)
    measured = measure([samples], folder, without=["gray"], objects=12, quiet=True)
    assert measured.steps == ["crop", "jitter", "blur", "flip"]
    assert len(measured.rows) == 12
    assert any("12 of 20" in note for note in measured.notes)
    assert any("not compared with a distribution" in note for note in measured.notes)


@pytest.mark.usefixtures("fewer_phantoms")
def test_overlapping_footprints_do_not_compete(tmp_path: Path, checkpoint: Callable[..., Path]) -> None:
    """Two cutouts of the same place are each other's best match, but not rivals."""
    random = np.random.default_rng(6)
    images = np.repeat(random.integers(0, 255, (6, 3, 24, 24)), 2, axis=0).astype(np.uint8)
    about = About(domain="galaxy", bands=("R", "G", "B"), survey={"psf_sigma": dict.fromkeys("RGB", 0.8)})
    x = np.repeat(np.arange(6) * 100.0, 2) + np.tile([0.0, 1.0], 6)
    with write_samples(tmp_path / "field.h5", about, {"x": Column("px"), "y": Column("px")}) as writer:
        writer.append([f"f{row}" for row in range(12)], images, {"x": x, "y": np.zeros(12)})
    folder = checkpoint(tmp_path / "field.h5")
    off = ["extinction", "noise"]
    apart = measure([tmp_path / "field.h5"], folder, without=off, quiet=True)
    crowded = measure([tmp_path / "field.h5"], folder, without=off, max_overlap=1.0, quiet=True)
    assert apart.scores["pixels"]["blur"].copy_at[0].value == 1.0
    assert crowded.scores["pixels"]["blur"].copy_at[0].value == 0.0  # the twins tie
    assert any("12 pairs overlap" in note for note in apart.notes)


@pytest.mark.usefixtures("fewer_phantoms")
def test_what_overlaps_all_others_is_left_out_and_counted(tmp_path: Path, checkpoint: Callable[..., Path]) -> None:
    """A chain of three: the middle one overlaps both ends, which do not overlap each other."""
    images = np.random.default_rng(6).integers(0, 255, (3, 3, 24, 24)).astype(np.uint8)
    about = About(domain="galaxy", bands=("R", "G", "B"), survey={"psf_sigma": dict.fromkeys("RGB", 0.8)})
    for name, x in {"chain.h5": [0.0, 10.0, 20.0], "heap.h5": [0.0, 1.0, 2.0]}.items():
        with write_samples(tmp_path / name, about, {"x": Column("px"), "y": Column("px")}) as writer:
            writer.append(["a", "b", "c"], images, {"x": np.array(x), "y": np.zeros(3)})
    folder, off = checkpoint(tmp_path / "chain.h5"), ["extinction", "noise"]
    measured = measure([tmp_path / "chain.h5"], folder, without=off, quiet=True)
    assert measured.scores["pixels"]["blur"].copy_at[0].n == 2
    assert "footprints: 1 object overlaps every other; all scores but its cosines leave it out." in measured.notes
    with pytest.raises(InputError, match=r"all 3 overlap each other by more than 25%; give a larger --max-overlap"):
        measure([tmp_path / "heap.h5"], folder, without=off, quiet=True)


@pytest.mark.usefixtures("fewer_phantoms")
def test_an_encoder_that_names_no_augmentations_gets_the_domains(
    survey: Path, checkpoint: Callable[..., Path], blob_samples: Callable[..., Path]
) -> None:
    """As `checkpoint import` makes them."""
    folder = checkpoint(survey)
    named = measure([survey], folder, quiet=True)
    encoder, config = load_encoder(folder)
    save_encoder(folder, encoder, config.model_copy(update={"augment": {}}))
    measured = measure([survey], folder, quiet=True)
    assert measured.scores == named.scores
    assert any("the checkpoint names none" in note for note in measured.notes)
    assert not any("the checkpoint names none" in note for note in named.notes)

    pictures = blob_samples(domain="image", n=20)  # of 24 px
    folder = checkpoint(pictures, preprocess={"size": 16})
    encoder, config = load_encoder(folder)
    save_encoder(folder, encoder, config.model_copy(update={"augment": {}}))
    measured = measure([pictures], folder, quiet=True)
    # No mirror changes a radial profile or a histogram, so both see the same central crop.
    assert measured.scores["hand_features"]["flip"].cosine.quantiles[0] == pytest.approx(1)


def test_pixels_that_are_not_finite_are_refused(
    report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "transmission", lambda ebv, c: torch.full((len(ebv), len(c)), torch.nan))
    with pytest.raises(InputError, match="extinction gives some that are not"):
        report()


# ---------------------------------------------------------------------------------------------- JSON, table, page


def test_the_report_has_the_promised_shape(report: Callable[..., Invariance]) -> None:
    measured = report()
    document = json.loads(json.dumps(as_json(measured), allow_nan=False))
    for layer in (document, document["projection"]):
        assert [entry["name"] for entry in layer["augmentations"]] == STEPS
        entries = [*layer["augmentations"], layer["all"], layer["untrained"], layer["pixels"], layer["hand_features"]]
        for entry in entries:
            for name in ("self_retrieval_at_1", "self_retrieval_at_10", "overlap_at_10"):
                low, high = entry["intervals"][name]
                assert 0 <= low <= entry[name] <= high <= 1
            assert entry["self_retrieval_at_1"] <= entry["self_retrieval_at_10"]
            assert 0 <= entry["from_original"]["self_retrieval_at_1"] <= 1
            assert entry["pixel_change"] > 0
            assert sum(entry["cosine"]["histogram"]["counts"]) == N
    assert (document["layer"], document["projection"]["layer"]) == ("embedding", "projection")
    assert document["all"]["pixel_change"] == measured.pixel_change["all"]
    table = as_text(measured)
    assert all(step in table for step in STEPS)
    assert "No augmentation is flagged." in table


def test_what_is_not_all_is_not_called_all(report: Callable[..., Invariance], survey: Path, checkpoint: Any) -> None:
    folder = checkpoint(survey, blur={"enabled": False})
    measured = measure([survey], folder, without=["blur"], quiet=True)
    document = as_json(measured)
    assert document["all"] is None
    assert document["together"]["self_retrieval_at_1"] >= 0
    assert document["without"] == ["blur"]
    assert "all but blur" in as_text(measured)
    assert "all but blur" in page(measured)


def test_a_long_name_is_apart_from_its_numbers(report: Callable[..., Invariance]) -> None:
    table = as_text(dataclasses.replace(report(), without=["extinction", "blur", "noise"])).splitlines()
    column = table[3].index("change")
    rows = [line for line in table if line.startswith("  ") and "(" in line]
    assert any(line.startswith("  all but extinction, blur, noise  ") for line in rows)
    assert all(line[column - 2 : column] == "  " for line in rows)


def test_the_page_needs_nothing_else(report: Callable[..., Invariance], monkeypatch: pytest.MonkeyPatch) -> None:
    original = ops.warp
    monkeypatch.setattr(ops, "warp", lambda images, size, *, sigma, **rest: original(images, size, **rest))
    text = page(dataclasses.replace(report(), notes=["<script>alert(1)</script>"]))
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert text.count('<svg class="plot"') == 6
    assert "prefers-color-scheme: dark" in text
    assert "dead" in text


def test_the_command(
    survey: Path,
    checkpoint: Callable[..., Path],
    tmp_path: Path,
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    folder = checkpoint(survey, noise={"enabled": False})
    refused = command("evaluate", "invariance", survey, "--checkpoint", folder)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "noise is off" in refused.stderr
    before = survey.read_bytes()
    for html, message in {
        survey: "is read here and cannot be written too",
        folder / "page.html": "which is read here, and cannot be written too",
        tmp_path / "page.txt": "A page ends in .html, .htm, but",
    }.items():
        refused = command("evaluate", "invariance", survey, "--checkpoint", folder, "--html", html)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr
    assert survey.read_bytes() == before
    html = tmp_path / "page.html"
    done = command(
        "evaluate", "invariance", survey, "--checkpoint", folder, "--without", "noise", "--json", "--html", html
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["without"] == ["noise"]
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
