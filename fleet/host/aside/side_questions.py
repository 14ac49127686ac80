"""Questions on the side, one at a time: answered by a session of their own beside the agent's turn.

The session is in the runtime's own process. A second process would need a second sandbox around the same home and
workspace, and containers have one name for each agent. So what the session says is told apart by its id: nothing of it
becomes a part of the agent's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from fleet.approval_rules.requests import RequestFacts, RuleVerdict
from fleet.errors import AgentRefused
from fleet.host.acp.acp_client import RuntimeTrouble
from fleet.host.acp.update_parser import KnownToolCall, call_of, clean, events_of, permission_of, quoted
from fleet.host.aside.read_only import has_changed, may_read
from fleet.host.background_tasks import BackgroundTasks
from fleet.host.journal_fanout import JournalFanout
from fleet.host.runtime_lifetime import RuntimeLife
from fleet.journal.events import AsideAsked, AsideEnded, TextChunk

log = structlog.get_logger(__name__)

QUESTION_CHARACTERS: Final = 20_000
SUMMARY_CHARACTERS: Final = 60_000
#: An answer that is longer is cut there.
ANSWER_CHARACTERS: Final = 12_000
_ID_CHARACTERS: Final = 200
_CALLS: Final = 256
#: Refused requests and changes that are named in the answer.
_NAMED: Final = 5
_TITLE_CHARACTERS: Final = 200

_IN_FORK: Final = (
    "This is a question on the side, from a person who watches the work. You are in a copy of the conversation: the "
    "work itself goes on elsewhere, and nothing from here goes back to it. You can read files. You cannot change "
    "files, run commands or use other tools. Do not go on with the work. Answer the question in a few sentences."
)
_WITH_SUMMARY: Final = (
    "This is a question on the side, from a person who watches an agent work. You are not that agent: you were given "
    "a summary of its conversation, which may lack parts, and the agent's work goes on elsewhere. You can read files. "
    "You cannot change files, run commands or use other tools. Do not go on with the work. Answer the question in a "
    "few sentences. Say so if the summary does not tell."
)


@dataclass(slots=True)
class _Open:
    """The question that is being answered."""

    id: str
    session: str | None = None
    """None until the runtime has begun one, and again once nothing more is taken from it."""
    forked: bool = False
    pieces: list[str] = field(default_factory=list)
    characters: int = 0
    interrupted: bool = False
    """Whether the last that it did was a tool call; what it says next is another paragraph."""
    prompting: bool = False
    """Whether the runtime has the prompt, and has not answered it."""
    calls: dict[str, KnownToolCall] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the rest of the answer is not wanted."""

    def ended(self, outcome: str, detail: str | None = None) -> AsideEnded:
        return AsideEnded(
            id=self.id,
            outcome=outcome,
            text="".join(self.pieces).strip(),
            forked=self.forked,
            refused=tuple(self.refused),
            changed=tuple(self.changed),
            detail=detail,
        )


