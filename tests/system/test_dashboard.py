"""The dashboard over a real `muster up` that is killed and comes back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from textual.pilot import Pilot

from bot.interfaces.tui.app import Dashboard
from bot.interfaces.tui.screens.dialogs import AnswerDialog, ConfirmDialog, OutputDialog
from bot.interfaces.tui.start import made
from tests.bot.interfaces.tui.scene import screen_text
from tests.system.installation import LIMIT, Premises


async def shows(pilot: Pilot[None], app: Dashboard, text: str) -> None:
    try:
        async with asyncio.timeout(LIMIT):
            # Notes wrap within a frame.
            while text not in re.sub(r"[\s▌]+", " ", screen_text(app)):
                await pilot.pause(0.05)
    except TimeoutError:
        raise AssertionError(f"{text!r} is not in\n{screen_text(app)}") from None


async def until(pilot: Pilot[None], holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not holds():
            await pilot.pause(0.05)


async def test_an_agent_is_launched_asked_and_answered(home: Premises) -> None:
    await home.start()
    app = made(home.paths)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await shows(pilot, app, "● live")
        await shows(pilot, app, "No agent yet.")
        await pilot.press("colon", *"launch coder0", "enter")
        await shows(pilot, app, "starts in its thread")
        if isinstance(app.screen, OutputDialog):
            # The folder's name is long here, so the answer is a page and not a note.
            await pilot.press("escape")
        await shows(pilot, app, "● idle")
        await pilot.press("s", *"[[run: echo permitted > proof.txt]]", "enter")
        await shows(pilot, app, "1 to answer")
        await pilot.press("enter")
        await shows(pilot, app, "asks for permission")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, AnswerDialog))
        await pilot.press("enter")
        await until(pilot, lambda: any(home.paths.agents.parent.rglob("proof.txt")))
        await shows(pilot, app, "selected by")
        await pilot.press("escape", "6")
        await shows(pilot, app, "approve")


async def test_muster_is_killed_while_the_dashboard_is_open(home: Premises) -> None:
    await home.start()
    await home.gateway("POST", "/v1/commands/launch", {"name": "coder0"})
    app = made(home.paths)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await shows(pilot, app, "● idle")
        await home.kill()
        await shows(pilot, app, "Muster is down: agents and their journals")
        await shows(pilot, app, "● idle")
        assert "protocol" in screen_text(app), "the agent itself is asked"
        await pilot.press("colon", *"ps", "enter")
        await shows(pilot, app, "Until then these work: cutoff, estop, freeze")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await shows(pilot, app, "coder0 is frozen. Muster was not asked.")
        await shows(pilot, app, "frozen")
        home.starts = 0  # an interpreter of its own: Textual has replaced the standard error that a fork would inherit
        await home.start()
        await shows(pilot, app, "● live")
        await shows(pilot, app, "* frozen")
        await pilot.press("F")
        await shows(pilot, app, "● idle")
