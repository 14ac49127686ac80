"""An agent's journal, what is known from it, and the bell that rings when either changes.

Everything that happens goes into the journal, and what is known (`fleet.host.state`) is folded from what is in it. So
a crash at any point leaves a journal from which the next start knows what was done, and what is uncertain.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from core import boot_id
from fleet.control.host_spec import CONTROL_PROTOCOL, AgentSpec
from fleet.host.broadcast_event import BroadcastEvent
from fleet.host.journal_writer import JournalNotWritable, JournalWriter
from fleet.host.state import AgentState, carried
from fleet.journal import reader as journals
from fleet.journal.events import (
    Event,
    HandedBack,
    HandedOver,
    JournalEntry,
    JournalPosition,
    Opened,
    PermissionAnswered,
    PermissionAsked,
    RuntimeStarted,
    TurnEnded,
    TurnStarted,
)

#: With these an agent's status is another.
_STATE_CHANGES: Final = (
    RuntimeStarted,
    TurnStarted,
    TurnEnded,
    PermissionAsked,
    PermissionAnswered,
    HandedOver,
    HandedBack,
)


class JournalFanout:
    """One incarnation of an agent's journal, or several where it had to start again. `open` it."""

    def __init__(self, spec: AgentSpec, state: AgentState, *, clock: Callable[[], float]) -> None:
        self.spec = spec
        self.state = state
        self.clock = clock
        self.pulse = BroadcastEvent()
        """Rung whenever an entry becomes durable, a status is due, or the agent host comes to its end."""
        self.beats = 0
        """How often a status was due; each is worth one to who follows."""
        self.on_unwritable: Callable[[], None] = lambda: None
        """Called when the journal stops taking entries."""
        self._journal: JournalWriter | None = None

    @classmethod
    async def open(cls, spec: AgentSpec, earlier: AgentState, *, clock: Callable[[], float]) -> JournalFanout:
        """Begin a new incarnation of the journal on top of the `earlier` state.

        Raises:
            JournalNotWritable: it could not be begun.
        """
        grants = {grant["digest"]: grant.get("title", "") for grant in spec.grants}
        chronicle = cls(spec, replace(earlier, grants=grants), clock=clock)
        chronicle._journal = await JournalWriter.open(
            chronicle.folder,
            floor=spec.incarnation_floor,
            opened=chronicle._opened,
            on_durable=chronicle._durable,
            on_trouble=chronicle._trouble,
            clock=clock,
        )
        return chronicle

    @property
    def journal(self) -> JournalWriter:
        assert self._journal is not None
        return self._journal

    @property
    def folder(self) -> Path:
        return Path(self.spec.folder)

    async def say(self, *events: Event) -> None:
        """Put events into the journal: durably if that can be, or as soon as it can."""
        if not events:
            await self.journal.flushed()
            return
        try:
            await self.journal.append(*events)
        except JournalNotWritable:
            for event in events:
                self.journal.record(event)

    def beat(self) -> None:
        """A status is due."""
        self.beats += 1
        self.pulse.ring()

    def _opened(self) -> Opened:
        return Opened(
            agent=self.spec.agent,
            launch_id=self.spec.launch_id,
            marker=self.spec.marker,
            pid=os.getpid(),
            protocol=CONTROL_PROTOCOL,
            carried=carried(self.state),
            boot=boot_id.boot_id(),
            continues=self._journal is not None,
        )

    def _durable(self, entries: list[JournalEntry]) -> None:
        for entry in entries:
            self.state = self.state.after(entry)
        if any(isinstance(entry.event, _STATE_CHANGES) for entry in entries):
            # Once whoever waits for the entry has gone on, the status is another.
            asyncio.get_running_loop().call_soon(self.beat)
        self.pulse.ring()

    def _trouble(self, writable: bool) -> None:
        if not writable:
            self.on_unwritable()
        self.beat()


def load_state(folder: Path) -> AgentState:
    """Return what the journal's last whole incarnation says. One without its first entry says nothing."""
    for incarnation in reversed(journals.incarnations(folder)):
        state: AgentState | None = None
        for page in journals.pages(folder, JournalPosition(incarnation, 0)):
            for entry in page:
                if state is None and not isinstance(entry.event, Opened):
                    break
                state = (state or AgentState()).after(entry)
        if state is not None:
            return state
    return AgentState()
