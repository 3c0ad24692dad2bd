"""An index of vectors from elsewhere: what is read, stored, refused and collected, and that all that follows works.

pytest tests/test_indexer_own_vectors.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable
from hypothesis import given
from hypothesis import strategies as st

from lookalike.client import Client
from lookalike.embeddings import Embeddings, normalize
from lookalike.errors import CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.indexer.audit import verify
from lookalike.indexer.collect import collect
from lookalike.indexer.grow import GrowSettings, append, retract
from lookalike.indexer.index import Index
from lookalike.indexer.own_vectors import _scaled, index_vectors
from lookalike.indexer.search import Searcher
from lookalike.info import describe
from lookalike.samples import Samples
from lookalike.service.app import create_app
from lookalike.summary import summary
from lookalike.webapp import gallery
from lookalike.webapp.state import State

N, D = 40, 6
Run = Callable[..., subprocess.CompletedProcess[str]]


def drawn(n: int = N, d: int = D) -> Any:
    return np.random.default_rng(3).normal(size=(n, d)).astype(np.float32)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with v.npy and t.csv, in which the process works."""
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", drawn())
    mag = np.round(np.random.default_rng(4).uniform(20, 21, N), 3)
    rows = [f"{10**17 + i},{'' if i == 7 else mag[i]},{'=1+1' if i == 2 else 'round'}" for i in range(N)]
    Path("t.csv").write_text("objid,mag,label\n" + "\n".join(rows) + "\n")
    return tmp_path


def build(out: str = "I", vectors: str = "v.npy", **options: Any) -> Any:
    given = {"catalog": Path("t.csv"), "id_column": "objid", "k": 5, "window": "mag:0.3"} | options
    return index_vectors(Path(vectors), Path(out), quiet=True, **given)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_index_holds_what_the_definition_says(own: Path) -> None:
    report = build()
    unit = normalize(drawn()).astype(np.float32)
    index = Index(Path("I"))
    assert (Embeddings(report.embeddings).vectors == unit).all()
    assert report.built.k == 5
    mag = np.genfromtxt("t.csv", delimiter=",", skip_header=1, usecols=1)
    exact = unit.astype(np.float64) @ unit.T.astype(np.float64)
    for i in range(N):
        inside = [j for j in range(N) if j != i and abs(mag[j] - mag[i]) <= 0.3]
        best = sorted(inside, key=lambda j: (-np.float32(exact[i, j]), j))[:5]
        assert index.neighbor_row[i].tolist() == best + [-1] * (5 - len(best))
    assert verify(Path("I"), quiet=True).recall == 1.0
    assert files(Path("I/inputs")) == {report.embeddings.name, report.samples[0].name}


