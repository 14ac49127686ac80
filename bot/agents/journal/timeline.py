"""The turns of an agent, folded from its journal. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, TypeAlias

from bot.read_models.agent import (
    NoticeItem,
    PermissionItem,
    SaidItem,
    ThoughtItem,
    ToolItem,
    TurnItem,
    TurnModel,
)
from fleet.journal import events
from fleet.journal.events import JournalEntry

#: How a question on the side ended without an answer.
_ENDS: Final = {"failed": "failed", "lost": "is lost"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _TurnHead:
    """The begin of a turn, its end, or both."""

    message: str
    began_at: float | None = None
    ended_at: float | None = None
    stop_reason: str | None = None
    detail: str | None = None


_Item: TypeAlias = TurnItem | _TurnHead
_Step: TypeAlias = tuple[str | None, _Item]
"""What happened, and in which turn as far as its entry says."""


def turns_of(entries: Iterable[JournalEntry]) -> tuple[TurnModel, ...]:
    """Return the turns of consecutive entries, oldest first. All of their text is kept: bound the page.

    What belongs to no turn follows the one that began last before it.
    """
    steps = _Steps()
    messages: dict[str, events.MessageQueued] = {}
    for entry in entries:
        if isinstance(entry.event, events.MessageQueued):
            messages[entry.event.id] = entry.event
        for step in _steps_of(entry):
            steps.put(*step)
    heads: dict[str | None, _TurnHead] = {}
    items: dict[str | None, list[TurnItem]] = {}
    latest: str | None = None
    for turn, item in steps.made():
        if turn is not None and turn not in items:
            latest = turn
        its = items.setdefault(latest if turn is None else turn, [])
        if isinstance(item, _TurnHead):
            heads[turn] = item
        else:
            its.append(item)
    return tuple(_turn(turn, heads.get(turn), its, messages) for turn, its in items.items())


def _turn(
    turn: str | None, head: _TurnHead | None, items: Iterable[TurnItem], messages: Mapping[str, events.MessageQueued]
) -> TurnModel:
    if head is None:
        return TurnModel(turn=turn, items=tuple(items))
    asked = messages.get(head.message)
    return TurnModel(
        turn=turn,
        message=head.message,
        asked=None if asked is None else asked.text,
        asked_by=None if asked is None else asked.sender or None,
        began_at=head.began_at,
        ended_at=head.ended_at,
        stop_reason=head.stop_reason,
        detail=head.detail,
        items=tuple(items),
    )


def _steps_of(entry: JournalEntry) -> Iterator[_Step]:
    at = entry.at
    match entry.event:
        case events.TurnStarted(turn=turn, message=message):
            yield turn, _TurnHead(message=message, began_at=at)
        case events.TurnEnded(turn=turn, message=message, stop_reason=reason, detail=detail):
            yield turn, _TurnHead(message=message, ended_at=at, stop_reason=reason, detail=detail)
        case events.TextChunk(turn=turn, text=text) if text:
            yield turn, SaidItem(text=text, at=at)
        case events.ThoughtChunk(turn=turn, text=text) if text:
            yield turn, ThoughtItem(text=text, at=at)
        case events.ToolCall(turn=turn) as tool:
            yield (
                turn,
                ToolItem(
                    call=tool.call,
                    title=tool.title,
                    tool_kind=tool.tool_kind,
                    status=tool.status,
                    detail=tool.detail,
                    at=at,
                ),
            )
        case events.PermissionAsked(turn=turn) as asked:
            yield (
                turn,
                PermissionItem(
                    incarnation=entry.position.incarnation,
                    request=asked.request,
                    title=asked.title,
                    detail=asked.detail,
                    why=asked.why,
                    expires_at=asked.expires_at,
                    at=at,
                ),
            )
        case events.PermissionAnswered() as answered:
            yield (
                None,
                PermissionItem(
                    incarnation=answered.asked_in or entry.position.incarnation,
                    request=answered.request,
                    title=answered.title,
                    detail=answered.detail,
                    why=answered.why,
                    outcome=answered.outcome,
                    option=answered.option,
                    by=answered.by,
                    rule=answered.rule,
                    answered_at=at,
                    at=at,
                ),
            )
        case events.Notice(text=text, turn=turn) | events.RuntimeDied(reason=text, turn=turn):
            yield turn, NoticeItem(text=text, at=at)
        case events.AsideAsked(text=text):
            yield None, NoticeItem(text=f"Asked on the side: {text}", at=at)
        case events.AsideEnded(outcome="answered", text=text):
            yield None, NoticeItem(text=f"Answered on the side: {text}", at=at)
        case events.AsideEnded(outcome=outcome, detail=detail):
            yield None, NoticeItem(text=f"The question on the side {_ENDS.get(outcome, 'failed')}: {detail}", at=at)
        case events.HandedOver(by=by):
            yield None, NoticeItem(text=f"Handed over to a terminal by {by}", at=at)
        case events.HandedBack(by=by, reason=reason):
            yield None, NoticeItem(text=f"Given back by the terminal of {by}: {reason}", at=at)
        case events.RuntimeFailed(reason=text) | events.RuntimeStarted(note=str(text)) | events.Closing(reason=text):
            yield None, NoticeItem(text=text, at=at)
        case _:
            return


class _Steps:
    """Steps in their order. A change goes into the step that it is about, and text into the text that it continues."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._places: dict[Hashable, int] = {}
        self._pieces: dict[int, list[str]] = {}
        """Text of the items that consist of text, by place."""

    def put(self, turn: str | None, item: _Item) -> None:
        key = _key_of(turn, item)
        if key is not None and (place := self._places.get(key)) is not None:
            known_turn, known = self._steps[place]
            self._steps[place] = known_turn, _merged(known, item)
            return
        if isinstance(item, SaidItem | ThoughtItem):
            last_turn, last = self._steps[-1] if self._steps else (None, None)
            if last_turn == turn and type(last) is type(item):
                self._pieces[len(self._steps) - 1].append(item.text)
                return
            self._pieces[len(self._steps)] = [item.text]
        if key is not None:
            self._places[key] = len(self._steps)
        self._steps.append((turn, item))

    def made(self) -> tuple[_Step, ...]:
        return tuple(
            (turn, replace(item, text="".join(self._pieces[place])))
            if isinstance(item, SaidItem | ThoughtItem)
            else (turn, item)
            for place, (turn, item) in enumerate(self._steps)
        )


def _key_of(turn: str | None, item: _Item) -> Hashable:
    """Return what a later entry about the same thing has in common with it, or None if there is none."""
    match item:
        case _TurnHead():
            return "turn", turn
        case ToolItem(call=call):
            return "tool", turn, call
        case PermissionItem(incarnation=incarnation, request=request):
            return "permission", incarnation, request
        case _:
            return None


def _merged(known: _Item, change: _Item) -> _Item:
    """Return an item with what a later entry says of it. `at` stays the time when it began."""
    assert type(known) is type(change)
    names = [each.name for each in fields(change) if each.name != "at"]
    told = {name: value for name in names if (value := getattr(change, name)) not in (None, "")}
    return replace(known, **told)
