"""Figures of a report: drawn without a display, and written whole or not at all."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def plotted(path: Path, inches: tuple[float, float], *, dpi: int = 100, formulas: bool = False) -> Iterator[Figure]:
    """Yield a figure to draw on, and write it to `path` in the format of its ending; nothing is written on an error.

    inches : width and height. formulas : whether text between dollar signs is one, which labels of a logarithmic axis
    need; else a name that holds a dollar sign is shown as it is.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": formulas}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it
        figure = Figure(figsize=inches, layout="constrained")
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=dpi)
