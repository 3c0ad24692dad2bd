"""Angles on the sky, in degrees and float64: the separation of two positions, and how far a circle reaches in ra.

Formulas: R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984) 158, in the form of atan2, which is
exact to float64 for tiny angles and for those near 180° alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

Values = NDArray[np.float64]


def cosine(dec: Values) -> Values:
    """cos(dec), 0 at the poles and accurate near them, since 90° − |dec| is an exact difference there."""
    found: Values = np.sin(np.deg2rad(90 - np.abs(dec)))
    return found


def separation(ra: Values, dec: Values, ra2: Values, dec2: Values) -> Values:
    """The angle (…) in degrees between positions in degrees, from 0 to 180.

    With Δα and Δδ the differences, h = sin²(Δα/2): the sine of the angle is
    hypot(cos δ₂ sin Δα, sin Δδ + 2 h sin δ cos δ₂), its cosine cos Δδ − 2 h cos δ cos δ₂. Where the positions are
    close no digit cancels, since the differences of numbers alike are exact.
    """
    across, along = np.deg2rad(_difference(ra, ra2)), np.deg2rad(dec2 - dec)
    here, there = cosine(dec), cosine(dec2)
    h = np.sin(across / 2) ** 2
    sine = np.hypot(there * np.sin(across), np.sin(along) + 2 * h * np.sin(np.deg2rad(dec)) * there)
    angle: Values = np.rad2deg(np.arctan2(sine, np.cos(along) - 2 * h * here * there))
    return angle


def _difference(ra: Values, ra2: Values) -> Values:
    """ra2 − ra the short way round, in degrees; a full turn is taken from one of them, where that is exact."""
    plain = ra2 - ra
    over: Values = np.where(plain > 180, (ra2 - 360) - ra, plain)
    return np.where(plain < -180, ra2 - (ra - 360), over)


def reach_in_ra(dec: Values, low: Values, high: Values, radius: float) -> Values:
    """How far from its center, in degrees of ra, a circle around `dec` reaches at most between two declinations.

    dec, low, high : (n,) degrees, low ≤ high. 180 where it goes all round, as about a pole. Where sin²(Δα/2) =
    (sin²(r/2) − sin²((δ' − δ)/2)) / (cos δ cos δ'), Δα is largest at sin δ' = sin δ / cos r, or else at an end.
    """
    if radius >= 90:
        return np.full(np.shape(dec), 180.0)
    widest = np.rad2deg(np.arcsin(np.clip(np.sin(np.deg2rad(dec)) / np.cos(np.deg2rad(radius)), -1, 1)))
    found = np.zeros(np.shape(dec))
    for at in (low, high, np.clip(widest, low, high)):
        room = np.sin(np.deg2rad(radius / 2)) ** 2 - np.sin(np.deg2rad((at - dec) / 2)) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            share = room / (cosine(dec) * cosine(at))
        share = np.where(np.isnan(share), 1.0, np.clip(share, 0, 1))  # 0/0: the circle touches the pole
        found = np.maximum(found, 2 * np.rad2deg(np.arcsin(np.sqrt(share))))
    return found


def check_positions(ra: Values, dec: Values, names: tuple[str, str], first: int, where: str) -> NDArray[np.bool_]:
    """Which of the positions (n,) are there, neither number NaN; InputError where one is out of its range.

    first : the row of the first, for the message, as `where` is. ra lies in [0, 360), dec in [−90, 90] degrees.
    """
    there = ~(np.isnan(ra) | np.isnan(dec))
    for values, name, inside, rule in (
        (ra, names[0], (ra >= 0) & (ra < 360), "[0, 360)"),
        (dec, names[1], (dec >= -90) & (dec <= 90), "[−90, 90]"),
    ):
        outside = np.flatnonzero(~inside & ~np.isnan(values))
        if len(outside):
            row = int(outside[0])
            raise InputError(
                f"{name} lies in {rule} deg, but row {first + row:,} (counted from 0) of {where} has "
                f"{float(values[row])!r}."
            )
    return there
