"""Ids like a wrong one: found as by looking at all of them, but in few lookups."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.near_ids import BEAM, MOST_EDITS, SUGGESTED, NearIds

names = st.text("abAB01-", min_size=1, max_size=6)
sets = st.lists(names, min_size=1, max_size=40, unique=True)


def known(ids: Iterable[str]) -> NearIds:
    stored = np.array(list(ids), "S")
    return NearIds(stored, np.argsort(stored, kind="stable"))


def one_letter_apart(one: str, other: str) -> bool:
    """Whether deleting, adding or changing a letter, or exchanging two neighboring ones, leads from one to other."""
    deleted = {one[:i] + one[i + 1 :] for i in range(len(one))}
    added = one in {other[:i] + other[i + 1 :] for i in range(len(other))}
    changed = len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
    exchanged = {one[:i] + one[i + 1] + one[i] + one[i + 2 :] for i in range(len(one) - 1)}
    return other in deleted or added or changed or other in exchanged


def likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


@given(sets, st.text(max_size=9) | names)
def test_a_row_is_that_of_the_id_and_no_other(ids: list[str], name: str) -> None:
    assert known(ids).row(name) == (ids.index(name) if name in ids else None)


@given(sets, names)
def test_what_is_nearest_is_found_as_by_looking_at_all(ids: list[str], name: str) -> None:
    ids = [id for id in ids if id != name]
    if not ids:
        return
    found = known(ids).near(name)
    assert set(found) <= set(ids)
    assert len(found) == len(set(found)) <= SUGGESTED
    if same := [id for id in ids if id.lower() == name.lower()]:
        assert set(found) & set(same)
    elif apart := [likeness(name, id) for id in ids if one_letter_apart(name, id)]:
        digits = "".join(found[0].split("0")) == "".join(name.split("0"))  # zeros before a number go first
        assert digits or likeness(name, found[0]) >= max(apart)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("photo_17.png", "Did you mean 'photo_17'? Ids are file names without their ending."),
        ("my photo (1).jpg", "Did you mean 'my_photo__1_'? Ids are file names without their ending."),
        ("photo_99999", "Did you mean 'photo_9999'?"),
        ("photo_0017", "Did you mean 'photo_17'?"),
        ("PHOTO_17", "Did you mean 'photo_17'?"),
        ("phtoo_17", "Did you mean 'photo_17'?"),
        ("hoto_17", "Did you mean 'photo_17'?"),
        ("ngc 4414", "Did you mean 'NGC-4414'?"),
        ("ngc-4414", "Did you mean 'NGC-4414'?"),
        ("photo_17" * 8, "An id here is, for instance, 'my_photo__1_'."),
        ("x" * 5000, "An id here is, for instance, 'my_photo__1_'."),
        ("@é", "An id here is, for instance, 'my_photo__1_'."),
        ("\udcff", "An id here is, for instance, 'my_photo__1_'."),
        ("", "An id here is, for instance, 'my_photo__1_'."),
    ],
)
def test_a_wrong_id_is_answered_with_one_that_is_there(name: str, hint: str) -> None:
    near = known(["my_photo__1_", "NGC-4414", *(f"photo_{i}" for i in range(20_000))])
    assert near.row(name) is None
    assert near.hint(name) == hint


@pytest.mark.parametrize("name", ["a" * 64, "A" * 64, "b" * 63 + "0", "0" * 64, "a0" * 32])
def test_few_ids_are_looked_at_however_long_the_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    capitals = [f"{number:064b}".translate({48: "a", 49: "A"}) for number in range(3000)]
    near = known([*capitals, *(id[:-1] + "b" for id in capitals), *(f"{number:064d}" for number in range(1, 3000))])
    looked, search = [], np.searchsorted

    def counting(ids: Any, wanted: Any, **more: Any) -> Any:
        looked.append(np.size(wanted))
        return search(ids, wanted, **more)

    monkeypatch.setattr(np, "searchsorted", counting)
    near.hint(name)
    assert 0 < sum(looked) <= 3 * (MOST_EDITS + 64 * 2 * BEAM + 200)
