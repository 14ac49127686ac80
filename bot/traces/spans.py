"""Spans of rows that ended. Pure.

No span has a text of people, agents or providers: only ids, names, numbers and outcomes. What an agent or a client may
choose, such as the name of a model, is left out unless it looks like a name.

Names that begin with ``gen_ai.`` and ``error.`` are those of OpenTelemetry's semantic conventions 1.41.1 (GenAI spans
and GenAI agent spans, status: development). All others are Muster's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bot.messaging.outbox_keys import event_digest
from bot.traces.causes import EVENT, MESSAGE, REPLY, REQUEST, RUN, TURN, Cause
from bot.traces.model import FinishedSpan, Kind, SpanIds, Value
from database.queries.operations.trace_sources import (
    TracedAgent,
    TracedEvent,
    TracedMessage,
    TracedReply,
    TracedRequest,
    TracedRun,
)

_NAME = re.compile(r"[A-Za-z0-9$!_.:@/+~-]{1,128}")
#: Reasons for which turns end (Agent Client Protocol, "StopReason"), and those that the agent host adds.
_STOP_REASONS = frozenset({"end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled", "error", "cut"})
#: How an agent's message ends well.
_WELL = frozenset({"finished", "withdrawn", "retried"})
#: What the conventions call a failure without a name of its own.
_OTHER = "_OTHER"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTimes:
    """What a journal says of a turn. Times are seconds since the epoch; None: the journal does not say."""

    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    session: str | None = None
    stop_reason: str | None = None


def named(value: str | None) -> str | None:
    """Return a value if it looks like an id or a name, and None otherwise."""
    return value if value is not None and _NAME.fullmatch(value) else None


def of_event(ids: SpanIds, row: TracedEvent) -> FinishedSpan:
    """Return the span of a chat message, from when it was written down until it was acted on."""
    digest = event_digest(row.connector, row.event_id)
    return _span(
        ids,
        Cause(f"{EVENT}/{digest}"),
        (EVENT, digest),
        "chat message",
        (row.received_at, row.handled_at),
        {"muster.connector": named(row.connector), "muster.event.id": named(row.event_id)},
        kind="consumer",
        error=None if row.state == "done" else row.state,
    )


def of_run(ids: SpanIds, row: TracedRun, cause: Cause, commands: Mapping[str, object]) -> FinishedSpan:
    """Return the span of a command. A name that is no command's was typed by somebody, and is left out."""
    name = row.name if row.name in commands else "unknown"
    return _span(
        ids,
        cause,
        (RUN, row.id),
        f"command {name}",
        (row.started_at, row.ended_at),
        {
            "muster.command.name": name,
            "muster.run.id": named(row.id),
            "muster.run.state": row.state,
            "muster.door": named(row.door),
        },
        error=None if row.state == "done" else named(row.code) or row.state,
    )


def of_message(
    ids: SpanIds, row: TracedMessage, cause: Cause, agent: TracedAgent | None, times: TurnTimes
) -> list[FinishedSpan]:
    """Return the spans of a message to an agent: its way to the agent host, and its turn if there was one."""
    who: dict[str, Value | None] = {"gen_ai.agent.name": named(row.agent), "muster.message.id": named(row.id)}
    arrived = times.queued_at or times.started_at or row.updated_at
    well = row.state in _WELL or row.turn is not None
    spans = [
        _span(
            ids,
            cause,
            (MESSAGE, row.id),
            f"order {named(row.agent) or 'agent'}",
            (row.created_at, arrived),
            {**who, "muster.message.state": row.state, "muster.message.mode": named(row.mode)},
            kind="producer",
            error=None if well else row.state,
        )
    ]
    if row.turn is None:
        return spans
    stop = times.stop_reason if times.stop_reason in _STOP_REASONS else None
    turn = _span(
        ids,
        Cause(cause.root, (MESSAGE, row.id)),
        (TURN, row.id),
        f"invoke_agent {named(row.agent) or 'agent'}",
        (times.started_at or arrived, times.ended_at or row.updated_at),
        {
            **who,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": named(times.session),
            "muster.turn.id": named(row.turn),
            "muster.turn.stop_reason": stop,
            "muster.agent.runtime": None if agent is None else named(agent.runtime),
            "muster.agent.role": None if agent is None else named(agent.role),
        },
        error=None if row.state == "finished" else stop or row.state,
    )
    return [*spans, turn]


def of_request(ids: SpanIds, row: TracedRequest, cause: Cause) -> FinishedSpan:
    """Return the span of a request to a model. Counts of parts are contained in the counts of the whole."""
    model = named(row.model_asked) or named(row.model)
    failed = row.how != "completed" or (row.status or 0) >= 400
    return _span(
        ids,
        cause,
        (REQUEST, row.id),
        "chat" if model is None else f"chat {model}",
        (row.started_at, row.ended_at),
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": named(row.provider),
            "gen_ai.request.model": named(row.model_asked),
            "gen_ai.response.model": named(row.model),
            "gen_ai.conversation.id": named(row.session),
            "gen_ai.usage.input_tokens": row.input_tokens + row.cache_read_tokens + row.cache_write_tokens,
            "gen_ai.usage.output_tokens": row.output_tokens + row.reasoning_tokens,
            "gen_ai.usage.cache_read.input_tokens": row.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": row.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": row.reasoning_tokens,
            "gen_ai.response.time_to_first_chunk": row.first_byte_s,
            "http.response.status_code": row.status,
            "gen_ai.agent.name": named(row.agent),
            "muster.agent.role": named(row.role),
            "muster.account": named(row.account),
            "muster.request.id": named(row.id),
            "muster.request.attempt": row.attempt,
            "muster.request.ended": named(row.how),
            "muster.request.usd": row.usd,
            "muster.request.is_estimate": not row.reported,
            "muster.task.id": named(row.task),
            "muster.turn.id": named(row.turn),
        },
        kind="client",
        error=(named(row.error) or named(row.how)) if failed else None,
    )


def of_reply(ids: SpanIds, row: TracedReply, cause: Cause) -> FinishedSpan:
    """Return the span of a message to chat, from the outbox until the chat system had it."""
    return _span(
        ids,
        cause,
        # A dead letter that is sent again has another place.
        (REPLY, f"{row.place}/{row.key}"),
        "reply",
        (row.created_at, row.sent_at),
        {
            "muster.connector": named(row.connector),
            "muster.outbox.key": named(row.key),
            "muster.outbox.state": row.state,
            "muster.outbox.attempts": row.attempts,
        },
        kind="producer",
        error=None if row.state == "sent" else row.state,
    )


def _span(
    ids: SpanIds,
    cause: Cause,
    key: tuple[str, str],
    name: str,
    times: tuple[float, float | None],
    attributes: Mapping[str, Value | None],
    *,
    kind: Kind = "internal",
    error: str | None = None,
) -> FinishedSpan:
    began, ended = times
    known = {each: value for each, value in attributes.items() if value is not None}
    return FinishedSpan(
        trace=ids.trace(cause.root),
        id=ids.span(*key),
        parent=b"" if cause.parent is None else ids.span(*cause.parent),
        name=name,
        kind=kind,
        started_at=began,
        # The clocks of processes differ, and a clock can be set back.
        ended_at=max(began, began if ended is None else ended),
        attributes=known if error is None else {**known, "error.type": error or _OTHER},
        failed=error is not None,
    )
