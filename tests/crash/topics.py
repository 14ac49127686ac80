"""A topic is opened, begun, frozen, woken, ended and forgotten once, and each word of it reaches its agent once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from bot.agents.desired_state import DesiredStates
from bot.agents.journal.effects import JournalEffects
from bot.agents.journal.projection import Note, frozen_as
from bot.auth.permission import OPERATOR
from bot.auth.permissions import Operators
from bot.commands import sections
from bot.commands.executor import Executor
from bot.config.limits import Budgets
from bot.config.pacing import Pacing
from bot.config.projects import ProjectBlock, TopicsBlock
from bot.config.schema import Retention
from bot.interfaces.chat.router import ChatRouter
from bot.interfaces.chat.unknown_senders import UnknownSenders
from bot.messaging.attachments import Pictures
from bot.messaging.composer import Composer
from bot.messaging.event_hub import EventHub
from bot.messaging.fleet_port import AgentView
from bot.messaging.own_messages import OwnMessages
from bot.pacing.window_status import PaceSnapshot
from bot.projects.forgetting import Forgetting
from bot.projects.service import Topics
from bot.reports.services import ReportServices
from budget.windows.even_spread_line import PacePolicy
from connectors.contract.messages import Batch, Inbound, Sent, Text
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from core.redaction import SecretMasker
from database.queries.agents import agent_messages, agents
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.chat import topics
from database.schema import outbox as outbox_table
from database.schema import topic_words
from fleet.control.agent_host_client import HostStatus
from fleet.errors import FleetError
from fleet.roster.launch_overrides import Basis
from fleet.roster.loader import Roster
from fleet.supervision.liveness import Liveness
from tests.crash import chat
from tests.crash.deaths import Subject, both

STEP = declare("tests.topics")
NOON = 1_796_040_000.0
ROOM, THREAD = "web-room", "thread-1"


class Planner:
    """Plans the agent of a topic, once the file `ready` is there."""

    profiles: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.ready = folder / "ready"
        self.workspaces = SimpleNamespace(
            collect=lambda _: None,
            remove=lambda *_: True,
            unsaved=lambda *_: None,
            discard=lambda *_: True,
            place=lambda _, named: named,
            release=lambda _: None,
            own=lambda name: folder / "workspaces" / name,
        )

    def plan(self, name: str, asked: dict[str, str | None]) -> Any:
        if not self.ready.exists():
            raise FleetError("the runtime is not installed.", code="runtime.missing")
        basis = Basis(said={}, roster={})
        return SimpleNamespace(
            name=name, role="coder", runtime="sim", model=None, sandbox=asked["sandbox"], workspace=asked["workspace"],
            basis=basis, alias=None, kind="none", accounts={}, new=True, room=None,
        )  # fmt: skip

    def as_it_is(self, row: AgentRow) -> None:
        del row

    def read_roster(self) -> Roster:
        return Roster()


class Desk:
    """As much of a running Muster as topics need, without agent hosts and without an egress."""

    async def open(self, folder: Path, now: float) -> Desk:
        self.folder, self.now = folder, now
        self.store = await chat.opened(folder)
        speaker = Composer(folder / "files")
        self.channel = channel = JournalEffects(
            speaker, SecretMasker(), lambda _: ALL_CAPABILITIES, lambda: now, lambda at: f"{at:.0f}", "!"
        )

        async def send(tx: Any, row: AgentRow, text: str, *, message_id: str, by: str, **given: Any) -> None:
            whence: Any = {key: given.get(key) for key in ("connector", "conversation", "event_id", "answer_in")}
            message = AgentMessage(
                id=message_id, agent=row.name, mode="queue", text=text, attachments=(), sender=by, state="pending",
                turn=None, detail=None, created_at=now, updated_at=now, give_up_at=now + 9e9, **whence,
            )  # fmt: skip
            await agent_messages.add(tx, message)

        async def view() -> list[AgentView]:
            async with self.store.read() as tx:
                rows = await agents.every(tx)
            idle = Liveness(state="idle", evidence="protocol", evidence_at=NOON, detail=None)
            status = HostStatus(state="idle", event_at=NOON)
            return [AgentView(row=row, liveness=idle, status=status, activity=None, queued=0) for row in rows]

        async def get(name: str) -> AgentRow:
            async with self.store.read() as tx:
                found = await agents.get(tx, name)
            assert found is not None
            return found

        async def dismissed(_: str) -> bool:
            return True

        async def paced() -> PaceSnapshot:
            return PaceSnapshot(now=now, policy=PacePolicy())

        async def spoken_to(*_: object) -> None:
            pass

        nothing = SimpleNamespace(wake=lambda: None)
        fleet = SimpleNamespace(
            journal_effects=channel,
            desired_states=DesiredStates(journal_effects=channel, clock=lambda: now, send=send, patience=60.0),
            send=send, view=view, get=get, look_again=lambda _: None, bring_mail=lambda _: None,
            is_ours=lambda _: True, dismiss=dismissed,
        )  # fmt: skip
        settings = SimpleNamespace(
            projects={"web": ProjectBlock(repo=str(folder / "repo"), room=f"memory:{ROOM}", idle=600.0)},
            rooms={}, topics=TopicsBlock(), people={}, timezone=ZoneInfo("UTC"), budgets=Budgets(), accounts={},
            pacing=Pacing(), command_prefix="!", retention=Retention(),
        )  # fmt: skip
        whole: dict[str, Any] = {
            "agents": fleet, "settings": settings, "planner": Planner(folder), "dispatcher": nothing,
            "delivery": nothing, "pace": SimpleNamespace(snapshot=paced), "egress_client": None,
            "runaway": SimpleNamespace(spoken_to=spoken_to),
            "paths": SimpleNamespace(private_folders=lambda: (), agent_folder=lambda name: folder / "agents" / name),
        }  # fmt: skip
        self.services = ReportServices(
            clock=lambda: now,
            store=self.store,
            table=sections.load(),
            operators=Operators(self.store, {f"memory:{chat.ANA}": OPERATOR}),
            events=EventHub(),
            capabilities=lambda _: ALL_CAPABILITIES,
            **whole,
        )
        self.services.topics = self.topics = Topics(self.services)
        self.router = ChatRouter(
            self.services,
            Executor(self.services),
            speaker,
            UnknownSenders(self.services, speaker),
            Pictures(folder / "pictures", lambda _: None),
            OwnMessages(self.store),
        )
        return self

    async def hear(self, number: int, text: str, *, thread: bool = False) -> None:
        """Accept what Ana writes, and deal with what was not dealt with."""
        event = Inbound(
            connector="memory", event_id=f"${number}", conversation=THREAD if thread else ROOM,
            parent=ROOM if thread else None, sender=chat.ANA, sent_at=NOON, body=Text(text=text),
        )  # fmt: skip
        async with self.store.write(STEP) as tx:
            await inbox.accept(tx, "memory", Batch(events=(event,), cursor=None), self.now)
        async with self.store.read() as tx:
            arrivals = [Arrival.from_row(row) for row in await inbox.unhandled(tx, after=0)]
        for arrival in arrivals:
            await self.router.handle(arrival)

    async def opened_thread(self) -> None:
        """Let the chat system have the message that opens the thread."""
        async with self.store.write(STEP) as tx:
            topic = await topics.of_agent(tx, "web-1")
            assert topic is not None
            await outbox.mark_sent(tx, {topic.thread_key: Sent(event_id="$th", conversation=THREAD)}, self.now)

    async def state(self) -> str:
        async with self.store.read() as tx:
            topic = await topics.of_agent(tx, "web-1")
        return "none" if topic is None else topic.state

    async def frozen(self) -> None:
        """Follow the journal of the agent to where its host has frozen it."""
        async with self.store.write(STEP) as tx:
            row = await agents.get(tx, "web-1")
            assert row is not None
            note = Note("j/frozen", "brings it back", announces=frozen_as(row.name, row.launch_id))
            await self.channel.carry_out(tx, row, note)

    async def heard_back(self, text: str) -> bool:
        async with self.store.read() as tx:
            return any(each.text == text for each in await agent_messages.in_states(tx, ["pending"], agent="web-1"))


def _git(folder: Path) -> None:
    """The files of a repository, as far as anybody looks at them here."""
    git = folder / "repo" / ".git"
    for each in ("objects", "refs"):
        (git / each).mkdir(parents=True, exist_ok=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")


async def lived(folder: Path) -> None:
    """Open a topic that cannot begin yet, write to it, begin it, leave it alone, write again, and end it."""
    _git(folder)
    desk = await Desk().open(folder, NOON)
    await desk.hear(0, "mend it")
    await desk.opened_thread()
    if await desk.state() == "waiting":
        await desk.topics.look()
    await desk.hear(1, "and soon", thread=True)
    (folder / "ready").touch()
    await desk.store.close()

    desk = await Desk().open(folder, NOON + 100)
    if await desk.state() == "waiting":
        await desk.topics.look()
    await desk.store.close()

    desk = await Desk().open(folder, NOON + 10_000)
    if await desk.state() == "open" and not await desk.heard_back("still there?"):
        await desk.topics.look()
    if await desk.state() == "idle" and not await desk.heard_back("still there?"):
        await desk.frozen()
    await desk.hear(2, "still there?", thread=True)
    await desk.store.close()

    desk = await Desk().open(folder, NOON + 10_100)
    if await desk.state() == "waking":
        await desk.topics.look()
    if await desk.state() == "open":
        # Ana stops its agent herself.
        async with desk.store.write(STEP) as tx:
            await agents.change(tx, "web-1", wanted="stopped", state="stopped")
        await desk.topics.look()
    await desk.hear(3, "!done --how discard", thread=True)
    if await desk.state() == "ending":
        await desk.topics.look()
    await desk.store.close()


async def outlived(folder: Path) -> None:
    """Let a topic live, and forget it when it ended long ago."""
    await lived(folder)
    # What its agent host would have left.
    journal = folder / "agents" / "web-1" / "journal"
    if await _there(folder):
        journal.mkdir(parents=True, exist_ok=True)
        (journal / "00000001.jsonl").touch()
    desk = await Desk().open(folder, NOON + 40 * 86_400)
    await Forgetting(desk.services).sweep()
    await desk.store.close()


async def _there(folder: Path) -> bool:
    """Return whether the register still has the agent."""
    desk = await Desk().open(folder, NOON + 20_000)
    async with desk.store.read() as tx:
        found = await agents.get(tx, "web-1")
    await desk.store.close()
    return found is not None


async def is_forgotten(folder: Path) -> None:
    """Nothing is left of the topic but its name, its thread, and how it ended."""
    desk = await Desk().open(folder, NOON + 50 * 86_400)
    async with desk.store.read() as tx:
        topic = await topics.of_agent(tx, "web-1")
        assert topic is not None
        assert (topic.state, topic.outcome, topic.title) == ("forgotten", "discard", "")
        assert await agents.every(tx) == []
        assert await topics.last_number(tx, "web") == 1
    await desk.store.close()
    assert not (folder / "agents" / "web-1").exists()


async def stands_once(folder: Path) -> None:
    desk = await Desk().open(folder, NOON + 20_000)
    async with desk.store.read() as tx:
        (topic,) = await topics.ended(tx, limit=10)
        assert (topic.agent, topic.outcome) == ("web-1", "discard")
        said = [each.text for each in await agent_messages.in_states(tx, ["pending"], agent="web-1")]
        assert said == ["mend it", "and soon", "still there?"]
        assert [row.name for row in await agents.every(tx)] == ["web-1"]
        assert await tx.scalar(select(func.count()).select_from(topic_words)) == 0
        rows = (await tx.execute(select(outbox_table.c.key, outbox_table.c.content))).all()
    await desk.store.close()
    openers = [key for key, content in rows if content["type"] == "open_thread"]
    assert openers == [topic.thread_key]
    assert not any("brings it back" in str(content) for _, content in rows), "it wakes with a reply"
    for sign in ("has not begun", "Write here to wake it", "its work is discarded", "Discarded"):
        assert sum(sign in str(content) for _, content in rows) == 1, sign


PLACES = ("add", "add_words", "note", "begin", "idle", "wake", "follow", "end")
TOPICS = Subject(script=lived, invariant=stands_once, walks=[both(*(f"topics.{each}" for each in PLACES))])
#: Each process dies at one of them; above they die one after the other.
EACH_TOPIC = Subject(
    script=lived,
    invariant=stands_once,
    walks=[
        (place,)
        for place in (
            *both(*(f"topics.{each}" for each in PLACES)),
            *both("chat.talk", "command.step", "command.finish"),
        )
    ],
)
#: The steps of forgetting it.
FORGOTTEN_TOPIC = Subject(
    script=outlived,
    invariant=is_forgotten,
    walks=[
        both("removal.hold", "removal.remove", "topics.forgotten"),
        *((place,) for place in both("removal.remove", "topics.forgotten")),
        # The agent is held first, and let go of when the register has it no more.
        ("removal.hold.before:2",),
        ("removal.hold.after:2",),
    ],
)
