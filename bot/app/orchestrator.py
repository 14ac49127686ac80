"""One running orchestrator: the lock, the register and the lead that it takes, and what it is made of.

How the parts are made is in `bot.app.wiring`; in which order they run, in `bot.app.wiring.order`: what is started later
may use what was started before, and stopping goes the other way round, each stage with a time limit of its own. Being
killed is a stop, too: nothing here must run for the next start to be right.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from bot.app import autostart, stages
from bot.app import connectors as connecting
from bot.app.completion_words import words_of
from bot.app.config_reload import reload
from bot.app.stages import beside
from bot.app.takeover_notice import Announcement
from bot.app.wiring import agents as crew
from bot.app.wiring import budgets, chat, jobs, monitoring, order
from bot.auth.permission import Permission
from bot.auth.permissions import Operators
from bot.commands import sections
from bot.commands.executor import Executor
from bot.commands.registry import TABLE
from bot.commands.slash_commands import CommandMenu
from bot.config.database import open_register
from bot.config.instance_lock import only_one
from bot.config.secrets import redaction_of
from bot.interfaces.chat.duplicate_events import Overlap
from bot.leadership import installation_id, lease
from bot.maintenance.update import versions
from bot.messaging.composer import Composer
from bot.messaging.event_hub import EventHub
from bot.monitoring import health
from bot.reports.services import ReportServices
from bot.text.errors import UserError
from connectors.contract.agent_count_feed import Headcount
from connectors.contract.connector_protocol import AttachableConnector
from connectors.contract.messages import Capabilities
from fleet.roster.cache import LatestRoster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from bot.agents.service import Agents
    from bot.config.loader import Settings
    from bot.config.paths import Paths
    from bot.egress_client.source import EgressSource
    from bot.interfaces.chat.router import Conversations
    from bot.monitoring.fleet_snapshot import Lookout
    from connectors.contract.connector_protocol import Connector
    from connectors.delivery.service import Delivery
    from connectors.terminal.connector import TerminalConnector
    from database.engine.store import Store
    from scheduler.jobs import Jobs

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Orchestrator:
    """A running orchestrator; made by `running`."""

    paths: Paths
    settings: Settings
    store: Store
    services: ReportServices
    delivery: Delivery
    agents: Agents
    executor: Executor
    jobs: Jobs
    connectors: Mapping[str, Connector]
    conversations: Conversations
    lookout: Lookout
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Ask it to stop; `running` then ends."""
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
        """Wait until nothing is left to hand out or to send."""
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
) -> AsyncIterator[Orchestrator]:
    """Start an orchestrator, and stop it at the end of the block.

    Args:
        paths: the installation.
        settings: what it is configured to be.
        environ: where references to secrets are looked up.
        clock: seconds since the epoch.
        connectors: used beside those that are configured; they are the caller's.
        bring_up: launch the persistent agents of the roster that do not run, and bring back those that should run and
            went down meanwhile.
        egress: where the egress is to be had. None: there is none, and agents use their accounts' keys themselves.
        stood_by: it takes the place of another one, of which the room is told.

    Raises:
        LeadLost: another orchestrator leads now.
        UserError: it cannot be started; another one runs, or a folder or the register cannot be used.
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
                _running(paths, settings, environ, store, clock, connectors or {}, bring_up, egress) as orchestrator,
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
    )
    services.complete = words_of(services)
    services.reload = partial(reload, services)
    executor = Executor(services)
    # Each may use what was made before it.
    budgets.meter(services, egress)
    overlap = Overlap.of(settings.connectors, connecting.located(connectors))
    conversations = await chat.make(services, executor, speaker, connectors, broken, overlap)
    tools = await crew.make(
        services, executor, speaker, connectors, roster, with_way=egress is not None, leave_down=not bring_up
    )
    watched = monitoring.make(services, speaker, roster)
    budgets.hand_out(services, executor, speaker, roster)
    jobs.make(services, watched, conversations)
    services.health = health.HealthInputs(
        delivery=services.delivery,
        jobs=services.jobs,
        agents=services.agents,
        store=store,
        clock=clock,
        state=paths.state,
        outlet=services.outlet,
    )
    async with stages.running(order.stages(services, executor, tools, watched)):
        log.info("muster.started", version=services.version)
        try:
            yield Orchestrator(
                paths=paths,
                settings=settings,
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
