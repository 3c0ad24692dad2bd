"""Weight files made elsewhere: read as torch reads them, with nothing of theirs run; hostile ones are refused."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lookalike.ssl.pickle_data import BadPickleError, Call, Global, PickleReader
from lookalike.ssl.weight_files import RefusedError, read_weights

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(PLAIN, st.sampled_from([3, 4, 5]))
def test_plain_values_are_what_pickle_makes_of_them(value: Any, protocol: int) -> None:
    stream = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
    assert PickleReader().read(stream) == value
    assert stream.read() == b"rest"


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_shared_and_repeated_values_come_back(protocol: int) -> None:
    shared = {"a": [1, 2.5, True], "b": ("x", None)}
    value = OrderedDict([("one", shared), ("two", [shared] * 3), ("long", list(range(3000)))])
    found = PickleReader().read(io.BytesIO(pickle.dumps(value, protocol)))
    assert found == dict(value)
    assert found["one"] is found["two"][2]


class Runs:
    """Unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_what_a_pickle_would_call_is_only_written_down(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = pickle.dumps({"x": Runs(f"touch {marker}"), "y": 5}, 2)
    found = PickleReader().read(io.BytesIO(data))
    assert not marker.exists()
    assert isinstance(found["x"], Call)
    assert (found["x"].function, found["x"].arguments) == (Global("posix", "system"), (f"touch {marker}",))
    assert found["y"] == 5
    pickle.loads(data)
    assert marker.exists()  # so the payload is a working one


@pytest.mark.parametrize("data", [b"", b".", b"\x80\x02", b"\x80\x02h\x07.", b"K\x01", b"\x82\x01."])
def test_broken_pickles_are_one_error(data: bytes) -> None:
    with pytest.raises(BadPickleError, match="its pickle"):
        PickleReader().read(io.BytesIO(data))


def odd_tensors() -> dict[str, Any]:
    """Tensors of every type, shape and layout that weight files hold."""
    torch.manual_seed(0)
    base = torch.randn(4, 6, 3, 3)
    return {
        "float": base,
        "channels_last": base.to(memory_format=torch.channels_last),
        "part of it": base[1:3, ::2],
        "transposed": torch.randn(5, 7).T,
        "half": torch.randn(9).half(),
        "bfloat": torch.randn(3, 4).bfloat16(),
        "double": torch.randn(2, dtype=torch.float64),
        "count": torch.tensor(17),
        "byte": torch.arange(5, dtype=torch.uint8),
        "yes": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "sequence"])
@pytest.mark.parametrize("inside", ["state_dict", "model", None])
def test_tensors_are_those_torch_reads(tmp_path: Path, zipped: bool, inside: str | None) -> None:
    tensors = odd_tensors()
    value = tensors if inside is None else {inside: OrderedDict(tensors), "epoch": 3, "lr": 0.1, "arch": "resnet18"}
    torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "w.pth")
    for name, tensor in (
        torch.load(tmp_path / "w.pth", weights_only=True).items() if inside is None else tensors.items()
    ):
        wanted = tensor.detach().float().numpy() if tensor.dtype == torch.bfloat16 else tensor.detach().numpy()
        assert found.tensors[name].shape == wanted.shape
        np.testing.assert_array_equal(found.tensors[name], wanted)
    assert (found.unread, found.foreign) == ({}, [])
    assert found.outside == ([] if inside is None else ["arch", "epoch", "lr"])


def test_safetensors_are_read_alike(tmp_path: Path) -> None:
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in odd_tensors().items()}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt"})
    found = read_weights(tmp_path / "w.safetensors")
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        wanted = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(found.tensors[name], wanted.numpy())


def archive(entries: dict[str, bytes], path: Path, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)


def tensor_pickle(
    numel: int, offset: int = 0, shape: tuple[Any, ...] = (2, 2), strides: tuple[Any, ...] = (2, 1)
) -> bytes:
    """The pickle of {"w": one tensor}, declaring whatever it is told to."""

    class Reference:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Reference(), offset, shape, strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(value, Reference) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"w": Tensor()})
    return stream.getvalue()


