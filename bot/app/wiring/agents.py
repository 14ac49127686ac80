"""The supervision of agents: their start, their reports, and their tools."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bot.agents.context import AgentContext
from bot.agents.journal.effects import JournalEffects
from bot.agents.messages.peer_messages import Peers
from bot.agents.service import Agents
from bot.app import connectors as connecting
from bot.app import dispatcher, planner
from bot.approvals import agent_rules
from bot.commands.executor import Executor
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.dashboard.feed import Feed
from bot.interfaces.mcp.server import AgentToolServer
from bot.issue_runs.agent_tools.calls import IssueTools
from bot.leadership import installation_id
from bot.messaging.composer import Composer
from bot.pacing import account_leases
from bot.reports.services import ReportServices
from bot.runs.service import Runs
from bot.setup import launch_planner
from connectors.contract.connector_protocol import Connector
from fleet.roster.cache import LatestRoster
from fleet.sandbox.egress_grant import EgressGrant, WayAsked


async def make(
    services: ReportServices,
    executor: Executor,
    speaker: Composer,
    connectors: Mapping[str, Connector],
    roster: LatestRoster,
    documents: Feed,
    *,
    with_way: bool,
    leave_down: bool,
    ends_with: str = "",
) -> AgentToolServer:
    """Create `services.planner` and `services.agents`, and return the server of the agents' tools.

    Args:
        services: the services so far, including those for chat and spending.
        executor: runs the commands that agents call as tools.
        speaker: composes messages for connectors.
        connectors: connectors by name.
        roster: the latest roster.yaml.
        documents: is told which agent was heard of.
        with_way: give agents outbound access through the egress.
        leave_down: do not restart agents that should run but stopped meanwhile.
        ends_with: the process with which agent hosts end; empty: they outlive all.
    """
    settings: Settings = services.settings
    paths: Paths = services.paths
    store, clock = services.store, services.clock

    def time_of_day(at: float) -> str:
        return f"{datetime.fromtimestamp(at, settings.timezone):%H:%M} ({settings.timezone.key})"

    async def open_way(asked: WayAsked) -> EgressGrant:
        assert services.egress_client is not None
        return await services.egress_client.open_way(asked)

    def told() -> None:
        services.delivery.wake()
        tools.wake()
        services.topics.heard()
        services.runs.heard()
        dispatcher.heard(services)

    services.runs = Runs(services)
    services.planner = launch_planner.planner(paths, settings, services.environ, with_way=with_way)
    context = AgentContext(
        store=store,
        journal_effects=JournalEffects(
            speaker,
            services.redact,
            services.capabilities,
            clock,
            time_of_day,
            settings.command_prefix,
            dispatcher.steps(services).receipt,
            services.runs.receipt,
            bridge=services.bridge,
            dashboard=None if services.settings.web is None else services.settings.web.url,
        ),
        starter=planner.assembly(
            services.planner,
            paths,
            services.environ,
            store=store,
            table=services.table,
            open_way=open_way if with_way else None,
            ends_with=ends_with,
            accounts_of=lambda row: account_leases.accounts_of(services, row),
            rules_of=lambda row: agent_rules.rules_of(services, row),
        ),
        rules_of=lambda row: agent_rules.rules_of(services, row),
        clock=clock,
        wake_delivery=told,
        publish=dispatcher.publishing(services, services.events.publish),
        heard=documents.changed,
        is_watched=services.events.is_watched,
        show_typing=connecting.typing(connectors),
        is_ours=(await installation_id.settled(store, installation_id.word_of(paths.installation))).is_ours,
    )
    services.agents = agents = Agents(
        context=context,
        give_up_after=settings.delivery.give_up_after,
        keep_journal=settings.retention.journals,
        fresh_for=roster.fresh_for,
        leave_down=leave_down,
    )
    words = Peers(
        send=agents.send,
        journal_effects=agents.journal_effects,
        clock=clock,
        redact=services.redact,
        per_minute=settings.agents.messages_per_minute,
        per_hour=settings.agents.messages_per_hour,
        shown=settings.agents.show_messages,
        ask_for=settings.approvals.timeout,
        give_up_after=settings.delivery.give_up_after,
    )
    tools = AgentToolServer(services, executor, words, agents.link, IssueTools(services))
    return tools
