"""The audit finds what is wrong with an index, byte by byte and list by list.

pytest tests/test_indexer_audit.py
"""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import random
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.files import lock
from lookalike.hashing import combine, content_hash
from lookalike.indexer import audit_report, audit_rows
from lookalike.indexer.audit import verify
from lookalike.indexer.audit_rows import choose, on_edge, recompute, rounded, window_values
from lookalike.indexer.index import build_index
from lookalike.indexer.similarity import exact
from lookalike.indexer.store import Index, publish
from lookalike.info import describe
from lookalike.summary import summary
from lookalike.wording import counted

ROOT = Path(__file__).resolve().parent.parent
Write = Callable[..., tuple[Path, list[Path]]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def index(vector_set: Write, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    mag = np.round(rng.normal(20, 0.5, 150), 3)
    mag[3] = np.nan
    vectors = rng.normal(size=(150, 6))
    vectors[40:44] = vectors[40]
    embeddings, samples = vector_set(vectors, {"mag": mag})
    build_index(embeddings, samples, tmp_path / "index", k=20, window="mag:0.3", quiet=True)
    return tmp_path / "index"


def test_a_sound_index_passes_and_the_report_is_kept(index: Path) -> None:
    report = verify(index, quiet=True)
    assert (report.recall, report.equal_similarities, report.lists) == (1.0, 1.0, 150)
    assert report.recomputed >= 100
    kept = json.loads((index / "extras/v000001/audit.json").read_text())
    assert kept == report.to_json()
    assert kept["content_hash"] == report.content_hash
    assert (kept["largest_difference"], kept["version"], kept["n"], kept["k"]) == (0.0, "v000001", 150, 20)
    assert kept["chosen"]["random"] == 100
    assert kept["chosen"]["without_value"] == 1


def test_of_two_audits_at_once_one_is_kept(index: Path) -> None:
    (index / "extras/v000001").mkdir(parents=True, exist_ok=True)
    with lock(index / "extras/v000001/audit.json"):
        report = verify(index, quiet=True)
        assert report.recall == 1.0
        assert "Another audit of this version" in report.notes[-1]
        assert not (index / "extras/v000001/audit.json").exists()


def test_at_least_a_hundred_rows_are_recomputed(index: Path) -> None:
    with pytest.raises(InputError, match="At least 100"):
        verify(index, sample=10)


def damage(path: Path, place: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["index/versions/v000001/neighbors.h5", "embeddings.h5", "samples.h5"])
@pytest.mark.parametrize("place", [0, -3])
def test_no_report_outlives_a_failure(index: Path, name: str, place: int) -> None:
    verify(index, quiet=True)
    kept = index / "extras/v000001/audit.json"
    assert kept.exists()
    if place == -3 and "neighbors" not in name:
        place = (index.parent / name).read_bytes().rindex(b"o149")
    damage(index.parent / name, place)
    with pytest.raises(CorruptError):
        verify(index, quiet=True)
    assert not kept.exists()


def test_a_question_that_is_wrong_leaves_the_report(index: Path) -> None:
    verify(index, quiet=True)
    with pytest.raises(NotFoundError):
        verify(index, embeddings=index / "nothing.h5", quiet=True)
    assert (index / "extras/v000001/audit.json").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to_is_audited_all_the_same(
    index: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(audit_report, "write_json", refuse)
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match="no"):
            verify(index, quiet=True)
        return
    monkeypatch.setattr(Path, "unlink", refuse)
    report = verify(index, quiet=True)
    assert report.recall == 1
    assert "the report was not kept" in report.notes[-1]


def test_an_encoder_that_was_trained_further_is_a_note(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(np.random.default_rng(0).normal(size=(30, 4)), {})
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"content_hash": "abcd", "preprocess": {"size": 12}}')
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, checkpoint=encoder, quiet=True)
    (encoder / "config.json").write_text('{"content_hash": "beef", "preprocess": {"size": 12}}')
    report = verify(tmp_path / "index", quiet=True)
    assert report.recall == 1
    assert report.notes[0].startswith("The encoder was not checked, and pictures cannot be searched from: ")
    assert "another encoder (content hash abcd…)" in report.notes[0]
    with pytest.raises(InputError, match="another encoder"):  # one that is named is to be checked
        verify(tmp_path / "index", checkpoint=encoder, quiet=True)


def test_an_index_of_empty_lists_is_sound(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(np.eye(5), {"mag": np.arange(5.0)})
    build_index(embeddings, samples, tmp_path / "index", k=3, window="mag:0.5", quiet=True)
    report = verify(tmp_path / "index", quiet=True)
    assert (report.recall, report.equal_similarities) == (1.0, 1.0)
    assert "All lists that were recomputed are empty" in report.notes[0]


def test_brute_force_holds_its_products_within_the_budget(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are (queries, block): for few dimensions and many queries they are larger than the block."""
    budget = 2**20
    monkeypatch.setattr(audit_rows, "BLOCK_BYTES", budget)
    vectors = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    recompute(vectors, np.arange(400), 3, None, np.inf, quiet=True)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 4 * budget  # all products at once are 64 MB


@pytest.mark.parametrize("file", ["neighbors.h5", "build.json", "manifest.json"])
def test_any_altered_byte_is_found(index: Path, file: str) -> None:
    path = index / "versions/v000001" / file
    data = path.read_bytes()
    rng = random.Random(file)
    for place in [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(20))]:
        altered = bytearray(data)
        altered[place] ^= 1 << rng.randrange(8)
        path.write_bytes(altered)
        with pytest.raises(CorruptError):
            verify(index, quiet=True)
    path.write_bytes(data)
    assert verify(index, quiet=True).recall == 1


@pytest.mark.parametrize("name", ["embeddings.h5", "samples.h5"])
def test_altered_inputs_are_found(index: Path, name: str) -> None:
    path = index.parent / name
    with h5py.File(path, "r+") as file:
        if name == "samples.h5":
            file["catalog/mag"][7] += 1e-9
        else:
            file["embedding"][7, 2] *= -1
    with pytest.raises(CorruptError, match=f"{name} was altered"):
        verify(index, quiet=True)


def test_a_file_that_does_not_belong_is_found(index: Path) -> None:
    (index / "versions/v000001/more.h5").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"disagree about: more.h5"):
        verify(index, quiet=True)


def rewrite(index: Path, change: Callable[[Any, Any], None]) -> None:
    """Change the lists as a faulty build would have: with every hash right."""
    folder = index / "versions/v000001"
    manifest = json.loads((folder / "manifest.json").read_text())
    with h5py.File(folder / "neighbors.h5", "r+") as file:
        arrays = {name: file[name][:] for name in ("neighbor_row", "similarity")}
        change(arrays["neighbor_row"], arrays["similarity"])
        for name, array in arrays.items():
            file[name][:] = array
            manifest["arrays"][name]["sha256"] = hashlib.sha256(array.tobytes()).hexdigest()
    manifest["files"]["neighbors.h5"]["sha256"] = hashlib.sha256((folder / "neighbors.h5").read_bytes()).hexdigest()
    about = {"kind": "lookalike index", "k": manifest["k"], "window": manifest["window"]}
    about |= {name: manifest[name]["content_hash"] for name in ("samples", "embeddings")}
    manifest["content_hash"] = content_hash(arrays, about)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    publish(index, "v000001")


def test_the_recomputed_hash_is_the_builds_own(index: Path) -> None:
    rewrite(index, lambda rows, similarity: None)
    assert verify(index, quiet=True).recall == 1
    assert combine({}) == hashlib.sha256(b"null").hexdigest()


def swap(rows: Any, similarity: Any) -> None:
    rows[8, [1, 2]], similarity[8, [1, 2]] = rows[8, [2, 1]], similarity[8, [2, 1]]


def own(rows: Any, similarity: Any) -> None:
    rows[8, 4] = 8


def twice(rows: Any, similarity: Any) -> None:
    rows[8, 4] = rows[8, 5]


def outside(rows: Any, similarity: Any) -> None:
    rows[8, 4] = 3  # has no magnitude


def filled(rows: Any, similarity: Any) -> None:
    rows[3], similarity[3] = 0, 0  # object 0 for padding


def gap(rows: Any, similarity: Any) -> None:
    rows[8, 4], similarity[8, 4] = -1, np.nan


def beyond(rows: Any, similarity: Any) -> None:
    rows[8, 4] = 150


def dropped(rows: Any, similarity: Any) -> None:
    rows[:, -1], similarity[:, -1] = -1, np.nan


def nudged(rows: Any, similarity: Any) -> None:
    similarity[similarity > -2] = np.nextafter(similarity[similarity > -2], np.float32(-2))


def minus_zero(rows: Any, similarity: Any) -> None:
    similarity[8, -1] = np.float32(-0.0)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (swap, "fall by similarity"),
        (own, "the object itself"),
        (twice, "no object twice"),
        (outside, "within the window"),
        (filled, "itself|twice|window"),
        (gap, "end at the first"),
        (beyond, "a row of the data set"),
        (dropped, "what brute force gives"),
        (nudged, "what brute force gives"),
        (minus_zero, "−0|fall by"),
    ],
)
def test_a_faulty_build_is_found_by_its_lists(index: Path, change: Callable[[Any, Any], None], rule: str) -> None:
    rewrite(index, change)
    with pytest.raises(CorruptError, match=rule):
        verify(index, quiet=True)


def test_its_exact_rounding_agrees_with_the_builds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        terms = rng.choice([1.0, 2.0**-24, -(2.0**-24), 2.0**-23, 2.0**-80, 0.0, -(2.0**-80)], 6)
        assert rounded(terms.tolist()) == exact(terms)


def test_info_shows_the_audit_of_this_very_version(index: Path, command: Run) -> None:
    assert "not yet; `lookalike verify` does it" in summary(index)
    assert describe(index)["audit"] is None
    done = command("verify", index, "--audit", 120, "--seed", 3, "--json")
    report = json.loads(done.stdout)
    assert (report["chosen"]["random"], report["seed"]) == (120, 3)
    assert describe(index)["audit"] == report
    told = " ".join(summary(index).split())
    assert f"{report['recomputed']} lists recomputed (seed 3): recall 1, largest difference 0, " in told
    assert f"0, {counted(report['ties_at_k'], 'tie')} at the k-th place" in told
    kept = index / "extras/v000001/audit.json"
    kept.write_text(json.dumps(report | {"content_hash": "0" * 64}))
    assert "describes another index" in describe(index)["audit"]["problem"]
    assert "not known: " in summary(index)
    wrong = command("verify", index, "--audit", 99)
    assert (wrong.returncode, wrong.stderr) == (2, "lookalike: At least 100 rows are recomputed, but 99 was given.\n")


# Which rows are recomputed


@given(
    st.lists(
        st.sampled_from([0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 1.1, np.nan, -0.1]) | st.floats(-2, 2), max_size=12
    ),
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
)
def test_rows_on_the_edge_are_those_of_a_look_at_every_pair(x: list[float], half_width: float) -> None:
    wanted = set()
    for i, one in enumerate(x):
        for other in x:
            step = np.spacing(max(abs(one), abs(other)))
            if abs(abs(other - one) - half_width) <= step:
                wanted.add(i)
    with pytest.MonkeyPatch.context() as patch:
        for values in (3, 2**20):
            patch.setattr(audit_rows, "VALUES", values)
            assert set(on_edge(np.array(x, float), half_width).tolist()) == wanted


def test_a_window_of_any_width_has_edges_without_a_warning() -> None:
    assert len(on_edge(np.array([-1e308, 0.0, 1e308]), 1e308)) == 3
    assert len(on_edge(np.array([np.nan]), 1.0)) == 0


def test_random_edge_short_and_undefined_rows_are_chosen_by_the_seed() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1000, 5000)
    x[7] = np.nan
    x[[20, 21]] = 100.0, 100.5  # just 0.5 apart
    short = np.array([7, 30, 31])
    rows, counts = choose(5000, 100, 3, x, 0.5, short)
    assert counts == {"random": 100, "ends": 4, "short": 2, "without_value": 1, "edge": counts["edge"]}
    assert {20, 21, 7, 30, 31, 0, 4999, int(np.nanargmin(x)), int(np.nanargmax(x))} <= set(rows.tolist())
    assert 2 <= counts["edge"] <= 100
    assert rows.tolist() == sorted(set(rows.tolist()))
    again, _ = choose(5000, 100, 3, x, 0.5, short)
    other, _ = choose(5000, 100, 4, x, 0.5, short)
    assert rows.tolist() == again.tolist()
    assert rows.tolist() != other.tolist()
    assert choose(5000, 100, 3, None, np.inf, short[:0])[1]["edge"] == 0
    assert len(choose(3, 1000, 0, None, np.inf, short[:0])[0]) == 3


def test_undefined_logarithms_are_in_no_window() -> None:
    column = np.array([1.0, 0.0, -1.0, np.inf, np.nan, np.e])
    assert np.isnan(window_values(column, log=True)).tolist() == [False, True, True, True, True, False]
    assert window_values(np.array([3, 4]), log=False).tolist() == [3.0, 4.0]


def test_recomputed_lists_are_the_definition(index: Path) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.choice([0.0, 0.5, -0.5], size=(40, 4)).astype(np.float32)  # many ties
    x = rng.integers(0, 5, 40) * 0.1
    lists, ties = recompute(vectors, np.arange(40), 3, x, 0.2, quiet=True)
    expected_ties = 0
    for own, (places, values) in enumerate(lists):
        found = []
        for row in range(40):
            if row != own and abs(x[row] - x[own]) <= 0.2:
                found.append((-float(vectors[row].astype(float) @ vectors[own].astype(float)), row))
        found.sort()
        assert places == [row for _, row in found[:3]]
        assert [-float(value) for value in values] == [value for value, _ in found[:3]]
        expected_ties += len(found) > 3 and found[3][0] == found[2][0]
    assert ties == expected_ties > 0


# Faults that random rows would not meet


@pytest.fixture
def wide(vector_set: Write, tmp_path: Path) -> Path:
    """Of 3,000 objects just two are a half-width apart, 0.1 after 0.1, and one alone has a short list."""
    rng = np.random.default_rng(0)
    mag = rng.uniform(0, 1, 3000)
    mag[[1000, 2000]] = 0.3, 0.30000000000000004 + 0.1
    mag[1500] = 1.09
    vectors = rng.normal(size=(3000, 4))
    vectors[2000] = vectors[1000]  # each the best of the other, if it is inside
    half_width = abs(float(mag[2000] - mag[1000]))
    embeddings, samples = vector_set(vectors, {"mag": mag})
    build_index(embeddings, samples, tmp_path / "index", k=5, window=f"mag:{half_width!r}", quiet=True)
    return tmp_path / "index"


def beyond_the_edge(rows: Any, similarity: Any) -> None:
    """As a build with < instead of <=: the neighbor on the edge is missing, the others move up."""
    rows[1000, :-1], similarity[1000, :-1] = rows[1000, 1:].copy(), similarity[1000, 1:].copy()
    rows[1000, -1], similarity[1000, -1] = -1, np.nan


def emptied(rows: Any, similarity: Any) -> None:
    rows[1234], similarity[1234] = -1, np.nan


@pytest.mark.parametrize("change", [beyond_the_edge, emptied])
def test_faults_at_the_edge_and_in_short_lists_are_found(wide: Path, change: Callable[[Any, Any], None]) -> None:
    row = 1234 if change is emptied else 1000
    report = verify(wide, quiet=True)
    assert report.chosen.edge <= 50
    random_rows = np.random.default_rng(0).choice(3000, size=100, replace=False)
    assert row not in random_rows
    rewrite(wide, change)
    with pytest.raises(CorruptError, match=f"list of row {row} in .* is not what brute force gives"):
        verify(wide, quiet=True)


def swapped_tie(rows: Any, similarity: Any) -> None:
    row, place = np.argwhere(similarity[:, 1:] == similarity[:, :-1])[0]  # 40 to 43 are alike
    rows[row, [place, place + 1]] = rows[row, [place + 1, place]]


def one_ulp(rows: Any, similarity: Any) -> None:
    similarity[8, -1] = np.nextafter(similarity[8, -1], np.float32(-2))


def exchanged(rows: Any, similarity: Any) -> None:
    inside = [row for row in np.unique(rows) if row >= 0 and row not in (*rows[8], 8, 3)]
    similar = [row for row in inside if 8 in rows[row]]  # within the window, and less similar
    rows[8, -1] = similar[0]


@pytest.mark.parametrize(
    ("change", "rule"),
    [(swapped_tie, "then rise by row"), (one_ulp, "largest difference of similarities [1-9]"), (exchanged, "recall 0")],
)
def test_one_wrong_number_is_found(index: Path, change: Callable[[Any, Any], None], rule: str) -> None:
    rewrite(index, change)
    with pytest.raises(CorruptError, match=rule):
        verify(index, sample=150, quiet=True)


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_a_neighbor_one_step_outside_the_window_is_found(vector_set: Write, tmp_path: Path, beside: int) -> None:
    edge = 1.5
    mag = np.append(np.full(10, 1.0), np.nextafter(edge, edge + beside) if beside else edge)
    vectors = np.random.default_rng(0).normal(size=(11, 4))
    embeddings, samples = vector_set(vectors, {"mag": mag})
    folder = tmp_path / "index"
    build_index(embeddings, samples, folder, k=10, window="mag:0.5", quiet=True)
    assert verify(folder, quiet=True).recall == 1
    stored = embeddings_of(folder)

    def change(rows: Any, similarity: Any) -> None:
        """Let object 10 be in the list of object 0 exactly where it should not be."""
        others = [row for row in rows[0].tolist() if row not in (-1, 10)]
        if beside == 1:
            others.append(10)
        value = {row: np.float32(stored[row].astype(float) @ stored[0].astype(float)) for row in others}
        others.sort(key=lambda row: (-value[row], row))
        rows[0], similarity[0] = -1, np.nan
        rows[0, : len(others)], similarity[0, : len(others)] = others, [value[row] for row in others]

    rewrite(folder, change)
    with pytest.raises(CorruptError, match="within the window" if beside == 1 else "what brute force gives"):
        verify(folder, quiet=True)


def embeddings_of(folder: Path) -> Any:
    return np.array(Index(folder).open_embeddings().vectors)


# Independence


def imported(module: str) -> set[str]:
    """Every module of ours that a module imports, itself or through others."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        path = ROOT / (name.replace(".", "/") + ".py")
        if not path.exists():
            path = ROOT / name.replace(".", "/") / "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            for each in names:
                place = ROOT / each.replace(".", "/")
                ours = place.with_suffix(".py").exists() or (place / "__init__.py").exists()
                if each.startswith("lookalike.") and ours and each not in found:
                    found.add(each)
                    todo.append(each)
    return found


def test_the_rows_are_recomputed_without_anything_of_the_build() -> None:
    assert {name for name in imported("lookalike.indexer.audit_rows") if name.startswith("lookalike.indexer")} == set()
    assert "lookalike.indexer.pairs" in imported("lookalike.indexer.index")  # so the walk finds what there is


def test_the_audit_uses_the_folders_reader_and_nothing_that_computes() -> None:
    computing = {
        "index",
        "neighbors",
        "pairs",
        "pairs_native",
        "ordered",
        "scores",
        "blocks",
        "similarity",
        "live",
        "reach",
        "rounded_search",
        "rounded_build",
        "search",
    }
    found = imported("lookalike.indexer.audit")
    assert "lookalike.indexer.store" in found
    assert not {f"lookalike.indexer.{name}" for name in computing} & found
