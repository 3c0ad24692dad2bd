"""Figures: a name is shown as it is, and nothing is left of one that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike.figures import plotted


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_the_ending_gives_the_format(tmp_path: Path, ending: str) -> None:
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    with plotted(tmp_path / f"a{ending}", (2, 2)) as figure:
        figure.subplots().plot([1, 2])
    assert (tmp_path / f"a{ending}").read_bytes().startswith(begins[ending])


def test_dollar_signs_are_letters_but_where_formulas_are_asked_for(tmp_path: Path) -> None:
    with plotted(tmp_path / "a.svg", (4, 3)) as figure:
        figure.subplots().set_xlabel("$p_{T costs $5")
    assert "$p_{T costs $5" in (tmp_path / "a.svg").read_text()
    with plotted(tmp_path / "b.svg", (4, 3), formulas=True) as figure:
        figure.subplots().loglog([1, 1e6], [1, 1e6])
    assert "mathdefault{10^{4}}" in (tmp_path / "b.svg").read_text()  # in a comment beside the drawn 10⁴
    assert not (tmp_path / "b.svg").read_text().count(">$")
    with (
        pytest.raises(ValueError, match="ParseSyntaxException"),
        plotted(tmp_path / "c.svg", (4, 3), formulas=True) as f,
    ):
        f.subplots().set_xlabel("$p_{T costs $5")


def test_letters_without_a_glyph_warn_nobody(tmp_path: Path) -> None:
    with plotted(tmp_path / "a.png", (4, 3)) as figure:
        figure.subplots().set_xlabel("質量")
    assert (tmp_path / "a.png").exists()


def test_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), plotted(tmp_path / "a.png", (2, 2)) as figure:
        figure.subplots().plot([1 / 0])
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"older"]
