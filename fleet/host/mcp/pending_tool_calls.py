"""The agent's calls of Muster's own tools: written into the journal, done by the orchestrator, answered here.

The orchestrator finds a call in the journal, under a name that is never used again. What is to be done now or never it
must begin (`begin`) before it does it, and may not any more once the agent was told that nothing was done; so what an
agent is told is true, whatever dies in between.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.crash_points import around, declare
from fleet.errors import AgentRefused
from fleet.host.acp.update_parser import clean
from fleet.host.journal_writer import JournalNotWritable, JournalWriter
from fleet.journal.events import ToolAnswered, ToolAsked
from fleet.tools import ANSWER_LIMIT, ARGUMENTS_LIMIT, Tool

ASK: Final = declare("call.ask")

#: So many calls may wait for an answer at once.
OPEN_CALLS: Final = 16
#: So many calls are taken in a minute: each is an entry in the journal and a row in the register.
CALLS_A_MINUTE: Final = 60

AWAY_QUEUED: Final = (
    "Muster's orchestrator is away. This is written down and is dealt with, once, when it is back: do not repeat it."
)
AWAY_NOW: Final = "Muster's orchestrator is away. Nothing was done, and nothing will be; try again later."
BEGUN: Final = (
    "Muster began with this and did not say yet what came of it. Look before you repeat it: it may have been done."
)
UNWRITABLE: Final = "The agent's journal cannot be written (a full disk?), so nothing was done."


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the agent is told."""

    text: str
    ok: bool


@dataclass(slots=True, eq=False)
class _Open:
    begun: asyncio.Event
    answered: asyncio.Future[ToolResult]


class PendingToolCalls:
    """Where calls wait for their answers.

    Args:
        wait_s: how long a call waits for the orchestrator to begin with it, or to answer at once.
        answer_s: how long one that was begun waits for its answer.
        clock: any that only goes forward, in seconds.
    """

    def __init__(
        self,
        journal: Callable[[], JournalWriter],
        tools: Sequence[Tool],
        *,
        turn: Callable[[], str | None],
        clock: Callable[[], float],
        wait_s: float,
        answer_s: float,
    ) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self._journal = journal
        self._turn = turn
        self._clock = clock
        self._wait_s = wait_s
        self._answer_s = answer_s
        self._open: dict[str, _Open] = {}
        self._asking = 0
        self._count = 0
        self._recent: deque[float] = deque(maxlen=CALLS_A_MINUTE)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Have a tool called; come back with what the agent is told."""
        tool = self.tools.get(name)
        if tool is None:
            return ToolResult(f"There is no tool of that name; there are {', '.join(self.tools) or 'none'}.", False)
        try:
            source = clean(json.dumps(arguments, ensure_ascii=False))
        except (RecursionError, ValueError):
            return ToolResult("The arguments are nested too deeply.", False)
        if len(source) > ARGUMENTS_LIMIT:
            sentence = (
                f"The arguments have {len(source):,} characters, and {ARGUMENTS_LIMIT:,} are allowed. Put long text "
                f"into a file in your workspace, and name the file."
            )
            return ToolResult(sentence, False)
        now = self._clock()
        if len(self._recent) == CALLS_A_MINUTE and now - self._recent[0] < 60:
            return ToolResult(
                f"More than {CALLS_A_MINUTE} calls in a minute; this one was not made. Wait a little.", False
            )
        if self._asking >= OPEN_CALLS:
            return ToolResult(f"{OPEN_CALLS} calls wait for their answers; this one was not made.", False)
        self._recent.append(now)
        self._asking += 1
        try:
            return await self._call(tool, json.loads(source))
        finally:
            self._asking -= 1

    async def _call(self, tool: Tool, arguments: dict[str, Any]) -> ToolResult:
        self._count += 1
        call = f"{self._journal().incarnation}-{self._count}"
        asked = ToolAsked(call=call, turn=self._turn(), tool=tool.name, arguments=arguments, queued=tool.queued)
        # Open before it is durable: the orchestrator may be here before this goes on.
        one = self._open[call] = _Open(asyncio.Event(), asyncio.get_running_loop().create_future())
        try:
            with around(ASK):
                await self._journal().append(asked)
        except JournalNotWritable:
            del self._open[call]
            return ToolResult(UNWRITABLE, False)
        outcome = None
        try:
            answer = await self._answer(one)
            if answer is not None:
                outcome = "done" if answer.ok else "refused"
                return answer
            if one.begun.is_set():
                return ToolResult(BEGUN, False)
            return ToolResult(AWAY_QUEUED, True) if tool.queued else ToolResult(AWAY_NOW, False)
        finally:
            # From here on no one may begin with it; and who reads the journal later learns that.
            del self._open[call]
            self._journal().record(
                ToolAnswered(call=call, outcome=outcome or ("unknown" if one.begun.is_set() else "lapsed"))
            )

    async def _answer(self, one: _Open) -> ToolResult | None:
        """Return the answer, if it comes in time."""
        begun: asyncio.Future[Any] = asyncio.ensure_future(one.begun.wait())
        answered: asyncio.Future[Any] = one.answered
        try:
            await asyncio.wait({begun, answered}, timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not one.answered.done() and one.begun.is_set():
                await asyncio.wait({one.answered}, timeout=self._answer_s)
        finally:
            begun.cancel()
        return one.answered.result() if one.answered.done() else None

    def begin(self, call: str) -> None:
        """The orchestrator is about to do what was asked. Said again, it changes nothing.

        Raises:
            AgentRefused: ``too_late``: the agent was told that nothing was done, or is gone.
        """
        self._find(call).begun.set()

    def answer(self, call: str, text: str, *, ok: bool) -> None:
        """Say what happened to a call.

        Raises:
            AgentRefused: ``too_late``: no one waits for it any more.
        """
        one = self._find(call)
        text = clean(text)
        if len(text) > ANSWER_LIMIT:
            text = f"{text[:ANSWER_LIMIT]}… ({len(text) - ANSWER_LIMIT:,} more characters)"
        if not one.answered.done():
            one.answered.set_result(ToolResult(text, ok))

    def _find(self, call: str) -> _Open:
        if call not in self._open:
            raise AgentRefused("That call is no longer waiting.", refusal="too_late")
        return self._open[call]
