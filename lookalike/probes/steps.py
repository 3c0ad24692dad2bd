"""The steps of a domain's augmentation settings: which are on, and the settings with one of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lookalike.config import Config
from lookalike.errors import InputError, unknown


def switches(settings: Config) -> dict[str, bool]:
    """Every step of the settings, in their order, and whether it is on.

    A step is a part with a switch `enabled`. One whose default is off is an extra that nobody misses: it counts as
    a step where it is on.
    """
    found: dict[str, bool] = {}
    for name in type(settings).model_fields:
        step = getattr(settings, name)
        if isinstance(step, Config) and "enabled" in type(step).model_fields:
            on = bool(getattr(step, "enabled"))  # noqa: B009
            if on or _usual(settings, name):
                found[name] = on
    if "gray" in found and not getattr(settings, "color", True):
        found["gray"] = False  # there is no color to drop
    return found


def alone(settings: Config, *steps: str) -> Config:
    """The same settings with only these steps on."""
    return settings.changed({name: {"enabled": name in steps} for name in _switchable(settings)})


def chosen(settings: Config, without: Sequence[str], where: object) -> tuple[list[str], list[str]]:
    """The steps to measure, and those left out: all that are off, each of which must be named in `without`.

    InputError naming a step that is off and not named, one that is named and not off, or where none is on.
    """
    steps = switches(settings)
    off = [name for name, on in steps.items() if not on]
    for name in without:
        if name not in steps:
            raise unknown("step", name, steps)
        if name not in off:
            raise InputError(
                f"A step is left out where it is off, but {name} is on in the settings of {where}. "
                f"Off: {', '.join(off) or '(none)'}."
            )
    missing = [name for name in off if name not in without]
    if missing:
        options = " ".join(f"--without {name}" for name in off)
        raise InputError(
            f"“All” means every augmentation together, but {_listed(missing)} off in the settings of {where}. "
            f"Measure the others with {options}, and they are not called all; or train with every step on.",
            code="step_off",
        )
    if len(off) == len(steps):
        raise InputError(f"At least one augmentation must be on, but all are off in the settings of {where}.")
    return [name for name, on in steps.items() if on], off


def with_extra(settings: Config, defaults: Config, extra: Sequence[str], where: object) -> tuple[Config, list[str]]:
    """The settings with steps switched on that are off by default, in the numbers of `defaults`; and notes.

    A step that is on already keeps its numbers. InputError naming a step that is not such an extra, or that lacks
    numbers which only a training can be given.
    """
    extras = [name for name in _switchable(settings) if not _usual(settings, name)]
    notes = []
    for name in extra:
        if name not in extras:
            raise unknown("extra step", name, extras)
        if not getattr(settings, name).enabled:
            try:
                settings = settings.changed({name: getattr(defaults, name).model_dump() | {"enabled": True}})
            except InputError as error:  # a rule of the settings: "PATH has no numbers for BANDS; advice for training"
                lacking = error.message.removeprefix("Settings: ").partition(";")[0]
                raise InputError(
                    f"--extra {name} is measured with the numbers in the settings of {where}, but there {lacking}. "
                    f"Leave it out, or measure an encoder trained with them "
                    f"(lookalike train … --set augment.{lacking.split()[0]}.BAND=… for each).",
                    code="extra_lacks_numbers",
                ) from None
            notes.append(f"{name}: measured though the encoder was not trained with it (--extra); “all” includes it.")
    return settings, notes


def _usual(settings: Config, name: str) -> bool:
    """Whether a step is on by default."""
    return type(getattr(settings, name)).model_fields["enabled"].default is not False


def _switchable(settings: Config) -> Iterable[str]:
    fields = type(settings).model_fields
    return [name for name in fields if "enabled" in getattr(type(getattr(settings, name)), "model_fields", {})]


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{', '.join(names[:-1])} and {names[-1]} are"
