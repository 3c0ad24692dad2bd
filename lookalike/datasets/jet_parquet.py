"""Jets in Parquet: list columns of the constituents' momenta and angles, other columns as catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.jet_blocks import Block, Part, as_jet, reading, with_angles
from lookalike.datasets.jet_names import among
from lookalike.datasets.table import clean_names, plain_values
from lookalike.errors import InputError
from lookalike.samples import Column

ROWS = 8192  # read at once


def parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    """The one part of a Parquet file; InputError where it holds no constituents."""
    from pyarrow import parquet, types

    def is_list(kind: Any) -> bool:
        whole = types.is_list(kind) or types.is_large_list(kind)
        return bool(whole and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))

    with reading(path, "Parquet"), parquet.ParquetFile(path) as file:
        schema, n = file.schema_arrow, file.metadata.num_rows
    lists = [field.name for field in schema if is_list(field.type)]
    chosen = among(lists, options.bands, str(path))
    plain = [field.name for field in schema if _is_plain(field.type)]
    names = clean_names(plain, str(path))
    left_out = [name for name in schema.names if name not in plain and name not in lists]
    if left_out:
        ledger.note(f"Left out of {path.name}, being no columns of numbers or texts: {', '.join(left_out[:12])}.")

    def blocks() -> Iterator[Block]:
        first = 0
        with reading(path, "Parquet"), parquet.ParquetFile(path) as again:
            for batch in again.iter_batches(ROWS, columns=[*chosen.values(), *plain]):
                yield _block(path, first, batch, chosen, names)
                first += batch.num_rows

    momentum = schema.field(chosen.get("pt") or chosen["px"])
    unit = {**(schema.metadata or {}), **(momentum.metadata or {})}.get(b"unit", b"").decode("utf-8", "replace")
    columns = {name: Column() for name in names.values()}
    stem = id_from_name(path.name)
    return [Part(stem, str(path), n, None, blocks, options.mode == "events", unit=unit or None, columns=columns)]


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    texts = types.is_string(kind) or types.is_large_string(kind)
    return bool(texts or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _block(path: Path, first: int, batch: Any, chosen: dict[str, str], names: dict[str, str]) -> Block:
    from pyarrow import compute

    values: dict[str, NDArray[Any]] = {}
    counts: NDArray[np.int64] | None = None
    for key, name in chosen.items():
        column = batch.column(name)
        lengths = compute.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if counts is not None and (odd := np.flatnonzero(lengths != counts)).size:
            row = int(odd[0])
            raise InputError(
                f"{path} row {first + row}: {name} has {lengths[row]} values, but {next(iter(chosen.values()))} has "
                f"{counts[row]}.",
                code="bad_file",
            )
        counts = lengths
        flat = column.flatten()
        values[key] = flat.cast("float64").to_numpy(zero_copy_only=False)  # null becomes NaN
    assert counts is not None
    own = {new: _values(batch.column(name), f"{path}: {name!r}", first) for name, new in names.items()}
    values = with_angles(values)
    jet = as_jet(values["jet"]) if "jet" in values else None
    return Block(first, counts, values["pt"], values["eta"], values["phi"], jet=jet, columns=own)


def _values(column: Any, where: str, first: int) -> NDArray[Any]:
    """A column (n,) as float64, int64 or str; a missing number is NaN, a missing text empty."""
    from pyarrow import types

    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.array(column.fill_null("").to_pylist(), dtype=str)
    # A block without missing numbers must be of the kind that one with them is.
    if types.is_floating(column.type):
        return np.asarray(column.cast("float64").to_numpy(zero_copy_only=False), np.float64)
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{where} is a column of whole numbers, but row {row} has none; save it as fractions.")
    found = plain_values(column.to_numpy(zero_copy_only=False))
    assert found is not None
    return found
