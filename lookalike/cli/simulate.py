"""Commands that draw data with known truth: simulate clocks, simulate galaxies, simulate tracks."""

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
    overwrite: Overwrite = False,
) -> None:
    """Analog clocks, 150 × 150 px gray, with columns hour, minute and angle.

    Example: lookalike simulate clocks --out clocks.h5 -n 5000 --seed 1
    """
    from lookalike.simulate.clocks import Clocks

    _write(Clocks(seed, turn), out, number, overwrite)


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


def _write(maker: Maker, out: Path, number: int, overwrite: bool) -> None:
    from lookalike.simulate import write

    start = time.monotonic()
    made = write(maker, out, number, overwrite=overwrite)
    rate = made.n / max(time.monotonic() - start, 1e-9)
    print(f"{counted(made.n, 'simulated object')} in {made.out}, {rate:,.0f} per second")
