"""A running orchestrator, with its lock, register and lead.

`bot.app.wiring` creates its parts, and `bot.app.wiring.order` defines their order. A part may use the parts that start
before it. They stop in reverse order, each with its own time limit. A kill is a valid way to stop: the next start must
not depend on any cleanup.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import structlog

from bot.agents.service import Agents
from bot.app import autostart, stages
from bot.app import connectors as connecting
from bot.app.completion_words import words_of
from bot.app.config_reload import reload
from bot.app.stages import beside
from bot.app.takeover_notice import Announcement
from bot.app.wiring import agents as crew
from bot.app.wiring import budgets, chat, forge, jobs, monitoring, order
from bot.auth.permission import Permission
from bot.auth.permissions import Operators
from bot.commands import sections
from bot.commands.executor import Executor
from bot.commands.registry import TABLE
from bot.commands.slash_command_names import CommandMenu
from bot.config.database import open_register
from bot.config.instance_lock import only_one
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.config.secrets import redaction_of
from bot.dashboard import sources
from bot.egress_client.source import EgressSource
from bot.interfaces.chat.duplicate_events import DuplicateEvents
from bot.interfaces.chat.router import ChatRouter
from bot.leadership import installation_id, lease
from bot.maintenance import versions
from bot.messaging.composer import Composer
from bot.messaging.event_hub import EventHub
from bot.monitoring import health
from bot.monitoring.fleet_snapshot import SnapshotLoader
from bot.reports.services import ReportServices
from bot.text.errors import UserError
from connectors.contract.agent_count_feed import Headcount
from connectors.contract.connector_protocol import AttachableConnector, Connector
from connectors.contract.messages import Capabilities
from connectors.delivery.service import Delivery
from connectors.terminal.connector import TerminalConnector
from database.engine.store import Store
from fleet.roster.cache import LatestRoster
from fleet.supervision import owner_process
from scheduler.jobs import Jobs

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Orchestrator:
    """A running orchestrator, created by `running`."""

    paths: Paths
    store: Store
    services: ReportServices
    delivery: Delivery
    agents: Agents
    executor: Executor
    jobs: Jobs
    connectors: Mapping[str, Connector]
    conversations: ChatRouter
    lookout: SnapshotLoader
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Request a stop, which ends `running`."""
        self.stopping.set()

    async def bring_up(self) -> None:
        """Launch the persistent agents of the roster that do not run."""
        await autostart.bring_up(self.services, self.executor)

    @property
    def terminal(self) -> TerminalConnector:
        """The terminal connector.

        Raises:
            UserError: muster.yaml has none.
        """
        if self.services.terminal is None:
            raise UserError(
                "No terminal is configured: write `terminal: {}` under connectors into muster.yaml.",
                code="connector.absent",
            )
        return cast("TerminalConnector", self.services.terminal)

    async def quiet(self) -> None:
        """Wait until there is nothing left to process or to send."""
        await self.delivery.idle()


@contextlib.asynccontextmanager
async def running(
    paths: Paths,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
    connectors: Mapping[str, Connector] | None = None,
    bring_up: bool = False,
    egress: EgressSource | None = None,
    stood_by: bool = False,
    agents_end_too: bool = False,
) -> AsyncIterator[Orchestrator]:
    """Run an orchestrator during the block.

    Args:
        paths: the installation.
        settings: the configuration.
        environ: the environment in which references to secrets are resolved.
        clock: returns seconds since the epoch.
        connectors: additional connectors, which belong to the caller.
        bring_up: launch the persistent agents of the roster that do not run, and restart agents that should run but
            stopped meanwhile.
        egress: the source of the egress. None if there is none; agents then use their accounts' keys themselves.
        agents_end_too: end the agents when this process ends, even if it is killed.
        stood_by: it replaces another orchestrator, which is announced in the chat room.

    Raises:
        LeadershipLost: another orchestrator leads.
        UserError: another one runs, or a folder or the register cannot be used.
    """
    paths.prepare()
    with only_one(paths.lock):
        store = await open_register(settings, environ, home=installation_id.word_of(paths.installation))
        succession = Announcement(
            settings=settings, paths=paths, redact=redaction_of(settings, environ), clock=clock, stood_by=stood_by
        )
        try:
            async with (
                lease.held(store, paths.state, clock, succession) as lead,
                beside("tenure", lease.keep(store, lead, clock)),
                _running(
                    *(paths, settings, environ, store, clock, connectors or {}, bring_up, egress),
                    ends_with=owner_process.this_process() if agents_end_too else "",
                ) as orchestrator,
                beside("core", orchestrator.bring_up()) if bring_up else contextlib.nullcontext(),
            ):
                yield orchestrator
        finally:
            await store.close()


