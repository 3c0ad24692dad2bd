"""Observables of jets against their definitions, written jet by jet."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lookalike.probes.jet_features import NAMES, jet_features


def by_definition(constituents: list[tuple[float, float, float]]) -> list[float]:
    """NAMES of one jet, of (pt, eta, phi) by falling pt."""
    if not constituents:
        return [0.0] * len(NAMES)
    total = sum(pt for pt, _, _ in constituents)
    px, py = (sum(pt * f(phi) for pt, _, phi in constituents) for f in (math.cos, math.sin))
    pz, energy = (sum(pt * f(eta) for pt, eta, _ in constituents) for f in (math.sinh, math.cosh))
    first = constituents[0][2]
    near = [(pt, eta, math.remainder(phi - first, 2 * math.pi)) for pt, eta, phi in constituents]
    eta0, phi0 = (sum(c[0] * c[place] for c in near) / total for place in (1, 2))
    away = [(pt / total, eta - eta0, phi - phi0) for pt, eta, phi in near]
    moments = np.array(
        [
            [sum(z * u * u for z, u, _ in away), sum(z * u * v for z, u, v in away)],
            [sum(z * u * v for z, u, v in away), sum(z * v * v for z, _, v in away)],
        ]
    )
    minor, major = np.sqrt(np.maximum(np.linalg.eigvalsh(moments), 0))
    return [
        math.log(1 + math.hypot(px, py)),
        math.log(1 + math.sqrt(max(energy**2 - px**2 - py**2 - pz**2, 0))),
        math.log(1 + len(constituents)),
        sum(z * math.hypot(u, v) for z, u, v in away),
        major,
        minor,
        math.sqrt(sum(z * z for z, _, _ in away)),
        max(z for z, _, _ in away),
    ]


def events(n: int = 20, P: int = 30) -> np.ndarray:
    """Constituents (n, P, 4) of two jets each, across φ = ±π, with empty places."""
    rng = np.random.default_rng(0)
    x = np.zeros((n, P, 4), np.float32)
    for row in range(n):
        count = rng.integers(2, P)
        pt = np.sort(rng.exponential(20, count))[::-1]
        jet = rng.integers(0, 2, count)
        phi = rng.normal(np.where(jet, 3.1, 0.2), 0.2)
        x[row, :count] = np.stack([pt, rng.normal(jet, 0.2), np.angle(np.exp(1j * phi)), jet], axis=1)
    x[0, :, 3] = 0  # an event without a second jet
    return x


@pytest.mark.parametrize("jets", [1, 2])
def test_observables_are_what_they_are_defined_as(jets: int) -> None:
    x = events()
    found = jet_features(x, jets)
    assert found.shape == (len(x), jets * len(NAMES) + (jets == 2))
    for row, particles in enumerate(x.astype(np.float64)):
        wanted: list[float] = []
        for jet in range(jets):
            wanted += by_definition([tuple(c[:3]) for c in particles if c[0] > 0 and c[3] == jet])
        np.testing.assert_allclose(found[row, : len(wanted)], wanted, rtol=1e-6, atol=2e-3)
    assert np.isfinite(found).all()


def test_the_mass_of_both_jets_is_theirs_together() -> None:
    """Two massless particles back to back at η = 0 have twice their pT as mass."""
    x = np.array([[[500, 0, 0, 0], [500, 0, math.pi, 1]]], np.float64)
    assert jet_features(x, 2)[0, -1] == pytest.approx(math.log(1001))


def test_no_azimuth_is_special() -> None:
    x = events().astype(np.float64)
    turned = x.copy()
    turned[..., 2] += 1.3  # an azimuth for all
    np.testing.assert_allclose(jet_features(turned, 2), jet_features(x, 2), atol=1e-5)
