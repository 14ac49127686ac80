"""The follower of an agent's journal: it brings new entries into chat, and keeps the agent host's last status.

The journal position is stored in the register, in the transaction that also stores the effects. A restarted follower
therefore continues where the previous one was killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from bot.agents.context import AgentContext
from bot.agents.journal import projection as projections
from bot.agents.journal.entry_stream import EntryStream
from bot.agents.journal.projection import Effect, JournalProjection
from bot.commands.syntax import command_line
from core.crash_points import declare
from core.errors import RegisterError
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow, PositionRow
from fleet.control.agent_host_client import AgentLink, HostStatus
from fleet.errors import AgentUnreachable
from fleet.journal import reader as journal
from fleet.journal.events import JournalEntry, JournalPosition, Opened
from fleet.journal.reader import JournalReader
from fleet.runtimes import RUNTIMES

log = structlog.get_logger(__name__)

FOLLOW = declare("journal.follow")
TAKE_UP = declare("call.take_up")

#: Minimum seconds between two updates of a growing answer.
PROGRESS_EVERY = 1.0
#: Maximum number of entries processed at once.
BATCH = 500
#: Number of failed attempts after which effects that cannot be executed are skipped.
STUMBLES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardStatus:
    """The last status of an agent host, and when it arrived."""

    status: HostStatus
    at: float


@dataclass(kw_only=True, slots=True)
class JournalFollower:
    """The follower of one agent."""

    name: str
    context: AgentContext
    folder: Path
    """The agent's private folder, which contains its journal."""
    took_room: Callable[[], None]
    """Called when the agent host can write again."""
    turned: Callable[[], None]
    """Called when the open turn may have changed, including one that began and ended in between."""
    seen: HeardStatus | None = None
    """None while no agent host is followed, or before its first report."""
    heard_at: float | None = None
    """When an agent host last reported, even if it is no longer followed."""
    last: JournalEntry | None = None
    """The newest journal entry read."""
    projection: JournalProjection = field(init=False)
    _stream: EntryStream = field(init=False)
    _stumbled: tuple[JournalPosition, int] = (JournalPosition(), 0)
    """The position at which effects failed, and how often."""

    def __post_init__(self) -> None:
        self.projection = JournalProjection(self.name)
        self._stream = EntryStream(self.context.journal_effects.redaction)

    def lose(self) -> None:
        """Discard the status of an agent host that is no longer followed."""
        self.seen = None

    def heard(self, status: HostStatus) -> None:
        """Record the agent host's answer to a status request."""
        if self.seen is not None:
            self.heard_at = self.context.clock()
            self.seen = HeardStatus(status=status, at=self.heard_at)

    def close(self) -> None:
        """Mark the incarnation as ended, when something other than the journal reported its end."""
        self.projection = replace(self.projection, over=True)

    async def take_up(self, row: AgentRow | None, position: PositionRow) -> None:
        """Start at the recorded position, and rebuild the view of the turn that was open there."""
        read_to = JournalPosition(position.incarnation, position.seq)
        view_start = JournalPosition(position.view_incarnation, position.view_seq)
        projection = JournalProjection(self.name, position=view_start, view_start=view_start, keeps_cut=_keeps_cut(row))
        self.last = await asyncio.to_thread(journal.last_entry, self.folder)
        self._stream = EntryStream(self.context.journal_effects.redaction)
        reader, after = JournalReader(self.folder), view_start
        while after < read_to and (page := await asyncio.to_thread(reader.read, after, BATCH)):
            for entry in page:
                if entry.position <= read_to:
                    projection, _ = projection.after(entry)
                    self._stream.skip(entry)
            after = page[-1].position
        # The end of an agent in one of these states was already reported.
        over = row is None or row.state in {"failed", "stopped", "frozen"} or read_to == JournalPosition()
        launch = await asyncio.to_thread(_launch_of, self.folder, read_to)
        self.projection = replace(projection, position=read_to, over=over, launch_id=launch)

    async def catch_up(self) -> None:
        """Report the journal entries after the recorded position; as a digest if they hold many turns."""
        reader = JournalReader(self.folder)
        projection, effects = self.projection, list[projections.Effect]()
        while page := await asyncio.to_thread(reader.read, projection.position, BATCH):
            projection, following = projections.told(projection, page)
            effects += following
            self.last = page[-1]
            for entry in page:
                self._stream.skip(entry)
        ended = sum(isinstance(effect, projections.Progress) and effect.final for effect in effects)
        if ended > self.context.digest_after:
            condensed = projections.digest(
                effects,
                prefix=self.context.journal_effects.prefix,
                redact=self.context.journal_effects.redaction,
                growing=_open_turn(self.projection),
            )
            await self._reach(projection, condensed.effects, condensed)
        else:
            await self._reach(projection, tuple(effects))

    async def follow(self, link: AgentLink) -> None:
        await self.catch_up()
        stream = link.follow(self.projection.position)
        queue: asyncio.Queue[JournalEntry | HostStatus | None] = asyncio.Queue(maxsize=BATCH)

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
                self._publish(self._stream.rest())
        await self.catch_up()

    async def _drain(self, queue: asyncio.Queue[JournalEntry | HostStatus | None]) -> None:
        shown_at = 0.0
        shown: JournalProjection | None = None
        while True:
            item: JournalEntry | HostStatus | None
            waiting = self.projection.view is not None and self.projection is not shown
            try:
                async with asyncio.timeout(PROGRESS_EVERY if waiting else None):
                    item = await queue.get()
            except TimeoutError:
                shown, shown_at = await self._show_progress(), self.context.clock()
                continue
            entries: list[JournalEntry] = []
            while item is not None:
                if isinstance(item, HostStatus):
                    if item.writable and self.seen is not None and not self.seen.status.writable:
                        self.took_room()  # what it could not take, it can take now
                    self.heard_at = self.context.clock()
                    self.seen = HeardStatus(status=item, at=self.heard_at)
                    self.context.publish({"type": "status", "agent": self.name, "state": item.state})
                else:
                    entries.append(item)
                if queue.empty() or len(entries) >= BATCH:
                    break
                item = queue.get_nowait()
            self.context.heard(self.name)
            if entries:
                await self._tell(entries)
                if abs(self.context.clock() - shown_at) >= PROGRESS_EVERY and self.projection is not shown:
                    shown, shown_at = await self._show_progress(), self.context.clock()
            if item is None:
                return

    async def _show_progress(self) -> JournalProjection:
        progress = self.projection.progress()
        if progress is not None:
            try:
                await self._commit(self.projection, (progress,))
            except (RegisterError, OSError):
                raise
            except Exception:
                # The end of the turn shows the full text, or is itself skipped.
                log.exception("agent.progress_not_shown", agent=self.name)
        return self.projection

    async def _tell(self, entries: list[JournalEntry]) -> None:
        """Report new entries from the agent host."""
        self.last = entries[-1]
        for entry in entries:
            if self.context.is_watched():
                self._publish(self._stream.after(entry))
            else:
                self._stream.skip(entry)
        projection, effects = projections.told(self.projection, entries)
        self._correct(projection)
        await self._reach(projection, tuple(effects))

    def _publish(self, entries: Iterable[JournalEntry]) -> None:
        for entry in entries:
            self.context.publish({"type": "entry", "agent": self.name, "entry": entry.to_json()})

    def _correct(self, projection: JournalProjection) -> None:
        """Update a status that is older than the journal: a turn that began or ended since then did so."""
        seen, turn = self.seen, _open_turn(projection)
        if seen is None or seen.status.state not in {"idle", "working"} or projection.position <= seen.status.position:
            return
        state = "working" if turn is not None else "idle"
        self.seen = replace(seen, status=replace(seen.status, state=state, turn=turn))

    async def _reach(
        self, projection: JournalProjection, effects: tuple[Effect, ...], condensed: projections.Digest | None = None
    ) -> None:
        """Advance to `projection`, and execute its effects."""
        if not effects and condensed is None:
            self._go_on(projection)
            return
        try:
            await self._commit(projection, effects, condensed)
        except (RegisterError, OSError):
            raise
        except Exception:
            if not self._stumbled_again():
                raise
            log.exception("agent.not_told", agent=self.name, position=str(self.projection.position))
            await self._step_over(projection, effects)

    def _stumbled_again(self) -> bool:
        """Return whether the effects at the current position have now failed several times."""
        place, times = self._stumbled
        self._stumbled = (self.projection.position, times + 1 if place == self.projection.position else 1)
        return self._stumbled[1] >= STUMBLES

    async def _step_over(self, projection: JournalProjection, effects: tuple[Effect, ...]) -> None:
        """Execute the effects one by one, so that one that always fails does not block the journal forever."""
        for effect in effects:
            try:
                await self._commit(self.projection, (effect,))
            except (RegisterError, OSError):
                raise
            except Exception:
                log.exception("agent.effect_left_out", agent=self.name, effect=type(effect).__name__)
        place = f"{projection.position.incarnation}/{projection.position.seq}"
        more = f"{command_line(f'tail {self.name}')} and the log have the details"
        text = f"⚠️ Muster could not show part of this agent's output here, because of an internal error. {more}."
        await self._commit(projection, (projections.Note(f"fault/{self.name}/{place}", text),))

    async def _commit(
        self, projection: JournalProjection, effects: tuple[Effect, ...], condensed: projections.Digest | None = None
    ) -> None:
        now = self.context.clock()
        step = TAKE_UP if any(isinstance(effect, projections.Called) for effect in effects) else FOLLOW
        async with self.context.store.write(step) as tx:
            row = await agents.get(tx, self.name)
            if row is not None:
                for effect in effects:
                    await self.context.journal_effects.carry_out(tx, row, effect)
                if condensed is not None:
                    await self.context.journal_effects.digest(tx, row, condensed, projection.position)
                await agents.move(
                    tx,
                    PositionRow(
                        agent=self.name,
                        incarnation=projection.position.incarnation,
                        seq=projection.position.seq,
                        view_incarnation=projection.view_start.incarnation,
                        view_seq=projection.view_start.seq,
                    ),
                    now,
                )
        self._go_on(projection, effects)
        self.context.wake_delivery()

    def _go_on(self, projection: JournalProjection, effects: tuple[Effect, ...] = ()) -> None:
        before, self.projection = self.projection, projection
        # A turn may have begun and ended within one batch.
        if _open_turn(before) != _open_turn(projection) or any(
            isinstance(effect, projections.Receipt) for effect in effects
        ):
            self.turned()


def _keeps_cut(row: AgentRow | None) -> str:
    runtime = RUNTIMES.get(row.runtime) if row is not None else None
    return runtime.title if runtime is not None and runtime.keeps_cut else ""


def _open_turn(projection: JournalProjection) -> str | None:
    return projection.view.turn if projection.view is not None else None


def _launch_of(folder: Path, position: JournalPosition) -> str | None:
    """Return the launch id of the incarnation at `position`."""
    for entry in journal.read(folder, JournalPosition(position.incarnation, 0), 1):
        if isinstance(entry.event, Opened) and entry.position.incarnation == position.incarnation:
            return entry.event.launch_id
    return None
