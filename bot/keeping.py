"""One keeper per agent: it makes the agent what is wanted, and follows its journal into the chat.

What a keeper does is read off the register each time: the agent's row says what is wanted, and how far its journal was
told. So a keeper that is started anew goes on where the last one was killed. `bot.carrying` brings things to the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from bot import story as stories
from bot.carrying import Carrier
from bot.story import Story
from fleet import journal, lifecycle
from fleet.control import AgentLink, HostStatus
from fleet.errors import AgentRefused, AgentUnreachable, FleetError
from fleet.events import Entry, Opened, Position
from fleet.journal import JournalReader
from register.crashpoints import around, declare
from register.errors import MusterError, RegisterError
from register.queries import agents, approvals
from register.queries.agents import AgentRow, PositionRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from bot.story import Effect
    from bot.telling import Teller
    from register.store import Store

log = structlog.get_logger(__name__)

FOLLOW = declare("journal.follow")
GONE = declare("agent.gone")
SPAWN = declare("agent.spawn")
SPAWN_FAILED = declare("agent.spawn_failed")

#: Progress of an answer is shown at most this often, seconds.
PROGRESS_EVERY = 1.0
#: Entries that are folded in one go.
BATCH = 500
#: "Typing" is shown again after this, seconds; chat systems forget it.
TYPE_AGAIN = 20.0
#: What could not be told so often, each time from the beginning, is left out.
STUMBLES = 3
#: A link that broke is tried again after this, seconds.
RETRY_LINK = 0.5


class Starter(Protocol):
    """Starts agent hosts; `fleet.assembly` knows how."""

    async def start(self, row: AgentRow, *, floor: int, grants: Sequence[approvals.Grant]) -> None:
        """Start the agent host of `row`, and return when it answers.

        Raises:
            FleetError: it cannot be started; the message is for the operator.
        """

    def folder(self, name: str) -> Path: ...

    def socket(self, name: str) -> Path: ...

    def discard_workspace(self, workspace: Path, name: str) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The last that was heard from an agent host."""

    status: HostStatus
    at: float


