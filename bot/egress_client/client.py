"""The client of the egress: it runs the egress, pushes settings, closes and opens access, and copies the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from bot.commands.syntax import command_line
from bot.egress_client import hang_detector
from bot.egress_client.event_import import ENDED_BY, EgressEventImport
from bot.egress_client.ledger_import import LedgerImport, Page, page_of, weighed
from bot.egress_client.ports import LimitServices
from bot.egress_client.process import places
from bot.egress_client.settings_push import egress_settings, registration, secrets_of, understood
from bot.egress_client.source import EgressSource
from bot.text import markdown
from bot.text.errors import UserError
from core.async_waits import set_within
from core.errors import MusterError, RegisterError
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.spending.usage_ledger import Copied
from egress.daemon.control_client import EgressControlClient
from egress.ledger.model import ENDING, Action
from egress.settings import EgressSettings, LimitSettings
from fleet.errors import FleetError
from fleet.roster.drift import ENDED
from fleet.sandbox.egress_grant import EgressGrant, WayAsked

log = structlog.get_logger(__name__)

#: File names in the certificate folder of sandboxes. They repeat those of egress.tunnel.certificate_authority, whose
#: libraries are not needed here.
CERTIFICATES, BUNDLE = "ca.pem", "bundle.pem"

#: Seconds between checks that the egress runs and has the current settings.
EVERY_S = 5.0
#: Seconds to wait until nothing streams before an outdated egress is replaced anyway.
RENEW_AFTER_S = 3_600.0
#: Seconds between attempts to start it.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0

#: Seconds that a command waits for an agent's outbound access to be closed before it ends the agent.
_CLOSE_S = 3.0

#: Seconds between reports about an egress that ends repeatedly.
_TOLD_AGAIN_S = 600.0


@dataclass(slots=True)
class EgressClient:
    """The client of one host's egress."""

    services: LimitServices
    source: EgressSource
    environ: Mapping[str, str]
    host: str
    holding: Callable[[], Awaitable[Sequence[LimitSettings]]]
    """Returns every limit except those of single launches."""
    every_s: float = EVERY_S
    renew_after_s: float = RENEW_AFTER_S
    hung_s: float = hang_detector.HUNG_S
    """Seconds without an answer after which the egress is killed and started again."""
    is_over: Callable[[str, Mapping[str, Any]], Awaitable[bool]] | None = None
    """Whether the reason for an agent's cut-off has passed, although nobody reopened its access."""
    trouble: str | None = None
    """Why the egress is unavailable although it is needed; None if it runs, or if no agent needs it."""
    needed: bool = False
    """Whether an agent uses it, or is about to."""
    client: EgressControlClient | None = None
    copier: LedgerImport = field(init=False)
    _news: EgressEventImport = field(init=False)
    _since: float = 0.0
    _outdated_since: float | None = None
    _told: tuple[object, str] | None = None
    """The egress incarnation and the settings revision that were pushed last."""
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _there: asyncio.Event = field(default_factory=asyncio.Event)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._news = EgressEventImport(self.services)
        self.copier = LedgerImport(
            store=self.services.store,
            pages=self._pages,
            clock=self.services.clock,
            redact=self.services.redact,
            told=self._news.told,
            noted=self._news.noted,
            after=self._copied,
            weigh=lambda sums: weighed(sums, self.services.settings.budgets.weights),
        )

    def _copied(self, actions: Sequence[Action]) -> None:
        self._news.after(actions)
        self.services.pace.used()
        if self.services.settings.pacing.runaway is not None:
            self.services.jobs.soon("runaways")

    # --- lifecycle ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the egress running with current settings while it is needed, and copy its ledger, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.copier.run(), name="copy the ledger")
            tasks.create_task(self._keep(), name="keep the egress")
            tasks.create_task(
                hang_detector.watch(self.source.find, self._end_hung, hung_s=lambda: self.hung_s),
                name="ask the egress",
            )

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._look.clear()
            try:
                await self._settle()
            except RegisterError:
                await self.services.store.rest(pause)
                continue
            except Exception as error:
                if not isinstance(error, MusterError | OSError):
                    log.exception("egress.not_kept")
                await self._lost(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            await set_within(self._look, self.every_s)

    async def _settle(self) -> None:
        """Find or start the egress, and push settings if they have changed."""
        found = await self.source.find()
        if found is None and not self.needed:
            self.needed = await self._is_needed()
            if not self.needed:
                self._gone()
                return
        if found is None and self.client is not None:
            await self._lost(MusterError("its process ended."))
        if found is not None and await self._is_to_be_renewed(found):
            log.info("egress.renewed")
            self._gone()
            await self.source.stop()
        client = await self.ensure()
        if self.trouble is not None:
            await self._back()
        await self._let_go(client)
        await self._news.catch_up()

    async def _is_to_be_renewed(self, client: EgressControlClient) -> bool:
        """Return whether to replace an outdated egress: if nothing streams, or after `renew_after_s`."""
        if not await self.source.is_outdated():
            self._outdated_since = None
            return False
        now = self.services.clock()
        since = self._outdated_since = now if self._outdated_since is None else self._outdated_since
        # Running requests get a few seconds and are then settled; their clients retry.
        return not (await client.status()).get("streams") or now - since >= self.renew_after_s

    async def _is_needed(self) -> bool:
        """Return whether an agent that should run may have been given outbound access by an earlier process."""
        if not await asyncio.to_thread(places(self.services.paths).ledger.exists):
            return False
        async with self.services.store.read() as tx:
            return any(row.wanted == "running" for row in await agents.every(tx))

    async def _let_go(self, client: EgressControlClient) -> None:
        """Close the outbound access of agents that ended; a restart registers them again."""
        known = (await client.status()).get("agents") or []
        if not known:
            return
        async with self.services.store.read() as tx:
            rows = {row.name: row for row in await agents.every(tx)}
        for name in known:
            row = rows.get(name)
            over = row is None or (row.wanted == "stopped" and row.state in ENDED)
            if over and self.services.agents.is_known(name) and not self.services.agents.is_up(name):
                await client.forget(name)

    async def ensure(self) -> EgressControlClient:
        """Return the client of a running egress that has the current settings.

        Raises:
            MusterError: the egress does not start.
        """
        async with self._starting:
            client = await self.source.start()
            if client is not self.client:
                self.client, self._told = client, None
            status = await client.status()
            try:
                wanted = await self._wanted(status)
            except UserError as error:
                log.warning("egress.not_told", reason=str(error))
                self._there.set()
                return client
            telling = status.get("incarnation"), wanted.revision
            if status.get("revision") != wanted.revision or self._told != telling:
                # Secrets are only in its memory, so each of its processes needs one push from each of ours. Another
                # process may have replaced it between two checks.
                await client.settings(wanted, secrets_of(self.services.settings, self.environ))
                self._told = telling
            self._there.set()
            return client

    async def _wanted(self, status: Mapping[str, Any]) -> EgressSettings:
        limits = understood(await self.holding(), status)
        paces = await self.services.pace.paces()
        return egress_settings(self.services.settings, limits, host=self.host, paces=paces)

    def _gone(self) -> None:
        self.client = None
        self._there.clear()

    async def _lost(self, error: Exception) -> None:
        log.warning("egress.away", reason=str(error))
        self._gone()
        first, self.trouble = self.trouble is None, str(error)
        now = self.services.clock()
        if first and now - self._since >= _TOLD_AGAIN_S:
            self._since = now
            await self._news.say(
                f"egress/away/{self._since:.3f}",
                f"⚠️ The egress is not there, so no agent reaches a model: {markdown.one_line(str(error), 500)} "
                f"Muster retries automatically; {command_line('health')} shows when it is back.",
            )

    async def _end_hung(self, silent_s: float) -> None:
        """Kill an egress that does not answer, so that another can start."""
        try:
            pid = await self.source.end()
        except (MusterError, OSError) as error:
            log.error("egress.hung", reason=str(error))
            done = f"It cannot be killed: {markdown.one_line(str(error), 500)}"
        else:
            log.warning("egress.hung", pid=pid)
            done = (
                f"Its process {pid} was killed, and another is started; what was under way is charged as an estimate."
            )
        self._look.set()
        # At most one report in this time, so that repeated hangs do not flood the chat room.
        key = f"egress/hung/{int(self.services.clock() // _TOLD_AGAIN_S)}"
        await self._news.say(key, f"⚠️ The egress has not answered for {silent_s:.0f} seconds. {done}")

    async def _back(self) -> None:
        self.trouble = None
        log.info("egress.back")
        await self._news.say(f"egress/back/{self._since:.3f}", "✅ The egress is back.")

    # --- for agents -----------------------------------------------------------------------------------------------

    async def open_way(self, asked: WayAsked) -> EgressGrant:
        """Open an agent's outbound access, or return the open one (fleet.sandbox.egress_grant.OpenWay).

        Raises:
            FleetError: outbound access is not available now.
        """
        self.needed = True
        try:
            client = await self.ensure()
            address = await client.register(registration(asked))
            await self._reopen(client, asked)
        except MusterError as error:
            raise FleetError(f"It cannot reach a model: {error}", code="egress.unreachable") from error
        self._look.set()
        trust = places(self.services.paths).trust
        ours, bundle = trust / CERTIFICATES, trust / BUNDLE
        return EgressGrant(
            socket=None if address.socket is None else Path(address.socket),
            url=address.url,
            ca_file=ours if ours.exists() else None,
            bundle_file=bundle if bundle.exists() else None,
        )

    async def _reopen(self, client: EgressControlClient, asked: WayAsked) -> None:
        """Lift a denial that ended the agent, because it starts again. A cut-off by a person remains in effect."""
        found = await denial_of(client, asked.agent)
        ended = found is not None and (found.get("action") in ENDED_BY or str(found.get("id") or "").startswith(ENDING))
        if found is not None and self.is_over is not None and await self.is_over(asked.agent, found):
            ended = True
        if ended:
            await client.allow(asked.agent, cause="started again", by="muster", id=f"{asked.launch_id}/start")

    async def deny(self, agent: str, action: str, *, cause: str, by: str, id: str) -> int:
        """Close an agent's outbound access, durably, and return the number of requests that were ended.

        Raises:
            UserError: the egress does not answer.
        """
        try:
            client = await self.ensure()
            return await client.deny(agent, action=action, cause=cause, by=by, id=id)
        except MusterError as error:
            raise UserError(
                f"The egress could not be told: {error} {command_line('estop')} needs no answer.",
                code="egress.unreachable",
            ) from error

    async def allow(self, agent: str, *, asked_at: float, cause: str, by: str, id: str) -> bool:
        """Reopen an agent's outbound access. Return False if it was not closed.

        Args:
            agent: the agent's name.
            asked_at: when the command was given, in seconds since the epoch; a later denial remains in effect.
            cause: the reason for the audit log.
            by: the person who gave the command.
            id: the id of the command.

        Raises:
            UserError: the egress does not answer, or access was closed again since.
        """
        try:
            client = await self.ensure()
            found = await denial_of(client, agent)
            later = found is not None and float(found["at"]) > asked_at
            if not later:
                await client.allow(agent, cause=cause, by=by, id=id)
        except MusterError as error:
            raise UserError(f"The egress could not be told: {error}", code="egress.unreachable") from error
        if later:
            raise UserError(
                f"{agent} was cut off again in the meantime, and stays cut off. "
                f"{command_line(f'restore {agent}')} lifts the cut-off.",
                code="agent.cut_off",
            )
        return found is not None

    async def stop_all(self, *, clear: bool, by: str) -> None:
        """Inform a running egress that the emergency stop was set or cleared.

        Raises:
            MusterError: it does not answer.
        """
        client = await self.source.find()
        if client is None:
            return
        if clear:
            await client.clear_estop(cause=f"by {by}", by=by)
        else:
            await client.estop(cause=f"by {by}", by=by)

    async def close_to(self, row: AgentRow, action: str, *, by: str, id: str) -> None:
        """Close the outbound access of an agent that is about to be frozen or killed. Errors are only logged."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                client = await self.source.find()
                if client is not None and row.name in (await client.status()).get("agents", ()):
                    # The command itself then freezes or kills the agent through its agent host.
                    await client.deny(
                        row.name, action="cutoff", cause=f"to {action} it", by=by, id=f"{ENDING}{action}/{id}"
                    )
        except (MusterError, TimeoutError) as error:
            log.warning("egress.not_closed", agent=row.name, reason=str(error))

    async def push(self) -> bool:
        """Push the current settings if the egress runs. Return False if it is needed but does not answer."""
        try:
            if await self.source.find() is not None:
                await self.ensure()
        except MusterError:
            return False
        return self.trouble is None

    # --- status ---------------------------------------------------------------------------------------------------

    async def standing(self) -> Mapping[str, Any] | None:
        """Return the usage of each limit, or None if the egress does not run or answer."""
        try:
            client = await self.source.find()
            return None if client is None else await client.standing()
        except MusterError:
            return None

    def behind(self) -> str | None:
        """Return a sentence if the register lacks recent usage, or None if it is up to date as far as is known."""
        if self.client is None or self.copier.trouble is None:
            return None
        return f"The latest use is not known yet: {self.copier.trouble}"

    # --- copying --------------------------------------------------------------------------------------------------

    async def _pages(self, after: Copied, *, limit: int, wait_s: float) -> Page:
        await self._there.wait()
        client = self.client
        if client is None:
            raise MusterError("the egress is not there")
        try:
            answer = await client.entries(
                after=after.entries,
                observations_after=after.observations,
                actions_after=after.actions,
                limit=limit,
                wait_s=wait_s,
            )
        except MusterError:
            # This long poll is the first to notice that the egress is gone.
            self._look.set()
            raise
        return page_of(answer)


async def denial_of(client: EgressControlClient, agent: str) -> Mapping[str, Any] | None:
    """Return the denial that is specific to the agent, or None."""
    denials = (await client.standing()).get("denials") or []
    return next((each for each in denials if each.get("agent") == agent), None)


def is_commanded(denial: Mapping[str, Any] | None) -> bool:
    """Return whether a person cut the agent off. Denials that ended an agent expire when it starts again."""
    return denial is not None and denial.get("action") == "cutoff" and not str(denial.get("id")).startswith(ENDING)
