"""Weight files made elsewhere, read without trusting them: torch.save's two formats and safetensors.

Everything a file declares is compared with the bytes that are really there before memory is taken, and pickles are
read as data (`pickle_data`), so that no code of the file ever runs. This is what the child process of an import
does (`weights_child`); it needs no torch.

Layouts: the zip archive of torch 1.6 and newer, the older sequence of pickles followed by raw storages
(torch/serialization.py, `_save` and `_legacy_save`), and https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.ssl.pickle_data import BadPickleError, Call, Global, Persistent, PickleReader

MAX_FILE = 4 * 1024**3  # bytes of a file, and of all tensors read from it
MAX_PICKLE = 64 * 1024**2  # bytes of an archive's pickle, of a safetensors header
MAX_ENTRIES = 100_000  # files within an archive, tensors within a file
MAX_AXES = 8
MAX_KEY = 300  # characters of a weight's name
INSIDE = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the weights
ENCRYPTED = 1  # bit of a zip entry's flags
MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}
# Types NumPy has none for, or no weights have: passed over, by their bytes in torch's older format.
UNREAD = {"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "QInt8Storage": 1, "QUInt8Storage": 1}
UNREAD |= {"QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1, "UntypedStorage": 1}
STORED_AS = {"bfloat16": "<u2"}  # its 16 bits, the upper half of a float32
SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
SAFETENSORS |= {"I8": "<i1", "U8": "<u1", "BOOL": "<u1"}
# Loading a file that names these with pickle would run commands; no weights need them.
RUNNERS = {"os", "posix", "nt", "subprocess", "sys", "runpy", "pty", "socket", "shutil", "ctypes", "importlib"}
RUNNERS |= {"commands", "code", "timeit", "webbrowser", "pickle", "_pickle", "multiprocessing", "asyncio"}
BUILTINS = ("builtins", "__builtin__")
RUNNING = {"eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint", "input", "apply"}
OURS = {"torch", "collections", *BUILTINS}  # names every weight file has


class RefusedError(Exception):
    """Why a file is not read, as the end of a sentence that begins with its name."""


@dataclass
class Weights:
    """What a file holds: tensors by key, where they lay in it, and what was passed over.

    unread  : {key of the state dict: what it is} where that is no plain tensor, or of a type that is not read.
    outside : names beside the state dict, such as `epoch` or `optimizer`.
    foreign : classes of other packages the file names; none was looked up.
    """

    format: str
    tensors: dict[str, NDArray[Any]]
    unread: dict[str, str] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def read_weights(path: Path) -> Weights:
    """The tensors of a weight file of any of the three formats; RefusedError where it is none or cannot be right."""
    size = checked_size(path)
    with path.open("rb") as file:
        start = file.read(9)
        try:
            if start[:4] == b"PK\x03\x04":
                return _read_archive(path, size)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if start[:1] == b"\x80":
                    return _read_sequence(data, size)
                if start[8:9] == b"{":
                    return _read_safetensors(data, size)
        except BadPickleError as error:
            raise RefusedError(str(error)) from None
        except RecursionError:
            raise RefusedError("it is nested too deeply") from None
    raise RefusedError("it is neither a file of torch.save nor safetensors")


def checked_size(path: Path) -> int:
    """How many bytes a file has; RefusedError where no weight file has so many or few."""
    size = path.stat().st_size
    if size > MAX_FILE:
        raise RefusedError(f"it has {size:,} bytes; at most {MAX_FILE:,} are read")
    if size < 16:
        raise RefusedError(f"its {size} bytes are too few for weights")
    return size


@dataclass
class Storage:
    """One stored run of numbers: its type, how many, and how to read its bytes."""

    dtype: str
    numel: int
    read: Callable[[], bytes]

    @cached_property
    def numbers(self) -> NDArray[Any]:
        """All of them (numel,), read once for all the tensors that share them."""
        return np.frombuffer(self.read(), STORED_AS.get(self.dtype, self.dtype))


def _read_archive(path: Path, size: int) -> Weights:
    """torch.save since 1.6: NAME/data.pkl and NAME/data/KEY, stored uncompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise RefusedError(f"its archive has {len(entries):,} entries; at most {MAX_ENTRIES:,} are read")
            for entry in entries:
                if entry.flag_bits & ENCRYPTED:
                    raise RefusedError("its archive is encrypted")
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                    raise RefusedError(f"{entry.filename!r} in it is compressed, which torch.save never does")
            if (declared := sum(entry.file_size for entry in entries)) > size:
                raise RefusedError(f"its archive declares {declared:,} bytes, but the file has {size:,}")
            return _from_archive(archive, {entry.filename: entry for entry in entries}, size)
    except BadPickleError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise RefusedError(f"its archive is damaged or cut short ({error})") from None


