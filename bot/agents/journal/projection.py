"""From an agent's journal to what operators must be told of it. Pure: entries in, effects out.

`bot.agents.journal.follower` has the effects carried out, in the transaction that also moves the position up to which
the journal was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from bot.agents.journal.turn_view import TurnView
from bot.approvals.requests import AskPermission, Settle
from bot.commands import sections
from bot.commands.syntax import command_line, from_shell, named_in, written
from bot.text import markdown
from fleet.journal import events
from fleet.journal.events import JournalEntry, JournalPosition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.redaction import SecretMasker

# --- effects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """The bot says something about the agent. `message` names whose conversation it goes to; None: the thread."""

    key: str
    text: str
    message: str | None = None
    announces: str = ""
    """What happened, in a word by which a command that announced it in the same thread is known; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Fell:
    """The runtime ended, or never began. Of an agent that should run, `bot.agents.restart_executor` says so with what
    follows."""

    key: str
    text: str
    launch_id: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The open turn looks like this now; `final` when it will not change any more."""

    view: TurnView
    position: JournalPosition
    final: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message to the agent reached a state (`database.schema.agent_messages`).

    The register keeps `cancelled` and `steered` as `finished`: the turn is over, and nothing is left to deliver.
    """

    message: str
    state: str
    turn: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class GrantGiven:
    """The agent host allows something for always from now on."""

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
    """The agent was told that nothing came of its call, so nothing may."""

    call: str
    at: float


@dataclass(frozen=True, slots=True)
class AgentCondition:
    """The agent is in this state now, as far as its journal knows."""

    state: str
    detail: str | None
    at: float
    launch_id: str | None


Effect: TypeAlias = (
    Note | Fell | Progress | Receipt | AskPermission | Settle | GrantGiven | Called | CallOver | AgentCondition
)

# --- the fold ----------------------------------------------------------------------------------------------------

#: What each stop reason of a turn means for its message, and what the operator is told (Agent Client Protocol,
#: stop reasons; `error` and `cut` are ours).
_ENDINGS: dict[str, tuple[str, str | None]] = {
    "end_turn": ("finished", None),
    "cancelled": ("cancelled", "⏹ The turn was cancelled."),
    "max_tokens": (
        "finished",
        "⚠️ The answer ends here: its limit of output tokens is reached, the model's or what its budget had left.",
    ),
    "max_turn_requests": ("finished", "⚠️ The turn ends here: the runtime's limit of model requests is reached."),
    "refusal": ("finished", "⚠️ The model refused to go on."),
}

#: With this begins what is said of a turn that its runtime could not finish.
TURN_FAILED = "✖ The turn failed:"
#: What an agent said last is the reason of its failure where so many characters of it, or all, are there again, and
#: are half of what is there: with a few words of it an agent could keep the rest from its thread.
_REPEATED_LEAST, _REPEATED_MOST = 20, 300
#: Why an agent host ends that is asked to because its agent is to be frozen.
FREEZE = "frozen"
#: So begins the reason of the egress's (egress.limits.freeze_and_kill). `bot.egress_client.event_import` tells that in
#: the thread.
_BY_EGRESS = ("freeze: ", "kill: ")
_FROZEN = (
    f"❄️ Frozen: workspace, conversation and what waits for it are kept. {command_line('resume {}')} brings it back."
)

#: What a turn's message is told that was cancelled for a message that steers.
_STEERED = f"⏭ This turn was cancelled: a message that {command_line('steer')} sent goes first."

_START = JournalPosition()


def frozen_as(agent: str, launch_id: str) -> str:
    """Name the freezing of one launch of an agent."""
    return f"freeze/{agent}/{launch_id}"


def cancelled_as(agent: str, turn: str) -> str:
    """Name the cancelling of one turn."""
    return f"cancel/{agent}/{turn}"


