"""Samples and embeddings files: what is written is what is read; what is wrong is refused whole."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lookalike.samples_writer as module
from lookalike.about import check_id, fill_masked, id_from_name
from lookalike.embeddings import Embeddings, normalize, write_embeddings
from lookalike.errors import CorruptError, InputError, LookalikeError, NotFoundError
from lookalike.hashing import content_hash
from lookalike.provenance import build_record, read_record, write_record
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples

ABOUT = About(domain="image", bands=("r", "g"))
COLUMNS = {"mag": Column("mag", "brightness"), "label": Column(), "count": Column()}


def write(path: Path, n: int, seed: int = 0, prefix: str = "o") -> np.ndarray:
    images = np.random.default_rng(seed).standard_normal((n, 2, 4, 5)).astype(np.float32)
    with write_samples(path, ABOUT, COLUMNS) as writer:
        for start in range(0, n, 3):
            rows = np.arange(start, min(start + 3, n))
            catalog = {"mag": rows / 2, "label": np.array([f"é{row}" for row in rows]), "count": rows}
            writer.append([f"{prefix}{row}" for row in rows], images[rows], catalog)
    return images


@pytest.fixture
def shards(tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Three shards of unequal size, the last not named like the others."""
    names = {"part2.h5": 4, "part10.h5": 7, "the_rest.h5": 2}
    arrays = [write(tmp_path / name, n, seed, f"{name[:-3]}-") for seed, (name, n) in enumerate(names.items())]
    return [tmp_path / name for name in reversed(names)], np.concatenate(arrays)


def test_shards_read_as_one_in_natural_order(shards: tuple[list[Path], np.ndarray]) -> None:
    paths, images = shards
    samples = Samples(paths)
    assert [path.name for path in samples.paths] == ["part2.h5", "part10.h5", "the_rest.h5"]
    assert len(samples) == 13
    np.testing.assert_array_equal(samples.objects(slice(None)), images)
    assert samples.column("label")[:5].tolist() == ["é0", "é1", "é2", "é3", "é0"]
    assert samples.column("mag").dtype == np.float64
    assert samples.columns["mag"] == Column("mag", "brightness")
    assert [samples.row(samples.id(row)) for row in range(13)] == list(range(13))


@given(rows=st.lists(st.integers(0, 12), max_size=30))
@settings(max_examples=60)
def test_any_rows_in_any_order_with_repeats(tmp_path_factory: pytest.TempPathFactory, rows: list[int]) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_rows"
    if not folder.exists():
        folder.mkdir()
        write(folder / "a.h5", 6, 1, "a")
        write(folder / "b.h5", 7, 2, "b")
    samples = Samples(sorted(folder.glob("*.h5")))
    np.testing.assert_array_equal(samples.objects(rows), samples.objects(slice(None))[rows])


def test_single_values_are_those_of_the_column(shards: tuple[list[Path], np.ndarray]) -> None:
    samples = Samples(shards[0])
    rows = [12, 0, 5, 5, 3, 4, 10]
    for name in COLUMNS:
        column = samples.column(name)
        assert samples.values(name, rows).tolist() == column[rows].tolist()
        assert samples.values(name, rows).dtype.kind == column.dtype.kind
        assert len(samples.values(name, [])) == 0
    assert samples.ids_at(rows) == samples.ids[rows].astype(str).tolist()
    assert samples.ids_at([]) == []
    with pytest.raises(InputError, match="Unknown column 'mga'"):
        samples.values("mga", [0])


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_blocks_of_columns_are_the_columns_one_after_the_other(
    shards: tuple[list[Path], np.ndarray], rows: int
) -> None:
    samples = Samples(shards[0])
    blocks = list(samples.column_blocks(["mag", "count"], rows))
    assert max(len(block[0]) for block in blocks) <= rows
    for name, parts in zip(("mag", "count"), zip(*blocks, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), samples.column(name))
    with pytest.raises(InputError, match="Unknown column 'mga'"):
        next(samples.column_blocks(["mga"], 1))