def _from_archive(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], size: int) -> Weights:
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise RefusedError("it is an archive, but not one of torch.save (which holds one data.pkl)")
    root = roots[0]
    if f"{root}constants.pkl" in entries:
        raise RefusedError("it is a TorchScript program; save its state_dict() with torch.save instead")
    if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
        raise RefusedError("its numbers are big-endian, and only little-endian ones are read")
    if entries[f"{root}data.pkl"].file_size > MAX_PICKLE:
        raise RefusedError(f"its pickle is longer than {MAX_PICKLE:,} bytes")
    reader = PickleReader()
    value = reader.read(io.BytesIO(archive.read(f"{root}data.pkl")))
    storages = {}
    for key, (kind, numel) in _declared(reader).items():
        if (dtype := STORAGES.get(kind)) is None:
            continue
        entry = entries.get(f"{root}data/{key}")
        there = entry.file_size if entry is not None else 0
        if entry is None or there != numel * _itemsize(dtype):
            raise RefusedError(f"its storage {key!r} declares {numel:,} numbers, but has {there:,} bytes")
        storages[key] = Storage(dtype, numel, partial(archive.read, entry))
    return _collect("torch archive", value, reader, storages, size)


def _read_sequence(data: mmap.mmap, size: int) -> Weights:
    """torch.save before 1.6: magic number, version, system, the object, the storages' keys, then each one's bytes."""
    if PickleReader().read(data) != MAGIC:
        raise RefusedError("it is a pickle, but not one of torch.save")
    PickleReader().read(data)
    system = PickleReader().read(data)
    if not (isinstance(system, dict) and system.get("little_endian") is True):
        raise RefusedError("its numbers are not said to be little-endian, and only those are read")
    reader = PickleReader()
    value = reader.read(data)
    keys = PickleReader().read(data)
    declared = _declared(reader)
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or sorted(keys) != sorted(declared):
        raise RefusedError("its list of storages is not that of its tensors")
    storages, at = {}, data.tell()
    for key in keys:
        kind, numel = declared[key]
        dtype = STORAGES.get(kind)
        if dtype is None and kind not in UNREAD:
            raise RefusedError(f"its storage {key!r} is a {kind}, of which it is not known how long it is")
        length = numel * (UNREAD[kind] if dtype is None else _itemsize(dtype))
        there = int.from_bytes(data[at : at + 8], "little", signed=True)
        if there != numel or at + 8 + length > size:
            left = max(0, size - at - 8)
            raise RefusedError(f"its storage {key!r} declares {numel:,} numbers, but {left:,} bytes are left")
        if dtype is not None:
            storages[key] = Storage(dtype, numel, partial(_part, data, at + 8, at + 8 + length))
        at += 8 + length
    return _collect("torch pickles", value, reader, storages, size)


def _part(data: mmap.mmap, start: int, end: int) -> bytes:
    return data[start:end]


def _declared(reader: PickleReader) -> dict[str, tuple[str, int]]:
    """Class and length of every storage a pickle refers to, by key."""
    found: dict[str, tuple[str, int]] = {}
    for reference in reader.persistent:
        match reference.id:
            case ("storage", Global(module=module, name=name), str(key), _, int(numel), *view) if (
                module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage") and view in ([], [None])
            ):
                if numel < 0:
                    raise RefusedError(f"its storage {key!r} declares {numel:,} numbers")
                if found.setdefault(key, (name, numel)) != (name, numel):
                    raise RefusedError(f"its storage {key!r} is declared twice, differently")
            case _:
                raise RefusedError("it refers to something outside of its pickle that is no storage of torch")
    return found


