"""Commands about checkpoints: checkpoint import, checkpoint export, checkpoint release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Json, Out, Overwrite, app, say, show
from lookalike.wording import at_most

checkpoint = typer.Typer(
    no_args_is_help=True, help="Bring an encoder from elsewhere, take one there, or give one away."
)
app.add_typer(checkpoint, name="checkpoint")


@checkpoint.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Weights: .pth, .pth.tar, .ckpt (torch.save) or .safetensors.")],
    *,
    out: Out,
    domain: Annotated[str, typer.Option(help="galaxy or image: the data it is for.")],
    preprocess: Annotated[
        list[str],
        typer.Option(help="How stored pixels become its input: a .toml or .json file, or key=value; repeatable."),
    ],
    prefix: Annotated[
        str | None, typer.Option(help="What the encoder's keys begin with, if the file holds several.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a checkpoint of a ResNet trained elsewhere; weights only, none of the file's code is run.

    Example: lookalike checkpoint import moco.pth.tar --out checkpoints/moco --domain image --preprocess moco.toml
    """
    from lookalike.ssl.importing import grouped, import_checkpoint, read_preprocess

    report = import_checkpoint(file, out, read_preprocess(preprocess), domain, prefix=prefix)
    if json:
        show(report.to_json(), json)
        return
    for what, names in (("not used", report.unused), ("not in the file", report.missing), ("skipped", report.skipped)):
        if names:
            say(f"{what}: {grouped(names)}")
    if report.projection is None:
        say("The file has no projection head: `embed --layer projection` is refused for this checkpoint.")
    if report.small_stem:
        say("Its 3×3 stem is taken to have stride 1 and no pooling after it; shapes alone do not tell.")
    stem = "3×3" if report.small_stem else "7×7"
    head = f"projection {report.projection} ({report.head})" if report.projection else "no projection"
    print(
        f"{report.encoder} of {report.channels} bands, {stem} stem, {report.dimensions} dimensions, {head}, from "
        f"{report.prefix or 'no prefix'}: {out}"
    )


@checkpoint.command(name="export")
def export(
    folder: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    *,
    out: Out,
    layer: Annotated[str, typer.Option(help="embedding or projection.")] = "embedding",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write an encoder as ONNX, from stored pixels to vectors; needs the extra `onnx`.

    Example: lookalike checkpoint export checkpoints/mine --out mine.onnx
    """
    from lookalike.ssl.exporting import export_onnx

    report = export_onnx(folder, out, layer=layer, overwrite=overwrite)
    if json:
        show(report.to_json(), json)
        return
    print(
        f"{report.layer} of {report.dimensions} dimensions from {report.input} in {out}, {report.bytes:,} bytes; "
        f"largest difference to torch {report.difference:.1e}"
    )


@checkpoint.command(name="release")
def release(
    folder: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    *,
    out: Out,
    samples: Annotated[
        list[Path] | None, typer.Option(help="What it was trained on: says source and license; repeat for shards.")
    ] = None,
    data: Annotated[str, typer.Option(help="What it was trained on, in words.")] = "",
    license: Annotated[str, typer.Option(help="License of what it was trained on.")] = "",
    scores: Annotated[
        list[Path] | None, typer.Option(help="A report of `evaluate … --json` on it, repeatable (.json).")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a checkpoint ready to be given away: float16 weights, no state of training, and a card.

    Example: lookalike checkpoint release checkpoints/mine --out released/one --samples samples.h5 --license CC0-1.0
    """
    from lookalike.probes.release import release as run

    report = run(
        folder,
        out,
        samples=samples or (),
        data=data,
        license=license,
        scores=scores or (),
        overwrite=overwrite,
    )
    if json:
        show(report.to_json(), json)
        return
    print(
        f"{report.bytes / 1e6:.1f} MB of float16 weights and their card in {out}; a similarity changes by at most "
        f"{at_most(report.difference)}"
    )
