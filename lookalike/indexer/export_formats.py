"""The table's formats that are written column by column: Parquet, CSV and HDF5; FITS and VOTable are in export_tables.

Every one is written block by block, and carries what was exported (index, version, k, window, …), units and
descriptions; a CSV file has no place for these, so they lie beside it as CSV on the Web describes (W3C, 2015).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.attributes import set_texts
from lookalike.files import write_json
from lookalike.hdf5_output import Hdf5Output
from lookalike.indexer.export_columns import Arrow, Rows, Sheet, Writer
from lookalike.indexer.export_tables import FitsWriter, VotableWriter
from lookalike.spreadsheets import escaped, escaped_all

CSV_TYPES = {"f": "number", "i": "integer", "S": "string", "U": "string"}
CHUNK = 65536  # rows of an HDF5 column in one chunk


class ParquetWriter(Writer):
    """A row group for each block; ids and texts are stored as dictionaries, and read back as plain strings."""

    def __init__(self, path: Path, sheet: Sheet) -> None:
        super().__init__(path, sheet)
        self._arrow = Arrow(sheet)
        self._file: Any = None  # opened with the first block, which has the columns' types

    def write(self, rows: Rows) -> None:
        from pyarrow import parquet

        table = self._arrow.table(rows)
        if self._file is None:
            texts = ["id", "neighbor_id", *self._arrow.texts]
            self._file = parquet.ParquetWriter(
                self.path,
                table.schema,
                compression="zstd",
                use_dictionary=texts,
                use_byte_stream_split=["similarity"],
                store_schema=False,  # else ids come back as categories, which join badly
            )
            told = json.dumps(self.sheet.described(), ensure_ascii=False)
            self._file.add_key_value_metadata({"lookalike": told})
        if len(table):
            self._file.write_table(table, row_group_size=len(table))

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            self._file.close()


class CsvWriter(Writer):
    """Commas, one header line, texts in quotes, an empty cell where undefined.

    A text that a spreadsheet would run gets a ' before it.
    """

    def __init__(self, path: Path, sheet: Sheet) -> None:
        super().__init__(path, sheet)
        self._arrow = Arrow(sheet, escaped_all)
        self._file: Any = None

    def write(self, rows: Rows) -> None:
        import pyarrow as pa
        from pyarrow import csv

        table = self._arrow.table(rows)
        plain = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
        names = [escaped(name) for name in table.column_names]
        table = table.cast(pa.schema(zip(table.column_names, plain, strict=True))).rename_columns(names)
        if self._file is None:
            self._file = csv.CSVWriter(self.path, table.schema)
        self._file.write_table(table)

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            self._file.close()


class Hdf5Writer(Writer):
    """A data set (m,) for each column, compressed; texts are UTF-8 bytes, undefined numbers NaN."""

    def __init__(self, path: Path, sheet: Sheet) -> None:
        super().__init__(path, sheet)
        texts = {name: np.char.encode(v, "utf-8") for name, v in sheet.values.items() if v.dtype.kind == "U"}
        self._values = sheet.values | texts
        self._file = Hdf5Output(path)
        types = {"id": sheet.ids.dtype, "neighbor_id": sheet.ids.dtype, "rank": np.int32, "similarity": np.float32}
        for name in sheet.columns:
            dtype = types[name] if name in types else self._values[name].dtype
            options = {"maxshape": (None,), "chunks": (CHUNK,), "compression": 1, "shuffle": True}
            made = self._file.create_dataset(name, (0,), dtype, **options)
            column = sheet.columns[name]
            set_texts(made, {"unit": column.unit, "description": column.description, "ucd": column.ucd})
        # Without the columns, which say it themselves: an attribute holds 64 KB.
        set_texts(self._file, {"lookalike": json.dumps(sheet.about, ensure_ascii=False)})

    def write(self, rows: Rows) -> None:
        ids = self.sheet.ids
        block = {
            "id": np.repeat(ids[rows.objects], rows.counts),
            "neighbor_id": ids[rows.neighbor],
            "rank": rows.rank,
            "similarity": rows.similarity,
            **{name: values[rows.neighbor] for name, values in self._values.items()},
        }
        for name, values in block.items():
            data = self._file[name]
            data.resize(len(data) + len(values), axis=0)
            data[len(data) - len(values) :] = values
        self._file.check()

    def __exit__(self, *failure: object) -> None:
        self._file.close()


def metadata_path(out: Path) -> Path:
    """Where readers of CSV on the Web look for what a file's columns hold."""
    return out.with_name(f"{out.name}-metadata.json")


def write_metadata(out: Path, sheet: Sheet) -> None:
    """Write what a CSV file holds beside it, as W3C's Metadata Vocabulary for Tabular Data has it."""
    kinds = {"rank": "integer", "similarity": "number"}
    columns = [
        {
            "name": name,
            "titles": name,
            "dc:description": column.description,
            "datatype": kinds.get(name, CSV_TYPES[sheet.values[name].dtype.kind] if name in sheet.values else "string"),
            **({"schema:unitText": column.unit} if column.unit else {}),
        }
        for name, column in sheet.columns.items()
    ]
    value = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": out.name,
        "tableSchema": {"columns": columns},
        "lookalike": sheet.described(),
    }
    write_json(metadata_path(out), value)


WRITERS: dict[str, type[Writer]] = {
    ".parquet": ParquetWriter,
    ".csv": CsvWriter,
    ".h5": Hdf5Writer,
    ".hdf5": Hdf5Writer,
    ".fits": FitsWriter,
    ".vot": VotableWriter,
}
