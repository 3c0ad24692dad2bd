"""An embedding one half of which is never trained: what it is, that it stays so, and what takes it by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.augmentations import DOMAINS
from lookalike.errors import InputError
from lookalike.events import PARTICLE
from lookalike.samples import About, Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl.architectures import EncoderConfig, MlpShape, SetShape
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.moco import MoCo
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig
from lookalike.ssl.train import train
from lookalike.summary import summary

CONFIGS = {
    "set": EncoderConfig(name="set", channels=1, projection=8, untrained_half=True, set=SetShape(features=4)),
    "mlp": EncoderConfig(name="mlp", channels=1, projection=8, untrained_half=True, mlp=MlpShape(features=12)),
    "resnet10": EncoderConfig(name="resnet10", projection=8, untrained_half=True),
}
INPUTS = {"set": (5, 4), "mlp": (12,), "resnet10": (3, 32, 32)}
SMALL = {"batch_size": 8, "queue": 8, "epochs": 2}


def inputs(name: str, B: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(B, *INPUTS[name], generator=torch.Generator().manual_seed(seed)).abs()


def trained(name: str) -> MoCo:
    """A few steps, at a rate that changes every weight that may change."""
    torch.manual_seed(0)
    moco = MoCo(Encoder(CONFIGS[name]), K=16, m=0.5)
    weights = [weight for weight in moco.encoder_q.parameters() if weight.requires_grad]
    for step in range(4):
        contrast = moco.train()(inputs(name, 8, step), inputs(name, 8, step + 9), step)
        for weight, gradient in zip(weights, torch.autograd.grad(contrast.loss, weights), strict=True):
            weight.data -= 0.1 * gradient
    return moco


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_half_is_standardized_and_counts_the_same(name: str) -> None:
    """Embedding and cosine by the definition, from the two encoders' own vectors."""
    encoder, x = trained(name).encoder_q.eval(), inputs(name, 6)
    half = encoder.untrained_half
    assert half is not None
    with torch.no_grad():
        embedding, projection = encoder(x)
        features = {"of_trained": encoder.backbone(x), "of_untrained": half.untrained(x)}
        torch.testing.assert_close(projection, unit(encoder.head(features["of_trained"])))
    parts = []
    for part, vectors in features.items():
        norm = getattr(half, part)
        assert norm.running_mean.abs().max() > 1e-3  # has learned
        parts.append(unit((unit(vectors) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()))
    torch.testing.assert_close(embedding, torch.cat(parts, dim=1))
    assert encoder.dimensions == embedding.shape[1] == 2 * features["of_trained"].shape[1]
    cosines = sum(part @ part.T for part in parts) / 2
    torch.testing.assert_close(unit(embedding) @ unit(embedding).T, cosines)
    torch.testing.assert_close(encoder(x[:2])[0], embedding[:2])  # whoever else is in the batch


@pytest.mark.parametrize("name", CONFIGS)
def test_training_leaves_the_untrained_half_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    before = Encoder(CONFIGS[name]).state_dict()
    moco = trained(name)
    for encoder in (moco.encoder_q, moco.encoder_k):
        for tensor, value in encoder.state_dict().items():
            if tensor.startswith("untrained_half.untrained."):
                assert torch.equal(value, before[tensor]), tensor
    after = moco.encoder_q.state_dict()
    assert not torch.equal(after["head.2.weight"], before["head.2.weight"])
    first = next(tensor for tensor in after if tensor.startswith("backbone.") and tensor.endswith(".weight"))
    assert not torch.equal(after[first], before[first])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_trained_half_is_trained_as_it_would_be_alone(name: str) -> None:
    """The same weights to begin with, and the loss does not depend on the other half."""
    torch.manual_seed(0)
    whole = Encoder(CONFIGS[name])
    torch.manual_seed(0)
    alone = Encoder(CONFIGS[name].model_copy(update={"untrained_half": False}))
    for tensor, value in alone.state_dict().items():
        assert torch.equal(whole.state_dict()[tensor], value), tensor
    x = inputs(name, 8)
    torch.testing.assert_close(whole.train()(x)[1], alone.train()(x)[1])
    assert not whole(x)[0].requires_grad


def test_it_is_described_only_where_it_is() -> None:
    """So that the hashes of earlier checkpoints hold."""
    assert "untrained_half" not in EncoderConfig().model_dump(mode="json")
    for config in CONFIGS.values():
        assert EncoderConfig.checked(config.model_dump(mode="json")) == config


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """A samples file of 40 events of two jets, an electron and the missing momentum."""
    random = np.random.default_rng(0)
    x = np.zeros((40, 4, len(PARTICLE)), np.float32)
    x[..., 0] = -np.sort(-random.uniform(20, 200, (40, 4)))
    x[..., 1], x[..., 2] = random.uniform(-2, 2, (40, 4)), random.uniform(-3, 3, (40, 4))
    x[..., 4] = (1, 1, 4, 7)
    x[:, 3, 1] = 0
    about = About(domain="event", bands=tuple(PARTICLE), layout="particles")
    with write_samples(tmp_path / "events.h5", about, {}) as writer:
        writer.append([f"e{i}" for i in range(40)], x, {})
    return tmp_path / "events.h5"


def test_particles_of_events_have_one_by_default(events: Path, tmp_path: Path) -> None:
    assert {name for name, domain in DOMAINS.items() if domain.half_untrained} == {"event"}
    samples = Samples(events)
    assert make_plan(samples, TrainConfig.checked(SMALL)).encoder.untrained_half
    assert not make_plan(samples, TrainConfig.checked({**SMALL, "untrained_half": False})).encoder.untrained_half
    told = " ".join(make_plan(samples, TrainConfig.checked(SMALL)).notes)
    assert "Half of the embedding is that of another such encoder, which is never trained." in told

    report = train([events], tmp_path / "run", TrainConfig.checked(SMALL), quiet=True)
    encoder, config = load_encoder(tmp_path / "run")
    assert encoder.dimensions == 512
    assert config.train["untrained_half"] is True
    told = " ".join(summary(tmp_path / "run").split())  # lines are as long as the terminal is wide
    assert "→ 256 → 256, half of the embedding untrained sees of each particle pt, eta, phi, mass, type, btag" in told
    assert "untrained_half yes places" in told  # not marked as unusual
    again = train([events], tmp_path / "again", TrainConfig.checked(SMALL), quiet=True)
    assert report.content_hash == again.content_hash
    longer = train([events], tmp_path / "again", TrainConfig.checked({**SMALL, "epochs": 3}), resume=True, quiet=True)
    assert (report.steps, longer.steps) == (10, 15)


def test_what_began_with_one_goes_on_with_one(blob_samples: Callable[..., Path], tmp_path: Path) -> None:
    data = blob_samples(n=16, size=48)
    given = {**SMALL, "encoder": "resnet10", "epochs": 1}
    train([data], tmp_path / "first", TrainConfig.checked({**given, "untrained_half": True}), quiet=True)
    train([data], tmp_path / "second", TrainConfig.checked(given), weights=tmp_path / "first", quiet=True)
    first, second = (load_encoder(tmp_path / name)[0].state_dict() for name in ("first", "second"))
    for tensor, value in first.items():
        if tensor.startswith("untrained_half.untrained."):
            assert torch.equal(second[tensor], value), tensor
    without = TrainConfig.checked({**given, "untrained_half": False})
    with pytest.raises(InputError, match="theirs has untrained_half = True, but False was given"):
        train([data], tmp_path / "third", without, weights=tmp_path / "first", quiet=True)


def test_it_goes_on_with_other_places_and_bands(blob_samples: Callable[..., Path], tmp_path: Path) -> None:
    """Two stages whose maps are of as many numbers; and weights of one band's pictures for those of three."""
    data = blob_samples(n=16, size=48, bands="r")
    given = {**SMALL, "encoder": "resnet10", "epochs": 1, "untrained_half": True}
    places = {"places": {"stage": 1, "grid": 4}}
    train([data], tmp_path / "first", TrainConfig.checked(given | places), quiet=True)
    data = blob_samples(n=16, size=48)
    first = load_encoder(tmp_path / "first")[0].state_dict()
    for number, (stage, grid) in enumerate(((1, 4), (3, 2), (3, 1))):
        other = TrainConfig.checked(given | {"places": {"stage": stage, "grid": grid}})
        report = train([data], tmp_path / str(number), other, weights=tmp_path / "first", quiet=True)
        anew = "start: places differ, so what both halves are standardized by is learned anew."
        assert (anew in report.notes) == (stage == 3)
        after = load_encoder(tmp_path / str(number))[0].state_dict()
        stem = "untrained_half.untrained.conv1.weight"
        torch.testing.assert_close(after[stem], (first[stem] / 3).expand_as(after[stem]))
        deeper = "untrained_half.untrained.layer4.0.conv2.weight"
        assert torch.equal(after[deeper], first[deeper])


def test_the_halves_count_the_same_over_eight_orientations() -> None:
    torch.manual_seed(0)
    config = CONFIGS["resnet10"].model_copy(update={"orientations": 8})
    embedding, _ = Encoder(config).eval()(inputs("resnet10", 4))
    for half in embedding.chunk(2, dim=1):
        torch.testing.assert_close(half.norm(dim=1), torch.ones(4))


def test_float16_does_not_overflow_in_layers_that_never_learned() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(name="resnet101", untrained_half=True)).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        assert encoder(torch.randn(2, 3, 64, 64))[0].isfinite().all()
