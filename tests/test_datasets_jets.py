"""Jets from every layout: what is stored, what is made of it, what is left out, and what is refused."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lookalike.datasets import IngestReport, ingest
from lookalike.datasets.jet_blocks import Block, kinematics
from lookalike.datasets.jet_rules import cleaned
from lookalike.errors import InputError, LookalikeError
from lookalike.samples import Samples

N, P = 12, 9
FASTJET = importlib.util.find_spec("fastjet") is not None


def jets(n: int = N, places: int = P, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """(n, places, 3) of pt, eta, phi: jet i has 1 + i % places constituents."""
    rng = np.random.default_rng(seed)
    made = np.zeros((n, places, 3))
    for row in range(n):
        m = 1 + row % places
        made[row, :m, 0] = np.sort(rng.exponential(20, m) + 1)[::-1] * scale
        made[row, :m, 1] = rng.uniform(-2, 2) + rng.normal(0, 0.1, m)
        made[row, :m, 2] = (rng.uniform(-3, 3) + rng.normal(0, 0.1, m) + math.pi) % (2 * math.pi) - math.pi
    return made


def run(file: Path, *more: Path, **options: Any) -> IngestReport:
    return ingest("jets", [file, *more], file.parent / "out.h5", quiet=True, overwrite=True, **options)


def npy(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    np.save(folder / "j.npy", made.astype(np.float32))
    return folder / "j.npy", {"bands": ("pt", "eta", "phi")}


def npz_by_quantity(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    np.savez(folder / "j.npz", **{f"part_{name}": made[..., i] for i, name in enumerate(("pt", "eta", "phi"))})
    return folder / "j.npz", {}


def npz_ragged(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    counts = (made[..., 0] != 0).sum(1)
    flat = np.ascontiguousarray(made[made[..., 0] != 0][:, [1, 2, 0]])
    np.savez(folder / "j.npz", qcd_offsets=np.concatenate([[0], np.cumsum(counts)]), qcd_eta_phi_pt=flat)
    return folder / "j.npz", {}


def energyflow(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    np.savez(folder / "j.npz", X=np.dstack([made, np.full(made.shape[:2], 211.0)]), y=np.arange(len(made)) % 2)
    return folder / "j.npz", {}


def hdf5_array(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    with h5py.File(folder / "j.h5", "w") as file:
        file["constituents"] = made
        file["constituents"].attrs["columns"] = ["pt", "eta", "phi"]
        file["label"] = np.arange(len(made))
    return folder / "j.h5", {}


def hdf5_ragged(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    with h5py.File(folder / "j.h5", "w") as file:
        for i, name in enumerate(("pt", "eta", "phi")):
            rows = file.create_dataset(f"jet_{name}", len(made), h5py.vlen_dtype(np.float64))
            for row, event in enumerate(made):
                rows[row] = event[event[:, 0] != 0, i]
    return folder / "j.h5", {}


def cartesian(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    pt, eta, phi = np.moveaxis(made, 2, 0)
    with h5py.File(folder / "j.h5", "w") as file:
        file["part_px"], file["part_py"], file["part_pz"] = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return folder / "j.h5", {}


def jetnet(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    with h5py.File(folder / "t.hdf5", "w") as file:
        there = made[..., 0] != 0
        relative = [made[..., 1] - 0.5 * there, made[..., 2], made[..., 0] / 100, there]
        file["particle_features"] = np.stack(relative, axis=2)
        file["jet_features"] = np.tile([100.0, 0.5, 5.0, 3.0], (len(made), 1))
    return folder / "t.hdf5", {}


def parquet(folder: Path, made: np.ndarray) -> tuple[Path, dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet as pq

    lists = {f"part_{n}": [e[e[:, 0] != 0, i].tolist() for e in made] for i, n in enumerate(("pt", "eta", "phi"))}
    pq.write_table(
        pyarrow.table(lists | {"label": list(range(len(made))), "pt": [1.5] * len(made)}), folder / "j.parquet"
    )
    return folder / "j.parquet", {}


LAYOUTS = [npy, npz_by_quantity, npz_ragged, energyflow, hdf5_array, hdf5_ragged, cartesian, jetnet, parquet]
Write = Callable[[Path, np.ndarray], tuple[Path, dict[str, Any]]]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_layout_gives_the_same_constituents_and_columns(tmp_path: Path, write: Write) -> None:
    made = jets()
    file, options = write(tmp_path, made)
    samples = Samples(run(file, **options).out)
    assert (samples.about.domain, samples.about.layout, samples.about.bands) == (
        "jet",
        "particles",
        ("pt", "eta", "phi", "jet"),
    )
    assert samples.about.units == ("GeV", "", "rad", "")
    assert samples.about.survey["jets"] == 1
    stored = samples.objects(slice(None))
    np.testing.assert_allclose(stored[:, :P, :3], made, rtol=2e-5, atol=2e-5)
    assert not stored[:, P:].any()
    assert not stored[..., 3].any()
    for row, event in enumerate(made):
        pt, eta, phi = event[event[:, 0] > 0].T
        p = np.array([(pt * f).sum() for f in (np.cosh(eta), np.cos(phi), np.sin(phi), np.sinh(eta))])
        wanted = {
            "pt": math.hypot(p[1], p[2]),
            "eta": math.asinh(p[3] / math.hypot(p[1], p[2])),
            "phi": math.atan2(p[2], p[1]),
            "n_constituents": len(pt),
        }
        for name, value in wanted.items():
            assert samples.column(name)[row] == pytest.approx(value, rel=1e-5, abs=1e-5)
        mass = math.sqrt(max(p[0] ** 2 - (p[1:] ** 2).sum(), 0))
        assert samples.column("mass")[row] == pytest.approx(mass, rel=1e-3, abs=0.02)


def test_the_files_own_columns_are_kept_and_renamed_where_their_name_is_taken(tmp_path: Path) -> None:
    samples = Samples(run(parquet(tmp_path, jets())[0]).out)
    np.testing.assert_array_equal(samples.column("label"), np.arange(N))
    assert (samples.column("pt_file") == 1.5).all()
    flow = Samples(run(energyflow(tmp_path, jets())[0]).out)
    np.testing.assert_array_equal(flow.column("label"), np.arange(N) % 2)
    named = run(parquet(tmp_path, jets())[0], id_column="label")
    assert Samples(named.out).id(3) == "3"


def test_several_files_keep_their_names(tmp_path: Path) -> None:
    for name, seed in (("g", 0), ("q", 1)):
        np.save(tmp_path / f"{name}.npy", jets(seed=seed))
    samples = Samples(run(tmp_path / "g.npy", tmp_path / "q.npy", bands=("pt", "eta", "phi")).out)
    assert len(samples) == 2 * N
    assert samples.column("source").tolist() == ["g"] * N + ["q"] * N
    assert samples.id(N + 2) == "q-2"


def test_two_jets_are_kept_apart_with_the_mass_of_both(tmp_path: Path) -> None:
    both = np.zeros((3, 4, 4))
    both[:] = [[60, 1, 0.1, 0], [50, 0, 3.1, 1], [40, 1, 0.2, 0], [9, 0, 0, 2]]
    np.save(tmp_path / "j.npy", both)
    samples = Samples(run(tmp_path / "j.npy", bands=("pt", "eta", "phi", "jet")).out)
    assert samples.about.survey["jets"] == 2
    np.testing.assert_allclose(samples.objects([0])[0, :3], [[60, 1, 0.1, 0], [50, 0, 3.1, 1], [40, 1, 0.2, 0]], 1e-6)
    assert not samples.objects([0])[0, 3:].any()
    record = samples.record(0)
    assert record["pt"] == pytest.approx(math.hypot(60 + 40 * math.cos(0.1), 40 * math.sin(0.1)), rel=1e-6)
    assert record["pt_2"] == pytest.approx(50)
    four = [
        (pt * math.cosh(eta), pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta))
        for pt, eta, phi, _ in both[0, :3]
    ]
    total = np.sum(four, axis=0)
    assert record["m_jj"] == pytest.approx(math.sqrt(total[0] ** 2 - (total[1:] ** 2).sum()), rel=1e-6)


# Odd input.


def test_bad_objects_are_left_out_by_rule_with_their_rows(tmp_path: Path) -> None:
    made = jets(60)
    made[3, 0, 0] = np.nan
    made[5, 0, 0] = -4.0
    made[7, 0, 1] = 11.0
    made[9, 0, 2] = 7.0
    made[11] = 0.0
    made[20, :, 2] += 2 * math.pi * (made[20, :, 0] > 0) * (made[20, :, 2] < 0)  # 0 to 2π is as good as −π to π
    file, options = npy(tmp_path, made)
    report = run(file, **options)
    assert report.n == 55
    told = {name.rsplit(" ", 1)[1]: reason for name, reason in report.skipped}
    assert told == {
        "3": "a momentum or angle that is not finite",
        "5": "a negative pT",
        "7": "|η| above 10",
        "9": "φ beyond a full turn",
        "11": "no constituent",
    }
    assert report.counts["objects left out: a negative pT"] == 1
    samples = Samples(report.out)
    assert "5" not in samples.ids.astype(str)
    phi = samples.objects(slice(None))[..., 2]
    assert float(np.abs(phi).max()) <= math.pi + 1e-6


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    file, _ = npy(tmp_path, jets(60))
    with pytest.raises(InputError, match=r"of 60 objects from row 0 on cannot be used, most with .*--bands names"):
        run(file, bands=("eta", "phi", "pt"))


@pytest.mark.parametrize("write", [npy, parquet])
def test_momenta_that_can_only_be_mev_are_refused_until_it_is_said(tmp_path: Path, write: Write) -> None:
    file, options = write(tmp_path, jets(scale=2000.0))
    with pytest.raises(InputError, match=r"typical pT of a jet .* is .* if it is in GeV, .*say --unit MeV"):
        run(file, **options)
    samples = Samples(run(file, unit="MeV", **options).out)
    np.testing.assert_allclose(samples.objects(slice(None))[:, :P, 0], jets(scale=2.0)[..., 0], rtol=1e-5)
    assert Samples(run(file, unit="GeV", **options).out).column("pt").max() > 7000
    file, options = write(tmp_path, jets(scale=0.5))
    with pytest.raises(InputError, match="too little for a jet; give --unit GeV"):
        run(file, unit="MeV", **options)
    with pytest.raises(InputError, match="Unknown unit of momentum 'keV'"):
        run(file, unit="keV", **options)


def test_the_files_own_unit_is_taken_and_not_contradicted(tmp_path: Path) -> None:
    file, _ = hdf5_array(tmp_path, jets(scale=1000.0))
    with h5py.File(file, "a") as opened:
        opened["constituents"].attrs["unit"] = "MeV"
    report = run(file)
    assert Samples(report.out).column("pt").max() < 1000
    assert not any("taken to be in GeV" in note for note in report.notes)
    with pytest.raises(InputError, match="says that its momenta are in MeV, but --unit GeV"):
        run(file, unit="GeV")


def test_the_softest_are_left_out_where_there_is_no_room(tmp_path: Path) -> None:
    file, options = npy(tmp_path, jets())
    report = run(file, size=4, **options)
    samples = Samples(report.out)
    assert samples.shape == (4, 4)
    assert any("have more than 4 constituents: the softest" in note for note in report.notes)
    np.testing.assert_allclose(samples.objects(slice(None))[..., 0], jets()[:, :4, 0], rtol=1e-6)
    assert samples.column("n_constituents").max() == P


def test_the_fullest_jets_too_have_room_for_splits(tmp_path: Path) -> None:
    from lookalike.datasets.jets import MOST, ROOM

    made = np.zeros((2, MOST + 20, 3))
    made[0, :, 0] = made[1, :3, 0] = 2.0
    report = run(npz_by_quantity(tmp_path, made)[0])
    objects = Samples(report.out).objects(slice(None))
    assert objects.shape == (2, MOST + ROOM, 4)
    assert (objects[..., 0] > 0).sum(1).tolist() == [MOST, 3]
    assert any(f"more than {MOST} constituents" in note for note in report.notes)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("npy", {}, "3 numbers of each constituent without names; name them in stored order with --bands"),
    ("npy", {"bands": ("pt", "eta")}, "has 3 numbers of each constituent, but --bands names 2"),
    ("npy", {"bands": ("pt", "eta", "mass")}, "A constituent has pt, eta and phi, or px, py and pz"),
    ("npy", {"bands": ("pt", "eta", "phi"), "domain": "image"}, "makes samples of the domain jet"),
    ("npy", {"bands": ("pt", "eta", "phi"), "radius": 0.4}, "--radius is of events that are clustered"),
    ("npy", {"bands": ("pt", "eta", "phi"), "mode": "event"}, "Unknown mode 'event'"),
    ("npz_by_quantity", {"bands": ("a", "b", "c")}, "has no array 'a' of each constituent; it has: part_pt"),
]


@pytest.mark.parametrize(("layout", "options", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, layout: str, options: dict[str, Any], message: str) -> None:
    file, _ = {"npy": npy, "npz_by_quantity": npz_by_quantity}[layout](tmp_path, jets())
    with pytest.raises(InputError, match=message):
        run(file, **options)
    assert not (tmp_path / "out.h5").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    for write in (npy, npz_ragged, hdf5_array, parquet):
        file, options = write(tmp_path, jets())
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError):
            run(file, **options)
        assert not (tmp_path / "out.h5").exists()
    (tmp_path / "j.txt").write_text("1 2 3")
    with pytest.raises(InputError, match="Jets come in files that end in"):
        run(tmp_path / "j.txt")


@pytest.mark.parametrize("write", [*LAYOUTS, "olympics"], ids=lambda write: getattr(write, "__name__", write))
def test_bytes_changed_anywhere_never_escape_as_another_error(tmp_path: Path, write: Any) -> None:
    if write == "olympics":
        file, options = olympics(tmp_path / "e.h5", jets(6, 10).reshape(6, -1), np.arange(6)), {"mode": "jets"}
    else:
        file, options = write(tmp_path, jets(6))
    whole = file.read_bytes()
    random = np.random.default_rng(len(whole))
    for _ in range(40):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            changed[place] = random.integers(0, 256)
        file.write_bytes(bytes(changed))
        with contextlib.suppress(LookalikeError):
            run(file, **options)


def test_numbers_beyond_all_sense_are_left_out(tmp_path: Path) -> None:
    made = np.tile(jets(1, 5)[:, :, :], (9, 1, 1)).astype(np.float64)
    made[1, 0, 0], made[2, 0, 1], made[3, 0, 2] = 1e200, -1e300, np.inf
    np.savez(tmp_path / "j.npz", X=np.dstack([made, np.zeros(made.shape[:2])]), y=np.arange(9))
    report = run(tmp_path / "j.npz")
    assert report.n == 6
    assert report.counts["objects left out: a pT above 1e+09 GeV"] == 1


def test_texts_and_truths_are_no_momenta(tmp_path: Path) -> None:
    texts = jets().astype(str)
    texts[..., 0] = np.where(texts[..., 0] == "0.0", "0", "x")
    for made in (texts, jets().astype(str), jets() != 0):
        with pytest.raises(InputError, match=r"j\.npz\[part_pt\] holds .*; constituents are real numbers"):
            run(npz_by_quantity(tmp_path, made)[0])
    np.savez(tmp_path / "j.npz", a_offsets=np.array([0, 2]), a_pt_eta_phi=np.full((2, 3), "1"))
    with pytest.raises(InputError, match="constituents are real numbers"):
        run(tmp_path / "j.npz")


def test_a_table_of_no_jets_is_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as pq

    schema = pyarrow.schema([(f"part_{name}", pyarrow.list_(pyarrow.float64())) for name in ("pt", "eta", "phi")])
    pq.write_table(schema.empty_table(), tmp_path / "j.parquet")
    with pytest.raises(InputError, match=r"No object to store: every one was refused or the source is empty\.$"):
        run(tmp_path / "j.parquet")


def test_what_was_left_out_is_told_where_nothing_is_stored(tmp_path: Path) -> None:
    made = np.zeros_like(jets())
    with pytest.raises(InputError, match=rf"{N:,} objects left out: no constituent\. The first, .* row 0: no constit"):
        run(npz_by_quantity(tmp_path, made)[0])


def test_events_without_jets_are_left_out_however_many(tmp_path: Path) -> None:
    made = jets()
    made[1:] = 0
    report = run(npz_by_quantity(tmp_path, made)[0])
    assert (report.n, report.counts["objects left out: no constituent"]) == (1, N - 1)


def test_a_last_short_block_of_bad_jets_does_not_condemn_a_file() -> None:
    """Two bad jets of 102 are left out, wherever blocks end."""
    from lookalike.datasets.contract import Ledger
    from lookalike.datasets.jet_blocks import Part

    part, ledger = Part("p", "p", 102, 1, lambda: iter(())), Ledger()
    bad = Block(100, np.ones(2, np.int64), np.full(2, -1.0), np.zeros(2), np.zeros(2))
    assert len(cleaned(bad, part, ledger)) == 0
    assert [name for name, _ in ledger.skipped] == ["p row 100", "p row 101"]


def test_labels_of_another_number_of_jets_are_told(tmp_path: Path) -> None:
    made = jets()
    np.savez(tmp_path / "j.npz", X=np.dstack([made, np.full(made.shape[:2], 211.0)]), y=np.arange(N - 1))
    with h5py.File(tmp_path / "j.h5", "w") as file:
        file["c"], file["y"] = made, np.arange(N + 1)
        file["c"].attrs["columns"] = ["pt", "eta", "phi"]
    for name in ("j.npz", "j.h5"):
        report = run(tmp_path / name)
        assert f"Left out of {name}, having not one value of each object: y." in report.notes
        assert not {"y", "label"} & set(Samples(report.out).columns)


def test_columns_that_would_share_a_name_are_refused(tmp_path: Path) -> None:
    parts = {f"part_{name}": jets()[..., i] for i, name in enumerate(("pt", "eta", "phi"))}
    np.savez(tmp_path / "j.npz", **parts, **{"a b": np.arange(N), "a_b": np.arange(N)})
    with pytest.raises(InputError, match="the columns 'a b' and 'a_b' would both be called 'a_b'"):
        run(tmp_path / "j.npz")


def test_a_whole_number_that_is_missing_is_named_with_its_row(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as pq

    lists = {name: [[9.0], [7.0]] for name in ("pt", "eta", "phi")} | {"n": [1, None]}
    pq.write_table(pyarrow.table(lists), tmp_path / "j.parquet")
    with pytest.raises(InputError, match=r"'n' is a column of whole numbers, but row 1 has none"):
        run(tmp_path / "j.parquet")


def test_a_table_of_events_in_mev_is_refused_until_it_is_said(tmp_path: Path) -> None:
    """The layout of the LHC Olympics alone does not say that another's table is in GeV."""
    file = olympics(tmp_path / "e.h5", jets(6, 10, 5000.0).reshape(6, -1), np.arange(6))
    with pytest.raises(InputError, match="say --unit MeV"):
        run(file, mode="jets")
    assert Samples(run(file, mode="jets", unit="MeV").out).column("pt").max() < 7000


