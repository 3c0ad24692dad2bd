"""Filters by the catalog, such as `mag < 20 and size > 3`: a small grammar of its own, parsed and never executed.

    either      = both { "or" both }
    both        = not { "and" not }
    not         = "not" not | "(" either ")" | comparison
    comparison  = column op value | value op column [ op value ]
                | column [ "not" ] "in" "(" value { "," value } ")"
                | column "is" [ "not" ] "null"
    op          = "<" | "<=" | ">" | ">=" | "=" | "==" | "!=" | "<>"; texts take the last four
    column      = a name of letters, digits, "_" and "." that begins with a letter or "_", or any name in `backquotes`
    value       = a number, or a text in 'single' or "double" quotes; a mark is doubled to stand in what it closes

A value that is undefined (NaN, an infinity, a blank text) compares with nothing: such a comparison is neither true nor
false, nor is its `not`, and only what is true passes, as in SQL. So `mag < 20` and `not mag < 20` both leave out what
has no mag; `mag is null` finds it. Numbers are compared as float64 in columns of fractions, exactly in those of whole
numbers, where one with a point or an exponent stands for the float64 nearest to it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import FEW, LISTED, InputError, unknown

LENGTH, DEPTH, VALUES = 4000, 50, 1000  # characters of a filter, brackets and nots within each other, values of an in
BLOCK_ROWS = 2**16  # judged at once: a filter has hundreds of comparisons, and each takes an array of their length

Bools = NDArray[np.bool_]
Lookup = Callable[[str], NDArray[Any]]  # the values (n,) of a column
Value = int | float | str

OPS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne,
}  # fmt: skip
OF_TEXT = ("=", "==", "!=", "<>")
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
KEYWORDS = ("and", "or", "not", "in", "is", "null")
TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<quoted>`(?:[^`]|``)*`)"
    r"|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<sign><=|>=|<>|==|!=|[<>=(),]))"
)


@dataclass(frozen=True)
class _Token:
    kind: str  # number, name, quoted, text, sign, keyword or end
    text: str
    start: int  # place in the filter, from 0


@dataclass(frozen=True)
class _Compare:
    column: str
    op: str
    value: Value


@dataclass(frozen=True)
class _In:
    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class _Null:
    column: str


@dataclass(frozen=True)
class _Not:
    inner: _Node


@dataclass(frozen=True)
class _All:
    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Any:
    parts: tuple[_Node, ...]


_Node = _Compare | _In | _Null | _Not | _All | _Any


@dataclass(frozen=True)
class Where:
    """A parsed filter: `text` as it was given, `columns` that it names, each once, in order."""

    text: str
    columns: tuple[str, ...]
    _root: _Node

    @classmethod
    def parse(cls, text: str, kinds: Mapping[str, str]) -> Where:
        """Read a filter; InputError names the place and the rule.

        kinds : of the columns there are: "f" fractions, "i" whole numbers, "S" text.
        """
        return _Parser(text, kinds).whole()

    def holds(self, lookup: Lookup) -> Bools:
        """Where it is true (n,), of objects whose columns `lookup` gives as values (n,), each read once."""
        values = {name: lookup(name) for name in self.columns}
        found = np.empty(len(values[self.columns[0]]), np.bool_)
        for start in range(0, len(found), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            found[rows] = _judge(self._root, {name: column[rows] for name, column in values.items()})[0]
        return found


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str, kinds: Mapping[str, str]) -> None:
        if len(text) > LENGTH:
            raise InputError(
                f"A filter has at most {LENGTH} characters, but this one has {len(text)}.", code="invalid_where"
            )
        self._text, self._kinds = text, kinds
        self._tokens = self._split()
        self._place, self._depth = 0, 0
        self._columns: dict[str, None] = {}

    def whole(self) -> Where:
        root = self._either()
        if self._next.kind != "end":
            raise self._expected("`and`, `or` or the end")
        return Where(self._text, tuple(self._columns), root)

    def _split(self) -> list[_Token]:
        tokens, at, end = [], 0, len(self._text.rstrip())
        while at < end:
            found = TOKEN.match(self._text, at)
            if found is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                rule = "a number, a column, a text in quotes or a comparison is written here"
                if self._text[at] in "'\"`":
                    rule = f"this {self._text[at]} is never closed"
                raise self._wrong(at, rule)
            kind = str(found.lastgroup)
            text, start = found[kind], found.start(kind)
            if kind == "quoted":
                text = _unquoted(text)
            if kind == "name" and text.lower() in KEYWORDS:
                kind, text = "keyword", text.lower()
            tokens.append(_Token(kind, text, start))
            at = found.end()
        return [*tokens, _Token("end", "", end)]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *texts: str, kind: str = "") -> _Token | None:
        """The next token, if it is one of these signs or keywords, or of this kind."""
        token = self._next
        fits = token.kind == kind if kind else token.kind in ("sign", "keyword") and token.text in texts
        if not fits:
            return None
        self._place += 1
        return token

    def _either(self) -> _Node:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _Any(tuple(parts))

    def _both(self) -> _Node:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else _All(tuple(parts))

    def _not(self) -> _Node:
        opened = self._take("not", "(")
        if opened is None:
            return self._comparison()
        self._depth += 1
        if self._depth > DEPTH:
            raise self._wrong(opened.start, f"brackets and nots lie at most {DEPTH} deep")
        if opened.text == "not":
            inner: _Node = _Not(self._not())
        else:
            inner = self._either()
            if not self._take(")"):
                raise self._expected("`and`, `or` or `)`")
        self._depth -= 1
        return inner

    def _comparison(self) -> _Node:
        if self._next.kind in ("number", "text"):
            return self._turned()
        column = self._column()
        if self._take("is"):
            negated = self._take("not")
            if not self._take("null"):
                raise self._expected("`null`" if negated else "`null` or `not null`")
            return _Not(_Null(column)) if negated else _Null(column)
        if self._take("not"):
            if not self._take("in"):
                raise self._expected("`in`")
            return _Not(self._among(column))
        if self._take("in"):
            return self._among(column)
        op = self._op(column, "a comparison, `in` or `is null`")
        return _Compare(column, op, self._value(column))

    def _turned(self) -> _Node:
        """`20 > mag`, or `18 < mag < 20`."""
        place = self._place
        self._place += 1
        self._op(None, "a comparison")
        column = self._column()
        after, self._place = self._place, place  # now that its column is known, the beginning is read
        value = self._value(column)
        op = self._op(column, "a comparison")
        self._place = after
        first = _Compare(column, TURNED.get(op, op), value)
        if self._next.kind != "sign" or self._next.text not in OPS:
            return first
        return _All((first, _Compare(column, self._op(column, "a comparison"), self._value(column))))

    def _among(self, column: str) -> _In:
        if not self._take("("):
            raise self._expected("`(`")
        values = [self._value(column)]
        while self._take(","):
            values.append(self._value(column))
            if len(values) > VALUES:
                raise self._wrong(self._next.start, f"an `in` has at most {VALUES} values")
        if not self._take(")"):
            raise self._expected("`,` or `)`")
        return _In(column, tuple(values))

    def _column(self) -> str:
        token = self._take(kind="name") or self._take(kind="quoted")
        if token is None:
            raise self._expected("a column")
        if token.text not in self._kinds:
            error = unknown("column", token.text, self._kinds)
            raise InputError(f"{self._where(token.start)}: {error.message}", code=error.code)
        self._columns[token.text] = None
        return token.text

    def _op(self, column: str | None, wanted: str) -> str:
        token = self._take(*OPS)
        if token is None:
            raise self._expected(wanted)
        if column is not None and self._kinds[column] == "S" and token.text not in OF_TEXT:
            raise self._wrong(token.start, f"{column} holds text, which takes = and != only, not {token.text}")
        return token.text

    def _value(self, column: str) -> Value:
        wants_text = self._kinds[column] == "S"
        token = self._take(kind="text") if wants_text else self._take(kind="number")
        if token is None:
            raise self._expected(f"{'a text in quotes' if wants_text else 'a number'} to compare {column} with")
        if wants_text:
            return _unquoted(token.text)
        number = float(token.text)
        if not math.isfinite(number):
            raise self._wrong(token.start, f"{token.text} is beyond the numbers there are (float64)")
        whole = re.fullmatch(r"[+-]?[0-9]+", token.text) is not None
        return int(token.text) if whole else int(number) if number.is_integer() else number

    def _expected(self, what: str) -> InputError:
        token = self._next
        given = f"`{_shown(token.text)}` was given" if token.kind != "end" else "it ends here"
        return self._wrong(token.start, f"{what} was expected, but {given}")

    def _wrong(self, start: int, rule: str) -> InputError:
        names = list(self._kinds)
        more = f" and {len(names) - LISTED:,} more" if len(names) > FEW else ""
        there = (", ".join(names[:LISTED] if more else names) or "(none)") + more
        return InputError(f"{self._where(start)}: {rule}. Columns: {there}.", code="invalid_where")

    def _where(self, start: int) -> str:
        rest = _shown(self._text[start : start + 20])
        at = f"character {start + 1} (`{rest}`)" if rest else "its end"
        return f"The filter cannot be read at {at}"


def _unquoted(text: str) -> str:
    """What stands between two marks, a doubled one within it being one."""
    return text[1:-1].replace(text[0] * 2, text[0])


def _shown(text: str) -> str:
    """A piece of a filter within one line of a message."""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()


def _judge(node: _Node, values: Mapping[str, NDArray[Any]]) -> tuple[Bools, Bools]:
    """Where a filter is true (n,), and where it is false (n,); what is neither hangs on an undefined value."""
    match node:
        case _Not(inner):
            true, false = _judge(inner, values)
            return false, true
        case _All(parts):
            judged = [_judge(part, values) for part in parts]
            return (
                np.logical_and.reduce([true for true, _ in judged]),
                np.logical_or.reduce([false for _, false in judged]),
            )
        case _Any(parts):
            judged = [_judge(part, values) for part in parts]
            return (
                np.logical_or.reduce([true for true, _ in judged]),
                np.logical_and.reduce([false for _, false in judged]),
            )
        case _Null(column):
            defined = _defined(values[column])
            return ~defined, defined
        case _Compare(column, op, value):
            held = _compared(values[column], op, value)
            defined = _defined(values[column])
        case _In(column, among):
            held = _among(values[column], among)
            defined = _defined(values[column])
    return held & defined, ~held & defined


def _compared(values: NDArray[Any], op: str, value: Value) -> Bools:
    if values.dtype.kind == "f":
        value = float(value)
    with np.errstate(invalid="ignore"):
        return np.asarray(OPS[op](values, value), np.bool_)


def _among(values: NDArray[Any], among: tuple[Value, ...]) -> Bools:
    """Which of a column's values (n,) are one of some others."""
    if values.dtype.kind in "iu":  # what is no such number equals none
        bounds = np.iinfo(values.dtype)
        among = tuple(one for one in among if isinstance(one, int) and bounds.min <= one <= bounds.max)
    if not among:
        return np.zeros(len(values), np.bool_)
    ordered = np.sort(np.array(among, None if values.dtype.kind == "U" else values.dtype))
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: Bools = ordered[place] == values
    return found


def _defined(values: NDArray[Any]) -> Bools:
    """Where a column (n,) has a value."""
    if values.dtype.kind == "f":
        finite: Bools = np.isfinite(values)
        return finite
    if values.dtype.kind in "iu":
        return np.ones(len(values), np.bool_)
    written: Bools = np.char.strip(values.astype(np.str_)) != ""
    return written
