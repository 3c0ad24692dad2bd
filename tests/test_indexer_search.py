"""The Searcher against a slow definition of what an answer is.

pytest tests/test_indexer_search.py
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings, write_embeddings
from lookalike.errors import InputError, NotFoundError
from lookalike.indexer.answer import Answer, plain, shortest
from lookalike.indexer.footprints import Footprints, view_size
from lookalike.indexer.index import build_index
from lookalike.indexer.live import prepared, ranking
from lookalike.indexer.search import Searcher
from lookalike.indexer.windows import Window
from lookalike.query import Query, read_vector
from lookalike.query import answer as ask
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples

Write = Callable[..., tuple[Path, list[Path]]]
N, K, WIDTH = 90, 12, 0.3
SIDE = 8.0  # px of a footprint: 96/152 of 16, in multiples of 8


def catalog(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    mag = np.round(rng.normal(20, 0.4, N), 3)
    mag[[4, 50]] = np.nan
    x, y = rng.uniform(0, 40, N), rng.uniform(0, 40, N)
    x[6] = np.nan
    return {"mag": mag, "x": x, "y": y, "count": np.arange(N), "label": np.array([f"é{i}" for i in range(N)])}


def vectors(seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(N, 6))
    made[20:26] = made[20]  # ties
    return made


@pytest.fixture
def searcher(vector_set: Write, tmp_path: Path) -> Searcher:
    embeddings, samples = vector_set(vectors(), catalog())
    build_index(embeddings, samples, tmp_path / "index", k=K, window=f"mag:{WIDTH}", quiet=True)
    return Searcher(tmp_path / "index")


def slow_share(x: NDArray[np.float64], y: NDArray[np.float64], i: int, j: int, side: float) -> float:
    dx, dy = abs(x[j] - x[i]), abs(y[j] - y[i])
    return 0.0 if not (dx < side and dy < side) else (side - dx) * (side - dy) / side**2


def slow_ranking(searcher: Searcher, query: NDArray[Any], candidates: list[int]) -> list[tuple[int, np.float32]]:
    stored = searcher.embeddings().vectors
    found = [(np.float32(math.fsum(stored[j].astype(float) * query.astype(float))), j) for j in candidates]
    return [(j, similarity) for similarity, j in sorted(found, key=lambda pair: (-float(pair[0]), pair[1]))]


def slow_answer(
    searcher: Searcher, row: int, last: int, max_overlap: float | None
) -> tuple[list[tuple[int, np.float32]], int]:
    """The first `last` of the window's objects without the overlapping ones, and how many of those are passed."""
    columns = catalog()
    mag = columns["mag"]
    inside = [j for j in range(N) if j != row and abs(mag[j] - mag[row]) <= WIDTH]
    taken: list[tuple[int, np.float32]] = []
    left_out = 0
    for j, similarity in slow_ranking(searcher, searcher.embeddings().vectors[row], inside):
        if len(taken) == last:
            break
        if max_overlap is not None and slow_share(columns["x"], columns["y"], row, j, SIDE) > max_overlap:
            left_out += 1
        else:
            taken.append((j, similarity))
    return taken, left_out


@pytest.mark.parametrize("max_overlap", [None, 0.0, 0.25, 1.0])
@pytest.mark.parametrize(("k", "offset"), [(1, 0), (5, 0), (K, 0), (5, 9), (40, 0), (N, 0), (10, 60)])
def test_answers_equal_the_slow_definition(searcher: Searcher, k: int, offset: int, max_overlap: float | None) -> None:
    sources = set()
    for row in range(N):
        answer = searcher.neighbors(f"o{row}", k, offset=offset, max_overlap=max_overlap, columns=("mag",))
        expected, left_out = slow_answer(searcher, row, offset + k, max_overlap)
        assert [(r.row, np.float32(r.similarity)) for r in answer.results] == expected[offset:]
        assert [r.rank for r in answer.results] == list(range(offset + 1, len(expected) + 1))
        assert [r.id for r in answer.results] == [f"o{r.row}" for r in answer.results]
        assert f"o{row}" not in [r.id for r in answer.results]
        assert answer.left_out == left_out
        assert answer.k == min(k, N - 1)
        assert len(answer.results) == k or answer.notes
        sources.add(answer.source)
    if max_overlap is None:
        assert ("live" in sources) == (offset + k > K)
    assert "stored" in sources  # at least those whose whole window is stored


