"""What Pythia is told to make of collision events: processes with a lepton that an analysis must tell apart.

All at leading order with showers at 13 TeV. Bosons and tops decay as they do in nature, but where a class is named
after a decay, and W bosons beside jets, which decay to leptons.
"""

from __future__ import annotations

from typing import Final

from lookalike.simulate.collisions import COLLIDER

RECOIL = 20.0  # GeV of pT that the hard parton beside a W has at least
LIGHTEST = 50.0  # GeV of mass that a Z or photon has at least
# The mean polarization of taus from a Z, each on its own: as a pair, with correlations, they take ten times as long.
POLARIZED = ("TauDecays:mode = 3", "TauDecays:tauPolarization = -0.147")
ALONE = "PartonLevel:MPI = off"  # no further partons of the two protons collide

PROCESSES: Final[dict[str, tuple[str, ...]]] = {
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "w_jets": (
        "WeakBosonAndParton:qqbar2Wg = on",
        "WeakBosonAndParton:qg2Wq = on",
        f"PhaseSpace:pTHatMin = {RECOIL:g}",
        "24:onMode = off",
        "24:onIfAny = 11 13 15",
    ),
    "z_ll": (
        "WeakSingleBoson:ffbar2gmZ = on",
        f"PhaseSpace:mHatMin = {LIGHTEST:g}",
        "23:onMode = off",
        "23:onIfAny = 11 13",
    ),
    "z_tautau": (
        "WeakSingleBoson:ffbar2gmZ = on",
        f"PhaseSpace:mHatMin = {LIGHTEST:g}",
        "23:onMode = off",
        "23:onIfAny = 15",
        *POLARIZED,
    ),
    "diboson": ("WeakDoubleBoson:all = on",),
    "h_tautau": (
        "HiggsSM:gg2H = on",
        "HiggsSM:ff2Hff(t:ZZ) = on",
        "HiggsSM:ff2Hff(t:WW) = on",
        "25:onMode = off",
        "25:onIfAny = 15",
    ),
}


def settings_of(process: str, underlying: bool) -> tuple[str, ...]:
    """Pythia's settings of a process, with the underlying event or without it."""
    return (*COLLIDER, *PROCESSES[process], *(() if underlying else (ALONE,)))
