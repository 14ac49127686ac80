"""One tap on a permission request adds a rule, or answers all requests that its message lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.memory import Said
from database.queries.chat import approval_rules, approvals
from database.queries.chat.approval_rules import RuleRow
from tests.bot import fake_agents
from tests.bot.orchestrator import ADMIN, OPERATOR, House, house


def asked(home: House, thread: str, command: str) -> Said | None:
    """The request about a command that waits in a thread."""
    found = [said for said in home.chat.messages(thread) if f"`{command}`\n" in said.text and "asks for" in said.text]
    return found[-1] if found else None


async def question(home: House, thread: str, command: str) -> Said:
    await home.chat.until(lambda: asked(home, thread, command), limit=30)
    found = asked(home, thread, command)
    assert found is not None
    return found


async def rules(home: House) -> list[RuleRow]:
    async with home.orchestrator.store.read() as tx:
        return await approval_rules.every(tx, home.clock())


@pytest.mark.slow
async def test_an_admin_allows_a_prefix_for_good_and_an_operator_cannot(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        event = home.say("[[run: git log -1]]", thread)
        request = await question(home, thread, "git log -1")
        assert "📌 Always allow commands that begin with git log (admins): `!approve" in request.text

        home.chat.react(request.event_id, "📌", sender=OPERATOR, conversation=thread)
        await home.heard(thread, "only admins add rules")
        assert await rules(home) == []

        home.chat.react(request.event_id, "📌", sender=ADMIN, conversation=thread)
        await home.marks(event, "✅")
        [rule] = await rules(home)
        assert (rule.effect, rule.command, rule.match, rule.scope, rule.until) == (
            "allow", "git log", "prefix", "agent:coder0", None,
        )  # fmt: skip
        assert rule.added_by == "memory:@ana"

        event = home.say("[[run: git log -2]]", thread)
        await home.marks(event, "✅")
        assert asked(home, thread, "git log -2") is None


async def test_a_kind_of_request_is_allowed_for_half_an_hour(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        event = home.say("[[run: touch one.txt]]", thread)
        request = await question(home, thread, "touch one.txt")
        home.chat.react(request.event_id, "⏱️", conversation=thread)
        await home.marks(event, "✅")
        [rule] = await rules(home)
        assert (rule.kind, rule.command, rule.scope) == ("execute", None, "agent:coder0")
        assert rule.until is not None
        assert 1700 < rule.until - home.clock() <= 1800
        event = home.say("[[run: touch two.txt]]", thread)
        await home.marks(event, "✅")
        assert asked(home, thread, "touch two.txt") is None
        shown = await home.ask("!approvals rule list")
        assert "**allow** running commands, for `agent:coder0`, for " in shown


@pytest.mark.slow
async def test_one_answer_allows_what_its_message_lists_and_no_more(tmp_path: Path) -> None:
    async with house(tmp_path, roster=fake_agents.scripted(tmp_path, imp="good")) as home, home.open():
        thread = await fake_agents.launch(home, "imp")
        event = home.say("ask-together=one,two,three", thread)

        async def last() -> approvals.Approval | None:
            async with home.orchestrator.store.read() as tx:
                found = await approvals.in_states(tx, ["pending"])
            return next((each for each in found if len(each.together or ()) == 2), None)

        await home.chat.until(lambda: len(waiting(home, thread)) == 3, limit=30)
        newest = await last()
        assert newest is not None
        text = next(said.text for said in home.chat.messages(thread) if f"`{newest.id}`:" in said.text)
        assert "⏩ Allow all 3 requests below once" in text
        # Each stands there whole.
        assert all(f"\n{command}\n" in text for command in ("one", "two", "three"))
        assert "Allowed once: 3 requests of imp." in await home.ask(f"!approve {newest.id} --all")
        await home.marks(event, "✅")
        answers = [each["outcome"]["optionId"] for each in fake_agents.recorded(tmp_path, "imp") if "answered" in each]
        assert answers == ["yes", "yes", "yes"]


def waiting(home: House, thread: str) -> list[Said]:
    return [said for said in home.chat.messages(thread) if "asks for permission" in said.text]


async def test_a_rule_answers_what_waits_already(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        event = home.say("[[run: touch one.txt]]", thread)
        await question(home, thread, "touch one.txt")
        added = await home.ask('!approvals rule add allow "touch one.txt"')
        rule = added.split("`")[1]
        await home.marks(event, "✅")
        await home.heard(thread, f"☑️ allowed by rule {rule}")
        assert "Nothing waits for an answer" in await home.ask("!approvals")


async def test_a_choice_too_many_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        home.say("[[run: touch one.txt]]", thread)
        request = await question(home, thread, "touch one.txt")
        id_ = request.text.split("permission `")[1].split("`")[0]
        assert "Give one of" in await home.ask(f"!approve {id_} --always --for 30m")
        # No prefix of it is sound, and nothing else waits.
        assert "cannot be answered with 'prefix'" in await home.ask(f"!approve {id_} --prefix")
        assert "cannot be answered with 'all'" in await home.ask(f"!approve {id_} --all")
        assert "one minute up to 31 days" in await home.ask(f"!approve {id_} --for 1s")
        assert f"`{id_}`" in await home.ask("!approvals")
