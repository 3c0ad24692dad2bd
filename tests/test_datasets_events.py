"""Events from the Higgs challenge's files and from tables with a map: stored as given, refused where they cannot be."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from lookalike.datasets import IngestReport, event_blocks, ingest
from lookalike.datasets.event_rules import energy_unit
from lookalike.errors import InputError, LookalikeError
from lookalike.events import ALL_DERIVED, PARTICLE, PRIMITIVES, TYPES
from lookalike.samples import Samples

NAMES = tuple(PRIMITIVES)
HEADER = ["EventId", *ALL_DERIVED, *PRIMITIVES, "Weight", "Label"]
Row = dict[str, Any]


def row(number: int, jets: int = 2, **changes: Any) -> Row:
    """One event as the files have it."""
    found: Row = {"EventId": 100000 + number} | dict.fromkeys((*ALL_DERIVED, *PRIMITIVES), -999.0)
    found |= {"DER_mass_MMC": 120.5 + number, "DER_mass_vis": 80.25, "DER_pt_ratio_lep_tau": 1.5}
    found |= {"PRI_tau_pt": 32.5, "PRI_tau_eta": 1.017, "PRI_tau_phi": 0.381, "PRI_lep_pt": 51.5}
    found |= {"PRI_lep_eta": 2.27, "PRI_lep_phi": -2.414, "PRI_met": 16.75, "PRI_met_phi": -0.277}
    found |= {"PRI_met_sumet": 258.75, "PRI_jet_num": jets, "PRI_jet_all_pt": (0, 67.5, 113.5, 150.0)[jets]}
    if jets:
        found |= {"PRI_jet_leading_pt": 67.5, "PRI_jet_leading_eta": 2.15, "PRI_jet_leading_phi": 0.444}
    if jets > 1:
        found |= {"PRI_jet_subleading_pt": 46.0, "PRI_jet_subleading_eta": 1.24, "PRI_jet_subleading_phi": -2.475}
    return found | {"Weight": (-1) ** number * 0.000814, "Label": "sb"[number % 2]} | changes


@pytest.fixture
def higgs(tmp_path: Path) -> Callable[..., IngestReport]:
    """Write rows as a CSV file of the challenge and ingest it."""

    def run(rows: list[Row], header: list[str] | None = None, **options: Any) -> IngestReport:
        names = header or HEADER
        lines = [",".join(names), *(",".join(str(each[name]) for name in names) for each in rows)]
        (tmp_path / "training.csv").write_text("\n".join(lines) + "\n")
        options = {"quiet": True, "overwrite": True} | options
        return ingest("higgsml", [tmp_path / "training.csv"], tmp_path / "s.h5", **options)

    return run


def test_the_contests_file_is_stored_as_it_is(higgs: Callable[..., IngestReport]) -> None:
    rows = [row(0), row(1, jets=0), row(2, jets=1), row(3, jets=3)]
    report = higgs(rows)
    samples = Samples(report.out)
    assert (samples.layout, samples.about.bands, samples.about.domain) == ("features", NAMES, "event")
    assert samples.about.units == tuple(column.unit for column in PRIMITIVES.values())
    assert samples.ids.tolist() == [b"100000", b"100001", b"100002", b"100003"]
    wanted = np.array([[each[name] for name in NAMES] for each in rows], np.float64)
    np.testing.assert_array_equal(samples.objects(slice(None)), np.where(wanted == -999, np.nan, wanted).astype("f4"))
    assert samples.column("weight").tolist() == [0.000814, -0.000814, 0.000814, -0.000814]
    assert samples.column("label").tolist() == ["s", "b", "s", "b"]
    np.testing.assert_array_equal(samples.column("DER_mass_MMC"), [120.5, 121.5, 122.5, 123.5])
    assert np.isnan(samples.column("DER_mass_jet_jet")).all()
    assert samples.columns["DER_mass_vis"].unit == "GeV"
    assert not set(samples.columns) & {*PRIMITIVES, "Weight", "Label", "kaggle_set"}
    assert report.missing["DER_mass_jet_jet"] == 4


def test_the_open_datas_columns_and_a_test_file_without_labels(higgs: Callable[..., IngestReport]) -> None:
    both = [row(0, KaggleSet="t", KaggleWeight=0.00265), row(1, KaggleSet="v", KaggleWeight=-2.5)]
    samples = Samples(higgs(both, [*HEADER, "KaggleSet", "KaggleWeight"]).out)
    assert samples.column("kaggle_set").tolist() == ["t", "v"]
    assert samples.column("kaggle_weight").tolist() == [0.00265, -2.5]
    report = higgs([row(0) | {"Extra": 1}], [*HEADER[:-2], "Extra"])
    assert "label" not in Samples(report.out).columns
    assert "Left out, since they are no columns of the challenge: Extra." in report.notes


def test_particles_are_the_same_objects(higgs: Callable[..., IngestReport]) -> None:
    samples = Samples(higgs([row(0), row(1, jets=0, PRI_met=0.0)], layout="particles").out)
    assert (samples.layout, samples.about.bands, samples.shape) == ("particles", tuple(PARTICLE), (5, 6))
    first, second = samples.objects([0, 1])
    kinds = [TYPES[int(kind)] for kind in first[:, 4]]
    assert kinds == ["jet", "lepton", "jet", "tau", "met"]
    np.testing.assert_allclose(first[1, :4], [51.5, 2.27, -2.414, 0], rtol=1e-6)
    np.testing.assert_allclose(first[4], [16.75, 0, -0.277, 0, 0, 0], rtol=1e-6)
    assert [TYPES[int(kind)] for kind in second[:2, 4]] == ["lepton", "tau"]
    assert not second[2:].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PRI_tau_pt": -999.0}, "PRI_tau_pt is undefined"),
        ({"PRI_lep_phi": "nan"}, "PRI_lep_phi is undefined"),
        ({"PRI_met": "inf"}, "PRI_met is undefined"),
        ({"PRI_tau_pt": -3.0}, "PRI_tau_pt is not above 0"),
        ({"PRI_met": -3.0}, "PRI_met is negative"),
        ({"PRI_lep_phi": 181.0}, "PRI_lep_phi is an azimuth in rad, but lies beyond 2π; is it in degrees?"),
        ({"PRI_tau_eta": 40.0}, "PRI_tau_eta is beyond ±10"),
        ({"PRI_jet_num": 7}, "PRI_jet_num is none of 0 to 3"),
        ({"PRI_jet_num": 1}, "PRI_jet_subleading_pt is not defined where PRI_jet_num says"),
        ({"PRI_jet_leading_pt": -999.0}, "PRI_jet_leading_pt is not defined where PRI_jet_num says"),
        ({"PRI_jet_subleading_pt": 70.0}, "PRI_jet_subleading_pt is above PRI_jet_leading_pt"),
        ({"PRI_jet_all_pt": -999.0}, "PRI_jet_all_pt is undefined"),
        ({"Weight": "nan"}, "Weight is no finite number"),
        ({"Label": "x"}, "Label is neither s nor b"),
        ({"EventId": ""}, "EventId is blank"),
    ],
)
def test_impossible_rows_are_refused_or_counted_with_their_numbers(
    higgs: Callable[..., IngestReport], change: Row, message: str
) -> None:
    rows = [row(0), row(1), row(2, **change), row(3), row(4, **change)]
    with pytest.raises(InputError, match="row 3 .*" + message.replace("?", r"\?")):
        higgs(rows)
    report = higgs(rows, skip_bad=True)
    assert report.n == 3
    assert report.counts["events left out"] == 2
    (where, reason), *others = report.skipped
    assert not others
    assert where.endswith("rows 3, 5")
    assert message.split(";")[0] in reason


def test_azimuths_of_another_convention_are_wrapped_and_counted(higgs: Callable[..., IngestReport]) -> None:
    report = higgs([row(0, PRI_tau_phi=6.0), row(1, PRI_tau_phi=3.142)])
    assert report.counts == {"azimuths brought between -π and π": 1}
    phi = Samples(report.out).objects([0, 1])[:, NAMES.index("PRI_tau_phi")]
    np.testing.assert_allclose(phi, [6.0 - 2 * math.pi, 3.142 - 2 * math.pi], rtol=1e-5)


def test_units_are_never_guessed(higgs: Callable[..., IngestReport]) -> None:
    in_mev = [row(n) for n in range(3)]
    for each in in_mev:
        for name, column in {**PRIMITIVES, **ALL_DERIVED}.items():
            if column.unit == "GeV" and each[name] != -999:
                each[name] *= 1000
    with pytest.raises(InputError, match=r"above 42,000: if they are in MeV say --unit MeV"):
        higgs(in_mev)
    converted = Samples(higgs(in_mev, unit="MeV").out)
    plain = higgs([row(n) for n in range(3)], unit="GeV")
    np.testing.assert_allclose(converted.objects([0]), Samples(plain.out).objects([0]), rtol=1e-6)
    assert converted.column("DER_mass_vis")[0] == pytest.approx(80.25)
    with pytest.raises(InputError, match=r"said to be in MeV, but half of them would be below 0\.042 GeV"):
        higgs([row(0)], unit="MeV")
    with pytest.raises(InputError, match="Momenta are in GeV or MeV, but the unit 'TeV' was given"):
        higgs([row(0)], unit="TeV")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"EventId": "1 0"}, "the id is not 1 to 64 characters"),
        ({"EventId": "1" * 65}, "the id is not 1 to 64 characters"),
        ({"PRI_tau_pt": 1e39}, "PRI_tau_pt is above"),
        ({"PRI_tau_pt": 1e-50}, "PRI_tau_pt is not above 0"),
        ({"PRI_jet_subleading_pt": math.inf}, "PRI_jet_subleading_pt is not defined where"),
    ],
)
@pytest.mark.parametrize("layout", ["features", "particles"])
def test_what_no_float32_or_id_can_hold_is_a_fault_of_its_row(
    higgs: Callable[..., IngestReport], change: Row, message: str, layout: str
) -> None:
    rows = [row(0), row(1, 1, **change), row(2)]
    with pytest.raises(InputError, match="row 2 .*" + message):
        higgs(rows, layout=layout)
    report = higgs(rows, layout=layout, skip_bad=True)
    assert Samples(report.out).ids.tolist() == [b"100000", b"100002"]


def test_a_source_of_events_makes_events_alone(higgs: Callable[..., IngestReport]) -> None:
    with pytest.raises(InputError, match="makes samples of the domain event, but --domain galaxy was given"):
        higgs([row(0)], domain="galaxy")


def test_a_header_is_read_whatever_bytes_follow_it_at_a_blocks_end(tmp_path: Path) -> None:
    """The part of a file that its names are looked for in may end within a letter of two bytes."""
    (tmp_path / "map.json").write_text(json.dumps(FLAT | {"catalog": {"note": {"column": "kind", "text": True}}}))
    names, line = "Run,Event,kind,x,y,z,e,p,h,f,mx,my\n", "5,{},{},3,4,0,13,20,1,2,0,6\n"
    filled = names + line.format(1, "é" * (1 << 19)) + line.format(2, "b")
    assert filled.encode()[: 1 << 20].decode("utf-8", "ignore").encode() != filled.encode()[: 1 << 20]
    (tmp_path / "t.csv").write_text(filled, encoding="utf-8")
    report = ingest("events", [tmp_path / "t.csv"], tmp_path / "t.h5", columns=tmp_path / "map.json", quiet=True)
    assert Samples(report.out).ids.tolist() == [b"5:1", b"5:2"]


def test_files_that_are_none_are_refused(higgs: Callable[..., IngestReport], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown column 'PRI_met_phi'\. Did you mean 'PRI_tau_phi'"):
        higgs([row(0)], [name for name in HEADER if name != "PRI_met_phi"])
    with pytest.raises(InputError, match="two columns named 'PRI_met'"):
        higgs([row(0)], [*HEADER, "PRI_met"])
    with pytest.raises(InputError, match=r"cannot be read: .*seven"):
        higgs([row(0, PRI_met="seven")])
    with pytest.raises(InputError, match="occurs twice"):
        higgs([row(0), row(0)])
    with pytest.raises(InputError, match="Unknown layout 'tables'"):
        higgs([row(0)], layout="tables")
    (tmp_path / "cut.csv").write_text(",".join(HEADER) + "\n" + "100000,1.5,2.5\n")
    with pytest.raises(InputError, match="cannot be read"):
        ingest("higgsml", [tmp_path / "cut.csv"], tmp_path / "cut.h5", quiet=True)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="holds no rows"):
        ingest("higgsml", [tmp_path / "empty.csv"], tmp_path / "cut.h5", quiet=True)
    assert not (tmp_path / "cut.h5").exists()


def test_a_file_of_many_blocks_is_one_set(higgs: Callable[..., IngestReport], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(n, jets=n % 4, PRI_tau_pt=20 + n / 8) for n in range(300)]
    rows[250]["PRI_tau_pt"] = -1.0
    whole = Samples(higgs(rows, skip_bad=True).out)
    objects, digest = whole.objects(slice(None)), whole.content_hash
    monkeypatch.setattr(event_blocks, "CSV_BYTES", 4000)
    report = higgs(rows, skip_bad=True)
    assert report.skipped[0][0].endswith("row 251")
    in_parts = Samples(report.out)
    assert in_parts.content_hash == digest
    np.testing.assert_array_equal(in_parts.objects(slice(None)), objects)


def test_the_real_file_is_stored_whole(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "higgsml_atlas2014" / "events.csv"
    if not file.exists():
        pytest.skip("no events of the Higgs challenge")
    report = ingest("higgsml", [file], tmp_path / "s.h5", quiet=True)
    assert (report.n, report.skipped, report.counts) == (4995, [], {})
    assert report.missing["DER_mass_MMC"] == 618
    assert Samples(report.out).column("label").tolist().count("s") == 2485


# Tables with a map.

LISTS = """
weight = "w"
[[objects]]
type = "jet"
pt = "jet_pt"
eta = "jet_eta"
phi = "jet_phi"
mass = "jet_m"
btag = "jet_b"
[[objects]]
type = "muon"
pt = "mu_pt"
eta = "mu_eta"
phi = "mu_phi"
mass = 0.10566
[met]
pt = "met"
phi = "met_phi"
[catalog]
vertices = "nvtx"
"""


def lists(n: int = 6, seed: int = 0) -> dict[str, list[Any]]:
    """Events with i % 4 jets and i % 3 muons."""
    random = np.random.default_rng(seed)
    table: dict[str, list[Any]] = {name: [] for name in ("run", "lumi", "event", "w", "nvtx", "met", "met_phi")}
    for kind, every in (("jet", 4), ("mu", 3)):
        for part in ("pt", "eta", "phi", "m", "b"):
            low, high = {"pt": (5, 90), "m": (1, 9), "b": (-1, 1)}.get(part, (-2, 2))
            table[f"{kind}_{part}"] = [random.uniform(low, high, i % every).tolist() for i in range(n)]
    for i in range(n):
        for name, value in (("run", 1), ("lumi", 7), ("event", 2**40 + i), ("w", (-1) ** i / 3), ("nvtx", i)):
            table[name].append(value)
        table["met"].append(float(random.uniform(5, 50)))
        table["met_phi"].append(float(random.uniform(-3, 3)))
    return table


@pytest.fixture
def tabled(tmp_path: Path) -> Callable[..., IngestReport]:
    """Write a table as Parquet and ingest it by a map."""

    def run(table: dict[str, list[Any]], chosen: str = LISTS, unit: str = "", **options: Any) -> IngestReport:
        made = pyarrow.table(table)
        if unit:
            fields = [field.with_metadata({"unit": unit}) for field in made.schema]
            made = made.cast(pyarrow.schema(fields))
        parquet.write_table(made, tmp_path / "events.parquet")
        (tmp_path / "map.toml").write_text(chosen)
        options = {"quiet": True, "overwrite": True, "columns": tmp_path / "map.toml"} | options
        if "unit_given" in options:  # `unit` is the file's own
            options["unit"] = options.pop("unit_given")
        return ingest("events", [tmp_path / "events.parquet"], tmp_path / "e.h5", **options)

    return run


def slow_event(table: dict[str, list[Any]], i: int, places: int) -> np.ndarray:
    """One event object by object."""
    found = [
        [*(table[f"{kind}_{part}"][i][place] for part in ("pt", "eta", "phi")), mass, number, tag]
        for kind, number in (("jet", TYPES.index("jet")), ("mu", TYPES.index("muon")))
        for place in range(len(table[f"{kind}_pt"][i]))
        for mass in [table["jet_m"][i][place] if kind == "jet" else 0.10566]
        for tag in [max(0.0, table["jet_b"][i][place]) if kind == "jet" else 0.0]
    ]
    found.append([table["met"][i], 0, table["met_phi"][i], 0, 0, 0])
    found.sort(key=lambda each: -each[0])
    return np.array(found + [[0] * 6] * (places - len(found)), np.float32)


def test_lists_become_particles_in_order(tabled: Callable[..., IngestReport], monkeypatch: pytest.MonkeyPatch) -> None:
    table = lists(13)
    monkeypatch.setattr(event_blocks, "BLOCK_ROWS", 5)
    samples = Samples(tabled(table).out)
    assert samples.shape == (6, 6)  # 3 jets, 2 muons, the missing momentum
    for i in range(13):
        np.testing.assert_allclose(samples.objects([i])[0], slow_event(table, i, 6), rtol=1e-6)
    assert samples.id(3) == f"1:7:{2**40 + 3}"
    assert samples.column("weight").tolist() == table["w"]
    assert samples.column("vertices").tolist() == table["nvtx"]
    i = 11  # 3 jets and 2 muons
    pt = np.array(table["jet_pt"][i] + table["mu_pt"][i])
    assert samples.column("sum_pt")[i] == pytest.approx(pt.sum())
    eta, phi = (np.array(table[f"jet_{part}"][i] + table[f"mu_{part}"][i]) for part in ("eta", "phi"))
    m = np.array([*table["jet_m"][i], 0.10566, 0.10566])
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    energy = np.sqrt((p**2).sum(0) + m**2)
    mass = math.sqrt(energy.sum() ** 2 - (p.sum(1) ** 2).sum())
    assert samples.column("mass_visible")[i] == pytest.approx(mass)


def test_ids_that_occur_twice_are_named_with_a_way_out(tabled: Callable[..., IngestReport]) -> None:
    table = lists(6)
    table["event"][4] = table["event"][1]
    with pytest.raises(InputError, match=r"occurs twice: .*\b2\b.*\b5\b.*--id-column .* or 'row'"):
        tabled(table)
    report = tabled(table, id_column="row")
    assert Samples(report.out).ids.tolist() == [str(row).encode() for row in range(6)]
    assert report.notes == []
    table["row"] = [7 * row for row in range(6)]
    assert Samples(tabled(table, id_column="row").out).id(2) == "14"  # a column of that name comes first


def test_a_unit_other_than_the_maps_is_refused(tabled: Callable[..., IngestReport]) -> None:
    with pytest.raises(InputError, match="says that momenta are in MeV, but --unit GeV was given"):
        tabled(lists(), 'unit = "MeV"\n' + LISTS, unit_given="GeV")
    assert tabled(lists(), 'unit = "GeV"\n' + LISTS, unit_given="gev").n == 6


def test_faults_name_the_column_that_is_meant(tabled: Callable[..., IngestReport], tmp_path: Path) -> None:
    table = lists()
    table["mu_phi"][2][0] = 7.0
    with pytest.raises(InputError, match=r"row 3 .*mu_phi of a muon is an azimuth in rad"):
        tabled(table)
    table = lists()
    table["met_phi"][2] = 7.0
    with pytest.raises(InputError, match=r"row 3 .*met_phi of the missing momentum is an azimuth in rad"):
        tabled(table)
    with pytest.raises(InputError, match=r"'ptt'\. Did you mean 'pt'\? Choices: type, pt, eta, .*\(in objects\.0\)"):
        tabled(lists(), LISTS.replace("pt =", "ptt =", 1))
    with pytest.raises(InputError, match=r"NanoAOD's names .*It has: run, lumi, event, w, "):
        ingest("events", [tmp_path / "events.parquet"], tmp_path / "x.h5", quiet=True)


def test_the_softest_are_left_out_of_what_is_too_long(tabled: Callable[..., IngestReport]) -> None:
    table = lists(12)
    report = tabled(table, size=3)
    samples = Samples(report.out)
    assert samples.shape == (3, 6)
    assert report.counts["events with more particles than are stored, of which the softest are left out"] == 6
    for i, event in enumerate(samples.objects(slice(None))):
        whole = slow_event(table, i, 6)
        met = whole[:, 4] == 0
        hardest = whole[~met & (whole[:, 0] > 0)][:2]
        wanted = np.concatenate([hardest, whole[met & (whole[:, 0] > 0)]])
        wanted = wanted[np.argsort(-wanted[:, 0])]
        np.testing.assert_allclose(event[: len(wanted)], wanted, rtol=1e-6)


def test_units_come_from_attributes_or_options(tabled: Callable[..., IngestReport]) -> None:
    table = lists(12)
    plain = Samples(tabled(table).out).objects(slice(None))
    samples = Samples(tabled(in_mev(table), unit="MeV").out)  # by the columns' attributes
    np.testing.assert_allclose(samples.objects(slice(None)), plain, rtol=1e-5)
    with pytest.raises(InputError, match="if they are in MeV say --unit MeV"):
        tabled(in_mev(table))
    with pytest.raises(InputError, match=r"a number in GeV, and 105\.66 GeV is none of it"):
        tabled(in_mev(table), LISTS.replace("0.10566", "105.66"))


def in_mev(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same table with its momenta and masses in MeV."""
    return table | {
        name: [np.multiply(each, 1000).tolist() for each in table[name]] for name in ("jet_pt", "jet_m", "mu_pt", "met")
    }


