"""The runtime's permission requests: asked in the journal, answered once, expired to "no".

The agent host alone decides. A request is named by the incarnation in which it was asked, its session, its number and
the digest of what it asks for; an answer that differs in any of them, or is another than the first, is too late.
"Always" is remembered here and never left to the runtime, which is told "once" each time: only so can it be taken back.
Approval rules are judged first: a rule that denies wins over an "always", and an "always" over a rule that asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from fleet.approval_rules.requests import UNKNOWN, RequestFacts, RuleVerdict
from fleet.errors import AgentRefused
from fleet.host.acp.update_parser import ParsedPermissionRequest, option_of
from fleet.host.journal_writer import JournalNotWritable, JournalWriter
from fleet.journal.events import GrantAdded, GrantRevoked, Notice, PermissionAnswered, PermissionAsked

#: So many requests may wait for an answer at once; a runtime that asks for more is denied.
OPEN_REQUESTS: Final = 32
GRANTS: Final = 1000
_GRANT_TITLE: Final = 200

_ALLOW: Final = ("allow_once", "allow_always")
_REJECT: Final = ("reject_once", "reject_always")
_NO_RULES: Final = RuleVerdict(effect="ask", rule=None, reason="")


@dataclass(slots=True)
class _Open:
    incarnation: int
    session: str
    request: str
    digest: str
    title: str
    options: tuple[Mapping[str, str], ...]
    asked: ParsedPermissionRequest
    facts: RequestFacts
    decided: asyncio.Future[str | None]
    """Resolves to the option's id, or None for "cancelled"."""

    @property
    def rejection(self) -> str | None:
        return option_of(self.options, *_REJECT)


