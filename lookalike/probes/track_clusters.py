"""Hits of an event gathered into tracks: buckets of nearest neighbors, in each of which a helix is sought.

A bucket is a hit and its nearest neighbors among vectors of any kind. Its candidate is the helix from the beam line
through the hit and a neighbor that the other neighbors bear out most (`augmentations.track_votes`), with the hits on
it. Candidates become tracks in falling order of their support, each of the hits that no track before it took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

BUCKET = 45  # neighbors of a hit
LEAST = 3  # hits of a track
BORNE_OUT = 0.3  # the least support of a hit that a helix is said to pass through
AT_ONCE = 2048  # buckets looked at together
NONE = -1  # the track of hits that are in none
KIT_EPS = 0.008  # of the challenge's starting kit
EPS = (0.008, 0.02, 0.05, 0.1, 0.2)  # among which the baseline is given the best


@dataclass(frozen=True)
class Places:
    """Where the hits (n,) of an event are: mm, rad, mm."""

    r: Floats
    phi: Floats
    z: Floats


def neighbors(vectors: NDArray[Any], k: int) -> Rows:
    """The k nearest others (n, k) of each vector (n, D) by Euclidean distance, nearest first."""
    import faiss

    x = np.ascontiguousarray(vectors, np.float32)
    k = min(k, len(x) - 1)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    found = index.search(x, k + 1)[1].astype(np.int64)  # (n, k + 1)
    # A hit is its own nearest, but for others in the same place.
    other = found != np.arange(len(x))[:, None]
    other[other.all(axis=1), -1] = False
    near: Rows = found[other].reshape(len(x), k)
    return near


def find_tracks(near: Rows, places: Places) -> Rows:
    """The track (n,) of every hit, from 0 up, NONE where there is none; near (n, k) are the buckets."""
    support, members = _candidates(near, places)
    taken = np.full(len(near), NONE, np.int64)
    made = 0
    for seed in np.argsort(-support, kind="stable").tolist():
        mine = members[seed]
        mine = mine[mine >= 0]
        free = mine[taken[mine] == NONE]
        # What is left of a candidate that others took most of is no track of its own.
        if len(free) >= LEAST and 2 * len(free) > len(mine):
            taken[free] = made
            made += 1
    return taken


def _candidates(near: Rows, places: Places) -> tuple[Floats, Rows]:
    """Of each hit the support (n,) of its best helix and the hits on it (n, k + 1), −1 for those that are not."""
    import torch

    from lookalike.augmentations.track_votes import Hits, proposed, support

    n, k = near.shape
    every = np.concatenate([np.arange(n)[:, None], near], axis=1)  # (n, k + 1)
    strength, members = np.zeros(n), np.full((n, k + 1), -1, np.int64)
    stored = [torch.from_numpy(each.astype(np.float32)) for each in (places.r, places.phi, places.z)]
    for start in range(0, n, AT_ONCE):
        block = torch.from_numpy(every[start : start + AT_ONCE])  # (b, k + 1)
        r, phi, z = (each[block] for each in stored)  # (b, k + 1)
        hits = Hits(r, phi, z, torch.ones_like(r, dtype=torch.bool))
        votes = support(hits, proposed(hits))  # (b, k + 1, k + 1)
        total = votes.sum(dim=2)
        best = total.argmax(dim=1)
        rows = torch.arange(len(block))
        on = votes[rows, best] > BORNE_OUT
        on[rows, best] |= total[rows, best] > 0
        on[:, 0] = True
        stop = start + len(block)
        strength[start:stop] = total[rows, best].double().numpy()
        members[start:stop] = np.where(on.numpy(), block.numpy(), -1)
    return strength, members


def kit_coordinates(places: Places) -> Floats:
    """The hand-made coordinates of the challenge's starting kit (n, 3), each less its mean, over its spread.

    x/R and y/R with R the distance from the origin, z over that from the beam axis: alike for hits of a straight track.
    """
    away = np.hypot(places.r, places.z)
    x = np.stack([places.r * np.cos(places.phi) / away, places.r * np.sin(places.phi) / away, places.z / places.r], 1)
    return standard(x)


def voted_directions(hits: NDArray[Any]) -> Floats:
    """Where the best supported helix of each stored sample (n, P, F) starts to: cos φ_b, sin φ_b, asinh cot θ, (n, 3).

    By hand from the votes that the encoder is given, without any training.
    """
    import torch

    from lookalike.augmentations.track_votes import Hits, best, proposed, support

    found = []
    for start in range(0, len(hits), AT_ONCE):
        x = torch.from_numpy(np.asarray(hits[start : start + AT_ONCE], np.float32))
        sample = Hits(x[..., 0], x[..., 1], x[..., 2], x[..., 0] > 0)
        helix = proposed(sample)
        place = best(support(sample, helix))[:, None]
        phi, cot = (each.gather(1, place)[:, 0].double() for each in (helix.phi, helix.cot))
        found.append(torch.stack([phi.cos(), phi.sin(), cot.asinh()], dim=1).numpy())
    result: Floats = np.concatenate(found)
    return result


def raw_coordinates(places: Places) -> Floats:
    """x, y and z (n, 3), each less its mean, over its spread."""
    return standard(np.stack([places.r * np.cos(places.phi), places.r * np.sin(places.phi), places.z], axis=1))


def standard(x: Floats) -> Floats:
    """Columns (n, d) of mean 0 and spread 1; one that never varies is 0."""
    spread = x.std(axis=0)
    result: Floats = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return result


def density_tracks(places: Places, eps: float) -> Rows:
    """The starting kit's tracks (n,): DBSCAN of its coordinates, in which any two hits nearer than eps are joined."""
    from sklearn.cluster import DBSCAN

    found = DBSCAN(eps=eps, min_samples=1, algorithm="kd_tree").fit(kit_coordinates(places)).labels_
    return np.asarray(found, np.int64)


def purity(near: Rows, particle: NDArray[np.int64], k: int) -> float | None:
    """The share of the k nearest others that are of the hit's own particle, over all of particles; None of none."""
    own = particle > 0
    if not own.any():
        return None
    same = particle[near[own, :k]] == particle[own, None]
    return float(same.mean())
