"""`pace`, `budget`, `budget set` and `budget authorize`, as operators read them in a room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.api_client import Client
from bot.commands.context import Context
from bot.pacing.window_series import gather_windows
from bot.reports.chart import figure_of
from core.crash_points import declare
from database.queries.spending import pacing_windows, usage_ledger
from database.schema import quota_history
from tests.bot.orchestrator import OPERATOR, House, egress_client, house
from tests.database.queries.rows import row as ledger_row

STEP = declare("tests.pace")
_ACCOUNT = "main: {provider: anthropic, kind: subscription, windows: [5h, 7d], base_url: URL, credential: 'env:KEY'}"
_SETTINGS = """\
timezone: Europe/Vienna
budgets:
  host: {tokens: 20M, window: day}
  roles: {coder: {tokens: 5M, window: day}}
  agents: {coder0: {share: 20%, of: main, window: 7d}}
"""
_ROSTER = "preset: minimal\nagents:\n  - {name: coder0, role: coder, runtime: sim, sandbox: none}\n"


class Clock:
    """Goes as clocks do, and can be set."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def home(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    async with house(tmp_path, settings=_SETTINGS, roster=_ROSTER, account=_ACCOUNT, clock=clock) as made:
        yield made


async def data(home: House, name: str, **arguments: Any) -> Any:
    body = await asyncio.to_thread(lambda: Client(home.paths.gateway_socket).run(name, arguments).body)
    return body["data"]


async def observed(home: House, used: float, reset_at: float, *, window: str = "7d", **others: Any) -> None:
    """As it stands in the register when a response said so."""
    row = {
        "account": "main", "window": window, "seen_at": home.clock(), "used": used, "reset_at": reset_at,
        "window_s": 7 * 86_400.0, "status": "allowed", "tokens": 0.0,
    }  # fmt: skip
    async with home.orchestrator.store.write(STEP) as tx:
        await tx.execute(insert(quota_history).values(**row | others))


async def test_a_subscription_of_which_nothing_is_known_is_told_so(home: House) -> None:
    async with home.open():
        said = await home.ask("!pace")
        assert "account:main, 7d" in said
        assert "The use of 100% is not known, so one task runs at a time." in said
        assert "It resets at an unknown time." in said
        shown = {each["window"]: each for each in await data(home, "budget") if each["kind"] == "quota"}
        assert set(shown) == {"5h", "7d"}
        assert {each["reset_confidence"] for each in shown.values()} == {"unknown"}
        assert {each["used"] for each in shown.values()} == {None}
        # Before anything was seen it may be empty, and it may be full.
        assert {each["pace"]["may_use_now"] for each in shown.values()} == {None}
        (row,) = [line for line in (await home.ask("!budget")).splitlines() if "100% of 5h |" in line]
        assert "| one task at a time |" in row


async def test_what_a_provider_said_is_shown_with_its_reset_and_its_line(home: House, clock: Clock) -> None:
    async with home.open():
        await observed(home, 0.6, clock() + 4 * 86_400)
        said = await home.ask("!pace")
        assert "60% used, on the line (60% now)." in said
        assert "as the provider reports" in said
        # Another response, after a million tokens went through: it is learned what one is of the window.
        share = "`agent:coder0` 20% of 7d of main"
        assert f"{share}: the pace follows it; the egress enforces it once" in await home.ask("!budget")
        (row,) = [each for each in await data(home, "budget") if each["window"] == "7d"]
        assert (row["scope"], row["used"], row["reset_confidence"]) == ("account:main", 0.6, "provider")
        assert row["pace"]["window"] == "account:main/7d"
        assert row["pace"]["line"] == pytest.approx(0.6, abs=1e-3)
        (window,) = [each for each in (await data(home, "pace"))["windows"] if each["window"] == "account:main/7d"]
        assert window["may_use_now"] == pytest.approx(0.03 * 4 / 7, abs=1e-3)
        await observed(home, 0.7, clock() + 4 * 86_400, tokens=1e6)
        assert f"{share}: about 2M tokens, which the egress enforces" in await home.ask("!budget")


