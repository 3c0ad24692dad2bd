"""Jets in NumPy files: padded (N, P, F) arrays, flat arrays with offsets, and EnergyFlow's `X` and `y`.

- `NAME_offsets` (N + 1,) with `NAME_eta_phi_pt` (M, 3), or any order of those words: ragged, one part for each NAME.
- `X` (N, P, 4) of pT, rapidity, φ, particle id and `y` (N,), as EnergyFlow's quark and gluon jets are distributed.
- arrays (N, P) of each quantity, such as `part_pt`; or one (N, P, F), its numbers named by --bands.
Other arrays (N,) are catalog columns. Values are read a block at a time; pickled objects never are.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.datasets.arrays import Held
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.jet_blocks import Block, Part, as_jet, from_padded, note_other_lengths, with_angles
from lookalike.datasets.jet_names import QUANTITIES, among, in_order, quantity
from lookalike.datasets.numpy_arrays import read_header, reading
from lookalike.datasets.table import clean_names, plain_values
from lookalike.errors import InputError
from lookalike.samples import Column

BLOCK_BYTES = 8 * 1024**2
SMALL = 256 * 1024**2  # bytes of an array that is held whole: offsets and columns
ENERGYFLOW = ("pt", "eta", "phi", "pdgid")
OFFSETS = "_offsets"


def parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    """The parts of an .npy or .npz file; InputError where it holds no constituents."""
    if path.suffix.lower() == ".npy":
        return [_padded(id_from_name(path.name), _npy(path), options, {})]
    arrays = _members(path)
    found = _parts(path, arrays, options, ledger)
    note_other_lengths(
        path, {name: array.shape for name, array in arrays.items() if OFFSETS not in name}, found, ledger
    )
    return found


def _parts(path: Path, arrays: dict[str, Held], options: Options, ledger: Ledger) -> list[Part]:
    """The parts of an .npz file of these arrays."""
    stem = id_from_name(path.name)
    for array in arrays.values():
        if array.dtype.kind not in "fiubSU":
            raise InputError(f"{array.where} holds {array.dtype}; constituents are real numbers.", code="bad_file")
    groups = [name.removesuffix(OFFSETS) for name in arrays if name.endswith(OFFSETS)]
    if groups:
        return [_ragged(f"{stem}-{name}" if len(groups) > 1 else stem, name, arrays) for name in groups]
    if "X" in arrays and len(arrays["X"].shape) == 3 and not options.bands:
        if arrays["X"].shape[2] not in (3, 4):
            raise InputError(f"{arrays['X'].where} is {arrays['X'].shape}; name its numbers with --bands.")
        ledger.note("EnergyFlow's rapidity is taken for η, as it is for massless particles.")
        order = ENERGYFLOW[: arrays["X"].shape[2]]
        return [_padded(stem, arrays["X"], options, arrays, order, labels={"y": "label"})]
    deep = [array for array in arrays.values() if len(array.shape) == 3]
    if len(deep) == 1:
        return [_padded(stem, deep[0], options, arrays)]
    if len(deep) > 1:
        names = ", ".join(array.member or "" for array in deep)
        raise InputError(f"{path} needs one array (N, P, F) of constituents, but has several: {names}.")
    return [_by_quantity(stem, path, arrays, options)]


def _npy(path: Path) -> Held:
    with path.open("rb") as file:
        shape, dtype, fortran = read_header(file, str(path))
        length = path.stat().st_size - file.tell()
    array = Held(path, None, shape, dtype)
    _sound(array, fortran)
    if math.prod(shape) * dtype.itemsize != length:
        needed = math.prod(shape) * dtype.itemsize
        raise InputError(f"{path} declares {needed:,} bytes of values, but holds {length:,}.", code="bad_file")
    return array


def _members(path: Path) -> dict[str, Held]:
    found = {}
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            member = name.removesuffix(".npy")
            with archive.open(name) as file:
                shape, dtype, fortran = read_header(file, f"{path}[{member}]")
            found[member] = Held(path, member, shape, dtype)
            _sound(found[member], fortran)
    return found


def _sound(array: Held, fortran: bool) -> None:
    if fortran and len(array.shape) > 1 and 0 not in array.shape:
        raise InputError(f"{array.where} is saved in Fortran order; save np.ascontiguousarray of it.")


def _stream(stack: ExitStack, array: Held) -> _Stream:
    """The array's rows, from the first on, open as long as the stack is."""
    with reading(array.where):
        if array.member is None:
            file: IO[bytes] = stack.enter_context(array.path.open("rb"))
        else:
            archive = stack.enter_context(zipfile.ZipFile(array.path))
            file = stack.enter_context(archive.open(f"{array.member}.npy"))
        read_header(file, array.where)
    return _Stream(array, file)


@dataclass
class _Stream:
    array: Held
    file: IO[bytes]

    def take(self, rows: int) -> NDArray[Any]:
        """The next rows (rows, …) in native byte order."""
        wanted = rows * self.array.row_bytes
        with reading(self.array.where):
            data = self.file.read(wanted)
        if len(data) != wanted:
            raise InputError(f"{self.array.where} ends before its last row.", code="bad_file")
        made = np.frombuffer(data, self.array.dtype).reshape(rows, *self.array.shape[1:])
        return made.astype(made.dtype.newbyteorder("="), copy=False)


def _whole(array: Held) -> NDArray[Any]:
    if array.shape[0] * array.row_bytes > SMALL:
        raise InputError(f"{array.where} is too large for a column: {array.shape} {array.dtype}.")
    with ExitStack() as stack:
        return _stream(stack, array).take(array.shape[0])