@pytest.mark.parametrize(
    ("offsets", "message"),
    [([0, 2, 1, 3], "never fall"), ([0, 2, 5], "runs from 0 to 5, but"), ([1, 2, 3], "runs from 1 to 3")],
)
def test_offsets_that_do_not_fit_are_refused(tmp_path: Path, offsets: list[int], message: str) -> None:
    np.savez(tmp_path / "j.npz", a_offsets=np.array(offsets), a_pt_eta_phi=np.ones((3, 3)))
    with pytest.raises(InputError, match=message):
        run(tmp_path / "j.npz")


def test_ragged_rows_of_different_lengths_are_refused_with_the_row(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as pq

    lists = {"pt": [[9.0, 8.0], [7.0]], "eta": [[0.1, 0.2], [0.3, 0.4]], "phi": [[0.0, 0.0], [0.0]]}
    pq.write_table(pyarrow.table(lists), tmp_path / "j.parquet")
    with pytest.raises(InputError, match="row 1: eta has 2 values, but pt has 1"):
        run(tmp_path / "j.parquet")


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "j.npz", part_pt=np.array([[1], [2, 3]], dtype=object))
    with pytest.raises(InputError, match="pickled objects, which are never loaded"):
        run(tmp_path / "j.npz")


def test_many_bad_objects_are_counted_and_not_all_named() -> None:
    from lookalike.datasets.contract import Ledger
    from lookalike.datasets.jet_blocks import Part
    from lookalike.datasets.jet_rules import LISTED

    ledger, n = Ledger(), 3 * LISTED
    pt = np.where(np.arange(n) % 2 == 0, -1.0, 5.0)
    part = Part("p", "p", n, 1, lambda: iter(()))
    kept = cleaned(Block(0, np.ones(n, np.int64), pt, np.zeros(n), np.zeros(n)), part, ledger)
    assert len(kept) == n // 2
    assert len(ledger.skipped) == LISTED
    assert ledger.counts["objects left out: a negative pT"] == n // 2


