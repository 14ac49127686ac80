"""Answers to permission requests, and what stands afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.agents.journal.follower import FOLLOW
from bot.approvals.service import answer, fallback
from bot.text.errors import UserError
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval, Grant
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused
from fleet.host.permission_requests import GRANTS
from tests.bot import fake_agents
from tests.bot.orchestrator import House, house


@pytest.mark.slow
async def test_always_that_came_too_late_allows_nothing_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        home.say("[[run: echo late > proof.txt]]", thread)
        question = await home.heard(thread, "asks for permission")
        approval = question.split("permission `")[1].split("`")[0]

        async def late(self: AgentLink, **_: object) -> str:
            raise AgentRefused("That request is over.", refusal="too_late")

        monkeypatch.setattr(AgentLink, "answer", late)
        await home.ask(f"!approve {approval} --always", conversation=thread)
        await home.heard(thread, "too late for request")
        assert "Nothing is always allowed" in await home.ask("!grants")


async def test_of_two_who_answer_at_once_the_second_is_told_who_was_first(register_url: str) -> None:
    store = await Store.open(register_url)
    asked = Approval(
        id="1f2e", agent="coder0", incarnation=1, session="s", request="r", digest="d", title="rm", detail="rm",
        options=[{"id": "y", "name": "Yes", "kind": "allow_once"}], state="pending", outbox_key="a/1f2e", asked_at=1.0,
        expires_at=9.0,
    )  # fmt: skip
    async with store.write(FOLLOW) as tx:
        await approvals.add(tx, asked)
    # Both were read before either was written, in two rooms.
    async with store.write(FOLLOW) as tx:
        await answer(tx, asked, "allow", by="matrix:@ana:x", through=None, source="$1", now=2.0, redact=SecretMasker())
    async with store.write(FOLLOW) as tx:
        with pytest.raises(UserError, match="`1f2e` of coder0 is over: matrix:@ana:x answered it"):
            await answer(tx, asked, "deny", by="discord:1", through=None, source="$2", now=2.0, redact=SecretMasker())
        assert "goes to coder0" in await answer(
            tx, asked, "allow", by="matrix:@ana:x", through=None, source="$1", now=2.0, redact=SecretMasker()
        )
        found = await approvals.get(tx, "1f2e")
    assert found is not None
    assert (found.answer or {})["by"] == "matrix:@ana:x"
    await store.close()


async def test_the_answer_shows_no_half_of_a_secret_where_it_is_cut(register_url: str) -> None:
    store = await Store.open(register_url)
    secret = f"{'k3y' * 20}/{'s1gn' * 20}"
    asked = Approval(
        id="1f2e", agent="coder0", incarnation=1, session="s", request="r", digest="d",
        title=f"curl -H 'x-amz-security-token: {secret}' https://example.org", detail="curl",
        options=[{"id": "y", "name": "Yes", "kind": "allow_once"}], state="pending", outbox_key="a/1f2e", asked_at=1.0,
        expires_at=9.0,
    )  # fmt: skip
    async with store.write(FOLLOW) as tx:
        await approvals.add(tx, asked)
        told = await answer(
            tx,
            asked,
            "allow",
            by="matrix:@ana:x",
            through=None,
            source="$1",
            now=2.0,
            redact=lambda text: text.replace(secret, "[masked]"),
        )
    assert "[masked]" in told
    assert "k3y" not in told
    await store.close()


@pytest.mark.slow
async def test_always_stands_once_the_agent_took_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
            home.say("[[run: echo twice >> proof.txt]]", thread)
            question = await home.heard(thread, "asks for permission")
            approval = question.split("permission `")[1].split("`")[0]
            await home.ask(f"!approve {approval} --always", conversation=thread)
            proof = home.paths.workspace("coder0") / "proof.txt"
            await home.chat.until(proof.exists, limit=30)
        async with home.open():
            await home.heard(thread, "☑️ always allowed by memory:@ana")
            assert "echo twice" in await home.ask("!grants")
            await home.ask("!restart coder0")
            event = home.say("[[run: echo twice >> proof.txt]]", thread)
            await home.marks(event, "✅")
            assert proof.read_text() == "twice\ntwice\n"


async def asked_beyond(home: House, *kinds: str) -> tuple[str, str]:
    """An agent for which as much is allowed for always as it can hold asks for one thing more.

    Returns:
        Its thread and the id of the request, which offers an option of each of `kinds`.
    """
    async with home.orchestrator.store.write(FOLLOW) as tx:
        for number in range(GRANTS):
            grant = Grant(
                id=f"g{number}", agent="imp", digest=f"d{number}", title="t", detail="t", granted_by="x", granted_at=0.0
            )
            await approvals.add_grant(tx, grant)
    thread = await fake_agents.launch(home, "imp")
    options = [{"optionId": kind, "name": kind, "kind": kind} for kind in kinds]
    call = {"title": "one more", "rawInput": {"command": "echo one more"}}
    home.say(fake_agents.steps({"ask": call, "options": options}), thread)
    question = await home.heard(thread, "asks for permission")
    return thread, question.split("permission `")[1].split("`")[0]


async def outcome(home: House, folder: Path) -> Any:
    """What the agent's runtime was answered."""

    def answers() -> list[Any]:
        return [each["answered"] for each in fake_agents.recorded(folder, "imp") if "answered" in each]

    await home.chat.until(answers, limit=30)
    return answers()[0]["outcome"]