def _columns(arrays: dict[str, Held], n: int, labels: dict[str, str]) -> dict[str, NDArray[Any]]:
    """The arrays (N,) as catalog columns."""
    beside = {
        name if labels.get(name) in arrays else labels.get(name, name): array
        for name, array in arrays.items()
        if array.shape == (n,) and quantity(name) not in QUANTITIES
    }
    names = clean_names(beside, str(next(iter(arrays.values())).path) if arrays else "")
    read = {names[name]: plain_values(_whole(array)) for name, array in beside.items()}
    return {name: values for name, values in read.items() if values is not None}


def _steps(n: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def _padded(
    name: str,
    array: Held,
    options: Options,
    arrays: dict[str, Held],
    order: tuple[str, ...] | None = None,
    labels: dict[str, str] | None = None,
) -> Part:
    """One array (N, P, F) of padded constituents."""
    if len(array.shape) != 3 or 0 in array.shape or array.dtype.kind not in "fiu":
        raise InputError(f"Constituents are numbers (N, P, F), but {array.where} is {array.shape} {array.dtype}.")
    places = in_order(order or options.bands, array.shape[2], array.where)
    columns = _columns(arrays, array.shape[0], labels or {})

    def blocks() -> Iterator[Block]:
        with ExitStack() as stack:
            stream = _stream(stack, array)
            for start, stop in _steps(array.shape[0], array.row_bytes):
                rows = stream.take(stop - start)
                values = {name: rows[..., place] for name, place in places.items()}
                yield from_padded(start, values, {key: column[start:stop] for key, column in columns.items()})

    n, most = array.shape[:2]
    return Part(name, array.where, n, most, blocks, options.mode == "events", columns=dict.fromkeys(columns, Column()))


def _by_quantity(name: str, path: Path, arrays: dict[str, Held], options: Options) -> Part:
    """Arrays (N, P), one for each quantity."""
    flat = {member: array for member, array in arrays.items() if len(array.shape) == 2}
    chosen = {key: flat[member] for key, member in among(flat, options.bands, str(path)).items()}
    if odd := [array for array in chosen.values() if array.dtype.kind not in "fiu"]:
        raise InputError(f"{odd[0].where} holds {odd[0].dtype}; constituents are real numbers.", code="bad_file")
    shapes = {array.shape for array in chosen.values()}
    if len(shapes) > 1 or 0 in next(iter(shapes)):
        told = ", ".join(f"{array.member} {array.shape}" for array in chosen.values())
        raise InputError(f"The constituents' arrays of {path} need one shape (N, P), but are: {told}.", code="bad_file")
    n, most = next(iter(shapes))
    columns = _columns(arrays, n, {})

    def blocks() -> Iterator[Block]:
        with ExitStack() as stack:
            streams = {key: _stream(stack, array) for key, array in chosen.items()}
            for start, stop in _steps(n, sum(array.row_bytes for array in chosen.values())):
                values = {key: stream.take(stop - start) for key, stream in streams.items()}
                yield from_padded(start, values, {key: column[start:stop] for key, column in columns.items()})

    return Part(name, str(path), n, most, blocks, options.mode == "events", columns=dict.fromkeys(columns, Column()))


def _ragged(name: str, group: str, arrays: dict[str, Held]) -> Part:
    """Flat constituents with the place at which each object's begin."""
    offsets_of = arrays[group + OFFSETS]
    named = [
        (member, words)
        for member in arrays
        if member.startswith(f"{group}_")
        and _complete(words := re.split(r"_", member.removeprefix(f"{group}_").lower()))
    ]
    if len(named) != 1:
        raise InputError(
            f"{offsets_of.where} needs one array beside it that is named by its numbers, such as {group}_pt_eta_phi."
        )
    array, words = arrays[named[0][0]], named[0][1]
    if array.dtype.kind not in "fiu":
        raise InputError(f"{array.where} holds {array.dtype}; constituents are real numbers.", code="bad_file")
    if len(array.shape) != 2 or array.shape[1] != len(words):
        raise InputError(f"{array.where} is {array.shape}, but its name says (M, {len(words)}).", code="bad_file")
    offsets = _whole(offsets_of)
    if offsets.ndim != 1 or len(offsets) < 2 or offsets.dtype.kind not in "iu" or (offsets[1:] < offsets[:-1]).any():
        raise InputError(f"{offsets_of.where} must be whole numbers that never fall, at least two.", code="bad_file")
    steps = np.diff(offsets)
    if offsets[0] != 0 or offsets[-1] != array.shape[0]:
        raise InputError(
            f"{offsets_of.where} runs from {offsets[0]} to {offsets[-1]}, but {array.where} has {array.shape[0]:,} "
            "rows.",
            code="bad_file",
        )
    mine = {key.removeprefix(f"{group}_"): value for key, value in arrays.items() if key.startswith(f"{group}_")}
    columns = _columns(mine, len(steps), {})
    places = in_order(words, array.shape[1], array.where)

    def blocks() -> Iterator[Block]:
        with ExitStack() as stack:
            stream = _stream(stack, array)
            rows = max(1, BLOCK_BYTES // max(1, array.row_bytes * int(steps.mean() + 1)))
            for start in range(0, len(steps), rows):
                counts = steps[start : start + rows].astype(np.int64)
                taken = stream.take(int(counts.sum()))
                values = with_angles({key: taken[:, place].astype(np.float64) for key, place in places.items()})
                jet = as_jet(values["jet"]) if "jet" in values else None
                own = {key: column[start : start + len(counts)] for key, column in columns.items()}
                yield Block(start, counts, values["pt"], values["eta"], values["phi"], jet=jet, columns=own)

    return Part(name, array.where, len(steps), int(steps.max()), blocks, columns=dict.fromkeys(columns, Column()))


def _complete(words: list[str]) -> bool:
    return {"pt", "eta", "phi"} <= set(words) or {"px", "py", "pz"} <= set(words)
