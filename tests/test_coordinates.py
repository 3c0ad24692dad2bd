"""Positions and angles are read as people write them, exactly, and nothing else is.

pytest tests/test_coordinates.py
"""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lookalike.coordinates import check_position, parse_angle, parse_position
from lookalike.errors import InputError

# 10h 00m 24s is 150.1 deg, 02d 12m 00s is 2.2 deg.
FORMS = [
    "150.1 2.2",
    "150.1 +2.2",
    "150.1,2.2",
    " 150.1 ; 2.2 ",
    "(150.1, 2.2)",
    "[150.1 2.2]",
    "+150.1 +2.2",
    "150.1\t+2.2",
    "150.1\u00a0\uff0b2.2",
    "150.1d +2.2d",
    "150.1deg, 2.2 deg",
    "150.1 degrees +2.2 degrees",
    "150.1° +2.2°",
    "1.501e2 22e-1",
    "10:00:24 +02:12:00",
    "10:00:24 02:12:00",
    "10:00:24+02:12:00",
    "10:00:24,02:12:00",
    "10:00.4 +02:12",
    "10:0:24.000 +2:12:0.0",
    "10:00:24 2.2",
    "10:00:24 +2.2d",
    "10 00 24 +02 12 00",
    "10 00 24 02 12 00",
    "10 00 24, 02 12 00",
    "10 00.4 +02 12",
    "10 00 24 + 02 12 00",
    "10h00m24s +02d12m00s",
    "10h00m24s+02d12m00s",
    "10H00M24S +02D12M00S",
    "10h 00m 24s +02° 12′ 00″",
    "10 h 00 m 24 s, 2 d 12 m 0 s",
    "10h00m24 +02d12'",
    "10h0.4m 2d12m",
    "150d06m00s +02d12m00s",
    "J100024+021200",
    "J100024.0+021200.0",
    "SDSS J100024.00+021200.0",
    "2MASX J10002400+0212000",
    "j1000.4+0212",
    "WISEA J100024.00+021200.0",
]


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_one_position_is_that_position(text: str) -> None:
    found = parse_position(text)
    assert (found.ra, found.dec) == (150.1, 2.2)
    assert (found.form == "degrees") == text.strip("([ +").startswith(("150", "1.5"))


@pytest.mark.parametrize("minus", ["-", "\u2212", "\u2013", "\u2010", "\ufe63", "\uff0d"])
@pytest.mark.parametrize("text", ["0:0:0 {}00:30:00", "0h0m0s {}0d30m", "0 0 0 {}0 30 0", "0 {}0.5", "J000000{}003000"])
def test_the_sign_of_minus_zero_counts(text: str, minus: str) -> None:
    assert parse_position(text.format(minus)).dec == -0.5


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "A position is written as 150.1 +2.2 in degrees, 10:00:24 "),
        ("M31", "A position is written as"),
        ("150.1", "A position is written as"),
        ("150.1 2.2 3.3", "A position is written as"),
        ("150,1 2,2", "A position is written as"),
        ("10 00 02 12", "A position is written as"),  # minutes, or two numbers more
        ("10 00 24 +02 12 +00", "A position is written as"),
        ("1 0h0m0s, 2", "A position is written as"),  # not 10h
        ("10:00 24 +2", "A position is written as"),
        ("10h 00 24 +2", "A position is written as"),
        ("10h00m 2 4s +2", "A position is written as"),
        ("10 00 24 00 +02 12 00", "A position is written as"),
        ("nan nan", "A position is written as"),
        ("inf 2", "A position is written as"),
        ("1e999 2", "A position is written as"),
        ("150.1 2.2h", "A position is written as"),
        ("٣٤.٥ 2", "A position is written as"),
        ("9" * 200, "A position is written as"),
        ("10:60:00 +2", "Minutes and seconds are below 60"),
        ("10:00:00 +02:00:60", "Minutes and seconds are below 60"),
        ("J106000+020000", "Minutes and seconds are below 60"),
        ("10.5:30 +2", "Only the last part"),
        ("10h0.5m3s +2", "Only the last part"),
        ("360 0", "ra lies in [0, 360) deg or [0, 24) h, but '360 0' has 360 deg"),
        ("-0.1 0", "ra lies in [0, 360)"),
        ("24:00:00 0", "ra lies in"),
        ("150:06:00 2:12:00", "has 2251.5 deg"),
        ("10 90.0001", "dec lies in [−90, 90] deg"),
        ("10 -90:00:01", "dec lies in [−90, 90] deg"),
    ],
)
def test_anything_else_is_an_error_that_names_rule_and_value(text: str, rule: str) -> None:
    with pytest.raises(InputError, match=re.escape(rule)) as raised:
        parse_position(text)
    assert "\n" not in raised.value.message
    assert repr(text)[1:-1][:90] in raised.value.message


