"""Training from given weights: it begins with just those of the file, and what does not fit is said or refused."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import InputError, LookalikeError, NotFoundError
from lookalike.events import PARTICLE, PRIMITIVES
from lookalike.info import describe
from lookalike.samples import About, Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl import trainer as trainer_module
from lookalike.ssl.checkpoint import Began, load_encoder, read_config
from lookalike.ssl.encoders import RESNETS, Encoder, EncoderConfig
from lookalike.ssl.plan import make_plan
from lookalike.ssl.starting import Start, adapted_stem
from lookalike.ssl.train import TrainConfig, train
from lookalike.ssl.trainer import Trainer
from lookalike.ssl.world import ALONE
from lookalike.summary import summary

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 8, "queue": 8}


def config(**values: Any) -> TrainConfig:
    return TrainConfig.checked(SMALL | values)


@pytest.fixture(scope="module")
def network() -> Any:
    """A ResNet-10 as torchvision builds it, with statistics unlike a new one's and a classifier of 1,000 classes."""
    torch.manual_seed(3)
    made: Any = RESNETS["resnet10"](num_classes=1000)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return made.eval()


@pytest.fixture(scope="module")
def weights(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def moco(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as MoCo's authors save it, with a head to 16 numbers."""
    torch.manual_seed(4)
    head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 16))
    inside = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    inside |= {f"fc.{name}": tensor for name, tensor in head.state_dict().items()}
    state = OrderedDict((f"module.encoder_q.{name}", tensor) for name, tensor in inside.items())
    path: Path = tmp_path_factory.mktemp("moco") / "moco.pth.tar"
    torch.save({"epoch": 200, "state_dict": state}, path)
    return path


def began(samples: Path, start: Path, tmp_path: Path, settings: TrainConfig) -> tuple[Encoder, list[str], Preprocess]:
    """The query encoder before the first step, what was said, and the input."""
    plan = make_plan(Samples(samples), settings, start=Start(start))
    trainer = Trainer(plan, tmp_path / "unused", ALONE, 60.0)
    q, k = trainer.moco.encoder_q.state_dict(), trainer.moco.encoder_k.state_dict()
    assert all(torch.equal(q[name], k[name]) for name in q)  # the key encoder begins with them too
    return trainer.moco.encoder_q, plan.notes, plan.preprocess


def features(network: Any, x: Tensor) -> Tensor:
    """Pooled features (B, D) of the source network."""
    kept: list[Tensor] = []
    hook = network.avgpool.register_forward_hook(lambda _m, _i, out: kept.append(out.flatten(1)))
    with torch.inference_mode():
        network(x)
    hook.remove()
    return kept[0]


def test_the_first_step_has_the_weights_of_the_file(
    network: Any, weights: Path, blob_samples: Write, tmp_path: Path
) -> None:
    data = blob_samples(n=16, size=48)
    encoder, notes, preprocess = began(data, weights, tmp_path, config())
    held = network.state_dict()
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, held[name]), name
    x = encoder_input(torch.from_numpy(Samples(data).objects(slice(0, 8))), preprocess)
    with torch.inference_mode():
        found = encoder.eval().one_orientation(x)[0]
    wanted = features(network, x)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    text = "\n".join(notes)
    assert "resnet10 with the standard stem" in text  # named by the file alone
    assert f"resnet10 with the weights of resnet10.pth ({Start(weights).digest[:12]}…)" in text
    assert "come without a projection head of ours; it begins at random" in text
    assert "not used: fc.bias, fc.weight." in text
    assert "here it is (pixel / 255 − mean) / std with mean 0.1 and std 0.2. torchvision's ImageNet weights" in text


def test_a_head_is_used_where_its_shape_fits(moco: Path, blob_samples: Write, tmp_path: Path) -> None:
    data = blob_samples(n=16, size=48)
    state = torch.load(moco, weights_only=True)["state_dict"]
    encoder, notes, _ = began(data, moco, tmp_path, config(projection=16))
    for ours, theirs in (("head.0.weight", "fc.0.weight"), ("head.2.bias", "fc.2.bias")):
        assert torch.equal(encoder.state_dict()[ours], state[f"module.encoder_q.{theirs}"])
    assert "at random" not in "\n".join(notes)
    encoder, notes, _ = began(data, moco, tmp_path, config())
    text = "\n".join(notes)
    assert "their head projects to 16 numbers, this one to 128; it begins at random" in text
    assert "not used: head.0.bias, head.0.weight, head.2.bias, head.2.weight" in text
    assert torch.equal(encoder.backbone.state_dict()["bn1.running_var"], state["module.encoder_q.bn1.running_var"])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_stem_is_adapted_to_other_numbers_of_bands(
    network: Any, weights: Path, blob_samples: Write, tmp_path: Path, channels: int
) -> None:
    data = blob_samples(n=16, size=48, bands="ugriz"[:channels])
    encoder, notes, _ = began(data, weights, tmp_path, config())
    stem, theirs = encoder.backbone.conv1.weight, network.conv1.weight
    for band in range(channels):
        mean = (theirs[:, 0] + theirs[:, 1] + theirs[:, 2]) / 3
        torch.testing.assert_close(stem[:, band], mean * 3 / channels)
    gray = torch.randn(2, 1, 32, 32)
    alike = F.conv2d(gray.expand(-1, channels, -1, -1), adapted_stem(theirs.detach(), channels))
    torch.testing.assert_close(alike, F.conv2d(gray.expand(-1, 3, -1, -1), theirs.detach()), rtol=1e-4, atol=1e-4)
    assert f"for 3 bands, are averaged over them and scaled by 3/{channels} for these {channels}" in "\n".join(notes)


