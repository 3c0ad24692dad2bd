"""Encoders trained elsewhere embed as their source does, in every layout; what is not whole or not safe is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from lookalike import cli
from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import InputError, NotFoundError
from lookalike.info import describe
from lookalike.ssl import importing
from lookalike.ssl.checkpoint import load_encoder, require_layer
from lookalike.ssl.embed import embed, embed_objects
from lookalike.ssl.encoders import RESNETS
from lookalike.ssl.importing import grouped, import_checkpoint, read_preprocess, read_tensors_apart
from lookalike.ssl.layouts import recognize
from lookalike.summary import summary

OPTIONS = ["size=32", "dtype=float32", "unit=nanomaggy", "pixel_scale=0.262", "kind=scaled"]
OPTIONS += ["divisor=2", "mean=0.1", "std=0.5"]


def source(name: str = "resnet10", channels: int = 3, *, small: bool = False, head: str = "mlp") -> Any:
    """A torchvision network with random weights and batch-norm statistics unlike a new one's."""
    network: Any = RESNETS[name](num_classes=24)
    D = network.fc.in_features
    if small:
        network.conv1, network.maxpool = nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    if head == "mlp":
        network.fc = nn.Sequential(nn.Linear(D, D), nn.ReLU(), network.fc)
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=draws)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2, generator=draws)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 1.5, generator=draws)
                module.bias.normal_(0, 0.2, generator=draws)
                module.num_batches_tracked.fill_(1234)  # type: ignore[union-attr]
    return network.eval()


