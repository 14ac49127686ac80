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
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import structlog

from bot import core, health, onboarding, tenure
from bot.agents import Agents
from bot.alarms import Alarms
from bot.commands import sections
from bot.commands.completion import words_of
from bot.commands.execution import Executor
from bot.commands.table import TABLE, Permission
from bot.conversations import Conversations
from bot.doors import pane
from bot.doors.gateway import Gateway
from bot.doors.tools import ToolDoor, tools_for
from bot.errors import UserError
from bot.events import EventHub
from bot.lock import only_one
from bot.logins import login_home
from bot.lookout import Lookout
from bot.masking import redaction_of as redaction_of
from bot.operators import Operators
from bot.outlet.outlet import Outlet
from bot.peers import Peers
from bot.pictures import Pictures
from bot.registers import open_register
from bot.saying import Speaker
from bot.services import Services
from bot.strangers import Strangers
from bot.telling import Teller
from bot.upkeep.holding import held_back
from bot.upkeep.retention import bound_logs, sweep_files
from bot.utterances import Utterances
from bot.watches import Watches
from connectors import registry, retention
from connectors.delivery import Delivery, DeliverySettings
from connectors.messages import Capabilities, Health
from fleet.access import Account
from fleet.assembly import Assembly, Introduction
from fleet.findings import Limits
from fleet.latest_roster import LatestRoster
from fleet.planning import Defaults, Planner
from fleet.roles import library
from fleet.sandbox.profiles import merged
from register.crashpoints import declare
from register.errors import MusterError, RegisterAway
from register.queries import agent_messages, approvals, audit, command_runs, peers, tool_calls
from register.queries import agents as agent_rows
from register.store import Store
from scheduler.jobs import Job, Jobs
from scheduler.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from bot.commands.context import Origin
    from bot.config import Settings
    from bot.outlet.outlet import Source
    from bot.paths import Paths
    from connectors.contract import Connector
    from fleet.way import Way, WayAsked
    from register.store import Store

log = structlog.get_logger(__name__)

#: Seconds that each stage of stopping may take.
STOP_LIMIT = 5.0
#: Seconds that showing "typing" may take; it is a courtesy.
TYPING_LIMIT = 5.0
FORGET = declare("commands.forget")

#: Runs of commands, and what went to agents or was asked by them, are kept for so many seconds: longer than the keys of
#: the events that asked for them.
KEEP_RUNS = 420 * 86_400.0
KEEP_AUDIT = 5 * 365 * 86_400.0
#: Files for chat and from chat are kept for so many seconds.
KEEP_FILES = 14 * 86_400.0
#: The terminal's main room.
TERMINAL_ROOM = "fleet"


def program_version() -> str:
    """The installed version."""
    try:
        return version("muster-fleet")
    except PackageNotFoundError:
        return "0"


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


