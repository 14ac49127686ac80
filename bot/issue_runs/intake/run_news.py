"""What the forge shows of the issues and pull requests of runs: reasons to go on, ends, and what people are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import text as intake_text
from bot.issue_runs.intake.looking import OVERLAP
from bot.issue_runs.intake.notices import notice
from bot.issue_runs.ports import RoundsPort
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from connectors.delivery import outbox
from core.crash_points import declare
from database.engine.store import Store
from database.queries.forge import forge_events, forge_orders, forge_sights, issue_runs
from database.queries.forge.forge_events import WaitingEvents
from database.queries.forge.forge_sights import ForgeSight
from database.queries.forge.issue_runs import ACTIVE, ALIVE, IssueRun, IssueWake
from forge.model.references import IssueReference
from forge.model.values import Comment, ForgeUser, PullRequest
from forge.pull_sight import PullNews, PullSight, failed_text, pull_news
from forge.review_remarks import ReviewNews, review_news, reviews_to_read
from forge.waking import (
    CommentNews,
    IssueSight,
    PullEffect,
    comment_news,
    comment_text,
    pull_effect,
    pull_state,
)

TAKE_IN = declare("forge.take_in")

#: How many comments a run keeps for its next round. An agent can read the others at the forge.
MOST_WAITING: Final = 100
#: Seconds until more of the same is read.
FIRST_PAUSE: Final = 1.0
#: Changes of an issue, and of a pull request, are told at most once in so many seconds.
TOLD_EVERY_S: Final = 3_600.0
#: In what was seen of a pull request, the state that people were told last. `PullSight` has the rest.
_TOLD_STATE: Final = "told_state"


@dataclass(slots=True)
class _ReadReviews:
    """What this process read of the reviews of a pull request. It saves requests; nothing depends on it."""

    counts: dict[int, int | None] = field(default_factory=dict)
    """How many comments on lines the reviews had when those were read, by id."""
    passed: set[str] = field(default_factory=set)
    """The causes of remarks that were considered, and not given to the run."""


@dataclass(slots=True)
class RunIntake:
    """Handles events about runs. Its methods return in how many seconds to come again, or None if all is done."""

    store: Store
    link: ForgeLink
    channel: AgentChannel
    rounds: RoundsPort
    ordered: Callable[[str], None]
    """Is told the key of a new order."""
    wake_delivery: Callable[[], None]
    clock: Callable[[], float]
    _reviews: dict[str, _ReadReviews] = field(default_factory=dict)
    """By run."""

    async def issue(self, group: WaitingEvents, at: IssueReference, run: IssueRun) -> float | None:
        """Handle events about the issue of a run."""
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
            again_s = later if news.is_all else FIRST_PAUSE
            if again_s is None:
                await forge_events.handled_group(tx, self.link.host, group, self.clock())
        self._after(order)
        return again_s

    async def pull(self, group: WaitingEvents, at: IssueReference, run: IssueRun) -> float | None:
        """Handle events about the pull request of a run."""
        pull = await self.link.client.read_pull_request(at)
        sight = await self._sight(at, run)
        state = pull_state(pull)
        effect = pull_effect(state, is_destroyed=run.state == "destroyed")
        # What follows is ordered before the events count as handled: a crash between both orders it again.
        if effect is PullEffect.DESTROY:
            await self.rounds.destroy(run.id)
            self._reviews.pop(run.id, None)
        elif effect is PullEffect.REOPEN:
            await self.rounds.reopen(run.id)
        news, members = await self._comments(at, run, sight)
        read = _ReadReviews() if run.state == "destroyed" else self._reviews.setdefault(run.id, _ReadReviews())
        counts, remarks, reviewers = await self._remarks(at, run, read)
        async with self.store.write(TAKE_IN) as tx:
            told, later = sight.state.get(_TOLD_STATE, run.pull_state or "open"), None
            if state != told:
                later = await self._tell_change(tx, run, f"pull/{state}", intake_text.pull_changed(run, state))
                told = state if later is None else told
            # To look again and find nothing does not make a silent agent less so.
            is_news = state != (run.pull_state or "open") or news.new or remarks.new
            values = {"pull_state": state, **({"active_at": self.clock()} if is_news else {})}
            await issue_runs.change(tx, run.id, only=[*ALIVE, "destroyed"], **values)
            order = await self._take_comments(
                tx, at, run, sight, news, members, state={**sight.state, _TOLD_STATE: told}
            )
            passed = await self._take_remarks(tx, at, run, remarks, reviewers)
        read.passed |= passed
        read.counts |= counts
        self._after(order)
        # A forge that does not show checks keeps nobody's comment back.
        again_s = later if news.is_all and remarks.is_all else FIRST_PAUSE
        return await self._see(group, at, run, pull, again_s=again_s)

    async def checks(self, group: WaitingEvents, at: IssueReference, run: IssueRun) -> float | None:
        """Handle events about the commit that was pushed for the pull request `at`."""
        return await self._see(group, at, run, await self.link.client.read_pull_request(at), again_s=None)

    async def _sight(self, at: IssueReference, run: IssueRun) -> ForgeSight:
        async with self.store.read() as tx:
            found = await forge_sights.get(tx, self.link.host, run.repository, at.number)
        return found or self._new_sight(at, run)

    def _new_sight(self, at: IssueReference, run: IssueRun) -> ForgeSight:
        return ForgeSight(
            forge=self.link.host,
            repository=run.repository,
            number=at.number,
            run=run.id,
            comments_after=0,
            comments_since=None,
            state={},
        )

    # Comments.

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
        if run.state == "destroyed":
            return news, {}
        return news, await self._members(each.author for each in news.new)

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
                await self._tell_edited(tx, at, run, f"comment/{comment.id}", comment.author)
        seen = replace(
            sight, comments_after=max(sight.comments_after, news.after), comments_since=news.since, state=state
        )
        await forge_sights.put(tx, seen)
        return order

    # Reviews, and comments on lines of the diff.

    async def _remarks(
        self, at: IssueReference, run: IssueRun, read: _ReadReviews
    ) -> tuple[dict[int, int | None], ReviewNews, dict[int, bool]]:
        """Return which reviews were read now, what is new among them, and which of the authors are members."""
        if run.state == "destroyed":
            return {}, ReviewNews((), (), True), {}
        reviews = await self.link.client.read_reviews(at)
        chosen, is_all = reviews_to_read(reviews, read.counts)
        lines = await self.link.client.read_line_comments(at, chosen)
        us = (await self.link.whoami()).account
        async with self.store.read() as tx:
            taken = {each.cause: each.text for each in await issue_runs.wakes(tx, run.id)}
        news = review_news(reviews, lines, our_id=us.id, taken=taken, passed=read.passed)
        counts = {each.id: each.line_comments for each in reviews if each.id in chosen} if news.is_all else {}
        members = await self._members(each.author for each in news.new)
        return counts, replace(news, is_all=news.is_all and is_all), members

    async def _take_remarks(
        self, tx: AsyncConnection, at: IssueReference, run: IssueRun, news: ReviewNews, members: dict[int, bool]
    ) -> set[str]:
        """Write down remarks as comments are; return the causes of those that the run is not given."""
        passed: set[str] = set()
        waiting = sum(each.round is None for each in await issue_runs.wakes(tx, run.id)) if news.new else 0
        for remark in news.new:
            is_member = members.get(remark.author.id, False)
            if waiting >= (2 * MOST_WAITING if is_member else MOST_WAITING):
                key = f"forge/{run.id}/too-many/{run.round}"
                await self._tell(tx, run, key, intake_text.too_many(at, MOST_WAITING))
                passed.add(remark.cause)
                continue
            wake = IssueWake(
                run=run.id,
                cause=remark.cause,
                kind="comment",
                author=remark.author.login,
                is_member=is_member,
                text=remark.text,
                at=min(remark.at, self.clock()),
            )
            waiting += await issue_runs.add_wake(tx, wake)
        for remark in news.edited:
            await self._tell_edited(tx, at, run, remark.cause, remark.author)
        return passed

    # Checks, and whether the pull request can be merged.

    async def _see(
        self, group: WaitingEvents, at: IssueReference, run: IssueRun, pull: PullRequest, *, again_s: float | None
    ) -> float | None:
        """Take in what is seen of a pull request, and mark the events as handled if nothing is to be waited for.

        Args:
            group: the events.
            at: the pull request.
            run: whose it is.
            pull: what the forge shows of it.
            again_s: seconds after which something else is to be looked at again; None: nothing.
        """
        news: PullNews | None = None
        if run.state != "destroyed" and pull.is_open and run.pushed_sha is not None:
            checks = await self.link.client.checks(at.repository, run.pushed_sha)
            before = PullSight.from_json((await self._sight(at, run)).state)
            news = pull_news(before, pull, checks, self.clock())
            if news.again_s is not None:
                again_s = news.again_s if again_s is None else min(again_s, news.again_s)
        async with self.store.write(TAKE_IN) as tx:
            if news is not None:
                await self._take_seen(tx, at, run, pull, news)
            if again_s is None:
                await forge_events.handled_group(tx, self.link.host, group, self.clock())
        self._after(None)
        return again_s

    async def _take_seen(
        self, tx: AsyncConnection, at: IssueReference, run: IssueRun, pull: PullRequest, news: PullNews
    ) -> None:
        """Write down what was seen and why the run goes on, and tell its thread."""
        # It may have pushed again meanwhile: what was read is of yesterday then.
        current = await issue_runs.get(tx, run.id)
        if current is None or current.pushed_sha != run.pushed_sha:
            return
        sight = await forge_sights.get(tx, self.link.host, run.repository, at.number) or self._new_sight(at, run)
        await forge_sights.put(tx, replace(sight, state={**sight.state, **news.sight.to_json()}))
        if news.failed:
            await self._wake_by(tx, run, "checks", str(run.pushed_sha), failed_text(news.failed))
        can_rebase = pull.head_sha == run.pushed_sha and pull.base_branch == run.base_branch
        # An agent that works may be about to push. When its round is over, this is looked at once more.
        if news.has_conflict and can_rebase and current.state not in ACTIVE:
            await self._wake_by(tx, run, "conflict", pull.head_sha, f"The base is the branch {pull.base_branch}.")
        if news.is_told:
            key = f"forge/{run.id}/seen/{pull.head_sha[:64]}/{news.sight.times}"
            await self._tell(tx, run, key, intake_text.pull_seen(run, news.sight, pull.base_branch))

    async def _wake_by(
        self, tx: AsyncConnection, run: IssueRun, kind: Literal["checks", "conflict"], sha: str, text: str
    ) -> None:
        """Have the run go on, once for a commit."""
        cause = f"{kind}/{sha}"
        wake = IssueWake(run=run.id, cause=cause, kind=kind, author="", is_member=True, text=text, at=self.clock())
        await issue_runs.add_wake(tx, wake)

    # Common to all.

    async def _members(self, authors: Iterable[ForgeUser]) -> dict[int, bool]:
        """Return which of the authors are members. Deleted accounts have no ids of their own on Gitea."""
        found = {each.id: each for each in authors if each.id > 0}
        return await self.link.memberships(found[each] for each in sorted(found))

    async def _tell_edited(
        self, tx: AsyncConnection, at: IssueReference, run: IssueRun, cause: str, author: ForgeUser
    ) -> None:
        # Once: somebody could edit a comment a thousand times.
        key = f"forge/{run.id}/edited/{cause}"
        await self._tell(tx, run, key, intake_text.edited(at, author.login))

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
