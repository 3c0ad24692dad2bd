"""Encoders: their outputs, their batch norm over parts of a batch, their errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch

from lookalike.errors import InputError
from lookalike.ssl import architectures
from lookalike.ssl.architectures import MlpShape
from lookalike.ssl.encoders import ENCODERS, RESNETS, Encoder, EncoderConfig, parameter_shapes
from lookalike.ssl.mlp import SubBatchNorm1d


def mlp(features: int, channels: int = 1, **widths: object) -> EncoderConfig:
    shape = MlpShape.checked({"features": features, **widths})
    return EncoderConfig(name="mlp", channels=channels, projection=16, mlp=shape)


@pytest.mark.parametrize(
    ("name", "channels", "small_stem", "dimensions"),
    [
        ("resnet10", 3, False, 512),
        ("resnet18", 3, False, 512),
        ("resnet18", 5, True, 512),
        ("resnet34", 1, False, 512),
        ("resnet50", 2, True, 2048),
    ],
)
def test_embedding_and_normalized_projection(name: str, channels: int, small_stem: bool, dimensions: int) -> None:
    encoder = Encoder(EncoderConfig(name=name, channels=channels, small_stem=small_stem, projection=16)).eval()
    embedding, projection = encoder(torch.randn(3, channels, 16, 16))
    assert encoder.dimensions == dimensions
    assert embedding.shape == (3, dimensions)
    assert projection.shape == (3, 16)
    torch.testing.assert_close(projection.norm(dim=1), torch.ones(3))


def test_several_threads_compute_what_one_does(on_one_thread: Callable[[], AbstractContextManager[None]]) -> None:
    torch.manual_seed(0)
    encoder, x = Encoder(EncoderConfig(name="resnet10", projection=16)).eval(), torch.randn(9, 3, 48, 48)
    with on_one_thread(), torch.inference_mode():
        alone = encoder(x)
        torch.set_num_threads(3)
        together = encoder(x)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


def test_every_encoder_can_be_described_without_being_built() -> None:
    assert tuple(RESNETS) == architectures.RESNETS
    assert {*ENCODERS} == {*RESNETS, "mlp", "set"}
    for name in RESNETS:
        shapes = parameter_shapes(EncoderConfig(name=name, channels=4))
        assert shapes["backbone.conv1.weight"] == (64, 4, 7, 7)
        assert shapes["head.2.weight"][0] == 128
    for config in (EncoderConfig(), mlp(4, hidden=(6, 5), dimensions=3)):
        built = Encoder(config).state_dict()
        assert parameter_shapes(config) == {name: tuple(tensor.shape) for name, tensor in built.items()}


def test_unknown_encoder_names_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match=r"Unknown encoder 'resnet19'. Did you mean '.*'\? Choices: resnet10, .*101"):
        Encoder(EncoderConfig(name="resnet19"))


@pytest.mark.parametrize("config", [EncoderConfig(), mlp(3 * 16 * 16)], ids=["resnet18", "mlp"])
def test_parts_do_not_see_each_other(config: EncoderConfig) -> None:
    """Changing the second half of a batch leaves what the first half is encoded to."""
    torch.manual_seed(0)
    encoder = Encoder(config)
    encoder.set_sub_batches(2)
    x = torch.randn(8, 3, 16, 16)
    other = torch.cat([x[:4], torch.randn(4, 3, 16, 16)])
    torch.testing.assert_close(encoder(x)[0][:4], encoder(other)[0][:4], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(encoder(x)[0][4:], encoder(other)[0][4:])


@pytest.mark.parametrize("mlp_of_pictures", [False, True])
def test_eight_orientations_are_averaged_where_nothing_is_trained(mlp_of_pictures: bool) -> None:
    """The mean over turns and mirror images, one picture at a time by NumPy; in training the picture as it lies."""
    torch.manual_seed(0)
    one = Encoder(mlp(3 * 24 * 24, channels=3) if mlp_of_pictures else EncoderConfig(projection=16)).eval()
    eight = Encoder(one.config.model_copy(update={"orientations": 8})).eval()
    eight.load_state_dict(one.state_dict())
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        embedding, projection = eight(images)
        for image, found, projected in zip(images.numpy(), embedding, projection, strict=True):
            group = [np.rot90(side, q, (1, 2)) for side in (image, image[:, :, ::-1]) for q in range(4)]
            assert len({picture.tobytes() for picture in group}) == 8
            parts = [one(torch.from_numpy(picture.copy())[None]) for picture in group]
            torch.testing.assert_close(found, sum(e for e, _ in parts)[0] / 8)
            mean = sum(p for _, p in parts)[0]
            torch.testing.assert_close(projected, mean / mean.norm())
        for same in (images.transpose(2, 3), images.flip(2), torch.rot90(images, 1, (2, 3))):
            torch.testing.assert_close(eight(same)[0], embedding)
            assert not torch.allclose(one(same)[0], one(images)[0], rtol=1e-3)
    torch.testing.assert_close(eight.train()(images)[0], one.train()(images)[0])


def test_an_mlp_is_its_definition() -> None:
    """Pictures and their flattened pixels alike: ReLU(norm(W x)), added to x between equal hidden widths."""
    torch.manual_seed(0)
    encoder = Encoder(mlp(2 * 3 * 3, channels=2, hidden=(18, 18, 7, 7), dimensions=5)).eval()
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.5)  # batch norm's numbers too
    weights = {name.removeprefix("backbone."): value for name, value in encoder.state_dict().items()}
    images = torch.randn(4, 2, 3, 3)
    x = torch.stack([image.reshape(-1) for image in images])  # (B, 18)
    steps = {"layers.0.": False, "layers.1.": True, "layers.2.": False, "layers.3.": True, "out.": False}
    for layer, residual in steps.items():  # never past the first layer, though 18 = 18
        own = {name.removeprefix(layer): v for name, v in weights.items() if name.startswith(layer)}
        y = x @ own["linear.weight"].T
        y = (y - own["norm.running_mean"]) / (own["norm.running_var"] + 1e-5).sqrt() * own["norm.weight"]
        y = (y + own["norm.bias"]).clamp_min(0)
        x = x + y if residual else y
    torch.testing.assert_close(encoder(images)[0], x)
    torch.testing.assert_close(encoder(images.flatten(1))[0], x)
    torch.testing.assert_close(encoder(images)[1].norm(dim=1), torch.ones(4))


def test_an_mlp_takes_what_it_was_built_for() -> None:
    encoder = Encoder(mlp(784))
    with pytest.raises(InputError, match=r"takes 784 numbers of each object, but 1,024 \(1 × 32 × 32\) were given"):
        encoder(torch.randn(2, 1, 32, 32))
    with pytest.raises(InputError, match="takes 784 numbers of each object, but 30"):
        encoder(torch.randn(2, 30))
    with pytest.raises(InputError, match=r"mlp\.features was not given"):
        Encoder(EncoderConfig(name="mlp"))
    with pytest.raises(InputError, match="given for resnet18"):
        Encoder(EncoderConfig(mlp=MlpShape(features=3)))
    with pytest.raises(InputError, match="small_stem must be false"):
        Encoder(mlp(784).model_copy(update={"small_stem": True}))


@pytest.mark.parametrize(("batch", "parts"), [(8, 2), (10, 3), (6, 1)])
def test_batch_norm_of_vectors_follows_the_rule_of_pictures(batch: int, parts: int) -> None:
    torch.manual_seed(0)
    ours = SubBatchNorm1d(5)
    ours.sub_batches = parts
    x = torch.randn(batch, 5) * 3 + 1
    pieces = x.tensor_split(parts)
    expected = torch.cat([(p - p.mean(0)) / (p.var(0, correction=0) + 1e-5).sqrt() for p in pieces])
    torch.testing.assert_close(ours(x), expected)
    mean = torch.stack([p.mean(0) for p in pieces]).mean(0)
    torch.testing.assert_close(ours.running_mean, 0.1 * mean)
    torch.testing.assert_close(ours.eval()(x), (x - ours.running_mean) / (ours.running_var + 1e-5).sqrt())
    with pytest.raises(ValueError, match="takes vectors"):
        ours(x[..., None])


def test_a_resnet_is_described_as_before_there_was_an_mlp() -> None:
    """So that the hashes of earlier checkpoints hold."""
    described = {"name": "resnet18", "channels": 3, "small_stem": False, "projection": 128}
    assert EncoderConfig().model_dump(mode="json") == described
    assert EncoderConfig.checked(described) == EncoderConfig()
    assert EncoderConfig.checked(mlp(4).model_dump(mode="json")) == mlp(4)
