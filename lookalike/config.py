"""Settings as frozen models: unknown keys are errors, files and --set override defaults, JSON records them."""

from __future__ import annotations

import json
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lookalike.errors import InputError, NotFoundError, unknown
from lookalike.wording import rule


class Config(BaseModel):
    """Base of every stage's settings: immutable, typed, no key beyond the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def checked(cls, values: dict[str, Any], within: str = "") -> Self:
        """Build from plain values; a wrong key or value is one line naming the key, the value and the choices.

        within : the setting of others that these lie under, for the paths named there.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _first_line(cls, error, within) from None

    def overridden(self, file: Path | None = None, assignments: list[str] | None = None) -> Self:
        """These settings with those of a TOML or JSON file, then with `key.path=value` assignments, laid over."""
        values = self.model_dump()
        if file is not None:
            _merge(values, read_settings(file))
        for assignment in assignments or []:
            path, equals, text = assignment.partition("=")
            if not equals or not path:
                raise InputError(f"--set takes key.path=value, but {assignment!r} was given.")
            _merge(values, _nested(path.strip().split("."), _parse(text.strip())))
        return type(self).checked(values)

    def changed(self, changes: dict[str, Any], within: str = "") -> Self:
        """These settings with changes laid over, nested as the settings are; `within` as for `checked`."""
        values = self.model_dump()
        _merge(values, changes)
        return type(self).checked(values, within)


def read_settings(file: Path) -> dict[str, Any]:
    """The settings in a .toml or .json file."""
    readers = {".toml": tomllib.loads, ".json": json.loads}
    if file.suffix not in readers:
        raise InputError(f"A settings file ends in {' or '.join(readers)}, but {file} was given.")
    try:
        values = readers[file.suffix](file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"No such file: {file}") from None
    except ValueError as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{file} must hold named settings, but holds a {type(values).__name__}.")
    return values


def _parse(text: str) -> Any:
    """A value as JSON where it is JSON, else the text itself, so that strings need no quotes."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _merge(values[key], change)
        else:
            values[key] = change


def _first_line(model: type[BaseModel], error: ValidationError, within: str) -> InputError:
    """The first fault of a pydantic error in our one-line form."""
    fault = error.errors()[0]
    before = [within] if within else []
    path = ".".join([*before, *map(str, fault["loc"])])
    if fault["type"] == "extra_forbidden":
        fields = _fields_at(model, fault["loc"][:-1])
        prefix = ".".join([*before, *map(str, fault["loc"][:-1])])
        choice = unknown("setting", fault["loc"][-1], fields)
        # A step's own settings lie below `augment`, where a nested one that is not known here is likely meant to be.
        nested = "augment" in fields and isinstance(fault["input"], dict)
        hint = f" The settings of an augmentation begin with augment: augment.{fault['loc'][-1]}.…" if nested else ""
        return InputError(
            f"{choice.message} (in {prefix})" if prefix else choice.message + hint, code="unknown_setting"
        )
    if fault["type"] == "value_error":  # a model's own rule, whose text names what it is about
        reason = str(fault["ctx"]["error"])
        return InputError(f"Setting {path}: {reason}." if path else f"Settings: {reason}.", code="invalid_setting")
    given = "" if fault["type"] == "missing" else f", but {fault['input']!r} was given"
    told = rule(fault)
    said = f"Setting {path}: {fault['msg']}" if told is None else f"Setting {path} {told}"
    return InputError(f"{said}{given}.", code="invalid_setting")


def _without_none(annotation: Any) -> Any:
    """The type of a setting that may be left open."""
    given = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
    return given[0] if isinstance(annotation, types.UnionType) and len(given) == 1 else annotation


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The names a nested model accepts at a path inside another."""
    inner: Any = model
    for key in path:
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = inner.model_fields.get(str(key))
            inner = _without_none(field.annotation) if field else None
        else:  # models in a dict or a tuple: the key may be any, what follows is the value's
            inner = next((kind for kind in reversed(typing.get_args(inner)) if kind is not ...), None)
    return list(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else []
