"""Which companions of a hit lie with it on one helix from the beam line: each proposes one, the others vote. Torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lookalike.helix import Helix, misses, through, wrapped

SCATTER = 0.7  # mm, by which a hit may miss the helix of two others, each way: resolution and scattering
LEVER = 50.0  # mm: two hits nearer than this to each other say little of a helix
LONGEST = 8.0  # by how much further a helix is followed than its two hits are apart, for what it may miss by


class Hits(NamedTuple):
    """Where hits (B, P) are: mm, rad, mm; and which places hold one."""

    r: Tensor
    phi: Tensor
    z: Tensor
    there: Tensor


def proposed(hits: Hits) -> Helix:
    """The helix (B, P) through the first hit of each sample and each other; that of the first itself is no helix."""
    r, phi, z = (each[:, :1] for each in hits[:3])
    safe = torch.where(hits.there, hits.r, torch.ones_like(hits.r))
    return through(torch, r, phi, z, safe, hits.phi, hits.z)


def support(hits: Hits, helix: Helix) -> Tensor:
    """How far (B, P, P), 0 to 1, each proposed helix (second axis) is borne out by each hit (third axis).

    exp(−m²/2) of the miss m over what it may be, which grows as the helix is followed beyond its two hits. The first
    hit proposes nothing; it and the hit that proposes bear nothing out.
    """
    h = Helix(*(each[:, :, None] for each in helix))  # (B, P, 1)
    r, phi, z, there = (each[:, None, :] for each in hits)  # (B, 1, P)
    across, along = misses(torch, h, r, phi, z)  # (B, P, P)
    first_r, first_z = hits.r[:, :1], hits.z[:, :1]
    apart = torch.hypot(hits.r - first_r, hits.z - first_z)  # (B, P), from the first hit
    longer = (apart[:, None, :] / apart[:, :, None].clamp_min(LEVER)).clamp_max(LONGEST)  # (B, P, P)
    votes = torch.exp(-(across**2 + along**2) / (2 * (SCATTER * (1 + longer)) ** 2))
    n = hits.r.shape[1]
    own = torch.eye(n, dtype=torch.bool, device=votes.device)
    own[0] = True
    own[:, 0] = True
    return votes * (there & hits.there[:, :, None] & ~own)


def best(votes: Tensor) -> Tensor:
    """The place (B,) of the hit whose helix has most support."""
    return votes.sum(dim=2).argmax(dim=1)


def turned(phi: Tensor, by: Tensor | float) -> Tensor:
    """Azimuths turned, in [−π, π)."""
    result: Tensor = wrapped(torch, phi + by)
    return result
