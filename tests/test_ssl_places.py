"""Descriptions by place: a stage's maps, averaged over the parts of a grid, by the definition."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl.architectures import EncoderConfig, MlpShape, Places, SetShape
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.encoders import Encoder, parameter_shapes
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.train import train

SMALL = {"batch_size": 8, "queue": 8, "epochs": 1, "encoder": "resnet10", "orientations": 1}


def averaged(maps: NDArray[np.float32], grid: int) -> NDArray[np.float64]:
    """The mean of each part (channels, grid, grid) of maps (channels, h, w); parts of odd sizes overlap."""
    h, w = maps.shape[1:]
    made = np.empty((len(maps), grid, grid))
    for row in range(grid):
        for column in range(grid):
            part = maps[
                :,
                floor(row * h / grid) : ceil((row + 1) * h / grid),
                floor(column * w / grid) : ceil((column + 1) * w / grid),
            ]
            made[:, row, column] = part.mean(axis=(1, 2), dtype=np.float64)
    return made


@pytest.mark.parametrize(
    ("name", "stage", "grid", "size", "small_stem", "dimensions"),
    [
        ("resnet10", 1, 7, 28, False, 64 * 49),
        ("resnet10", 2, 4, 28, False, 128 * 16),
        ("resnet18", 3, 2, 40, False, 256 * 4),
        ("resnet18", 4, 1, 24, True, 512),
        ("resnet50", 2, 2, 40, False, 512 * 4),
    ],
)
def test_maps_are_averaged_over_places(
    name: str, stage: int, grid: int, size: int, small_stem: bool, dimensions: int
) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(name=name, projection=8, small_stem=small_stem, places=Places(stage=stage, grid=grid))
    encoder, x = Encoder(config).eval(), torch.randn(2, 3, size, size)
    plain = Encoder(config.model_copy(update={"places": None})).eval()
    plain.load_state_dict(encoder.state_dict())  # no weight depends on it
    seen: list[torch.Tensor] = []
    getattr(plain.backbone, f"layer{stage}").register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.no_grad():
        embedding, projection = encoder(x)
        whole, projected = plain(x)
    torch.testing.assert_close(projection, projected)
    assert encoder.dimensions == embedding.shape[1] == dimensions
    for found, maps in zip(embedding.numpy(), seen[0].numpy(), strict=True):
        np.testing.assert_allclose(found, averaged(maps, grid).reshape(-1), rtol=1e-4, atol=1e-5)
    if (stage, grid) == (4, 1):
        torch.testing.assert_close(embedding, whole)
    assert parameter_shapes(config).keys() == encoder.state_dict().keys()


def test_both_halves_may_be_described_by_place() -> None:
    torch.manual_seed(0)
    config = EncoderConfig(name="resnet10", projection=8, untrained_half=True, places=Places(stage=3, grid=2))
    encoder = Encoder(config).eval()
    with torch.no_grad():
        embedding = encoder(torch.randn(2, 3, 32, 32))[0]
    assert embedding.shape == (2, encoder.dimensions) == (2, 2 * 256 * 4)
    assert not torch.allclose(embedding[:, :1024], embedding[:, 1024:])


def test_what_has_no_maps_is_refused() -> None:
    places = Places()
    for config in (
        EncoderConfig(name="mlp", mlp=MlpShape(features=3), places=places),
        EncoderConfig(name="set", set=SetShape(features=3), places=places),
    ):
        with pytest.raises(InputError, match=f"Places are of a ResNet's maps: the encoder {config.name} has none"):
            Encoder(config)
    assert "places" not in EncoderConfig().model_dump(mode="json")  # so that the hashes of earlier checkpoints hold
    described = EncoderConfig(places=places)
    assert EncoderConfig.checked(described.model_dump(mode="json")) == described


@pytest.mark.parametrize("size", [9, 24, 28, 33, 64])
@pytest.mark.parametrize("small_stem", [False, True])
def test_a_grid_is_at_most_as_fine_as_the_maps(blob_samples: Callable[..., Path], size: int, small_stem: bool) -> None:
    """The rule in advance, against the maps that the encoder makes."""
    samples = Samples(blob_samples(n=16, size=size, domain="image"))
    seen: dict[int, int] = {}
    encoder = Encoder(EncoderConfig(name="resnet10", small_stem=small_stem)).eval()
    for stage in range(1, 5):
        layer = getattr(encoder.backbone, f"layer{stage}")
        layer.register_forward_hook(lambda *given, stage=stage: seen.update({stage: given[2].shape[-1]}))
    with torch.no_grad():
        encoder(torch.zeros(1, 3, size, size))
    for stage, side in seen.items():
        given = {**SMALL, "small_stem": small_stem, "places": {"stage": stage, "grid": min(side, 16)}}
        plan = make_plan(samples, TrainConfig.checked(given))
        assert plan.encoder.places == Places(stage=stage, grid=min(side, 16))
        if side < 16:
            given["places"] = {"stage": stage, "grid": side + 1}
            with pytest.raises(InputError, match=rf"places\.grid is at most {side}, but {side + 1} was given"):
                make_plan(samples, TrainConfig.checked(given))


def test_a_training_says_so_and_another_goes_on_from_it(blob_samples: Callable[..., Path], tmp_path: Path) -> None:
    data = blob_samples(n=16, size=48)
    config = TrainConfig().overridden(None, ["places.stage=3", "places.grid=2", *_assigned()])
    assert "Described by 2 × 2 places of stage 3." in " ".join(make_plan(Samples(data), config).notes)
    train([data], tmp_path / "first", config, quiet=True)
    encoder, stored = load_encoder(tmp_path / "first")
    assert stored.encoder.places == Places(stage=3, grid=2)
    assert encoder.dimensions == 1024
    train([data], tmp_path / "first", TrainConfig(epochs=2), resume=True, quiet=True)
    for name, given, wanted in (
        ("second", {}, Places(stage=3, grid=2)),
        ("third", {"places": {"stage": 2, "grid": 1}}, Places(stage=2, grid=1)),
    ):
        train([data], tmp_path / name, TrainConfig.checked(SMALL | given), weights=tmp_path / "first", quiet=True)
        assert load_encoder(tmp_path / name)[1].encoder.places == wanted
    with pytest.raises(InputError, match="Places are of a ResNet's maps: the encoder mlp has none, but places were"):
        train([data], tmp_path / "no", TrainConfig.checked(SMALL | {"encoder": "mlp", "places": {}}), quiet=True)


def _assigned() -> list[str]:
    return [f"{name}={value}" for name, value in SMALL.items()]
