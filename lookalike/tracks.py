"""The numbers a tracking detector's hits are stored as, and the names of the two kinds of sample made of them."""

from __future__ import annotations

from lookalike.about import Column

DOMAIN = "track"
HITS, TRACKS = "hits", "tracks"  # kinds of sample: a hit with its companions, or all hits of a particle
SAMPLES = (HITS, TRACKS)
FIELD = 2.0  # T, of the detector's solenoid along the beam axis
NOISE = 0  # the particle of hits that no particle made
UNKNOWN = -1  # the particle of hits of an event without truth

HIT = {
    "r": Column("mm", "distance from the beam axis"),
    "phi": Column("rad", "azimuth"),
    "z": Column("mm", "position along the beam axis"),
    "volume": Column("", "part of the detector, as the challenge numbers them"),
    "layer": Column("", "layer of its volume"),
}
CELLS = {
    "charge": Column("", "sum of the signals of its cells"),
    "cells_u": Column("", "how many rows of cells it spans"),
    "cells_v": Column("", "how many columns of cells it spans"),
}
SAME = "same"  # 1 if the particle of the sample's own hit made it, 0 if not, −1 where that is not known
LABEL = {SAME: Column("", "1 if made by the particle of the sample's own hit, 0 if not, -1 if not known")}
