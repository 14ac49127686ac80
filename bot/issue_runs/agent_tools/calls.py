"""Answers the calls of agents that work on issues.

What is written becomes an order of the register, in the transaction that decides it, and is carried out once
(`writes.py`). The call is answered when the order is done. If that takes too long, the agent is told that it is on its
way: it is done in any case. What is read is asked of the forge at once, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.agent_tools import decision, evidence, replies
from bot.issue_runs.agent_tools.decision import WriteRefused
from bot.issue_runs.agent_tools.forge_names import ForgeNames
from bot.issue_runs.agent_tools.offers import LONGEST_SUMMARY, READS, SignalStatus
from bot.issue_runs.agent_tools.replies import Standing
from bot.issue_runs.agent_tools.write_order import DONE, key_of, writes
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.services import IssueServices
from bot.text import markdown
from bot.text.errors import UserError
from core.crash_points import declare
from database.queries.agents.agents import AgentRow
from database.queries.agents.tool_calls import ToolCallRow
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import IssueRun
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing, MembershipUnknown
from forge.model.references import IssueReference
from forge.model.values import Comment, ForgeUser, Review

DECIDE = declare("issue_call.decide")
REPLY = declare("issue_call.reply")

#: Seconds after which a call is answered although the forge did not answer yet. An agent host waits a little longer.
PATIENCE: Final = 15.0
#: Seconds between attempts to read while the forge is away.
_AGAIN: Final = 3.0
#: So many calls are remembered while they wait.
_MOST_WAITING: Final = 1_000
#: The newest reviews whose comments on lines an agent reads: Gitea is asked for each.
_MOST_REVIEWS: Final = 30
#: For so long is known who is a member, for what agents are shown; seconds.
_STANDING_KEPT: Final = 300.0

_NO_RUN: Final = "Only an agent that works on an issue has this tool, and your run is over. Nothing was done."
_NO_FORGE: Final = "The issue tracker is not configured any more. Nothing was done."
_AWAY_READ: Final = "The issue tracker does not answer. Nothing was read; try again in a minute."
_AWAY_WRITE: Final = (
    "The issue tracker does not answer. This is written down, and is done once when it answers again: do not repeat it."
)
_KEPT: Final = {
    "update_description": "There is no pull request yet. The text is kept for it.",
    "request_review": "There is no pull request yet. They are asked when there is one.",
}
_DONE: Final = {
    "post_comment": "Your comment is on #{number}.",
    "update_description": "This is the text of #{number} now.",
    "request_review": "They were asked to review #{number}.",
}
_READS: Final = {
    "read_issue": "read #{number}",
    "read_comments": "read the comments on #{number}",
    "read_diff": "read the diff of #{number}",
}

#: Answer a call, in the transaction that decides the answer.
Answer = Callable[[AsyncConnection, str, bool], Awaitable[None]]

_log = structlog.get_logger("forge.tools")


@dataclass(slots=True)
class IssueTools:
    """The tools of agents that work on issues. `deal` is called again and again until the call is answered."""

    services: IssueServices
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    """Any that only goes forward, in seconds."""
    _since: dict[str, float] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)
    _members: dict[str, tuple[float, Standing]] = field(default_factory=dict)

    async def deal(self, call: ToolCallRow, row: AgentRow, answer: Answer) -> None:
        """Go on with a call, and answer it if it is done.

        Raises:
            RegisterError: the register cannot be used; the call is dealt with later.
        """
        if len(self._since) >= _MOST_WAITING:
            # Calls that nobody waits for any more are never answered.
            self._since.clear()
            self._not_before.clear()
        self._since.setdefault(call.id, self.clock())
        answered = False

        async def answering(tx: AsyncConnection, text: str, ok: bool) -> None:
            nonlocal answered
            await answer(tx, text, ok)
            answered = True

        if call.tool in READS:
            await self._read(call, answering)
        elif call.tool == "signal_done":
            await self._signal(call, row, answering)
        else:
            await self._write(call, answering)
        if answered:
            self._since.pop(call.id, None)
            self._not_before.pop(call.id, None)

    def _is_late(self, call: ToolCallRow) -> bool:
        return self.clock() - self._since[call.id] >= PATIENCE

    # --- reading ------------------------------------------------------------------------------------------------

    async def _read(self, call: ToolCallRow, answer: Answer) -> None:
        async with self.services.store.read() as tx:
            run = await issue_runs.of_agent(tx, call.agent)
        try:
            run, forge = self._at_work(run)
            number = decision.number_of(call.arguments)
            offset = call.arguments.get("offset") or 0
            offset = decision.number_of({"offset": offset}, "offset", least=0)
            if self.clock() < self._not_before.get(call.id, 0.0):
                return
            try:
                # A client's own attempts may take longer than an agent waits.
                async with asyncio.timeout(max(_AGAIN, self._since[call.id] + PATIENCE - self.clock())):
                    text = replies.page(await self._text(forge, run, call.tool, number), offset)
            except (ForgeAway, TimeoutError) as error:
                if not self._is_late(call):
                    self._not_before[call.id] = self.clock() + _AGAIN
                    return
                _log.info("forge.read_away", agent=call.agent, tool=call.tool, reason=str(error))
                raise UserError(_AWAY_READ, code="forge.away") from None
            except ForgeMissing:
                what = "pull request" if call.tool == "read_diff" else "issue or pull request"
                raise UserError(f"There is no {what} #{number}.", code="forge.missing") from None
            except ForgeError as error:
                _log.warning("forge.read_refused", agent=call.agent, tool=call.tool, reason=str(error))
                raise UserError(
                    f"The issue tracker refused to show #{number}. Your operator can see why.", code="forge.refused"
                ) from None
        except UserError as refused:
            async with self.services.store.write(REPLY) as tx:
                await answer(tx, str(refused), False)
            return
        async with self.services.store.write(REPLY) as tx:
            await evidence.add_line(tx, run.id, _READS[call.tool].format(number=number))
            await answer(tx, text, True)

    async def _text(self, forge: ForgeLink, run: IssueRun, tool: str, number: int) -> str:
        scope = decision.scope_of(run)
        target = IssueReference(scope.repository, number)
        scope.check_read(target)
        names = ForgeNames.of((forge.settings.address, forge.host), scope.repository)
        if tool == "read_diff":
            return replies.diff(number, await forge.client.read_diff(target), names)
        ours = (await forge.whoami()).account.id
        if tool == "read_issue":
            issue = await forge.client.read_issue(target)
            return replies.issue(issue, await self._standing(forge, issue.author, ours), names)
        said: list[Comment | Review] = [*await forge.client.read_comments(target)]
        reviews, left_out = await _reviews(forge, target), 0
        if reviews:
            said += [each for each in reviews if each.body.strip()]
            having = [each.id for each in reviews if each.line_comments != 0]
            left_out = max(0, len(having) - _MOST_REVIEWS)
            said += await forge.client.read_line_comments(target, frozenset(having[-_MOST_REVIEWS:]))
        said.sort(key=lambda each: (replies.said_at(each), each.id))
        authors = {each.author.id: each.author for each in said}
        standings = {key: await self._standing(forge, each, ours) for key, each in authors.items()}
        return replies.comments(number, said, standings, names, left_out=left_out)

    async def _standing(self, forge: ForgeLink, user: ForgeUser, ours: int) -> Standing:
        if user.id == ours:
            return Standing.OURSELVES
        now = self.clock()
        known = self._members.get(user.login)
        if known is not None and now - known[0] < _STANDING_KEPT:
            return known[1]
        try:
            is_member = await forge.client.is_org_member(forge.settings.organization, user.login)
        except MembershipUnknown:
            return Standing.UNKNOWN
        standing = Standing.MEMBER if is_member else Standing.STRANGER
        if len(self._members) >= 1_000:
            self._members.clear()
        self._members[user.login] = now, standing
        return standing

    def _at_work(self, run: IssueRun | None) -> tuple[IssueRun, ForgeLink]:
        """Return a run and its forge.

        Raises:
            UserError: there is none.
        """
        if run is None or run.state == "destroyed":
            raise UserError(_NO_RUN, code="tool.refused")
        forge = self.services.forge
        if forge is None or forge.host != run.forge:
            raise UserError(_NO_FORGE, code="tool.refused")
        return run, forge

    # --- writing ------------------------------------------------------------------------------------------------

    async def _write(self, call: ToolCallRow, answer: Answer) -> None:
        async with self.services.store.read() as tx:
            order = await forge_orders.get(tx, key_of(call.id))
            run = await issue_runs.of_agent(tx, call.agent)
        if order is None:
            await self._decide(call, answer)
            return
        if order.state == "done":
            outcome = str((order.outcome or {}).get("is"))
            text = _DONE[call.tool].format(number=order.input["number"]) if outcome == DONE else outcome
            async with self.services.store.write(REPLY) as tx:
                await answer(tx, text, outcome == DONE)
        elif call.tool in _KEPT and run is not None and run.pull_request is None:
            async with self.services.store.write(REPLY) as tx:
                await answer(tx, _KEPT[call.tool], True)
        elif self._is_late(call):
            async with self.services.store.write(REPLY) as tx:
                await answer(tx, _AWAY_WRITE, True)

    async def _decide(self, call: ToolCallRow, answer: Answer) -> None:
        services = self.services
        ordered: ForgeOrder | None = None
        async with services.store.write(DECIDE) as tx:
            run = await issue_runs.of_agent(tx, call.agent)
            try:
                run, _ = self._at_work(run)
                now = services.clock()
                written_at = [each.created_at for each in writes(await forge_orders.of_run(tx, run.id))]
                # A secret that Muster knows never leaves it, whoever wrote it.
                arguments = {**call.arguments}
                if isinstance(arguments.get("body"), str):
                    arguments["body"] = services.redact(arguments["body"])
                write = decision.decided(run, call.id, call.tool, arguments, written_at, now)
                ordered = write.as_order(run.id, now)
                await forge_orders.add(tx, ordered)
                if call.tool in _KEPT and run.pull_request is None:
                    await answer(tx, _KEPT[call.tool], True)
            except UserError as refused:
                await self._refused(tx, call, run, refused)
                await answer(tx, str(refused), False)
        if ordered is not None:
            services.orders.wake(ordered.key)

    async def _refused(self, tx: AsyncConnection, call: ToolCallRow, run: IssueRun | None, refused: UserError) -> None:
        number = call.arguments.get("number")
        is_number = isinstance(number, int) and not isinstance(number, bool) and 0 < number < 10**15
        target = f"#{number}" if is_number else "no issue"
        why = refused.short if isinstance(refused, WriteRefused) else "the call makes no sense"
        if run is not None:
            from bot.issue_runs.agent_tools.operations import line_of

            await evidence.add_line(tx, run.id, line_of(call.tool, target, why))
        await evidence.audited(
            tx,
            self.services,
            agent=call.agent,
            call=call.id,
            tool=call.tool,
            arguments={"number": number} if is_number else {},
            outcome="refused",
            detail=str(refused),
        )

    # --- the end ------------------------------------------------------------------------------------------------

    async def _signal(self, call: ToolCallRow, row: AgentRow, answer: Answer) -> None:
        services = self.services
        run: IssueRun | None = None
        status: SignalStatus | None = None
        is_first = False
        async with services.store.write(DECIDE) as tx:
            try:
                run, _ = self._at_work(await issue_runs.of_agent(tx, call.agent))
                status = decision.status_of(call.arguments)
                # A key that is cut in two can no longer be recognized as a secret, so redaction comes first.
                given = decision.text_of(call.arguments, "summary", LONGEST_SUMMARY)
                summary = services.redact(given.strip())
                text, outcome = await self._signalled(tx, call, run, row, status, summary)
                is_first = outcome == "done"
            except UserError as refused:
                text, outcome = str(refused), "refused"
            await evidence.audited(
                tx,
                services,
                agent=call.agent,
                call=call.id,
                tool=call.tool,
                arguments={} if status is None else {"status": status},
                outcome=outcome,
                detail=text,
            )
            await answer(tx, text, outcome == "done")
        if is_first and run is not None:
            services.rounds.look_again(run.id)

    async def _signalled(
        self, tx: AsyncConnection, call: ToolCallRow, run: IssueRun, row: AgentRow, status: SignalStatus, summary: str
    ) -> tuple[str, str]:
        """Record the signal of a round, and return the answer, and ``done`` or ``refused``."""
        if run.signal is not None:
            return f"You signalled {run.signal.get('status')} before, and that stays. End your turn now.", "refused"
        if run.state != "running":
            return "This run is not at work now, so nothing was signalled. End your turn now.", "refused"
        signal = {"status": status, "summary": summary}
        await issue_runs.change(tx, run.id, only=["running"], signal=signal, active_at=self.services.clock())
        await evidence.add_line(tx, run.id, f"signalled {status}")
        mark = {"done": "🏁", "blocked": "🚧"}.get(status, "❌")
        words = f"{mark} {row.name} signals {status} for #{run.number}: {markdown.shown(summary)}"
        await self.services.agents.journal_effects.note(tx, row, f"k/{call.id}", words)
        return f"Your work on #{run.number} is over for now: {status}. End your turn now.", "done"


async def _reviews(forge: ForgeLink, target: IssueReference) -> tuple[Review, ...]:
    """Return the reviews of a pull request; none of an issue.

    Raises:
        ForgeError: it cannot be read.
    """
    try:
        return await forge.client.read_reviews(target)
    except ForgeMissing:
        return ()
