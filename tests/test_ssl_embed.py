"""Embedding: rows against one at a time, data that do not fit, collapsed encoders."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.augmentations import get_domain
from lookalike.augmentations.inputs import encoder_input
from lookalike.embeddings import Embeddings, normalize
from lookalike.errors import CollapsedError, InputError, NotFoundError
from lookalike.indexer.index import build_index
from lookalike.provenance import read_record
from lookalike.query import Query, answer
from lookalike.samples import Samples
from lookalike.ssl import embed_files
from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, read_config, save_encoder
from lookalike.ssl.embed import embed, embed_objects
from lookalike.ssl.embed_files import refuse_collapsed, spread_of, useless_spread
from lookalike.ssl.encoders import Encoder, EncoderConfig

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]


@pytest.fixture
def checkpoint(blob_samples: Write, tmp_path: Path) -> Path:
    """An untrained encoder for the drawn galaxies in samples.h5 (40 objects, views of 16 of 24 px)."""
    samples = Samples(blob_samples(n=40, pixel_scale=0.262))
    domain = get_domain("galaxy")
    settings, _ = domain.settings(samples.about, 24, frozenset(samples.columns), "uint8")
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(projection=8))
    config = CheckpointConfig(
        encoder=encoder.config,
        preprocess=domain.preprocess(samples.about, settings),
        domain="galaxy",
        bands=samples.about.bands,
    )
    (tmp_path / "checkpoint").mkdir()
    save_encoder(tmp_path / "checkpoint", encoder, config)
    return tmp_path / "checkpoint"


def test_rows_are_what_each_picture_gives_alone(checkpoint: Path, tmp_path: Path) -> None:
    data = tmp_path / "samples.h5"
    report = embed([data], checkpoint, tmp_path / "e.h5", batch_size=16, quiet=True)
    found, samples = Embeddings(tmp_path / "e.h5"), Samples(data)
    encoder, config = load_encoder(checkpoint)
    assert (report.n, report.dimensions) == found.vectors.shape == (40, 512)
    assert found.ids.tolist() == samples.ids.tolist()
    assert found.made_from == {"samples": samples.content_hash, "checkpoint": config.content_hash}
    for row in (0, 17, 39):
        with torch.no_grad():
            one, _ = encoder(encoder_input(torch.from_numpy(samples.objects([row])), config.preprocess))
        expected = one[0].double() / one[0].double().norm()
        np.testing.assert_allclose(found.vectors[row], expected, atol=1e-6)
    record = read_record(tmp_path / "e.h5")
    assert record is not None
    assert record["inputs"] == found.made_from
    assert record["content_hash"] == found.content_hash == report.content_hash
    assert found.layer == "embedding"


def test_eight_orientations_make_turned_pictures_equal(checkpoint: Path, blob_samples: Write, tmp_path: Path) -> None:
    encoder, config = load_encoder(checkpoint)
    eight = Encoder(encoder.config.model_copy(update={"orientations": 8}))
    eight.load_state_dict(encoder.state_dict())
    (tmp_path / "eight").mkdir()
    save_encoder(tmp_path / "eight", eight, config.model_copy(update={"encoder": eight.config}))
    turned = blob_samples("turned.h5", n=40, pixel_scale=0.262, quarters=1)
    for name in ("samples", "turned"):
        embed([tmp_path / f"{name}.h5"], tmp_path / "eight", tmp_path / f"{name}-e.h5", quiet=True)
    straight, other = (Embeddings(tmp_path / f"{name}-e.h5").vectors[:] for name in ("samples", "turned"))
    np.testing.assert_allclose(straight, other, atol=1e-6)
    embed([turned], checkpoint, tmp_path / "one-e.h5", quiet=True)
    assert np.abs(straight - Embeddings(tmp_path / "one-e.h5").vectors[:]).max() > 1e-3


def test_equal_runs_give_equal_files_and_batches_hardly_matter(checkpoint: Path, tmp_path: Path) -> None:
    data = [tmp_path / "samples.h5"]
    one = embed(data, checkpoint, tmp_path / "one.h5", batch_size=16, quiet=True)
    two = embed(data, checkpoint, tmp_path / "two.h5", batch_size=16, quiet=True)
    assert one.content_hash == two.content_hash
    embed(data, checkpoint, tmp_path / "three.h5", batch_size=7, quiet=True)
    np.testing.assert_allclose(
        Embeddings(tmp_path / "one.h5").vectors, Embeddings(tmp_path / "three.h5").vectors, atol=1e-6
    )


def test_pictures_that_must_not_be_written_to_are_embedded_too(checkpoint: Path, tmp_path: Path) -> None:
    encoder, config = load_encoder(checkpoint)
    images = Samples(tmp_path / "samples.h5").objects(slice(0, 3))
    expected = embed_objects(images, encoder, config)
    images.flags.writeable = False
    assert np.array_equal(embed_objects(images, encoder, config), expected)
    with pytest.raises(InputError, match="takes pictures"):
        embed_objects(images[:, :2], encoder, config)


def test_projection_and_float16(checkpoint: Path, tmp_path: Path) -> None:
    data = [tmp_path / "samples.h5"]
    report = embed(data, checkpoint, tmp_path / "p.h5", layer="projection", dtype="float16", quiet=True)
    found = Embeddings(tmp_path / "p.h5")
    assert found.vectors.dtype == np.float16
    assert report.dimensions == found.dimensions == 8
    assert found.layer == "projection"
    encoder, config = load_encoder(checkpoint)
    expected = embed_objects(Samples(data).objects(slice(None)), encoder, config, layer="projection")
    np.testing.assert_allclose(found.vectors, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"bands": "RG"}, "trained on the bands R, G, B, but these samples hold R, G"),
        ({"bands": "BGR"}, "trained on the bands R, G, B, but these samples hold B, G, R"),
        ({"unit": "nanomaggies"}, "trained on pixels in no unit, but these samples are in nanomaggies"),
        ({"domain": "image"}, "trained on the domain galaxy, but these samples are of the domain image"),
        ({"pixel_scale": 0.3}, r"trained on pixels of 0.262 arcsec, but these samples have 0.3 arcsec/px"),
        ({"dtype": "float32"}, "trained on uint8 pixels, but float32 was given"),
        ({"size": 12}, "sees the central 16×16 px, but pictures of 12×12 px"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    checkpoint: Path, blob_samples: Write, tmp_path: Path, data: dict[str, object], message: str
) -> None:
    other = blob_samples("other.h5", n=4, **data)
    with pytest.raises(InputError, match=message):
        embed([other], checkpoint, tmp_path / "e.h5", quiet=True)
    assert not (tmp_path / "e.h5").exists()


def test_larger_pictures_are_cropped(checkpoint: Path, blob_samples: Write, tmp_path: Path) -> None:
    big = blob_samples("big.h5", n=4, size=40, pixel_scale=0.26205)  # a scale as a header rounds it
    report = embed([big], checkpoint, tmp_path / "e.h5", quiet=True)
    assert (report.n, report.notes) == (4, [])


def test_a_scale_that_is_not_known_is_said(checkpoint: Path, blob_samples: Write, tmp_path: Path) -> None:
    report = embed([blob_samples("other.h5", n=8)], checkpoint, tmp_path / "e.h5", quiet=True)
    assert "The pixel scale of these samples is not known" in report.notes[0]


def test_a_unit_may_be_spelled_otherwise(checkpoint: Path, blob_samples: Write, tmp_path: Path) -> None:
    encoder, config = load_encoder(checkpoint)
    flux = config.preprocess.changed({"unit": "nanomaggies"})
    save_encoder(checkpoint, encoder, config.model_copy(update={"preprocess": flux}))
    for unit in ("nanomaggy", "Nanomaggies", "nmgy"):
        other = blob_samples("other.h5", n=4, unit=unit, pixel_scale=0.262)
        assert embed([other], checkpoint, tmp_path / "e.h5", overwrite=True, quiet=True).notes == []


def test_an_older_record_does_not_outlive_its_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the file and its record leaves no record, rather than another file's."""
    data, out = [tmp_path / "samples.h5"], tmp_path / "e.h5"
    embed(data, checkpoint, out, quiet=True)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embed_files, "write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        embed(data, checkpoint, out, layer="projection", overwrite=True, quiet=True)
    assert Embeddings(out).layer == "projection"
    assert read_record(out) is None


