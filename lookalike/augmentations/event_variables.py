"""The derived variables of the ATLAS Higgs challenge, computed from its primitives: batched, on any device.

Definitions of the challenge's documentation (Adam-Bourdarios et al. 2014, appendix B) with differences of azimuth
wrapped and the objects' masses neglected, so that DER_mass_jet_jet alone differs from the files', whose jets have mass.
What rests on a jet that is not there is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lookalike.augmentations.functions import asinh, cos, cosh, hypot, sinh
from lookalike.errors import InputError
from lookalike.events import DERIVED, PRIMITIVES

OPTIONAL = ("PRI_met_sumet",)  # which no derived variable rests on
UNDEFINED = -999.0


def wrapped(phi: Tensor) -> Tensor:
    """Azimuths in (−π, π]."""
    return math.pi - torch.remainder(math.pi - phi, 2 * math.pi)


def rapidities(pt: Tensor, eta: Tensor, mass: Tensor) -> Tensor:
    """y = arsinh(pT·sinh η / m_T) with m_T = √(pT² + m²); η itself where pT is 0."""
    p = torch.where(pt > 0, pt, 1.0)
    return torch.where(pt > 0, asinh(p * sinh(eta) / hypot(p, mass)), eta)


def boosted(pt: Tensor, eta: Tensor, mass: Tensor, by: Tensor) -> Tensor:
    """Pseudorapidities after a boost along the beam, which adds `by` to every rapidity; where pT is 0 they stay.

    sinh η′ = m_T·sinh(y + by) / pT.
    """
    p = torch.where(pt > 0, pt, 1.0)
    moved = asinh(hypot(p, mass) * sinh(rapidities(pt, eta, mass) + by) / p)
    return torch.where(pt > 0, moved, eta)


def places(bands: Sequence[str]) -> dict[str, int]:
    """Where each primitive lies among a record's numbers; InputError where one is missing."""
    found = {name: place for place, name in enumerate(bands)}
    if missing := [name for name in PRIMITIVES if name not in found and name not in OPTIONAL]:
        raise InputError(f"A record of the Higgs challenge needs its primitives, but there is no {', '.join(missing)}.")
    return found


def derived(records: Tensor, bands: Sequence[str] = tuple(PRIMITIVES)) -> Tensor:
    """The variables (B, 12) of DERIVED from primitives (B, F) in the order of `bands`, in GeV and rad.

    −999 and NaN are both undefined, and NaN comes out. The two jets count by PRI_jet_num, not by what stands in
    their columns. Computed in float64, returned in the type of `records`.
    """
    at = places(bands)
    x = torch.where(records == UNDEFINED, math.nan, records.double())  # (B, F)

    def number(name: str) -> Tensor:
        return x[:, at[f"PRI_{name}"]]  # (B,)

    tau, lep, one, two = (
        (number(f"{name}_pt"), number(f"{name}_eta"), number(f"{name}_phi"))
        for name in ("tau", "lep", "jet_leading", "jet_subleading")
    )
    met, met_phi, jets, all_pt = (number(name) for name in ("met", "met_phi", "jet_num", "jet_all_pt"))
    both = jets >= 2
    higgs = _sum((tau[0], tau[2]), (lep[0], lep[2]), (met, met_phi))  # (B, 2)
    total = higgs + _where(jets >= 1, _sum((one[0], one[2]))) + _where(both, _sum((two[0], two[2])))
    total = total + 0 * jets[:, None]  # of how many jets is not known, neither is their sum
    # No jets sum up to nothing, whether or not that is written.
    all_pt = torch.where(jets == 0, 0.0, all_pt)
    found = {
        "DER_mass_transverse_met_lep": (2 * lep[0] * met * (1 - cos(lep[2] - met_phi))).clamp_min(0).sqrt(),
        "DER_mass_vis": mass(tau, lep),
        "DER_pt_h": higgs.norm(dim=1),
        "DER_deltaeta_jet_jet": _or_nan(both, (one[1] - two[1]).abs()),
        "DER_mass_jet_jet": _or_nan(both, mass(one, two)),
        "DER_prodeta_jet_jet": _or_nan(both, one[1] * two[1]),
        "DER_deltar_tau_lep": hypot(tau[1] - lep[1], wrapped(tau[2] - lep[2])),
        "DER_pt_tot": total.norm(dim=1),
        "DER_sum_pt": tau[0] + lep[0] + all_pt,
        "DER_pt_ratio_lep_tau": lep[0] / tau[0],
        "DER_met_phi_centrality": _phi_centrality(met_phi, lep[2], tau[2]),
        "DER_lep_eta_centrality": _or_nan(both, _eta_centrality(lep[1], one[1], two[1])),
    }
    return torch.stack([found[name] for name in DERIVED], dim=1).to(records.dtype)


def mass(one: tuple[Tensor, Tensor, Tensor], two: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The invariant mass of two massless objects (pT, η, φ): √(2·pT1·pT2·(cosh Δη − cos Δφ))."""
    square = 2 * one[0] * two[0] * (cosh(one[1] - two[1]) - cos(one[2] - two[2]))
    return square.clamp_min(0).sqrt()  # rounding may leave less than 0 of parallel ones


def _phi_centrality(met: Tensor, lep: Tensor, tau: Tensor) -> Tensor:
    """(A + B)/√(A² + B²): √2 in the middle between lepton and tau, 1 on either, less outside, −√2 opposite."""
    side = torch.sign(torch.sin(tau - lep))
    A, B = torch.sin(met - lep) * side, torch.sin(tau - met) * side
    norm = hypot(A, B)
    return torch.where(norm > 0, (A + B) / norm.clamp_min(1e-300), 0.0 * norm)


def _eta_centrality(lep: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """exp(−4·(η − (η1 + η2)/2)²/(η1 − η2)²): 1 in the middle between the jets, 1/e on either."""
    away, apart = (lep - (one + two) / 2).square(), (one - two).square()
    # Of jets at one pseudorapidity the limit: 1 for a lepton there, else 0.
    same = torch.where(away > 0, 0.0 * away, 0.0 * away + 1)
    return torch.where(apart > 0, torch.exp(-4 * away / apart.clamp_min(1e-300)), same + 0 * apart)


def _sum(*objects: tuple[Tensor, Tensor]) -> Tensor:
    """The vector sum (B, 2) of transverse momenta given as (pT, φ)."""
    x, y = (sum(pt * turn(phi) for pt, phi in objects) for turn in (cos, torch.sin))
    return torch.stack([torch.as_tensor(x), torch.as_tensor(y)], dim=1)


def _where(there: Tensor, vectors: Tensor) -> Tensor:
    return torch.where(there[:, None], vectors, 0.0)


def _or_nan(there: Tensor, values: Tensor) -> Tensor:
    return torch.where(there, values, math.nan)
