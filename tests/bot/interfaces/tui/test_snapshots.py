"""How the dashboard looks. `pytest tests/bot/interfaces/tui/test_snapshots.py --snapshot-update` after a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from textual.pilot import Pilot

from bot.interfaces.tui.app import Dashboard
from tests.bot.interfaces.tui.scene import scene, screen_text

Compare = Callable[..., bool]


def pressing(*keys: str, until: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    """Press keys, and wait until the screen has a text."""

    async def run(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, Dashboard)
        async with asyncio.timeout(20):
            while "3 to answer" not in screen_text(app):
                await pilot.pause()
            await pilot.press(*keys)
            while until not in screen_text(app):
                await pilot.pause()
        await pilot.pause()

    return run


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize(
    ("keys", "until"),
    [
        pytest.param((), "rogue", id="fleet"),
        pytest.param(("2", "down"), "asks for permission", id="waiting"),
        pytest.param(("4",), "62 % used", id="limits"),
        pytest.param(("8",), "cut off", id="log"),
        pytest.param(("s", *"Fix it", "ctrl+j", *"and test"), "and test", id="message"),
        pytest.param(("enter",), "I run the tests.", id="agent"),
        pytest.param(("9",), "A secret was found.", id="runs"),
        pytest.param(("9", "enter"), "posted a comment", id="run"),
        pytest.param(("a",), "1 Allow once", id="answer"),
    ],
)
def test_dark(snap_compare: Compare, size: tuple[int, int], keys: tuple[str, ...], until: str) -> None:
    assert snap_compare(scene().app, terminal_size=size, run_before=pressing(*keys, until=until))


def test_light(snap_compare: Compare) -> None:
    assert snap_compare(
        scene(light=True).app, terminal_size=(120, 40), run_before=pressing("2", "down", until="asks for permission")
    )


def test_without_color(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(scene().app, terminal_size=(80, 24), run_before=pressing(until="rogue"))
