"""Projection of an agent's journal to what operators see. Pure: entries in, effects out.

`bot.agents.journal.follower` has the effects executed, in the transaction that also advances the journal position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from bot.agents.journal.turn_view import TurnView
from bot.approvals.requests import AnsweredByRule, AskPermission, Settle
from bot.commands import sections
from bot.commands.syntax import command_line, from_shell, named_in, written
from bot.text import markdown
from core.redaction import SecretMasker
from fleet.journal import events
from fleet.journal.events import JournalEntry, JournalPosition

# --- effects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """A note about the agent. It goes to the conversation of `message`, or to the agent's thread if that is None."""

    key: str
    text: str
    message: str | None = None
    announces: str = ""
    """The event's name, or empty. A command that announces the event in the same thread suppresses the note by it."""


@dataclass(frozen=True, slots=True)
class AsideOver:
    """A question on the side was answered, failed or is lost."""

    key: str
    ended: events.AsideEnded
    question: str
    """Empty: unknown."""


@dataclass(frozen=True, slots=True)
class Handover:
    """A person's terminal has the agent's conversation, or had it until now."""

    key: str
    by: str
    at: float
    ended: str | None = None
    """How it ended; None: it began."""


@dataclass(frozen=True, slots=True)
class Fell:
    """The runtime ended or failed to start. `bot.agents.restart_executor` reports it if the agent should run."""

    key: str
    text: str
    launch_id: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The current view of the open turn; `final` if it will not change any more."""

    view: TurnView
    position: JournalPosition
    final: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message to the agent reached a state (`database.schema.agent_messages`).

    The register stores `cancelled` and `steered` as `finished`: the turn is over, and nothing is left to deliver.
    """

    message: str
    state: str
    turn: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class GrantGiven:
    """The agent host now always allows a request."""

    key: str
    granted: events.GrantAdded
    at: float


@dataclass(frozen=True, slots=True)
class Called:
    """The agent called one of Muster's own tools."""

    asked: events.ToolAsked
    at: float


@dataclass(frozen=True, slots=True)
class CallOver:
    """The agent has learned that its call lapsed, so the call must have no effect."""

    call: str
    at: float


@dataclass(frozen=True, slots=True)
class AgentCondition:
    """The agent's current state, as far as its journal says."""

    state: str
    detail: str | None
    at: float
    launch_id: str | None


Effect: TypeAlias = (
    Note
    | AsideOver
    | Handover
    | Fell
    | Progress
    | Receipt
    | AskPermission
    | Settle
    | AnsweredByRule
    | GrantGiven
    | Called
    | CallOver
    | AgentCondition
)

# --- the fold ----------------------------------------------------------------------------------------------------

#: For each stop reason of a turn, the state of its message and the note to the operator (Agent Client Protocol, stop
#: reasons; Muster adds `error` and `cut`).
_ENDINGS: dict[str, tuple[str, str | None]] = {
    "end_turn": ("finished", None),
    "cancelled": ("cancelled", "⏹ The turn was cancelled."),
    "max_tokens": (
        "finished",
        "⚠️ The answer ends here: it reached the limit of output tokens of the model or of its budget.",
    ),
    "max_turn_requests": ("finished", "⚠️ The turn ends here: the runtime's limit of model requests is reached."),
    "refusal": ("finished", "⚠️ The model refused to continue."),
}

#: Prefix of the note about a turn that its runtime could not finish.
TURN_FAILED = "✖ The turn failed:"
#: Minimum and maximum number of characters compared of an agent's last text with the reason of its failure. The reason
#: is not repeated if it contains that text, and the text makes up half of it. With a lower share, an agent could hide
#: the reason by repeating a small part of it.
_REPEATED_LEAST, _REPEATED_MOST = 20, 300
#: Prefixes of the egress's reasons (egress.limits.freeze_and_kill). `bot.egress_client.event_import` reports those in
#: the thread.
_BY_EGRESS = ("freeze: ", "kill: ")
_FROZEN = (
    f"❄️ Frozen: workspace, conversation and what waits for it are kept. {command_line('resume {}')} brings it back."
)