def test_a_run_from_weights_is_recorded_and_resumed(
    weights: Path, moco: Path, blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [blob_samples(n=16, size=48)]
    whole = train(data, tmp_path / "whole", config(epochs=2), weights=weights, quiet=True)
    digest = Start(weights).digest
    assert read_config(tmp_path / "whole").start == Began(weights="resnet10.pth", hash=digest)
    assert f"began with    resnet10.pth {digest[:12]}…" in summary(tmp_path / "whole")
    record = describe(tmp_path / "whole")["made"]
    assert record["inputs"] == {"samples": Samples(data).content_hash, "weights resnet10.pth": digest}

    out = tmp_path / "parts"
    with monkeypatch.context() as patch:  # killed after the first checkpoint of one step
        calls = []

        def point(name: str) -> None:
            calls.append(name)
            if calls.count("train.step") == 1 and name == "train.step":
                raise KeyboardInterrupt

        patch.setattr(trainer_module, "write_point", point)
        with pytest.raises(KeyboardInterrupt):
            train(data, out, config(epochs=2), weights=weights, quiet=True)
    with pytest.raises(InputError, match=r"the run began with resnet10\.pth .* and moco\.pth\.tar is"):
        train(data, out, config(epochs=2), weights=moco, resume=True, quiet=True)
    parts = train(data, out, config(epochs=2), weights=weights, resume=True, quiet=True)
    assert parts.content_hash == whole.content_hash
    assert describe(out)["made"]["inputs"] == record["inputs"]
    train(data, out, config(epochs=3), resume=True, quiet=True)  # they need not be given again
    assert read_config(out).start == read_config(tmp_path / "whole").start
    other = tmp_path / "resnet10.pth"  # the same name, other bytes
    state = torch.load(weights, weights_only=True)
    torch.save(state | {"fc.bias": state["fc.bias"] + 1}, other)
    with pytest.raises(InputError, match=r"On resume --weights must be the same"):
        train(data, out, config(epochs=3), weights=other, resume=True, quiet=True)
    with pytest.raises(NotFoundError, match=r"gone\.pth"):
        train(data, out, config(epochs=3), weights=tmp_path / "gone.pth", resume=True, quiet=True)


def test_a_checkpoint_of_ours_is_a_start(blob_samples: Write, tmp_path: Path) -> None:
    data = blob_samples(n=16, size=48)
    made = train([data], tmp_path / "first", config(encoder="resnet10", projection=16), quiet=True)
    held = load_file(tmp_path / "first" / "model.safetensors")
    for named in (tmp_path / "first", tmp_path / "first" / "model.safetensors"):
        encoder, notes, _ = began(data, named, tmp_path, config(projection=16))
        assert all(torch.equal(tensor, held[name]) for name, tensor in encoder.state_dict().items())
        assert [note for note in notes if note.startswith("start")] == [
            f"start: resnet10 with the weights of first ({made.content_hash[:12]}…)."
        ]
    gray = blob_samples("gray.h5", n=16, size=64, bands="v", dtype="float32")
    text = "\n".join(began(gray, tmp_path / "first", tmp_path, config(projection=16))[1])
    assert "the weights were trained on another input: kind scaled, now flux; size 32, now 40" in text
    assert "bands R, G, B, now v; dtype uint8, now float32" in text
    with pytest.raises(InputError, match="the run began with random weights and first is"):
        train([data], tmp_path / "first", config(projection=16), weights=tmp_path / "first", resume=True, quiet=True)


def test_an_mlp_starts_from_an_mlp_of_its_size(blob_samples: Write, tmp_path: Path) -> None:
    data = blob_samples(n=16, size=24)  # views of 16 px
    widths = {"hidden": [20, 20], "dimensions": 12}
    train([data], tmp_path / "mlp", config(encoder="mlp", mlp=widths), quiet=True)
    encoder, _, _ = began(data, tmp_path / "mlp", tmp_path, config())
    held = load_file(tmp_path / "mlp" / "model.safetensors")
    assert all(torch.equal(tensor, held[name]) for name, tensor in encoder.state_dict().items())
    with pytest.raises(InputError, match=r"theirs has mlp = .*20, 20.*, but hidden=.64"):
        began(data, tmp_path / "mlp", tmp_path, config(mlp={"hidden": [64]}))
    with pytest.raises(InputError, match=r"takes 768 numbers of each object, but these objects have 3,072 \(views"):
        began(blob_samples("other.h5", n=16, size=48), tmp_path / "mlp", tmp_path, config())


def numbers(path: Path, layout: str, bands: tuple[str, ...], domain: str = "event") -> Path:
    """A samples file of 16 events, as records of these numbers or as lists of two particles."""
    shape = (16, len(bands)) if layout == "features" else (16, 2, len(bands))
    values = np.random.default_rng(0).uniform(1, 3, shape).astype(np.float32)
    if layout != "features":
        values[:, 1, 0] = values[:, 0, 0] / 2  # in falling order
        values[..., 4:] = 1
    with write_samples(path, About(domain=domain, bands=bands, layout=layout), {}) as writer:
        writer.append([f"e{row}" for row in range(16)], values, {})
    return path


@pytest.mark.parametrize(("layout", "bands"), [("features", tuple(PRIMITIVES)), ("particles", tuple(PARTICLE))])
def test_encoders_of_numbers_start_from_their_like(layout: str, bands: tuple[str, ...], tmp_path: Path) -> None:
    data = numbers(tmp_path / "events.h5", layout, bands)
    widths: dict[str, Any] = {"mlp": {"hidden": [20]}} if layout == "features" else {"set": {"particle": [9]}}
    train([data], tmp_path / "first", config(**widths), quiet=True)
    encoder, told, _ = began(data, tmp_path / "first", tmp_path, config())
    held = load_file(tmp_path / "first" / "model.safetensors")
    assert all(torch.equal(tensor, held[name]) for name, tensor in encoder.state_dict().items())
    assert not [note for note in told if "another input" in note]
    (name,) = widths
    with pytest.raises(InputError, match=f"theirs has {name} = .*, but .*hidden=.7,"):
        began(data, tmp_path / "first", tmp_path, config(**{name: {"hidden": [7]}}))
    if layout == "features":
        fewer = numbers(tmp_path / "few.h5", layout, tuple(name for name in bands if name != "PRI_met_sumet"))
        with pytest.raises(InputError, match=r"takes \d+ numbers of each object, .* have \d+ \(events of"):
            began(fewer, tmp_path / "first", tmp_path, config())


def test_weights_of_pictures_may_begin_with_jet_images(weights: Path, blob_samples: Write, tmp_path: Path) -> None:
    train([blob_samples(n=16, size=48)], tmp_path / "pictures", config(encoder="resnet10"), quiet=True)
    bands = ("pt", "eta", "phi", "jet")
    values = np.zeros((16, 3, 4), np.float32)
    values[..., 0] = np.random.default_rng(0).uniform(1, 3, (16, 3))
    values[..., 1] = [0.1, 0.2, -0.3]
    with write_samples(tmp_path / "jets.h5", About(domain="jet", bands=bands, layout="particles"), {}) as writer:
        writer.append([f"j{row}" for row in range(16)], values, {})
    _, told, _ = began(tmp_path / "jets.h5", tmp_path / "pictures", tmp_path, config())
    assert any("trained on another input: views of 32 px in R, G, B, now images of" in note for note in told), told
    _, told, _ = began(tmp_path / "jets.h5", weights, tmp_path, config())
    assert any("here it is images of" in note for note in told), told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet18"}, r"theirs has encoder = resnet10, but resnet18 was given\. Leave it out"),
        ({"encoder": "mlp"}, "theirs has encoder = resnet10, but mlp"),
        ({"small_stem": True}, "theirs has small_stem = False, but True"),
        ({"mlp": {"hidden": [5]}}, "are of the encoder mlp, but the encoder is resnet10"),
    ],
)
def test_settings_that_contradict_the_file_are_refused(
    weights: Path, blob_samples: Write, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train([blob_samples(n=16, size=48)], tmp_path / "out", config(**settings), weights=weights, quiet=True)
    assert not (tmp_path / "out").exists()


def test_what_holds_no_encoder_is_refused(weights: Path, blob_samples: Write, tmp_path: Path) -> None:
    data = blob_samples(n=16, size=48)
    (tmp_path / "text.pth").write_text("no weights at all, but a text that is long enough")
    (tmp_path / "folder").mkdir()
    state = torch.load(weights, weights_only=True)
    del state["layer4.0.conv1.weight"]
    torch.save(state, tmp_path / "part.pth")
    for name, message in (
        ("text.pth", "refused"),
        ("folder", "not a checkpoint folder"),
        ("part.pth", "1 of its weights are missing"),
        ("gone.pth", "gone"),
    ):
        with pytest.raises(LookalikeError, match=message):
            train([data], tmp_path / "out", config(), weights=tmp_path / name, quiet=True)
        assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_no_start(blob_samples: Write, tmp_path: Path) -> None:
    data = blob_samples(n=16, size=48)
    train([data], tmp_path / "first", config(encoder="resnet10"), quiet=True)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    with (tmp_path / "second" / "model.safetensors").open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\x01")
    with pytest.raises(LookalikeError, match="was altered"):
        train([data], tmp_path / "out", config(), weights=tmp_path / "second", quiet=True)
    np.testing.assert_equal(load_encoder(tmp_path / "first")[1].encoder, EncoderConfig(name="resnet10", orientations=8))
