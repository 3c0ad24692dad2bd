"""Rounded vectors: bounds that hold for every vector and query, answers as without them, and what damage does.

pytest tests/test_indexer_rounded.py
"""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.embeddings import Embeddings
from lookalike.embeddings_folder import Joined
from lookalike.errors import CorruptError
from lookalike.files import atomic_folder, read_json, write_json
from lookalike.hashing import ArrayHash
from lookalike.indexer import live, reach, rounded, rounded_build, rounded_search
from lookalike.indexer.audit import verify
from lookalike.indexer.bins import append
from lookalike.indexer.collect import collect
from lookalike.indexer.index import Index, build_index
from lookalike.indexer.live import ranking
from lookalike.indexer.planning import plan
from lookalike.indexer.repair import repair
from lookalike.indexer.rounded import Rounded, rounded_folder
from lookalike.indexer.rounded_build import write_rounded
from lookalike.indexer.search import Searcher
from lookalike.info import describe
from lookalike.parallel import in_parts

Write = Callable[..., tuple[Path, list[Path]]]
OF = "0" * 64
KINDS = ["spread", "one way", "spiky", "equal", "tiny parts", "few values", "float16"]


def make(kind: str, n: int, d: int, seed: int) -> NDArray[Any]:
    """Vectors (n, d) of length 1, or nearly, as embeddings of some kind are."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(n, d))
    if kind == "one way":
        made = made * 0.01 + rng.normal(size=d)
    elif kind == "spiky":
        made = made**9
    elif kind == "equal":
        made[:] = made[0]
    elif kind == "tiny parts":
        made *= 10.0 ** rng.integers(-44, 1, (n, d))
        made[:, 0] = 1
    elif kind == "few values":
        made = np.sign(made)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16 if kind == "float16" else np.float32)


def round_of(folder: Path, vectors: Any) -> Rounded:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    write_rounded(folder, vectors, OF, quiet=True)
    return Rounded(folder, OF)


def exact(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.float32(math.fsum(a.astype(np.float64) * b.astype(np.float64))))


def slow(vectors: NDArray[Any], rows: list[int], query: NDArray[Any], wanted: int) -> list[tuple[int, float]]:
    """The definition: canonical similarity with every row, the highest first, of equal ones the lowest row."""
    found = sorted((-exact(vectors[row], query), row) for row in rows)
    return [(row, -similarity) for similarity, row in found[:wanted]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rounded") / "here"


def seen(there: Rounded, query: NDArray[Any], max_length: float) -> list[tuple[float, float]]:
    """Score and width of every row, as a search takes them."""
    taken = []

    def note(bounds: reach.Bounds, n: int, candidates: Any, wanted: int, step: int) -> NDArray[np.int64]:
        score, width = bounds(slice(0, n))
        taken.extend(zip(score.tolist(), np.broadcast_to(width, score.shape).tolist(), strict=True))
        return np.arange(n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounded_search, "in_reach", note)
        rounded_search.rounded_in_reach(there, None, query, 1, max_length)
    return taken


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), n=st.integers(1, 12), d=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_no_similarity_leaves_its_bounds(place: Path, kind: str, n: int, d: int, seed: int) -> None:
    vectors = make(kind, n, d, seed)
    there = round_of(place, vectors)
    longest = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max()) * (1 + 1e-9)
    decoded = there.center.astype(np.float64) + there.scales[:, :1].astype(np.float64) * there.codes.astype(np.float64)
    rest = vectors.astype(np.float64) - decoded
    assert (np.linalg.norm(rest, axis=1) <= there.scales[:, 1]).all()
    assert there.about.largest_error == there.scales[:, 1].max()
    # Besides its own vectors, the queries that are worst: along what is left of a vector, and against it.
    along = [sign * one / np.linalg.norm(one) for one in rest if np.linalg.norm(one) > 1e-30 for sign in (1, -1)]
    for query in [*vectors, *(one.astype(vectors.dtype) for one in along)]:
        for row, (score, width) in enumerate(seen(there, query, longest)):
            assert score - width <= exact(vectors[row], query) <= score


def test_the_bounds_are_as_narrow_as_the_rest_is_short(place: Path) -> None:
    """A query along the rest of a vector comes within 1 % of its bound: with less the test above would fail."""
    vectors = make("spread", 30, 64, 0)
    there = round_of(place, vectors)
    decoded = there.center.astype(np.float64) + there.scales[:, :1].astype(np.float64) * there.codes.astype(np.float64)
    for row, rest in enumerate(vectors - decoded):
        query = (rest / np.linalg.norm(rest)).astype(np.float32)
        score, width = seen(there, query, 1.0)[row]
        assert exact(vectors[row], query) > score - 0.01 * width
        assert width < 2.1 * np.linalg.norm(rest)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(KINDS), n=st.integers(2, 200), d=st.integers(1, 24), wanted=st.integers(1, 30),
    some=st.booleans(), split=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_answers_are_those_without_them(
    place: Path, kind: str, n: int, d: int, wanted: int, some: bool, split: bool, seed: int
) -> None:
    """With ties, duplicates, candidates of their own, files that are joined, and several blocks and threads."""
    rng = np.random.default_rng(seed)
    vectors = make(kind, n, d, seed)
    vectors[rng.integers(0, n, n // 3)] = vectors[0]
    read: Any = Joined([n // 2, n - n // 2], lambda part: np.split(vectors, [n // 2])[part]) if split else vectors
    there = round_of(place, read)
    candidates = np.flatnonzero(rng.random(n) < 0.6) if some else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "WORTH", 0)
        patch.setattr(rounded_search, "BLOCK_BYTES", 7 * d)
        patch.setattr(reach, "processors", lambda: 3)
        for query in (vectors[0], make(kind, 1, d, seed + 1)[0]):
            rows, similarity = ranking(read, candidates, query, wanted, 1.01, there)
            among = range(n) if candidates is None else candidates.tolist()
            found = list(zip(rows.tolist(), similarity.tolist(), strict=True))
            assert found == slow(vectors, list(among), query, wanted)


def test_few_of_the_stored_vectors_are_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = make("spread", 20_000, 64, 0)
    there = round_of(place, vectors)
    asked, scores = [], live._scores

    def counted(vectors: Any, rows: Any, query: NDArray[np.float32]) -> Any:
        asked.append(len(range(*rows.indices(len(vectors))) if isinstance(rows, slice) else rows))
        return scores(vectors, rows, query)

    monkeypatch.setattr(live, "_scores", counted)
    with_them = ranking(vectors, None, vectors[7], 10, 1.01, there)
    assert sum(asked) < 100
    asked.clear()
    without = ranking(vectors, None, vectors[7], 10, 1.01)
    assert sum(asked) == 20_000
    np.testing.assert_array_equal(with_them, without)


def test_rounding_does_not_depend_on_blocks_threads_or_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = make("spread", 500, 12, 0)
    whole = round_of(place, vectors).about
    monkeypatch.setattr(rounded_build, "processors", lambda: 3)
    monkeypatch.setattr(rounded_build, "BLOCK_BYTES", 12 * 4 * 37)
    monkeypatch.setattr(rounded_build, "in_parts", lambda work, n, _: in_parts(work, n, 3))
    parts = np.split(vectors, [100, 101])
    assert round_of(place, Joined([100, 1, 399], lambda part: parts[part])).about == whole


# in an index


@pytest.fixture
def index(vector_set: Write, tmp_path: Path) -> Path:
    embeddings, samples = vector_set(np.random.default_rng(0).normal(size=(300, 8)), {"mag": np.arange(300.0)})
    build_index(embeddings, samples, tmp_path / "index", k=5, window="mag:100", quiet=True)
    return tmp_path / "index"


def answers(index: Path) -> list[Any]:
    """What searches of several kinds find: all objects, and those of a window or a filter."""
    searcher = Searcher(index)
    asked: list[dict[str, Any]] = [{"within": []}, {"within": [], "where": "mag < 250"}, {"at": {"mag": 90.0}}]
    return [searcher.neighbors(f"o{row}", 3, **options).results for row in (0, 7, 299) for options in asked]


def read(index: Path) -> Rounded:
    """Those of the served version, every byte of them looked at."""
    opened = Index(index)
    there = Rounded.of(opened)
    assert there is not None
    there.verify()
    assert there.about.embeddings == opened.manifest.embeddings.content_hash
    return there


def test_an_index_has_them_and_answers_alike_without(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    reached = rounded_search.rounded_in_reach
    monkeypatch.setattr(rounded_search, "rounded_in_reach", lambda *given: used.append(1) or reached(*given))
    there = read(index)
    size = sum(path.stat().st_size for path in there.folder.glob("*.bin"))
    assert size == plan(300, 8, 5).rounded_bytes
    assert describe(index)["rounded"] == {"bytes": size, "largest_error": there.about.largest_error}
    found = answers(index)
    assert len(used) == 9
    for path in there.folder.iterdir():
        path.unlink()
    there.folder.rmdir()
    assert answers(index) == found
    assert len(used) == 9
    assert describe(index)["rounded"] is None
    verify(index, sample=100, quiet=True)


def test_the_same_build_makes_them_where_they_are_missing(index: Path, vector_set: Write) -> None:
    opened = Index(index)
    embeddings, samples = opened.open_embeddings(), opened.open_samples()
    about = read(index).about
    for path in rounded_folder(index, opened.version).iterdir():
        path.unlink()
    rounded_folder(index, opened.version).rmdir()
    build_index(embeddings.path, samples.paths, index, k=5, window="mag:100", quiet=True)
    assert read(index).about == about


BUILD = """
import os, sys
from pathlib import Path
os.environ["LOOKALIKE_KILL_AT"] = sys.argv[4]
from lookalike.indexer.index import build_index
build_index(Path(sys.argv[1]), [Path(sys.argv[2])], Path(sys.argv[3]), k=5, window=None, quiet=True)
"""


@pytest.mark.parametrize("at", ["rounded.json.written", "rounded.written", "rounded.renamed"])
def test_a_build_killed_while_it_rounds_is_gone_on_with(vector_set: Write, tmp_path: Path, at: str) -> None:
    embeddings, samples = vector_set(np.random.default_rng(0).normal(size=(60, 8)), {})
    out = tmp_path / "killed"
    paths = [str(path) for path in (embeddings, samples[0], out)]
    done = subprocess.run([sys.executable, "-c", BUILD, *paths, at], capture_output=True, timeout=300, check=False)
    assert done.returncode == -9, done.stderr
    assert not (out / "CURRENT").exists()
    build_index(embeddings, samples, out, k=5, window=None, quiet=True)
    build_index(embeddings, samples, tmp_path / "unbroken", k=5, window=None, quiet=True)
    assert read(out).about == read(tmp_path / "unbroken").about


@pytest.mark.parametrize("name", ["codes.bin", "scales.bin", "center.bin"])
def test_altered_bytes_are_found_and_made_good(index: Path, name: str) -> None:
    there = read(index)
    about, path = there.about, there.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=rf"{name} was altered; `lookalike repair`"):
        verify(index, sample=100, quiet=True)
    done = repair(index, quiet=True)
    assert done.found == (f"{path} was altered.",)
    assert "made again from the embeddings" in done.done[0]
    assert read(index).about == about
    assert not repair(index, quiet=True).found


def test_what_cannot_be_read_is_an_error_where_it_is_needed(index: Path) -> None:
    there = read(index)
    about = there.folder / "rounded.json"
    whole, text = answers(index), read_json(about)
    for change in ({"embeddings": OF}, {"objects": -1}, {"objects": 10**6}, {"largest_error": "nan"}, {"kind": "x"}):
        write_json(about, text | change)
        with pytest.raises(CorruptError, match="`lookalike repair` makes it again"):
            answers(index)
        assert (
            "rounded.json" in describe(index)["rounded"]["problem"]
            or "codes.bin" in describe(index)["rounded"]["problem"]
        )
        assert Searcher(index).neighbors("o3", 3).source == "stored"  # which needs none
    about.write_text("{")
    with pytest.raises(CorruptError, match=r"rounded.json was altered"):
        answers(index)
    write_json(about, text)
    with (there.folder / "codes.bin").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptError, match=r"codes.bin was altered"):
        answers(index)
    repair(index, quiet=True)
    assert answers(index) == whole


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("value", [0.25, math.nan])
def test_altered_embeddings_are_not_rounded(index: Path, value: float) -> None:
    """Under the hash of the right ones they would look sound ever after."""
    opened = Index(index)
    embeddings, samples = opened.open_embeddings().path, opened.open_samples().paths
    place, about = rounded_folder(index, opened.version), read(index).about
    remove(place)
    whole = embeddings.read_bytes()
    with h5py.File(embeddings, "r+") as file:
        file["embedding"][7, 3] = value
    with pytest.raises(CorruptError, match="altered"):
        build_index(embeddings, samples, index, k=5, window="mag:100", quiet=True)
    assert not place.exists()
    embeddings.write_bytes(whole)
    build_index(embeddings, samples, index, k=5, window="mag:100", quiet=True)
    assert read(index).about == about


def test_those_of_other_vectors_are_found(index: Path) -> None:
    opened = Index(index)
    vectors, place = np.array(opened.open_embeddings().vectors), rounded_folder(index, opened.version)
    vectors[7] *= -1
    remove(place)
    place.mkdir()
    write_rounded(place, vectors, opened.manifest.embeddings.content_hash, quiet=True)
    with pytest.raises(CorruptError, match="rounded was made of other vectors; remove it"):
        verify(index, sample=100, quiet=True)


@pytest.mark.parametrize("replaced", [True, False])
def test_one_that_is_replaced_while_it_is_opened_is_not_mixed(
    index: Path, replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Index(index)
    place, vectors = rounded_folder(index, opened.version), np.array(opened.open_embeddings().vectors)
    times = []

    def meanwhile(path: Path) -> Any:
        text = read_json(path)
        times.append(path)
        if len(times) == 1 and replaced:
            with atomic_folder(place) as made:
                write_rounded(made, -vectors, opened.manifest.embeddings.content_hash, quiet=True)
        elif len(times) == 1:
            remove(place)
        return text

    monkeypatch.setattr(rounded, "read_json", meanwhile)
    found = Rounded.of(opened)
    assert len(times) == 1 + replaced
    assert (found is not None) == replaced
    if found is not None:
        found.check(-vectors)
        found.verify()


def test_a_killed_repair_leaves_what_there_was(index: Path) -> None:
    there = read(index)
    path = there.folder / "codes.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    code = f"from pathlib import Path; from lookalike.indexer.repair import repair; repair(Path({str(index)!r}))"
    killed = os.environ | {"LOOKALIKE_KILL_AT": "rounded.json.written"}
    done = subprocess.run([sys.executable, "-c", code], env=killed, capture_output=True, timeout=300, check=False)
    assert done.returncode == -9, done.stderr
    assert path.read_bytes() == data
    left = [each.name for each in there.folder.parent.glob(".rounded*")]
    assert left
    assert sorted(collect(index).removed) == [f"extras/{there.folder.parent.name}/{name}" for name in sorted(left)]
    assert repair(index, quiet=True).found == (f"{path} was altered.",)
    read(index)


def test_errors_that_are_no_numbers_are_not_believed(index: Path) -> None:
    path = read(index).folder / "scales.bin"
    path.write_bytes(np.full((300, 2), math.nan, "<f4").tobytes())
    with pytest.raises(CorruptError, match=r"scales.bin was altered; `lookalike repair`"):
        answers(index)


def test_a_file_in_their_place_is_an_error_and_goes(index: Path) -> None:
    whole, place = answers(index), read(index).folder
    remove(place)
    place.write_text("mine")
    for ask in (answers, lambda folder: verify(folder, sample=100, quiet=True)):
        with pytest.raises(CorruptError, match=r"rounded.json was altered"):
            ask(index)
    repair(index, quiet=True)
    assert answers(index) == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("size", [1, 10**6])
def test_a_full_disk_is_told_with_its_number(size: int) -> None:
    """By which the builder knows it; a few bytes are lost without a word by numpy's own writing."""
    with pytest.raises(OSError, match="No space left") as caught:
        append(Path("/dev/full"), np.ones(size), ArrayHash())
    assert caught.value.errno == errno.ENOSPC


