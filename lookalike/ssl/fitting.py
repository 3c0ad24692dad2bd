"""Whether a data set can be embedded with an encoder and written, found out without loading either; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.embeddings_writer import DTYPES
from lookalike.errors import InputError, unknown
from lookalike.files import check_parent
from lookalike.provenance import refuse_input
from lookalike.samples import Samples

if TYPE_CHECKING:
    from lookalike.ssl.checkpoint import CheckpointConfig

LAYERS = ("embedding", "projection")
NANOMAGGIES = ("nanomaggy", "nanomaggie", "nanomaggies", "nmgy")
SCALE_TOLERANCE = 1e-3


def samples_to_embed(paths: Sequence[Path], out: Path, layer: str, dtype: str) -> Samples:
    """The data set, where it can be read, layer and dtype are known; InputError where not.

    So where `out` cannot be made, or is one of its files.
    """
    if layer not in LAYERS:
        raise unknown("layer", layer, LAYERS)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    check_parent(out)
    samples = Samples(list(paths))
    refuse_input(out, samples.paths)
    return samples


def check_fits(samples: Samples, config: CheckpointConfig, checkpoint: Path | str) -> list[str]:
    """InputError where a data set is not of the kind the encoder was trained on; notes on what cannot be compared.

    Domain, bands, unit, pixel type and scale are compared, and the pictures must be large enough. A scale read from
    a header carries rounding, so that scales may differ by SCALE_TOLERANCE.
    """
    about, wanted = samples.about, config.preprocess
    if about.domain != config.domain:
        raise InputError(
            f"{checkpoint} was trained on the domain {config.domain}, "
            f"but these samples are of the domain {about.domain}."
        )
    if about.bands != wanted.bands:
        raise InputError(
            f"{checkpoint} was trained on the bands {', '.join(wanted.bands)}, "
            f"but these samples hold {', '.join(about.bands)}."
        )
    if about.layout != wanted.layout:
        raise InputError(f"{checkpoint} was trained on {wanted.layout}, but these samples hold {about.layout}.")
    if _unit(about.unit) != _unit(wanted.unit):
        raise InputError(
            f"{checkpoint} was trained on pixels in {wanted.unit or 'no unit'}, "
            f"but these samples are in {about.unit or 'no unit'}."
        )
    wanted.check(samples.shape, samples.dtype)
    wanted.check_about(about)
    ours, theirs = about.pixel_scale, wanted.pixel_scale
    if ours is not None and theirs is not None and not math.isclose(ours, theirs, rel_tol=SCALE_TOLERANCE):
        raise InputError(
            f"{checkpoint} was trained on pixels of {theirs:.6g} arcsec, but these samples have {ours:.6g} arcsec/px."
        )
    if (ours is None) != (theirs is None):
        which = "these samples" if ours is None else str(checkpoint)
        return [f"The pixel scale of {which} is not known; the encoder's and the data's are taken to be equal."]
    return []


def _unit(unit: str) -> str:
    """A flux unit under one name, as surveys write nanomaggies in several ways."""
    plain = unit.strip().lower()
    return "nanomaggy" if plain in NANOMAGGIES else plain