def test_a_list_that_runs_short_by_overlaps_is_finished_live(searcher: Searcher) -> None:
    stored = searcher.neighbors("o0", K)
    assert (stored.source, stored.left_out) == ("stored", 0)
    over = [row for row in range(N) if searcher.neighbors(f"o{row}", K, max_overlap=0.0).source == "live"]
    assert over  # some stored list holds an overlapping object, and more are in the window
    for row in over:
        answer = searcher.neighbors(f"o{row}", K, max_overlap=0.0)
        assert answer.left_out > 0
        assert len(answer.results) == len(slow_answer(searcher, row, K, 0.0)[0])


def test_a_query_without_window_value_has_no_neighbors_and_says_why(searcher: Searcher) -> None:
    answer = searcher.neighbors("o4", 5)
    assert answer.results == ()
    assert answer.notes == (
        "o4 has no mag, so it is in no window: `--at mag=VALUE` on the command line places it in one, and `--within "
        "none` finds its likes among all.",
    )
    assert answer.window == {"column": "mag", "log": False, "center": None, "half_width": WIDTH}
    found = searcher.by_vector(searcher.embeddings().vectors[4], 1)
    assert found.results[0].id == "o4"  # found only without a window


@pytest.mark.parametrize("row", [0, 4, 21])  # o4 has no value of its own
@pytest.mark.parametrize("max_overlap", [None, 0.25])
@pytest.mark.parametrize("at", [19.7, 20.25, 30.0])
def test_an_id_can_be_placed_in_another_window(
    searcher: Searcher, row: int, max_overlap: float | None, at: float
) -> None:
    columns = catalog()
    answer = searcher.neighbors(f"o{row}", 9, at={"mag": at}, max_overlap=max_overlap)
    inside = [j for j in range(N) if j != row and abs(columns["mag"][j] - at) <= WIDTH]
    if max_overlap is not None:
        inside = [j for j in inside if slow_share(columns["x"], columns["y"], row, j, SIDE) <= max_overlap]
    expected = slow_ranking(searcher, searcher.embeddings().vectors[row], inside)[:9]
    assert [(r.row, np.float32(r.similarity)) for r in answer.results] == expected
    assert (answer.source, answer.query) == ("live", {"id": f"o{row}", "at": {"mag": at}})
    assert answer.window == {"column": "mag", "log": False, "center": at, "half_width": WIDTH}
    assert len(expected) == 9 or f"Only {len(expected)} objects are within mag ± 0.3" in answer.notes[0]


@pytest.mark.parametrize("at", [None, 19.7, 20.0, 30.0])
def test_by_vector_equals_the_slow_definition(searcher: Searcher, at: float | None) -> None:
    rng = np.random.default_rng(1)
    mag = catalog()["mag"]
    for k in (1, 7, N):
        vector = rng.normal(size=6)
        answer = searcher.by_vector(vector, k, at=None if at is None else {"mag": at}, exclude=["o3"])
        candidates = [j for j in range(N) if j != 3 and (at is None or abs(mag[j] - at) <= WIDTH)]
        query = (vector / np.linalg.norm(vector)).astype(np.float32)
        expected = slow_ranking(searcher, query, candidates)[:k]
        assert [(r.row, np.float32(r.similarity)) for r in answer.results] == expected
        assert answer.source == "live"
        if at is None:
            assert answer.window is None
            assert "No window was applied" in answer.notes[0]
            assert "To search within mag ± 0.3, give it one: `--at mag=VALUE` on the command line." in answer.notes[0]
        else:
            assert answer.window == {"column": "mag", "log": False, "center": at, "half_width": WIDTH}


def test_a_stored_vector_finds_what_its_object_finds(searcher: Searcher) -> None:
    mag = catalog()["mag"]
    for row in (0, 21, 77):
        by_id = searcher.neighbors(f"o{row}", K)
        vector = searcher.embeddings().vectors[row]
        by_vector = searcher.by_vector(vector, K, at={"mag": mag[row]}, exclude=[f"o{row}"])
        assert by_vector.results == by_id.results


