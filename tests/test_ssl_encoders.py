"""Encoders: their outputs, their batch norm over parts of a batch, their errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lookalike.errors import InputError
from lookalike.ssl.encoders import ENCODERS, Encoder, EncoderConfig, SubBatchNorm2d, parameter_shapes, pick_device


@pytest.mark.parametrize(
    ("name", "channels", "small_stem", "dimensions"),
    [("resnet18", 3, False, 512), ("resnet18", 5, True, 512), ("resnet34", 1, False, 512), ("resnet50", 2, True, 2048)],
)
def test_embedding_and_normalized_projection(name: str, channels: int, small_stem: bool, dimensions: int) -> None:
    encoder = Encoder(EncoderConfig(name=name, channels=channels, small_stem=small_stem, projection=16)).eval()
    embedding, projection = encoder(torch.randn(3, channels, 16, 16))
    assert encoder.dimensions == dimensions
    assert embedding.shape == (3, dimensions)
    assert projection.shape == (3, 16)
    torch.testing.assert_close(projection.norm(dim=1), torch.ones(3))


def test_every_encoder_can_be_described_without_being_built() -> None:
    for name in ENCODERS:
        shapes = parameter_shapes(EncoderConfig(name=name, channels=4))
        assert shapes["backbone.conv1.weight"] == (64, 4, 7, 7)
        assert shapes["head.2.weight"][0] == 128
    built = Encoder(EncoderConfig()).state_dict()
    assert parameter_shapes(EncoderConfig()) == {name: tuple(tensor.shape) for name, tensor in built.items()}


def test_unknown_encoder_names_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match=r"Unknown encoder 'resnet19'. Did you mean '.*'\? Choices: resnet18, .*101"):
        Encoder(EncoderConfig(name="resnet19"))


def test_unknown_device_is_an_error() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="A device is auto, cpu"):
        pick_device("tpux")


@pytest.mark.parametrize(("batch", "parts"), [(8, 2), (8, 4), (10, 3), (6, 1)])
def test_sub_batch_norm_is_batch_norm_of_each_part(batch: int, parts: int) -> None:
    """Values and gradients equal those of separate nn.BatchNorm2d, as if each part were another process's batch."""
    torch.manual_seed(0)
    x = torch.randn(batch, 5, 4, 4) * 3 + 1
    ours, plain = SubBatchNorm2d(5), nn.BatchNorm2d(5)
    ours.sub_batches = parts
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.uniform_(-1, 1)
        plain.weight.copy_(ours.weight)
        plain.bias.copy_(ours.bias)
    separate = [nn.BatchNorm2d(5) for _ in x.tensor_split(parts)]
    for one in separate:
        one.load_state_dict(plain.state_dict())
    weights = torch.randn(batch, 5, 4, 4)
    (ours(x) * weights).sum().backward()
    outputs = [one(part) for one, part in zip(separate, x.tensor_split(parts), strict=True)]
    (torch.cat(outputs) * weights).sum().backward()

    torch.testing.assert_close(
        ours(x), torch.cat([one(p) for one, p in zip(separate, x.tensor_split(parts), strict=True)])
    )
    torch.testing.assert_close(ours.weight.grad, sum(one.weight.grad for one in separate))
    torch.testing.assert_close(ours.bias.grad, sum(one.bias.grad for one in separate))
    mean = torch.stack([one.running_mean for one in separate]).mean(dim=0)
    variance = torch.stack([one.running_var for one in separate]).mean(dim=0)
    torch.testing.assert_close(ours.running_mean, mean)
    torch.testing.assert_close(ours.running_var, variance)


def test_sub_batch_norm_in_evaluation_is_batch_norm() -> None:
    ours, plain = SubBatchNorm2d(3), nn.BatchNorm2d(3)
    ours.sub_batches = 4
    x = torch.randn(8, 3, 2, 2)
    ours(x)
    plain.load_state_dict(ours.state_dict())
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def test_parts_do_not_see_each_other() -> None:
    """Changing the second half of a batch leaves what the first half is encoded to."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    encoder.set_sub_batches(2)
    x = torch.randn(8, 3, 16, 16)
    other = torch.cat([x[:4], torch.randn(4, 3, 16, 16)])
    torch.testing.assert_close(encoder(x)[0][:4], encoder(other)[0][:4], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(encoder(x)[0][4:], encoder(other)[0][4:])
