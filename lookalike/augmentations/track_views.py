"""Views of hits with their companions, and of tracks, on batches and any device. Torch.

What both views of a hit share must be its particle and nothing else; so a view may stand on another hit of the same
particle, and one of the two is without the companions that are not of it. Which hits are of it is the truth's word, or
that of the helix with most support.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lookalike.augmentations.draws import Draws
from lookalike.augmentations.track_votes import Hits, proposed, support, turned
from lookalike.tracks import HITS, SAME

if TYPE_CHECKING:
    from lookalike.augmentations.track import TrackSettings

SHARED = -1  # in place of the view's number, of what both views of an object have in common
TOGETHER = -1  # in place of the row, of what all objects of an epoch have in common
BORNE_OUT = 0.5  # the least support of a hit that a helix is said to pass through


def track_view(x: Tensor, draws: Draws, settings: TrackSettings) -> Tensor:
    """One view (B, P, F) float32 of samples (B, P, F); the first place stays that of the sample's own hit."""
    x = x.float().clone()
    there = x[..., 0] > 0  # (B, P)
    if settings.sample == HITS and (settings.follow.enabled or settings.isolate.enabled):
        members = _members(x, there, settings, draws)  # (B, P)
        if settings.follow.enabled:
            x, members, there = _followed(x, members, there, draws, settings)
        if settings.isolate.enabled:
            there &= members | ~_left_out(x, draws, settings)
    there = _dropped(there, draws, settings)
    if settings.noise.enabled:
        x, there = _with_noise(x, there, draws, settings)
    if settings.smearing.enabled:
        x = _smeared(x, there, draws, settings)
    x = _placed(x, draws, settings)
    x = x * there[..., None]
    order = there.byte().argsort(dim=1, descending=True, stable=True)  # (B, P)
    return x.gather(1, order[..., None].expand_as(x))


def _members(x: Tensor, there: Tensor, settings: TrackSettings, draws: Draws) -> Tensor:
    """Which hits (B, P) are of the first one's particle: by truth where that is known, else on a helix with it."""
    hits = Hits(x[..., 0], x[..., 1], x[..., 2], there)
    votes = support(hits, proposed(hits))  # (B, P, P)
    number = votes.sum(dim=2)  # (B, P)
    # One of the helices, the likelier the more hits bear it out, so that no single one is taken for the truth.
    chance = number**2 * draws.uniform("helix", x.shape[1]).float()
    place = chance.argmax(dim=1)  # (B,)
    rows = torch.arange(len(x), device=x.device)
    members = votes[rows, place] > BORNE_OUT
    members[rows, place] |= number[rows, place] > 0
    if settings.follow.by == "truth":
        told = x[..., settings.bands.index(SAME)]  # (B, P): 1, 0, or −1 where not known
        members = torch.where(told[:, 1:2] < 0, members, told > 0)
    members[:, 0] = True
    return members & there