class PendingPermissions:
    """Where requests wait for their answers.

    Args:
        grants: title by digest of what is allowed for always, as the journal has it.
        judge: the verdict of the approval rules.
        sandboxed: whether the agent runs in a sandbox.
    """

    def __init__(
        self,
        journal: JournalWriter,
        *,
        timeout_s: float,
        clock: Callable[[], float],
        grants: Callable[[], Mapping[str, str]],
        judge: Callable[[RequestFacts], RuleVerdict] = lambda _: _NO_RULES,
        sandboxed: bool = False,
    ) -> None:
        self._journal = journal
        self._timeout_s = timeout_s
        self._clock = clock
        self._grants = grants
        self._judge = judge
        self._sandboxed = sandboxed
        self._open: dict[str, _Open] = {}
        self._asking = 0
        self._count = 0
        self._cancelled: str | None = None
        self._told: set[tuple[str | None, str]] = set()
        self._taken: dict[tuple[int, str, str, str, str | None, bool, str], str] = {}
        """Outcomes of the last answers that counted."""

    @property
    def waiting(self) -> bool:
        """Whether any request waits for an answer."""
        return bool(self._open)

    async def ask(
        self, session: str, turn: str | None, request: ParsedPermissionRequest, facts: RequestFacts = UNKNOWN
    ) -> str | None:
        """Get a request decided: the id of the option to answer the runtime with, None for "cancelled"."""
        rejection = option_of(request.options, *_REJECT)
        if not self._journal.writable:
            self.tell(turn, "Permission requests are denied while the journal cannot be written.")
            return rejection
        self._count += 1
        number = str(self._count)
        if turn is not None and turn == self._cancelled:
            return None
        verdict = self._judge(facts)
        if verdict.effect == "deny":
            return await self._deny_by_rule(number, request, verdict)
        if request.digest in self._grants():
            option = request.option_of(*_ALLOW)
            granted = PermissionAnswered(request=number, outcome="granted", option=option)
            return option if await self._written(granted) else rejection
        # "Once" alone: what a rule allowed must end when the rule ends.
        once = request.option_of("allow_once")
        if verdict.effect == "allow" and once is not None:
            allowed = _by_rule(number, request, verdict, outcome="selected", option=once)
            return once if await self._written(allowed) else rejection
        if self._asking >= OPEN_REQUESTS:
            self.tell(turn, f"More than {OPEN_REQUESTS} permission requests waited at once; further ones are denied.")
            return rejection
        self._asking += 1
        try:
            return await self._ask(session, turn, number, request, facts, verdict.reason)
        finally:
            self._asking -= 1

    async def _deny_by_rule(self, number: str, request: ParsedPermissionRequest, verdict: RuleVerdict) -> str | None:
        option = request.option_of("reject_once")
        denied = _by_rule(number, request, verdict, outcome="denied", option=option)
        # It is denied whether or not the journal has it.
        await self._written(denied)
        return option

    async def _ask(
        self,
        session: str,
        turn: str | None,
        number: str,
        request: ParsedPermissionRequest,
        facts: RequestFacts,
        why: str,
    ) -> str | None:
        asked = PermissionAsked(
            request=number,
            turn=turn,
            session=session,
            digest=request.digest,
            title=request.title,
            detail=request.detail,
            options=request.options,
            expires_at=self._clock() + self._timeout_s,
            facts=facts.to_json(),
            sandboxed=self._sandboxed,
            why=why,
        )
        try:
            entry = await self._journal.append(asked)
        except JournalNotWritable:
            self.tell(turn, "Permission requests are denied while the journal cannot be written.")
            return request.option_of(*_REJECT)
        loop = asyncio.get_running_loop()
        one = _Open(
            incarnation=entry.position.incarnation,
            session=session,
            request=number,
            digest=request.digest,
            title=request.title,
            options=request.options,
            asked=request,
            facts=facts,
            decided=loop.create_future(),
        )
        self._open[number] = one
        if turn is not None and turn == self._cancelled:
            self._close(one, "cancelled", None)
            return None
        expiry = loop.call_later(self._timeout_s, self._close, one, "expired", one.rejection)
        try:
            return await one.decided
        finally:
            expiry.cancel()
            self._open.pop(number, None)

    async def answer(
        self, *, incarnation: int, session: str, request: str, digest: str, option: str | None, always: bool, by: str
    ) -> str:
        """Decide a request for an operator; return the outcome. The very answer that decided it, given again by who was
        not told, has the same outcome.

        Raises:
            AgentRefused: ``too_late``, or the request does not offer that option (``unknown_option``).
            JournalNotWritable: the answer could not be kept, so the request was denied.
        """
        given = (incarnation, session, request, digest, option, always, by)
        if given not in self._taken:
            self._taken[given] = await self._answer(*given)
            while len(self._taken) > OPEN_REQUESTS:
                del self._taken[next(iter(self._taken))]
        return self._taken[given]

    async def _answer(
        self, incarnation: int, session: str, request: str, digest: str, option: str | None, always: bool, by: str
    ) -> str:
        one = self._open.get(request)
        named = one is not None and (one.incarnation, one.session, one.digest) == (incarnation, session, digest)
        if one is None or not named:
            raise AgentRefused(
                "That request is over: it was answered, it expired, or its turn ended.", refusal="too_late"
            )

        def answered(outcome: str, option: str | None) -> PermissionAnswered:
            return PermissionAnswered(request=request, outcome=outcome, option=option, by=by, asked_in=incarnation)

        if option is None:
            await self._decide(one, one.rejection, answered("denied", None))
            return "denied"
        kind = next((o["kind"] for o in one.options if o["id"] == option), None)
        if kind is None:
            offered = ", ".join(o["id"] for o in one.options)
            raise AgentRefused(f"The request offers {offered}, not {option!r}.", refusal="unknown_option")
        if kind in _REJECT:
            await self._decide(one, option, answered("denied", option))
            return "denied"
        always = always or kind == "allow_always"
        if always:
            option = option_of(one.options, "allow_once") or option
        if not always or one.digest in self._grants():
            await self._decide(one, option, answered("selected", option))
        elif len(self._grants()) >= GRANTS:
            raise AgentRefused(f"{GRANTS} things are allowed for always; revoke some first.", refusal="too_many_grants")
        else:
            granted = GrantAdded(digest=one.digest, title=one.title[:_GRANT_TITLE], by=by)
            await self._decide(one, option, granted, answered("selected", option))
        return "selected"

    async def reconsider(self) -> None:
        """Answer the waiting requests for which rules have an answer by now."""
        for one in list(self._open.values()):
            verdict = self._judge(one.facts)
            if verdict.effect == "deny":
                option, outcome = one.asked.option_of("reject_once"), "denied"
            elif verdict.effect == "allow" and (once := one.asked.option_of("allow_once")) is not None:
                option, outcome = once, "selected"
            else:
                continue
            if one.request in self._open:
                by_rule = _by_rule(one.request, one.asked, verdict, outcome=outcome, option=option)
                with contextlib.suppress(JournalNotWritable):
                    await self._decide(one, option, replace(by_rule, asked_in=one.incarnation))

    async def revoke(self, digest: str, by: str) -> bool:
        """Take an "always" back; False when there was none."""
        if digest not in self._grants():
            return False
        await self._journal.append(GrantRevoked(digest=digest, by=by))
        return True

    def cancel_all(self, turn: str) -> None:
        """The turn is being cancelled, or is over: the protocol wants every open request answered so."""
        self._cancelled = turn
        for one in list(self._open.values()):
            self._close(one, "cancelled", None)

    def deny_all(self) -> None:
        """The journal takes nothing: nothing more is allowed."""
        for one in list(self._open.values()):
            self._close(one, "denied", one.rejection)

    def lose_all(self) -> None:
        """The runtime is gone, and with it whoever waited for the answers."""
        for one in list(self._open.values()):
            self._close(one, "lost", None)

    def _close(self, one: _Open, outcome: str, option: str | None) -> None:
        if self._open.pop(one.request, None) is None:
            return
        self._journal.record(
            PermissionAnswered(request=one.request, outcome=outcome, asked_in=one.incarnation, option=option)
        )
        if not one.decided.done():
            one.decided.set_result(option)

    async def _decide(self, one: _Open, option: str | None, *events: GrantAdded | PermissionAnswered) -> None:
        """Answer the runtime, once the journal has it. From here on the request is no one else's to decide."""
        del self._open[one.request]
        chosen = one.rejection
        try:
            await self._journal.append(*events)
            chosen = option
        except JournalNotWritable:
            self._journal.record(
                PermissionAnswered(request=one.request, outcome="denied", asked_in=one.incarnation, option=chosen)
            )
            raise
        finally:
            if not one.decided.done():
                one.decided.set_result(chosen)

    async def _written(self, answered: PermissionAnswered) -> bool:
        try:
            await self._journal.append(answered)
        except JournalNotWritable:
            return False
        return True

    def tell(self, turn: str | None, sentence: str) -> None:
        """Say it once a turn."""
        if (turn, sentence) not in self._told:
            self._told = {told for told in self._told if told[0] == turn} | {(turn, sentence)}
            self._journal.record(Notice(text=sentence, turn=turn))


def _by_rule(
    number: str, request: ParsedPermissionRequest, verdict: RuleVerdict, *, outcome: str, option: str | None
) -> PermissionAnswered:
    return PermissionAnswered(
        request=number,
        outcome=outcome,
        option=option,
        rule=verdict.rule.id if verdict.rule is not None else "",
        why=verdict.reason,
        title=request.title,
        detail=request.detail,
    )
