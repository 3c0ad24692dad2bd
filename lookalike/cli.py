"""The command line: one verb per stage, each calling one library function.

Results go to standard output, progress and notes to standard error. Everything heavy is imported inside the
command that needs it, so that `lookalike --help` answers at once.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import __version__
from lookalike.errors import InputError, LookalikeError, NotFoundError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the objects that look like yours: train, embed, index, search and serve.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Files = Annotated[list[Path], typer.Argument(help="Samples files; several are the shards of one data set.")]
Out = Annotated[Path, typer.Option("--out", help="What to write.")]
Samples = Annotated[
    list[Path] | None, typer.Option("--samples", help="Its samples files, if they moved; repeat for several shards.")
]
Embeddings = Annotated[Path | None, typer.Option("--embeddings", help="Its embeddings file, if it moved.")]
Checkpoint = Annotated[Path | None, typer.Option("--checkpoint", help="Its encoder's folder, if it moved.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]


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


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="hubble, legacysurvey, images, fits or numpy.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Source files or folders (none for hubble).")] = None,
    *,
    out: Out,
    domain: Annotated[str | None, typer.Option(help="galaxy or image (default: by source)")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Table of columns, or of positions to cut out.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that holds the ids.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Side of the stored pictures, px.")] = None,
    bands: Annotated[str | None, typer.Option(help="Band names in stored order, e.g. g,r,z.")] = None,
    unit: Annotated[str | None, typer.Option(help="Flux unit, where the files do not say.")] = None,
    pixel_scale: Annotated[float | None, typer.Option(help="arcsec/px, where the files do not say.")] = None,
    mode: Annotated[str | None, typer.Option(help="fits: cutouts or positions (default: by the files).")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip odd files, count and list them.")] = False,
) -> None:
    """Turn source files into a samples file.

    Example: lookalike ingest images photos/ --catalog photos.csv --size 64 --out samples.h5
    """
    from lookalike.datasets import ingest as run

    names = tuple(band.strip() for band in bands.split(",")) if bands else None
    report = run(
        source,
        files or [],
        out,
        domain=domain,
        catalog=catalog,
        id_column=id_column,
        size=size,
        bands=names,
        unit=unit,
        pixel_scale=pixel_scale,
        mode=mode,
        skip_bad=skip_bad,
    )
    for note in report.notes:
        say(note)
    for name, reason in report.skipped:
        say(f"skipped {name}: {reason}")
    for what, number in report.counts.items():
        say(f"{number:,} {what}")
    print(f"{report.n:,} objects in {report.out}; {len(report.skipped):,} skipped.")


@app.command()
def info(path: Annotated[Path, typer.Argument(help="A file or folder of ours.")], json: Json = False) -> None:
    """Say what any of our files is and what made it.

    Example: lookalike info samples.h5
    """
    from lookalike.info import describe

    show(describe(path), json)


@app.command()
def train(
    samples: Files,
    *,
    out: Out,
    encoder: Annotated[str | None, typer.Option(help="resnet18, resnet34, resnet50 or resnet101.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Objects per step.")] = None,
    queue: Annotated[int | None, typer.Option(min=1, help="Negatives kept, K (default: by the data).")] = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Any setting, repeatable.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in a .toml or .json file.")] = None,
) -> None:
    """Train a MoCo v2 encoder on a data set.

    Example: lookalike train samples.h5 --out checkpoints/mine --epochs 50 --set temperature=0.1
    """
    from lookalike.ssl.train import TrainConfig
    from lookalike.ssl.train import train as run

    given = {"encoder": encoder, "epochs": epochs, "batch_size": batch_size, "queue": queue, "seed": seed}
    options = [f"{name}={jsonlib.dumps(value)}" for name, value in given.items() if value is not None]
    settings = TrainConfig().overridden(config, [*options, *(assignments or [])])
    say(f"seed {settings.seed}")
    report = run(samples, out, settings, resume=resume)
    print(f"Trained {report.steps:,} steps in {report.seconds:.0f} s, loss {report.loss:.3f}: {out}")


@app.command()
def embed(
    samples: Files,
    *,
    checkpoint: Annotated[Path, typer.Option(help="Folder of a trained encoder.")],
    out: Out,
    layer: Annotated[str, typer.Option(help="embedding (searched by default) or projection.")] = "embedding",
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
) -> None:
    """Embed every object of a data set.

    Example: lookalike embed samples.h5 --checkpoint checkpoints/mine --out embeddings.h5
    """
    from lookalike.ssl.embed import embed as run

    report = run(samples, checkpoint, out, layer=layer, dtype=dtype)
    for note in report.notes:
        say(note)
    print(f"{report.n:,} embeddings of {report.dimensions} dimensions in {out}")


@app.command()
def index(
    embeddings: Annotated[Path, typer.Argument(help="Embeddings file.")],
    *,
    samples: Annotated[list[Path], typer.Option("--samples", help="Its samples files; repeat for several shards.")],
    out: Out,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbors stored per object.")] = 999,
    window: Annotated[str | None, typer.Option(help="column:half-width, e.g. mag:0.5 or log(pt):0.1")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The encoder's folder, for picture queries.")] = None,
) -> None:
    """Store every object's exact k most similar ones within its window.

    Example: lookalike index embeddings.h5 --samples samples.h5 --checkpoint checkpoints/mine --out INDEX -k 100
    """
    from lookalike.indexer.index import build_index

    report = build_index(embeddings, samples, out, k=k, window=window, checkpoint=checkpoint)
    for note in report.notes:
        say(note)
    if report.short_lists:
        say(
            f"{report.short_lists:,} lists are shorter than k: fewer objects lie within {window}; "
            f"{report.nan_count:,} objects have no value there, and no list."
        )
    print(f"Index version {report.version} of {report.n:,} objects, k = {report.k}, in {out}")


@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    id: Annotated[str | None, typer.Option("--id", help="Search from this object.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search from a picture (PNG, JPEG, FITS, NPY).")] = None,
    vector: Annotated[Path | None, typer.Option(help="Search from a vector (.npy).")] = None,
    k: Annotated[int, typer.Option("-k", help="Number of results.")] = 100,
    at: Annotated[list[str] | None, typer.Option("--at", help="column=value: center of the window.")] = None,
    columns: Annotated[str, typer.Option(help="Catalog columns to print, e.g. mag,size")] = "",
    max_overlap: Annotated[
        float | None, typer.Option(help="Leave out footprints sharing more than this (0 to 1) with the query's.")
    ] = None,
    samples: Samples = None,
    embeddings: Embeddings = None,
    checkpoint: Checkpoint = None,
    json: Json = False,
) -> None:
    """Find the objects most similar to an object, a picture or a vector.

    Example: lookalike search INDEX --id xdf-0001 -k 20 --columns mag --json
    """
    from lookalike.query import Query, answer

    query = Query(id=id, image=image, vector=vector, at=tuple(at or ()))
    names = [name.strip() for name in columns.split(",") if name.strip()]
    found = answer(
        index,
        query,
        k=k,
        columns=names,
        max_overlap=max_overlap,
        samples=samples,
        embeddings=embeddings,
        checkpoint=checkpoint,
    )
    if json:
        print(jsonlib.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        return
    for note in found.notes:
        say(note)
    say(f"index version {found.index_version}, {_within(found.window)}, source {found.source}")
    for result in found.results:
        values = "  ".join(f"{name}={value}" for name, value in result.columns.items())
        print(f"{result.rank:5d}  {result.similarity:.6f}  {result.id}  {values}".rstrip())


def _within(window: Mapping[str, Any] | None) -> str:
    """A window as a person reads it."""
    if window is None:
        return "no window"
    name = f"log({window['column']})" if window["log"] else window["column"]
    return f"within {name} ± {window['half_width']:g} of {window['column']} = {window['center']}"


@app.command()
def verify(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    samples: Samples = None,
    embeddings: Embeddings = None,
    checkpoint: Checkpoint = None,
    json: Json = False,
) -> None:
    """Check an index: every byte against its hash, a sample of its lists against brute force.

    Example: lookalike verify INDEX
    """
    from lookalike.indexer.audit import verify as run

    report = run(index, samples=samples, embeddings=embeddings, checkpoint=checkpoint)
    if not json:
        print(f"OK: every byte matches its hash; {report.recomputed:,} lists recomputed by brute force, all equal.")
    show(report.to_json(), json)


@app.command()
def gc(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    keep: Annotated[int, typer.Option(help="Newest versions kept; the one that is served always is.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove old versions of an index, and what killed builds left.

    Example: lookalike gc INDEX --keep 2 --dry-run
    """
    from lookalike.indexer.collect import collect

    found = collect(index, keep=keep, dry_run=dry_run)
    if json:
        show(found.to_json(), json)
        return
    for name in found.removed:
        print(name)
    count = f"{len(found.removed):,} {'to remove' if dry_run else 'removed'}"
    print(f"{count}, {found.bytes:,} bytes; kept {', '.join(found.kept)}.")


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
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop after the report.")] = False,
) -> None:
    """Run the whole job on real galaxies: ingest, train, embed, index, verify, score, serve.

    Example: lookalike demo --no-serve
    """
    from lookalike.demo import Demo, run

    run(Demo(out, epochs=epochs, seed=seed, max_overlap=max_overlap, port=port, app_port=app_port, serve=not no_serve))


def main() -> None:
    """Run the command; an error is one line, exit code 2 where the input was wrong, else 1."""
    # Threads that wait spinning for long starve each other on a busy machine (training beside one other job fell to
    # a third), and sleeping at once costs a third on an idle one; a short spin loses little on either. OpenMP reads
    # this when torch or faiss is loaded, so it must be said before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        result = app(arguments, prog_name="lookalike", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except typer.TyperException as error:
        message = error.format_message().replace("\n", " ")
        if not message:  # no command was given: the help is already on the terminal
            sys.exit(error.exit_code)
        if "No such command" in message:
            message += f" Choices: {', '.join(command.name or '' for command in _commands())}."
        _fail(message, error.exit_code, debug)
    except LookalikeError as error:
        _fail(error.message, 2 if isinstance(error, InputError | NotFoundError) else 1, debug)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130, debug)
    except BrokenPipeError:  # `| head` closed the pipe: what it wanted was printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
        sys.exit(0)
    except OSError as error:
        _fail(str(error), 1, debug)


def _commands() -> list[Any]:
    return list(typer.main.get_command(app).commands.values())  # type: ignore[attr-defined]


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    say(f"lookalike: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