def _followed(
    x: Tensor, members: Tensor, there: Tensor, draws: Draws, settings: TrackSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples that stand on another hit of the particle, which changes places with the first."""
    n = x.shape[1]
    place = (draws.uniform("follow", n).float() * members).argmax(dim=1)  # (B,), each member as likely
    stays = draws.uniform("follow_share").float() >= settings.follow.share
    place = torch.where(stays, 0, place)
    order = torch.arange(n, device=x.device).expand(len(x), n).clone()  # (B, P)
    order[:, 0] = place
    order.scatter_(1, place[:, None], torch.zeros_like(place)[:, None])
    order[:, 0] = place
    return x.gather(1, order[..., None].expand_as(x)), members.gather(1, order), there.gather(1, order)


def _left_out(x: Tensor, draws: Draws, settings: TrackSettings) -> Tensor:
    """Which companions (B, P) this view has only if they are members: of one of the two views, drawn for both."""
    first = _of_object(draws).uniform("isolate_first") < 0.5  # (B,)
    here = first == (draws.view % 2 == 0)  # (B,)
    return here[:, None] & (draws.uniform("isolate", x.shape[1]) < settings.isolate.share)


def _dropped(there: Tensor, draws: Draws, settings: TrackSettings) -> Tensor:
    """Which hits (B, P) are left; the first always is."""
    if not settings.drop.enabled:
        return there
    left = there & (draws.uniform("drop", there.shape[1]) >= settings.drop.share)
    left[:, 0] = there[:, 0]
    return left


def _with_noise(x: Tensor, there: Tensor, draws: Draws, settings: TrackSettings) -> tuple[Tensor, Tensor]:
    """Up to `most` free places filled with hits that other companions have, turned about the beam axis."""
    n, most = x.shape[1], settings.noise.most
    free = (~there) & ((~there).cumsum(dim=1) <= most)  # (B, P)
    free &= draws.uniform("noise_share", n) < 0.5
    # Companions are packed to the front before one is drawn, so that it is one that is there.
    order = there.byte().argsort(dim=1, descending=True, stable=True)
    drawn = (draws.uniform("noise_of", n) * there.sum(dim=1, keepdim=True)).long()  # (B, P)
    source = order.gather(1, drawn.clamp_max(n - 1))
    made = x.gather(1, source[..., None].expand_as(x))
    reach = (2 * draws.uniform("noise_turn", n).float() - 1) * settings.noise.reach
    made[..., 1] = turned(made[..., 1], reach)
    return torch.where(free[..., None], made, x), there | free


def _smeared(x: Tensor, there: Tensor, draws: Draws, settings: TrackSettings) -> Tensor:
    """Hits measured once more: across (rφ) and along the module's long side, z in a barrel and r in a disk."""
    step = settings.smearing
    sizes = x.new_zeros((256, 3))  # by volume: rφ, z, r in mm
    sizes[:] = x.new_tensor(step.other)
    for volume, each in step.volumes.items():
        sizes[int(volume)] = x.new_tensor(each)
    sigma = sizes[x[..., 3].long().clamp(0, 255)]  # (B, P, 3)
    noise = draws.normal("smearing", x.shape[1], 3).to(x.dtype) * sigma * step.scale  # (B, P, 3)
    r = torch.where(there, (x[..., 0] + noise[..., 2]).clamp_min(1.0), x[..., 0])
    phi = turned(x[..., 1], noise[..., 0] / x[..., 0].clamp_min(1.0))
    return torch.cat([torch.stack([r, phi, x[..., 2] + noise[..., 1]], dim=-1), x[..., 3:]], dim=-1)


def _placed(x: Tensor, draws: Draws, settings: TrackSettings) -> Tensor:
    """Samples turned about the beam axis and mirrored as a whole, all of an epoch alike where the setting says so."""
    phi, z = x[..., 1], x[..., 2]
    if settings.mirror.enabled:
        own = _together(draws) if settings.mirror.shared else draws
        phi = phi * (1 - 2.0 * (own.uniform("mirror_phi") < settings.mirror.phi).to(x.dtype))[:, None]
        z = z * (1 - 2.0 * (own.uniform("mirror_z") < settings.mirror.z).to(x.dtype))[:, None]
    if settings.turn.enabled:
        own = _together(draws) if settings.turn.shared else draws
        phi = turned(phi, 2 * math.pi * own.uniform("turn").to(x.dtype)[:, None])
    return torch.cat([torch.stack([x[..., 0], phi, z], dim=-1), x[..., 3:]], dim=-1)


def _of_object(draws: Draws) -> Draws:
    """What both views of an object have in common."""
    return Draws(draws.seed, draws.epoch, draws.rows, SHARED)


def _together(draws: Draws) -> Draws:
    """What all objects of an epoch have in common, in both views."""
    return Draws(draws.seed, draws.epoch, torch.full_like(draws.rows, TOGETHER), SHARED)
