"""Commands that solve a field's own task on top of embeddings: probes tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Json, app, say, show

probes = typer.Typer(no_args_is_help=True, help="Solve a field's own task on top of embeddings, and score it.")
app.add_typer(probes, name="probes")


@probes.command()
def tracks(
    embeddings: Annotated[Path, typer.Argument(help="Embeddings of hits.")],
    *,
    samples: Annotated[list[Path], typer.Option("--samples", help="The hits; repeat for several shards.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Their encoder, to measure its untrained twin beside it.")
    ] = None,
    bucket: Annotated[int, typer.Option(min=2, help="Nearest neighbors in which a hit's helix is sought.")] = 45,
    out: Annotated[Path | None, typer.Option("--out", help="Write every hit's track to this file (.csv).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the first event's tracks (.png, .svg or .pdf).")] = None,
    json: Json = False,
) -> None:
    """Find the tracks of every event among its hits; with truth, print the TrackML scores beside the starting kit's.

    Example: lookalike probes tracks embeddings.h5 --samples hits.h5 --out tracks.csv --plot tracks.png
    """
    from lookalike.probes.outputs import check_output, check_picture

    inputs = [embeddings, *samples, checkpoint]
    if out is not None:
        check_output("A table of tracks", out, (".csv",), inputs)
    if plot is not None:
        check_picture(plot, inputs)

    from lookalike.probes.evaluate_tracks import as_json, as_text, draw, measure, write_csv

    report = measure(embeddings, samples, bucket=bucket, checkpoint=checkpoint)
    if out is not None:
        write_csv(report, samples, out)
        say(f"tracks: {out}")
    if plot is not None:
        draw(report, samples, plot)
        say(f"plot: {plot}")
    if json:
        show(as_json(report), as_json=True)
    else:
        print(as_text(report))