def test_one_row_is_read_as_its_columns_are(
    shards: tuple[list[Path], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = Samples(shards[0])
    opened: list[str] = []
    get = h5py.Group.__getitem__
    for row in range(len(samples)):
        assert samples.record(row) == {name: samples.column(name)[row] for name in samples.columns}
    monkeypatch.setattr(h5py.Group, "__getitem__", lambda self, name: opened.append(name) or get(self, name))
    samples.record(12)  # in the last shard
    assert sorted(opened) == ["catalog", "count", "label", "mag"]
    opened.clear()
    samples.values("mag", [5, 12, 6])
    assert opened == ["catalog/mag", "catalog/mag"]  # two shards


def test_missing_values_are_counted_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_ROWS", 4)
    rng = np.random.default_rng(0)
    paths, slow = [], dict.fromkeys(COLUMNS, 0)
    for shard in range(2):
        paths.append(tmp_path / f"{shard}.h5")
        with write_samples(paths[-1], ABOUT, COLUMNS) as writer:
            for start in range(0, 12, 3):
                mag = np.where(rng.random(3) < 0.4, np.nan, 1.0)
                label = np.where(rng.random(3) < 0.4, "", "x")
                slow["mag"] += sum(value != value for value in mag.tolist())
                slow["label"] += label.tolist().count("")
                images = np.zeros((3, 2, 4, 4), np.float32)
                catalog = {"mag": mag, "label": label, "count": np.arange(3)}
                writer.append([f"{shard}-{start + i}" for i in range(3)], images, catalog)
    assert slow["mag"] > 0
    assert slow["label"] > 0
    assert Samples(paths).missing() == slow
    with h5py.File(paths[0], "r+") as file:  # as earlier versions wrote it
        for data in file["catalog"].values():
            del data.attrs["missing"]
    assert Samples(paths).missing() == slow


def test_another_file_in_the_way_is_kept_where_it_may_not_be_lost(tmp_path: Path) -> None:
    images = np.zeros((1, 2, 4, 4), np.float32)
    out = tmp_path / "out.h5"

    def write(value: float) -> None:
        with write_samples(out, ABOUT, {"mag": Column()}, replace=False) as writer:
            writer.append(["a"], images, {"mag": np.array([value])})

    write(1.0)
    write_record(out, build_record("test", settings={}, inputs={}, content_hash=Samples(out).content_hash))
    before = out.read_bytes()
    with pytest.raises(InputError, match=r"out.h5 holds something else \(content hash .*--overwrite"):
        write(2.0)
    assert out.read_bytes() == before
    assert read_record(out) is not None
    write(1.0)  # the same content is no loss
    out.write_text("a letter")
    with pytest.raises(InputError, match=r"holds something else \(no file of ours\)"):
        write(1.0)
    assert out.read_text() == "a letter"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5"]


def test_every_text_beside_our_arrays_has_a_fixed_length(toy_index: Path) -> None:
    found = []

    def look(name: str, item: h5py.HLObject) -> None:
        for key in item.attrs:
            kind = h5py.check_string_dtype(item.attrs.get_id(key).dtype)
            found.append(key)
            assert kind is None or kind.length is not None, (name, key)

    for path in (*toy_index.parent.glob("*.h5"), *toy_index.glob("versions/*/*.h5")):
        with h5py.File(path, "r", locking=False) as file:
            look("", file)
            file.visititems(look)
    assert found.count("kind") == 3


def test_a_pickled_reader_opens_its_own_handles(shards: tuple[list[Path], np.ndarray]) -> None:
    samples = Samples(shards[0])
    samples.objects([3])
    again = pickle.loads(pickle.dumps(samples))  # between our own processes, as a data loader does
    np.testing.assert_array_equal(again.objects([3, 12]), shards[1][[3, 12]])


def test_the_hash_ignores_blocks_and_sees_every_byte(tmp_path: Path) -> None:
    images = write(tmp_path / "a.h5", 7)
    with write_samples(tmp_path / "b.h5", ABOUT, COLUMNS) as writer:
        rows = np.arange(7)
        labels = np.array([f"é{row}" for row in rows])
        writer.append([f"o{row}" for row in rows], images, {"mag": rows / 2, "label": labels, "count": rows})
    assert Samples(tmp_path / "a.h5").content_hash == Samples(tmp_path / "b.h5").content_hash
    Samples(tmp_path / "b.h5").verify()
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        file["images"][3, 1, 2, 2] += 1
    with pytest.raises(CorruptError, match=r"b\.h5 was altered"):
        Samples(tmp_path / "b.h5").verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["o1", "o1"]}, "'o1' occurs twice: object 0 of those stored"),
        ({"ids": ["o1"]}, "1 ids, 2 images"),
        ({"ids": ["o1", "o2", "o3"]}, "3 ids, 2 images"),
        ({"ids": ["o1", "a b"]}, "An id is 1 to 64 characters"),
        ({"images": np.zeros((2, 3, 4, 4), np.float32)}, r"C = 2 bands \(r, g\)"),
        ({"images": np.zeros((2, 2, 4, 4))}, "float32 or uint8, but float64"),
        ({"images": np.full((2, 2, 4, 4), np.nan, np.float32)}, "finite values only"),
        ({"catalog": {"mag": np.zeros(2)}}, "are declared"),
        ({"catalog": {"mag": np.zeros(3), "label": ["", ""], "count": [1, 2]}}, "one value per object"),
        ({"catalog": {"mag": [1.0, 2.0], "label": ["", ""], "count": np.array([1, 2**64 - 1], np.uint64)}}, "2\\^63"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_left(tmp_path: Path, change: dict[str, object], message: str) -> None:
    catalog = {"mag": np.zeros(2), "label": np.array(["a", "b"]), "count": np.arange(2)}
    given = {"ids": ["o1", "o2"], "images": np.zeros((2, 2, 4, 4), np.float32), "catalog": catalog} | change
    with pytest.raises(InputError, match=message), write_samples(tmp_path / "x.h5", ABOUT, COLUMNS) as writer:
        writer.append(given["ids"], given["images"], given["catalog"])  # type: ignore[arg-type]
    assert not (tmp_path / "x.h5").exists()
    assert not list(tmp_path.glob("*partial*"))


def test_a_column_called_id_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="may not be called 'id'"),
        write_samples(tmp_path / "x.h5", ABOUT, {"id": Column()}),
    ):
        pass