def test_searching_and_the_service_go_on_without_pictures(own: Path, serving: Any) -> None:
    build()
    searcher = Searcher(Path("I"))
    name = str(10**17 + 3)
    found = searcher.neighbors(name, 3, columns=["mag", "label"])
    assert found.results[0].columns["label"] == "round"
    assert searcher.by_vector(drawn()[3], 1).results[0].id == name
    with serving(create_app(searcher)) as url, Client(url) as client:
        index = client.index()
        assert (index.layout, index.stretches, index.shape) == ("catalog", (), ())
        assert client.neighbors(name, 2).results[0].id == found.results[0].id
        assert httpx.get(f"{url}/v1/objects/{name}", trust_env=False).json()["thumbnail"] is None
        for path in (f"objects/{name}/thumbnail.jpg", f"contact-sheet.jpg?ids={name}"):
            answer = httpx.get(f"{url}/v1/{path}", trust_env=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_pictures")
        data = gallery.result_data(
            url, index, client.object(name), client.neighbors(name, 2, columns=["mag"]), State(name)
        )
    assert data["pictures"] is False
    assert data["tiles"][0]["facts"][0]["name"] == "mag"


def test_a_card_does_not_repeat_the_id() -> None:
    tile = gallery._tile("a7", "0.9", {"name": "a7", "mag": 20.5, "x": None}, {"mag": "mag"}, "mag", State())
    assert tile["facts"] == [{"name": "mag", "value": "20.50 mag"}, {"name": "x", "value": "–"}]


def test_info_says_that_there_are_ids_and_columns_alone(own: Path) -> None:
    report = build()
    assert "ids and columns alone" in summary(report.samples[0])
    assert describe(report.samples[0])["catalog"] == "ids and columns alone"
    samples = Samples(report.samples[0])
    samples.verify()
    assert (samples.layout, samples.shape, samples.size) == ("catalog", (), 0)
    with pytest.raises(InputError, match="no images, particles or features"):
        samples.objects([0])


def test_nothing_is_trained_on_where_nothing_is_stored(own: Path, command: Run) -> None:
    report = build()
    done = command("train", report.samples[0], "--out", "c")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nothing is stored of their objects to train on" in done.stderr


def write_npz(path: Path, vectors: Any) -> None:
    np.savez_compressed(path, other=np.zeros(3), vectors=vectors)


def write_hdf5(path: Path, vectors: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("deep/vectors", data=vectors, chunks=(7, vectors.shape[1]), compression="gzip")


def write_lists(path: Path, vectors: Any) -> None:
    pyarrow.parquet.write_table(pa.table({"n": range(len(vectors)), "v": pa.array(list(vectors))}), path)


def write_fixed(path: Path, vectors: Any) -> None:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    pyarrow.parquet.write_table(pa.table({"v": flat}), path, row_group_size=9)


WAYS: dict[str, Callable[[Path, Any], None]] = {
    "fortran.npy": lambda path, vectors: np.save(path, np.asfortranarray(vectors)),
    "big.npy": lambda path, vectors: np.save(path, vectors.astype(">f4")),
    "double.npy": lambda path, vectors: np.save(path, vectors.astype(np.float64)),
    "a.npz": write_npz,
    "a.h5": write_hdf5,
    "lists.parquet": write_lists,
    "fixed.parquet": write_fixed,
}


@pytest.mark.parametrize("name", WAYS)
def test_every_format_makes_the_same_index(own: Path, name: str) -> None:
    WAYS[name](Path(name), drawn())
    assert build("J", name).built.content_hash == build().built.content_hash


def test_float16_is_kept_unless_another_type_is_asked_for(own: Path) -> None:
    half = drawn().astype(np.float16)
    np.save("h.npy", half)
    stored = Embeddings(build("H", "h.npy").embeddings).vectors
    assert stored.dtype == np.float16
    assert (stored == normalize(half).astype(np.float16)).all()
    assert Embeddings(build("W", "h.npy", dtype="float32").embeddings).vectors.dtype == np.float32


def test_a_fits_table_keeps_units_and_undefined_values(own: Path) -> None:
    table = AstropyTable()
    table["name"] = [f"s{i}" for i in range(N)]
    table["mag"] = MaskedColumn(np.linspace(20, 21, N).astype(">f4"), mask=np.arange(N) == 5, unit="mag")
    table["mag"].description = "AB magnitude"
    table["count"] = MaskedColumn(np.arange(N, dtype=">i4"), mask=np.arange(N) == 6)
    table["big"] = np.arange(N, dtype=np.int64) + 2**60
    table.write("t.fits")
    report = build(catalog=Path("t.fits"), id_column="name")
    samples = Samples(report.samples[0])
    assert (samples.id(1), samples.columns["mag"].unit) == ("s1", "mag")
    assert samples.columns["mag"].description == "AB magnitude"
    assert np.flatnonzero(np.isnan(samples.column("mag"))).tolist() == [5]
    assert np.flatnonzero(np.isnan(samples.column("count"))).tolist() == [6]
    assert samples.column("big").tolist() == [2**60 + i for i in range(N)]


def test_a_table_beside_the_vectors_in_one_parquet_file(own: Path) -> None:
    columns = {"name": [f"p{i}" for i in range(N)], "mag": np.linspace(20, 21, N), "v": pa.array(list(drawn()))}
    pyarrow.parquet.write_table(pa.table(columns), "both.parquet")
    report = build(vectors="both.parquet", catalog=Path("both.parquet"), id_column="name")
    assert "Column 'v' of both.parquet is left out" in " ".join(report.notes)
    assert list(Samples(report.samples[0]).columns) == ["mag", "name"]


def test_rows_are_named_by_number_and_a_catalog_is_not_needed(own: Path) -> None:
    report = build(id_column=None)
    assert f"0 to {N - 1}" in report.notes[0]
    assert Samples(report.samples[0]).ids.astype(str).tolist() == [str(i) for i in range(N)]
    bare = build("B", catalog=None, id_column=None, window=None)
    assert Samples(bare.samples[0]).columns == {}
    assert Searcher(Path("B")).neighbors("39", 5).results


def test_vectors_of_samples_of_ours_keep_their_pictures(own: Path, vector_set: Any) -> None:
    _, shards = vector_set(drawn(), {"mag": np.linspace(20, 21, N)}, shards={"a.h5": 30, "b.h5": 10})
    report = build(samples=shards, catalog=None, id_column=None)
    assert report.samples == tuple(Samples(shards).paths)
    searcher = Searcher(Path("I"))
    assert (searcher.samples.layout, searcher.samples.id(3)) == ("images", "o3")
    assert files(Path("I/inputs")) == {report.embeddings.name}
    with pytest.raises(InputError, match=r"a.h5 has 30 objects and v.npy 40 vectors"):
        build("J", samples=shards[:1], catalog=None, id_column=None)


def save(change: Callable[[Any], None], dtype: str = "float32") -> str:
    vectors = drawn().astype(dtype)
    change(vectors)
    np.save("bad.npy", vectors)
    return "bad.npy"


def put(value: float, *rows: int) -> Callable[[Any], None]:
    def change(vectors: Any) -> None:
        vectors[list(rows), 0 if value else slice(None)] = value

    return change


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: {"vectors": save(put(np.nan, 3, 17))}, r"2 vectors with NaN \(rows 3, 17\)"),
        (lambda: {"vectors": save(put(np.inf, 9))}, r"1 vector with infinity \(row"),
        (lambda: {"vectors": save(put(0, 0), "float16")}, r"1 vector with zeros alone \(rows 0\)"),
        (lambda: {"k": N}, f"k is 1 to {N - 1} for {N} objects, one less than there are, but {N} was given"),
        (lambda: {"window": "size:1"}, "Unknown column 'size'. Choices: objid, mag, label"),
        (lambda: {"window": "label:1"}, "'label' holds text"),
        (lambda: {"window": "mag"}, "column:half-width"),
        (lambda: {"id_column": "name"}, "Unknown column of t.csv 'name'. Choices: objid, mag, label"),
        (lambda: {"id_column": "mag"}, "1 row of t.csv holds another in mag: 7 "),
        (lambda: {"id_column": "label"}, "1 row of t.csv holds another in label: 2 .*'=1.1'"),
        (lambda: {"id_column": None, "catalog": Path("missing.csv")}, "No such file: missing.csv"),
        (lambda: {"catalog": None}, "came without one"),
        (lambda: {"vectors": "t.csv"}, "come in .npy, .npz, .parquet"),
        (lambda: {"vectors": "none.npy"}, "No such file: none.npy"),
        (lambda: {"array": "x"}, "holds one array"),
        (lambda: {"dtype": "int8"}, "float32 or float16, but 'int8'"),
        (lambda: {"samples": [Path("s.h5")]}, "both were given"),
        (lambda: {"checkpoint": Path("c")}, "leave it out"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    own: Path, wrong: Callable[[], dict[str, Any]], message: str
) -> None:
    options = wrong()
    before = files(own)
    with pytest.raises(LookalikeError, match=message) as error:
        build(**options)
    assert isinstance(error.value, InputError | NotFoundError)
    assert files(own) == before


def test_a_window_that_no_object_has_a_value_for_is_refused(own: Path) -> None:
    Path("n.csv").write_text("mag,flux\n" + ",-1\n" * N)
    for window, message in (("mag:1", "none of 40 has a number in 'mag'"), ("log(flux):1", "above 0 in 'flux'")):
        with pytest.raises(InputError, match=message):
            build(catalog=Path("n.csv"), id_column=None, window=window)
    assert not Path("I").exists()


def test_rows_and_ids_of_the_table_are_checked(own: Path) -> None:
    lines = Path("t.csv").read_text().splitlines()
    Path("short.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match=r"short.csv has 39 rows and v.npy 40 vectors"):
        build(catalog=Path("short.csv"))
    Path("twice.csv").write_text("\n".join([*lines[:-1], lines[4]]) + "\n")
    with pytest.raises(InputError, match=r"'100000000000000003' in rows 3 and 39 \(counted from 0\)") as error:
        build(catalog=Path("twice.csv"))
    assert error.value.code == "duplicate_id"
    Path("odd.csv").write_text("objid,mag\n" + "\n".join(f"a b{i},20" for i in range(N)) + "\n")
    with pytest.raises(InputError, match=r"40 rows of odd.csv hold another in objid: 0, 1, 2, 3, 4, …"):
        build(catalog=Path("odd.csv"))
    Path("ragged.csv").write_text("\n".join([*lines[:5], "1,2", *lines[6:]]) + "\n")
    with pytest.raises(InputError, match="Each vector needs its row"):
        build(catalog=Path("ragged.csv"))
    assert not Path("I").exists()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((3, 4, 5)), r"shape \(N, D\), but x.npy is \(3, 4, 5\)"),
        (np.zeros((0, 4)), "is empty"),
        (np.array([["a", "b"]]), "numbers"),
        (np.array([[True, False]]), "numbers"),
        (np.ones((2, 3), complex), "numbers"),
        (np.ones((1, 3)), "at least 2 objects"),
    ],
)
def test_arrays_that_are_no_vectors(own: Path, vectors: Any, message: str) -> None:
    np.save("x.npy", vectors)
    with pytest.raises(InputError, match=message):
        build(vectors="x.npy", catalog=None, id_column=None, window=None, k=None)