def test_sums_that_lose_every_small_product_stay_within_the_error(place: Path) -> None:
    """Vectors that are codes, so that nothing is left out, and a query whose small products a float32 sum drops."""
    d, big = 4096, 8
    codes = np.ones((4, d))
    codes[:, :big] = 127
    codes[2:] *= -1  # the center is 0
    query = np.full(d, 0.99 * 2.0**-18)  # less than half a step of float32 numbers near 127
    query[:big] = 1
    vectors = (codes * 2.0**-9).astype(np.float32)
    there = round_of(place, vectors)
    assert (there.codes == codes).all()
    longest = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
    for (score, width), vector in zip(seen(there, query.astype(np.float32), longest), vectors, strict=True):
        assert score - width <= exact(vector, query.astype(np.float32)) <= score


def test_repaired_lists_keep_them(index: Path) -> None:
    before = read(index)
    lists = index / "versions" / "v000001" / "neighbors.h5"
    data = bytearray(lists.read_bytes())
    data[Index(index).manifest.arrays["similarity"].offset + 40] ^= 1
    lists.write_bytes(data)
    repair(index, quiet=True)
    after = read(index)
    assert after.folder != before.folder
    assert after.about == before.about
    assert (after.folder / "codes.bin").samefile(before.folder / "codes.bin")


def test_they_belong_to_the_vectors_as_they_are_stored(index: Path) -> None:
    there = read(index)
    stored = Embeddings(Index(index).open_embeddings().path).vectors
    decoded = there.center.astype(np.float64) + there.scales[:, :1].astype(np.float64) * there.codes.astype(np.float64)
    assert np.abs(decoded - stored).max() < 0.01