@pytest.mark.parametrize("name", ["a/b", "", ".", "..", "a\0b"])
def test_a_columns_name_that_leads_elsewhere_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(InputError, match="A catalog column has a name without '/'"),
        write_samples(tmp_path / "x.h5", ABOUT, {name: Column()}),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "kept").write_text("kept")
    with pytest.raises(InputError, match="is a folder"), write_samples(tmp_path / "made", ABOUT, COLUMNS):
        pytest.fail("work began")
    with pytest.raises(InputError, match="is a folder"):
        write_embeddings(tmp_path / "made", np.array([b"x"]), iter([np.ones((1, 2))]), dimensions=2)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_no_object_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No object to store"), write_samples(tmp_path / "x.h5", ABOUT, {}):
        pass


def test_shards_that_do_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 3)
    with write_samples(tmp_path / "b.h5", ABOUT, {}) as writer:
        writer.append(["x"], np.zeros((1, 2, 4, 5), np.float32), {})
    with pytest.raises(InputError, match="different catalog columns: count, label, mag"):
        Samples(list(tmp_path.glob("*.h5")))
    write(tmp_path / "b.h5", 3)
    with pytest.raises(InputError, match="'o0' occurs in two shards"):
        Samples(list(tmp_path.glob("*.h5"))).row("o0")


