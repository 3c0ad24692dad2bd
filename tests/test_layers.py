"""Imports go one way, from files to page; heavy packages are imported only by what needs them."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lookalike"
# Left may not import right. Modules of one layer may import each other.
LAYERS = [
    [
        "__init__",
        "errors",
        "figures",
        "files",
        "hashing",
        "hdf5_output",
        "config",
        "coordinates",
        "wording",
        "attributes",
        "onnx_files",
        "provenance",
        "progress",
        "sizes",
        "spreadsheets",
        "proportions",
        "about",
        "events",
        "helix",
        "native",
        "parallel",
        "tracks",
        "near_ids",
        "origins",
        "hints",
        "installing",
        "samples",
        "samples_writer",
        "embeddings",
        "embeddings_folder",
        "embeddings_writer",
    ],
    ["datasets"],
    ["augmentations"],
    ["ssl"],
    ["indexer"],
    ["service"],
    ["simulate"],
    ["probes", "info", "contents", "query", "summary", "summary_extras", "cone", "positions", "crossmatch"],
    ["serving", "demo", "bench"],
    ["cli", "__main__"],
]
ALONE = {"client": {"errors"}, "webapp": {"client", "errors", "webapp", "wording"}}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The layer a file belongs to: its folder, or its own name at the top."""
    inside = path.relative_to(PACKAGE).with_suffix("")
    return inside.parts[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def our_imports(path: Path) -> set[str]:
    """The parts of the package a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(parsed(path)):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "lookalike" and len(pieces) > 1:
                found.add(
                    pieces[1]
                    if (PACKAGE / pieces[1]).exists() or (PACKAGE / f"{pieces[1]}.py").exists()
                    else "__init__"
                )
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    rank = {name: level for level, names in enumerate(LAYERS) for name in names}
    mine = part(path)
    if mine in ALONE:
        assert our_imports(path) <= ALONE[mine], f"{path.name} imports {our_imports(path) - ALONE[mine]}"
        return
    for other in our_imports(path):
        if other in ALONE:
            assert mine in ("serving", "bench", "cli"), f"{mine} imports {other}"
        else:
            assert rank[other] <= rank[mine], f"{mine} imports {other}, which lies to its right"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_ever_unpickled(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            assert not {"pickle", "joblib", "dill"} & {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("pickle", "joblib", "dill")
            assert not (node.module == "torch" and "load" in {alias.name for alias in node.names})
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr != "load", f"{path}: torch.load unpickles"


def test_every_list_of_domains_names_the_same() -> None:
    from lookalike.augmentations import DOMAINS
    from lookalike.augmentations.galaxy_settings import STORED, VIEW
    from lookalike.datasets import DOMAINS as INGESTED
    from lookalike.indexer import footprints

    assert tuple(DOMAINS) == INGESTED
    assert (footprints.VIEW, footprints.STORED) == (VIEW, STORED)


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import lookalike.cli",
        "import lookalike.service",
        "from lookalike.augmentations import DOMAINS",
        "import lookalike.client",
        "import lookalike.indexer.search",
        "import lookalike.ssl.checks",
        "import lookalike.ssl.defaults_told",
    ],
)
def test_torch_and_faiss_are_imported_only_by_what_needs_them(code: str) -> None:
    assert not {"torch", "torchvision", "faiss", "streamlit"} & modules_after(code)


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {"numpy", "h5py", "pydantic", "fastapi", "astropy", "pandas", "matplotlib"}
    assert not heavy & modules_after("import lookalike.cli") - modules_after("import typer")
