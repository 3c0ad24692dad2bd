"""Catalog filters against a slow evaluation of the same trees, object by object, in the three values of SQL.

pytest tests/test_indexer_where.py
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import InputError
from lookalike.indexer import where
from lookalike.indexer.where import DEPTH, LENGTH, OPS, VALUES, Where

KINDS = {"mag": "f", "size": "i", "label": "S", "odd `name": "f"}
TABLE: dict[str, list[Any]] = {
    "mag": [18.0, 20.0, math.nan, -math.inf, 19.999999, 0.0, -3.5, 1e300],
    "size": [3, 4, -1, 2**53 + 1, 0, 3, -(2**63), 7],
    "label": ["a", "it's", "", " ", "é", "b", 'say "x"', "and"],
    "odd `name": [1.0, math.inf, 2.5, -0.0, 0.0, math.nan, 3.0, 4.0],
}
COLUMNS = {name: np.array(values) for name, values in TABLE.items()}


@pytest.fixture(autouse=True, scope="module")
def _blocks_of_few_rows() -> Iterator[None]:
    before, where.BLOCK_ROWS = where.BLOCK_ROWS, 3
    yield
    where.BLOCK_ROWS = before


def holds(text: str) -> list[bool]:
    found: list[bool] = Where.parse(text, KINDS).holds(COLUMNS.__getitem__).tolist()
    return found


# a tree: ("cmp", column, op, value), ("in", column, values), ("null", column), ("not", tree) or ("and" | "or", [tree])


def value_of(value: Any) -> Any:
    undefined = not value.strip() if isinstance(value, str) else not math.isfinite(value)
    return None if undefined else value


def ordered(op: str, a: Any, b: Any) -> bool:
    less, same = (a < b, a == b) if not isinstance(a, str) else (False, a == b)
    if op in ("=", "=="):
        return same
    if op in ("!=", "<>"):
        return not same
    return {"<": less, "<=": less or same, ">": not less and not same, ">=": not less}[op]


def slow(tree: Any, row: dict[str, Any]) -> bool | None:
    """Of an object's values by column: True, False, or None where it is neither."""
    kind = tree[0]
    if kind == "not":
        inner = slow(tree[1], row)
        return None if inner is None else not inner
    if kind in ("and", "or"):
        values = [slow(part, row) for part in tree[1]]
        decisive = kind == "or"
        if decisive in values:
            return decisive
        return None if None in values else not decisive
    value = value_of(row[tree[1]])
    if kind == "null":
        return value is None
    if value is None:
        return None
    if not isinstance(value, str):  # Python compares fractions and whole numbers of any size exactly
        value = Fraction(value)
    fractions = tree[1] in ("mag", "odd `name")
    others = [float(other) if fractions else other for other in (tree[2] if kind == "in" else [tree[3]])]
    if kind == "in":
        return any(ordered("=", value, other) for other in others)
    return ordered(tree[2], value, others[0])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def written(tree: Any) -> str:
    kind = tree[0]
    if kind == "not":
        return f"not ({written(tree[1])})"
    if kind in ("and", "or"):
        return f" {kind.upper()} ".join(f"({written(part)})" for part in tree[1])
    column = "`" + tree[1].replace("`", "``") + "`"
    if kind == "null":
        return f"{column} is null"
    if kind == "in":
        return f"{column} in ({', '.join(map(literal, tree[2]))})"
    return f"{column}{tree[2]}{literal(tree[3])}"