def shard(path: Path, column: Column, values: list[object], name: str) -> Path:
    with write_samples(path, ABOUT, {"size": column}) as writer:
        writer.append([name], np.zeros((1, 2, 4, 5), np.float32), {"size": np.array(values)})
    return path


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (Column("pc", "radius"), [1.0], r"'size' is in pc in .*b\.h5 and in kpc in .*a\.h5"),
        (Column("", "radius"), [1.0], "'size' is in no unit in"),
        (Column("kpc", "radius"), [1], r"'size' holds whole numbers in .*b\.h5 and fractions in .*a\.h5"),
        (Column("kpc", "diameter"), [1.0], "'size' is 'diameter' in .* and 'radius' in"),
    ],
)
def test_shards_whose_columns_mean_other_things(
    tmp_path: Path, column: Column, values: list[object], message: str
) -> None:
    first = shard(tmp_path / "a.h5", Column("kpc", "radius"), [2.0], "a")
    with pytest.raises(InputError, match=message):
        Samples([first, shard(tmp_path / "b.h5", column, values, "b")])


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (np.array([2**60 + 1]), np.array([0.5]), "whole numbers first, then fractions"),
        (np.array([2**60 + 1]), np.array([str(2**63)]), "whole numbers first, then texts"),
        (np.array(["a"]), np.array([1]), "texts first, then whole numbers"),
    ],
)
def test_a_column_keeps_the_kind_of_its_first_block(
    tmp_path: Path, first: np.ndarray, then: np.ndarray, message: str
) -> None:
    def drifting() -> None:
        with write_samples(tmp_path / "x.h5", ABOUT, {"n": Column()}) as writer:
            writer.append(["a"], np.zeros((1, 2, 4, 5), np.float32), {"n": first})
            writer.append(["b"], np.zeros((1, 2, 4, 5), np.float32), {"n": then})

    with pytest.raises(InputError, match=message):
        drifting()
    assert not list(tmp_path.iterdir())


def test_an_id_of_an_earlier_block_is_refused(tmp_path: Path) -> None:
    def repeated() -> None:
        with write_samples(tmp_path / "x.h5", ABOUT, {}) as writer:
            for name in ("b", "a", "c", "a"):
                writer.append([name], np.zeros((1, 2, 4, 5), np.float32), {})

    with pytest.raises(InputError, match="'a' occurs twice: object 1 of those stored"):
        repeated()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pending", [1, 4, 1000])
@pytest.mark.parametrize("block", [1, 3, 20])
def test_what_is_written_piece_by_piece_is_what_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pending: int, block: int
) -> None:
    monkeypatch.setattr(module, "PENDING_ROWS", pending)
    monkeypatch.setattr(module, "CATALOG_CHUNK", 4)
    rows = np.arange(20)
    catalog = {"mag": rows / 3, "label": np.array(["é" * (row % 7) for row in rows]), "count": rows * 2**55}
    ids = [str(10 ** (row % 3) * (row + 1)) + "x" * row for row in rows]
    images = np.random.default_rng(1).standard_normal((20, 2, 4, 5)).astype(np.float32)
    with write_samples(tmp_path / "x.h5", ABOUT, COLUMNS) as writer:
        for start in range(0, 20, block):
            part = slice(start, start + block)
            writer.append(ids[part], images[part], {name: values[part] for name, values in catalog.items()})
            assert len(writer) == min(start + block, 20)
    samples = Samples(tmp_path / "x.h5")
    assert [samples.id(row) for row in rows] == ids
    for name, values in catalog.items():
        assert samples.column(name).tolist() == values.tolist()
        assert samples.values(name, [17, 3]).tolist() == values[[17, 3]].tolist()
    encoded = np.char.encode(catalog["label"], "utf-8")
    arrays = {"images": images, "id": np.array(ids, "S"), "catalog/mag": catalog["mag"], "catalog/label": encoded}
    about = ABOUT.model_dump(mode="json")
    assert samples.content_hash == content_hash(arrays | {"catalog/count": catalog["count"]}, about)
    samples.verify()


