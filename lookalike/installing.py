"""How to install what an optional part needs, as a command for the very environment that runs this."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

NAME = "lookalike"


def install_extra(extra: str) -> str:
    """The command that adds an extra of ours: of the clone or folder this was installed from, else by name."""
    folder, editable = _came_from()
    if folder is None:
        return install(f"{NAME}[{extra}]")
    return install(f"{_short(folder)}[{extra}]", editable=editable)


def install(what: str, *, editable: bool = False) -> str:
    """The command that installs a package where this runs, e.g. `.venv/bin/pip install lightly`."""
    beside = Path(sys.executable).with_name("pip")
    here = shutil.which("pip")
    if here is not None and Path(here) == beside:
        pip = "pip"
    else:
        pip = shlex.quote(_short(beside)) if beside.exists() else f"{shlex.quote(_short(Path(sys.executable)))} -m pip"
    return f"{pip} install {'-e ' if editable else ''}{shlex.quote(what)}"


def _came_from() -> tuple[Path | None, bool]:
    """The folder of the project this runs from and True, or the one it was installed from and False, if any."""
    clone = Path(__file__).resolve().parent.parent
    if _is_ours(clone):
        return clone, True
    for found in importlib.metadata.distributions(name=NAME):
        try:
            url = urlsplit(json.loads(found.read_text("direct_url.json") or "{}").get("url", ""))
        except (ValueError, AttributeError):
            continue
        if url.scheme == "file" and _is_ours(folder := Path(url2pathname(unquote(url.path)))):
            return folder, False
    return None, False


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds this project."""
    try:
        return bool(tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["name"] == NAME)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _short(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
