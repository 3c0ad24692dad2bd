"""Positions on the sky and angles as people write them, read into degrees.

Right ascension and declination are read one by one: a number alone is in degrees, a sexagesimal right ascension in
hours, a sexagesimal declination in degrees. Values are exact until they are rounded once to float64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from lookalike.errors import InputError

__all__ = ["Position", "check_position", "parse_angle", "parse_position"]

POSITIONS = (
    "150.1 +2.2 in degrees, 10:00:24 +02:12:00, 10 00 24 +02 12 00 or 10h00m24s +02d12m00s in hours and degrees, "
    "J100024.0+021200"
)
ANGLES = "5arcsec, 2arcmin, 0.1deg, 300mas"
LONGEST = 100  # characters; a position needs a third of that

# What keyboards, papers and web pages write for the same sign.
SIGNS = str.maketrans(
    dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-")
    | dict.fromkeys("\uff0b", "+")
    | dict.fromkeys("\u2032\u2019\u02b9", "'")
    | dict.fromkeys("\u2033\u201d\u02ba", '"')
    | dict.fromkeys("\u00ba\u02da", "\u00b0")
)
UNITS = {  # in degrees
    **dict.fromkeys(("deg", "degree", "degrees", "d", "\u00b0"), Fraction(1)),
    **dict.fromkeys(("arcmin", "amin", "'"), Fraction(1, 60)),
    **dict.fromkeys(("arcsec", "asec", '"', "''"), Fraction(1, 3600)),
    "mas": Fraction(1, 3_600_000),
}

NUMBER = r"(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})"
DECIMAL = re.compile(rf"([+-]?{NUMBER}(?:e[+-]?[0-9]{{1,2}})?)(?:deg|degrees?|d|°)?", re.IGNORECASE)
ANGLE = re.compile(rf"({NUMBER}(?:e[+-]?[0-9]{{1,2}})?)\s*([a-z°'\"]{{1,8}})", re.IGNORECASE)
COLONS = re.compile(rf"([+-]?)({NUMBER}):({NUMBER})(?::({NUMBER}))?")
MINUTES = rf"(?:({NUMBER})(?:m|')(?:({NUMBER})(?:s|\"|'')?)?)?"
HOURS = re.compile(rf"([+-]?)({NUMBER})h{MINUTES}", re.IGNORECASE)
DEGREES = re.compile(rf"([+-]?)({NUMBER})(?:deg|d|°){MINUTES}", re.IGNORECASE)
# HHMM+DDMM with more digits after each: seconds and their fraction (2MASS leaves out its point), or of a minute.
DIGITS = r"([0-9]{2})([0-9]{2}(?:\.[0-9]{1,20})?)(?:([0-9]{2})\.?([0-9]{0,20}))?"
NAME = re.compile(rf"(?:[A-Z0-9][A-Z0-9+-]{{0,19}}\s*)?J{DIGITS}([+-]){DIGITS}", re.IGNORECASE)
APART = re.compile(r"(?<=[0-9.hmsdg°'\"])(?=[+-])", re.IGNORECASE)  # where a sign begins the declination
SIGN_APART = re.compile(r"(?<=[+-])\s+(?=[0-9.])")
UNIT_APART = re.compile(r"\s+(?=(?:degrees?|deg|[hdms°]|'+|\")(?:[\s,;]|$))", re.IGNORECASE)


@dataclass(frozen=True)
class Position:
    """A place on the sky: ra in [0, 360), dec in [−90, 90], both ICRS degrees; `form` says how it was read."""

    ra: float
    dec: float
    form: str


def parse_position(text: str) -> Position:
    """Read `150.1 2.2`, `150.1, −2.2`, `10:00:24 +02:12:00`, `10h00m24s -0d30m`, `J100024.0+021200` and their likes.

    InputError, which names the forms, for anything else; and where ra or dec is out of its range.
    """
    clean = text.translate(SIGNS).strip("()[] \t\r\n")
    if len(text) > LONGEST:
        raise _refused(text)
    if (named := NAME.fullmatch(clean)) is not None:
        ra, dec = _digits(text, "", *named.groups()[:4]), _digits(text, *named.groups()[4:])
        return _checked(text, 15 * ra, dec, "a name's hours and degrees")
    across, along = _halves(text, UNIT_APART.sub("", SIGN_APART.sub("", APART.sub(" ", clean))))
    ra, in_hours = _ra(text, across)
    return _checked(text, ra, _dec(text, along), "hours and degrees" if in_hours else "degrees")


def parse_angle(text: str) -> float:
    """Read an angle from 0 to 180 degrees, such as `5arcsec`, `0.5 deg`, `2'` or `300mas`, as degrees.

    InputError for anything else; a number without a unit is one too, since 5 may be meant in several.
    """
    found = ANGLE.fullmatch(text.translate(SIGNS).strip())
    unit = found[2].lower() if found is not None else ""
    if found is None or unit not in UNITS:
        raise InputError(f"An angle is a number with its unit ({ANGLES}), but {text[:LONGEST]!r} was given.")
    degrees = Fraction(found[1]) * UNITS[unit]
    if degrees > 180:
        raise InputError(f"An angle on the sky is from 0 to 180 deg, but {text[:LONGEST]!r} was given.")
    return float(degrees)


def check_position(ra: float, dec: float) -> None:
    """InputError where ra is not in [0, 360) or dec not in [−90, 90] degrees; NaN is in neither."""
    if not 0 <= ra < 360:
        raise InputError(f"ra lies in [0, 360) deg, but {ra!r} was given.")
    if not -90 <= dec <= 90:
        raise InputError(f"dec lies in [−90, 90] deg, but {dec!r} was given.")


def _refused(text: str) -> InputError:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return InputError(f"A position is written as {POSITIONS}, but {shown!r} was given.")


def _halves(text: str, clean: str) -> tuple[str, str]:
    """The two coordinates, without spaces inside: parted by a comma, by a sign, or by their equal numbers of words."""
    parted = [part.split() for part in re.split("[,;]", clean)]
    if len(parted) == 2 and all(parted):
        across, along = parted
    elif len(parted) == 1:
        words = parted[0]
        signed = [place for place, word in enumerate(words) if place and word[0] in "+-"]
        half = signed[0] if len(signed) == 1 else len(words) // 2
        # 10 00 02 12 may be minutes or a position and two more numbers: it takes a sign or a comma.
        if not words or len(signed) > 1 or (not signed and len(words) % 2) or (len(words) == 4 and not signed):
            raise _refused(text)
        across, along = words[:half], words[half:]
    else:
        raise _refused(text)
    return _joined(text, across), _joined(text, along)


def _joined(text: str, words: list[str]) -> str:
    """The words of one coordinate as one: bare numbers by colons, those with units of their own as they are."""
    bare = all(re.fullmatch(rf"[+-]?{NUMBER}", word) for word in words)
    if not 1 <= len(words) <= 3 or (not bare and any(word[-1] in "0123456789." for word in words[:-1])):
        raise _refused(text)  # 1 0h is not 10h
    return (":" if bare else "").join(words)


def _ra(text: str, word: str) -> tuple[Fraction, bool]:
    """The right ascension in degrees, and whether it was given in hours."""
    for pattern in (COLONS, HOURS):
        if (found := pattern.fullmatch(word)) is not None:
            return 15 * _sexagesimal(text, *found.groups()), True
    return _dec(text, word), False


def _dec(text: str, word: str) -> Fraction:
    if (found := DECIMAL.fullmatch(word)) is not None:
        return Fraction(found[1])
    if (found := COLONS.fullmatch(word) or DEGREES.fullmatch(word)) is not None:
        return _sexagesimal(text, *found.groups())
    raise _refused(text)


def _digits(text: str, sign: str, whole: str, minutes: str, seconds: str | None, fraction: str | None) -> Fraction:
    return _sexagesimal(text, sign, whole, minutes, f"{seconds}.{fraction}" if seconds else None)


def _sexagesimal(text: str, sign: str, whole: str, minutes: str | None, seconds: str | None) -> Fraction:
    """The value in units of the first part; the sign counts for −00:30 too. Only the last part may have a fraction."""
    parts = [part for part in (whole, minutes, seconds) if part is not None]
    if any("." in part for part in parts[:-1]):
        raise InputError(f"Only the last part of a coordinate has a fraction, but {text!r} was given.")
    values = [Fraction(part) for part in parts]
    if any(value >= 60 for value in values[1:]):
        raise InputError(f"Minutes and seconds are below 60, but {text!r} was given.")
    value = sum((value / 60**place for place, value in enumerate(values)), Fraction(0))
    return -value if sign == "-" else value


def _checked(text: str, ra: Fraction, dec: Fraction, form: str) -> Position:
    if not 0 <= ra < 360:
        raise InputError(f"ra lies in [0, 360) deg or [0, 24) h, but {text!r} has {_shown(ra)} deg.")
    if abs(dec) > 90:
        raise InputError(f"dec lies in [−90, 90] deg, but {text!r} has {_shown(dec)} deg.")
    degrees = float(ra)
    return Position(0.0 if degrees == 360 else degrees, float(dec), form)  # just below a full turn rounds to it


def _shown(value: Fraction) -> str:
    return f"{float(value):.10g}"
