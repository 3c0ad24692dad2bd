"""A domain's augmentation settings for a data set, with what a person gave of them laid over."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lookalike.config import Config
from lookalike.errors import InputError, unknown

PLACE = "augment"  # the setting of a training that holds them


def with_given(settings: Config, given: Mapping[str, Any], bands: Sequence[str] | None) -> Config:
    """The settings with changes laid over, nested as they are; faults are named by their whole path, `augment.…`.

    bands : those of the data. A setting that holds a value for each band may hold others' by default, since a domain
    knows those of its surveys, but one that was given would never be used: InputError with the bands there are. None
    where that was looked at before, as of a run that is resumed.
    """
    for path, band in _by_band(type(settings), given) if bands is not None else ():
        if band not in (bands or ()):
            choice = unknown("band", band, bands or ())
            raise InputError(f"{choice.message} (in {path})", code=choice.code)
    return settings.changed(dict(given), within=PLACE)


def _by_band(model: type[Config], given: Mapping[str, Any], within: str = PLACE) -> Iterator[tuple[str, str]]:
    """Path and key of each value given by band: every setting of a domain that takes names takes those of bands."""
    for name, value in given.items():
        field = model.model_fields.get(name)
        if field is None or not isinstance(value, Mapping):
            continue  # which the settings themselves refuse, if it is wrong
        path = f"{within}.{name}"
        if typing.get_origin(field.annotation) is dict:
            yield from ((path, str(band)) for band in value)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from _by_band(field.annotation, value, path)
