"""What the commands share: the application, options of one meaning everywhere, and how things are said."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the objects that look like yours: train, embed, index, search and serve.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Files = Annotated[list[Path], typer.Argument(help="Samples files; several are the shards of one data set.")]
IndexFolder = Annotated[Path, typer.Argument(help="Index folder.")]
Out = Annotated[Path, typer.Option("--out", help="What to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an --out that holds something else.")]
Samples = Annotated[
    list[Path] | None, typer.Option("--samples", help="Its samples files, if they moved; repeat for several shards.")
]
Embeddings = Annotated[Path | None, typer.Option("--embeddings", help="Its embeddings file, if it moved.")]
Checkpoint = Annotated[Path | None, typer.Option("--checkpoint", help="Its encoder's folder, if it moved.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]


def listed(text: str) -> list[str]:
    """The names of an option such as --columns mag,size."""
    return [name.strip() for name in text.split(",") if name.strip()]


def say(text: str) -> None:
    """A note to the person at the terminal, on standard error."""
    print(text, file=sys.stderr, flush=True)


def show(report: dict[str, Any], as_json: bool) -> None:
    """A result on standard output: one JSON document, or `name  value` lines."""
    if as_json:
        print(jsonlib.dumps(report, ensure_ascii=False, allow_nan=False))
        return
    width = max((len(name) for name in report), default=0)
    for name, value in report.items():
        text = jsonlib.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        print(f"{name:<{width}}  {text}")


def version(wanted: bool) -> None:
    if wanted:
        print(f"lookalike {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    """Find the objects that look like yours."""
