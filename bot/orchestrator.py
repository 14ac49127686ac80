"""The wiring of one running orchestrator, and its start and stop in stages.

    lock, register, connectors, agents, commands, gateway, jobs     (start, in this order)

What is started later may use what was started before; stopping goes the other way round, each stage with a time limit
of its own. Being killed is a stop, too: nothing here must run for the next start to be right.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from bot import assembling, connecting, core, dispatching, health, homes, session_start, tenure
from bot.agents import Agents
from bot.alarms import Alarms
from bot.commands import sections
from bot.commands.completion import words_of
from bot.commands.execution import Executor
from bot.commands.table import TABLE, Permission
from bot.continuing import Continuing
from bot.conversations import Conversations
from bot.doors.gateway import Gateway
from bot.doors.tools import ToolDoor
from bot.events import EventHub
from bot.job_alarms import JobAlarms
from bot.lock import only_one
from bot.lookout import Lookout
from bot.masking import redaction_of
from bot.operators import Operators
from bot.outlet.outlet import Outlet
from bot.pacing.pace import Pace
from bot.peers import Peers
from bot.pictures import Pictures
from bot.questions import Questions
from bot.registers import open_register
from bot.reports.painting import Painter
from bot.reports.posting import Reports
from bot.runaway import Breaker
from bot.saying import Speaker
from bot.services import Services
from bot.stages import beside, within
from bot.strangers import Strangers
from bot.succession import Announcement
from bot.telemetry import sending as telemetry
from bot.telling import Teller
from bot.upkeep import forgetting, versions
from bot.upkeep.holding import held_back
from bot.upkeep.recounting import Recount
from bot.upkeep.retention import bound_logs
from bot.utterances import Utterances
from bot.watches import Watches
from connectors.delivery import Delivery, DeliverySettings
from connectors.messages import Capabilities
from fleet.findings import Limits
from fleet.latest_roster import LatestRoster
from register.errors import RegisterAway
from register.store import Store
from scheduler.jobs import Job, Jobs
from scheduler.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from bot.config import Settings
    from bot.outlet.source import Source
    from bot.paths import Paths
    from connectors.contract import Connector
    from fleet.way import Way, WayAsked
    from register.store import Store

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Orchestrator:
    """A running orchestrator; made by `running`."""

    paths: Paths
    settings: Settings
    store: Store
    services: Services
    delivery: Delivery
    agents: Agents
    executor: Executor
    jobs: Jobs
    connectors: Mapping[str, Connector]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Ask it to stop; `running` then ends."""
        self.stopping.set()

    async def bring_up(self) -> None:
        """Launch the persistent agents of the roster that do not run."""
        await core.bring_up(self.services, self.executor)

    @property
    def terminal(self) -> Any:
        """The terminal connector, when one is configured."""
        return next((each for each in self.connectors.values() if each.kind == "terminal"), None)

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
    egress: Source | None = None,
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
        LeadLost: another orchestrator leads by now.
        UserError: it cannot be started; another one runs, or a folder or the register cannot be used.
    """
    paths.prepare()
    with only_one(paths.lock):
        store = await open_register(settings, environ, home=homes.word_of(paths.installation))
        succession = Announcement(
            settings=settings, paths=paths, redact=redaction_of(settings, environ), clock=clock, stood_by=stood_by
        )
        try:
            async with (
                tenure.held(store, paths.state, clock, succession) as lead,
                beside("tenure", tenure.keep(store, lead, clock)),
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
    egress: Source | None,
) -> AsyncIterator[Orchestrator]:
    redact = redaction_of(settings, environ)
    configured = {identity: Permission.named(word) for identity, word in settings.operators.items()}
    operators = Operators(store, configured)

    async def may_invite(connector: str, sender: str) -> bool:
        return await operators.permission(f"{connector}:{sender}") >= Permission.OPERATOR

    connectors, broken = connecting.make(paths, settings, may_invite)
    connectors.update(more)

    def capabilities(name: str) -> Capabilities:
        connector = connectors.get(name)
        return connector.capabilities if connector is not None else Capabilities()

    events = EventHub(redact=redact)
    speaker = Speaker(paths.outgoing)

    def time_of_day(at: float) -> str:
        return f"{datetime.fromtimestamp(at, settings.timezone):%H:%M} ({settings.timezone.key})"

    async def open_way(asked: WayAsked) -> Way:
        way: Way = await services.outlet.open_way(asked)
        return way

    planner = assembling.planner(paths, settings, environ, with_way=egress is not None)
    assembly = assembling.assembly(
        planner,
        paths,
        environ,
        store=store,
        table=TABLE,
        open_way=None if egress is None else open_way,
        accounts_of=lambda row: session_start.accounts_of(services, row),
    )
    sections.load()
    services = Services(
        clock=clock,
        store=store,
        table=TABLE,
        operators=operators,
        events=events,
        version=versions.of_this(),
        started_at=clock(),
        redact=redact,
        capabilities=capabilities,
        settings=settings,
        environ=environ,
        paths=paths,
        planner=planner,
        terminal=next((each for each in connectors.values() if each.kind == "terminal"), None),
    )
    services.questions = Questions(services)
    services.continuing = Continuing(services)
    services.runaway = Breaker(services)
    if egress is not None:
        services.outlet = Outlet(services=services, source=egress, environ=environ, host=socket.gethostname())
        services.outlet.is_over = services.runaway.is_over
    services.pace = Pace(services=services)
    executor = Executor(services)
    strangers = Strangers(services, speaker)
    pictures = Pictures(paths.incoming, connectors.get)
    utterances = Utterances(store)
    conversations = Conversations(services, executor, speaker, strangers, pictures, utterances)
    delivery = Delivery(
        store,
        connectors,
        await held_back(services, speaker, conversations.handle),
        settings=DeliverySettings(give_up_after=settings.delivery.give_up_after),
        clock=clock,
        broken=broken,
        on_outcome=utterances.decided,
        on_failed=conversations.given_up,
    )
    roster = LatestRoster(
        paths.roster_yaml, heartbeat_s=settings.agents.heartbeat, freshness_s=settings.agents.freshness
    )

    def told() -> None:
        delivery.wake()
        tools.wake()
        dispatching.heard(services)

    agents = Agents(
        store=store,
        teller=Teller(
            speaker,
            redact,
            capabilities,
            clock,
            time_of_day,
            settings.command_prefix,
            dispatching.steps(services).receipt,
        ),
        starter=assembly,
        clock=clock,
        wake_delivery=told,
        publish=dispatching.publishing(services, events.publish),
        show_typing=connecting.typing(connectors),
        give_up_after=settings.delivery.give_up_after,
        keep_journal=settings.retention.journals,
        fresh_for=roster.fresh_for,
        leave_down=not bring_up,
        is_ours=(await homes.settled(store, homes.word_of(paths.installation))).is_ours,
    )
    words = Peers(
        send=agents.send,
        teller=agents.teller,
        clock=clock,
        redact=redact,
        per_minute=settings.agents.messages_per_minute,
        per_hour=settings.agents.messages_per_hour,
        shown=settings.agents.show_messages,
        ask_for=settings.approvals.timeout,
        give_up_after=settings.delivery.give_up_after,
    )
    tools = ToolDoor(services, executor, words, agents.link)
    lookout = Lookout(store=store, agents=agents, roster=roster, folders=paths.agents, clock=clock, redact=redact)
    main_room = connecting.main_room(settings)
    alarms = Alarms(
        speaker=speaker,
        redaction=redact,
        capabilities=capabilities,
        clock=clock,
        main_room=lambda: main_room(None),
        prefix=settings.command_prefix,
        wake_delivery=delivery.wake,
        publish=events.publish,
    )
    job_alarms = JobAlarms(
        store=store,
        speaker=speaker,
        redaction=redact,
        capabilities=capabilities,
        clock=clock,
        room=alarms.fleet_room,
        prefix=settings.command_prefix,
        wake_delivery=delivery.wake,
    )
    watchdog = Watchdog(
        store=store,
        look=lookout.look,
        herald=alarms,
        cancel=lookout.cancel,
        limits=_limits(settings),
    )
    watches = Watches(services)
    services.reports = Reports(
        services=services,
        speaker=speaker,
        painter=Painter(folder=paths.drawing, environ=environ),
        folder=paths.outgoing,
    )
    jobs = Jobs(
        (
            Job("confirmations", 30.0, conversations.confirmations.lapse),
            Job("retention", 3600.0, lambda: forgetting.sweep(store, paths, clock, settings.retention.files)),
            Job("sums", 3600.0, Recount(store, clock, services.pace.doubt).next),
            Job("logs", 30.0, lambda: bound_logs(paths, settings.retention.logs)),
            Job("journals", 3600.0, agents.prune),
            Job("continuations", 5.0, services.continuing.look),
            Job("runaways", 15.0, services.runaway.look),
            Job("reports", 60.0, services.reports.sweep),
            Job("telemetry", 3600.0, lambda: telemetry.send(services)),
            Job("watchdog", settings.watchdog.every, watchdog.sweep),
        ),
        clock,
        on_ended=job_alarms.ended,
    )
    services.delivery = delivery
    services.agents = agents
    services.jobs = jobs
    services.watches = watches
    services.conversations = conversations
    services.lookout = lookout
    services.main_room = main_room
    dispatching.install(services, executor, roster)
    services.complete = words_of(services)
    services.health = health.Source(
        delivery=delivery, jobs=jobs, agents=agents, store=store, clock=clock, outlet=services.outlet
    )
    orchestrator = Orchestrator(
        paths=paths,
        settings=settings,
        store=store,
        services=services,
        delivery=delivery,
        agents=agents,
        executor=executor,
        jobs=jobs,
        connectors=connectors,
    )
    async with beside("job alarms", job_alarms.run()), _serving(orchestrator, watches, tools):
        yield orchestrator


@contextlib.asynccontextmanager
async def _serving(orchestrator: Orchestrator, watches: Watches, tools: ToolDoor) -> AsyncIterator[None]:
    """Everything that runs, each stage stopped before what it uses."""
    gateway = Gateway(orchestrator.services, orchestrator.executor, orchestrator.paths.gateway_socket)
    async with contextlib.AsyncExitStack() as stages:
        await stages.enter_async_context(beside("agents", orchestrator.agents.run()))
        await stages.enter_async_context(beside("delivery", orchestrator.delivery.run()))
        await stages.enter_async_context(beside("watches", watches.run()))
        if orchestrator.services.outlet is not None:
            await stages.enter_async_context(beside("outlet", orchestrator.services.outlet.run()))
        await stages.enter_async_context(beside("pace", orchestrator.services.pace.run()))
        await stages.enter_async_context(beside("dispatch", dispatching.run(orchestrator.services)))
        await orchestrator.executor.resume()
        await stages.enter_async_context(beside("outages", _after_outages(orchestrator)))
        stages.push_async_callback(within, "commands", orchestrator.executor.stop())
        await stages.enter_async_context(beside("tools", tools.run()))
        await gateway.start()
        stages.push_async_callback(within, "gateway", gateway.stop())
        await stages.enter_async_context(beside("reports", orchestrator.services.reports.run()))
        orchestrator.jobs.start()
        stages.callback(orchestrator.jobs.stop)
        log.info("muster.started", version=orchestrator.services.version)
        try:
            yield
        finally:
            log.info("muster.stopping")


async def _after_outages(orchestrator: Orchestrator) -> None:
    """What an outage of the register cut off is taken up when it is over, as it would be after a restart."""
    while True:
        await orchestrator.store.returned.wait()
        orchestrator.store.returned.clear()
        with contextlib.suppress(RegisterAway):
            await orchestrator.executor.resume()
        orchestrator.delivery.wake()


def _limits(settings: Settings) -> Limits:
    return Limits(
        turn_silence=settings.watchdog.turn_silence,
        cancel_after=settings.watchdog.cancel_after,
        expiry_notice=settings.watchdog.expiry_notice,
        settling=settings.watchdog.settling,
    )


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