def layers(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding (B, D) and projection (B, P) as the source network has them."""
    kept: list[Tensor] = []
    hook = network.avgpool.register_forward_hook(lambda _m, _i, out: kept.append(out.flatten(1)))
    with torch.inference_mode():
        projection = F.normalize(network(x), dim=1)
    hook.remove()
    return kept[0], projection


def prefixed(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}


def foreign(name: str, **values: Any) -> Any:
    """An object of a class of a package that is not installed here, present only while the file is written."""
    module = sys.modules.setdefault("training_framework", types.ModuleType("training_framework"))
    kind = type(name, (dict,), {"__module__": "training_framework"})
    setattr(module, name, kind)
    return kind(values)


def moco(folder: Path, *, legacy: bool = False, head: str = "mlp") -> tuple[Any, Path]:
    """As MoCo's authors save: both encoders, the queue, the optimizer."""
    network, other = source(head=head), source(head=head)
    state = prefixed(network, "module.encoder_q.") | prefixed(other, "module.encoder_k.")
    state |= {"module.queue": torch.randn(24, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    optimizer = torch.optim.SGD(network.parameters(), 0.03, momentum=0.9).state_dict()
    full = {"epoch": 200, "arch": "resnet18", "state_dict": OrderedDict(state), "optimizer": optimizer}
    torch.save(full, folder / "moco.pth.tar", _use_new_zipfile_serialization=not legacy)
    return network, folder / "moco.pth.tar"


def lightning(folder: Path, prefix: str, *, small: bool = False, channels: int = 3) -> tuple[Any, Path]:
    """As Lightning saves: hyper-parameters and callbacks of classes of its own."""
    network = source(small=small, channels=channels)
    full = {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(prefixed(network, prefix)),
        "hyper_parameters": foreign("Attributes", lr=0.03, encoder="resnet18", path=Path("data")),
        "callbacks": {"ModelCheckpoint": foreign("Callback", best=torch.tensor(0.5))},
    }
    torch.save(full, folder / "last.ckpt")
    del sys.modules["training_framework"]
    return network, folder / "last.ckpt"


def numbered(folder: Path) -> tuple[Any, Path]:
    """As lightly's examples save: a Sequential of the network's children, and a projection head beside it."""
    network = source()
    backbone = nn.Sequential(*list(network.children())[:-1])
    head = prefixed(network.fc, "projection_head.layers.")
    torch.save({"state_dict": prefixed(backbone, "backbone.") | head}, folder / "last.ckpt")
    return network, folder / "last.ckpt"


def plain(folder: Path, *, old: bool = False, tensors: bool = False) -> tuple[Any, Path]:
    """As torchvision distributes: a classifier; old ones do not count batches."""
    network = source(head="classes")
    state = {name: t for name, t in network.state_dict().items() if not (old and name.endswith("tracked"))}
    path = folder / ("w.safetensors" if tensors else "w.pth")
    save_file(state, path) if tensors else torch.save(state, path, _use_new_zipfile_serialization=not old)
    return network, path


def bottleneck(folder: Path) -> tuple[Any, Path]:
    """ResNet-50 of five bands, stored channels-last and under a wrapper's name."""
    network = source("resnet50", channels=5).to(memory_format=torch.channels_last)
    torch.save({"model": prefixed(network, "model.module.encoder_q.")}, folder / "w.pt")
    return network.to(memory_format=torch.contiguous_format), folder / "w.pt"


LAYOUTS: dict[str, tuple[Callable[[Path], tuple[Any, Path]], str, str, str]] = {
    "MoCo v2": (moco, "moco-v2", "module.encoder_q.", "torch archive"),
    "MoCo v2, older torch": (lambda f: moco(f, legacy=True), "moco-v2", "module.encoder_q.", "torch pickles"),
    "MoCo v1": (lambda f: moco(f, head="linear"), "moco-v1", "module.encoder_q.", "torch archive"),
    "Lightning encoder_q": (lambda f: lightning(f, "encoder_q."), "moco-v2", "encoder_q.", "torch archive"),
    "Lightning backbone": (
        lambda f: lightning(f, "backbone.", small=True, channels=1),
        "moco-v2",
        "backbone.",
        "torch archive",
    ),
    "numbered backbone": (numbered, "lightly", "backbone.", "torch archive"),
    "torchvision": (plain, "none", "", "torch archive"),
    "torchvision, old": (lambda f: plain(f, old=True), "none", "", "torch pickles"),
    "safetensors": (lambda f: plain(f, tensors=True), "none", "", "safetensors"),
    "ResNet-50": (bottleneck, "moco-v2", "model.module.encoder_q.", "torch archive"),
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_imported_encoder_embeds_as_its_source(tmp_path: Path, layout: str) -> None:
    write, head, prefix, form = LAYOUTS[layout]
    network, file = write(tmp_path)
    C = network.conv1.in_channels
    bands = tuple("ugriz"[:C])
    preprocess = read_preprocess([*OPTIONS, f"bands={','.join(bands)}"])
    report = import_checkpoint(file, tmp_path / "out", preprocess, "galaxy")
    assert (report.head, report.prefix, report.format) == (head, prefix, form)
    assert (report.channels, report.small_stem) == (C, network.conv1.kernel_size == (3, 3))

    encoder, config = load_encoder(tmp_path / "out")
    images = torch.randn(6, C, 40, 36, generator=torch.Generator().manual_seed(2))
    embedding, projection = layers(network, encoder_input(images, config.preprocess))
    found = embed_objects(images.numpy(), encoder, config)
    scale = float(embedding.abs().max())
    assert report.dimensions == found.shape[1]
    np.testing.assert_allclose(found / scale, embedding.numpy() / scale, rtol=0, atol=1e-5)
    assert float(embedding.std(dim=0).mean()) > 1e-3 * scale  # the comparison is not of constants
    if head != "none":
        assert report.projection == 24
        found = embed_objects(images.numpy(), encoder, config, layer="projection")
        np.testing.assert_allclose(found, projection.numpy(), rtol=0, atol=1e-5)
    else:
        assert report.projection is None
        with pytest.raises(InputError, match="imported without a projection head"):
            require_layer(config, "projection", tmp_path / "out")


def test_what_was_not_used_and_what_was_missing_is_said(tmp_path: Path) -> None:
    _, file = moco(tmp_path)
    preprocess = read_preprocess([*OPTIONS, "bands=g,r,z"])
    report = import_checkpoint(file, tmp_path / "moco", preprocess, "galaxy")
    keys = torch.load(file, weights_only=True)["state_dict"].keys()
    assert report.unused == sorted(key for key in keys if not key.startswith("module.encoder_q."))
    assert report.missing == []
    again = import_checkpoint(file, tmp_path / "again", preprocess, "galaxy")
    assert again.content_hash == report.content_hash
    assert report.skipped == ["arch", "epoch", "optimizer"]
    record = describe(tmp_path / "moco")["made"]
    assert record["inputs"].keys() == {"moco.pth.tar"}
    assert record["settings"]["prefix"] == "module.encoder_q."

    _, file = plain(tmp_path, old=True)
    report = import_checkpoint(file, tmp_path / "plain", preprocess, "galaxy")
    assert report.unused == ["fc.bias", "fc.weight"]
    counters = [name for name in report.missing if not name.startswith("head.")]
    assert len(counters) == 12  # one of each batch norm
    assert all(name.endswith("num_batches_tracked") for name in counters)
    assert len(report.missing) - len(counters) == 4

    _, file = lightning(tmp_path, "encoder_q.")
    report = import_checkpoint(file, tmp_path / "lightning", preprocess, "galaxy")
    named = ["training_framework.Attributes", "training_framework.Callback"]
    assert [name for name in report.skipped if name.startswith("training_framework")] == named


@pytest.mark.parametrize("head", ["mlp", "classes"])
def test_info_says_where_an_import_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    torch.save(source(head=head).state_dict(), tmp_path / "w.pth")
    import_checkpoint(tmp_path / "w.pth", tmp_path / "out", read_preprocess([*OPTIONS, "bands=g,r,z"]), "galaxy")
    text = summary(tmp_path / "out")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    lines = {tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.startswith("  ")}
    assert ("imported", f"from w.pth {digest[:12]}…") in lines
    assert ("head", "moco-v2" if head == "mlp" else "none: it has no projection") in lines
    assert "epochs" not in text
    assert "not recorded" not in text
    assert "Settings" not in text
    (tmp_path / "out" / "build.json").unlink()
    assert "from a file not recorded here" in summary(tmp_path / "out")


def test_embedding_with_an_imported_encoder(tmp_path: Path, blob_samples: Callable[..., Path]) -> None:
    """From file to embeddings file; its missing head is refused."""
    _, file = plain(tmp_path)
    options = ["kind=scaled", "size=24", "bands=R,G,B", "dtype=uint8", "unit=", "pixel_scale=unknown"]
    preprocess = read_preprocess([*options, "divisor=255", "mean=0.45", "std=0.22"])
    import_checkpoint(file, tmp_path / "out", preprocess, "galaxy")
    samples = blob_samples(n=16)
    assert embed([samples], tmp_path / "out", tmp_path / "e.h5", quiet=True).dimensions == 512
    with pytest.raises(InputError, match="imported without a projection head, so it has the layer embedding only"):
        embed([samples], tmp_path / "out", tmp_path / "p.h5", layer="projection", quiet=True)
    assert not (tmp_path / "p.h5").exists()


# Safety


class Runs:
    """Unpickled, it runs a command."""

    def __init__(self, function: Any, command: str) -> None:
        self.function, self.command = function, command

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (self.command,)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, output, errors."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lookalike", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def options(*preprocess: str) -> list[str]:
    return [part for value in preprocess for part in ("--preprocess", value)]


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "older format"])
def test_a_file_that_runs_commands_runs_none(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], legacy: bool
) -> None:
    marker = tmp_path / "ran"
    attack = Runs(os.system, f"touch {marker}")
    pickle.loads(pickle.dumps(attack))
    assert marker.exists()  # the payload works where something is unpickled
    marker.unlink()
    state = prefixed(source(), "encoder_q.")
    full = {"state_dict": state, "hyper_parameters": attack}
    torch.save(full, tmp_path / "bad.ckpt", _use_new_zipfile_serialization=not legacy)
    code, out, err = run(
        "checkpoint", "import", tmp_path / "bad.ckpt", "--out", tmp_path / "out", "--domain", "galaxy",
        *options(*OPTIONS, "bands=g,r,z"),
    )  # fmt: skip
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "bad.ckpt is refused: its pickle names posix.system, which runs commands when it is loaded" in err
    assert not marker.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ckpt"]


def test_a_payload_no_list_knows_is_not_run_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that acts when it is imported, where Python would find it: read past, and named in the report."""
    marker = tmp_path / "ran"
    (tmp_path / "innocent.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\ndef setup(value):\n    return value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import innocent  # type: ignore[import-not-found]

    assert marker.exists()  # importing it acts
    marker.unlink()
    full = {"state_dict": prefixed(source(), "encoder_q."), "hyper_parameters": Runs(innocent.setup, "x")}
    torch.save(full, tmp_path / "bad.ckpt")
    tensors, told = read_tensors_apart(tmp_path / "bad.ckpt")
    assert not marker.exists()
    assert "encoder_q.conv1.weight" in tensors
    assert told["foreign"] == ["innocent.setup"]


def test_files_that_cannot_be_right_are_one_line(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """Through the command and its child process; every kind of file is in test_ssl_weight_files."""
    whole = io.BytesIO()
    torch.save(source().state_dict(), whole)
    (tmp_path / "cut.pth").write_bytes(whole.getvalue()[:-1000])
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10**8))
    (tmp_path / "giant.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{" * 99)
    (tmp_path / "words.pth").write_text("these are no weights at all")
    wanted = {"cut.pth": "damaged or cut short", "bomb.pth": "is compressed", "giant.safetensors": "its header"}
    for name, message in (wanted | {"words.pth": "neither a file of torch.save", "none.pth": "No such file"}).items():
        code, out, err = run(
            "checkpoint", "import", tmp_path / name, "--out", tmp_path / "out", "--domain", "galaxy",
            *options(*OPTIONS, "bands=g,r,z"),
        )  # fmt: skip
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert message in err
        assert name in err
        assert not (tmp_path / "out").exists()


def test_a_reading_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "w.pth")
    monkeypatch.setattr(importing, "TIMEOUT", 0.01)
    with pytest.raises(InputError, match=r"w\.pth is refused: reading it took more than 0\.01 s"):
        read_tensors_apart(tmp_path / "w.pth")
    monkeypatch.setattr(importing, "TIMEOUT", 60)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match=r"w\.pth is refused: the process that read it ended with 1"):
        read_tensors_apart(tmp_path / "w.pth")


# What is not a whole encoder


def without(*names: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: [state.pop(name) for name in names]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer3.1.bn2.running_mean"), "nearest is resnet18, but 1 of its weights are missing, first 'layer3"),
        (without("conv1.weight"), r"this file has none among its 1\d\d weights"),
        (lambda s: s.update({"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}), "1 weights are not of it, first"),
        (lambda s: s.update({"conv1.bias": torch.zeros(64)}), "'conv1.bias' of shape 64"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 5, 5)}), "conv1.weight is 64×3×5×5"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64)}), "conv1.weight is 64"),
        (lambda s: s.update({"bn1.weight": torch.zeros(63)}), "'bn1.weight' of shape 63"),
        (lambda s: s["bn1.bias"].fill_(float("nan")), "64 of the 64 in 'backbone.bn1.bias' are not"),
        (lambda s: s["layer1.0.conv1.weight"][0, 0, 0, :2].fill_(float("inf")), "but 2 of the 36,864 in 'backbone"),
        (lambda s: s.update({"bn1.weight": torch.ones(64, dtype=torch.float64) * 1e300}), "64 of the 64 in"),
        (lambda s: s.update({"bn1.weight": torch.ones(64, dtype=torch.int32)}), "'backbone.bn1.weight' holds int32"),
        (lambda s: s.update({"bn1.num_batches_tracked": torch.ones(3)}), "is one whole number, but 'backbone.bn1.num"),
        (
            lambda s: s["bn1.running_var"].fill_(-0.5),
            "A variance is at least 0, but 'backbone.bn1.running_var",
        ),
        (lambda s: s.clear(), "this file has none among its 0 weights"),
    ],
)
def test_an_encoder_that_is_not_whole_is_refused(change: Callable[[dict[str, Tensor]], Any], message: str) -> None:
    state = {name: tensor.clone() for name, tensor in source("resnet18", head="classes").state_dict().items()}
    change(state)
    with pytest.raises(InputError, match=message):
        recognize(state)


@pytest.mark.parametrize("name", ["resnet152", "wide_resnet50_2", "resnext50_32x4d"])
def test_other_networks_are_refused(name: str) -> None:
    with torch.device("meta"):
        state = dict(getattr(torchvision.models, name)().state_dict())
    with pytest.raises(
        InputError, match=r"needed \(resnet10, resnet18, resnet34, resnet50, resnet101.*nearest is resnet"
    ):
        recognize(state)


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("small", [False, True])
def test_name_bands_and_stem_are_inferred(name: str, small: bool) -> None:
    config = recognize(source(name, channels=4, small=small).half().state_dict()).config
    assert (config.name, config.channels, config.small_stem, config.projection) == (name, 4, small, 24)


def test_of_several_networks_one_is_chosen_by_name() -> None:
    one, two = source(), source()
    with torch.no_grad():
        two.bn1.bias.fill_(7)
    teacher = prefixed(one, "student.backbone.") | prefixed(two, "teacher.backbone.")
    with pytest.raises(InputError, match=r"2 networks.*--prefix. Choices: 'student.backbone.', 'teacher.backbone.'"):
        recognize(teacher)
    for prefix in ("teacher.backbone", "teacher.backbone."):
        assert float(recognize(teacher, prefix).state["backbone.bn1.bias"][0]) == 7
    with pytest.raises(InputError, match=r"under the prefix 'teacher'.*Choices: 'student.backbone.'"):
        recognize(teacher, "teacher")
    assert recognize(prefixed(one, "backbone.") | prefixed(two, "backbone_momentum.")).prefix == "backbone."
    assert recognize(prefixed(one, "") | prefixed(two, "copy.encoder_q.")).prefix == "copy.encoder_q."


def test_a_head_of_another_shape_is_left_out() -> None:
    network = source(head="classes")
    network.fc = nn.Sequential(nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, 24))
    found = recognize(prefixed(network, "encoder_q."))
    assert (found.head, found.config.projection) == ("none", 128)
    assert [key for key in found.unused if "fc" in key] == sorted(prefixed(network.fc, "encoder_q.fc."))
    assert torch.equal(found.state["head.0.weight"], recognize(network.state_dict()).state["head.0.weight"])


def linear(D: int = 512, length: int = 512) -> nn.Module:
    return nn.Linear(D, length)


@pytest.mark.parametrize(
    "layers",
    [
        [linear(), nn.ReLU(), linear(), nn.ReLU(), linear(length=24)],
        [linear(), nn.BatchNorm1d(512), linear(length=24)],
        [linear(), nn.ReLU(), linear(length=24), nn.BatchNorm1d(24)],
    ],
    ids=["three layers", "batch norm within", "batch norm after"],
)
def test_a_head_that_holds_more_than_ours_is_left_out(layers: list[nn.Module]) -> None:
    """Taken for two layers, it would give other vectors than its source."""
    backbone = prefixed(source(head="classes"), "encoder_q.")
    backbone = {key: tensor for key, tensor in backbone.items() if ".fc." not in key}
    head = nn.Sequential(*layers)
    for prefix in ("encoder_q.fc.", "projection_head.layers."):
        found = recognize(backbone | prefixed(head, prefix))
        assert found.head == "none"
        assert found.unused == sorted(prefixed(head, prefix))
    two = prefixed(nn.Sequential(linear(), nn.ReLU(), linear(length=24)), "encoder_q.fc.")
    assert recognize(backbone | two).head == "moco-v2"
    assert recognize(backbone | two, unread={"encoder_q.fc.4.weight": "tensor of F8_E4M3"}).head == "none"
    one = prefixed(linear(length=24), "encoder_q.fc.")
    assert recognize(backbone | one).head == "moco-v1"
    assert recognize(backbone | one | {"encoder_q.fc.weight_g": torch.ones(24, 1)}).head == "none"


def test_a_momentum_encoder_has_its_own_head() -> None:
    network = source(head="classes")
    del network.fc
    both = prefixed(network, "backbone.") | prefixed(network, "backbone_momentum.")
    last = linear(length=24)
    heads = [nn.Sequential(linear(), nn.ReLU(), layer) for layer in (linear(length=24), last)]
    query = both | prefixed(heads[0], "projection_head.layers.")
    assert recognize(query).head == "lightly"
    assert recognize(query, "backbone_momentum").head == "none"
    found = recognize(query | prefixed(heads[1], "projection_head_momentum.layers."), "backbone_momentum")
    assert found.head == "lightly"
    assert torch.equal(found.state["head.2.bias"], last.state_dict()["bias"])
    other = {key.replace("backbone_momentum", "net_momentum"): tensor for key, tensor in query.items()}
    assert recognize(other, "net_momentum").head == "none"


def test_one_weight_under_two_names_is_refused() -> None:
    state = dict(source().state_dict())
    message = "Each weight has one name, but this file holds '0.weight' and 'conv1.weight', which are the same"
    with pytest.raises(InputError, match=message):
        recognize(state | {"0.weight": torch.zeros_like(state["conv1.weight"])})
    with pytest.raises(InputError, match=r"holds '1\.bias' and 'bn1\.bias', which are the same"):
        recognize(state | dict(nn.Sequential(*list(source().children())[:-1]).state_dict()))


def test_a_weight_of_an_unusual_type_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    state = dict(source().state_dict())
    torch.save(state | {"angle": torch.zeros(3, dtype=torch.complex64)}, tmp_path / "beside.pth")
    preprocess = read_preprocess([*OPTIONS, "bands=g,r,z"])
    assert import_checkpoint(tmp_path / "beside.pth", tmp_path / "out", preprocess, "galaxy").unused == ["angle"]
    for name in ("conv1.weight", "layer2.0.bn1.bias"):
        torch.save(state | {name: state[name].to(torch.complex64)}, tmp_path / "within.pth")
        with pytest.raises(InputError, match=f"is needed, but '{name}' is of a kind not read"):
            import_checkpoint(tmp_path / "within.pth", tmp_path / "no", preprocess, "galaxy")


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A terabyte of nothing: reading all of it would take many minutes."""
    with (tmp_path / "w.pth").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"w\.pth is refused: it has 1,099,511,627,776 bytes; at most"):
        import_checkpoint(tmp_path / "w.pth", tmp_path / "out", read_preprocess(FULL), "galaxy")


