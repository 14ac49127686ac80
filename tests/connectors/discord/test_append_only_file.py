"""The file of lines: what a disk that becomes full leaves of it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from connectors.discord.append_only_file import LineFile
from core.crash_points import declare

WRITE = declare("test.line")


async def test_a_line_that_a_full_disk_cuts_off_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    file = LineFile(path, WRITE, most=100)
    await file.append("one", all_lines=tuple)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Half of the next line still fits.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            await file.append("two two", all_lines=tuple)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await file.append("three", all_lines=tuple)
    assert [line for line in LineFile(path, WRITE, most=100).read() if line] == ["one", "three"]


async def test_a_line_follows_one_that_a_crash_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("one\ntw")
    file = LineFile(path, WRITE, most=100)
    await file.append("three", all_lines=tuple)
    assert file.read() == ["one", "tw", "three"]
