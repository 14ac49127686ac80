"""Messages that show an agent's state: kept up to date, and nothing that everything else would hang on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.agents import watch
from core.crash_points import Step
from database.engine.store import RegisterFull
from tests.bot.orchestrator import house


async def test_a_full_disk_ends_neither_the_watch_nor_muster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.02)
    async with house(tmp_path) as home, home.open() as orchestrator:
        thread = await home.launch("coder0")
        store = orchestrator.store
        write = store.write
        refused = asyncio.Event()

        @contextlib.asynccontextmanager
        async def full(step: Step) -> AsyncIterator[Any]:
            if step is watch.UPDATE and not refused.is_set():
                refused.set()
                raise RegisterFull("The disk is full.")
            async with write(step) as tx:
                yield tx

        monkeypatch.setattr(store, "write", full)
        shown = home.chat.post("!watch coder0")
        said = await home.reply(shown)
        async with asyncio.timeout(30):
            await refused.wait()
        home.say("[[wait: gate]] think", thread)
        await home.chat.until(lambda: "working" in said.text, limit=30)
        home.models.release("gate")