def test_an_undefined_momentum_hides_no_wrong_unit(tabled: Callable[..., IngestReport]) -> None:
    table = in_mev(lists(12))
    table["jet_pt"][6][1] = math.nan
    with pytest.raises(InputError, match="if they are in MeV say --unit MeV"):
        tabled(table, skip_bad=True)


def test_a_first_block_without_objects_hides_no_wrong_unit(
    tabled: Callable[..., IngestReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = in_mev(lists(13))
    for name in table:
        if name.startswith(("jet_", "mu_")):
            table[name][:3] = [[], [], []]
    monkeypatch.setattr(event_blocks, "BLOCK_ROWS", 3)
    with pytest.raises(InputError, match="if they are in MeV say --unit MeV"):
        tabled(table)


def test_soft_objects_in_mev_are_known_by_the_hardest(tabled: Callable[..., IngestReport]) -> None:
    """Half of the momenta are below 3,000 MeV, as hardly any object's are in GeV; some are above 7,000."""
    table = lists(12)
    for i in range(12):
        table["jet_pt"][i] = [1500.0] * (i % 4)
        table["mu_pt"][i] = [(1800.0, 9000.0)[i > 9]] * (i % 3)
    with pytest.raises(InputError, match=r"one in a hundred .* say --unit MeV"):
        tabled(table)
    assert tabled(table, unit="GeV").n == 12


@pytest.mark.parametrize(
    ("said", "options", "message"),
    [
        ("TeV", {}, "says that its momenta are in 'TeV'; momenta are in GeV or MeV"),
        ("keV", {}, "says that its momenta are in 'keV'"),
    ],
)
def test_a_files_unit_that_is_not_read_is_refused(
    tabled: Callable[..., IngestReport], said: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tabled(lists(12), unit=said, **options)


def test_units_are_told_by_any_spelling_and_contradicted_by_none() -> None:
    path = Path("x.root")
    assert energy_unit(None, {"mev", "", "nJet"}, path) == ("MeV", 1e-3)
    assert energy_unit(None, {"GeV/c", "GeV/c2"}, path) == ("GeV", 1.0)
    assert energy_unit("gev", set(), path) == ("GeV", 1.0)
    assert energy_unit("MeV", {"MeV"}, path) == ("MeV", 1e-3)
    with pytest.raises(InputError, match="says that its momenta are in MeV, but the unit GeV was given"):
        energy_unit("GeV", {"MeV"}, path)
    with pytest.raises(InputError, match="says GeV and MeV of its momenta"):
        energy_unit("GeV", {"MeV", "GeV"}, path)


def test_undefined_whole_numbers_are_no_numbers(
    tabled: Callable[..., IngestReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_blocks, "BLOCK_ROWS", 5)
    table = lists(12)
    table["nvtx"][7], table["nvtx"][11] = -999, None
    report = tabled(table)
    expected = [math.nan if i in (7, 11) else float(i) for i in range(12)]
    np.testing.assert_array_equal(Samples(report.out).column("vertices"), expected)
    assert report.missing["vertices"] == 2
    whole = Samples(tabled(lists(12)).out).column("vertices")
    assert whole.dtype == np.int64


def test_an_event_without_any_object_is_refused_or_counted(tabled: Callable[..., IngestReport]) -> None:
    table = lists(13)
    assert not table["jet_pt"][0]
    assert not table["mu_pt"][0]
    table["met"][0] = 0.0
    with pytest.raises(InputError, match=r"row 1 .*the event has no object at all"):
        tabled(table)
    report = tabled(table, skip_bad=True)
    assert (report.n, report.counts["events left out"]) == (12, 1)


def test_categories_are_texts_and_other_types_are_named(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps(FLAT | {"id": "Event", "catalog": {}}))
    columns: dict[str, Any] = {name: [1.0, 2.0] for name in ("x", "y", "z", "p", "h", "f", "mx", "my")}
    kinds = pyarrow.array(["tt", "zz"]).dictionary_encode()
    table = pyarrow.table(columns | {"Event": [1, 2], "e": [9.0, 9.0], "kind": kinds})
    parquet.write_table(table, tmp_path / "t.parquet")
    options = {"columns": tmp_path / "map.json", "quiet": True, "overwrite": True}
    report = ingest("events", [tmp_path / "t.parquet"], tmp_path / "t.h5", **options)
    assert Samples(report.out).column("label").tolist() == ["tt", "zz"]
    days = pyarrow.array([0, 1], pyarrow.timestamp("s"))
    parquet.write_table(table.set_column(0, "x", days), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="Column 'x' holds timestamp"):
        ingest("events", [tmp_path / "t.parquet"], tmp_path / "t.h5", **options)


def test_texts_are_no_momenta(tabled: Callable[..., IngestReport]) -> None:
    table = lists(6)
    table["jet_pt"] = [[str(pt) for pt in event] for event in table["jet_pt"]]
    with pytest.raises(InputError, match="Lists of numbers are needed, but those of column 'jet_pt' hold others"):
        tabled(table)


def test_files_whose_rows_would_have_the_same_ids_are_refused_at_once(
    tabled: Callable[..., IngestReport], tmp_path: Path
) -> None:
    table = {name: values for name, values in lists(12).items() if name not in ("run", "lumi", "event")}
    tabled(table)
    (tmp_path / "more").mkdir()
    copy = tmp_path / "more" / "events.parquet"
    copy.write_bytes((tmp_path / "events.parquet").read_bytes())
    with pytest.raises(InputError, match="Two files make the same ids, events:0 and on"):
        ingest(
            "events",
            [tmp_path / "events.parquet", copy],
            tmp_path / "two.h5",
            columns=tmp_path / "map.toml",
            quiet=True,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jet_pt": -1.0}, "a jet .jet_pt. has a pT that is not above 0"),
        ({"jet_eta": math.nan}, "a jet .jet_pt. has an undefined momentum"),
        ({"jet_phi": 90.0}, "is an azimuth in rad, but lies beyond 2π"),
        ({"jet_eta": 12.0}, "is beyond"),
        ({"met": -2.0}, "the missing momentum is negative"),
        ({"met": math.nan}, "the missing momentum is undefined"),
        ({"jet_pt": 1e39}, "has a momentum, mass or tag above"),
        ({"jet_pt": 1e-50}, "a jet .jet_pt. has a pT that is not above 0"),
        ({"jet_b": math.inf}, "has an undefined momentum"),
        ({"met": 1e39}, "the missing momentum is above"),
        ({"w": math.nan}, "The weight is no finite number"),
        ({"jet_m": "short"}, "are lists of different lengths"),
    ],
)
def test_impossible_events_are_refused_or_counted(
    tabled: Callable[..., IngestReport], change: dict[str, Any], message: str
) -> None:
    table = lists(12)
    for name, value in change.items():
        if value == "short":
            table[name][6] = table[name][6][:-1]
        elif isinstance(table[name][6], list):
            table[name][6][1] = value
        else:
            table[name][6] = value
    with pytest.raises(InputError, match="row 7 .*" + message):
        tabled(table)
    report = tabled(table, skip_bad=True)
    assert (report.n, report.counts["events left out"]) == (11, 1)
    whole = lists(12)
    for i, event in enumerate(Samples(report.out).objects(slice(None))):
        np.testing.assert_allclose(event, slow_event(whole, i + (i >= 6), 6), rtol=1e-6)


FLAT = {
    "id": "Run:Event",
    "label": "kind",
    "undefined": -25,
    "objects": [
        {"type": "electron", "px": "x", "py": "y", "pz": "z", "energy": "e"},
        {"type": "jet", "pt": "p", "eta": "h", "phi": "f"},
    ],
    "met": {"px": "mx", "py": "my"},
    "catalog": {"mass": {"column": "M", "unit": "GeV", "description": "of the file"}},
}


def test_columns_of_numbers_and_four_momenta(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps(FLAT))
    lines = [
        "Run,Event,kind,x,y,z,e,p,h,f,mx,my,M",
        "5,34442568,a,3,4,0,13,20,1,2,0,6,91.5",
        "5,2,b,3,-4,12,13,-25,-25,-25,8,0,1",
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    report = ingest("events", [tmp_path / "t.csv"], tmp_path / "t.h5", columns=tmp_path / "map.json", quiet=True)
    samples = Samples(report.out)
    assert samples.ids.tolist() == [b"5:34442568", b"5:2"]
    assert samples.column("label").tolist() == ["a", "b"]
    assert samples.columns["mass"].unit == "GeV"
    first, second = samples.objects([0, 1])
    electron, jet, met = (float(TYPES.index(name)) for name in ("electron", "jet", "met"))
    np.testing.assert_allclose(first[0], [20, 1, 2, 0, jet, 0], rtol=1e-6)
    np.testing.assert_allclose(first[1], [6, 0, math.pi / 2, 0, met, 0], rtol=1e-6)
    np.testing.assert_allclose(first[2], [5, 0, math.atan2(4, 3), 12, electron, 0], rtol=1e-6)
    np.testing.assert_allclose(second[1, :4], [5, math.asinh(12 / 5), math.atan2(-4, 3), 0], rtol=1e-6, atol=1e-6)
    assert not second[2].any()
    assert report.counts["objects that are undefined, and so not there"] == 1
    (tmp_path / "t.csv").write_text("\n".join([lines[0], lines[2].replace("-25,-25,-25", "-25,1,-25")]))
    with pytest.raises(InputError, match=r"a jet .p. has an undefined momentum"):
        ingest("events", [tmp_path / "t.csv"], tmp_path / "u.h5", columns=tmp_path / "map.json", quiet=True)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("", r"a map names \[\[objects\]\]"),
        ("[met]\npt='met'\nphi='met_phi'", r"a map names \[\[objects\]\]"),
        (LISTS.replace('eta = "jet_eta"\n', ""), "objects have pt, eta, phi, or else px, py, pz, energy"),
        (LISTS.replace('phi = "met_phi"\n', ""), "the missing momentum has pt and phi, or else px and py"),
        (LISTS.replace('"jet"', '"quark"'), "type"),
        (LISTS.replace('"jet_eta"', '"jet_etas"'), "Unknown column 'jet_etas'. Did you mean 'jet_eta'"),
        (LISTS.replace('pt = "met"', 'pt = "mu_pt"'), "A number for each event is needed, but column 'mu_pt'"),
        (LISTS.replace('mass = "jet_m"', 'mass = "met"'), "All numbers of a jet are in lists, or none is"),
        (LISTS.replace('"nvtx"', '"jet_b"'), "A catalog column has one value for each event, but 'jet_b'"),
        (LISTS.replace("mass = 0.10566", "mass = 105.66"), "the mass of a muon is a number in GeV, and 105.66 GeV"),
        (LISTS.replace("vertices =", '"a/b" ='), "letters, digits and _ alone, but 'a/b' was given"),
        ("[features]\nPRI_tau_pt = 'met'", "features need all primitives but PRI_met_sumet, and PRI_tau_eta"),
    ],
)
def test_maps_that_do_not_fit_are_refused(tabled: Callable[..., IngestReport], chosen: str, message: str) -> None:
    with pytest.raises(LookalikeError, match=message):
        tabled(lists(), chosen)


def test_tables_without_a_map_say_what_to_do(tabled: Callable[..., IngestReport], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="say with --columns what its columns are"):
        tabled(lists(), columns=None)
    (tmp_path / "events.xls").write_text("")
    with pytest.raises(InputError, match="Events come in files that end in"):
        ingest("events", [tmp_path / "events.xls"], tmp_path / "x.h5", quiet=True)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        ingest("events", [tmp_path / "torn.parquet"], tmp_path / "x.h5", quiet=True)


def test_root_without_its_packages_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uproot", None)
    (tmp_path / "a.root").write_bytes(b"root")
    with pytest.raises(InputError, match=r"ROOT files are read with uproot, which is not installed: .*pip.*hep"):
        ingest("events", [tmp_path / "a.root"], tmp_path / "x.h5", quiet=True)


@pytest.mark.skipif(importlib.util.find_spec("uproot") is None, reason="the extra hep is not installed")
def test_nanoaod_needs_no_map(tmp_path: Path, shared_data: Path) -> None:
    """Jets, leptons and missing momentum by the branches' names; counts as the file's own."""
    import uproot

    file = shared_data / "cms_simulated_root" / "nano_tt_v12.root"
    if not file.exists():
        pytest.skip("no simulated events")
    report = ingest("events", [file], tmp_path / "e.h5", quiet=True)
    samples = Samples(report.out)
    tree = uproot.open(file)["Events"]
    names = ("nJet", "nElectron", "nMuon", "event", "genWeight", "MET_pt")
    own = {name: tree[name].array(library="np") for name in names}
    assert report.n == len(own["event"])
    assert samples.id(5).endswith(f":{own['event'][5]}")
    np.testing.assert_allclose(samples.column("weight"), own["genWeight"])
    events = samples.objects(slice(None))
    for name, kind in (("nJet", "jet"), ("nMuon", "muon"), ("nElectron", "electron")):
        there = (events[..., 4] == TYPES.index(kind)) & (events[..., 0] > 0)
        assert there.sum(1).tolist() == own[name].tolist()
    met = ((events[..., 4] == 0) * events[..., 0]).sum(1)
    np.testing.assert_allclose(met, own["MET_pt"], rtol=1e-6)
    damaged = tmp_path / "cut.root"
    damaged.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(InputError, match="cannot be read"):
        ingest("events", [damaged], tmp_path / "c.h5", quiet=True)