@dataclass(frozen=True, slots=True)
class Story:
    """What is known after the entries so far."""

    agent: str
    position: JournalPosition = _START
    view_start: JournalPosition = _START
    """The entry before the open turn's first; with no turn open, `position`."""
    view: TurnView | None = None
    launch_id: str | None = None
    over: bool = True
    """The last incarnation ended in a way that the journal itself tells."""
    keeps_cut: str = ""
    """The title of the agent's runtime where a message whose turn was cut stays in its conversation; else empty."""

    def after(self, entry: JournalEntry) -> tuple[Story, tuple[Effect, ...]]:
        """Return the story one entry on, and what follows from that entry."""
        story, effects = self._after(entry)
        view_start = story.view_start if story.view is not None else entry.position
        return replace(story, position=entry.position, view_start=view_start), effects

    def _after(self, entry: JournalEntry) -> tuple[Story, tuple[Effect, ...]]:
        event, at, incarnation = entry.event, entry.at, entry.position.incarnation
        key = f"j/{self.agent}/{incarnation}/{entry.position.seq}"
        match event:
            case events.Opened(continues=True):
                return self, ()
            case events.Opened(launch_id=launch_id):
                # A turn that the last incarnation left open stays: this one's journal says next how it ended.
                story = replace(self, launch_id=launch_id, over=False)
                return story, (AgentCondition("starting", None, at, launch_id),)
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
                if reason == FREEZE:
                    frozen = frozen_as(self.agent, self.launch_id or "")
                    return ended, (condition, Note(key, _FROZEN.format(self.agent), announces=frozen))
                return ended, (condition, Note(key, f"⏹ Stopped: {reason.rstrip('.')}."))
            case events.MessageQueued(id=message):
                return self, (Receipt(message, "journaled"),)
            case events.MessageWithdrawn(id=message):
                return self, (Receipt(message, "withdrawn"),)
            case events.TurnStarted(turn=turn, message=message):
                return replace(self, view=TurnView(turn, message), view_start=self.position), ()
            case events.TurnAccepted(turn=turn, message=message):
                return self, (Receipt(message, "accepted", turn),)
            case events.TurnEnded():
                still_open = self.view if self.view is not None and self.view.turn != event.turn else None
                return replace(self, view=still_open), self._ended(event, key, entry.position)
            case events.PermissionAsked():
                return self, (
                    AskPermission(incarnation, event, at, self.view.message if self.view is not None else None),
                )
            case events.PermissionAnswered():
                return self, (Settle(event.asked_in or incarnation, event, at),)
            case events.GrantAdded():
                return self, (GrantGiven(key, event, at),)
            case events.ToolAsked():
                return self, (Called(event, at),)
            case events.ToolAnswered(call=call, outcome="lapsed"):
                return self, (CallOver(call, at),)
            case events.Notice(text=text):
                return self, (Note(key, text, self.view.message if self.view is not None else None),)
            case events.Noise(lines=lines, sample=sample):
                shown = markdown.code(markdown.one_line(sample))
                return self, (Note(key, f"⚠️ The runtime printed {lines} lines that are no protocol, such as {shown}."),)
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
                note = "❓ The agent died just as this message went to it; whether it was read is not known."
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
        again = f" Nothing is sent again by itself; {command_line(f'retry {event.message}')} does."
        if self.keeps_cut and event.accepted:
            again = (
                f" {self.keeps_cut} keeps this message and its partial answer in the conversation: the model sees both "
                f"with the next message. {command_line(f'retry {event.message}')} says it a second time."
            )
        hint = again if event.stop_reason == "cut" else ""
        announces = cancelled_as(self.agent, event.turn) if event.stop_reason == "cancelled" else ""
        notes = (Note(f"{key}/end", (brief or note) + hint, event.message, announces),) if note else ()
        return (*shown, *notes, Receipt(event.message, state, event.turn, note or None))

    def progress(self) -> Progress | None:
        """Return the open turn as it looks now, when there is something to see."""
        if self.view is None or not (self.view.text or self.view.tools or self.view.plan):
            return None
        return Progress(self.view, self.position)


def told(story: Story, entries: Iterable[JournalEntry]) -> tuple[Story, list[Effect]]:
    """Return the story after some more entries, and what follows from them."""
    effects: list[Effect] = []
    for entry in entries:
        story, following = story.after(entry)
        effects += following
    return story, effects


def _failed(said: str, detail: str) -> str:
    """That a turn failed, with commands as they are typed here; what the agent said itself is not said again."""
    last = " ".join(said.strip().rpartition("\n\n")[2].split())[-_REPEATED_MOST:]
    reason = " ".join(detail.split())
    if last not in reason or len(last) < max(_REPEATED_LEAST, min(_REPEATED_MOST, len(reason) // 2)):
        return from_shell(f"{TURN_FAILED}{detail}", sections.load())
    commands = named_in(detail, sections.load())
    return f"{TURN_FAILED} the reason stands above." + (f" Here it is {', '.join(commands)}." if commands else "")


def end_in_words(end: events.RuntimeFailed | events.RuntimeDied, agent: str) -> str:
    """Say why a runtime ended, with its last words, and where the rest of them is."""
    if not end.stderr.strip():
        return f"✖ {end.reason}"
    log = markdown.code(f"STATE/agents/{agent}/runtime.log")
    return f"✖ {end.reason}\n\n{markdown.code_block(end.stderr)}\nThe whole of its standard error is in {log}."


# --- after an absence --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Digest:
    """What happened meanwhile, told at once instead of message by message."""

    effects: tuple[Effect, ...]
    """What still must be done one by one: states, open permission requests, last receipts, text that was growing."""
    text: str
    """A line per turn."""
    full: str
    """Everything that was said, for a file."""
    turns: int


#: Characters of a digest's file.
_LONGEST_DIGEST = 1_000_000


def digest(effects: Iterable[Effect], *, prefix: str, redact: SecretMasker, growing: str | None = None) -> Digest:
    """Condense the effects of a long stretch of journal.

    Args:
        effects: what happened, in order.
        prefix: what commands begin with in chat.
        redact: masks secrets, before anything is cut.
        growing: the turn that was open before: its message is in the chat unfinished, and gets its final text.
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
            case GrantGiven(key=key):
                kept[key] = effect
            case Called(asked=asked_tool):
                kept["call", asked_tool.call] = effect
            case CallOver(call=call):
                kept["over", call] = effect
            case AgentCondition(state=state, launch_id=launch_id):
                # The last one is the state that holds; an earlier one may have had a meaning of its own.
                kept.pop(("condition", launch_id, state), None)
                kept["condition", launch_id, state] = effect
            case Progress(view=view, final=True):
                turns += 1
                lines.append(f"- {markdown.gist(view.text, redact, 160) or 'worked without a word'}")
                full.append(view.said(redact))
                if view.turn == growing:
                    kept["growing"] = effect
            case Progress():
                pass
            case Fell(key=key):
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