def literal(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else repr(value)


# NumPy's texts end at their last sign that is no NUL, in files too.
TEXTS = st.text(max_size=4).filter(lambda text: not text.endswith("\0"))


def comparisons() -> st.SearchStrategy[Any]:
    floats = st.one_of(
        st.sampled_from([18.0, 20.0, 2.5, -3.5, 0.0, 1e300]), st.floats(allow_nan=False, allow_infinity=False)
    )
    ints = st.one_of(
        st.sampled_from([3, 2**53, 2**53 + 1, -(2**63), 2**63, 2**70, -(10**300)]),
        st.integers(-5, 8),
        st.integers(-(2**63), 2**63 - 1),
    )
    texts = st.sampled_from(["a", "it's", "", "é", 'say "x"', "and", "no"]) | TEXTS
    every = ["<", "<=", ">", ">=", "=", "==", "!=", "<>"]
    numbers = st.one_of(floats, ints)
    of_fractions = st.sampled_from(["mag", "odd `name"])
    return st.one_of(
        st.tuples(st.just("cmp"), of_fractions, st.sampled_from(every), numbers),
        st.tuples(st.just("in"), of_fractions, st.lists(numbers, min_size=1, max_size=4)),
        st.tuples(st.just("cmp"), st.just("size"), st.sampled_from(every), st.one_of(ints, floats)),
        st.tuples(st.just("cmp"), st.just("label"), st.sampled_from(["=", "==", "!=", "<>"]), texts),
        st.tuples(st.just("in"), st.just("size"), st.lists(numbers, min_size=1, max_size=4)),
        st.tuples(st.just("in"), st.just("label"), st.lists(texts, min_size=1, max_size=4)),
        st.tuples(st.just("null"), st.sampled_from(list(KINDS))),
    )


TREES = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


OBJECTS = st.fixed_dictionaries(
    {
        "mag": st.floats() | st.sampled_from([18.0, 20.0, -0.0, 2.0**53]),
        "size": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([3, 2**53, 2**53 + 1]),
        "label": TEXTS | st.sampled_from(["a", "it's", " ", "\u2003", "and"]),
        "odd `name": st.floats(),
    }
)


@given(TREES, st.lists(OBJECTS, max_size=7))
def test_a_filter_equals_the_slow_definition(tree: Any, drawn: list[dict[str, Any]]) -> None:
    kept = [dict(zip(TABLE, values, strict=True)) for values in zip(*TABLE.values(), strict=True)]
    rows, types = [*kept, *drawn], {"f": np.float64, "i": np.int64, "S": np.str_}
    columns = {name: np.array([row[name] for row in rows], types[kind]) for name, kind in KINDS.items()}
    found = Where.parse(written(tree), KINDS).holds(columns.__getitem__)
    assert found.tolist() == [slow(tree, row) is True for row in rows]
    none = {name: values[:0] for name, values in columns.items()}
    assert Where.parse(written(tree), KINDS).holds(none.__getitem__).tolist() == []


@pytest.mark.parametrize(
    "text",
    [
        "size in (" + ",".join(map(str, range(900))) + ")",
        " or ".join(f"mag={one}" for one in range(300)),
        "not (label in (" + ",".join(f"'t{one}'" for one in range(400)) + "))",
    ],
)
def test_a_long_filter_takes_little_memory(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 300_000
    columns = {"size": np.arange(n), "mag": np.arange(n, dtype=np.float64), "label": np.full(n, "t7")}
    monkeypatch.setattr(where, "BLOCK_ROWS", 2**12)
    parsed = Where.parse(text, KINDS)
    tracemalloc.start()
    parsed.holds(columns.__getitem__)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * n  # an array of truths for each comparison would be hundreds of bytes an object


def test_a_long_number_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="a number, a column"):
        Where.parse("mag < " + "1" * 3900 + "x", KINDS)
    assert time.process_time() - began < 0.1


PIECES = [
    *OPS, "mag", "label", "(", ")", ",", "not", "in", "is", "null", "and", "or", "1", "-2.5", "'x'", "`odd ``name`",
    "$", "`", "'", "\n", "\u2028",
]  # fmt: skip


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))
def test_any_text_is_a_filter_or_an_error_that_names_the_place(text: str) -> None:
    said = ""
    try:
        Where.parse(text, KINDS)
    except InputError as error:
        said = error.message
    assert said == "" or (said.startswith("The filter cannot be read at ") and "mag, size, label, odd `name" in said)
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("18 < mag <= 20", "mag > 18 and mag <= 20"),
        ("20 >= mag", "mag <= 20"),
        ("3 = size", "size == 3"),
        ("mag < 20 or size > 3 and label = 'a'", "mag < 20 or (size > 3 and label = 'a')"),
        ("not mag < 20 and size > 3", "(not (mag < 20)) and size > 3"),
        ("size NOT IN (3, 4)", "not (size in (3, 4))"),
        ("mag Is Not Null", "not (mag is null)"),
        ('label = "it\'s"', "label = 'it''s'"),
        ('label = "say ""x"""', "label = 'say \"x\"'"),
        ("mag<2e1", "mag < 20"),
        ("size = 3.0", "size = 3"),
    ],
)
def test_ways_to_write_the_same(text: str, same: str) -> None:
    assert holds(text) == holds(same)


