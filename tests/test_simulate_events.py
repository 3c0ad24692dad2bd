"""Simulated collision events: their physics, the detector by its definitions, and the same whoever makes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lookalike.datasets.anti_kt import all_jets
from lookalike.datasets.event_objects import Particles
from lookalike.errors import InputError
from lookalike.events import PARTICLE, TYPES
from lookalike.provenance import read_record
from lookalike.samples import Samples
from lookalike.simulate import events as simulated
from lookalike.simulate import write
from lookalike.simulate.collisions import measured_again
from lookalike.simulate.draws import Draws
from lookalike.simulate.event_detector import (
    ELECTRON,
    JET,
    MET,
    MUON,
    TAU,
    Leptons,
    Truth,
    leptons_of,
    objects_of,
    polar_of,
    truth_of,
)
from lookalike.simulate.event_physics import PROCESSES, settings_of
from lookalike.simulate.events import Events, described, passes, shares_of

pytest.importorskip("pythia8mc", reason="the extra simulate is not installed")
pytest.importorskip("fastjet", reason="the extra simulate is not installed")

N = 600


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """600 events, a sixth of each class but for chance."""
    out = tmp_path_factory.mktemp("events") / "events.h5"
    write(Events(1), out, N, quiet=True)
    return Samples(out)


def of(events: Samples, name: str, column: str) -> np.ndarray[Any, Any]:
    """A column of one class."""
    return np.asarray(events.column(column)[events.column("class") == name])


def test_events_are_stored_as_ingested_ones_and_marked(events: Samples) -> None:
    about = events.about
    assert (about.domain, about.layout, about.bands) == ("event", "particles", tuple(PARTICLE))
    assert about.source.startswith("SIMULATED")
    assert about.survey["simulated"]
    assert events.id(0) == "sim1-0000000"
    record = read_record(events.paths[0])
    assert record is not None
    assert record["settings"]["underlying"] is False
    x = events.objects(np.arange(N))
    assert x.shape == (N, 12, 6)
    assert x.dtype == np.float32
    assert (np.diff(x[..., 0], axis=1) <= 0).all()
    assert np.isfinite(x).all()
    assert (x[x[..., 0] == 0] == 0).all()
    assert ((x[..., 4] == MET) & (x[..., 0] > 0)).sum(axis=1).tolist() == [1] * N
    assert (np.abs(x[..., 2]) <= np.float32(np.pi)).all()


def test_every_event_passes_the_selection(events: Samples) -> None:
    x = events.objects(np.arange(N))
    pt, eta, kind = x[..., 0], np.abs(x[..., 1]), x[..., 4]
    there = pt > 0
    for types, least, far in (((ELECTRON, MUON), 10, 2.5), ((TAU,), 20, 2.5), ((JET,), 30, 4.5)):
        own = there & np.isin(kind, types)
        assert own.any()
        assert (pt[own] > least).all()
        assert (eta[own] < far).all()
    assert (events.column("pt_lepton") > 20).all()
    assert ((there & (kind != MET)).sum(axis=1) >= 2).all()
    assert set(np.unique(x[..., 5])) <= {0.0, 1.0}
    assert (kind[x[..., 5] > 0] == JET).all()


def test_columns_follow_from_the_objects_one_event_at_a_time(events: Samples) -> None:
    """By four-momenta of single events, the slow definition."""
    for row, x in enumerate(events.objects(np.arange(60)).astype(np.float64)):
        x = x[x[:, 0] > 0]
        p = np.stack([x[:, 0] * np.cos(x[:, 2]), x[:, 0] * np.sin(x[:, 2]), x[:, 0] * np.sinh(x[:, 1])], axis=1)
        energy = np.sqrt((p**2).sum(1) + x[:, 3] ** 2)
        lepton, tau, jet = np.isin(x[:, 4], (ELECTRON, MUON)), x[:, 4] == TAU, x[:, 4] == JET
        met = x[x[:, 4] == MET][0]
        first = x[lepton][0]
        pair = [*np.flatnonzero(lepton), *np.flatnonzero(tau)][:2]
        wanted = {
            "sum_pt": x[x[:, 4] != MET, 0].sum(),
            "ht": x[jet, 0].sum(),
            "met": met[0],
            "pt_lepton": first[0],
            "mt_lepton": np.sqrt(2 * met[0] * first[0] * (1 - np.cos(met[2] - first[2]))),
            "n_leptons": lepton.sum(),
            "n_taus": tau.sum(),
            "n_jets": jet.sum(),
            "n_btags": x[jet, 5].sum(),
            "mass_pair": np.nan,
        }
        for name, own in (("mass_visible", np.flatnonzero(x[:, 4] != MET)), ("mass_pair", np.array(pair))):
            if len(own) > 1:
                square = energy[own].sum() ** 2 - (p[own].sum(0) ** 2).sum()
                wanted[name] = np.sqrt(max(square, 0))
        for name, value in wanted.items():
            np.testing.assert_allclose(events.column(name)[row], value, rtol=2e-3, atol=0.02, err_msg=f"{row} {name}")


def test_every_class_has_its_share(events: Samples) -> None:
    """Each count within 5 σ of a sixth."""
    for name in PROCESSES:
        count = np.count_nonzero(events.column("class") == name)
        assert abs(count - N / 6) < 5 * np.sqrt(N * 5 / 36)


def test_the_classes_differ_as_their_physics_does(events: Samples) -> None:
    """Differences of many times what chance would make: of about 100 events each, medians are known to a tenth."""
    two = of(events, "z_ll", "n_leptons") >= 2
    mass = of(events, "z_ll", "mass_pair")[two]
    assert abs(np.median(mass) - 91.2) < 2  # GeV
    assert np.mean(np.abs(mass - 91.2) < 10) > 0.7
    for name in PROCESSES:
        if name != "ttbar":
            assert of(events, "ttbar", "n_jets").mean() > of(events, name, "n_jets").mean() + 0.7
            assert of(events, "ttbar", "n_btags").mean() > of(events, name, "n_btags").mean() + 0.4
    assert np.median(of(events, "w_jets", "met")) > 2.5 * np.median(of(events, "z_ll", "met"))
    assert np.median(of(events, "w_jets", "mt_lepton")) > 2 * np.median(of(events, "z_tautau", "mt_lepton"))
    for name in ("z_tautau", "h_tautau"):
        assert of(events, name, "n_taus").mean() > 0.15
    assert of(events, "z_ll", "n_taus").mean() < 0.05
    masses = [np.nanmedian(of(events, name, "mass_pair")) for name in ("z_tautau", "h_tautau", "z_ll")]
    assert masses == sorted(masses)


def test_nothing_prefers_an_azimuth_or_an_end(events: Samples) -> None:
    """Means of cos φ, sin φ and sign η of leptons and of the missing momentum: within 5 σ of 0."""
    x = events.objects(np.arange(N)).astype(np.float64)
    leading = np.isin(x[..., 4], (ELECTRON, MUON)) & (x[..., 0] > 0)
    of_lepton = x[np.arange(N), leading.argmax(axis=1)]
    of_met = x[np.arange(N), ((x[..., 4] == MET) & (x[..., 0] > 0)).argmax(axis=1)]
    for each in (of_lepton, of_met):
        for turned in (np.cos(each[:, 2]), np.sin(each[:, 2])):
            assert abs(turned.mean()) < 5 * np.sqrt(0.5 / N)
    assert abs(np.sign(of_lepton[:, 1]).mean()) < 5 / np.sqrt(N)


def test_an_event_follows_from_seed_and_row_alone(events: Samples) -> None:
    rows = np.array([431, 7, 99, 100])  # of several blocks, in another order
    ids, stored, catalog = Events(1).block(rows)
    assert ids == [f"sim1-{row:07d}" for row in rows]
    np.testing.assert_array_equal(stored, events.objects(rows))
    for name, values in catalog.items():
        np.testing.assert_array_equal(values, np.asarray(events.column(name))[rows].astype(values.dtype))
    assert (Events(2).block(rows)[1] != stored).any(axis=(1, 2)).all()


def test_two_processes_write_the_same_file(tmp_path: Path) -> None:
    made = [
        write(Events(3, ("z_ll",)), tmp_path / f"{count}.h5", 120, processes=count, quiet=True).content_hash
        for count in (1, 2)
    ]
    assert made[0] == made[1]


def test_shares_are_those_asked_for() -> None:
    assert shares_of(()) == dict.fromkeys(PROCESSES, pytest.approx(1 / 6))
    assert shares_of(("ttbar:3", "z_ll")) == {"ttbar": 0.75, "z_ll": 0.25}
    one, other = (list(shares_of(names).items()) for names in (("z_ll", "ttbar:3"), ("ttbar:3", "z_ll")))
    assert one == other == [("ttbar", 0.75), ("z_ll", 0.25)]  # in one order, on which the draws depend
    _, _, catalog = Events(1, ("z_ll:1", "w_jets:3")).block(np.arange(60))
    assert 45 - 5 * 3.4 < np.count_nonzero(catalog["class"] == "w_jets") < 60  # 5 σ, and not all


def test_the_underlying_event_adds_particles() -> None:
    from lookalike.datasets import pythia

    seen = []
    for underlying in (False, True):
        generator = pythia.generator(settings_of("z_ll", underlying))
        made = []
        for number in range(12):
            pythia.seeded(generator, number)
            assert generator.next()
            made.append(len(truth_of(generator).momenta))
        seen.append(np.median(made))
    assert seen[1] > 1.7 * seen[0]


def momenta(*polar: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    """px, py, pz, E (m, 4) of massless particles of pt, eta, phi."""
    pt, eta, phi = np.array(polar).reshape(-1, 3).T
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)


def truth(kinds: list[int], *polar: tuple[float, float, float], **more: Any) -> Truth:
    given = {"taus": np.zeros((0, 3)), "heavy": np.zeros((0, 3))} | more
    return Truth(momenta(*polar), np.array(kinds), **given)


def test_leptons_are_isolated_and_take_their_photons() -> None:
    """An electron with a photon near, a muon in a jet, one beyond the tracker: found is the first."""
    event = truth(
        [11, 22, 13, 211, 13],
        (40, 0.5, 1.0),
        (5, 0.5, 1.05),
        (30, -1, -2),
        (20, -1, -2.2),
        (50, 2.7, 0),
    )
    found = [leptons_of(event, Draws(0, np.array([row])), 0) for row in range(400)]
    share = np.mean([len(each.polar) for each in found])
    assert abs(share - 0.9) < 5 * np.sqrt(0.09 / 400)
    one = next(each for each in found if len(each.polar))
    assert one.polar[0, 0] == pytest.approx(45, abs=0.05)
    assert one.types.tolist() == [ELECTRON]
    assert one.rest.tolist() == [False, False, True, True, False]
    none = next(each for each in found if not len(each.polar))
    assert none.rest[:4].all()  # an electron that is not found is a jet's


def test_a_muon_that_is_not_found_leaves_nothing() -> None:
    event = truth([13], (40, 0.5, 1.0))
    found = [leptons_of(event, Draws(0, np.array([row])), 0) for row in range(400)]
    lost = [each for each in found if not len(each.polar)]
    assert 0 < len(lost) < 400 * 0.05 + 5 * np.sqrt(400 * 0.05)
    assert all(each.lost.all() and not each.rest.any() for each in lost)


def test_a_muon_beyond_the_tracker_is_missing_and_no_jet() -> None:
    """But one within a jet there is part of it, as is an electron."""
    event = truth([13, 13, 211, 11], (45, 3.0, 0.0), (20, -3.0, 1.0), (30, -3.0, 1.1), (40, 3.5, 2.0))
    found = leptons_of(event, Draws(0, np.zeros(1, np.int64)), 0)
    assert not len(found.polar)
    assert found.lost.tolist() == [True, False, False, False]
    assert found.rest.tolist() == [False, True, True, True]


def test_jets_are_taken_for_taus_and_tagged_as_often_as_stated() -> None:
    """One jet near a tau, one of a b hadron, one of c, one of neither; each share within 5 σ."""
    at = [(50.0, 0.0, 0.0), (60.0, 1.0, 1.5), (70.0, -1.0, 3.0), (80.0, 2.0, -1.5)]
    event = truth(
        [211] * 4, *at, taus=momenta((45, 0.05, 0.05))[:, :3], heavy=np.array([[1.1, 1.5, 5], [-1.1, 3.0, 4.0]])
    )
    leptons = Leptons(np.zeros((0, 3)), np.zeros(0, np.int64), np.ones(4, bool), np.zeros(4, bool))
    n = 1500
    found = [objects_of(event, leptons, momenta(*at), Draws(0, np.array([row])), 0) for row in range(n)]
    near = np.concatenate([x[x[:, 4] != MET] for x in found])
    place = np.argmin(np.abs(near[:, 1:2] - np.array([each[1] for each in at])), axis=1)
    expected = {0: (0.6, 0.01), 1: (0.01, 0.70), 2: (0.01, 0.15), 3: (0.01, 0.01)}
    for jet, (tau, tag) in expected.items():
        own = near[place == jet]
        share = np.mean(own[:, 4] == TAU)
        assert abs(share - tau) < 5 * np.sqrt(tau * (1 - tau) / n) + 0.02  # the softest may fall below the cut
        own = own[own[:, 4] == JET]
        assert abs(np.mean(own[:, 5]) - tag) < 5 * np.sqrt(tag * (1 - tag) / len(own))


def test_what_is_missing_follows_what_is_measured() -> None:
    """MET⃗ + Σ p⃗T of a balanced pair is N(0, 0.5 √ΣET) in each component, whatever the jets were measured to."""
    at = [(100.0, 0.0, 0.0), (100.0, 1.0, np.pi)]
    event = truth([211] * 2, *at)
    leptons = Leptons(np.zeros((0, 3)), np.zeros(0, np.int64), np.ones(2, bool), np.zeros(2, bool))
    n = 2000
    found = [objects_of(event, leptons, momenta(*at), Draws(0, np.array([row])), 0) for row in range(n)]
    rest = np.array([(x[:, :1] * np.stack([np.cos(x[:, 2]), np.sin(x[:, 2])], axis=1)).sum(0) for x in found])
    wanted = 0.5 * np.sqrt(200)  # GeV
    assert (np.abs(rest.mean(0)) < 5 * wanted / np.sqrt(n)).all()
    assert (np.abs(rest.std(0) / wanted - 1) < 5 / np.sqrt(2 * n)).all()
    pt = np.concatenate([x[x[:, 4] != MET, 0] for x in found]) / 100
    f = np.sqrt(0.05**2 + 1.5**2 / 100)
    assert abs(pt.mean() - 1) < 5 * f / np.sqrt(2 * n)
    assert abs(pt.std() / f - 1) < 5 / np.sqrt(4 * n)


def test_measured_momenta_are_above_zero() -> None:
    """A truncated normal distribution: with σ = pT, mean 1 + φ(1)/Φ(1) of the standard one."""
    u = (np.arange(20_000) + 0.5) / 20_000
    made = measured_again(np.ones_like(u), u)
    assert (made > 0).all()
    assert made.mean() == pytest.approx(1 + 0.24197 / 0.84134, abs=1e-3)


def test_hadrons_of_heavy_quarks_and_hadronic_taus_are_told_by_the_record() -> None:
    def particle(kind: int, p: tuple[float, float, float], final: bool, daughters: tuple[int, ...] = ()) -> Any:
        x, y, z = p
        pt = float(np.hypot(x, y))
        return SimpleNamespace(
            idAbs=lambda: kind,
            isFinal=lambda: final,
            isVisible=lambda: kind not in (12, 14, 16),
            isHadron=lambda: kind > 100,
            daughterList=lambda: daughters,
            px=lambda: x,
            py=lambda: y,
            pz=lambda: z,
            e=lambda: float(np.sqrt(x * x + y * y + z * z)),
            pT=lambda: pt,
            eta=lambda: float(np.arcsinh(z / pt)),
            phi=lambda: float(np.arctan2(y, x)),
        )

    listed = [
        particle(15, (30, 0, 0), False, (1,)),  # its copy after radiating
        particle(15, (30, 0, 0), False, (2, 3)),
        particle(16, (10, 0, 0), True),
        particle(213, (20, 0, 0), False, (4,)),
        particle(211, (20, 0, 0), True),
        particle(15, (0, 30, 0), False, (6, 7, 8)),
        particle(11, (0, 10, 0), True),
        particle(12, (0, 10, 0), True),
        particle(16, (0, 10, 0), True),
        particle(511, (0, -20, 0), False),
        particle(4122, (-20, 0, 5), False),
        particle(521, (1, 1, 0), False),  # too soft
        particle(321, (-9, 0, 5000), True),  # along the beam
    ]
    event = SimpleNamespace(particles=lambda: listed, at=listed.__getitem__)
    found = truth_of(SimpleNamespace(event=event))
    assert found.kinds.tolist() == [211, 11]
    np.testing.assert_allclose(found.taus, [[20, 0, 0]])
    np.testing.assert_allclose(found.heavy[:, 2], [5, 4])
    np.testing.assert_allclose(polar_of(found.momenta)[:, 0], [20, 10])


def test_the_missing_momentum_is_never_left_out() -> None:
    """Of more objects than places the softest go, as in `ingest events`."""
    _, stored, catalog = Events(1, ("ttbar",), places=4).block(np.arange(12))
    assert ((stored[..., 4] == MET) & (stored[..., 0] > 0)).sum(axis=1).tolist() == [1] * 12
    assert (catalog["n_jets"] + catalog["n_leptons"] > 3).any()


def test_an_event_of_one_object_or_no_lepton_does_not_pass() -> None:
    lepton, soft = [25.0, 0, 0, 0, MUON, 0], [15.0, 0, 0, 0, MUON, 0]
    jet, met = [40.0, 0, 0, 5, JET, 0], [300.0, 0, 0, 0, MET, 0]
    for objects in itertools.permutations([lepton, jet, met]):
        assert passes(np.array(objects))
    assert not passes(np.array([lepton, met]))
    assert not passes(np.array([soft, jet, met]))
    assert not passes(np.zeros((0, 6)))
    assert TYPES[MET] == "met"
    alone = described(Particles(np.zeros(3, np.int64), np.array([lepton, jet, met])), 1)
    assert np.isnan(alone["mass_pair"][0])
    assert alone["ht"][0] == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "zjets"], "class 'zjets'"),
        (["--class", "z_ll", "--class", "z_ll:2"], "--class z_ll was given twice"),
        (["--class", "z_ll:many"], "A share is a number above 0, but --class z_ll:many was given"),
        (["--class", "z_ll:0"], "A share is above 0 and at most 1,000,000, but --class z_ll:0 was given"),
        (["--class", "z_ll:nan"], "A share is above 0 and at most 1,000,000, but --class z_ll:nan was given"),
        (["--class", "z_ll:"], "A share is a number above 0, but --class z_ll: was given"),
        (["--class", "z_ll:1e308", "--class", "ttbar:1e308"], "A share is above 0 and at most 1,000,000"),
        (["--size", "2"], "Invalid value for '--size'"),
        (["--size", "1000000000"], "Invalid value for '--size'"),
        (["-n", "3515626"], "At most 3,515,625 events are made of one seed, but -n 3515626 was given"),
        (["-n", "99999999999999999999999"], "At most 3,515,625 events are made of one seed"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(
    tmp_path: Path, command: Callable[..., Any], options: list[str], message: str
) -> None:
    done = command("simulate", "events", "--out", tmp_path / "s.h5", "-n", "2", "--processes", "1", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_class_that_never_passes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "TRIES", 2)
    monkeypatch.setattr(simulated, "TRIGGER", 5000.0)
    with pytest.raises(InputError, match="Of 2 events of w_jets none passed the selection"):
        Events(0, ("w_jets",)).block(np.arange(2))


def test_without_pythia_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"Pythia, which is not installed: .*simulate"):
        Events(0)


@pytest.mark.parametrize("places", [2, 10_001])
def test_more_or_fewer_places_than_can_be_are_refused(places: int) -> None:
    with pytest.raises(InputError, match=f"3 to 10,000 objects of an event are stored, but --size {places} was given"):
        Events(0, places=places)


def rows_of(event: Truth, jets: np.ndarray[Any, Any], leptons: Leptons | None = None, n: int = 2000) -> list[Any]:
    """The objects (k, 6) of one event as measured n times, without leptons where none are given."""
    every = len(event.momenta)
    leptons = leptons or Leptons(np.zeros((0, 3)), np.zeros(0, np.int64), np.ones(every, bool), np.zeros(every, bool))
    return [objects_of(event, leptons, jets, Draws(0, np.array([row])), 0) for row in range(n)]


def test_directions_masses_and_leptons_are_measured_with_the_stated_resolutions() -> None:
    """Jets move by 1 GeV/pT and not across ±π, keep the mass over pT; leptons keep their direction and get 2 %."""
    at = momenta((100.0, 1.0, 3.14))
    at[:, 3] = np.sqrt(at[:, 3] ** 2 + 20**2)  # GeV of mass
    muon = np.array([[50.0, -1.0, 0.5]])
    event = truth([211, 13], (100.0, 1.0, 3.14), (50.0, -1.0, 0.5))
    leptons = Leptons(muon, np.array([MUON]), np.array([True, False]), np.zeros(2, bool))
    found = np.concatenate(rows_of(event, at, leptons))
    jet, lepton = found[np.isin(found[:, 4], (JET, TAU))], found[found[:, 4] == MUON]
    n = len(jet)
    moved = np.stack([jet[:, 1] - 1.0, np.angle(np.exp(1j * (jet[:, 2] - 3.14)))], axis=1)
    assert (np.abs(moved.mean(0)) < 5 * 0.01 / np.sqrt(n)).all()
    assert (np.abs(moved.std(0) / 0.01 - 1) < 5 / np.sqrt(2 * n)).all()
    assert (np.abs(jet[:, 2]) <= np.pi).all()
    assert (jet[:, 2] < 0).any()
    np.testing.assert_allclose(jet[:, 3] / jet[:, 0], 0.2, rtol=1e-6)
    np.testing.assert_array_equal(lepton[:, 1:4], np.tile([-1.0, 0.5, 0.0], (len(lepton), 1)))
    assert abs(lepton[:, 0].mean() / 50 - 1) < 5 * 0.02 / np.sqrt(n)
    assert abs(lepton[:, 0].std() / 1.0 - 1) < 5 / np.sqrt(2 * n)


def test_tags_go_across_the_azimuth_and_by_the_heaviest_quark_within_the_tracker() -> None:
    """A jet of both quarks, at π, is one of b; beyond the tracker nothing is tagged or a tau."""
    at = [(60.0, 1.0, 3.1), (80.0, 3.0, 0.0)]
    heavy = np.array([[1.0, -3.1, 5], [1.0, 3.1, 4], [3.0, 0.0, 5]])
    event = truth([211] * 2, *at, heavy=heavy, taus=momenta((70, 3.0, 0.0))[:, :3])
    found = np.concatenate(rows_of(event, momenta(*at)))
    near, far = (found[(np.abs(found[:, 1] - eta) < 0.5) & (found[:, 4] != MET)] for eta in (1.0, 3.0))
    near = near[near[:, 4] == JET]
    assert abs(near[:, 5].mean() - 0.7) < 5 * np.sqrt(0.21 / len(near))
    assert (far[:, 4] == JET).all()
    assert (far[:, 5] == 0).all()


def test_what_is_near_a_lepton_may_have_less_than_a_stated_share() -> None:
    for pt, isolated in ((14.0, True), (16.0, False)):  # of 100 GeV
        event = truth([13, 211], (100.0, 0.0, 3.1), (pt, 0.0, -3.0))  # 0.18 away
        found = [leptons_of(event, Draws(0, np.array([row])), 0) for row in range(20)]
        assert any(len(each.polar) for each in found) == isolated
        assert any(each.lost.any() for each in found) <= isolated


def test_what_is_missing_holds_lost_muons_and_not_the_measuring_of_what_is_no_object() -> None:
    """A jet against a lost muon; and two jets below the cut, where they remain below it."""
    at = [(40.0, 0.0, 0.0), (40.0, 0.5, np.pi)]
    lost = Leptons(np.zeros((0, 3)), np.zeros(0, np.int64), np.array([False, True]), np.array([False, True]))
    found = rows_of(truth([211, 13], *at), momenta(at[0]), lost)
    rest = np.array([(x[:, 0] * np.cos(x[:, 2])).sum() for x in found if (x[:, 4] == JET).any()])
    assert abs(rest.mean()) < 5 * 0.5 * np.sqrt(40) / np.sqrt(len(rest))  # balanced, as if the muon were not there
    pair = [(20.0, 0.0, 0.0), (20.0, 1.0, np.pi / 2)]
    below = [x[0] for x in rows_of(truth([211] * 2, *pair), momenta(*pair)) if len(x) == 1]
    assert len(below) > 1000
    missing = np.array([(x[0] * np.cos(x[2]), x[0] * np.sin(x[2])) for x in below])
    wanted = 0.5 * np.sqrt(40)  # GeV
    assert (np.abs(missing.mean(0) + 20) < 5 * wanted / np.sqrt(len(below))).all()
    assert (np.abs(missing.std(0) / wanted - 1) < 5 / np.sqrt(2 * len(below))).all()


def test_jets_are_those_of_the_definition_of_anti_kt() -> None:
    """Against merging the nearest pair by 1/pT² again and again; an event may have no particle."""
    rng = np.random.default_rng(4)
    events = [
        momenta(*zip(rng.exponential(12, n), rng.normal(0, 1, n), rng.uniform(-np.pi, np.pi, n), strict=True))
        for n in (30, 0, 1, 22)
    ]
    jets, counts = all_jets(np.concatenate(events), np.array([len(each) for each in events]), 0.4, 15.0)
    for found, event in zip(np.split(jets, counts.cumsum()[:-1]), events, strict=True):
        wanted = sorted(anti_kt(list(event), 0.4, 15.0), key=lambda p: -np.hypot(p[0], p[1]))
        np.testing.assert_allclose(found, np.reshape(wanted, (-1, 4)), rtol=1e-9, atol=1e-9)


def anti_kt(left: list[np.ndarray[Any, Any]], radius: float, min_pt: float) -> list[np.ndarray[Any, Any]]:
    """The jets of one event: d_ij = min(1/pT_i², 1/pT_j²) ΔR²/R² in rapidity and azimuth, d_i = 1/pT_i²."""
    done = []
    while left:
        pt = [float(np.hypot(p[0], p[1])) for p in left]
        y = [float(np.arctanh(p[2] / p[3])) for p in left]
        phi = [float(np.arctan2(p[1], p[0])) for p in left]
        pairs = [(pt[i] ** -2, i, i) for i in range(len(left))]
        for i, j in itertools.combinations(range(len(left)), 2):
            turn = abs(phi[i] - phi[j])
            square = (y[i] - y[j]) ** 2 + min(turn, 2 * np.pi - turn) ** 2
            pairs.append((min(pt[i] ** -2, pt[j] ** -2) * square / radius**2, i, j))
        _, i, j = min(pairs)
        if i == j:
            done.append(left[i])
        else:
            left = [*left, left[i] + left[j]]
        left = [p for place, p in enumerate(left) if place not in (i, j)]
    return [p for p in done if np.hypot(p[0], p[1]) >= min_pt]
