"""What is started later may use what was started before, also while it stops."""

from __future__ import annotations

import asyncio

import pytest

from bot.app.stages import Stage, running


def stage(name: str, heard: list[str], *, fails: bool = False) -> Stage:
    """A part that notes when it starts and stops."""

    async def start() -> None:
        if fails:
            raise OSError(f"{name} cannot be started")
        heard.append(f"{name} starts")

    async def stop() -> None:
        heard.append(f"{name} stops")

    return Stage(name, start=start, stop=stop)


def beside(name: str, heard: list[str]) -> Stage:
    """A part that goes on by itself, and notes when it is ended."""

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append(f"{name} ends")

    return Stage(name, run=run)


async def test_parts_stop_the_other_way_round() -> None:
    heard: list[str] = []
    async with running([stage("register", heard), beside("agents", heard), stage("gateway", heard)]):
        await asyncio.sleep(0)
        heard.append("muster runs")
    assert heard == [
        "register starts", "gateway starts", "muster runs", "gateway stops", "agents ends", "register stops",
    ]  # fmt: skip


async def test_what_was_started_is_stopped_where_a_later_part_cannot_start() -> None:
    heard: list[str] = []
    with pytest.raises(OSError, match="gateway cannot be started"):
        async with running([stage("register", heard), stage("gateway", heard, fails=True), stage("jobs", heard)]):
            heard.append("muster runs")
    assert heard == ["register starts", "register stops"]
