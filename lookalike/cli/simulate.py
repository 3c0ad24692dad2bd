"""Commands that draw data with known truth: simulate clocks, galaxies, jets, events, tracks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.common import Out, Overwrite, Seed, app
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.simulate import Maker

group = typer.Typer(no_args_is_help=True, help="Draw data whose classes or truths are known, marked as simulated.")
app.add_typer(group, name="simulate")

Number = Annotated[int, typer.Option("-n", "--number", min=1, help="How many objects.")]


@group.command()
def clocks(
    *,
    out: Out,
    number: Number = 1000,
    seed: Seed = 0,
    turn: Annotated[float, typer.Option(min=0, max=180, help="Dials are turned by up to this, degrees.")] = 25.0,
    size: Annotated[int, typer.Option(min=28, max=150, help="Side of the pictures, px.")] = 150,
    overwrite: Overwrite = False,
) -> None:
    """Analog clocks, gray, with columns hour, minute and angle.

    Example: lookalike simulate clocks --out clocks.h5 -n 5000 --seed 1
    """
    from lookalike.simulate.clocks import Clocks

    _write(Clocks(seed, turn, size), out, number, overwrite)


@group.command()
def galaxies(
    *,
    out: Out,
    number: Number = 1000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of the pictures, px of 0.262 arcsec.")] = 152,
    overwrite: Overwrite = False,
) -> None:
    """Galaxies of eight kinds in g, r, z, nanomaggies, with the Legacy Surveys' columns and a column class.

    Example: lookalike simulate galaxies --out galaxies.h5 -n 2000 --seed 1
    """
    from lookalike.simulate.galaxies import Galaxies

    _write(Galaxies(seed, size), out, number, overwrite)


@group.command()
def jets(
    *,
    out: Out,
    number: Number = 1000,
    seed: Seed = 0,
    signal: Annotated[float, typer.Option(min=0, max=1, help="Share of Hidden Valley events, the rest is QCD.")] = 0.1,
    invisible: Annotated[float, typer.Option(min=0, max=1, help="Share of dark pions that are never seen.")] = 0.0,
    min_pt: Annotated[float, typer.Option(help="Least pT of both leading jets, GeV.")] = 750.0,
    max_eta: Annotated[float, typer.Option(help="Largest |η| of both leading jets.")] = 2.0,
    size: Annotated[int, typer.Option(min=32, max=10_000, help="Most constituents stored of an event.")] = 416,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that share the work (default: all).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Events of two jets, of QCD and of a Hidden Valley, by Pythia, with a column label.

    Example: lookalike simulate jets --out jets.h5 -n 5000 --signal 0.1 --seed 1
    """
    from lookalike.parallel import processors
    from lookalike.simulate.jets import Jets

    maker = Jets(seed, signal, invisible=invisible, min_pt=min_pt, max_eta=max_eta, places=size)
    _write(maker, out, number, overwrite, processes or processors())


@group.command()
def events(
    *,
    out: Out,
    number: Number = 1000,
    seed: Seed = 0,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="ttbar, w_jets, z_ll, z_tautau, diboson or h_tautau, and its share, as ttbar:2; repeatable "
            "(default: all, equal shares).",
        ),
    ] = None,
    underlying: Annotated[
        bool, typer.Option("--underlying", help="With the underlying event, at a quarter of the speed.")
    ] = False,
    size: Annotated[int, typer.Option(min=3, max=10_000, help="Most objects stored of an event.")] = 12,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that share the work (default: all).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Collision events with a lepton, of six processes, by Pythia, as particles, with a column class.

    Example: lookalike simulate events --out events.h5 -n 12000 --seed 1
    """
    from lookalike.parallel import processors
    from lookalike.simulate.events import Events

    maker = Events(seed, class_ or (), underlying=underlying, places=size)
    _write(maker, out, number, overwrite, processes or processors())


@group.command()
def tracks(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many events.")] = 10,
    particles: Annotated[int, typer.Option(min=1, max=1_000_000, help="Particles of each event.")] = 500,
    missed: Annotated[float, typer.Option(min=0, max=0.9, help="Share of a particle's hits that are missed.")] = 0.02,
    noise: Annotated[float, typer.Option(min=0, max=10, help="Hits of no particle, over those of one.")] = 0.15,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Events of helices in a 2 T field, as CSV files of the TrackML challenge's layout, with truth.

    Example: lookalike simulate tracks --out events -n 10 --particles 500 --seed 1
    """
    from lookalike.simulate.tracks import Settings, write_events

    made = write_events(out, Settings(number, particles, seed, missed, noise), overwrite=overwrite)
    print(f"{counted(made.events, 'simulated event')} of {counted(made.hits, 'hit')} in {made.out}")


def _write(maker: Maker, out: Path, number: int, overwrite: bool, processes: int = 1) -> None:
    from lookalike.simulate import write

    start = time.monotonic()
    made = write(maker, out, number, processes=processes, overwrite=overwrite)
    rate = made.n / max(time.monotonic() - start, 1e-9)
    print(f"{counted(made.n, 'simulated object')} in {made.out}, {rate:,.0f} per second")
