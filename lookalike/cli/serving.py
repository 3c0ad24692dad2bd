"""Commands that serve: serve, app, demo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Embeddings, Samples, Seed, app
from lookalike.errors import InputError


@app.command()
def serve(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    *,
    samples: Samples = None,
    embeddings: Embeddings = None,
) -> None:
    """Serve an index over HTTP; the API is described at /docs.

    Example: lookalike serve INDEX --port 8000
    """
    from lookalike.service import serve as run

    run(index, host=host, port=port, samples=samples, embeddings=embeddings)


@app.command(name="app")
def page(
    api: Annotated[str, typer.Option(help="Address of the API.")] = "http://127.0.0.1:8000",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8501,
) -> None:
    """Serve the web page on top of a running API.

    Example: lookalike app --api http://127.0.0.1:8000
    """
    from lookalike.webapp.run import run_app

    run_app(api, port=port)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API.")] = 8000,
    app_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8501,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data (default: the demo's own).")] = None,
    seed: Seed = 0,
    max_overlap: Annotated[float, typer.Option(min=0, max=1, help="Largest footprint shared in lists, scores.")] = 0.25,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Take the released encoder in place of training one.")
    ] = False,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop after the report.")] = False,
) -> None:
    """Run the whole job on real galaxies: ingest, train, embed, index, verify, score, serve.

    Example: lookalike demo --no-serve
    """
    from lookalike.demo import Demo, released, run

    if pretrained and epochs is not None:
        raise InputError(f"--pretrained trains nothing, so it goes without --epochs ({epochs}).")
    asked = Demo(out, epochs=epochs, seed=seed, max_overlap=max_overlap, port=port, app_port=app_port)
    run(replace(asked, serve=not no_serve, pretrained=released() if pretrained else None))
