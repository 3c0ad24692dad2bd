"""Encoders: their outputs, their batch norm over parts of a batch, their errors."""

from __future__ import annotations

import pytest
import torch

from lookalike.errors import InputError
from lookalike.ssl.encoders import ENCODERS, Encoder, EncoderConfig, parameter_shapes


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


def test_every_encoder_can_be_described_without_being_built() -> None:
    for name in ENCODERS:
        shapes = parameter_shapes(EncoderConfig(name=name, channels=4))
        assert shapes["backbone.conv1.weight"] == (64, 4, 7, 7)
        assert shapes["head.2.weight"][0] == 128
    built = Encoder(EncoderConfig()).state_dict()
    assert parameter_shapes(EncoderConfig()) == {name: tuple(tensor.shape) for name, tensor in built.items()}


def test_unknown_encoder_names_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match=r"Unknown encoder 'resnet19'. Did you mean '.*'\? Choices: resnet10, .*101"):
        Encoder(EncoderConfig(name="resnet19"))


def test_parts_do_not_see_each_other() -> None:
    """Changing the second half of a batch leaves what the first half is encoded to."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    encoder.set_sub_batches(2)
    x = torch.randn(8, 3, 16, 16)
    other = torch.cat([x[:4], torch.randn(4, 3, 16, 16)])
    torch.testing.assert_close(encoder(x)[0][:4], encoder(other)[0][:4], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(encoder(x)[0][4:], encoder(other)[0][4:])
