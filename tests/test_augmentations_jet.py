"""What views of jets keep, and that what they change is distributed as stated.

Statistical tests have fixed seeds; each would fail for about one seed in 10,000 if the distribution were as stated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lookalike.about import About
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.jet import JET, JetSettings, default_settings, preprocess, view
from lookalike.augmentations.jet_image import BANDS, JetImage
from lookalike.errors import InputError
from lookalike.indexer.windows import Window

STEPS = ("splits", "soft", "smearing", "resolution", "rotation", "translation")
ODDS = 1e-4
ABOUT = About(domain="jet", bands=BANDS, units=("GeV", "", "rad", ""), layout="particles")


def only(*steps: str, **values: Any) -> JetSettings:
    """The settings with these steps alone, changed as given."""
    changes = {step: {"enabled": step in steps} | values.get(step, {}) for step in STEPS}
    return JetSettings().changed(changes | {k: v for k, v in values.items() if k not in STEPS})


def events(n: int, places: int = 40, seed: int = 0, most: int = 12) -> Tensor:
    """(n, places, 4): two jets each, of 1 to `most` constituents, some across φ = ±π."""
    rng = np.random.default_rng(seed)
    batch = np.zeros((n, places, 4), np.float32)
    for row in range(n):
        counts = rng.integers(1, most + 1, 2)
        for jet, (start, stop) in enumerate([(0, counts[0]), (counts[0], counts.sum())]):
            m = stop - start
            batch[row, start:stop, 0] = rng.exponential(30, m) + 0.5
            batch[row, start:stop, 1] = rng.uniform(-2, 2) + rng.normal(0, 0.2, m)
            phi = rng.choice([rng.uniform(-3, 3), math.pi]) + rng.normal(0, 0.2, m)
            batch[row, start:stop, 2] = (phi + math.pi) % (2 * math.pi) - math.pi
            batch[row, start:stop, 3] = jet
    return torch.from_numpy(batch)


def alike(n: int, pt: float, places: int = 1) -> Tensor:
    """n events of one constituent of that pT at η = 0.3, φ = 3, and so many places."""
    return torch.tensor([pt, 0.3, 3.0, 0.0]).expand(n, 1, 4) * (torch.arange(places) < 1)[:, None]


def seen(batch: Tensor, settings: JetSettings, which: int = 0, seed: int = 0) -> Tensor:
    return view(batch, {}, Draws(seed, 0, torch.arange(len(batch)), which), settings)


def momenta(batch: Tensor, jet: int) -> Tensor:
    """E, px, py, pz (B, 4) of one jet of each event."""
    x = batch.double()
    pt, eta, phi = x[..., 0] * (x[..., 3] == jet), x[..., 1], x[..., 2]
    parts = (pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh())
    return torch.stack([part.sum(1) for part in parts], 1)


def test_collinear_splits_keep_four_momenta_and_the_image() -> None:
    batch = events(200)
    after = seen(batch, only("splits"))
    added = (after[..., 0] > 0).sum(1) - (batch[..., 0] > 0).sum(1)
    assert set(added.tolist()) == {0, 1, 2, 3, 4}
    assert stats.chisquare(np.bincount(added)).pvalue > ODDS, "0 to 4 splits are equally likely"
    for jet in (0, 1):
        torch.testing.assert_close(momenta(after, jet), momenta(batch, jet), rtol=1e-5, atol=1e-3)
    # By a rounding to float32 a part may fall on the other side of a pixel's edge: hardly any does.
    image = JetImage.checked({"kind": "jet", "value": "pt"})
    moved = (encoder_input(after, image) - encoder_input(batch, image)).abs().amax((1, 2, 3)) > 1e-3
    assert int(moved.sum()) <= 2


def test_shares_of_splits_are_uniform() -> None:
    after = seen(alike(4000, 50.0, 2), only("splits", splits={"most": 1, "low": 0.2, "high": 0.6}))
    share = after[after[:, 1, 0] > 0][:, 1, 0].numpy() / 50
    assert 0.4 < len(share) / 4000 < 0.6
    assert stats.kstest(share, stats.uniform(0.2, 0.4).cdf).pvalue > ODDS


def test_soft_emissions_keep_momenta_and_are_soft_and_near() -> None:
    batch = events(200)
    after = seen(batch, only("soft"))
    for jet in (0, 1):
        torch.testing.assert_close(momenta(after, jet)[:, 1:], momenta(batch, jet)[:, 1:], rtol=1e-4, atol=1e-3)
    one = seen(alike(4000, 50.0, 2), only("soft", soft={"most": 1, "low": 0.01, "high": 0.02, "near": 0.05}))
    emitted = one[one[:, 1, 0] > 0].double()
    z = emitted[:, 1, 0].numpy() / 50
    assert stats.kstest(np.log(z), stats.uniform(math.log(0.01), math.log(2)).cdf).pvalue > ODDS
    phi = torch.remainder(emitted[:, 1, 2] - 3.0 + math.pi, 2 * math.pi) - math.pi
    away = torch.hypot(emitted[:, 1, 1] - 0.3, phi).numpy()
    assert stats.kstest(np.log(away), stats.uniform(math.log(0.05), math.log(8)).cdf).pvalue > ODDS
    assert float(emitted[..., 2].abs().max()) <= math.pi + 1e-6


def test_hard_constituents_radiate_more() -> None:
    batch = torch.tensor([[90.0, 0.0, 0.0, 0.0], [10.0, 1.0, 0.0, 0.0], [0.0] * 4]).expand(5000, 3, 4)
    after = seen(batch, only("splits", splits={"most": 1}))
    split = after[after[:, 2, 0] > 0]
    hard = int((split[:, 2, 1] == 0).sum())
    assert stats.binomtest(hard, len(split), 0.9).pvalue > ODDS


def test_a_full_event_has_no_room_for_splits() -> None:
    batch = events(50, 8, most=4)
    full = batch[(batch[..., 0] > 0).all(1)]
    assert len(full)
    torch.testing.assert_close(seen(full, only("splits", "soft")), full)


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_smearing_falls_with_momentum(scale: float) -> None:
    for pt in (2.0, 80.0):
        after = seen(alike(4000, pt), only("smearing", smearing={"scale": scale}))[:, 0].double()
        phi = torch.remainder(after[:, 2] - 3.0 + math.pi, 2 * math.pi) - math.pi
        for away in (after[:, 1] - 0.3, phi):
            assert stats.kstest((away * pt / scale).numpy(), stats.norm.cdf).pvalue > ODDS
    assert JetSettings().smearing.scale == 0.1


def test_a_soft_constituent_does_not_turn_an_aligned_jet() -> None:
    """Two hard prongs lie along η′ in every view, however far a constituent of 0.2 MeV, or one of 50, is smeared."""
    prongs = torch.tensor([[100.0, 0.4, 0.3, 0.0], [80.0, -0.4, -0.3, 0.0], [0.0002, 0.1, 0.1, 0.0], [0.05, 0, 0, 0]])
    settings = only("smearing", image={"align": True})
    images = preprocess(ABOUT, settings.changed({"jets": 1})).given(seen(prongs.expand(500, 4, 4), settings))[:, 0]
    off_axis = images.clone()
    off_axis[:, 35:40] = 0  # the rows about φ′ = 0
    assert off_axis.amax() < math.log1p(1.0)  # no prong is there


@pytest.mark.parametrize("pt", [1.0, 30.0, 1000.0])
def test_momenta_are_smeared_by_the_stated_resolution_and_stay_positive(pt: float) -> None:
    after = seen(alike(4000, pt), only("resolution"))[:, 0, 0].double().numpy()
    spread = math.sqrt((0.05 * pt) ** 2 + 1.5**2 * pt)
    assert (after > 0).all()
    assert stats.kstest(after, stats.truncnorm(-pt / spread, np.inf, pt, spread).cdf).pvalue > ODDS
    if pt == 1000.0:
        assert spread / pt == pytest.approx(0.069, abs=5e-4)


def test_a_jets_constituents_are_scaled_alike_or_each_by_itself() -> None:
    batch = events(50)
    real = batch[..., 0] > 0
    factor = (seen(batch, only("resolution"))[..., 0] / batch[..., 0].where(real, torch.ones(())))[real]
    rows, jets = torch.nonzero(real)[:, 0], batch[..., 3][real]
    for row in range(50):
        first, second = (factor[(rows == row) & (jets == jet)] for jet in (0, 1))
        assert float(first.max() - first.min()) < 1e-5
        assert abs(float(first[0] - second[0])) > 1e-6
    each = seen(batch, only("resolution", resolution={"of": "constituents"}))[..., 0] / batch[..., 0]
    assert float(each[0][real[0]].std()) > 0.01


def test_rotation_turns_each_jet_about_its_own_axis_by_any_angle() -> None:
    batch = events(400, most=6)
    after = seen(batch, only("rotation"))
    torch.testing.assert_close(after[..., 0], batch[..., 0])
    turned = []
    for before, now in zip(batch.double().numpy(), after.double().numpy(), strict=True):
        for jet in (0, 1):
            own = (before[:, 3] == jet) & (before[:, 0] > 0)
            pt = before[own, 0]
            plane = []
            for event in (before, now):
                phi = event[own, 2] - event[own, 2][pt.argmax()]
                phi = (phi + math.pi) % (2 * math.pi) - math.pi
                plane.append(event[own, 1] - pt @ event[own, 1] / pt.sum() + 1j * (phi - pt @ phi / pt.sum()))
            np.testing.assert_allclose(np.abs(plane[1]), np.abs(plane[0]), atol=2e-5)
            if own.sum() > 2:
                turned.append(np.angle(plane[1][0] / plane[0][0]))
    assert stats.kstest(turned, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > ODDS


def test_about_half_of_all_jets_are_mirrored() -> None:
    jet = torch.tensor([[30.0, 0.0, 0.0, 0], [20.0, 0.3, 0.0, 0], [10.0, 0.0, 0.3, 0]]).expand(4000, 3, 4)
    after = seen(jet, only("rotation")).double()
    a, b = (after[:, place, 1:3] - after[:, 0, 1:3] for place in (1, 2))
    mirrored = int((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0).sum())
    assert stats.binomtest(mirrored, 4000, 0.5).pvalue > ODDS
    assert not (seen(jet, only("rotation", rotation={"reflection": 0})) == after).all()


def test_translation_moves_the_event_as_a_whole_and_leaves_the_image() -> None:
    batch = events(300)
    settings = only("translation", translation={"eta": 1.0, "phi": 2.0})
    after = seen(batch, settings)
    real = batch[..., 0] > 0
    away = (after - batch)[..., 1].double()
    assert all(float(away[row][real[row]].std(unbiased=False)) < 1e-5 for row in range(300))
    assert stats.kstest(away[:, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue > ODDS
    turned = torch.remainder((after - batch)[:, 0, 2].double() + math.pi, 2 * math.pi) - math.pi
    assert stats.kstest(turned.numpy(), stats.uniform(-2, 4).cdf).pvalue > ODDS
    assert float(after[..., 2].abs().max()) <= math.pi + 1e-6


def test_a_view_without_steps_is_the_event_and_views_leave_free_places_empty() -> None:
    batch = events(20)
    torch.testing.assert_close(seen(batch, only()), batch)
    after = seen(batch, JetSettings())
    assert not after[after[..., 0] == 0].any()
    assert after.isfinite().all()
    assert after.dtype == torch.float32
    empty = torch.zeros((3, 5, 4))
    assert not seen(empty, JetSettings()).any()


def test_defaults_follow_the_number_of_jets_and_refuse_other_data() -> None:
    for jets in (1, 2):
        settings, notes = default_settings(ABOUT.model_copy(update={"survey": {"jets": jets}}), 40, frozenset())
        assert (settings.jets, notes) == (jets, [])
        assert preprocess(ABOUT, settings).channels == jets
    with pytest.raises(InputError, match="Jets are stored as particles of pt, eta, phi, jet, but images of R"):
        default_settings(About(domain="jet", bands=("R",)), 40, frozenset())
    with pytest.raises(InputError, match="stored in GeV, but pt in MeV"):
        default_settings(ABOUT.model_copy(update={"units": ("MeV", "", "", "")}), 40, frozenset())
    with pytest.raises(InputError, match=r"image\.align undoes the rotation"):
        JetSettings().changed({"image": {"align": True}})
    aligned = JetSettings().changed({"image": {"align": True}, "rotation": {"enabled": False}})
    assert preprocess(ABOUT, aligned).align
    assert JET.turns(JetSettings())
    assert not JET.turns(aligned)


def test_default_windows_are_windows() -> None:
    first, second = map(Window.parse, JET.windows)
    assert (first.column, first.half_width, first.log) == ("pt", 0.1, True)
    assert (second.column, second.log) == ("m_jj", False)


@pytest.mark.parametrize("size", [16, 48, 64, 128, 300])
@pytest.mark.parametrize("jets", [1, 2])
def test_thumbnails_are_as_wide_as_asked_with_both_jets(size: int, jets: int) -> None:
    event = events(1)[0].numpy()
    about = ABOUT.model_copy(update={"survey": {"jets": jets}})
    for stretch in JET.stretches:
        picture = JET.draw(event, about, stretch, size)
        assert picture.width == size
        assert picture.height <= size
        assert np.asarray(picture).max() > 200
    JET.draw(np.zeros((4, 4), np.float32), about, "log", size)


def test_a_thumbnail_shows_where_a_constituent_is() -> None:
    event = np.zeros((3, 4), np.float32)
    event[:2] = [[10, 0, 0, 0], [9, 0.9, 0.6, 0]]  # the axis lies between them: the second is right of it and above
    about = ABOUT.model_copy(update={"survey": {"jets": 1}})
    picture = np.asarray(JET.draw(event, about, "log", 40).convert("L")).astype(int)
    rows, columns = np.nonzero(picture > 100)
    assert {(row < 20, column > 20) for row, column in zip(rows, columns, strict=True)} == {
        (True, True),
        (False, False),
    }