async def test_what_was_seen_too_long_ago_is_told_as_that_with_what_went_through_since(
    home: House, clock: Clock
) -> None:
    async with home.open() as orchestrator:
        resets = clock() + 4 * 86_400
        await observed(home, 0.2, resets, tokens=0.0)
        await observed(home, 0.3, resets, tokens=1e6)
        async with orchestrator.store.write(STEP) as tx:
            await usage_ledger.add(tx, [ledger_row(1, ended_at=clock() + 60, input_tokens=1_200_000)])
        clock.ahead += 13 * 3_600
        said = await home.ask("!pace")
        # A million tokens were a tenth of it.
        assert "At least 42% used: 30% was seen 13 h ago, and 1.2M tokens went through here since." in said, said
        assert "The exact use is unknown, so one task runs at a time." in said
        (part,) = [part for part in said.split("\n\n") if "account:main, 7d" in part]
        assert "may be used" not in part
        assert "≥ 42%" in await home.ask("!budget")
        (seen,) = [each for each in await data(home, "budget") if (each["kind"], each["window"]) == ("quota", "7d")]
        assert (seen["used"], seen["at_least"], seen["remaining"]) == (None, pytest.approx(0.42, abs=0.01), None)
        assert seen["seen_at"] is not None
        (window,) = [each for each in (await data(home, "pace"))["windows"] if each["window"] == "account:main/7d"]
        assert (window["used"], window["at_least"]) == (None, pytest.approx(0.42, abs=0.01))
        # A report's picture has a solid line to what was seen, and from there on what it is at least.
        found = await gather_windows(orchestrator.services, clock())
        drawn = figure_of(found, orchestrator.services.settings.timezone, clock())
        assert drawn is not None
        (panel,) = [panel for panel in drawn.panels if panel.title == "main 7d"]
        assert [amount for _, amount in (panel.used[-1], panel.since[-1])] == [30, pytest.approx(42, abs=1)]


