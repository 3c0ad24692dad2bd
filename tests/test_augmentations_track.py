"""Views of hits and tracks: what they keep, what they change, by how much; and what the encoder is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lookalike.augmentations.draws import Draws
from lookalike.augmentations.track import TRACK
from lookalike.augmentations.track_votes import Hits, proposed, support
from lookalike.datasets import ingest
from lookalike.errors import InputError
from lookalike.samples import About, Samples
from lookalike.simulate.tracks import Settings, write_events

STEPS = ("follow", "isolate", "drop", "noise", "smearing", "turn", "mirror")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Samples]:
    """A simulated event of 80 particles, as hits and as tracks."""
    folder = tmp_path_factory.mktemp("tracks")
    write_events(folder / "events", Settings(events=1, particles=80, seed=1), quiet=True)
    found = {}
    for sample in ("hits", "tracks"):
        ingest("trackml", [folder / "events"], folder / f"{sample}.h5", sample=sample, size=24, quiet=True)
        found[sample] = Samples(folder / f"{sample}.h5")
    return found


def only(samples: Samples, *steps: str, **changes: Any) -> Any:
    """The default settings with all steps off but these."""
    settings, _ = TRACK.settings(samples.about, samples.size, frozenset(samples.columns))
    off = {step: {"enabled": step in steps} for step in STEPS}
    return settings.changed(off).changed(changes)


def viewed(samples: Samples, settings: Any, view: int = 0, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(samples.objects(slice(None)))
    return x, TRACK.view(x, {}, Draws(0, epoch, torch.arange(len(x)), view), settings)


def test_with_all_steps_off_a_view_is_the_sample(made: dict[str, Samples]) -> None:
    for samples in made.values():
        x, seen = viewed(samples, only(samples))
        torch.testing.assert_close(seen, x)


def test_hits_of_an_epoch_are_turned_alike_and_tracks_each_its_own_way(made: dict[str, Samples]) -> None:
    for sample, alike in (("hits", True), ("tracks", False)):
        samples = made[sample]
        settings = only(samples, "turn", "mirror")
        (x, one), (_, two), (_, later) = (viewed(samples, settings, *each) for each in ((0, 0), (1, 0), (0, 1)))
        assert bool(torch.equal(one, two)) is alike
        assert not torch.allclose(one[..., 1], later[..., 1])
        torch.testing.assert_close(one[..., 0], x[..., 0])
        torch.testing.assert_close(one[..., 2].abs(), x[..., 2].abs())
        turns = torch.cos(one[:, 0, 1] - one[:, 1, 1]) - torch.cos(x[:, 0, 1] - x[:, 1, 1])
        assert turns.abs().max() < 1e-5, "a whole sample turns as one"
        signs = {(float(z), float(phi)) for z, phi in zip(*_signs(x, one), strict=True)}
        assert len(signs) == (1 if alike else 4)  # of 80 tracks none is missing one way with a chance of 1e-9


def _signs(x: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each sample was mirrored in z and in φ: −1 or 1."""
    turn, before = (torch.sin(each[:, 1, 1] - each[:, 0, 1]) for each in (seen, x))
    return (seen[:, 0, 2] * x[:, 0, 2]).sign(), (turn * before).sign()


def test_smearing_is_the_resolution_of_each_volume(made: dict[str, Samples]) -> None:
    samples = made["hits"]
    x, seen = viewed(samples, only(samples, "smearing"))
    for volume, across, along in ((17, 0.024, 3.1), (8, 0.006, 0.012)):
        own = x[..., 3] == volume
        assert own.sum() > 300
        miss = (x[..., 0] * torch.sin(seen[..., 1] - x[..., 1]))[own]
        assert float(miss.std()) == pytest.approx(across, rel=0.2)
        assert float((seen[..., 2] - x[..., 2])[own].std()) == pytest.approx(along, rel=0.2)
    assert not torch.equal(seen[..., 2], x[..., 2])


