"""What a FITS file holds, from its headers: 2-D planes with their band names, and planes gathered into objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.cutouts import as_float32, stored_as
from lookalike.datasets.fits_open import is_image, open_fits, reading
from lookalike.errors import InputError
from lookalike.samples import About


@dataclass(frozen=True)
class Plane:
    """One band's pixels: an HDU, or layer `index` of a cube. `scale` in arcsec/px, None without a sky position."""

    path: Path
    hdu: int
    index: int | None
    height: int
    width: int
    band: str | None
    extname: str | None
    unit: str
    scale: float | None

    @property
    def where(self) -> str:
        return f"{self.path}[{self.hdu}]"

    def section(self, hdus: Any, rows: slice, columns: slice) -> NDArray[Any]:
        """Pixels (h, w) of a box, read alone."""
        section = hdus[self.hdu].section
        box = section[rows, columns] if self.index is None else section[self.index, rows, columns]
        return np.asarray(box)

    def whole(self, hdus: Any) -> NDArray[np.float32]:
        """All pixels (H, W)."""
        with reading(self.where):
            return as_float32(self.section(hdus, slice(0, self.height), slice(0, self.width)))


def scan(path: Path, ledger: Ledger) -> list[Plane]:
    """The planes of a file in the order of its HDUs and layers, from headers alone."""
    found: list[Plane] = []
    with open_fits(path, str(path)) as hdus, reading(str(path)):
        for number, hdu in enumerate(hdus):
            if not is_image(hdu):
                continue
            shape = hdu.shape
            if len(shape) not in (2, 3):
                raise InputError(f"{path}[{number}] has the shape {shape}; images are (y, x) or (band, y, x).")
            if abs(int(hdu.header["BITPIX"])) == 64:
                ledger.note("64-bit pixels are stored as float32.")
            found += _planes(path, number, hdu, shape)
    if not found:
        raise InputError(f"{path} holds no image.", code="bad_file")
    return found


def _planes(path: Path, number: int, hdu: Any, shape: tuple[int, ...]) -> list[Plane]:
    from lookalike.datasets.fits_wcs import pixel_scale

    header = hdu.header
    unit = str(header.get("BUNIT", "")).strip()
    scale = pixel_scale(header)
    extname = str(header.get("EXTNAME", "")).strip() or None
    if extname == "COMPRESSED_IMAGE":  # what fpack writes where there was no name
        extname = None
    if len(shape) == 2:
        name = _text(header, "FILTER") or _text(header, "BAND")
        return [Plane(path, number, None, shape[0], shape[1], name, extname, unit, scale)]
    names = cube_bands(header, shape[0])
    return [Plane(path, number, i, shape[1], shape[2], name, extname, unit, scale) for i, name in enumerate(names)]


def _text(header: Any, key: str) -> str | None:
    value = header.get(key)
    return value.strip() or None if isinstance(value, str) else None


def cube_bands(header: Any, n: int) -> list[str | None]:
    """Names of a cube's layers: FILTER1… or BAND0… one by one, or FILTERS, BANDS or FILTER as one text."""
    for stem in ("FILTER", "BAND"):
        for first in (0, 1):
            names = [_text(header, f"{stem}{first + i}") for i in range(n)]
            if all(names):
                return names
    for key in ("BANDS", "FILTERS", "FILTER", "BAND"):
        text = _text(header, key)
        if text is None:
            continue
        parts = [part for part in re.split(r"[\s,;]+", text) if part]
        if len(parts) == n:
            return list(parts)
        if len(text) == n:
            return list(text)
    return [None] * n


def object_planes(planes: Sequence[Plane], bands: tuple[str, ...]) -> list[list[Plane]]:
    """Planes gathered into objects, one plane per band, in the order of `bands` where the headers name them.

    A cube is an object. 2-D planes are: consecutive runs of as many as there are bands; where no bands are given,
    as many as there are distinct names in the headers. A plane without a name is an object of one band.
    """
    if any(plane.index is not None for plane in planes):
        return _cubes(planes, bands)
    names = _names(planes)
    distinct = bands or tuple(dict.fromkeys(name for name in names if name is not None))
    count = max(1, len(distinct))
    if len(planes) % count:
        raise InputError(
            f"Each object needs one image per band ({', '.join(distinct)}), but the files hold {len(planes)} images, "
            f"no multiple of {count}; name the bands with --bands."
        )
    objects = []
    for start in range(0, len(planes), count):
        run, run_names = list(planes[start : start + count]), names[start : start + count]
        if set(run_names) == set(distinct):
            run = [run[run_names.index(name)] for name in distinct]
        elif count > 1 and any(name is not None for name in run_names) and _have_names(planes, distinct):
            raise InputError(
                f"{run[0].where}: the bands of one object should be {', '.join(distinct)}, but the headers say "
                f"{', '.join(map(str, run_names))}."
            )
        _one_shape(run)
        objects.append(run)
    return objects


