"""The steps of a jet's view, each of a whole batch in place: x is (B, P, 4) float64, pt GeV, eta, phi, jet.

Constituents are massless. Free places are those behind the last one, pt 0.
"""

from __future__ import annotations

from math import log, pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lookalike.augmentations.jet_image import axis, by_jet, wrapped

if TYPE_CHECKING:
    from lookalike.augmentations.draws import Draws
    from lookalike.augmentations.jet import Resolution, Rotation, Smearing, Soft, Splits, Translation

JETS = 2
OUTSIDE = 2.0  # in η and φ, a shift out of any jet: farther, one soft constituent would turn its second moments
FARTHEST = 8.0  # standard deviations, beyond which rounding makes a normal infinite


def split_(x: Tensor, draws: Draws, splits: Splits) -> None:
    """Collinear splits: a constituent keeps 1 − z of its pT, and z in the same direction goes to a free place."""
    often = (draws.uniform("splits") * (splits.most + 1)).floor()  # (B,)
    chosen = draws.uniform("split_which", splits.most)  # (B, most)
    z = splits.low + draws.uniform("split_share", splits.most) * (splits.high - splits.low)
    for step in range(splits.most):
        rows, parent, free = _pairs(x, step < often, chosen[:, step])
        part = z[rows, step] * x[rows, parent, 0]
        _write(x, rows, free, torch.cat([part[:, None], x[rows, parent, 1:]], 1))
        x[rows, parent, 0] -= part


def emit_(x: Tensor, draws: Draws, soft: Soft) -> None:
    """Soft emissions: the emitter recoils, so that the sum of both momenta (px, py, pz) is its former one."""
    often = (draws.uniform("soft") * (soft.most + 1)).floor()  # (B,)
    chosen = draws.uniform("soft_which", soft.most)  # (B, most)
    z = torch.exp(log(soft.low) + draws.uniform("soft_share", soft.most) * log(soft.high / soft.low))
    away = torch.exp(log(soft.near) + draws.uniform("soft_distance", soft.most) * log(soft.far / soft.near))
    angle = draws.uniform("soft_angle", soft.most) * 2 * pi
    for step in range(soft.most):
        rows, parent, free = _pairs(x, step < often, chosen[:, step])
        before = x[rows, parent]  # (n, 4)
        new = before.clone()
        new[:, 0] *= z[rows, step]
        new[:, 1] += away[rows, step] * angle[rows, step].cos()
        new[:, 2] = wrapped(new[:, 2] + away[rows, step] * angle[rows, step].sin())
        x[rows, parent, :3] = _polar(_momentum(before) - _momentum(new))
        _write(x, rows, free, new)


