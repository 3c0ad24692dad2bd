"""Texts in CSV files that a spreadsheet shows and does not run (OWASP, "CSV Injection")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# A spreadsheet takes a cell that begins so for a formula, unless all of it is a number.
FORMULA = r"^[=+\-@\t\r\n]"
NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def escaped(text: str) -> str:
    """A text as a CSV cell: with a ' before it where a spreadsheet would run it."""
    runs = re.match(FORMULA, text) and not re.fullmatch(NUMBER, text)
    return f"'{text}" if runs else text


def escaped_all(texts: pa.Array) -> pa.Array:
    """Texts (N,), plain or large strings, each as `escaped` has it; null stays null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    quote, nothing = pa.scalar("'", texts.type), pa.scalar("", texts.type)
    runs = pc.and_not(pc.match_substring_regex(texts, FORMULA), pc.match_substring_regex(texts, NUMBER))
    return pc.if_else(runs, pc.binary_join_element_wise(quote, texts, nothing), texts)
