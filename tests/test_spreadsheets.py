"""What a spreadsheet would run is escaped, one text at a time and all at once alike.

pytest tests/test_spreadsheets.py
"""

from __future__ import annotations

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.spreadsheets import escaped, escaped_all


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("-x", "'-x"),
        ("-", "'-"),
        ("\tx", "'\tx"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("-1\n", "'-1\n"),
        ("-1 +2", "'-1 +2"),
        ("-٣", "'-٣"),
        ("-inf", "'-inf"),
        # Numbers, and what begins otherwise, are left.
        ("-2.5", "-2.5"),
        ("+3", "+3"),
        ("-1e5", "-1e5"),
        ("-.5E-3", "-.5E-3"),
        ("-4.", "-4."),
        ("", ""),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        (" =1", " =1"),
    ],
)
def test_formulas_are_escaped_and_numbers_are_left(text: str, cell: str) -> None:
    assert escaped(text) == cell
    for kind in (pyarrow.string(), pyarrow.large_string()):
        made = escaped_all(pyarrow.array([text, None], kind))
        assert (made.to_pylist(), made.type) == ([cell, None], kind)


signed = st.floats().map(str) | st.integers().map("{:+d}".format)


@given(st.lists(st.text(max_size=6) | st.from_regex(r"[=+\-@\t\r\n].*") | signed, min_size=1, max_size=20))
def test_no_text_is_left_that_a_spreadsheet_would_run(texts: list[str]) -> None:
    made = escaped_all(pyarrow.array(texts)).to_pylist()
    assert made == [escaped(text) for text in texts]
    for before, after in zip(texts, made, strict=True):
        assert after in (before, "'" + before)
        if after.startswith(tuple("=+-@\t\r\n")):
            float(after)  # numbers alone may begin so
        elif after != before:
            assert before[0] in "=+-@\t\r\n"