class SideQuestions:
    """Takes one question at a time, once `serve` named the runtime.

    Args:
        chronicle: the agent's journal.
        tasks: keeps what closes a session after its answer.
        facts_of: what approval rules see of a tool call that needs permission.
        judge: the verdict of the agent's approval rules.
    """

    def __init__(
        self,
        chronicle: JournalFanout,
        tasks: BackgroundTasks,
        *,
        facts_of: Callable[[KnownToolCall], RequestFacts],
        judge: Callable[[RequestFacts], RuleVerdict],
    ) -> None:
        self._chronicle = chronicle
        self._tasks = tasks
        self._facts_of = facts_of
        self._judge = judge
        self._life: RuntimeLife | None = None
        self._open: _Open | None = None
        self._answering: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    def serve(self, life: RuntimeLife) -> None:
        """This runtime takes prompts now."""
        self._life = life
        self._closed = False

    async def stop(self) -> None:
        """Take no further question, and give up the one that is being answered. Its end is told by `cut_off`."""
        self._closed = True
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def ask(self, id_: str, text: str, sender: str, summary: str) -> dict[str, Any]:
        """Take a question; its answer comes as an `AsideEnded` of the journal. A known id changes nothing.

        Args:
            summary: of the conversation, for a runtime that cannot fork it.

        Raises:
            AgentRefused: it is not taken, and the message says why.
            JournalNotWritable: it could not be kept.
        """
        self._check(id_, text, summary)
        async with self._lock:
            state = self._chronicle.state
            if id_ == state.aside:
                return {"state": "asked"}
            if (outcome := state.asides.get(id_)) is not None:
                return {"state": outcome}
            life = self._ready()
            if state.aside is not None:
                raise AgentRefused(
                    "A question on the side is being answered; one at a time. Ask again after its answer.",
                    refusal="aside_open",
                )
            await self._chronicle.journal.append(AsideAsked(id=id_, text=clean(text), sender=clean(sender)[:500]))
            self._open = _Open(id_)
            answering = self._answer(life, self._open, clean(text), clean(summary))
            self._answering = asyncio.create_task(answering, name="question on the side")
            self._tasks.hold(self._answering)
        return {"state": "asked"}

    def _check(self, id_: str, text: str, summary: str) -> None:
        if not 0 < len(id_) <= _ID_CHARACTERS or not id_.isascii():
            raise AgentRefused(f"A question's id has 1 to {_ID_CHARACTERS} characters of ASCII.", refusal="invalid")
        if not text.strip():
            raise AgentRefused("The question is empty.", refusal="invalid")
        if len(text) > QUESTION_CHARACTERS:
            raise AgentRefused(
                f"The question has {len(text):,} characters; {QUESTION_CHARACTERS:,} are allowed. Shorten it.",
                refusal="too_long",
            )
        if len(summary) > SUMMARY_CHARACTERS:
            raise AgentRefused(f"The summary has more than {SUMMARY_CHARACTERS:,} characters.", refusal="too_long")

    def _ready(self) -> RuntimeLife:
        spec = self._chronicle.spec
        if not spec.aside:
            raise AgentRefused(
                f"The runtime {spec.runtime} cannot answer on the side of its work. Send the question as a message.",
                refusal="no_aside",
            )
        if (by := self._chronicle.state.handed_to) is not None:
            raise AgentRefused(f"{by} has it in a terminal; ask when it is given back.", refusal="stopping")
        if self._closed:
            raise AgentRefused("The agent is about to end; ask when it runs again.", refusal="stopping")
        if self._life is None or self._life.silent:
            raise AgentRefused("The runtime is not ready yet; ask again in a moment.", refusal="starting")
        return self._life

    # --- answering ----------------------------------------------------------------------------------------------------

    async def _answer(self, life: RuntimeLife, question: _Open, text: str, summary: str) -> None:
        limit = self._chronicle.spec.aside_s
        session: str | None = None
        try:
            try:
                async with asyncio.timeout(limit):
                    state = self._chronicle.state
                    opened = await life.open_aside({life.session.session, *state.sessions})
                    session, question.forked = opened.id, opened.forked
                    question.session = session
                    ended = await self._converse(life, question, session, self._prompt(question.forked, text, summary))
            except TimeoutError:
                ended = question.ended("failed", f"No answer came within {limit:g} s.")
            except RuntimeTrouble as error:
                if life.silent:
                    return  # The runtime is gone; what is open then is told with its end.
                ended = question.ended("failed", str(error))
            except Exception:
                # Otherwise the question would stay open, and no other could be asked.
                log.exception("aside.failed")
                ended = question.ended("failed", "What the runtime answered could not be read; the log says why.")
            question.session = None
            await self._chronicle.say(ended)
        finally:
            question.session = None
            if session is not None:
                if question.prompting:
                    with contextlib.suppress(OSError):
                        await life.cancel(session)
                await life.close_aside(session)

    def _prompt(self, forked: bool, text: str, summary: str) -> list[str]:
        if forked:
            return [_IN_FORK, text]
        told = summary.strip() or "(There is nothing in it yet.)"
        marked = f"<summary_of_the_conversation>\n{told}\n</summary_of_the_conversation>"
        return [_WITH_SUMMARY, marked, text]

    async def _converse(self, life: RuntimeLife, question: _Open, session: str, prompt: list[str]) -> AsideEnded:
        question.prompting = True
        prompting = asyncio.ensure_future(life.prompt_aside(session, prompt))
        stopped = asyncio.ensure_future(question.stop.wait())
        try:
            await asyncio.wait({prompting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if question.changed:
                return question.ended("failed", "It was stopped, because it changed files without asking.")
            if stopped.done():
                question.pieces.append("…")
                return question.ended("answered", f"The answer was cut after {ANSWER_CHARACTERS:,} characters.")
            question.prompting = False
            end = prompting.result()
        finally:
            for one in (prompting, stopped):
                one.cancel()
            await asyncio.gather(prompting, stopped, return_exceptions=True)
        if end.stop_reason == "end_turn" and question.characters:
            return question.ended("answered")
        if question.refused and end.stop_reason == "cancelled":
            # Codex ends a turn in which something was refused.
            return question.ended("failed", "The runtime ended the answer when it was refused something.")
        if end.stop_reason == "end_turn":
            return question.ended("failed", "The runtime answered nothing.")
        return question.ended("failed", end.detail or f"The runtime ended with {quoted(end.stop_reason, 100)}.")

    # --- what the session says and asks -------------------------------------------------------------------------------

    def is_of(self, session: str) -> bool:
        """Return whether this is the session that answers now."""
        return self._open is not None and self._open.session == session

    def updated(self, update: dict[str, Any]) -> None:
        """Take one ``session/update`` of that session."""
        question = self._open
        if question is None or question.stop.is_set():
            return
        if update.get("sessionUpdate") in {"tool_call", "tool_call_update"} and (id_ := call_of(update)):
            call = self._known(question, id_, update)
            question.interrupted = True
            if has_changed(call, update.get("status")):
                _name(question.changed, call)
                question.stop.set()
            return
        for event in events_of(update, None):
            if isinstance(event, TextChunk):
                self._take(question, event.text)

    def _take(self, question: _Open, text: str) -> None:
        if question.interrupted and question.pieces:
            question.pieces.append("\n\n")
        question.interrupted = False
        left = ANSWER_CHARACTERS - question.characters
        question.pieces.append(text[:left])
        question.characters += len(text)
        if len(text) > left:
            question.stop.set()

    def asked(self, tool_call: dict[str, Any], options: Any) -> str | None:
        """Answer a ``session/request_permission`` of that session: with an option's id, or None for "cancelled".

        No person and no "always" is asked. Only a read inside the workspace is allowed, once.
        """
        question = self._open
        id_ = call_of(tool_call) or ""
        if question is None:
            return None
        call = self._known(question, id_, tool_call)
        request = permission_of(call, options)
        if request is None:
            _name(question.refused, call)
            return None
        facts = self._facts_of(call)
        once = request.option_of("allow_once")
        if once is not None and may_read(facts, self._judge(facts), Path(self._chronicle.spec.workspace)):
            return once
        _name(question.refused, call)
        return request.option_of("reject_once")

    def _known(self, question: _Open, id_: str, update: dict[str, Any]) -> KnownToolCall:
        call = question.calls.get(id_, KnownToolCall(call=id_)).with_update(update)
        question.calls[id_] = call
        while len(question.calls) > _CALLS:
            del question.calls[next(iter(question.calls))]
        return call


def _name(titles: list[str], call: KnownToolCall) -> None:
    title = " ".join((call.title or call.tool_kind or "a tool without a name").split())[:_TITLE_CHARACTERS]
    if title not in titles and len(titles) < _NAMED:
        titles.append(title)