def test_embeddings_in_the_way_are_reused_or_kept(checkpoint: Path, blob_samples: Write, tmp_path: Path) -> None:
    data, out = [tmp_path / "samples.h5"], tmp_path / "e.h5"
    first = embed(data, checkpoint, out, quiet=True)
    kept, made = out.read_bytes(), read_record(out)
    again = embed(data, checkpoint, out, quiet=True)
    assert (again.n, again.dimensions, again.content_hash) == (first.n, first.dimensions, first.content_hash)
    assert again.spread == pytest.approx(first.spread, abs=1e-6)
    assert "nothing was computed" in again.notes[0]
    other = blob_samples("other.h5", n=8, pixel_scale=0.262, seed=1)
    for given, options, differs in (
        (data, {"layer": "projection"}, "layer"),
        (data, {"dtype": "float16"}, "dtype"),
        ([other], {}, "samples"),
    ):
        with pytest.raises(InputError, match=rf"made with other {differs}\. .*--overwrite"):
            embed(given, checkpoint, out, quiet=True, **options)  # type: ignore[arg-type]
    assert (out.read_bytes(), read_record(out)) == (kept, made)
    with pytest.raises(InputError, match=r"samples.h5 is read here and cannot be written too"):
        embed(data, checkpoint, data[0], overwrite=True, quiet=True)
    with pytest.raises(InputError, match=r"other.h5 is there already and is no embeddings file"):
        embed(data, checkpoint, other, quiet=True)
    damaged = bytearray(kept)
    damaged[Embeddings(out).vectors.offset + 5] ^= 1  # type: ignore[attr-defined]
    out.write_bytes(damaged)
    anew = embed(data, checkpoint, out, quiet=True)
    assert (anew.notes, anew.content_hash) == ([f"{out} was damaged and is made anew."], first.content_hash)
    assert embed([other], checkpoint, out, overwrite=True, quiet=True).n == 8


