"""From what the forge told to rows: pick-ups, wakes, and what people are told.

An event is a hint: what it is about is read from the forge, something pure decides, and one transaction writes the
rows and marks the events as handled. An error of the forge decides nothing: the events wait, and people are told.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import text as intake_text
from bot.issue_runs.intake.notices import notice
from bot.issue_runs.intake.pickups import PickUps, PickUpSource, Wanted
from bot.issue_runs.intake.run_news import FIRST_PAUSE, TAKE_IN, RunIntake
from bot.issue_runs.intake.troubles import Troubles
from bot.issue_runs.ports import RoundsPort
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from core.async_waits import set_within
from core.backoff import pause
from core.errors import MusterError, RegisterError
from database.engine.store import Store
from database.queries.forge import forge_events, forge_orders, forge_sights, issue_runs
from database.queries.forge.forge_events import WaitingEvents
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing, ForgeRefused, MembershipAway, MembershipUnknown
from forge.model.references import IssueReference
from forge.model.values import Issue
from forge.targeting import TARGET_LABEL, PickUp, PickUpDecision, decide, members_to_ask

#: How many issues, pull requests and commits are read about in one pass.
MOST_GROUPS: Final = 1_000
#: The longest pause between attempts, seconds.
LONGEST_PAUSE: Final = 300.0
#: Seconds after which an event about something that does not exist is dropped.
GONE_AFTER: Final = 86_400.0
#: Seconds until a pass looks again for what other processes wrote.
_LOOK_AGAIN: Final = 60.0

_log = structlog.get_logger("forge.intake")
_Key = tuple[str, int | None, str | None]


@dataclass(frozen=True, slots=True)
class _Pause:
    """When a group is tried again."""

    failures: int
    """In a row."""
    until: float
    newest: int
    """Its newest event when it was handled."""
    news_at: float
    """When later events are handled."""

    def ends_at(self, group: WaitingEvents) -> float:
        """Return when the group is handled, as it is now."""
        return self.until if group.newest == self.newest else self.news_at


@dataclass(slots=True)
class Intake:
    """Handles events of the forge."""

    store: Store
    link: ForgeLink
    channel: AgentChannel
    source: PickUpSource
    pickups: PickUps
    troubles: Troubles
    rounds: RoundsPort
    ordered: Callable[[str], None]
    """Is told the key of a new order."""
    wake_delivery: Callable[[], None]
    clock: Callable[[], float]
    rng: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _again: dict[_Key, _Pause] = field(default_factory=dict)
    _of_runs: RunIntake = field(init=False)

    def __post_init__(self) -> None:
        self._of_runs = RunIntake(
            self.store, self.link, self.channel, self.rounds, self.ordered, self.wake_delivery, self.clock
        )

    def wake(self) -> None:
        """Handle new events soon."""
        self._news.set()

    async def run(self) -> None:
        """Handle events until cancelled."""
        failures = 0
        while True:
            self._news.clear()
            try:
                wait = await self.handle()
                failures = 0
            except RegisterError as error:
                _log.warning("forge.register", reason=str(error))
                failures += 1
                wait = pause(failures, first=FIRST_PAUSE, longest=30.0, rng=self.rng)
            await set_within(self._news, wait)

    async def handle(self) -> float:
        """Handle all events that wait and whose time has come. Return in how many seconds to come again.

        Raises:
            RegisterError: the register is away.
        """
        async with self.store.read() as tx:
            groups = await forge_events.waiting_groups(tx, self.link.host, limit=MOST_GROUPS)
        now = self.monotonic()
        keys = {_key(group) for group in groups}
        self._again = {key: each for key, each in self._again.items() if key in keys}
        waits = [_LOOK_AGAIN]
        # What failed comes last: it ends a pass if the forge seems to be away, and may be the only thing that fails.
        for group in sorted(groups, key=self._failures):
            paused = self._again.get(_key(group))
            if paused is not None and (ends_at := paused.ends_at(group)) > now:
                waits.append(ends_at - now)
            elif not await self._tried(group):
                break
        waits += [each.until - self.monotonic() for each in self._again.values()]
        return max(0.05, min(waits))

    async def _tried(self, group: WaitingEvents) -> bool:
        """Handle a group. Return False if nothing else can be done now either."""
        what = _named(group)
        try:
            again_s = await self._handle(group)
        except RegisterError:
            raise
        except ForgeMissing as error:
            if self.clock() - group.first_at > GONE_AFTER:
                async with self.store.write(TAKE_IN) as tx:
                    await forge_events.handled_group(tx, self.link.host, group, self.clock())
                self.troubles.ended(what)
                return True
            await self._failed(group, what, error)
            return True
        except (ForgeError, MusterError) as error:
            await self._failed(group, what, error)
            away = isinstance(error, ForgeAway) or (isinstance(error, ForgeRefused) and error.status == 401)
            return not away or isinstance(error, MembershipUnknown | MembershipAway)
        except Exception as error:
            _log.exception("forge.intake_failed", what=what)
            await self._failed(group, what, error)
            return True
        self.troubles.ended(what)
        self._again.pop(_key(group), None)
        if again_s is not None:
            now = self.monotonic()
            self._again[_key(group)] = _Pause(0, now + again_s, group.newest, now + FIRST_PAUSE)
        return True

    def _failures(self, group: WaitingEvents) -> int:
        """Return how often in a row a group has failed."""
        paused = self._again.get(_key(group))
        return 0 if paused is None else paused.failures

    async def _failed(self, group: WaitingEvents, what: str, error: Exception) -> None:
        failures = self._failures(group) + 1
        wait = pause(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=self.rng)
        if isinstance(error, ForgeAway) and error.retry_after is not None:
            wait = max(wait, min(error.retry_after, 3600.0))
        until = self.monotonic() + wait
        self._again[_key(group)] = _Pause(failures, until, group.newest, until)
        await self.troubles.met(what, error)

    async def _handle(self, group: WaitingEvents) -> float | None:
        """Handle a group; return in how many seconds to come again, or None if all of it is done."""
        repository = self.link.configured(group.repository)
        if repository is None:
            await self._settle(group)
            return None
        async with self.store.read() as tx:
            if group.number is None:
                run = await issue_runs.of_commit(tx, self.link.host, str(repository), group.sha or "")
            else:
                run = await issue_runs.of_issue(tx, self.link.host, str(repository), group.number)
                run = run or await issue_runs.of_pull_request(tx, self.link.host, str(repository), group.number)
        if group.number is None:
            if run is None or run.state == "destroyed" or run.pull_request is None:
                # What a round leaves at the forge is looked at when it is over.
                await self._settle(group)
                return None
            return await self._of_runs.checks(group, IssueReference(repository, run.pull_request), run)
        at = IssueReference(repository, group.number)
        if run is None:
            await self._candidate(group, at)
            return None
        if run.number == group.number:
            return await self._of_runs.issue(group, at, run)
        return await self._of_runs.pull(group, at, run)

    # An issue without a run.

    async def _candidate(self, group: WaitingEvents, at: IssueReference) -> None:
        async with self.store.read() as tx:
            had_run = await forge_sights.get(tx, self.link.host, str(at.repository), at.number) is not None
        if had_run:
            # It was forgotten since. Only a person begins again, with `pickup`.
            await self._settle(group)
            return
        issue = await self.link.client.read_issue(at)
        us = (await self.link.whoami()).account
        issue = replace(issue, assignees=tuple(each for each in issue.assignees if each.id != us.id))
        memberships = await self.link.memberships(members_to_ask(issue))
        rules = await self.source.rules()
        decision = decide(at, issue, rules, memberships=memberships, has_run=False)
        _log.info("forge.pick_up", **decision.log_fields())
        if decision.outcome is PickUp.PICK_UP:
            problem = self.source.sandbox_problem(decision.sandboxes)
            if problem is not None:
                said = f"The sandbox profiles that {at} names do not go together: {problem}"
                decision = replace(decision, outcome=PickUp.REFUSE, reason="sandboxes", sentence=said)
        match decision.outcome:
            case PickUp.PICK_UP:
                await self._pick_up(group, issue, decision)
            case PickUp.REFUSE:
                await self._refuse(group, decision)
            case _:
                await self._settle(group)

    async def _pick_up(self, group: WaitingEvents, issue: Issue, decision: PickUpDecision) -> None:
        assert decision.target is not None
        assert decision.assignee is not None
        wanted = Wanted(
            reference=decision.issue,
            issue=issue,
            comments=await self.link.client.read_comments(decision.issue),
            role=decision.target,
            sandboxes=decision.sandboxes,
            picked_by=decision.assignee.login,
            picked_how=f"{TARGET_LABEL}{decision.target}",
        )
        async with self.store.write(TAKE_IN) as tx:
            await self.pickups.add(tx, wanted)
            await forge_events.handled_group(tx, self.link.host, group, self.clock())
        self.rounds.wake()
        self.wake_delivery()

    async def _refuse(self, group: WaitingEvents, decision: PickUpDecision) -> None:
        now, at = self.clock(), decision.issue
        order = notice(self.link, at, decision.reason, decision.sentence, now=now)
        connector, room = self.pickups.room()
        async with self.store.write(TAKE_IN) as tx:
            await forge_orders.add(tx, order)
            text = intake_text.refused(at, decision.sentence)
            await self.channel.speak(tx, order.key, text, MessagePlace(connector, conversation=room))
            await forge_events.handled_group(tx, self.link.host, group, now)
        self.ordered(order.key)
        self.wake_delivery()

    async def _settle(self, group: WaitingEvents) -> None:
        async with self.store.write(TAKE_IN) as tx:
            await forge_events.handled_group(tx, self.link.host, group, self.clock())


def _key(group: WaitingEvents) -> _Key:
    return group.repository, group.number, group.sha


def _named(group: WaitingEvents) -> str:
    return f"{group.repository}#{group.number}" if group.number is not None else f"{group.repository}@{group.sha}"
