"""The commands about browsers where there is no dashboard."""

from __future__ import annotations

from tests.bot.orchestrator import House


async def test_without_a_dashboard_a_code_is_not_asked_about(home: House) -> None:
    async with home.open():
        assert "There is no dashboard" in await home.ask("!web login BCDF-GHJK")
        assert "No browser is logged in" in await home.ask("!web sessions")
        assert home.orchestrator.services.web_address is None
