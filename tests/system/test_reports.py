"""Reports on a real homeserver: a crossing comes by itself, with a picture that an operator's client can load."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from PIL import Image

from tests.operator_client import Event, body
from tests.system.installation import LIMIT
from tests.system.matrix_installation import Installation

pytestmark = [pytest.mark.synapse, pytest.mark.slow]


def is_picture(event: Event) -> bool:
    return bool(event.get("content", {}).get("msgtype") == "m.image")


async def test_a_window_that_is_nearly_used_up_is_told_with_a_picture(
    make_home: Callable[..., AbstractAsyncContextManager[Installation]],
) -> None:
    async with make_home(budgets={"host": {"tokens": "90M", "window": "day"}}, timezone="Europe/Vienna") as home:
        await home.ask("!launch coder0 --task 'one'")
        await home.ana.wait_for(home.room, lambda event: "You said: one" in body(event))
        used = 0.0
        async with asyncio.timeout(LIMIT):
            while not used:
                said = await home.gateway("POST", "/v1/commands/report", {"kind": "budget"})
                used = said["data"]["windows"][0]["used"] or 0.0
        await home.ask(f"!budget set host {int(used / 0.9)} --window day")
        told = await home.ana.wait_for(home.room, lambda event: "are used" in body(event), limit=90)
        assert "`host day`" in body(told)
        picture = await home.ana.wait_for(home.room, is_picture)
        raw = await home.ana.download(picture["content"]["url"])
        with Image.open(io.BytesIO(raw)) as opened:
            assert opened.format == "PNG"
            assert opened.width == 1440
