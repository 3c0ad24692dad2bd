"""Galaxies of the Hubble eXtreme Deep Field, from the color picture that scikit-image's wheel ships.

The picture is the public release STScI-2012-37 reduced to 1000 × 872 px, 8 bits per channel, stretched for the
eye: its counts order sources by brightness but are no linear flux, and nothing in it says how it was scaled, so
magnitudes are instrumental and the pixel scale is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, Options
from lookalike.datasets.cutouts import first_pixel, inside, stored_as
from lookalike.datasets.hubble_seeing import psf_sigma, sky_noise
from lookalike.errors import InputError
from lookalike.progress import progress
from lookalike.samples import About, Column
from lookalike.samples_writer import write_samples

BANDS = ("R", "G", "B")
SIZE = 52  # px stored: views of 96/152 of that, in multiples of 8, are 32 px
THRESHOLD = 2.0  # σ per pixel; at this level the inverted picture yields no detection at all
MIN_AREA = 5  # px above threshold
MERGE_RADIUS = 6.0  # px
MESH = 64  # px, background mesh
ZERO_POINT = 25.0
KRON_FACTOR = 2.5  # Kron (1980) apertures as SExtractor draws them

COLUMNS = {
    "x": Column("px", "column of the center, 0-based pixel centers", "pos.cartesian.x;instr.det"),
    "y": Column("px", "row of the center, 0-based pixel centers, row 0 on top", "pos.cartesian.y;instr.det"),
    "mag": Column(
        "mag",
        "instrumental magnitude: 25 - 2.5 log10 of the Kron-aperture sum of the mean of R, G, B in display "
        "counts; not calibrated, and the display stretch is not linear",
        "phot.mag",
    ),
    "size": Column("px", "half-light radius within the Kron aperture", "phys.angSize;src"),
    "axis_ratio": Column("", "minor over major axis b/a, from second moments of the detection", "phys.size.axisRatio"),
    "color_bg": Column("mag", "instrumental color B-G within the Kron aperture; NaN where a sum is <= 0", "phot.color"),
    "color_gr": Column("mag", "instrumental color G-R within the Kron aperture; NaN where a sum is <= 0", "phot.color"),
}


@dataclass(frozen=True)
class Sources:
    """Detections in order of position: one array (n,) per catalog column, and the segmentation map (H, W)."""

    catalog: dict[str, NDArray[np.float64]]
    segments: NDArray[np.int32]
    detected: int

    def __len__(self) -> int:
        return len(self.catalog["x"])


def ingest(files: list[Path], out: Path, options: Options, ledger: Ledger) -> None:
    """Detect, measure and store; see the module's head for what the numbers mean."""
    if files:
        raise InputError(
            f"`ingest hubble` reads scikit-image's own picture and takes no files, but {files[0]} was given."
        )
    size = SIZE if options.size is None else options.size
    if not SIZE <= size <= 400:
        raise InputError(f"Stored cutouts of the Hubble picture are {SIZE} to 400 px, but {size} was given.")
    with progress("hubble", 3, "steps", quiet=options.quiet) as advance:
        picture = load_picture()  # (H, W, 3)
        advance(1)
        sources = detect(picture)
        advance(1)
        _store(picture, sources, size, out, options, ledger)
        advance(1)


def _store(
    picture: NDArray[np.uint8], sources: Sources, size: int, out: Path, options: Options, ledger: Ledger
) -> None:
    x, y = sources.catalog["x"], sources.catalog["y"]
    whole = inside(x, y, size, *picture.shape[:2])
    kept = {name: values[whole] for name, values in sources.catalog.items()}
    ledger.counts.update(
        {
            "detected": sources.detected,
            f"merged within {MERGE_RADIUS:g} px": sources.detected - len(sources),
            "cut by the edge": int((~whole).sum()),
        }
    )
    ledger.note("The picture's pixel scale is not known; sizes are in px, magnitudes from an arbitrary zero point.")
    cutouts = np.stack(
        [
            picture[top : top + size, left : left + size].transpose(2, 0, 1)
            for left, top in zip(first_pixel(kept["x"], size), first_pixel(kept["y"], size), strict=True)
        ]
    )  # (N, 3, size, size)
    ids = [f"xdf-{round(x)}-{round(y)}" for x, y in zip(kept["x"], kept["y"], strict=True)]
    about = _about(picture, sources, size, options.domain)
    with write_samples(out, about, COLUMNS, replace=options.overwrite) as writer:
        writer.append(ids, cutouts, kept)


def _about(picture: NDArray[np.uint8], sources: Sources, size: int, domain: str) -> About:
    return About(
        domain=domain,
        bands=BANDS,
        unit="display counts (0-255)",
        pixel_scale=None,
        origin="upper",
        source=(
            "Hubble eXtreme Deep Field, release STScI-2012-37, as shipped with scikit-image "
            "(hubble_deep_field). Credit: NASA; ESA; G. Illingworth, D. Magee, and P. Oesch, University of "
            "California, Santa Cruz; R. Bouwens, Leiden University; and the HUDF09 Team"
        ),
        license="public domain (NASA), credit asked for",
        survey={
            "name": "hubble-xdf",
            "noise": dict(zip(BANDS, sky_noise(picture, sources.segments), strict=True)),
            "psf_sigma": dict(zip(BANDS, psf_sigma(picture, sources.segments, sources.catalog), strict=True)),
            "footprint": size,
        },
        preprocess=stored_as(size, "uint8", "crop"),
    )