def _pairs(x: Tensor, wanted: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows (n,) that change and have room, with a constituent of each, by its pT, and the first free place."""
    real = x[..., 0] > 0  # (B, P)
    count = real.sum(1)
    rows = (wanted & (count > 0) & (count < x.shape[1])).nonzero()[:, 0]
    upto = x[rows, :, 0].cumsum(1)  # (n, P)
    parent = (upto <= u[rows, None] * upto[:, -1:]).sum(1)
    # A rounded sum may step over the last constituent.
    return rows, torch.minimum(parent, count[rows] - 1), count[rows]


def _write(x: Tensor, rows: Tensor, places: Tensor, new: Tensor) -> None:
    """Put constituents at free places; one without momentum stays out, since pt 0 marks a free place."""
    x[rows, places] = new * (new[:, :1] > 0)


def _momentum(x: Tensor) -> Tensor:
    """px, py, pz (n, 3)."""
    pt, eta, phi = x[:, 0], x[:, 1], x[:, 2]
    return torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], 1)


def _polar(p: Tensor) -> Tensor:
    """pt, eta, phi (n, 3)."""
    pt = torch.hypot(p[:, 0], p[:, 1])
    return torch.stack([pt, torch.asinh(p[:, 2] / pt), torch.atan2(p[:, 1], p[:, 0])], 1)


def smear_(x: Tensor, draws: Draws, smearing: Smearing) -> None:
    """η′ ~ N(η, Λ/pT), φ′ ~ N(φ, Λ/pT), shifts beyond OUTSIDE set to it."""
    sigma = torch.where(x[..., 0] > 0, smearing.scale / x[..., 0], 0.0)  # (B, P)
    shift = draws.normal("smear", x.shape[1], 2).to(x.dtype) * sigma[..., None]  # (B, P, 2)
    shift = shift.clamp(-OUTSIDE, OUTSIDE)
    x[..., 1] += shift[..., 0]
    x[..., 2] = wrapped(x[..., 2] + shift[..., 1])


def rescale_(x: Tensor, draws: Draws, resolution: Resolution) -> None:
    """pT′ ~ N(pT, f(pT)) truncated at > 0, of each jet (its constituents all scaled alike) or of each constituent."""
    if resolution.of == "constituents":
        u = draws.uniform("resolution", x.shape[1])  # (B, P)
        x[..., 0] *= _factor(x[..., 0], u, resolution)
        return
    pt = by_jet(x, JETS)  # (B, J, P)
    factor = _factor(_jet_pt(x, pt), draws.uniform("resolution", JETS), resolution)  # (B, J)
    x[..., 0] *= factor.gather(1, _jet(x))


def _jet_pt(x: Tensor, pt: Tensor) -> Tensor:
    """pT (B, J) of the vector sum of each jet's constituents."""
    phi = x[:, None, :, 2]
    return torch.hypot((pt * phi.cos()).sum(2), (pt * phi.sin()).sum(2))


def _factor(pt: Tensor, u: Tensor, resolution: Resolution) -> Tensor:
    """pT′/pT for pT′ ~ N(pT, f(pT)) given that pT′ > 0, by inverse distribution function; 1 where pT is 0."""
    safe = torch.where(pt > 0, pt, 1.0)
    relative = torch.sqrt(resolution.constant**2 + resolution.stochastic**2 / safe)  # f(pT)/pT
    # Normal numbers above −pT/f are minus those below pT/f, whose probabilities keep their digits where f is small.
    top = torch.special.ndtr(1 / relative)
    normal = -torch.special.ndtri(u * top).clamp(-FARTHEST, FARTHEST)
    return torch.where(pt > 0, (1 + relative * normal).clamp_min(1e-6), 1.0)


def rotate_(x: Tensor, draws: Draws, rotation: Rotation) -> None:
    """Each jet turned, and some mirrored, about its pT-weighted axis in the η–φ plane."""
    eta, phi = axis(x, by_jet(x, JETS))  # (B, J)
    jet = _jet(x)  # (B, P)
    eta, phi = eta.gather(1, jet), phi.gather(1, jet)
    angle = (draws.uniform("angle", JETS) * 2 * pi).gather(1, jet)
    sign = (1.0 - 2.0 * (draws.uniform("reflection", JETS) < rotation.reflection)).gather(1, jet)
    u, v = x[..., 1] - eta, wrapped(x[..., 2] - phi) * sign
    x[..., 1] = eta + angle.cos() * u - angle.sin() * v
    x[..., 2] = wrapped(phi + angle.sin() * u + angle.cos() * v)


def translate_(x: Tensor, draws: Draws, translation: Translation) -> None:
    """The whole event moved in η and φ."""
    x[..., 1] += ((2 * draws.uniform("eta") - 1) * translation.eta)[:, None]
    x[..., 2] = wrapped(x[..., 2] + ((2 * draws.uniform("phi") - 1) * translation.phi)[:, None])


def _jet(x: Tensor) -> Tensor:
    """Which jet (B, P) each place is of, 0 where it is free."""
    return x[..., 3].long().clamp(0, JETS - 1)