def test_memory_does_not_grow_with_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 columns of 100,000 numbers are 16 MB; blocks of 1,000 rows are held and at most 5,000 pending ones."""
    monkeypatch.setattr(module, "PENDING_ROWS", 5000)
    names = {f"c{i}": Column() for i in range(20)}
    about = About(domain="image", bands=("gray",))
    tracemalloc.start()
    try:
        with write_samples(tmp_path / "x.h5", about, names) as writer:
            for start in range(0, 100_000, 1000):
                values = np.arange(start, start + 1000, dtype=np.float64)
                ids = [str(row) for row in range(start, start + 1000)]
                writer.append(ids, np.zeros((1000, 1, 1, 1), np.uint8), {name: values.copy() for name in names})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6e6


@pytest.mark.parametrize(
    "damage",
    [
        "del file['images']",
        "del file['id']",
        "del file.attrs['about']",
        "del file.attrs['content_hash']",
        "del file.attrs['schema']",
        "file.attrs['about'] = '{'",
        "file.attrs['about'] = '{}'",
        "file.attrs['about'] = '[1]'",
        "file.attrs['about'] = 3",
        "del file['catalog/mag'].attrs['unit']",
        "del file['catalog/mag']; file['catalog/mag'] = np.zeros(2)",
        "del file['catalog/mag']; file.create_group('catalog/mag')",
        "del file['catalog']; file['catalog'] = 1",
        "del file['id']; file['id'] = np.arange(3)",
        "del file['images']; file['images'] = np.zeros((3, 2, 4))",
        "del file['images']; file['images'] = np.zeros((3, 1, 4, 4), np.float32)",
        "del file['images']; file['images'] = np.zeros((3, 2, 4, 4))",
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "x.h5", 3)
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        exec(damage, {"file": file, "np": np})
    with pytest.raises(CorruptError, match=r"x\.h5 cannot be read"):
        Samples(tmp_path / "x.h5")


FUZZ = """
import signal, sys
from pathlib import Path
from lookalike.embeddings import Embeddings
from lookalike.errors import LookalikeError
from lookalike.samples import Samples
kind, path, changed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
data = path.read_bytes()
for place in map(int, sys.argv[4:]):
    print(place, flush=True)
    changed.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
    signal.alarm(20)
    try:
        if kind == "samples":
            samples = Samples(changed)
            samples.verify()
            samples.ids, [samples.column(name) for name in samples.columns]
        else:
            Embeddings(changed).verify()
    except LookalikeError:
        pass
