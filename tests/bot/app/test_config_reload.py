"""A changed muster.yaml holds without a restart, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.telemetry import sender as telemetry
from egress.daemon.egress_service import UnusableSettings
from tests.bot.orchestrator import House, house

_ROSTER = "preset: minimal\nagents:\n  - {name: coder0, runtime: sim, sandbox: none}\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings="budgets:\n  agent: {tokens: 5M, window: day}\n", roster=_ROSTER) as made:
        yield made


def change(home: House, old: str, new: str) -> None:
    text = home.paths.muster_yaml.read_text()
    assert old in text
    home.paths.muster_yaml.write_text(text.replace(old, new))


async def test_accounts_budgets_and_sandbox_profiles_are_taken_up_by_command(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        await home.marks(home.say("one", thread), "✅")
        assert "The fleet is as the roster says; nothing was changed." in await home.ask("!roster apply")
        change(home, "tokens: 5M", "tokens: 100")
        change(home, "accounts:\n", "accounts:\n  more: {provider: openai, credential: 'env:NOT_SET'}\n")
        change(home, "budgets:", "sandboxes:\n  docs: {extends: bubblewrap, routes: [docs.python.org]}\nbudgets:")
        change(home, "budgets:", "timezone: Europe/Vienna\nbudgets:")
        said = await home.ask("!roster apply")
        assert "muster.yaml was applied: account `more` new; budget of `agent` 100 tokens a day, then cutoff" in said
        assert "(it was 5M tokens a day, then cutoff); sandbox profile `docs` new (routes" in said
        assert "What it says of timezone holds once Muster is started again." in said
        assert "The account more has its key in `NOT_SET`, which was not set" in said
        assert "100 tokens a day" in await home.ask("!budget")
        home.say("two", thread)
        await home.heard(thread, "too little left of 100 tokens")
        assert "docs" in orchestrator.services.planner.profiles
        change(home, "tokens: 100", "tokens: 6M")
        change(home, "  more: {provider: openai, credential: 'env:NOT_SET'}\n", "")
        assert "account `more` gone; budget of `agent` 6M tokens a day" in await home.ask("!roster apply")
        await home.marks(home.say("three", thread), "✅")
        assert "more" not in orchestrator.services.planner.accounts


async def test_telemetry_is_switched_off_without_a_restart(tmp_path: Path) -> None:
    on = "telemetry: {enabled: true, url: 'https://counts.example.org'}\n"
    async with house(tmp_path, settings=on, roster=_ROSTER) as home, home.open() as orchestrator:
        change(home, "enabled: true", "enabled: false")
        said = await home.ask("!roster apply")
        assert "muster.yaml was applied: what is told of this installation, and to whom (telemetry)" in said
        assert "once Muster is started again" not in said
        preview = await telemetry.preview(orchestrator.services)
        assert "Nothing is sent: telemetry is off." in preview.text


async def test_a_file_that_is_wrong_changes_nothing_and_says_where(home: House) -> None:
    async with home.open() as orchestrator:
        before = orchestrator.services.settings
        for wrong, says in (
            ("budgets:\n  agent: {tokens: lots", "expected a number of tokens"),
            ("budgets:\n  agnet: {tokens: 3M", "agnet"),
            ("budgets: [\n  agent: {tokens: 3M", "muster.yaml"),
        ):
            good = home.paths.muster_yaml.read_text()
            change(home, "budgets:\n  agent: {tokens: 5M", wrong)
            said = await home.ask("!roster apply")
            assert "✖ muster.yaml was not applied, and the earlier settings stay in effect" in said
            assert says in said
            assert orchestrator.services.settings is before
            home.paths.muster_yaml.write_text(good)


async def test_a_key_that_came_with_a_new_file_is_masked(home: House, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("correct-horse-battery-staple")
    key.chmod(0o600)
    async with home.open() as orchestrator:
        assert "horse" in orchestrator.services.redact("it is correct-horse-battery-staple")
        change(home, "accounts:\n", f"accounts:\n  more: {{provider: openai, credential: 'file:{key}'}}\n")
        assert "account `more` new." in await home.ask("!roster apply")
        assert "horse" not in orchestrator.services.redact("it is correct-horse-battery-staple")


async def test_what_the_egress_does_not_take_leaves_the_old_standing(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with home.open() as orchestrator:
        await home.launch("coder0")
        before = orchestrator.services.settings
        egress = home.egress.egress  # type: ignore[attr-defined]

        async def refuse(*_: object) -> None:
            raise UnusableSettings("account more: no address.")

        with monkeypatch.context() as now:
            now.setattr(egress, "configure", refuse)
            change(home, "tokens: 5M", "tokens: 7M")
            assert "the earlier settings stay in effect: Account more: no address." in await home.ask("!roster apply")
            assert orchestrator.services.settings is before
        async with asyncio.timeout(30):
            while "7M tokens a day" not in await home.ask("!budget"):
                await home.ask("!roster apply")


async def test_windows_shares_and_the_pace_are_taken_up_by_command(home: House) -> None:
    async with home.open():
        change(home, "accounts:\n  sim: {", "accounts:\n  sim: {kind: subscription, windows: [5h, 7d], ")
        change(
            home, "budgets:\n", "pacing: {burst: 10%}\nbudgets:\n  roles: {coder: {share: 20%, of: sim, window: 7d}}\n"
        )
        said = await home.ask("!roster apply")
        assert "account `sim` changed" in said
        assert "budget of `role:coder` 20% of the window 7d of sim, then cutoff" in said
        assert "how spending is spread over time" in said
        shown = await home.ask("!pace")
        assert "account:sim, 7d" in shown
        assert "role:coder, share of 7d of sim" in shown
