"""The record of what was sent: what a crash, a full disk and a long life leave of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connectors.discord import sent_log
from connectors.discord.sent_log import SentLog


async def test_what_comes_after_a_line_that_was_cut_off_is_kept(tmp_path: Path) -> None:
    await SentLog(tmp_path / "sent").put("one", "1")
    with (tmp_path / "sent").open("a") as torn:
        torn.write("two 2")
    await SentLog(tmp_path / "sent").put("three", "3")
    again = SentLog(tmp_path / "sent")
    assert [again.message(nonce) for nonce in ("one", "two", "three")] == ["1", None, "3"]


async def test_what_cannot_be_written_is_known_all_the_same_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "sent").mkdir()
    kept = SentLog(tmp_path / "sent")
    await kept.put("one", "1")
    assert kept.message("one") == "1"


async def test_the_latest_are_kept_however_many_are_put_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_log, "MOST_KEPT", 20)
    kept = SentLog(tmp_path / "sent")
    await asyncio.gather(*(kept.put(f"n{number}", str(number)) for number in range(200)))
    lines = (tmp_path / "sent").read_text().splitlines()
    assert len(lines) <= 42
    again = SentLog(tmp_path / "sent")
    assert [again.message(f"n{number}") for number in range(180, 200)] == [str(number) for number in range(180, 200)]