@pytest.mark.parametrize(
    ("vector", "rule"),
    [
        (np.ones(5), r"6 numbers, shape \(6,\), but \(5,\)"),
        (np.ones((1, 6)), r"but \(1, 6\)"),
        (np.zeros(6), "no direction"),
        (np.array([1, np.nan, 0, 0, 0, 0]), "finite numbers only"),
        (np.array([1, np.inf, 0, 0, 0, 0]), "finite numbers only"),
        (np.array(["a"] * 6), "holds numbers"),
    ],
)
def test_odd_vectors_are_refused(searcher: Searcher, vector: NDArray[Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        searcher.by_vector(vector, 3)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_the_length_of_a_query_does_not_matter(scale: float) -> None:
    vector = np.random.default_rng(0).normal(size=6)
    unit = vector / np.linalg.norm(vector)
    assert np.allclose(prepared(vector * scale, 6, np.dtype("float32")), unit, atol=1e-7)


def test_what_cannot_be_asked_is_refused(searcher: Searcher) -> None:
    for k in (0, -1):
        with pytest.raises(InputError, match="k must be at least 1"):
            searcher.neighbors("o1", k)
        with pytest.raises(InputError, match="k must be at least 1"):
            searcher.by_vector(np.ones(6), k)
    for offset in (-1, N + 1):
        with pytest.raises(InputError, match="offset must be"):
            searcher.neighbors("o1", 3, offset=offset)
    for limit in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="share from 0 to 1"):
            searcher.neighbors("o1", 3, max_overlap=limit)
    with pytest.raises(NotFoundError, match="No object has the id 'nobody'"):
        searcher.neighbors("nobody", 3)
    with pytest.raises(InputError, match=r"Unknown column 'mga'. Did you mean 'mag'\?"):
        searcher.neighbors("o1", 3, columns=("mga",))
    with pytest.raises(InputError, match="Unknown window column 'x'"):
        searcher.by_vector(np.ones(6), 3, at={"x": 1.0})
    with pytest.raises(InputError, match="give a defined value"):
        searcher.by_vector(np.ones(6), 3, at={"mag": math.nan})
    with pytest.raises(NotFoundError, match="without its encoder"):
        searcher.checkpoint()


@pytest.mark.parametrize("k", [N, N + 1, 2**63])
def test_more_results_than_objects_are_capped_and_said(searcher: Searcher, k: int) -> None:
    by_id = searcher.neighbors("o1", k)
    assert by_id.k == N - 1
    assert f"only {N - 1} objects to find: k = {N - 1} was taken" in by_id.notes[0]
    assert by_id.results == searcher.neighbors("o1", N - 1).results
    by_vector = searcher.by_vector(np.ones(6), k)
    assert by_vector.k == len(by_vector.results) == N
    assert any("was taken" in note for note in by_vector.notes) == (k > N)


@pytest.mark.parametrize("name", ["rank", "row", "similarity"])
def test_a_column_called_as_a_field_of_the_result_is_not_dropped_unsaid(
    vector_set: Write, tmp_path: Path, name: str
) -> None:
    embeddings, samples = vector_set(vectors(), {name: np.arange(N)})
    build_index(embeddings, samples, tmp_path / "index", k=3, window=None, quiet=True)
    rule = f"rank, id, row, similarity, random_share, random_share_below, so a column called '{name}'"
    with pytest.raises(InputError, match=rule):
        ask(tmp_path / "index", Query(id="o1"), k=3, columns=[name])
    found = Searcher(tmp_path / "index").neighbors("o1", 3, columns=[name])
    assert [result.columns[name] for result in found.results] == [result.row for result in found.results]
    with pytest.raises(InputError, match=rule):
        found.to_json()


def test_whole_columns_are_read_for_windows_and_footprints_only(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    column = Samples.column
    monkeypatch.setattr(Samples, "column", lambda self, name: read.append(name) or column(self, name))
    fresh = Searcher(searcher.folder)
    assert sorted(read) == ["x", "y"]
    read.clear()
    assert fresh.object("o5") == {name: plain(values[5]) for name, values in catalog().items()}
    fresh.neighbors("o1", 5, columns=["label", "count", "mag"])
    assert read == []
    for _ in range(3):
        fresh.neighbors("o1", 50, columns=["label"])
        fresh.by_vector(np.ones(6), 3, at={"mag": 20.0})
    assert read == ["mag"]


def test_the_answer_as_json(searcher: Searcher) -> None:
    answer = searcher.neighbors("o1", 2, columns=("mag", "x", "count", "label"))
    document = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert document["index_version"] == "v000001"
    assert document["query"] == {"id": "o1"}
    assert document["left_out"] == {"overlapping": 0, "max_overlap": None}
    first = document["results"][0]
    assert list(first) == [
        "rank",
        "id",
        "row",
        "similarity",
        "random_share",
        "random_share_below",
        "mag",
        "x",
        "count",
        "label",
    ]
    assert np.float32(first["similarity"]) == searcher.index.similarity[1, 0]
    assert len(repr(first["similarity"]).lstrip("-")) <= 12  # the shortest float32, not its float64 expansion
    assert first["label"] == f"é{first['count']}"
    assert searcher.object("o6")["x"] is None
    assert searcher.object("o6")["count"] == 6


def test_numbers_become_plain() -> None:
    assert shortest(np.float32(0.9)) == 0.9
    assert plain(np.float64("nan")) is plain(np.float64("inf")) is None
    assert plain(np.int64(2**62 + 1)) == 2**62 + 1
    assert type(plain(np.str_("a"))) is str


def test_random_ids_follow_their_seed(searcher: Searcher) -> None:
    assert searcher.random_id(5) == searcher.random_id(5)
    assert len({searcher.random_id(seed) for seed in range(50)}) > 20


def test_threads_share_one_searcher(searcher: Searcher) -> None:
    def ask(row: int) -> Answer:
        return searcher.neighbors(f"o{row}", 40, columns=("mag", "label"), max_overlap=0.25)

    rows = list(range(N)) * 3
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, rows))
    assert together == [ask(row) for row in rows]