@contextlib.asynccontextmanager
async def _running(
    paths: Paths,
    settings: Settings,
    environ: Mapping[str, str],
    store: Store,
    clock: Callable[[], float],
    more: Mapping[str, Connector],
    bring_up: bool,
    egress: EgressSource | None,
    *,
    ends_with: str,
) -> AsyncIterator[Orchestrator]:
    configured = {identity: Permission.named(word) for identity, word in settings.operators.items()}
    operators = Operators(store, configured, connecting.owners(settings))

    async def may_invite(connector: str, sender: str, groups: Sequence[str] = ()) -> bool:
        return await operators.permission(f"{connector}:{sender}", groups) >= Permission.OPERATOR

    async def may_read(connector: str, person: str, groups: Sequence[str] = ()) -> bool:
        return await operators.permission(f"{connector}:{person}", groups) >= Permission.VIEWER

    async def words(source: str) -> Sequence[str]:
        return await services.complete(source)

    def menu(connector: str) -> CommandMenu:
        return CommandMenu(connector=connector, table=TABLE, operators=operators, words_of=words)

    headcount = Headcount()
    connectors, broken = connecting.make(paths, settings, may_invite, may_read, menu, headcount)
    connectors.update(more)

    def capabilities(name: str) -> Capabilities:
        connector = connectors.get(name)
        return connector.capabilities if connector is not None else Capabilities()

    terminals = {name: each for name, each in connectors.items() if isinstance(each, AttachableConnector)}
    redact = redaction_of(settings, environ)
    speaker = Composer(paths.outgoing)
    roster = LatestRoster(
        paths.roster_yaml, heartbeat_s=settings.agents.heartbeat, freshness_s=settings.agents.freshness
    )
    sections.load()
    services = ReportServices(
        clock=clock,
        store=store,
        table=TABLE,
        operators=operators,
        events=EventHub(redact=redact),
        version=versions.of_this(),
        started_at=clock(),
        redact=redact,
        capabilities=capabilities,
        main_room=connecting.main_room(settings, connectors),
        bridge=connecting.bridge(settings, connectors),
        settings=settings,
        roster=roster,
        environ=environ,
        paths=paths,
        terminal=next((each for each in terminals.values() if each.kind == "terminal"), None),
        terminals=terminals,
        headcount=headcount,
        make_room=connecting.room_maker(settings, connectors, operators),
        hear_room=connecting.room_hearer(connectors),
    )
    services.complete = words_of(services)
    services.reload = partial(reload, services)
    services.documents = documents = sources.feed(services)
    store.on_commit = documents.changed
    executor = Executor(services)
    # Each part may use those created before it.
    budgets.meter(services, egress)
    overlap = DuplicateEvents.of(settings.connectors, connecting.located(connectors))
    conversations = await chat.make(services, executor, speaker, connectors, broken, overlap)
    tools = await crew.make(
        *(services, executor, speaker, connectors, roster, documents),
        with_way=egress is not None,
        leave_down=not bring_up,
        ends_with=ends_with,
    )
    watched = monitoring.make(services, roster)
    budgets.hand_out(services, executor, speaker, roster)
    forge.make(services)
    jobs.make(services, watched, conversations)
    services.health = health.HealthInputs(
        version=services.version,
        started_at=services.started_at,
        delivery=services.delivery,
        jobs=services.jobs,
        agents=services.agents,
        store=store,
        clock=clock,
        state=paths.state,
        egress_client=services.egress_client,
        traces=lambda: None if services.trace_health is None else services.trace_health(),
        forge=lambda: services.forge,
    )
    async with stages.running(order.stages(services, executor, tools, watched)):
        log.info("muster.started", version=services.version)
        try:
            yield Orchestrator(
                paths=paths,
                store=store,
                services=services,
                delivery=services.delivery,
                agents=services.agents,
                executor=executor,
                jobs=services.jobs,
                connectors=connectors,
                conversations=conversations,
                lookout=watched.lookout,
            )
        finally:
            log.info("muster.stopping")


async def until_stopped(orchestrator: Orchestrator) -> None:
    """Wait for `stop`, SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, orchestrator.stop)
    try:
        await orchestrator.stopping.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
