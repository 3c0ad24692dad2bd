"""What an answer says of itself where it holds fewer results than were asked for."""

from __future__ import annotations

from collections.abc import Mapping

from lookalike.indexer.answer import Found
from lookalike.indexer.conditions import Conditions
from lookalike.wording import counted


def too_few(
    found: Found, conditions: Conditions, last: int, who: str = "", at: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Why fewer than `last` were found.

    who : whose values the windows lie around, as in "o4 has"; "" for a query with none.
    """
    for placed in conditions.windows:
        if not len(placed.scaled):
            name = placed.window.column
            one = who.endswith(" has")
            return (
                f"{who} no {name}, so {'it is' if one else 'they are'} in no window: `--at {name}=VALUE` on the "
                f"command line places {'it' if one else 'them'} in one, and `--within none` finds "
                f"{'its' if one else 'their'} likes among all.",
            )
    if len(found.rows) >= last:
        return ()
    number = len(found.rows) if found.candidates is None or found.rows.size else found.candidates
    if not conditions:
        return (f"Only {_are(number, 'other object' if who else 'object')} {'not left out' if who else 'to find'}.",)
    return (f"Only {_are(number, 'object')} {conditions.words}{' and not left out' if who else ''}.",)


def _are(number: int, noun: str) -> str:
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
