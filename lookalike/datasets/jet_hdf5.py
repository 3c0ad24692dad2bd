"""Jets in HDF5: the LHC Olympics' pandas tables, JetNet's arrays, and arrays of constituents by name.

- LHC Olympics: a pandas table of 2,100 columns, pT, η, φ of up to 700 particles of an event, and a label in a
  2,101st where there is one. It is read as plain HDF5 (`block0_values`, or `table`), so that nothing is unpickled.
- JetNet: `particle_features` (N, P, 3 or 4) of η, φ and pT relative to the jet, and a mask; `jet_features` (N, 4) of
  pT, η, mass, number.
- data sets (N, P), or of ragged rows, for each quantity, such as `part_pt`; or one (N, P, F), its numbers named by
  --bands or its attribute `columns`. Other data sets (N,) are catalog columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.attributes import as_text
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.hdf5_guard import guarded, is_plain
from lookalike.datasets.jet_blocks import Block, Part, as_jet, from_padded, note_other_lengths, reading, with_angles
from lookalike.datasets.jet_names import among, in_order
from lookalike.datasets.table import clean_names, plain_values
from lookalike.errors import InputError
from lookalike.samples import Column

BLOCK_BYTES = 8 * 1024**2
PARTICLES_OF_EVENT = 700
LABEL = Column("", "truth label of the event")
JETNET = {"jetnet_pt": "GeV", "jetnet_eta": "", "jetnet_mass": "GeV", "jetnet_particles": ""}


def parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    """The one part of an HDF5 file; InputError where it holds no constituents."""
    stem = id_from_name(path.name)
    with reading(path, "HDF5"), guarded(path, plugins=True) as file:
        if (table := _pandas(file)) is not None:
            return [_olympics(stem, path, file, table, options)]
        if {"particle_features", "jet_features"} <= set(file):
            return [_jetnet(stem, path, file, ledger)]
        found = [_arrays(stem, path, file, options)]
        shapes = {name: item.shape or () for name, item in file.items() if isinstance(item, h5py.Dataset)}
        note_other_lengths(path, shapes, found, ledger)
        return found


def _steps(n: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def _pandas(file: h5py.File) -> str | None:
    """The group of a pandas table, if there is one."""
    tables = [
        name
        for name, item in file.items()
        if isinstance(item, h5py.Group) and ("block0_values" in item or "table" in item)
    ]
    if len(tables) > 1:
        raise InputError(f"{file.filename} holds several pandas tables: {', '.join(tables)}.")
    return tables[0] if tables else None


def _olympics(name: str, path: Path, file: h5py.File, group: str, options: Options) -> Part:
    """The LHC Olympics' layout, in either way pandas writes a table."""
    if "block0_values" in file[group]:
        values, field = f"{group}/block0_values", ""
        items = file[group].get("block0_items")
        if f"{group}/block1_values" in file or (items is not None and not _rising(items)):
            raise InputError(f"{path} mixes types or orders of columns; save the table with all of one type.")
        shape: tuple[int, ...] = file[values].shape
    else:
        values, field = f"{group}/table", "values_block_0"
        dtype = file[values].dtype
        if dtype.names is None or field not in dtype.names or "values_block_1" in dtype.names:
            raise InputError(f"{path} holds a pandas table without `values_block_0` alone; save all of one type.")
        shape = (len(file[values]), *dtype[field].shape)
    if len(shape) != 2 or shape[1] % 3 == 2 or shape[1] < 3:
        raise InputError(
            f"Events are rows of pT, η, φ of up to {PARTICLES_OF_EVENT} particles, with a label after them or none, "
            f"but {path} has {shape[1] if len(shape) == 2 else shape} columns."
        )
    n, width = shape
    labelled = width % 3 == 1

    def blocks() -> Iterator[Block]:
        with reading(path, "HDF5"), guarded(path, plugins=True) as again:
            data = again[values].fields(field) if field else again[values]
            for start, stop in _steps(n, 8 * width):
                rows = np.asarray(data[start:stop])
                particles = rows[:, : width // 3 * 3].reshape(len(rows), -1, 3)
                columns = {"label": _labels(rows[:, -1])} if labelled else {}
                quantities = {name: particles[..., place] for place, name in enumerate(("pt", "eta", "phi"))}
                yield from_padded(start, quantities, columns)

    events = options.mode != "jets"
    described = {"label": LABEL} if labelled else {}
    unit = _unit(file[group]) or None
    return Part(name, str(path), n, width // 3, blocks, events, unit=unit, columns=described)


def _labels(values: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as whole numbers, −1 where one is none."""
    return np.where(np.abs(values) < 2**31, values, -1).astype(np.int64)


def _rising(items: h5py.Dataset) -> bool:
    """Whether columns named by numbers come in their order; other names say nothing."""
    names = items[:]
    return names.dtype.kind not in "iu" or bool((names == np.arange(len(names))).all())


def _jetnet(name: str, path: Path, file: h5py.File, ledger: Ledger) -> Part:
    particles, jets = file["particle_features"], file["jet_features"]
    shape: tuple[int, ...] = particles.shape or ()
    if len(shape) != 3 or shape[2] not in (3, 4) or jets.shape[0] != shape[0] or jets.shape[1] < 4:
        raise InputError(
            f"JetNet has particle_features (N, P, 4) and jet_features (N, 4), but {path} has {shape} and {jets.shape}."
        )
    ledger.note("JetNet gives no azimuth of its jets: they are put at φ = 0.")

    def blocks() -> Iterator[Block]:
        with reading(path, "HDF5"), guarded(path, plugins=True) as again:
            for start, stop in _steps(shape[0], 8 * shape[1] * shape[2]):
                own = np.asarray(again["particle_features"][start:stop], np.float64)  # (n, P, 4)
                jet = np.asarray(again["jet_features"][start:stop], np.float64)  # (n, 4)
                there = own[..., 3] > 0.5 if shape[2] == 4 else own[..., 2] != 0
                values = {
                    "pt": own[..., 2] * jet[:, None, 0] * there,
                    "eta": own[..., 0] + jet[:, None, 1],
                    "phi": own[..., 1],
                }
                columns = {key: jet[:, place] for place, key in enumerate(JETNET)}
                yield from_padded(start, values, columns)

    described = {key: Column(unit, "as JetNet gives it") for key, unit in JETNET.items()}
    return Part(name, str(path), shape[0], shape[1], blocks, unit="GeV", columns=described)


def _arrays(name: str, path: Path, file: h5py.File, options: Options) -> Part:
    """Data sets by name: one of all numbers, or one of each quantity."""
    data = {key: item for key, item in file.items() if isinstance(item, h5py.Dataset) and item.shape}
    deep = [key for key, item in data.items() if len(item.shape) == 3]
    if len(deep) > 1:
        raise InputError(f"{path} needs one data set (N, P, F) of constituents, but has several: {', '.join(deep)}.")
    chosen: dict[str, tuple[str, int | None]]
    if deep:
        item = data[deep[0]]
        named = options.bands or tuple(as_text(text) for text in np.atleast_1d(item.attrs.get("columns", ())))
        chosen = {key: (deep[0], place) for key, place in in_order(named, item.shape[2], f"{path}/{deep[0]}").items()}
        n, most = item.shape[0], item.shape[1]
    else:
        lists = {key: item for key, item in data.items() if len(item.shape) == 2 or _is_ragged(item)}
        chosen = {key: (member, None) for key, member in among(lists, options.bands, str(path)).items()}
        shapes = {data[member].shape for member, _ in chosen.values()}
        if len(shapes) > 1:
            told = ", ".join(f"{member} {data[member].shape}" for member, _ in chosen.values())
            raise InputError(f"The constituents' data sets of {path} need one shape, but are: {told}.", code="bad_file")
        shape = next(iter(shapes))
        n, most = shape[0], shape[1] if len(shape) == 2 else None
    if not n or most == 0:
        raise InputError(f"{path} holds no constituents: its data sets are empty.")
    if any(data[member].dtype.kind not in "fiuO" for member, _ in chosen.values()):
        raise InputError(f"{path}: the numbers of constituents must be numbers.", code="bad_file")
    members = {member for member, _ in chosen.values()}
    beside = [key for key, item in data.items() if item.shape == (n,) and is_plain(item.dtype) and key not in members]
    columns = {name: key for key, name in clean_names(beside, str(path)).items()}
    ragged = not deep and most is None

    def blocks() -> Iterator[Block]:
        with reading(path, "HDF5"), guarded(path, plugins=True) as again:
            for start, stop in _steps(n, 8 * len(chosen) * (most or 100)):
                own = {key: _column(again[member], start, stop) for key, member in columns.items()}
                if ragged:
                    lists = {key: again[member][start:stop] for key, (member, _) in chosen.items()}
                    yield _from_lists(path, start, lists, own)
                else:
                    read = {member: np.asarray(again[member][start:stop]) for member, _ in chosen.values()}
                    values = {
                        key: read[member] if place is None else read[member][..., place]
                        for key, (member, place) in chosen.items()
                    }
                    yield from_padded(start, values, own)

    unit = next((_unit(data[chosen[key][0]]) for key in ("pt", "px") if key in chosen), "") or _unit(file) or None
    described = dict.fromkeys(columns, Column())
    return Part(name, str(path), n, most, blocks, options.mode == "events", unit=unit, columns=described)


def _is_ragged(item: h5py.Dataset) -> bool:
    inner = h5py.check_vlen_dtype(item.dtype)
    return len(item.shape) == 1 and inner is not None and np.dtype(inner).kind in "fiu"


def _from_lists(path: Path, first: int, lists: dict[str, Any], columns: dict[str, NDArray[Any]]) -> Block:
    """A block of rows of different lengths; InputError with the row where quantities differ in length."""
    lengths = {key: np.array([len(row) for row in rows], np.int64) for key, rows in lists.items()}
    counts = next(iter(lengths.values()))
    for key, own in lengths.items():
        if (odd := np.flatnonzero(own != counts)).size:
            row = int(odd[0])
            raise InputError(
                f"{path} row {first + row}: {key} has {own[row]} values, but {next(iter(lengths))} has {counts[row]}.",
                code="bad_file",
            )
    values = with_angles({key: np.concatenate([*rows, np.empty(0)]).astype(np.float64) for key, rows in lists.items()})
    jet = as_jet(values["jet"]) if "jet" in values else None
    return Block(first, counts, values["pt"], values["eta"], values["phi"], jet=jet, columns=columns)


def _column(item: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    if h5py.check_string_dtype(item.dtype) is not None:
        return np.asarray(item.asstr("utf-8", "replace")[start:stop]).astype(str)
    values = plain_values(item[start:stop])
    assert values is not None, "only plain data sets are columns"
    return values


def _unit(item: h5py.Dataset | h5py.Group) -> str:
    """What an attribute `unit` or `units` says."""
    for name in ("unit", "units"):
        if name in item.attrs and isinstance(item.attrs[name], str | bytes):
            return as_text(item.attrs[name]).strip()
    return ""
