"""The plots of the reports: what stands beside the axis is all within the picture."""

from __future__ import annotations

import re

from lookalike.probes.plots import LEFT, Mark, interval_plot

PHONE = 10.5  # px a character takes at the larger font of a narrow screen


def test_a_long_label_is_wrapped_within_the_margin() -> None:
    label = "all but extinction, blur, noise"
    plot = interval_plot([("rotation", [Mark(0, 0.5, 0.4, 0.6, "x")]), (label, [Mark(0, 0.5, 0.4, 0.6, "x")])], "t")
    found = re.findall(r'<text class="label"[^>]*>(.*?)</text>', plot)
    lines = [re.findall(r">([^<]+)</tspan>", text) for text in found]
    assert [" ".join(each) for each in lines] == ["rotation", label]
    assert max(len(line) for each in lines for line in each) * PHONE <= LEFT - 12


def test_a_word_longer_than_the_margin_is_broken_and_nothing_of_it_lost() -> None:
    label = "all but smear_constituents_of_jets"
    plot = interval_plot([(label, [Mark(0, 0.5, 0.4, 0.6, "x")])], "t")
    lines = re.findall(r">([^<]+)</tspan>", plot)
    assert "".join(lines).replace(" ", "") == label.replace(" ", "")
    assert max(map(len, lines)) * PHONE <= LEFT - 12