async def test_when_a_window_begins_anew_can_be_said_by_a_person(home: House, clock: Clock) -> None:
    now = clock()

    def written(ahead: float) -> str:
        return datetime.fromtimestamp(now + ahead, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async with home.open():
        set_ = "!budget set account:main 100% --window 7d --reset-at"
        for ahead, says in ((-60, "is in the past: it is"), (8 * 86_400, "is beyond the window: it is 7 d long")):
            said = await home.ask(f"{set_} {written(ahead)}")
            assert says in said, said
            assert "Nothing was set." in said
        assert "is no moment. Write it like 2026-11-25 09:00 (Europe/Vienna)" in await home.ask(f"{set_} tomorrow")
        moment = written(2 * 86_400)
        assert "100% of the window 7d of main. It resets at" in await home.ask(f"{set_} {moment}")
        (row,) = [each for each in await data(home, "budget") if each["window"] == "7d" and each["kind"] == "quota"]
        assert (row["reset_confidence"], row["reset_at"][:19]) == ("user", moment[:19])
        # All of it is no limit besides the provider's.
        assert not [each for each in await data(home, "budget") if each["kind"] == "pool" and each["unit"] == "share"]
        await home.ask("!budget clear account:main --window 7d")
        assert "taken back" in await home.ask("!confirm")


async def test_a_reset_is_only_said_of_a_subscription_and_a_share_only_of_a_window_that_is_there(home: House) -> None:
    async with home.open():
        for text, says in (
            ("host 5M --window day --reset-at 2026-11-25T09:00:00Z", "--reset-at says when the window of a subscr"),
            ("agent:coder0 20%", "A share of which account? Write --of"),
            ("agent:coder0 20% --of mian --window 7d", "Did you mean 'main'?"),
            ("agent:coder0 20% --of main", "A share of which window? Write --window 5h or 7d."),
            ("agent:coder0 20% --of main --window 6d", "has no window '6d'; there are 5h, 7d."),
            ("account:main 100% --window 7d", "All of its own window is no limit."),
            ("agent:coder0 120% --of main --window 7d", "expected a share above 0% and up to 100%"),
            ("agent:coder0 -5% --of main --window 7d", "share above 0%"),
            ("agent:coder0 5M --of main", "leave --of out"),
            ("role:codr 5M --window day", "Did you mean 'coder'?"),
        ):
            said = await home.ask(f"!budget set {text}")
            assert says in said, said
        assert "30% of the window 7d of main, then cutoff." in await home.ask(
            "!budget set agent:coder0 30% --of main --window 7d"
        )
        (row,) = [each for each in await data(home, "budget") if each["kind"] == "allowance"]
        assert (row["scope"], row["limit"], row["window"]) == ("agent:coder0", 0.3, "main/7d")


async def test_an_authorization_is_given_shown_taken_back_and_ends_by_itself_told_once(
    home: House, clock: Clock
) -> None:
    async with home.open() as orchestrator:
        denied = await home.ask("!budget authorize host 5M", sender=OPERATOR)
        assert "admin" in denied
        for text, says in (
            ("agent 5M", "An authorization is for one agent"),
            ("hots 5M", "Did you mean host?"),
            ("provider:openai 5M", "`provider:openai` has no pace"),
            ("host 5usd", "is not counted in US dollars. Write tokens, like 500k"),
            ("host 5M --for 60d", "one minute up to 31 days"),
            ("host 9999999999999M", "is no limit"),
            ("host 0", "Nothing is authorized for `host` now."),
        ):
            said = await home.ask(f"!budget authorize {text}")
            assert says in said, said
        given = await home.ask("!budget authorize host 5M --for 2h")
        assert "`host` may spend 5M tokens faster than its pace, until" in given
        for command in ("!pace", "!budget"):
            assert "5M tokens of 5M tokens are authorized beyond its pace" in await home.ask(command)
        audit = await home.ask("!audit")
        assert "budget authorize" in audit
        assert "is revoked" in await home.ask("!budget authorize host 0")
        assert "authorized" not in await home.ask("!pace")

        orchestrator.services.main_room = lambda _: ("memory", "room")
        await home.ask("!budget authorize role:coder 10% --for 1h")
        clock.ahead += 3600
        await orchestrator.services.pace.redraw()
        await home.heard(
            "room",
            "The time of what was authorized for `role:coder` (10%) is over: it spends at its pace, which `!pace`",
        )
        await orchestrator.services.pace.redraw()
        await orchestrator.quiet()
        assert len([text for text in home.chat.texts("room") if "is over" in text]) == 1
        async with orchestrator.store.read() as tx:
            assert [each.ended for each in await pacing_windows.ended(tx, 0)] == ["taken back", "over"]


async def test_what_is_spent_since_leave_was_given_is_taken_from_it_though_muster_died_right_after(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Context.commit

    async def killed(self: Context[Any], step: str, act: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
        await commit(self, step, act)
        raise RuntimeError("killed once it was committed")

    async with home.open() as orchestrator:
        await orchestrator.services.pace.redraw()
        monkeypatch.setattr(Context, "commit", killed)
        await home.ask("!budget authorize host 5M --for 2h")
        async with orchestrator.store.read() as tx:
            (given,) = await pacing_windows.live(tx)
            lines = await pacing_windows.lines(tx)
        # By a line that is older, whoever starts next would take what was spent meanwhile for spent before.
        assert float(lines["host/tokens/day"]["drawn_at"]) >= given.granted_at


async def test_programs_are_told_what_is_authorized_in_the_unit_of_each_window(home: House) -> None:
    async with home.open():
        await home.ask("!budget authorize role:coder 10% --for 1h")
        windows = {each["window"]: each for each in (await data(home, "pace"))["windows"]}
        # Of five million tokens.
        assert windows["role:coder/tokens/day"]["authorized"] == 500_000
        assert windows["host/tokens/day"]["authorized"] == 0
        quota = windows["account:main/7d"]
        assert (quota["used"], quota["reset_at"], quota["reset_confidence"]) == (None, None, "unknown")


async def test_no_reset_is_taken_of_a_window_of_unknown_length_that_is_years_away(tmp_path: Path, clock: Clock) -> None:
    account = _ACCOUNT.replace("windows: [5h, 7d], ", "")
    made = house(tmp_path, settings="timezone: UTC\n", roster=_ROSTER, account=account, clock=clock)
    async with made as home, home.open():
        await observed(home, 0.5, home.clock() + 3600, window="weekly", window_s=None)
        said = await home.ask("!budget set account:main 100% --window weekly --reset-at '9998-01-01 09:00'")
        assert "more than a year away" in said, said


async def test_lines_are_kept_over_a_restart_and_each_is_in_the_log(home: House, clock: Clock) -> None:
    async with home.open() as orchestrator:
        await orchestrator.services.pace.redraw()
        async with orchestrator.store.read() as tx:
            before = await pacing_windows.lines(tx)
            log = await pacing_windows.befell(tx, 0)
        assert "host/tokens/day" in before
        assert {each.window for each in log if each.kind == "first"} == set(before)
    async with home.open() as orchestrator:
        await orchestrator.services.pace.redraw()
        async with orchestrator.store.read() as tx:
            assert await pacing_windows.lines(tx) == before
    # The clock goes back by two hours: what was drawn in the future is dropped, and told as that.
    clock.ahead -= 7200
    async with home.open() as orchestrator:
        await orchestrator.services.pace.redraw()
        async with orchestrator.store.read() as tx:
            after, log = await pacing_windows.lines(tx), await pacing_windows.befell(tx, 0)
        assert all(line["drawn_at"] <= clock() for line in after.values())
        assert "host/tokens/day" in {each.window for each in log if each.kind == "clock_skew"}


async def test_the_egress_holds_a_lift_only_while_it_is_authorized(home: House, clock: Clock) -> None:
    async with home.open() as orchestrator:
        await home.launch("coder0")

        async def host() -> dict[str, Any]:
            standing = await egress_client(orchestrator).standing()
            assert standing is not None
            (found,) = [each for each in standing["limits"] if each["scope"] == "host"]
            return dict(found)

        await home.ask("!budget set host 1k --window day")
        await home.heard(await home.thread("coder0"), "Ready")
        async with orchestrator.store.write(STEP) as tx:
            entry = ledger_row(1, agent="coder0", role="coder", ended_at=clock(), input_tokens=1000, output_tokens=0)
            entry |= {"cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0}
            await usage_ledger.add(tx, [entry])
        await home.ask("!budget authorize host 5k --for 2h")
        lifted = await host()
        assert lifted["limit"] == 1000 + lifted["lift"]
        assert 4000 <= lifted["lift"] <= 5000
        shown = [each for each in await data(home, "budget") if each["scope"] == "host"]
        assert [each["limit"] for each in shown] == [1000]
        async with orchestrator.store.read() as tx:
            (given,) = await pacing_windows.live(tx)
        # Taken back, it is the egress that hears of it first: whoever is killed then leaves it low.
        assert await orchestrator.services.pace.withhold([given.id])
        assert (await host())["lift"] == 0
        async with orchestrator.store.read() as tx:
            assert len(await pacing_windows.live(tx)) == 1
        await home.ask("!budget authorize host 0")
        assert (await host())["lift"] == 0


async def test_a_provider_that_makes_up_windows_does_not_fill_the_room(tmp_path: Path, clock: Clock) -> None:
    account = "main: {provider: anthropic, kind: subscription, base_url: URL, credential: 'env:KEY'}"
    async with house(tmp_path, account=account, clock=clock) as home, home.open() as orchestrator:
        for number in range(40):
            await observed(home, 0.5, clock() + 86_400, window=f"w{number}")
        snapshot = await orchestrator.services.pace.snapshot()
        assert len(snapshot.standings) == 24
        assert "account:main/w39" in snapshot.standings


async def test_the_egress_holds_a_share_once_it_is_learned_what_a_token_is(home: House, clock: Clock) -> None:
    async with home.open() as orchestrator:
        await home.launch("coder0")
        resets = clock() + 4 * 86_400
        await observed(home, 0.6, resets)
        # A token is a thousandth of the window: 20 percent of it are 200 tokens.
        await observed(home, 0.7, resets, tokens=100.0)
        orchestrator.services.pace.renew()
        assert await egress_client(orchestrator).push()
        standing = await egress_client(orchestrator).standing()
        assert standing is not None
        (share,) = [each for each in standing["limits"] if each["account"]]
        assert (share["scope"], share["account"], share["limit"]) == ("agent:coder0", "main", 200)
        await home.ask("!send coder0 hello")
        said = await home.heard(await home.thread("coder0"), "0 of 200 tokens per 7d used")
        assert "`!budget authorize agent:coder0 AMOUNT`" in said
