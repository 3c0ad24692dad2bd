"""Settings: overriding, and the one-line errors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from lookalike.config import Config
from lookalike.errors import InputError, NotFoundError
from lookalike.wording import counted


class Inner(Config):
    rate: float = 0.1
    enabled: bool = True


class Outer(Config):
    inner: Inner = Inner()
    name: str = "a"
    size: int | None = None
    named: dict[str, Inner] = Field(default_factory=dict)
    several: tuple[Inner, ...] = ()


def test_assignments_lie_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('name = "file"\nsize = 3\n[inner]\nrate = 0.5\n')
    settings = Outer().overridden(file, ["name=given", "inner.enabled=false"])
    assert settings == Outer(inner=Inner(rate=0.5, enabled=False), name="given", size=3)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nmae=x", "Unknown setting 'nmae'. Did you mean 'name'? Choices: inner, name, size, named, several."),
        ("inner.rat=1", "Unknown setting 'rat'. Did you mean 'rate'? Choices: rate, enabled. (in inner)"),
        ("named.g.rat=1", "Unknown setting 'rat'. Did you mean 'rate'? Choices: rate, enabled. (in named.g)"),
        ('several=[{"rat": 1}]', "Unknown setting 'rat'. Did you mean 'rate'? Choices: rate, enabled. (in several.0)"),
        ("inner.rate=fast", "Setting inner.rate must be a number, but 'fast' was given."),
        ("size=1.5", "Setting size must be a whole number, but 1.5 was given."),
        ("inner.rate=NaN", "Setting inner.rate must be a finite number, but nan was given."),
        ("name", "--set takes key.path=value, but 'name' was given."),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_choices(assignment: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Outer().overridden(None, [assignment])
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


def test_settings_files_are_toml_or_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.toml or \.json"):
        Outer().overridden(tmp_path / "x.yaml")
    with pytest.raises(NotFoundError):
        Outer().overridden(tmp_path / "x.toml")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(InputError, match="must hold named settings"):
        Outer().overridden(tmp_path / "x.json")


class Limited(Config):
    least: int = Field(default=1, ge=1)
    share: float = Field(default=0.5, gt=0, le=1)
    below: float = Field(default=0.5, lt=0.99)
    kind: Literal["a", "b"] = "a"
    on: bool = True
    text: str = ""
    pair: tuple[float, float] = (0, 1)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("least=0", "Setting least must be at least 1, but 0 was given."),
        ("share=0", "Setting share must be above 0, but 0 was given."),
        ("share=1.5", "Setting share must be at most 1, but 1.5 was given."),
        ("below=1", "Setting below must be below 0.99, but 1 was given."),
        ("kind=c", "Setting kind must be 'a' or 'b', but 'c' was given."),
        ("on=perhaps", "Setting on must be true or false, but 'perhaps' was given."),
        ("text=1", "Setting text must be a text, but 1 was given."),
        ("pair=1", "Setting pair must be a list, but 1 was given."),
    ],
)
def test_rules_are_in_our_own_words(assignment: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Limited().overridden(None, [assignment])
    assert caught.value.message == message


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2103, "2,103 files")])
def test_a_count_agrees_with_its_noun(number: int, text: str) -> None:
    assert counted(number, "file") == text
    assert counted(number, "query", "queries").endswith("query" if number == 1 else "queries")