def _collect(form: str, value: Any, reader: PickleReader, storages: dict[str, Storage], size: int) -> Weights:
    """The tensors of the state dict within what the pickle of a file of `size` bytes described."""
    for name in reader.globals:
        if name.module.partition(".")[0] in RUNNERS or (name.module in BUILTINS and name.name in RUNNING):
            raise RefusedError(f"its pickle names {name}, which runs commands when it is loaded; nothing was run")
    if isinstance(value, Call):
        raise RefusedError(f"it holds an object of {value.function_name()}, not weights; save its state_dict() instead")
    if not isinstance(value, dict):
        raise RefusedError(f"it holds a {type(value).__name__}, not named weights")
    inside = next((name for name in INSIDE if isinstance(value.get(name), dict)), None)
    state = value if inside is None else value[inside]
    weights = Weights(form, {})
    if inside is not None:
        weights.outside = sorted(key for key in value if isinstance(key, str) and key != inside)
    weights.foreign = sorted({str(name) for name in reader.globals if name.module.partition(".")[0] not in OURS})
    if len(state) > MAX_ENTRIES:
        raise RefusedError(f"it names {len(state):,} weights; at most {MAX_ENTRIES:,} are read")
    total = 0
    for key, item in state.items():
        if not isinstance(key, str):
            continue
        _check_key(key)
        found = _tensor(item)
        storage = storages.get(found[0]) if found else None
        if found is None or storage is None:
            weights.unread[key] = item.function_name() if isinstance(item, Call) else type(item).__name__
            continue
        array = _view(storage, *found[1:], key)
        total += array.size * _itemsize(storage.dtype)
        if total > min(2 * size, MAX_FILE):  # tied weights name a storage twice
            raise RefusedError(f"its tensors take {total:,} bytes and more, but the file has {size:,}")
        weights.tensors[key] = _widened(array, storage.dtype)
    return weights


def _check_key(key: str) -> None:
    if not (key.isprintable() and len(key) <= MAX_KEY):
        raise RefusedError(f"it names a weight {ascii(key)[:80]}, which is no name")


def _tensor(item: Any) -> tuple[str, int, tuple[Any, ...], tuple[Any, ...]] | None:
    """Storage, offset, shape and strides of a pickled tensor or parameter; None where it is anything else."""
    match item:
        case Call(Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (data, *_)):
            item = data
    match item:
        case Call(
            Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"),
            (Persistent(id=reference), int(offset), tuple(shape), tuple(strides), *_),
        ):
            return reference[2], offset, shape, strides
    return None


def _view(storage: Storage, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...], key: str) -> NDArray[Any]:
    """The part of a storage that a tensor is, contiguous; RefusedError where it reaches outside of it."""
    numbers = (offset, *shape, *strides)
    whole = len(shape) == len(strides) <= MAX_AXES and all(type(n) is int and 0 <= n <= MAX_FILE for n in numbers)
    numel = math.prod(shape) if whole else 0
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=False)) if numel else 0
    if not whole or numel > storage.numel or last >= max(storage.numel, 1):
        raise RefusedError(f"{key!r} in it declares {_times(shape)} numbers of a storage of {storage.numel:,}")
    if not numel:
        return np.zeros(shape, STORED_AS.get(storage.dtype, storage.dtype))
    stored = storage.numbers[offset:]
    steps = tuple(step * stored.itemsize for step in strides)
    array = np.ascontiguousarray(np.lib.stride_tricks.as_strided(stored, shape, steps, writeable=False))
    return array.reshape(shape)  # ascontiguousarray gives a scalar an axis


def _read_safetensors(data: mmap.mmap, size: int) -> Weights:
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_PICKLE, size - 8):
        raise RefusedError(f"its header declares {length:,} bytes of {size:,}")
    try:
        table = json.loads(data[8 : 8 + length])
        table.pop("__metadata__", None)
        weights, start, total = Weights("safetensors", {}), 8 + length, 0
        for key, entry in table.items():
            _check_key(key)
            if (dtype := SAFETENSORS.get(entry["dtype"])) is None:
                weights.unread[key] = f"tensor of {entry['dtype'][:20]}"
                continue
            shape, (first, end) = tuple(entry["shape"]), entry["data_offsets"]
            whole = len(shape) <= MAX_AXES and all(type(n) is int and 0 <= n <= MAX_FILE for n in (*shape, first, end))
            if not whole or math.prod(shape) * _itemsize(dtype) != end - first or start + end > size:
                raise RefusedError(f"{key!r} in it declares {_times(shape)} numbers, but the file has not those bytes")
            total += end - first
            if total > size:
                raise RefusedError("its tensors overlap")
            array = np.frombuffer(data[start + first : start + end], STORED_AS.get(dtype, dtype))
            weights.tensors[key] = _widened(array.reshape(shape), dtype)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise RefusedError("its header is not that of safetensors") from None
    return weights


def _widened(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """bfloat16, read as 16 bits each, as float32, which has the same numbers and more; others as they are."""
    return (array.astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else array


def _itemsize(dtype: str) -> int:
    return np.dtype(STORED_AS.get(dtype, dtype)).itemsize


def _times(shape: Iterable[Any]) -> str:
    known = (str(n)[:20] if isinstance(n, int | str) else "?" for n in list(shape)[: MAX_AXES + 1])
    return "×".join(known) or "1"
