"""Sky positions of FITS images: pixel scale, positions to pixels and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.fits_open import open_fits, reading
from lookalike.datasets.table import KNOWN
from lookalike.errors import InputError
from lookalike.samples import Column

if TYPE_CHECKING:
    from lookalike.datasets.fits_planes import Plane

AGREE = 0.5  # px by which the bands' sky positions may differ


def pixel_scale(header: Any) -> float | None:
    """Arcsec per px of a header's sky coordinates, the mean of both axes; None where it has none."""
    if "CTYPE1" not in header:
        return None
    from astropy.wcs.utils import proj_plane_pixel_scales

    wcs = _celestial(header)
    return None if wcs is None else float(np.mean(proj_plane_pixel_scales(wcs))) * 3600


def _celestial(header: Any) -> Any:
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old keywords that astropy mends
        try:
            wcs = WCS(header)
            return wcs.celestial if wcs.has_celestial else None
        except Exception as error:  # wcslib has a type for every fault
            raise InputError(f"its sky coordinates cannot be understood: {str(error).splitlines()[0]}") from None


def _wcs(plane: Plane) -> Any:
    with open_fits(plane.path, str(plane.path)) as hdus, reading(plane.where):
        wcs = _celestial(hdus[plane.hdu].header)
    if wcs is None:
        raise InputError(f"{plane.where} has no sky coordinates (WCS); give positions as x and y.")
    return wcs


def pixel_positions(
    image: Sequence[Plane], ra: NDArray[np.float64], dec: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """0-based x, y (N,) of ICRS positions in degrees; NaN where there is none, or none on this side of the sky.

    All bands must place the center of the image at the same pixel.
    """
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import skycoord_to_pixel

    wcs = _wcs(image[0])
    _check_bands(image, wcs)
    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    valid = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    if valid.any():
        coordinates = SkyCoord(ra[valid], dec[valid], unit="deg", frame="icrs")
        center = wcs.pixel_to_world((image[0].width - 1) / 2, (image[0].height - 1) / 2)
        near = coordinates.separation(center).deg < 90  # a projection folds the far side onto the image
        rows = np.flatnonzero(valid)[np.asarray(near)]
        if len(rows):
            with reading(image[0].where), np.errstate(all="ignore"):
                x[rows], y[rows] = skycoord_to_pixel(coordinates[np.asarray(near)], wcs, origin=0, mode="wcs")
                x[rows], y[rows] = _refined(wcs, coordinates[np.asarray(near)], x[rows], y[rows], image[0])
    return x, y


def _refined(
    wcs: Any, coordinates: Any, x: NDArray[np.float64], y: NDArray[np.float64], plane: Plane
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions with the distortion terms, for those near the image; far off it the terms do not converge."""
    from astropy.wcs.utils import skycoord_to_pixel

    if not wcs.has_distortion:
        return x, y
    margin = 0.1 * max(plane.width, plane.height)
    near = (x > -margin) & (y > -margin) & (x < plane.width + margin) & (y < plane.height + margin)
    x, y = x.copy(), y.copy()
    if near.any():
        x[near], y[near] = skycoord_to_pixel(coordinates[near], wcs, origin=0, mode="all")
    return x, y


def _check_bands(image: Sequence[Plane], wcs: Any) -> None:
    middle = (image[0].width - 1) / 2, (image[0].height - 1) / 2
    center = wcs.pixel_to_world(*middle)
    for plane in image[1:]:
        if plane.path == image[0].path and plane.hdu == image[0].hdu:
            continue
        x, y = _wcs(plane).world_to_pixel(center)
        if not np.hypot(x - middle[0], y - middle[1]) <= AGREE:
            raise InputError(
                f"{plane.where} and {image[0].where} lie {np.hypot(x - middle[0], y - middle[1]):.1f} px apart on the "
                "sky; bring the bands onto one pixel grid first."
            )


def sky_positions(
    image: Sequence[Plane], x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[tuple[str, NDArray[np.float64], Column]]:
    """ICRS ra, dec (N,) in degrees of 0-based positions, as columns."""
    sky = _wcs(image[0]).pixel_to_world(x, y).icrs
    return [("ra", np.asarray(sky.ra.deg), KNOWN["ra"]), ("dec", np.asarray(sky.dec.deg), KNOWN["dec"])]
