"""What an agent host knows, folded from its journal's entries.

Pure: an entry in, the next state out. The state after the last entry of an incarnation is `carried` into the first
entry of the next, so that folding needs one file only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from fleet.journal.events import (
    AsideAsked,
    AsideEnded,
    Event,
    GrantAdded,
    GrantRevoked,
    HandedBack,
    HandedOver,
    JournalEntry,
    MessageEdited,
    MessagePutFirst,
    MessageQueued,
    MessageWithdrawn,
    Opened,
    PermissionAnswered,
    PermissionAsked,
    RuntimeStarted,
    TurnAccepted,
    TurnEnded,
    TurnStarted,
)

#: So many messages' fates are remembered, so that one that is sent again is recognised.
FATES_KEPT: Final = 10_000

#: So many sessions are remembered, so that one that was taken over is not begun again.
_SESSIONS_KEPT: Final = 16

#: So many ended questions on the side are remembered, so that one that is asked again is recognised.
_ASIDES_KEPT: Final = 16

JOURNALED: Final = "journaled"
STARTED: Final = "started"
ACCEPTED: Final = "accepted"
FINISHED: Final = "finished"
CANCELLED: Final = "cancelled"
STEERED: Final = "steered"
FAILED: Final = "failed"
CUT: Final = "cut"
UNCERTAIN: Final = "uncertain"
WITHDRAWN: Final = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTurn:
    """A turn that was begun and has not ended."""

    turn: str
    message: str
    session: str
    started_at: float
    accepted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPermission:
    """A request that no one answered yet. All four of incarnation, session, request and digest name it."""

    incarnation: int
    session: str
    request: str
    digest: str
    title: str
    options: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    queue: tuple[MessageQueued, ...] = ()
    """In the order in which their turns will begin."""
    fates: Mapping[str, str] = field(default_factory=dict)
    """What became of each message, oldest first."""
    session: str | None = None
    sessions: tuple[str, ...] = ()
    """The last sessions that it had, the newest last."""
    introduced: bool = False
    """Whether the session's runtime has taken the role's instructions."""
    turn: OpenTurn | None = None
    permissions: Mapping[str, OpenPermission] = field(default_factory=dict)
    grants: Mapping[str, str] = field(default_factory=dict)
    """Title by digest of what is allowed for always."""
    turns: int = 0
    """How many turns have ended, over all incarnations."""
    markers: tuple[str, ...] = ()
    """The markers of the last launches, by which their left-overs are found."""
    aside: str | None = None
    """The id of the question on the side that has no answer yet."""
    asides: Mapping[str, str] = field(default_factory=dict)
    """Outcomes of the last questions on the side, oldest first."""
    handed_to: str | None = None
    """Who has its conversation in a terminal; None: it runs under Muster."""
    handed_at: float | None = None
    """Since when, in epoch seconds."""

    def after(self, entry: JournalEntry) -> AgentState:
        """Return the state once this entry is in the journal."""
        match entry.event:
            case Opened(carried=carried, marker=marker):
                state = from_carried(carried)
                markers = (*[m for m in state.markers if m != marker], marker)[-8:]
                return replace(state, markers=markers)
            case MessageQueued() as message:
                return replace(self, queue=_queued(self.queue, message), fates=self._fate(message.id, JOURNALED))
            case MessageWithdrawn(id=id_):
                return replace(self, queue=_without(self.queue, id_), fates=self._fate(id_, WITHDRAWN))
            case MessageEdited(id=id_, text=text):
                queue = tuple(replace(each, text=text) if each.id == id_ else each for each in self.queue)
                return replace(self, queue=queue)
            case MessagePutFirst(id=id_):
                first = tuple(each for each in self.queue if each.id == id_)
                return replace(self, queue=(*first, *_without(self.queue, id_)))
            case RuntimeStarted(session=session, loaded=loaded):
                kept = loaded and session == self.session
                sessions = (*[each for each in self.sessions if each != session], session)[-_SESSIONS_KEPT:]
                introduced = self.introduced and kept
                return replace(self, session=session, sessions=sessions, introduced=introduced)
            case TurnStarted(turn=turn, message=id_, session=session):
                opened = OpenTurn(turn=turn, message=id_, session=session, started_at=entry.at)
                fates = self._fate(id_, STARTED)
                return replace(self, turn=opened, queue=_without(self.queue, id_), fates=fates)
            case TurnAccepted(message=id_):
                turn_ = replace(self.turn, accepted=True) if self.turn else None
                return replace(self, turn=turn_, introduced=True, fates=self._fate(id_, ACCEPTED))
            case TurnEnded(message=id_) as ended:
                return replace(self, turn=None, turns=self.turns + 1, fates=self._fate(id_, fate_of(ended)))
            case PermissionAsked() as asked:
                opened_ = OpenPermission(
                    incarnation=entry.position.incarnation,
                    session=asked.session,
                    request=asked.request,
                    digest=asked.digest,
                    title=asked.title,
                    options=asked.options,
                )
                return replace(self, permissions={**self.permissions, asked.request: opened_})
            case PermissionAnswered(request=request):
                return replace(self, permissions={k: v for k, v in self.permissions.items() if k != request})
            case GrantAdded(digest=digest, title=title):
                return replace(self, grants={**self.grants, digest: title})
            case AsideAsked(id=id_):
                return replace(self, aside=id_)
            case AsideEnded(id=id_, outcome=outcome):
                asides = [*((known, end) for known, end in self.asides.items() if known != id_), (id_, outcome)]
                open_ = None if self.aside == id_ else self.aside
                return replace(self, aside=open_, asides=dict(asides[-_ASIDES_KEPT:]))
            case HandedOver(by=by):
                return replace(self, handed_to=by, handed_at=entry.at)
            case HandedBack():
                return replace(self, handed_to=None, handed_at=None)
            case GrantRevoked(digest=digest):
                return replace(self, grants={k: v for k, v in self.grants.items() if k != digest})
            case _:
                return self

    def _fate(self, id_: str, fate: str) -> Mapping[str, str]:
        fates = {**self.fates, id_: fate}
        while len(fates) > FATES_KEPT:
            del fates[next(iter(fates))]
        return fates


def fate_of(ended: TurnEnded) -> str:
    """Return what a turn's end says of the message that it was for."""
    if ended.stop_reason == "cut":
        return CUT if ended.accepted else UNCERTAIN
    if ended.stop_reason == "cancelled":
        return STEERED if ended.steered else CANCELLED
    return FAILED if ended.stop_reason == "error" else FINISHED