@dataclass(slots=True)
class Keeper:
    """Follows one agent."""

    name: str
    store: Store
    teller: Teller
    starter: Starter
    clock: Callable[[], float]
    wake_delivery: Callable[[], None]
    publish: Callable[[Mapping[str, object]], None]
    show_typing: Callable[[str, str, bool], Awaitable[None]]
    """Show or stop showing, in a connector's conversation, that somebody is at work."""
    digest_after: int = 10
    """After an absence, more turns than this are told as one digest."""
    seen: Seen | None = None
    host_runs: bool | None = None
    last: Entry | None = None
    """The newest entry of the journal that was read."""
    _link: AgentLink | None = None
    _story: Story = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _stumbled: tuple[Position, int] = (Position(), 0)
    """Where the story could not be told, and how often."""
    _carrier: Carrier = field(init=False)
    _turned: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._story = Story(self.name)
        self._carrier = Carrier(
            self.name, self.store, self.teller, self.clock, self.wake_delivery, link=lambda: self._link
        )

    # --- from outside -------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The agent's row in the register changed: look again at what is wanted."""
        self._changed.set()

    def mail(self) -> None:
        """There is a message or an answer to bring."""
        self._carrier.mail()

    def killed(self) -> None:
        """The agent host was just killed: what was heard of it counts no more."""
        self.host_runs, self.seen = False, None

    @property
    def link(self) -> AgentLink | None:
        """The open link to the agent host, when there is one."""
        return self._link

    @property
    def doing(self) -> str | None:
        return self._story.view.doing() if self._story.view is not None else None

    async def run(self) -> None:
        """Keep the agent until cancelled."""
        await self._take_up()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name=f"keep {self.name}")
            tasks.create_task(self._carrier.run(), name=f"carry {self.name}")

    # --- what is wanted, and what is ----------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            async with self.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is None:
                return
            try:
                link = await self._connect()
            except AgentRefused as refusal:
                self.host_runs = True
                await self._estranged(refusal)
                continue
            self.host_runs = link is not None
            if link is None:
                await self._catch_up()
                await self._without_host()
                continue
            try:
                async with link:
                    self._link = link
                    self._carrier.mail()
                    await self._with_host(link)
            finally:
                self._link, self.seen = None, None

    async def _connect(self) -> AgentLink | None:
        """A link to the agent host if one runs; None when there is none (its lock is free)."""
        logged = False
        while True:
            try:
                return await AgentLink.connect(self.starter.socket(self.name))
            except AgentUnreachable as error:
                if not lifecycle.is_running(self.starter.folder(self.name)):
                    return None
                # It holds its lock and does not answer: it is starting, or stopped. That is not gone.
                if not logged:
                    log.info("agent.not_answering", agent=self.name, reason=str(error))
                logged = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_LINK):
                        await self._changed.wait()
                        self._changed.clear()

    async def _estranged(self, refusal: AgentRefused) -> None:
        """The host runs and speaks another protocol: say so once, and end it by force when it is no longer wanted."""
        self._changed.clear()
        async with self.store.read() as tx:
            row = await agents.get(tx, self.name)
        if row is None:
            return
        if row.wanted == "stopped" or row.state == "starting":
            await lifecycle.kill(self.starter.folder(self.name))
            return
        async with self.store.write(GONE) as tx:
            await agents.change(tx, self.name, under=row.launch_id, state="unknown", detail=str(refusal))
            await self.teller.note(tx, row, f"protocol/{row.launch_id}", f"⚠️ {refusal}")
        self.wake_delivery()
        await self._changed.wait()

    async def _without_host(self) -> None:
        async with self.store.read() as tx:
            row = await agents.get(tx, self.name)
        if row is None:
            return
        if row.wanted == "running" and row.state == "starting" and not await self._was_started(row):
            await self._start(row)
            return
        await self._report_gone(row)
        # One that an earlier process of ours was starting may come only now.
        if not lifecycle.is_running(self.starter.folder(self.name)):
            await self._changed.wait()

    async def _was_started(self, row: AgentRow) -> bool:
        """Whether this launch has had its agent host already. A launch is started once; it is not tried for ever."""
        opened = await asyncio.to_thread(journal.last_opened, self.starter.folder(self.name))
        return opened is not None and opened.launch_id == row.launch_id

    async def _start(self, row: AgentRow) -> None:
        async with self.store.read() as tx:
            position = await agents.position(tx, self.name)
            grants = await approvals.list_grants(tx, agent=self.name)
        try:
            with around(SPAWN):
                await self.starter.start(row, floor=position.incarnation, grants=grants)
        except RegisterError:
            raise
        except (MusterError, OSError) as error:
            await self._catch_up()
            if await self._was_started(row) and lifecycle.is_running(self.starter.folder(self.name)):
                return
            await self._not_started(row, str(error))

    async def _not_started(self, row: AgentRow, reason: str) -> None:
        reason = self.teller.redaction(reason)
        async with self.store.write(SPAWN_FAILED) as tx:
            now_found = await agents.get(tx, self.name)
            killed = now_found is not None and now_found.wanted == "stopped"
            state = "stopped" if killed else "failed"
            changed = await agents.change(
                tx, self.name, under=row.launch_id, state=state, detail=reason, stopped_at=self.clock()
            )
            if changed and not killed:
                await self.teller.note(tx, row, f"spawn/{row.launch_id}", f"✖ {reason}")
        self.wake_delivery()

    async def _report_gone(self, row: AgentRow) -> None:
        """The host is not there. Where its journal does not say why, say what is known, and end what it left open."""
        folder = self.starter.folder(self.name)
        if not folder.exists():
            return
        left = ""
        try:
            await asyncio.to_thread(lifecycle.clear_away, folder)
        except FleetError as error:
            if lifecycle.is_running(folder):
                return
            log.warning("agent.not_cleared_away", agent=self.name, reason=str(error))
            left = f"{error}\n"
        if self._story.over and (row.wanted == "stopped" or row.state in {"failed", "stopped"}):
            return
        words = left + await asyncio.to_thread(lifecycle.last_words, folder)
        async with self.store.write(GONE) as tx:
            state = "stopped" if row.wanted == "stopped" else "failed"
            killed = row.wanted == "stopped"
            reason = (
                "killed, with everything it had started"
                if killed
                else "the agent host is gone, with no word of its own"
            )
            await agents.change(tx, self.name, under=row.launch_id, state=state, detail=reason, stopped_at=self.clock())
            if not self._story.over:
                await self.teller.gone(tx, row, self._story, reason, words)
        self._story = replace(self._story, over=True)
        self.wake_delivery()

    async def _with_host(self, link: AgentLink) -> None:
        """Follow the host until it goes, and make it what is wanted."""
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(self._end_when_unwanted(link), name=f"end {self.name}")
            typing = tasks.create_task(self._type(), name=f"type {self.name}")
            losing = tasks.create_task(link.lost(), name=f"link {self.name}")
            following = tasks.create_task(self._follow(link), name=f"follow {self.name}")
            try:
                await asyncio.wait({following, losing}, return_when=asyncio.FIRST_COMPLETED)
                # A host that ends lets its followers read the last of it; a link that broke alone is made anew.
                await asyncio.wait({following}, timeout=RETRY_LINK)
            finally:
                for task in (ending, typing, losing, following):
                    task.cancel()

    async def _end_when_unwanted(self, link: AgentLink) -> None:
        """Shut the host down once it is not the one that is wanted; at once, or when its turn ends."""
        asked: bool | None = None
        while True:
            async with self.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is None:
                return
            unwanted = row.wanted == "stopped" or row.launch_id != link.hello.launch_id
            if unwanted and asked is not True and asked != row.at_once:
                asked = row.at_once
                reason = f"restarted by {row.launched_by}" if row.wanted == "running" else "asked to stop"
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._shut_down(link, now=row.at_once, reason=reason))
                    if not row.at_once:
                        # A later wish to stop at once must not wait behind the turn.
                        tasks.create_task(self._hasten(link, reason))
                return
            await self._changed.wait()
            self._changed.clear()

    async def _shut_down(self, link: AgentLink, *, now: bool, reason: str) -> None:
        with contextlib.suppress(AgentUnreachable):
            await link.shutdown(now=now, reason=reason)

    async def _hasten(self, link: AgentLink, reason: str) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            async with self.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is not None and row.at_once:
                await self._shut_down(link, now=True, reason=reason)
                return

    # --- the journal --------------------------------------------------------------------------------------------

    async def _take_up(self) -> None:
        """Begin where the journal was read up to, knowing the turn that was open there."""
        async with self.store.read() as tx:
            row = await agents.get(tx, self.name)
            position = await agents.position(tx, self.name)
        read_to = Position(position.incarnation, position.seq)
        view_start = Position(position.view_incarnation, position.view_seq)
        story = Story(self.name, position=view_start, view_start=view_start)
        self.last = await asyncio.to_thread(journal.last_entry, self.starter.folder(self.name))
        reader, after = JournalReader(self.starter.folder(self.name)), view_start
        while after < read_to and (page := await asyncio.to_thread(reader.read, after, BATCH)):
            for entry in page:
                if entry.position <= read_to:
                    story, _ = story.after(entry)
            after = page[-1].position
        # An agent that is known to have failed or stopped was told to be so; nothing of it is left to tell.
        over = row is None or row.state in {"failed", "stopped"} or read_to == Position()
        launch = await asyncio.to_thread(_launch_of, self.starter.folder(self.name), read_to)
        self._story = replace(story, position=read_to, over=over, launch_id=launch)

    async def _catch_up(self) -> None:
        """Tell what the journal's files hold beyond what was told; of many turns, a digest."""
        reader = JournalReader(self.starter.folder(self.name))
        story, effects = self._story, list[stories.Effect]()
        while page := await asyncio.to_thread(reader.read, story.position, BATCH):
            story, following = stories.told(story, page)
            effects += following
            self.last = page[-1]
        ended = sum(isinstance(effect, stories.Progress) and effect.final for effect in effects)
        if ended > self.digest_after:
            growing = self._story.view.turn if self._story.view is not None else None
            condensed = stories.digest(effects, growing=growing)
            await self._reach(story, condensed.effects, condensed)
        else:
            await self._reach(story, tuple(effects))

    async def _follow(self, link: AgentLink) -> None:
        await self._catch_up()
        stream = link.follow(self._story.position)
        queue: asyncio.Queue[Entry | HostStatus | None] = asyncio.Queue(maxsize=BATCH)

        async def read() -> None:
            try:
                async for item in stream:
                    await queue.put(item)
            except AgentUnreachable as error:
                log.info("agent.link_lost", agent=self.name, reason=str(error))
            finally:
                await queue.put(None)

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read(), name=f"read {self.name}")
            try:
                await self._drain(queue)
            finally:
                reading.cancel()
        await self._catch_up()

    async def _drain(self, queue: asyncio.Queue[Entry | HostStatus | None]) -> None:
        shown_at = 0.0
        shown: Story | None = None
        while True:
            item: Entry | HostStatus | None
            waiting = self._story.view is not None and self._story is not shown
            try:
                async with asyncio.timeout(PROGRESS_EVERY if waiting else None):
                    item = await queue.get()
            except TimeoutError:
                shown, shown_at = await self._show_progress(), self.clock()
                continue
            entries: list[Entry] = []
            while item is not None:
                if isinstance(item, HostStatus):
                    if item.writable and self.seen is not None and not self.seen.status.writable:
                        self._carrier.mail()  # what it could not take, it can take now
                    self.seen = Seen(status=item, at=self.clock())
                    self.publish({"type": "status", "agent": self.name, "state": item.state})
                else:
                    entries.append(item)
                if queue.empty() or len(entries) >= BATCH:
                    break
                item = queue.get_nowait()
            if entries:
                await self._tell(entries)
                if abs(self.clock() - shown_at) >= PROGRESS_EVERY and self._story is not shown:
                    shown, shown_at = await self._show_progress(), self.clock()
            if item is None:
                return

    async def _show_progress(self) -> Story:
        progress = self._story.progress()
        if progress is not None:
            try:
                await self._commit(self._story, (progress,))
            except (RegisterError, OSError):
                raise
            except Exception:
                # The end of the turn shows it all, or is left out in its turn.
                log.exception("agent.progress_not_shown", agent=self.name)
        return self._story

    async def _tell(self, entries: list[Entry]) -> None:
        """Tell what was just heard."""
        self.last = entries[-1]
        for entry in entries:
            self.publish({"type": "entry", "agent": self.name, "entry": entry.to_json()})
        story, effects = stories.told(self._story, entries)
        self._correct(story)
        await self._reach(story, tuple(effects))

    def _correct(self, story: Story) -> None:
        """The journal is ahead of the status that came before it: a turn that it says began or ended has done so."""
        seen, turn = self.seen, story.view.turn if story.view is not None else None
        if seen is None or seen.status.state not in {"idle", "working"} or story.position <= seen.status.position:
            return
        state = "working" if turn is not None else "idle"
        self.seen = replace(seen, status=replace(seen.status, state=state, turn=turn))

    async def _reach(self, story: Story, effects: tuple[Effect, ...], condensed: stories.Digest | None = None) -> None:
        """Go on to `story`, with what follows from it."""
        if (story.view is None) != (self._story.view is None):
            self._turned.set()
        if not effects and condensed is None:
            self._story = story
            return
        try:
            await self._commit(story, effects, condensed)
        except (RegisterError, OSError):
            raise
        except Exception:
            if not self._stumbled_again():
                raise
            log.exception("agent.not_told", agent=self.name, position=str(self._story.position))
            await self._step_over(story, effects)

    def _stumbled_again(self) -> bool:
        """Whether what follows the position that was reached could not be told several times now."""
        place, times = self._stumbled
        self._stumbled = (self._story.position, times + 1 if place == self._story.position else 1)
        return self._stumbled[1] >= STUMBLES

    async def _step_over(self, story: Story, effects: tuple[Effect, ...]) -> None:
        """Tell what can be told one by one: what no attempt can tell must not end the agent's story for ever."""
        for effect in effects:
            try:
                await self._commit(self._story, (effect,))
            except (RegisterError, OSError):
                raise
            except Exception:
                log.exception("agent.effect_left_out", agent=self.name, effect=type(effect).__name__)
        place = f"{story.position.incarnation}/{story.position.seq}"
        text = "⚠️ A fault in Muster kept me from showing something of this agent here. `tail` and the log say more."
        await self._commit(story, (stories.Note(f"fault/{self.name}/{place}", text),))

    async def _commit(self, story: Story, effects: tuple[Effect, ...], condensed: stories.Digest | None = None) -> None:
        now = self.clock()
        async with self.store.write(FOLLOW) as tx:
            row = await agents.get(tx, self.name)
            if row is not None:
                for effect in effects:
                    await self.teller.carry_out(tx, row, effect)
                if condensed is not None:
                    await self.teller.digest(tx, row, condensed, story.position)
                await agents.move(
                    tx,
                    PositionRow(
                        agent=self.name,
                        incarnation=story.position.incarnation,
                        seq=story.position.seq,
                        view_incarnation=story.view_start.incarnation,
                        view_seq=story.view_start.seq,
                    ),
                    now,
                )
        self._story = story
        self.wake_delivery()

    async def _type(self) -> None:
        """While a turn is open, show in its conversation that somebody is at work."""
        shown: tuple[str, str] | None = None
        try:
            while True:
                self._turned.clear()
                view = self._story.view
                place = await self._whereabouts(view.message) if view is not None else None
                if shown is not None and shown != place:
                    await self.show_typing(*shown, False)
                if place is not None:
                    await self.show_typing(*place, True)
                shown = place
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TYPE_AGAIN if place is not None else None):
                        await self._turned.wait()
        finally:
            if shown is not None:
                await self.show_typing(*shown, False)

    async def _whereabouts(self, message: str) -> tuple[str, str] | None:
        """Connector and conversation in which a message is answered; None while its thread does not stand."""
        async with self.store.read() as tx:
            row = await agents.get(tx, self.name)
            return None if row is None else await self.teller.conversation(tx, row, message)


def _launch_of(folder: Path, position: Position) -> str | None:
    """The launch that the incarnation of `position` belongs to."""
    for entry in journal.read(folder, Position(position.incarnation, 0), 1):
        if isinstance(entry.event, Opened) and entry.position.incarnation == position.incarnation:
            return entry.event.launch_id
    return None
