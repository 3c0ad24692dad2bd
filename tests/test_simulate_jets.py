"""Simulated events of two jets: what Pythia is told, what a detector makes of it, and the same whoever makes them."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lookalike import cli
from lookalike.datasets.jet_blocks import Block, kinematics
from lookalike.errors import InputError
from lookalike.provenance import read_record
from lookalike.samples import Samples
from lookalike.simulate import jets, write
from lookalike.simulate.jet_physics import FLAVORS, PION, QCD, RHO, hidden_valley
from lookalike.simulate.jets import Jets, measured

pytest.importorskip("pythia8mc", reason="the extra simulate is not installed")
pytest.importorskip("fastjet", reason="the extra simulate is not installed")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """60 events, half of them of a Hidden Valley, made by two processes."""
    out = tmp_path_factory.mktemp("jets") / "jets.h5"
    write(Jets(1, 0.5), out, 60, processes=2, quiet=True)
    return Samples(out)


def test_events_pass_the_selection_and_are_marked(events: Samples) -> None:
    assert (len(events), events.about.domain, events.about.layout) == (60, "jet", "particles")
    assert events.about.source.startswith("SIMULATED")
    assert events.about.survey["simulated"]
    assert events.id(0) == "sim1-0000000"
    record = read_record(events.paths[0])
    assert record is not None
    assert record["settings"]["pythia"] == importlib.metadata.version("pythia8mc")
    for suffix in ("", "_2"):
        assert (events.column(f"pt{suffix}") >= 750).all()
        assert (np.abs(events.column(f"eta{suffix}")) < 2).all()
    assert (events.column("pt") >= events.column("pt_2")).all()
    assert events.columns["label"].description.startswith("what was made")
    assert set(events.column("label").tolist()) == {"qcd", "hidden_valley"}


def test_columns_follow_from_the_constituents(events: Samples) -> None:
    x = events.objects(np.arange(60)).astype(np.float64)
    assert (x[..., 0] >= 0).all()
    real = x[..., 0] > 0
    assert (np.diff(x[..., 0], axis=1) <= 0).all()
    counts = real.sum(axis=1)
    block = Block(0, counts, *(x[..., place][real] for place in range(3)), jet=x[..., 3][real].astype(np.int64))
    assert counts.max() <= x.shape[1] - 16  # places left free for splits
    stored = counts == events.column("n_constituents")  # those whose constituents all found a place
    assert stored.mean() > 0.6
    for name, values in kinematics(block, 2).items():
        np.testing.assert_allclose(values[stored], events.column(name)[stored], rtol=1e-4, atol=1e-4)


def test_the_classes_differ_as_their_physics_does(events: Samples) -> None:
    dark = events.column("label") == "hidden_valley"
    for name in ("m_jj", "mass", "mass_2", "n_constituents"):
        assert np.median(events.column(name)[dark]) > np.median(events.column(name)[~dark])
    assert 4000 < np.median(events.column("m_jj")[dark]) < 5600  # GeV, below the Z_V by what neutrinos take


def test_an_event_follows_from_seed_and_row_alone(events: Samples) -> None:
    ids, stored, catalog = Jets(1, 0.5).block(np.array([7, 31]))
    assert ids == ["sim1-0000007", "sim1-0000031"]
    np.testing.assert_array_equal(stored, events.objects(np.array([7, 31])))
    assert all((np.asarray(values) == events.column(name)[[7, 31]]).all() for name, values in catalog.items())
    assert (Jets(2, 0.5).block(np.array([7, 31]))[1] != stored).any(axis=(1, 2)).all()


def test_the_share_of_signal_is_the_one_asked_for() -> None:
    assert set(Jets(3, 0.0).block(np.arange(3))[2]["label"].tolist()) == {"qcd"}
    assert set(Jets(3, 1.0).block(np.arange(3))[2]["label"].tolist()) == {"hidden_valley"}


def test_dark_pions_that_are_not_seen_take_mass_away() -> None:
    seen, lost = (Jets(4, 1.0, invisible=share, min_pt=200).block(np.arange(8))[2]["m_jj"] for share in (0.0, 0.5))
    assert np.median(lost) < 0.8 * np.median(seen)


def test_every_dark_vector_becomes_two_dark_pions_of_its_flavors() -> None:
    """ρ_ij → π_ik π_kj: flavors are kept, shares add up, masses allow it, and no two are the same of i = j = k."""
    lines = hidden_valley()
    assert RHO > 2 * PION
    for i, j in ((i, j) for i, j in product(FLAVORS, FLAVORS) if i >= j):
        own = [line for line in lines if line.startswith(f"4900{i}{j}3:") and "hannel" in line]
        channels = [line.split("= 1 ")[1].split() for line in own]
        assert sum(float(share) for share, *_ in channels) == pytest.approx(1, abs=1e-5)
        for _, _, *products in channels:
            charge = np.zeros(4)
            for code in products:
                sign = -1 if code.startswith("-") else 1
                charge[int(code.lstrip("-")[4])] += sign
                charge[int(code.lstrip("-")[5])] -= sign
            wanted = np.zeros(4)
            wanted[i] += 1
            wanted[j] -= 1
            np.testing.assert_array_equal(charge, wanted)
            assert not (i == j and products[0] == products[1] == f"4900{i}{i}1")


def test_pythia_knows_every_setting() -> None:
    from lookalike.datasets import pythia

    for lines in (QCD, hidden_valley(0.3)):
        assert pythia.generator(lines).infoPython() is not None
    with pytest.raises(InputError, match="Pythia knows no such setting"):
        pythia.generator(["HiddenValley:Colors = 3"])


def test_jets_are_measured_with_the_stated_resolution() -> None:
    """pT′ ~ N(pT, f(pT)) by its definition, and the harder jet first; odds of a right one failing below 1e-6."""
    n = 20_000
    pt = np.tile([1000.0, 990.0], n)
    block = Block(0, np.full(n, 2), pt, np.zeros(2 * n), np.tile([0.0, np.pi], n), jet=np.tile([0, 1], n))
    made = measured(block, np.random.default_rng(0).random((n, 2)))
    found = np.zeros((n, 2))
    found[made.of, made.jet] = made.pt
    assert (found[:, 0] >= found[:, 1]).all()
    ratio = (made.pt / pt).reshape(n, 2)
    for place, p in enumerate((1000.0, 990.0)):
        f = np.sqrt(0.05**2 + 1.5**2 / p)
        assert abs(ratio[:, place].mean() - 1) < 5 * f / np.sqrt(n)
        assert abs(ratio[:, place].std() / f - 1) < 5 / np.sqrt(2 * n)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--signal", "1.5"], "Invalid value for '--signal'"),
        (["--invisible", "-0.1"], "Invalid value for '--invisible'"),
        (["--min-pt", "0"], "--min-pt is above 0 and below 6500 GeV, and --max-eta above 0, but 0 and 2 were given"),
        (["--min-pt", "7000"], "below 6500 GeV"),
        (["--max-eta", "nan"], "but 750 and nan were given"),
        (["--min-pt", "6000"], "in 3 tries, but none came out; give a smaller --min-pt"),
        (["--size", "3"], "Invalid value for '--size'"),
        (["--number", "0"], "Invalid value for '-n' / '--number'"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    out = tmp_path / "s.h5"
    arguments = ["simulate", "jets", "--out", str(out), "-n", "2", "--processes", "1", *options]
    monkeypatch.setattr("sys.argv", ["lookalike", *arguments])
    monkeypatch.setattr(jets, "TRIES", 3)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capfd.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert message in [line for line in printed.err.splitlines() if not line.startswith("#")][-1]
    assert list(tmp_path.iterdir()) == []


def test_without_pythia_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"Pythia, which is not installed: .*simulate"):
        Jets(0)


def test_fastjet_greets_nowhere() -> None:
    """It does so once in each process, with the first clustering."""
    code = (
        "import numpy as np; from lookalike.datasets.anti_kt import leading_jets; "
        "from lookalike.datasets.jet_blocks import Block; "
        "leading_jets(Block(0, np.array([2]), np.array([50.0, 40.0]), np.zeros(2), np.array([0.0, 3.0]))); "
        "print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
