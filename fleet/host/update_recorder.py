"""What a runtime says and asks in its session, on its way into the journal.

Each update is put to the turn whose prompt is with the runtime. The first one shows that the runtime has the prompt; a
flood of them is cut; a permission request is completed from what earlier updates said of its tool call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fleet.approval_rules.requests import UNKNOWN, RequestFacts
from fleet.host.acp.update_parser import KnownToolCall, call_of, events_of, permission_of
from fleet.host.journal_fanout import JournalFanout
from fleet.host.permission_requests import PendingPermissions
from fleet.journal.events import (
    Event,
    Notice,
    PlanUpdated,
    TextChunk,
    ThoughtChunk,
    ToolCall,
    TurnAccepted,
    UsageReported,
)

_CALLS: Final = 256
#: What a runtime says in one turn (and after it, up to the next) is kept up to so many characters.
_TURN_CHARACTERS: Final = 32 * 2**20


class UpdateRecorder:
    """Listens to one session at a time.

    Args:
        chronicle: the agent's journal.
        desk: where permission requests are decided.
        facts_of: what approval rules see of a tool call that needs permission.
    """

    def __init__(
        self,
        chronicle: JournalFanout,
        desk: PendingPermissions,
        facts_of: Callable[[KnownToolCall], RequestFacts] = lambda _: UNKNOWN,
    ) -> None:
        self._chronicle = chronicle
        self._desk = desk
        self._facts_of = facts_of
        self._session: str | None = None
        self._replaying = True
        self._accepted: str | None = None
        self._calls: dict[str, KnownToolCall] = {}
        self._characters = 0
        self.prompting: str | None = None
        """The turn whose prompt the runtime was given and has not answered."""
        self.event_at: float | None = None
        """When the runtime last said something in this turn, in epoch seconds."""
        self.activity: str | None = None
        """What it is doing, in a few words."""

    def listen(self, session: str) -> None:
        """Listen to this session from its first prompt on. What a load replays was journaled in its own time."""
        self._session = session
        self._replaying = True

    def begin(self) -> None:
        """A turn begins."""
        self.event_at, self.activity = None, None
        self._characters = 0
        self._calls.clear()

    def prompted(self, turn: str) -> None:
        """The turn's prompt goes to the runtime."""
        self._replaying = False
        self.prompting = turn

    def answered(self) -> None:
        """The runtime answered the prompt, or never will."""
        self.prompting = None

    def accept(self, turn: str | None) -> None:
        """The runtime shows that it has the turn's prompt."""
        open_turn = self._chronicle.state.turn
        if open_turn is not None and open_turn.turn == turn and self._accepted != turn:
            self._accepted = turn
            self._chronicle.journal.record(TurnAccepted(turn=open_turn.turn, message=open_turn.message))

    def accepted(self, turn: str) -> bool:
        """Return whether the runtime showed that."""
        return self._accepted == turn

    def updated(self, session: str, update: dict[str, Any]) -> None:
        """Take one ``session/update`` of the runtime."""
        if self._replaying or self._session is None or session != self._session:
            return
        # What still comes of an earlier turn must not pass for a sign that this one's prompt has arrived.
        turn = self.prompting
        if update.get("sessionUpdate") in {"tool_call", "tool_call_update"} and (call := call_of(update)):
            self._calls[call] = self._calls.get(call, KnownToolCall(call=call)).with_update(update)
            while len(self._calls) > _CALLS:
                del self._calls[next(iter(self._calls))]
        events = events_of(update, turn)
        if any(not isinstance(event, UsageReported) for event in events):
            self.accept(turn)
        for event in events:
            if self._has_room(event):
                self._chronicle.journal.record(event)
            self.activity = _activity(event) or self.activity
        if events:
            self.event_at = self._chronicle.clock()

    def _has_room(self, event: Event) -> bool:
        """Count what the runtime says; of a flood the rest is left out, so that it fills neither disk nor chat."""
        if self._characters > _TURN_CHARACTERS:
            return False
        self._characters += _weight(event)
        if self._characters > _TURN_CHARACTERS:
            sentence = f"The runtime said more than {_TURN_CHARACTERS:,} characters in one turn; the rest is left out."
            self._chronicle.journal.record(Notice(text=sentence, turn=self.prompting))
            return False
        return True

    async def asked(self, session: str, tool_call: dict[str, Any], options: Any) -> str | None:
        """Get a ``session/request_permission`` answered: with an option's id, or None for "cancelled"."""
        if self._session is None or session != self._session:
            return None
        turn = self.prompting
        id_ = call_of(tool_call) or ""
        call = self._calls.get(id_, KnownToolCall(call=id_)).with_update(tool_call)
        request = permission_of(call, options)
        self.accept(turn)
        self.event_at = self._chronicle.clock()
        if request is None:
            sentence = (
                "A permission request was denied: it is too long to be shown, or no option of it has one known meaning."
            )
            self._desk.tell(turn, sentence)
            return None
        return await self._desk.ask(session, turn, request, self._facts_of(call))


def _weight(event: Event) -> int:
    """About how many characters an event takes in the journal."""
    match event:
        case TextChunk(text=text) | ThoughtChunk(text=text):
            return 100 + len(text)
        case ToolCall(title=title, detail=detail):
            return 200 + len(title or "") + len(detail or "")
        case PlanUpdated(entries=entries):
            return 100 + sum(100 + len(str(entry.get("content"))) for entry in entries)
        case _:
            return 300


def _activity(event: Event) -> str | None:
    """Return what the runtime is doing, in a few words."""
    match event:
        case ToolCall(title=title, status=status) if title and status not in {"completed", "failed"}:
            return title.splitlines()[0][:200]
        case ThoughtChunk():
            return "thinking"
        case TextChunk():
            return "writing"
        case PlanUpdated():
            return "planning"
        case _:
            return None
