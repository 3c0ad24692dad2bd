"""Counts agree with their nouns, wherever the package says how many objects there are."""

from __future__ import annotations

import ast
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lookalike.wording import a, at_most, counted, in_one_line


@given(st.floats(1e-15, 1e3))
@example(1.04e-5)
@example(9.7e-4)
@example(0.3)
def test_at_most_is_a_number_of_one_digit_and_never_below(value: float) -> None:
    said = Decimal(at_most(value))
    assert Decimal(value) <= said
    assert said == Decimal(f"{said:.0e}")
    assert said < Decimal(value) + Decimal(1).scaleb(Decimal(value).adjusted())


def test_at_most_in_words() -> None:
    assert [at_most(value) for value in (0.0, 1.04e-5, 2.5e-5, 9.7e-4, 0.25, 1.0)] == [
        "0", "2e-05", "3e-05", "0.001", "0.3", "1"
    ]  # fmt: skip


PACKAGE = Path(__file__).resolve().parent.parent / "lookalike"
FILES = sorted(PACKAGE.rglob("*.py"))
# Where there are at least two, since fewer were refused before.
NEVER_ONE = {"settings.py", "defaults.py", "embed.py", "embed_files.py", "quality.py"}


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("object",), "0 objects"),
        (1, ("object",), "1 object"),
        (2103, ("object",), "2,103 objects"),
        (1, ("galaxy", "galaxies"), "1 galaxy"),
        (2, ("query", "queries"), "2 queries"),
        (1, ("object has", "objects have"), "1 object has"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_number_of_objects_is_said_without_regard_to_one(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr) and path.name not in NEVER_ONE:
            for value, text in zip(node.values, node.values[1:], strict=False):
                said = isinstance(text, ast.Constant) and str(text.value).startswith(" objects")
                if isinstance(value, ast.FormattedValue) and said:
                    limit = isinstance(value.value, ast.Name) and value.value.id.isupper()
                    assert limit, f"line {node.lineno}: use wording.counted"


def test_one_object_is_one_object(tmp_path: Path, lookalike: object) -> None:
    np.save(tmp_path / "a.npy", np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8))
    (tmp_path / "t.csv").write_text('mag,size\n"",1\n')
    done = lookalike("ingest", "numpy", "a.npy", "--catalog", "t.csv", "--out", "s.h5", cwd=tmp_path)  # type: ignore[operator]
    assert done.stdout == "1 object in s.h5\n"
    assert "of 1 object: mag 1." in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no such tree\nfor file x.root", "no such tree"),
        (
            "expected Chunk of length 40,\n  received Chunk of length 9\nfor file x",
            "expected Chunk of length 40, received Chunk of length 9",
        ),
        ("it ends:", "it ends:"),
        ("", "ValueError"),
    ],
)
def test_an_error_is_said_in_one_line(text: str, said: str) -> None:
    assert in_one_line(ValueError(text)) == said


def test_an_article_goes_by_the_first_letter() -> None:
    assert [a(noun) for noun in ("jet", "electron", "muon", "other", "tau")] == [
        "a jet",
        "an electron",
        "a muon",
        "an other",
        "a tau",
    ]
