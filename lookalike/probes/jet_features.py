"""Numbers by which physicists tell jets apart, as a baseline that an encoder has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.jet_blocks import Floats, invariant_mass, wrapped

NAMES = ("log pT", "log mass", "log multiplicity", "girth", "major axis", "minor axis", "pTD", "hardest share")
ONE = 1.0  # GeV, added before a logarithm, so that a jet that is not there is at 0


def jet_features(particles: NDArray[np.floating], jets: int) -> Floats:
    """NAMES of each of so many jets, and log m_jj of two: constituents (N, P, 4) of pt, eta, phi, jet → (N, F).

    With z = pT/Σ pT and r the distance in η–φ from the pT-weighted axis: girth Σ z·r, the axes' widths √λ of the
    z-weighted second moments, pTD √Σ z² and the largest z. Constituents
    are massless; a jet without any has zeros.
    """
    x = np.asarray(particles, np.float64)
    momenta, found = [], []
    for jet in range(jets):
        pt = np.where(x[:, :, 3] == jet, x[:, :, 0], 0.0)  # (N, P)
        momentum = _momentum(pt, x[:, :, 1], x[:, :, 2])
        momenta.append(momentum)
        found += _of_one(pt, x[:, :, 1], x[:, :, 2], momentum)
    if jets > 1:
        found.append(_log(invariant_mass(np.sum(momenta, axis=0))))
    return np.stack(found, axis=1)


def _of_one(pt: Floats, eta: Floats, phi: Floats, momentum: Floats) -> list[Floats]:
    """NAMES (N,) of one jet, whose constituents alone have pT (N, P) above 0."""
    z = pt / np.maximum(pt.sum(axis=1, keepdims=True), 1e-300)
    hardest = np.take_along_axis(phi, pt.argmax(axis=1)[:, None], axis=1)
    away = np.where(z > 0, wrapped(phi - hardest), 0.0)
    u = eta - (z * eta).sum(axis=1, keepdims=True)
    v = away - (z * away).sum(axis=1, keepdims=True)
    uu, vv, uv = (z * u * u).sum(axis=1), (z * v * v).sum(axis=1), (z * u * v).sum(axis=1)
    middle, half = (uu + vv) / 2, np.hypot((uu - vv) / 2, uv)
    return [
        _log(np.hypot(momentum[:, 1], momentum[:, 2])),
        _log(invariant_mass(momentum)),
        _log((pt > 0).sum(axis=1)),
        (z * np.hypot(u, v)).sum(axis=1),
        np.sqrt(middle + half),
        np.sqrt(np.maximum(middle - half, 0.0)),
        np.sqrt((z * z).sum(axis=1)),
        z.max(axis=1),
    ]


def _momentum(pt: Floats, eta: Floats, phi: Floats) -> Floats:
    """E, px, py, pz (N, 4) of the sums."""
    parts = (pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))
    return np.stack([part.sum(axis=1) for part in parts], axis=1)


def _log(values: NDArray[np.number]) -> Floats:
    found: Floats = np.log(values + ONE)
    return found
