"""Formatting of projects and topics, as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bot.commands.syntax import command_line
from bot.config.limits import LimitBlock
from bot.config.projects import ProjectBlock
from bot.projects.text import is_kept, outcome_words
from bot.text import markdown
from budget import amounts
from database.queries.chat.topics import Topic


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectUse:
    """A project, and what its topics do and use."""

    name: str
    project: ProjectBlock
    running: int
    waiting: int
    idle: int
    tokens_today: int | None
    """Tokens of all kinds since midnight; None if unknown."""


def projects_text(uses: Sequence[ProjectUse]) -> str:
    """Return the table of all projects."""
    if not uses:
        add = command_line("project add NAME --repo FOLDER --room here")
        return f"There are no projects yet. {add} adds one."
    rows = [
        [
            each.name,
            markdown.code(each.project.repo),
            markdown.code(each.project.room) if each.project.room else f"`@{each.name}`",
            f"{each.running} of {each.project.topics}",
            str(each.waiting or ""),
            str(each.idle or ""),
            "" if each.tokens_today is None else amounts.amount(each.tokens_today, "tokens"),
            ", ".join(map(_limit, each.project.budget)),
        ]
        for each in uses
    ]
    return markdown.table(["Project", "Repository", "Room", "Running", "Waiting", "Idle", "Today", "Budget"], rows)


def _limit(limit: LimitBlock) -> str:
    return f"{amounts.amount(limit.amount, limit.unit)}{amounts.per(limit.window)}"


def project_as_json(each: ProjectUse) -> dict[str, object]:
    """Return a project for programs."""
    written = each.project
    return {
        "name": each.name,
        "repo": written.repo,
        "room": written.room,
        "role": written.role,
        "runtime": written.runtime,
        "sandbox": written.sandbox,
        "approvals": written.approvals,
        "topics": written.topics,
        "running": each.running,
        "waiting": each.waiting,
        "idle": each.idle,
        "tokens_today": each.tokens_today,
        "budget": [limit.model_dump(exclude_none=True, exclude_defaults=True) for limit in written.budget],
    }


def topics_text(shown: Sequence[Topic], places: Mapping[str, int | None], now: float) -> str:
    """Return the table of topics.

    Args:
        shown: the topics.
        places: by the id of a waiting topic, how many are before it.
        now: seconds since the epoch.
    """
    if not shown:
        return f"There are no topics. Words in a project's room open one; {command_line('projects')} lists the rooms."
    rows = [
        [
            each.agent,
            each.title,
            _state(each, places.get(each.id)),
            markdown.one_line(each.asked_by, 40),
            f"{markdown.span(max(0.0, now - (each.ended_at or each.active_at)))} ago",
        ]
        for each in shown
    ]
    return markdown.table(["Topic", "About", "State", "Asked by", "Last"], rows)


def _state(topic: Topic, place: int | None) -> str:
    match topic.state:
        case "waiting" | "waking":
            return topic.state if place is None else f"{topic.state}, {place} before it"
        case "ended":
            how = outcome_words(topic.outcome) or "closed"
            return f"{how}, {markdown.one_line(topic.detail or '', 200)}" if is_kept(topic) else how
        case _:
            return topic.state


def topic_as_json(
    topic: Topic, place: int | None, timestamp: Callable[[float | None], str | None]
) -> dict[str, object]:
    """Return a topic for programs."""
    return {
        "topic": topic.agent,
        "project": topic.project,
        "title": topic.title,
        "state": topic.state,
        "before": place if topic.state in ("waiting", "waking") else None,
        "outcome": topic.outcome,
        "detail": topic.detail,
        "asked_by": topic.asked_by,
        "created_at": timestamp(topic.created_at),
        "active_at": timestamp(topic.active_at),
        "ended_at": timestamp(topic.ended_at),
    }