def test_hits_are_missed_as_often_as_said_but_never_the_own_one(made: dict[str, Samples]) -> None:
    samples = made["hits"]
    x, seen = viewed(samples, only(samples, "drop", drop={"share": 0.3}))
    before, after = (x[..., 0] > 0).sum(1), (seen[..., 0] > 0).sum(1)
    assert float((after - 1).sum() / (before - 1).sum()) == pytest.approx(0.7, abs=0.02)
    torch.testing.assert_close(seen[:, 0], x[:, 0])
    for row in range(20):  # those left are in the order they were
        left = {tuple(hit) for hit in seen[row, : after[row]].tolist()}
        assert [tuple(hit) for hit in x[row].tolist() if tuple(hit) in left][: after[row]] == [
            tuple(hit) for hit in seen[row, : after[row]].tolist()
        ]


def test_noise_takes_free_places_only(made: dict[str, Samples]) -> None:
    samples = made["hits"]
    x, seen = viewed(samples, only(samples, "drop", "noise", drop={"share": 0.5}, noise={"most": 4, "reach": 0.3}))
    added = (seen[..., 0] > 0).sum(1)
    assert (added <= x.shape[1]).all()
    x, seen = viewed(samples, only(samples, "noise"))
    full = (x[..., 0] > 0).all(1)
    torch.testing.assert_close(seen[full], x[full])
    free = (x[..., 0] > 0).sum(1) < x.shape[1] - 6
    if free.any():
        assert float(((seen[..., 0] > 0).sum(1) - (x[..., 0] > 0).sum(1))[free].float().mean()) == pytest.approx(
            3, abs=1
        )


def test_by_truth_a_view_stands_on_a_hit_of_the_same_particle(made: dict[str, Samples]) -> None:
    samples = made["hits"]
    x, seen = viewed(samples, only(samples, "follow", follow={"by": "truth", "share": 1.0}))
    same = x[..., -1] > 0
    for row in range(200):
        own = {tuple(hit) for hit in x[row][same[row]].tolist()}
        assert tuple(seen[row, 0].tolist()) in own
        assert {tuple(hit) for hit in seen[row].tolist()} == {tuple(hit) for hit in x[row].tolist()}
    moved = (seen[:, 0] != x[:, 0]).any(1)
    several = same.sum(1) > 4
    # Of n hits the own one stays with a chance of 1/n, at most 1/5.
    assert float(moved[several].float().mean()) > 0.75
    torch.testing.assert_close(seen[~same[:, 1:].any(1)][:, 0], x[~same[:, 1:].any(1)][:, 0])


def test_one_of_two_views_is_without_the_other_companions(made: dict[str, Samples]) -> None:
    samples = made["hits"]
    settings = only(samples, "isolate", isolate={"share": 1.0}, follow={"by": "truth"})
    (x, one), (_, two) = viewed(samples, settings, 0), viewed(samples, settings, 1)
    there = (x[..., 0] > 0).sum(1)
    kept = [(each[..., 0] > 0).sum(1) for each in (one, two)]
    whole = torch.stack([each == there for each in kept])  # (2, B)
    assert whole.any(0).all(), "one view has all companions"
    assert 0.45 < float(whole[0].float().mean()) < 0.75
    assert not whole.all()
    part = torch.where((kept[0] < kept[1])[:, None, None], one, two)[~whole.all(0)]
    by_helix = only(samples, "isolate")
    assert float((viewed(samples, by_helix)[1][..., 0] > 0).sum()) < float(there.sum())
    # `by` says what a member is, even where no view is moved.
    off = part[(part[..., 0] > 0) & (part[..., -1] == 0)]
    assert len(off) == 0


