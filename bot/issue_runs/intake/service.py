"""From what the forge told to rows: pick-ups, wakes, and what people are told.

An event is a hint: what it is about is read from the forge, something pure decides, and one transaction writes the
rows and marks the events as handled. An error of the forge decides nothing: the events wait, and people are told.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import text as intake_text
from bot.issue_runs.intake.looking import OVERLAP
from bot.issue_runs.intake.notices import notice
from bot.issue_runs.intake.pickups import PickUps, PickUpSource, Wanted
from bot.issue_runs.intake.troubles import Troubles
from bot.issue_runs.ports import RoundsPort
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from connectors.delivery import outbox
from core.async_waits import set_within
from core.backoff import pause
from core.crash_points import declare
from core.errors import MusterError, RegisterError
from database.engine.store import Store
from database.queries.forge import forge_events, forge_orders, forge_sights, issue_runs
from database.queries.forge.forge_events import WaitingEvents
from database.queries.forge.forge_sights import ForgeSight
from database.queries.forge.issue_runs import ALIVE, IssueRun, IssueWake
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing, ForgeRefused, MembershipAway, MembershipUnknown
from forge.model.references import IssueReference
from forge.model.values import Comment, ForgeUser, Issue, Review
from forge.targeting import TARGET_LABEL, PickUp, PickUpDecision, decide, members_to_ask
from forge.waking import (
    CommentNews,
    IssueSight,
    PullEffect,
    comment_news,
    comment_text,
    failed_checks,
    failed_text,
    pull_effect,
    pull_state,
    review_news,
    review_text,
)

TAKE_IN = declare("forge.take_in")

#: How many issues, pull requests and commits are read about in one pass.
MOST_GROUPS: Final = 1_000
#: How many comments a run keeps for its next round. An agent can read the others at the forge.
MOST_WAITING: Final = 100
#: The pauses between attempts, seconds.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
#: Seconds after which an event about something that does not exist is dropped.
GONE_AFTER: Final = 86_400.0
#: Changes of an issue, and of a pull request, are told at most once in so many seconds.
TOLD_EVERY_S: Final = 3_600.0
#: Seconds until a pass looks again for what other processes wrote.
_LOOK_AGAIN: Final = 60.0

_log = structlog.get_logger("forge.intake")
_Key = tuple[str, int | None, str | None]
_NEVER: Final = (0, -math.inf, None)


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
    _again: dict[_Key, tuple[int, float, int | None]] = field(default_factory=dict)
    """The failures of a group in a row, when it is tried again, and after which event it does not wait so long."""

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
        # What failed comes last: it ends a pass if the forge seems to be away, and may be the only thing that fails.
        for group in sorted(groups, key=lambda each: self._again.get(_key(each), _NEVER)[0]):
            _, at, heard = self._again.get(_key(group), _NEVER)
            if at > now and heard in (None, group.newest):
                continue
            if not await self._tried(group):
                break
        waits = [at - self.monotonic() for _, at, _ in self._again.values()]
        return max(0.05, min([_LOOK_AGAIN, *waits]))

    async def _tried(self, group: WaitingEvents) -> bool:
        """Handle a group. Return False if nothing else can be done now either."""
        what = _named(group)
        try:
            wait = await self._handle(group)
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
        if wait is None:
            self._again.pop(_key(group), None)
        else:
            self._again[_key(group)] = (0, self.monotonic() + wait, None if wait <= FIRST_PAUSE else group.newest)
        return True

    async def _failed(self, group: WaitingEvents, what: str, error: Exception) -> None:
        failures = self._again.get(_key(group), _NEVER)[0] + 1
        wait = pause(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=self.rng)
        if isinstance(error, ForgeAway) and error.retry_after is not None:
            wait = max(wait, min(error.retry_after, 3600.0))
        self._again[_key(group)] = (failures, self.monotonic() + wait, None)
        await self.troubles.met(what, error)

    async def _handle(self, group: WaitingEvents) -> float | None:
        """Handle a group; return in how many seconds to handle the rest, or None if all of it is done."""
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
            await self._checks(group, run)
            return None
        at = IssueReference(repository, group.number)
        if run is None:
            await self._candidate(group, at)
            return None
        if run.number == group.number:
            return await self._issue(group, at, run)
        return await self._pull(group, at, run)

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
        memberships = await self._memberships(members_to_ask(issue))
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

    # An issue or a pull request of a run.

    async def _issue(self, group: WaitingEvents, at: IssueReference, run: IssueRun) -> float | None:
        issue = await self.link.client.read_issue(at)
        now_seen = IssueSight.of(issue)
        sight = await self._sight(at, run)
        news, members = await self._comments(at, run, sight)
        before = IssueSight.from_json(sight.state) if sight.state else now_seen
        said = now_seen.changes_since(before) if run.state != "destroyed" else ()
        async with self.store.write(TAKE_IN) as tx:
            later = await self._tell_change(tx, run, "issue", intake_text.changed(at, said)) if said else None
            state = now_seen.to_json() if later is None else sight.state
            order = await self._take_comments(tx, at, run, sight, news, members, state=state)
            wait = later if news.is_all else FIRST_PAUSE
            if wait is None:
                await forge_events.handled_group(tx, self.link.host, group, self.clock())
        self._after(order)
        return wait

    async def _pull(self, group: WaitingEvents, at: IssueReference, run: IssueRun) -> float | None:
        pull = await self.link.client.read_pull_request(at)
        sight = await self._sight(at, run)
        state = pull_state(pull)
        effect = pull_effect(state, is_destroyed=run.state == "destroyed")
        # What follows is ordered before the events count as handled: a crash between both orders it again.
        if effect is PullEffect.DESTROY:
            await self.rounds.destroy(run.id)
        elif effect is PullEffect.REOPEN:
            await self.rounds.reopen(run.id)
        news, members = await self._comments(at, run, sight)
        reviews, is_all, reviewers = await self._reviews(at, run)
        async with self.store.write(TAKE_IN) as tx:
            now = self.clock()
            told, later = sight.state.get("told", run.pull_state or "open"), None
            if state != told:
                later = await self._tell_change(tx, run, f"pull/{state}", intake_text.pull_changed(run, state))
                told = state if later is None else told
            await issue_runs.change(tx, run.id, only=[*ALIVE, "destroyed"], pull_state=state, active_at=now)
            order = await self._take_comments(tx, at, run, sight, news, members, state={"told": told})
            given = await self._take_reviews(tx, at, run, reviews, reviewers)
            # Where nothing more is taken, it is no use to look again for the others.
            wait = later if news.is_all and (is_all or not given) else FIRST_PAUSE
            if wait is None:
                await forge_events.handled_group(tx, self.link.host, group, now)
        self._after(order)
        return wait

    async def _sight(self, at: IssueReference, run: IssueRun) -> ForgeSight:
        async with self.store.read() as tx:
            found = await forge_sights.get(tx, self.link.host, run.repository, at.number)
        return found or ForgeSight(
            forge=self.link.host,
            repository=run.repository,
            number=at.number,
            run=run.id,
            comments_after=0,
            comments_since=None,
            state={},
        )

    async def _comments(
        self, at: IssueReference, run: IssueRun, sight: ForgeSight
    ) -> tuple[CommentNews, dict[int, bool]]:
        """Return what is new among the comments, and which of their authors are members."""
        since = None if sight.comments_since is None else datetime.fromtimestamp(sight.comments_since, UTC)
        comments = await self.link.client.read_comments(at, since=since)
        us = (await self.link.whoami()).account
        async with self.store.read() as tx:
            wakes = await issue_runs.wakes(tx, run.id)
        taken = {int(each.cause.partition("/")[2]): each.text for each in wakes if each.cause.startswith("comment/")}
        news = comment_news(
            comments,
            our_id=us.id,
            after=sight.comments_after,
            since=sight.comments_since,
            latest=self.link.latest(self.clock()) - OVERLAP,
            taken=taken,
        )
        authors = {each.author.id: each.author for each in news.new}
        if run.state == "destroyed":
            return news, {}
        return news, await self._memberships([authors[each] for each in sorted(authors) if each > 0])

    async def _take_comments(
        self,
        tx: AsyncConnection,
        at: IssueReference,
        run: IssueRun,
        sight: ForgeSight,
        news: CommentNews,
        members: dict[int, bool],
        *,
        state: Mapping[str, object],
    ) -> str | None:
        """Write down comments; return the key of an order that this made, if any."""
        order = None
        if run.state == "destroyed":
            if news.new:
                made = notice(self.link, at, "ended", intake_text.ended(run), now=self.clock(), run=run.id)
                order = made.key if await forge_orders.add(tx, made) else None
        else:
            waiting = sum(each.round is None for each in await issue_runs.wakes(tx, run.id))
            for comment in news.new:
                is_member = members.get(comment.author.id, False)
                if waiting >= MOST_WAITING:
                    key = f"forge/{run.id}/too-many/{run.round}"
                    await self._tell(tx, run, key, intake_text.too_many(at, MOST_WAITING))
                    # A member's comment still wakes the run, even if its words are not kept beside so many others.
                    if not is_member or waiting >= 2 * MOST_WAITING:
                        continue
                waiting += await issue_runs.add_wake(tx, _wake(run, comment, self.clock(), is_member=is_member))
            for comment in news.edited:
                # Once in a round: somebody could edit a comment a thousand times.
                key = f"forge/{run.id}/edited/{comment.id}/{run.round}"
                await self._tell(tx, run, key, intake_text.edited(at, comment.author.login))
        seen = replace(
            sight, comments_after=max(sight.comments_after, news.after), comments_since=news.since, state=state
        )
        await forge_sights.put(tx, seen)
        return order

    # Reviews of a pull request.

    async def _reviews(self, at: IssueReference, run: IssueRun) -> tuple[tuple[Review, ...], bool, dict[int, bool]]:
        """Return what is new among the reviews, whether that is all, and which of their authors are members."""
        if run.state == "destroyed":
            return (), True, {}
        found = await self.link.client.read_reviews(at)
        us = (await self.link.whoami()).account
        async with self.store.read() as tx:
            causes = [each.cause for each in await issue_runs.wakes(tx, run.id)]
        taken = {int(each.removeprefix("review/")) for each in causes if each.startswith("review/")}
        new, is_all = review_news(found, our_id=us.id, taken=taken)
        authors = {each.author.id: each.author for each in new}
        return new, is_all, await self._memberships([authors[each] for each in sorted(authors) if each > 0])

    async def _take_reviews(
        self,
        tx: AsyncConnection,
        at: IssueReference,
        run: IssueRun,
        reviews: Sequence[Review],
        members: dict[int, bool],
    ) -> int:
        """Write down reviews as comments are; return how many."""
        given = 0
        waiting = sum(each.round is None for each in await issue_runs.wakes(tx, run.id))
        for review in reviews:
            is_member = members.get(review.author.id, False)
            if waiting + given >= (2 * MOST_WAITING if is_member else MOST_WAITING):
                key = f"forge/{run.id}/too-many/{run.round}"
                await self._tell(tx, run, key, intake_text.too_many(at, MOST_WAITING))
                continue
            wake = IssueWake(
                run=run.id,
                cause=f"review/{review.id}",
                kind="comment",
                author=review.author.login,
                is_member=is_member,
                text=review_text(review),
                at=min(review.submitted_at.timestamp(), self.clock()),
            )
            given += await issue_runs.add_wake(tx, wake)
        return given

    # Checks of a commit.

    async def _checks(self, group: WaitingEvents, run: IssueRun | None) -> None:
        if run is None or run.state == "destroyed" or group.sha is None:
            await self._settle(group)
            return
        repository = self.link.configured(run.repository)
        assert repository is not None
        failed = failed_checks(await self.link.client.checks(repository, group.sha))
        async with self.store.write(TAKE_IN) as tx:
            now = self.clock()
            # It may have pushed again meanwhile: what failed is of yesterday then.
            current = await issue_runs.of_commit(tx, self.link.host, run.repository, group.sha)
            if failed and current is not None:
                wake = IssueWake(
                    run=run.id,
                    cause=f"checks/{group.sha}",
                    kind="checks",
                    author="",
                    is_member=True,
                    text=failed_text(failed),
                    at=now,
                )
                await issue_runs.add_wake(tx, wake)
            await forge_events.handled_group(tx, self.link.host, group, now)
        self._after(None)

    # Common to all.

    async def _memberships(self, users: Sequence[ForgeUser]) -> dict[int, bool]:
        """Return who is a member of the organization at this moment.

        Raises:
            MembershipUnknown: the forge does not tell.
        """
        organization = self.link.settings.organization
        return {user.id: await self.link.client.is_org_member(organization, user.login) for user in users}

    async def _settle(self, group: WaitingEvents) -> None:
        async with self.store.write(TAKE_IN) as tx:
            await forge_events.handled_group(tx, self.link.host, group, self.clock())

    async def _tell(self, tx: AsyncConnection, run: IssueRun, key: str, text: str) -> None:
        await self.channel.speak(tx, key, text, MessagePlace(run.connector, thread_of=run.thread_key), agent=run.agent)

    async def _tell_change(self, tx: AsyncConnection, run: IssueRun, what: str, text: str) -> float | None:
        """Say in the run's thread what changed, at most once in a while: it may change back and forth.

        Return None if it was said; otherwise in how many seconds it may be, if it is still so then.
        """
        now = self.clock()
        key = f"forge/{run.id}/{what}/{int(now // TOLD_EVERY_S)}"
        if await outbox.get(tx, key) is not None:
            return TOLD_EVERY_S - now % TOLD_EVERY_S
        await self._tell(tx, run, key, text)
        return None

    def _after(self, order: str | None) -> None:
        if order is not None:
            self.ordered(order)
        self.rounds.wake()
        self.wake_delivery()


def _wake(run: IssueRun, comment: Comment, now: float, *, is_member: bool) -> IssueWake:
    return IssueWake(
        run=run.id,
        cause=f"comment/{comment.id}",
        kind="comment",
        author=comment.author.login,
        is_member=is_member,
        text=comment_text(comment),
        at=min(comment.created_at.timestamp(), now),
    )


def _key(group: WaitingEvents) -> _Key:
    return group.repository, group.number, group.sha


def _named(group: WaitingEvents) -> str:
    return f"{group.repository}#{group.number}" if group.number is not None else f"{group.repository}@{group.sha}"
