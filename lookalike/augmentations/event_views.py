"""How a collision event varies without changing: turned, mirrored, and measured once more by the same detector.

Events (B, F) of the Higgs challenge's primitives and events (B, P, 6) of particles go the same way: objects with a
transverse momentum and a direction, and the missing momentum that follows from what happens to them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lookalike.augmentations.event_variables import boosted, places, wrapped
from lookalike.events import TYPES

if TYPE_CHECKING:
    from lookalike.augmentations.draws import Draws
    from lookalike.augmentations.event import EventSettings

HADRONIC = ("jet", "tau")
LEPTONIC = ("lepton", "electron", "muon", "photon")
MET = TYPES.index("met")
LARGEST_PHI = 3.1415925  # the largest float32 that is no more than π
LEAST_PT = 1e-6  # GeV, so that what is there stays above 0 in float32
SIGMAS = 6.0  # beyond which no factor is drawn


class Objects(NamedTuple):
    """Objects (B, n) of some events in GeV and rad, float64; NaN or 0 where there is none."""

    pt: Tensor
    eta: Tensor
    phi: Tensor


def resolution(pt: Tensor, stochastic: float, constant: float) -> Tensor:
    """σ of a jet's transverse momentum in GeV, √((constant·pT)² + stochastic²·pT): the card of CMS in Delphes."""
    return ((constant * pt).square() + stochastic**2 * pt).sqrt()


def normal_above_zero(mean: Tensor, std: Tensor, u: Tensor) -> Tensor:
    """Normal numbers truncated to those above 0, from uniforms u in (0, 1), by inverse distribution function.

    With P = Φ(mean/std), the probability of being above 0, x = mean − std·Φ⁻¹(P·u): from the upper tail, where
    probabilities keep their precision. std may be 0.
    """
    safe = std.clamp_min(1e-300)
    x = mean - safe * torch.special.ndtri(torch.special.ndtr(mean / safe) * u)
    return torch.where(std > 0, x, mean).clamp_min(LEAST_PT)


def turned(
    objects: Objects, met_phi: Tensor, draws: Draws, settings: EventSettings, mass: Tensor | None = None
) -> tuple[Objects, Tensor]:
    """The whole event, its missing momentum (B,) too, turned about the beam, mirrored and boosted along it.

    Azimuths are not wrapped. mass : of the objects (B, n) in GeV, 0 by default.
    """
    pt, eta, phi = objects
    if settings.mirror.enabled:
        eta_sign = 1 - 2.0 * (draws.uniform("mirror_eta") < settings.mirror.eta)  # (B,)
        phi_sign = 1 - 2.0 * (draws.uniform("mirror_phi") < settings.mirror.phi)  # (B,)
        eta, phi, met_phi = eta * eta_sign[:, None], phi * phi_sign[:, None], met_phi * phi_sign
    if settings.turn.enabled:
        angle = 2 * math.pi * draws.uniform("turn")  # (B,)
        phi, met_phi = phi + angle[:, None], met_phi + angle
    if settings.boost.enabled:
        by = settings.boost.spread * draws.normal("boost", 1).double()  # (B, 1)
        eta = eta + by if mass is None else boosted(pt, eta, mass, by)
    return Objects(pt, eta, phi), met_phi


def measured(
    objects: Objects, hadronic: Tensor, leptonic: Tensor, draws: Draws, settings: EventSettings
) -> tuple[Objects, Tensor]:
    """Objects (B, n) measured once more, and by how much the sum (B, 2) of their transverse momenta has changed.

    hadronic, leptonic : (B, n) or (n,), which ones are jets and taus, and which leptons and photons; the rest stays.
    """
    pt, eta, phi = objects
    n = pt.shape[1]
    there = pt > 0  # (B, n), not of NaN
    if settings.energy.enabled:
        step = settings.energy
        std = torch.where(hadronic, resolution(pt, step.stochastic, step.constant), 0.0)
        std = torch.where(leptonic, step.leptons * pt, std)
        new_pt = torch.where(there, normal_above_zero(pt, std, draws.uniform("energy", n)), pt)
    else:
        new_pt = pt
    if settings.directions.enabled:
        width = torch.where(hadronic & there, settings.directions.scale / pt, 0.0)  # (B, n)
        eta_noise, phi_noise = draws.normal("directions", 2, n).double().unbind(1)
        eta, phi = eta + width * eta_noise, phi + width * phi_noise
    change = _transverse(new_pt, phi, there) - _transverse(pt, objects.phi, there)  # (B, 2)
    return Objects(new_pt, eta, phi), change