def _have_names(planes: Sequence[Plane], bands: Sequence[str]) -> bool:
    """Whether any header speaks of one of these bands, so that the headers' order can be trusted."""
    return any(plane.band in bands or plane.extname in bands for plane in planes)


def _names(planes: Sequence[Plane]) -> list[str | None]:
    """Band names of 2-D planes; EXTNAME counts as one where each of its values occurs in several objects."""
    if any(plane.band for plane in planes):
        return [plane.band for plane in planes]
    extnames = [plane.extname for plane in planes]
    repeated = len(set(extnames)) < len(extnames)
    return extnames if None not in extnames and repeated else [None] * len(planes)


def _cubes(planes: Sequence[Plane], bands: tuple[str, ...]) -> list[list[Plane]]:
    objects: dict[tuple[Path, int], list[Plane]] = {}
    for plane in planes:
        if plane.index is None:
            raise InputError(f"{plane.where} is 2-D, but other images are (band, y, x) cubes; ingest them apart.")
        objects.setdefault((plane.path, plane.hdu), []).append(plane)
    count = len(next(iter(objects.values())))
    for layers in objects.values():
        if len(layers) != (len(bands) or count):
            raise InputError(f"{layers[0].where} has {len(layers)} bands, but {len(bands) or count} are expected.")
    return list(objects.values())


def _one_shape(run: Sequence[Plane]) -> None:
    for plane in run[1:]:
        if (plane.height, plane.width) != (run[0].height, run[0].width):
            raise InputError(
                f"{plane.where} is {plane.width} × {plane.height} px, but {run[0].where}, a band of the same object, "
                f"is {run[0].width} × {run[0].height} px."
            )


def bands_of(objects: Sequence[Sequence[Plane]], bands: tuple[str, ...], ledger: Ledger) -> tuple[str, ...]:
    """The band names of all objects: as given, as the headers say, or made up and said so."""
    if bands:
        return bands
    first = objects[0]
    flat = [plane for planes in objects for plane in planes]
    names = _names(flat) if first[0].index is None else [plane.band for plane in flat]
    count = len(first)
    found = names[:count]
    if None not in found:
        for start in range(0, len(names), count):
            if names[start : start + count] != found:
                raise InputError(
                    f"{flat[start].where} has the bands {', '.join(map(str, names[start : start + count]))}, but "
                    f"{first[0].where} has {', '.join(map(str, found))}; a data set's objects share their bands."
                )
        return tuple(str(name) for name in found)
    made = tuple(f"band_{i + 1}" for i in range(count))
    ledger.note(f"The headers name no bands; they are called {', '.join(made)}. Name them with --bands.")
    return made


def about_images(planes: Sequence[Plane], bands: tuple[str, ...], size: int, options: Options) -> About:
    """What the stored cutouts are, once all planes agree on unit and pixel scale."""
    units = sorted({plane.unit for plane in planes})
    if options.unit is None and len(units) > 1:
        raise InputError(
            f"The images differ in their unit (BUNIT): {', '.join(map(repr, units))}; give one with --unit."
        )
    scales = [plane.scale for plane in planes if plane.scale is not None]
    scale = options.pixel_scale
    if scale is None and scales:
        if max(scales) > 1.001 * min(scales):
            raise InputError(
                f"The images differ in pixel scale, {min(scales):.4g} to {max(scales):.4g} arcsec/px; "
                "a data set has one."
            )
        # Rounded so that a header's last digits do not make two shards differ.
        scale = float(f"{np.median(scales):.6g}")
    return About(
        domain=options.domain,
        bands=bands,
        unit=units[0] if options.unit is None else options.unit,
        pixel_scale=scale,
        origin="lower",
        source="FITS images",
        preprocess=stored_as(size, "float32", "crop"),
    )


def shape_text(shape: tuple[int, int]) -> str:
    """`width × height` of a (height, width)."""
    return f"{shape[1]} × {shape[0]}"
