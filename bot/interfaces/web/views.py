"""The parts of pages that are kept up to date: which documents each shows, who may see it, and what its template gets.

A view has a key, such as ``fleet?page=2``, by which the stream of changes names it. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from bot.interfaces.web import charts, forms
from bot.read_models.agent import AgentModel
from bot.read_models.audit import AuditModel
from bot.read_models.documents import AGENTS, Document, ReadModel
from bot.read_models.fleet import FleetAgent, FleetModel
from bot.read_models.health import HealthModel
from bot.read_models.limits import LimitsModel
from bot.read_models.runs import IssueRunLine, RunsModel
from bot.read_models.tasks import TaskLine, TasksModel
from bot.read_models.waiting import AnswerChoice, PendingQuestion, PendingRequest, WaitingModel
from bot.text.errors import UserError

#: Rows of a page of a long list.
PAGE: Final = 50
#: Charts of a page.
CHARTS: Final = 10
#: Maximum length of a key, and number of views that one stream follows.
LONGEST_KEY: Final = 200
MOST_VIEWS: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: States in which an agent needs somebody, or works; others come last.
_ORDER: Final = ("waiting", "failed", "working", "starting", "unknown", "idle", "frozen", "stopped")

_T = TypeVar("_T")
_M = TypeVar("_M", bound=ReadModel)


class NoSuchView(UserError):
    """There is no such page. The address may be old."""

    code = "web.no_view"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view with its parameters."""

    name: str
    parameters: Mapping[str, str]
    documents: tuple[str, ...]
    command: str
    """The command that shows the same; who may give it may see the view."""
    template: str
    values: Callable[[Mapping[str, Document], Mapping[str, str]], Mapping[str, object]]

    @property
    def key(self) -> str:
        return f"{self.name}?{urlencode(self.parameters)}" if self.parameters else self.name

    def context(self, documents: Mapping[str, Document]) -> Mapping[str, object]:
        """Return what the template gets.

        Raises:
            NoSuchView: what it is about is gone.
        """
        return {"key": self.key, **self.values(documents, self.parameters)}


@dataclass(frozen=True, slots=True)
class PageOf:
    """A page of a list."""

    items: Sequence[object]
    number: int
    pages: int
    total: int

    @property
    def has_others(self) -> bool:
        return self.pages > 1


def view_of(name: str, parameters: Mapping[str, str] = MappingProxyType({})) -> View:
    """Return a view.

    Raises:
        NoSuchView: there is none of this name, or a parameter is not valid.
    """
    kind = _KINDS.get(name)
    if kind is None or parameters.keys() - kind.parameters:
        raise NoSuchView
    given = {key: value for key, value in sorted(parameters.items()) if value}
    if "name" in kind.parameters and not _NAME.fullmatch(given.get("name", "")):
        raise NoSuchView
    documents = tuple(f"{AGENTS}{given['name']}" if each == AGENTS else each for each in kind.documents)
    return View(
        name=name,
        parameters=given,
        documents=documents,
        command=kind.command,
        template=f"_{name}.html",
        values=kind.values,
    )


def view_with(key: str) -> View:
    """Return the view with this key, which comes from a browser.

    Raises:
        NoSuchView: there is none.
    """
    name, _, query = key.partition("?")
    if len(key) > LONGEST_KEY:
        raise NoSuchView
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=4)
    except ValueError:
        raise NoSuchView from None
    return view_of(name, dict(pairs))


def page_of(items: Sequence[_T], wanted: str | None, length: int = PAGE) -> PageOf:
    """Return a page of a list; the nearest one if there is no such page."""
    pages = max(1, math.ceil(len(items) / length))
    number = int(wanted) if wanted is not None and re.fullmatch(r"[0-9]{1,6}", wanted) else 1
    number = min(max(number, 1), pages)
    return PageOf(items[(number - 1) * length : number * length], number, pages, len(items))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerButton:
    """A choice as a form with one button."""

    label: str
    path: str
    fields: Mapping[str, str]
    style: str
    needs_admin: bool