def load_picture() -> NDArray[np.uint8]:
    """The picture (872, 1000, 3) uint8 from scikit-image's wheel; no network is used."""
    try:
        from skimage.data import hubble_deep_field

        picture: NDArray[np.uint8] = np.ascontiguousarray(hubble_deep_field())  # type: ignore[no-untyped-call]
    except (ImportError, OSError) as error:  # a scikit-image packaged without its pictures asks for pooch
        raise InputError(f"scikit-image's Hubble picture cannot be read ({error}); reinstall scikit-image.") from None
    if picture.shape != (872, 1000, 3) or picture.dtype != np.uint8:
        raise InputError(f"The Hubble picture should be (872, 1000, 3) uint8, but is {picture.shape} {picture.dtype}.")
    return picture


def detect(picture: NDArray[np.uint8]) -> Sources:
    """Find sources in the mean of the bands of (H, W, 3), merge close ones, and measure the rest.

    SExtractor's method (Bertin & Arnouts 1996) as implemented by sep (Barbary 2016).
    """
    import sep

    mean = picture.astype(np.float64).mean(axis=2)  # (H, W)
    background = sep.Background(mean, bw=MESH, bh=MESH)
    found, segments = sep.extract(
        mean - background,
        THRESHOLD,
        err=background.globalrms,
        minarea=MIN_AREA,
        segmentation_map=True,
    )
    into = merged_into(found["x"], found["y"], found["flux"], MERGE_RADIUS)  # (n,)
    kept = np.unique(into)
    # What joined a source is part of it: its pixels count in the apertures, and are no foreign source's.
    segments = np.concatenate([[0], into + 1]).astype(np.int32)[segments]
    catalog = _measure(mean - background, picture, found[kept], segments, kept + 1)
    return Sources(catalog, segments, len(found))


def merged_into(
    x: NDArray[np.float64], y: NDArray[np.float64], flux: NDArray[np.float64], radius: float
) -> NDArray[np.intp]:
    """For each detection (n,) the index of the one it joins: the brightest kept one within `radius`, or itself.

    Brightest first, so that no two kept ones are closer than `radius` and a chain of faint detections cannot
    swallow a source far away, as linking friends of friends would.
    """
    into = np.full(len(x), -1, dtype=np.intp)
    for i in np.argsort(-flux, kind="stable"):
        if into[i] < 0:
            into[(into < 0) & ((x - x[i]) ** 2 + (y - y[i]) ** 2 <= radius**2)] = i
    return into


def _measure(
    mean: NDArray[np.float64],
    picture: NDArray[np.uint8],
    found: NDArray[Any],
    segments: NDArray[np.int32],
    labels: NDArray[np.intp],
) -> dict[str, NDArray[np.float64]]:
    """The catalog columns (n,) of the given detections, other sources' pixels masked."""
    import sep

    x, y, a, b = (np.ascontiguousarray(found[name]) for name in ("x", "y", "a", "b"))
    theta = np.clip(found["theta"], -np.pi / 2, np.pi / 2)  # rounding may carry it just past what sep accepts
    own = {"segmap": segments, "seg_id": labels.astype(np.int32)}
    kron, _ = sep.kron_radius(mean, x, y, a, b, theta, 6.0, **own)
    # SExtractor's floor: faint sources' Kron radii are noise, and an aperture needs a few pixels.
    scale = np.maximum(KRON_FACTOR * np.nan_to_num(kron), 3.5 / np.sqrt(a * b))

    def aperture_sum(image: NDArray[np.float64]) -> NDArray[np.float64]:
        total, _, _ = sep.sum_ellipse(image, x, y, a, b, theta, scale, subpix=5, **own)
        return np.asarray(total, dtype=np.float64)

    flux = aperture_sum(mean)
    size, _ = sep.flux_radius(mean, x, y, scale * a, 0.5, normflux=flux, subpix=5, **own)
    red, green, blue = (aperture_sum(_flattened(picture[..., band])) for band in range(3))
    return {
        "x": x,
        "y": y,
        "mag": ZERO_POINT + _magnitude(flux),
        "size": np.where(flux > 0, size, np.nan),
        "axis_ratio": b / a,
        "color_bg": _magnitude(blue) - _magnitude(green),
        "color_gr": _magnitude(green) - _magnitude(red),
    }


def _flattened(band: NDArray[np.uint8]) -> NDArray[np.float64]:
    """One band (H, W) with its smooth background taken off."""
    import sep

    counts = np.ascontiguousarray(band, dtype=np.float64)
    flattened: NDArray[np.float64] = counts - np.asarray(sep.Background(counts, bw=MESH, bh=MESH))
    return flattened


def _magnitude(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """−2.5·log10(flux), NaN where flux ≤ 0."""
    magnitude: NDArray[np.float64] = -2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    return magnitude