# The LHC Olympics' layout, and clustering.


def dijets(n: int, places: int = 30, seed: int = 0) -> tuple[np.ndarray, list[list[set[int]]]]:
    """Events (n, places·3) of two well separated narrow jets and stray particles; the members of each jet."""
    rng = np.random.default_rng(seed)
    made, members = np.zeros((n, places, 3)), []
    for row in range(n):
        eta, phi = rng.uniform(-1, 1, 2), rng.uniform(-math.pi, math.pi)
        first, second = rng.integers(4, 12, 2)
        for place in range(first + second):
            jet = int(place >= first)
            pt = rng.exponential(80) + (60 if jet == 0 else 20)
            away = rng.normal(0, 0.05, 2)
            made[row, place] = pt, eta[jet] + away[0], phi + jet * math.pi + away[1]
        made[row, first + second] = 3.0, eta[0] + 2.5, phi + math.pi / 2  # far from both
        made[row, :, 2] = (made[row, :, 2] + math.pi) % (2 * math.pi) - math.pi
        members.append([set(range(first)), set(range(first, first + second))])
    made[made[..., 0] == 0] = 0
    return made.reshape(n, -1), members


def olympics(path: Path, events: np.ndarray, labels: np.ndarray | None, *, fixed: bool = True) -> Path:
    """A pandas table as `DataFrame.to_hdf` writes it, in its fixed or its table format."""
    rows = events if labels is None else np.column_stack([events, labels])
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = "frame" if fixed else "frame_table"
        if fixed:
            group["axis0"] = group["block0_items"] = np.arange(rows.shape[1])
            group["axis1"] = np.arange(len(rows))
            group.create_dataset("block0_values", data=rows, chunks=(4, rows.shape[1]), compression="gzip")
        else:
            kind = np.dtype([("index", "<i8"), ("values_block_0", "<f8", (rows.shape[1],))])
            table = np.zeros(len(rows), kind)
            table["values_block_0"] = rows
            group["table"] = table
    return path