def _make_connectors(
    paths: Paths, settings: Settings, may_invite: Callable[[str, str], Any]
) -> tuple[dict[str, Connector], dict[str, Health]]:
    made: dict[str, Connector] = {}
    broken = {
        name: Health(kind=name, reachable=None, authenticated=None, last_seen=None, detail=reason)
        for name, reason in settings.broken.items()
    }
    for each in settings.connectors:

        async def invited(sender: str, name: str = each.name) -> bool:
            allowed: bool = await may_invite(name, sender)
            return allowed

        try:
            folder = paths.connector_folder(each.name)
            folder.mkdir(mode=0o700, exist_ok=True)
            made[each.name] = registry.make(each.kind, each.name, each.settings, folder, may_invite=invited)
        except MusterError as error:
            broken[each.name] = Health(
                kind=each.kind, reachable=None, authenticated=None, last_seen=None, detail=str(error)
            )
    return made, broken


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

    Raises:
        UserError: it cannot be started; another one runs, or a folder or the register cannot be used.
    """
    paths.prepare()
    with only_one(paths.lock):
        store = await open_register(settings, environ)
        try:
            async with (
                tenure.held(store, paths.state, clock) as lease,
                _task("tenure", tenure.keep(store, lease, clock)),
                _running(paths, settings, environ, store, clock, connectors or {}, bring_up, egress) as orchestrator,
                _task("core", orchestrator.bring_up()) if bring_up else contextlib.nullcontext(),
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

    connectors, broken = _make_connectors(paths, settings, may_invite)
    connectors.update(more)

    def capabilities(name: str) -> Capabilities:
        connector = connectors.get(name)
        return connector.capabilities if connector is not None else Capabilities()

    events = EventHub(redact=redact)
    speaker = Speaker(paths.outgoing)

    def time_of_day(at: float) -> str:
        return f"{datetime.fromtimestamp(at, settings.timezone):%H:%M} ({settings.timezone.key})"

    async def introduce(name: str) -> Introduction:
        async with store.read() as tx:
            row, rows = await agent_rows.get(tx, name), await agent_rows.every(tx)
        if row is None:
            return Introduction()
        roles = await asyncio.to_thread(library, paths.roles)
        return Introduction(text=onboarding.introduction(row, rows), tools=tools_for(row.role, roles, TABLE))

    async def open_way(asked: WayAsked) -> Way:
        way: Way = await services.outlet.open_way(asked)
        return way

    planner = Planner(
        folder_of=paths.agent_folder,
        workspace_of=paths.workspace,
        roster=paths.roster_yaml,
        hidden=paths.private_folders(),
        accounts=_accounts(settings, environ),
        defaults=_defaults(settings),
        profiles=merged({name: profile.written() for name, profile in settings.sandboxes.items()}),
        with_way=egress is not None,
    )
    assembly = Assembly(
        planner=planner,
        socket_of=paths.agent_socket,
        login_of=lambda runtime: login_home(paths, runtime),
        environ=environ,
        tools_socket_of=paths.tools_socket,
        introduce=introduce,
        viewer_of=lambda name: pane.command(paths, name),
        installation=paths.label,
        open_way=None if egress is None else open_way,
    )
    sections.load()
    services = Services(
        clock=clock,
        store=store,
        table=TABLE,
        operators=operators,
        events=events,
        version=program_version(),
        started_at=clock(),
        redact=redact,
        capabilities=capabilities,
        settings=settings,
        paths=paths,
        planner=planner,
        terminal=next((each for each in connectors.values() if each.kind == "terminal"), None),
    )
    if egress is not None:
        services.outlet = Outlet(services=services, source=egress, environ=environ, host=socket.gethostname())
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

    agents = Agents(
        store=store,
        teller=Teller(speaker, redact, capabilities, clock, time_of_day, settings.command_prefix),
        starter=assembly,
        clock=clock,
        wake_delivery=told,
        publish=events.publish,
        show_typing=_typing(connectors),
        give_up_after=settings.delivery.give_up_after,
        keep_journal=settings.retention.journals,
        fresh_for=roster.fresh_for,
        leave_down=not bring_up,
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
    main_room = _main_room(settings)
    watchdog = Watchdog(
        store=store,
        look=lookout.look,
        herald=Alarms(
            speaker=speaker,
            redaction=redact,
            capabilities=capabilities,
            clock=clock,
            main_room=lambda: main_room(None),
            prefix=settings.command_prefix,
            wake_delivery=delivery.wake,
            publish=events.publish,
        ),
        cancel=lookout.cancel,
        limits=_limits(settings),
    )
    watches = Watches(services)
    jobs = Jobs(
        (
            Job("confirmations", 30.0, conversations.lapse),
            Job("retention", 3600.0, lambda: _retain(store, paths, clock, settings.retention.files)),
            Job("logs", 30.0, lambda: bound_logs(paths, settings.retention.logs)),
            Job("journals", 3600.0, agents.prune),
            Job("watchdog", settings.watchdog.every, watchdog.sweep),
        ),
        clock,
    )
    services.delivery = delivery
    services.agents = agents
    services.watches = watches
    services.conversations = conversations
    services.lookout = lookout
    services.main_room = main_room
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
    async with _serving(orchestrator, watches, tools):
        yield orchestrator


@contextlib.asynccontextmanager
async def _serving(orchestrator: Orchestrator, watches: Watches, tools: ToolDoor) -> AsyncIterator[None]:
    """Everything that runs, each stage stopped before what it uses."""
    gateway = Gateway(orchestrator.services, orchestrator.executor, orchestrator.paths.gateway_socket)
    async with contextlib.AsyncExitStack() as stages:
        await stages.enter_async_context(_task("agents", orchestrator.agents.run()))
        await stages.enter_async_context(_task("delivery", orchestrator.delivery.run()))
        await stages.enter_async_context(_task("watches", watches.run()))
        if orchestrator.services.outlet is not None:
            await stages.enter_async_context(_task("outlet", orchestrator.services.outlet.run()))
        await orchestrator.executor.resume()
        await stages.enter_async_context(_task("outages", _after_outages(orchestrator)))
        stages.push_async_callback(_within, "commands", orchestrator.executor.stop())
        await stages.enter_async_context(_task("tools", tools.run()))
        await gateway.start()
        stages.push_async_callback(_within, "gateway", gateway.stop())
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


@contextlib.asynccontextmanager
async def _task(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the block; its failure is the block's, and it ends with the block."""
    owner = asyncio.current_task()
    assert owner is not None
    task = asyncio.create_task(work, name=name)

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            log.error("stage.failed", stage=name, exc_info=done.exception())
            owner.cancel()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.remove_done_callback(ended)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=STOP_LIMIT)
        if not done:
            log.warning("stage.slow_to_stop", stage=name, limit_s=STOP_LIMIT)
        elif not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _within(name: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(STOP_LIMIT):
            await work
    except TimeoutError:
        log.warning("stage.slow_to_stop", stage=name, limit_s=STOP_LIMIT)


def _main_room(settings: Settings) -> Callable[[Origin | None], tuple[str, str]]:
    def choose(origin: Origin | None) -> tuple[str, str]:
        if origin is not None:
            return origin.connector, origin.parent or origin.conversation
        for each in settings.connectors:
            room = each.fleet_room or (TERMINAL_ROOM if each.kind == "terminal" else None)
            if room is not None:
                return each.name, room
        raise UserError(
            "there is no room for the agent's thread: set connectors.NAME.fleet_room in muster.yaml, or launch it from "
            "the chat room."
        )

    return choose


def _typing(connectors: Mapping[str, Connector]) -> Callable[[str, str, bool], Awaitable[None]]:
    async def show(name: str, conversation: str, active: bool) -> None:
        connector = connectors.get(name)
        if connector is None or not connector.capabilities.typing:
            return
        try:
            async with asyncio.timeout(TYPING_LIMIT):
                await connector.typing(conversation, active=active)
        except TimeoutError:
            pass
        except Exception as error:
            # Nobody's work is to end over it.
            log.info("typing.not_shown", connector=name, reason=repr(error))

    return show


async def _retain(store: Store, paths: Paths, clock: Callable[[], float], files: int = 10**9) -> None:
    """Forget what nobody needs any more, in the register and of files for chat, of which `files` bytes stay."""
    now = clock()
    await retention.sweep(store, now)
    async with store.write(FORGET) as tx:
        await command_runs.forget(tx, now - KEEP_RUNS)
        await agent_messages.forget(tx, now - KEEP_RUNS)
        await approvals.forget(tx, now - KEEP_RUNS)
        await audit.forget(tx, now - KEEP_AUDIT)
        await peers.forget(tx, now - KEEP_RUNS)
        await tool_calls.forget(tx, now - KEEP_FILES)
    await sweep_files(store, (paths.outgoing, paths.incoming), before=now - KEEP_FILES, limit=files)


def _accounts(settings: Settings, environ: Mapping[str, str]) -> Mapping[str, Account]:
    def secret(name: str) -> Callable[[], str | None]:
        credential = settings.accounts[name].credential
        return lambda: None if credential is None else credential.resolve(environ)

    def is_token(name: str) -> bool:
        """Whether it is a token of a subscription, which its own program tells by how it begins."""
        try:
            return (secret(name)() or "").startswith("sk-ant-oat")
        except MusterError:
            return False

    return {
        name: Account(
            name=name,
            provider=account.provider,
            base_url=account.base_url,
            secret=secret(name),
            has_credential=account.credential is not None,
            oauth=account.provider == "anthropic" and is_token(name),
            passthrough=account.passthrough,
        )
        for name, account in settings.accounts.items()
    }


def _defaults(settings: Settings) -> Defaults:
    return Defaults(
        runtime=settings.agents.runtime,
        model=settings.agents.model,
        sandbox=settings.agents.sandbox,
        workspaces=settings.agents.workspaces,
        initialize_timeout_s=settings.agents.initialize_timeout,
        heartbeat_s=settings.agents.heartbeat,
        permission_timeout_s=settings.approvals.timeout,
        log_bytes=settings.retention.logs,
    )


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
