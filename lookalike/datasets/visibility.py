"""Which final particles a detector sees, by their PDG numbers: the rule of Pythia 8.3, as for Les Houches files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEUTRINOS = (12, 14, 16, 18)
NEUTRAL_BOSONS = (
    23,
    25,
    32,
    33,
    35,
    36,
    41,
    45,
    46,
)  # Z, Higgs bosons and their kin, where a generator left them whole
GRAVITONS = (39, 5000039, 5100039)
DARK_MATTER = range(51, 61)  # numbers that the PDG sets aside for it and its mediators
SNEUTRINOS = (1000012, 1000014, 1000016, 2000012, 2000014, 2000016)
NEUTRALINOS = (1000022, 1000023, 1000025, 1000035, 1000045)
GRAVITINO = (1000039,)
HIDDEN_VALLEY = (4900012, 4900014, 4900016, 4900021, 4900022, *range(4900101, 4901000))  # its quarks and hadrons last
RIGHT_HANDED = (9900012, 9900014, 9900016, 9900023)  # neutrinos and their Z
INVISIBLE = np.array(
    [
        *NEUTRINOS,
        *NEUTRAL_BOSONS,
        *GRAVITONS,
        *DARK_MATTER,
        *SNEUTRINOS,
        *NEUTRALINOS,
        *GRAVITINO,
        *HIDDEN_VALLEY,
        *RIGHT_HANDED,
    ]
)


def visible(pdg: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether a detector sees final particles (m,) of these PDG numbers; antiparticles are as their particles.

    Pythia's table of particles (Bierlich et al. 2022, arXiv:2203.11601) calls the same ones visible; a number
    that is in no table is.
    """
    return ~np.isin(np.abs(pdg), INVISIBLE)
