"""What caused a run, a message or a reply, as their ids tell. Pure.

Ids that come from a chat event are a letter and the event's digest (`bot.messaging.outbox_keys.event_digest`). So what
one event caused has one trace, and nothing needs to be carried along.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from bot.messaging.outbox_keys import ANSWER, event_digest
from database.queries.operations.trace_sources import TracedTask
from fleet.control.task_attempt_ids import task_of

#: Kinds of spans, as their ids are made from.
EVENT, RUN, MESSAGE, TURN, REQUEST, REPLY = "event", "run", "message", "turn", "request", "reply"

_DIGEST = "[0-9a-f]{20}"
_OF_EVENT = re.compile(f"[a-z]({_DIGEST})")
_OF_RUN = re.compile(r"(.+)-(?:task|prompt|again)", re.DOTALL)
# Also the question whether to confirm a command (bot.messaging.replies.confirmation_key).
_ANSWER = re.compile(rf"(?:{re.escape(ANSWER)}|confirm/)([^/@]+)(?:[/@].*)?", re.DOTALL)
_REMARK = re.compile(rf"[nx]({_DIGEST})(?:[/@].*)?", re.DOTALL)
_SAID = re.compile(r"t/([^/]+)/(\d+-\d+)/said(?:[/@].*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cause:
    """The trace that something belongs to, and the span that caused it."""

    root: str
    """What the trace begins with."""
    parent: tuple[str, str] | None = None
    """The kind and the key of the span; None if the trace begins here."""


@dataclass(frozen=True, slots=True)
class TurnKey:
    """A turn of an agent."""

    agent: str
    turn: str


def of_event(digest: str) -> Cause:
    """Return the cause of what a chat event caused."""
    return Cause(f"{EVENT}/{digest}", (EVENT, digest))


def event_of(run_or_message: str) -> str | None:
    """Return the digest of the event that an id comes from, or None."""
    found = _OF_EVENT.fullmatch(run_or_message)
    return None if found is None else found[1]


def of_run(run: str) -> Cause:
    """Return the cause of a run: its chat event, if it has one."""
    digest = event_of(run)
    return Cause(f"{RUN}/{run}") if digest is None else of_event(digest)


def by_run(run: str) -> Cause:
    """Return the cause of what a run caused."""
    return Cause(of_run(run).root, (RUN, run))


def run_of_message(message: str) -> str:
    """Return the id of the run that would have sent a message, if a command did."""
    found = _OF_RUN.fullmatch(message)
    return message if found is None else found[1]


def of_message(message: str, task: TracedTask | None, runs: Collection[str]) -> Cause:
    """Return the cause of a message to an agent.

    Args:
        message: its id.
        task: the task that it carries, if it does.
        runs: the ids of known runs.
    """
    if task_of(message) is not None:
        if task is None or task.connector is None or task.event_id is None:
            return Cause(f"{MESSAGE}/{message}")
        digest = event_digest(task.connector, task.event_id)
        return by_run(f"c{digest}") if f"c{digest}" in runs else of_event(digest)
    run = run_of_message(message)
    if run in runs:
        return by_run(run)
    digest_of_it = event_of(message)
    return Cause(f"{MESSAGE}/{message}") if digest_of_it is None else of_event(digest_of_it)


def of_reply(key: str) -> Cause | TurnKey | None:
    """Return what a message in chat answers, by its outbox key; None if it answers nothing."""
    if (said := _SAID.fullmatch(key)) is not None:
        return TurnKey(said[1], said[2])
    if (answer := _ANSWER.fullmatch(key)) is not None:
        return by_run(answer[1])
    if (remark := _REMARK.fullmatch(key)) is not None:
        return of_event(remark[1])
    return None