def buttons(choices: Sequence[AnswerChoice]) -> tuple[AnswerButton, ...]:
    """Return the choices as buttons: first those that most answers are."""
    ordered = sorted(choices, key=lambda each: each.style == "plain")
    return tuple(
        AnswerButton(
            label=each.label,
            path=f"/commands/{quote(each.command.replace(' ', '/'), errors='replace')}",
            fields=forms.as_fields(each.arguments.items()),
            style=each.style,
            needs_admin=each.needs_admin,
        )
        for each in ordered
    )


def _value(documents: Mapping[str, Document], name: str, kind: type[_M]) -> _M:
    document = documents.get(name)
    if document is None or not isinstance(document.value, kind):
        raise NoSuchView
    return document.value


# --- each view -------------------------------------------------------------------------------------------------------


def _nav(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    waiting = _value(documents, "waiting", WaitingModel)
    return {"count": len(waiting.requests) + len(waiting.questions)}


def _fleet(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    fleet = _value(documents, "fleet", FleetModel)
    everybody = parameters.get("all") == "1"
    found = [each for each in fleet.agents if everybody or each.is_up]
    found.sort(key=_urgency)
    return {
        "fleet": fleet,
        "everybody": everybody,
        "hidden": len(fleet.agents) - len(found),
        "page": page_of(found, parameters.get("page")),
        "states": _states(fleet),
    }


def _states(fleet: FleetModel) -> Sequence[tuple[str, int]]:
    counts: dict[str, int] = {}
    for each in fleet.agents:
        counts[each.state] = counts.get(each.state, 0) + 1
    return sorted(counts.items(), key=lambda item: (_ORDER.index(item[0]) if item[0] in _ORDER else 99, item[0]))


def _urgency(agent: FleetAgent) -> tuple[int, str]:
    return (_ORDER.index(agent.state) if agent.state in _ORDER else len(_ORDER), agent.name)


def _agent(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    name = parameters["name"]
    model = _value(documents, f"{AGENTS}{name}", AgentModel)
    # A viewer does not see what waits, but sees the same requests in the conversation.
    waiting = _value(documents, "waiting", WaitingModel) if "waiting" in documents else WaitingModel()
    return {
        "model": model,
        "agent": model.agent,
        "requests": [asked_view(each) for each in waiting.requests if each.agent == name],
        "questions": [questioned_view(each) for each in waiting.questions if each.agent == name],
    }


def asked_view(request: PendingRequest) -> Mapping[str, object]:
    """Return what the card of a request gets."""
    return {"request": request, "buttons": buttons(request.choices)}


def questioned_view(question: PendingQuestion) -> Mapping[str, object]:
    """Return what the card of a question gets."""
    return {"question": question, "buttons": buttons(question.choices)}


def _waiting(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    waiting = _value(documents, "waiting", WaitingModel)
    return {
        "page": page_of([asked_view(each) for each in waiting.requests], parameters.get("page")),
        "questions": [questioned_view(each) for each in waiting.questions],
    }


def _request(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    waiting = _value(documents, "waiting", WaitingModel)
    name = parameters["name"]
    request = next((each for each in waiting.requests if each.id == name), None)
    question = next((each for each in waiting.questions if each.id == name), None)
    return {
        "id": name,
        "whole": parameters.get("whole") == "1",
        "asked": None if request is None else asked_view(request),
        "questioned": None if question is None else questioned_view(question),
    }


def _limits(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    limits = _value(documents, "limits", LimitsModel)
    return {
        "limits": limits,
        "page": page_of([charts.window_shown(each, limits) for each in limits.windows], parameters.get("page"), CHARTS),
        "lines": limits.lines[:PAGE],
        "enforcements": limits.enforcements[:PAGE],
        "usage": (limits.usage or ())[:PAGE],
    }


def _tasks(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    tasks = _value(documents, "tasks", TasksModel)
    lines: Sequence[TaskLine] = tasks.ended if parameters.get("ended") == "1" else tasks.open
    return {
        "tasks": tasks,
        "ended": parameters.get("ended") == "1",
        "page": page_of(lines, parameters.get("page")),
        "links": {line.id: _link_of(line) for line in lines},
    }


def _link_of(line: TaskLine) -> str:
    """Return where a task or run is shown whole."""
    name = quote(line.id, safe="", errors="replace")
    if line.kind == "issue" and line.ended_at is None:
        return f"/runs/issues/{name}"
    return f"/commands/{'runs' if line.kind in ('issue', 'run') else 'task'}?a.id={name}"


def _runs(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    runs = _value(documents, "runs", RunsModel)
    return {
        "page": page_of((*runs.open, *runs.ended), parameters.get("page")),
        "issues": page_of(runs.issues, parameters.get("issues")),
    }


def _issue(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    runs = _value(documents, "runs", RunsModel)
    run = next((each for each in runs.issues if each.id == parameters["name"]), None)
    if run is None:
        raise NoSuchView
    return {"run": run, "buttons": issue_buttons(run)}


def issue_buttons(run: IssueRunLine) -> tuple[AnswerButton, ...]:
    """Return what can be decided about a run of an issue now."""
    if run.is_held:
        return (_act("Put it back into the queue", "runs/retry", "good", id=run.id),)
    if run.state == "queued":
        now = _act("Begin now", "runs/now", "good", needs_admin=True, id=run.id)
        return (now, _act("Take it off the queue", "runs/stop", "danger", id=run.id))
    if run.state == "running":
        return (_act("Stop the round", "runs/stop", "danger", id=run.id),)
    if run.state == "checking":
        return (_act("Try again now", "runs/retry", "good", id=run.id),)
    if run.state != "failed":
        return ()
    marks = (each.mark or "" for each in run.open_findings)
    allowing = (_act(f"Allow {mark}", "runs/allow", "plain", id=run.id, mark=mark) for mark in marks)
    return (_act("Retry", "runs/retry", "good", id=run.id), *allowing)


def _act(label: str, command: str, style: str, *, needs_admin: bool = False, **arguments: str) -> AnswerButton:
    fields = forms.as_fields(arguments.items())
    return AnswerButton(label=label, path=f"/commands/{command}", fields=fields, style=style, needs_admin=needs_admin)


def _audit(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    return {"audit": _value(documents, "audit", AuditModel), "is_older": False}


def _health(documents: Mapping[str, Document], parameters: Mapping[str, str]) -> Mapping[str, object]:
    return {"health": _value(documents, "health", HealthModel)}


@dataclass(frozen=True, slots=True)
class _ViewKind:
    documents: tuple[str, ...]
    command: str
    values: Callable[[Mapping[str, Document], Mapping[str, str]], Mapping[str, object]]
    parameters: frozenset[str] = frozenset()


_PAGED = frozenset({"page"})
_NAMED = frozenset({"name"})
_KINDS: Final[Mapping[str, _ViewKind]] = {
    "nav": _ViewKind(("waiting",), "approvals", _nav),
    "fleet": _ViewKind(("fleet",), "ps", _fleet, _PAGED | {"all"}),
    "agent": _ViewKind((AGENTS, "waiting"), "tail", _agent, _NAMED),
    "waiting": _ViewKind(("waiting",), "approvals", _waiting, _PAGED),
    "request": _ViewKind(("waiting",), "approvals", _request, _NAMED | {"whole"}),
    "limits": _ViewKind(("limits",), "budget", _limits, _PAGED),
    "tasks": _ViewKind(("tasks",), "tasks", _tasks, _PAGED | {"ended"}),
    "runs": _ViewKind(("runs",), "runs", _runs, _PAGED | {"issues"}),
    "issue": _ViewKind(("runs",), "runs", _issue, _NAMED),
    "audit": _ViewKind(("audit",), "audit", _audit),
    "health": _ViewKind(("health",), "health", _health),
}