#: The note for a message whose turn was cancelled for a steering message.
_STEERED = f"⏭ This turn was cancelled: a message that {command_line('steer')} sent goes first."

_START = JournalPosition()


def frozen_as(agent: str, launch_id: str) -> str:
    """Return the event name for freezing one launch of an agent."""
    return f"freeze/{agent}/{launch_id}"


def cancelled_as(agent: str, turn: str) -> str:
    """Return the event name for cancelling one turn."""
    return f"cancel/{agent}/{turn}"


@dataclass(frozen=True, slots=True)
class JournalProjection:
    """The projection's state after the entries read so far."""

    agent: str
    position: JournalPosition = _START
    view_start: JournalPosition = _START
    """The position before the first entry of the open turn and of the open question on the side; `position` if none is
    open."""
    view: TurnView | None = None
    launch_id: str | None = None
    over: bool = True
    """Whether the end of the last incarnation has been reported."""
    keeps_cut: str = ""
    """The title of the agent's runtime if it keeps the message of an interrupted turn in its conversation, or empty."""
    aside: events.AsideAsked | None = None
    """The question on the side that has no answer yet."""

    def after(self, entry: JournalEntry) -> tuple[JournalProjection, tuple[Effect, ...]]:
        """Return the state after one more entry, and the effects of that entry."""
        projection, effects = self._after(entry)
        is_open = projection.view is not None or projection.aside is not None
        view_start = projection.view_start if is_open else entry.position
        return replace(projection, position=entry.position, view_start=view_start), effects

    def _after(self, entry: JournalEntry) -> tuple[JournalProjection, tuple[Effect, ...]]:
        event, at, incarnation = entry.event, entry.at, entry.position.incarnation
        key = f"j/{self.agent}/{incarnation}/{entry.position.seq}"
        match event:
            case events.Opened(continues=True):
                return self, ()
            case events.Opened(launch_id=launch_id):
                # A turn that the last incarnation left open stays open until this incarnation's journal ends it.
                projection = replace(self, launch_id=launch_id, over=False)
                return projection, (AgentCondition("starting", None, at, launch_id),)
            case events.RuntimeStarted():
                told = "▶ Ready" + (", going on with its conversation." if event.loaded else ", in a new conversation.")
                text = f"{told} {event.note}" if event.note else told
                return self, (AgentCondition("idle", None, at, self.launch_id), Note(key, text))
            case events.RuntimeFailed() | events.RuntimeDied():
                ended = replace(self, over=True)
                fell = Fell(key, end_in_words(event, self.agent), self.launch_id)
                return ended, (AgentCondition("failed", event.reason, at, self.launch_id), fell)
            case events.Closing(reason=reason):
                if self.over:
                    return self, ()
                ended = replace(self, over=True)
                condition = AgentCondition("stopped", reason, at, self.launch_id)
                if reason.startswith(_BY_EGRESS):
                    return ended, (condition,)
                if reason == events.FREEZE:
                    frozen = frozen_as(self.agent, self.launch_id or "")
                    return ended, (condition, Note(key, _FROZEN.format(self.agent), announces=frozen))
                return ended, (condition, Note(key, f"⏹ Stopped: {reason.rstrip('.')}."))
            case events.MessageQueued(id=message):
                return self, (Receipt(message, "journaled"),)
            case events.MessageWithdrawn(id=message):
                return self, (Receipt(message, "withdrawn"),)
            case events.TurnStarted(turn=turn, message=message):
                start = self.view_start if self.aside is not None else self.position
                return replace(self, view=TurnView(turn, message), view_start=start), ()
            case events.TurnAccepted(turn=turn, message=message):
                return self, (Receipt(message, "accepted", turn),)
            case events.TurnEnded():
                still_open = self.view if self.view is not None and self.view.turn != event.turn else None
                return replace(self, view=still_open), self._ended(event, key, entry.position)
            case events.PermissionAsked():
                return self, (
                    AskPermission(incarnation, event, at, self.view.message if self.view is not None else None),
                )
            case events.PermissionAnswered(rule=str(), asked_in=0):
                return self, (AnsweredByRule(incarnation, event, at),)
            case events.PermissionAnswered():
                return self, (Settle(event.asked_in or incarnation, event, at),)
            case events.GrantAdded():
                return self, (GrantGiven(key, event, at),)
            case events.AsideAsked():
                start = self.view_start if self.view is not None else self.position
                return replace(self, aside=event, view_start=start), ()
            case events.AsideEnded():
                return replace(self, aside=None), (self._aside_over(event),)
            case events.HandedOver(by=by):
                return self, (Handover(key, by, at),)
            case events.HandedBack(by=by, reason=reason):
                return self, (Handover(key, by, at, reason),)
            case events.ToolAsked():
                return self, (Called(event, at),)
            case events.ToolAnswered(call=call, outcome="lapsed"):
                return self, (CallOver(call, at),)
            case events.Notice(text=text):
                return self, (Note(key, text, self.view.message if self.view is not None else None),)
            case events.Noise(lines=lines, sample=sample):
                shown = markdown.code(markdown.one_line(sample))
                return self, (
                    Note(
                        key, f"⚠️ The runtime printed {lines} lines that are not part of the protocol, such as {shown}."
                    ),
                )
            case _:
                if self.view is None:
                    return self, ()
                return replace(self, view=self.view.after(event, at)), ()

    def _ended(self, event: events.TurnEnded, key: str, position: JournalPosition) -> tuple[Effect, ...]:
        shown: tuple[Progress, ...] = ()
        if self.view is not None and self.view.turn == event.turn and (self.view.text or self.view.tools):
            shown = (Progress(self.view, position, final=True),)
        detail = f" {event.detail}" if event.detail else ""
        brief = None
        match event.stop_reason:
            case "cut" if not event.accepted:
                note = "❓ The agent died while it received this message. It may have read it."
                state = "uncertain"
            case "cut":
                note = "⚠️ The agent crashed during this turn. Its partial answer is above."
                state = "failed"
            case "error":
                note = f"{TURN_FAILED}{detail or ' no reason was given.'}"
                state = "failed"
                brief = _failed(shown[0].view.text if shown else "", detail) if detail else None
            case "cancelled" if event.steered:
                state, note = "steered", _STEERED
            case reason:
                otherwise = f"The turn ended: {markdown.code(markdown.one_line(reason))}."
                state, ending = _ENDINGS.get(reason, ("finished", otherwise))
                note = ending + detail if ending else ""
        again = f" Muster does not send it again by itself; {command_line(f'retry {event.message}')} does."
        if self.keeps_cut and event.accepted:
            again = (
                f" {self.keeps_cut} keeps this message and its partial answer in the conversation: the model sees both "
                f"with the next message. {command_line(f'retry {event.message}')} sends it a second time."
            )
        hint = again if event.stop_reason == "cut" else ""
        announces = cancelled_as(self.agent, event.turn) if event.stop_reason == "cancelled" else ""
        notes = (Note(f"{key}/end", (brief or note) + hint, event.message, announces),) if note else ()
        return (*shown, *notes, Receipt(event.message, state, event.turn, note or None))

    def _aside_over(self, ended: events.AsideEnded) -> AsideOver:
        asked = self.aside
        question = asked.text if asked is not None and asked.id == ended.id else ""
        # By its id: an agent host that comes back tells the loss that was told when it vanished.
        return AsideOver(f"aside/{self.agent}/{ended.id}", ended, question)

    def lost_aside(self, reason: str) -> AsideOver | None:
        """Return the loss of the open question on the side with its agent host, or None if none is open."""
        if self.aside is None:
            return None
        return self._aside_over(events.AsideEnded(id=self.aside.id, outcome="lost", detail=reason))

    def progress(self) -> Progress | None:
        """Return the current view of the open turn, or None if there is nothing to show."""
        if self.view is None or not (self.view.text or self.view.tools or self.view.plan):
            return None
        return Progress(self.view, self.position)