def missing(met: Tensor, phi: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """The missing momentum (B,) and its azimuth after the objects' sum has changed: MET − Σ(pT′ − pT), as vectors."""
    x, y = met * torch.cos(phi) - change[:, 0], met * torch.sin(phi) - change[:, 1]
    return torch.hypot(x, y), torch.atan2(y, x)


def piled(met: Tensor, phi: Tensor, sum_et: Tensor, draws: Draws, settings: EventSettings) -> tuple[Tensor, Tensor]:
    """The missing momentum (B,) and its azimuth measured again, each component with σ = missing·√ΣET, in GeV."""
    if not settings.pile_up.enabled:
        return met, phi
    noise = draws.normal("pile_up", 2).double() * (settings.pile_up.missing * sum_et.clamp_min(0).sqrt())[:, None]
    return missing(met, phi, noise)


def _transverse(pt: Tensor, phi: Tensor, there: Tensor) -> Tensor:
    """Σ p⃗T (B, 2) of the objects that are there."""
    x = torch.where(there, pt * torch.cos(phi), 0.0).sum(1)
    return torch.stack([x, torch.where(there, pt * torch.sin(phi), 0.0).sum(1)], dim=1)


def _any_of(kind: Tensor, names: tuple[str, ...]) -> Tensor:
    """Which particles (B, P) are of one of these types."""
    return torch.stack([kind == TYPES.index(name) for name in names]).any(0)


def _angle(phi: Tensor) -> Tensor:
    """An azimuth in (−π, π] that is still so in float32."""
    return wrapped(phi).clamp(-LARGEST_PHI, LARGEST_PHI)


def record_view(records: Tensor, draws: Draws, settings: EventSettings) -> Tensor:
    """One view (B, F) float32 of records (B, F) of primitives; what is undefined (NaN) stays so.

    PRI_jet_all_pt follows the two listed jets, which change places where the second comes out above the first;
    PRI_jet_num is kept.
    """
    at = places(settings.bands)
    x = records.double().clone()  # (B, F)
    names = ("tau", "lep", "jet_leading", "jet_subleading")
    where = [[at[f"PRI_{name}_{part}"] for name in names] for part in ("pt", "eta", "phi")]  # 3 times 4 places
    before = Objects(*(x[:, columns] for columns in where))  # (B, 4) each
    turn, met_phi = turned(before, x[:, at["PRI_met_phi"]], draws, settings)
    hadronic = torch.tensor([name != "lep" for name in names], device=x.device)  # (4,)
    after, change = measured(turn, hadronic, ~hadronic, draws, settings)
    met, met_phi = missing(x[:, at["PRI_met"]], met_phi, change)
    jets = torch.nan_to_num(after.pt[:, 2:] - before.pt[:, 2:]).sum(1)  # (B,)
    swap = after.pt[:, 3] > after.pt[:, 2]  # not where either is NaN
    order = torch.tensor([0, 1, 2, 3], device=x.device) + swap[:, None] * torch.tensor([0, 0, 1, -1], device=x.device)
    for columns, values in zip(where, (after.pt, after.eta, _angle(after.phi)), strict=True):
        x[:, columns] = values.gather(1, order)
    listed = torch.nan_to_num(after.pt).sum(1)  # (B,)
    met, met_phi = piled(met, met_phi, x[:, at["PRI_met_sumet"]] if "PRI_met_sumet" in at else listed, draws, settings)
    x[:, at["PRI_met"]], x[:, at["PRI_met_phi"]] = met, _angle(met_phi)
    x[:, at["PRI_jet_all_pt"]] = (x[:, at["PRI_jet_all_pt"]] + jets).clamp_min(0)
    if "PRI_met_sumet" in at and settings.pile_up.enabled:
        more = draws.normal("sum_et").double().clamp(-SIGMAS, SIGMAS)  # (B,)
        x[:, at["PRI_met_sumet"]] *= torch.exp(settings.pile_up.spread * more)
    return x.float()


def particles_view(particles: Tensor, draws: Draws, settings: EventSettings) -> Tensor:
    """One view (B, P, 6) float32 of events (B, P, 6) as lists of PARTICLE's numbers, in falling order of pT."""
    x = particles.double()  # (B, P, 6)
    kind, there = x[..., 4], x[..., 0] > 0  # (B, P)
    is_met = (kind == MET) & there
    missing_pt, missing_phi = ((x[..., part] * is_met).sum(1) for part in (0, 2))  # (B,), of at most one particle
    objects, missing_phi = turned(
        Objects(*(x[..., part] for part in range(3))), missing_phi, draws, settings, x[..., 3]
    )
    objects = objects._replace(pt=torch.where(is_met, 0.0, objects.pt))
    after, change = measured(objects, _any_of(kind, HADRONIC), _any_of(kind, LEPTONIC), draws, settings)
    met, met_phi = missing(missing_pt, missing_phi, change)
    met, met_phi = piled(met, met_phi, after.pt.sum(1), draws, settings)
    pt = torch.where(is_met, met.clamp_min(LEAST_PT)[:, None], after.pt)
    eta = torch.where(is_met, x[..., 1], after.eta)
    phi = _angle(torch.where(is_met, met_phi[:, None], after.phi))
    moved = torch.cat([torch.stack([pt, eta, phi], dim=-1), x[..., 3:]], dim=-1) * there[..., None]  # (B, P, 6)
    order = moved[..., 0].argsort(dim=1, descending=True, stable=True)  # (B, P)
    return moved.gather(1, order[..., None].expand_as(moved)).float()
