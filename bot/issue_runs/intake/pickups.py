"""A pick-up: the row of a run and its thread, written together."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import text as intake_text
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from bot.messaging.outbox_keys import OPENER
from bot.runs.beginning import taken_names
from bot.runs.model import free_name
from bot.text import markdown
from connectors.contract.messages import OpenThread, Priority
from connectors.delivery import outbox
from database.queries.chat import thread_owners, topics
from database.queries.forge import forge_events, forge_sights, issue_runs
from database.queries.forge.forge_sights import ForgeSight
from database.queries.forge.issue_runs import IssueRun
from fleet.errors import FleetError
from fleet.launch.launch_plan import Planner
from fleet.sandbox.profiles import JOINS
from forge.model.references import IssueReference
from forge.model.values import Comment, Issue
from forge.targeting import PickUpRules
from forge.waking import IssueSight

#: How `IssueRun.picked_how` begins an operator's pick-up.
BY_COMMAND: Final = "pickup"


class PickUpSource(Protocol):
    """What the configuration says about pick-ups."""

    async def rules(self) -> PickUpRules:
        """Return roles, agents and sandbox profiles as they are now.

        Raises:
            UserError: roster.yaml cannot be read.
        """

    def sandbox_problem(self, sandboxes: Sequence[str]) -> str | None:
        """Return why profiles cannot be used together, or None if they can."""

    async def names(self, tx: AsyncConnection) -> frozenset[str]:
        """Return the names that a new agent may not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A pick-up that was decided."""

    reference: IssueReference
    issue: Issue
    comments: Sequence[Comment]
    """Those that came before it. They wake nothing."""
    role: str
    sandboxes: Sequence[str]
    picked_by: str
    picked_how: str


@dataclass(frozen=True, slots=True)
class PickUps:
    """Writes pick-ups into the register."""

    link: ForgeLink
    channel: AgentChannel
    room: Callable[[], tuple[str, str]]
    """Returns connector and room of the fleet.

    Raises `UserError` if there is none.
    """
    names: Callable[[AsyncConnection], Awaitable[frozenset[str]]]
    clock: Callable[[], float]

    async def add(self, tx: AsyncConnection, wanted: Wanted) -> IssueRun | None:
        """Add a queued run, what was seen of its issue, and its thread. None, and nothing changes, if there is one.

        Raises:
            UserError: there is no room for its thread.
        """
        host, at = self.link.host, wanted.reference
        if await issue_runs.of_issue(tx, host, str(at.repository), at.number) is not None:
            return None
        connector, room = self.room()
        now, run_id = self.clock(), run_id_of(host, at)
        run = IssueRun(
            id=run_id,
            forge=host,
            repository=str(at.repository),
            number=at.number,
            title=wanted.issue.title,
            body=wanted.issue.body,
            role=wanted.role,
            sandboxes=list(wanted.sandboxes),
            picked_by=wanted.picked_by,
            picked_how=wanted.picked_how,
            agent=await self._agent(tx, at),
            connector=connector,
            room=room,
            thread_key=f"{OPENER}issue-{run_id}",
            state="queued",
            created_at=now,
            active_at=now,
        )
        if not await issue_runs.add(tx, run):
            return None
        latest = self.link.latest(now)
        sight = ForgeSight(
            forge=host,
            repository=run.repository,
            number=run.number,
            run=run_id,
            comments_after=max((each.id for each in wanted.comments), default=0),
            comments_since=max((min(each.updated_at.timestamp(), latest) for each in wanted.comments), default=None),
            state=IssueSight.of(wanted.issue).to_json(),
        )
        await forge_sights.put(tx, sight)
        if await forge_events.looked_until(tx, host, run.repository) is None:
            # No look has found anything so far. From now on, changes of closed issues matter, too.
            await forge_events.move(tx, host, run.repository, min(wanted.issue.updated_at.timestamp(), latest))
        await self._open_thread(tx, run, wanted.issue.url)
        return run

    async def _agent(self, tx: AsyncConnection, at: IssueReference) -> str:
        taken = await self.names(tx)
        short = f"issue-{at.number}"
        cleaned = re.sub(r"[^a-z0-9]+", "-", at.repository.name.lower()).strip("-")[:20].strip("-")
        long = f"{cleaned}-{short}" if cleaned[:1].isalpha() else f"repo-{cleaned}-{short}"
        name = short if await self._is_free(tx, short, taken) else free_name(long[:40], taken)
        while not await self._is_free(tx, name, taken):
            taken |= {name}
            name = free_name(long[:40], taken)
        return name

    async def _is_free(self, tx: AsyncConnection, name: str, taken: frozenset[str]) -> bool:
        if name in taken or await topics.of_agent(tx, name) is not None:
            return False
        return await issue_runs.of_agent(tx, name) is None

    async def _open_thread(self, tx: AsyncConnection, run: IssueRun, url: str) -> None:
        words = self.channel.redaction(intake_text.opener(run, url))
        title = self.channel.redaction(intake_text.thread_title(run))
        place = MessagePlace(run.connector, conversation=run.room)
        await thread_owners.note(tx, run.thread_key, "agent", run.agent)
        opener = OpenThread(title=title, message=markdown.message(markdown.shown(words)))
        await outbox.put(tx, place.outbound(run.thread_key, opener, Priority.REPLY), self.clock())
        for key, at in self.channel.bridge.spread(run.thread_key, place)[1:]:
            await self.channel.speak_there(tx, key, f"{words} Its thread is on **{run.connector}**.", at)


def run_id_of(forge: str, at: IssueReference) -> str:
    """Return the id of an issue's run: an issue has one."""
    name = f"issue\0{forge}\0{str(at).lower()}"
    return hashlib.blake2s(name.encode(), digest_size=5).hexdigest()


@dataclass(frozen=True, slots=True)
class Configured:
    """Pick-ups by what is configured here (`PickUpSource`)."""

    planner: Planner
    link: ForgeLink

    async def rules(self) -> PickUpRules:
        planner = self.planner
        agents = [entry.name for entry in (await asyncio.to_thread(planner.read_roster)).agents]
        roles = await asyncio.to_thread(lambda: planner.roles().names)
        # An issue cannot take an agent out of its sandbox; who writes muster.yaml can.
        usable = {name for name in planner.profiles if planner.sandbox_kind(name) != "none"}
        default = self.link.settings.sandbox
        return PickUpRules(
            organization=self.link.settings.organization,
            targets=frozenset(each.lower() for each in (*roles, *agents)),
            sandboxes=frozenset(usable),
            default_sandboxes=() if default is None else (default,),
        )

    def sandbox_problem(self, sandboxes: Sequence[str]) -> str | None:
        try:
            self.planner.profile(JOINS.join(sandboxes))
        except FleetError as error:
            return str(error)
        return None

    async def names(self, tx: AsyncConnection) -> frozenset[str]:
        in_roster = [entry.name for entry in self.planner.read_roster().agents]
        return await taken_names(tx, in_roster)


def pick_ups_of(services: AgentServices, link: ForgeLink) -> PickUps:
    """Return what writes pick-ups of a running orchestrator. Threads open in the fleet's room."""
    return PickUps(
        link,
        services.agents.journal_effects,
        lambda: services.main_room(None),
        Configured(services.planner, link).names,
        services.clock,
    )