def test_the_ends_of_the_ranges_belong_to_them() -> None:
    assert parse_position("0 90").dec == 90
    assert parse_position("0 -90:00:00").dec == -90
    assert parse_position("359.99999999999999999999 0").ra == 0  # what it rounds to is a full turn
    assert parse_position("23:59:59.999 0").ra < 360


whole = st.integers(0, 59)
fraction = st.text("0123456789", max_size=12)


@given(st.integers(0, 23), whole, whole, fraction, st.sampled_from("+-−"), st.integers(0, 89), whole, whole, fraction)
def test_sexagesimal_numbers_are_exact_in_every_form(
    h: int, m: int, s: int, f: str, sign: str, d: int, arcmin: int, arcsec: int, g: str
) -> None:
    ra = 15 * (Fraction(h) + Fraction(m, 60) + Fraction(f"{s}.{f or 0}") / 3600)
    dec = Fraction(d) + Fraction(arcmin, 60) + Fraction(f"{arcsec}.{g or 0}") / 3600
    wanted = (float(ra) % 360, float(dec) * (1 if sign == "+" else -1))
    seconds, arcseconds = f"{s:02d}.{f}" if f else f"{s:02d}", f"{arcsec:02d}.{g}" if g else f"{arcsec:02d}"
    for text in (
        f"{h:02d}:{m:02d}:{seconds} {sign}{d:02d}:{arcmin:02d}:{arcseconds}",
        f"{h} {m} {seconds} {sign}{d} {arcmin} {arcseconds}",
        f"{h}h{m}m{seconds}s{sign}{d}d{arcmin}m{arcseconds}s",
        f"{h}h {m}m {seconds}s, {sign}{d}° {arcmin}' {arcseconds}\"",
        f"SDSS J{h:02d}{m:02d}{seconds}{sign}{d:02d}{arcmin:02d}{arcseconds}",
    ):
        found = parse_position(text)
        assert (found.ra, found.dec) == wanted, text


@given(st.floats(0, 360, exclude_max=True), st.floats(-90, 90))
def test_decimal_degrees_are_read_back_as_they_were(ra: float, dec: float) -> None:
    found = parse_position(f"{ra:.25f} {dec:+.25f}")
    assert abs(found.ra - ra) <= 1e-25
    assert abs(found.dec - dec) <= 1e-25
    if ra > 1e-9 and abs(dec) > 1e-9:
        again = parse_position(f"{ra!r}, {dec!r}")
        assert (again.ra, again.dec) == (ra, dec)


@given(st.text("0123456789+-−. :,;hdms°'\"Je\t()", max_size=40) | st.text(max_size=120))
def test_whatever_is_typed_is_a_position_in_range_or_an_error(text: str) -> None:
    for parse in (parse_position, parse_angle):
        try:
            found = parse(text)
        except InputError:
            continue
        if isinstance(found, float):
            assert 0 <= found <= 180
        else:
            check_position(found.ra, found.dec)


sexagesimal = st.tuples(whole, whole, fraction).map(lambda parts: (f"{parts[0]:02d}", f"{parts[1]:02d}", parts[2]))