@pytest.mark.skipif(not FASTJET, reason="FastJet is not installed")
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_olympics_events_are_clustered_into_their_two_leading_jets(
    tmp_path: Path, fixed: bool, labelled: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    events, members = dijets(40)
    file = olympics(tmp_path / "e.h5", events, np.arange(40) % 2 if labelled else None, fixed=fixed)
    report = run(file)
    samples = Samples(report.out)
    assert len(samples) == 40
    assert samples.about.survey == {"jets": 2, "algorithm": "anti-kT", "radius": 0.8}
    assert ("label" in samples.columns) == labelled
    if labelled:
        np.testing.assert_array_equal(samples.column("label"), np.arange(40) % 2)
    particles = events.reshape(40, -1, 3)
    for row in range(40):
        stored = samples.objects([row])[0]
        sums = [particles[row, sorted(own), 0].sum() for own in members[row]]
        for jet, own in enumerate(sorted(members[row], key=lambda own: -sums[members[row].index(own)])):
            found = stored[(stored[:, 3] == jet) & (stored[:, 0] > 0), 0]
            wanted = np.sort(particles[row, sorted(own), 0])[::-1]
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert (samples.column("pt") >= samples.column("pt_2")).all()
    assert "FastJet" not in capfd.readouterr().out, "standard output is for results"


@pytest.mark.skipif(not FASTJET, reason="FastJet is not installed")
def test_events_without_two_jets_that_pass_are_counted(tmp_path: Path) -> None:
    events, members = dijets(30)
    events[4].reshape(-1, 3)[sorted(members[4][1])] = 0
    file = olympics(tmp_path / "e.h5", events, None)
    report = run(file)
    assert report.n == 29
    assert report.counts["events without two jets that pass left out"] == 1
    pt_2 = Samples(report.out).column("pt_2")
    cut = float(np.median(pt_2))
    assert run(file, min_pt=cut).n == int((pt_2 >= cut).sum())
    steep = Samples(run(file).out)
    wanted = int(((np.abs(steep.column("eta")) < 0.5) & (np.abs(steep.column("eta_2")) < 0.5)).sum())
    assert run(file, max_eta=0.5).n == wanted
    assert run(file, radius=0.4).n == 29
    with pytest.raises(InputError, match="--radius is above 0"):
        run(file, radius=-1.0)


@pytest.mark.skipif(not FASTJET, reason="FastJet is not installed")
def test_arrays_of_events_are_clustered_on_request(tmp_path: Path) -> None:
    events, _ = dijets(20)
    np.save(tmp_path / "e.npy", events.reshape(20, -1, 3))
    m_jj = Samples(run(tmp_path / "e.npy", mode="events", bands=("pt", "eta", "phi")).out).column("m_jj")
    from_table = Samples(run(olympics(tmp_path / "e.h5", events, None)).out)
    np.testing.assert_allclose(m_jj, from_table.column("m_jj"))


def test_tables_of_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Events are rows of pT, η, φ of up to 700 particles"):
        run(olympics(tmp_path / "e.h5", np.ones((5, 14)), None))
    file = olympics(tmp_path / "f.h5", np.ones((5, 30)), None)
    with h5py.File(file, "a") as opened:
        opened["df/block0_items"][:] = np.arange(30)[::-1]
    with pytest.raises(InputError, match="mixes types or orders of columns"):
        run(file)


def test_kinematics_of_back_to_back_and_of_missing_jets() -> None:
    block = Block(
        0, np.array([2, 1]), np.array([100.0, 100, 50]), np.zeros(3), np.array([0, math.pi, 1.0]), np.array([0, 1, 0])
    )
    found = kinematics(block, 2)
    assert found["m_jj"][0] == pytest.approx(200)
    assert found["mass"][0] == pytest.approx(0, abs=1e-4)
    assert np.isnan([found["m_jj"][1], found["pt_2"][1], found["mass_2"][1]]).all()


# ROOT.


UPROOT = importlib.util.find_spec("uproot") is not None


def root(path: Path, made: np.ndarray, prefix: str = "part", **more: Any) -> Path:
    """A tree of jagged branches."""
    import awkward as ak
    import uproot

    counts = (made[..., 0] != 0).sum(1)
    flat = made[made[..., 0] != 0]
    lists = ak.zip({name: ak.unflatten(flat[:, i], counts) for i, name in enumerate(("pt", "eta", "phi"))})
    with uproot.recreate(path) as file:
        columns = {prefix: lists, **more}
        kinds = {name: values.type if name == prefix else values.dtype for name, values in columns.items()}
        file.mktree("Events", kinds).extend(columns)
    return path


@pytest.mark.skipif(not UPROOT, reason="uproot is not installed")
def test_jagged_branches_of_a_tree_are_read(tmp_path: Path) -> None:
    made = jets()
    samples = Samples(run(root(tmp_path / "j.root", made, run=np.arange(N), event=np.arange(N) * 7)).out)
    np.testing.assert_allclose(samples.objects(slice(None))[:, :P, :3], made, rtol=1e-5, atol=1e-6)
    named = run(tmp_path / "j.root", id_column="run:event")
    assert Samples(named.out).id(2) == "2:14"
    (tmp_path / "j.root").write_bytes((tmp_path / "j.root").read_bytes()[:1500])
    with pytest.raises(InputError, match="cannot be read as ROOT"):
        run(tmp_path / "j.root")


@pytest.mark.skipif(not UPROOT, reason="uproot is not installed")
def test_nanoaod_without_lists_of_constituents_is_told_from_other_trees(tmp_path: Path) -> None:
    file = root(tmp_path / "j.root", jets(), prefix="Jet")
    with pytest.raises(InputError, match="NanoAOD without the lists of its jets' constituents"):
        run(file)
    assert run(file, bands=("Jet_pt", "Jet_eta", "Jet_phi")).n == N


@pytest.mark.skipif(not UPROOT, reason="uproot is not installed")
def test_the_two_leading_jets_of_nanoaod_have_their_listed_constituents(shared_data: Path, tmp_path: Path) -> None:
    import uproot

    file = shared_data / "cms_simulated_root" / "pfnano.root"
    report = ingest("jets", [file], tmp_path / "s.h5", quiet=True, id_column="run:luminosityBlock:event")
    samples = Samples(report.out)
    with uproot.open(file) as opened:
        listed = opened["Events"].arrays(["FatJet_pt", "FatJet_eta", "run", "event"], library="np")
    assert samples.about.survey["jets"] == 2
    assert len(samples) == 10
    assert samples.id(0).endswith(f":{listed['event'][0]}")
    for row in range(10):
        # Listed jets are corrected for energy and weighted against pile-up, so theirs are others by some percent.
        ratio = samples.column("pt")[row] / listed["FatJet_pt"][row][0]
        assert 0.8 < ratio < 1.25
        assert samples.column("eta")[row] == pytest.approx(listed["FatJet_eta"][row][0], abs=0.1)


# HepMC.


def hepmc(path: Path, events: np.ndarray, unit: str = "GEV") -> Path:
    """The events (n, P, 3) with a neutrino, a beam and a particle along it besides."""
    import pyhepmc

    scale = {"GEV": 1.0, "MEV": 1000.0}[unit]
    with pyhepmc.open(str(path), "w") as file:
        for number, particles in enumerate(events):
            event = pyhepmc.GenEvent(getattr(pyhepmc.Units, unit), pyhepmc.Units.MM)
            event.event_number = 100 + number
            event.weights = [0.5]
            vertex = pyhepmc.GenVertex()
            vertex.add_particle_in(pyhepmc.GenParticle((0, 0, 6500 * scale, 6500 * scale), 2212, 4))
            rows = [(p[0] * np.cos(p[2]), p[0] * np.sin(p[2]), p[0] * np.sinh(p[1]), 211, 1) for p in particles if p[0]]
            rows += [(300.0, 0.0, 0.0, -14, 1), (1.0, 0.0, 500.0, 211, 1), (400.0, 0.0, 0.0, 21, 2)]
            for px, py, pz, pid, status in rows:
                energy = float(np.sqrt(px**2 + py**2 + pz**2))
                four = tuple(float(v) * scale for v in (px, py, pz, energy))
                vertex.add_particle_out(pyhepmc.GenParticle(four, pid, status))
            event.add_vertex(vertex)
            file.write(event)
    return path


@pytest.mark.skipif(not FASTJET, reason="FastJet is not installed")
@pytest.mark.skipif(importlib.util.find_spec("pyhepmc") is None, reason="pyhepmc is not installed")
@pytest.mark.parametrize("unit", ["GEV", "MEV"])
def test_visible_particles_of_hepmc_events_are_clustered(tmp_path: Path, unit: str) -> None:
    events, _ = dijets(10)
    table = Samples(run(olympics(tmp_path / "e.h5", events, None)).out)
    wanted = {name: table.column(name) for name in ("pt", "pt_2", "m_jj", "n_constituents")}
    samples = Samples(run(hepmc(tmp_path / "e.hepmc", events.reshape(10, -1, 3), unit)).out)
    for name, values in wanted.items():
        np.testing.assert_allclose(samples.column(name), values, rtol=1e-6)
    np.testing.assert_array_equal(samples.column("event"), 100 + np.arange(10))
    assert (samples.column("weight") == 0.5).all()


@pytest.mark.skipif(importlib.util.find_spec("pyhepmc") is None, reason="pyhepmc is not installed")
def test_hepmc_files_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    file = hepmc(tmp_path / "e.hepmc", dijets(5)[0].reshape(5, -1, 3))
    whole = file.read_bytes()
    for end, message in ((len(whole) // 2, "was cut off"), (0, "was cut off")):
        file.write_bytes(whole[:end])
        with pytest.raises(InputError, match=message):
            run(file)
    file.write_bytes(whole)
    with pytest.raises(InputError, match="whole events, which are clustered"):
        run(file, mode="jets")


# Real data.


def test_real_jets_are_ingested(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "jets_qcd_vs_tau" / "jets_10k_each.npz"
    report = ingest("jets", [source], tmp_path / "s.h5", quiet=True)
    samples = Samples(report.out)
    assert (len(samples), report.skipped) == (20_000, [])
    qcd = samples.column("source") == "hardqcd"
    count = samples.column("n_constituents")
    assert (np.median(count[qcd]), np.median(count[~qcd])) == (11, 3)
    assert np.quantile(samples.column("pt"), 0.05) > 45
    assert np.quantile(np.abs(samples.column("eta")), 0.99) < 2.6
