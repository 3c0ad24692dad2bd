"""The command that installs an extra is one that works in the environment that runs this."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lookalike import installing
from lookalike.installing import install, install_extra

ROOT = Path(__file__).resolve().parent.parent
OURS = '[project]\nname = "lookalike"\nversion = "0"\n[project.optional-dependencies]\nonnx = []\n'


def from_folder(folder: Path, url: str) -> None:
    """An installation at `folder` that says where it came from."""
    about = folder / "lookalike-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lookalike\nVersion: 0\n")
    (about / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {}}))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This module as it lies in site-packages, away from any clone, and an environment without activation."""
    monkeypatch.setattr(installing, "__file__", str(tmp_path / "site" / "lookalike" / "installing.py"))
    monkeypatch.setattr(importlib.metadata, "distributions", installed(tmp_path / "site"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for name in ("python", "pip"):
        (tmp_path / "venv" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / "venv" / "bin" / name).write_text("")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def installed(place: Path) -> Callable[[str], Iterable[importlib.metadata.Distribution]]:
    search = importlib.metadata.distributions
    return lambda name: search(name=name, path=[str(place)])


def test_from_a_clone_the_extra_is_the_clone_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = shlex.split(install_extra("onnx"))
    assert command[-3:] == ["install", "-e", ".[onnx]"]
    if shutil.which(command[0]):  # it can be called just so, and belongs to the environment that runs this
        said = subprocess.run([*command[:-3], "--version"], capture_output=True, text=True, check=True)
        assert str(Path(sys.prefix).resolve()) in said.stdout
    monkeypatch.chdir(ROOT / "tests")
    assert shlex.split(install_extra("onnx"))[-1] == f"{ROOT}[onnx]"


def test_without_a_clone_it_is_the_package_s(bare: Path) -> None:
    assert install_extra("onnx") == "venv/bin/pip install 'lookalike[onnx]'"
    (bare / "venv/bin/pip").unlink()
    assert install_extra("onnx") == "venv/bin/python -m pip install 'lookalike[onnx]'"


def test_what_was_installed_from_a_folder_comes_from_there(bare: Path) -> None:
    folder = bare / "the clone"
    from_folder(bare / "site", folder.as_uri())
    assert install_extra("onnx") == "venv/bin/pip install 'lookalike[onnx]'"  # the folder is gone
    folder.mkdir()
    (folder / "pyproject.toml").write_text(OURS)
    assert install_extra("onnx") == "venv/bin/pip install 'the clone[onnx]'"


@pytest.mark.parametrize("told", ["", "[]", '{"url": 3}', "{", '{"url": "https://example.org/lookalike.whl"}'])
def test_an_installation_that_does_not_say_where_from_is_no_fault(bare: Path, told: str) -> None:
    from_folder(bare / "site", "file:///nowhere")
    (bare / "site/lookalike-0.dist-info/direct_url.json").write_text(told)
    assert install_extra("onnx").endswith("'lookalike[onnx]'")


def test_an_active_environment_s_pip_needs_no_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: str(bare / "venv/bin" / name))
    assert install("lightly") == "pip install lightly"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert install("lightly") == "venv/bin/pip install lightly"
