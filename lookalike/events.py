"""The numbers of collision events: the columns of the ATLAS Higgs challenge, and the types of particles.

Columns and units after the challenge's documentation (Adam-Bourdarios et al. 2014, appendix B) and the record of its
data, https://doi.org/10.7483/OPENDATA.ATLAS.ZBP2.M5T8.
"""

from __future__ import annotations

from typing import Final

from lookalike.about import Column

DOMAIN = "event"

# What is measured, in the files' order.
PRIMITIVES: Final[dict[str, Column]] = {
    "PRI_tau_pt": Column("GeV", "transverse momentum of the hadronic tau"),
    "PRI_tau_eta": Column("", "pseudorapidity of the hadronic tau"),
    "PRI_tau_phi": Column("rad", "azimuth of the hadronic tau"),
    "PRI_lep_pt": Column("GeV", "transverse momentum of the lepton, an electron or a muon"),
    "PRI_lep_eta": Column("", "pseudorapidity of the lepton"),
    "PRI_lep_phi": Column("rad", "azimuth of the lepton"),
    "PRI_met": Column("GeV", "missing transverse momentum"),
    "PRI_met_phi": Column("rad", "azimuth of the missing transverse momentum"),
    "PRI_met_sumet": Column("GeV", "transverse energy of the whole detector"),
    "PRI_jet_num": Column("", "number of jets, 3 for more"),
    "PRI_jet_leading_pt": Column("GeV", "transverse momentum of the leading jet"),
    "PRI_jet_leading_eta": Column("", "pseudorapidity of the leading jet"),
    "PRI_jet_leading_phi": Column("rad", "azimuth of the leading jet"),
    "PRI_jet_subleading_pt": Column("GeV", "transverse momentum of the second jet"),
    "PRI_jet_subleading_eta": Column("", "pseudorapidity of the second jet"),
    "PRI_jet_subleading_phi": Column("rad", "azimuth of the second jet"),
    "PRI_jet_all_pt": Column("GeV", "sum of the transverse momenta of all jets"),
}
# What follows from them, in the files' order; the mass of a likelihood fit comes before and cannot be recomputed.
FITTED_MASS = "DER_mass_MMC"
DERIVED: Final[dict[str, Column]] = {
    "DER_mass_transverse_met_lep": Column("GeV", "transverse mass of the missing momentum and the lepton"),
    "DER_mass_vis": Column("GeV", "invariant mass of the tau and the lepton"),
    "DER_pt_h": Column("GeV", "transverse momentum of tau, lepton and missing momentum"),
    "DER_deltaeta_jet_jet": Column("", "difference of the two jets' pseudorapidities"),
    "DER_mass_jet_jet": Column("GeV", "invariant mass of the two jets"),
    "DER_prodeta_jet_jet": Column("", "product of the two jets' pseudorapidities"),
    "DER_deltar_tau_lep": Column("", "distance of tau and lepton in pseudorapidity and azimuth"),
    "DER_pt_tot": Column("GeV", "transverse momentum of tau, lepton, missing momentum and the listed jets"),
    "DER_sum_pt": Column("GeV", "sum of the transverse momenta of tau, lepton and all jets"),
    "DER_pt_ratio_lep_tau": Column("", "transverse momentum of the lepton over the tau's"),
    "DER_met_phi_centrality": Column("", "how far the missing momentum lies between tau and lepton in azimuth"),
    "DER_lep_eta_centrality": Column("", "how far the lepton lies between the two jets in pseudorapidity"),
}
ALL_DERIVED: Final[dict[str, Column]] = {
    FITTED_MASS: Column("GeV", "mass of the Higgs candidate by the missing mass calculator, a likelihood fit"),
    **DERIVED,
}

# Particles of an event, and what is stored of each.
TYPES: Final = ("met", "jet", "tau", "lepton", "electron", "muon", "photon", "other")
PARTICLE: Final[dict[str, Column]] = {
    "pt": Column("GeV", "transverse momentum"),
    "eta": Column("", "pseudorapidity, 0 of the missing momentum"),
    "phi": Column("rad", "azimuth"),
    "mass": Column("GeV", "mass, 0 where it is neglected"),
    "type": Column("", ", ".join(f"{number} {name}" for number, name in enumerate(TYPES))),
    "btag": Column("", "how much a jet is taken for that of a b quark, 0 where nothing is said"),
}


def units(columns: dict[str, Column]) -> tuple[str, ...]:
    return tuple(column.unit for column in columns.values())