@given(st.integers(0, 23), sexagesimal, st.sampled_from("+-"), st.integers(0, 89), sexagesimal)
@example(0, ("00", "00", ""), "-", 90, ("00", "00", ""))
@example(23, ("59", "59", "999999999999"), "+", 89, ("59", "59", "999999999999"))
@example(12, ("00", "00", ""), "-", 0, ("30", "15", ""))
def test_it_agrees_with_astropy(
    hours: int, across: tuple[str, str, str], sign: str, degrees: int, along: tuple[str, str, str]
) -> None:
    coordinates = pytest.importorskip("astropy.coordinates")
    jparser = pytest.importorskip("astropy.coordinates.jparser")
    h, d = f"{hours:02d}", f"{sign}{degrees:02d}"
    m, s = across[0], f"{across[1]}.{across[2] or 0}"
    arcmin, arcsec = along[0], f"{along[1]}.{along[2] or 0}"
    known = coordinates.SkyCoord(f"{h}:{m}:{s} {d}:{arcmin}:{arcsec}", unit=("hourangle", "deg"))
    unicode = d.replace("-", "−")
    forms = [
        (f"{h} {m} {s} {d} {arcmin} {arcsec}", known),
        (f"{h}:{m}:{s}, {unicode}:{arcmin}:{arcsec}", known),
        (f"{h}h{m}m{s}s {d}d{arcmin}m{arcsec}s", coordinates.SkyCoord(f"{h}h{m}m{s}s {d}d{arcmin}m{arcsec}s")),
        (f"{float(known.ra.deg)!r} {float(known.dec.deg)!r}", known),
        (f"{known.ra.deg:.20f}, {known.dec.deg:+.20f}", known),
    ]
    if len(across[2]) <= 3 and len(along[2]) <= 3:
        named = f"J{h}{m}{s}{d}{arcmin}{arcsec}"
        forms.append((named, jparser.to_skycoord(named)))
    for text, other in forms:
        found = parse_position(text)
        apart = abs(found.ra - other.ra.deg)
        assert min(apart, 360 - apart) < 1e-12, text
        assert abs(found.dec - other.dec.deg) < 1e-12, text


@given(st.integers(24, 99), st.sampled_from(["{}:00:00 +1", "{} 00 00 +1 0 0", "{}h +1d", "J{}0000+010000"]))
def test_a_whole_turn_or_more_is_refused_where_astropy_wraps_it(hours: int, form: str) -> None:
    with pytest.raises(InputError, match=r"ra lies in \[0, 360\) deg or \[0, 24\) h"):
        parse_position(form.format(hours))


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("5arcsec", 5 / 3600),
        ("5 arcsec", 5 / 3600),
        ('5"', 5 / 3600),
        ("5″", 5 / 3600),
        ("5''", 5 / 3600),
        ("2arcmin", 2 / 60),
        ("2'", 2 / 60),
        ("0.5deg", 0.5),
        ("0.5 d", 0.5),
        (".5°", 0.5),
        ("300mas", 300 / 3.6e6),
        ("3e2 MAS", 300 / 3.6e6),
        ("180deg", 180.0),
        ("0arcsec", 0.0),
    ],
)
def test_angles_have_units(text: str, degrees: float) -> None:
    assert parse_angle(text) == degrees


@pytest.mark.parametrize("text", ["5", "", "arcsec", "-5arcsec", "5 parsec", "nan deg", "1e99deg", "180.1deg", "5m"])
def test_anything_else_is_no_angle(text: str) -> None:
    with pytest.raises(InputError, match="angle"):
        parse_angle(text)


@pytest.mark.parametrize(
    ("ra", "dec"), [(360.0, 0.0), (-1e-9, 0.0), (0.0, 90.1), (float("nan"), 0.0), (0.0, float("nan"))]
)
def test_positions_given_as_numbers_are_checked_too(ra: float, dec: float) -> None:
    with pytest.raises(InputError, match="lies in"):
        check_position(ra, dec)