def told(projection: JournalProjection, entries: Iterable[JournalEntry]) -> tuple[JournalProjection, list[Effect]]:
    """Return the state after some more entries, and their effects."""
    effects: list[Effect] = []
    for entry in entries:
        projection, following = projection.after(entry)
        effects += following
    return projection, effects


def _failed(said: str, detail: str) -> str:
    """Return the note about a failed turn, with chat commands. It does not repeat what the agent said itself."""
    last = " ".join(said.strip().rpartition("\n\n")[2].split())[-_REPEATED_MOST:]
    reason = " ".join(detail.split())
    if last not in reason or len(last) < max(_REPEATED_LEAST, min(_REPEATED_MOST, len(reason) // 2)):
        return from_shell(f"{TURN_FAILED}{detail}", sections.load())
    commands = named_in(detail, sections.load())
    return f"{TURN_FAILED} the reason is above." + (f" Here it is {', '.join(commands)}." if commands else "")


def end_in_words(end: events.RuntimeFailed | events.RuntimeDied, agent: str) -> str:
    """Return why a runtime ended, the end of its standard error, and where to find the rest."""
    if not end.stderr.strip():
        return f"✖ {end.reason}"
    log = markdown.code(f"STATE/agents/{agent}/runtime.log")
    return f"✖ {end.reason}\n\n{markdown.code_block(end.stderr)}\nAll of its standard error is in {log}."


# --- after an absence --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Digest:
    """A summary of a long stretch, sent in one message."""

    effects: tuple[Effect, ...]
    """Effects that must still run one by one: states, open permission requests, last receipts, the growing text."""
    text: str
    """One line per turn."""
    full: str
    """The complete text of all turns, for a file."""
    turns: int


#: Maximum number of characters of a digest's file.
_LONGEST_DIGEST = 1_000_000


def digest(effects: Iterable[Effect], *, prefix: str, redact: SecretMasker, growing: str | None = None) -> Digest:
    """Condense the effects of a long stretch of the journal.

    Args:
        effects: the effects, in order.
        prefix: the prefix of commands in chat.
        redact: masks secrets, before anything is cut.
        growing: the turn that was open before; its unfinished message in chat gets its final text.
    """
    kept: dict[object, Effect] = {}
    lines: list[str] = []
    full: list[str] = []
    turns = 0
    for effect in effects:
        match effect:
            case Receipt(message=message):
                kept[("receipt", message)] = effect
            case AskPermission(incarnation=incarnation, asked=asked):
                kept[("ask", incarnation, asked.request)] = effect
            case Settle(incarnation=incarnation, answered=answered):
                if kept.pop(("ask", incarnation, answered.request), None) is None:
                    kept[("settle", incarnation, answered.request)] = effect
            case AnsweredByRule(incarnation=incarnation, answered=answered):
                kept["rule", incarnation, answered.request] = effect
            case GrantGiven(key=key):
                kept[key] = effect
            case Called(asked=asked_tool):
                kept["call", asked_tool.call] = effect
            case CallOver(call=call):
                kept["over", call] = effect
            case AgentCondition(state=state, launch_id=launch_id):
                # The last condition is the current state, but each distinct earlier one may have effects too.
                kept.pop(("condition", launch_id, state), None)
                kept["condition", launch_id, state] = effect
            case Progress(view=view, final=True):
                turns += 1
                lines.append(f"- {markdown.gist(view.text, redact, 160) or 'worked without an answer'}")
                full.append(view.said(redact))
                if view.turn == growing:
                    kept["growing"] = effect
            case Progress():
                pass
            case Fell(key=key) | AsideOver(key=key) | Handover(key=key):
                kept[key] = effect
            case Note(text=marked):
                text = redact(written(marked, prefix))
                lines.append(f"- {markdown.one_line(text, 160)}")
                full.append(text)
    return Digest(tuple(kept.values()), "\n".join(lines), _joined(full), turns)


def _joined(texts: Iterable[str]) -> str:
    whole = "\n\n---\n\n".join(texts)
    if len(whole) <= _LONGEST_DIGEST:
        return whole
    return f"{whole[:_LONGEST_DIGEST]}\n\n… {len(whole) - _LONGEST_DIGEST:,} more characters were left out."
