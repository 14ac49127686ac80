"""The pages that people read: the generated ones are up to date, and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs import reference_pages

ROOT = Path(__file__).parents[1]
#: The names of folders whose files pages and records name.
_SOURCES = "bot|budget|conduit|connectors|core|database|egress|fleet|scheduler|tests|benchmarks"
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_PATH = re.compile(rf"`((?:{_SOURCES})/[\w/.-]+)`")


def pages() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split()]


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_a_reference_page_says_what_its_table_says(name: str) -> None:
    page = reference_pages.PAGES[name]()
    assert (reference_pages.FOLDER / name).read_text() == page, "run `python -m docs.reference_pages`"


def test_links_lead_to_files() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages()
        for target in _LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_source_files_that_pages_name_exist() -> None:
    missing = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in pages()
        if page.name != "CHANGELOG.md"
        for path in _PATH.findall(page.read_text())
        if not (ROOT / path).exists()
    ]
    assert missing == []