def test_files_that_hold_several_arrays_or_broken_ones(own: Path) -> None:
    np.savez("two.npz", a=drawn(), b=drawn()[::-1])
    with pytest.raises(InputError, match="--array with the name of one; it holds: a, b"):
        build(vectors="two.npz")
    assert build("A", "two.npz", array="a").built.content_hash == build("B").built.content_hash
    with pytest.raises(InputError, match=r"Unknown array of two.npz 'c'"):
        build(vectors="two.npz", array="c")
    rows = [[1.0, 2.0]] * 30 + [[1.0]] + [[1.0, 2.0]] * 9
    pyarrow.parquet.write_table(pa.table({"v": rows}), "uneven.parquet")
    with pytest.raises(InputError, match=r"2 in row 0 of .*uneven.parquet.*, but row 30 holds 1"):
        build(vectors="uneven.parquet")
    whole = Path("v.npy").read_bytes()
    Path("cut.npy").write_bytes(whole[:-4])
    with pytest.raises(InputError, match="declares 960 bytes of values, but holds 956"):
        build(vectors="cut.npy")
    Path("cut.parquet").write_bytes(Path("uneven.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        build(vectors="cut.parquet")
    assert not Path("I").exists()


@given(st.lists(st.floats(-1.7e308, 1.7e308).filter(bool), min_size=2, max_size=6))
def test_vectors_of_any_size_keep_their_direction(numbers: list[float]) -> None:
    vector = np.array([numbers])
    unit = normalize(_scaled(vector.copy(), np.abs(vector).max(axis=1)))
    exact = np.array(numbers) / np.abs(numbers).max()
    np.testing.assert_allclose(unit[0], exact / np.sqrt((exact**2).sum()), rtol=1e-14, atol=1e-300)


def test_inputs_are_shared_by_versions_and_collected_with_them(own: Path) -> None:
    first = build()
    second = build(window="mag:0.2")
    assert (first.embeddings, first.samples) == (second.embeddings, second.samples)
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace("round", "oval"))
    third = build(window="mag:0.2")
    assert third.embeddings == first.embeddings
    assert third.samples != first.samples
    assert build(window="mag:0.2").built.reused
    Path("I/inputs/.embeddings-0.h5.partial").touch()
    assert collect(Path("I"), keep=1, dry_run=True).removed == (
        "versions/v000001",
        "versions/v000002",
        "extras/v000001",
        "extras/v000002",
        "inputs/.embeddings-0.h5.partial",
        f"inputs/{first.samples[0].name}",
    )
    collect(Path("I"), keep=2)
    assert first.samples[0].exists()
    collect(Path("I"), keep=1)
    assert files(Path("I/inputs")) == {third.embeddings.name, third.samples[0].name}
    assert verify(Path("I"), quiet=True).recall == 1.0


def test_own_vectors_grow_and_shrink_and_gc_keeps_what_they_need(own: Path) -> None:
    vectors, lines = drawn(), Path("t.csv").read_text().splitlines()
    whole = build("W")
    for name, rows in (("old", slice(0, 30)), ("new", slice(30, N))):
        np.save(f"{name}.npy", vectors[rows])
        Path(f"{name}.csv").write_text("\n".join([lines[0], *lines[1:][rows]]) + "\n")
    old = build(vectors="old.npy", catalog=Path("old.csv"))
    new = build("NEW", vectors="new.npy", catalog=Path("new.csv"))
    grown = append(Path("I"), new.embeddings, new.samples, GrowSettings(quiet=True))
    assert (grown.version, grown.n) == ("v000002", N)
    assert verify(Path("I"), quiet=True).recall == 1.0

    def told(out: str, name: str) -> list[tuple[str, float]]:
        return [(one.id, one.similarity) for one in Searcher(Path(out)).neighbors(name, 5).results]

    names = [str(10**17 + i) for i in range(N)]
    assert [told("I", name) for name in names] == [told("W", name) for name in names]
    assert whole.built.k == grown.k
    removed = collect(Path("I"), keep=1).removed
    assert f"inputs/{old.embeddings.name}" in removed
    assert files(Path("I/inputs")) == {old.samples[0].name}  # which the grown version still needs
    assert verify(Path("I"), quiet=True).recall == 1.0
    shrunk = retract(Path("I"), names[20:35], GrowSettings(quiet=True))
    assert shrunk.n == N - 15
    assert verify(Path("I"), quiet=True).recall == 1.0
    assert Searcher(Path("I")).neighbors(names[0], 5, columns=["label"]).results[0].columns["label"] == "round"
    with pytest.raises(NotFoundError):
        Searcher(Path("I")).neighbors(names[20], 5)
    collect(Path("I"), keep=1)
    assert files(Path("I/inputs")) == set()  # both shards lost objects, so that copies are used


def test_altered_inputs_are_found_and_written_anew(own: Path) -> None:
    report = build()
    data = bytearray(report.embeddings.read_bytes())
    data[-1500] ^= 1
    report.embeddings.write_bytes(bytes(data))
    with pytest.raises(CorruptError, match="embeddings-"):
        verify(Path("I"), quiet=True)
    build(window="mag:0.1")
    assert verify(Path("I"), quiet=True).recall == 1.0


KILLED = """
from pathlib import Path
from lookalike.indexer.own_vectors import index_vectors
index_vectors(Path("v.npy"), Path("I"), catalog=Path("t.csv"), id_column="objid", k=5, window="mag:0.3", quiet=True)
"""


@pytest.mark.parametrize("point", ["samples.h5.partial.written", "embeddings.block", "index.block", "index.version"])
def test_a_killed_build_is_begun_again(own: Path, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | {"LOOKALIKE_KILL_AT": point}, check=False, timeout=120
    )
    assert done.returncode == -9
    killed = build()
    assert killed.built.content_hash == build("J").built.content_hash
    assert files(Path("I/inputs")) == files(Path("J/inputs"))
    assert verify(Path("I"), quiet=True).recall == 1.0


def test_a_failed_build_leaves_the_served_version_and_its_inputs(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike.indexer import own_vectors

    first = build()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own_vectors, "build_index", fail)
    Path("t.csv").write_text(Path("t.csv").read_text().replace("round", "oval"))
    for out in ("I", "new"):
        with pytest.raises(OSError, match="No space"):
            build(out)
    assert not Path("new").exists()
    assert files(Path("I/inputs")) == {first.embeddings.name, first.samples[0].name}
    assert verify(Path("I"), quiet=True).recall == 1.0


def test_vectors_are_read_in_bounded_memory(own: Path) -> None:
    n, d = 400_000, 64  # 102 MB
    with Path("large.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (n, d)})  # type: ignore[arg-type]
        block = np.random.default_rng(0).normal(size=(n // 20, d)).astype(np.float32)
        for _ in range(20):
            file.write(block.tobytes())
    code = """
import resource, sys
from pathlib import Path
from lookalike.indexer import own_vectors as own
from lookalike.datasets.vectors import open_vectors
import numpy as np
vectors = open_vectors(Path("large.npy"))
given = own._of_table(vectors, "float32", None, None)
Path("inputs").mkdir()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
digest = own._survey(given, True)
own._store_embeddings(Path("."), given, digest, True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 85 + 8, done.stdout  # blocks of 32 MiB read, 16 MiB worked on in a few copies


def test_the_command_line_says_which_options_go_together(own: Path, command: Run, vector_set: Any) -> None:
    done = command("index", "v.npy", "--catalog", "t.csv", "--id-column", "objid", "-k", "5", "--out", "I")
    assert (done.returncode, done.stdout) == (0, f"Index version v000001 of {N} objects, k = 5, in I\n")
    embeddings, shards = vector_set(drawn(), {"mag": np.linspace(20, 21, N)})
    for arguments, message in (
        (["v.npy", "--catalog", "t.csv", "--samples", shards[0], "--out", "J"], "both were given"),
        ([embeddings, "--catalog", "t.csv", "--out", "J"], "--catalog is for vectors of your own"),
        ([embeddings, "--out", "J"], "give them with --samples"),
        ([shards[0], "--samples", shards[0], "--out", "J"], "not an embeddings file"),
    ):
        done = command("index", *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
    assert not Path("J").exists()


def test_a_table_with_positions_is_found_on_the_sky(own: Path, command: Run) -> None:
    rows = [f"s{i},{150 + i / 100},2.0" for i in range(N)]
    Path("sky.csv").write_text("name,RA,Dec\n" + "\n".join(rows) + "\n")
    done = command("index", "v.npy", "--catalog", "sky.csv", "--id-column", "name", "-k", "5", "--out", "I")
    assert "Sky index of 40 positions" in done.stderr
    found = command("cone", "I", "--at", "150.2 2.0", "--radius", "1arcsec")
    assert (found.returncode, "s20" in found.stdout) == (0, True)
