"""The set encoder: the order of particles, and the places after the last, change nothing."""

from __future__ import annotations

import pytest
import torch

from lookalike.errors import InputError
from lookalike.ssl.architectures import EncoderConfig, SetShape
from lookalike.ssl.encoders import Encoder


def encoder(**widths: object) -> Encoder:
    torch.manual_seed(0)
    shape = SetShape.checked({"features": 5, **widths})
    made = Encoder(EncoderConfig(name="set", channels=1, projection=16, set=shape)).eval()
    with torch.no_grad():
        for module in made.modules():
            if hasattr(module, "running_mean"):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return made


def particles(counts: list[int], places: int) -> torch.Tensor:
    """(B, places, 5): so many particles each, flagged by the last number."""
    x = torch.zeros(len(counts), places, 5)
    random = torch.Generator().manual_seed(1)
    for row, count in enumerate(counts):
        x[row, :count, :4] = torch.randn(count, 4, generator=random)
        x[row, :count, 4] = 1
    return x


def test_shuffled_particles_give_the_same_embedding() -> None:
    made, x = encoder(), particles([7, 7, 3], 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(made(x[:, order])[0], made(x)[0], atol=1e-5, rtol=0)
        assert (made(x)[0][0] - made(x)[0][1]).abs().max() > 1e-2


def test_places_after_the_last_particle_change_nothing() -> None:
    made, short = encoder(), particles([0, 1, 4], 4)
    long = torch.cat([short, torch.zeros(3, 5, 5)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(made(long)[0], made(short)[0])


def test_it_is_its_definition() -> None:
    """One object and one particle at a time, from the tensors alone."""
    made = encoder(particle=(6, 4), hidden=(7, 7), dimensions=3)
    w = {name.removeprefix("backbone."): value for name, value in made.state_dict().items()}
    x = particles([3, 1], 4)
    for row in range(2):
        found = []
        for place in range(4):
            if x[row, place, 4]:
                y = x[row, place, :4]
                for layer in (0, 1):
                    y = torch.relu(w[f"phi.{layer}.weight"] @ y + w[f"phi.{layer}.bias"])
                found.append(y)
        number = torch.tensor([float(len(found))])
        total = torch.stack(found).sum(0) / (1 + number).sqrt()
        y = torch.cat([total, torch.stack(found).max(0).values, (1 + number).log()])
        for layer, residual in (("layers.0", False), ("layers.1", True), ("out", False)):
            z = w[f"{layer}.linear.weight"] @ y
            z = (z - w[f"{layer}.norm.running_mean"]) / (w[f"{layer}.norm.running_var"] + 1e-5).sqrt()
            z = torch.relu(z * w[f"{layer}.norm.weight"] + w[f"{layer}.norm.bias"])
            y = y + z if residual else z
        with torch.no_grad():
            torch.testing.assert_close(made(x)[0][row], y)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="takes 5 numbers of each particle, but 3 × 4 were given"):
        encoder()(torch.zeros(2, 3, 4))
    with pytest.raises(InputError, match="for so many numbers of each particle, but none"):
        Encoder(EncoderConfig(name="set"))
    with pytest.raises(InputError, match="small_stem must be false"):
        Encoder(EncoderConfig(name="set", small_stem=True, set=SetShape(features=3)))
    config = EncoderConfig(name="set", set=SetShape(features=3))
    assert config.takes(1, 3)
    assert not config.takes(1, 4)
    assert not config.model_copy(update={"name": "resnet18"}).takes(3, 3)