# Preprocessing


FULL = ["kind=flux", "size=96", "bands=g,r,z", "dtype=float32", "unit=nanomaggy", "pixel_scale=0.262"]


def test_preprocessing_from_options_and_files(tmp_path: Path) -> None:
    assert read_preprocess(FULL) == Preprocess(
        kind="flux", size=96, bands=("g", "r", "z"), dtype="float32", unit="nanomaggy", pixel_scale=0.262
    )
    drawn = Preprocess(
        kind="lupton",
        size=64,
        bands=("1",),
        dtype="float32",
        unit="e/s",
        pixel_scale=None,
        m=0.01,
        Q=8.0,
        scales=(2.5,),
    )
    given = ["kind=lupton", "size=64", "bands=1", "dtype=float32", "unit=e/s", "pixel_scale=unknown"]
    assert read_preprocess([*given, "m=0.01", "Q=8", "scales=2.5"]) == drawn
    (tmp_path / "p.toml").write_text(
        'kind = "lupton"\nsize = 32\nbands = ["1"]\ndtype = "float32"\nunit = "e/s"\npixel_scale = "unknown"\n'
        "m = 0.01\nQ = 8\nscales = [2.5]\n"
    )
    assert read_preprocess([str(tmp_path / "p.toml"), "size=64"]) == drawn
    (tmp_path / "p=1.json").write_text(json.dumps(drawn.model_dump()))  # as a config.json of ours has it
    assert read_preprocess([str(tmp_path / "p=1.json")]) == drawn