def fold(entries: Sequence[JournalEntry], state: AgentState | None = None) -> AgentState:
    """Return the state after all of the entries."""
    state = state or AgentState()
    for entry in entries:
        state = state.after(entry)
    return state


def cut_off(state: AgentState, detail: str) -> list[Event]:
    """Return what must be said of a state whose runtime is gone: nothing that was open goes on."""
    events: list[Event] = [
        PermissionAnswered(request=lost.request, outcome="lost", asked_in=lost.incarnation)
        for lost in state.permissions.values()
    ]
    if state.turn is not None:
        turn = state.turn
        accepted = turn.accepted
        events.append(
            TurnEnded(turn=turn.turn, message=turn.message, stop_reason="cut", accepted=accepted, detail=detail)
        )
    if state.aside is not None:
        events.append(AsideEnded(id=state.aside, outcome="lost", detail=detail))
    if state.handed_to is not None:
        events.append(HandedBack(by=state.handed_to, reason=detail))
    return events


def carried(state: AgentState) -> dict[str, Any]:
    """Return the state as plain JSON, for an incarnation's first entry."""
    return {
        "queue": [_plain(message) for message in state.queue],
        "fates": [[id_, fate] for id_, fate in state.fates.items()],
        "session": state.session,
        "sessions": list(state.sessions),
        "introduced": state.introduced,
        "turn": _plain(state.turn) if state.turn else None,
        "permissions": [_plain(permission) for permission in state.permissions.values()],
        "grants": dict(state.grants),
        "turns": state.turns,
        "markers": list(state.markers),
        "aside": state.aside,
        "asides": [[id_, outcome] for id_, outcome in state.asides.items()],
        "handed_to": state.handed_to,
        "handed_at": state.handed_at,
    }


def from_carried(source: Mapping[str, Any]) -> AgentState:
    """Read back what `carried` made; what an older version left out has its default."""
    turn = source.get("turn")
    permissions = [_read(OpenPermission, item) for item in source.get("permissions", ())]
    return AgentState(
        queue=tuple(_read(MessageQueued, item) for item in source.get("queue", ())),
        fates={id_: fate for id_, fate in source.get("fates", ())},
        session=source.get("session"),
        sessions=tuple(source.get("sessions", ())),
        introduced=bool(source.get("introduced", False)),
        turn=_read(OpenTurn, turn) if turn else None,
        permissions={permission.request: permission for permission in permissions},
        grants=dict(source.get("grants", {})),
        turns=int(source.get("turns", 0)),
        markers=tuple(source.get("markers", ())),
        aside=source.get("aside"),
        asides={id_: outcome for id_, outcome in source.get("asides", ())},
        handed_to=source.get("handed_to"),
        handed_at=source.get("handed_at"),
    )


def _queued(queue: tuple[MessageQueued, ...], message: MessageQueued) -> tuple[MessageQueued, ...]:
    """Return what steers goes before what waits, behind what steered earlier."""
    if message.mode != "steer":
        return (*queue, message)
    steering = [m for m in queue if m.mode == "steer"]
    return (*steering, message, *[m for m in queue if m.mode != "steer"])


def _without(queue: tuple[MessageQueued, ...], id_: str) -> tuple[MessageQueued, ...]:
    return tuple(message for message in queue if message.id != id_)


def _plain(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _read(kind: type[Any], source: Mapping[str, Any]) -> Any:
    names = {f.name for f in fields(kind)}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in source.items() if name in names})
