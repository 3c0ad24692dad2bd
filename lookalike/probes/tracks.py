"""The scores of the TrackML challenge: how well proposed tracks gather the hits of one particle each, and how fast.

Amrouche et al. 2020, https://arxiv.org/abs/1904.06778 (accuracy phase), and 2023, https://arxiv.org/abs/2105.01160
(throughput phase).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

NOISE = 0  # the particle of hits that no particle made
LIMIT = 600.0  # seconds per event, from which on the throughput phase gives nothing
LEAST = 0.5  # accuracy, up to which it gives nothing


@dataclass(frozen=True)
class Tracks:
    """The proposed tracks (T,) of an event, and what each is worth.

    track    : its number. particle : the particle that made most of its hits.
    hits     : of the track. shared : those of them that the particle made. made : all hits of the particle.
    weight   : sum of the weights of the shared hits, where all of the event sum up to 1.
    counts   : whether more than half of the track's hits are the particle's, and more than half of the particle's hits
               are in the track.
    """

    track: NDArray[np.int64]
    particle: NDArray[np.int64]
    hits: NDArray[np.int64]
    shared: NDArray[np.int64]
    made: NDArray[np.int64]
    weight: NDArray[np.float64]
    counts: NDArray[np.bool_]

    @property
    def score(self) -> float:
        """The accuracy of the event, 0 to 1."""
        return float(self.weight[self.counts].sum())


def matched(track: NDArray[Any], particle: NDArray[Any], weight: NDArray[Any]) -> Tracks:
    """Each proposed track of an event with the particle that made most of its hits.

    track    : (N,) the track that each hit is assigned to; below 0 for none.
    particle : (N,) the particle that made each hit, NOISE for none, which no track is credited with.
    weight   : (N,) how much each hit counts, not negative; only their proportions matter.
    InputError for arrays that do not go together, and for weights that are negative, undefined or all 0.
    """
    track, particle, weight = np.asarray(track), np.asarray(particle), np.asarray(weight, np.float64)
    if track.ndim != 1 or not track.shape == particle.shape == weight.shape:
        raise InputError(
            f"Every hit has a track, a particle and a weight, but {track.shape}, {particle.shape} and {weight.shape} "
            "were given."
        )
    for name, numbers in (("tracks", track), ("particles", particle)):
        if numbers.dtype.kind not in "iu":
            raise InputError(f"The numbers of {name} are whole, but {numbers.dtype} was given.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not (weight > 0).any():
        raise InputError("Weights of hits are 0 or more and not all 0, but others were given.")
    weight = weight / weight.max()  # whose sum is finite
    weight = weight / weight.sum()
    particles, of_particle, made = np.unique(particle, return_inverse=True, return_counts=True)
    used = np.flatnonzero(track >= 0)
    tracks, of_track, hits = np.unique(track[used], return_inverse=True, return_counts=True)
    pairs = of_track.astype(np.int64) * len(particles) + of_particle[used]  # which track and particle, in one number
    pair, of_pair, shared = np.unique(pairs, return_inverse=True, return_counts=True)
    shared_weight = np.bincount(of_pair, weight[used], len(pair))
    # The last of each track's pairs in rising order of shared hits.
    owner = pair // max(1, len(particles))
    order = np.lexsort((shared, owner))
    best = order[np.searchsorted(owner[order], np.arange(len(tracks)), side="right") - 1]
    majority = pair[best] % max(1, len(particles))
    pure = 2 * shared[best] > hits
    whole = 2 * shared[best] > made[majority]
    return Tracks(
        track=tracks.astype(np.int64),
        particle=particles[majority].astype(np.int64),
        hits=hits.astype(np.int64),
        shared=shared[best].astype(np.int64),
        made=made[majority].astype(np.int64),
        weight=shared_weight[best].astype(np.float64),
        counts=pure & whole & (particles[majority] != NOISE),
    )


def track_score(track: NDArray[Any], particle: NDArray[Any], weight: NDArray[Any]) -> float:
    """The accuracy of one event, 0 to 1: the weights of the hits that the tracks that count share with their particles.

    Arguments and errors as `matched`.
    """
    return matched(track, particle, weight).score


def throughput_score(accuracy: float, seconds: float) -> float:
    """√(ln(1 + 600/t)·(a − 0.5)²) for an accuracy a above 0.5 reached in t < 600 s per event, else 0."""
    if not 0 <= accuracy <= 1:
        raise InputError(f"An accuracy lies between 0 and 1, but {accuracy} was given.")
    if not seconds > 0:
        raise InputError(f"The time per event is above 0 s, but {seconds} was given.")
    if accuracy <= LEAST or seconds >= LIMIT:
        return 0.0
    return math.sqrt(math.log1p(LIMIT / seconds) * (accuracy - LEAST) ** 2)
