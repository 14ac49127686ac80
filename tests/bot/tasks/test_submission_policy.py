"""For whom a task counts that an agent asks for."""

from __future__ import annotations

from typing import Any

from bot.tasks.submission_policy import payer_of
from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agent_messages, agents
from database.queries.agents.agent_messages import AgentMessage
from database.queries.tasks import Task
from fleet.control.task_attempt_ids import message_of

STEP = declare("tests.task_asking")
PEOPLE = {"Bea": ("memory:@bea", "discord:345678901234567890")}


def agent(name: str) -> agents.AgentRow:
    return agents.AgentRow(
        name=name, role="coder", runtime="sim", model=None, sandbox="none", workspace="/w", wanted="running",
        at_once=False, keep_session=True, state="busy", detail=None, launch_id=name, launched_by="agent:lead0",
        connector="memory", room="room", thread_key=name, started_at=1.0, stopped_at=None,
    )  # fmt: skip


def message(to: str, sender: str, message_id: str, state: str = "accepted") -> AgentMessage:
    return AgentMessage(
        id=message_id, agent=to, mode="queue", text="x", attachments=(), sender=sender, connector=None,
        conversation=None, event_id=None, answer_in=None, state=state, turn=None, detail=None, created_at=1.0,
        updated_at=1.0, give_up_at=1.0,
    )  # fmt: skip


def task(task_id: str, **said: Any) -> Task:
    plain: dict[str, Any] = {
        "id": task_id, "kind": "task", "text": "x", "lane": "l", "operator": "memory:@ana", "state": "running",
        "attempt": 1, "created_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip
    return Task(**plain | said)


async def test_it_counts_for_the_person_whom_the_agent_works_for_and_else_for_its_role(store: Store) -> None:
    async with store.write(STEP) as tx:
        for name in ("lead0", "coder0", "coder1", "coder2", "coder3"):
            await agents.add(tx, agent(name))
        assert await payer_of(tx, "memory:@ana", PEOPLE) is None, "what people ask for counts for them as it is"
        assert await payer_of(tx, "memory:@bea", PEOPLE) is None
        assert await payer_of(tx, "discord:345678901234567890", PEOPLE) == "memory:@bea", "one person takes one turn"
        # A person's words, a person's task, a task that was asked for in that, and another agent's words.
        await agent_messages.add(tx, message("lead0", "memory:@ana", "m1"))
        await tasks.add(tx, task("0000000a"))
        await agent_messages.add(tx, message("coder0", "memory:@ana", message_of("0000000a", 1)))
        await tasks.add(tx, task("0000000b", operator="agent:coder0", charged_to="memory:@ana"))
        await agent_messages.add(tx, message("coder1", "agent:coder0", message_of("0000000b", 1)))
        await agent_messages.add(tx, message("coder2", "agent:coder1", "m2"))
        await agent_messages.add(tx, message("coder3", "memory:@ana", "m3", state="finished"))
        found = [
            await payer_of(tx, f"agent:{name}", PEOPLE) for name in ("lead0", "coder0", "coder1", "coder2", "coder3")
        ]
        assert found == ["memory:@ana"] * 3 + ["role:coder"] * 2
        assert await payer_of(tx, "agent:nobody", PEOPLE) is None
