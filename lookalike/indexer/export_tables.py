"""The table's formats that are written row by row, as astronomers read them: FITS binary tables and VOTable.

astropy makes their headers; the rows, of which it would hold all at once, are written between block by block.
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.indexer.export_columns import Arrow, Rows, Sheet, Writer

FITS_BLOCK = 2880  # bytes; every part of a FITS file is a multiple
CARDS = {
    "index": ("LKINDEX", ""),  # its content hash, which leaves no room for a comment
    "index_version": ("LKVERS", "version of the index"),
    "samples": ("LKSAMPLE", ""),
    "objects": ("LKOBJ", "objects whose lists these are"),
    "k": ("LKK", "neighbors of each, at most"),
    "window": ("LKWINDOW", "window they lie in"),
    "min_similarity": ("LKMINSIM", "smallest similarity"),
    "software": ("LKSOFT", "version of lookalike"),
}
XML = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
NOT_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
VOTABLE_TYPES = {"f": "double", "i": "long", "U": "unicodeChar"}
END = "  </TABLE>"


class FitsWriter(Writer):
    """A binary table: ids and texts as ASCII of fixed width, undefined numbers NaN."""

    def __init__(self, path: Path, sheet: Sheet) -> None:
        super().__init__(path, sheet)
        self._values = {name: _ascii(name, values) for name, values in sheet.values.items()}
        ids = sheet.ids.dtype
        types = {"id": ids, "neighbor_id": ids, "rank": np.dtype(np.int32), "similarity": np.dtype(np.float32)}
        types |= {name: values.dtype for name, values in self._values.items()}
        # A FITS table is big-endian.
        self._row = np.dtype([(name, types[name].newbyteorder(">")) for name in sheet.columns])
        self._header, self._n = self._made_header(), 0
        self._file = path.open("wb")
        self._start = self._file.write(_primary())
        self._file.write(self._header.tostring().encode("ascii"))

    def _made_header(self) -> Any:
        from astropy.io import fits

        formats = {"f4": "E", "f8": "D", "i4": "J", "i8": "K"}
        columns = []
        for name, column in self.sheet.columns.items():
            kind = self._row[name]
            form = f"{kind.itemsize}A" if kind.kind == "S" else formats[kind.str[1:]]
            columns.append(fits.Column(name=name, format=form, unit=_card(column.unit) or None))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that astropy does not know are kept as they are
            header = fits.BinTableHDU.from_columns(columns, nrows=0, name="NEIGHBORS").header
        for place, column in enumerate(self.sheet.columns.values(), 1):
            header.set(f"TCOMM{place}", _card(column.description))
            if column.ucd:
                header.set(f"TUCD{place}", _card(column.ucd))
        for name, (key, told) in CARDS.items():
            value = self.sheet.about[name]
            header.set(key, _card(value) if isinstance(value, str) else "none" if value is None else value, told)
        return header

    def write(self, rows: Rows) -> None:
        block = np.empty(len(rows.rank), self._row)
        block["id"] = np.repeat(self.sheet.ids[rows.objects], rows.counts)
        block["neighbor_id"] = self.sheet.ids[rows.neighbor]
        block["rank"], block["similarity"] = rows.rank, rows.similarity
        for name, values in self._values.items():
            block[name] = values[rows.neighbor]
        self._file.write(block.data)
        self._n += len(block)

    def __exit__(self, *failure: object) -> None:
        self._file.write(b"\0" * (-self._n * self._row.itemsize % FITS_BLOCK))
        self._header["NAXIS2"] = self._n  # the card has one length, whatever the number
        self._file.seek(self._start)
        self._file.write(self._header.tostring().encode("ascii"))
        self._file.close()


def _primary() -> bytes:
    from astropy.io import fits

    return bytes(fits.PrimaryHDU().header.tostring().encode("ascii"))


def _card(text: str) -> str:
    """A text as a FITS header holds it: printable ASCII."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _ascii(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A column as FITS holds it; InputError for texts that are not ASCII."""
    if values.dtype.kind != "U":
        return values
    try:
        return values.astype("S")
    except UnicodeEncodeError as error:
        raise InputError(
            f"FITS holds ASCII texts only, but column {name!r} holds {error.object[:40]!r}; leave it out, or choose "
            "another format."
        ) from None


class VotableWriter(Writer):
    """TABLEDATA, an empty cell where undefined; rows are joined by Arrow, of texts that were escaped once."""

    def __init__(self, path: Path, sheet: Sheet) -> None:
        super().__init__(path, sheet)
        self._arrow = Arrow(sheet, _xml)
        before, self._after = _around(sheet)
        self._file = path.open("wb")
        self._file.write(before.encode())

    def write(self, rows: Rows) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        cells: list[Any] = ["<TR>"]
        for column in self._arrow.table(rows).columns:
            cells += ["<TD>", column.combine_chunks().cast(pa.string()), "</TD>"]
        joined = pc.binary_join_element_wise(*cells, "</TR>\n", "", null_handling="replace", null_replacement="")
        for part in joined.chunks if isinstance(joined, pa.ChunkedArray) else [joined]:
            if len(part):
                first, last = part.offset, part.offset + len(part)
                offsets = np.frombuffer(part.buffers()[1], np.int32)[first : last + 1]
                self._file.write(memoryview(part.buffers()[2])[offsets[0] : offsets[-1]])

    def __exit__(self, *failure: object) -> None:
        self._file.write(self._after.encode())
        self._file.close()


def _xml(texts: Any) -> Any:
    """Texts (N,) as XML holds them, without characters that it cannot."""
    import pyarrow.compute as pc

    for plain, escaped in XML:
        texts = pc.replace_substring(texts, plain, escaped)
    return pc.replace_substring_regex(texts, NOT_XML, "")


def _around(sheet: Sheet) -> tuple[str, str]:
    """The document before and after its rows."""
    from astropy.io.votable import tree

    types = {"id": "char", "neighbor_id": "char", "rank": "int", "similarity": "float"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units and UCDs that astropy does not know are kept as they are
        document = tree.VOTableFile(version="1.4")
        resource = tree.Resource()
        document.resources.append(resource)
        for name, value in sheet.about.items():
            text = value if isinstance(value, str) else json.dumps(value)
            resource.infos.append(tree.Info(name=name, value=text))
        table = tree.TableElement(document, name="neighbors")
        resource.tables.append(table)
        for name, column in sheet.columns.items():
            datatype = types[name] if name in types else VOTABLE_TYPES[sheet.values[name].dtype.kind]
            size = {"arraysize": "*"} if datatype.endswith(("char", "Char")) else {}
            field = tree.Field(
                document,
                name=name,
                ID=name,
                datatype=datatype,
                unit=column.unit or None,
                ucd=column.ucd or None,
                **size,
            )
            field.description = column.description
            table.fields.append(field)
        made = io.BytesIO()
        document.to_xml(made)
    before, after = made.getvalue().decode().split(END)
    return f"{before}   <DATA>\n<TABLEDATA>\n", f"</TABLEDATA>\n   </DATA>\n{END}{after}"