@pytest.mark.slow
async def test_an_always_too_many_allows_once_and_is_said_to(tmp_path: Path) -> None:
    async with house(tmp_path, roster=fake_agents.roster(tmp_path, "imp")) as home, home.open():
        thread, approval = await asked_beyond(home, "allow_once", "allow_always", "reject_once")
        await home.ask(f"!approve {approval} --always", conversation=thread)
        told = await home.heard(thread, "allowed once, not for always")
        assert f"{GRANTS} things" in told
        assert "`!grant revoke" in told
        await home.heard(thread, "☑️ allowed once by memory:@ana")
        assert await outcome(home, tmp_path) == {"outcome": "selected", "optionId": "allow_once"}
        assert "one more" not in await home.ask("!grants")


async def test_an_always_too_many_that_is_all_there_is_to_allow_is_denied(tmp_path: Path) -> None:
    async with house(tmp_path, roster=fake_agents.roster(tmp_path, "imp")) as home, home.open():
        thread, approval = await asked_beyond(home, "allow_always", "reject_once")
        refused = await home.ask(f"!approve {approval}", conversation=thread)
        assert "its runtime offers always, deny" in refused
        await home.ask(f"!approve {approval} --always", conversation=thread)
        assert "`!grant revoke" in await home.heard(thread, "is denied instead")
        await home.heard(thread, "☑️ denied by muster")
        assert await outcome(home, tmp_path) == {"outcome": "selected", "optionId": "reject_once"}


@pytest.mark.parametrize(
    ("code", "answer", "instead"),
    [
        ("too_late", {"option": "yes", "always": False}, None),
        ("too_many_grants", {"option": "yes", "always": True}, {"option": "yes", "always": False}),
        ("too_many_grants", {"option": "yes", "always": False}, {"option": None, "always": False}),
        ("unknown_option", {"option": "what", "always": True}, {"option": None, "always": False}),
        ("a later version's", {"option": "yes", "always": False}, {"option": None, "always": False}),
        ("a later version's", {"option": None, "always": False}, None),
    ],
)
def test_what_an_agent_does_not_take_never_allows_more(
    code: str, answer: dict[str, Any], instead: dict[str, Any] | None
) -> None:
    kinds = {"yes": "allow_once", "ever": "allow_always", "no": "reject_once"}
    request = Approval(
        id="a1", agent="imp", incarnation=1, session="s", request="1", digest="d", title="t", detail="t",
        options=[{"id": id_, "name": id_, "kind": kind} for id_, kind in kinds.items()], state="answering",
        outbox_key="a/1", asked_at=0.0, expires_at=9.0, answer=answer,
    )  # fmt: skip
    found = fallback(request, code)
    assert instead == (None if found is None else {key: found[key] for key in ("option", "always")})