def test_by_helix_most_views_stand_on_a_hit_of_the_same_particle(made: dict[str, Samples]) -> None:
    """The truth decides only here; with chance hits of the neighborhood it would be the share of alike companions."""
    samples = made["hits"]
    x, seen = viewed(samples, only(samples, "follow", follow={"share": 1.0}))
    of_particle = torch.from_numpy(samples.column("particle_id") > 0)
    changed = (seen[:, 0, :3] != x[:, 0, :3]).any(1) & of_particle
    right = float((seen[changed][:, 0, -1] > 0).float().mean())
    chance = float((x[of_particle][:, 1:, -1] > 0).float().sum() / (x[of_particle][:, 1:, 0] > 0).sum())
    assert float(changed.float().sum() / of_particle.sum()) > 0.7
    assert right > 0.85 > chance + 0.2


def test_votes_are_for_the_hits_of_one_helix() -> None:
    """Five hits of a straight track through (0, 0, 3), one beside it, and a place without a hit."""
    r = torch.tensor([[32.0, 72.0, 116.0, 172.0, 260.0, 116.0, 0.0]])
    phi = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.0]])
    z = 3 + 2 * r
    z[0, 6] = 0
    hits = Hits(r, phi, z, r > 0)
    votes = support(hits, proposed(hits))[0]
    assert votes.shape == (7, 7)
    torch.testing.assert_close(votes[1, [2, 3, 4]], torch.ones(3), atol=1e-3, rtol=0)
    assert not votes[0].any()
    assert not votes[:, 0].any()
    assert not votes[6].any()
    assert not votes[:, 6].any()
    assert not votes.diagonal().any()
    assert votes[1, 5] < 0.01


def test_what_is_given_does_not_depend_on_the_truth_nor_on_where_a_track_points(made: dict[str, Samples]) -> None:
    for sample, samples in made.items():
        settings, _ = TRACK.settings(samples.about, samples.size, frozenset(samples.columns))
        seen = TRACK.fit(samples, TRACK.preprocess(samples.about, settings))
        x = torch.from_numpy(samples.objects(slice(0, 100)))
        given = seen.given(x)
        assert given.shape == (len(x), x.shape[1], seen.numbers)
        if sample == "hits":
            other = x.clone()
            other[..., -1] = torch.where(x[..., 0] > 0, 1 - x[..., -1], 0)
            torch.testing.assert_close(seen.given(other), given)
        else:
            x[..., 1] = torch.where(x[..., 0] > 0, x[..., 1] + 0.7, 0)
            torch.testing.assert_close(seen.given(x), given, atol=2e-2, rtol=0)
        assert float(given[..., :-1].abs().max()) <= 5


def test_pictures_have_axes_and_the_own_hit(made: dict[str, Samples]) -> None:
    for samples in made.values():
        stored = samples.objects([0])[0]
        for size in (1, 20, 64, 160, 400):
            assert TRACK.draw(stored, samples.about, "planes", size).size == (size, size)
        colors = {color for _, color in TRACK.draw(stored, samples.about, "planes", 400).getcolors(100_000)}
        assert (213, 94, 0) in colors
    with pytest.raises(InputError, match="Unknown stretch"):
        TRACK.draw(stored, samples.about, "log", 100)


def test_other_samples_and_settings_are_refused(made: dict[str, Samples]) -> None:
    particles = About(domain="track", bands=("pt", "eta", "phi"), layout="particles")
    with pytest.raises(InputError, match="lookalike ingest trackml"):
        TRACK.settings(particles, 10, frozenset())
    tracks = made["tracks"]
    settings, _ = TRACK.settings(tracks.about, tracks.size, frozenset())
    with pytest.raises(InputError, match="needs samples that were ingested with truth"):
        settings.changed({"follow": {"enabled": True, "by": "truth"}})
    seen = TRACK.preprocess(tracks.about, settings)
    with pytest.raises(InputError, match="trained on samples that are tracks, but these are hits"):
        seen.check_about(made["hits"].about)
    with pytest.raises(InputError, match=r"takes hits \(P, F\)"):
        seen.check((24, 3), np.dtype("float32"))
