"""A plot of what `lookalike bench index` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lookalike.figures import plotted
from lookalike.wording import counted

SHOWN = (("seconds", "lookalike"), ("faiss_seconds", "faiss"), ("sklearn_seconds", "scikit-learn"))


def draw(report: dict[str, Any], out: Path) -> None:
    """Seconds of each contender by window, a panel for each kind of vectors, D and k, as a PNG; the limit as a line."""
    sets = list(dict.fromkeys((case["vectors"], case["d"], case["k"]) for case in report["cases"]))
    with plotted(out, (2.7 * len(sets), 3.6), formulas=True) as figure:
        for axes, (kind, d, k) in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            cases = [case for case in report["cases"] if (case["vectors"], case["d"], case["k"]) == (kind, d, k)]
            x = [case["window_fraction"] * case["n"] for case in cases]
            for name, label in SHOWN:
                axes.loglog(x, [case[name] for case in cases], "o-", label=label, markersize=4)
            axes.loglog(x, [case["half_gemm_seconds"] for case in cases], "--", color="0.5", label="half the product")
            axes.set_title(f"{kind}, D = {d}, k = {k}", fontsize=9)
            axes.set_xlabel("objects in a window", fontsize=9)
            axes.tick_params(labelsize=8)
        figure.axes[0].set_ylabel("seconds", fontsize=9)
        figure.axes[0].legend(frameon=False, fontsize=8)
        objects = counted(report["cases"][0]["n"], "object")
        figure.suptitle(f"Index of {objects}, {report['threads']} threads", fontsize=10)