def test_embeddings_in_a_folder_that_cannot_be_written_to_are_reused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, left = [tmp_path / "samples.h5"], tmp_path / "e.h5", tmp_path / ".e.h5.rows.partial"
    first = embed(data, checkpoint, out, quiet=True)
    number = [errno.EIO]

    def refused(output: Path) -> None:
        raise OSError(number[0], "refused")

    with monkeypatch.context() as patch:
        patch.setattr(embed_files, "lock", refused)
        for number[0] in (errno.EIO, errno.EROFS, errno.EACCES):  # at first there is nothing to remove
            assert embed(data, checkpoint, out, quiet=True).content_hash == first.content_hash
            left.write_text("{}")
        number[0] = errno.EIO
        with pytest.raises(OSError, match="refused"):
            embed(data, checkpoint, out, quiet=True)
    assert embed(data, checkpoint, out, quiet=True).content_hash == first.content_hash
    assert not left.exists()


def test_a_picture_is_given_the_layer_the_index_holds(checkpoint: Path, tmp_path: Path) -> None:
    """An index of projections: a stored picture's pixels, uploaded, find that object first with similarity 1."""
    data = tmp_path / "samples.h5"
    embed([data], checkpoint, tmp_path / "p.h5", layer="projection", quiet=True)
    build_index(tmp_path / "p.h5", [data], tmp_path / "index", k=5, window=None, checkpoint=checkpoint, quiet=True)
    Image.fromarray(Samples(data).objects([3])[0].transpose(1, 2, 0)).save(tmp_path / "picture.png")
    found = answer(tmp_path / "index", Query(image=tmp_path / "picture.png"), k=2)
    assert found.results[0].id == "b0003"
    assert found.results[0].similarity == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "head"}, "Unknown layer 'head'. Choices: embedding, projection"),
        ({"dtype": "float64"}, "Unknown dtype 'float64'."),
        ({"batch_size": 0}, "at least 1 object, but batch_size = 0"),
    ],
)
def test_bad_options_are_refused(checkpoint: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embed([tmp_path / "samples.h5"], checkpoint, tmp_path / "e.h5", quiet=True, **options)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="make one with `lookalike train`"):
        embed([tmp_path / "samples.h5"], tmp_path / "absent", tmp_path / "e.h5", quiet=True)


def with_last_layer_scaled(checkpoint: Path, scale: float) -> None:
    """Make the encoder say (nearly) the same of every picture: a constant plus `scale` times what it said."""
    encoder, config = load_encoder(checkpoint)
    last = encoder.backbone.layer4[1].bn2  # type: ignore[index, union-attr]
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.fill_(1)
        encoder.backbone.layer4[0].bn2.weight.mul_(scale)  # type: ignore[index, union-attr]
        encoder.backbone.layer4[0].downsample[1].weight.mul_(scale)  # type: ignore[index, union-attr]
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    save_encoder(checkpoint, encoder, config)


def test_what_rounding_makes_of_one_direction_counts_as_collapsed() -> None:
    """400 vectors within 1e-5 of a common direction, over dimensions and seeds; ten times the limit does not."""
    for dtype, D, seed in itertools.product(("float32", "float16"), (2, 64, 2048), range(3)):
        random = np.random.default_rng(seed)

        def spread_at(distance: float, dtype: str = dtype, D: int = D, random: Any = random) -> float:
            away = random.normal(size=(400, D))
            away *= distance / np.linalg.norm(away, axis=1, keepdims=True)
            vectors = normalize(normalize(random.normal(size=(1, D)), 0) + away, 0).astype(dtype)
            return spread_of(normalize(vectors, 0).mean(axis=0))

        mean = np.zeros(D)
        mean[0] = np.sqrt(1 - spread_at(1e-5))
        with pytest.raises(CollapsedError, match="gives all 400 objects the same vector"):
            refuse_collapsed(mean, 400, dtype)
        mean[0] = np.sqrt(1 - spread_at(np.sqrt(10 * useless_spread(dtype))))
        refuse_collapsed(mean, 400, dtype)
    assert useless_spread("float32") == pytest.approx(1e-10, rel=0.02)
    assert useless_spread("float16") == pytest.approx(2.0**-22, rel=0.05)


def test_collapsed_embeddings_are_an_error_and_nearly_collapsed_ones_a_warning(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = [tmp_path / "samples.h5"]
    assert embed(data, checkpoint, tmp_path / "a.h5", quiet=True).notes == []
    with_last_layer_scaled(checkpoint, 1e-2)
    report = embed(data, checkpoint, tmp_path / "b.h5", quiet=True)
    print(report.spread)
    assert "all 40 vectors point nearly one way" in report.notes[0]
    with_last_layer_scaled(checkpoint, 0.0)
    with pytest.raises(CollapsedError, match="gives all 40 objects the same vector"):
        embed(data, checkpoint, tmp_path / "c.h5", quiet=True)
    assert not (tmp_path / "c.h5").exists()
    assert read_config(checkpoint)