def test_all_that_is_missing_is_listed() -> None:
    with pytest.raises(InputError, match=r"missing: kind, size, bands, dtype, unit, pixel_scale \(and what the kind"):
        read_preprocess([])
    with pytest.raises(InputError, match=r"missing: bands, unit, divisor, mean, std\.$"):
        read_preprocess(["kind=scaled", "size=32", "dtype=uint8", "pixel_scale=unknown"])
    for name in ("kind", "size", "bands", "dtype", "unit", "pixel_scale"):
        with pytest.raises(InputError, match=rf"missing: {name}\b"):
            read_preprocess([text for text in FULL if not text.startswith(f"{name}=")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("kind=lupten", "Unknown kind 'lupten'. Did you mean 'lupton'? Choices: lupton, scaled, flux."),
        ("sise=3", "Unknown setting 'sise'"),
        ("size=many", "Setting size"),
        ("size=0", "size is greater than 0, but 0 was given"),
        ("size=100000", "size is at most 65,536 px"),
        ("dtype=float64", "Setting dtype"),
        ("bands=", "bands are at least one"),
        ("bands=g,g,r", "each with a name of its own"),
        ("pixel_scale=-1", "pixel_scale is greater than 0"),
        ("pixel_scale=NaN", "Setting pixel_scale"),
        ("mean=0.5", "Preprocessing of kind flux has no mean, but mean = 0.5 was given."),
        ("scales=1,2,3", "Preprocessing of kind flux has no scales"),
        ("nowhere.toml", "No such file: nowhere.toml"),
        ("words", "A settings file ends in .toml or .json, but words was given."),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(given: str, message: str) -> None:
    with pytest.raises((InputError, NotFoundError)) as refused:
        read_preprocess([*FULL, given])
    assert message in refused.value.message


def test_scales_are_one_per_band_and_divisors_not_zero() -> None:
    lupton = ["kind=lupton", "m=0.03", "Q=20"]
    with pytest.raises(InputError, match="scales are one per band, but 2 for 3 bands were given"):
        read_preprocess([*FULL, *lupton, "scales=1,2"])
    with pytest.raises(InputError, match="std is greater than 0, but 0 was given"):
        read_preprocess([*FULL, "kind=scaled", "divisor=1", "mean=0", "std=0"])

    with pytest.raises(InputError, match="the scale of r is greater than 0, but 0 was given"):
        read_preprocess([*FULL, *lupton, "scales=1,0,2"])


IMAGENET = ["kind=scaled", "size=32", "bands=R,G,B", "dtype=uint8", "unit=", "pixel_scale=unknown", "divisor=255"]
IMAGENET += ["mean=0.485,0.456,0.406", "std=0.229,0.224,0.225"]


@pytest.mark.usefixtures("one_thread")
def test_bands_normalized_each_by_its_own_numbers(tmp_path: Path) -> None:
    """As torchvision normalizes photographs for its own weights."""
    network, file = plain(tmp_path)
    preprocess = read_preprocess(IMAGENET)
    assert preprocess == read_preprocess([*IMAGENET, "mean=[0.485, 0.456, 0.406]"])
    import_checkpoint(file, tmp_path / "out", preprocess, "image")
    encoder, config = load_encoder(tmp_path / "out")
    assert config.preprocess == preprocess
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    normalize = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    embedding, _ = layers(network, normalize(images / 255))
    found = embed_objects(images.numpy(), encoder, config)
    scale = float(embedding.abs().max())
    np.testing.assert_allclose(found / scale, embedding.numpy() / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mean=0.4,0.5", "mean is one number or one per band, but 2 for 3 bands were given"),
        ("std=0.4,0.5,0.6,0.7", "std is one number or one per band, but 4 for 3 bands were given"),
        ("std=0.2,0,0.2", "std is greater than 0, but 0 was given"),
        ("mean=0.4,x,0.5", "Setting mean"),
    ],
)
def test_numbers_of_bands_that_cannot_be_are_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_preprocess([*IMAGENET, given])


def test_one_number_for_all_bands_is_stored_as_it_always_was() -> None:
    """Content hashes of checkpoints cover it."""
    stored = read_preprocess([*IMAGENET, "mean=0", "std=0.25"]).model_dump(mode="json")
    assert json.dumps([stored["mean"], stored["std"]]) == "[0.0, 0.25]"


# The command


def test_the_command_says_what_it_found(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    _, file = lightning(tmp_path, "backbone.", small=True)
    arguments = ["checkpoint", "import", file, "--domain", "galaxy", *options(*OPTIONS)]
    code, out, err = run(*arguments, "--out", tmp_path / "out", *options("bands=g,r"))
    assert (code, out) == (2, "")
    assert "takes 3 bands, but 2 were given (g, r)" in err
    code, out, err = run(*arguments, "--out", tmp_path / "out", *options("bands=g,r,z"))
    assert code == 0, err
    assert out.startswith("resnet10 of 3 bands, 3×3 stem, 512 dimensions, projection 24 (moco-v2), from backbone.:")
    assert "skipped: callbacks, epoch" in err
    assert "taken to have stride 1" in err
    code, out, err = run(*arguments, "--out", tmp_path / "out", *options("bands=g,r,z"))
    assert (code, out) == (2, "")
    assert "exists; choose another --out" in err
    code, out, err = run(*arguments, "--out", tmp_path / "two", *options("bands=g,r,z"), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["content_hash"] == describe(tmp_path / "out")["content_hash"]
    assert run("checkpoint", "import", file, "--out", tmp_path / "x", *options(*FULL))[0] == 2  # no --domain
    code, _, err = run(*arguments[:3], "--domain", "galaxie", *options(*FULL), "--out", tmp_path / "x")
    assert (code, "Unknown domain 'galaxie'. Did you mean 'galaxy'?" in err) == (2, True)
    code, _, err = run("checkpoint", "imprt")
    assert (code, "No such command 'imprt'" in err, "Choices: import, export, release." in err) == (2, True, True)


def test_many_keys_are_told_in_few_words() -> None:
    keys = [f"module.encoder_k.layer{i}.{j}.weight" for i in range(4) for j in range(9)] + ["module.queue", "epoch"]
    assert grouped(keys) == (
        "module.encoder_k.layer0.* (9), module.encoder_k.layer1.* (9), module.encoder_k.layer2.* (9), "
        "module.encoder_k.layer3.* (9), module.queue, epoch"
    )
    assert grouped([f"k{i}" for i in range(9)]) == "k0, k1, k2, k3, k4, k5, … (3 more)"
    assert grouped(["queue"]) == "queue"