"""


@pytest.mark.parametrize("kind", ["samples", "embeddings"])
def test_a_changed_byte_is_a_typed_error_and_never_a_hang_or_crash(tmp_path: Path, kind: str) -> None:
    """Read in a process of its own, since HDF5 can take its process with it."""
    path = tmp_path / "a.h5"
    if kind == "samples":
        write(path, 3)
    else:
        made_from = {"samples": "0" * 64, "checkpoint": "1" * 64}
        write_embeddings(path, np.array([b"a", b"b"]), iter([np.eye(2)]), dimensions=2, made_from=made_from)
    data = path.read_bytes()
    used = [place for place in range(len(data)) if any(data[max(0, place - 8) : place + 8])]  # not the empty stretches
    places = np.random.default_rng(0).choice(used, 700, replace=False)
    code = [sys.executable, "-c", FUZZ, kind, str(path), str(tmp_path / "b.h5"), *map(str, places)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"byte {done.stdout.split()[-1]}: {done.returncode} {done.stderr[-500:]}"


def test_files_that_are_not_samples(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n truncated")
    with pytest.raises(CorruptError, match=r"x\.h5"):
        Samples(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(InputError, match="not a samples file"):
        Samples(tmp_path / "y.h5")
    write(tmp_path / "z.h5", 3)
    with pytest.raises(InputError, match=r"Unknown column 'mga'\. Did you mean 'mag'"):
        Samples(tmp_path / "z.h5").column("mga")
    for name in ("o3", "é", ""):
        with pytest.raises(NotFoundError):
            Samples(tmp_path / "z.h5").row(name)


def test_what_is_to_be_ingested_first_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name in (("photos", "a/1.PNG"), ("sky", "x.fits"), ("arrays", "x.npy"), ("empty", "notes.txt")):
        (tmp_path / folder / name).parent.mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(b"x")
    with h5py.File("survey.h5", "w") as file:
        file["images"] = np.zeros((2, 3, 8, 8), np.float32)
    with h5py.File("linked.h5", "w") as file:
        file["images"] = h5py.ExternalLink("survey.h5", "/images")
    write_embeddings(Path("mine.h5"), np.array([b"a"]), iter([np.ones((1, 2))]), dimensions=2)
    for path, command in {
        "photos": "ingest images photos",
        "photos/a/1.PNG": "ingest images photos/a/1.PNG",
        "sky": "ingest fits sky/*.fits",
        "sky/x.fits": "ingest fits sky/x.fits",
        "arrays": "ingest numpy arrays/*.npy",
        "survey.h5": "ingest legacysurvey survey.h5",
        "linked.h5": "ingest SOURCE FILES",
        "mine.h5": "ingest SOURCE FILES",
        "empty": "ingest SOURCE FILES",
    }.items():
        with pytest.raises(InputError) as refused:
            Samples(Path(path))
        assert f"`lookalike {command} --out samples.h5`" in refused.value.message, refused.value.message
        assert path in refused.value.message
    with pytest.raises(NotFoundError, match=r"No such file: none\.png"):
        Samples(Path("none.png"))


@given(st.text(max_size=70))
def test_names_become_ids_or_are_refused(name: str) -> None:
    try:
        made = id_from_name(name)
    except LookalikeError:
        return
    assert check_id(made) == made


def test_masked_pixels_become_zero_and_are_counted() -> None:
    images = np.ones((2, 1, 2, 2), np.float32)
    images[1, 0, 0, 0], images[1, 0, 1, 1] = np.nan, np.inf
    filled, share = fill_masked(images)
    np.testing.assert_array_equal(share, [0, 0.5])
    np.testing.assert_array_equal(filled[1, 0], [[0, 1], [1, 0]])


def test_embeddings_are_normalized_and_found_again(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 3))
    ids = np.array([b"a", b"b", b"c", b"d", b"e"])
    digest = write_embeddings(
        tmp_path / "e.h5", ids, iter([vectors[:2], vectors[2:]]), dimensions=3, made_from={"samples": "s"}
    )
    found = Embeddings(tmp_path / "e.h5")
    np.testing.assert_array_equal(found.vectors, normalize(vectors).astype(np.float32))
    assert (found.content_hash, found.made_from, found.dimensions) == (digest, {"samples": "s"}, 3)
    found.verify()
    with h5py.File(tmp_path / "e.h5", "r+") as file:
        file["embedding"][4, 2] += 1e-3
    with pytest.raises(CorruptError, match="altered"):
        Embeddings(tmp_path / "e.h5").verify()


def test_vectors_without_direction_are_named_by_row(tmp_path: Path) -> None:
    blocks = [np.ones((3, 2)), np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0]])]
    with pytest.raises(InputError, match=r"2 vectors are zero or not finite .* rows 4, 5"):
        write_embeddings(tmp_path / "e.h5", np.array([b"x"] * 6), iter(blocks), dimensions=2)
    assert not (tmp_path / "e.h5").exists()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="6 ids, 3 vectors"):
        write_embeddings(tmp_path / "e.h5", np.array([b"x"] * 6), iter(blocks[:1]), dimensions=2)


@pytest.mark.parametrize(
    ("ids", "blocks", "message"),
    [
        ([b"x"] * 2, [np.ones((3, 2))], "2 ids, but at least 3 vectors"),
        ([b"x"] * 3, [np.ones((2, 2)), np.ones((2, 2))], "3 ids, but at least 4 vectors"),
        ([b"x"] * 2, [np.ones((2, 3))], r"shape \(n, 2\), but \(2, 3\)"),
        ([b"x"] * 2, [np.ones((2, 1))], r"shape \(n, 2\), but \(2, 1\)"),
        ([b"x"] * 2, [np.ones(2)], r"shape \(n, 2\), but \(2,\)"),
        ([], [], "Ids are one array"),
        (["x"] * 2, [np.ones((2, 2))], "Ids are one array"),
    ],
)
def test_vectors_that_do_not_go_with_the_ids(tmp_path: Path, ids: list[bytes], blocks: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_embeddings(tmp_path / "e.h5", np.array(ids), iter(blocks), dimensions=2)
    assert not list(tmp_path.iterdir())


def test_the_layer_is_kept_beside_the_hash(tmp_path: Path) -> None:
    ids = np.array([b"a", b"b"])
    plain = write_embeddings(tmp_path / "e.h5", ids, iter([np.eye(2)]), dimensions=2)
    assert Embeddings(tmp_path / "e.h5").layer == ""
    named = write_embeddings(tmp_path / "e.h5", ids, iter([np.eye(2)]), dimensions=2, layer="projection")
    assert Embeddings(tmp_path / "e.h5").layer == "projection"
    assert named == plain


@pytest.mark.parametrize(
    "data",
    [
        {"embedding": {"data": np.eye(3, dtype=np.float32), "chunks": (1, 3)}},
        {"embedding": {"data": np.eye(2, dtype=np.float32)}},
        {"embedding": {"data": np.eye(3)}},
        {"embedding": {"data": np.ones(3, np.float32)}},
        {"embedding": {"shape": (3, 0), "dtype": "f4"}},
        {"id": {"data": np.arange(3)}},
        {"id": {"data": np.array([[b"a"], [b"b"], [b"c"]])}},
    ],
)
def test_embeddings_of_another_build_are_refused(tmp_path: Path, data: dict[str, dict]) -> None:
    path = tmp_path / "e.h5"
    write_embeddings(path, np.array([b"a", b"b", b"c"]), iter([np.eye(3)]), dimensions=3)
    with h5py.File(path, "r+") as file:
        for name, made in data.items():
            del file[name]
            file.create_dataset(name, **made)
    with pytest.raises(CorruptError, match=r"e\.h5 is not a readable embeddings file"):
        Embeddings(path)


KILLED = """
from pathlib import Path
import numpy as np
from lookalike.embeddings import write_embeddings
from lookalike.samples import About
from lookalike.samples_writer import write_samples
if {kind!r} == "samples":
    with write_samples(Path({out!r}), About(domain="image", bands=("r",)), {{}}) as writer:
        writer.append(["new"], np.ones((1, 1, 2, 2), np.float32), {{}})