def test_what_has_no_value_passes_neither_a_comparison_nor_its_opposite() -> None:
    for text in ("mag < 20", "not mag < 20", "mag != 20", "not mag = 20", "mag not in (1)", "not (mag in (1))"):
        assert not holds(text)[2]
        assert not holds(text)[3]
    assert holds("mag is null") == [row in (2, 3) for row in range(8)]
    assert holds("mag is null or mag < 20")[2]


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("", "its end", "a column was expected, but it ends here"),
        ("mag <", "its end", "a number to compare mag with was expected"),
        ("mag < 20 and siz > 3", "character 14 (`siz > 3`)", "Unknown column 'siz'. Did you mean 'size'?"),
        ("label < 'a'", "character 7", "label holds text, which takes = and != only, not <"),
        ("mag = 'x'", "character 7", "a number to compare mag with was expected, but `'x'` was given"),
        ("label = 3", "character 9", "a text in quotes to compare label with was expected, but `3` was given"),
        ("mag < 20)", "character 9", "`and`, `or` or the end was expected"),
        ("(mag < 20", "its end", "`)` was expected"),
        ("mag < 20 size", "character 10", "`and`, `or` or the end was expected"),
        ("label = 'abc", "character 9", "this ' is never closed"),
        ("mag < 2.5x", "character 7", "a number, a column"),
        ("mag < 1e999", "character 7", "beyond the numbers there are"),
        ("mag < mag", "character 7", "a number to compare mag with"),
        ("mag", "its end", "a comparison, `in` or `is null` was expected"),
        ("size in ()", "character 10", "a number to compare size with"),
        ("mag is 3", "character 8", "`null` or `not null` was expected"),
        ("__import__('os')", "character 1", "Unknown column '__import__'"),
        ("(" * (DEPTH + 1) + "mag < 1" + ")" * (DEPTH + 1), f"character {DEPTH + 1}", f"at most {DEPTH} deep"),
        ("not " * (DEPTH + 1) + "mag < 1", f"character {4 * DEPTH + 1}", f"at most {DEPTH} deep"),
        (f"size in ({','.join('1' * (VALUES + 1))})", "character", f"at most {VALUES} values"),
    ],
)
def test_an_error_names_the_place_and_the_rule(text: str, place: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        Where.parse(text, KINDS)
    assert f"at {place}" in caught.value.message
    assert rule in caught.value.message


def test_a_filter_has_a_length() -> None:
    assert holds("mag < 20" + " " * (LENGTH - 8)) == holds("mag < 20")
    with pytest.raises(InputError, match=f"at most {LENGTH} characters"):
        Where.parse("mag < 20" + " " * LENGTH, KINDS)


def test_each_column_is_looked_up_once_and_only_if_named() -> None:
    asked: list[str] = []

    def lookup(name: str) -> Any:
        asked.append(name)
        return COLUMNS[name]

    Where.parse("mag < 20 and (mag > 18 or size = 3)", KINDS).holds(lookup)
    assert asked == ["mag", "size"]
