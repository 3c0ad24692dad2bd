"""What the pages promise exists: commands, sources, domains, linked files, and no absolute path of a machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from lookalike.augmentations import DOMAINS
from lookalike.datasets import SOURCES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_linked_file_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_source_and_domain_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in [*SOURCES, *DOMAINS]:
        assert f"`{name}`" in text


def test_the_readme_tree_names_every_part() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for folder in sorted(path for path in (ROOT / "lookalike").iterdir() if (path / "__init__.py").exists()):
        assert f"  {folder.name}/" in text, f"the tree in README.md lacks {folder.name}/"


def test_the_readme_shows_what_the_demo_prints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in ("Self-retrieval@1", "  trained encoder ", "  untrained encoder ", "  in all "):
        assert line in text


def test_make_verbs_of_the_pages_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"^    make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= verbs, f"{page.name} names {named - verbs}"


def test_no_committed_file_names_a_folder_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        assert not re.search(rb"(?<![\w.])/(home|root|Users|work)/\w", data), name


def test_what_extend_shows_is_the_code_as_it_is() -> None:
    files = ["augmentations/image.py", "augmentations/image_settings.py", "datasets/idx.py", "datasets/__init__.py"]
    lines = {line.strip() for file in files for line in (ROOT / "lookalike" / file).read_text().splitlines()}
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    shown = [line.strip() for line in text.splitlines() if line.startswith("    ") and line.strip()]
    assert len(shown) > 30
    assert [line for line in shown if line not in lines] == []
