"""How counts and rules are said, alike wherever a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

# pydantic's types of faults → our rule, with the limits it names
RULES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must hold named values",
    "model_type": "must hold named values",
    "too_short": "must hold at least {min_length} values",
    "too_long": "must hold at most {max_length} values",
}


def a(noun: str) -> str:
    """The noun with its article: a jet, an electron."""
    return f"{'an' if noun[:1] in tuple('aeiou') else 'a'} {noun}"


def in_one_line(error: BaseException) -> str:
    """What an error says in its first line, and in those that this runs on into; its type where it says nothing."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    while first.endswith((",", ":")) and more:
        first = f"{first} {more.pop(0).strip()}"
    return first


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 object`, `2,103 objects`; `plural` where it does not just end in s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def at_most(value: float) -> str:
    """A number of one digit that a value from 0 up does not exceed, the next one up: `2e-05` for 1.04e-5."""
    exact = Decimal(value)
    if not exact:
        return "0"
    return f"{float(exact.quantize(Decimal(1).scaleb(exact.adjusted()), rounding=ROUND_CEILING)):g}"


def rule(fault: Mapping[str, Any]) -> str | None:
    """What a value must be, from one of pydantic's faults: `must be at least 1`; None for a kind not worded here."""
    text = RULES.get(str(fault["type"]))
    return None if text is None else text.format(**{key: _limit(value) for key, value in fault.get("ctx", {}).items()})


def _limit(value: object) -> str:
    """A limit as people write it: 1 for 1.0."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def top_share(share: float | None, below: bool = False) -> str:
    """Among which share of random pairs one is, to two digits and never too few: `top 0.1 %`; "" where unknown."""
    if share is None:
        return ""
    percent = Decimal(repr(share)) * 100
    percent = percent.quantize(Decimal(1).scaleb(percent.adjusted() - 1), rounding=ROUND_CEILING).normalize()
    return f"top {'< ' if below else ''}{percent:f} %"
