"""Settings: overriding, and the one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from lookalike.config import Config
from lookalike.errors import InputError, NotFoundError


class Inner(Config):
    rate: float = 0.1
    enabled: bool = True


class Outer(Config):
    inner: Inner = Inner()
    name: str = "a"
    size: int | None = None
    named: dict[str, Inner] = Field(default_factory=dict)


def test_assignments_lie_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('name = "file"\nsize = 3\n[inner]\nrate = 0.5\n')
    settings = Outer().overridden(file, ["name=given", "inner.enabled=false"])
    assert settings == Outer(inner=Inner(rate=0.5, enabled=False), name="given", size=3)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nmae=x", "Unknown setting 'nmae'. Did you mean 'name'? Choices: inner, name, size, named."),
        ("inner.rat=1", "Unknown setting 'rat'. Did you mean 'rate'? Choices: rate, enabled. (in inner)"),
        ("named.g.rat=1", "Unknown setting 'rat'. Did you mean 'rate'? Choices: rate, enabled. (in named.g)"),
        ("inner.rate=fast", "Setting inner.rate: Input should be a valid number"),
        ("size=1.5", "Setting size: Input should be a valid integer, got a number with a fractional part"),
        ("inner.rate=NaN", "Setting inner.rate: Input should be a finite number"),
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
