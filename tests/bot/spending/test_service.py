"""Setting limits by command: of what is there, and without one that is silently beside or instead of another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli.main import MusterProgram
from tests.bot.orchestrator import House, house

_SETTINGS = "budgets:\n  host: [{tokens: 20M, window: day}, {usd: 300, window: month}]\n"
_ROSTER = "preset: minimal\nagents:\n  - {name: coder0, runtime: sim, sandbox: none}\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings=_SETTINGS, roster=_ROSTER) as made:
        yield made


async def test_limits_of_several_windows_hold_together_and_are_told_and_cleared_one_by_one(home: House) -> None:
    async with home.open():
        first = await home.ask("!budget set host 5M --window day")
        assert "It replaces what the files set for it (20M tokens a day, $300.00 a month)." in first
        second = await home.ask("!budget set host 25M --window week")
        assert "Both limits apply: beside it 5M tokens a day, until `!budget clear host --window day`." in second
        again = await home.ask("!budget set host 6M --window week --policy freeze")
        assert "6M tokens a week, then freeze. Both limits apply" in again
        third = await home.ask("!budget set host 100usd")
        assert "All limits apply: beside it 5M tokens a day, 6M tokens a week" in third
        await home.ask("!budget clear host --window day")
        assert "What applies now: 6M tokens a week, $100.00." in await home.ask("!confirm")
        await home.ask("!budget clear host --window none")
        assert "What applies now: 6M tokens a week." in await home.ask("!confirm")
        refused = await home.ask("!budget clear host --window 7h")
        assert "in this window. What was set there: 6M tokens a week." in refused
        await home.ask("!budget clear host")
        assert "What the files set for it applies again: 20M tokens a day" in await home.ask("!confirm")


async def test_a_later_limit_of_an_admin_holds_at_once_beside_the_budget_of_a_launch(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0", "--budget", "500k")
        await home.marks(home.say("[[cache: 0 30000]][[say: used]]", thread), "✅")
        said = await home.ask("!budget set agent:coder0 20k --window day")
        assert "It holds at once, beside the 500k tokens of its launch's `--budget`." in said
        assert "It is passed already" in said
        assert "then cutoff" in said
        refused = home.say("[[say: too late]]", thread)
        await home.heard(thread, "reads this later")
        await home.ask("!steer coder0 '[[say: and this]]'")
        await home.heard(thread, "agent:coder0")
        assert not any("too late" in text for text in home.chat.texts(thread) if "reads this" not in text)
        rows = [line for line in (await home.ask("!budget")).splitlines() if "coder0" in line]
        assert len(rows) == 2, rows
        assert not home.chat.reactions(refused) or "✅" not in home.chat.reactions(refused)


async def test_where_a_limit_does_not_govern_every_view_says_which_does_and_why(home: House) -> None:
    async with home.open():
        await home.ask("!budget set agent:coder0 20k --window day")
        thread = await home.launch("coder0", "--budget", "500k")
        await home.marks(home.say("[[say: in time]]", thread), "✅")
        why = "does not hold for coder0: an admin launched it with `--budget` after that, which governs."
        for view in ("!budget", "!pace"):
            assert f"`agent:coder0` (20k tokens a day) {why}" in await home.ask(view), view
        each = await home.ask("!budget set agent 1k --window day")
        assert "`agent` (1k tokens a day) does not hold for coder0: an admin launched with `--budget`" in each
        (row,) = [
            row
            for row in (await asyncio.to_thread(Client(home.paths.gateway_socket).run, "budget", {})).body["data"]
            if row["scope"] == "agent:coder0"
        ]
        assert (row["state"], row["governed_by"]) == ("overruled", "launch")
        # The newest word of an admin governs.
        await home.ask("!budget set agent:coder0 30k --window day")
        assert "does not hold for coder0: an admin launched it" not in await home.ask("!budget")


async def test_a_limit_on_a_name_that_nobody_has_is_refused_with_the_nearest(home: House) -> None:
    async with home.open():
        for scope, says in (
            ("agent:codre0", "There is no agent 'codre0'; there is coder0. Did you mean 'coder0'? To set a limit"),
            ("profile:bubblewarp", "Did you mean 'bubblewrap'?"),
            ("account:simm", "there is sim. Did you mean 'sim'?"),
            ("provider:antropic", "Did you mean 'anthropic'?"),
            ("coder0", "Did you mean agent:coder0?"),
            ("hots", "Did you mean host?"),
        ):
            said = await home.ask(f"!budget set {scope} 5M")
            assert says in said
        assert "| host |" in (shown := await home.ask("!budget"))
        assert "agent" not in shown, "nothing was set"
        assert "then cutoff" in await home.ask("!budget set agent:coder0 5M")


async def test_programs_are_told_of_each_limit_in_one_shape_and_in_whole_tokens(home: House) -> None:
    async with home.open():

        def data(name: str, **arguments: str) -> Any:
            return Client(home.paths.gateway_socket).run(name, arguments).body["data"]

        set_ = await asyncio.to_thread(data, "budget set", scope="agent:coder0", limit="5M", window="day")
        found = await asyncio.to_thread(data, "budget")
    keys = {
        "scope", "agent", "kind", "limit", "unit", "used", "reserved", "remaining", "window", "reset_at",
        "reset_confidence", "policy", "state", "pace", "at_least", "seen_at", "governed_by",
        "overruled_for", "excess", "evidence",
    }  # fmt: skip
    assert [each.keys() for each in (set_, *found)] == [keys] * 4
    tokens = [each["limit"] for each in (set_, *found) if each["unit"] == "tokens"]
    assert json.dumps(sorted(tokens)) == "[5000000, 5000000, 20000000]"


async def test_a_shell_completes_scopes_and_tasks_from_what_is_there(home: House) -> None:
    async with home.open():
        await home.ask('!task add --agent coder0 "say hello"')
        client = Client(home.paths.gateway_socket)
        (task,) = (await asyncio.to_thread(client.run, "tasks", {})).body["data"]
        complete = ShellComplete(MusterProgram(sections.load(), lambda: client), {}, "muster", "X").get_completions
        for words in (["budget", "set"], ["budget", "clear"], ["budget", "authorize"]):
            offered = [each.value for each in await asyncio.to_thread(complete, words, "")]
            wanted = {"host", "agent", "account:sim", "agent:coder0", "role:board-business", "provider:openai"}
            assert wanted | {"profile:bubblewrap"} <= set(offered), words
        for words in (["task", "add", "--parent"], ["task", "close"], ["task", "cancel"]):
            offered = [each.value for each in await asyncio.to_thread(complete, words, "")]
            assert offered == [task["id"]], words
        refused = await home.ask('!task add --role nobody "say hello"')
        for each in await asyncio.to_thread(complete, ["task", "add", "--role"], ""):
            assert each.value in refused, "what is offered is allowed, and the other way round"
