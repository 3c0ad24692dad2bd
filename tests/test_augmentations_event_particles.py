"""What a set encoder is given of an event, against four-momenta added by hand, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lookalike.about import About
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.event import EVENT, EventSettings
from lookalike.augmentations.event_particles import COUNTS, ELEMENT, EventParticles
from lookalike.events import PARTICLE, TYPES

LISTS = About(domain="event", bands=tuple(PARTICLE), layout="particles")
OFF = {"enabled": False}


def drawn(n: int = 40, places: int = 9, seed: int = 0) -> torch.Tensor:
    """Events of 2 to 8 particles, one of which is the missing momentum in two of three, in falling order of pT."""
    random = np.random.default_rng(seed)
    x = np.zeros((n, places, 6))
    for event in range(n):
        count = 2 + event % 7
        x[event, :count, 0] = -np.sort(-random.uniform(5, 200, count))
        x[event, :count, 1], x[event, :count, 2] = random.uniform(-3, 3, (2, count))
        x[event, :count, 3], x[event, :count, 4] = random.exponential(5, count), random.integers(1, 8, count)
        x[event, :count, 5] = random.uniform(0, 1, count)
        if event % 3:
            x[event, event % count, [1, 3, 4, 5]] = 0
    return torch.from_numpy(x).float()


def seen(paired: int = 6) -> EventParticles:
    made = EVENT.preprocess(LISTS, EVENT.settings(LISTS, 6, frozenset())[0])
    assert isinstance(made, EventParticles)
    return made.model_copy(update={"paired": paired})


def four(particle: np.ndarray) -> np.ndarray:
    pt, eta, phi, mass = particle[:4].astype(float)
    p = np.array([pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)])
    return np.append(p, math.sqrt(p @ p + mass**2))


@pytest.mark.parametrize("paired", [2, 4, 6])
def test_pairs_are_sums_of_four_momenta(paired: int) -> None:
    x = drawn()
    made = seen(paired).complete(x).double().numpy()
    column = {name: place for place, name in enumerate((*ELEMENT, *COUNTS))}
    for event, stored in enumerate(x.numpy()):
        real = [each for each in stored if each[0] > 0]
        met = next((each for each in real if each[4] == 0), None)
        hard = [each for each in real if each[4] != 0][:paired]
        wanted = []
        for i, one in enumerate(hard):
            for two in hard[i + 1 :]:
                p = four(one) + four(two)
                pt = math.hypot(p[0], p[1])
                turn = math.atan2(p[1], p[0]) - (0 if met is None else met[2])
                mt = 0 if met is None else math.sqrt(2 * pt * met[0] * (1 - math.cos(turn)))
                dphi = (one[2] - two[2] + math.pi) % (2 * math.pi) - math.pi
                mass = math.sqrt(max(p[3] ** 2 - p[:3] @ p[:3], 0))
                along = [math.atanh(each[2] / each[3]) for each in (four(one), four(two))]
                wanted.append((pt, mass, mt, math.hypot(along[0] - along[1], dphi), one[5] + two[5]))
        elements = made[event, len(stored) :]
        elements = elements[elements[:, 0] > 0]
        assert len(elements) == len(wanted)
        found = elements[:, [column[name] for name in ("pt", "mass", "mt", "apart", "btag")]]
        np.testing.assert_allclose(sorted(map(tuple, found)), sorted(wanted), rtol=2e-4, atol=2e-3)
        counts = elements[:, [column[name] for name in COUNTS]]
        assert (counts.sum(1) == 2).all()
    single = made[:, : x.shape[1]]
    np.testing.assert_allclose(single[..., [0, 3]], x[..., [0, 3]], rtol=1e-5, atol=1e-5)
    assert (single[..., column["n_jet"]] == ((x[..., 4] == TYPES.index("jet")) & (x[..., 0] > 0)).numpy()).all()


def test_turns_mirrors_boosts_and_the_order_of_particles_change_nothing() -> None:
    """Within the rounding of float32 inputs; all that is smeared is off."""
    x = drawn()
    off = dict.fromkeys(("energy", "directions", "pile_up"), OFF)
    settings = EVENT.settings(LISTS, 6, frozenset())[0]
    assert isinstance(settings, EventSettings)
    view = EVENT.view(x, {}, Draws(3, 0, torch.arange(len(x)), 0), settings.changed(off))
    assert not torch.allclose(view[..., 1:3], x[..., 1:3], atol=0.1)
    torch.testing.assert_close(seen().given(view), seen().given(x), rtol=1e-4, atol=1e-4)
    order = torch.argsort(torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(0)), dim=1)
    shuffled = seen().given(x.gather(1, order[..., None].expand_as(x)))
    torch.testing.assert_close(shuffled.sum(1), seen().given(x).sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shuffled.amax(1), seen().given(x).amax(1), rtol=1e-5, atol=1e-5)


def test_the_missing_momentum_lies_at_zero_and_places_without_a_particle_are_empty() -> None:
    x = drawn()
    made = seen().complete(x)
    met = made[:, : x.shape[1]][(x[..., 4] == 0) & (x[..., 0] > 0)]
    assert len(met)
    assert met[:, 1:3].abs().max() < 1e-6
    assert not made[:, : x.shape[1]][x[..., 0] == 0].any()
    assert torch.isfinite(seen().given(torch.zeros(2, 5, 6))).all()
    assert seen().length((9, 6)) == seen().given(x)[0].numel()
    assert seen().length((4, 6)) == seen().given(x[:, :4])[0].numel()