def test_other_files_can_be_given_if_they_are_the_same(searcher: Searcher, tmp_path: Path, vector_set: Write) -> None:
    before = searcher.neighbors("o1", 50)
    for name in ("samples.h5", "embeddings.h5"):
        shutil.move(tmp_path / name, tmp_path / f"moved-{name}")
    with pytest.raises(NotFoundError, match="where nothing is now; say where with --samples"):
        Searcher(tmp_path / "index")
    moved = Searcher(
        tmp_path / "index", samples=[tmp_path / "moved-samples.h5"], embeddings=tmp_path / "moved-embeddings.h5"
    )
    assert moved.neighbors("o1", 50) == before
    other, _ = vector_set(vectors(1), catalog())
    wrong = Searcher(tmp_path / "index", samples=[tmp_path / "moved-samples.h5"], embeddings=other)
    assert wrong.neighbors("o1", K).source == "stored"
    with pytest.raises(InputError, match="built with other embeddings"):
        wrong.neighbors("o1", 50)


def test_stored_and_live_answers_need_neither_torch_nor_faiss(searcher: Searcher) -> None:
    program = (
        "import sys; from pathlib import Path; from lookalike.indexer.search import Searcher;"
        f"s = Searcher(Path({str(searcher.folder)!r})); a = s.neighbors('o1', 3); b = s.neighbors('o1', 40);"
        "print(a.source, b.source, sorted({'torch', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "stored live []"


def test_a_log_window_is_centered_on_the_columns_own_value(vector_set: Write, tmp_path: Path) -> None:
    pt = np.exp(np.random.default_rng(0).normal(4, 1, N))
    embeddings, samples = vector_set(vectors(), {"pt": pt})
    build_index(embeddings, samples, tmp_path / "index", k=5, window="log(pt):0.2", quiet=True)
    searcher = Searcher(tmp_path / "index")
    answer = searcher.neighbors("o2", N)
    assert answer.window == {"column": "pt", "log": True, "center": pt[2], "half_width": 0.2}
    expected = {j for j in range(N) if j != 2 and abs(np.log(pt[j]) - np.log(pt[2])) <= 0.2}
    assert {r.row for r in answer.results} == expected
    placed = searcher.by_vector(np.ones(6), N, at={"pt": float(pt[2])})
    assert {r.row for r in placed.results} == expected | {2}
    with pytest.raises(InputError, match="defined value"):
        searcher.by_vector(np.ones(6), 3, at={"pt": 0.0})
    assert not searcher.has_footprints
    with pytest.raises(InputError, match="Overlaps need x and y") as caught:
        searcher.neighbors("o2", 3, max_overlap=0.25)
    assert caught.value.code == "no_footprints"


def test_without_a_window_every_other_object_is_a_candidate(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(vectors(), catalog())
    build_index(embeddings, samples, tmp_path / "index", k=5, window=None, quiet=True)
    searcher = Searcher(tmp_path / "index")
    answer = searcher.neighbors("o4", N)
    assert (answer.source, len(answer.results), answer.window) == ("live", N - 1, None)
    with pytest.raises(InputError, match="was built without a window, so no mag can place the query"):
        searcher.by_vector(np.ones(6), 3, at={"mag": 20})


def test_live_ranking_equals_sorting_everything() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float16"):
        stored = rng.normal(size=(500, 40))
        stored[100:200] = stored[100]
        stored = (stored / np.linalg.norm(stored, axis=1, keepdims=True)).astype(dtype)
        numbers = [[Fraction(float(value)) for value in row] for row in stored]
        query = numbers[100]
        exact = [np.float32(float(sum(a * b for a, b in zip(row, query, strict=True)))) for row in numbers]
        order = sorted(range(500), key=lambda j: (-float(exact[j]), j))
        for wanted in (1, 50, 150, 499, 500, 600):
            rows, similarity = ranking(stored, None, stored[100], wanted, 1.01)
            assert rows.tolist() == order[:wanted]
            assert similarity.tolist() == [exact[j] for j in order[:wanted]]


# footprints


def test_footprints_in_pixels_equal_the_definition() -> None:
    columns = catalog()
    x, y = columns["x"], columns["y"]
    footprints = Footprints(x, y, SIDE, sky=False)
    for row in range(N):
        expected = [slow_share(x, y, row, j, SIDE) for j in range(N)]
        share = footprints.share(row, np.arange(N))
        assert np.allclose(share, expected, atol=1e-12)
        over = [j for j in range(N) if j != row and expected[j] > 0.25]
        assert footprints.overlapping(row, 0.25).tolist() == over
    assert len(footprints.overlapping(6, 0.0)) == 0  # no position, no footprint


def test_footprints_on_the_sky_shrink_with_declination_and_cross_zero_hours() -> None:
    # At declination 60° a difference of 2·s in right ascension is s on the sky.
    side = 24 * 0.262 / 3600
    ra = np.array([0.0, 360 - side, side, 359.0, 0.0])
    dec = np.array([60.0, 60.0, 60.0, 60.0, 60 + side / 4])
    footprints = Footprints(ra, dec, side, sky=True)
    assert np.allclose(footprints.share(0, np.arange(5)), [1, 0.5, 0.5, 0, 0.75], atol=1e-5)
    assert footprints.overlapping(0, 0.25).tolist() == [1, 2, 4]
    assert footprints.overlapping(0, 0.6).tolist() == [4]


def test_sky_positions_are_used_where_there_are_both(vector_set: Write, tmp_path: Path) -> None:
    columns = catalog() | {"ra": np.linspace(10, 10.02, N), "dec": np.zeros(N)}
    embeddings, samples = vector_set(vectors(), columns)
    build_index(embeddings, samples, tmp_path / "index", k=5, window=None, quiet=True)
    footprints = Searcher(tmp_path / "index").footprints
    assert footprints is not None
    assert footprints.sky
    assert footprints.size == pytest.approx(8 / 3600)
    assert len(Embeddings(embeddings)) == N


PX, TEXT = Column("px"), Column()


@pytest.mark.parametrize(
    ("units", "change", "why"),
    [
        ({"ra": TEXT, "dec": TEXT}, {"ra": "12:34:56", "dec": "-01:02:03"}, "column ra holds text, and there is no"),
        ({"x": PX, "y": PX}, {"x": "left"}, "column x holds text"),
        ({"x": Column("mm"), "y": Column("mm")}, {}, "column x is in mm, not px"),
        ({"x": TEXT, "y": TEXT}, {}, "column x is in no unit, not px"),
        ({"x": PX, "y": PX, "file": TEXT}, {"file": "many"}, "places in several pictures"),
        ({"x": PX}, {}, "there is no column y"),
        ({"x": PX, "y": PX}, {}, ""),
        ({"x": Column("pixel"), "y": Column("pix")}, {}, ""),
        ({"ra": Column("degree"), "dec": Column("deg")}, {}, ""),
        ({"ra": Column("rad"), "dec": Column("rad")}, {}, "column ra is in rad, not deg"),
        ({"x": PX, "y": PX, "file": TEXT}, {"file": "one.fits"}, ""),
        ({"ra": TEXT, "dec": TEXT, "x": PX, "y": PX}, {"ra": "12:34:56"}, ""),
    ],
)
def test_columns_that_are_no_positions_are_no_footprints_and_no_error(
    tmp_path: Path, units: dict[str, Column], change: dict[str, str], why: str
) -> None:
    catalog: dict[str, Any] = {name: np.arange(4.0) for name in units} | {
        name: np.array([f"{i % 2}.png" for i in range(4)] if value == "many" else [value] * 4)
        for name, value in change.items()
    }
    path = tmp_path / "s.h5"
    with write_samples(path, About(domain="image", bands=("v",), pixel_scale=0.1), units) as writer:
        writer.append([f"o{i}" for i in range(4)], np.zeros((4, 1, 8, 8), np.uint8), catalog)
    write_embeddings(tmp_path / "e.h5", Samples(path).ids, iter([np.eye(4)]), dimensions=4)
    report = build_index(tmp_path / "e.h5", [path], tmp_path / "index", k=3, window=None, quiet=True)
    searcher = Searcher(tmp_path / "index")
    assert searcher.has_footprints == (why == "")
    assert why in searcher.footprints_note
    assert (why in " ".join(report.notes)) == (why != "there is no column y")
    assert len(searcher.neighbors("o1", 3).results) == 3
    if why:
        with pytest.raises(InputError, match=why):
            searcher.neighbors("o1", 3, max_overlap=0.25)


@pytest.mark.parametrize(("stored", "size"), [(152, 96), (52, 32), (64, 40), (16, 8), (6, 6)])
def test_views_keep_their_share_of_the_stored_cutout(stored: int, size: int) -> None:
    assert view_size(stored)[0] == size


def test_a_checkpoint_says_how_large_its_views_are(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(vectors(), catalog())
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"content_hash": "ab" * 32, "preprocess": {"size": 12}}))
    build_index(embeddings, samples, tmp_path / "index", k=5, window=None, checkpoint=folder, quiet=True)
    searcher = Searcher(tmp_path / "index")
    assert searcher.index.manifest.footprint_px == 12
    assert searcher.checkpoint().resolve() == folder
    (folder / "config.json").write_text(json.dumps({"content_hash": "cd" * 32, "preprocess": {"size": 12}}))
    again = "trained further since, embed and index again; or give the former one with --checkpoint DIR"
    with pytest.raises(InputError, match=rf"was built with another encoder \(content hash abab.*{again}"):
        searcher.checkpoint()