else:
    write_embeddings(Path({out!r}), np.array([b"new"]), iter([np.ones((1, 2))]), dimensions=2)
"""


@pytest.mark.parametrize("kind", ["samples", "embeddings"])
@pytest.mark.parametrize("point", ["written", "renamed"])
def test_a_kill_never_leaves_an_old_record_beside_a_new_file(tmp_path: Path, kind: str, point: str) -> None:
    out = tmp_path / "out.h5"
    with write_samples(out, About(domain="image", bands=("r",)), {}) as writer:
        writer.append(["old"], np.ones((1, 1, 2, 2), np.float32), {})
    write_record(out, build_record("old", settings={}, inputs={}))  # without a hash, as nothing could tell
    code, killed = KILLED.format(kind=kind, out=str(out)), {"LOOKALIKE_KILL_AT": f"out.h5.{point}"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | killed, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_record(out) is None


def test_a_record_tells_of_the_file_it_was_written_for_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 3)
    record = build_record("make", settings={}, inputs={}, content_hash=Samples(tmp_path / "a.h5").content_hash)
    write_record(tmp_path / "a.h5", record)
    assert read_record(tmp_path / "a.h5") == record
    write(tmp_path / "b.h5", 4)
    (tmp_path / "b.h5").replace(tmp_path / "a.h5")
    assert read_record(tmp_path / "a.h5") is None
    (tmp_path / "a.h5").write_bytes(b"damaged")
    assert read_record(tmp_path / "a.h5") is None
    (tmp_path / "a.h5.build.json").write_text("[]")
    with pytest.raises(CorruptError, match="not a build record"):
        read_record(tmp_path / "a.h5")