def made_archive(path: Path, data: bytes = bytes(16), **declared: Any) -> None:
    archive({"w/data.pkl": tensor_pickle(**({"numel": 4} | declared)), "w/data/0": data}, path)


def test_the_made_archive_is_a_sound_one(tmp_path: Path) -> None:
    made_archive(tmp_path / "w.pth", np.arange(4, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pth").tensors["w"], [[0, 1], [2, 3]])


def lying_size(path: Path) -> None:
    """An archive whose directory declares 3 GB for an entry of 16 bytes."""
    made_archive(path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 3 << 30, 3 << 30)
    path.write_bytes(data)


def overlapping(path: Path) -> None:
    """An archive whose directory lists the same 1 MB thousands of times."""
    archive({"w/data.pkl": tensor_pickle(4), "w/data/0": bytes(1 << 20)}, path)
    data = path.read_bytes()
    start, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    first = data.index(b"PK\x01\x02")
    directory = data[first:start] + data[start:end] * 5000
    tail = bytearray(data[end:])
    tail[8:20] = struct.pack("<HHII", 5001, 5001, len(directory), first)
    path.write_bytes(data[:first] + directory + tail)


def old_sequence(path: Path, declared: int) -> None:
    """The older format, whose one storage declares so many numbers."""
    torch.save({"w": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data[: -(8 + 16)] + struct.pack("<q", declared) + bytes(16))


def safetensors_header(path: Path, entry: dict[str, Any], data: bytes = bytes(16)) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def encrypted(path: Path) -> None:
    """An archive whose directory says that its entries are encrypted."""
    made_archive(path)
    data = bytearray(path.read_bytes())
    for at in (i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"):
        data[at + 8] |= 1
    path.write_bytes(data)


def named_often(path: Path) -> None:
    """A small archive of which one storage is named three times as a tensor."""
    shared = torch.zeros(5000)
    torch.save(dict.fromkeys("abc", shared), path)


def nested(depth: int) -> Any:
    """A tuple that holds itself twice, so many times over: a pickle of two bytes each, a text of 2^depth."""
    value: Any = ()
    for _ in range(depth):
        value = (value, value)
    return value


def calls(depth: int) -> bytes:
    """The pickle of something called with itself, so many times over."""
    return b"\x80\x02cmodule\nname\n" + b"2\x85R" * depth + b"."


def old_kind(path: Path, kind: bytes) -> None:
    """The older format with storages of a class of another name."""
    torch.save({"w": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"FloatStorage", kind))


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "too few"),
    "text": (lambda p: p.write_text("not weights at all, only words"), "neither a file of torch.save nor safetensors"),
    "another pickle": (lambda p: p.write_bytes(pickle.dumps(list(range(100)))), "not one of torch.save"),
    "another archive": (lambda p: archive({"readme": b"hello" * 9}, p), "not one of torch.save"),
    "zip bomb": (
        lambda p: archive({"w/data.pkl": bytes(100_000_000)}, p, zipfile.ZIP_DEFLATED),
        "is compressed, which torch.save never does",
    ),
    "lying directory": (lying_size, "declares 3,221,22"),
    "overlapping entries": (overlapping, "its archive declares"),
    "giant storage": (lambda p: made_archive(p, numel=2**40), "declares 1,099,511,627,776 numbers, but has 16 bytes"),
    "negative storage": (lambda p: made_archive(p, numel=-1), "its storage '0' declares -1 numbers"),
    "giant shape": (lambda p: made_archive(p, shape=(2**20, 2**20)), "'w' in it declares 1048576×1048576 numbers"),
    "repeated numbers": (lambda p: made_archive(p, shape=(1000, 1000), strides=(0, 0)), "declares 1000×1000"),
    "beyond its storage": (lambda p: made_archive(p, offset=1), "declares 2×2 numbers of a storage of 4"),
    "before its storage": (lambda p: made_archive(p, offset=-1), "declares 2×2"),
    "negative strides": (lambda p: made_archive(p, strides=(-2, 1)), "declares 2×2"),
    "shape of text": (lambda p: made_archive(p, shape=("2", 2)), "declares 2×2"),
    "shape and strides": (lambda p: made_archive(p, strides=(1,)), "declares 2×2"),
    "absurd number": (lambda p: made_archive(p, shape=(10**5000, 2)), "a number of absurd length"),
    "too many axes": (lambda p: made_archive(p, shape=(1,) * 9, strides=(1,) * 9), "declares 1×1"),
    "missing storage": (lambda p: archive({"w/data.pkl": tensor_pickle(4)}, p), "declares 4 numbers, but has 0 bytes"),
    "big-endian": (
        lambda p: archive({"w/data.pkl": tensor_pickle(4), "w/data/0": bytes(16), "w/byteorder": b"big"}, p),
        "big-endian",
    ),
    "program": (
        lambda p: torch.jit.save(torch.jit.ScriptModule(), str(p)),
        "TorchScript program",
    ),
    "whole module": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "an object of torch.nn.modules.linear.Linear"),
    "list": (lambda p: torch.save([torch.zeros(2)], p), "holds a list, not named weights"),
    "command": (lambda p: torch.save({"state_dict": {"w": Runs("true")}}, p), "names posix.system, which runs"),
    "command in the older format": (
        lambda p: torch.save({"w": Runs("true")}, p, _use_new_zipfile_serialization=False),
        "names posix.system, which runs commands when it is loaded; nothing was run",
    ),
    "older format, giant": (lambda p: old_sequence(p, 2**60), "but 16 bytes are left"),
    "older format, negative": (lambda p: old_sequence(p, -5), "but 16 bytes are left"),
    "strange names": (lambda p: torch.save({"a\nb": torch.zeros(2)}, p), r"names a weight 'a\nb', which is no name"),
    "long names": (lambda p: torch.save({"a" * 400: torch.zeros(2)}, p), "which is no name"),
    "safetensors, giant header": (lambda p: p.write_bytes(struct.pack("<Q", 2**62) + b"{" * 50), "its header declares"),
    "safetensors, no JSON": (lambda p: p.write_bytes(struct.pack("<Q", 9) + b"{" * 50), "not that of safetensors"),
    "safetensors, deep": (lambda p: p.write_bytes(struct.pack("<Q", 10**5) + b'{"a":' * 10**5), "not that of safet"),
    "safetensors, giant shape": (lambda p: safetensors_header(p, {"shape": [2**31, 2**31]}), "'w' in it declares"),
    "safetensors, cut short": (lambda p: safetensors_header(p, {}, bytes(15)), "has not those bytes"),
    "safetensors, before": (lambda p: safetensors_header(p, {"data_offsets": [-16, 0]}), "has not those bytes"),
    "encrypted": (encrypted, "its archive is encrypted"),
    "a storage named often": (named_often, "its tensors take"),
    "nested shape": (lambda p: made_archive(p, shape=(nested(40), 2)), "declares ?×2 numbers"),
    "a nested call": (
        lambda p: archive({"w/data.pkl": calls(40)}, p),
        "holds an object of an unnamed class, not weights",
    ),
    "a deep call": (
        lambda p: archive({"w/data.pkl": calls(200_000)}, p),
        "holds an object of an unnamed class, not weights",
    ),
    "an unknown storage, older format": (
        lambda p: old_kind(p, b"Float4Storage"),
        " is a Float4Storage, of which it is not known how long it is",
    ),
    "safetensors, no shape": (lambda p: safetensors_header(p, {"shape": None}), "not that of safetensors"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:.*TorchScript|.*torch.jit:Warning")
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    write, message = HOSTILE[name]
    write(tmp_path / "w.pth")
    with pytest.raises(RefusedError) as refused:
        read_weights(tmp_path / "w.pth")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_a_state_dict_holds_beside_weights_is_named_shortly(tmp_path: Path) -> None:
    """A call nested 40 times in itself has a text of 2^40 names; it is passed over all the same."""
    weights = tensor_pickle(4)
    state = weights[:-1] + b"X\x01\x00\x00\x00x" + calls(40)[2:-1] + b"s."
    archive({"w/data.pkl": state, "w/data/0": bytes(16)}, tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert (set(found.tensors), found.unread) == ({"w"}, {"x": "an unnamed class"})
    assert repr(Call(Global("a", "b"), nested(40))) == "a.b"


def test_weights_that_share_a_storage_are_read(tmp_path: Path) -> None:
    tied = torch.randn(5000)
    torch.save({"encoder": tied, "decoder": tied}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").tensors.keys() == {"encoder", "decoder"}
    half = torch.randn(5000).bfloat16()  # read as float32, twice its length
    torch.save({"encoder": half, "decoder": half}, tmp_path / "h.pth")
    assert read_weights(tmp_path / "h.pth").tensors["decoder"].dtype == np.float32


def unusual() -> dict[str, Any]:
    """Tensors of types that no encoder has."""
    counts = torch.zeros(3, dtype=torch.int8)
    return {
        "complex": torch.ones(3, dtype=torch.complex64),
        "complex128": torch.ones(2, dtype=torch.complex128),
        "uint16": torch.ones(5, dtype=torch.uint16),
        "float8": torch.ones(7).to(torch.float8_e4m3fn),
        "quantized": torch._make_per_tensor_quantized_tensor(counts, 0.1, 0),
        "sparse": torch.ones(3).to_sparse(),
    }


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:.*TypedStorage:UserWarning")
@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "sequence"])
def test_tensors_of_unusual_types_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    odd, plain = unusual(), odd_tensors()
    names = sorted([*odd, *plain], key=lambda name: name[::-1])  # mixed
    torch.save({name: (odd | plain)[name] for name in names}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "w.pth")
    assert found.unread.keys() == odd.keys()
    for name, tensor in plain.items():
        wanted = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        np.testing.assert_array_equal(found.tensors[name], wanted.numpy())


def test_safetensors_of_unusual_types_are_passed_over(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(3), "float8": torch.ones(7).to(torch.float8_e4m3fn), "x": torch.ones(2)}
    save_file(tensors, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert (set(found.tensors), found.unread) == ({"w", "x"}, {"float8": "tensor of F8_E4M3"})


def sound_files(folder: Path) -> list[Path]:
    """A small file of each format."""
    tensors = {f"layer{i}.weight": torch.randn(3, 4) for i in range(4)}
    full = {"state_dict": OrderedDict(tensors), "epoch": 3, "note": "x" * 50}
    torch.save(full, folder / "archive.pth")
    torch.save(full, folder / "sequence.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, folder / "w.safetensors")
    return sorted(folder.iterdir())


def test_files_cut_anywhere_are_refused(tmp_path: Path) -> None:
    for path in sound_files(tmp_path):
        whole = path.read_bytes()
        cut = tmp_path / "cut"
        for length in {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1}:
            cut.write_bytes(whole[:length])
            with pytest.raises(RefusedError):
                read_weights(cut)


def test_files_altered_anywhere_are_read_or_refused(tmp_path: Path) -> None:
    """300 files of each format with some bytes changed: tensors of finite total size or a typed error, no other."""
    draws = random.Random(0)
    read = 0
    for path in sound_files(tmp_path):
        whole = path.read_bytes()
        for _ in range(300):
            altered = bytearray(whole)
            for _ in range(draws.choice([1, 1, 3, 20])):
                altered[draws.randrange(len(altered))] = draws.randrange(256)
            (tmp_path / "altered").write_bytes(altered)
            with contextlib.suppress(RefusedError):
                found = read_weights(tmp_path / "altered")
                assert sum(tensor.nbytes for tensor in found.tensors.values()) <= len(whole)
                read += 1
    assert 50 < read < 600


def test_the_process_that_reads_holds_itself_to_its_limits(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "from lookalike.ssl.weights_child import _limit\n"
        "_limit(1000)\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU)[1])\n"
        "try: bytearray(3 << 30)\n"
        "except MemoryError: print('no memory')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["120", "no memory"]
