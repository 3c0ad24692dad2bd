"""The audit finds what is wrong with an index, byte by byte and list by list.

pytest tests/test_indexer_audit.py
"""

from __future__ import annotations

import errno
import hashlib
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.hashing import combine, content_hash
from lookalike.indexer import audit
from lookalike.indexer.audit import _rounded, verify
from lookalike.indexer.index import build_index
from lookalike.indexer.similarity import exact
from lookalike.indexer.store import publish

Write = Callable[..., tuple[Path, list[Path]]]


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

    monkeypatch.setattr(audit, "write_json", refuse)
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
    monkeypatch.setattr(audit, "BLOCK_BYTES", budget)
    vectors = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    audit._brute_force(vectors, np.arange(400), 3, None, np.inf, quiet=True)
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
        assert _rounded(terms.tolist()) == exact(terms)
