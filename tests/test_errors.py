"""What an unknown name is answered with."""

from __future__ import annotations

from lookalike.errors import unknown


def test_of_many_choices_those_most_alike_come_first() -> None:
    names = [f"c{i}" for i in range(90)] + ["mag_r", "mag_g"]
    message = unknown("column", "mag_q", names).message
    listed = message.split("Choices: ")[1].removesuffix(" and 80 more.").split(", ")
    assert set(listed[:2]) == {"mag_r", "mag_g"}
    assert listed[2:] == names[:10]
