"""Messages that show an agent's state and are kept up to date for a while (`watch`).

Watches live in memory only. After a restart, the messages keep their last text.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from bot.agents import fleet_loader, status_view
from bot.commands.context import Context
from bot.commands.syntax import command_line, written
from bot.messaging.composer import MessagePlace
from bot.tasks.services import TaskServices
from bot.text import markdown
from bot.text.errors import UserError
from connectors.contract.messages import Priority, Replace
from connectors.delivery import outbox
from core.crash_points import declare
from core.errors import RegisterError

log = structlog.get_logger(__name__)

UPDATE = declare("watch.update")

#: Duration of a watch, and interval between its updates, in seconds.
LASTS = 1800.0
EVERY = 5.0
#: Maximum number of simultaneous watches, as each one makes the bot send messages.
MOST = 20


@dataclass(frozen=True, slots=True)
class _Watch:
    agent: str
    key: str
    """The outbox key of the command's reply, which is the message to update."""
    place: MessagePlace
    until: float


@dataclass(slots=True)
class Watches:
    services: TaskServices
    _open: dict[tuple[MessagePlace, str], _Watch] = field(default_factory=dict)
    _shown: dict[str, str] = field(default_factory=dict)

    def add(self, ctx: Context[TaskServices], agent: str) -> None:
        """Keep the reply of this command up to date.

        Raises:
            UserError: there are too many watches, or the connector cannot edit messages.
        """
        if ctx.origin is None:
            return
        if not self.services.capabilities(ctx.origin.connector).edits:
            now = f"{command_line('ps')} shows the fleet as it is now"
            raise UserError(f"{ctx.origin.connector} cannot edit messages; {now}.", code="room.no_edits")
        place = MessagePlace(ctx.origin.connector, conversation=ctx.origin.conversation)
        if (place, agent) not in self._open and len(self._open) >= MOST:
            raise UserError(
                f"{MOST} agents are being watched already; each watch ends after half an hour.", code="watch.too_many"
            )
        until = self.services.clock() + LASTS
        self._open[place, agent] = _Watch(agent, f"c/{ctx.run_id}", place, until)

    async def run(self) -> None:
        """Update all watches until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            now = self.services.clock()
            for where, watch in list(self._open.items()):
                if watch.until <= now:
                    del self._open[where]
                    self._shown.pop(watch.key, None)
                else:
                    try:
                        await self._update(watch, now)
                    except RegisterError as error:
                        log.warning("watch.not_updated", agent=watch.agent, reason=str(error))

    async def _update(self, watch: _Watch, now: float) -> None:
        try:
            agent = await fleet_loader.load_agent(self.services, watch.agent, briefly=True)
        except UserError as error:
            gist = text = written(str(error), self.services.command_prefix)
        else:
            text = self.services.redact(status_view.agent_text(agent, now))
            # Ages change on every update, so they do not count as a change.
            gist = text.replace(status_view.how_known(agent, now), "", 1)
        if self._shown.get(watch.key) == gist:
            return
        content = Replace(target=watch.key, message=markdown.message(text))
        async with self.services.store.write(UPDATE) as tx:
            await outbox.put(tx, watch.place.outbound(f"{watch.key}/{now:.3f}", content, Priority.PROGRESS), now)
        self._shown[watch.key] = gist
        self.services.delivery.wake()
