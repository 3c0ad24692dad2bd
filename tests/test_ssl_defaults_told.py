"""The help of `train` says what each setting is when it is left out, as the settings have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from lookalike.ssl import defaults
from lookalike.ssl.architectures import ENCODERS
from lookalike.ssl.defaults_told import told
from lookalike.ssl.settings import SMALL_VIEW, TrainConfig, resolved

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_every_setting_is_told_once() -> None:
    assert list(told()) == list(TrainConfig.model_fields)
    for name, field in TrainConfig.model_fields.items():
        if isinstance(field.default, int | float):
            assert told()[name] == f"{field.default:g}"


def numbers(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\.?\d*", text)}


@pytest.mark.parametrize("objects", [defaults.SMALL, defaults.LARGE])
def test_the_numbers_told_are_those_taken(objects: int) -> None:
    taken = resolved(TrainConfig(), objects=objects, view_size=SMALL_VIEW, default_encoder="resnet18")
    words = told()
    assert taken.small_stem is False
    for name in ("batch_size", "temperature", "lr"):
        assert getattr(taken, name) in numbers(words[name]), name
    assert f"N/{objects // taken.queue}" in words["queue"]
    assert taken.epochs in numbers(words["epochs"])
    below = resolved(TrainConfig(), objects=objects, view_size=SMALL_VIEW - 1, default_encoder="resnet18")
    assert below.small_stem is True


def test_the_help_tells_them(lookalike: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = lookalike("train", "--help", COLUMNS="400")
    assert done.returncode == 0, done.stderr
    for name, words in told().items():
        if name == "seed":
            assert "[default: (0)]" in done.stdout
        else:
            assert words in done.stdout, name
    for name in ENCODERS:
        assert name in done.stdout


def test_running_the_command_needs_no_help() -> None:
    code = "import sys, lookalike.cli; print(*sys.modules)"
    environment = os.environ | {"COLUMNS": "100"}
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert not {"pydantic", "lookalike.ssl.defaults_told"} & set(modules.stdout.split())