# queries of the command line


@pytest.mark.parametrize(
    ("text", "words", "logged"),
    [("mag:0.5", "mag ± 0.5", False), ("z:30", "z ± 30", False), ("log(pt):0.1", "log(pt) ± 0.1", True)],
)
def test_a_window_is_told_in_one_form(text: str, words: str, logged: bool) -> None:
    window = Window.parse(text)
    assert (window.words, window.log) == (words, logged)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"1 2 3\n", "is not a NumPy array: it does not begin as the .npy files of numpy.save do"),
        (b"", "is not a NumPy array: it does not begin"),
        (np.array([{}], object), "pickled objects, which are never loaded"),
        (np.array(["a"]), "holds <U1"),
        (np.ones((2, 3)), r"shape \(D,\), but .* holds \(2, 3\)"),
    ],
)
def test_what_is_no_vector_is_told_in_our_words(tmp_path: Path, content: Any, why: str) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    with pytest.raises(InputError, match=why) as caught:
        read_vector(path)
    assert "allow_pickle" not in caught.value.message
    np.save(path, np.arange(3, dtype=np.float32)[None])
    assert read_vector(path).tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="declares 12 bytes of values, but holds 11"):
        read_vector(path)


def test_what_needs_no_encoder_is_checked_before_torch_is_loaded(vector_set: Write, tmp_path: Path) -> None:
    embeddings, samples = vector_set(vectors(), catalog())
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"content_hash": "ab" * 32, "preprocess": {"size": 12}}))
    build_index(embeddings, samples, tmp_path / "index", k=5, window="mag:0.3", checkpoint=folder, quiet=True)
    (tmp_path / "no.png").write_text("1 2 3")
    program = (
        "import sys; from pathlib import Path; from lookalike.query import Query, answer;"
        "from lookalike.errors import LookalikeError\n"
        "for at, k, columns in [(('mga=1',), 3, ()), (('mag=1',), 0, ()), ((), 3, ('mga',)), ((), 3, ())]:\n"
        "    try: answer(Path(sys.argv[1]), Query(image=Path(sys.argv[2]), at=at), k=k, columns=columns)\n"
        "    except LookalikeError as error: print(error.message, 'torch' in sys.modules)"
    )
    asked = [sys.executable, "-c", program, tmp_path / "index", tmp_path / "no.png"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[-1] for line in said] == ["False"] * 4
    for line, rule in zip(said, ("window column 'mga'", "k must be", "column 'mga'", "none of PNG"), strict=True):
        assert rule in line
