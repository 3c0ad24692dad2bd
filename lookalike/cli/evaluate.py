"""Commands that measure an encoder: evaluate invariance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Files, Json, Seed, app, say, show

evaluate = typer.Typer(no_args_is_help=True, help="Measure what an encoder's similarity is worth.")
app.add_typer(evaluate, name="evaluate")


@evaluate.command()
def invariance(
    samples: Files,
    *,
    checkpoint: Annotated[Path, typer.Option(help="Folder of a trained encoder.")],
    objects: Annotated[int, typer.Option(min=2, help="Objects measured; of more, a random part by --seed.")] = 5000,
    without: Annotated[
        list[str] | None, typer.Option(metavar="STEP", help="A step that is off and is to be left out; repeatable.")
    ] = None,
    max_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Objects whose footprint overlaps by more do not compete.")
    ] = 0.25,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say whether augmented copies find their originals: each augmentation alone and all together.

    Example: lookalike evaluate invariance samples.h5 --checkpoint checkpoints/mine --html invariance.html
    """
    from lookalike.files import file_output
    from lookalike.probes.invariance import measure
    from lookalike.probes.report import as_json, as_text

    if html is not None:
        file_output(html)  # before the work, not after it
    measured = measure(
        samples,
        checkpoint,
        objects=objects,
        without=without or (),
        max_overlap=max_overlap,
        seed=seed,
        device=device,
    )
    if html is not None:
        from lookalike.probes.report_html import write_page

        write_page(measured, html)
        say(f"page: {html}")
    if json:
        show(as_json(measured), as_json=True)
    else:
        print(as_text(measured))
