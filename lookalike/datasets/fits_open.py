"""Opening a FITS file that may lie: bounded decompression, headers checked against the file, typed errors."""

from __future__ import annotations

import io
import math
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lookalike.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

LIMIT = 8 * 1024**3  # bytes a compressed file may expand to
MAX_HDUS = 100_000
MAX_RATIO = 2000  # pixel bytes over file bytes of a tile-compressed image
GZIP = b"\x1f\x8b"
MAGIC = {b"BZh": "bzip2", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x1f\x9d": "compress"}


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever astropy or a decoder raises on a broken file into an InputError that names the file."""
    try:
        yield
    except (InputError, NotFoundError):
        raise
    except Exception as error:  # on hostile bytes nearly any type comes out
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} cannot be read as FITS: {text}", code="bad_file") from None


@contextmanager
def open_fits(source: Path | bytes, name: str, *, limit: int = LIMIT) -> Iterator[HDUList]:
    """Yield the checked HDUs of a file or of its bytes; gzip is expanded up to `limit` bytes.

    Every header's data size is compared with the file before any pixel is read.
    """
    with _plain(source, name, limit) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of harmless keywords; what matters is checked here
        with reading(name):
            from astropy.io import fits

            hdus = fits.open(file, mode="readonly", memmap=False, lazy_load_hdus=False)
        with hdus:
            with reading(name):
                _check(hdus, file, name, limit)
            yield hdus


@contextmanager
def _plain(source: Path | bytes, name: str, limit: int) -> Iterator[IO[bytes]]:
    """The uncompressed file, which must start like FITS."""
    if isinstance(source, Path) and not source.is_file():
        raise NotFoundError(f"No such file: {source}")
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as given:
        start = given.read(6)
        given.seek(0)
        for magic, packing in MAGIC.items():
            if start.startswith(magic):
                raise InputError(f"{name} is packed with {packing}; unpack it, or use gzip or fpack.", code="bad_file")
        if not start.startswith(GZIP):
            _check_start(start, name)
            yield given
            return
        # Reopened for reading alone, since astropy takes the mode of the file it is given.
        with tempfile.NamedTemporaryFile() as expanded:
            _expand(given, expanded, name, limit)
            expanded.flush()
            with Path(expanded.name).open("rb") as plain:
                _check_start(plain.read(6), name)
                plain.seek(0)
                yield plain


def _check_start(start: bytes, name: str) -> None:
    if start != b"SIMPLE":
        raise InputError(f"{name} is not a FITS file: it does not start with SIMPLE.", code="bad_file")


def _expand(given: IO[bytes], expanded: IO[bytes], name: str, limit: int) -> None:
    """Gunzip by pieces, stopping at `limit`: a small file may hold a very large one."""
    unzip = zlib.decompressobj(wbits=31)
    with reading(name):
        while piece := given.read(1 << 16):
            while piece:
                expanded.write(unzip.decompress(piece, 1 << 20))
                if expanded.tell() > limit:
                    raise InputError(f"{name} expands to more than {limit:,} bytes.", code="bad_file")
                piece = unzip.unconsumed_tail
                if unzip.eof and (rest := unzip.unused_data):  # gzip files may be chained
                    unzip, piece = zlib.decompressobj(wbits=31), rest
        if not unzip.eof:
            raise InputError(f"{name} ends in the middle of its gzip data.", code="bad_file")


def _check(hdus: HDUList, file: IO[bytes], name: str, limit: int) -> None:
    from astropy.io import fits

    if len(hdus) > MAX_HDUS:
        raise InputError(f"{name} has {len(hdus):,} parts; at most {MAX_HDUS:,} are read.", code="bad_file")
    length = file.seek(0, io.SEEK_END)
    for index, hdu in enumerate(hdus):
        where = f"{name}[{index}]"
        if getattr(hdu, "_corrupted", False) or type(hdu).__name__ in ("_CorruptedHDU", "_NonstandardHDU"):
            raise InputError(f"{where} is damaged: its header cannot be understood.", code="bad_file")
        if isinstance(hdu, fits.CompImageHDU):
            declared = math.prod(hdu.shape) * abs(int(hdu.header["BITPIX"])) // 8
            if declared > min(limit, MAX_RATIO * length):
                raise InputError(
                    f"{where} declares {declared:,} bytes of pixels in a file of {length:,}.", code="bad_file"
                )
        begin, declared = int(hdu.fileinfo()["datLoc"]), int(hdu.size)
        if declared < 0 or begin + declared > length:
            raise InputError(
                f"{where} declares {declared:,} bytes of data, but the file ends after {length - begin:,}.",
                code="bad_file",
            )


def is_image(hdu: Any) -> bool:
    """Whether an HDU holds pixels."""
    return bool(hdu.is_image) and len(hdu.shape) > 0 and math.prod(hdu.shape) > 0
