"""What keeps agents: how they are started, what is heard and told of them, and their tools."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from bot import assembling, connecting, dispatching, homes, session_start
from bot.agents import Agents
from bot.doors.tools import ToolDoor
from bot.peers import Peers
from bot.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.commands.execution import Executor
    from bot.config import Settings
    from bot.paths import Paths
    from bot.saying import Speaker
    from bot.services import Services
    from connectors.contract import Connector
    from fleet.latest_roster import LatestRoster
    from fleet.way import Way, WayAsked


async def make(
    services: Services,
    executor: Executor,
    speaker: Speaker,
    connectors: Mapping[str, Connector],
    roster: LatestRoster,
    *,
    with_way: bool,
    leave_down: bool,
) -> ToolDoor:
    """Make `services.planner` and `services.agents`, and the door by which agents use Muster's tools.

    Args:
        services: what there is by now; what is for chat and for spending among it.
        executor: runs the commands that agents give as tools.
        speaker: puts words into the shape of a connector.
        connectors: by their names.
        roster: roster.yaml as it was read last.
        with_way: agents get a way out, through the egress.
        leave_down: agents that should run and went down meanwhile are not brought back.
    """
    settings: Settings = services.settings
    paths: Paths = services.paths
    store, clock = services.store, services.clock

    def time_of_day(at: float) -> str:
        return f"{datetime.fromtimestamp(at, settings.timezone):%H:%M} ({settings.timezone.key})"

    async def open_way(asked: WayAsked) -> Way:
        way: Way = await services.outlet.open_way(asked)
        return way

    def told() -> None:
        services.delivery.wake()
        tools.wake()
        dispatching.heard(services)

    services.planner = assembling.planner(paths, settings, services.environ, with_way=with_way)
    services.agents = agents = Agents(
        store=store,
        teller=Teller(
            speaker,
            services.redact,
            services.capabilities,
            clock,
            time_of_day,
            settings.command_prefix,
            dispatching.steps(services).receipt,
            bridge=services.bridge,
        ),
        starter=assembling.assembly(
            services.planner,
            paths,
            services.environ,
            store=store,
            table=services.table,
            open_way=open_way if with_way else None,
            accounts_of=lambda row: session_start.accounts_of(services, row),
        ),
        clock=clock,
        wake_delivery=told,
        publish=dispatching.publishing(services, services.events.publish),
        show_typing=connecting.typing(connectors),
        give_up_after=settings.delivery.give_up_after,
        keep_journal=settings.retention.journals,
        fresh_for=roster.fresh_for,
        leave_down=leave_down,
        is_ours=(await homes.settled(store, homes.word_of(paths.installation))).is_ours,
    )
    words = Peers(
        send=agents.send,
        teller=agents.teller,
        clock=clock,
        redact=services.redact,
        per_minute=settings.agents.messages_per_minute,
        per_hour=settings.agents.messages_per_hour,
        shown=settings.agents.show_messages,
        ask_for=settings.approvals.timeout,
        give_up_after=settings.delivery.give_up_after,
    )
    tools = ToolDoor(services, executor, words, agents.link)
    return tools
